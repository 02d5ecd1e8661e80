//! Record batches of magic 2 (KIP-98): the header as a view, its checks, and patched copies of it.
//!
//! A batch is a header of 61 bytes and a body: its records, perhaps compressed. A broker changes headers only; a body is
//! stored and served as the very bytes that the producer sent.

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::record::compression::CompressionType;

/// The size of the header of a magic-2 batch.
pub const HEADER_SIZE_BYTES: usize = 61;
/// The base offset and the length field, which the length field itself does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// What must be read of a batch of any magic to know its size and magic.
pub const HEADER_UP_TO_MAGIC_BYTES: usize = 17;
/// The only magic that is written: message format 2.
pub const MAGIC_V2: i8 = 2;
/// The base sequence of a producer that is not idempotent.
pub const NO_SEQUENCE: i32 = -1;

/// Where the bytes begin that the CRC covers: the attributes.
const CRC_COVERS_FROM: usize = 21;
/// No message of any magic is shorter, less the log overhead.
const LENGTH_MIN_BYTES: i32 = 14;

const COMPRESSION_MASK: i16 = 0x07;
const TIMESTAMP_TYPE_FLAG: i16 = 0x08;
const TRANSACTIONAL_FLAG: i16 = 0x10;
const CONTROL_FLAG: i16 = 0x20;
const DELETE_HORIZON_FLAG: i16 = 0x40;

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header, or than the batch says it has.
    #[error("batch is truncated: {available_bytes} of {needed_bytes} bytes")]
    Truncated {
        /// The bytes that are there.
        available_bytes: usize,
        /// The bytes that would be needed.
        needed_bytes: usize,
    },
    /// A length field that no batch of its magic can have.
    #[error("record size {0} is less than the minimum record overhead")]
    InvalidLength(i32),
    /// Magic 0 or 1: a format that Kafka 4 no longer accepts but may have on disk.
    #[error("batch has the old magic {0}")]
    OldMagic(i8),
    /// A magic that Kafka does not know.
    #[error("invalid magic {0}")]
    InvalidMagic(i8),
    /// The checksum does not fit the bytes.
    #[error("record is corrupt (stored crc = {stored}, computed crc = {computed})")]
    InvalidCrc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
}

impl BatchError {
    /// The code that clients get.
    pub const fn code(self) -> ErrorCode {
        ErrorCode::CorruptMessage
    }
}

/// Whose clock the timestamps of a batch come from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's: all records have the batch's max timestamp.
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's name, as in `message.timestamp.type`.
    pub const fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<TimestampType> {
        [TimestampType::CreateTime, TimestampType::LogAppendTime]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    /// The codec of the body; `None` for an id that Kafka does not define.
    pub const fn compression(self) -> Option<CompressionType> {
        CompressionType::from_id((self.0 & COMPRESSION_MASK) as u8)
    }

    /// Whose clock the timestamps come from.
    pub const fn timestamp_type(self) -> TimestampType {
        match self.0 & TIMESTAMP_TYPE_FLAG {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// The batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL_FLAG != 0
    }

    /// The batch holds control records, which consumers never see.
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL_FLAG != 0
    }

    /// The base timestamp is the time at which tombstones of this batch may go (set by the log cleaner, KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON_FLAG != 0
    }

    /// With this codec.
    #[must_use]
    pub const fn with_compression(self, codec: CompressionType) -> Attributes {
        Attributes((self.0 & !COMPRESSION_MASK) | codec.id() as i16)
    }

    /// With this timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with_flag(
            TIMESTAMP_TYPE_FLAG,
            matches!(timestamp_type, TimestampType::LogAppendTime),
        )
    }

    /// As a transaction's batch, or not.
    #[must_use]
    pub const fn with_transactional(self, on: bool) -> Attributes {
        self.with_flag(TRANSACTIONAL_FLAG, on)
    }

    /// As a control batch, or not.
    #[must_use]
    pub const fn with_control(self, on: bool) -> Attributes {
        self.with_flag(CONTROL_FLAG, on)
    }

    /// With a base timestamp that is a delete horizon, or not.
    #[must_use]
    pub const fn with_delete_horizon(self, on: bool) -> Attributes {
        self.with_flag(DELETE_HORIZON_FLAG, on)
    }

    const fn with_flag(self, flag: i16, on: bool) -> Attributes {
        match on {
            true => Attributes(self.0 | flag),
            false => Attributes(self.0 & !flag),
        }
    }
}

