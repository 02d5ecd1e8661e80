//! FindCoordinator: which broker a group belongs to.
//!
//! Transactional ids and share groups do not exist yet: they are answered with INVALID_REQUEST.
//!
//! - Version 1: transactional ids, and a message. 3: flexible. 4: several keys (KIP-699). 6: share groups (KIP-932).

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::{ApiError, ErrorCode};

use super::endpoints::{Sight, message, text};
use super::{Api, Call};
use crate::fetch_response::NodeEndpoint;
use crate::node::Node;

pub(super) static API: Api = Api::broker(10, "FindCoordinator", (0, 6), 3);
const SEVERAL_KEYS_FROM: i16 = 4;
/// The type of a key that is a group.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let kind = request.key_type;
    if call.version() < SEVERAL_KEYS_FROM {
        return render_only(call.version(), find(call, kind, &request.key).await);
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        let found = find(call, kind, &key).await;
        coordinators.push(render(key, found));
    }
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

async fn find<N: Node>(call: &Call<'_, N>, kind: i8, key: &str) -> Result<NodeEndpoint, ApiError> {
    match kind {
        GROUP => {}
        TRANSACTION | SHARE => {
            let why = "Ottla coordinates groups; it has no transactions and share groups yet.";
            return Err(ErrorCode::InvalidRequest.with(why));
        }
        _ => return Err(ErrorCode::InvalidRequest.into()),
    }
    let broker = call.node.find_group_coordinator(key).await?;
    let sight = Sight {
        image: &call.node.image(),
        listener: &call.listener.name,
    };
    let endpoint = sight.leaders([broker].into_iter()).pop();
    endpoint.ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
}

fn render_only(version: i16, found: Result<NodeEndpoint, ApiError>) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default();
    match found {
        Ok(broker) => {
            let response = response
                .with_node_id(broker.node.0.into())
                .with_host(text(&broker.host))
                .with_port(broker.port);
            if version >= 1 {
                // What Kafka calls no error.
                response.with_error_message(Some(StrBytes::from_static_str("NONE")))
            } else {
                response
            }
        }
        Err(error) => {
            let response = response
                .with_error_code(error.code.number())
                .with_node_id((-1).into())
                .with_port(-1);
            if version >= 1 {
                response.with_error_message(message(&error))
            } else {
                response
            }
        }
    }
}

fn render(key: StrBytes, found: Result<NodeEndpoint, ApiError>) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key);
    match found {
        Ok(broker) => coordinator
            .with_node_id(broker.node.0.into())
            .with_host(text(&broker.host))
            .with_port(broker.port),
        Err(error) => coordinator
            .with_error_code(error.code.number())
            .with_error_message(message(&error))
            .with_node_id((-1).into())
            .with_port(-1),
    }
}
