//! The RocksDB database in `.ottla/`: where batches lie in segments, by offset and by time, and the state of logs that
//! segments do not hold.
//!
//! Keys begin with a log id, which is never used twice: what a deleted log leaves behind can never be taken for another's.
//! Entries are queued per log and written by one thread, many in a batch; appends never wait for RocksDB.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_domain::ids::{Offset, Timestamp, TopicId};
use ottla_domain::ports::outbound::StorageError;
use parking_lot::{Condvar, Mutex};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRawIterator, Options, WriteBatch,
    WriteOptions,
};

use crate::atomic_file;
use crate::health::{Health, OrFail};

/// The layout of the keys and values below.
const FORMAT_VERSION: u32 = 1;
const FORMAT_FILE: &str = "format-version";
/// How long the writer waits for more entries before it writes.
const GATHER: Duration = Duration::from_millis(20);
/// Entries of one log that may wait for the writer; past it they are dropped, and lookups scan further.
const PENDING_MAX: usize = 16 * 1024;

const LOGS: &str = "logs";
const OFFSETS: &str = "offsets";
const TIMES: &str = "times";
const LOG_START: &str = "log_start";
const EPOCHS: &str = "epochs";
const PRODUCERS: &str = "producers";
const CHECKPOINTS: &str = "checkpoints";
const FAMILIES: [&str; 7] = [LOGS, OFFSETS, TIMES, LOG_START, EPOCHS, PRODUCERS, CHECKPOINTS];
/// With it turned, the bytes of a number order as the number does: -1 comes before 0.
const SIGN_BIT: u64 = 1 << 63;
const NEXT_LOG_ID: &[u8] = b"next_log_id";

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("index database: {0}")]
    Database(#[from] rocksdb::Error),
    #[error("index database: {0} is missing")]
    Missing(&'static str),
    #[error("index database: malformed value in {0}")]
    Malformed(&'static str),
}

/// A point in a segment from which a search may begin: one is taken every `index.interval.bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The base offset of the batch at `position`, or the segment's end offset at its end.
    pub(crate) offset: Offset,
    /// Bytes from the start of the file; always between two batches.
    pub(crate) position: u32,
    /// The largest timestamp of the batches before `position`.
    pub(crate) max_timestamp: Timestamp,
    /// Entries of the segment up to and with this one.
    pub(crate) offset_entries: u32,
    /// Entries whose largest timestamp differs from that of the one before: as many as Kafka's time index would have.
    pub(crate) time_entries: u32,
}

impl Entry {
    /// The start of a segment.
    pub(crate) const fn start(base_offset: Offset) -> Entry {
        Entry {
            offset: base_offset,
            position: 0,
            max_timestamp: Timestamp::NONE,
            offset_entries: 0,
            time_entries: 0,
        }
    }
}

/// Offsets of a log that are kept in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    /// Everything below is on disk and was checked.
    RecoveryPoint,
    /// The high watermark.
    HighWatermark,
}

/// What the database knew of a folder when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The same log as before.
    Before,
    /// A log that the database did not know.
    New,
}

/// The database of one log directory.
pub(crate) struct Index {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    db: DB,
    health: Arc<Health>,
    /// Logs that have entries to write.
    dirty: Mutex<Dirty>,
    wake: Condvar,
    /// Held from taking entries out of a log's queue until they are written, so that no deletion comes between.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Dirty {
    logs: Vec<Arc<Queue>>,
    stop: bool,
}

/// What waits to be written for one log.
struct Queue {
    pending: Mutex<Vec<Pending>>,
    /// True while the log is in the list of dirty logs.
    listed: AtomicBool,
    log_id: u64,
}

enum Pending {
    Entry(Offset, Entry),
    Producers(Offset, Vec<u8>),
}

impl Index {
    /// Opens the database of a directory, or makes it anew where it is missing, corrupt or of an older format.
    pub(crate) fn open(directory: &Path, health: Arc<Health>) -> Result<Index, StorageError> {
        let path = directory.join(".ottla");
        let format =
            atomic_file::read(&path.join(FORMAT_FILE)).or_fail(&health, "reading the index's format version")?;
        let usable = match format.as_deref().map(|text| text.trim().parse::<u32>()) {
            Some(Ok(version)) if version > FORMAT_VERSION => {
                return Err(StorageError::Refused(format!(
                    "{} has format version {version}, but this version of Ottla knows only {FORMAT_VERSION}; \
                     start the newer Ottla, or remove that folder to have it made again",
                    path.display()
                )));
            }
            Some(Ok(FORMAT_VERSION)) => true,
            Some(_) => {
                tracing::warn!(path = %path.display(), "the index has an older format and is made again");
                false
            }
            None => false,
        };
        if usable {
            match open_database(&path.join("db"), false) {
                Ok(db) => return Ok(Index::start(db, health)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the index cannot be opened and is made again");
                }
            }
        }
        let db = create(&path).or_fail(&health, "making the index")?;
        Ok(Index::start(db, health))
    }

