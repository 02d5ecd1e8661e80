//! DescribeQuorum: the voters and observers of the metadata quorum and how far they are, as its leader knows (KIP-642).
//!
//! - Version 1: times of the last fetch (KIP-836). 2: directory ids, addresses of voters, messages (KIP-853).

use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node as VoterNode, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::raft::{QuorumStatus, ReplicaStatus};

use super::endpoints::{message, text};
use super::{Api, Call, quorum};
use crate::node::Node;

pub(super) static API: Api = Api::both(55, "DescribeQuorum", (0, 2), 0).forwardable();

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let is_metadata = quorum::only(&request.topics).is_some_and(|topic| {
        let partition = quorum::only(&topic.partitions);
        partition.is_some_and(|partition| quorum::is_metadata(&topic.topic_name, partition.partition_index))
    });
    if !is_metadata {
        return refuse(&request, ErrorCode::UnknownTopicOrPartition);
    }
    match call.node.describe_quorum().await {
        Some(status) => render(call.version(), &request, &status),
        None => refuse(&request, ErrorCode::NotLeaderOrFollower),
    }
}

fn refuse(request: &DescribeQuorumRequest, error: ErrorCode) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            PartitionData::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.number())
                .with_error_message(message(&error.into()))
        });
        TopicData::default()
            .with_topic_name(topic.topic_name.clone())
            .with_partitions(partitions.collect())
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}

fn render(version: i16, request: &DescribeQuorumRequest, status: &QuorumStatus) -> DescribeQuorumResponse {
    let replicas = |replicas: &[ReplicaStatus]| replicas.iter().map(|one| replica(version, one)).collect();
    let partition = PartitionData::default()
        .with_leader_id(status.leader.0.into())
        .with_leader_epoch(status.epoch.0)
        .with_high_watermark(status.high_watermark.0)
        .with_current_voters(replicas(&status.voters))
        .with_observers(replicas(&status.observers));
    let topics = request.topics.iter().map(|topic| {
        TopicData::default()
            .with_topic_name(topic.topic_name.clone())
            .with_partitions(vec![partition.clone()])
    });
    let response = DescribeQuorumResponse::default().with_topics(topics.collect());
    if version < 2 {
        return response;
    }
    let nodes = status.voter_set.iter().map(|voter| {
        let listeners = voter.endpoints.0.iter().map(|endpoint| {
            Listener::default()
                .with_name(text(&endpoint.listener))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        });
        VoterNode::default()
            .with_node_id(voter.key.id.0.into())
            .with_listeners(listeners.collect())
    });
    response.with_nodes(nodes.collect())
}

fn replica(version: i16, status: &ReplicaStatus) -> ReplicaState {
    let state = ReplicaState::default()
        .with_replica_id(status.key.id.0.into())
        .with_log_end_offset(status.log_end_offset.0)
        .with_last_fetch_timestamp(status.last_fetch.0)
        .with_last_caught_up_timestamp(status.last_caught_up.0);
    if version >= 2 {
        state.with_replica_directory_id(status.key.directory_or_zero().0)
    } else {
        state
    }
}
