//! LeaveGroup: members leave, or an administrator removes them.
//!
//! - Version 3: several members, each with an outcome of its own, and static members by their instance ids (KIP-345).
//!   Before, the one member's outcome is that of the whole.
//! - Version 4: flexible. 5: reasons (KIP-800).

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::{LeaveGroup, LeavingMember, Left};

use super::endpoints::text;
use super::groups::{shared, shared_option};
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(13, "LeaveGroup", (0, 5), 4);
const SEVERAL_MEMBERS_FROM: i16 = 3;

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let left = call.node.group(command(call.version(), &request)).await;
    render(call.version(), left)
}

fn command(version: i16, request: &LeaveGroupRequest) -> LeaveGroup {
    let leaving = |member: &MemberIdentity| LeavingMember {
        member_id: shared(&member.member_id),
        group_instance_id: shared_option(member.group_instance_id.as_ref()),
        reason: member.reason.as_deref().map(str::to_owned),
    };
    LeaveGroup {
        group_id: shared(&request.group_id),
        members: if version >= SEVERAL_MEMBERS_FROM {
            request.members.iter().map(leaving).collect()
        } else {
            vec![leaving(
                &MemberIdentity::default().with_member_id(request.member_id.clone()),
            )]
        },
    }
}

fn render(version: i16, left: Result<Left, ErrorCode>) -> LeaveGroupResponse {
    let (error, members) = match left {
        Ok(left) => (left.error, left.members),
        Err(error) => (error, Vec::new()),
    };
    let response = LeaveGroupResponse::default();
    if version < SEVERAL_MEMBERS_FROM {
        let of_member = members.first().map_or(ErrorCode::None, |(_, _, error)| *error);
        let error = if error.is_none() { of_member } else { error };
        return response.with_error_code(error.number());
    }
    let members = members.into_iter().map(|(member_id, group_instance_id, error)| {
        MemberResponse::default()
            .with_member_id(text(&member_id))
            .with_group_instance_id(group_instance_id.as_deref().map(text))
            .with_error_code(error.number())
    });
    response.with_error_code(error.number()).with_members(members.collect())
}
