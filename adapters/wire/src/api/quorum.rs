//! What the RPCs of the metadata quorum have in common: one partition, and where its leader listens.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use ottla_domain::ids::{BrokerId, DirectoryId};
use ottla_domain::partitioning::names;
use ottla_domain::raft::messages::Leadership;
use ottla_domain::raft::voters::{Endpoint, ReplicaKey};
use uuid::Uuid;

/// The id of `__cluster_metadata` in every cluster.
pub(super) const METADATA_TOPIC_ID: Uuid = Uuid::from_u128(1);

/// The only element of a list of one.
pub(super) fn only<T>(list: &[T]) -> Option<&T> {
    match list {
        [only] => Some(only),
        _ => None,
    }
}

/// True for the one partition that the quorum has.
pub(super) fn is_metadata(topic: &str, partition: i32) -> bool {
    topic == names::CLUSTER_METADATA && partition == 0
}

/// Whom a request is meant for; absent before KIP-853.
pub(super) fn voter(id: BrokerId, directory: Uuid) -> Option<ReplicaKey> {
    (id.0 >= 0).then(|| ReplicaKey::new(id, DirectoryId(directory)))
}

pub(super) fn cluster_id(id: Option<&StrBytes>) -> Option<Arc<str>> {
    id.map(|id| Arc::from(&**id))
}

/// The number of the leader in a reply, -1 for none.
pub(super) fn leader_id(leadership: &Leadership) -> i32 {
    leadership.leader.unwrap_or(BrokerId::NONE).0
}

/// Where the leader is reached by those who came by this listener.
pub(super) fn leader_endpoint<'a>(leadership: &'a Leadership, listener: &str) -> Option<(BrokerId, &'a Endpoint)> {
    leadership.leader.zip(leadership.endpoints.of(listener))
}

/// The endpoints of a leader in a request, which has a type of its own for them in each API.
macro_rules! endpoints {
    ($listeners:expr) => {
        ottla_domain::raft::voters::Endpoints(
            $listeners
                .iter()
                .map(|listener| ottla_domain::raft::voters::Endpoint {
                    listener: (&*listener.name).into(),
                    host: (&*listener.host).into(),
                    port: listener.port,
                })
                .collect(),
        )
    };
}
pub(super) use endpoints;

/// The endpoint of the leader in a reply, which has a type of its own for it in each API.
macro_rules! node_endpoints {
    ($type:ty, $leadership:expr, $listener:expr) => {
        $crate::api::quorum::leader_endpoint($leadership, $listener)
            .map(|(leader, endpoint)| {
                <$type>::default()
                    .with_node_id(leader.0.into())
                    .with_host($crate::api::endpoints::text(&endpoint.host))
                    .with_port(endpoint.port)
            })
            .into_iter()
            .collect()
    };
}
pub(super) use node_endpoints;
