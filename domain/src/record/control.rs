//! Control records: what brokers and the quorum write between the records of clients.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::record::batch::{BatchHeader, NO_SEQUENCE, RecordBatch};
use crate::record::primitives::{DecodeError, Reader};
use crate::record::records::{BatchBuilder, Record, RecordError, Records};

/// What a control record says, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecordType {
    /// The transaction of this producer was aborted.
    Abort,
    /// The transaction of this producer was committed.
    Commit,
    /// A new leader of a KRaft quorum (KIP-595).
    LeaderChange,
    /// The first record of a snapshot (KIP-630).
    SnapshotHeader,
    /// The last record of a snapshot (KIP-630).
    SnapshotFooter,
    /// The version of KRaft that the quorum uses (KIP-853).
    KRaftVersion,
    /// The voters of the quorum (KIP-853).
    KRaftVoters,
    /// A type that Kafka does not define; readers skip it.
    Unknown(i16),
}

impl ControlRecordType {
    /// The number in the key.
    pub const fn id(self) -> i16 {
        match self {
            ControlRecordType::Abort => 0,
            ControlRecordType::Commit => 1,
            ControlRecordType::LeaderChange => 2,
            ControlRecordType::SnapshotHeader => 3,
            ControlRecordType::SnapshotFooter => 4,
            ControlRecordType::KRaftVersion => 5,
            ControlRecordType::KRaftVoters => 6,
            ControlRecordType::Unknown(id) => id,
        }
    }

    /// The type of this number.
    pub const fn from_id(id: i16) -> ControlRecordType {
        match id {
            0 => ControlRecordType::Abort,
            1 => ControlRecordType::Commit,
            2 => ControlRecordType::LeaderChange,
            3 => ControlRecordType::SnapshotHeader,
            4 => ControlRecordType::SnapshotFooter,
            5 => ControlRecordType::KRaftVersion,
            6 => ControlRecordType::KRaftVoters,
            id => ControlRecordType::Unknown(id),
        }
    }

    /// The key of such a record: version 0 and the type.
    pub const fn key(self) -> [u8; 4] {
        let [high, low] = self.id().to_be_bytes();
        [0, 0, high, low]
    }

    /// Reads a key. Keys of later versions are read as the newest one that is known.
    pub fn parse_key(key: &[u8]) -> Result<ControlRecordType, DecodeError> {
        let mut reader = Reader::new(key);
        check_version(reader.i16()?)?;
        Ok(ControlRecordType::from_id(reader.i16()?))
    }
}

fn check_version(version: i16) -> Result<(), DecodeError> {
    match version {
        0.. => Ok(()),
        _ => Err(DecodeError::UnsupportedVersion {
            record: "control record",
            version: i32::from(version),
        }),
    }
}

/// Ends a transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Committed, else aborted.
    pub committed: bool,
    /// Fences older transaction coordinators.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads the record of a control batch; `None` when it is another kind of control record.
    pub fn parse(record: &Record<'_>) -> Result<Option<EndTxnMarker>, DecodeError> {
        let committed = match ControlRecordType::parse_key(record.key.ok_or(DecodeError::UnexpectedNull)?)? {
            ControlRecordType::Commit => true,
            ControlRecordType::Abort => false,
            _ => return Ok(None),
        };
        let mut reader = Reader::new(record.value.ok_or(DecodeError::UnexpectedNull)?);
        check_version(reader.i16()?)?;
        Ok(Some(EndTxnMarker {
            committed,
            coordinator_epoch: reader.i32()?,
        }))
    }

    /// The marker of a control batch; `None` for any other batch.
    pub fn of_batch(batch: &BatchHeader, body: &[u8]) -> Result<Option<EndTxnMarker>, RecordError> {
        if !batch.attributes.is_control() || !batch.has_producer_id() {
            return Ok(None);
        }
        match Records::new(batch, body)?.next() {
            Some(record) => Ok(EndTxnMarker::parse(&record?)?),
            // Compaction removed the marker and kept the batch.
            None => Ok(None),
        }
    }

    /// The batch that writes this marker for a producer; the leader assigns its offset.
    pub fn batch(self, producer_id: ProducerId, producer_epoch: ProducerEpoch, now: Timestamp) -> RecordBatch {
        let record_type = match self.committed {
            true => ControlRecordType::Commit,
            false => ControlRecordType::Abort,
        };
        let mut value = BytesMut::with_capacity(6);
        value.put_i16(0);
        value.put_i32(self.coordinator_epoch);
        let mut builder = control_batch(Offset::ZERO, now, [(record_type, value.freeze())]);
        builder.attributes = builder.attributes.with_transactional(true);
        builder.producer_id = producer_id;
        builder.producer_epoch = producer_epoch;
        builder.base_sequence = NO_SEQUENCE;
        builder.build()
    }
}

/// A control batch of these records, to be completed and built.
pub fn control_batch(
    base_offset: Offset,
    now: Timestamp,
    records: impl IntoIterator<Item = (ControlRecordType, Bytes)>,
) -> BatchBuilder {
    let mut builder = BatchBuilder::new(base_offset);
    builder.attributes = builder.attributes.with_control(true);
    for (record_type, value) in records {
        builder.append(now, Some(&record_type.key()), Some(&value));
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_survive_a_round_trip() {
        let marker = EndTxnMarker {
            committed: false,
            coordinator_epoch: 9,
        };
        let batch = marker.batch(ProducerId(5), ProducerEpoch(2), Timestamp(77));
        assert!(batch.header.attributes.is_control() && batch.header.attributes.is_transactional());
        let body = batch.body();
        let record = Records::new(&batch.header, &body).unwrap().next().unwrap().unwrap();
        assert_eq!(EndTxnMarker::parse(&record), Ok(Some(marker)));
        assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 9][..]));
        assert_eq!(EndTxnMarker::of_batch(&batch.header, &body), Ok(Some(marker)));

        let batch = control_batch(
            Offset(0),
            Timestamp(1),
            [(ControlRecordType::LeaderChange, Bytes::new())],
        )
        .build();
        let body = batch.body();
        let record = Records::new(&batch.header, &body).unwrap().next().unwrap().unwrap();
        assert_eq!(EndTxnMarker::parse(&record), Ok(None));
    }

    #[test]
    fn keys_have_kafkas_form() {
        assert_eq!(ControlRecordType::KRaftVoters.key(), [0, 0, 0, 6]);
        assert_eq!(
            ControlRecordType::parse_key(&[0, 3, 0, 99, 1]),
            Ok(ControlRecordType::Unknown(99))
        );
        assert!(ControlRecordType::parse_key(&[0xff, 0xff, 0, 1]).is_err());
        assert!(ControlRecordType::parse_key(&[0, 0, 0]).is_err());
    }
}
