//! InitProducerId: an id for an idempotent producer (KIP-98). Transactional ids answer UNSUPPORTED_VERSION until
//! transactions exist.
//!
//! - Version 2: flexible. 3: the producer tells the id that it has (KIP-360). 4: PRODUCER_FENCED. 5: TRANSACTION_ABORTABLE.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{ProducerEpoch, ProducerId};

use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(22, "InitProducerId", (0, 5), 2);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let has_id = ProducerId(request.producer_id.0) != ProducerId::NONE;
    let has_epoch = ProducerEpoch(request.producer_epoch) != ProducerEpoch::NONE;
    let result = if has_id != has_epoch {
        Err(ErrorCode::InvalidRequest)
    } else if request.transactional_id.is_some() {
        Err(ErrorCode::UnsupportedVersion)
    } else {
        call.node.next_producer_id().await
    };
    match result {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(id.0.into())
            .with_producer_epoch(0),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.number())
            .with_producer_id(ProducerId::NONE.0.into())
            .with_producer_epoch(ProducerEpoch::NONE.0),
    }
}
