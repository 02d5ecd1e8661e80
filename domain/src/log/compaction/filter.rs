//! What a cleaning leaves of a batch (`MemoryRecords.filterTo` in Kafka, and its filter in `Cleaner`).

use super::offset_map::{Digest, Full, OffsetMap};
use crate::ids::{Offset, Timestamp};
use crate::log::producers::ProducerStates;
use crate::record::batch::{Attributes, BatchHeader, HEADER_SIZE_BYTES, LOG_OVERHEAD_BYTES, TimestampType};
use crate::record::compression::CompressionType;
use crate::record::primitives::{PutPrimitives, Reader, varlong_size};
use crate::record::records::{RawRecord, RecordError};

/// How far the map took in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// All of it.
    Whole,
    /// Up to [`OffsetMap::latest_offset`]: the map is full.
    Partly,
}

/// Notes the keys of the records of a batch from `first_dirty` on. `body` is not compressed or decompressed.
pub fn map_records(
    map: &mut OffsetMap,
    header: &BatchHeader,
    body: &[u8],
    first_dirty: Offset,
) -> Result<Mapped, RecordError> {
    let mut ahead = Ahead::new(header, body);
    while let Some(records) = ahead.next(map, |offset| offset >= first_dirty)? {
        for record in records {
            if let Some(digest) = record.digest
                && let Err(Full) = map.put(digest, record.offset)
            {
                return Ok(Mapped::Partly);
            }
        }
    }
    if header.last_offset() >= first_dirty {
        map.extend_to(header.last_offset());
    }
    Ok(Mapped::Whole)
}

/// A record outside of its batch would make the map drop others.
fn offset_of(header: &BatchHeader, offset_delta: i32) -> Result<Offset, RecordError> {
    match (0..=header.last_offset_delta).contains(&offset_delta) {
        true => Ok(header.base_offset.plus(i64::from(offset_delta))),
        false => Err(RecordError::InvalidCount(offset_delta)),
    }
}

/// How many records are read before they are looked at: enough to hide how long memory takes.
const AHEAD: usize = 32;

/// A record that was read ahead.
#[derive(Clone, Copy)]
struct Seen {
    offset: Offset,
    timestamp_delta: i64,
    has_key: bool,
    has_value: bool,
    /// Of the key, where it is to be looked for.
    digest: Option<Digest>,
    /// Where it begins and ends in the body.
    range: (usize, usize),
}

/// The records of a batch, some at a time, with what the map has of them on its way from memory.
struct Ahead<'a> {
    header: &'a BatchHeader,
    reader: Reader<'a>,
    size_bytes: usize,
    left: i32,
    seen: [Seen; AHEAD],
}

impl<'a> Ahead<'a> {
    fn new(header: &'a BatchHeader, body: &'a [u8]) -> Ahead<'a> {
        let nothing = Seen {
            offset: Offset::NONE,
            timestamp_delta: 0,
            has_key: false,
            has_value: false,
            digest: None,
            range: (0, 0),
        };
        Ahead {
            header,
            reader: Reader::new(body),
            size_bytes: body.len(),
            left: header.record_count,
            seen: [nothing; AHEAD],
        }
    }

    /// The next records; `None` at the end, where nothing may be left. Keys are looked for at offsets that are `wanted`.
    fn next(&mut self, map: &OffsetMap, wanted: impl Fn(Offset) -> bool) -> Result<Option<&[Seen]>, RecordError> {
        if self.left <= 0 {
            return match self.reader.remaining() {
                0 => Ok(None),
                left => Err(RecordError::TrailingBytes(left)),
            };
        }
        let count = usize::try_from(self.left).unwrap_or(0).min(AHEAD);
        let records = self.seen.get_mut(..count).unwrap_or_default();
        for seen in &mut *records {
            let begin = self.size_bytes - self.reader.remaining();
            let record = RawRecord::read(&mut self.reader)?;
            let offset = offset_of(self.header, record.offset_delta)?;
            *seen = Seen {
                offset,
                timestamp_delta: record.timestamp_delta,
                has_key: record.key.is_some(),
                has_value: record.value.is_some(),
                digest: record.key.filter(|_| wanted(offset)).map(|key| map.digest(key)),
                range: (begin, self.size_bytes - self.reader.remaining()),
            };
        }
        map.warm(records.iter().filter_map(|seen| seen.digest));
        self.left -= i32::try_from(count).unwrap_or(self.left);
        Ok(Some(records))
    }
}

