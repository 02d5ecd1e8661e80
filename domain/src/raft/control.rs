//! The quorum's own records in the log and in snapshots, in terms of Raft.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::control_records::{
    self as records, KRaftVersionFeature, KRaftVersionRecord, LeaderChangeMessage, LeaderChangeMessageVoter,
    SnapshotFooterRecord, SnapshotHeaderRecord, VotersRecord, VotersRecordVoter,
};
use super::voters::{Endpoint, Endpoints, KRaftVersion, ReplicaKey, Voter, VoterSet};
use crate::ids::{BrokerId, DirectoryId, LeaderEpoch, Offset, Timestamp};
use crate::record::batch::RecordBatch;
use crate::record::control::{ControlRecordType, control_batch};
use crate::record::primitives::{DecodeError, UnknownTaggedFields};
use crate::record::records::{Record, RecordError, Records};

/// Who leads from here on (KIP-595).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    /// The leader.
    pub leader: BrokerId,
    /// All voters.
    pub voters: Vec<BrokerId>,
    /// Those that voted for it.
    pub granting: Vec<BrokerId>,
}

/// A record of a control batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// The first record of an epoch.
    LeaderChange(LeaderChange),
    /// The first record of a snapshot.
    SnapshotHeader {
        /// When the last record that the snapshot covers was appended.
        last_contained_log_timestamp: Timestamp,
    },
    /// The last record of a snapshot.
    SnapshotFooter,
    /// The `kraft.version` from here on (KIP-853).
    KRaftVersion(KRaftVersion),
    /// The voters from here on (KIP-853).
    Voters(VoterSet),
    /// A type that this code does not know.
    Unknown(i16),
}

impl ControlRecord {
    fn record_type(&self) -> ControlRecordType {
        match self {
            ControlRecord::LeaderChange(_) => ControlRecordType::LeaderChange,
            ControlRecord::SnapshotHeader { .. } => ControlRecordType::SnapshotHeader,
            ControlRecord::SnapshotFooter => ControlRecordType::SnapshotFooter,
            ControlRecord::KRaftVersion(_) => ControlRecordType::KRaftVersion,
            ControlRecord::Voters(_) => ControlRecordType::KRaftVoters,
            ControlRecord::Unknown(id) => ControlRecordType::Unknown(*id),
        }
    }

    fn value(&self) -> Bytes {
        let mut value = BytesMut::new();
        match self {
            ControlRecord::LeaderChange(change) => LeaderChangeMessage {
                version: 0,
                leader_id: change.leader.0,
                voters: change.voters.iter().map(leader_change_voter).collect(),
                granting_voters: change.granting.iter().map(leader_change_voter).collect(),
                unknown_tagged_fields: UnknownTaggedFields::default(),
            }
            .encode(&mut value),
            ControlRecord::SnapshotHeader {
                last_contained_log_timestamp,
            } => SnapshotHeaderRecord {
                last_contained_log_timestamp: last_contained_log_timestamp.0,
                ..SnapshotHeaderRecord::default()
            }
            .encode(&mut value),
            ControlRecord::SnapshotFooter => SnapshotFooterRecord::default().encode(&mut value),
            ControlRecord::KRaftVersion(version) => KRaftVersionRecord {
                kraft_version: version.0,
                ..KRaftVersionRecord::default()
            }
            .encode(&mut value),
            ControlRecord::Voters(voters) => VotersRecord {
                voters: voters.iter().map(voter_to_record).collect(),
                ..VotersRecord::default()
            }
            .encode(&mut value),
            ControlRecord::Unknown(_) => {}
        }
        value.freeze()
    }

    fn parse(record: &Record<'_>) -> Result<ControlRecord, DecodeError> {
        let key = record.key.ok_or(DecodeError::UnexpectedNull)?;
        let value = record.value.ok_or(DecodeError::UnexpectedNull)?;
        Ok(match ControlRecordType::parse_key(key)? {
            ControlRecordType::LeaderChange => {
                let message = LeaderChangeMessage::decode(value)?;
                let ids = |voters: Vec<LeaderChangeMessageVoter>| {
                    voters.into_iter().map(|voter| BrokerId(voter.voter_id)).collect()
                };
                ControlRecord::LeaderChange(LeaderChange {
                    leader: BrokerId(message.leader_id),
                    voters: ids(message.voters),
                    granting: ids(message.granting_voters),
                })
            }
            ControlRecordType::SnapshotHeader => ControlRecord::SnapshotHeader {
                last_contained_log_timestamp: Timestamp(
                    SnapshotHeaderRecord::decode(value)?.last_contained_log_timestamp,
                ),
            },
            ControlRecordType::SnapshotFooter => ControlRecord::SnapshotFooter,
            ControlRecordType::KRaftVersion => {
                ControlRecord::KRaftVersion(KRaftVersion(KRaftVersionRecord::decode(value)?.kraft_version))
            }
            ControlRecordType::KRaftVoters => ControlRecord::Voters(
                VotersRecord::decode(value)?
                    .voters
                    .into_iter()
                    .map(voter_from_record)
                    .collect(),
            ),
            other => ControlRecord::Unknown(other.id()),
        })
    }
}

