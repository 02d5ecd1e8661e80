//! Ports in memory, for tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use super::outbound::{
    Cleaned, Cleaning, CleaningError, EncodedBatch, OpenedLog, PartitionLog, RecordSlice, StorageError,
};
use crate::ids::{DirectoryId, Offset, PartitionId, Timestamp, TopicId};
use crate::log::config::LogConfig;
use crate::log::retention::SegmentFacts;
use crate::log::state::LogState;
use crate::record::batch::RecordBatch;

/// A log in memory that can lose what was not synced, and fail.
#[derive(Debug, Default)]
pub struct MemoryLog(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    log_start: Offset,
    /// The end of an empty log.
    base: Offset,
    batches: Vec<RecordBatch>,
    synced: usize,
    has_failed: bool,
    is_unreadable: bool,
}

impl Content {
    fn end(&self) -> Offset {
        self.batches
            .last()
            .map_or(self.base, |batch| batch.header.next_offset())
    }

    fn check(&self) -> Result<(), StorageError> {
        Content::fail_if(self.has_failed)
    }

    fn fail_if(has_failed: bool) -> Result<(), StorageError> {
        match has_failed {
            false => Ok(()),
            true => Err(StorageError::Offline {
                directory: "memory".into(),
                reason: "told to fail".into(),
            }),
        }
    }
}

impl MemoryLog {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing can be written.
    pub fn fail(&self) {
        self.content().has_failed = true;
    }

    /// From now on nothing can be read, or all of it again.
    pub fn set_readable(&self, is_readable: bool) {
        self.content().is_unreadable = !is_readable;
    }

    /// What is left after a power failure, opened again.
    pub fn after_power_failure(&self) -> OpenedLog<MemoryLog> {
        let content = self.content();
        let kept = content.batches.get(..content.synced).unwrap_or_default();
        let mut state = LogState::empty_at(content.log_start);
        for batch in kept {
            state.replay(&batch.header, None);
        }
        let log = MemoryLog(Mutex::new(Content {
            log_start: content.log_start,
            base: content.base,
            batches: kept.to_vec(),
            synced: kept.len(),
            has_failed: false,
            is_unreadable: false,
        }));
        OpenedLog {
            topic: "memory".into(),
            topic_id: TopicId::ZERO,
            partition: PartitionId(0),
            log: Arc::new(log),
            state,
        }
    }

    /// All batches, synced or not.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.content().batches.clone()
    }
}

impl PartitionLog for MemoryLog {
    type Region = ();

    fn log_start_offset(&self) -> Offset {
        self.content().log_start
    }

    fn log_end_offset(&self) -> Offset {
        self.content().end()
    }

    fn synced_offset(&self) -> Offset {
        let content = self.content();
        let last = content.synced.checked_sub(1).and_then(|last| content.batches.get(last));
        last.map_or(content.base, |batch| batch.header.next_offset())
    }

    fn append(&self, batches: &[EncodedBatch], _state: &LogState, _now: Timestamp) -> Result<(), StorageError> {
        let mut content = self.content();
        content.check()?;
        let batches = batches.iter().map(|batch| RecordBatch::new(batch.header, &batch.body));
        content.batches.extend(batches);
        Ok(())
    }

    fn is_slow(&self) -> bool {
        false
    }

    fn sync(&self) -> Result<Offset, StorageError> {
        let mut content = self.content();
        content.check()?;
        content.synced = content.batches.len();
        Ok(content.end())
    }

    fn read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<RecordSlice<()>, StorageError> {
        let content = self.content();
        Content::fail_if(content.is_unreadable)?;
        let (log_start, log_end) = (content.log_start, content.end());
        if from < log_start || from > log_end {
            return Err(StorageError::OutOfRange {
                offset: from,
                log_start,
                log_end,
            });
        }
        let mut bytes = BytesMut::new();
        let batches = content
            .batches
            .iter()
            .skip_while(|batch| batch.header.next_offset() <= from)
            .take_while(|batch| batch.header.next_offset() <= upper);
        for batch in batches {
            let is_too_much = bytes.len() + batch.bytes().len() > max_bytes;
            if is_too_much && !(bytes.is_empty() && at_least_one) {
                break;
            }
            bytes.extend_from_slice(batch.bytes());
        }
        Ok(RecordSlice::Memory(bytes.freeze()))
    }

