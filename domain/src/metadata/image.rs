//! The image: what all metadata records up to an offset say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::records::{
    AccessControlEntryRecord, BrokerRegistrationChangeRecord, ClientQuotaRecord, ConfigRecord, DelegationTokenRecord,
    MetadataRecord, RegisterBrokerRecord, RegisterControllerRecord, UserScramCredentialRecord,
};
use super::sorted::SortedMap;
use super::topics::{TopicImage, Topics};
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionId, ProducerId, Timestamp, TopicId};

/// Groups of the consumer protocol are on from level 1 (KIP-848).
pub const GROUP_VERSION: &str = "group.version";
/// The feature whose level says which records and RPCs the cluster uses.
pub const METADATA_VERSION: &str = "metadata.version";
/// The feature of the Raft layer: its level lives in the log's control records, never in [`MetadataImage::features`].
pub const KRAFT_VERSION: &str = "kraft.version";

/// The last record that an image contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Its offset in the metadata log; -1 before any.
    pub offset: Offset,
    /// The epoch of the leader that wrote it.
    pub epoch: LeaderEpoch,
    /// When its batch was written.
    pub timestamp: Timestamp,
}

impl Provenance {
    /// No record at all.
    pub const NONE: Provenance = Provenance {
        offset: Offset::NONE,
        epoch: LeaderEpoch::UNKNOWN,
        timestamp: Timestamp::NONE,
    };
}

impl Default for Provenance {
    fn default() -> Self {
        Provenance::NONE
    }
}

/// What a configuration belongs to (`ConfigResource.Type` in kafka-clients).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum ConfigResourceType {
    /// A number that Kafka 4.3 does not define.
    Unknown = 0,
    /// A topic.
    Topic = 2,
    /// A broker, or with an empty name the default of all brokers.
    Broker = 4,
    /// The loggers of a broker; never in the metadata log.
    BrokerLogger = 8,
    /// A subscription to client metrics (KIP-714).
    ClientMetrics = 16,
    /// A group (KIP-848).
    Group = 32,
}

impl ConfigResourceType {
    /// The number in requests and records.
    pub const fn number(self) -> i8 {
        self as i8
    }

    /// The type with this number.
    pub const fn from_number(number: i8) -> Self {
        match number {
            2 => Self::Topic,
            4 => Self::Broker,
            8 => Self::BrokerLogger,
            16 => Self::ClientMetrics,
            32 => Self::Group,
            _ => Self::Unknown,
        }
    }

    /// Kafka's name of the type, as `CLIENT_METRICS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Topic => "TOPIC",
            Self::Broker => "BROKER",
            Self::BrokerLogger => "BROKER_LOGGER",
            Self::ClientMetrics => "CLIENT_METRICS",
            Self::Group => "GROUP",
        }
    }
}

/// What a configuration belongs to, with its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigResource {
    /// What is named.
    pub kind: ConfigResourceType,
    /// A topic's name, a broker's id in decimal or empty for all brokers, ...
    pub name: String,
}

impl ConfigResource {
    /// A resource.
    pub fn new(kind: ConfigResourceType, name: impl Into<String>) -> Self {
        ConfigResource {
            kind,
            name: name.into(),
        }
    }

    /// A topic.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(ConfigResourceType::Topic, name)
    }

    /// One broker.
    pub fn broker(id: BrokerId) -> Self {
        Self::new(ConfigResourceType::Broker, id.to_string())
    }

    /// The default of all brokers.
    pub fn cluster_default() -> Self {
        Self::new(ConfigResourceType::Broker, "")
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigResource(type={}, name='{}')", self.kind.name(), self.name)
    }
}

/// Settings of one resource, by name.
pub type ConfigMap = BTreeMap<String, String>;

/// A quota's entity: pairs of type (`user`, `client-id`, `ip`) and name, absent for the default, sorted.
pub type QuotaEntity = Vec<(String, Option<String>)>;

/// All that the metadata log says up to an offset. Immutable once published: it is shared behind an `Arc`, clones share
/// what they have in common, and a changed image is made by [`MetadataImage::apply`] on a clone.
///
/// Records that hold a thing's whole state are that state: a broker is its registration record with the changes merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataImage {
    /// The last record that is contained.
    pub provenance: Provenance,
    /// Finalized feature levels above 0, `metadata.version` among them (KIP-584).
    pub features: Arc<BTreeMap<String, i16>>,
    /// Registered brokers, fenced ones too.
    pub brokers: Arc<BTreeMap<BrokerId, Arc<RegisterBrokerRecord>>>,
    /// Registered controllers (KIP-919).
    pub controllers: Arc<BTreeMap<BrokerId, Arc<RegisterControllerRecord>>>,
    /// Topics and partitions.
    pub topics: Topics,
    /// Settings that differ from the defaults, of topics, brokers, groups and client metrics. No entry is empty.
    pub configs: SortedMap<ConfigResource, Arc<ConfigMap>>,
    /// The first producer id that no broker was given, once one was (KIP-730).
    pub next_producer_id: Option<ProducerId>,
    /// Client quotas by entity and key, whole; not interpreted yet.
    pub client_quotas: SortedMap<(QuotaEntity, String), Arc<ClientQuotaRecord>>,
    /// ACLs by their ids, whole; not interpreted yet.
    pub acls: SortedMap<Uuid, Arc<AccessControlEntryRecord>>,
    /// SCRAM credentials by mechanism and user, whole; not interpreted yet.
    pub scram: SortedMap<(i8, String), Arc<UserScramCredentialRecord>>,
    /// Delegation tokens by their ids, whole; not interpreted yet.
    pub delegation_tokens: SortedMap<String, Arc<DelegationTokenRecord>>,
}