    fn start(db: DB, health: Arc<Health>) -> Index {
        let shared = Arc::new(Shared {
            db,
            health,
            dirty: Mutex::default(),
            wake: Condvar::new(),
            writing: Mutex::new(()),
        });
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("log-index".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || for_writer.run())
            .map_err(|error| shared.health.fail("starting a thread", error))
            .ok();
        Index {
            shared,
            writer: Mutex::new(writer),
        }
    }

    /// The index of the log in a folder. A folder of another topic id is another log.
    pub(crate) fn log(&self, folder: &str, topic_id: TopicId) -> Result<(LogIndex, Known), IndexError> {
        let db = &self.shared.db;
        if let Some(value) = db.get_cf(self.shared.family(LOGS)?, folder)? {
            let mut fields = Fields(&value);
            let (log_id, stored) = (fields.u64(), fields.array::<16>());
            let log_id = log_id.ok_or(IndexError::Malformed(LOGS))?;
            if stored == Some(topic_id.0.into_bytes()) {
                return Ok((self.handle(log_id), Known::Before));
            }
        }
        self.create_log(folder, topic_id).map(|log| (log, Known::New))
    }

    /// An index for a new log; what an earlier log of that folder left is deleted.
    pub(crate) fn create_log(&self, folder: &str, topic_id: TopicId) -> Result<LogIndex, IndexError> {
        // One log id at a time is allotted; `writing` is held rarely and briefly.
        let _guard = self.shared.writing.lock();
        let logs = self.shared.family(LOGS)?;
        let next = self.shared.db.get(NEXT_LOG_ID)?;
        let log_id = next.and_then(|value| Fields(&value).u64()).unwrap_or(0);
        let mut batch = WriteBatch::default();
        batch.put(NEXT_LOG_ID, log_id.saturating_add(1).to_be_bytes());
        if let Some(earlier) = self.shared.db.get_cf(logs, folder)?
            && let Some(earlier) = Fields(&earlier).u64()
        {
            self.shared.delete_log(&mut batch, earlier)?;
        }
        let value = [log_id.to_be_bytes().as_slice(), topic_id.0.as_bytes()].concat();
        batch.put_cf(logs, folder, value);
        self.shared.write(batch, true)?;
        Ok(self.handle(log_id))
    }

