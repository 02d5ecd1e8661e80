//! Fetch: reads records, for consumers and for followers; on a controller listener, the metadata log (KIP-595).
//!
//! - Version 4: isolation levels and aborted transactions (KIP-98). 5: log start offsets. 6: KAFKA_STORAGE_ERROR, which
//!   older clients are told as NOT_LEADER_OR_FOLLOWER.
//! - Version 7: sessions (KIP-227). 9: leader epochs (KIP-320). 10: zstd. 11: the client's rack (KIP-392).
//! - Version 12: flexible; the last fetched epoch, diverging epochs, current leaders and snapshots (KIP-595, KIP-630).
//! - Version 13: topics by id (KIP-516). 15: the replica's epoch (KIP-903). 16: endpoints of new leaders (KIP-951).
//! - Version 17: the replica's directory id (KIP-853). 18: the high watermark that the replica knows (KIP-1166).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, Offset, PartitionId, TopicId};
use ottla_domain::ports::inbound::{Fetch, FetchPartition, FetchReply, Fetched, Isolation, TopicRef, Waiting};
use ottla_domain::ports::outbound::RecordSlice;
use ottla_domain::raft::messages::{self, Reply, Request};
use ottla_domain::raft::voters::ReplicaKey;
use uuid::Uuid;

use super::endpoints::Sight;
use super::{Answer, Api, Call, Head, Refusal, quorum};
use crate::fetch_response::{self, NodeEndpoint};
use crate::metrics;
use crate::node::Node;
use crate::response::Response;
use crate::server::ListenerKind;

pub(super) static API: Api = {
    let mut api = Api::both(1, "Fetch", (4, 18), 12).served_at_limit();
    api.abandoned_on_stop = true;
    api
};
const TOPIC_IDS_FROM: i16 = 13;

pub(super) async fn handle<N: Node>(call: &Call<'_, N>) -> Result<Answer<N::Region>, Refusal> {
    let head = call.request.head();
    let request = call.request.decode()?;
    if call.listener.kind == ListenerKind::Controller {
        return Ok(fetch_metadata(call, &request));
    }
    let account = Arc::clone(call.account);
    let hung_up = async move { account.hung_up().await };
    let fetch = fetch(call.version(), request);
    call.by_follower.store(fetch.replica.is_broker(), Ordering::Relaxed);
    match call.node.fetch(fetch, hung_up).await {
        Waiting::Ready(reply) => respond(head, call.node, &call.listener.name, reply).map(Answer::Now),
        Waiting::Later(reply) => {
            let (node, listener) = (Arc::clone(call.node), Arc::clone(&call.listener.name));
            let response = async move { respond(head, &node, &listener, reply.await) };
            Ok(Answer::Later(Box::pin(response)))
        }
    }
}

