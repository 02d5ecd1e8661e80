//! Walking a body without keeping its records: their framing is checked, and what validation needs of each is reported.

use std::io::{self, Read};

use crate::record::primitives::{DecodeError, Reader};
use crate::record::records::{RawRecord, RecordError};

/// No body that a client could have built decompresses to more: Java's buffers end here.
pub const DECOMPRESSED_BYTES_MAX: u64 = i32::MAX as u64;

const BUFFER_SIZE_BYTES: usize = 16 * 1024;

/// What a walk reports of a record, relative to its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkedRecord {
    /// Its timestamp less the base timestamp.
    pub timestamp_delta: i64,
    /// Its offset less the base offset.
    pub offset_delta: i32,
    /// It has a key.
    pub has_key: bool,
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The records are not what the header announces.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The body could not be decompressed.
    #[error("failed to decompress record stream: {0}")]
    Decompress(#[from] io::Error),
}

impl From<DecodeError> for WalkError {
    fn from(error: DecodeError) -> Self {
        WalkError::Record(error.into())
    }
}

/// Walks `record_count` records of an uncompressed body; nothing may follow them.
pub fn walk(record_count: i32, body: &[u8], mut each: impl FnMut(WalkedRecord)) -> Result<(), WalkError> {
    let mut reader = Reader::new(body);
    for _ in 0..record_count {
        let record = RawRecord::read(&mut reader)?;
        each(WalkedRecord {
            timestamp_delta: record.timestamp_delta,
            offset_delta: record.offset_delta,
            has_key: record.key.is_some(),
        });
    }
    match reader.remaining() {
        0 => Ok(()),
        left => Err(RecordError::TrailingBytes(left).into()),
    }
}

/// Walks `record_count` records of a decompressing stream in constant memory; nothing may follow them.
pub fn walk_stream(
    record_count: i32,
    stream: &mut dyn Read,
    mut each: impl FnMut(WalkedRecord),
) -> Result<(), WalkError> {
    let mut fields = Fields {
        stream,
        buffer: vec![0; BUFFER_SIZE_BYTES],
        start: 0,
        end: 0,
        read_bytes: 0,
        record_end: u64::MAX,
    };
    for _ in 0..record_count {
        each(fields.record()?);
    }
    match fields.fill()? {
        0 => Ok(()),
        more => Err(RecordError::TrailingBytes(more).into()),
    }
}

/// Fields of records, read through one buffer.
struct Fields<'a> {
    stream: &'a mut dyn Read,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How much of the stream was put into the buffer.
    read_bytes: u64,
    /// Where the current record ends in the stream.
    record_end: u64,
}

