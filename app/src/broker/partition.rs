//! One replica on this broker: its log, what appends change under a lock, and what readers see without one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{BrokerId, LeaderEpoch, Mono, Offset, PartitionId, ProducerId, Timestamp, TopicId};
use ottla_domain::log::AppendOrigin;
use ottla_domain::log::config::LogConfig;
use ottla_domain::log::offsets::LogOffsets;
use ottla_domain::log::producers::{Checked, ProducerState, ProducerStates};
use ottla_domain::log::retention::next_deletion;
use ottla_domain::log::state::LogState;
use ottla_domain::log::validation::{RecordFault, Rejection, Rules, Validated, validate};
use ottla_domain::ports::inbound::{Acks, ActiveProducer, FetchPartition, Fetched, Isolation, Produced};
use ottla_domain::ports::outbound::{Clock, EncodedBatch, OpenedLog, PartitionLog, StorageError};
use ottla_domain::record::compression::Compression;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::produce::{AppendOptions, failed};
use super::stalls::lock;
use super::traffic::{Count, Traffic};
use super::waiters::Waiters;
use super::{Durability, Tools};

/// Appends of one partition that wait for the disk at a time.
const SLOW_APPENDS_MAX: usize = 4;

/// Who leads the partition, as the metadata says.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    pub(super) leader: BrokerId,
    pub(super) epoch: LeaderEpoch,
    /// The leader is this broker.
    pub(super) is_leader: bool,
    pub(super) isr_count: usize,
    /// The other brokers that have a replica.
    pub(super) others: Arc<[BrokerId]>,
}

/// Who reads: a consumer (`BrokerId::NONE`) or a follower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) replica: BrokerId,
    pub(super) isolation: Isolation,
}

impl Leadership {
    /// As in Kafka, no more replicas have to be in sync than there are.
    fn min_isr(&self, config: &LogConfig) -> usize {
        (self.others.len() + 1).min(config.min_insync_replicas as usize)
    }
}

/// A replica.
pub(super) struct Partition<L: PartitionLog> {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) id: PartitionId,
    pub(super) waiters: Waiters,
    pub(super) traffic: Traffic,
    log: Arc<L>,
    durability: Durability,
    config: ArcSwap<LogConfig>,
    leadership: ArcSwap<Leadership>,
    /// Counts how often this broker has begun to lead: a term goes on through epochs of the same leader.
    terms: AtomicU64,
    /// Changed by appends, one at a time.
    state: Mutex<LogState>,
    /// What `state` says, for readers. Written under its lock.
    high_watermark: AtomicI64,
    last_stable: AtomicI64,
    /// The replica left this broker: whoever waits should look again.
    closed: AtomicBool,
    /// A sync is under way; whoever appends meanwhile is served by its next round.
    syncing: AtomicBool,
    /// Taken by appends that wait for the disk: a partition that stalls does not use up the threads for such.
    pub(super) slow_lane: Semaphore,
    /// When `flush.ms` was last obeyed (`Mono`).
    flushed: AtomicU64,
    /// The last sync failed.
    failed: AtomicBool,
}

/// Shown as `topic-0`.
struct Name<'a> {
    topic: &'a str,
    id: PartitionId,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.id)
    }
}

/// An append that succeeded.
pub(super) struct Appended {
    pub(super) answer: Produced,
    /// What must be settled before the answer may leave.
    pub(super) unsettled_end: Option<Offset>,
}

