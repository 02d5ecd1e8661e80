//! ControllerRegistration: a controller tells the active one where it is reached and what it supports (KIP-919).

use kafka_protocol::messages::{ControllerRegistrationRequest, ControllerRegistrationResponse};
use ottla_domain::metadata::controller::brokers::RegisterController;
use ottla_domain::metadata::records::{ControllerEndpoint, ControllerFeature, RegisterControllerRecord};

use super::endpoints::text;
use super::{Api, Call, DEFAULT_TIMEOUT_MS};
use crate::node::Node;

pub(super) static API: Api = Api::controller(70, "ControllerRegistration", (0, 0), 0);

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: ControllerRegistrationRequest,
) -> ControllerRegistrationResponse {
    let end_points = request.listeners.iter().map(|listener| ControllerEndpoint {
        name: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
        security_protocol: listener.security_protocol,
        ..ControllerEndpoint::default()
    });
    let features = request.features.iter().map(|feature| ControllerFeature {
        name: feature.name.to_string(),
        min_supported_version: feature.min_supported_version,
        max_supported_version: feature.max_supported_version,
        ..ControllerFeature::default()
    });
    let command = RegisterController(RegisterControllerRecord {
        controller_id: request.controller_id,
        incarnation_id: request.incarnation_id,
        zk_migration_ready: request.zk_migration_ready,
        end_points: end_points.collect(),
        features: features.collect(),
        ..RegisterControllerRecord::default()
    });
    match call.submit(command, DEFAULT_TIMEOUT_MS).await {
        Ok(()) => ControllerRegistrationResponse::default(),
        Err(error) => ControllerRegistrationResponse::default()
            .with_error_code(error.code.number())
            .with_error_message(error.message.as_deref().map(text)),
    }
}
