//! KRaft driven over the ports: the quorum's state, the metadata log, its snapshots, and what formatting writes.

#![allow(dead_code, reason = "the driver, which uses the rest, follows")]

mod batches;
mod durable;
mod error;
mod format;
mod quorum_state;
mod snapshot_file;

pub use error::{RaftError, RecordProblem};
pub use format::{METADATA_FOLDER, metadata_folder, read_bootstrap, write_bootstrap, write_initial_voters};
