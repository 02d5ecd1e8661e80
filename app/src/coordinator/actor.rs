//! One shard at work: its mailbox, its turns, what it appends, and whom it answers when.
//!
//! A turn runs on the thread of whoever brings a letter while no other turn runs; letters that come meanwhile are taken by
//! the turn that runs, and their records share its batch. So a lone request never changes threads, and a crowd shares writes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use ottla_domain::coordinator::{Effects, Now, Shard, Token};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{Mono, Offset};
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::outbound::{Clock, Entropy, PartitionLog};
use ottla_domain::record::records::BatchBuilder;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::{error, warn};

use super::loading::load;
use super::{CoordinatorFacts, CoordinatorSettings};
use crate::broker::{Changes, LedPartition};

/// Letters that may wait for a turn.
const MAILBOX_MAX: usize = 10_000;
/// Letters that share a batch.
const BATCH_LETTERS_MAX: usize = 1_000;
/// Batches that one thread makes in a row before another goes on.
const ROUNDS_MAX: usize = 16;
/// The overhead of a record in a batch, at most: length, attributes, deltas, header count.
const RECORD_OVERHEAD_BYTES: usize = 40;
/// How long the actor's task sleeps when nothing is due.
const NOTHING_DUE: Duration = Duration::from_secs(3_600);
/// How long the actor's task leaves a turn alone that runs on another thread.
const BUSY_DELAY: Duration = Duration::from_millis(5);
/// How long a shard that could not go on waits before it is loaded again.
const RELOAD_DELAY: Duration = Duration::from_millis(500);

/// For how long a load is told of: Kafka looks back for one to two of its windows of 30 s.
const LOADS_KEPT: Duration = Duration::from_secs(60);

const LOADING: u8 = 0;
const ACTIVE: u8 = 1;
const FAILED: u8 = 2;
const CLOSED: u8 = 3;

/// Makes an empty shard.
pub(super) type Make<M> = Arc<dyn Fn(&Arc<MetadataImage>) -> M + Send + Sync>;
type Answer<M> = oneshot::Sender<Result<<M as Shard>::Reply, ErrorCode>>;

/// Takes a shard from the loaded state to its next answer.
pub(super) struct Actor<L: PartitionLog, M: Shard> {
    pub(super) partition: LedPartition<L>,
    settings: Arc<CoordinatorSettings>,
    /// Where timers and loading run.
    runtime: Handle,
    /// The newest metadata.
    image: Mutex<Arc<MetadataImage>>,
    phase: AtomicU8,
    /// When it was loaded last, and how long that took.
    loaded: Mutex<Option<(Instant, Duration)>>,
    mailbox: Mutex<VecDeque<Letter<M>>>,
    core: Mutex<Core<M>>,
    /// Wakes the actor's task.
    poke: Notify,
}

enum Letter<M: Shard> {
    Command(M::Command, Answer<M>),
    Image(Arc<MetadataImage>),
}

struct Core<M: Shard> {
    /// `None` until it is loaded, and after it failed or was closed.
    shard: Option<M>,
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

/// The batch that a turn gathers.
struct Gathered<M: Shard> {
    batch: BatchBuilder,
    answers: Vec<(Answer<M>, M::Reply)>,
}

impl<M: Shard> Default for Gathered<M> {
    fn default() -> Self {
        Gathered {
            batch: BatchBuilder::new(Offset::ZERO),
            answers: Vec::new(),
        }
    }
}

impl<L: PartitionLog, M: Shard> Actor<L, M> {
    pub(super) fn new(partition: LedPartition<L>, settings: Arc<CoordinatorSettings>, runtime: Handle) -> Arc<Self> {
        Arc::new(Actor {
            core: Mutex::new(Core {
                shard: None,
                waiting: BTreeMap::new(),
                next_token: 0,
                seen_end: Offset::ZERO,
                unsettled: VecDeque::new(),
                armed: Mono(u64::MAX),
                key: BytesMut::new(),
                value: BytesMut::new(),
            }),
            partition,
            settings,
            runtime,
            image: Mutex::default(),
            phase: AtomicU8::new(LOADING),
            loaded: Mutex::default(),
            mailbox: Mutex::default(),
            poke: Notify::new(),
        })
    }

