//! What is counted of connections and requests, named as Kafka's JMX exporter rules name it.

mod histogram;
pub(crate) mod requests;

use std::sync::LazyLock;

use metrics::{Counter, Gauge, counter, gauge};

use ottla_domain::error::ErrorCode;

use crate::api::Api;

/// Counts a partition of a produce or fetch that failed.
pub(crate) fn error(api: &'static Api, error: ErrorCode) {
    counter!("kafka_network_requestmetrics_errors_total", "request" => api.name, "error" => error.name()).increment(1);
}

/// Counts what `sendfile` took from a log file.
pub(crate) fn sent_by_sendfile(bytes: usize) {
    static BYTES: LazyLock<Counter> = LazyLock::new(|| counter!("ottla_network_sendfile_bytes_total"));
    BYTES.increment(bytes as u64);
}

/// Counts what was copied out of a log file, to be sent together with what is around it.
pub(crate) fn copied_out_of_files(bytes: usize) {
    static BYTES: LazyLock<Counter> = LazyLock::new(|| counter!("ottla_network_copied_file_bytes_total"));
    BYTES.increment(bytes as u64);
}

/// Counts a connection that was closed because of what it sent.
pub(crate) fn refused_connection(listener: &str) {
    counter!("ottla_network_refused_connections_total", "listener" => listener.to_owned()).increment(1);
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
