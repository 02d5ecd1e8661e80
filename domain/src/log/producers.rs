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

    pub(super) fn restore(&mut self, producer_id: ProducerId, entry: SnapshotEntry) {
        let mut state = ProducerState {
            epoch: entry.epoch,
            coordinator_epoch: entry.coordinator_epoch,
            last_timestamp: entry.timestamp,
            txn_first_offset: entry.txn_first_offset,
            ..ProducerState::default()
        };
        if let Some(batch) = entry.last_batch {
            state.remember(batch);
        }
        if let Some(first_offset) = entry.txn_first_offset {
            self.ongoing.insert(first_offset, producer_id);
        }
        self.producers.insert(producer_id, state);
    }
}

/// What a snapshot keeps of a producer: its last batch only.
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
