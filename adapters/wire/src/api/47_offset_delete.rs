//! OffsetDelete: offsets of a group are forgotten (KIP-496).
//!
//! - Partitions that do not exist get UNKNOWN_TOPIC_OR_PARTITION. With an error of the group there are no topics in the
//!   answer, and never those without partitions.

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::OffsetDelete;
use ottla_domain::ids::PartitionId;

use super::groups::{check_group_id, shared};
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(47, "OffsetDelete", (0, 0), i16::MAX);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    match delete(call, request).await {
        Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.number()),
    }
}

async fn delete<N: Node>(
    call: &Call<'_, N>,
    request: OffsetDeleteRequest,
) -> Result<Vec<OffsetDeleteResponseTopic>, ErrorCode> {
    check_group_id(&request.group_id)?;
    let image = call.node.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut outcomes: Vec<(TopicName, Vec<(PartitionId, bool)>)> = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = image.topics.by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let id = PartitionId(partition.partition_index);
            (id, known.is_some_and(|known| known.partition(id).is_some()))
        });
        let partitions: Vec<_> = partitions.collect();
        let existing = partitions.iter().filter(|(_, exists)| *exists).map(|(id, _)| *id);
        let existing: Vec<_> = existing.collect();
        if !existing.is_empty() {
            topics.push((shared(&topic.name), existing));
        }
        if !partitions.is_empty() {
            outcomes.push((topic.name, partitions));
        }
    }
    let command = OffsetDelete {
        group_id: shared(&request.group_id),
        topics,
    };
    let reply = call.node.group(command).await.flatten()?;
    let mut decided = reply
        .into_iter()
        .flat_map(|(_, _, errors)| errors)
        .map(|(_, error)| error);
    let topics = outcomes.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(id, exists)| {
            let error = if exists {
                decided.next().unwrap_or(ErrorCode::UnknownServerError)
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(id.0)
                .with_error_code(error.number())
        });
        OffsetDeleteResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    Ok(topics.collect())
}
