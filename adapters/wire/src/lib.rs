//! Kafka's protocol over TCP: listeners, connections, and one file for each API.

mod api;
mod budget;
pub mod checker;
mod connection;
#[cfg(test)]
mod fake;
mod fetch_response;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod messages;
mod metrics;
mod node;
mod produce_request;
mod rate_limit;
mod response;
pub mod server;

pub use api::markdown_table;
pub use budget::RequestMemory;
pub use metrics::histogram::{Histogram, Totals as HistogramTotals};
pub use metrics::requests::{ApiRequests, Measure, RequestTotals, Summary, record_requests};
pub use node::Node;
pub use rate_limit::RateLimit;
