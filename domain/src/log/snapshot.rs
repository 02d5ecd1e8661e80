//! Kafka's `.snapshot` files: the producers of a log at an offset, which the file's name gives.
//!
//! Kafka keeps the last batch of a producer alone, and after a restart refuses the retries of those before it as out of
//! order. Here a producer has an entry for each batch that is remembered, the latest last: Kafka, which lets a later entry
//! replace an earlier one, reads the same as from its own files.

use bytes::BufMut;

use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::log::producers::{BatchMetadata, ProducerStates, SnapshotEntry};
use crate::record::batch::NO_SEQUENCE;
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
        let mut count = 0;
        entries.put_i32(count);
        for (producer_id, state) in self.iter() {
            let mut put = |last: Option<&BatchMetadata>, timestamp: Timestamp| {
                entries.put_i64(producer_id.0);
                entries.put_i16(state.epoch().0);
                entries.put_i32(last.map_or(NO_SEQUENCE, |batch| batch.last_sequence));
                entries.put_i64(last.map_or(-1, |batch| batch.last_offset.0));
                entries.put_i32(last.map_or(0, |batch| batch.offset_delta));
                entries.put_i64(timestamp.0);
                entries.put_i32(state.coordinator_epoch());
                entries.put_i64(state.txn_first_offset().unwrap_or(Offset::NONE).0);
                count += 1;
            };
            let (last, earlier) = state.batches().split_last().unzip();
            for batch in earlier.unwrap_or_default() {
                put(Some(batch), batch.timestamp);
            }
            put(last, state.last_timestamp());
        }
        if let Some(first) = entries.first_chunk_mut() {
            *first = count.to_be_bytes();
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::log::producers::{AbortedTxn, ProducerState};
    use crate::log::state::LogState;
    use crate::record::batch::Batches;
    use crate::record::control::EndTxnMarker;
    use crate::record::records::BatchBuilder;

    fn from_hex(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    }

    /// Apache Kafka 4.3.1 wrote this segment and, on shutdown, the snapshot at its end: a producer of seven batches, a
    /// committed, an aborted and an open transaction.
    #[test]
    fn replaying_kafkas_log_gives_kafkas_snapshot() {
        let log = Bytes::from(from_hex(include_str!("../../testdata/producers.log.hex")));
        let mut state = LogState::empty_at(Offset::ZERO);
        let mut aborted = Vec::new();
        for batch in Batches::new(log) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            let marker = EndTxnMarker::of_batch(&batch.header, &batch.body()).unwrap();
            aborted.extend(state.replay(&batch.header, marker).aborted_txn);
        }
        let kafkas = from_hex(include_str!("../../testdata/producers.snapshot.hex"));
        let kafkas = ProducerStates::from_snapshot(&kafkas, Offset(29)).unwrap();
        let ours = ProducerStates::from_snapshot(&state.producers.snapshot(), Offset(29)).unwrap();
        // What Kafka keeps of it.
        let last_batches = |states: &ProducerStates| {
            let last = |(producer_id, state): (ProducerId, &ProducerState)| {
                let times = (state.last_timestamp(), state.txn_first_offset());
                (
                    producer_id,
                    state.epoch(),
                    state.coordinator_epoch(),
                    times,
                    state.batches().last().copied(),
                )
            };
            states.iter().map(last).collect::<Vec<_>>()
        };
        assert_eq!(last_batches(&ours), last_batches(&kafkas));
        assert_eq!(ours.len(), 4);
        // What Kafka put into the .txnindex.
        let expected = AbortedTxn {
            producer_id: ProducerId(16),
            first_offset: Offset(24),
            last_offset: Offset(26),
            last_stable_offset: Offset(27),
        };
        assert_eq!(aborted, vec![expected]);
        assert_eq!(state.offsets.log_end(), Offset(29));
        state.raise_high_watermark(Offset(29));
        assert_eq!(state.last_stable_offset(), Offset(27));
    }

    proptest! {
        #[test]
        fn snapshots_survive_a_round_trip_and_damage_is_noticed(
            batches in proptest::collection::vec((0i64..4, 0i16..3, any::<bool>(), 0i64..1_000_000), 0..30),
            damage in any::<(prop::sample::Index, u8)>(),
        ) {
            let mut states = ProducerStates::starting_at(Offset::ZERO);
            for (index, (producer_id, epoch, transactional, timestamp)) in batches.into_iter().enumerate() {
                let mut builder = BatchBuilder::new(Offset(index as i64));
                builder.producer_id = ProducerId(producer_id);
                builder.producer_epoch = ProducerEpoch(epoch);
                builder.base_sequence = index as i32;
                builder.attributes = builder.attributes.with_transactional(transactional);
                builder.append(Timestamp(timestamp), None, None);
                states.replay(&builder.build().header, None);
            }
            let mut bytes = states.snapshot();
            let restored = ProducerStates::from_snapshot(&bytes, states.end_offset()).unwrap();
            prop_assert_eq!(&restored, &states);
            prop_assert_eq!(restored.first_unstable_offset(), states.first_unstable_offset());

            let (at, bits) = damage;
            let at = at.index(bytes.len());
            bytes[at] ^= bits.max(1);
            prop_assert!(ProducerStates::from_snapshot(&bytes, Offset::ZERO).is_err());
        }
    }
}
