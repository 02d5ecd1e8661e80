//! What a log knows of its idempotent and transactional producers (KIP-98): duplicates, sequences, epochs and open
//! transactions.
//!
//! An append is two steps: [`ProducerStates::check`] says what the batch would change or why it must not be appended, and
//! [`ProducerStates::commit`] applies that once the batch is in the log. A failed append so changes nothing.

use std::collections::BTreeMap;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::log::AppendOrigin;
use crate::record::batch::{BatchHeader, NO_SEQUENCE, decrement_sequence};
use crate::record::control::EndTxnMarker;

/// How many batches of a producer are remembered to recognise duplicates; why clients keep at most 5 requests in flight.
pub const BATCHES_RETAINED: usize = 5;

/// What is remembered of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchMetadata {
    /// The sequence number of its last record.
    pub last_sequence: i32,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Its last offset less its first.
    pub offset_delta: i32,
    /// Its max timestamp.
    pub timestamp: Timestamp,
}

impl BatchMetadata {
    /// The offset of its first record.
    pub const fn first_offset(&self) -> Offset {
        self.last_offset.plus(-(self.offset_delta as i64))
    }

    /// The sequence number of its first record.
    pub const fn first_sequence(&self) -> i32 {
        decrement_sequence(self.last_sequence, self.offset_delta)
    }
}

/// The state of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_timestamp: Timestamp,
    txn_first_offset: Option<Offset>,
    batches: [BatchMetadata; BATCHES_RETAINED],
    batch_count: usize,
}

impl Default for ProducerState {
    fn default() -> Self {
        ProducerState {
            epoch: ProducerEpoch::NONE,
            coordinator_epoch: -1,
            last_timestamp: Timestamp::NONE,
            txn_first_offset: None,
            batches: Default::default(),
            batch_count: 0,
        }
    }
}

impl ProducerState {
    /// Its latest epoch.
    pub const fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// The epoch of the transaction coordinator that wrote the latest marker, or -1.
    pub const fn coordinator_epoch(&self) -> i32 {
        self.coordinator_epoch
    }

    /// The timestamp of its latest batch or marker.
    pub const fn last_timestamp(&self) -> Timestamp {
        self.last_timestamp
    }

    /// Where its open transaction begins.
    pub const fn txn_first_offset(&self) -> Option<Offset> {
        self.txn_first_offset
    }

    /// The remembered batches of the latest epoch, oldest first.
    pub fn batches(&self) -> &[BatchMetadata] {
        self.batches.get(..self.batch_count).unwrap_or_default()
    }

    /// The sequence number of the latest record, or -1.
    pub fn last_sequence(&self) -> i32 {
        self.batches().last().map_or(NO_SEQUENCE, |last| last.last_sequence)
    }

    fn move_to_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches = Default::default();
            self.batch_count = 0;
        }
    }

    fn remember(&mut self, batch: BatchMetadata) {
        if self.batch_count == BATCHES_RETAINED {
            self.batches.rotate_left(1);
            self.batch_count -= 1;
        }
        if let Some(free) = self.batches.get_mut(self.batch_count) {
            *free = batch;
            self.batch_count += 1;
        }
    }

    fn is_expired(&self, now: Timestamp, expiration_ms: i64) -> bool {
        self.txn_first_offset.is_none() && now.0.saturating_sub(self.last_timestamp.0) >= expiration_ms
    }
}

