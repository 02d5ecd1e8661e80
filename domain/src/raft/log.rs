//! What Raft knows of its log: where it starts and ends, the epochs in it, its snapshots, and the voters it names.
//!
//! This mirrors the log on disk and changes with the effects that ask the driver to change it.

use std::collections::BTreeSet;
use std::fmt;

use super::control::{self, ControlRecord};
use super::voters::{History, KRaftVersion, VoterSet};
use crate::ids::{LeaderEpoch, Offset};
use crate::log::epochs::LeaderEpochHistory;
use crate::record::batch::{BatchHeader, RecordBatch};
use crate::record::records::RecordError;

/// Names a snapshot: it holds everything below `end_offset`, whose last record is of `epoch`. Ordered by epoch first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId {
    /// The epoch of the last record in the snapshot.
    pub epoch: LeaderEpoch,
    /// One past the last offset in the snapshot.
    pub end_offset: Offset,
}

impl SnapshotId {
    /// The snapshot that `format` writes for `kraft.version` 1: the first voters. It is never replicated.
    pub const BOOTSTRAP: SnapshotId = SnapshotId {
        epoch: LeaderEpoch(0),
        end_offset: Offset(0),
    };
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:010}", self.end_offset.0, self.epoch.0)
    }
}

/// An epoch and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// One past its last offset.
    pub end_offset: Offset,
}

/// How a fetcher's position relates to this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Everything below it is the same in both logs.
    Valid,
    /// The logs agree at most up to here.
    Diverging(EpochEnd),
    /// It lies before this log: a snapshot is needed.
    Snapshot(SnapshotId),
}

/// Why a batch cannot be appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It does not continue the log.
    #[error(
        "a batch at offset {offset} of epoch {epoch} does not continue the log that ends at {log_end} in epoch {last_epoch}"
    )]
    OutOfOrder {
        /// The batch's base offset.
        offset: Offset,
        /// The batch's epoch.
        epoch: LeaderEpoch,
        /// Where the log ends.
        log_end: Offset,
        /// The epoch of the log's last record.
        last_epoch: LeaderEpoch,
    },
    /// Its control records cannot be read.
    #[error(transparent)]
    Malformed(#[from] RecordError),
}

/// What Raft knows of the log.
#[derive(Clone, Debug)]
pub struct ReplicatedLog {
    start: Offset,
    end: Offset,
    epochs: LeaderEpochHistory,
    snapshots: BTreeSet<SnapshotId>,
    static_voters: VoterSet,
    voters: History<VoterSet>,
    kraft_versions: History<KRaftVersion>,
    committed: Offset,
}

impl ReplicatedLog {
    /// The log as it was found on disk, with `static_voters` from `controller.quorum.voters`. Control records of the latest
    /// snapshot ([`ReplicatedLog::learn_snapshot`]) and of the log behind it ([`ReplicatedLog::learn`]) follow.
    pub fn new(
        static_voters: VoterSet,
        start: Offset,
        end: Offset,
        epochs: LeaderEpochHistory,
        snapshots: impl IntoIterator<Item = SnapshotId>,
    ) -> ReplicatedLog {
        ReplicatedLog {
            start,
            end,
            epochs,
            snapshots: snapshots.into_iter().collect(),
            static_voters,
            voters: History::default(),
            kraft_versions: History::default(),
            committed: start,
        }
    }

    /// The first offset.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// One past the last offset.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Everything below is known to be committed: it is never truncated. Unlike the high watermark it survives elections.
    pub fn committed(&self) -> Offset {
        self.committed
    }

    /// The epoch of the last record; 0 when there is none.
    pub fn last_epoch(&self) -> LeaderEpoch {
        match self.epochs.latest() {
            Some(entry) => entry.epoch,
            None => self.latest_snapshot().map_or(LeaderEpoch(0), |id| id.epoch),
        }
    }

    /// Where the log ends and in which epoch: the larger one has the longer log.
    pub fn last(&self) -> EpochEnd {
        EpochEnd {
            epoch: self.last_epoch(),
            end_offset: self.end,
        }
    }

    /// The newest snapshot.
    pub fn latest_snapshot(&self) -> Option<SnapshotId> {
        self.snapshots.last().copied()
    }

    /// The oldest snapshot; once the log lost its head it is the one at the log's start.
    pub fn earliest_snapshot(&self) -> Option<SnapshotId> {
        self.snapshots.first().copied()
    }

    /// True when the snapshot is on disk.
    pub fn has_snapshot(&self, id: SnapshotId) -> bool {
        self.snapshots.contains(&id)
    }

    /// The voters by the last word of the log, committed or not.
    pub fn voters(&self) -> &VoterSet {
        self.voters.last().map_or(&self.static_voters, |(_, voters)| voters)
    }

    /// Where the log names the voters: -1 for the bootstrap snapshot, `None` for static voters.
    pub(super) fn voters_offset(&self) -> Option<Offset> {
        self.voters.last().map(|(offset, _)| offset)
    }

    /// The `kraft.version` by the last word of the log.
    pub fn kraft_version(&self) -> KRaftVersion {
        self.kraft_versions
            .last()
            .map_or(KRaftVersion::default(), |(_, version)| *version)
    }

