//! What the writer of a log knows of the active segment, and where index entries are taken.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use ottla_domain::ids::{Offset, Timestamp};
use ottla_domain::log::config::LogConfig;
use ottla_domain::log::roll::ActiveSegment;
use ottla_domain::record::batch::BatchHeader;

use crate::index::Entry;
use crate::segment::Segment;

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
        if header.record_count > 0 {
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        }
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

impl Writer {
    /// The writer of an empty segment.
    pub(crate) fn new(segment: Arc<Segment>, config: &LogConfig) -> Writer {
        if config.preallocate {
            segment.reserve(config.segment_bytes);
        }
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
    RandomState::new().hash_one(())
}
