//! Topics are created and deleted.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::features::MIN_ISR;
use super::partition_change::{ELR_VERSION, default_directory};
use super::{Command, Context, Outcome, limited};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, PartitionId, TopicId, uuid_to_string};
use crate::metadata::config::TOPIC_SETTINGS;
use crate::metadata::config::changes::validate_topic;
use crate::metadata::config::effective::ConfigSource;
use crate::metadata::image::{ConfigMap, ConfigResourceType};
use crate::metadata::records::{
    ClearElrRecord, ConfigRecord, MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
};
use crate::metadata::topics::RECOVERED;
use crate::partitioning::names;
use crate::partitioning::placement::{self, PlacementError, UsableBroker};

/// The most partitions that one request creates.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// CreateTopics: each topic on its own, some may fail while others are created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    /// The topics.
    pub topics: Vec<NewTopic>,
    /// Only say whether it could be done.
    pub validate_only: bool,
}

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 is `num.partitions`, or as many as are assigned.
    pub partitions: i32,
    /// How many replicas of each; -1 is `default.replication.factor`, or as many as are assigned.
    pub replication_factor: i16,
    /// The replicas of each partition, if they are not to be placed.
    pub assignments: Vec<(PartitionId, Vec<BrokerId>)>,
    /// Its settings; null values are refused.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// The id of this life of it.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas of each.
    pub replication_factor: i16,
    /// All its settings, sorted by name: the name, the value, and where it comes from.
    pub configs: Vec<(&'static str, Option<String>, ConfigSource)>,
}

impl Command for CreateTopics {
    /// One result for each name, in the order of the request.
    type Reply = Vec<(String, Result<CreatedTopic, ApiError>)>;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Self::Reply>, ApiError> {
        let default_partitions = context.config().number("num.partitions");
        let count = |topic: &NewTopic| match (topic.assignments.len(), topic.partitions) {
            (0, -1) => usize::try_from(default_partitions).unwrap_or(0),
            (0, partitions) => usize::try_from(partitions).unwrap_or(0),
            (assigned, _) => assigned,
        };
        if self.topics.iter().map(count).fold(0, usize::saturating_add) > PARTITIONS_PER_REQUEST_MAX {
            return Err(ErrorCode::PolicyViolation.with("Excessively large number of partitions per request."));
        }
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in &self.topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        let (mut records, mut reply) = (Vec::new(), Vec::new());
        let mut answered = BTreeSet::new();
        for topic in self.topics.iter().filter(|topic| answered.insert(topic.name.as_str())) {
            let result = if times.get(topic.name.as_str()).is_some_and(|times| *times > 1) {
                Err(ErrorCode::InvalidRequest.with("Duplicate topic name."))
            } else {
                topic.create(context).map(|(mut made, created)| {
                    records.append(&mut made);
                    created
                })
            };
            reply.push((topic.name.clone(), result));
        }
        limited(&records)?;
        Ok(Outcome { records, reply }.validated(self.validate_only))
    }
}

impl NewTopic {
    fn create(&self, context: &Context<'_>) -> Result<(Vec<MetadataRecord>, CreatedTopic), ApiError> {
        self.check_name(context)?;
        let configs = self.checked_configs(context)?;
        let assigned = if self.assignments.is_empty() {
            self.placed(context)?
        } else {
            self.checked_assignments(context)?
        };
        let id = draw_topic_id(context);
        let mut records = vec![MetadataRecord::Topic(TopicRecord {
            name: self.name.clone(),
            topic_id: id.0,
            ..TopicRecord::default()
        })];
        for (name, value) in &configs {
            records.push(MetadataRecord::Config(ConfigRecord {
                resource_type: ConfigResourceType::Topic.number(),
                resource_name: self.name.clone(),
                name: name.clone(),
                value: Some(value.clone()),
                ..ConfigRecord::default()
            }));
        }
        if context.image.feature(ELR_VERSION) > 0 && configs.contains_key(MIN_ISR) {
            records.push(MetadataRecord::ClearElr(ClearElrRecord {
                topic_name: self.name.clone(),
                ..ClearElrRecord::default()
            }));
        }
        let created = CreatedTopic {
            id,
            partitions: i32::try_from(assigned.len()).unwrap_or(i32::MAX),
            replication_factor: assigned.first().map_or(0, |partition| {
                i16::try_from(partition.replicas.len()).unwrap_or(i16::MAX)
            }),
            configs: self.effective_configs(context, &configs),
        };
        for (index, partition) in (0..).zip(assigned) {
            records.push(MetadataRecord::Partition(partition.record(
                context,
                id,
                PartitionId(index),
            )));
        }
        Ok((records, created))
    }

