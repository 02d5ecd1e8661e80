//! A turn: commands, time and metadata become records and answers.
//!
//! Every answer waits until all is committed that the shard had written before it: reads, too, as they see the newest state,
//! which may still be lost. Apache Kafka's reads (DescribeGroups, ListGroups, ConsumerGroupDescribe, OffsetFetch without
//! `require_stable`) do not wait, but look at the state of the last committed offset, of which its timeline collections keep
//! snapshots; a shard keeps one state. So a reader sees here what it sees there or something newer, later by what commits
//! take that are under way: nothing where this broker is the only replica in sync, but for `ottla.fsync=ack`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use ottla_domain::coordinator::{EffectsOf, Event, Now, RECORD_OVERHEAD_BYTES, Shard, Token};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{Mono, Offset};
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::outbound::{Entropy, PartitionLog};
use ottla_domain::record::records::BatchBuilder;
use ottla_wire::RateLimit;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::actor::Actor;
use super::stages::Stage;
use crate::broker::LedPartition;

/// The buffers of a shard keep no more between turns: a large step is rare, and shards are many.
const BUFFER_KEPT_BYTES: usize = 64 << 10;

/// Whom to answer.
pub(super) type Answer<M> = oneshot::Sender<Result<<M as Shard>::Reply, ErrorCode>>;

/// What turns share.
pub(super) struct Core<M: Shard> {
    /// `None` until it is loaded, after it failed or was closed, and during a turn: one that panics leaves none behind.
    shard: Option<M>,
    /// The metadata that the shard has seen.
    image_offset: Offset,
    waiting: BTreeMap<Token, Answer<M>>,
    next_token: u64,
    /// Where the log ended after the last append: whoever reads the state waits until that is committed.
    seen_end: Offset,
    /// Answers that wait for the high watermark, in the order of their offsets.
    unsettled: VecDeque<Unsettled<M>>,
    /// What the actor's task waits for next.
    armed: Mono,
    key: BytesMut,
    value: BytesMut,
}

struct Unsettled<M: Shard> {
    end: Offset,
    deadline: Mono,
    answers: Vec<(Answer<M>, M::Reply)>,
}

impl<M: Shard> Default for Core<M> {
    fn default() -> Self {
        Core {
            shard: None,
            image_offset: Offset::NONE,
            waiting: BTreeMap::new(),
            next_token: 0,
            seen_end: Offset::ZERO,
            unsettled: VecDeque::new(),
            armed: Mono(0),
            key: BytesMut::new(),
            value: BytesMut::new(),
        }
    }
}

impl<M: Shard> Core<M> {
    /// The log was read into `shard`, up to `end`.
    pub(super) fn begin(&mut self, shard: M, end: Offset) {
        self.shard = Some(shard);
        self.image_offset = Offset::NONE;
        self.seen_end = end;
    }

    /// Takes the state out and tells all who wait.
    pub(super) fn take(&mut self, code: ErrorCode) -> Option<M> {
        let unsettled = self.unsettled.drain(..).flat_map(|unsettled| unsettled.answers);
        let waiting = std::mem::take(&mut self.waiting).into_values();
        for answer in unsettled.map(|(answer, _)| answer).chain(waiting) {
            // A client that is gone does not listen.
            let _ = answer.send(Err(code));
        }
        self.shard.take()
    }

    pub(super) fn shard(&self) -> Option<&M> {
        self.shard.as_ref()
    }

    pub(super) fn has_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    #[cfg(test)]
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    fn due(&self) -> Mono {
        let deadline = self.shard.as_ref().and_then(Shard::next_deadline);
        let unsettled = self.unsettled.front().map(|unsettled| unsettled.deadline);
        deadline.into_iter().chain(unsettled).min().unwrap_or(Mono(u64::MAX))
    }

    /// When the actor's task has to come next; it is woken for what is due earlier.
    pub(super) fn arm(&mut self) -> Mono {
        self.armed = self.due();
        self.armed
    }
}

/// A turn of a shard.
pub(super) struct Turn<'a, L: PartitionLog, M: Shard> {
    actor: &'a Actor<L, M>,
    core: &'a mut Core<M>,
    /// `None` once the turn cannot go on.
    shard: Option<M>,
    now: Now,
    /// What is appended at once.
    batch: BatchBuilder,
    /// Who is answered then.
    answers: Vec<(Answer<M>, M::Reply)>,
}

