//! KRaft driven over the ports: the quorum's state, the metadata log, its snapshots, and what formatting writes.
//!
//! [`start`] runs one replica of the metadata log on a thread of its own; [`RaftHandle`] is how the node speaks to it. What
//! is right is decided by [`ottla_domain::raft`]; here is what touches files, threads and channels.

mod batches;
mod disk;
mod durable;
mod error;
mod facts;
mod format;
mod handle;
mod inbox;
mod listener;
mod quorum_state;
mod replica;
mod snapshot_file;
mod snapshot_store;
#[cfg(test)]
mod tests;

pub use error::{RaftError, RecordProblem};
pub use facts::RaftFacts;
pub use format::{METADATA_FOLDER, metadata_folder, read_bootstrap, write_bootstrap, write_initial_voters};
pub use handle::{NoPeers, RaftHandle};
pub use replica::{ReplicaConfig, ReplicaPorts, Running, Stopped, start};