/// The header of a magic-2 batch.
///
/// Parsing checks the magic and the length only; nothing else is believed before [`BatchHeader::check_crc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record that the batch was made with.
    pub base_offset: Offset,
    /// The size of the batch less [`LOG_OVERHEAD_BYTES`], at least what the header needs.
    pub length_bytes: i32,
    /// The epoch of the leader that appended the batch; not covered by the CRC.
    pub partition_leader_epoch: LeaderEpoch,
    /// CRC32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: Attributes,
    /// The last offset, relative to the base offset.
    pub last_offset_delta: i32,
    /// What the timestamp deltas of the records count from; or the delete horizon.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records, or the log append time.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or -1.
    pub producer_id: ProducerId,
    /// The epoch of the idempotent producer, or -1.
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records the body holds; compaction may leave fewer than the offsets span.
    pub record_count: i32,
}

/// Copies a big-endian field out of the header.
fn field<const N: usize>(header: &[u8; HEADER_SIZE_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    if let Some(source) = header.get(at..at + N) {
        bytes.copy_from_slice(source);
    }
    bytes
}

/// The size and the magic of the batch that begins here, of any magic that Kafka knows. `None` when there are too few
/// bytes to tell. The checks are those with which Kafka splits bytes into batches.
pub fn peek_size(bytes: &[u8]) -> Result<Option<(usize, i8)>, BatchError> {
    let Some(length) = bytes
        .get(8..LOG_OVERHEAD_BYTES)
        .and_then(|length| Some(i32::from_be_bytes(length.try_into().ok()?)))
    else {
        return Ok(None);
    };
    if length < LENGTH_MIN_BYTES {
        return Err(BatchError::InvalidLength(length));
    }
    let Some(magic) = bytes.get(HEADER_UP_TO_MAGIC_BYTES - 1).map(|byte| *byte as i8) else {
        return Ok(None);
    };
    if !(0..=MAGIC_V2).contains(&magic) {
        return Err(BatchError::InvalidMagic(magic));
    }
    Ok(Some((LOG_OVERHEAD_BYTES + length as usize, magic)))
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may be longer.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let truncated = BatchError::Truncated {
            available_bytes: bytes.len(),
            needed_bytes: HEADER_SIZE_BYTES,
        };
        let (size_bytes, magic) = peek_size(bytes)?.ok_or(truncated)?;
        if magic != MAGIC_V2 {
            return Err(BatchError::OldMagic(magic));
        }
        if size_bytes < HEADER_SIZE_BYTES {
            return Err(BatchError::InvalidLength((size_bytes - LOG_OVERHEAD_BYTES) as i32));
        }
        let header: &[u8; HEADER_SIZE_BYTES] = bytes.first_chunk().ok_or(truncated)?;
        Ok(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(field(header, 0))),
            length_bytes: i32::from_be_bytes(field(header, 8)),
            partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(field(header, 12))),
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: Attributes(i16::from_be_bytes(field(header, CRC_COVERS_FROM))),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: Timestamp(i64::from_be_bytes(field(header, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(header, 35))),
            producer_id: ProducerId(i64::from_be_bytes(field(header, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(header, 51))),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// The bytes of this header.
    pub fn encode(&self) -> [u8; HEADER_SIZE_BYTES] {
        let mut header = [0; HEADER_SIZE_BYTES];
        let mut rest: &mut [u8] = &mut header;
        let mut put = |bytes: &[u8]| {
            let (target, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            target.copy_from_slice(bytes);
            rest = after;
        };
        put(&self.base_offset.0.to_be_bytes());
        put(&self.length_bytes.to_be_bytes());
        put(&self.partition_leader_epoch.0.to_be_bytes());
        put(&MAGIC_V2.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.0.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.0.to_be_bytes());
        put(&self.max_timestamp.0.to_be_bytes());
        put(&self.producer_id.0.to_be_bytes());
        put(&self.producer_epoch.0.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.record_count.to_be_bytes());
        header
    }

    /// The size of the whole batch, header included.
    pub const fn size_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + self.length_bytes as usize
    }

    /// The offset of the last record that the batch was made with.
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as i64)
    }

    /// The offset that follows the batch.
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// True for a batch of an idempotent or transactional producer.
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id.0 > ProducerId::NONE.0
    }

    /// The sequence number of the last record, or -1.
    pub const fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => increment_sequence(base, self.last_offset_delta),
        }
    }

    /// The CRC32C that this header and `body` should carry.
    pub fn compute_crc(&self, body: &[u8]) -> u32 {
        let header = self.encode();
        let covered = header.get(CRC_COVERS_FROM..).unwrap_or_default();
        crc32c::crc32c_append(crc32c::crc32c(covered), body)
    }

    /// Checks the size and the CRC of the batch that this header and `body` are.
    pub fn check_crc(&self, body: &[u8]) -> Result<(), BatchError> {
        let available_bytes = HEADER_SIZE_BYTES + body.len();
        if available_bytes != self.size_bytes() {
            return Err(BatchError::Truncated {
                available_bytes,
                needed_bytes: self.size_bytes(),
            });
        }
        let computed = self.compute_crc(body);
        if computed != self.crc {
            return Err(BatchError::InvalidCrc {
                stored: self.crc,
                computed,
            });
        }
        Ok(())
    }

    /// The header as a leader stores it. Neither field is covered by the CRC, which stays the producer's.
    #[must_use]
    pub const fn with_offset(self, base_offset: Offset, partition_leader_epoch: LeaderEpoch) -> BatchHeader {
        BatchHeader {
            base_offset,
            partition_leader_epoch,
            ..self
        }
    }

    /// The header with these timestamps; the CRC is made again when that changes anything, and only then.
    #[must_use]
    pub fn with_max_timestamp(
        self,
        timestamp_type: TimestampType,
        max_timestamp: Timestamp,
        body: &[u8],
    ) -> BatchHeader {
        let attributes = self.attributes.with_timestamp_type(timestamp_type);
        if attributes == self.attributes && max_timestamp == self.max_timestamp {
            return self;
        }
        BatchHeader {
            attributes,
            max_timestamp,
            ..self
        }
        .with_crc(body)
    }

    /// The header with the CRC that it and `body` give.
    #[must_use]
    pub fn with_crc(self, body: &[u8]) -> BatchHeader {
        BatchHeader {
            crc: self.compute_crc(body),
            ..self
        }
    }
}

