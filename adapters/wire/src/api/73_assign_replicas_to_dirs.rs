//! AssignReplicasToDirs: a broker says in which of its log directories replicas are (KIP-858).

use std::collections::BTreeMap;

use kafka_protocol::messages::assign_replicas_to_dirs_response::{DirectoryData, PartitionData, TopicData};
use kafka_protocol::messages::{AssignReplicasToDirsRequest, AssignReplicasToDirsResponse};
use ottla_domain::ids::{BrokerEpoch, BrokerId, DirectoryId, PartitionId, TopicId};
use ottla_domain::metadata::controller::brokers::AssignReplicasToDirs;

use super::{Api, Call, DEFAULT_TIMEOUT_MS};
use crate::node::Node;

pub(super) static API: Api = Api::controller(73, "AssignReplicasToDirs", (0, 0), 0);

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: AssignReplicasToDirsRequest,
) -> AssignReplicasToDirsResponse {
    let mut assignments = Vec::new();
    for directory in &request.directories {
        for topic in &directory.topics {
            assignments.extend(topic.partitions.iter().map(|partition| {
                let partition = PartitionId(partition.partition_index);
                (DirectoryId(directory.id), TopicId(topic.topic_id), partition)
            }));
        }
    }
    let command = AssignReplicasToDirs {
        broker: BrokerId(request.broker_id.0),
        broker_epoch: BrokerEpoch(request.broker_epoch),
        assignments: assignments.clone(),
    };
    let results = match call.submit(command, DEFAULT_TIMEOUT_MS).await {
        Ok(results) => results,
        Err(error) => return AssignReplicasToDirsResponse::default().with_error_code(error.code.number()),
    };
    let mut directories: BTreeMap<DirectoryId, BTreeMap<TopicId, Vec<PartitionData>>> = BTreeMap::new();
    for ((directory, topic, partition), error) in assignments.into_iter().zip(results) {
        let partition = PartitionData::default()
            .with_partition_index(partition.0)
            .with_error_code(error.number());
        let topics = directories.entry(directory).or_default();
        topics.entry(topic).or_default().push(partition);
    }
    let directories = directories.into_iter().map(|(directory, topics)| {
        let topics = topics
            .into_iter()
            .map(|(topic, partitions)| TopicData::default().with_topic_id(topic.0).with_partitions(partitions));
        DirectoryData::default()
            .with_id(directory.0)
            .with_topics(topics.collect())
    });
    AssignReplicasToDirsResponse::default().with_directories(directories.collect())
}
