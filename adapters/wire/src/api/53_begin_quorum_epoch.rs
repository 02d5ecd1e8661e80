//! BeginQuorumEpoch: a new leader of the metadata quorum tells a voter that it leads (KIP-595).
//!
//! - Version 1: flexible; directory ids and endpoints (KIP-853).

use kafka_protocol::messages::begin_quorum_epoch_response::{NodeEndpoint, PartitionData, TopicData};
use kafka_protocol::messages::{BeginQuorumEpochRequest, BeginQuorumEpochResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, LeaderEpoch};
use ottla_domain::partitioning::names;
use ottla_domain::raft::messages::{self, Leadership, Reply, Request};

use super::endpoints::text;
use super::{Api, Call, quorum};
use crate::node::Node;

pub(super) static API: Api = Api::controller(53, "BeginQuorumEpoch", (0, 1), 1);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: BeginQuorumEpochRequest) -> BeginQuorumEpochResponse {
    let Some(begin) = read(&request) else {
        return BeginQuorumEpochResponse::default().with_error_code(ErrorCode::InvalidRequest.number());
    };
    match call.node.handle(Request::BeginQuorumEpoch(begin)).await {
        Ok(Reply::BeginQuorumEpoch(leadership)) => render(call.version(), &call.listener.name, &leadership),
        Ok(_) => BeginQuorumEpochResponse::default().with_error_code(ErrorCode::UnknownServerError.number()),
        Err(error) => BeginQuorumEpochResponse::default().with_error_code(error.number()),
    }
}

fn read(request: &BeginQuorumEpochRequest) -> Option<messages::BeginQuorumEpochRequest> {
    let topic = quorum::only(&request.topics)?;
    let partition = quorum::only(&topic.partitions)?;
    quorum::is_metadata(&topic.topic_name, partition.partition_index).then(|| messages::BeginQuorumEpochRequest {
        cluster_id: quorum::cluster_id(request.cluster_id.as_ref()),
        voter: quorum::voter(BrokerId(request.voter_id.0), partition.voter_directory_id),
        leader: BrokerId(partition.leader_id.0),
        epoch: LeaderEpoch(partition.leader_epoch),
        endpoints: quorum::endpoints!(request.leader_endpoints),
    })
}

fn render(version: i16, listener: &str, leadership: &Leadership) -> BeginQuorumEpochResponse {
    let partition = PartitionData::default()
        .with_error_code(leadership.error.number())
        .with_leader_id(quorum::leader_id(leadership).into())
        .with_leader_epoch(leadership.epoch.0);
    let topic = TopicData::default()
        .with_topic_name(text(names::CLUSTER_METADATA).into())
        .with_partitions(vec![partition]);
    let response = BeginQuorumEpochResponse::default().with_topics(vec![topic]);
    if version >= 1 {
        response.with_node_endpoints(quorum::node_endpoints!(NodeEndpoint, leadership, listener))
    } else {
        response
    }
}
