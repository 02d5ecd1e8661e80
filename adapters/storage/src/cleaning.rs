//! Cleans a log (`cleanup.policy=compact`): reads what is dirty into a map of keys, then copies the segments up to there
//! without what has successors. What stays is for [`ottla_domain::log::compaction`] to say.

mod output;
mod reader;
pub(crate) mod swap;
mod transactions;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_domain::ids::Offset;
use ottla_domain::log::compaction::{
    BatchFilter, Counts, GroupFacts, Mapped, OffsetMap, Outcome, Retention, group_segments, map_records,
};
use ottla_domain::log::config::LogConfig;
use ottla_domain::log::producers::ProducerStates;
use ottla_domain::ports::outbound::{Cleaned, Cleaning, CleaningError};
use ottla_domain::record::batch::{BatchHeader, HEADER_SIZE_BYTES};
use ottla_domain::record::compression::{Codec, Compression, CompressionType};

use self::output::Output;
use self::reader::BatchReader;
use self::transactions::Transactions;
use crate::health::OrFail;
use crate::index::Entry;
use crate::log::Log;
use crate::segment::Segment;

/// A compressed batch that would take more memory than this, and than four times itself, stays as it is. Clients make none
/// but to do harm.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// The sizes of an entry in Kafka's `.index` and `.timeindex`.
const OFFSET_INDEX_ENTRY_BYTES: u64 = 8;
const TIME_INDEX_ENTRY_BYTES: u64 = 12;

/// What both passes share.
struct Job<'a> {
    log: &'a Log,
    cleaning: &'a Cleaning<'a>,
    config: Arc<LogConfig>,
    /// What it was when the cleaning began: truncation changes it.
    truncations: u64,
}

/// A body that was decompressed, or that needs not be.
enum Plain<'a> {
    Body(&'a [u8]),
    /// It would take too much memory.
    TooLarge,
}

impl Log {
    /// Cleans the log, see [`ottla_domain::ports::outbound::PartitionLog::clean`].
    pub(crate) fn clean_segments(&self, mut cleaning: Cleaning<'_>) -> Result<Cleaned, CleaningError> {
        // From here on recovery looks at no batch that is going to be replaced.
        self.flush_rolled()?;
        let mut map = std::mem::replace(&mut cleaning.map, OffsetMap::new(0, 0.0, 0));
        let job = Job {
            log: self,
            cleaning: &cleaning,
            config: self.config.load_full(),
            truncations: self.truncations.load(Ordering::Acquire),
        };
        let segments = self.segments.load_full();
        let rolled = segments.get(..segments.len() - 1).unwrap_or_default();
        let cleanable_count = rolled.partition_point(|segment| segment.base_offset < cleaning.first_uncleanable);
        let cleanable = rolled.get(..cleanable_count).unwrap_or_default();
        let mut cleaned = Cleaned {
            mapped_bytes: job.build_map(&mut map, &segments, cleanable)?,
            ..Cleaned::default()
        };
        cleaned.end = map.latest_offset().next();
        cleaned.map_utilization = map.utilization();

        let count = cleanable.partition_point(|segment| segment.base_offset < cleaned.end);
        let sources = cleanable.get(..count).unwrap_or_default();
        let facts: Vec<_> = sources.iter().map(|segment| job.group_facts(segment)).collect();
        let mut transactions = Transactions::new(&segments);
        for group in group_segments(&job.config, &facts, cleaning.first_uncleanable) {
            let group = sources.get(group).unwrap_or_default();
            job.clean_group(&map, group, &mut transactions, &mut cleaned)?;
        }
        let _cutting = self.cutting.lock();
        job.check()?;
        if cleaned.end > cleaning.first_dirty {
            self.store_cleaned(cleaned.end)?;
        }
        Ok(cleaned)
    }
}