/// The sequence number this many records further; sequences wrap from `i32::MAX` to 0.
pub const fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    if sequence > i32::MAX.wrapping_sub(increment) {
        increment.wrapping_sub(i32::MAX.wrapping_sub(sequence)).wrapping_sub(1)
    } else {
        sequence.wrapping_add(increment)
    }
}

/// The sequence number this many records earlier; the inverse of [`increment_sequence`].
pub const fn decrement_sequence(sequence: i32, decrement: i32) -> i32 {
    if sequence < decrement {
        i32::MAX.wrapping_sub(decrement.wrapping_sub(sequence)).wrapping_add(1)
    } else {
        sequence.wrapping_sub(decrement)
    }
}

/// A whole batch: the parsed header and the bytes it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    /// The parsed header.
    pub header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// The batch at the start of `bytes`; what follows it is cut off.
    pub fn parse(bytes: &Bytes) -> Result<RecordBatch, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let size_bytes = header.size_bytes();
        if bytes.len() < size_bytes {
            return Err(BatchError::Truncated {
                available_bytes: bytes.len(),
                needed_bytes: size_bytes,
            });
        }
        Ok(RecordBatch {
            header,
            bytes: bytes.slice(..size_bytes),
        })
    }

    /// Joins a header to its body.
    pub fn new(header: BatchHeader, body: &[u8]) -> RecordBatch {
        RecordBatch {
            header,
            bytes: [header.encode().as_slice(), body].concat().into(),
        }
    }

    /// Header and body.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, perhaps compressed.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_SIZE_BYTES.min(self.bytes.len())..)
    }

    /// Checks the CRC.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        self.header
            .check_crc(self.bytes.get(HEADER_SIZE_BYTES..).unwrap_or_default())
    }
}

