//! Everything that changes with an append, kept under one lock by the partition and restored by recovery.

use crate::error::ApiError;
use crate::ids::Offset;
use crate::log::epochs::LeaderEpochHistory;
use crate::log::offsets::LogOffsets;
use crate::log::producers::{AbortedTxn, ProducerStates, ProducerUpdate};
use crate::record::batch::BatchHeader;
use crate::record::control::EndTxnMarker;

/// The state of a log that its segments imply, kept in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Log start, high watermark and log end.
    pub offsets: LogOffsets,
    /// The leader epochs of the log.
    pub epochs: LeaderEpochHistory,
    /// Its producers.
    pub producers: ProducerStates,
}

/// What an append left to be persisted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// The leader epoch history changed.
    pub epochs_changed: bool,
    /// An entry for the index of aborted transactions.
    pub aborted_txn: Option<AbortedTxn>,
}

impl LogState {
    /// The state of an empty log that begins at `offset`.
    pub fn empty_at(offset: Offset) -> LogState {
        LogState {
            offsets: LogOffsets::new(offset, offset, offset),
            epochs: LeaderEpochHistory::default(),
            producers: ProducerStates::starting_at(offset),
        }
    }

    /// The offset below which every transaction is decided.
    pub fn last_stable_offset(&self) -> Offset {
        self.offsets.last_stable(self.producers.first_unstable_offset())
    }

    /// A leader appended this batch, which [`ProducerStates::check`] had allowed.
    pub fn commit(&mut self, batch: &BatchHeader, update: ProducerUpdate) -> Appended {
        let aborted_txn = self.producers.commit(update);
        self.appended(batch, aborted_txn)
    }

    /// A follower appended this batch, or recovery found it.
    pub fn replay(&mut self, batch: &BatchHeader, marker: Option<EndTxnMarker>) -> Appended {
        let aborted_txn = self.producers.replay(batch, marker);
        self.appended(batch, aborted_txn)
    }

    fn appended(&mut self, batch: &BatchHeader, aborted_txn: Option<AbortedTxn>) -> Appended {
        self.offsets.advance_log_end(batch.next_offset());
        Appended {
            epochs_changed: self.epochs.assign(batch.partition_leader_epoch, batch.base_offset),
            aborted_txn,
        }
    }

    /// Raises the high watermark; true when it rose.
    pub fn raise_high_watermark(&mut self, high_watermark: Offset) -> bool {
        let raised = self.offsets.raise_high_watermark(high_watermark);
        if raised {
            self.producers.on_high_watermark(self.offsets.high_watermark());
        }
        raised
    }

    /// Sets the high watermark that a leader told; it may fall. Returns it, brought between log start and log end.
    pub fn set_high_watermark(&mut self, high_watermark: Offset) -> Offset {
        let high_watermark = self.offsets.set_high_watermark(high_watermark);
        self.producers.on_high_watermark(high_watermark);
        high_watermark
    }

    /// Raises the log start, by retention or DeleteRecords; true when it rose.
    pub fn raise_log_start(&mut self, log_start: Offset) -> Result<bool, ApiError> {
        let raised = self.offsets.raise_log_start(log_start)?;
        if raised {
            self.epochs.truncate_from_start(log_start);
            self.producers.on_log_start(log_start);
        }
        Ok(raised)
    }

    /// The log was cut at `log_end`. `producers` is the state up to there, from a snapshot and the batches behind it.
    pub fn truncate_to(&mut self, log_end: Offset, producers: ProducerStates) {
        self.offsets.truncate_to(log_end);
        // Also when the log was shorter already: this leader may have begun an epoch without appending in it.
        self.epochs.truncate_from_end(self.offsets.log_end());
        self.producers = producers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId, Timestamp};
    use crate::record::records::BatchBuilder;

    fn batch(base_offset: i64, epoch: i32) -> BatchHeader {
        let mut builder = BatchBuilder::new(Offset(base_offset));
        builder.partition_leader_epoch = LeaderEpoch(epoch);
        builder.producer_id = ProducerId(7);
        builder.producer_epoch = ProducerEpoch(0);
        builder.base_sequence = base_offset as i32;
        builder
            .append(Timestamp(1), None, None)
            .append(Timestamp(1), None, None);
        builder.build().header
    }

    #[test]
    fn appends_truncation_and_retention_move_everything_together() {
        let mut state = LogState::empty_at(Offset::ZERO);
        assert!(state.replay(&batch(0, 1), None).epochs_changed);
        assert!(!state.replay(&batch(2, 1), None).epochs_changed);
        let at_four = state.clone();
        assert!(state.replay(&batch(4, 3), None).epochs_changed);
        assert!(state.raise_high_watermark(Offset(6)));

        state.truncate_to(Offset(4), at_four.producers.clone());
        assert_eq!(
            (state.offsets.log_end(), state.offsets.high_watermark()),
            (Offset(4), Offset(4))
        );
        assert_eq!(state.epochs, at_four.epochs);
        assert_eq!(
            state
                .producers
                .get(ProducerId(7))
                .map(|producer| producer.last_sequence()),
            Some(3)
        );

        assert_eq!(state.raise_log_start(Offset(3)), Ok(true));
        assert!(state.raise_log_start(Offset(5)).is_err());
        assert_eq!(state.epochs.latest().map(|entry| entry.start_offset), Some(Offset(3)));
        assert_eq!(state.set_high_watermark(Offset(1)), Offset(3));
    }
}
