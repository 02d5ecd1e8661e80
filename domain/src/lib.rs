//! What Kafka means: the rules of logs, partitions, replication, metadata and Raft, without I/O.
//!
//! This crate never touches a clock, a socket, a file, a thread or randomness: time ([`ids::Timestamp`],
//! [`ids::Mono`]), entropy and bytes come in as arguments, facts and [`error::ErrorCode`]s go out.

pub mod coordinator;
pub mod error;
pub mod fetch;
pub mod groups;
pub mod ids;
pub mod log;
pub mod metadata;
pub mod partitioning;
pub mod ports;
pub mod raft;
pub mod record;
