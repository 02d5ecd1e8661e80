//! The log of one replica: segments in a folder, one writer, many readers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ottla_domain::ids::{DirectoryId, Offset, PartitionId, Timestamp};
use ottla_domain::log::config::LogConfig;
use ottla_domain::log::producers::ProducerStates;
use ottla_domain::log::retention::SegmentFacts;
use ottla_domain::log::roll::{ActiveSegment, Incoming, should_roll};
use ottla_domain::log::state::LogState;
use ottla_domain::ports::outbound::{EncodedBatch, PartitionLog, RecordSlice, StorageError};
use ottla_domain::record::batch::BatchHeader;
use parking_lot::Mutex;

use crate::directory::Directory;
use crate::epochs;
use crate::flush::SyncPoint;
use crate::health::OrFail;
use crate::index::{Checkpoint, Entry, LogIndex};
use crate::recovery;
use crate::region::Region;
use crate::scan;
use crate::segment::Segment;

/// Segments whose snapshots of producers are kept, the active one included.
const SNAPSHOTS_KEPT: usize = 3;

/// The log of one replica.
pub struct Log {
    pub(crate) directory: Arc<Directory>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionId,
    pub(crate) folder: PathBuf,
    pub(crate) index: LogIndex,
    itself: Weak<Log>,
    config: ArcSwap<LogConfig>,
    log_start: AtomicI64,
    log_end: AtomicI64,
    /// Ascending; never empty; the last one is active.
    segments: ArcSwap<Vec<Arc<Segment>>>,
    writer: Mutex<Writer>,
    synced: SyncPoint,
    flush_queued: AtomicBool,
    deleted: AtomicBool,
}

/// What only the writer needs of the active segment.
pub(crate) struct Writer {
    pub(crate) segment: Arc<Segment>,
    pub(crate) active: ActiveSegment,
    pub(crate) entries: EntryTaker,
}

/// Decides where index entries are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryTaker {
    /// The last entry, or the segment's start.
    pub(crate) last: Entry,
    /// The largest timestamp of the batches so far.
    pub(crate) max_timestamp: Timestamp,
    /// Bytes behind the last entry.
    pub(crate) since_entry_bytes: u32,
}

impl EntryTaker {
    /// Goes on behind an entry.
    pub(crate) fn behind(entry: Entry) -> EntryTaker {
        EntryTaker {
            last: entry,
            max_timestamp: entry.max_timestamp,
            since_entry_bytes: 0,
        }
    }

    /// Takes in a batch at `position`. The entry, if any, says that the batch begins there.
    pub(crate) fn batch(&mut self, header: &BatchHeader, position: u32, interval_bytes: u32) -> Option<Entry> {
        let due = self.since_entry_bytes > interval_bytes;
        let entry = due.then(|| self.take(header.base_offset, position));
        self.since_entry_bytes = self.since_entry_bytes.saturating_add(header.size_bytes() as u32);
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        entry
    }

    /// An entry at a position between two batches.
    pub(crate) fn take(&mut self, offset: Offset, position: u32) -> Entry {
        let is_later = self.max_timestamp > self.last.max_timestamp;
        self.last = Entry {
            offset,
            position,
            max_timestamp: self.max_timestamp,
            offset_entries: self.last.offset_entries + 1,
            time_entries: self.last.time_entries + u32::from(is_later),
        };
        self.since_entry_bytes = 0;
        self.last
    }
}

/// What a log is made of when it is opened.
pub(crate) struct Parts {
    pub(crate) directory: Arc<Directory>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionId,
    pub(crate) folder: PathBuf,
    pub(crate) index: LogIndex,
    pub(crate) config: Arc<LogConfig>,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) synced: Offset,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) writer: Writer,
}

impl Writer {
    /// The writer of an empty segment.
    pub(crate) fn new(segment: Arc<Segment>, config: &LogConfig) -> Writer {
        let entries = EntryTaker::behind(Entry::start(segment.base_offset));
        Writer::resume(segment, entries, None, config, Timestamp::NONE)
    }

    /// The writer of a segment that has batches; the timestamp is that of the first one.
    pub(crate) fn resume(
        segment: Arc<Segment>,
        entries: EntryTaker,
        first_timestamp: Option<Timestamp>,
        config: &LogConfig,
        now: Timestamp,
    ) -> Writer {
        Writer {
            active: ActiveSegment {
                base_offset: segment.base_offset,
                size_bytes: u64::from(segment.size_bytes()),
                created: now,
                first_timestamp,
                jitter_ms: config.draw_segment_jitter_ms(jitter_entropy()),
                offset_index_entries: entries.last.offset_entries,
                time_index_entries: entries.last.time_entries,
            },
            entries,
            segment,
        }
    }
}

