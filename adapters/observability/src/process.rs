//! The `process_*` metrics of every Prometheus client.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::metrics::{Exposition, Kind};

/// Reads what the system knows of this process.
pub(crate) fn collect(exposition: &mut Exposition) {
    let mut gauge = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            exposition.metric(name, Kind::Gauge, help).sample(&[], value);
        }
    };
    gauge(
        "process_start_time_seconds",
        "When the process started, since the Unix epoch.",
        start_time(),
    );
    gauge(
        "process_resident_memory_bytes",
        "Memory that is in RAM.",
        status_bytes("VmRSS:"),
    );
    gauge(
        "process_virtual_memory_bytes",
        "Memory that is mapped.",
        status_bytes("VmSize:"),
    );
    gauge("process_open_fds", "Open file descriptors.", open_files());
    gauge(
        "process_max_fds",
        "The limit of open file descriptors.",
        getrlimit(Resource::Nofile).current.map(|limit| limit as f64),
    );
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    exposition
        .metric(
            "process_cpu_seconds_total",
            Kind::Counter,
            "CPU time spent, in user and system.",
        )
        .sample(&[], spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9);
}

/// The time at which the process's folder in /proc was made, which is when it started.
fn start_time() -> Option<f64> {
    static START: OnceLock<Option<f64>> = OnceLock::new();
    *START.get_or_init(|| {
        let started: SystemTime = std::fs::metadata("/proc/self").ok()?.modified().ok()?;
        Some(started.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
    })
}

/// A line of /proc/self/status, which is in KiB.
fn status_bytes(line: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

fn open_files() -> Option<f64> {
    // Reading the folder opens it, which is one too many.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as f64)
}

/// Warns when less than a tenth of the files that may be open is left.
pub(crate) fn warn_when_files_run_low() {
    if let (Some(open), Some(limit)) = (
        open_files(),
        getrlimit(Resource::Nofile).current.map(|limit| limit as f64),
    ) && open > limit * 0.9
    {
        tracing::warn!("{open} of at most {limit} files are open; raise the limit (ulimit -n)");
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::tests::local;

    #[test]
    fn every_metric_of_the_process_is_there_and_plausible() {
        let text = local(|| ()).render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
        };
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
        ] {
            assert!(value(name) > 0.0, "{name}");
        }
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        assert!((0.0..3600.0).contains(&(now - value("process_start_time_seconds"))));
    }
}