    /// What a snapshot up to `end` has to say of the quorum: the version, and the voters where the log names them.
    pub fn quorum_at(&self, end: Offset) -> (KRaftVersion, Option<&VoterSet>) {
        let last = Offset(end.0.saturating_sub(1));
        (
            self.kraft_versions.at(last).copied().unwrap_or_default(),
            self.voters.at(last),
        )
    }

    /// The largest epoch at or below `epoch` and where it ends; the log's end when the epoch is newer than all.
    pub(super) fn end_of(&self, epoch: LeaderEpoch) -> EpochEnd {
        let (found, end_offset) = self.epochs.end_offset_for(epoch, self.end);
        if found == LeaderEpoch::UNKNOWN || end_offset == Offset::NONE {
            return self.last();
        }
        match self.earliest_snapshot() {
            // The log knows the epoch of its first record, the snapshot before it that of the record before.
            Some(snapshot) if end_offset == snapshot.end_offset && found == epoch => EpochEnd {
                epoch: snapshot.epoch,
                end_offset,
            },
            _ => EpochEnd {
                epoch: found,
                end_offset,
            },
        }
    }

    /// Relates a fetcher's position, `epoch` being that of the record before `offset`, to this log (KIP-595, KIP-630).
    pub(super) fn position(&self, offset: Offset, epoch: LeaderEpoch) -> Position {
        if offset == Offset::ZERO && self.start == Offset::ZERO {
            return Position::Valid;
        }
        if let (Some(earliest), Some(latest)) = (self.earliest_snapshot(), self.latest_snapshot())
            && (offset < self.start || (offset == self.start && epoch != earliest.epoch) || epoch < earliest.epoch)
        {
            return Position::Snapshot(latest);
        }
        let end = self.end_of(epoch);
        if end.epoch != epoch || end.end_offset < offset {
            Position::Diverging(end)
        } else {
            Position::Valid
        }
    }

    /// Where to truncate when the leader's log departs at `diverging`.
    pub(super) fn truncation_point(&self, diverging: EpochEnd) -> Offset {
        if diverging.epoch == LeaderEpoch(0) {
            return diverging.end_offset.min(self.end);
        }
        let local = self.end_of(diverging.epoch);
        if local.epoch == diverging.epoch {
            local.end_offset.min(diverging.end_offset)
        } else {
            local.end_offset
        }
    }

    /// Checks that a batch continues the log, and takes it in.
    pub(super) fn append(&mut self, batch: &RecordBatch) -> Result<(), AppendError> {
        let BatchHeader {
            base_offset: offset,
            partition_leader_epoch: epoch,
            ..
        } = batch.header;
        let last_epoch = self.last_epoch();
        if offset != self.end || batch.header.next_offset() <= offset || epoch < last_epoch {
            return Err(AppendError::OutOfOrder {
                offset,
                epoch,
                log_end: self.end,
                last_epoch,
            });
        }
        self.learn(batch)?;
        self.epochs.assign(epoch, offset);
        self.end = batch.header.next_offset();
        Ok(())
    }

    /// A new leader's epoch starts at the log's end, whether or not a record of it follows.
    pub(super) fn start_epoch(&mut self, epoch: LeaderEpoch) {
        self.epochs.assign(epoch, self.end);
    }

    /// Takes in the control records of a batch of the log.
    pub fn learn(&mut self, batch: &RecordBatch) -> Result<(), RecordError> {
        for (offset, record) in control::read(batch)? {
            self.learn_record(offset, record);
        }
        Ok(())
    }

    /// Takes in the control records of the snapshot `id`, in place of what was known.
    pub fn learn_snapshot(&mut self, id: SnapshotId, records: impl IntoIterator<Item = ControlRecord>) {
        self.voters.clear();
        self.kraft_versions.clear();
        let last = Offset(id.end_offset.0.saturating_sub(1));
        for record in records {
            self.learn_record(last, record);
        }
    }

    fn learn_record(&mut self, offset: Offset, record: ControlRecord) {
        match record {
            ControlRecord::Voters(voters) => self.voters.set(offset, voters),
            ControlRecord::KRaftVersion(version) => self.kraft_versions.set(offset, version),
            _ => {}
        }
    }

    pub(super) fn truncate(&mut self, end: Offset) {
        self.end = end.min(self.end);
        self.epochs.truncate_from_end(end);
        self.voters.truncate_from_end(end);
        self.kraft_versions.truncate_from_end(end);
    }

    pub(super) fn commit(&mut self, high_watermark: Offset) {
        self.committed = self.committed.max(high_watermark);
    }

    /// A snapshot is on disk.
    pub(super) fn add_snapshot(&mut self, id: SnapshotId) {
        self.snapshots.insert(id);
        self.voters.truncate_from_start(id.end_offset);
        self.kraft_versions.truncate_from_start(id.end_offset);
    }

    /// The log now starts at this snapshot, and older ones are gone.
    pub(super) fn start_at(&mut self, id: SnapshotId) {
        self.start = self.start.max(id.end_offset);
        self.epochs.truncate_from_start(id.end_offset);
        self.snapshots = self.snapshots.split_off(&id);
    }

    /// The log was replaced, empty, by this snapshot.
    pub(super) fn replace(&mut self, id: SnapshotId) {
        self.start = id.end_offset;
        self.end = id.end_offset;
        self.committed = id.end_offset;
        self.epochs = LeaderEpochHistory::default();
        self.snapshots = BTreeSet::from([id]);
    }
}