/// Why a producer's batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// A gap or a step back in the sequence numbers.
    #[error(
        "out of order sequence number for producer {producer_id} in epoch {epoch}: {first_sequence} (incoming), \
         {last_sequence} (current end sequence number)"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch.
        epoch: ProducerEpoch,
        /// The first sequence number of the batch.
        first_sequence: i32,
        /// The last one that was appended, or -1.
        last_sequence: i32,
    },
    /// A newer instance of the producer has written already.
    #[error("epoch {epoch} of producer {producer_id} is behind the last seen epoch {current}")]
    InvalidEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch.
        epoch: ProducerEpoch,
        /// The latest epoch.
        current: ProducerEpoch,
    },
    /// A batch outside of the producer's open transaction, or a transactional one that the coordinator knows nothing of.
    #[error("batch of producer {0} is not part of an ongoing transaction")]
    InvalidTxnState(ProducerId),
    /// The marker comes from a transaction coordinator that was replaced.
    #[error("coordinator epoch {coordinator_epoch} for producer {producer_id} is behind {current}")]
    CoordinatorFenced {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch in the marker.
        coordinator_epoch: i32,
        /// The latest epoch.
        current: i32,
    },
}

impl ProducerError {
    /// The code that clients get.
    pub const fn code(&self) -> ErrorCode {
        match self {
            ProducerError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            ProducerError::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            ProducerError::InvalidTxnState(_) => ErrorCode::InvalidTxnState,
            ProducerError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        }
    }
}

impl From<ProducerError> for ApiError {
    fn from(error: ProducerError) -> Self {
        error.code().with(error.to_string())
    }
}

/// What [`ProducerStates::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Append the batch, then commit this.
    New(ProducerUpdate),
    /// The batch was appended before: answer with these offsets and append nothing.
    Duplicate(BatchMetadata),
}

/// What a batch changes, to be committed when it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerUpdate {
    next_offset: Offset,
    change: Option<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    producer_id: ProducerId,
    epoch: ProducerEpoch,
    timestamp: Timestamp,
    kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChangeKind {
    Data { batch: BatchMetadata, transactional: bool },
    Marker { marker: EndTxnMarker, offset: Offset },
}

/// A transaction that was aborted: readers with isolation.level=read_committed skip its records (KIP-98's `.txnindex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker was written.
    pub last_stable_offset: Offset,
}

/// The producers of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, ProducerState>,
    /// Open transactions by their first offset.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// First offset and marker's offset of decided transactions whose marker is not below the high watermark yet.
    unreplicated: BTreeMap<Offset, Offset>,
    end_offset: Offset,
}

impl ProducerStates {
    /// The state of an empty log that begins at `offset`.
    pub fn starting_at(offset: Offset) -> ProducerStates {
        ProducerStates {
            end_offset: offset,
            ..ProducerStates::default()
        }
    }

    /// Checks a batch whose offsets are assigned. `marker` is what a control batch says ([`EndTxnMarker::of_batch`]).
    pub fn check(
        &self,
        batch: &BatchHeader,
        marker: Option<EndTxnMarker>,
        origin: AppendOrigin,
    ) -> Result<Checked, ProducerError> {
        let producer_id = batch.producer_id;
        let epoch = batch.producer_epoch;
        let state = self.producers.get(&producer_id);
        if origin == AppendOrigin::Client
            && batch.has_producer_id()
            && let Some(duplicate) = state.and_then(|state| find_duplicate(state, batch))
        {
            return Ok(Checked::Duplicate(duplicate));
        }
        let update = |change| {
            Ok(Checked::New(ProducerUpdate {
                next_offset: batch.next_offset(),
                change,
            }))
        };
        let Some(change) = Change::of(batch, marker) else {
            return match origin {
                AppendOrigin::Client if batch.attributes.is_transactional() => {
                    Err(ProducerError::InvalidTxnState(producer_id))
                }
                _ => update(None),
            };
        };
        if origin == AppendOrigin::Replication {
            return update(Some(change));
        }
        if let Some(state) = state.filter(|state| epoch < state.epoch) {
            return Err(ProducerError::InvalidEpoch {
                producer_id,
                epoch,
                current: state.epoch,
            });
        }
        match change.kind {
            ChangeKind::Marker { marker, .. } => {
                let current = state.map_or(-1, |state| state.coordinator_epoch);
                if marker.coordinator_epoch < current {
                    return Err(ProducerError::CoordinatorFenced {
                        producer_id,
                        coordinator_epoch: marker.coordinator_epoch,
                        current,
                    });
                }
            }
            ChangeKind::Data { transactional, .. } => {
                let ongoing = state.is_some_and(|state| state.txn_first_offset.is_some() && state.epoch == epoch);
                // A first transactional batch needs the coordinator's word (KIP-890), which no client can bring yet.
                if transactional && !ongoing && origin == AppendOrigin::Client {
                    return Err(ProducerError::InvalidTxnState(producer_id));
                }
                if origin == AppendOrigin::Client {
                    check_sequence(state, batch)?;
                }
                if !transactional && state.is_some_and(|state| state.txn_first_offset.is_some()) {
                    return Err(ProducerError::InvalidTxnState(producer_id));
                }
            }
        }
        update(Some(change))
    }