    fn check_name(&self, context: &Context<'_>) -> Result<(), ApiError> {
        let name = &self.name;
        if name == names::CLUSTER_METADATA {
            let message = format!("Creation of internal topic {name} is prohibited.");
            return Err(ErrorCode::InvalidRequest.with(message));
        }
        if context.image.topics.by_name(name).is_some() {
            return Err(ErrorCode::TopicAlreadyExists.with(format!("Topic '{name}' already exists.")));
        }
        let invalid = |message: String| ErrorCode::InvalidTopicException.with(message);
        names::validate(name).map_err(|error| invalid(error.to_string()))?;
        match context.image.topics.colliding(name) {
            Some(other) => Err(invalid(format!("Topic '{name}' collides with existing topic: {other}"))),
            None => Ok(()),
        }
    }

    fn checked_configs(&self, context: &Context<'_>) -> Result<ConfigMap, ApiError> {
        let null = self.configs.iter().filter(|(_, value)| value.is_none());
        let null: Vec<&str> = null.map(|(name, _)| name.as_str()).collect();
        if !null.is_empty() {
            let message = format!("Null value not supported for topic configs: {}", null.join(","));
            return Err(ErrorCode::InvalidConfig.with(message));
        }
        let set = self
            .configs
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        let configs: ConfigMap = set.collect();
        super::configs::check_lengths(&configs)?;
        validate_topic(&context.config(), &configs)?;
        Ok(configs)
    }

    fn checked_assignments(&self, context: &Context<'_>) -> Result<Vec<Assigned>, ApiError> {
        let invalid = |message: &str| Err(ErrorCode::InvalidRequest.with(message));
        if self.replication_factor != -1 {
            return invalid("A manual partition assignment was specified, but replication factor was not set to -1.");
        }
        if self.partitions != -1 {
            return invalid("A manual partition assignment was specified, but numPartitions was not set to -1.");
        }
        let mut partitions = BTreeMap::new();
        let mut factor = None;
        for (id, replicas) in &self.assignments {
            if partitions.contains_key(&id.0) {
                let message = format!("Found multiple manual partition assignments for partition {id}");
                return Err(ErrorCode::InvalidReplicaAssignment.with(message));
            }
            partitions.insert(id.0, Assigned::checked(context, *id, replicas, factor)?);
            factor = Some(replicas.len());
        }
        if !partitions.keys().copied().eq((0..).take(partitions.len())) {
            let message = "partitions should be a consecutive 0-based integer sequence";
            return Err(ErrorCode::InvalidReplicaAssignment.with(message));
        }
        Ok(partitions.into_values().collect())
    }

    fn placed(&self, context: &Context<'_>) -> Result<Vec<Assigned>, ApiError> {
        if self.replication_factor < -1 || self.replication_factor == 0 {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(ErrorCode::InvalidReplicationFactor.with(message));
        }
        if self.partitions < -1 || self.partitions == 0 {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err(ErrorCode::InvalidPartitions.with(message));
        }
        let config = context.config();
        let partitions = match self.partitions {
            -1 => config.number("num.partitions"),
            partitions => i64::from(partitions),
        };
        let factor = match self.replication_factor {
            -1 => i32::try_from(config.number("default.replication.factor")).unwrap_or(i32::MAX),
            factor => i32::from(factor),
        };
        let unable = |why: String| {
            let message = format!("Unable to replicate the partition {factor} time(s): {why}");
            ErrorCode::InvalidReplicationFactor.with(message)
        };
        let placed = place(context, usize::try_from(partitions).unwrap_or(0), factor);
        let placed = placed.map_err(|error| unable(error.to_string()))?;
        let assigned = placed.into_iter().map(|replicas| Assigned::active(context, replicas));
        let assigned: Option<Vec<Assigned>> = assigned.collect();
        assigned.ok_or_else(|| unable(ALL_FENCED.to_owned()))
    }

