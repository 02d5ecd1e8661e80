//! The RocksDB database in `.ottla/`: where batches lie in segments, by offset and by time, and the state of logs that
//! segments do not hold.
//!
//! Keys begin with a log id, which is never used twice: what a deleted log leaves behind can never be taken for another's.
//! Entries are queued per log and written by one thread, many in a batch; appends never wait for RocksDB.

mod database;
mod facts;
mod journals;
mod keys;
mod log_index;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_domain::ids::{Offset, Timestamp, TopicId};
use ottla_domain::ports::outbound::StorageError;
use parking_lot::{Condvar, Mutex};
use rocksdb::WriteBatch;

use self::database::{CHECKPOINTS, Database, EPOCHS, LOG_START, LOGS, OFFSETS, PRODUCERS, TIMES};
pub use self::facts::IndexFacts;
use self::keys::{Fields, checkpoint_key, key, offset_key, offset_value, relative_offset, time_key};
pub(crate) use self::log_index::LogIndex;
use crate::health::{Health, OrFail};

/// How long the writer waits for more entries before it writes.
const GATHER: Duration = Duration::from_millis(20);
const NEXT_LOG_ID: &[u8] = b"\0next_log_id";

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("index database: {0}")]
    Database(rocksdb::Error),
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
    /// Up to where the log was cleaned.
    Cleaned,
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
    database: Database,
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

impl Queue {
    fn new(log_id: u64) -> Queue {
        Queue {
            pending: Mutex::default(),
            listed: AtomicBool::new(false),
            log_id,
        }
    }
}

enum Pending {
    Entry(Offset, Entry),
    Producers(Offset, Vec<u8>),
}

