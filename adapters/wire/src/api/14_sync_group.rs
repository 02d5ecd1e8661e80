//! SyncGroup: a member of a classic group asks for its assignment and waits until the leader has brought all of them.
//!
//! - As with JoinGroup, other requests of the connection wait meanwhile.
//! - Version 3: static members (KIP-345). 4: flexible. 5: the protocol, which must be the group's (KIP-559).

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::{SyncGroup, Synced};

use super::endpoints::text;
use super::groups::{detached, shared, shared_option};
use super::{Api, Call, Refusal};
use crate::node::Node;

pub(super) static API: Api = Api::broker(14, "SyncGroup", (0, 5), 4);
const PROTOCOL_FROM: i16 = 5;

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: SyncGroupRequest,
) -> Result<SyncGroupResponse, Refusal> {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let synced = if call.version() >= PROTOCOL_FROM && !names_protocol {
        Err(ErrorCode::InconsistentGroupProtocol)
    } else {
        call.group_in_rebalance(command(&request)).await?
    };
    Ok(render(call.version(), synced.unwrap_or_else(Synced::refused)))
}

fn command(request: &SyncGroupRequest) -> SyncGroup {
    let assignments = request.assignments.iter();
    SyncGroup {
        group_id: shared(&request.group_id),
        generation_id: request.generation_id,
        member_id: shared(&request.member_id),
        group_instance_id: shared_option(request.group_instance_id.as_ref()),
        protocol_type: shared_option(request.protocol_type.as_ref()),
        protocol_name: shared_option(request.protocol_name.as_ref()),
        assignments: assignments
            .map(|one| (shared(&one.member_id), detached(&one.assignment)))
            .collect(),
    }
}

fn render(version: i16, synced: Synced) -> SyncGroupResponse {
    let response = SyncGroupResponse::default()
        .with_error_code(synced.error.number())
        .with_assignment(synced.assignment);
    if version >= PROTOCOL_FROM {
        response
            .with_protocol_type(synced.protocol_type.as_deref().map(text))
            .with_protocol_name(synced.protocol_name.as_deref().map(text))
    } else {
        response
    }
}
