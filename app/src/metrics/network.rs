//! Requests, the memory that they take, and the threads that serve them.

use std::sync::Arc;
use std::time::Duration;

use ottla_observability::metrics::{Exposition, Kind, QUANTILES};
use ottla_wire::server::ConnectionQuota;
use ottla_wire::{ApiRequests, Measure, RequestMemory, RequestTotals, record_requests};
use tokio::runtime::{Handle, RuntimeMetrics};

use super::gauge;
use super::recent::Recent;

/// What listeners record of requests.
pub struct Requests(Recent<Arc<RequestTotals>>);

impl Requests {
    /// Has them begin.
    pub fn record() -> Self {
        record_requests();
        Requests(Recent::new(Arc::new(RequestTotals::now())))
    }

    /// Writes Kafka's `RequestMetrics`.
    pub(super) fn collect(&self, out: &mut Exposition) {
        let now = Arc::new(RequestTotals::now());
        let (earlier, _) = self.0.exchange(Arc::clone(&now));
        requests(out, &now.since(&earlier, QUANTILES));
    }
}

fn requests(out: &mut Exposition, all: &[ApiRequests<{ QUANTILES.len() }>]) {
    let name = "kafka_network_requestmetrics_requests_total";
    let mut samples = out.metric(name, Kind::Counter, "Requests that were answered.");
    for api in all {
        for (version, count) in &api.by_version {
            samples.sample(
                &[("request", api.name), ("version", &version.to_string())],
                *count as f64,
            );
        }
    }
    for measure in Measure::ALL {
        let help = match measure {
            Measure::RequestQueueTime => "From the last byte of a request to its turn.",
            Measure::LocalTime => "From its turn until it is done or waits for something else.",
            Measure::RemoteTime => "Waiting for replicas, syncs, records, and the answers that go before.",
            Measure::ResponseQueueTime => "From an answer to its turn to be sent.",
            Measure::ResponseSendTime => "From its turn until the kernel has all of the answer.",
            Measure::TotalTime => "From the last byte of a request to the last byte of its answer.",
            Measure::RequestBytes => "The size of a request without its header.",
        };
        let name = format!("kafka_network_requestmetrics_{}", measure.name());
        let mut samples = out.metric(&name, Kind::Summary, help);
        for api in all {
            if let Some(summary) = api.measures.get(measure as usize) {
                samples.summary(&[("request", api.name)], summary.quantiles, summary.sum, api.count);
            }
        }
    }
}

/// Writes the use of `ottla.request.memory.bytes` by the two kinds of listeners.
pub(super) fn memory(out: &mut Exposition, broker: &ConnectionQuota, controller: &ConnectionQuota) {
    type Value = fn(&RequestMemory) -> usize;
    let all = [
        ("broker", broker.request_memory()),
        ("controller", controller.request_memory()),
    ];
    let values: [(&str, &str, Value); 3] = [
        (
            "limit_bytes",
            "What requests and answers under way may hold.",
            |memory| memory.limit_bytes,
        ),
        ("used_bytes", "What requests and answers under way hold.", |memory| {
            memory.used_bytes
        }),
        ("waiting", "Connections that wait for room.", |memory| memory.waiting),
    ];
    for (name, help, value) in values {
        let name = format!("ottla_network_request_memory_{name}");
        let mut samples = gauge(out, &name, help);
        for (listeners, memory) in &all {
            samples.sample(&[("listeners", listeners)], value(memory) as f64);
        }
    }
}

/// The node's runtimes.
pub struct Runtimes {
    /// Serves connections.
    data: Handle,
    /// Raft, the controller, heartbeats and HTTP.
    control: Handle,
    busy: Recent<Duration>,
}

impl Runtimes {
    /// Those that serve connections, and all else.
    pub fn new(data: Handle, control: Handle) -> Self {
        Runtimes {
            busy: Recent::new(busy(&data.metrics())),
            data,
            control,
        }
    }

    /// Writes how busy they are. Kafka's network and request handler threads are one here, so both of its metrics tell of
    /// the same.
    pub(super) fn collect(&self, out: &mut Exposition) {
        let all = [("data", self.data.metrics()), ("control", self.control.metrics())];
        let name = "ottla_runtime_busy_seconds_total";
        let mut samples = out.metric(name, Kind::Counter, "Time in which worker threads were not idle.");
        for (runtime, metrics) in &all {
            samples.sample(&[("runtime", runtime)], busy(metrics).as_secs_f64());
        }
        let mut samples = gauge(out, "ottla_runtime_workers", "Worker threads.");
        for (runtime, metrics) in &all {
            samples.sample(&[("runtime", runtime)], metrics.num_workers() as f64);
        }
        let [(_, data), _] = &all;
        let now = busy(data);
        let (earlier, time) = self.busy.exchange(now);
        let workers = data.num_workers() as f64;
        let busy_share = now.saturating_sub(earlier).as_secs_f64() / (time.as_secs_f64() * workers);
        for name in [
            "kafka_network_socketserver_networkprocessoravgidle_percent",
            "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
        ] {
            let help = "How much of their time the threads that serve connections are idle, from 0 to 1.";
            gauge(out, name, help).sample(&[], (1.0 - busy_share).clamp(0.0, 1.0));
        }
    }
}

fn busy(metrics: &RuntimeMetrics) -> Duration {
    let workers = 0..metrics.num_workers();
    workers.map(|worker| metrics.worker_total_busy_duration(worker)).sum()
}
