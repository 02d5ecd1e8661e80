//! Why the quorum's replica cannot go on.

use std::io;
use std::path::PathBuf;

use ottla_domain::ids::Offset;
use ottla_domain::ports::outbound::StorageError;
use ottla_domain::raft::Fault;
use ottla_domain::raft::voters::ReplicaKey;
use ottla_domain::record::batch::BatchError;
use ottla_domain::record::primitives::DecodeError;
use ottla_domain::record::records::RecordError;

/// The replica stops, and the node with it: without the metadata log it cannot know what it serves.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file says what it must not.
    #[error("{path}: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The log could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A record of the log cannot be read: it is damaged, or of a type or version that this release does not know.
    #[error("__cluster_metadata-0: cannot read the record at offset {offset}: {reason}")]
    Record {
        /// Its offset, or that of its batch.
        offset: Offset,
        /// Why.
        reason: RecordProblem,
    },
    /// The quorum contradicts itself.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The log lost its head and no snapshot stands in for it.
    #[error("the metadata log in {path} starts at {log_start} but has no snapshot up to there", path = path.display())]
    SnapshotMissing {
        /// The log's folder.
        path: PathBuf,
        /// Where the log starts.
        log_start: Offset,
    },
    /// Neither `controller.quorum.voters` nor the log names a voter, and there is nobody to ask.
    #[error("no controllers are known: set controller.quorum.voters or controller.quorum.bootstrap.servers")]
    NoControllers,
    /// This controller is no voter, and there is nobody else who could let it learn of a leader.
    #[error(
        "{path}: by its meta.properties this controller is {local}, but the voters in __cluster_metadata-0 are {voters}, \
         and no other controller is known to ask; bring back the file that was changed or lost, or format the directory \
         anew",
        path = path.display()
    )]
    NotAVoter {
        /// The directory of the metadata.
        path: PathBuf,
        /// This node and its directory.
        local: ReplicaKey,
        /// The voters; `none` without one.
        voters: String,
    },
    /// The system refused a thread.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl RaftError {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> RaftError {
        RaftError::File {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn malformed(path: impl Into<PathBuf>, reason: impl ToString) -> RaftError {
        RaftError::Malformed {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn record(offset: Offset, reason: impl Into<RecordProblem>) -> RaftError {
        RaftError::Record {
            offset,
            reason: reason.into(),
        }
    }
}

/// Why a record of the metadata log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordProblem {
    /// Its batch is damaged.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// It has no proper form.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its value has no proper form, or one that is not known.
    #[error(transparent)]
    Value(#[from] DecodeError),
    /// The log ends before the high watermark.
    #[error("the log has no batch there")]
    Missing,
}