/// What happens to a batch whatever its records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// No record of it stays.
    drops_records: bool,
    /// It stays even when it is empty.
    stays: bool,
    /// A marker of a transaction that has no data any more.
    is_spent_marker: bool,
}

impl Retention {
    /// The batch goes, and there is no need to look at its records.
    pub const fn is_dropped(&self) -> bool {
        self.drops_records && !self.stays
    }

    /// What is left of a batch none of whose records stays.
    fn emptied(&self, header: &BatchHeader) -> Outcome {
        match self.stays {
            true => Outcome::Empty(emptied(header)),
            false => Outcome::Drop,
        }
    }
}

/// What is left of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Drop,
    /// All of it, as it is.
    Keep,
    /// This header alone: it keeps what is known of its producer, or where the log was cleaned up to.
    Empty(BatchHeader),
    /// The records that the filter wrote, under this header. Its length and CRC are still those of the batch: see
    /// [`finish`](BatchFilter::finish).
    Rewrite(BatchHeader),
}

/// The rules of one cleaning.
pub struct BatchFilter<'a> {
    /// The latest offsets of keys.
    pub map: &'a OffsetMap,
    /// The producers of the log: the last batch of each is what makes a retry known, and so stays.
    pub producers: &'a ProducerStates,
    /// Where the cleaning ends: the batch before stays, so that followers and consumers get there.
    pub upper: Offset,
    /// When the cleaning began.
    pub now: Timestamp,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
}

/// Records that were looked at and that stayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records of the batch.
    pub read: u64,
    /// Those that stay.
    pub retained: u64,
    /// Records without a key, which do not belong into a compacted log.
    pub invalid: u64,
}

impl BatchFilter<'_> {
    /// What happens to a batch. `can_discard` is what [`CleanedTransactions`](super::CleanedTransactions) said of it.
    pub fn retention(&self, header: &BatchHeader, can_discard: bool) -> Retention {
        let is_control = header.attributes.is_control();
        let is_past_horizon = horizon(header).is_some_and(|horizon| horizon <= self.now);
        Retention {
            drops_records: can_discard && (!is_control || is_past_horizon),
            stays: self.is_last_of_producer(header) || header.next_offset() == self.upper,
            is_spent_marker: can_discard && is_control,
        }
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let Some(producer) = self
            .producers
            .get(header.producer_id)
            .filter(|_| header.has_producer_id())
        else {
            return false;
        };
        match producer.batches().last() {
            Some(last) => header.last_offset() == last.last_offset,
            None => header.attributes.is_control() && header.producer_epoch == producer.epoch(),
        }
    }

    fn is_looked_for(&self, header: &BatchHeader, offset: Offset) -> bool {
        !header.attributes.is_control() && offset <= self.map.latest_offset()
    }

    fn is_retained(&self, header: &BatchHeader, record: &Seen, counts: &mut Counts) -> bool {
        let Some(digest) = record.digest else {
            let is_invalid = !record.has_key && self.is_looked_for(header, record.offset);
            counts.invalid += u64::from(is_invalid);
            return !is_invalid;
        };
        let keeps_tombstone = || horizon(header).is_none_or(|horizon| self.now < horizon);
        self.map.get(digest).is_none_or(|latest| record.offset >= latest) && (record.has_value || keeps_tombstone())
    }

    /// Looks at the records of a batch that is not dropped as a whole. `body` is not compressed or decompressed. What stays
    /// of it is written to `out`, which is cleared first, where the outcome is [`Outcome::Rewrite`].
    pub fn filter(
        &self,
        header: &BatchHeader,
        retention: Retention,
        body: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<Outcome, RecordError> {
        out.clear();
        counts.read += u64::try_from(header.record_count).unwrap_or(0);
        if retention.drops_records {
            return Ok(retention.emptied(header));
        }
        let timestamp_of = |delta: i64| match header.attributes.timestamp_type() {
            TimestampType::CreateTime => Timestamp(header.base_timestamp.0.wrapping_add(delta)),
            TimestampType::LogAppendTime => header.max_timestamp,
        };
        let mut kept = Kept {
            count: 0,
            first_timestamp: None,
            max_timestamp: Timestamp::NONE,
            has_tombstones: false,
        };
        // Records that stay are copied a run at a time; the current run begins here.
        let mut run = 0;
        let mut ahead = Ahead::new(header, body);
        while let Some(records) = ahead.next(self.map, |offset| self.is_looked_for(header, offset))? {
            for record in records {
                let (begin, end) = record.range;
                if self.is_retained(header, record, counts) {
                    kept.count += 1;
                    kept.has_tombstones |= !record.has_value;
                    let timestamp = timestamp_of(record.timestamp_delta);
                    kept.first_timestamp.get_or_insert(timestamp);
                    kept.max_timestamp = kept.max_timestamp.max(timestamp);
                } else {
                    out.extend_from_slice(body.get(run..begin).unwrap_or_default());
                    run = end;
                }
            }
        }
        counts.retained += u64::try_from(kept.count).unwrap_or(0);
        if kept.count == 0 {
            return Ok(retention.emptied(header));
        }
        let sets_horizon = (kept.has_tombstones || retention.is_spent_marker) && horizon(header).is_none();
        if kept.count == header.record_count && !sets_horizon {
            return Ok(Outcome::Keep);
        }
        out.extend_from_slice(body.get(run..).unwrap_or_default());
        // Kafka writes the records one by one again, and times count from the first.
        let base_timestamp = match horizon(header) {
            Some(horizon) => horizon,
            None if sets_horizon => Timestamp(self.now.0.saturating_add(self.delete_retention_ms)),
            None => kept.first_timestamp.unwrap_or(header.base_timestamp),
        };
        if base_timestamp != header.base_timestamp {
            rebase(out, |delta| timestamp_of(delta).0.wrapping_sub(base_timestamp.0))?;
        }
        let mut rewritten = BatchHeader {
            base_timestamp,
            record_count: kept.count,
            ..*header
        };
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            rewritten.max_timestamp = kept.max_timestamp;
        }
        if sets_horizon {
            rewritten.attributes = header.attributes.with_delete_horizon(true);
        }
        Ok(Outcome::Rewrite(rewritten))
    }

    /// The header of [`Outcome::Rewrite`] with the length and the CRC of the body that is written, compressed as the
    /// attributes say.
    pub fn finish(header: BatchHeader, body: &[u8]) -> BatchHeader {
        let length = HEADER_SIZE_BYTES - LOG_OVERHEAD_BYTES + body.len();
        BatchHeader {
            length_bytes: i32::try_from(length).unwrap_or(i32::MAX),
            ..header
        }
        .with_crc(body)
    }
}

