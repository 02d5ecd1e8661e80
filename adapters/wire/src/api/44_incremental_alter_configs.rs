//! IncrementalAlterConfigs: sets, deletes, appends to and subtracts from single settings (KIP-339).
//!
//! - Version 1: flexible.

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_domain::metadata::controller::configs::{AlterConfigs, ConfigChange, ConfigOp};
use ottla_domain::metadata::image::{ConfigResource, ConfigResourceType};

use super::endpoints::message;
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(44, "IncrementalAlterConfigs", (0, 1), 1).forwardable();

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let command = AlterConfigs {
        changes: request.resources.iter().map(change).collect(),
        replaces_all: false,
        validate_only: request.validate_only,
        received_by: call.broker(),
    };
    let results = call.submit_each(command, request.resources.len()).await;
    let responses = request.resources.into_iter().zip(results).map(|(resource, result)| {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_message(None);
        match result {
            Ok(()) => response,
            Err(error) => response
                .with_error_code(error.code.number())
                .with_error_message(message(&error)),
        }
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn change(resource: &AlterConfigsResource) -> ConfigChange {
    let kind = ConfigResourceType::from_number(resource.resource_type);
    let ops = resource.configs.iter().map(|config| {
        let value = config.value.as_ref().map(|value| value.to_string());
        (
            config.name.to_string(),
            ConfigOp::from_number(config.config_operation),
            value,
        )
    });
    ConfigChange {
        resource: ConfigResource::new(kind, &*resource.resource_name),
        resource_type: resource.resource_type,
        ops: ops.collect(),
    }
}
