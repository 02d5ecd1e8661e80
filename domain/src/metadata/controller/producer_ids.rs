//! Blocks of producer ids for brokers (KIP-730).

use super::{Command, Context, Outcome};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerEpoch, BrokerId, ProducerId};
use crate::metadata::records::{MetadataRecord, ProducerIdsRecord};

/// How many ids a broker is given at a time.
pub const BLOCK_IDS: i64 = 1000;

/// AllocateProducerIds: a broker asks for a block of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocateProducerIds {
    /// Who asks.
    pub broker: BrokerId,
    /// In which life.
    pub broker_epoch: BrokerEpoch,
}

/// Ids that nobody else is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first of them.
    pub first: ProducerId,
    /// How many.
    pub count: i32,
}

impl Command for AllocateProducerIds {
    type Reply = ProducerIdBlock;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<ProducerIdBlock>, ApiError> {
        context.image.checked_broker(self.broker, self.broker_epoch)?;
        let first = context.image.next_producer_id.unwrap_or(ProducerId(0));
        let Some(next) = first.0.checked_add(BLOCK_IDS) else {
            let message =
                "Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit";
            return Err(ErrorCode::UnknownServerError.with(message));
        };
        Ok(Outcome {
            records: vec![MetadataRecord::ProducerIds(ProducerIdsRecord {
                broker_id: self.broker.0,
                broker_epoch: self.broker_epoch.0,
                next_producer_id: next,
                ..ProducerIdsRecord::default()
            })],
            reply: ProducerIdBlock {
                first,
                count: BLOCK_IDS as i32,
            },
        })
    }
}