    fn effective_configs(
        &self,
        context: &Context<'_>,
        configs: &ConfigMap,
    ) -> Vec<(&'static str, Option<String>, ConfigSource)> {
        let config = context.config();
        let shown = TOPIC_SETTINGS
            .iter()
            .filter(|topic| !topic.setting.is_internal || configs.contains_key(topic.setting.name));
        shown
            .map(|topic| {
                let (value, source) = config.effective_topic_text(topic, configs);
                (topic.setting.name, value, source)
            })
            .collect()
    }
}

const ALL_FENCED: &str = "All brokers are currently fenced or in controlled shutdown.";

/// The refusal of new partitions that nobody could lead.
pub(super) fn all_fenced(factor: usize) -> ApiError {
    let message = format!("Unable to replicate the partition {factor} time(s): {ALL_FENCED}");
    ErrorCode::InvalidReplicationFactor.with(message)
}

/// A new partition: its replicas, and those of them that are active.
pub(super) struct Assigned {
    replicas: Vec<i32>,
    isr: Vec<i32>,
}

impl Assigned {
    /// The partition on these replicas, if one of them is active.
    pub(super) fn active(context: &Context<'_>, replicas: Vec<BrokerId>) -> Option<Assigned> {
        let replicas: Vec<i32> = replicas.into_iter().map(|replica| replica.0).collect();
        let isr: Vec<i32> = replicas
            .iter()
            .copied()
            .filter(|replica| context.image.is_active(*replica))
            .collect();
        (!isr.is_empty()).then_some(Assigned { replicas, isr })
    }

    /// The partition on replicas that a user chose; `factor` is how many the other partitions have.
    pub(super) fn checked(
        context: &Context<'_>,
        id: PartitionId,
        replicas: &[BrokerId],
        factor: Option<usize>,
    ) -> Result<Assigned, ApiError> {
        let invalid = |message: String| ErrorCode::InvalidReplicaAssignment.with(message);
        if replicas.is_empty() {
            return Err(invalid(
                "The manual partition assignment includes an empty replica list.".to_owned(),
            ));
        }
        let mut sorted = replicas.to_vec();
        sorted.sort();
        let mut previous = None;
        for broker in sorted {
            if context.image.broker(broker).is_none() {
                return Err(invalid(format!(
                    "The manual partition assignment includes broker {broker}, but no such broker is registered."
                )));
            }
            if previous == Some(broker) {
                return Err(invalid(format!(
                    "The manual partition assignment includes the broker {broker} more than once."
                )));
            }
            previous = Some(broker);
        }
        if let Some(factor) = factor.filter(|factor| *factor != replicas.len()) {
            let count = replicas.len();
            return Err(invalid(format!(
                "The manual partition assignment includes a partition with {count} replica(s), but this is not \
                 consistent with previous partitions, which have {factor} replica(s)."
            )));
        }
        Assigned::active(context, replicas.to_vec()).ok_or_else(|| {
            invalid(format!(
                "All brokers specified in the manual partition assignment for partition {id} are fenced or in controlled \
                 shutdown."
            ))
        })
    }

    pub(super) fn record(self, context: &Context<'_>, topic: TopicId, id: PartitionId) -> PartitionRecord {
        let directories = self
            .replicas
            .iter()
            .map(|replica| default_directory(context.image, *replica).0);
        PartitionRecord {
            partition_id: id.0,
            topic_id: topic.0,
            directories: directories.collect(),
            leader: self.isr.first().copied().unwrap_or(-1),
            leader_recovery_state: RECOVERED,
            leader_epoch: 0,
            partition_epoch: 0,
            replicas: self.replicas,
            isr: self.isr,
            ..PartitionRecord::default()
        }
    }
}

