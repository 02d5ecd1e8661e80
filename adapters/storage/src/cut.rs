//! Taking records away: the head by DeleteRecords and retention, the tail by truncation, all of it to start again.
//!
//! What a crash leaves in between is always a log that was there before, or the shorter one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_domain::ids::Offset;
use ottla_domain::log::state::LogState;
use ottla_domain::ports::outbound::{PartitionLog, StorageError};

use crate::atomic_file;
use crate::health::OrFail;
use crate::log::Log;
use crate::recovery;
use crate::segment::Segment;
use crate::writer::Writer;

impl Log {
    /// Raises the log start offset durably; segments that lie below leave the log.
    pub(crate) fn cut_head(&self, log_start: Offset) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let _cutting = self.cutting.lock();
        self.refuse_deleted()?;
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
        let (Some(first), false) = (kept.first(), gone.is_empty()) else {
            return Ok(());
        };
        // Appends go on meanwhile, and may add a segment.
        self.segments
            .rcu(|segments| Log::segments_from(segments, first.base_offset).to_vec());
        self.discard(gone.iter())?;
        let deleted = self.index.delete_below(first.base_offset);
        deleted.or_fail(health, "deleting index entries")
    }

    /// Cuts the log at the last batch boundary that is not above `end`.
    pub(crate) fn cut_tail(&self, end: Offset, state: &mut LogState) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        if end >= self.log_end_offset() {
            state.epochs.truncate_from_end(end.min(self.log_end_offset()));
            return self.store_epochs(state);
        }
        let cutting = (self.directory.cutting.read(), self.cutting.lock());
        let segments = self.segments.load_full();
        let cut_count = Log::segments_from(&segments, end).len();
        let kept = segments.get(..=segments.len() - cut_count).unwrap_or_default();
        let gone = segments.get(kept.len()..).unwrap_or_default();
        let (Some(active), false) = (kept.last(), end <= self.log_start_offset()) else {
            drop(cutting);
            return self.start_again(end, state);
        };
        let located = active.locate(&self.index, end, self.interval_bytes());
        let (end, position) = match located.or_fail(health, self.doing("reading"))? {
            Ok(batch) => (batch.base_offset.min(end), batch.position),
            Err(position) => (end, position),
        };
        if end <= self.log_start_offset() {
            drop(cutting);
            return self.start_again(self.log_start_offset(), state);
        }
        self.lower_cleaned(end)?;
        let mut writer = self.writer.lock();
        self.synced.exclusively(|synced| {
            let synced = synced.min(end);
            self.directory
                .lower_recovery_point(&self.topic, self.partition, synced)?;
            self.store_recovery_point(synced)?;
            let truncated = self.index.truncate(active.base_offset, position, end, end);
            truncated.or_fail(health, "deleting index entries")?;
            self.set_log_end(end);
            self.segments.store(Arc::new(kept.to_vec()));
            // The last one first: never a gap.
            self.discard(gone.iter().rev())?;
            active.truncate(position).or_fail(health, self.doing("truncating"))?;

            let config = self.config.load();
            let resumed = recovery::resume(active, &self.index, position, end, &config, writer.active.created);
            *writer = resumed.or_fail(health, self.doing("reading"))?;
            let producers = recovery::producers_at(&self.index, kept, self.log_start_offset(), end);
            state.truncate_to(end, producers.or_fail(health, self.doing("reading"))?);
            Ok(synced)
        })?;
        drop(writer);
        self.store_epochs(state)
    }

    /// Drops everything; the log is empty and begins at `start`.
    pub(crate) fn start_again(&self, start: Offset, state: &mut LogState) -> Result<(), StorageError> {
        let health = &self.directory.health;
        health.check()?;
        let _cutting = (self.directory.cutting.read(), self.cutting.lock());
        self.lower_cleaned(start)?;
        let mut writer = self.writer.lock();
        self.synced.exclusively(|_| {
            self.directory
                .lower_recovery_point(&self.topic, self.partition, start)?;
            self.store_recovery_point(start)?;
            self.discard(self.segments.load().iter().rev())?;
            let written = self.index.put_log_start(start).and_then(|()| self.index.clear());
            written.or_fail(health, "deleting index entries")?;
            self.directory.checkpoint_log_start(&self.topic, self.partition, None)?;
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

    /// Takes segments out of the log's folder, and their files to the trash.
    pub(crate) fn discard<'a>(&self, segments: impl Iterator<Item = &'a Arc<Segment>>) -> Result<(), StorageError> {
        let health = &self.directory.health;
        let delay_ms = self.config.load().file_delete_delay_ms;
        let mut any = false;
        for segment in segments {
            let deleted = segment.mark_deleted(&self.folder);
            let deleted = deleted.or_fail(health, self.doing("renaming a segment of"))?;
            self.directory.trash.add(deleted, delay_ms);
            any = true;
        }
        if any {
            atomic_file::sync_folder(&self.folder).or_fail(health, self.doing("syncing"))?;
        }
        Ok(())
    }
}
