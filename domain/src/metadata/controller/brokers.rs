//! Nodes come and go: registration of brokers and controllers (KIP-631, KIP-919), and where their replicas lie (KIP-858).

use std::collections::BTreeSet;

use uuid::Uuid;

use super::elections::{self, Departure};
use super::features::{self, VersionRange};
use super::partition_change::{Candidates, ELR_VERSION, PartitionChange, TopicRules};
use super::{Command, Context, Outcome, limited};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerEpoch, BrokerId, DirectoryId, PartitionId, TopicId};
use crate::metadata::image::{KRAFT_VERSION, METADATA_VERSION};
use crate::metadata::records::{
    BrokerEndpoint, BrokerFeature, MetadataRecord, RegisterBrokerRecord, RegisterControllerRecord,
    UnregisterBrokerRecord,
};

/// BrokerRegistration.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterBroker {
    /// Who.
    pub broker: BrokerId,
    /// The cluster that it believes to belong to.
    pub cluster_id: String,
    /// Drawn anew at each start of the process.
    pub incarnation_id: Uuid,
    /// Where it listens.
    pub endpoints: Vec<BrokerEndpoint>,
    /// The feature levels that it can work with.
    pub features: Vec<BrokerFeature>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Its directories.
    pub log_directories: Vec<DirectoryId>,
    /// Its epoch when it last stopped cleanly, from `.kafka_cleanshutdown`; `None` when it does not say (before
    /// version 3) and -1 when it did not stop cleanly.
    pub previous_broker_epoch: Option<BrokerEpoch>,
}

impl RegisterBroker {
    fn check(&self, context: &Context<'_>) -> Result<(), ApiError> {
        let cluster_id = &context.settings.cluster_id;
        if *cluster_id != self.cluster_id {
            let got = &self.cluster_id;
            let message = format!("Expected cluster ID {cluster_id}, but got cluster ID {got}");
            return Err(ErrorCode::InconsistentClusterId.with(message));
        }
        if let Some(existing) = context.image.broker(self.broker)
            && existing.incarnation_id != self.incarnation_id
            && context.sessions.is_valid(self.broker, context.now)
        {
            return Err(ErrorCode::DuplicateBrokerRegistration.with(
                "Another broker is registered with that broker id. If the broker was recently restarted this should \
                 self-resolve once the heartbeat manager expires the broker's session.",
            ));
        }
        self.check_directories(context)?;
        self.check_features(context)
    }

    fn check_directories(&self, context: &Context<'_>) -> Result<(), ApiError> {
        let invalid = |message: String| Err(ErrorCode::InvalidRegistration.with(message));
        if self.log_directories.is_empty() {
            return invalid("No directories specified in request".to_owned());
        }
        if self.log_directories.iter().any(|directory| directory.is_reserved()) {
            return invalid("Reserved directory ID in request".to_owned());
        }
        let distinct: BTreeSet<_> = self.log_directories.iter().collect();
        if distinct.len() != self.log_directories.len() {
            return invalid("Duplicate directory ID in request".to_owned());
        }
        for (id, broker) in context.image.brokers.iter().filter(|(id, _)| **id != self.broker) {
            let taken = self
                .log_directories
                .iter()
                .find(|directory| broker.log_dirs.contains(&directory.0));
            if let Some(directory) = taken {
                return invalid(format!("Broker {id} is already registered with directory {directory}"));
            }
        }
        Ok(())
    }

    fn check_features(&self, context: &Context<'_>) -> Result<(), ApiError> {
        let kraft_version = context.settings.kraft_version;
        let level = |name: &str| {
            if name == KRAFT_VERSION {
                kraft_version
            } else {
                context.image.feature(name)
            }
        };
        let range_of = |name: &str| {
            let known = self.features.iter().find(|feature| feature.name == name);
            known.map(|feature| VersionRange(feature.min_supported_version, feature.max_supported_version))
        };
        if range_of(METADATA_VERSION).is_none() {
            let message = format!("Request features do not contain '{METADATA_VERSION}'");
            return Err(ErrorCode::InvalidRegistration.with(message));
        }
        let kraft = (kraft_version > 0).then_some(KRAFT_VERSION);
        let named = self.features.iter().map(|feature| feature.name.as_str());
        let finalized = context.image.features.keys().map(String::as_str);
        for name in named.chain(finalized).chain(kraft) {
            let (finalized, range) = (level(name), range_of(name).unwrap_or(VersionRange(0, 0)));
            if !range.contains(finalized) {
                let VersionRange(min, max) = range;
                return Err(ErrorCode::UnsupportedVersion.with(format!(
                    "Unable to register because the broker does not support finalized version {finalized} of {name}. The \
                     broker wants a version between {min} and {max}, inclusive."
                )));
            }
        }
        Ok(())
    }
}