impl Index {
    /// Opens the database of a directory, or makes it anew where it is missing, damaged or of an older format.
    pub(crate) fn open(directory: &Path, health: Arc<Health>) -> Result<Index, StorageError> {
        let shared = Arc::new(Shared {
            database: Database::open(directory, &health)?,
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
            .or_fail(&shared.health, "starting a thread")?;
        Ok(Index {
            shared,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// The index of the log in a folder. A folder of another topic id is another log.
    pub(crate) fn log(&self, folder: &str, topic_id: TopicId) -> Result<(LogIndex, Known), IndexError> {
        if let Some(value) = self.shared.database.get(LOGS, folder.as_bytes())? {
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
        let database = &self.shared.database;
        let next = database.get(LOGS, NEXT_LOG_ID)?;
        let log_id = next.and_then(|value| Fields(&value).u64()).unwrap_or(0);
        let mut batch = WriteBatch::default();
        let logs = database.family(LOGS)?;
        batch.put_cf(logs, NEXT_LOG_ID, log_id.saturating_add(1).to_be_bytes());
        let earlier = database.get(LOGS, folder.as_bytes())?;
        let earlier = earlier.and_then(|value| Fields(&value).u64());
        if let Some(earlier) = earlier {
            self.shared.delete_log(&mut batch, earlier)?;
        }
        batch.put_cf(
            logs,
            folder,
            [&log_id.to_be_bytes(), topic_id.0.as_bytes().as_slice()].concat(),
        );
        // A power failure that loses a new log loses all that was written for it; an earlier one must not come back.
        database.write(batch, earlier.is_some())?;
        Ok(self.handle(log_id))
    }

    /// Forgets the logs of some folders, with one synced write.
    pub(crate) fn delete_logs<'a>(
        &self,
        logs: impl IntoIterator<Item = (&'a str, &'a LogIndex)>,
    ) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        let mut batch = WriteBatch::default();
        for (folder, log) in logs {
            log.forget_pending();
            batch.delete_cf(self.shared.database.family(LOGS)?, folder);
            self.shared.delete_log(&mut batch, log.log_id())?;
        }
        self.shared.database.write(batch, true)
    }

    /// The folders that the database knows logs of.
    pub(crate) fn folders(&self) -> Result<Vec<String>, IndexError> {
        let mut iterator = self.shared.database.iterate(LOGS)?;
        let mut folders = Vec::new();
        iterator.seek_to_first();
        while let Some(key) = iterator.key() {
            if key != NEXT_LOG_ID {
                folders.push(String::from_utf8_lossy(key).into_owned());
            }
            iterator.next();
        }
        self.shared.database.check(&iterator)?;
        Ok(folders)
    }

    /// Forgets the log of a folder that is gone.
    pub(crate) fn delete_folder(&self, folder: &str) -> Result<(), IndexError> {
        let value = self.shared.database.get(LOGS, folder.as_bytes())?;
        match value.and_then(|value| Fields(&value).u64()) {
            Some(log_id) => self.delete_logs([(folder, &self.handle(log_id))]),
            None => Ok(()),
        }
    }

    fn handle(&self, log_id: u64) -> LogIndex {
        LogIndex::new(Arc::clone(&self.shared), log_id)
    }

    /// Sets checkpoints of many logs with one synced write.
    pub(crate) fn put_checkpoints<'a>(
        &self,
        checkpoints: impl IntoIterator<Item = (&'a LogIndex, Checkpoint, Offset)>,
    ) -> Result<(), IndexError> {
        let family = self.shared.database.family(CHECKPOINTS)?;
        let mut batch = WriteBatch::default();
        for (log, checkpoint, offset) in checkpoints {
            let key = checkpoint_key(log.log_id(), checkpoint);
            batch.put_cf(family, key, offset.0.to_be_bytes());
        }
        self.shared.database.write(batch, true)
    }

    /// The state of the database.
    pub(crate) fn facts(&self) -> IndexFacts {
        self.shared.database.facts()
    }

    /// Writes what waits and stops the writer.
    pub(crate) fn close(&self) -> Result<(), IndexError> {
        self.stop();
        self.shared.write_pending()?;
        self.shared.database.sync()
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
        self.database.write(batch, false)
    }

    fn take_pending(&self, batch: &mut WriteBatch, queue: &Queue) -> Result<(), IndexError> {
        let pending = std::mem::take(&mut *queue.pending.lock());
        for item in pending {
            match item {
                Pending::Entry(segment, entry) => self.put_entry(batch, queue.log_id, segment, &entry)?,
                Pending::Producers(offset, snapshot) => {
                    batch.put_cf(self.database.family(PRODUCERS)?, key(queue.log_id, offset), snapshot);
                }
            }
        }
        Ok(())
    }

    fn put_entry(&self, batch: &mut WriteBatch, log_id: u64, segment: Offset, entry: &Entry) -> Result<(), IndexError> {
        let (offsets, times) = (self.database.family(OFFSETS)?, self.database.family(TIMES)?);
        batch.put_cf(offsets, offset_key(log_id, segment, entry.offset), offset_value(entry));
        let relative = relative_offset(segment, entry.offset).to_be_bytes();
        let key = time_key(log_id, segment, entry.max_timestamp, entry.position);
        batch.put_cf(times, key, relative);
        Ok(())
    }

    fn delete_log(&self, batch: &mut WriteBatch, log_id: u64) -> Result<(), IndexError> {
        let (from, to) = (log_id.to_be_bytes(), log_id.saturating_add(1).to_be_bytes());
        for family in [OFFSETS, TIMES, PRODUCERS] {
            self.database.delete_range(batch, family, &from, &to)?;
        }
        batch.delete_cf(self.database.family(LOG_START)?, from);
        batch.delete_cf(self.database.family(EPOCHS)?, from);
        for checkpoint in [
            Checkpoint::RecoveryPoint,
            Checkpoint::HighWatermark,
            Checkpoint::Cleaned,
        ] {
            batch.delete_cf(self.database.family(CHECKPOINTS)?, checkpoint_key(log_id, checkpoint));
        }
        Ok(())
    }
}
