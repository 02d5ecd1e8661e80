//! UnregisterBroker: forgets a broker that will not come back (KIP-631).

use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_domain::ids::BrokerId;
use ottla_domain::metadata::controller::brokers::UnregisterBroker;

use super::endpoints::text;
use super::{Api, Call, DEFAULT_TIMEOUT_MS};
use crate::node::Node;

pub(super) static API: Api = Api::both(64, "UnregisterBroker", (0, 0), 0).forwardable();

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let command = UnregisterBroker {
        broker: BrokerId(request.broker_id.0),
    };
    match call.submit(command, DEFAULT_TIMEOUT_MS).await {
        Ok(()) => UnregisterBrokerResponse::default(),
        Err(error) => UnregisterBrokerResponse::default()
            .with_error_code(error.code.number())
            .with_error_message(error.message.as_deref().map(text)),
    }
}
