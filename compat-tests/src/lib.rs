//! Drives the real binary, and Apache Kafka beside it, with real clients and tools.
//!
//! Everything here sees a node only from outside: a process, its files and its ports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A harness fails loudly.

pub mod chance;
pub mod disk;
pub mod ledger;
pub mod load;
pub mod metrics;
pub mod node;
pub mod process;
pub mod raw;
pub mod records;
pub mod requests;
pub mod running;
pub mod scenario;
pub mod tools;
pub mod transcript;
pub mod usage;