fn leader_change_voter(id: &BrokerId) -> LeaderChangeMessageVoter {
    LeaderChangeMessageVoter {
        voter_id: id.0,
        ..LeaderChangeMessageVoter::default()
    }
}

fn voter_to_record(voter: &Voter) -> VotersRecordVoter {
    let endpoint = |endpoint: &Endpoint| records::Endpoint {
        name: endpoint.listener.to_string(),
        host: endpoint.host.to_string(),
        port: endpoint.port,
        ..records::Endpoint::default()
    };
    VotersRecordVoter {
        voter_id: voter.key.id.0,
        voter_directory_id: voter.key.directory_or_zero().0,
        endpoints: voter.endpoints.0.iter().map(endpoint).collect(),
        kraft_version_feature: KRaftVersionFeature {
            min_supported_version: voter.min_kraft_version.0,
            max_supported_version: voter.max_kraft_version.0,
            ..KRaftVersionFeature::default()
        },
        ..VotersRecordVoter::default()
    }
}

fn voter_from_record(record: VotersRecordVoter) -> Voter {
    let endpoint = |endpoint: records::Endpoint| Endpoint {
        listener: Arc::from(endpoint.name),
        host: Arc::from(endpoint.host),
        port: endpoint.port,
    };
    Voter {
        key: ReplicaKey::new(BrokerId(record.voter_id), DirectoryId(record.voter_directory_id)),
        endpoints: Endpoints(record.endpoints.into_iter().map(endpoint).collect()),
        min_kraft_version: KRaftVersion(record.kraft_version_feature.min_supported_version),
        max_kraft_version: KRaftVersion(record.kraft_version_feature.max_supported_version),
    }
}

/// A control batch of these records, as a leader appends it and a snapshot holds it.
pub fn batch(base_offset: Offset, epoch: LeaderEpoch, now: Timestamp, records: &[ControlRecord]) -> RecordBatch {
    let mut builder = control_batch(
        base_offset,
        now,
        records.iter().map(|record| (record.record_type(), record.value())),
    );
    builder.partition_leader_epoch = epoch;
    builder.build()
}

/// The control records of a batch with their offsets; none when it is a batch of data.
///
/// # Errors
///
/// A batch of control records that cannot be read.
pub fn read(batch: &RecordBatch) -> Result<Vec<(Offset, ControlRecord)>, RecordError> {
    if !batch.header.attributes.is_control() {
        return Ok(Vec::new());
    }
    let body = batch.body();
    Records::new(&batch.header, &body)?
        .map(|record| {
            let record = record?;
            Ok((record.offset, ControlRecord::parse(&record)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn records_survive_a_round_trip() {
        let voter = Voter {
            key: ReplicaKey::new(BrokerId(3), DirectoryId(Uuid::from_u128(9))),
            endpoints: Endpoints(vec![Endpoint {
                listener: "CONTROLLER".into(),
                host: "localhost".into(),
                port: 9093,
            }]),
            min_kraft_version: KRaftVersion(0),
            max_kraft_version: KRaftVersion(1),
        };
        let records = [
            ControlRecord::LeaderChange(LeaderChange {
                leader: BrokerId(3),
                voters: vec![BrokerId(3), BrokerId(4)],
                granting: vec![BrokerId(3)],
            }),
            ControlRecord::SnapshotHeader {
                last_contained_log_timestamp: Timestamp(77),
            },
            ControlRecord::KRaftVersion(KRaftVersion(1)),
            ControlRecord::Voters([voter].into_iter().collect()),
            ControlRecord::SnapshotFooter,
        ];
        let batch = batch(Offset(5), LeaderEpoch(2), Timestamp(1), &records);
        assert_eq!(batch.header.partition_leader_epoch, LeaderEpoch(2));
        let (offsets, found): (Vec<_>, Vec<_>) = read(&batch).unwrap().into_iter().unzip();
        assert_eq!(offsets.last(), Some(&Offset(9)));
        assert_eq!(found, records);
    }
}