impl<L: PartitionLog> Partition<L> {
    pub(super) fn new(opened: OpenedLog<L>, config: Arc<LogConfig>, durability: Durability) -> Self {
        let nobody = Leadership {
            leader: BrokerId::NONE,
            epoch: LeaderEpoch::UNKNOWN,
            is_leader: false,
            isr_count: 0,
            others: Arc::default(),
        };
        let partition = Partition {
            topic: opened.topic,
            topic_id: opened.topic_id,
            id: opened.partition,
            waiters: Waiters::default(),
            traffic: Traffic::default(),
            log: opened.log,
            durability,
            config: ArcSwap::new(config),
            leadership: ArcSwap::from_pointee(nobody),
            terms: AtomicU64::new(0),
            high_watermark: AtomicI64::new(0),
            last_stable: AtomicI64::new(0),
            state: Mutex::new(opened.state),
            closed: AtomicBool::new(false),
            syncing: AtomicBool::new(false),
            slow_lane: Semaphore::new(SLOW_APPENDS_MAX),
            failed: AtomicBool::new(false),
            flushed: AtomicU64::new(0),
        };
        partition.publish(&partition.state.lock());
        partition
    }

    pub(super) fn log(&self) -> &Arc<L> {
        &self.log
    }

    /// True when an append waits for the disk: then it belongs on a blocking thread.
    pub(super) fn is_slow(&self) -> bool {
        self.log.is_slow() || self.config.load().flush_messages < i64::MAX
    }