    /// Loads the shard from the log and keeps its time; does so again when it could not go on with what it had in memory.
    pub(super) fn start(self: &Arc<Self>, make: Make<M>, image: Arc<MetadataImage>) {
        let actor = Arc::clone(self);
        *self.image.lock() = image;
        self.runtime.spawn(async move {
            while actor.load(&make).await {
                actor.keep_time().await;
                tokio::time::sleep(RELOAD_DELAY).await;
                if actor.partition.is_closed() || !actor.change_phase(FAILED, LOADING) {
                    break;
                }
            }
        });
    }

    /// It is the actor of this partition in this epoch.
    pub(super) fn serves(&self, partition: &LedPartition<L>) -> bool {
        self.partition.is_same(partition) && self.phase.load(Ordering::SeqCst) != CLOSED
    }

    fn change_phase(&self, from: u8, to: u8) -> bool {
        let swapped = self
            .phase
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        swapped.is_ok()
    }

    async fn load(self: &Arc<Self>, make: &Make<M>) -> bool {
        let (actor, make) = (Arc::clone(self), Arc::clone(make));
        let loading = self.runtime.spawn_blocking(move || {
            let started = Instant::now();
            let mut shard = make(&actor.image.lock().clone());
            let is_wanted = || actor.phase.load(Ordering::SeqCst) == LOADING;
            let end = load(
                &actor.partition,
                &mut shard,
                actor.settings.load_buffer_bytes,
                is_wanted,
            )?;
            let now = actor.now();
            let mut core = actor.core.lock();
            core.seen_end = end;
            let effects = shard.loaded(now);
            core.shard = Some(shard);
            let mut gathered = Gathered::default();
            actor.absorb(&mut core, &mut gathered, now, effects);
            actor.flush(&mut core, gathered, now);
            drop(core);
            let loaded = Instant::now();
            *actor.loaded.lock() = Some((loaded, loaded - started));
            actor.change_phase(LOADING, ACTIVE);
            // One that came while the shard was loading.
            let newest = actor.image.lock().clone();
            actor.show(newest);
            Ok::<_, String>(())
        });
        let reason = match loading.await {
            Ok(Ok(())) => return true,
            Ok(Err(reason)) => reason,
            Err(error) => error.to_string(),
        };
        if self.phase.load(Ordering::SeqCst) == LOADING {
            error!(partition = %self.partition, reason,
                "the groups of this partition are not served: its log cannot be loaded");
        }
        self.fail(ErrorCode::NotCoordinator);
        false
    }

