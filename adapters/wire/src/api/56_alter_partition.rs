//! AlterPartition: a leader asks the controller for another ISR (KIP-497).
//!
//! - Version 2: topics by id. 3: the broker epochs of the members (KIP-903).

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_partition_response::{PartitionData, TopicData};
use kafka_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};
use ottla_domain::metadata::controller::isr::{AlterPartition, AlteredPartition, IsrProposal};
use uuid::Uuid;

use super::{Api, Call, DEFAULT_TIMEOUT_MS};
use crate::node::Node;

pub(super) static API: Api = Api::controller(56, "AlterPartition", (2, 3), 0);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: AlterPartitionRequest) -> AlterPartitionResponse {
    let version = call.version();
    let mut partitions = Vec::new();
    for topic in &request.topics {
        partitions.extend(topic.partitions.iter().map(|partition| {
            let without_epochs = partition
                .new_isr
                .iter()
                .map(|id| (BrokerId(id.0), BrokerEpoch::UNKNOWN));
            let with_epochs = partition
                .new_isr_with_epochs
                .iter()
                .map(|member| (BrokerId(member.broker_id.0), BrokerEpoch(member.broker_epoch)));
            IsrProposal {
                topic_id: TopicId(topic.topic_id),
                partition: PartitionId(partition.partition_index),
                leader_epoch: LeaderEpoch(partition.leader_epoch),
                isr: if version >= 3 {
                    with_epochs.collect()
                } else {
                    without_epochs.collect()
                },
                is_recovering: partition.leader_recovery_state == 1,
                partition_epoch: PartitionEpoch(partition.partition_epoch),
            }
        }));
    }
    let ids: Vec<_> = partitions.iter().map(|one| (one.topic_id.0, one.partition.0)).collect();
    let command = AlterPartition {
        broker: BrokerId(request.broker_id.0),
        broker_epoch: BrokerEpoch(request.broker_epoch),
        partitions,
    };
    let results = match call.submit(command, DEFAULT_TIMEOUT_MS).await {
        Ok(results) => results,
        Err(error) => return AlterPartitionResponse::default().with_error_code(error.code.number()),
    };
    let mut topics: BTreeMap<Uuid, Vec<PartitionData>> = BTreeMap::new();
    for ((topic, partition), result) in ids.into_iter().zip(results) {
        topics.entry(topic).or_default().push(render(partition, result));
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| TopicData::default().with_topic_id(topic).with_partitions(partitions));
    AlterPartitionResponse::default().with_topics(topics.collect())
}

fn render(partition: i32, result: Result<AlteredPartition, ErrorCode>) -> PartitionData {
    let response = PartitionData::default().with_partition_index(partition);
    match result {
        Ok(altered) => response
            .with_leader_id(altered.leader.0.into())
            .with_leader_epoch(altered.leader_epoch.0)
            .with_isr(altered.isr.into_iter().map(|id| id.0.into()).collect())
            .with_leader_recovery_state(i8::from(altered.is_recovering))
            .with_partition_epoch(altered.partition_epoch.0),
        Err(error) => response.with_error_code(error.number()),
    }
}
