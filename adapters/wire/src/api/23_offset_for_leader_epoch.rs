//! OffsetForLeaderEpoch: where a leader epoch ends, so that followers and consumers notice truncation (KIP-101, KIP-320).
//!
//! - Version 2: the current leader epoch. 3: the replica's id. 4: flexible.

use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use ottla_domain::ids::{LeaderEpoch, PartitionId};

use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(23, "OffsetForLeaderEpoch", (2, 4), 4);

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let end = call.node.epoch_end(
                &topic.topic,
                PartitionId(partition.partition),
                LeaderEpoch(partition.current_leader_epoch),
                LeaderEpoch(partition.leader_epoch),
            );
            EpochEndOffset::default()
                .with_partition(partition.partition)
                .with_error_code(end.error.number())
                .with_leader_epoch(end.leader_epoch.0)
                .with_end_offset(end.end_offset.0)
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
