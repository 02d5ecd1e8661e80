//! Kafka's `.snapshot` files: the producers of a log at an offset, which the file's name gives.

use bytes::BufMut;

use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::log::producers::{BatchMetadata, ProducerStates, SnapshotEntry};
use crate::record::primitives::{DecodeError, Reader};

const VERSION: i16 = 1;
/// The version and the CRC, which the CRC does not cover.
const PREFIX_SIZE_BYTES: usize = 6;
const ENTRY_SIZE_BYTES: usize = 46;

/// Why bytes are no snapshot. The snapshot is thrown away, an older one or the log itself takes its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A version other than 1.
    #[error("unknown producer snapshot version {0}")]
    UnknownVersion(i16),
    /// The checksum does not fit the bytes.
    #[error("producer snapshot is corrupt (stored crc = {stored}, computed crc = {computed})")]
    InvalidCrc {
        /// What the file says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The fields cannot be read.
    #[error("producer snapshot is malformed: {0}")]
    Malformed(#[from] DecodeError),
}

impl ProducerStates {
    /// The bytes of a `.snapshot` file at [`ProducerStates::end_offset`].
    pub fn snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::with_capacity(4 + self.len() * ENTRY_SIZE_BYTES);
        entries.put_i32(self.len() as i32);
        for (producer_id, state) in self.iter() {
            let last = state.batches().last();
            entries.put_i64(producer_id.0);
            entries.put_i16(state.epoch().0);
            entries.put_i32(state.last_sequence());
            entries.put_i64(last.map_or(-1, |batch| batch.last_offset.0));
            entries.put_i32(last.map_or(0, |batch| batch.offset_delta));
            entries.put_i64(state.last_timestamp().0);
            entries.put_i32(state.coordinator_epoch());
            entries.put_i64(state.txn_first_offset().unwrap_or(Offset::NONE).0);
        }
        let mut snapshot = Vec::with_capacity(PREFIX_SIZE_BYTES + entries.len());
        snapshot.put_i16(VERSION);
        snapshot.put_u32(crc32c::crc32c(&entries));
        snapshot.append(&mut entries);
        snapshot
    }

    /// Reads a `.snapshot` file that was taken at `offset`.
    pub fn from_snapshot(bytes: &[u8], offset: Offset) -> Result<ProducerStates, SnapshotError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        if version != VERSION {
            return Err(SnapshotError::UnknownVersion(version));
        }
        let stored = reader.u32()?;
        let computed = crc32c::crc32c(reader.rest());
        if stored != computed {
            return Err(SnapshotError::InvalidCrc { stored, computed });
        }
        let mut states = ProducerStates::starting_at(offset);
        for _ in 0..reader.array_length()?.unwrap_or(0) {
            let producer_id = ProducerId(reader.i64()?);
            let epoch = ProducerEpoch(reader.i16()?);
            let last_sequence = reader.i32()?;
            let last_offset = Offset(reader.i64()?);
            let offset_delta = reader.i32()?;
            let timestamp = Timestamp(reader.i64()?);
            let coordinator_epoch = reader.i32()?;
            let txn_first_offset = Some(Offset(reader.i64()?)).filter(|offset| *offset >= Offset::ZERO);
            let last_batch = (last_offset >= Offset::ZERO).then_some(BatchMetadata {
                last_sequence,
                last_offset,
                offset_delta,
                timestamp,
            });
            states.restore(
                producer_id,
                SnapshotEntry {
                    epoch,
                    coordinator_epoch,
                    timestamp,
                    txn_first_offset,
                    last_batch,
                },
            );
        }
        reader.finish()?;
        Ok(states)
    }
}
