//! The snapshots in the folder of the metadata log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use ottla_domain::ids::{LeaderEpoch, Offset};
use ottla_domain::raft::SnapshotId;
use ottla_domain::raft::snapshots::SnapshotFacts;

use crate::error::RaftError;
use crate::snapshot_file::{self, PARTIAL_SUFFIX, SUFFIX, file_name};

/// Kafka renames a snapshot so before it deletes it.
const DELETED_SUFFIX: &str = ".checkpoint.deleted";

/// Which snapshots there are, and what is known of them.
pub(crate) struct SnapshotStore {
    folder: PathBuf,
    known: BTreeMap<SnapshotId, SnapshotFacts>,
}

impl SnapshotStore {
    /// Finds the snapshots and removes what is incomplete, deleted, or before the log's start.
    pub(crate) fn open(folder: &Path, log_start: Offset) -> Result<SnapshotStore, RaftError> {
        let mut store = SnapshotStore {
            folder: folder.to_owned(),
            known: BTreeMap::new(),
        };
        let entries = fs::read_dir(folder).map_err(|error| RaftError::file(folder, error))?;
        for entry in entries {
            let path = entry.map_err(|error| RaftError::file(folder, error))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let is_useless = match parse_name(name) {
                _ if name.ends_with(PARTIAL_SUFFIX) || name.ends_with(DELETED_SUFFIX) => true,
                Some(id) if id.end_offset >= log_start => {
                    store.add(id)?;
                    false
                }
                found => found.is_some(),
            };
            if is_useless {
                fs::remove_file(&path).map_err(|error| RaftError::file(&path, error))?;
            }
        }
        Ok(store)
    }

    /// All snapshots in the order of their ids.
    pub(crate) fn facts(&self) -> Vec<SnapshotFacts> {
        self.known.values().copied().collect()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SnapshotId> {
        self.known.keys().copied()
    }

    pub(crate) fn latest(&self) -> Option<SnapshotId> {
        self.known.keys().next_back().copied()
    }

    pub(crate) fn path(&self, id: SnapshotId) -> PathBuf {
        self.folder.join(file_name(id))
    }

    /// A snapshot is complete.
    pub(crate) fn add(&mut self, id: SnapshotId) -> Result<(), RaftError> {
        let path = self.path(id);
        let size_bytes = fs::metadata(&path)
            .map_err(|error| RaftError::file(&path, error))?
            .len();
        let timestamp = snapshot_file::read_timestamp(&path)?;
        self.known.insert(
            id,
            SnapshotFacts {
                id,
                size_bytes,
                timestamp,
            },
        );
        Ok(())
    }

    /// Removes the snapshots before `id`.
    pub(crate) fn remove_before(&mut self, id: SnapshotId) -> Result<(), RaftError> {
        let kept = self.known.split_off(&id);
        for old in std::mem::replace(&mut self.known, kept).into_keys() {
            let path = self.path(old);
            fs::remove_file(&path).map_err(|error| RaftError::file(&path, error))?;
            tracing::info!(snapshot = %old, "deleted a metadata snapshot");
        }
        Ok(())
    }

    /// A piece of a snapshot and the size of the whole; `None` when there is no such piece.
    pub(crate) fn piece(
        &self,
        id: SnapshotId,
        position: i64,
        max_bytes: i32,
    ) -> Result<Option<(u64, Bytes)>, RaftError> {
        let Some(facts) = self.known.get(&id) else {
            return Ok(None);
        };
        let Some((position, left_bytes)) = u64::try_from(position)
            .ok()
            .and_then(|position| Some((position, facts.size_bytes.checked_sub(position)?)))
            .filter(|(_, left_bytes)| *left_bytes > 0)
        else {
            return Ok(None);
        };
        let size_bytes = left_bytes.min(u64::try_from(max_bytes).unwrap_or(0));
        let path = self.path(id);
        let mut piece = BytesMut::zeroed(size_bytes as usize);
        File::open(&path)
            .and_then(|file| file.read_exact_at(&mut piece, position))
            .map_err(|error| RaftError::file(&path, error))?;
        Ok(Some((facts.size_bytes, piece.freeze())))
    }
}

/// The id in `00000000000000000042-0000000003.checkpoint`.
fn parse_name(name: &str) -> Option<SnapshotId> {
    let (offset, epoch) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    if offset.len() != 20 || epoch.len() != 10 {
        return None;
    }
    Some(SnapshotId {
        end_offset: Offset(offset.parse().ok()?),
        epoch: LeaderEpoch(epoch.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use ottla_domain::ids::Timestamp;

    use super::*;
    use crate::snapshot_file::{SNAPSHOT_MODE, SnapshotWriter};

    #[test]
    fn what_a_crash_left_is_removed_and_whole_snapshots_are_read_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let id = |end_offset| SnapshotId {
            end_offset: Offset(end_offset),
            epoch: LeaderEpoch(2),
        };
        for end_offset in [5, 10] {
            let target = folder.path().join(file_name(id(end_offset)));
            let now = Timestamp(end_offset);
            let writer = SnapshotWriter::begin(target, SNAPSHOT_MODE, LeaderEpoch(2), now, now, None).unwrap();
            writer.finish().unwrap();
        }
        for useless in [
            "00000000000000000007-0000000002-3.checkpoint.part",
            "00000000000000000007-0000000002.checkpoint.deleted",
        ] {
            fs::write(folder.path().join(useless), "x").unwrap();
        }
        fs::write(folder.path().join("quorum-state"), "{}").unwrap();

        let store = SnapshotStore::open(folder.path(), Offset(6)).unwrap();
        assert_eq!(store.ids().collect::<Vec<_>>(), [id(10)]);
        assert_eq!(store.facts()[0].timestamp, Timestamp(10));
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["00000000000000000010-0000000002.checkpoint", "quorum-state"]);

        let whole = fs::read(store.path(id(10))).unwrap();
        let (size_bytes, first) = store.piece(id(10), 0, 100).unwrap().unwrap();
        assert_eq!((size_bytes as usize, &first[..]), (whole.len(), &whole[..100]));
        let (_, rest) = store.piece(id(10), 100, i32::MAX).unwrap().unwrap();
        assert_eq!(&rest[..], &whole[100..]);
        assert!(store.piece(id(10), whole.len() as i64, 1).unwrap().is_none());
        assert!(store.piece(id(10), -1, 1).unwrap().is_none());
        assert!(store.piece(id(5), 0, 1).unwrap().is_none());
    }
}
