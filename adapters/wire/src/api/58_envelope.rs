//! Envelope: a broker passes on what a client asked of the controller (KIP-590).
//!
//! The answer holds the answer of the request inside, with its header. UNSUPPORTED_VERSION says that the request inside
//! cannot be read, NOT_CONTROLLER that another node must be asked.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{EnvelopeRequest, EnvelopeResponse};
use ottla_domain::error::ErrorCode;

use super::{Answer, Api, Call, Request, dispatch};
use crate::node::Node;
use crate::response::Part;

pub(super) static API: Api = Api::controller(58, "Envelope", (0, 0), 0);

/// What the request inside may take once decoded: only the request outside is charged for. Brokers forward the changes of
/// their clients, of which the largest are of some MiB and have long names in them.
const DECODED_MAX_BYTES: usize = 16 << 20;

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: EnvelopeRequest) -> EnvelopeResponse {
    let refuse = |error: ErrorCode| {
        EnvelopeResponse::default()
            .with_response_data(None)
            .with_error_code(error.number())
    };
    if !matches!(request.client_host_address.len(), 4 | 16) {
        return refuse(ErrorCode::InvalidRequest);
    }
    let inner = match Request::parse(request.request_data, call.listener.kind) {
        Ok(inner) if inner.api.forwardable => inner,
        Ok(_) => return refuse(ErrorCode::InvalidRequest),
        Err(_) => return refuse(ErrorCode::UnsupportedVersion),
    };
    if inner.check(DECODED_MAX_BYTES).is_err() {
        return refuse(ErrorCode::UnsupportedVersion);
    }
    let inner_call = Call {
        node: call.node,
        listener: call.listener,
        peer: call.peer,
        account: call.account,
        request: &inner,
        not_controller: AtomicBool::new(false),
        by_follower: AtomicBool::new(false),
    };
    // Boxed, because the future would otherwise hold itself.
    let answer = Box::pin(dispatch(&inner_call)).await;
    if inner_call.not_controller.load(Ordering::Relaxed) {
        return refuse(ErrorCode::NotController);
    }
    match answer {
        Ok(Answer::Now(response)) => EnvelopeResponse::default().with_response_data(Some(without_size(response.parts))),
        Ok(Answer::Later(_) | Answer::Silent) => refuse(ErrorCode::InvalidRequest),
        Err(_) => refuse(ErrorCode::UnsupportedVersion),
    }
}

/// A frame without the length in front. Answers of forwarded requests have no regions of files.
fn without_size<R>(parts: Vec<Part<R>>) -> Bytes {
    let mut frame = BytesMut::new();
    for part in parts {
        if let Part::Bytes(bytes) = part {
            frame.extend_from_slice(&bytes);
        }
    }
    frame.split_off(frame.len().min(4)).freeze()
}
