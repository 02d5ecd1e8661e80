//! The log cleaner: threads that look for the dirtiest compacted log and clean it, one log a thread at a time, and apply
//! retention to compacted logs (Kafka's `LogCleaner` and `LogCleanerManager`).

mod facts;
mod throttle;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{Mono, Offset, PartitionId, Timestamp, TopicId};
use ottla_domain::log::compaction::{Cleanable, OffsetMap};
use ottla_domain::metadata::config::check::Value;
use ottla_domain::metadata::config::effective::NodeConfig;
use ottla_domain::ports::outbound::{
    Cleaned, Cleaning, CleaningError, Clock, Entropy, LogStore, PartitionLog, StorageError,
};
use parking_lot::{Condvar, Mutex};
use tracing::{error, info, warn};

pub use self::facts::{CleanerFacts, Uncleanable};
use self::throttle::Throttle;
use super::Broker;
use super::partition::Partition;

/// How often is looked at how many threads there should be.
const THREADS_INTERVAL: Duration = Duration::from_secs(1);
/// No thread uses more memory for its map of keys, as in Kafka.
const MAP_BYTES_MAX: i64 = i32::MAX as i64;

type Key = (TopicId, PartitionId);

/// What the threads of the cleaner share.
#[derive(Default)]
pub(super) struct Cleaner {
    shared: Mutex<Shared>,
    /// Something in `shared` has changed.
    changed: Condvar,
    /// Held by the thread that chooses a log.
    choosing: Mutex<()>,
    throttle: Mutex<Throttle>,
}

#[derive(Default)]
struct Shared {
    is_stopping: bool,
    threads: Vec<Thread>,
    /// The logs that are cleaned, or that lose old segments.
    in_progress: HashSet<Key>,
    /// The logs that cannot be cleaned.
    uncleanable: HashSet<Key>,
    /// The dirty part of the dirtiest log.
    dirtiest_ratio: f64,
    /// When a log was chosen last.
    last_run: Mono,
}

/// A thread and its last cleaning.
struct Thread {
    handle: JoinHandle<()>,
    last: LastCleaning,
}

#[derive(Clone, Copy, Default)]
struct LastCleaning {
    cleaned: Cleaned,
    elapsed_secs: f64,
    overdue_ms: i64,
}

/// The settings of the cleaner in effect.
struct Settings {
    threads: usize,
    backoff: Duration,
    map_bytes: u64,
    map_load_factor: f64,
    buffer_bytes: usize,
    bytes_per_second_max: f64,
}

impl Settings {
    fn of(config: &NodeConfig<'_>) -> Settings {
        let number = |name: &str| config.number(name).max(0);
        let double = |name: &str| match config.value(name) {
            Some(Value::Double(value)) => value,
            _ => 0.0,
        };
        let threads = number("log.cleaner.threads");
        let each = |bytes: i64| bytes / threads.max(1);
        let map_bytes = each(number("log.cleaner.dedupe.buffer.size")).min(MAP_BYTES_MAX);
        Settings {
            threads: usize::try_from(threads).unwrap_or(0),
            backoff: Duration::from_millis(number("log.cleaner.backoff.ms") as u64),
            map_bytes: map_bytes as u64,
            map_load_factor: double("log.cleaner.io.buffer.load.factor"),
            // Half to read, half to write.
            buffer_bytes: usize::try_from(each(number("log.cleaner.io.buffer.size")) / 2).unwrap_or(0),
            bytes_per_second_max: double("log.cleaner.io.max.bytes.per.second"),
        }
    }
}

/// A log that nobody else cleans or applies retention to, until this is dropped.
struct Claim<'a> {
    cleaner: &'a Cleaner,
    key: Key,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.cleaner.shared.lock().in_progress.remove(&self.key);
        self.cleaner.changed.notify_all();
    }
}

impl Cleaner {
    /// Takes a log, unless another thread has it, it cannot be cleaned, or everything ends.
    fn claim(&self, key: Key) -> Option<Claim<'_>> {
        let mut shared = self.shared.lock();
        let may_have = !shared.is_stopping && !shared.uncleanable.contains(&key);
        (may_have && shared.in_progress.insert(key)).then(|| Claim { cleaner: self, key })
    }

    fn is_stopping(&self) -> bool {
        self.shared.lock().is_stopping
    }

    /// Waits, but not once everything ends.
    fn pause(&self, duration: Duration) {
        let mut shared = self.shared.lock();
        self.changed
            .wait_while_for(&mut shared, |shared| !shared.is_stopping, duration);
    }

    /// Waits as long as `log.cleaner.io.max.bytes.per.second` asks after so many bytes. False when everything ends.
    fn pace(&self, bytes: u64, bytes_per_second_max: f64) -> bool {
        let wait = self.throttle.lock().add(bytes, bytes_per_second_max, Instant::now());
        if !wait.is_zero() {
            self.pause(wait);
        }
        !self.is_stopping()
    }

    /// Ends what is under way, and begins nothing any more. Blocks until nothing is.
    pub(super) fn stop(&self) {
        let mut shared = self.shared.lock();
        shared.is_stopping = true;
        self.changed.notify_all();
        while !shared.in_progress.is_empty() {
            self.changed.wait(&mut shared);
        }
    }

    fn note(&self, number: usize, last: LastCleaning) {
        if let Some(thread) = self.shared.lock().threads.get_mut(number) {
            thread.last = last;
        }
    }
}