    /// The settings in effect.
    /// What to call it: `topic-0`.
    pub(super) fn name(&self) -> impl fmt::Display + '_ {
        Name {
            topic: &self.topic,
            id: self.id,
        }
    }

    pub(super) fn offsets(&self) -> LogOffsets {
        lock(&self.state).offsets
    }

    /// A copy of what is known of producers.
    pub(super) fn producers(&self) -> ProducerStates {
        lock(&self.state).producers.clone()
    }

    pub(super) fn is_resident(&self, offset: Offset) -> bool {
        self.log.is_resident(offset)
    }

    pub(super) fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    pub(super) fn batch_max_bytes(&self) -> usize {
        usize::try_from(self.config.load().max_message_bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn set_config(&self, config: Arc<LogConfig>) {
        self.log.set_config(Arc::clone(&config));
        self.config.store(config);
    }

    /// The replica leaves this broker: waiting requests look again and find it gone.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.waiters.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Takes over what the metadata says of the leader. A new epoch of this leader begins at the log's end.
    pub(super) fn set_leadership(&self, leadership: Leadership) -> Result<(), StorageError> {
        if leadership.is_leader && self.durability == Durability::Ack {
            // What recovery found may be in the page cache alone. Synced before anyone hears who leads, or the high watermark
            // would show less than was acknowledged.
            self.log.sync()?;
        }
        let mut state = lock(&self.state);
        if leadership.is_leader {
            let end = state.offsets.log_end();
            if state.epochs.assign(leadership.epoch, end) {
                self.log.store_epochs(&state)?;
            }
        }
        let is_leader = leadership.is_leader;
        if is_leader && !self.is_leader() {
            self.terms.fetch_add(1, Ordering::SeqCst);
        }
        self.leadership.store(Arc::new(leadership));
        if is_leader {
            self.advance_high_watermark(&mut state);
        }
        drop(state);
        self.waiters.wake();
        Ok(())
    }

    pub(super) fn is_leader(&self) -> bool {
        self.leadership.load().is_leader
    }

    /// How many replicas are in sync, compared with how many have to be.
    pub(super) fn isr_to_min(&self) -> std::cmp::Ordering {
        let leadership = self.leadership.load();
        leadership.isr_count.cmp(&leadership.min_isr(&self.config.load()))
    }

    pub(super) fn term(&self) -> u64 {
        self.terms.load(Ordering::SeqCst)
    }

    pub(super) fn leader_epoch(&self) -> LeaderEpoch {
        self.leadership.load().epoch
    }

    /// Checks that this broker leads, and the epoch that the client knows (KIP-320).
    pub(super) fn check_leader(&self, current_leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        let leadership = self.leadership.load();
        if self.is_closed() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        // Any negative epoch is none, as in Kafka.
        if current_leader_epoch.0 >= 0 {
            match current_leader_epoch.cmp(&leadership.epoch) {
                std::cmp::Ordering::Less => return Err(ErrorCode::FencedLeaderEpoch),
                std::cmp::Ordering::Greater => return Err(ErrorCode::UnknownLeaderEpoch),
                std::cmp::Ordering::Equal => {}
            }
        }
        if leadership.is_leader {
            Ok(())
        } else {
            Err(ErrorCode::NotLeaderOrFollower)
        }
    }

    pub(super) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    pub(super) fn last_stable_offset(&self) -> Offset {
        Offset(self.last_stable.load(Ordering::Acquire))
    }

    pub(super) fn log_start_offset(&self) -> Offset {
        self.log.log_start_offset()
    }

    /// The offset below which a reader may read.
    pub(super) fn readable_end(&self, replica: BrokerId, isolation: Isolation) -> Offset {
        match isolation {
            _ if replica != BrokerId::NONE => self.log.log_end_offset(),
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// Where a leader epoch ends in this log (KIP-101): the largest epoch at or below it, and its end.
    pub(super) fn epoch_end(&self, leader_epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let state = lock(&self.state);
        state.epochs.end_offset_for(leader_epoch, state.offsets.log_end())
    }

    /// The epoch of the log's first record, if it is known.
    pub(super) fn earliest_epoch(&self) -> LeaderEpoch {
        let state = lock(&self.state);
        state
            .epochs
            .epoch_for_offset(state.offsets.log_start())
            .unwrap_or(LeaderEpoch::UNKNOWN)
    }

    /// Checks what a client sent: checksums and record framing need no lock, offsets do.
    pub(super) fn validate(
        &self,
        records: &Bytes,
        options: AppendOptions,
        tools: &Tools,
        compression: &dyn Compression,
    ) -> Result<Validated, Box<Produced>> {
        let config = self.config.load();
        let name = Name {
            topic: &self.topic,
            id: self.id,
        };
        let rules = Rules {
            config: &config,
            origin: AppendOrigin::Client,
            zstd_allowed: options.zstd_allowed,
            trust_compressed_headers: tools.trust_compressed,
            partition: &name,
        };
        self.check_append(&config, options).map_err(|code| self.refused(code))?;
        validate(records, &rules, compression, tools.clock.now()).map_err(|rejection| self.rejected(rejection))
    }

    /// Checks the producer, assigns offsets, writes, and makes the records visible.
    pub(super) fn append(
        &self,
        validated: &Validated,
        options: AppendOptions,
        tools: &Tools,
    ) -> Result<Appended, Box<Produced>> {
        let config = self.config.load();
        let mut state = lock(&self.state);
        let leader_epoch = self.check_append(&config, options).map_err(|code| self.refused(code))?;
        let now = tools.clock.now();
        let log_append_time = if validated.has_log_append_time() {
            now
        } else {
            Timestamp::NONE
        };
        let base_offset = state.offsets.log_end();
        let header = validated.place(base_offset, leader_epoch, now);
        let update = match state.producers.check(&header, None, AppendOrigin::Client) {
            Ok(Checked::New(update)) => update,
            Ok(Checked::Duplicate(known)) => {
                // As in Kafka, a duplicate has a time even where the producer's own times count.
                let end = known.last_offset.next();
                return Ok(self.answered(known.first_offset(), end, known.timestamp, options.acks));
            }
            Err(error) => return Err(Box::new(failed(self.id, ApiError::from(error)))),
        };
        let batch = EncodedBatch {
            header,
            header_bytes: header.encode(),
            body: validated.body().clone(),
        };
        tools
            .inline_writes
            .run(|| self.log.append(std::slice::from_ref(&batch), &state, now))
            .map_err(|error| self.refused(error.code()))?;
        state.commit(&header, update);
        let is_flush_due = header.next_offset().0.saturating_sub(self.log.synced_offset().0) >= config.flush_messages;
        if self.durability == Durability::None && !is_flush_due {
            self.advance_high_watermark(&mut state);
        }
        drop(state);
        if is_flush_due {
            // `flush.messages`: the producer waits for the disk, as in Kafka. Other appends go on.
            self.log.sync().map_err(|error| self.refused(error.code()))?;
            self.advance_high_watermark(&mut lock(&self.state));
        }
        self.waiters.wake();
        self.traffic
            .add(Count::MessagesIn, u64::try_from(header.record_count).unwrap_or(0));
        self.traffic.add(Count::BytesIn, header.size_bytes() as u64);
        Ok(self.answered(base_offset, header.next_offset(), log_append_time, options.acks))
    }

    /// What an append needs, whatever its records are.
    pub(super) fn check_append(&self, config: &LogConfig, options: AppendOptions) -> Result<LeaderEpoch, ErrorCode> {
        self.check_leader(LeaderEpoch::UNKNOWN)?;
        let leadership = self.leadership.load();
        if options.term.is_some_and(|term| term != self.term()) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if options.acks == Acks::All && leadership.isr_count < leadership.min_isr(config) {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        Ok(leadership.epoch)
    }

    /// A follower reads beyond the high watermark: it must be one.
    fn check_follower(&self, replica: BrokerId, current_leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        if !replica.is_broker() || self.leadership.load().others.contains(&replica) {
            return Ok(());
        }
        // It may know of a reassignment before this broker does, and asks again.
        Err(match current_leader_epoch {
            LeaderEpoch::UNKNOWN => ErrorCode::NotLeaderOrFollower,
            _ => ErrorCode::UnknownLeaderEpoch,
        })
    }

    /// The answer to an append, and how far it has to get before it may leave.
    fn answered(&self, base_offset: Offset, end: Offset, log_append_time: Timestamp, acks: Acks) -> Appended {
        let answer = Produced {
            partition: self.id,
            error: None,
            base_offset,
            log_append_time,
            log_start_offset: self.log_start_offset(),
            current_leader: None,
        };
        let unsettled_end = (acks != Acks::None && self.is_settled(end, acks).is_none()).then_some(end);
        Appended { answer, unsettled_end }
    }

    fn rejected(&self, rejection: Rejection) -> Box<Produced> {
        debug!(topic = %self.topic, partition = %self.id, %rejection, "refused a batch");
        let message = rejection.client_message().map(str::to_owned);
        let mut answer = failed(
            self.id,
            ApiError {
                code: rejection.code,
                message,
            },
        );
        // Kafka tells where the log starts unless the batch as a whole was no batch it could look into.
        let is_opaque = matches!(
            rejection.code,
            ErrorCode::CorruptMessage
                | ErrorCode::MessageTooLarge
                | ErrorCode::InvalidRecord
                | ErrorCode::UnsupportedCompressionType
        );
        if !rejection.record_errors.is_empty() || !is_opaque {
            answer.log_start_offset = self.log_start_offset();
        }
        if let Some(error) = &mut answer.error {
            let fault = |fault: RecordFault| (fault.index, Some(fault.message));
            error.record_errors = rejection.record_errors.into_iter().map(fault).collect();
        }
        Box::new(answer)
    }

    fn refused(&self, code: ErrorCode) -> Box<Produced> {
        let mut answer = failed(self.id, code.into());
        if code == ErrorCode::NotLeaderOrFollower {
            let leadership = self.leadership.load();
            answer.current_leader = Some((leadership.leader, leadership.epoch));
        }
        Box::new(answer)
    }

    /// Whether everything below `end` reached what `acks` asks; `None` while it may still.
    pub(super) fn is_settled(&self, end: Offset, acks: Acks) -> Option<Result<(), ErrorCode>> {
        let reached = match acks {
            Acks::None => true,
            Acks::Leader => self.durability == Durability::None || self.log.synced_offset() >= end,
            Acks::All => self.high_watermark() >= end,
        };
        match reached {
            true => Some(Ok(())),
            false if self.is_closed() => Some(Err(ErrorCode::NotLeaderOrFollower)),
            false if self.failed.load(Ordering::SeqCst) => Some(Err(ErrorCode::KafkaStorageError)),
            false => None,
        }
    }

    /// With one replica in sync, what is stored is replicated: the high watermark follows the log's end, or what is on
    /// disk when the node syncs before it acknowledges.
    fn advance_high_watermark(&self, state: &mut LogState) {
        let stored = match self.durability {
            Durability::None => state.offsets.log_end(),
            Durability::Ack => self.log.synced_offset(),
        };
        state.raise_high_watermark(stored);
        self.publish(state);
    }

    fn publish(&self, state: &LogState) {
        self.last_stable.store(state.last_stable_offset().0, Ordering::Release);
        self.high_watermark
            .store(state.offsets.high_watermark().0, Ordering::Release);
    }

    /// True when something appended waits for the disk (`ottla.fsync=ack`) and the caller is the one to run
    /// [`Partition::run_sync`]; false also when one that is under way will see to it.
    pub(super) fn claim_sync(&self) -> bool {
        self.durability == Durability::Ack
            && self.log.synced_offset() < self.log.log_end_offset()
            && !self.syncing.swap(true, Ordering::SeqCst)
    }

    /// Syncs until everything appended is on disk, for all who wait. The caller has claimed it. Blocks.
    pub(super) fn run_sync(&self) {
        loop {
            let outcome = self.log.sync();
            if outcome.is_ok() {
                self.advance_high_watermark(&mut lock(&self.state));
            }
            self.failed.store(outcome.is_err(), Ordering::SeqCst);
            // A swap, not a store: it reads what those wrote who found a sync under way and count on another round, and so
            // their appends are seen below.
            self.syncing.swap(false, Ordering::SeqCst);
            self.waiters.wake();
            let is_done = outcome.is_err() || self.log.synced_offset() >= self.log.log_end_offset();
            if is_done || self.syncing.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Syncs when the last time this was done is `flush.ms` ago. Blocks.
    pub(super) fn flush_when_due(&self, now: Mono) {
        let due = now.ms_since(Mono(self.flushed.load(Ordering::Relaxed))) >= self.config.load().flush_ms;
        if due && self.log.synced_offset() < self.log.log_end_offset() {
            self.flushed.store(now.0, Ordering::Relaxed);
            if !self.syncing.swap(true, Ordering::SeqCst) {
                self.run_sync();
            }
        }
    }

    /// Reads for a consumer or a follower. May block on the disk unless the offset is resident.
    pub(super) fn read(
        &self,
        request: &FetchPartition,
        reader: Reader,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Fetched<L::Region> {
        self.try_read(request, reader, max_bytes, at_least_one)
            .unwrap_or_else(|error| {
                let mut fetched = Fetched::failed(self.id, error);
                let moved = matches!(error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
                if moved && reader.replica.0 < 0 {
                    let leadership = self.leadership.load();
                    fetched.current_leader = Some((leadership.leader, leadership.epoch));
                }
                fetched
            })
    }

    fn try_read(
        &self,
        request: &FetchPartition,
        reader: Reader,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Fetched<L::Region>, ErrorCode> {
        if self.is_closed() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        self.check_leader(request.current_leader_epoch)?;
        self.check_follower(reader.replica, request.current_leader_epoch)?;
        let mut fetched = Fetched {
            error: ErrorCode::None,
            high_watermark: self.high_watermark(),
            last_stable_offset: self.last_stable_offset(),
            log_start_offset: self.log_start_offset(),
            ..Fetched::failed(self.id, ErrorCode::None)
        };
        if request.last_fetched_epoch != LeaderEpoch::UNKNOWN {
            let (epoch, end) = self.epoch_end(request.last_fetched_epoch);
            if epoch == LeaderEpoch::UNKNOWN || end == Offset::NONE {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            if epoch < request.last_fetched_epoch || end < request.fetch_offset {
                fetched.diverging_epoch = Some((epoch, end));
                return Ok(fetched);
            }
        }
        let log_end = self.log.log_end_offset();
        if request.fetch_offset < fetched.log_start_offset || request.fetch_offset > log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let upper = self.readable_end(reader.replica, reader.isolation);
        if request.fetch_offset < upper {
            let read = self.log.read(request.fetch_offset, upper, max_bytes, at_least_one);
            fetched.records = Some(read.map_err(|error| error.code())?);
        }
        if reader.isolation == Isolation::ReadCommitted {
            // Transactions do not exist yet, so none was aborted.
            fetched.aborted = Some(Vec::new());
        }
        Ok(fetched)
    }

    /// Raises the log start to `before`, or to the high watermark for -1. Blocks.
    pub(super) fn delete_records(&self, before: Offset) -> Result<Offset, ErrorCode> {
        self.check_leader(LeaderEpoch::UNKNOWN)?;
        let policy = self.config.load().cleanup_policy;
        if policy.compact && !policy.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let high_watermark = lock(&self.state).offsets.high_watermark();
        let before = if before == Offset::NONE { high_watermark } else { before };
        if before < Offset::ZERO || before > high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        self.raise_log_start(before)?;
        Ok(self.log_start_offset())
    }

    /// Raises the log start to an offset that is not above the high watermark. The lock is not held while the disk is
    /// waited for: appends go on.
    fn raise_log_start(&self, log_start: Offset) -> Result<(), ErrorCode> {
        self.log.advance_log_start(log_start).map_err(|error| error.code())?;
        let mut state = lock(&self.state);
        state.raise_log_start(log_start).map_err(|error| error.code)?;
        self.publish(&state);
        drop(state);
        self.waiters.wake();
        Ok(())
    }

    /// Deletes the segments that retention lets go, and returns how many. Blocks.
    pub(super) fn apply_retention(&self, now: Timestamp) -> Result<usize, ErrorCode> {
        let config = self.config.load();
        let mut count = 0;
        loop {
            // The first look at segments reads the index; not under the lock.
            self.log.segments();
            let state = lock(&self.state);
            let deletion = next_deletion(&config, &state.offsets, &self.log.segments(), now);
            let Some(deletion) = deletion.filter(|_| !self.is_closed()) else {
                return Ok(count);
            };
            if deletion.new_log_start == state.offsets.log_end() {
                self.log.roll(&state).map_err(|error| error.code())?;
            }
            let log_start = deletion.new_log_start.max(state.offsets.log_start());
            drop(state);
            self.raise_log_start(log_start)?;
            count += deletion.segment_count;
            info!(topic = %self.topic, partition = %self.id, segments = deletion.segment_count,
                new_log_start = %log_start, reason = ?deletion.reason, "deleted segments");
        }
    }

    /// Forgets producers that were idle for long.
    pub(super) fn expire_producers(&self, now: Timestamp, expiration_ms: i64) {
        lock(&self.state).producers.expire(now, expiration_ms);
    }

    /// A copy of the state, for the snapshot of a clean stop.
    pub(super) fn state(&self) -> LogState {
        lock(&self.state).clone()
    }

    pub(super) fn active_producers(&self) -> Vec<ActiveProducer> {
        let state = lock(&self.state);
        let show = |(producer_id, producer): (ProducerId, &ProducerState)| ActiveProducer {
            producer_id,
            producer_epoch: producer.epoch(),
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_timestamp(),
            coordinator_epoch: producer.coordinator_epoch(),
            current_txn_start_offset: producer.txn_first_offset().unwrap_or(Offset::NONE),
        };
        state.producers.iter().map(show).collect()
    }
}

#[cfg(test)]
impl<L: PartitionLog> Partition<L> {
    /// Led by a broker that has the only replica.
    pub(super) fn lead_alone(&self, epoch: LeaderEpoch, is_leader: bool) {
        let leadership = Leadership {
            leader: BrokerId(1),
            epoch,
            is_leader,
            isr_count: 1,
            others: Arc::default(),
        };
        self.set_leadership(leadership).unwrap();
    }
}

#[cfg(test)]
mod tests;