/// Not for secrets: spreads the rolls of many partitions.
fn jitter_entropy() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

impl Log {
    pub(crate) fn new(parts: Parts) -> Arc<Log> {
        Arc::new_cyclic(|itself| Log {
            itself: itself.clone(),
            directory: parts.directory,
            topic: parts.topic,
            partition: parts.partition,
            folder: parts.folder,
            index: parts.index,
            config: ArcSwap::new(parts.config),
            log_start: AtomicI64::new(parts.log_start.0),
            log_end: AtomicI64::new(parts.log_end.0),
            segments: ArcSwap::from_pointee(parts.segments),
            writer: Mutex::new(parts.writer),
            synced: SyncPoint::new(parts.synced),
            flush_queued: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
        })
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} {}", self.folder.display())
    }

    fn set_log_end(&self, offset: Offset) {
        self.log_end.store(offset.0, Ordering::Release);
    }

    fn roll_locked(
        &self,
        writer: &mut Writer,
        base_offset: Offset,
        producers: &ProducerStates,
    ) -> Result<(), StorageError> {
        let health = &self.directory.health;
        let config = self.config.load();
        let segment = Segment::create(&self.folder, base_offset).or_fail(health, self.doing("making a segment in"))?;
        let end_entry = writer.entries.take(base_offset, writer.segment.size_bytes());
        self.index.add(writer.segment.base_offset, end_entry);
        self.index.add_producers(base_offset, producers.snapshot());

        let segment = Arc::new(segment);
        let mut segments = Vec::clone(&self.segments.load());
        if let Some(before_last) = segments.len().checked_sub(2).and_then(|index| segments.get(index)) {
            before_last.forget_tail();
        }
        segments.push(Arc::clone(&segment));
        self.segments.store(Arc::new(segments));
        *writer = Writer::new(segment, &config);
        if !self.flush_queued.swap(true, Ordering::AcqRel) {
            self.directory.flusher.add(self.itself.clone());
        }
        Ok(())
    }

    /// Flushes the segments before the active one and moves the recovery point there.
    pub(crate) fn flush_rolled(&self) -> Result<(), StorageError> {
        self.flush_queued.store(false, Ordering::Release);
        self.synced.exclusively(|synced| {
            let segments = self.segments.load();
            let Some((active, rolled)) = segments.split_last().filter(|_| !self.is_deleted()) else {
                return Ok(synced);
            };
            self.sync_segments(Log::segments_from(rolled, synced), synced)?;
            let reached = synced.max(active.base_offset);
            self.store_recovery_point(reached)?;
            let oldest_kept = segments
                .get(segments.len().saturating_sub(SNAPSHOTS_KEPT))
                .unwrap_or(active);
            self.index
                .delete_producers_below(oldest_kept.base_offset)
                .or_fail(&self.directory.health, "deleting snapshots of producers")?;
            Ok(reached)
        })
    }

    fn store_recovery_point(&self, offset: Offset) -> Result<(), StorageError> {
        self.index
            .put_checkpoint(Checkpoint::RecoveryPoint, offset)
            .or_fail(&self.directory.health, "writing a recovery point")
    }

    fn sync_segments(&self, segments: &[Arc<Segment>], from: Offset) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let dirty = segments.iter().filter(|segment| segment.end_offset() > from);
        for segment in dirty {
            segment.sync().or_fail(health, self.doing("syncing a segment of"))?;
        }
        if segments.iter().any(|segment| segment.needs_folder_sync()) {
            crate::atomic_file::sync_folder(&self.folder).or_fail(health, self.doing("syncing"))?;
            segments.iter().for_each(|segment| segment.folder_synced());
        }
        Ok(())
    }

    /// The segments from the one that may hold `offset` on.
    fn segments_from(segments: &[Arc<Segment>], offset: Offset) -> &[Arc<Segment>] {
        let after = segments.partition_point(|segment| segment.base_offset <= offset);
        segments.get(after.saturating_sub(1)..).unwrap_or_default()
    }

    fn interval_bytes(&self) -> u32 {
        self.config.load().index_interval_bytes
    }

    fn out_of_range(&self, offset: Offset) -> StorageError {
        StorageError::OutOfRange {
            offset,
            log_start: self.log_start_offset(),
            log_end: self.log_end_offset(),
        }
    }

    fn largest_timestamp(&self, segment: &Segment) -> Result<Timestamp, StorageError> {
        segment
            .max_timestamp(&self.index)
            .or_fail(&self.directory.health, self.doing("reading a segment of"))
    }

    /// Takes segments out of the log and their files to the trash.
    fn discard(&self, segments: &[Arc<Segment>]) -> Result<(), StorageError> {
        let health = &self.directory.health;
        let delay_ms = self.config.load().file_delete_delay_ms;
        for segment in segments {
            let deleted = segment
                .mark_deleted(&self.folder)
                .or_fail(health, self.doing("renaming a segment of"))?;
            self.directory.trash.add(deleted, delay_ms);
        }
        if !segments.is_empty() {
            crate::atomic_file::sync_folder(&self.folder).or_fail(health, self.doing("syncing"))?;
        }
        Ok(())
    }

    /// Snapshots the producers at the log's end, and indexes the end of the active segment: the next start has nothing to
    /// scan.
    pub(crate) fn prepare_close(&self, state: &LogState) -> Result<(), StorageError> {
        let mut writer = self.writer.lock();
        let (end, size_bytes) = (self.log_end_offset(), writer.segment.size_bytes());
        if size_bytes > 0 && writer.entries.since_entry_bytes > 0 {
            let entry = writer.entries.take(end, size_bytes);
            self.index.add(writer.segment.base_offset, entry);
        }
        self.index.add_producers(end, state.producers.snapshot());
        drop(writer);
        self.store_epochs(state)?;
        self.sync()?;
        self.store_recovery_point(end)
    }

    /// Nothing is written for this log after this.
    pub(crate) fn mark_deleted(&self) -> Result<(), StorageError> {
        self.deleted.store(true, Ordering::Release);
        self.synced.exclusively(Ok)
    }

    fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The folder of its segments.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn delete_delay_ms(&self) -> i64 {
        self.config.load().file_delete_delay_ms
    }
}

