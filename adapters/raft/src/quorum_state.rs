//! `quorum-state`: what a replica remembers of its epoch, in the JSON that Apache Kafka writes and reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ottla_domain::ids::{BrokerId, DirectoryId, LeaderEpoch};
use ottla_domain::raft::ElectionState;
use ottla_domain::raft::voters::{KRaftVersion, ReplicaKey};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::RaftError;

const FILE_NAME: &str = "quorum-state";
const NONE: i32 = -1;

/// Version 0 goes with `kraft.version` 0, version 1 with 1. Fields stand in Kafka's order.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    leader_id: i32,
    leader_epoch: i32,
    voted_id: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    voted_directory_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_voters: Option<Vec<ContentVoter>>,
    #[serde(rename = "data_version")]
    data_version: i16,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContentVoter {
    voter_id: i32,
}

/// The file in the folder of the metadata log.
pub(crate) struct QuorumStateFile(PathBuf);

impl QuorumStateFile {
    pub(crate) fn new(folder: &Path) -> QuorumStateFile {
        QuorumStateFile(folder.join(FILE_NAME))
    }

    /// The state of the last run, `None` on the first.
    pub(crate) fn read(&self) -> Result<Option<ElectionState>, RaftError> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RaftError::file(&self.0, error)),
        };
        let content: Content = serde_json::from_str(&text).map_err(|error| RaftError::malformed(&self.0, error))?;
        if !(0..=1).contains(&content.data_version) {
            let reason = format!("data_version {} is not 0 or 1", content.data_version);
            return Err(RaftError::malformed(&self.0, reason));
        }
        let directory = match &content.voted_directory_id {
            Some(text) => text.parse().map_err(|error| RaftError::malformed(&self.0, error))?,
            None => DirectoryId::ZERO,
        };
        Ok(Some(ElectionState {
            epoch: LeaderEpoch(content.leader_epoch),
            leader: (content.leader_id != NONE).then_some(BrokerId(content.leader_id)),
            voted: (content.voted_id != NONE).then(|| ReplicaKey::new(BrokerId(content.voted_id), directory)),
            voters: content
                .current_voters
                .into_iter()
                .flatten()
                .map(|voter| BrokerId(voter.voter_id))
                .collect(),
            kraft_version: KRaftVersion(content.data_version),
        }))
    }

    /// Writes the state durably.
    pub(crate) fn write(&self, state: &ElectionState) -> Result<(), RaftError> {
        let is_dynamic = state.kraft_version.has_dynamic_voters();
        let voted_directory = state.voted.map_or(DirectoryId::ZERO, ReplicaKey::directory_or_zero);
        let content = Content {
            cluster_id: (!is_dynamic).then(String::new),
            leader_id: state.leader.map_or(NONE, |leader| leader.0),
            leader_epoch: state.epoch.0,
            voted_id: state.voted.map_or(NONE, |voted| voted.id.0),
            voted_directory_id: is_dynamic.then(|| voted_directory.to_string()),
            applied_offset: (!is_dynamic).then_some(0),
            current_voters: (!is_dynamic).then(|| {
                state
                    .voters
                    .iter()
                    .map(|voter| ContentVoter { voter_id: voter.0 })
                    .collect()
            }),
            data_version: state.kraft_version.quorum_state_version(),
        };
        let text = serde_json::to_string(&content).map_err(|error| RaftError::malformed(&self.0, error))?;
        durable::replace(&self.0, text.as_bytes()).map_err(|error| RaftError::file(&self.0, error))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn state(kraft_version: i16, voted: Option<ReplicaKey>) -> ElectionState {
        ElectionState {
            epoch: LeaderEpoch(7),
            leader: voted.is_none().then_some(BrokerId(2)),
            voted,
            voters: if kraft_version == 0 {
                vec![BrokerId(1), BrokerId(2)]
            } else {
                Vec::new()
            },
            kraft_version: KRaftVersion(kraft_version),
        }
    }

    #[test]
    fn the_state_survives_a_round_trip_in_kafkas_form() {
        let folder = tempfile::tempdir().unwrap();
        let file = QuorumStateFile::new(folder.path());
        assert_eq!(file.read().unwrap(), None);
        let text = || fs::read_to_string(folder.path().join("quorum-state")).unwrap();

        let without_directory = state(0, Some(ReplicaKey::new(BrokerId(1), DirectoryId::ZERO)));
        file.write(&without_directory).unwrap();
        assert_eq!(file.read().unwrap(), Some(without_directory));
        assert_eq!(
            text(),
            r#"{"clusterId":"","leaderId":-1,"leaderEpoch":7,"votedId":1,"appliedOffset":0,"currentVoters":[{"voterId":1},{"voterId":2}],"data_version":0}"#
        );

        let with_directory = state(1, Some(ReplicaKey::new(BrokerId(1), DirectoryId(Uuid::from_u128(77)))));
        file.write(&with_directory).unwrap();
        assert_eq!(file.read().unwrap(), Some(with_directory));

        file.write(&state(1, None)).unwrap();
        assert_eq!(
            text(),
            r#"{"leaderId":2,"leaderEpoch":7,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#
        );
    }

    #[test]
    fn a_file_that_is_damaged_or_newer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = QuorumStateFile::new(folder.path());
        for text in [
            "",
            "{}",
            r#"{"leaderId":-1,"leaderEpoch":7,"votedId":1,"data_version":2}"#,
        ] {
            fs::write(folder.path().join("quorum-state"), text).unwrap();
            assert!(matches!(file.read(), Err(RaftError::Malformed { .. })));
        }
    }
}