    /// Forgets the log of a folder.
    pub(crate) fn delete_log(&self, folder: &str, log: &LogIndex) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        log.queue.pending.lock().clear();
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.shared.family(LOGS)?, folder);
        self.shared.delete_log(&mut batch, log.queue.log_id)?;
        self.shared.write(batch, true)
    }

    /// The folders that the database knows logs of.
    pub(crate) fn folders(&self) -> Result<Vec<String>, IndexError> {
        let mut iterator = self.shared.db.raw_iterator_cf(self.shared.family(LOGS)?);
        let mut folders = Vec::new();
        iterator.seek_to_first();
        while let Some(key) = iterator.key() {
            folders.push(String::from_utf8_lossy(key).into_owned());
            iterator.next();
        }
        iterator.status()?;
        Ok(folders)
    }

    /// Forgets the log of a folder that is gone.
    pub(crate) fn delete_folder(&self, folder: &str) -> Result<(), IndexError> {
        let value = self.shared.db.get_cf(self.shared.family(LOGS)?, folder)?;
        match value.and_then(|value| Fields(&value).u64()) {
            Some(log_id) => self.delete_log(folder, &self.handle(log_id)),
            None => Ok(()),
        }
    }

    fn handle(&self, log_id: u64) -> LogIndex {
        LogIndex {
            shared: Arc::clone(&self.shared),
            queue: Arc::new(Queue {
                pending: Mutex::default(),
                listed: AtomicBool::new(false),
                log_id,
            }),
        }
    }

    /// Sets checkpoints of many logs with one synced write.
    pub(crate) fn put_checkpoints<'a>(
        &self,
        checkpoints: impl IntoIterator<Item = (&'a LogIndex, Checkpoint, Offset)>,
    ) -> Result<(), IndexError> {
        let family = self.shared.family(CHECKPOINTS)?;
        let mut batch = WriteBatch::default();
        for (log, checkpoint, offset) in checkpoints {
            batch.put_cf(family, log.checkpoint_key(checkpoint), offset.0.to_be_bytes());
        }
        self.shared.write(batch, true)
    }

    /// Writes what waits and stops the writer.
    pub(crate) fn close(&self) -> Result<(), IndexError> {
        self.stop();
        self.shared.write_pending()?;
        self.shared.db.flush_wal(true)?;
        Ok(())
    }

    fn stop(&self) {
        self.shared.dirty.lock().stop = true;
        self.shared.wake.notify_all();
        if let Some(writer) = self.writer.lock().take() {
            // A writer that panicked has nothing left to say.
            let _ = writer.join();
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            {
                let mut dirty = self.dirty.lock();
                while dirty.logs.is_empty() && !dirty.stop {
                    self.wake.wait(&mut dirty);
                }
                if !dirty.stop {
                    self.wake.wait_while_for(&mut dirty, |dirty| !dirty.stop, GATHER);
                }
                if dirty.stop {
                    return;
                }
            }
            if let Err(error) = self.write_pending() {
                self.health.fail("writing index entries", error);
                return;
            }
        }
    }

    /// Writes the entries of all dirty logs as one batch.
    fn write_pending(&self) -> Result<(), IndexError> {
        let _guard = self.writing.lock();
        let logs = std::mem::take(&mut self.dirty.lock().logs);
        let mut batch = WriteBatch::default();
        for log in logs {
            log.listed.store(false, Ordering::Release);
            self.take_pending(&mut batch, &log)?;
        }
        self.write(batch, false)
    }

    fn take_pending(&self, batch: &mut WriteBatch, queue: &Queue) -> Result<(), IndexError> {
        let (offsets, times) = (self.family(OFFSETS)?, self.family(TIMES)?);
        let pending = std::mem::take(&mut *queue.pending.lock());
        for item in pending {
            match item {
                Pending::Entry(segment, entry) => {
                    batch.put_cf(
                        offsets,
                        offset_key(queue.log_id, segment, entry.offset),
                        offset_value(&entry),
                    );
                    let relative = relative_offset(segment, entry.offset).to_be_bytes();
                    batch.put_cf(
                        times,
                        time_key(queue.log_id, segment, entry.max_timestamp, entry.position),
                        relative,
                    );
                }
                Pending::Producers(offset, snapshot) => {
                    batch.put_cf(self.family(PRODUCERS)?, key(queue.log_id, offset), snapshot);
                }
            }
        }
        Ok(())
    }

    fn delete_log(&self, batch: &mut WriteBatch, log_id: u64) -> Result<(), IndexError> {
        let (from, to) = (log_id.to_be_bytes(), log_id.saturating_add(1).to_be_bytes());
        for family in [OFFSETS, TIMES, PRODUCERS] {
            batch.delete_range_cf(self.family(family)?, from, to);
        }
        batch.delete_cf(self.family(LOG_START)?, from);
        batch.delete_cf(self.family(EPOCHS)?, from);
        for checkpoint in [Checkpoint::RecoveryPoint, Checkpoint::HighWatermark] {
            batch.delete_cf(self.family(CHECKPOINTS)?, checkpoint_key(log_id, checkpoint));
        }
        Ok(())
    }

    fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), IndexError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        Ok(self.db.write_opt(batch, &options)?)
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily, IndexError> {
        self.db.cf_handle(name).ok_or(IndexError::Missing(name))
    }
}

/// The part of the database that belongs to one log.
pub(crate) struct LogIndex {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

impl LogIndex {
    /// Queues an entry of a segment.
    pub(crate) fn add(&self, segment: Offset, entry: Entry) {
        self.enqueue(Pending::Entry(segment, entry));
    }

    /// Queues a snapshot of the producers as they were before `offset`.
    pub(crate) fn add_producers(&self, offset: Offset, snapshot: Vec<u8>) {
        self.enqueue(Pending::Producers(offset, snapshot));
    }