/// A record that does not fit the image: the log is not what a Kafka controller writes, so the node must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A record about a topic that does not exist.
    #[error("no topic has the id {0}")]
    UnknownTopic(TopicId),
    /// A record about a topic that does not exist.
    #[error("no topic has the name {0}")]
    UnknownTopicName(String),
    /// A topic was created without the removal of the one with that name.
    #[error("topic {name} has the id {known} already, a record gives it {new}")]
    DuplicateTopic {
        /// The topic's name.
        name: String,
        /// The id that it has.
        known: TopicId,
        /// The id of the record.
        new: TopicId,
    },
    /// A change of a partition that does not exist.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic's id.
        topic: TopicId,
        /// The partition.
        partition: PartitionId,
    },
    /// Directories and replicas of a partition do not pair up.
    #[error("the directories of partition {partition} of topic {topic} do not match its replicas")]
    Directories {
        /// The topic's id.
        topic: TopicId,
        /// The partition.
        partition: PartitionId,
    },
    /// A change of a broker that is not registered, or not with that epoch.
    #[error("broker {broker} is not registered with epoch {epoch}")]
    UnknownBroker {
        /// The broker's id.
        broker: BrokerId,
        /// The epoch in the record.
        epoch: BrokerEpoch,
    },
    /// A field holds what its definition does not allow.
    #[error("field {field} of {record} holds {value}")]
    InvalidValue {
        /// The record's type.
        record: &'static str,
        /// The field.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
    /// A record that only [`super::loader::ImageLoader`] may see.
    #[error("{0} does not belong here")]
    Unexpected(&'static str),
}

impl MetadataImage {
    /// The level of a finalized feature; 0 when it is not finalized.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// The registration of a broker, fenced or not.
    pub fn broker(&self, id: BrokerId) -> Option<&RegisterBrokerRecord> {
        self.brokers.get(&id).map(Arc::as_ref)
    }

    /// The brokers that serve clients, in the order of their ids.
    pub fn unfenced_brokers(&self) -> impl Iterator<Item = &RegisterBrokerRecord> {
        self.brokers.values().map(Arc::as_ref).filter(|broker| !broker.fenced)
    }

    /// The settings of a resource, without any default.
    pub fn config(&self, resource: &ConfigResource) -> Option<&ConfigMap> {
        self.configs.get(resource).map(Arc::as_ref)
    }

    /// What was set for a group.
    pub fn group_config(&self, group_id: &str) -> Option<&ConfigMap> {
        let key = (ConfigResourceType::Group, group_id);
        let config = self
            .configs
            .get_by(|resource| (resource.kind, resource.name.as_str()).cmp(&key));
        config.map(Arc::as_ref)
    }

    /// Applies one record. Batches are made whole by the caller, who sets [`MetadataImage::provenance`] after each.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::RegisterBroker(record) => {
                Arc::make_mut(&mut self.brokers).insert(BrokerId(record.broker_id), Arc::new(record.clone()));
            }
            MetadataRecord::UnregisterBroker(record) => {
                Arc::make_mut(&mut self.brokers).remove(&BrokerId(record.broker_id));
            }
            MetadataRecord::FenceBroker(record) => self.broker_mut(record.id, record.epoch)?.fenced = true,
            MetadataRecord::UnfenceBroker(record) => self.broker_mut(record.id, record.epoch)?.fenced = false,
            MetadataRecord::BrokerRegistrationChange(record) => self.change_broker(record)?,
            MetadataRecord::RegisterController(record) => {
                let id = BrokerId(record.controller_id);
                Arc::make_mut(&mut self.controllers).insert(id, Arc::new(record.clone()));
            }
            MetadataRecord::Topic(record) => self.topics.create(TopicImage {
                id: TopicId(record.topic_id),
                name: record.name.as_str().into(),
                partitions: BTreeMap::new(),
                unknown_tagged_fields: record.unknown_tagged_fields.clone(),
            })?,
            MetadataRecord::Partition(record) => {
                let topic = self.topics.get_mut(TopicId(record.topic_id))?;
                topic
                    .partitions
                    .insert(record.id(), Arc::new(record.clone().normalized()?));
            }
            MetadataRecord::PartitionChange(record) => {
                let id = PartitionId(record.partition_id);
                let topic = self.topics.get_mut(TopicId(record.topic_id))?;
                let partition = topic.partitions.get_mut(&id).ok_or(ApplyError::UnknownPartition {
                    topic: topic.id,
                    partition: id,
                })?;
                *partition = Arc::new(partition.merge(record)?);
            }
            MetadataRecord::RemoveTopic(record) => {
                let topic = self.topics.remove(TopicId(record.topic_id))?;
                self.configs.remove(&ConfigResource::topic(&*topic.name));
            }
            MetadataRecord::ClearElr(record) => self.topics.clear_elr(&record.topic_name)?,
            MetadataRecord::Config(record) => self.change_config(record),
            MetadataRecord::FeatureLevel(record) => match (record.name.as_str(), record.feature_level) {
                // Written there by mistake once; the level is the Raft layer's (KAFKA-18979).
                (KRAFT_VERSION, _) => {}
                (name, 0) => {
                    Arc::make_mut(&mut self.features).remove(name);
                }
                (name, level) => {
                    Arc::make_mut(&mut self.features).insert(name.to_owned(), level);
                }
            },
            MetadataRecord::ProducerIds(record) => self.next_producer_id = Some(ProducerId(record.next_producer_id)),
            MetadataRecord::ClientQuota(record) => self.change_quota(record),
            MetadataRecord::AccessControlEntry(record) => {
                self.acls.insert(record.id, Arc::new(record.clone()));
            }
            MetadataRecord::RemoveAccessControlEntry(record) => {
                self.acls.remove(&record.id);
            }
            MetadataRecord::UserScramCredential(record) => {
                let key = (record.mechanism, record.name.clone());
                self.scram.insert(key, Arc::new(record.clone()));
            }
            MetadataRecord::RemoveUserScramCredential(record) => {
                self.scram.remove(&(record.mechanism, record.name.clone()));
            }
            MetadataRecord::DelegationToken(record) => {
                self.delegation_tokens
                    .insert(record.token_id.clone(), Arc::new(record.clone()));
            }
            MetadataRecord::RemoveDelegationToken(record) => {
                self.delegation_tokens.remove(&record.token_id);
            }
            MetadataRecord::NoOp(_) | MetadataRecord::ZkMigrationState(_) => {}
            MetadataRecord::BeginTransaction(_) => return Err(ApplyError::Unexpected("BeginTransactionRecord")),
            MetadataRecord::EndTransaction(_) => return Err(ApplyError::Unexpected("EndTransactionRecord")),
            MetadataRecord::AbortTransaction(_) => return Err(ApplyError::Unexpected("AbortTransactionRecord")),
        }
        Ok(())
    }

    /// The broker with this id and epoch, for a change.
    fn broker_mut(&mut self, id: i32, epoch: i64) -> Result<&mut RegisterBrokerRecord, ApplyError> {
        Arc::make_mut(&mut self.brokers)
            .get_mut(&BrokerId(id))
            .filter(|broker| broker.broker_epoch == epoch)
            .map(Arc::make_mut)
            .ok_or(ApplyError::UnknownBroker {
                broker: BrokerId(id),
                epoch: BrokerEpoch(epoch),
            })
    }

    fn change_broker(&mut self, change: &BrokerRegistrationChangeRecord) -> Result<(), ApplyError> {
        let invalid = |field, value: i8| ApplyError::InvalidValue {
            record: "BrokerRegistrationChangeRecord",
            field,
            value: i64::from(value),
        };
        let broker = self.broker_mut(change.broker_id, change.broker_epoch)?;
        match change.fenced {
            -1 => broker.fenced = false,
            0 => {}
            1 => broker.fenced = true,
            other => return Err(invalid("Fenced", other)),
        }
        match change.in_controlled_shutdown {
            0 => {}
            1 => broker.in_controlled_shutdown = true,
            other => return Err(invalid("InControlledShutdown", other)),
        }
        if !change.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&change.log_dirs);
        }
        if change.cordoned_log_dirs.is_some() {
            broker.cordoned_log_dirs.clone_from(&change.cordoned_log_dirs);
        }
        Ok(())
    }

    fn change_config(&mut self, record: &ConfigRecord) {
        let kind = ConfigResourceType::from_number(record.resource_type);
        let resource = ConfigResource::new(kind, record.resource_name.as_str());
        match &record.value {
            Some(value) => {
                let mut configs = self.configs.get(&resource).cloned().unwrap_or_default();
                Arc::make_mut(&mut configs).insert(record.name.clone(), value.clone());
                self.configs.insert(resource, configs);
            }
            None => {
                let Some(configs) = self.configs.get_mut(&resource) else {
                    return;
                };
                Arc::make_mut(configs).remove(&record.name);
                if configs.is_empty() {
                    self.configs.remove(&resource);
                }
            }
        }
    }

    fn change_quota(&mut self, record: &ClientQuotaRecord) {
        let mut entity: QuotaEntity = record
            .entity
            .iter()
            .map(|part| (part.entity_type.clone(), part.entity_name.clone()))
            .collect();
        entity.sort();
        let key = (entity, record.key.clone());
        if record.remove {
            self.client_quotas.remove(&key);
        } else {
            self.client_quotas.insert(key, Arc::new(record.clone()));
        }
    }
}