impl PartitionLog for Log {
    type Region = Region;

    fn log_start_offset(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    fn log_end_offset(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    fn synced_offset(&self) -> Offset {
        self.synced.get()
    }

    fn append(&self, batches: &[EncodedBatch], state: &LogState, now: Timestamp) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return Ok(());
        };
        if self.is_deleted() {
            return Err(StorageError::Refused(format!("{} was deleted", self.folder.display())));
        }
        let mut writer = self.writer.lock();
        if first.header.base_offset < self.log_end_offset() {
            return Err(self.out_of_range(first.header.base_offset));
        }
        let config = self.config.load();
        let incoming = Incoming {
            size_bytes: batches.iter().map(|batch| batch.header.size_bytes() as u64).sum(),
            max_timestamp: batches
                .iter()
                .map(|batch| batch.header.max_timestamp)
                .max()
                .unwrap_or(Timestamp::NONE),
            last_offset: last.header.last_offset(),
        };
        if should_roll(&config, &writer.active, &incoming, now).is_some() {
            self.roll_locked(&mut writer, first.header.base_offset, &state.producers)?;
        }
        let Writer {
            segment,
            active,
            entries,
        } = &mut *writer;

        let begun = Instant::now();
        segment
            .write(active.size_bytes as u32, batches)
            .or_fail(health, self.doing("writing to"))?;
        health.wrote_in(begun.elapsed());

        segment.publish(batches, |header, position| {
            let entry = entries.batch(header, position, config.index_interval_bytes)?;
            self.index.add(segment.base_offset, entry);
            Some(entry)
        });
        if active.size_bytes == 0 {
            active.created = now;
        }
        active.size_bytes += incoming.size_bytes;
        active.first_timestamp = active.first_timestamp.or(Some(first.header.max_timestamp));
        active.offset_index_entries = entries.last.offset_entries;
        active.time_index_entries = entries.last.time_entries;
        self.set_log_end(last.header.next_offset());
        Ok(())
    }

    fn is_slow(&self) -> bool {
        self.directory.health.is_slow()
    }

    fn sync(&self) -> Result<Offset, StorageError> {
        self.directory.health.check()?;
        self.synced.reach(self.log_end_offset(), |from| {
            // Whatever ends below this offset was written before it was published.
            let end = self.log_end_offset();
            let segments = self.segments.load();
            self.sync_segments(Log::segments_from(&segments, from), from)?;
            Ok(end)
        })
    }