    fn enqueue(&self, item: Pending) {
        {
            let mut pending = self.queue.pending.lock();
            if pending.len() >= PENDING_MAX {
                metrics::counter!("ottla_log_index_entries_dropped_total").increment(1);
                return;
            }
            pending.push(item);
        }
        if !self.queue.listed.swap(true, Ordering::AcqRel) {
            self.shared.dirty.lock().logs.push(Arc::clone(&self.queue));
            self.shared.wake.notify_one();
        }
    }

    /// Writes what waits of this log.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        let mut batch = WriteBatch::default();
        self.shared.take_pending(&mut batch, &self.queue)?;
        self.shared.write(batch, false)
    }

    /// The last entry of a segment at or before `offset`.
    pub(crate) fn find_offset(&self, segment: Offset, offset: Offset) -> Result<Option<Entry>, IndexError> {
        let mut iterator = self.shared.db.raw_iterator_cf(self.shared.family(OFFSETS)?);
        iterator.seek_for_prev(offset_key(self.queue.log_id, segment, offset));
        self.offset_entry(&iterator, segment)
    }

    /// The last entry of a segment.
    pub(crate) fn last_entry(&self, segment: Offset) -> Result<Option<Entry>, IndexError> {
        self.find_offset(segment, segment.plus(i64::from(u32::MAX)))
    }

    fn offset_entry(&self, iterator: &DBRawIterator<'_>, segment: Offset) -> Result<Option<Entry>, IndexError> {
        iterator.status()?;
        let Some((key, value)) = iterator.item() else {
            return Ok(None);
        };
        let Some(relative) = self.strip(key, segment).and_then(|mut fields| fields.u32()) else {
            return Ok(None);
        };
        let mut fields = Fields(value);
        let mut entry = || {
            Some(Entry {
                offset: segment.plus(i64::from(relative)),
                position: fields.u32()?,
                max_timestamp: Timestamp(fields.u64()? as i64),
                offset_entries: fields.u32()?,
                time_entries: fields.u32()?,
            })
        };
        entry().ok_or(IndexError::Malformed(OFFSETS)).map(Some)
    }

    /// The last entry of a segment before which no timestamp is as large as `timestamp`; without its counts.
    pub(crate) fn find_timestamp(&self, segment: Offset, timestamp: Timestamp) -> Result<Option<Entry>, IndexError> {
        let mut iterator = self.shared.db.raw_iterator_cf(self.shared.family(TIMES)?);
        let before = Timestamp(timestamp.0.saturating_sub(1));
        iterator.seek_for_prev(time_key(self.queue.log_id, segment, before, u32::MAX));
        iterator.status()?;
        let Some((key, value)) = iterator.item() else {
            return Ok(None);
        };
        let Some(mut fields) = self.strip(key, segment) else {
            return Ok(None);
        };
        let mut entry = || {
            Some(Entry {
                max_timestamp: Timestamp((fields.u64()? ^ SIGN_BIT) as i64),
                position: fields.u32()?,
                offset: segment.plus(i64::from(Fields(value).u32()?)),
                ..Entry::start(segment)
            })
        };
        entry().ok_or(IndexError::Malformed(TIMES)).map(Some)
    }

