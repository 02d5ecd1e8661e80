//! The configuration of a node: Kafka's names, defaults and checks.

pub mod check;
pub mod error;
pub mod explain;
pub mod listeners;
pub mod node;
pub mod properties;
pub mod quorum;
pub mod settings;

mod built_in;
mod environment;

pub use error::ConfigError;
pub use node::NodeConfig;
pub use settings::Settings;
