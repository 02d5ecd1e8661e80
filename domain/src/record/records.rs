//! The records in a batch: iterating over them and building them.

use bytes::{Bytes, BytesMut};

use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::record::batch::{
    Attributes, BatchHeader, HEADER_SIZE_BYTES, LOG_OVERHEAD_BYTES, NO_SEQUENCE, RecordBatch, TimestampType,
};
use crate::record::compression::{Codec, Compression, CompressionType};
use crate::record::primitives::{DecodeError, PutPrimitives, Reader, varint_size, varlong_size};

/// Why a body does not hold the records that its header announces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A field of the record cannot be read.
    #[error("found invalid record structure: {0}")]
    Malformed(#[from] DecodeError),
    /// The fields of a record take more or less than its length says.
    #[error("invalid record size: {declared_bytes} bytes declared, {read_bytes} read")]
    InvalidSize {
        /// The length in front of the record.
        declared_bytes: i64,
        /// What its fields take.
        read_bytes: i64,
    },
    /// A negative number of headers, or a header without key.
    #[error("found invalid number of record headers or header key size {0}")]
    InvalidHeaders(i32),
    /// A negative number of records.
    #[error("found invalid record count {0}")]
    InvalidCount(i32),
    /// Bytes behind the last record.
    #[error("incorrect declared batch size, {0} bytes remain behind the last record")]
    TrailingBytes(usize),
    /// The body is compressed: it must be decompressed first.
    #[error("the batch is compressed")]
    Compressed,
}

impl RecordError {
    /// The code that clients get.
    pub const fn code(&self) -> ErrorCode {
        ErrorCode::InvalidRecord
    }
}

/// One record, borrowed from the body of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its position in the partition.
    pub offset: Offset,
    /// The producer's time, or the broker's when the batch says so.
    pub timestamp: Timestamp,
    /// What partitioning and compaction read.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers (KIP-82).
    pub headers: Headers<'a>,
}

/// The headers of a record, in order, duplicates included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many headers are left.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut reader = Reader::new(self.rest);
        // The record was walked when it was read, so neither fails.
        let key = reader.varint_nullable_bytes().ok()??;
        let value = reader.varint_nullable_bytes().ok()?;
        self.rest = reader.rest();
        Some((key, value))
    }
}

/// The records of an uncompressed or decompressed body. After an error the iteration ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
    base_offset: Offset,
    base_timestamp: Timestamp,
    log_append_time: Option<Timestamp>,
    remaining: i32,
}