    fn is_resident(&self, _offset: Offset) -> bool {
        true
    }

    fn load(&self, slice: &RecordSlice<()>) -> Result<Bytes, StorageError> {
        match slice {
            RecordSlice::Memory(bytes) => Ok(bytes.clone()),
            RecordSlice::File { .. } => Err(StorageError::Refused("no files in memory".to_owned())),
        }
    }

    fn find_by_timestamp(&self, timestamp: Timestamp, upper: Offset) -> Result<Option<Bytes>, StorageError> {
        let content = self.content();
        let mut below = content.batches.iter().filter(|batch| batch.header.base_offset < upper);
        Ok(below
            .find(|batch| batch.header.max_timestamp >= timestamp)
            .map(|batch| batch.bytes().clone()))
    }

    fn find_largest_timestamp(&self, upper: Offset) -> Result<Option<Bytes>, StorageError> {
        let content = self.content();
        let largest = content
            .batches
            .iter()
            .rev()
            .max_by_key(|batch| batch.header.max_timestamp);
        Ok(largest
            .filter(|batch| batch.header.base_offset < upper)
            .map(|batch| batch.bytes().clone()))
    }

    fn segments(&self) -> Vec<SegmentFacts> {
        let content = self.content();
        vec![SegmentFacts {
            base_offset: content.base,
            size_bytes: content.batches.iter().map(|batch| batch.bytes().len() as u64).sum(),
            largest_timestamp: content
                .batches
                .iter()
                .map(|batch| batch.header.max_timestamp)
                .max()
                .unwrap_or_default(),
        }]
    }

    fn roll(&self, _state: &LogState) -> Result<(), StorageError> {
        self.content().check()
    }

    fn advance_log_start(&self, log_start: Offset) -> Result<(), StorageError> {
        let mut content = self.content();
        content.check()?;
        content.log_start = content.log_start.max(log_start);
        content.base = content.base.max(log_start);
        let gone = content
            .batches
            .partition_point(|batch| batch.header.next_offset() <= log_start);
        content.batches.drain(..gone);
        content.synced = content.synced.saturating_sub(gone);
        Ok(())
    }

    fn truncate(&self, end: Offset, state: &mut LogState) -> Result<(), StorageError> {
        let mut content = self.content();
        content.check()?;
        let kept = content
            .batches
            .partition_point(|batch| batch.header.next_offset() <= end);
        content.batches.truncate(kept);
        content.synced = content.synced.min(kept);
        let producers = LogState::empty_at(content.log_start).producers;
        state.truncate_to(content.end(), producers);
        Ok(())
    }

    fn replace_all(&self, start: Offset, state: &mut LogState) -> Result<(), StorageError> {
        let mut content = self.content();
        content.check()?;
        *content = Content {
            log_start: start,
            base: start,
            ..Content::default()
        };
        *state = LogState::empty_at(start);
        Ok(())
    }

    fn store_epochs(&self, _state: &LogState) -> Result<(), StorageError> {
        self.content().check()
    }

    fn first_timestamp(&self, _base_offset: Offset) -> Result<Timestamp, StorageError> {
        let content = self.content();
        Ok(content
            .batches
            .first()
            .map_or(Timestamp::NONE, |batch| batch.header.max_timestamp))
    }

    fn cleaned_offset(&self) -> Option<Offset> {
        None
    }

    fn set_cleaned_offset(&self, _offset: Offset) -> Result<(), StorageError> {
        self.content().check()
    }

    fn clean(&self, _cleaning: Cleaning<'_>) -> Result<Cleaned, CleaningError> {
        Err(CleaningError::Uncleanable("its only segment is active".to_owned()))
    }

    fn set_config(&self, _config: Arc<LogConfig>) {}

    fn directory(&self) -> DirectoryId {
        DirectoryId::ZERO
    }
}
