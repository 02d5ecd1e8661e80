//! Counters of connections and requests, named as Kafka's JMX exporter rules name them.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use ottla_domain::error::ErrorCode;

use crate::api::Api;

/// The metrics of one API, found once and kept.
pub(crate) struct ApiMetrics {
    /// One counter a version, from version 0.
    requests: [OnceLock<Counter>; VERSIONS_MAX],
    total_time_ms: OnceLock<Histogram>,
}

/// More versions than any API has.
const VERSIONS_MAX: usize = 32;

impl ApiMetrics {
    pub(crate) const fn new() -> Self {
        ApiMetrics {
            requests: [const { OnceLock::new() }; VERSIONS_MAX],
            total_time_ms: OnceLock::new(),
        }
    }
}

/// Counts a request whose answer, if any, was written.
pub(crate) fn request(api: &'static Api, version: i16, total_time: Duration) {
    if let Some(requests) = usize::try_from(version)
        .ok()
        .and_then(|version| api.metrics.requests.get(version))
    {
        let register = || {
            let version = version.to_string();
            counter!("kafka_network_requestmetrics_requests_total", "request" => api.name, "version" => version)
        };
        requests.get_or_init(register).increment(1);
    }
    let register = || histogram!("kafka_network_requestmetrics_totaltimems", "request" => api.name);
    api.metrics
        .total_time_ms
        .get_or_init(register)
        .record(total_time.as_secs_f64() * 1000.0);
}

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