struct Kept {
    count: i32,
    first_timestamp: Option<Timestamp>,
    max_timestamp: Timestamp,
    has_tombstones: bool,
}

/// From when on tombstones and spent markers of a batch may go (KIP-534).
fn horizon(header: &BatchHeader) -> Option<Timestamp> {
    header.attributes.has_delete_horizon().then_some(header.base_timestamp)
}

/// The batch without records (`DefaultRecordBatch.writeEmptyHeader` in Kafka).
fn emptied(header: &BatchHeader) -> BatchHeader {
    let attributes = Attributes::default()
        .with_compression(CompressionType::None)
        .with_timestamp_type(header.attributes.timestamp_type())
        .with_transactional(header.attributes.is_transactional())
        .with_control(header.attributes.is_control());
    let empty = BatchHeader {
        attributes,
        base_timestamp: Timestamp::NONE,
        record_count: 0,
        ..*header
    };
    BatchFilter::finish(empty, &[])
}

/// Writes records again whose timestamps count from another base; `rebased` gives the difference to it.
fn rebase(records: &mut Vec<u8>, rebased: impl Fn(i64) -> i64) -> Result<(), RecordError> {
    let old = std::mem::take(records);
    records.reserve(old.len() + old.len() / 8);
    let mut reader = Reader::new(&old);
    while reader.remaining() > 0 {
        let size_bytes = reader.varint()?;
        let mut fields = Reader::new(reader.take(usize::try_from(size_bytes).unwrap_or(0))?);
        let attributes = fields.i8()?;
        let delta = fields.varlong()?;
        let rebased = rebased(delta);
        let growth = varlong_size(rebased) as i32 - varlong_size(delta) as i32;
        records.put_varint(size_bytes.saturating_add(growth));
        records.push(attributes as u8);
        records.put_varlong(rebased);
        records.extend_from_slice(fields.rest());
    }
    Ok(())
}