impl<'a, L: PartitionLog, M: Shard> Turn<'a, L, M> {
    pub(super) fn begin(actor: &'a Actor<L, M>, core: &'a mut Core<M>) -> Self {
        let shard = core.shard.take();
        if shard.is_none() {
            // After a panic in a turn nobody has said so yet.
            actor.fail();
        }
        let mut turn = Turn {
            now: actor.now(),
            actor,
            core,
            shard,
            batch: BatchBuilder::new(Offset::ZERO),
            answers: Vec::new(),
        };
        turn.settle();
        turn
    }

    /// The shard begins to lead.
    pub(super) fn loaded(&mut self) {
        if let Some(shard) = &mut self.shard {
            let effects = shard.loaded(self.now);
            self.absorb(effects);
        }
    }

    /// Shows metadata to the shard unless it has seen it, or newer.
    pub(super) fn show(&mut self, image: Arc<MetadataImage>) {
        if let Some(shard) = &mut self.shard
            && image.provenance.offset > self.core.image_offset
        {
            self.core.image_offset = image.provenance.offset;
            let effects = shard.on_image(self.now, image);
            self.absorb(effects);
        }
    }

    /// Takes a command to the shard.
    pub(super) fn handle(&mut self, command: M::Command, answer: Answer<M>) {
        // Without a shard the answer is dropped, which its client hears.
        let Some(shard) = &mut self.shard else { return };
        if let Err(code) = self.actor.partition.check_append() {
            let _ = answer.send(Err(as_coordinator_error(code)));
            return;
        }
        let token = Token(self.core.next_token);
        self.core.next_token += 1;
        self.core.waiting.insert(token, answer);
        let effects = shard.handle(self.now, self.actor.partition.tools().entropy.draw(), command, token);
        self.absorb(effects);
    }

    /// Lets the shard do what is due; false when that has to wait because nothing can be appended.
    pub(super) fn pass_time(&mut self) -> bool {
        while let Some(shard) = &mut self.shard
            && shard.next_deadline().is_some_and(|deadline| deadline <= self.now.mono)
        {
            if self.actor.partition.check_append().is_err() {
                return false;
            }
            let effects = shard.on_deadline(self.now, self.actor.partition.tools().entropy.draw());
            self.absorb(effects);
        }
        true
    }

    /// Appends what was gathered, and gives the shard back.
    pub(super) fn end(mut self) {
        self.flush();
        for buffer in [&mut self.core.key, &mut self.core.value] {
            if buffer.capacity() > BUFFER_KEPT_BYTES {
                *buffer = BytesMut::new();
            }
        }
        self.core.shard = self.shard.take();
        if self.core.due() < self.core.armed {
            self.core.armed = self.core.due();
            self.actor.poke.notify_one();
        }
    }

    /// Takes the effects of one step over: into memory at once, into the log with the batch.
    fn absorb(&mut self, effects: EffectsOf<M>) {
        let batch_max_bytes = self.actor.partition.batch_max_bytes();
        self.core.key.clear();
        self.core.value.clear();
        let size_bytes = |count: usize, key: usize, value: usize| count * RECORD_OVERHEAD_BYTES + key + value;
        let mut total_bytes = 0;
        let mut ends = Vec::with_capacity(effects.records.len());
        for record in &effects.records {
            match M::encode(record, &mut self.core.key, &mut self.core.value) {
                Ok(has_value) => ends.push((self.core.key.len(), self.core.value.len(), has_value)),
                Err(error) => return self.refuse(&effects, &error.to_string()),
            }
            total_bytes = size_bytes(ends.len(), self.core.key.len(), self.core.value.len());
            if effects.is_atomic && total_bytes > batch_max_bytes {
                break;
            }
        }
        self.make_room(total_bytes);
        if effects.is_atomic && self.batch.size_bytes() + total_bytes > batch_max_bytes {
            return self.refuse(&effects, "they are larger than max.message.bytes allows");
        }
        let (mut key_start, mut value_start) = (0, 0);
        for (record, (key_end, value_end, has_value)) in effects.records.into_iter().zip(ends) {
            self.make_room(size_bytes(1, key_end - key_start, value_end - value_start));
            let Some(shard) = &mut self.shard else { return };
            let key = self.core.key.get(key_start..key_end);
            let value = self.core.value.get(value_start..value_end).filter(|_| has_value);
            let batched = i64::try_from(self.batch.record_count()).unwrap_or(0);
            let offset = self.actor.partition.log_end_offset().plus(batched);
            self.batch.append(self.now.timestamp, key, value);
            if let Err(reason) = shard.apply(offset, None, record) {
                error!(partition = %self.actor.partition, reason, "a record of the coordinator's own makes no sense");
                return self.give_up(ErrorCode::UnknownServerError);
            }
            (key_start, value_start) = (key_end, value_end);
        }
        for event in effects.events {
            tell(&self.actor.partition, &event);
        }
        for (token, reply) in effects.replies {
            if let Some(answer) = self.core.waiting.remove(&token) {
                self.answers.push((answer, reply));
            }
        }
    }

