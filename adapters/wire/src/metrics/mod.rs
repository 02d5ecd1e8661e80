//! What is counted of connections and requests, named as Kafka's JMX exporter rules name it.

pub(crate) mod histogram;
pub(crate) mod requests;

use std::sync::LazyLock;

use metrics::{Counter, Gauge, counter, gauge};

use ottla_domain::error::ErrorCode;

use crate::api::Api;

/// Counts a partition of a produce or fetch that failed.
pub(crate) fn error(api: &'static Api, error: ErrorCode) {
    counter!("kafka_network_requestmetrics_errors_total", "request" => api.name, "error" => error.name()).increment(1);
}

static SENDFILE_BYTES: LazyLock<Counter> = LazyLock::new(|| counter!("ottla_network_sendfile_bytes_total"));
static COPIED_FILE_BYTES: LazyLock<Counter> = LazyLock::new(|| counter!("ottla_network_copied_file_bytes_total"));

/// Counts what `sendfile` took from a log file.
pub(crate) fn sent_by_sendfile(bytes: usize) {
    SENDFILE_BYTES.increment(bytes as u64);
}

/// Counts what was copied out of a log file, to be sent together with what is around it.
pub(crate) fn copied_out_of_files(bytes: usize) {
    COPIED_FILE_BYTES.increment(bytes as u64);
}

/// Shows counters of a listener that nothing was counted in: Prometheus sees no growth in what was not there before.
pub(crate) fn show_zeros(listener: &str) {
    SENDFILE_BYTES.increment(0);
    COPIED_FILE_BYTES.increment(0);
    refused_connections(listener).increment(0);
}

/// Counts a connection that was closed because of what it sent.
pub(crate) fn refused_connection(listener: &str) {
    refused_connections(listener).increment(1);
}

fn refused_connections(listener: &str) -> Counter {
    counter!("ottla_network_refused_connections_total", "listener" => listener.to_owned())
}

/// Connections that were closed before they could send anything, because there are too many.
pub(crate) fn connections_turned_away(listener: &str) -> Counter {
    counter!("ottla_network_turned_away_connections_total", "listener" => listener.to_owned())
}

/// The connections of a listener that are open.
pub(crate) fn connection_count(listener: &str) -> Gauge {
    gauge!("kafka_server_socket_server_metrics_connection_count", "listener" => listener.to_owned())
}

/// The connections of a listener that were ever accepted.
pub(crate) fn connections_accepted(listener: &str) -> Counter {
    counter!("kafka_server_socket_server_metrics_connection_creation_total", "listener" => listener.to_owned())
}
