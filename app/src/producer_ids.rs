//! Ids for idempotent producers, from blocks that the controller hands out (KIP-730).

use std::time::Duration;

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerEpoch, BrokerId, ProducerId};
use ottla_domain::metadata::controller::producer_ids::{AllocateProducerIds, ProducerIdBlock};
use ottla_domain::ports::inbound::ControllerApi;
use tokio::sync::Mutex;

/// How long a new block may take.
const TIMEOUT_MS: i32 = 5_000;

/// The block that this broker hands out from.
#[derive(Debug, Default)]
pub struct ProducerIds {
    block: Mutex<Option<ProducerIdBlock>>,
}

impl ProducerIds {
    /// An id that no other producer has. COORDINATOR_LOAD_IN_PROGRESS, which clients retry, while no block can be had.
    pub async fn next<C: ControllerApi>(
        &self,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        controller: &C,
    ) -> Result<ProducerId, ErrorCode> {
        // Behind others who wait for a block, each as long, it is better to be asked again.
        let patience = Duration::from_millis(u64::from(TIMEOUT_MS.unsigned_abs()));
        let block = tokio::time::timeout(patience, self.block.lock()).await;
        let mut block = block.map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
        if let Some(id) = block.as_mut().and_then(take) {
            return Ok(id);
        }
        let allocated = controller
            .submit(AllocateProducerIds { broker, broker_epoch }, TIMEOUT_MS)
            .await;
        *block = Some(allocated.map_err(|_| ErrorCode::CoordinatorLoadInProgress)?);
        block
            .as_mut()
            .and_then(take)
            .ok_or(ErrorCode::CoordinatorLoadInProgress)
    }
}

fn take(block: &mut ProducerIdBlock) -> Option<ProducerId> {
    let id = block.first;
    block.count = block.count.checked_sub(1).filter(|left| *left >= 0)?;
    block.first = ProducerId(id.0.checked_add(1)?);
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_handed_out_to_its_end() {
        let mut block = ProducerIdBlock {
            first: ProducerId(5),
            count: 2,
        };
        assert_eq!(take(&mut block), Some(ProducerId(5)));
        assert_eq!(take(&mut block), Some(ProducerId(6)));
        assert_eq!(take(&mut block), None);
    }
}
