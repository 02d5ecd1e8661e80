//! EndQuorumEpoch: a leader of the metadata quorum that resigns asks a voter for an election (KIP-595).
//!
//! - Version 1: flexible; directory ids and endpoints (KIP-853).

use kafka_protocol::messages::end_quorum_epoch_response::{NodeEndpoint, PartitionData, TopicData};
use kafka_protocol::messages::{EndQuorumEpochRequest, EndQuorumEpochResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, DirectoryId, LeaderEpoch};
use ottla_domain::partitioning::names;
use ottla_domain::raft::messages::{self, Leadership, Reply, Request};
use ottla_domain::raft::voters::ReplicaKey;

use super::endpoints::text;
use super::{Api, Call, quorum};
use crate::node::Node;

pub(super) static API: Api = Api::controller(54, "EndQuorumEpoch", (0, 1), 1);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: EndQuorumEpochRequest) -> EndQuorumEpochResponse {
    let Some(end) = read(call.version(), &request) else {
        return EndQuorumEpochResponse::default().with_error_code(ErrorCode::InvalidRequest.number());
    };
    match call.node.handle(Request::EndQuorumEpoch(end)).await {
        Ok(Reply::EndQuorumEpoch(leadership)) => render(call.version(), &call.listener.name, &leadership),
        Ok(_) => EndQuorumEpochResponse::default().with_error_code(ErrorCode::UnknownServerError.number()),
        Err(error) => EndQuorumEpochResponse::default().with_error_code(error.number()),
    }
}

fn read(version: i16, request: &EndQuorumEpochRequest) -> Option<messages::EndQuorumEpochRequest> {
    let topic = quorum::only(&request.topics)?;
    let partition = quorum::only(&topic.partitions)?;
    if !quorum::is_metadata(&topic.topic_name, partition.partition_index) {
        return None;
    }
    let successors = if version >= 1 {
        let candidates = partition.preferred_candidates.iter();
        candidates
            .map(|one| ReplicaKey::new(BrokerId(one.candidate_id.0), DirectoryId(one.candidate_directory_id)))
            .collect()
    } else {
        let ids = partition.preferred_successors.iter();
        ids.map(|id| ReplicaKey::new(BrokerId(*id), DirectoryId::ZERO))
            .collect()
    };
    Some(messages::EndQuorumEpochRequest {
        cluster_id: quorum::cluster_id(request.cluster_id.as_ref()),
        leader: BrokerId(partition.leader_id.0),
        epoch: LeaderEpoch(partition.leader_epoch),
        successors,
        endpoints: quorum::endpoints!(request.leader_endpoints),
    })
}

fn render(version: i16, listener: &str, leadership: &Leadership) -> EndQuorumEpochResponse {
    let partition = PartitionData::default()
        .with_error_code(leadership.error.number())
        .with_leader_id(quorum::leader_id(leadership).into())
        .with_leader_epoch(leadership.epoch.0);
    let topic = TopicData::default()
        .with_topic_name(text(names::CLUSTER_METADATA).into())
        .with_partitions(vec![partition]);
    let response = EndQuorumEpochResponse::default().with_topics(vec![topic]);
    if version >= 1 {
        response.with_node_endpoints(quorum::node_endpoints!(NodeEndpoint, leadership, listener))
    } else {
        response
    }
}