    /// Appends the batch where so much more would make it too large.
    fn make_room(&mut self, size_bytes: usize) {
        if !self.batch.is_empty() && self.batch.size_bytes() + size_bytes > self.actor.partition.batch_max_bytes() {
            self.flush();
        }
    }

    /// Records that cannot be written. Where the step has changed nothing else, those who asked are told; else the shard's
    /// soft state has moved on, and it begins again from its log.
    fn refuse(&mut self, effects: &EffectsOf<M>, reason: &str) {
        let records = effects.records.len();
        error!(partition = %self.actor.partition, records, reason, "the coordinator's records cannot be written");
        for (token, _) in &effects.replies {
            if let Some(answer) = self.core.waiting.remove(token) {
                let _ = answer.send(Err(ErrorCode::UnknownServerError));
            }
        }
        if !effects.is_retractable {
            self.flush();
            self.give_up(ErrorCode::NotCoordinator);
        }
    }

    /// Appends what was gathered, and answers or keeps the answers until it is committed.
    fn flush(&mut self) {
        let batch = std::mem::replace(&mut self.batch, BatchBuilder::new(Offset::ZERO));
        if !batch.is_empty() {
            let begun = Instant::now();
            let appended = self.actor.partition.append(batch);
            self.actor.stages.record(Stage::Flush, begun, Instant::now());
            match appended {
                Ok(end) => self.core.seen_end = end,
                Err(code) => {
                    warn!(partition = %self.actor.partition, %code, "the coordinator could not append");
                    return self.give_up(as_coordinator_error(code));
                }
            }
        }
        let answers = std::mem::take(&mut self.answers);
        if answers.is_empty() {
            return;
        }
        if self.actor.partition.high_watermark() >= self.core.seen_end {
            return answer_all(answers);
        }
        let timeout_ms = i64::try_from(self.actor.settings.commit_timeout_ms).unwrap_or(i64::MAX);
        self.core.unsettled.push_back(Unsettled {
            end: self.core.seen_end,
            deadline: self.now.mono.plus_ms(timeout_ms),
            answers,
        });
        self.actor.poke.notify_one();
    }

    /// The state in memory is ahead of the log: drops it, to be loaded again.
    fn give_up(&mut self, code: ErrorCode) {
        self.batch = BatchBuilder::new(Offset::ZERO);
        for (answer, _) in self.answers.drain(..) {
            let _ = answer.send(Err(code));
        }
        self.core.take(code);
        self.shard = None;
        self.actor.fail();
    }

    /// Answers those whose records are committed, or waited too long for it.
    fn settle(&mut self) {
        let committed = self.actor.partition.high_watermark();
        while let Some(first) = self.core.unsettled.front() {
            if first.end <= committed {
                let settled = self.core.unsettled.pop_front();
                settled.into_iter().for_each(|settled| answer_all(settled.answers));
            } else if first.deadline <= self.now.mono {
                // The records may be committed later; the client asks again.
                let late = self.core.unsettled.pop_front();
                for (answer, _) in late.into_iter().flat_map(|late| late.answers) {
                    let _ = answer.send(Err(as_coordinator_error(ErrorCode::RequestTimedOut)));
                }
            } else {
                return;
            }
        }
    }
}

/// Tells operators of an event; clients that cause very many do not fill the log with them. Warnings are limited where logs
/// are written.
fn tell<L: PartitionLog>(partition: &LedPartition<L>, event: &impl Event) {
    static NEWS: RateLimit = RateLimit::per_second(100);
    if event.is_warning() {
        warn!(%partition, "{event}");
    } else if tracing::enabled!(tracing::Level::INFO)
        && let Some(others) = NEWS.allow()
    {
        info!(%partition, others, "{event}");
    }
}

fn answer_all<Y>(answers: Vec<(oneshot::Sender<Result<Y, ErrorCode>>, Y)>) {
    for (answer, reply) in answers {
        // A client that is gone does not listen.
        let _ = answer.send(Ok(reply));
    }
}

/// What clients are told of an append that failed, as in Kafka's `CoordinatorOperationExceptionHelper`.
fn as_coordinator_error(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        code => code,
    }
}