    /// Applies what [`ProducerStates::check`] allowed, after the batch was appended. The result belongs into the index of
    /// aborted transactions.
    pub fn commit(&mut self, update: ProducerUpdate) -> Option<AbortedTxn> {
        self.end_offset = update.next_offset;
        let change = update.change?;
        let state = self.producers.entry(change.producer_id).or_default();
        state.move_to_epoch(change.epoch);
        state.last_timestamp = change.timestamp;
        match change.kind {
            ChangeKind::Data { batch, transactional } => {
                state.remember(batch);
                if transactional && state.txn_first_offset.is_none() {
                    state.txn_first_offset = Some(batch.first_offset());
                    self.ongoing.insert(batch.first_offset(), change.producer_id);
                }
                None
            }
            ChangeKind::Marker { marker, offset } => {
                state.coordinator_epoch = marker.coordinator_epoch;
                let first_offset = state.txn_first_offset.take()?;
                self.ongoing.remove(&first_offset);
                self.unreplicated.insert(first_offset, offset);
                let next_open = self.ongoing.first_key_value().map(|(first, _)| *first);
                (!marker.committed).then_some(AbortedTxn {
                    producer_id: change.producer_id,
                    first_offset,
                    last_offset: offset,
                    last_stable_offset: next_open.unwrap_or(offset.next()),
                })
            }
        }
    }

    /// Takes in a batch that is in the log already: on recovery and on followers.
    pub fn replay(&mut self, batch: &BatchHeader, marker: Option<EndTxnMarker>) -> Option<AbortedTxn> {
        self.commit(ProducerUpdate {
            next_offset: batch.next_offset(),
            change: Change::of(batch, marker),
        })
    }

    /// The offset up to which batches were taken in.
    pub const fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The first offset that is undecided, or decided by a marker that is not replicated yet.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let first = |offset: Option<&Offset>| offset.copied();
        match (
            first(self.ongoing.keys().next()),
            first(self.unreplicated.keys().next()),
        ) {
            (Some(ongoing), Some(unreplicated)) => Some(ongoing.min(unreplicated)),
            (ongoing, unreplicated) => ongoing.or(unreplicated),
        }
    }

    /// The high watermark rose: transactions whose markers are below it no longer hold the last stable offset.
    pub fn on_high_watermark(&mut self, high_watermark: Offset) {
        if !self.unreplicated.is_empty() {
            self.unreplicated.retain(|_, marker| *marker >= high_watermark);
        }
    }

    /// The log start rose. Producers are remembered on, even when their last records are gone (KIP-360).
    pub fn on_log_start(&mut self, log_start: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= log_start);
        self.end_offset = self.end_offset.max(log_start);
    }

    /// Forgets producers that were idle for `producer.id.expiration.ms` and have no open transaction. Returns how many.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, state| !state.is_expired(now, expiration_ms));
        before - self.producers.len()
    }

    /// The state of one producer.
    pub fn get(&self, producer_id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&producer_id)
    }

    /// All producers by id, as DescribeProducers shows them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter().map(|(producer_id, state)| (*producer_id, state))
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// True when no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Takes in an entry of a snapshot; a later one of the same producer goes on where the one before ended.
    pub(super) fn restore(&mut self, producer_id: ProducerId, entry: SnapshotEntry) {
        let state = self.producers.entry(producer_id).or_default();
        state.move_to_epoch(entry.epoch);
        state.coordinator_epoch = entry.coordinator_epoch;
        state.last_timestamp = entry.timestamp;
        state.txn_first_offset = entry.txn_first_offset;
        if let Some(batch) = entry.last_batch {
            state.remember(batch);
        }
        if let Some(first_offset) = entry.txn_first_offset {
            self.ongoing.insert(first_offset, producer_id);
        }
    }
}

