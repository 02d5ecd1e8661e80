//! Heartbeat: a member of a classic group lives.
//!
//! - While the group is being loaded, the member is told that all is well.
//! - Version 3: static members (KIP-345). 4: flexible.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::Heartbeat;

use super::groups::{shared, shared_option};
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(12, "Heartbeat", (0, 4), 4).served_at_limit();

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: HeartbeatRequest) -> HeartbeatResponse {
    let command = Heartbeat {
        group_id: shared(&request.group_id),
        generation_id: request.generation_id,
        member_id: shared(&request.member_id),
        group_instance_id: shared_option(request.group_instance_id.as_ref()),
    };
    let error = match call.node.group(command).await {
        Ok(error) => error,
        Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Err(error) => error,
    };
    HeartbeatResponse::default().with_error_code(error.number())
}