    fn read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<RecordSlice<Region>, StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let log_end = self.log_end_offset();
        if from < self.log_start_offset() || from > log_end {
            return Err(self.out_of_range(from));
        }
        let upper = upper.min(log_end);
        let empty = Ok(RecordSlice::Memory(Bytes::new()));
        let interval_bytes = self.interval_bytes();
        let segments = self.segments.load();
        for segment in Log::segments_from(&segments, from) {
            if from >= upper || segment.base_offset >= upper {
                break;
            }
            let locate = |offset| {
                let located = segment.locate(&self.index, offset, interval_bytes);
                located.or_fail(health, self.doing("reading"))
            };
            // Where compaction left a gap at the end of a segment, the batch is the first of the next one.
            let Ok(first) = locate(from)? else {
                continue;
            };
            let end = locate(upper)?.map_or_else(|end| end, |beyond| beyond.position);
            let available_bytes = end.saturating_sub(first.position);
            if available_bytes == 0 || (first.size_bytes as usize > max_bytes && !at_least_one) {
                return empty;
            }
            let limit = u32::try_from(max_bytes).unwrap_or(u32::MAX);
            let size_bytes = if limit >= available_bytes {
                available_bytes
            } else if limit <= first.size_bytes {
                first.size_bytes
            } else {
                segment.whole_batches(first.position.saturating_add(limit)) - first.position
            };
            return Ok(RecordSlice::File {
                region: segment.region.clone(),
                position: u64::from(first.position),
                size_bytes,
            });
        }
        empty
    }

    fn is_resident(&self, offset: Offset) -> bool {
        let segments = self.segments.load();
        let from = Log::segments_from(&segments, offset);
        from.first().is_none_or(|segment| segment.is_resident(offset))
    }

    fn load(&self, slice: &RecordSlice<Region>) -> Result<Bytes, StorageError> {
        match slice {
            RecordSlice::Memory(bytes) => Ok(bytes.clone()),
            RecordSlice::File {
                region,
                position,
                size_bytes,
            } => {
                let position = u32::try_from(*position).unwrap_or(u32::MAX);
                scan::read_range(region.file(), position, *size_bytes as usize)
                    .or_fail(&self.directory.health, self.doing("reading"))
            }
        }
    }

    fn find_by_timestamp(&self, timestamp: Timestamp, upper: Offset) -> Result<Option<Bytes>, StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let (log_start, interval_bytes) = (self.log_start_offset(), self.interval_bytes());
        let segments = self.segments.load();
        for segment in Log::segments_from(&segments, log_start) {
            if segment.base_offset >= upper {
                break;
            }
            if self.largest_timestamp(segment)? < timestamp {
                continue;
            }
            let found = segment
                .locate_timestamp(&self.index, timestamp, log_start, interval_bytes)
                .or_fail(health, self.doing("reading"))?;
            if let Some((batch, bytes)) = found {
                return Ok((batch.header.base_offset < upper).then_some(bytes));
            }
        }
        Ok(None)
    }

    fn find_largest_timestamp(&self, upper: Offset) -> Result<Option<Bytes>, StorageError> {
        let mut largest = Timestamp::NONE;
        for segment in self.segments.load().iter() {
            largest = largest.max(self.largest_timestamp(segment)?);
        }
        if largest < Timestamp(0) {
            return Ok(None);
        }
        self.find_by_timestamp(largest, upper)
    }

    fn segments(&self) -> Vec<SegmentFacts> {
        let facts = |segment: &Arc<Segment>| {
            let largest_timestamp = match self.largest_timestamp(segment) {
                Ok(Timestamp(0..)) => self.largest_timestamp(segment),
                Ok(_) => segment
                    .modified()
                    .or_fail(&self.directory.health, self.doing("reading")),
                Err(error) => Err(error),
            };
            SegmentFacts {
                base_offset: segment.base_offset,
                size_bytes: u64::from(segment.size_bytes()),
                // The directory is offline; nothing is deleted in it.
                largest_timestamp: largest_timestamp.unwrap_or(Timestamp(i64::MAX)),
            }
        };
        self.segments.load().iter().map(facts).collect()
    }

    fn roll(&self, state: &LogState) -> Result<(), StorageError> {
        self.directory.health.check()?;
        let mut writer = self.writer.lock();
        if writer.segment.size_bytes() == 0 {
            return Ok(());
        }
        self.roll_locked(&mut writer, self.log_end_offset(), &state.producers)
    }

    fn advance_log_start(&self, log_start: Offset) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let _writer = self.writer.lock();
        if log_start <= self.log_start_offset() {
            return Ok(());
        }
        if log_start > self.log_end_offset() {
            return Err(self.out_of_range(log_start));
        }
        let segments = self.segments.load_full();
        let kept = Log::segments_from(&segments, log_start);
        let gone = segments.get(..segments.len() - kept.len()).unwrap_or_default();
        let is_inside = kept.first().is_some_and(|first| first.base_offset < log_start);
        self.index
            .put_log_start(log_start)
            .or_fail(health, "writing a log start offset")?;
        self.directory
            .checkpoint_log_start(&self.topic, self.partition, is_inside.then_some(log_start))?;
        self.log_start.store(log_start.0, Ordering::Release);
        self.segments.store(Arc::new(kept.to_vec()));
        self.discard(gone)?;
        if let Some(first) = kept.first().filter(|_| !gone.is_empty()) {
            self.index
                .delete_below(first.base_offset)
                .or_fail(health, "deleting index entries")?;
        }
        Ok(())
    }

    fn truncate(&self, end: Offset, state: &mut LogState) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        if end <= self.log_start_offset() {
            return self.replace_all(end, state);
        }
        if end >= self.log_end_offset() {
            state.epochs.truncate_from_end(end.min(self.log_end_offset()));
            return self.store_epochs(state);
        }
        let _cutting = self.directory.cutting.read();
        let mut writer = self.writer.lock();
        self.synced.exclusively(|synced| {
            let segments = self.segments.load_full();
            let cut_count = Log::segments_from(&segments, end).len();
            let kept = segments.get(..=segments.len() - cut_count).unwrap_or_default();
            let gone = segments.get(kept.len()..).unwrap_or_default();
            let Some(active) = kept.last() else {
                return Ok(synced);
            };
            let located = active.locate(&self.index, end, self.interval_bytes());
            let (end, position) = match located.or_fail(health, self.doing("reading"))? {
                Ok(batch) => (batch.base_offset.min(end), batch.position),
                Err(position) => (end, position),
            };
            let synced = synced.min(end);
            self.directory
                .lower_recovery_point(&self.topic, self.partition, synced)?;
            self.store_recovery_point(synced)?;
            self.index
                .truncate(active.base_offset, position, end)
                .or_fail(health, "deleting index entries")?;

            self.set_log_end(end);
            self.segments.store(Arc::new(kept.to_vec()));
            self.discard(gone)?;
            active.truncate(position).or_fail(health, self.doing("truncating"))?;
            let resumed = recovery::resume(
                active,
                &self.index,
                position,
                end,
                &self.config.load(),
                writer.active.created,
            );
            *writer = resumed.or_fail(health, self.doing("reading"))?;
            let producers = recovery::producers_at(&self.index, kept, self.log_start_offset(), end);
            state.truncate_to(end, producers.or_fail(health, self.doing("reading"))?);
            Ok(synced)
        })?;
        drop(writer);
        self.store_epochs(state)
    }

    fn replace_all(&self, start: Offset, state: &mut LogState) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let _cutting = self.directory.cutting.read();
        let mut writer = self.writer.lock();
        self.synced.exclusively(|_| {
            self.directory
                .lower_recovery_point(&self.topic, self.partition, start)?;
            self.store_recovery_point(start)?;
            // A crash after this leaves an empty log, or the old one without its head.
            self.discard(&self.segments.load())?;
            self.index
                .put_log_start(start)
                .or_fail(health, "writing a log start offset")?;
            self.directory.checkpoint_log_start(&self.topic, self.partition, None)?;
            self.index
                .truncate(Offset::ZERO, 0, Offset::NONE)
                .or_fail(health, "deleting index entries")?;
            let segment = Segment::create(&self.folder, start).or_fail(health, self.doing("making a segment in"))?;
            let segment = Arc::new(segment);
            self.sync_segments(std::slice::from_ref(&segment), Offset::NONE)?;
            self.log_start.store(start.0, Ordering::Release);
            self.set_log_end(start);
            self.segments.store(Arc::new(vec![Arc::clone(&segment)]));
            *writer = Writer::new(segment, &self.config.load());
            Ok(start)
        })?;
        drop(writer);
        *state = LogState::empty_at(start);
        self.store_epochs(state)
    }

    fn store_epochs(&self, state: &LogState) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let bytes = epochs::encode(&state.epochs);
        self.index.put_epochs(&bytes).or_fail(health, "writing leader epochs")
    }

    fn set_config(&self, config: Arc<LogConfig>) {
        self.config.store(config);
    }

    fn directory(&self) -> DirectoryId {
        self.directory.id
    }
}
