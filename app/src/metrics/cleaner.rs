//! The log cleaner.

use ottla_observability::metrics::Exposition;

use super::gauge;
use crate::broker::{CleanerFacts, Uncleanable};

/// Writes the metrics of Kafka's `LogCleaner` and `LogCleanerManager`: percentages and seconds are whole numbers there.
pub(super) fn collect(out: &mut Exposition, facts: &CleanerFacts) {
    let percent = |part: f64| (100.0 * part).trunc();
    let of_all = [
        (
            "logcleaner_cleaner_recopy_percent",
            "What was left of the logs that were cleaned last, in percent.",
            percent(facts.recopied),
        ),
        (
            "logcleaner_deadthreadcount",
            "Threads of the cleaner that ended by accident.",
            facts.dead_threads as f64,
        ),
        (
            "logcleaner_max_buffer_utilization_percent",
            "How full the cleaner's map of keys was, in percent.",
            percent(facts.map_utilization),
        ),
        (
            "logcleaner_max_clean_time_secs",
            "How long the last cleaning took, in seconds.",
            facts.clean_secs.trunc(),
        ),
        (
            "logcleaner_max_compaction_delay_secs",
            "For how long records waited past max.compaction.lag.ms, in seconds.",
            (facts.overdue_ms / 1000) as f64,
        ),
        (
            "logcleanermanager_max_dirty_percent",
            "How dirty the dirtiest log is, in percent.",
            percent(facts.dirtiest_ratio),
        ),
        (
            "logcleanermanager_time_since_last_run_ms",
            "How long ago the cleaner looked for dirty logs, in ms.",
            facts.since_last_run_ms as f64,
        ),
    ];
    for (name, help, value) in of_all {
        gauge(out, &format!("kafka_log_{name}"), help).sample(&[], value);
    }
    type Value = fn(&Uncleanable) -> f64;
    let of_directories: [(&str, &str, Value); 2] = [
        (
            "uncleanable_partitions_count",
            "Logs of a directory that cannot be cleaned.",
            |logs| logs.logs as f64,
        ),
        ("uncleanable_bytes", "How much of them would be cleaned.", |logs| {
            logs.bytes as f64
        }),
    ];
    for (name, help, value) in of_directories {
        let name = format!("kafka_log_logcleanermanager_{name}");
        let mut samples = gauge(out, &name, help);
        for (directory, logs) in &facts.uncleanable {
            samples.sample(&[("logdirectory", directory)], value(logs));
        }
    }
}