    fn strip<'a>(&self, key: &'a [u8], segment: Offset) -> Option<Fields<'a>> {
        let mut fields = Fields(key);
        let same = fields.u64()? == self.queue.log_id && fields.u64()? == segment.0 as u64;
        same.then_some(fields)
    }

    /// Deletes what lies behind `end`, which is at `position` of this segment: entries, later segments, and snapshots of
    /// producers behind `snapshots_until`.
    pub(crate) fn truncate(
        &self,
        segment: Offset,
        position: u32,
        end: Offset,
        snapshots_until: Offset,
    ) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        let mut batch = WriteBatch::default();
        self.shared.take_pending(&mut batch, &self.queue)?;
        self.shared.write(batch, false)?;

        let mut batch = WriteBatch::default();
        let log_id = self.queue.log_id;
        for (family, from) in [(OFFSETS, segment), (TIMES, segment), (PRODUCERS, snapshots_until)] {
            self.delete_from(&mut batch, family, from.next())?;
        }
        // Positions ascend with offsets and with running maxima: what goes is at the end of both.
        let offsets = self.shared.family(OFFSETS)?;
        let mut iterator = self.shared.db.raw_iterator_cf(offsets);
        iterator.seek_for_prev(key(log_id, segment.next()));
        let goes = |entry: &Entry| entry.position > position || entry.offset > end;
        while let Some(entry) = self.offset_entry(&iterator, segment)?.filter(goes) {
            batch.delete_cf(offsets, offset_key(log_id, segment, entry.offset));
            let time_key = time_key(log_id, segment, entry.max_timestamp, entry.position);
            batch.delete_cf(self.shared.family(TIMES)?, time_key);
            iterator.prev();
        }
        self.shared.write(batch, false)
    }

    /// Deletes all entries and snapshots.
    pub(crate) fn clear(&self) -> Result<(), IndexError> {
        self.truncate(Offset::NONE, 0, Offset::NONE, Offset::NONE)
    }

    /// Deletes the keys of this log from `offset` on, where there are any: every range delete slows reads down for a while.
    fn delete_from(&self, batch: &mut WriteBatch, family: &'static str, offset: Offset) -> Result<(), IndexError> {
        let log_id = self.queue.log_id;
        let (from, to) = (key(log_id, offset), key(log_id.saturating_add(1), Offset::ZERO));
        let mut iterator = self.shared.db.raw_iterator_cf(self.shared.family(family)?);
        iterator.seek(from);
        if iterator.key().is_some_and(|key| key < to.as_slice()) {
            batch.delete_range_cf(self.shared.family(family)?, from, to);
        }
        Ok(iterator.status()?)
    }

    /// Deletes the entries of segments below `segment`, and snapshots below it.
    pub(crate) fn delete_below(&self, segment: Offset) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        let mut batch = WriteBatch::default();
        self.shared.take_pending(&mut batch, &self.queue)?;
        let (from, to) = (self.queue.log_id.to_be_bytes(), key(self.queue.log_id, segment));
        for family in [OFFSETS, TIMES, PRODUCERS] {
            batch.delete_range_cf(self.shared.family(family)?, from.as_slice(), to.as_slice());
        }
        self.shared.write(batch, false)
    }

    /// The latest snapshot of the producers at or before `offset`, and the offset it was taken at.
    pub(crate) fn producers(&self, offset: Offset) -> Result<Option<(Offset, Vec<u8>)>, IndexError> {
        let mut iterator = self.shared.db.raw_iterator_cf(self.shared.family(PRODUCERS)?);
        iterator.seek_for_prev(key(self.queue.log_id, offset));
        iterator.status()?;
        Ok(iterator.item().and_then(|(key, value)| {
            let mut fields = Fields(key);
            let same = fields.u64()? == self.queue.log_id;
            let offset = Offset(fields.u64()? as i64);
            same.then(|| (offset, value.to_vec()))
        }))
    }

    /// Deletes the snapshots of the producers below `offset`; there are few.
    pub(crate) fn delete_producers_below(&self, offset: Offset) -> Result<(), IndexError> {
        let family = self.shared.family(PRODUCERS)?;
        let mut batch = WriteBatch::default();
        let mut iterator = self.shared.db.raw_iterator_cf(family);
        iterator.seek(key(self.queue.log_id, Offset::ZERO));
        let end = key(self.queue.log_id, offset);
        while let Some(key) = iterator.key().filter(|key| *key < end.as_slice()) {
            batch.delete_cf(family, key);
            iterator.next();
        }
        iterator.status()?;
        self.shared.write(batch, false)
    }

    /// The log start offset.
    pub(crate) fn log_start(&self) -> Result<Option<Offset>, IndexError> {
        self.get_offset(LOG_START, &self.queue.log_id.to_be_bytes())
    }

    /// Sets the log start offset durably.
    pub(crate) fn put_log_start(&self, offset: Offset) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        let family = self.shared.family(LOG_START)?;
        batch.put_cf(family, self.queue.log_id.to_be_bytes(), offset.0.to_be_bytes());
        self.shared.write(batch, true)
    }

    /// The leader epochs as they were put.
    pub(crate) fn epochs(&self) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self
            .shared
            .db
            .get_cf(self.shared.family(EPOCHS)?, self.queue.log_id.to_be_bytes())?)
    }

    /// Keeps the leader epochs: no crash loses them, and no power failure once a later recovery point is on disk.
    pub(crate) fn put_epochs(&self, epochs: &[u8]) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.shared.family(EPOCHS)?, self.queue.log_id.to_be_bytes(), epochs);
        self.shared.write(batch, false)
    }

    /// One of the log's checkpoints.
    pub(crate) fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Option<Offset>, IndexError> {
        self.get_offset(CHECKPOINTS, &self.checkpoint_key(checkpoint))
    }

    /// Sets a checkpoint durably, and with it all that was written to the database before.
    pub(crate) fn put_checkpoint(&self, checkpoint: Checkpoint, offset: Offset) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        let mut batch = WriteBatch::default();
        self.shared.take_pending(&mut batch, &self.queue)?;
        let family = self.shared.family(CHECKPOINTS)?;
        batch.put_cf(family, self.checkpoint_key(checkpoint), offset.0.to_be_bytes());
        self.shared.write(batch, true)
    }

    fn get_offset(&self, family: &'static str, key: &[u8]) -> Result<Option<Offset>, IndexError> {
        let value = self.shared.db.get_cf(self.shared.family(family)?, key)?;
        Ok(value
            .and_then(|value| Fields(&value).u64())
            .map(|value| Offset(value as i64)))
    }

    fn checkpoint_key(&self, checkpoint: Checkpoint) -> [u8; 9] {
        checkpoint_key(self.queue.log_id, checkpoint)
    }
}