/// Consecutive batches in `bytes`, without checking their CRC.
///
/// Ends silently before a batch that is not all there, as every reader of Kafka's logs and fetches does; an impossible
/// length or magic is an error, after which the iteration ends.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Iterates over the batches in `bytes`.
    pub fn new(bytes: Bytes) -> Batches {
        Batches { rest: bytes }
    }

    /// What is left behind the batches that were yielded.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match peek_size(&self.rest) {
            Ok(Some((size_bytes, _))) if size_bytes <= self.rest.len() => RecordBatch::parse(&self.rest),
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        match &batch {
            Ok(batch) => self.rest = self.rest.slice(batch.header.size_bytes()..),
            Err(_) => self.rest = Bytes::new(),
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: Offset(7),
            length_bytes: 49 + 3,
            partition_leader_epoch: LeaderEpoch(4),
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: 2,
            base_timestamp: Timestamp(1_000),
            max_timestamp: Timestamp(1_005),
            producer_id: ProducerId(11),
            producer_epoch: ProducerEpoch(1),
            base_sequence: i32::MAX - 1,
            record_count: 3,
        }
        .with_crc(b"abc")
    }

    #[test]
    fn patching_offsets_keeps_the_crc_and_patching_timestamps_renews_it() {
        let header = header();
        header.check_crc(b"abc").unwrap();
        let placed = header.with_offset(Offset(100), LeaderEpoch(9));
        assert_eq!((placed.crc, placed.last_offset()), (header.crc, Offset(102)));
        placed.check_crc(b"abc").unwrap();

        assert_eq!(
            placed.with_max_timestamp(TimestampType::CreateTime, Timestamp(1_005), b"abc"),
            placed
        );
        let stamped = placed.with_max_timestamp(TimestampType::LogAppendTime, Timestamp(5), b"abc");
        assert_ne!(stamped.crc, placed.crc);
        assert_eq!(stamped.attributes.timestamp_type(), TimestampType::LogAppendTime);
        stamped.check_crc(b"abc").unwrap();
        assert!(matches!(stamped.check_crc(b"abd"), Err(BatchError::InvalidCrc { .. })));
        assert!(matches!(stamped.check_crc(b"ab"), Err(BatchError::Truncated { .. })));
    }

    #[test]
    fn sequences_wrap_from_the_largest_to_zero() {
        assert_eq!(header().last_sequence(), 0);
        assert_eq!(increment_sequence(i32::MAX, 1), 0);
        assert_eq!(decrement_sequence(0, 1), i32::MAX);
        assert_eq!(increment_sequence(5, 3), 8);
    }

    #[test]
    fn iteration_stops_before_a_partial_batch_and_reports_an_impossible_one() {
        let batch = RecordBatch::new(header(), b"abc");
        let two = [batch.bytes().as_ref(), batch.bytes().as_ref()].concat();
        let mut batches = Batches::new(Bytes::from([two.as_slice(), &two[..40]].concat()));
        assert_eq!(
            batches.by_ref().map(Result::unwrap).collect::<Vec<_>>(),
            vec![batch.clone(), batch]
        );
        assert_eq!(batches.rest().len(), 40);

        let mut bad = two.clone();
        bad[64 + 16] = 3;
        let found: Vec<_> = Batches::new(Bytes::from(bad)).map(|batch| batch.map(|_| ())).collect();
        assert_eq!(found, vec![Ok(()), Err(BatchError::InvalidMagic(3))]);
    }

    proptest! {
        #[test]
        fn headers_survive_a_round_trip(bytes in proptest::array::uniform::<_, HEADER_SIZE_BYTES>(any::<u8>()), length in 49..i32::MAX) {
            let mut bytes = bytes;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            prop_assert_eq!(BatchHeader::parse(&bytes).unwrap().encode(), bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), plausible in any::<bool>()) {
            if plausible && bytes.len() > 16 {
                bytes[8..12].copy_from_slice(&[0, 0, 0, 60]);
                bytes[16] = 2;
            }
            for batch in Batches::new(Bytes::from(bytes)).flatten() {
                let _ = (batch.check_crc(), batch.header.last_sequence(), batch.header.next_offset(), batch.body());
            }
        }
    }
}
