//! What people and dashboards see of a node: logs, Prometheus metrics and health, the last two over HTTP.
//!
//! Nothing here knows Kafka: adapters and app count with the `metrics` facade and log with `tracing`; what is cheaper to
//! read than to count, such as the sizes of partitions, comes from a [`metrics::Collector`] when it is asked for.

pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;

mod process;
mod rate_limit;