fn fetch(version: i16, request: FetchRequest) -> Fetch {
    let by_topic_id = version >= TOPIC_IDS_FROM;
    let topic_ref = |name: &str, id: Uuid| {
        if by_topic_id {
            TopicRef::Id(TopicId(id))
        } else {
            TopicRef::Name(name.into())
        }
    };
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let topic_ref = topic_ref(&topic.topic, topic.topic_id);
        partitions.extend(topic.partitions.iter().map(|partition| {
            let partition = FetchPartition {
                partition: PartitionId(partition.partition),
                current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                fetch_offset: Offset(partition.fetch_offset),
                last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
                log_start_offset: Offset(partition.log_start_offset),
                max_bytes: partition.partition_max_bytes,
            };
            (topic_ref.clone(), partition)
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_ref = topic_ref(&topic.topic, topic.topic_id);
        forgotten.extend(
            topic
                .partitions
                .iter()
                .map(|partition| (topic_ref.clone(), PartitionId(*partition))),
        );
    }
    let (replica, replica_epoch) = if version >= 15 {
        (request.replica_state.replica_id, request.replica_state.replica_epoch)
    } else {
        (request.replica_id, -1)
    };
    Fetch {
        replica: BrokerId(replica.0),
        replica_epoch: BrokerEpoch(replica_epoch),
        max_wait_ms: request.max_wait_ms,
        min_bytes: request.min_bytes,
        max_bytes: request.max_bytes,
        isolation: if request.isolation_level == 1 {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        by_topic_id,
        partitions,
        forgotten,
        rack: request.rack_id.to_string(),
    }
}

/// A fetch of the metadata log; anything else is malformed here.
fn fetch_metadata<N: Node>(call: &Call<'_, N>, request: &FetchRequest) -> Answer<N::Region> {
    let (head, listener) = (call.request.head(), Arc::clone(&call.listener.name));
    let account = Arc::clone(call.account);
    let (node, request) = (Arc::clone(call.node), read_quorum_fetch(head.version, request));
    let is_replica = |request: &messages::FetchRequest| request.replica.id.is_broker();
    call.by_follower
        .store(request.as_ref().is_some_and(is_replica), Ordering::Relaxed);
    Answer::Later(Box::pin(async move {
        let reply = match request {
            Some(request) => tokio::select! {
                biased;
                reply = node.handle(Request::Fetch(request)) => reply,
                // No replica sends a fetch and closes its side.
                () = account.hung_up() => return Err(Refusal::Silently),
            },
            None => Err(ErrorCode::InvalidRequest),
        };
        let (reply, endpoints) = match reply {
            Ok(Reply::Fetch(reply)) => quorum_reply(head.version, &listener, reply),
            Ok(_) => (failed(ErrorCode::UnknownServerError), Vec::new()),
            Err(error) => (failed(error), Vec::new()),
        };
        fetch_response::encode(head.correlation_id, head.version, reply, &endpoints)
            .map_err(|error| head.unwritable(&error))
    }))
}

fn read_quorum_fetch(version: i16, request: &FetchRequest) -> Option<messages::FetchRequest> {
    let topic = quorum::only(&request.topics)?;
    let partition = quorum::only(&topic.partitions)?;
    let is_metadata = topic.topic_id == quorum::METADATA_TOPIC_ID && partition.partition == 0;
    let replica = match version {
        15.. => request.replica_state.replica_id,
        _ => request.replica_id,
    };
    is_metadata.then(|| messages::FetchRequest {
        cluster_id: quorum::cluster_id(request.cluster_id.as_ref()),
        replica: ReplicaKey::new(BrokerId(replica.0), DirectoryId(partition.replica_directory_id)),
        epoch: LeaderEpoch(partition.current_leader_epoch),
        fetch_offset: Offset(partition.fetch_offset),
        last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
        high_watermark: Offset(partition.high_watermark),
        max_wait_ms: request.max_wait_ms,
        max_bytes: request.max_bytes,
    })
}

fn quorum_reply<R>(version: i16, listener: &str, reply: messages::FetchReply) -> (FetchReply<R>, Vec<NodeEndpoint>) {
    let leadership = reply.leadership;
    let (mut records, mut diverging_epoch, mut snapshot_id) = (Bytes::new(), None, None);
    match reply.fetched {
        messages::Fetched::Records(bytes) => records = bytes,
        messages::Fetched::Diverging(end) => diverging_epoch = Some((end.epoch, end.end_offset)),
        messages::Fetched::Snapshot(id) => snapshot_id = Some((id.end_offset, id.epoch)),
    }
    let endpoint = quorum::leader_endpoint(&leadership, listener).filter(|_| version >= 17);
    let endpoints = endpoint.map(|(node, endpoint)| NodeEndpoint {
        node,
        host: endpoint.host.to_string(),
        port: i32::from(endpoint.port),
        rack: None,
    });
    let partition = Fetched {
        partition: PartitionId(0),
        error: leadership.error,
        high_watermark: reply.high_watermark.unwrap_or(Offset::NONE),
        last_stable_offset: Offset::NONE,
        log_start_offset: reply.log_start,
        diverging_epoch,
        current_leader: Some((leadership.leader.unwrap_or(BrokerId::NONE), leadership.epoch)),
        snapshot_id,
        aborted: Some(Vec::new()),
        preferred_read_replica: BrokerId::NONE,
        records: Some(RecordSlice::Memory(records)),
    };
    let reply = FetchReply {
        error: ErrorCode::None,
        session_id: 0,
        topics: vec![(TopicRef::Id(TopicId(quorum::METADATA_TOPIC_ID)), vec![partition])],
    };
    (reply, endpoints.into_iter().collect())
}

fn failed<R>(error: ErrorCode) -> FetchReply<R> {
    FetchReply {
        error,
        session_id: 0,
        topics: Vec::new(),
    }
}

fn respond<N: Node>(
    head: Head,
    node: &Arc<N>,
    listener: &str,
    mut reply: FetchReply<N::Region>,
) -> Result<Response<N::Region>, Refusal> {
    let partitions = reply.topics.iter_mut().flat_map(|(_, partitions)| partitions);
    for fetched in partitions.filter(|fetched| !fetched.error.is_none()) {
        metrics::error(&API, fetched.error);
        if head.version <= 5 && fetched.error == ErrorCode::KafkaStorageError {
            fetched.error = ErrorCode::NotLeaderOrFollower;
        }
    }
    let mut endpoints = Vec::new();
    if head.version >= 16 {
        let partitions = reply.topics.iter().flat_map(|(_, partitions)| partitions);
        let mut leaders = partitions
            .filter_map(|one| one.current_leader.map(|(leader, _)| leader))
            .peekable();
        if leaders.peek().is_some() {
            let image = &node.image();
            endpoints = Sight { image, listener }.leaders(leaders);
        }
    }
    fetch_response::encode(head.correlation_id, head.version, reply, &endpoints)
        .map_err(|error| head.unwritable(&error))
}
