//! What the database knows of one log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_domain::ids::{Offset, Timestamp};
use rocksdb::{DBRawIterator, WriteBatch};

use super::database::{CHECKPOINTS, EPOCHS, LOG_START, OFFSETS, PRODUCERS, TIMES};
use super::keys::{Fields, SIGN_BIT, checkpoint_key, key, offset_key, time_key};
use super::{Checkpoint, Entry, IndexError, Pending, Queue, Shared};

/// Entries of one log that may wait for the writer; past it they are dropped, and lookups scan further.
const PENDING_MAX: usize = 16 * 1024;

/// Entries of a replaced segment are written this many at a time.
const REPLACED_PER_WRITE: usize = 4096;

/// The part of the database that belongs to one log.
pub(crate) struct LogIndex {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

impl LogIndex {
    pub(super) fn new(shared: Arc<Shared>, log_id: u64) -> LogIndex {
        LogIndex {
            shared,
            queue: Arc::new(Queue::new(log_id)),
        }
    }

    pub(super) fn log_id(&self) -> u64 {
        self.queue.log_id
    }

    pub(super) fn forget_pending(&self) {
        self.queue.pending.lock().clear();
    }

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
        self.shared.database.write(batch, false)
    }

    /// The last entry of a segment at or before `offset`.
    pub(crate) fn find_offset(&self, segment: Offset, offset: Offset) -> Result<Option<Entry>, IndexError> {
        let mut iterator = self.shared.database.iterate(OFFSETS)?;
        iterator.seek_for_prev(offset_key(self.queue.log_id, segment, offset));
        self.offset_entry(&iterator, segment)
    }

    /// The last entry of a segment.
    pub(crate) fn last_entry(&self, segment: Offset) -> Result<Option<Entry>, IndexError> {
        self.find_offset(segment, segment.plus(i64::from(u32::MAX)))
    }

    fn offset_entry(&self, iterator: &DBRawIterator<'_>, segment: Offset) -> Result<Option<Entry>, IndexError> {
        self.shared.database.check(iterator)?;
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
        let mut iterator = self.shared.database.iterate(TIMES)?;
        let before = Timestamp(timestamp.0.saturating_sub(1));
        iterator.seek_for_prev(time_key(self.queue.log_id, segment, before, u32::MAX));
        self.shared.database.check(&iterator)?;
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
        self.shared.database.write(batch, false)?;

        let mut batch = WriteBatch::default();
        let log_id = self.queue.log_id;
        let next_log = key(log_id.saturating_add(1), Offset::ZERO);
        for (family, from) in [(OFFSETS, segment), (TIMES, segment), (PRODUCERS, snapshots_until)] {
            let database = &self.shared.database;
            database.delete_range(&mut batch, family, &key(log_id, from.next()), &next_log)?;
        }
        // Positions ascend with offsets and with running maxima: what goes is at the end of both.
        let offsets = self.shared.database.family(OFFSETS)?;
        let mut iterator = self.shared.database.iterate(OFFSETS)?;
        iterator.seek_for_prev(key(log_id, segment.next()));
        let goes = |entry: &Entry| entry.position > position || entry.offset > end;
        while let Some(entry) = self.offset_entry(&iterator, segment)?.filter(goes) {
            batch.delete_cf(offsets, offset_key(log_id, segment, entry.offset));
            let time_key = time_key(log_id, segment, entry.max_timestamp, entry.position);
            batch.delete_cf(self.shared.database.family(TIMES)?, time_key);
            iterator.prev();
        }
        self.shared.database.write(batch, false)
    }

    /// Deletes all entries and snapshots.
    pub(crate) fn clear(&self) -> Result<(), IndexError> {
        self.truncate(Offset::NONE, 0, Offset::NONE, Offset::NONE)
    }

