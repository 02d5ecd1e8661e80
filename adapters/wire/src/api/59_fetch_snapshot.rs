//! FetchSnapshot: the next piece of a snapshot of the metadata log (KIP-630).
//!
//! - Version 1: directory ids and endpoints (KIP-853).

use kafka_protocol::messages::fetch_snapshot_response::{NodeEndpoint, PartitionSnapshot, SnapshotId, TopicSnapshot};
use kafka_protocol::messages::{FetchSnapshotRequest, FetchSnapshotResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, DirectoryId, LeaderEpoch, Offset};
use ottla_domain::partitioning::names;
use ottla_domain::raft;
use ottla_domain::raft::messages::{self, FetchSnapshotReply, Reply, Request};
use ottla_domain::raft::voters::ReplicaKey;

use super::endpoints::text;
use super::{Api, Call, quorum};
use crate::node::Node;

pub(super) static API: Api = Api::controller(59, "FetchSnapshot", (0, 1), 0);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: FetchSnapshotRequest) -> FetchSnapshotResponse {
    let topic = quorum::only(&request.topics);
    let Some((topic, partition)) = topic.and_then(|topic| Some((topic, quorum::only(&topic.partitions)?))) else {
        return FetchSnapshotResponse::default().with_error_code(ErrorCode::InvalidRequest.number());
    };
    if !quorum::is_metadata(&topic.name, partition.partition) {
        let partition = PartitionSnapshot::default()
            .with_index(partition.partition)
            .with_error_code(ErrorCode::UnknownTopicOrPartition.number());
        let topic = TopicSnapshot::default()
            .with_name(topic.name.clone())
            .with_partitions(vec![partition]);
        return FetchSnapshotResponse::default().with_topics(vec![topic]);
    }
    let fetch = messages::FetchSnapshotRequest {
        cluster_id: quorum::cluster_id(request.cluster_id.as_ref()),
        replica: ReplicaKey::new(
            BrokerId(request.replica_id.0),
            DirectoryId(partition.replica_directory_id),
        ),
        epoch: LeaderEpoch(partition.current_leader_epoch),
        snapshot: raft::SnapshotId {
            epoch: LeaderEpoch(partition.snapshot_id.epoch),
            end_offset: Offset(partition.snapshot_id.end_offset),
        },
        position: partition.position,
        max_bytes: request.max_bytes,
    };
    match call.node.handle(Request::FetchSnapshot(fetch)).await {
        Ok(Reply::FetchSnapshot(reply)) => render(call.version(), &call.listener.name, reply),
        Ok(_) => FetchSnapshotResponse::default().with_error_code(ErrorCode::UnknownServerError.number()),
        Err(error) => FetchSnapshotResponse::default().with_error_code(error.number()),
    }
}

fn render(version: i16, listener: &str, reply: FetchSnapshotReply) -> FetchSnapshotResponse {
    let mut partition = PartitionSnapshot::default()
        .with_error_code(reply.leadership.error.number())
        .with_size(reply.size_bytes)
        .with_position(reply.position)
        .with_unaligned_records(reply.bytes);
    partition.current_leader.leader_id = quorum::leader_id(&reply.leadership).into();
    partition.current_leader.leader_epoch = reply.leadership.epoch.0;
    if let Some(snapshot) = reply.snapshot {
        partition.snapshot_id = SnapshotId::default()
            .with_end_offset(snapshot.end_offset.0)
            .with_epoch(snapshot.epoch.0);
    }
    let topic = TopicSnapshot::default()
        .with_name(text(names::CLUSTER_METADATA).into())
        .with_partitions(vec![partition]);
    let response = FetchSnapshotResponse::default().with_topics(vec![topic]);
    if version >= 1 {
        response.with_node_endpoints(quorum::node_endpoints!(NodeEndpoint, &reply.leadership, listener))
    } else {
        response
    }
}
