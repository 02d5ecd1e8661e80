//! The log of one replica: segments in a folder, one writer, many readers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ottla_domain::ids::{DirectoryId, Offset, PartitionId, Timestamp};
use ottla_domain::log::config::LogConfig;
use ottla_domain::log::producers::ProducerStates;
use ottla_domain::log::retention::SegmentFacts;
use ottla_domain::log::roll::{Incoming, should_roll};
use ottla_domain::log::state::LogState;
use ottla_domain::ports::outbound::{
    Cleaned, Cleaning, CleaningError, EncodedBatch, PartitionLog, RecordSlice, StorageError,
};
use parking_lot::Mutex;

use crate::directory::Directory;
use crate::epochs;
use crate::flush::SyncPoint;
use crate::health::{Doing, OrFail};
use crate::index::{Checkpoint, LogIndex};
use crate::region::Region;
use crate::scan;
use crate::segment::Segment;
use crate::writer::Writer;
use crate::{atomic_file, partition_metadata};

/// Segments whose snapshots of producers are kept, the active one included.
pub(crate) const SNAPSHOTS_KEPT: usize = 3;

/// The log of one replica.
pub struct Log {
    pub(crate) directory: Arc<Directory>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionId,
    pub(crate) folder: PathBuf,
    pub(crate) index: LogIndex,
    itself: Weak<Log>,
    pub(crate) config: ArcSwap<LogConfig>,
    pub(crate) log_start: AtomicI64,
    pub(crate) log_end: AtomicI64,
    /// Ascending; never empty; the last one is active.
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(crate) writer: Mutex<Writer>,
    /// Held while segments leave the log.
    pub(crate) cutting: Mutex<()>,
    pub(crate) synced: SyncPoint,
    flush_queued: AtomicBool,
    deleted: AtomicBool,
    /// Counts what is cut off at the end, or all of it: a cleaning that has begun before must not go on.
    pub(crate) truncations: AtomicU64,
    /// Where the last cleaning ended.
    pub(crate) cleaned: Mutex<Option<Offset>>,
    /// The folder's own name and the topic id in it are known to be on disk.
    folder_synced: AtomicBool,
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

impl Log {
    pub(crate) fn new(parts: Parts) -> Arc<Log> {
        let folder_synced = !parts.segments.iter().any(|segment| segment.needs_folder_sync());
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
            cutting: Mutex::new(()),
            synced: SyncPoint::new(parts.synced),
            flush_queued: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            truncations: AtomicU64::new(0),
            cleaned: Mutex::default(),
            folder_synced: AtomicBool::new(folder_synced),
        })
    }

    /// What to say when it fails.
    pub(crate) fn doing<'a>(&'a self, what: &'static str) -> Doing<'a> {
        Doing(what, &self.folder)
    }

    pub(crate) fn set_log_end(&self, offset: Offset) {
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
        let before = self.segments.rcu(|segments| {
            let mut segments = Vec::clone(segments);
            segments.push(Arc::clone(&segment));
            segments
        });
        if let Some(before_last) = before.len().checked_sub(2).and_then(|index| before.get(index)) {
            before_last.forget_tail();
        }
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
            let rolled = Log::segments_from(rolled, synced);
            let health = &self.directory.health;
            rolled
                .iter()
                .try_for_each(|segment| segment.trim())
                .or_fail(health, self.doing("trimming a segment of"))?;
            self.sync_segments(rolled, synced)?;
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

    pub(crate) fn store_recovery_point(&self, offset: Offset) -> Result<(), StorageError> {
        self.index
            .put_checkpoint(Checkpoint::RecoveryPoint, offset)
            .or_fail(&self.directory.health, "writing a recovery point")
    }

    /// Keeps where a cleaning ended, in Kafka's file and in the index.
    pub(crate) fn store_cleaned(&self, offset: Offset) -> Result<(), StorageError> {
        self.directory.checkpoint_cleaned(&self.topic, self.partition, offset)?;
        self.index
            .put_checkpoint(Checkpoint::Cleaned, offset)
            .or_fail(&self.directory.health, "writing where a cleaning ended")?;
        *self.cleaned.lock() = Some(offset);
        Ok(())
    }

    /// Takes over, on start, where the last cleaning ended.
    pub(crate) fn resume_cleaned(&self, cleaned: Option<Offset>, log_end: Offset) -> Result<(), StorageError> {
        *self.cleaned.lock() = cleaned;
        self.lower_cleaned(log_end)
    }

    /// Before the log is cut at `end`: what comes to lie behind it was not cleaned.
    pub(crate) fn lower_cleaned(&self, end: Offset) -> Result<(), StorageError> {
        self.truncations.fetch_add(1, Ordering::AcqRel);
        let cleaned = *self.cleaned.lock();
        match cleaned.is_some_and(|cleaned| cleaned > end) {
            true => self.store_cleaned(end),
            false => Ok(()),
        }
    }

    pub(crate) fn sync_segments(&self, segments: &[Arc<Segment>], from: Offset) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let dirty = segments.iter().filter(|segment| segment.end_offset() > from);
        for segment in dirty {
            let begun = Instant::now();
            segment.sync().or_fail(health, self.doing("syncing a segment of"))?;
            let elapsed_ms = begun.elapsed().as_secs_f64() * 1000.0;
            metrics::histogram!("kafka_log_logflushstats_logflushrateandtimems").record(elapsed_ms);
        }
        if segments.iter().any(|segment| segment.needs_folder_sync()) {
            self.sync_names().or_fail(health, self.doing("syncing"))?;
            segments.iter().for_each(|segment| segment.folder_synced());
        }
        Ok(())
    }

    /// Makes the names of files durable and, where it is not known to be, that of the folder.
    fn sync_names(&self) -> io::Result<()> {
        let is_new = !self.folder_synced.load(Ordering::Acquire);
        if is_new {
            partition_metadata::sync(&self.folder)?;
        }
        atomic_file::sync_folder(&self.folder)?;
        if is_new {
            atomic_file::sync_folder(&self.directory.path)?;
            self.folder_synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The segments from the one that may hold `offset` on.
    pub(crate) fn segments_from(segments: &[Arc<Segment>], offset: Offset) -> &[Arc<Segment>] {
        let after = segments.partition_point(|segment| segment.base_offset <= offset);
        segments.get(after.saturating_sub(1)..).unwrap_or_default()
    }

    pub(crate) fn interval_bytes(&self) -> u32 {
        self.config.load().index_interval_bytes
    }

    pub(crate) fn out_of_range(&self, offset: Offset) -> StorageError {
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
        self.sync().map(|_| ())
    }

    /// Nothing is written for this log after this.
    pub(crate) fn mark_deleted(&self) -> Result<(), StorageError> {
        self.deleted.store(true, Ordering::Release);
        drop(self.cutting.lock());
        self.synced.exclusively(Ok)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn refuse_deleted(&self) -> Result<(), StorageError> {
        if self.is_deleted() {
            return Err(StorageError::Refused(format!("{} was deleted", self.folder.display())));
        }
        Ok(())
    }

    /// The folder of its segments.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
impl Log {
    /// Lets writes and syncs of the active segment fail.
    pub(crate) fn replace_active_file(&self, file: std::fs::File) {
        let mut writer = self.writer.lock();
        let active = &writer.segment;
        let broken = Segment::new(
            file,
            active.base_offset,
            active.size_bytes(),
            active.end_offset(),
            None,
            true,
        );
        let broken = Arc::new(broken);
        let mut segments = Vec::clone(&self.segments.load());
        segments.pop();
        segments.push(Arc::clone(&broken));
        self.segments.store(Arc::new(segments));
        writer.segment = broken;
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
        self.refuse_deleted()?;
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

        let write = health.write();
        segment
            .write(active.size_bytes as u32, batches)
            .or_fail(health, self.doing("writing to"))?;
        drop(write);

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
        // In this order: the segments reach up to this end, and begin at or below this start, whatever happens meanwhile.
        let log_end = self.log_end_offset();
        let segments = self.segments.load();
        if from < self.log_start_offset() || from > log_end {
            return Err(self.out_of_range(from));
        }
        let upper = upper.min(log_end);
        let empty = Ok(RecordSlice::Memory(Bytes::new()));
        let interval_bytes = self.interval_bytes();
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
        self.cut_head(log_start)
    }

    fn truncate(&self, end: Offset, state: &mut LogState) -> Result<(), StorageError> {
        self.cut_tail(end, state)
    }

    fn replace_all(&self, start: Offset, state: &mut LogState) -> Result<(), StorageError> {
        self.start_again(start, state)
    }

    fn store_epochs(&self, state: &LogState) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let bytes = epochs::encode(&state.epochs);
        self.index.put_epochs(&bytes).or_fail(health, "writing leader epochs")
    }

    fn first_timestamp(&self, base_offset: Offset) -> Result<Timestamp, StorageError> {
        let segments = self.segments.load();
        let Some(segment) = segments.iter().find(|segment| segment.base_offset == base_offset) else {
            return Ok(Timestamp::NONE);
        };
        let found = segment.first_timestamp();
        let found = found.or_fail(&self.directory.health, self.doing("reading a segment of"))?;
        Ok(found.unwrap_or(Timestamp::NONE))
    }

    fn cleaned_offset(&self) -> Option<Offset> {
        *self.cleaned.lock()
    }

    fn set_cleaned_offset(&self, offset: Offset) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        // Under the lock that truncation takes: it lowers the offset.
        let _cutting = self.cutting.lock();
        self.refuse_deleted()?;
        self.store_cleaned(offset.min(self.log_end_offset()))
    }

    fn clean(&self, cleaning: Cleaning<'_>) -> Result<Cleaned, CleaningError> {
        self.clean_segments(cleaning)
    }

    fn set_config(&self, config: Arc<LogConfig>) {
        self.config.store(config);
    }

    fn directory(&self) -> DirectoryId {
        self.directory.id
    }
}
