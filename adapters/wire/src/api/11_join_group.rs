//! JoinGroup: a member joins a classic group or takes part in its rebalance, and waits until the others have come.
//!
//! - The answer may take as long as the rebalance; other requests of the connection wait until then, as in Kafka.
//! - Version 1: a rebalance timeout, which is the session timeout before. 4: who has no member id is told one and comes
//!   again with it (KIP-394). 5: static members (KIP-345). 6: flexible.
//! - Version 7: the protocol type, and null for no protocol (KIP-559). 8: reasons (KIP-800). 9: leaders that need not
//!   assign (KIP-814).

use std::sync::Arc;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::{JoinGroup, Joined, JoinedMember};

use super::endpoints::text;
use super::groups::{detached, shared, shared_option};
use super::{Api, Call, Refusal};
use crate::node::Node;

pub(super) static API: Api = Api::broker(11, "JoinGroup", (0, 9), 6);

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: JoinGroupRequest,
) -> Result<JoinGroupResponse, Refusal> {
    let version = call.version();
    let joined = call.group_in_rebalance(command(call, &request)).await?;
    // Only a group tells a member its own id.
    let refused = |error: ErrorCode| Joined::refused(error, Arc::default());
    Ok(render(version, joined.unwrap_or_else(refused)))
}

fn command<N: Node>(call: &Call<'_, N>, request: &JoinGroupRequest) -> JoinGroup {
    let version = call.version();
    let protocols = request.protocols.iter();
    JoinGroup {
        group_id: shared(&request.group_id),
        member_id: shared(&request.member_id),
        group_instance_id: shared_option(request.group_instance_id.as_ref()),
        client_id: call.client_id(),
        client_host: call.client_host(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version >= 1 {
            request.rebalance_timeout_ms
        } else {
            request.session_timeout_ms
        },
        protocol_type: shared(&request.protocol_type),
        protocols: protocols
            .map(|protocol| (shared(&protocol.name), detached(&protocol.metadata)))
            .collect(),
        reason: request.reason.as_deref().map(str::to_owned),
        requires_known_member_id: version >= 4,
        supports_skipping_assignment: version >= 9,
    }
}

fn render(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter();
    let mut response = JoinGroupResponse::default()
        .with_error_code(joined.error.number())
        .with_generation_id(joined.generation_id)
        .with_protocol_name(
            joined
                .protocol_name
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(text),
        )
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member_id))
        .with_members(members.map(|one| member(version, one)).collect());
    if version >= 7 {
        response.protocol_type = joined.protocol_type.as_deref().map(text);
    } else {
        response.protocol_name.get_or_insert_with(StrBytes::default);
    }
    if version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    response
}

fn member(version: i16, member: JoinedMember) -> JoinGroupResponseMember {
    let response = JoinGroupResponseMember::default()
        .with_member_id(text(&member.member_id))
        .with_metadata(member.metadata);
    if version >= 5 {
        response.with_group_instance_id(member.group_instance_id.as_deref().map(text))
    } else {
        response
    }
}
