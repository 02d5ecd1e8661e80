//! What a scrape reads of the cleaner.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_domain::ids::DirectoryId;
use ottla_domain::ports::outbound::{Clock, LogStore, PartitionLog};

use super::{cleanable, key};
use crate::broker::Broker;

/// The state of the log cleaner: the metrics of Kafka's `LogCleaner` and `LogCleanerManager`.
#[derive(Clone, Debug, Default)]
pub struct CleanerFacts {
    /// Each log directory, with what cannot be cleaned in it.
    pub uncleanable: Vec<(Arc<str>, Uncleanable)>,
    /// The dirty part of the dirtiest log, 0 to 1.
    pub dirtiest_ratio: f64,
    /// How long ago a log was looked for.
    pub since_last_run_ms: i64,
    /// What was left of all that the last cleanings of the threads read, 0 to 1.
    pub recopied: f64,
    /// How full the fullest of their maps of keys was, 0 to 1.
    pub map_utilization: f64,
    /// The longest of them, in seconds.
    pub clean_secs: f64,
    /// By how much records were past `max.compaction.lag.ms` when a log was chosen.
    pub overdue_ms: i64,
    /// Threads that ended though they should not have.
    pub dead_threads: usize,
}

/// Logs that cannot be cleaned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uncleanable {
    /// How many.
    pub logs: usize,
    /// How much of them would be cleaned.
    pub bytes: u64,
}

impl<S: LogStore> Broker<S> {
    /// The state of the log cleaner. Blocks on the disk where logs cannot be cleaned.
    pub fn cleaner_facts(&self) -> CleanerFacts {
        let wanted = self.cleaner_settings().threads;
        let (mut facts, uncleanable) = {
            let shared = self.cleaner.shared.lock();
            let since_last_run_ms = self.tools.clock.mono().ms_since(shared.last_run);
            let mut facts = CleanerFacts {
                dirtiest_ratio: shared.dirtiest_ratio,
                since_last_run_ms: if self.settings.cleans_logs {
                    since_last_run_ms
                } else {
                    0
                },
                ..CleanerFacts::default()
            };
            let (mut read_bytes, mut retained_bytes) = (0, 0);
            for thread in &shared.threads {
                read_bytes += thread.last.cleaned.read_bytes;
                retained_bytes += thread.last.cleaned.retained_bytes;
                facts.map_utilization = facts.map_utilization.max(thread.last.cleaned.map_utilization);
                facts.clean_secs = facts.clean_secs.max(thread.last.elapsed_secs);
                facts.overdue_ms = facts.overdue_ms.max(thread.last.overdue_ms);
            }
            facts.recopied = retained_bytes as f64 / read_bytes.max(1) as f64;
            let running = shared.threads.iter().take(wanted);
            facts.dead_threads = match shared.is_stopping {
                true => 0,
                false => running.filter(|thread| thread.handle.is_finished()).count(),
            };
            (facts, shared.uncleanable.clone())
        };
        let mut by_directory: HashMap<DirectoryId, Uncleanable> = HashMap::new();
        let now = self.tools.clock.now();
        for partition in self.partitions.load().online() {
            if uncleanable.contains(&key(partition)) {
                let totals = by_directory.entry(partition.log().directory()).or_default();
                totals.logs += 1;
                totals.bytes += cleanable(partition, now).map_or(0, |cleanable| cleanable.cleanable_bytes);
            }
        }
        let directories = self.directories().into_iter();
        facts.uncleanable = directories
            .map(|directory| {
                let totals = by_directory.remove(&directory.id).unwrap_or_default();
                (directory.path, totals)
            })
            .collect();
        facts
    }
}
