//! The rules of a partition's log: offsets, leader epochs, producers, retention, rolling and what may be appended.

pub mod compaction;
pub mod config;
pub mod epochs;
pub mod offsets;
pub mod producers;
pub mod retention;
pub mod roll;
mod snapshot;
pub mod state;
pub mod validation;

pub use snapshot::SnapshotError;

/// Who appends, which decides what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A producer: everything is checked.
    Client,
    /// A group or transaction coordinator on this broker: epochs are checked, sequences are not.
    Coordinator,
    /// A follower that copies its leader, and recovery: the leader has checked already.
    Replication,
}