impl<S: LogStore> Broker<S> {
    /// Has as many threads clean logs as there should be, until the task is dropped.
    pub(super) async fn keep_cleaners(self: &Arc<Self>) {
        if !self.settings.cleans_logs {
            return;
        }
        self.cleaner.shared.lock().last_run = self.tools.clock.mono();
        let mut interval = tokio::time::interval(THREADS_INTERVAL);
        loop {
            interval.tick().await;
            let wanted = self.cleaner_settings().threads;
            let mut shared = self.cleaner.shared.lock();
            // Those that are too many end on their own. One that died stays dead and is counted, as in Kafka.
            while shared.threads.last().is_some_and(|thread| thread.handle.is_finished())
                && shared.threads.len() > wanted
            {
                shared.threads.pop();
            }
            while shared.threads.len() < wanted && !shared.is_stopping {
                let (number, broker) = (shared.threads.len(), Arc::downgrade(self));
                let cleaner = Arc::clone(&self.cleaner);
                let spawned = std::thread::Builder::new()
                    .name(format!("log-cleaner-{number}"))
                    .spawn(move || run(&broker, &cleaner, number));
                match spawned {
                    Ok(handle) => shared.threads.push(Thread {
                        handle,
                        last: LastCleaning::default(),
                    }),
                    Err(error) => {
                        error!(%error, "a thread of the log cleaner could not be started");
                        break;
                    }
                }
            }
        }
    }

    fn cleaner_settings(&self) -> Settings {
        let image = self.image();
        Settings::of(&self.settings.effective(&image))
    }

    /// Cleans the log that needs it most; false when there was none.
    fn clean_filthiest(&self, number: usize, settings: &Settings) -> bool {
        let Some((partition, cleanable, claim, overdue_ms)) = self.choose() else {
            return false;
        };
        let begun = Instant::now();
        // What is wrong with one log must not keep the others from being cleaned.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.clean(&partition, &cleanable, settings)));
        let outcome = outcome.unwrap_or_else(|_| Err(CleaningError::Uncleanable("the cleaner panicked".to_owned())));
        let elapsed_secs = begun.elapsed().as_secs_f64();
        let name = partition.name();
        match outcome {
            Ok(cleaned) => {
                let last = LastCleaning {
                    cleaned,
                    elapsed_secs,
                    overdue_ms,
                };
                self.cleaner.note(number, last);
                metrics::counter!("ottla_log_cleaner_cleanings_total").increment(1);
                metrics::counter!("ottla_log_cleaner_read_bytes_total")
                    .increment(cleaned.mapped_bytes + cleaned.read_bytes);
                metrics::counter!("ottla_log_cleaner_retained_bytes_total").increment(cleaned.retained_bytes);
                info!(log = %name, from = %cleanable.first_dirty, to = %cleaned.end, read_bytes = cleaned.read_bytes,
                    retained_bytes = cleaned.retained_bytes, read_records = cleaned.records.read,
                    retained_records = cleaned.records.retained, elapsed_secs, "cleaned a log");
                if cleaned.records.invalid > 0 {
                    warn!(log = %name, records = cleaned.records.invalid, "dropped records without keys");
                }
                // Without progress it would be chosen again at once.
                cleaned.end > cleanable.first_dirty
            }
            Err(CleaningError::Aborted) => {
                info!(log = %name, "aborted the cleaning of a log");
                false
            }
            Err(CleaningError::Storage(error)) => {
                if !error.is_offline() {
                    warn!(log = %name, %error, "cleaning a log failed");
                }
                false
            }
            Err(CleaningError::Uncleanable(reason)) => {
                warn!(log = %name, %reason, "a log cannot be cleaned and is left alone until a restart");
                self.cleaner.shared.lock().uncleanable.insert(claim.key);
                false
            }
        }
    }

