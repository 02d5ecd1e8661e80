//! BrokerHeartbeat: a broker is alive, wants to be unfenced, or wants to shut down (KIP-631).
//!
//! - Version 1: failed log directories (KIP-858). 2: cordoned log directories (KIP-1066).

use ottla_domain::ids::{BrokerEpoch, BrokerId, DirectoryId, Offset};
use ottla_domain::metadata::config::effective::NodeConfig;
use ottla_domain::metadata::controller::heartbeats::BrokerHeartbeat;

use super::{Api, Call};
use crate::messages::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use crate::node::Node;

pub(super) static API: Api = Api::controller(63, "BrokerHeartbeat", (0, 2), 0);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse {
    let command = BrokerHeartbeat {
        broker: BrokerId(request.broker_id.0),
        broker_epoch: BrokerEpoch(request.broker_epoch),
        metadata_offset: Offset(request.current_metadata_offset),
        want_fence: request.want_fence,
        want_shutdown: request.want_shut_down,
        offline_directories: request.offline_log_dirs.into_iter().map(DirectoryId).collect(),
        cordoned_directories: request
            .cordoned_log_dirs
            .map(|directories| directories.into_iter().map(DirectoryId).collect()),
    };
    match call.submit(command, timeout_ms(call)).await {
        Ok(reply) => BrokerHeartbeatResponse::default()
            .with_is_caught_up(reply.is_caught_up)
            .with_is_fenced(reply.is_fenced)
            .with_should_shut_down(reply.should_shut_down),
        Err(error) => BrokerHeartbeatResponse::default().with_error_code(error.code.number()),
    }
}

/// Half the time to the next heartbeat.
fn timeout_ms<N: Node>(call: &Call<'_, N>) -> i32 {
    let image = &call.node.image();
    let config = NodeConfig::of(image, call.node.node_id(), call.node.properties());
    i32::try_from(config.number("broker.heartbeat.interval.ms") / 2).unwrap_or(i32::MAX)
}