/// What an entry of a snapshot says of a producer: its state, and one of its batches.
pub(super) struct SnapshotEntry {
    pub(super) epoch: ProducerEpoch,
    pub(super) coordinator_epoch: i32,
    pub(super) timestamp: Timestamp,
    pub(super) txn_first_offset: Option<Offset>,
    pub(super) last_batch: Option<BatchMetadata>,
}

impl Change {
    /// What the batch changes; nothing when it has no producer, or is a control batch that ends no transaction.
    fn of(batch: &BatchHeader, marker: Option<EndTxnMarker>) -> Option<Change> {
        let kind = match (batch.attributes.is_control(), marker) {
            (false, _) => ChangeKind::Data {
                batch: BatchMetadata {
                    last_sequence: batch.last_sequence(),
                    last_offset: batch.last_offset(),
                    offset_delta: batch.last_offset_delta,
                    timestamp: batch.max_timestamp,
                },
                transactional: batch.attributes.is_transactional(),
            },
            (true, Some(marker)) => ChangeKind::Marker {
                marker,
                offset: batch.base_offset,
            },
            (true, None) => return None,
        };
        batch.has_producer_id().then_some(Change {
            producer_id: batch.producer_id,
            epoch: batch.producer_epoch,
            timestamp: batch.max_timestamp,
            kind,
        })
    }
}

fn find_duplicate(state: &ProducerState, batch: &BatchHeader) -> Option<BatchMetadata> {
    if state.epoch != batch.producer_epoch || batch.attributes.is_control() {
        return None;
    }
    state
        .batches()
        .iter()
        .find(|known| known.first_sequence() == batch.base_sequence && known.last_sequence == batch.last_sequence())
        .copied()
}

