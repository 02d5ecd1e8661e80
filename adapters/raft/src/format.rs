//! What formatting writes: the bootstrap records of every log directory, and the first voters of a dynamic quorum.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ottla_domain::ids::{LeaderEpoch, Timestamp};
use ottla_domain::metadata::records::MetadataRecord;
use ottla_domain::raft::SnapshotId;
use ottla_domain::raft::voters::{KRaftVersion, VoterSet};

use crate::durable;
use crate::error::RaftError;
use crate::snapshot_file::{self, SNAPSHOT_MODE, SnapshotWriter, file_name};

/// The folder of the metadata log within `metadata.log.dir`.
pub const METADATA_FOLDER: &str = "__cluster_metadata-0";
const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";

/// Writes `bootstrap.checkpoint` into a log directory: the records that the first controller to lead writes into the
/// empty metadata log (KIP-778).
pub fn write_bootstrap(log_dir: &Path, records: &[MetadataRecord], now: Timestamp) -> Result<(), RaftError> {
    let target = log_dir.join(BOOTSTRAP_FILE);
    let mut writer = SnapshotWriter::begin(target, 0o644, LeaderEpoch(0), now, Timestamp(0), None)?;
    for record in records {
        writer.push(record)?;
    }
    writer.finish()
}

/// Reads `bootstrap.checkpoint`; `None` when the directory has none.
pub fn read_bootstrap(log_dir: &Path) -> Result<Option<Vec<MetadataRecord>>, RaftError> {
    let path = log_dir.join(BOOTSTRAP_FILE);
    match snapshot_file::read(&path) {
        Ok(content) => Ok(Some(content.records)),
        Err(RaftError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the first voters of a quorum under `kraft.version` 1 into the metadata folder, for `format --standalone` and
/// `--initial-controllers`. Static `controller.quorum.voters` have no such file.
pub fn write_initial_voters(metadata_log_dir: &Path, voters: &VoterSet, now: Timestamp) -> Result<(), RaftError> {
    let folder = metadata_folder(metadata_log_dir);
    fs::create_dir_all(&folder)
        .and_then(|()| durable::sync_folder(metadata_log_dir))
        .map_err(|error| RaftError::file(&folder, error))?;
    let target = folder.join(file_name(SnapshotId::BOOTSTRAP));
    let quorum = (KRaftVersion::LATEST, Some(voters.clone()));
    SnapshotWriter::begin(target, SNAPSHOT_MODE, LeaderEpoch(0), now, now, Some(quorum))?.finish()
}

/// The folder of the metadata log.
pub fn metadata_folder(metadata_log_dir: &Path) -> PathBuf {
    metadata_log_dir.join(METADATA_FOLDER)
}

#[cfg(test)]
mod tests {
    use ottla_domain::ids::{BrokerId, DirectoryId};
    use ottla_domain::metadata::records::FeatureLevelRecord;
    use ottla_domain::raft::control::ControlRecord;
    use ottla_domain::raft::voters::{Endpoints, ReplicaKey, Voter};

    use super::*;

    #[test]
    fn bootstrap_records_survive_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_bootstrap(dir.path()).unwrap().is_none());
        let records: Vec<MetadataRecord> = ["metadata.version", "group.version"]
            .map(|name| {
                MetadataRecord::FeatureLevel(FeatureLevelRecord {
                    name: name.to_owned(),
                    feature_level: 1,
                    ..FeatureLevelRecord::default()
                })
            })
            .into();
        write_bootstrap(dir.path(), &records, Timestamp(5)).unwrap();
        write_bootstrap(dir.path(), &records, Timestamp(6)).unwrap();
        assert_eq!(read_bootstrap(dir.path()).unwrap(), Some(records));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        let path = dir.path().join(BOOTSTRAP_FILE);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 75]).unwrap();
        assert!(matches!(read_bootstrap(dir.path()), Err(RaftError::Malformed { .. })));
    }

    #[test]
    fn the_first_voters_are_a_snapshot_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let voter = Voter {
            key: ReplicaKey::new(BrokerId(1), DirectoryId(uuid::Uuid::from_u128(8))),
            endpoints: Endpoints::default(),
            min_kraft_version: KRaftVersion(0),
            max_kraft_version: KRaftVersion(1),
        };
        let voters: VoterSet = [voter].into_iter().collect();
        write_initial_voters(dir.path(), &voters, Timestamp(5)).unwrap();
        let path = metadata_folder(dir.path()).join("00000000000000000000-0000000000.checkpoint");
        let content = snapshot_file::read(&path).unwrap();
        assert_eq!(content.timestamp, Timestamp(5));
        assert_eq!(content.control[1], ControlRecord::KRaftVersion(KRaftVersion(1)));
        assert_eq!(content.control[2], ControlRecord::Voters(voters));
        assert!(content.records.is_empty());
    }
}
