//! AllocateProducerIds: a broker asks the controller for a block of producer ids (KIP-730).

use kafka_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use ottla_domain::ids::{BrokerEpoch, BrokerId};
use ottla_domain::metadata::controller::producer_ids::AllocateProducerIds;

use super::{Api, Call, DEFAULT_TIMEOUT_MS};
use crate::node::Node;

pub(super) static API: Api = Api::controller(67, "AllocateProducerIds", (0, 0), 0).forwardable();

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: AllocateProducerIdsRequest,
) -> AllocateProducerIdsResponse {
    let command = AllocateProducerIds {
        broker: BrokerId(request.broker_id.0),
        broker_epoch: BrokerEpoch(request.broker_epoch),
    };
    match call.submit(command, DEFAULT_TIMEOUT_MS).await {
        Ok(block) => AllocateProducerIdsResponse::default()
            .with_producer_id_start(block.first.0.into())
            .with_producer_id_len(block.count),
        Err(error) => AllocateProducerIdsResponse::default().with_error_code(error.code.number()),
    }
}