impl<'a> Records<'a> {
    /// Iterates over the uncompressed body of this batch.
    pub fn new(header: &BatchHeader, body: &'a [u8]) -> Result<Records<'a>, RecordError> {
        match header.attributes.compression() {
            Some(CompressionType::None) => Records::of_decompressed(header, body),
            _ => Err(RecordError::Compressed),
        }
    }

    /// Iterates over a body that was decompressed, whatever codec the header names.
    pub fn of_decompressed(header: &BatchHeader, body: &'a [u8]) -> Result<Records<'a>, RecordError> {
        if header.record_count < 0 {
            return Err(RecordError::InvalidCount(header.record_count));
        }
        Ok(Records {
            reader: Reader::new(body),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time: match header.attributes.timestamp_type() {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(header.max_timestamp),
            },
            remaining: header.record_count,
        })
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        let record = RawRecord::read(&mut self.reader)?;
        if self.remaining == 1 && self.reader.remaining() > 0 {
            return Err(RecordError::TrailingBytes(self.reader.remaining()));
        }
        Ok(Record {
            offset: self.base_offset.plus(i64::from(record.offset_delta)),
            timestamp: self
                .log_append_time
                .unwrap_or(Timestamp(self.base_timestamp.0.wrapping_add(record.timestamp_delta))),
            key: record.key,
            value: record.value,
            headers: record.headers,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let record = self.read();
        self.remaining = if record.is_ok() { self.remaining - 1 } else { 0 };
        Some(record)
    }
}

/// A record as its bytes have it: relative to its batch.
pub(crate) struct RawRecord<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}

impl<'a> RawRecord<'a> {
    /// Reads one record and walks its headers.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<RawRecord<'a>, RecordError> {
        let declared = reader.varint()?;
        let declared_bytes = usize::try_from(declared).map_err(|_| DecodeError::NegativeLength(i64::from(declared)))?;
        let mut fields = Reader::new(reader.take(declared_bytes)?);
        let _attributes = fields.i8()?;
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let key = fields.varint_nullable_bytes()?;
        let value = fields.varint_nullable_bytes()?;
        let header_count = fields.varint()?;
        let headers = Headers {
            count: usize::try_from(header_count).map_err(|_| RecordError::InvalidHeaders(header_count))?,
            rest: fields.rest(),
        };
        for _ in 0..header_count {
            fields.varint_nullable_bytes()?.ok_or(RecordError::InvalidHeaders(-1))?;
            fields.varint_nullable_bytes()?;
        }
        if fields.remaining() > 0 {
            return Err(RecordError::InvalidSize {
                declared_bytes: i64::from(declared),
                read_bytes: (declared_bytes - fields.remaining()) as i64,
            });
        }
        Ok(RawRecord {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
        })
    }
}

/// Builds a batch record by record: the metadata log, coordinators' logs, conversions and tests.
///
/// Set the fields that differ from the default before [`BatchBuilder::build`]; sizes, counts, timestamps and the CRC are
/// filled in there.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The leader epoch to stamp.
    pub partition_leader_epoch: LeaderEpoch,
    /// Transactional and control flags; the codec is set by [`BatchBuilder::build_compressed`].
    pub attributes: Attributes,
    /// The idempotent producer, or none.
    pub producer_id: ProducerId,
    /// The idempotent producer's epoch, or none.
    pub producer_epoch: ProducerEpoch,
    /// The first sequence number, or -1.
    pub base_sequence: i32,
    base_timestamp: Option<Timestamp>,
    max_timestamp: Timestamp,
    record_count: i32,
    body: BytesMut,
}

impl BatchBuilder {
    /// An empty batch that begins at `base_offset`.
    pub fn new(base_offset: Offset) -> BatchBuilder {
        BatchBuilder {
            base_offset,
            partition_leader_epoch: LeaderEpoch::UNKNOWN,
            attributes: Attributes::default(),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: NO_SEQUENCE,
            base_timestamp: None,
            max_timestamp: Timestamp::NONE,
            record_count: 0,
            body: BytesMut::new(),
        }
    }

    /// Appends a record at the next offset.
    pub fn append(&mut self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) -> &mut Self {
        self.append_with_headers(timestamp, key, value, [].into_iter())
    }

    /// Appends a record with headers at the next offset.
    pub fn append_with_headers<'h>(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) -> &mut Self {
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        let timestamp_delta = timestamp.0.wrapping_sub(base_timestamp.0);
        let header_count = headers.clone().count() as i32;
        let headers_size: usize = headers
            .clone()
            .map(|(key, value)| field_size(Some(key)) + field_size(value))
            .sum();
        let size_bytes = 1
            + varlong_size(timestamp_delta)
            + varint_size(self.record_count)
            + field_size(key)
            + field_size(value)
            + varint_size(header_count)
            + headers_size;
        let body = &mut self.body;
        body.reserve(size_bytes + varint_size(size_bytes as i32));
        body.put_varint(size_bytes as i32);
        body.extend_from_slice(&[0]);
        body.put_varlong(timestamp_delta);
        body.put_varint(self.record_count);
        body.put_varint_nullable_bytes(key);
        body.put_varint_nullable_bytes(value);
        body.put_varint(header_count);
        for (key, value) in headers {
            body.put_varint_nullable_bytes(Some(key));
            body.put_varint_nullable_bytes(value);
        }
        self.record_count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self
    }

    /// How many records were appended.
    pub fn record_count(&self) -> usize {
        self.record_count as usize
    }

    /// True before the first record.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The size of the batch if it were built now without compression.
    pub fn size_bytes(&self) -> usize {
        HEADER_SIZE_BYTES + self.body.len()
    }

    /// The batch, not compressed.
    pub fn build(self) -> RecordBatch {
        let (header, body) = self.into_parts();
        RecordBatch::new(header, &body)
    }

