//! DescribeAcls: there is no authorizer, so the answer is SECURITY_DISABLED, as Apache Kafka's without one.
//!
//! - Version 2: flexible. 3: user resources.

use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::ErrorCode;

use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(29, "DescribeAcls", (1, 3), 2);

pub(super) async fn handle<N: Node>(_: &Call<'_, N>, _: DescribeAclsRequest) -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(ErrorCode::SecurityDisabled.number())
        .with_error_message(Some(StrBytes::from_static_str(
            "No Authorizer is configured on the broker",
        )))
}
