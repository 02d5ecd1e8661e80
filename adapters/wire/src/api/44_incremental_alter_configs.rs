//! IncrementalAlterConfigs: sets, deletes, appends to and subtracts from single settings (KIP-339).
//!
//! - Version 1: flexible.
//! - Levels of the loggers of this node change at run time (KIP-412).

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::metadata::controller::configs::{AlterConfigs, ConfigChange, ConfigOp};
use ottla_domain::metadata::image::{ConfigResource, ConfigResourceType};
use ottla_domain::metadata::loggers;

use super::endpoints::message;
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(44, "IncrementalAlterConfigs", (0, 1), 1).forwardable();

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let changes: Vec<_> = request.resources.iter().map(change).collect();
    let results = alter(call, changes, request.validate_only).await;
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

/// Levels of loggers change here and now; settings are the controller's.
async fn alter<N: Node>(
    call: &Call<'_, N>,
    changes: Vec<ConfigChange>,
    validate_only: bool,
) -> Vec<Result<(), ApiError>> {
    let is_logger = |change: &ConfigChange| change.resource.kind == ConfigResourceType::BrokerLogger;
    let of_logger = |change| alter_loggers(call, change, &changes, validate_only);
    let of_loggers: Vec<_> = changes
        .iter()
        .map(|change| is_logger(change).then(|| of_logger(change)))
        .collect();
    let settings: Vec<_> = changes.into_iter().filter(|change| !is_logger(change)).collect();
    let count = settings.len();
    let mut of_settings = Vec::new().into_iter();
    if count > 0 {
        let command = AlterConfigs {
            changes: settings,
            replaces_all: false,
            validate_only,
            received_by: call.broker(),
        };
        of_settings = call.submit_each(command, count).await.into_iter();
    }
    let missing = || Err(ErrorCode::UnknownServerError.into());
    of_loggers
        .into_iter()
        .map(|result| result.or_else(|| of_settings.next()).unwrap_or_else(missing))
        .collect()
}

fn alter_loggers<N: Node>(
    call: &Call<'_, N>,
    change: &ConfigChange,
    all: &[ConfigChange],
    validate_only: bool,
) -> Result<(), ApiError> {
    change.check_alone(all)?;
    let known = call.node.loggers();
    let levels = loggers::check(call.node.node_id(), change, |logger| known.contains_key(logger))?;
    if !validate_only {
        for (logger, level) in levels {
            call.node.set_log_level(&logger, level);
        }
    }
    Ok(())
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