impl Fields<'_> {
    fn record(&mut self) -> Result<WalkedRecord, WalkError> {
        self.record_end = u64::MAX;
        let declared = self.varint()?;
        let declared_bytes = u64::try_from(declared).map_err(|_| DecodeError::NegativeLength(i64::from(declared)))?;
        let body_start = self.position();
        self.record_end = body_start + declared_bytes;

        let _attributes = self.byte()?;
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        let has_key = self.skip_nullable()?;
        self.skip_nullable()?;
        let header_count = self.varint()?;
        if header_count < 0 {
            return Err(RecordError::InvalidHeaders(header_count).into());
        }
        for _ in 0..header_count {
            if !self.skip_nullable()? {
                return Err(RecordError::InvalidHeaders(-1).into());
            }
            self.skip_nullable()?;
        }
        if self.position() != self.record_end {
            return Err(RecordError::InvalidSize {
                declared_bytes: i64::from(declared),
                read_bytes: (self.position() - body_start) as i64,
            }
            .into());
        }
        Ok(WalkedRecord {
            timestamp_delta,
            offset_delta,
            has_key,
        })
    }

    fn position(&self) -> u64 {
        self.read_bytes - (self.end - self.start) as u64
    }

    /// Refills an empty buffer. Returns how many bytes are in it; none at the end.
    fn fill(&mut self) -> Result<usize, WalkError> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.stream.read(&mut self.buffer)?;
            self.read_bytes += self.end as u64;
            if self.read_bytes > DECOMPRESSED_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 2 GiB").into());
            }
        }
        Ok(self.end - self.start)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, WalkError> {
        if self.start == self.end && self.fill()? == 0 {
            return Err(ends_early(1));
        }
        let byte = self.buffer.get(self.start).copied().ok_or_else(|| ends_early(1))?;
        self.start += 1;
        Ok(byte)
    }

    #[inline]
    fn base128(&mut self, max_bytes: usize) -> Result<u64, WalkError> {
        let mut value = 0;
        for index in 0..max_bytes {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong { max_bytes }.into())
    }

    fn varint(&mut self) -> Result<i32, WalkError> {
        let raw = self.base128(5)? as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    fn varlong(&mut self) -> Result<i64, WalkError> {
        let raw = self.base128(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Skips a key, a value or a header's part; false when it is null.
    fn skip_nullable(&mut self) -> Result<bool, WalkError> {
        let length = self.varint()?;
        let mut left = match usize::try_from(length) {
            Ok(length) => length,
            Err(_) if length == -1 => return Ok(false),
            Err(_) => return Err(DecodeError::NegativeLength(i64::from(length)).into()),
        };
        if left as u64 > self.record_end.saturating_sub(self.position()) {
            return Err(ends_early(left));
        }
        while left > 0 {
            let step = self.fill()?.min(left);
            if step == 0 {
                return Err(ends_early(left));
            }
            self.start += step;
            left -= step;
        }
        Ok(true)
    }
}

#[cold]
fn ends_early(needed: usize) -> WalkError {
    DecodeError::Truncated { needed, remaining: 0 }.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{Offset, Timestamp};
    use crate::record::records::BatchBuilder;

    /// Yields a few bytes a read, so that fields straddle refills.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(buffer.len()).min(self.0.len());
            let (head, rest) = self.0.split_at(size);
            buffer[..size].copy_from_slice(head);
            self.0 = rest;
            Ok(size)
        }
    }

    fn both(record_count: i32, body: &[u8], step: usize) -> (Option<Vec<WalkedRecord>>, Option<Vec<WalkedRecord>>) {
        let (mut direct, mut streamed) = (Vec::new(), Vec::new());
        let direct_result = walk(record_count, body, |record| direct.push(record));
        let streamed_result = walk_stream(record_count, &mut Trickle(body, step), |record| streamed.push(record));
        (
            direct_result.ok().map(|()| direct),
            streamed_result.ok().map(|()| streamed),
        )
    }

    proptest! {
        #[test]
        fn both_walks_agree_on_good_and_damaged_bodies(
            records in proptest::collection::vec((0i64..1000, 0usize..300, any::<bool>(), 0usize..3), 1..8),
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            step in 1usize..100,
            count_off_by in -1i32..2,
        ) {
            let mut builder = BatchBuilder::new(Offset(0));
            for (timestamp, size, key, headers) in &records {
                let value = vec![7; *size];
                let headers = (0..*headers).map(|_| (&b"h"[..], None));
                builder.append_with_headers(Timestamp(*timestamp), key.then_some(&b"key"[..]), Some(&value), headers);
            }
            let (header, body) = builder.into_parts();
            let mut body = body.to_vec();
            let intact = damage.is_none() && count_off_by == 0;
            if let Some((at, byte)) = damage {
                let at = at.index(body.len());
                body[at] = byte;
            }
            let (direct, streamed) = both(header.record_count + count_off_by, &body, step);
            if intact {
                let keys: Vec<_> = direct.clone().unwrap().iter().map(|record| record.has_key).collect();
                prop_assert_eq!(keys, records.iter().map(|record| record.2).collect::<Vec<_>>());
            }
            prop_assert_eq!(direct, streamed);
        }
    }

    #[test]
    fn an_endless_stream_is_left() {
        // A record whose value never ends, as a decompression bomb has it.
        let mut head = Vec::new();
        let length = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        head.extend_from_slice(&length);
        head.extend_from_slice(&[0, 0, 0, 1]);
        head.extend_from_slice(&length);
        let mut bomb = head.as_slice().chain(io::repeat(0));
        assert!(matches!(
            walk_stream(1, &mut bomb, |_| ()),
            Err(WalkError::Record(RecordError::Malformed(_)))
        ));
    }
}
