//! Vote: a candidate for the leadership of the metadata quorum asks for a vote (KIP-595).
//!
//! - Version 1: directory ids and endpoints (KIP-853). 2: the question whether a vote would be given (KIP-996).

use kafka_protocol::messages::vote_response::{NodeEndpoint, PartitionData, TopicData};
use kafka_protocol::messages::{VoteRequest, VoteResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, DirectoryId, LeaderEpoch, Offset};
use ottla_domain::partitioning::names;
use ottla_domain::raft::messages::{self, Reply, Request, VoteReply};
use ottla_domain::raft::voters::ReplicaKey;

use super::endpoints::text;
use super::{Api, Call, quorum};
use crate::node::Node;

pub(super) static API: Api = Api::controller(52, "Vote", (0, 2), 0);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: VoteRequest) -> VoteResponse {
    let Some(vote) = read(&request) else {
        return VoteResponse::default().with_error_code(ErrorCode::InvalidRequest.number());
    };
    match call.node.handle(Request::Vote(vote)).await {
        Ok(Reply::Vote(reply)) => render(call.version(), &call.listener.name, &reply),
        Ok(_) => VoteResponse::default().with_error_code(ErrorCode::UnknownServerError.number()),
        Err(error) => VoteResponse::default().with_error_code(error.number()),
    }
}

fn read(request: &VoteRequest) -> Option<messages::VoteRequest> {
    let topic = quorum::only(&request.topics)?;
    let partition = quorum::only(&topic.partitions)?;
    quorum::is_metadata(&topic.topic_name, partition.partition_index).then(|| messages::VoteRequest {
        cluster_id: quorum::cluster_id(request.cluster_id.as_ref()),
        voter: quorum::voter(BrokerId(request.voter_id.0), partition.voter_directory_id),
        candidate: ReplicaKey::new(
            BrokerId(partition.replica_id.0),
            DirectoryId(partition.replica_directory_id),
        ),
        epoch: LeaderEpoch(partition.replica_epoch),
        last_epoch: LeaderEpoch(partition.last_offset_epoch),
        last_offset: Offset(partition.last_offset),
        pre_vote: partition.pre_vote,
    })
}

fn render(version: i16, listener: &str, reply: &VoteReply) -> VoteResponse {
    let partition = PartitionData::default()
        .with_error_code(reply.leadership.error.number())
        .with_leader_id(quorum::leader_id(&reply.leadership).into())
        .with_leader_epoch(reply.leadership.epoch.0)
        .with_vote_granted(reply.granted);
    let topic = TopicData::default()
        .with_topic_name(text(names::CLUSTER_METADATA).into())
        .with_partitions(vec![partition]);
    let response = VoteResponse::default().with_topics(vec![topic]);
    if version >= 1 {
        response.with_node_endpoints(quorum::node_endpoints!(NodeEndpoint, &reply.leadership, listener))
    } else {
        response
    }
}
