//! The cluster's metadata: Kafka's records, the image that they make, and the controller that writes them.

pub mod config;
pub mod controller;
pub mod delta;
pub mod image;
pub mod loader;
pub mod loggers;
pub mod records;
pub mod snapshot;
pub mod sorted;
pub mod topics;
