//! BrokerRegistration: a broker that starts tells the controller who and where it is (KIP-631).
//!
//! - Version 1: brokers that migrate from ZooKeeper, which are refused. 2: log directories (KIP-858). 3: the broker epoch of
//!   the last clean shutdown (KIP-966). 4: features whose lowest level is 0.

use kafka_protocol::messages::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerEpoch, BrokerId, DirectoryId};
use ottla_domain::metadata::controller::brokers::RegisterBroker;
use ottla_domain::metadata::records::{BrokerEndpoint, BrokerFeature};

use super::{Api, Call, DEFAULT_TIMEOUT_MS};
use crate::node::Node;

pub(super) static API: Api = Api::controller(62, "BrokerRegistration", (0, 4), 0);

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: BrokerRegistrationRequest,
) -> BrokerRegistrationResponse {
    if request.is_migrating_zk_broker {
        return BrokerRegistrationResponse::default().with_error_code(ErrorCode::BrokerIdNotRegistered.number());
    }
    let endpoints = request.listeners.iter().map(|listener| BrokerEndpoint {
        name: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
        security_protocol: listener.security_protocol,
        ..BrokerEndpoint::default()
    });
    let features = request.features.iter().map(|feature| BrokerFeature {
        name: feature.name.to_string(),
        min_supported_version: feature.min_supported_version,
        max_supported_version: feature.max_supported_version,
        ..BrokerFeature::default()
    });
    let command = RegisterBroker {
        broker: BrokerId(request.broker_id.0),
        cluster_id: request.cluster_id.to_string(),
        incarnation_id: request.incarnation_id,
        endpoints: endpoints.collect(),
        features: features.collect(),
        rack: request.rack.map(|rack| rack.to_string()),
        log_directories: request.log_dirs.into_iter().map(DirectoryId).collect(),
        previous_broker_epoch: (call.version() >= 3).then_some(BrokerEpoch(request.previous_broker_epoch)),
    };
    match call.submit(command, DEFAULT_TIMEOUT_MS).await {
        Ok(epoch) => BrokerRegistrationResponse::default().with_broker_epoch(epoch.0),
        Err(error) => BrokerRegistrationResponse::default().with_error_code(error.code.number()),
    }
}
