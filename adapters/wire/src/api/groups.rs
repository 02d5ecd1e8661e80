//! What the APIs of groups share.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::GroupCommand;
use ottla_domain::metadata::config::effective::NodeConfig;
use ottla_domain::metadata::image::GROUP_VERSION;

use super::{Call, Refusal};
use crate::node::Node;

impl<N: Node> Call<'_, N> {
    /// Takes a command to a group that may answer as late as a rebalance ends. Like Kafka, which mutes the connection
    /// meanwhile, lets no other request of it run. Does not wait for the sake of a client that hung up.
    pub(super) async fn group_in_rebalance<C: GroupCommand>(
        &self,
        command: C,
    ) -> Result<Result<C::Reply, ErrorCode>, Refusal> {
        tokio::select! {
            biased;
            reply = self.node.group(command) => Ok(reply),
            () = self.account.hung_up() => Err(Refusal::Silently),
            () = self.account.stopped() => Ok(Err(ErrorCode::CoordinatorNotAvailable)),
        }
    }

    /// True when the cluster has the protocol of consumer groups, and this broker offers it.
    pub(super) fn offers_consumer_protocol(&self) -> bool {
        let image = self.node.image();
        if image.feature(GROUP_VERSION) < 1 {
            return false;
        }
        let config = NodeConfig::of(&image, self.node.node_id(), self.node.properties());
        let protocols = config.list("group.coordinator.rebalance.protocols");
        protocols.iter().any(|protocol| protocol == "consumer")
    }

    /// The client's id as members are shown with it.
    pub(super) fn client_id(&self) -> Arc<str> {
        let id = self.request.client_id.as_deref().unwrap_or_default();
        String::from_utf8_lossy(id).into()
    }

    /// The client's address as Java writes an `InetAddress` without a name.
    pub(super) fn client_host(&self) -> Arc<str> {
        match self.peer.to_canonical() {
            IpAddr::V4(address) => format!("/{address}").into(),
            IpAddr::V6(address) => format!("/{}", java_ipv6(address)).into(),
        }
    }
}

/// All eight groups of digits, where Rust leaves zeros out.
fn java_ipv6(address: Ipv6Addr) -> String {
    address.segments().map(|segment| format!("{segment:x}")).join(":")
}

/// Offsets may be kept under an empty name, as old clients do; groups have one.
pub(super) fn check_group_id(group_id: &str) -> Result<(), ErrorCode> {
    if group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        Ok(())
    }
}

pub(super) fn shared(text: &StrBytes) -> Arc<str> {
    text.as_str().into()
}

pub(super) fn shared_option(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(shared)
}

/// What a group keeps must not keep the whole frame that it came in.
pub(super) fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_does() {
        assert_eq!(java_ipv6(Ipv6Addr::LOCALHOST), "0:0:0:0:0:0:0:1");
        assert_eq!(
            java_ipv6("2001:db8::ff00:42:8329".parse().unwrap()),
            "2001:db8:0:0:0:ff00:42:8329"
        );
    }
}