/// A producer that is not known may begin anywhere (its records may have been deleted), one in a new epoch at 0, any other
/// where it stopped.
fn check_sequence(state: Option<&ProducerState>, batch: &BatchHeader) -> Result<(), ProducerError> {
    let Some(state) = state else {
        return Ok(());
    };
    let first_sequence = batch.base_sequence;
    let last_sequence = match state.epoch == batch.producer_epoch {
        true => state.last_sequence(),
        false => NO_SEQUENCE,
    };
    let in_sequence = match last_sequence {
        i32::MAX => first_sequence == 0,
        last => first_sequence == last.wrapping_add(1),
    };
    if in_sequence || state.epoch == ProducerEpoch::NONE {
        return Ok(());
    }
    Err(ProducerError::OutOfOrderSequence {
        producer_id: batch.producer_id,
        epoch: batch.producer_epoch,
        first_sequence,
        last_sequence,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::batch::increment_sequence;
    use crate::record::records::BatchBuilder;

    const PRODUCER: ProducerId = ProducerId(1);

    fn batch(epoch: i16, first_sequence: i32, records: usize, base_offset: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new(Offset(base_offset));
        builder.producer_id = PRODUCER;
        builder.producer_epoch = ProducerEpoch(epoch);
        builder.base_sequence = first_sequence;
        for _ in 0..records {
            builder.append(Timestamp(base_offset), None, None);
        }
        builder.build().header
    }

    fn transactional(batch: BatchHeader) -> BatchHeader {
        BatchHeader {
            attributes: batch.attributes.with_transactional(true),
            ..batch
        }
    }

    fn marker_batch(epoch: i16, offset: i64, marker: EndTxnMarker) -> BatchHeader {
        marker
            .batch(PRODUCER, ProducerEpoch(epoch), Timestamp(offset))
            .header
            .with_offset(Offset(offset), crate::ids::LeaderEpoch(0))
    }

    fn append(states: &mut ProducerStates, batch: &BatchHeader) -> Result<Option<BatchMetadata>, ErrorCode> {
        match states
            .check(batch, None, AppendOrigin::Client)
            .map_err(|error| error.code())?
        {
            Checked::Duplicate(known) => Ok(Some(known)),
            Checked::New(update) => {
                assert_eq!(states.commit(update), None);
                Ok(None)
            }
        }
    }

    #[test]
    fn a_checked_batch_that_was_not_committed_changes_nothing() {
        let mut states = ProducerStates::default();
        append(&mut states, &batch(0, 0, 2, 0)).unwrap();
        let before = states.clone();
        states.check(&batch(0, 2, 1, 2), None, AppendOrigin::Client).unwrap();
        states
            .check(&batch(0, 5, 1, 2), None, AppendOrigin::Client)
            .unwrap_err();
        assert_eq!(states, before);
    }

    #[test]
    fn sequences_continue_across_the_wrap_and_new_epochs_begin_at_zero() {
        let mut states = ProducerStates::default();
        assert_eq!(
            append(&mut states, &batch(0, i32::MAX - 1, 2, 0)),
            Ok(None),
            "unknown producers begin anywhere"
        );
        assert_eq!(
            append(&mut states, &batch(0, 1, 1, 2)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(append(&mut states, &batch(0, 0, 3, 2)), Ok(None));
        assert_eq!(
            append(&mut states, &batch(1, 3, 1, 5)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(append(&mut states, &batch(1, 0, 1, 5)), Ok(None));
        assert_eq!(
            append(&mut states, &batch(0, 3, 1, 6)),
            Err(ErrorCode::InvalidProducerEpoch)
        );
    }

    #[test]
    fn the_last_five_batches_are_recognised_by_their_exact_range() {
        let mut states = ProducerStates::default();
        for index in 0..6 {
            append(&mut states, &batch(0, index * 2, 2, i64::from(index) * 10)).unwrap();
        }
        let known = append(&mut states, &batch(0, 2, 2, 99)).unwrap().unwrap();
        assert_eq!(
            (known.first_offset(), known.last_offset, known.timestamp),
            (Offset(10), Offset(11), Timestamp(10))
        );
        assert_eq!(
            append(&mut states, &batch(0, 0, 2, 99)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(
            append(&mut states, &batch(0, 2, 1, 99)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
    }

    #[test]
    fn transactions_hold_the_first_unstable_offset_until_their_marker_is_replicated() {
        let mut states = ProducerStates::default();
        let first = transactional(batch(3, 0, 2, 10));
        assert_eq!(append(&mut states, &first), Err(ErrorCode::InvalidTxnState));
        states.replay(&first, None);
        assert_eq!(
            append(&mut states, &batch(3, 2, 1, 12)),
            Err(ErrorCode::InvalidTxnState)
        );
        assert_eq!(append(&mut states, &transactional(batch(3, 2, 1, 12))), Ok(None));
        assert_eq!(states.first_unstable_offset(), Some(Offset(10)));

        let marker = |coordinator_epoch| EndTxnMarker {
            committed: false,
            coordinator_epoch,
        };
        let abort = marker_batch(3, 13, marker(7));
        let Ok(Checked::New(update)) = states.check(&abort, Some(marker(7)), AppendOrigin::Coordinator) else {
            panic!("a marker of the current coordinator is accepted");
        };
        let aborted = AbortedTxn {
            producer_id: PRODUCER,
            first_offset: Offset(10),
            last_offset: Offset(13),
            last_stable_offset: Offset(14),
        };
        assert_eq!(states.commit(update), Some(aborted));
        states.on_high_watermark(Offset(13));
        assert_eq!(states.first_unstable_offset(), Some(Offset(10)));
        states.on_high_watermark(Offset(14));
        assert_eq!(states.first_unstable_offset(), None);

        let stale = states.check(
            &marker_batch(3, 14, marker(6)),
            Some(marker(6)),
            AppendOrigin::Coordinator,
        );
        assert_eq!(stale.unwrap_err().code(), ErrorCode::TransactionCoordinatorFenced);
        let zombie = states.check(
            &marker_batch(2, 14, marker(7)),
            Some(marker(7)),
            AppendOrigin::Coordinator,
        );
        assert_eq!(zombie.unwrap_err().code(), ErrorCode::InvalidProducerEpoch);
    }

    #[test]
    fn idle_producers_expire_unless_a_transaction_is_open() {
        let mut states = ProducerStates::default();
        append(&mut states, &batch(0, 0, 1, 100)).unwrap();
        assert_eq!(states.expire(Timestamp(149), 50), 0);
        assert_eq!(states.expire(Timestamp(150), 50), 1);
        states.replay(&transactional(batch(0, 0, 1, 100)), None);
        assert_eq!(states.expire(Timestamp(1_000), 50), 0);
    }

    /// The rules written down once more, over the full history of one producer.
    #[derive(Default)]
    struct Model {
        epoch: i16,
        /// Epoch, first sequence, last sequence and base offset of every batch in the log.
        history: Vec<(i16, i32, i32, i64)>,
    }

    impl Model {
        fn append(&mut self, batch: &BatchHeader) -> Result<Option<Offset>, ErrorCode> {
            let epoch = batch.producer_epoch.0;
            let range = (
                batch.base_sequence,
                increment_sequence(batch.base_sequence, batch.last_offset_delta),
            );
            let of_epoch = self.history.iter().filter(|known| known.0 == self.epoch);
            let recent: Vec<_> = of_epoch.rev().take(BATCHES_RETAINED).collect();
            if epoch == self.epoch
                && let Some(known) = recent.iter().find(|known| (known.1, known.2) == range)
            {
                return Ok(Some(Offset(known.3)));
            }
            if !self.history.is_empty() {
                if epoch < self.epoch {
                    return Err(ErrorCode::InvalidProducerEpoch);
                }
                let expected = match recent.first() {
                    Some(last) if epoch == self.epoch => increment_sequence(last.2, 1),
                    _ => 0,
                };
                if batch.base_sequence != expected {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
            }
            self.epoch = epoch;
            self.history.push((epoch, range.0, range.1, batch.base_offset.0));
            Ok(None)
        }
    }

    proptest! {
        #[test]
        fn sequence_rules_agree_with_the_model(
            start in prop_oneof![Just(0), Just(i32::MAX - 4), 0..i32::MAX],
            steps in proptest::collection::vec((0i16..3, -14i32..4, 1usize..4), 1..60),
        ) {
            let mut states = ProducerStates::default();
            let mut model = Model::default();
            let mut expected = start;
            let mut epoch = 0;
            let mut offset = 0;
            for (epoch_step, sequence_step, records) in steps {
                // Mostly the next batch or a retry of a recent one in the same epoch, now and then another epoch.
                let other_epoch = epoch_step == 2 && sequence_step > 0;
                let batch_epoch = if other_epoch { epoch + (sequence_step % 3 - 1) as i16 } else { epoch };
                let first = match sequence_step {
                    0 => 0,
                    1.. => expected,
                    back => crate::record::batch::decrement_sequence(expected, -back),
                };
                let batch = batch(batch_epoch.max(0), first, records, offset);
                let answer = append(&mut states, &batch);
                prop_assert_eq!(answer.map(|known| known.map(|known| known.first_offset())), model.append(&batch));
                if answer == Ok(None) {
                    epoch = batch.producer_epoch.0;
                    expected = increment_sequence(batch.last_sequence(), 1);
                    offset += records as i64;
                }
            }
        }
    }
}