    /// The batch with its body compressed.
    pub fn build_compressed(self, compression: &dyn Compression, codec: Codec) -> std::io::Result<RecordBatch> {
        let body = compression.compress(codec, &mut self.body.as_ref(), usize::MAX)?;
        let mut header = self.header(body.len());
        header.attributes = header.attributes.with_compression(codec.compression_type());
        Ok(RecordBatch::new(header.with_crc(&body), &body))
    }

    /// The header, its CRC filled in, and the body.
    pub fn into_parts(self) -> (BatchHeader, Bytes) {
        let header = self.header(self.body.len()).with_crc(&self.body);
        (header, self.body.freeze())
    }

    fn header(&self, body_size_bytes: usize) -> BatchHeader {
        BatchHeader {
            base_offset: self.base_offset,
            length_bytes: (HEADER_SIZE_BYTES - LOG_OVERHEAD_BYTES + body_size_bytes) as i32,
            partition_leader_epoch: self.partition_leader_epoch,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: (self.record_count - 1).max(0),
            base_timestamp: self.base_timestamp.unwrap_or(Timestamp::NONE),
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count,
        }
    }
}

fn field_size(field: Option<&[u8]>) -> usize {
    match field {
        Some(bytes) => varint_size(bytes.len() as i32) + bytes.len(),
        None => varint_size(-1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Field = Option<Vec<u8>>;

    fn field() -> impl Strategy<Value = Field> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))
    }

    proptest! {
        #[test]
        fn what_was_built_is_read_again(
            base in 0i64..i64::MAX / 2,
            records in proptest::collection::vec(
                (any::<i64>(), field(), field(), proptest::collection::vec((".{0,8}", field()), 0..3)),
                1..12,
            ),
        ) {
            let mut builder = BatchBuilder::new(Offset(base));
            for (timestamp, key, value, headers) in &records {
                let headers = headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref()));
                builder.append_with_headers(Timestamp(*timestamp), key.as_deref(), value.as_deref(), headers);
            }
            let size_bytes = builder.size_bytes();
            let batch = builder.build();
            batch.check_crc().unwrap();
            prop_assert_eq!(batch.bytes().len(), size_bytes);
            prop_assert_eq!(batch.header.next_offset(), Offset(base + records.len() as i64));
            prop_assert_eq!(batch.header.max_timestamp.0, records.iter().map(|record| record.0).max().unwrap().max(-1));

            let body = batch.body();
            let read: Vec<_> = Records::new(&batch.header, &body).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), records.len());
            for (index, (record, (timestamp, key, value, headers))) in read.into_iter().zip(&records).enumerate() {
                prop_assert_eq!(record.offset, Offset(base + index as i64));
                prop_assert_eq!(record.timestamp, Timestamp(*timestamp));
                prop_assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
                let headers: Vec<_> = headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
                prop_assert_eq!(record.headers.collect::<Vec<_>>(), headers);
            }
        }

        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..100), record_count in any::<i32>()) {
            let header = BatchHeader { record_count, ..BatchBuilder::new(Offset(3)).build().header };
            for record in Records::new(&header, &body).into_iter().flatten().flatten() {
                let _ = record.headers.count();
            }
        }
    }

    #[test]
    fn a_body_that_does_not_fit_its_header_is_refused() {
        let mut builder = BatchBuilder::new(Offset(0));
        builder.append(Timestamp(1), Some(b"k"), Some(b"v"));
        let batch = builder.build();
        let body = batch.body();
        let with_count = |record_count| BatchHeader {
            record_count,
            ..batch.header
        };
        let read = |header: &BatchHeader, body: &[u8]| {
            Records::new(header, body)
                .and_then(|records| records.map(|record| record.map(|_| ())).collect::<Result<Vec<_>, _>>())
        };
        assert!(read(&with_count(1), &body).is_ok());
        assert!(matches!(read(&with_count(2), &body), Err(RecordError::Malformed(_))));
        assert_eq!(read(&with_count(-1), &body), Err(RecordError::InvalidCount(-1)));
        assert_eq!(
            read(&with_count(1), &[&body[..], &[0]].concat()),
            Err(RecordError::TrailingBytes(1))
        );
        let mut longer = body.to_vec();
        longer[0] += 2;
        longer.push(0);
        assert!(matches!(
            read(&with_count(1), &longer),
            Err(RecordError::InvalidSize { .. })
        ));
    }
}
