//! ListGroups: the groups that this broker coordinates.
//!
//! - Version 3: flexible. 4: states (KIP-518). 5: types (KIP-848).

use std::sync::Arc;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::groups::commands::{self, ListGroups};

use super::endpoints::text;
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(16, "ListGroups", (0, 5), 3);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: ListGroupsRequest) -> ListGroupsResponse {
    let names = |filter: &[StrBytes]| Arc::new(filter.iter().map(|name| name.trim().to_lowercase()).collect());
    let filter = ListGroups {
        states: names(&request.states_filter),
        types: names(&request.types_filter),
    };
    let response = ListGroupsResponse::default();
    match call.node.list_groups(filter).await {
        Ok(groups) => {
            let groups = groups.into_iter().map(|group| render(call.version(), &group));
            response.with_groups(groups.collect())
        }
        Err(error) => response.with_error_code(error.number()),
    }
}

fn render(version: i16, group: &commands::ListedGroup) -> ListedGroup {
    let mut response = ListedGroup::default()
        .with_group_id(text(&group.group_id).into())
        .with_protocol_type(text(&group.protocol_type));
    if version >= 4 {
        response.group_state = text(group.state);
    }
    if version >= 5 {
        response.group_type = text(group.group_type);
    }
    response
}