impl Job<'_> {
    /// Ends the cleaning where the log is no longer what it was.
    fn check(&self) -> Result<(), CleaningError> {
        self.log.directory.health.check()?;
        let is_cut = self.log.truncations.load(Ordering::Acquire) != self.truncations;
        if is_cut || self.log.refuse_deleted().is_err() {
            return Err(CleaningError::Aborted);
        }
        Ok(())
    }

    /// After so many bytes were read or written.
    fn pace(&self, bytes: u64) -> Result<(), CleaningError> {
        self.check()?;
        match (self.cleaning.go_on)(bytes) {
            true => Ok(()),
            false => Err(CleaningError::Aborted),
        }
    }

    /// Failed I/O takes the directory offline, unless the log is gone.
    fn or_fail<T>(&self, result: std::io::Result<T>, what: &'static str) -> Result<T, CleaningError> {
        match result {
            Err(_) if self.log.refuse_deleted().is_err() => Err(CleaningError::Aborted),
            result => Ok(result.or_fail(&self.log.directory.health, self.log.doing(what))?),
        }
    }

    fn reader<'a>(&'a self, segment: &'a Segment, position: u32) -> BatchReader<'a> {
        BatchReader::new(segment, position, self.cleaning.buffer_bytes)
    }

    fn group_facts(&self, segment: &Segment) -> GroupFacts {
        let last = self.log.index.last_entry(segment.base_offset).ok().flatten();
        let last = last.unwrap_or(Entry::start(segment.base_offset));
        GroupFacts {
            base_offset: segment.base_offset,
            size_bytes: u64::from(segment.size_bytes()),
            offset_index_bytes: u64::from(last.offset_entries) * OFFSET_INDEX_ENTRY_BYTES,
            time_index_bytes: u64::from(last.time_entries) * TIME_INDEX_ENTRY_BYTES,
        }
    }

    /// The first pass. Returns how many bytes it read.
    fn build_map(
        &self,
        map: &mut OffsetMap,
        all: &[Arc<Segment>],
        cleanable: &[Arc<Segment>],
    ) -> Result<u64, CleaningError> {
        let first_dirty = self.cleaning.first_dirty;
        let mut transactions = Transactions::new(all);
        let (mut scratch, mut read_bytes) = (Vec::new(), 0);
        for (segment, end) in with_ends(
            Log::segments_from(cleanable, first_dirty),
            self.cleaning.first_uncleanable,
        ) {
            let located = segment.locate(&self.log.index, first_dirty, self.log.interval_bytes());
            let position = match self.or_fail(located, "reading a segment of")? {
                Ok(batch) => batch.position,
                Err(position) => position,
            };
            let mut reader = self.reader(segment, position);
            while let Some((header, batch)) = reader.next(self)? {
                read_bytes += batch.len() as u64;
                let body = body_of(batch);
                header
                    .check_crc(body)
                    .map_err(|error| uncleanable(segment, &header, error))?;
                if !transactions.can_discard(self, segment, &header, body)? && !header.attributes.is_control() {
                    let plain = self.plain(segment, &header, body, &mut scratch)?;
                    if let Plain::Body(plain) = plain
                        && map_records(map, &header, plain, first_dirty)
                            .map_err(|error| uncleanable(segment, &header, error))?
                            == Mapped::Partly
                    {
                        return Ok(read_bytes);
                    }
                }
                if header.last_offset() >= first_dirty {
                    map.extend_to(header.last_offset());
                }
            }
            map.extend_to(end.plus(-1));
        }
        Ok(read_bytes)
    }

    fn plain<'a>(
        &self,
        segment: &Segment,
        header: &BatchHeader,
        body: &'a [u8],
        scratch: &'a mut Vec<u8>,
    ) -> Result<Plain<'a>, CleaningError> {
        let codec = match header.attributes.compression() {
            Some(CompressionType::None) => return Ok(Plain::Body(body)),
            Some(codec) => codec,
            None => return Err(uncleanable(segment, header, "unknown codec")),
        };
        let limit = DECOMPRESSED_BYTES_MAX.max(body.len().saturating_mul(4));
        scratch.clear();
        // A batch is all there and was checked: what fails here fails always.
        decompress(self.cleaning.compression, codec, body, limit, scratch)
            .map_err(|error| uncleanable(segment, header, error))?;
        if scratch.len() > limit {
            tracing::warn!(
                folder = %self.log.folder.display(), offset = %header.base_offset, limit,
                "a batch that is too large when it is decompressed is left as it is"
            );
            *scratch = Vec::new();
            return Ok(Plain::TooLarge);
        }
        Ok(Plain::Body(scratch))
    }

    /// The second pass over segments that become one.
    fn clean_group(
        &self,
        map: &OffsetMap,
        group: &[Arc<Segment>],
        transactions: &mut Transactions<'_>,
        cleaned: &mut Cleaned,
    ) -> Result<(), CleaningError> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        let producers: ProducerStates = (self.cleaning.producers)();
        let filter = BatchFilter {
            map,
            producers: &producers,
            upper: self.cleaning.first_uncleanable,
            now: self.cleaning.now,
            delete_retention_ms: self.config.delete_retention_ms,
        };
        // A segment on its own of which everything stays needs not be written again.
        let mut output = Output::new(self, first, group.len() == 1)?;
        let mut buffers = Buffers::default();
        for segment in group {
            let mut reader = self.reader(segment, 0);
            while let Some((header, batch)) = reader.next(self)? {
                cleaned.read_bytes += batch.len() as u64;
                let can_discard = transactions.can_discard(self, segment, &header, body_of(batch))?;
                let retention = filter.retention(&header, can_discard);
                let records = &mut cleaned.records;
                let outcome = self.filter(&filter, segment, &header, retention, batch, &mut buffers, records)?;
                if outcome != Outcome::Keep && header.next_offset() <= self.cleaning.first_dirty {
                    // The first pass did not see it.
                    header
                        .check_crc(body_of(batch))
                        .map_err(|error| uncleanable(segment, &header, error))?;
                }
                match outcome {
                    Outcome::Keep => output.keep(self, &header, batch)?,
                    Outcome::Drop => output.diverge(self)?,
                    Outcome::Empty(header) => output.push(self, &header, &[])?,
                    Outcome::Rewrite(rewritten) => {
                        let body = self.compressed(segment, &rewritten, &mut buffers)?;
                        output.push(self, &BatchFilter::finish(rewritten, body), body)?;
                    }
                }
            }
        }
        cleaned.retained_bytes += output.size_bytes();
        match output.finish(self)? {
            Some(finished) => swap::replace(self, group, finished),
            None => Ok(()),
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the state of a pass is split, so that buffers can be borrowed apart"
    )]
    fn filter(
        &self,
        filter: &BatchFilter<'_>,
        segment: &Segment,
        header: &BatchHeader,
        retention: Retention,
        batch: &[u8],
        buffers: &mut Buffers,
        counts: &mut Counts,
    ) -> Result<Outcome, CleaningError> {
        if retention.is_dropped() {
            counts.read += u64::try_from(header.record_count).unwrap_or(0);
            return Ok(Outcome::Drop);
        }
        let Buffers { plain, retained, .. } = buffers;
        match self.plain(segment, header, body_of(batch), plain)? {
            Plain::Body(plain) => filter
                .filter(header, retention, plain, retained, counts)
                .map_err(|error| uncleanable(segment, header, error)),
            Plain::TooLarge => Ok(Outcome::Keep),
        }
    }

    /// The records that are left, compressed as the batch was.
    fn compressed<'a>(
        &self,
        segment: &Segment,
        header: &BatchHeader,
        buffers: &'a mut Buffers,
    ) -> Result<&'a [u8], CleaningError> {
        match header.attributes.compression() {
            Some(CompressionType::None) | None => Ok(&buffers.retained),
            Some(codec) => {
                let (compression, codec) = (self.cleaning.compression, Codec::default_of(codec));
                let compressed = compression.compress(codec, &mut buffers.retained.as_slice(), i32::MAX as usize / 2);
                buffers.compressed = compressed.map_err(|error| uncleanable(segment, header, error))?;
                Ok(&buffers.compressed)
            }
        }
    }
}

/// Bodies of the batch at hand.
#[derive(Default)]
struct Buffers {
    plain: Vec<u8>,
    retained: Vec<u8>,
    compressed: Vec<u8>,
}

fn decompress(
    compression: &dyn Compression,
    codec: CompressionType,
    body: &[u8],
    limit: usize,
    plain: &mut Vec<u8>,
) -> std::io::Result<()> {
    let stream = compression.decompress(codec, body)?;
    stream.take(limit as u64 + 1).read_to_end(plain).map(|_| ())
}

fn body_of(batch: &[u8]) -> &[u8] {
    batch.get(HEADER_SIZE_BYTES..).unwrap_or_default()
}

/// Segments with the offsets at which they end.
fn with_ends(segments: &[Arc<Segment>], end: Offset) -> impl Iterator<Item = (&Arc<Segment>, Offset)> {
    let ends = segments.iter().skip(1).map(|next| next.base_offset).chain([end]);
    segments.iter().zip(ends)
}

fn uncleanable(segment: &Segment, header: &BatchHeader, error: impl std::fmt::Display) -> CleaningError {
    CleaningError::Uncleanable(format!(
        "the batch at offset {} of segment {} cannot be read: {error}",
        header.base_offset, segment.base_offset
    ))
}