    /// Deletes the entries of segments below `segment`, and snapshots below it.
    pub(crate) fn delete_below(&self, segment: Offset) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        let mut batch = WriteBatch::default();
        self.shared.take_pending(&mut batch, &self.queue)?;
        let (from, to) = (self.queue.log_id.to_be_bytes(), key(self.queue.log_id, segment));
        for family in [OFFSETS, TIMES, PRODUCERS] {
            self.shared.database.delete_range(&mut batch, family, &from, &to)?;
        }
        self.shared.database.write(batch, false)
    }

    /// Replaces, durably, the entries of the segments from the one that begins at `segment` to before the one that begins at
    /// `next` by those of one segment that begins at `segment`.
    pub(crate) fn replace(&self, segment: Offset, next: Offset, entries: &[Entry]) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        let mut batch = WriteBatch::default();
        self.shared.take_pending(&mut batch, &self.queue)?;
        self.shared.database.write(batch, false)?;

        let log_id = self.queue.log_id;
        let mut batch = WriteBatch::default();
        for family in [OFFSETS, TIMES] {
            let (from, to) = (key(log_id, segment), key(log_id, next));
            self.shared.database.delete_range(&mut batch, family, &from, &to)?;
        }
        let mut chunks = entries.chunks(REPLACED_PER_WRITE).peekable();
        while let Some(chunk) = chunks.next() {
            for entry in chunk {
                self.shared.put_entry(&mut batch, log_id, segment, entry)?;
            }
            if chunks.peek().is_some() {
                self.shared.database.write(std::mem::take(&mut batch), false)?;
            }
        }
        self.shared.database.write(batch, true)
    }

    /// The latest snapshot of the producers at or before `offset`, and the offset it was taken at.
    pub(crate) fn producers(&self, offset: Offset) -> Result<Option<(Offset, Vec<u8>)>, IndexError> {
        let mut iterator = self.shared.database.iterate(PRODUCERS)?;
        iterator.seek_for_prev(key(self.queue.log_id, offset));
        self.shared.database.check(&iterator)?;
        Ok(iterator.item().and_then(|(key, value)| {
            let mut fields = Fields(key);
            let same = fields.u64()? == self.queue.log_id;
            let offset = Offset(fields.u64()? as i64);
            same.then(|| (offset, value.to_vec()))
        }))
    }

    /// Deletes the snapshots of the producers below `offset`; there are few.
    pub(crate) fn delete_producers_below(&self, offset: Offset) -> Result<(), IndexError> {
        let family = self.shared.database.family(PRODUCERS)?;
        let mut batch = WriteBatch::default();
        let mut iterator = self.shared.database.iterate(PRODUCERS)?;
        iterator.seek(key(self.queue.log_id, Offset::ZERO));
        let end = key(self.queue.log_id, offset);
        while let Some(key) = iterator.key().filter(|key| *key < end.as_slice()) {
            batch.delete_cf(family, key);
            iterator.next();
        }
        self.shared.database.check(&iterator)?;
        self.shared.database.write(batch, false)
    }

    /// The log start offset.
    pub(crate) fn log_start(&self) -> Result<Option<Offset>, IndexError> {
        self.get_offset(LOG_START, &self.queue.log_id.to_be_bytes())
    }

    /// Sets the log start offset durably.
    pub(crate) fn put_log_start(&self, offset: Offset) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        let family = self.shared.database.family(LOG_START)?;
        batch.put_cf(family, self.queue.log_id.to_be_bytes(), offset.0.to_be_bytes());
        self.shared.database.write(batch, true)
    }

    /// The leader epochs as they were put.
    pub(crate) fn epochs(&self) -> Result<Option<Vec<u8>>, IndexError> {
        self.shared.database.get(EPOCHS, &self.queue.log_id.to_be_bytes())
    }

    /// Keeps the leader epochs: no crash loses them, and no power failure once a later recovery point is on disk.
    pub(crate) fn put_epochs(&self, epochs: &[u8]) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(
            self.shared.database.family(EPOCHS)?,
            self.queue.log_id.to_be_bytes(),
            epochs,
        );
        self.shared.database.write(batch, false)
    }

    /// One of the log's checkpoints.
    pub(crate) fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Option<Offset>, IndexError> {
        self.get_offset(CHECKPOINTS, &checkpoint_key(self.queue.log_id, checkpoint))
    }

    /// Sets a checkpoint durably, and with it all that was written to the database before.
    pub(crate) fn put_checkpoint(&self, checkpoint: Checkpoint, offset: Offset) -> Result<(), IndexError> {
        let _guard = self.shared.writing.lock();
        let mut batch = WriteBatch::default();
        self.shared.take_pending(&mut batch, &self.queue)?;
        let family = self.shared.database.family(CHECKPOINTS)?;
        batch.put_cf(
            family,
            checkpoint_key(self.queue.log_id, checkpoint),
            offset.0.to_be_bytes(),
        );
        self.shared.database.write(batch, true)
    }

    fn get_offset(&self, family: &'static str, key: &[u8]) -> Result<Option<Offset>, IndexError> {
        let value = self.shared.database.get(family, key)?;
        Ok(value
            .and_then(|value| Fields(&value).u64())
            .map(|value| Offset(value as i64)))
    }
}
