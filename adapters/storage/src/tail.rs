//! What is remembered of a segment's end, so that reads near it need no index: where the last batches begin, and the
//! last index entries.

use std::collections::VecDeque;

use ottla_domain::ids::{Offset, Timestamp};

use crate::index::Entry;
use crate::segment::Located;

/// 1 KiB a log.
const BATCHES_MAX: usize = 64;
/// 10 KiB a log, for at least a MiB of its end.
const ENTRIES_MAX: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Batch {
    base_offset: Offset,
    last_offset_delta: u32,
    position: u32,
}

impl Batch {
    fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }
}

/// Where to find a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// This is it.
    Exact(Located),
    /// It begins here or behind.
    From(Entry),
}

/// The recent batches and index entries of one segment.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    batches: VecDeque<Batch>,
    entries: VecDeque<Entry>,
}

impl Tail {
    /// Remembers a batch that was appended.
    pub(crate) fn push_batch(&mut self, base_offset: Offset, last_offset_delta: i32, position: u32) {
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(Batch {
            base_offset,
            last_offset_delta: u32::try_from(last_offset_delta).unwrap_or(0),
            position,
        });
    }

    /// Remembers an index entry.
    pub(crate) fn push_entry(&mut self, entry: Entry) {
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// Where the first batch is whose last offset is at least `offset`, in a segment of `size_bytes`. `None` when it
    /// begins before what is remembered.
    pub(crate) fn find(&self, offset: Offset, size_bytes: u32) -> Option<Place> {
        if self.batches.front().is_some_and(|first| first.base_offset <= offset) {
            let index = self.batches.partition_point(|batch| batch.last_offset() < offset);
            let batch = self.batches.get(index)?;
            let end = self.batches.get(index + 1).map_or(size_bytes, |next| next.position);
            return Some(Place::Exact(Located {
                base_offset: batch.base_offset,
                position: batch.position,
                size_bytes: end.saturating_sub(batch.position),
            }));
        }
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        self.entries.get(after.checked_sub(1)?).copied().map(Place::From)
    }

    /// The last entry before which no timestamp is as large as `timestamp`. `None` when that is not remembered.
    pub(crate) fn find_timestamp(&self, timestamp: Timestamp) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.max_timestamp < timestamp);
        self.entries.get(after.checked_sub(1)?).copied()
    }

    /// Where the last batch ends that ends at or before `position`; `None` when that is not remembered.
    pub(crate) fn batch_boundary(&self, position: u32, size_bytes: u32) -> Option<u32> {
        if position >= size_bytes {
            return Some(size_bytes);
        }
        let after = self.batches.partition_point(|batch| batch.position <= position);
        self.batches.get(after.checked_sub(1)?).map(|batch| batch.position)
    }
}
