//! Topics get more partitions.

use std::collections::BTreeMap;

use super::topics::{Assigned, all_fenced, place};
use super::{Command, Context, Outcome, limited};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerId, PartitionId};
use crate::metadata::records::MetadataRecord;

/// CreatePartitions: each topic on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePartitions {
    /// The topics.
    pub topics: Vec<MorePartitions>,
    /// Only say whether it could be done.
    pub validate_only: bool,
}

/// A topic that is to have more partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePartitions {
    /// Its name.
    pub name: String,
    /// How many partitions it is to have.
    pub count: i32,
    /// The replicas of each new partition, if they are not to be placed.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

impl Command for CreatePartitions {
    /// One result for each name.
    type Reply = Vec<(String, Result<(), ApiError>)>;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Self::Reply>, ApiError> {
        let mut by_name: BTreeMap<&str, Vec<&MorePartitions>> = BTreeMap::new();
        for topic in &self.topics {
            by_name.entry(&topic.name).or_default().push(topic);
        }
        let (mut records, mut reply) = (Vec::new(), Vec::new());
        for (name, topics) in by_name {
            let result = match topics.as_slice() {
                [topic] => topic.create(context, &mut records),
                _ => Err(ErrorCode::InvalidRequest.with("Duplicate topic name.")),
            };
            reply.push((name.to_owned(), result));
        }
        limited(&records)?;
        Ok(Outcome { records, reply }.validated(self.validate_only))
    }
}

impl MorePartitions {
    fn create(&self, context: &Context<'_>, records: &mut Vec<MetadataRecord>) -> Result<(), ApiError> {
        let topic = context.image.topics.by_name(&self.name);
        let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let present = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let invalid = |message: String| Err(ErrorCode::InvalidPartitions.with(message));
        if self.count == present {
            return invalid(format!("Topic already has {present} partition(s)."));
        }
        let (name, count) = (&self.name, self.count);
        if count < present {
            return invalid(format!(
                "The topic {name} currently has {present} partition(s); {count} would not be an increase."
            ));
        }
        let additional = usize::try_from(count - present).unwrap_or(0);
        let factor = topic
            .partitions
            .values()
            .next()
            .map_or(0, |partition| partition.replicas.len());
        let assigned = match &self.assignments {
            Some(assignments) if assignments.len() != additional => {
                let specified = assignments.len();
                return Err(ErrorCode::InvalidReplicaAssignment.with(format!(
                    "Attempted to add {additional} additional partition(s), but only {specified} assignment(s) were \
                     specified."
                )));
            }
            Some(assignments) => (present..)
                .zip(assignments)
                .map(|(id, replicas)| Assigned::checked(context, PartitionId(id), replicas, Some(factor)))
                .collect::<Result<Vec<_>, _>>()?,
            None => {
                if additional > super::RECORDS_PER_COMMAND_MAX {
                    let message = "Unable to perform excessively large batch operation.";
                    return Err(ErrorCode::PolicyViolation.with(message));
                }
                let placed = place(context, additional, i32::try_from(factor).unwrap_or(i32::MAX));
                let placed = placed.map_err(|error| ErrorCode::InvalidReplicationFactor.with(error.to_string()))?;
                let active = placed.into_iter().map(|replicas| Assigned::active(context, replicas));
                active.collect::<Option<Vec<_>>>().ok_or_else(|| all_fenced(factor))?
            }
        };
        for (id, partition) in (present..).zip(assigned) {
            records.push(MetadataRecord::Partition(partition.record(
                context,
                topic.id,
                PartitionId(id),
            )));
        }
        Ok(())
    }
}