    /// The dirtiest of the logs that are due, and by how many milliseconds the log is overdue that waits longest.
    #[allow(clippy::type_complexity, reason = "it is taken apart where it is used")]
    fn choose(&self) -> Option<(Arc<Partition<S::Log>>, Cleanable, Claim<'_>, i64)> {
        let _choosing = self.cleaner.choosing.lock();
        let now = self.tools.clock.now();
        let (mut dirtiest_ratio, mut overdue_ms) = (0.0f64, 0);
        let mut best: Option<(Arc<Partition<S::Log>>, Cleanable, Claim<'_>)> = None;
        for partition in self.partitions.load().online() {
            let config = partition.config();
            if !config.cleanup_policy.compact {
                continue;
            }
            let Some(claim) = self.cleaner.claim(key(partition)) else {
                continue;
            };
            let cleanable = match cleanable(partition, now) {
                Ok(cleanable) => cleanable,
                Err(error) => {
                    if !error.is_offline() {
                        warn!(log = %partition.name(), %error, "looking at a compacted log failed");
                    }
                    continue;
                }
            };
            dirtiest_ratio = dirtiest_ratio.max(cleanable.ratio());
            overdue_ms = overdue_ms.max(cleanable.overdue_ms);
            let is_dirtier = best
                .as_ref()
                .is_none_or(|(_, other, _)| other.ratio() < cleanable.ratio());
            if cleanable.is_due(&config) && is_dirtier {
                best = Some((Arc::clone(partition), cleanable, claim));
            }
        }
        let mut shared = self.cleaner.shared.lock();
        shared.dirtiest_ratio = dirtiest_ratio;
        shared.last_run = self.tools.clock.mono();
        drop(shared);
        best.map(|(partition, cleanable, claim)| (partition, cleanable, claim, overdue_ms))
    }

    fn clean(
        &self,
        partition: &Partition<S::Log>,
        cleanable: &Cleanable,
        settings: &Settings,
    ) -> Result<Cleaned, CleaningError> {
        let tools = &self.tools;
        let go_on = |bytes| {
            let is_wanted = || !partition.is_closed() && partition.config().cleanup_policy.compact;
            self.cleaner.pace(bytes, settings.bytes_per_second_max) && is_wanted()
        };
        partition.log().clean(Cleaning {
            first_dirty: cleanable.first_dirty,
            first_uncleanable: cleanable.first_uncleanable,
            map: OffsetMap::new(settings.map_bytes, settings.map_load_factor, tools.entropy.draw()),
            buffer_bytes: settings.buffer_bytes,
            now: tools.clock.now(),
            compression: &*tools.compression,
            producers: &|| partition.producers(),
            go_on: &go_on,
        })
    }

    /// Compacted logs may have old segments, too: below the log start, or with `cleanup.policy=compact,delete`.
    fn apply_retention_to_compacted(&self) {
        let now = self.tools.clock.now();
        for partition in self.partitions.load().online() {
            if partition.config().cleanup_policy.compact
                && let Some(_claim) = self.cleaner.claim(key(partition))
                && let Err(error) = partition.apply_retention(now)
                && error != ErrorCode::KafkaStorageError
            {
                warn!(log = %partition.name(), %error, "retention failed");
            }
        }
    }

    fn forget_uncleanable(&self) {
        if self.cleaner.shared.lock().uncleanable.is_empty() {
            return;
        }
        let known: HashSet<Key> = self
            .partitions
            .load()
            .online()
            .map(|partition| key(partition))
            .collect();
        self.cleaner.shared.lock().uncleanable.retain(|key| known.contains(key));
    }
}

/// One thread.
fn run<S: LogStore>(broker: &Weak<Broker<S>>, cleaner: &Cleaner, number: usize) {
    while let Some(broker) = broker.upgrade() {
        let settings = broker.cleaner_settings();
        if number >= settings.threads || cleaner.is_stopping() {
            return;
        }
        let has_cleaned = broker.clean_filthiest(number, &settings);
        broker.apply_retention_to_compacted();
        broker.forget_uncleanable();
        drop(broker);
        if !has_cleaned {
            cleaner.pause(settings.backoff);
        }
    }
}

fn key<L: PartitionLog>(partition: &Partition<L>) -> Key {
    (partition.topic_id, partition.id)
}

/// What may be cleaned of a log. Blocks on the disk.
fn cleanable<L: PartitionLog>(partition: &Partition<L>, now: Timestamp) -> Result<Cleanable, StorageError> {
    let (log, config) = (partition.log(), partition.config());
    let last_stable = partition.last_stable_offset();
    let segments = log.segments();
    let failure = Mutex::new(None);
    let first_timestamp = |base_offset: Offset| {
        log.first_timestamp(base_offset).unwrap_or_else(|error| {
            failure.lock().get_or_insert(error);
            Timestamp::NONE
        })
    };
    let cleanable = Cleanable::of(
        &config,
        &partition.offsets(),
        last_stable,
        &segments,
        log.cleaned_offset(),
        |segment| first_timestamp(segment.base_offset),
        now,
    );
    if let Some(error) = failure.into_inner() {
        return Err(error);
    }
    if cleanable.resets_checkpoint {
        if !config.cleanup_policy.delete {
            warn!(log = %partition.name(), first_dirty = %cleanable.first_dirty,
                "the end of the last cleaning lies outside of the log, which counts as dirty from here on");
        }
        log.set_cleaned_offset(cleanable.first_dirty)?;
    }
    Ok(cleanable)
}

#[cfg(test)]
mod tests;