fn checkpoint_key(log_id: u64, checkpoint: Checkpoint) -> [u8; 9] {
    let mut key = [checkpoint as u8; 9];
    put(&mut key, 0, log_id.to_be_bytes());
    key
}

fn put<const N: usize>(target: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(target) = target.get_mut(at..at + N) {
        target.copy_from_slice(&bytes);
    }
}

fn key(log_id: u64, offset: Offset) -> [u8; 16] {
    let mut key = [0; 16];
    put(&mut key, 0, log_id.to_be_bytes());
    put(&mut key, 8, offset.0.to_be_bytes());
    key
}

fn relative_offset(segment: Offset, offset: Offset) -> u32 {
    offset.0.saturating_sub(segment.0).clamp(0, i64::from(u32::MAX)) as u32
}

fn offset_key(log_id: u64, segment: Offset, offset: Offset) -> [u8; 20] {
    let mut key = [0; 20];
    put(&mut key, 0, log_id.to_be_bytes());
    put(&mut key, 8, segment.0.to_be_bytes());
    put(&mut key, 16, relative_offset(segment, offset).to_be_bytes());
    key
}

fn offset_value(entry: &Entry) -> [u8; 20] {
    let mut value = [0; 20];
    put(&mut value, 0, entry.position.to_be_bytes());
    put(&mut value, 4, entry.max_timestamp.0.to_be_bytes());
    put(&mut value, 12, entry.offset_entries.to_be_bytes());
    put(&mut value, 16, entry.time_entries.to_be_bytes());
    value
}

/// The position is a part of the key: while the running maximum stays the same, the last position counts.
fn time_key(log_id: u64, segment: Offset, max_timestamp: Timestamp, position: u32) -> [u8; 28] {
    let mut key = [0; 28];
    put(&mut key, 0, log_id.to_be_bytes());
    put(&mut key, 8, segment.0.to_be_bytes());
    put(&mut key, 16, ((max_timestamp.0 as u64) ^ SIGN_BIT).to_be_bytes());
    put(&mut key, 24, position.to_be_bytes());
    key
}

/// Reads big-endian fields one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

/// Makes an empty database; the format version is written last, so that a crash in between is made good next time.
fn create(path: &Path) -> io::Result<DB> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(path)?;
    let db = open_database(&path.join("db"), true).map_err(io::Error::other)?;
    atomic_file::write(&path.join(FORMAT_FILE), format!("{FORMAT_VERSION}\n").as_bytes())?;
    atomic_file::sync_parent(path)?;
    Ok(db)
}

/// Small caches and buffers: a log has one entry of 50 bytes for each 4 KiB.
fn open_database(path: &PathBuf, create: bool) -> Result<DB, rocksdb::Error> {
    let cache = Cache::new_lru_cache(4 << 20);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_cache_index_and_filter_blocks(true);

    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_block_based_table_factory(&table);
    options.set_db_write_buffer_size(4 << 20);
    options.set_write_buffer_size(1 << 20);
    options.set_max_write_buffer_number(2);
    options.set_max_total_wal_size(16 << 20);
    options.set_max_background_jobs(2);
    options.set_max_open_files(64);
    options.set_max_file_opening_threads(1);
    options.set_keep_log_file_num(1);
    options.set_log_level(rocksdb::LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_target_file_size_base(8 << 20);
    let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
    DB::open_cf_descriptors(&options, path, families)
}