impl Command for RegisterBroker {
    /// The broker's epoch: it names this life of the broker in its requests.
    type Reply = BrokerEpoch;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<BrokerEpoch>, ApiError> {
        self.check(context)?;
        let existing = context.image.broker(self.broker);
        let same = existing.filter(|existing| existing.incarnation_id == self.incarnation_id);
        let mut records = Vec::new();
        if same.is_none() {
            let stored = existing.map(|existing| BrokerEpoch(existing.broker_epoch));
            let is_clean = stored.is_some() && self.previous_broker_epoch == stored;
            let is_elr_enabled = context.image.feature(ELR_VERSION) > 0;
            let departure = if is_elr_enabled && !is_clean {
                Departure::Unclean
            } else {
                Departure::Clean
            };
            elections::remove_broker(
                context,
                self.broker,
                departure,
                elections::in_isr(self.broker),
                &mut records,
            );
            if departure == Departure::Unclean {
                elections::remove_broker(
                    context,
                    self.broker,
                    departure,
                    elections::in_elr(self.broker),
                    &mut records,
                );
            }
        }
        let written = i64::try_from(records.len()).unwrap_or(i64::MAX);
        // In Kafka an epoch is the offset before the records of the registration; only its growth matters.
        let epoch = same.map_or(context.next_offset.plus(written).0, |same| same.broker_epoch);
        records.push(MetadataRecord::RegisterBroker(RegisterBrokerRecord {
            broker_id: self.broker.0,
            incarnation_id: self.incarnation_id,
            broker_epoch: epoch,
            end_points: self.endpoints,
            features: self.features,
            rack: self.rack,
            fenced: same.is_none_or(|same| same.fenced),
            in_controlled_shutdown: same.is_some_and(|same| same.in_controlled_shutdown),
            log_dirs: self.log_directories.iter().map(|directory| directory.0).collect(),
            ..RegisterBrokerRecord::default()
        }));
        Ok(Outcome {
            records,
            reply: BrokerEpoch(epoch),
        })
    }
}

/// UnregisterBroker: forget a broker that will not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnregisterBroker {
    /// Whom.
    pub broker: BrokerId,
}

impl Command for UnregisterBroker {
    type Reply = ();

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<()>, ApiError> {
        let Some(registration) = context.image.broker(self.broker) else {
            let message = format!("Broker ID {} is not currently registered", self.broker);
            return Err(ErrorCode::BrokerIdNotRegistered.with(message));
        };
        let mut records = Vec::new();
        let isr = elections::in_isr(self.broker);
        elections::remove_broker(context, self.broker, Departure::Clean, isr, &mut records);
        let elr = elections::in_elr(self.broker);
        elections::remove_broker(context, self.broker, Departure::Clean, elr, &mut records);
        records.push(MetadataRecord::UnregisterBroker(UnregisterBrokerRecord {
            broker_id: self.broker.0,
            broker_epoch: registration.broker_epoch,
            ..UnregisterBrokerRecord::default()
        }));
        limited(&records)?;
        Ok(Outcome { records, reply: () })
    }
}

/// ControllerRegistration: the record that is to be written, checked by nobody in Kafka either.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterController(pub RegisterControllerRecord);

impl Command for RegisterController {
    type Reply = ();

    fn evaluate(self, _: &mut Context<'_>) -> Result<Outcome<()>, ApiError> {
        Ok(Outcome {
            records: vec![MetadataRecord::RegisterController(self.0)],
            reply: (),
        })
    }
}

/// AssignReplicasToDirs: a broker says in which of its directories replicas are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignReplicasToDirs {
    /// Who says so.
    pub broker: BrokerId,
    /// In which life.
    pub broker_epoch: BrokerEpoch,
    /// Where its replicas are.
    pub assignments: Vec<(DirectoryId, TopicId, PartitionId)>,
}

impl Command for AssignReplicasToDirs {
    /// One code for each assignment, in their order.
    type Reply = Vec<ErrorCode>;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Vec<ErrorCode>>, ApiError> {
        let registration = context.image.checked_broker(self.broker, self.broker_epoch)?;
        let (mut records, mut reply) = (Vec::new(), Vec::with_capacity(self.assignments.len()));
        let mut seen = BTreeSet::new();
        for (directory, topic_id, partition_id) in self.assignments {
            let Some(topic) = context.image.topics.by_id(topic_id) else {
                reply.push(ErrorCode::UnknownTopicId);
                continue;
            };
            let Some(partition) = topic.partition(partition_id) else {
                reply.push(ErrorCode::UnknownTopicOrPartition);
                continue;
            };
            if !partition.replicas.contains(&self.broker.0) {
                reply.push(ErrorCode::NotLeaderOrFollower);
                continue;
            }
            reply.push(ErrorCode::None);
            if !seen.insert((topic_id, partition_id)) {
                continue;
            }
            let rules = TopicRules::of(context, topic);
            let is_online = registration.log_dirs.is_empty() || registration.log_dirs.contains(&directory.0);
            let candidates = Candidates {
                removed: Some(self.broker).filter(|_| !is_online),
                added: None,
            };
            let mut change = PartitionChange::new(context.image, partition, rules, candidates);
            change.directory = Some((self.broker.0, directory));
            if !is_online {
                change.election = rules.election();
                change.isr.retain(|member| *member != self.broker.0);
            }
            records.extend(change.build().map(MetadataRecord::PartitionChange));
        }
        Ok(Outcome { records, reply })
    }
}

/// What Ottla's own nodes say of themselves when they register.
pub fn supported_broker_features() -> Vec<BrokerFeature> {
    let supported = features::SUPPORTED.iter();
    supported
        .map(|(name, VersionRange(min, max))| BrokerFeature {
            name: (*name).to_owned(),
            min_supported_version: *min,
            max_supported_version: *max,
            ..BrokerFeature::default()
        })
        .collect()
}
