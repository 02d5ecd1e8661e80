//! DescribeGroups: classic groups and their members.
//!
//! - A group that is named twice is answered once.
//! - Version 3: authorized operations (KIP-430). 4: static members (KIP-345). 5: flexible.
//! - Version 6: GROUP_ID_NOT_FOUND and a message; before, a group that does not exist is `Dead` (KIP-1043).

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::groups::commands::{self, DescribeGroup, DescribedMember};

use super::endpoints::text;
use super::groups::shared;
use super::{Api, Call, operations};
use crate::node::Node;

pub(super) static API: Api = Api::broker(15, "DescribeGroups", (0, 6), 5);
const DEAD: &str = "Dead";

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut seen = BTreeSet::new();
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in request.groups {
        if !seen.insert(id.clone()) {
            continue;
        }
        let command = DescribeGroup { group_id: shared(&id) };
        let described = match call.node.group(command).await {
            Ok(described) => described,
            Err(error) => Err(error.into()),
        };
        let mut group = render(call.version(), id, described);
        if request.include_authorized_operations && group.error_code == ErrorCode::None.number() {
            group.authorized_operations = operations::ON_GROUP;
        }
        groups.push(group);
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

fn render(version: i16, id: GroupId, described: Result<commands::DescribedGroup, ApiError>) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(id);
    match described {
        Ok(described) => {
            let members = described.members.into_iter();
            group
                .with_group_state(text(described.state))
                .with_protocol_type(text(&described.protocol_type))
                .with_protocol_data(text(&described.protocol_name))
                .with_members(members.map(|one| member(version, one)).collect())
        }
        Err(error) if error.code == ErrorCode::GroupIdNotFound => {
            let group = group.with_group_state(StrBytes::from_static_str(DEAD));
            if version >= 6 {
                group
                    .with_error_code(error.code.number())
                    .with_error_message(error.message.as_deref().map(text))
            } else {
                group
            }
        }
        Err(error) => group.with_error_code(error.code.number()),
    }
}

fn member(version: i16, member: DescribedMember) -> DescribedGroupMember {
    let response = DescribedGroupMember::default()
        .with_member_id(text(&member.member_id))
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment);
    if version >= 4 {
        response.with_group_instance_id(member.group_instance_id.as_deref().map(text))
    } else {
        response
    }
}
