//! One shard at work: its mailbox, when it takes turns, and how it begins and ends.
//!
//! A turn runs on the thread of whoever brings a command while no other turn runs; commands that come meanwhile are taken by
//! the turn that runs, and their records share its batch. So a lone request never changes threads, and a crowd shares writes.
//! What is due by the time, and newer metadata, may be work for long: that has turns on threads that may block.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use ottla_domain::coordinator::{Now, Shard};
use ottla_domain::error::ErrorCode;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::outbound::{Clock, PartitionLog};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::error;

use super::loading::{LoadError, load};
use super::stages::{Stage, Stages};
use super::turn::{Answer, Core, Turn};
use super::{CoordinatorFacts, CoordinatorSettings};
use crate::broker::{Changes, LedPartition};

/// Commands that may wait for a turn.
const MAILBOX_MAX: usize = 10_000;
/// Commands that share a batch.
const BATCH_COMMANDS_MAX: usize = 1_000;
/// Batches that one thread makes in a row before another goes on.
const ROUNDS_MAX: usize = 16;
/// How long the actor's task sleeps when nothing is due.
const NOTHING_DUE: Duration = Duration::from_secs(3_600);
/// How long a shard that could not go on waits before it is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long it waits at most, with the delay doubled each time that its log could not be read.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// For how long a load is told of: Kafka looks back for one to two of its windows of 30 s.
const LOADS_KEPT: Duration = Duration::from_secs(60);

const LOADING: u8 = 0;
const ACTIVE: u8 = 1;
const FAILED: u8 = 2;
const CLOSED: u8 = 3;

/// Makes an empty shard.
pub(super) type Make<M> = Arc<dyn Fn(&Arc<MetadataImage>) -> M + Send + Sync>;

/// A command that waits for a turn.
struct Letter<M: Shard> {
    command: M::Command,
    answer: Answer<M>,
    brought: Instant,
}

/// The shard of one partition that this broker leads.
pub(super) struct Actor<L: PartitionLog, M: Shard> {
    pub(super) partition: LedPartition<L>,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) stages: Arc<Stages>,
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
    pub(super) poke: Notify,
}

