//! Compaction (`cleanup.policy=compact`): which logs are worth cleaning, up to where, and what is left of their batches.
//! The rules are those of Kafka's `LogCleanerManager`, `Cleaner` and `MemoryRecords.filterTo`.
//!
//! A log is cleaned in two passes. The first reads what is dirty, from where the last cleaning ended, and notes the latest
//! offset of each key in an [`OffsetMap`]. The second copies all segments up to there and leaves out records that have
//! successors. Offsets never change; batches may become sparse.

mod digest;
mod filter;
mod offset_map;
mod transactions;

use std::ops::Range;

pub use self::filter::{BatchFilter, Counts, Mapped, Outcome, Retention, map_records};
pub use self::offset_map::{Full, OffsetMap};
pub use self::transactions::{AbortedFinder, CleanedTransactions};
use crate::ids::{Offset, Timestamp};
use crate::log::config::LogConfig;
use crate::log::offsets::LogOffsets;
use crate::log::retention::SegmentFacts;

/// What may be cleaned of a log, and how urgent that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleanable {
    /// Where the last cleaning ended.
    pub first_dirty: Offset,
    /// Where this one must end; always where a segment begins.
    pub first_uncleanable: Offset,
    /// The size of the segments before the first dirty offset.
    pub clean_bytes: u64,
    /// The size of the segments between the two.
    pub cleanable_bytes: u64,
    /// For how long records have waited past `max.compaction.lag.ms`.
    pub overdue_ms: i64,
    /// The checkpoint lies outside of the log and begins anew at the first dirty offset.
    pub resets_checkpoint: bool,
}

impl Cleanable {
    /// What `checkpoint`, the end of the last cleaning, leaves of a log whose segments these are, ascending and with the
    /// active one last. `last_stable` bounds what is decided. `first_timestamp` gives the largest timestamp of the first
    /// batch of a segment; it is asked for where `max.compaction.lag.ms` is set only.
    pub fn of(
        config: &LogConfig,
        offsets: &LogOffsets,
        last_stable: Offset,
        segments: &[SegmentFacts],
        checkpoint: Option<Offset>,
        first_timestamp: impl Fn(&SegmentFacts) -> Timestamp,
        now: Timestamp,
    ) -> Cleanable {
        let valid = |offset: &Offset| (offsets.log_start()..=offsets.log_end()).contains(offset);
        let first_dirty = checkpoint.filter(valid).unwrap_or(offsets.log_start());
        let (active, rolled) = match segments.split_last() {
            Some((active, rolled)) => (active.base_offset, rolled),
            None => (offsets.log_start(), segments),
        };
        let dirty = match first_dirty < active {
            true => from(rolled, first_dirty),
            false => &[],
        };
        let too_young = |segment: &&SegmentFacts| {
            config.min_compaction_lag_ms > 0
                && segment.largest_timestamp.0 > now.0.saturating_sub(config.min_compaction_lag_ms)
        };
        let first_young = dirty.iter().find(too_young).map(|segment| segment.base_offset);
        let uncleanable = last_stable
            .min(active)
            .min(first_young.unwrap_or(active))
            .max(first_dirty);
        let first_uncleanable = from(rolled, uncleanable)
            .first()
            .filter(|_| uncleanable < active)
            .map_or(active, |segment| segment.base_offset);

        let size = |segments: &[SegmentFacts]| segments.iter().map(|segment| segment.size_bytes).sum();
        let cleanable = segments_between(segments, first_dirty.min(first_uncleanable), first_uncleanable);
        let clean_end = segments.partition_point(|segment| segment.base_offset < first_dirty);
        Cleanable {
            first_dirty,
            first_uncleanable,
            clean_bytes: size(segments.get(..clean_end).unwrap_or_default()),
            cleanable_bytes: size(segments.get(cleanable).unwrap_or_default()),
            overdue_ms: overdue_ms(config, dirty, first_timestamp, now),
            resets_checkpoint: checkpoint.is_some_and(|checkpoint| !valid(&checkpoint)),
        }
    }

    /// The dirty part, 0 to 1; 0 of a log of which nothing could be cleaned.
    pub fn ratio(&self) -> f64 {
        match self.clean_bytes + self.cleanable_bytes {
            0 => 0.0,
            total => self.cleanable_bytes as f64 / total as f64,
        }
    }

    /// True when the log should be cleaned now: it is dirty enough (`min.cleanable.dirty.ratio`) or overdue.
    pub fn is_due(&self, config: &LogConfig) -> bool {
        self.cleanable_bytes > 0 && (self.overdue_ms > 0 || self.ratio() > config.min_cleanable_dirty_ratio)
    }
}

/// How long ago the oldest of these segments should have been compacted.
fn overdue_ms(
    config: &LogConfig,
    dirty: &[SegmentFacts],
    first_timestamp: impl Fn(&SegmentFacts) -> Timestamp,
    now: Timestamp,
) -> i64 {
    if config.max_compaction_lag_ms == i64::MAX {
        return 0;
    }
    let clean_until = now.0.saturating_sub(config.max_compaction_lag_ms.max(0));
    let timestamps = dirty.iter().map(first_timestamp).filter(|timestamp| timestamp.0 > 0);
    timestamps
        .min()
        .map_or(0, |oldest| clean_until.saturating_sub(oldest.0).max(0))
}

/// The segments from the one that may hold `offset` on.
fn from(segments: &[SegmentFacts], offset: Offset) -> &[SegmentFacts] {
    let after = segments.partition_point(|segment| segment.base_offset <= offset);
    segments.get(after.saturating_sub(1)..).unwrap_or_default()
}

/// The segments from the one that may hold `from` to those that begin below `to`, as indexes.
pub fn segments_between(segments: &[SegmentFacts], from: Offset, to: Offset) -> Range<usize> {
    let first = segments
        .partition_point(|segment| segment.base_offset <= from)
        .saturating_sub(1);
    let end = segments.partition_point(|segment| segment.base_offset < to);
    first..end.max(first)
}

/// What grouping reads of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// The offset in its name.
    pub base_offset: Offset,
    /// Its size.
    pub size_bytes: u64,
    /// The size that Kafka's index of its offsets would have.
    pub offset_index_bytes: u64,
    /// The size that Kafka's index of its timestamps would have.
    pub time_index_bytes: u64,
}

/// Which of these segments, all of which are cleaned, become one together: as long as they would fit without any record
/// dropped. `first_uncleanable` is where the last of them ends at the latest.
pub fn group_segments(config: &LogConfig, segments: &[GroupFacts], first_uncleanable: Offset) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut sums = (0u64, 0u64, 0u64);
    let (size_max, index_max) = (u64::from(config.segment_bytes), u64::from(config.segment_index_bytes));
    for (number, segment) in segments.iter().enumerate() {
        let end = segments
            .get(number + 1)
            .map_or(first_uncleanable, |next| next.base_offset);
        let joined = (
            sums.0 + segment.size_bytes,
            sums.1 + segment.offset_index_bytes,
            sums.2 + segment.time_index_bytes,
        );
        let fits = |first: &GroupFacts| {
            let span = end.0.saturating_sub(1).saturating_sub(first.base_offset.0);
            joined.0 <= size_max
                && joined.1 <= index_max
                && joined.2 <= index_max
                && (segment.size_bytes == 0 || span <= i64::from(i32::MAX))
        };
        match groups.last_mut() {
            Some(group) if segments.get(group.start).is_some_and(fits) => {
                group.end = number + 1;
                sums = joined;
            }
            _ => {
                groups.push(number..number + 1);
                sums = (segment.size_bytes, segment.offset_index_bytes, segment.time_index_bytes);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests;
