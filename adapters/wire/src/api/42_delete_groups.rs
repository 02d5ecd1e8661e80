//! DeleteGroups: groups without members go, with their offsets.
//!
//! - A group that is named twice is deleted once. Version 2: flexible.

use std::collections::BTreeSet;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::DeleteGroup;

use super::groups::shared;
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(42, "DeleteGroups", (0, 2), 2);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut seen = BTreeSet::new();
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in request.groups_names {
        if !seen.insert(id.clone()) {
            continue;
        }
        let error = match call.node.group(DeleteGroup { group_id: shared(&id) }).await {
            Ok(Ok(())) => ErrorCode::None,
            Ok(Err(error)) => error.code,
            Err(error) => error,
        };
        results.push(
            DeletableGroupResult::default()
                .with_group_id(id)
                .with_error_code(error.number()),
        );
    }
    DeleteGroupsResponse::default().with_results(results)
}
