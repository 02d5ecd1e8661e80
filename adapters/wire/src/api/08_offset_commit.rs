//! OffsetCommit: a group, or a client on its own, notes how far it has read.
//!
//! - Partitions that do not exist get UNKNOWN_TOPIC_OR_PARTITION, the others are committed all the same. An error of the
//!   group is one of each of those. A topic without partitions is left out of the answer.
//! - Versions 2 to 4: how long to keep the offsets. 6: leader epochs (KIP-320). 7: static members (KIP-345). 8: flexible.
//! - Version 9: members of consumer groups, which are told STALE_MEMBER_EPOCH and GROUP_ID_NOT_FOUND (KIP-848).
//! - Version 10: topics by id alone; one that is not known gets UNKNOWN_TOPIC_ID.

use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::{CommitPartition, CommitTopic, OffsetCommit};
use ottla_domain::ids::{LeaderEpoch, Offset, PartitionId, TopicId};
use uuid::Uuid;

use super::groups::{shared, shared_option};
use super::{Api, Call};
use crate::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::node::Node;

pub(super) static API: Api = Api::broker(8, "OffsetCommit", (2, 10), 8).served_at_limit();
const MEMBER_EPOCHS_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 10;
/// The offsets are kept as `offsets.retention.minutes` says.
const DEFAULT_RETENTION: i64 = -1;

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let by_id = call.version() >= TOPIC_IDS_FROM;
    let image = call.node.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut outcomes: Vec<Outcomes> = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let (known, error) = if by_id {
            (image.topics.by_id(TopicId(topic.topic_id)), ErrorCode::UnknownTopicId)
        } else {
            (image.topics.by_name(&topic.name), ErrorCode::UnknownTopicOrPartition)
        };
        let mut partitions = Vec::new();
        let mut errors = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let error = match known {
                None => Some(error),
                Some(known) if known.partition(PartitionId(index)).is_some() => {
                    partitions.push(commit(partition));
                    None
                }
                Some(_) => Some(ErrorCode::UnknownTopicOrPartition),
            };
            errors.push((index, error));
        }
        if let Some(known) = known.filter(|_| !partitions.is_empty()) {
            topics.push(CommitTopic {
                name: Arc::clone(&known.name),
                id: known.id,
                partitions,
            });
        }
        if !errors.is_empty() {
            outcomes.push((topic.name, topic.topic_id, errors));
        }
    }
    if topics.is_empty() {
        return render(outcomes, Ok(std::iter::empty()));
    }
    let command = OffsetCommit {
        group_id: shared(&request.group_id),
        generation_id_or_member_epoch: request.generation_id_or_member_epoch,
        member_id: shared(&request.member_id),
        group_instance_id: shared_option(request.group_instance_id.as_ref()),
        retention_time_ms: Some(request.retention_time_ms).filter(|ms| *ms != DEFAULT_RETENTION),
        knows_member_epochs: call.version() >= MEMBER_EPOCHS_FROM,
        topics,
    };
    let reply = call.node.group(command).await.flatten();
    let errors = reply.map(|topics| {
        topics
            .into_iter()
            .flat_map(|(_, _, errors)| errors)
            .map(|(_, error)| error)
    });
    render(outcomes, errors)
}

/// A topic of the request, each partition with the error that it has already or none if the group decides.
type Outcomes = (TopicName, Uuid, Vec<(i32, Option<ErrorCode>)>);

fn commit(partition: OffsetCommitRequestPartition) -> CommitPartition {
    CommitPartition {
        partition: PartitionId(partition.partition_index),
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: shared_option(partition.committed_metadata.as_ref()),
    }
}

/// `decided` are the outcomes of the partitions that were sent to the group, in their order, or the error of them all.
fn render(
    outcomes: Vec<Outcomes>,
    mut decided: Result<impl Iterator<Item = ErrorCode>, ErrorCode>,
) -> OffsetCommitResponse {
    let mut decided = || match &mut decided {
        Ok(errors) => errors.next().unwrap_or(ErrorCode::UnknownServerError),
        Err(error) => *error,
    };
    let topics = outcomes.into_iter().map(|(name, id, errors)| {
        let partitions = errors.into_iter().map(|(partition, error)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition)
                .with_error_code(error.unwrap_or_else(&mut decided).number())
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_topic_id(id)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
