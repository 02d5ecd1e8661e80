//! What the metrics are that adapters count while they work. Those that are read at a scrape say it themselves.

use metrics::{describe_counter, describe_gauge, describe_histogram};

const COUNTERS: [(&str, &str); 12] = [
    (
        "kafka_controller_controllerstats_uncleanleaderelections_total",
        "Leaders that were elected though they may lack what was acknowledged.",
    ),
    (
        "kafka_network_requestmetrics_errors_total",
        "Partitions of produces and fetches that failed, by error.",
    ),
    (
        "kafka_server_socket_server_metrics_connection_creation_total",
        "Connections that were accepted.",
    ),
    (
        "ottla_log_cleaner_cleanings_total",
        "Cleanings of compacted logs that came to their end.",
    ),
    (
        "ottla_log_cleaner_read_bytes_total",
        "Bytes of logs that were read to clean them, in both passes.",
    ),
    (
        "ottla_log_cleaner_retained_bytes_total",
        "Bytes of logs that were left when they were cleaned.",
    ),
    (
        "ottla_log_index_entries_dropped_total",
        "Index entries that were left out because too many waited.",
    ),
    (
        "ottla_network_copied_file_bytes_total",
        "Bytes of log files that were copied to be sent.",
    ),
    (
        "ottla_network_refused_connections_total",
        "Connections that were closed for what they sent.",
    ),
    (
        "ottla_network_sendfile_bytes_total",
        "Bytes of log files that sendfile sent.",
    ),
    (
        "ottla_network_turned_away_connections_total",
        "Connections that were too many.",
    ),
    (
        "ottla_storage_recovery_scanned_bytes_total",
        "Bytes of batches that were looked at when logs were opened.",
    ),
];

const GAUGES: [(&str, &str); 3] = [
    (
        "kafka_log_logmanager_remaininglogstorecover",
        "Logs of a directory that are still to be opened.",
    ),
    (
        "kafka_server_socket_server_metrics_connection_count",
        "Connections that are open.",
    ),
    (
        "ottla_storage_recovery_seconds",
        "How long it took to open the logs of a directory.",
    ),
];

const HISTOGRAMS: [(&str, &str); 2] = [
    (
        "kafka_log_logflushstats_logflushrateandtimems",
        "The time of a sync of a segment.",
    ),
    (
        "ottla_log_index_lookup_scanned_bytes",
        "Bytes of a segment that were read to find an offset.",
    ),
];

/// Tells the recorder.
pub fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(name, help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(name, help);
    }
}