    pub(super) async fn submit(self: &Arc<Self>, command: M::Command) -> Result<M::Reply, ErrorCode> {
        match self.phase.load(Ordering::SeqCst) {
            LOADING => return Err(ErrorCode::CoordinatorLoadInProgress),
            ACTIVE => {}
            _ => return Err(ErrorCode::NotCoordinator),
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut mailbox = self.mailbox.lock();
            if mailbox.len() >= MAILBOX_MAX {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
            mailbox.push_back(Letter::Command(command, answer));
        }
        self.turn();
        // The answer is dropped with the shard.
        answered.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }

    /// Shows newer metadata to the shard.
    pub(super) fn show(self: &Arc<Self>, image: Arc<MetadataImage>) {
        *self.image.lock() = Arc::clone(&image);
        if self.phase.load(Ordering::SeqCst) == ACTIVE {
            self.mailbox.lock().push_back(Letter::Image(image));
            self.turn_elsewhere();
        }
    }

    /// Lets `look` see the shard, unless it is not loaded. Nothing is answered meanwhile: it should not take long.
    pub(super) fn look_at<T>(self: &Arc<Self>, look: impl FnOnce(&M) -> T) -> Option<T> {
        let seen = self.core.lock().shard.as_ref().map(look);
        // Letters that came meanwhile were left to whoever had the state.
        self.turn_elsewhere();
        seen
    }

    /// Adds what there is to know without the shard.
    pub(super) fn add_to(&self, facts: &mut CoordinatorFacts) {
        match self.phase.load(Ordering::SeqCst) {
            LOADING => facts.loading += 1,
            ACTIVE => facts.active += 1,
            FAILED => facts.failed += 1,
            _ => {}
        }
        facts.queued += self.mailbox.lock().len();
        let recent = (*self.loaded.lock()).filter(|(at, _)| at.elapsed() <= LOADS_KEPT);
        facts.load_times.extend(recent.map(|(_, time)| time));
    }

    #[cfg(test)]
    pub(super) fn waiting_count(self: &Arc<Self>) -> usize {
        let count = self.core.lock().waiting.len();
        self.turn_elsewhere();
        count
    }

    /// Lets the shard go: this broker does not lead the partition any more.
    pub(super) fn close(self: &Arc<Self>) {
        self.phase.store(CLOSED, Ordering::SeqCst);
        self.fail(ErrorCode::NotCoordinator);
    }

    /// Drops the state, which is not what the log says any more, or not this broker's.
    fn fail(self: &Arc<Self>, code: ErrorCode) {
        self.drop_state(&mut self.core.lock(), code);
        // A letter that came since the mailbox was emptied.
        self.turn_elsewhere();
    }

    fn drop_state(&self, core: &mut Core<M>, code: ErrorCode) {
        let _ = self.change_phase(LOADING, FAILED) || self.change_phase(ACTIVE, FAILED);
        core.shard = None;
        let unsettled = core.unsettled.drain(..).flat_map(|unsettled| unsettled.answers);
        for answer in unsettled
            .map(|(answer, _)| answer)
            .chain(std::mem::take(&mut core.waiting).into_values())
        {
            let _ = answer.send(Err(code));
        }
        for letter in self.mailbox.lock().drain(..) {
            if let Letter::Command(_, answer) = letter {
                let _ = answer.send(Err(code));
            }
        }
        self.poke.notify_one();
    }

    fn now(&self) -> Now {
        let clock = &self.partition.tools().clock;
        Now {
            timestamp: clock.now(),
            mono: clock.mono(),
        }
    }

    /// Takes the letters that are there, here or, where the disk may have to be waited for, on a thread for that.
    fn turn(self: &Arc<Self>) {
        if self.partition.is_slow() {
            let actor = Arc::clone(self);
            self.runtime.spawn_blocking(move || actor.run());
        } else {
            self.run();
        }
    }

    /// As [`Actor::turn`], on the runtime of the clients; for callers that are not there or that held the state.
    fn turn_elsewhere(self: &Arc<Self>) {
        if !self.mailbox.lock().is_empty() {
            let actor = Arc::clone(self);
            self.runtime.spawn(async move { actor.turn() });
        }
    }

    fn run(self: &Arc<Self>) {
        for _ in 0..ROUNDS_MAX {
            // Whoever has it looks into the mailbox afterwards.
            let Some(mut core) = self.core.try_lock() else {
                return;
            };
            self.round(&mut core);
            drop(core);
            if self.mailbox.lock().is_empty() {
                return;
            }
        }
        self.turn_elsewhere();
    }

    /// Takes the letters that are there.
    fn round(&self, core: &mut Core<M>) {
        let letters: Vec<Letter<M>> = {
            let mut mailbox = self.mailbox.lock();
            let count = mailbox.len().min(BATCH_LETTERS_MAX);
            mailbox.drain(..count).collect()
        };
        let now = self.now();
        self.settle(core, now.mono);
        let mut gathered = Gathered::default();
        for letter in letters {
            let entropy = self.partition.tools().entropy.draw();
            let Some(shard) = &mut core.shard else {
                // Its answer is dropped with it.
                continue;
            };
            let effects = match letter {
                Letter::Command(command, answer) => {
                    let token = Token(core.next_token);
                    core.next_token += 1;
                    core.waiting.insert(token, answer);
                    shard.handle(now, entropy, command, token)
                }
                Letter::Image(image) => shard.on_image(now, image),
            };
            self.absorb(core, &mut gathered, now, effects);
        }
        while let Some(shard) = &mut core.shard
            && shard.next_deadline().is_some_and(|deadline| deadline <= now.mono)
        {
            let effects = shard.on_deadline(now, self.partition.tools().entropy.draw());
            self.absorb(core, &mut gathered, now, effects);
        }
        self.flush(core, gathered, now);
        self.arm(core);
    }

    /// Takes the effects of one step over: into memory at once, into the log with the batch.
    fn absorb(&self, core: &mut Core<M>, gathered: &mut Gathered<M>, now: Now, effects: Effects<M::Record, M::Reply>) {
        let batch_max_bytes = self.partition.batch_max_bytes();
        core.key.clear();
        core.value.clear();
        let mut ends = Vec::with_capacity(effects.records.len());
        for record in &effects.records {
            match M::encode(record, &mut core.key, &mut core.value) {
                Ok(has_value) => ends.push((core.key.len(), core.value.len(), has_value)),
                Err(error) => return self.refuse(core, gathered, &effects, &error.to_string()),
            }
        }
        let size_bytes = |count: usize, key: usize, value: usize| count * RECORD_OVERHEAD_BYTES + key + value;
        let total_bytes = size_bytes(ends.len(), core.key.len(), core.value.len());
        if gathered.batch.size_bytes() + total_bytes > batch_max_bytes && !gathered.batch.is_empty() {
            self.flush(core, std::mem::take(gathered), now);
        }
        if effects.is_atomic && gathered.batch.size_bytes() + total_bytes > batch_max_bytes {
            return self.refuse(
                core,
                gathered,
                &effects,
                "they are larger than max.message.bytes allows",
            );
        }
        let (mut key_start, mut value_start) = (0, 0);
        let offset = self.partition.log_end_offset();
        for (record, (key_end, value_end, has_value)) in effects.records.into_iter().zip(ends) {
            let record_bytes = size_bytes(1, key_end - key_start, value_end - value_start);
            if gathered.batch.size_bytes() + record_bytes > batch_max_bytes && !gathered.batch.is_empty() {
                self.flush(core, std::mem::take(gathered), now);
            }
            let Some(shard) = &mut core.shard else {
                return;
            };
            let key = core.key.get(key_start..key_end);
            let value = core.value.get(value_start..value_end).filter(|_| has_value);
            let place = offset.plus(i64::try_from(gathered.batch.record_count()).unwrap_or(0));
            gathered.batch.append(now.timestamp, key, value);
            if let Err(reason) = shard.apply(place, record) {
                error!(partition = %self.partition, reason, "a record of the coordinator's own makes no sense");
                return self.give_up(core, std::mem::take(gathered), ErrorCode::UnknownServerError);
            }
            (key_start, value_start) = (key_end, value_end);
        }
        for (token, reply) in effects.replies {
            if let Some(answer) = core.waiting.remove(&token) {
                gathered.answers.push((answer, reply));
            }
        }
    }

    /// Records that cannot be written: the shard's soft state has moved on, so it begins again from its log.
    fn refuse(
        &self,
        core: &mut Core<M>,
        gathered: &mut Gathered<M>,
        effects: &Effects<M::Record, M::Reply>,
        reason: &str,
    ) {
        let records = effects.records.len();
        error!(partition = %self.partition, records, reason, "the coordinator's records cannot be written");
        for (token, _) in &effects.replies {
            if let Some(answer) = core.waiting.remove(token) {
                let _ = answer.send(Err(ErrorCode::UnknownServerError));
            }
        }
        self.give_up(core, std::mem::take(gathered), ErrorCode::NotCoordinator);
    }

    /// Appends what was gathered, and answers or keeps the answers until it is committed.
    fn flush(&self, core: &mut Core<M>, gathered: Gathered<M>, now: Now) {
        if !gathered.batch.is_empty() {
            match self.partition.append(gathered.batch) {
                Ok(end) => core.seen_end = end,
                Err(code) => {
                    warn!(partition = %self.partition, %code, "the coordinator could not append");
                    let gathered = Gathered {
                        batch: BatchBuilder::new(Offset::ZERO),
                        answers: gathered.answers,
                    };
                    return self.give_up(core, gathered, as_coordinator_error(code));
                }
            }
        }
        if gathered.answers.is_empty() {
            return;
        }
        if self.partition.high_watermark() >= core.seen_end {
            return answer_all(gathered.answers);
        }
        core.unsettled.push_back(Unsettled {
            end: core.seen_end,
            deadline: now
                .mono
                .plus_ms(i64::try_from(self.settings.commit_timeout_ms).unwrap_or(i64::MAX)),
            answers: gathered.answers,
        });
        self.poke.notify_one();
    }

    /// The state in memory is ahead of the log: drops it. It is loaded again by whoever finds the actor failed.
    fn give_up(&self, core: &mut Core<M>, gathered: Gathered<M>, code: ErrorCode) {
        for (answer, _) in gathered.answers {
            let _ = answer.send(Err(code));
        }
        self.drop_state(core, code);
    }

    /// Answers those whose records are committed, or waited too long for it.
    fn settle(&self, core: &mut Core<M>, now: Mono) {
        let committed = self.partition.high_watermark();
        while let Some(first) = core.unsettled.front() {
            if first.end <= committed {
                let settled = core.unsettled.pop_front();
                settled.into_iter().for_each(|settled| answer_all(settled.answers));
            } else if first.deadline <= now {
                // The records may be committed later; the client asks again.
                let late = core.unsettled.pop_front();
                for (answer, _) in late.into_iter().flat_map(|late| late.answers) {
                    let _ = answer.send(Err(ErrorCode::CoordinatorNotAvailable));
                }
            } else {
                return;
            }
        }
    }

    fn due(core: &Core<M>) -> Mono {
        let deadline = core.shard.as_ref().and_then(Shard::next_deadline);
        let unsettled = core.unsettled.front().map(|unsettled| unsettled.deadline);
        deadline.into_iter().chain(unsettled).min().unwrap_or(Mono(u64::MAX))
    }

    /// Wakes the actor's task where something is due before the time that it waits for.
    fn arm(&self, core: &mut Core<M>) {
        let due = Self::due(core);
        if due < core.armed {
            core.armed = due;
            self.poke.notify_one();
        }
    }

    /// Brings the time and the high watermark to the shard; says how long to wait for the next time, and for which changes.
    /// `None` while a turn runs elsewhere.
    fn look(&self) -> Option<(Duration, Option<Changes<L>>)> {
        let mut core = self.core.try_lock()?;
        // Joined before the high watermark is looked at: a change from then on is heard.
        let changes = (!core.unsettled.is_empty()).then(|| self.partition.watch());
        self.round(&mut core);
        core.armed = Self::due(&core);
        let pause = Duration::from_nanos(core.armed.0.saturating_sub(self.now().mono.0));
        Some((pause.min(NOTHING_DUE), changes))
    }

    /// Keeps the time of the shard until it fails or is closed.
    async fn keep_time(self: &Arc<Self>) {
        while self.phase.load(Ordering::SeqCst) == ACTIVE {
            let looked = if self.partition.is_slow() {
                let actor = Arc::clone(self);
                let looking = self.runtime.spawn_blocking(move || actor.look());
                looking.await.ok().flatten()
            } else {
                self.look()
            };
            let Some((pause, changes)) = looked else {
                tokio::time::sleep(BUSY_DELAY).await;
                continue;
            };
            self.turn_elsewhere();
            let deadline = Instant::now() + pause;
            let changed = async {
                match &changes {
                    Some(changes) => changes.next(deadline).await,
                    None => {
                        tokio::time::sleep_until(deadline).await;
                        false
                    }
                }
            };
            tokio::select! {
                _ = changed => {}
                () = self.poke.notified() => {}
            }
        }
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
