//! FindCoordinator: which broker a group or a transactional id belongs to.
//!
//! Groups do not exist yet: every version answers INVALID_REQUEST. It is advertised all the same, because librdkafka turns
//! LZ4 off without it.
//!
//! - Version 1: transactional ids, and a message. 3: flexible. 4: several keys (KIP-699). 6: share groups (KIP-932).

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::ErrorCode;

use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(10, "FindCoordinator", (0, 6), 3);
const MESSAGE: &str = "Consumer groups and transactions are not available in Ottla yet.";

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let error = ErrorCode::InvalidRequest.number();
    let message = Some(StrBytes::from_static_str(MESSAGE));
    if call.version() < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_error_message(message)
            .with_node_id((-1).into())
            .with_port(-1);
    }
    let refused = |key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(error)
            .with_error_message(message.clone())
            .with_node_id((-1).into())
            .with_port(-1)
    };
    FindCoordinatorResponse::default().with_coordinators(request.coordinator_keys.into_iter().map(refused).collect())
}