impl<L: PartitionLog, M: Shard> Actor<L, M> {
    pub(super) fn new(
        partition: LedPartition<L>,
        settings: Arc<CoordinatorSettings>,
        stages: Arc<Stages>,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Actor {
            core: Mutex::default(),
            partition,
            settings,
            stages,
            runtime,
            image: Mutex::default(),
            phase: AtomicU8::new(LOADING),
            loaded: Mutex::default(),
            mailbox: Mutex::default(),
            poke: Notify::new(),
        })
    }

    /// Loads the shard from the log and keeps its time; does so again when it could not go on with what it had in memory, and
    /// when the log could not be read. A log that makes no sense is given up until this broker leads anew.
    pub(super) fn start(self: &Arc<Self>, make: Make<M>, image: Arc<MetadataImage>) {
        let actor = Arc::clone(self);
        *self.image.lock() = image;
        self.runtime.spawn(async move {
            let mut delay = RETRY_DELAY;
            loop {
                match actor.load(&make).await {
                    Ok(()) => {
                        actor.keep_time().await;
                        delay = RETRY_DELAY;
                    }
                    Err(LoadError::Content(_)) => break,
                    // One that is closed ends below.
                    Err(LoadError::Read(..) | LoadError::Unwanted) => {}
                }
                actor.rest(delay).await;
                delay = RETRY_DELAY_MAX.min(delay * 2);
                if actor.partition.is_closed() || !actor.change_phase(FAILED, LOADING) {
                    break;
                }
            }
        });
    }

    /// Waits, but not for one that is closed meanwhile.
    async fn rest(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.is(CLOSED) && tokio::time::timeout_at(deadline, self.poke.notified()).await.is_ok() {}
    }

    /// It is the actor of this partition in this term.
    pub(super) fn serves(&self, partition: &LedPartition<L>) -> bool {
        self.partition.is_same(partition) && !self.is(CLOSED)
    }

    fn is(&self, phase: u8) -> bool {
        self.phase.load(Ordering::SeqCst) == phase
    }

    fn change_phase(&self, from: u8, to: u8) -> bool {
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        self.phase.compare_exchange(from, to, set, fetch).is_ok()
    }

    async fn load(self: &Arc<Self>, make: &Make<M>) -> Result<(), LoadError> {
        let (actor, make) = (Arc::clone(self), Arc::clone(make));
        let loading = self.runtime.spawn_blocking(move || {
            let started = Instant::now();
            let mut shard = make(&actor.newest_image());
            let buffer_bytes = actor.settings.load_buffer_bytes;
            let end = load(&actor.partition, &mut shard, buffer_bytes, || actor.is(LOADING))?;
            let mut core = actor.core.lock();
            // From now on newer metadata is told; what came while the shard was loading is there for the first turn, and
            // commands wait for it.
            actor.change_phase(LOADING, ACTIVE);
            core.begin(shard, end);
            let mut turn = Turn::begin(&actor, &mut core);
            turn.loaded();
            turn.show(actor.newest_image());
            turn.end();
            drop(core);
            let loaded = Instant::now();
            *actor.loaded.lock() = Some((loaded, loaded - started));
            actor.run();
            Ok(())
        });
        let loaded = loading.await.unwrap_or_else(|error| match self.is(LOADING) {
            // After a panic the log is to blame.
            true => Err(error.to_string().into()),
            // The first commands are, and they are gone.
            false => Err(LoadError::Unwanted),
        });
        if let Err(reason) = &loaded {
            if self.is(LOADING) {
                let is_final = !matches!(reason, LoadError::Read(..));
                error!(partition = %self.partition, %reason, is_final,
                    "the groups of this partition are not served: its log cannot be loaded");
            }
            self.let_go();
        }
        loaded
    }

    /// Takes a command, and answers once what the answer tells is committed.
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
            mailbox.push_back(Letter {
                command,
                answer,
                brought: Instant::now(),
            });
        }
        if self.partition.is_slow() {
            self.run_elsewhere();
        } else {
            self.run();
        }
        // The answer is dropped with the shard.
        answered.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }

    /// Tells the shard of newer metadata.
    pub(super) fn show(&self, image: &Arc<MetadataImage>) {
        *self.image.lock() = Arc::clone(image);
        self.poke.notify_one();
    }

    fn newest_image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.lock())
    }

    /// Lets `look` see the shard, unless it is not loaded. Nothing is answered meanwhile: it should not take long.
    pub(super) fn look_at<T>(self: &Arc<Self>, look: impl FnOnce(&M) -> T) -> Option<T> {
        let seen = self.core.lock().shard().map(look);
        self.run_elsewhere();
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
        let count = self.core.lock().waiting_count();
        self.run_elsewhere();
        count
    }

    /// Lets the shard go: this broker does not lead the partition any more. May block.
    pub(super) fn close(self: &Arc<Self>) {
        self.phase.store(CLOSED, Ordering::SeqCst);
        self.poke.notify_one();
        self.let_go();
    }

    /// Drops the state, which is not what the log says, or not this broker's any more, and tells all who wait.
    fn let_go(self: &Arc<Self>) {
        self.change_phase(LOADING, FAILED);
        self.fail();
        let shard = self.core.lock().take(ErrorCode::NotCoordinator);
        // The state may be large: not under the lock.
        drop(shard);
        self.run_elsewhere();
    }

    /// No turn begins any more until the shard was loaded again. One that is loading is left alone: a turn may come late.
    pub(super) fn fail(&self) {
        if self.change_phase(ACTIVE, FAILED) {
            self.poke.notify_one();
        }
    }

    pub(super) fn now(&self) -> Now {
        let clock = &self.partition.tools().clock;
        Now {
            timestamp: clock.now(),
            mono: clock.mono(),
        }
    }

    /// Takes the commands that are there, unless another thread does: that one looks into the mailbox when it is done.
    fn run(self: &Arc<Self>) {
        for _ in 0..ROUNDS_MAX {
            let Some(mut core) = self.core.try_lock() else {
                return;
            };
            let letters: Vec<_> = {
                let mut mailbox = self.mailbox.lock();
                let count = mailbox.len().min(BATCH_COMMANDS_MAX);
                mailbox.drain(..count).collect()
            };
            let mut begun = Instant::now();
            let mut turn = Turn::begin(self, &mut core);
            for letter in letters {
                self.stages.record(Stage::Queue, letter.brought, begun);
                turn.handle(letter.command, letter.answer);
                let done = Instant::now();
                self.stages.record(Stage::Processing, begun, done);
                begun = done;
            }
            turn.end();
            drop(core);
            if self.mailbox.lock().is_empty() {
                return;
            }
        }
        self.run_elsewhere();
    }

    /// As [`Actor::run`], for those who held the state, who had commands left to them meanwhile, but are not to wait for
    /// the disk.
    fn run_elsewhere(self: &Arc<Self>) {
        if !self.mailbox.lock().is_empty() {
            let actor = Arc::clone(self);
            self.runtime.spawn_blocking(move || actor.run());
        }
    }

    /// Brings the time, the high watermark and newer metadata to the shard; says how long to wait for the next time, and for
    /// which changes. May block.
    fn look(self: &Arc<Self>) -> (Duration, Option<Changes<L>>) {
        let mut core = self.core.lock();
        // Joined before the high watermark is looked at: a change from then on is heard.
        let changes = core.has_unsettled().then(|| self.partition.watch());
        let mut turn = Turn::begin(self, &mut core);
        turn.show(self.newest_image());
        let can_write = turn.pass_time();
        turn.end();
        let due = core.arm();
        drop(core);
        self.run();
        let pause = match can_write {
            true => Duration::from_nanos(due.0.saturating_sub(self.now().mono.0)).min(NOTHING_DUE),
            false => RETRY_DELAY,
        };
        (pause, changes)
    }

    /// Keeps the time of the shard until it fails or is closed.
    async fn keep_time(self: &Arc<Self>) {
        while self.is(ACTIVE) {
            let actor = Arc::clone(self);
            let Ok((pause, changes)) = self.runtime.spawn_blocking(move || actor.look()).await else {
                // It panicked: the state is not to be trusted.
                return self.let_go();
            };
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
