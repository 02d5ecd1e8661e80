//! What the replica has on disk: the log, its state, and the files beside it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{LeaderEpoch, Offset, Timestamp};
use ottla_domain::log::state::LogState;
use ottla_domain::ports::outbound::{EncodedBatch, OpenedLog, PartitionLog, StorageError};
use ottla_domain::raft::messages::{Fetched, Reply, ReplyResult};
use ottla_domain::raft::voters::VoterSet;
use ottla_domain::raft::{Input, Read, ReplicatedLog, SnapshotId, SnapshotPiece};
use ottla_domain::record::batch::{Batches, RecordBatch};

use crate::error::{RaftError, RecordProblem};
use crate::quorum_state::QuorumStateFile;
use crate::snapshot_file::{self, PartialSnapshot, SNAPSHOT_MODE};
use crate::snapshot_store::SnapshotStore;

/// How much of the log is read at a time to learn or tell of it.
const READ_SIZE_BYTES: usize = 1 << 20;

/// The log, its state, and the files beside it.
pub(crate) struct Disk<L> {
    pub(crate) log: Arc<L>,
    pub(crate) state: LogState,
    pub(crate) quorum_state: QuorumStateFile,
    pub(crate) snapshots: SnapshotStore,
    /// A snapshot that is being fetched.
    partial: Option<(SnapshotId, PartialSnapshot)>,
}

impl<L: PartitionLog> Disk<L> {
    pub(crate) fn open(opened: OpenedLog<L>, folder: &Path) -> Result<Disk<L>, RaftError> {
        let OpenedLog { log, mut state, .. } = opened;
        let log_start = log.log_start_offset();
        let mut snapshots = SnapshotStore::open(folder, log_start)?;
        if log_start > Offset::ZERO && snapshots.latest().is_none_or(|id| id.end_offset < log_start) {
            let path = folder.to_owned();
            return Err(RaftError::SnapshotMissing { path, log_start });
        }
        // A crash between the end of a snapshot's download and the replacement of the log.
        if let Some(id) = snapshots.latest()
            && let log_epoch = state.epochs.latest().map_or(LeaderEpoch(0), |entry| entry.epoch)
            && (id.epoch > log_epoch || (id.epoch == log_epoch && id.end_offset > log.log_end_offset()))
        {
            log.replace_all(id.end_offset, &mut state)?;
            snapshots.remove_before(id)?;
        }
        // What a crash of the process left in the page cache is counted as stored from here on.
        log.sync()?;
        Ok(Disk {
            log,
            state,
            quorum_state: QuorumStateFile::new(folder),
            snapshots,
            partial: None,
        })
    }

    /// What Raft has to know of the log: control records of the latest snapshot and of the log behind it.
    pub(crate) fn replicated_log(&self, static_voters: VoterSet) -> Result<ReplicatedLog, RaftError> {
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        let mut replicated = ReplicatedLog::new(
            static_voters,
            start,
            end,
            self.state.epochs.clone(),
            self.snapshots.ids(),
        );
        let mut next = start;
        if let Some(id) = self.snapshots.latest() {
            let content = snapshot_file::read_control(&self.snapshots.path(id))?;
            replicated.learn_snapshot(id, content.control);
            next = id.end_offset;
        }
        while next < end {
            let from = next;
            for batch in self.read(from, end)? {
                next = batch.header.next_offset();
                replicated
                    .learn(&batch)
                    .map_err(|error| RaftError::record(batch.header.base_offset, error))?;
            }
            if next == from {
                return Err(RaftError::record(from, RecordProblem::Missing));
            }
        }
        Ok(replicated)
    }

    /// The next batches from `from` on, below `upper`.
    pub(crate) fn read(&self, from: Offset, upper: Offset) -> Result<Vec<RecordBatch>, RaftError> {
        let slice = self.log.read(from, upper, READ_SIZE_BYTES, true)?;
        let mut next = from;
        Batches::new(self.log.load(&slice)?)
            .map(|batch| {
                let batch = batch.map_err(|error| RaftError::record(next, error))?;
                // No CRC covers the offset.
                if batch.header.base_offset > next || batch.header.next_offset() <= next {
                    return Err(RaftError::record(next, RecordProblem::Missing));
                }
                next = batch.header.next_offset();
                batch
                    .check_crc()
                    .map_err(|error| RaftError::record(batch.header.base_offset, error))?;
                Ok(batch)
            })
            .collect()
    }

    pub(crate) fn append(&mut self, batches: &[RecordBatch], now: Timestamp) -> Result<(), StorageError> {
        let encoded: Vec<_> = batches
            .iter()
            .map(|batch| EncodedBatch {
                header: batch.header,
                header_bytes: batch.header.encode(),
                body: batch.body(),
            })
            .collect();
        self.log.append(&encoded, &self.state, now)?;
        let mut is_new_epoch = false;
        for batch in batches {
            is_new_epoch |= self.state.replay(&batch.header, None).epochs_changed;
        }
        if is_new_epoch {
            self.log.store_epochs(&self.state)?;
        }
        Ok(())
    }

    /// Writes a piece of a fetched snapshot; the last one replaces the log.
    pub(crate) fn write_piece(&mut self, piece: SnapshotPiece) -> Result<Option<Input>, RaftError> {
        let SnapshotPiece {
            id,
            position,
            bytes,
            is_last,
        } = piece;
        let mut partial = match self.partial.take() {
            Some((partial_id, partial)) if partial_id == id && position > 0 => partial,
            _ => PartialSnapshot::create(self.snapshots.path(id), SNAPSHOT_MODE)?,
        };
        if i64::try_from(partial.size_bytes()) != Ok(position) {
            let reason = format!("a piece at {position} does not follow {} bytes", partial.size_bytes());
            return Err(RaftError::malformed(self.snapshots.path(id), reason));
        }
        partial.write(&bytes)?;
        if !is_last {
            self.partial = Some((id, partial));
            return Ok(None);
        }
        partial.freeze()?;
        let content = snapshot_file::read_control(&self.snapshots.path(id))?;
        self.log.replace_all(id.end_offset, &mut self.state)?;
        self.snapshots.add(id)?;
        self.snapshots.remove_before(id)?;
        Ok(Some(Input::SnapshotInstalled {
            id,
            records: content.control,
        }))
    }

    /// Reads what an answer carries.
    pub(crate) fn fill(&self, read: Read, reply: &mut ReplyResult) -> Result<(), RaftError> {
        match (read, reply) {
            (Read::Log { from, up_to, max_bytes }, Ok(Reply::Fetch(reply))) => {
                let max_bytes = usize::try_from(max_bytes).unwrap_or(0);
                let slice = self.log.read(from, up_to, max_bytes, true)?;
                reply.fetched = Fetched::Records(whole_batches(self.log.load(&slice)?));
            }
            (
                Read::Snapshot {
                    id,
                    position,
                    max_bytes,
                },
                Ok(Reply::FetchSnapshot(reply)),
            ) => match self.snapshots.piece(id, position, max_bytes)? {
                Some((size_bytes, bytes)) => {
                    reply.size_bytes = i64::try_from(size_bytes).unwrap_or(i64::MAX);
                    reply.bytes = bytes;
                }
                None => {
                    reply.leadership.error = ErrorCode::PositionOutOfRange;
                    reply.snapshot = None;
                }
            },
            _ => {}
        }
        Ok(())
    }
}

/// Cuts off a batch that is not all there.
fn whole_batches(bytes: Bytes) -> Bytes {
    let mut batches = Batches::new(bytes.clone());
    while batches.by_ref().next().is_some() {}
    bytes.slice(..bytes.len() - batches.rest().len())
}
