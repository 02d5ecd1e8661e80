//! What people and dashboards see of a node: logs, Prometheus metrics and health, the last two over HTTP.
//!
//! Nothing here knows Kafka: adapters and app count with the `metrics` facade and log with `tracing`; what is cheaper to
//! read than to count, such as the sizes of partitions, comes from a [`metrics::Collector`] when it is asked for.

pub mod health;
pub mod http;
pub mod levels;
pub mod logging;
pub mod metrics;

mod process;
mod rate_limit;

use std::time::Duration;

use crate::logging::Logging;
use crate::metrics::Metrics;

const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);
/// How many intervals pass between two counts of the open files, which take a while when they are many.
const FILES_EVERY: u32 = 12;

/// What has to be done now and then, until the task is dropped: quantiles are brought up to date, and the log is told
/// what was left out and when open files run low.
pub async fn maintain(metrics: Option<Metrics>, logging: Logging) {
    let mut interval = tokio::time::interval(MAINTENANCE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0_u32;
    loop {
        interval.tick().await;
        if let Some(metrics) = &metrics {
            metrics.maintain();
        }
        logging.report_left_out();
        if round.is_multiple_of(FILES_EVERY) {
            process::warn_when_files_run_low();
        }
        round = round.wrapping_add(1);
    }
}