/// Places new partitions on the brokers that take some.
pub(super) fn place(
    context: &Context<'_>,
    partitions: usize,
    replication_factor: i32,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    let brokers = context.image.brokers.values();
    let usable = brokers.filter(|broker| !broker.in_controlled_shutdown && broker.has_uncordoned_directory());
    let usable = usable.map(|broker| UsableBroker {
        id: BrokerId(broker.broker_id),
        rack: broker.rack.clone(),
        fenced: broker.fenced,
    });
    placement::place(usable, partitions, replication_factor, context.entropy.draw())
}

/// A random UUID of version 4 that no other topic has; none begins with a dash, which tools would take for an option.
fn draw_topic_id(context: &Context<'_>) -> TopicId {
    loop {
        let bits = context.entropy.draw();
        let version_4 = (bits & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
        let id = Uuid::from_u128(version_4);
        if !uuid_to_string(id).starts_with('-') && context.image.topics.by_id(TopicId(id)).is_none() {
            return TopicId(id);
        }
    }
}

/// DeleteTopics: each topic on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopics {
    /// The topics, each by its name or, zero where that is given, by its id.
    pub topics: Vec<(Option<String>, TopicId)>,
}

/// What became of the deletion of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name, if that is known.
    pub name: Option<String>,
    /// Its id, zero if that is not known.
    pub id: TopicId,
    /// `None` when it was deleted.
    pub error: Option<ApiError>,
}

impl Command for DeleteTopics {
    /// One result for each name and id.
    type Reply = Vec<DeletedTopic>;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Vec<DeletedTopic>>, ApiError> {
        if !context.config().flag("delete.topic.enable") {
            return Err(ErrorCode::TopicDeletionDisabled.with("Topic deletion is disabled."));
        }
        let mut times: BTreeMap<(Option<String>, TopicId), usize> = BTreeMap::new();
        for topic in self.topics {
            *times.entry(topic).or_default() += 1;
        }
        let given = |name: Option<String>, id| times.get(&(name, id)).copied().unwrap_or(0);
        let (mut records, mut reply) = (Vec::new(), Vec::new());
        for ((name, id), times) in &times {
            let mut found = find(context, name.as_deref(), *id, *times);
            let mut deleted = DeletedTopic {
                name: name.clone(),
                id: *id,
                error: None,
            };
            if let Ok((topic, topic_id)) = &found {
                match name {
                    // Given by its name, too: neither deletes it, and the answer is the name's.
                    None if given(Some(topic.clone()), TopicId::ZERO) == 1 => continue,
                    Some(_) if given(None, *topic_id) > 0 => {
                        deleted.id = *topic_id;
                        let message = "The provided topic name maps to an ID that was already supplied.";
                        found = Err(ErrorCode::InvalidRequest.with(message));
                    }
                    _ => {}
                }
            }
            match found {
                Ok((name, id)) => {
                    records.push(MetadataRecord::RemoveTopic(RemoveTopicRecord {
                        topic_id: id.0,
                        ..RemoveTopicRecord::default()
                    }));
                    (deleted.name, deleted.id) = (Some(name), id);
                }
                Err(error) => deleted.error = Some(error),
            }
            reply.push(deleted);
        }
        limited(&records)?;
        Ok(Outcome { records, reply })
    }
}

fn find(context: &Context<'_>, name: Option<&str>, id: TopicId, times: usize) -> Result<(String, TopicId), ApiError> {
    let invalid = |message: &str| Err(ErrorCode::InvalidRequest.with(message));
    let topic = match name {
        None if id.is_zero() => return invalid("Neither topic name nor id were specified."),
        Some(_) if !id.is_zero() => return invalid("You may not specify both topic name and topic id."),
        None if times > 1 => return invalid("Duplicate topic id."),
        Some(_) if times > 1 => return invalid("Duplicate topic name."),
        None => context.image.topics.by_id(id).ok_or(ErrorCode::UnknownTopicId)?,
        Some(name) => context
            .image
            .topics
            .by_name(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?,
    };
    Ok((topic.name.to_string(), topic.id))
}
