//! Where brokers are reached, by the listener that the client came by.

use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{BrokerId, DirectoryId};
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::metadata::records::{PartitionRecord, RegisterBrokerRecord};

use crate::fetch_response::NodeEndpoint;

/// Brokers and partitions as the clients of one listener see them.
pub(super) struct Sight<'a> {
    pub(super) image: &'a MetadataImage,
    pub(super) listener: &'a str,
}

impl Sight<'_> {
    /// How a broker is reached, fenced or not.
    pub(super) fn endpoint(&self, broker: &RegisterBrokerRecord) -> Option<NodeEndpoint> {
        let endpoint = broker
            .end_points
            .iter()
            .find(|endpoint| endpoint.name == self.listener)?;
        Some(NodeEndpoint {
            node: BrokerId(broker.broker_id),
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            rack: broker.rack.clone(),
        })
    }

    /// The brokers that serve clients on this listener, in the order of their ids.
    pub(super) fn alive(&self) -> impl Iterator<Item = NodeEndpoint> {
        self.image.unfenced_brokers().filter_map(|broker| self.endpoint(broker))
    }

    /// The endpoints of leaders that clients are sent to, each once (KIP-951).
    pub(super) fn leaders(&self, leaders: impl Iterator<Item = BrokerId>) -> Vec<NodeEndpoint> {
        let mut found: Vec<NodeEndpoint> = Vec::new();
        for leader in leaders {
            if found.iter().all(|known| known.node != leader)
                && let Some(endpoint) = self
                    .image
                    .broker(leader)
                    .filter(|broker| !broker.fenced)
                    .and_then(|broker| self.endpoint(broker))
            {
                found.push(endpoint);
            }
        }
        found
    }

    /// The broker that clients are told to be the controller, as all brokers forward what a controller must do: `own` if it
    /// serves, else any other.
    pub(super) fn controller(&self, own: BrokerId) -> BrokerId {
        if self.image.broker(own).is_some_and(|broker| !broker.fenced) {
            return own;
        }
        let first = self.image.unfenced_brokers().next();
        first.map_or(BrokerId::NONE, |broker| BrokerId(broker.broker_id))
    }

    /// True when clients of this listener can reach the broker.
    pub(super) fn is_alive(&self, broker: i32) -> bool {
        let broker = self.image.broker(BrokerId(broker));
        broker.is_some_and(|broker| !broker.fenced && self.endpoint(broker).is_some())
    }

    /// The replicas that do not work: their brokers cannot be reached here, or their log directories failed (KIP-858).
    pub(super) fn offline_replicas(&self, partition: &PartitionRecord) -> Vec<i32> {
        let is_online = |replica: i32| {
            let broker = self.image.broker(BrokerId(replica));
            self.is_alive(replica)
                && broker.is_some_and(|broker| has_online_directory(broker, partition.directory(replica)))
        };
        partition
            .replicas
            .iter()
            .copied()
            .filter(|replica| !is_online(*replica))
            .collect()
    }
}

/// Brokers registered before directories were told have none, and are believed.
fn has_online_directory(broker: &RegisterBrokerRecord, directory: Option<DirectoryId>) -> bool {
    match directory {
        None | Some(DirectoryId::UNASSIGNED | DirectoryId::MIGRATING) => true,
        Some(DirectoryId::LOST) => false,
        Some(directory) => broker.log_dirs.is_empty() || broker.log_dirs.contains(&directory.0),
    }
}

/// The message of a failure: its own, or the one that Kafka's clients know the code by.
pub(super) fn message(error: &ApiError) -> Option<StrBytes> {
    let known = match error.code {
        ErrorCode::UnknownTopicOrPartition => Some("This server does not host this topic-partition."),
        ErrorCode::UnknownTopicId => Some("This server does not host this topic ID."),
        ErrorCode::CoordinatorNotAvailable => Some("The coordinator is not available."),
        _ => None,
    };
    error.message.as_deref().or(known).map(text)
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
