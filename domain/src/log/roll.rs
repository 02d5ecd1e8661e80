//! When a log begins a new segment.

use crate::ids::{Offset, Timestamp};
use crate::log::config::LogConfig;

/// The size of an entry in Kafka's `.index` and `.timeindex`, whose capacity rolls segments.
const OFFSET_INDEX_ENTRY_BYTES: u32 = 8;
const TIME_INDEX_ENTRY_BYTES: u32 = 12;

/// What rolling reads of the active segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveSegment {
    /// The offset in its name.
    pub base_offset: Offset,
    /// Its size.
    pub size_bytes: u64,
    /// When it was created.
    pub created: Timestamp,
    /// The max timestamp of its first batch; `None` while it is empty.
    pub first_timestamp: Option<Timestamp>,
    /// What [`LogConfig::draw_segment_jitter_ms`] gave for it.
    pub jitter_ms: i64,
    /// Entries that its offset index has or would have.
    pub offset_index_entries: u32,
    /// Entries that its time index has or would have.
    pub time_index_entries: u32,
}

/// What rolling reads of the batches that come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Their size.
    pub size_bytes: u64,
    /// Their largest timestamp.
    pub max_timestamp: Timestamp,
    /// Their last offset.
    pub last_offset: Offset,
}

/// Why a new segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollReason {
    /// `segment.bytes` would be exceeded.
    Size,
    /// `segment.ms` (less the jitter) has passed, by the timestamps of the records where they have any.
    Time,
    /// An index is as large as `segment.index.bytes` allows.
    IndexFull,
    /// The last offset is too far from the base offset for the 32 bits that Kafka's index gives it.
    OffsetOverflow,
}

/// Whether the incoming batches go to a new segment, and why. The new segment's name is their first offset.
pub fn should_roll(
    config: &LogConfig,
    segment: &ActiveSegment,
    incoming: &Incoming,
    now: Timestamp,
) -> Option<RollReason> {
    let waited_ms = match segment.first_timestamp {
        Some(first) if first.0 >= 0 => incoming.max_timestamp.0.saturating_sub(first.0),
        _ => now.0.saturating_sub(segment.created.0),
    };
    let offset_entries_max = config.segment_index_bytes / OFFSET_INDEX_ENTRY_BYTES;
    let time_entries_max = config.segment_index_bytes / TIME_INDEX_ENTRY_BYTES;
    let relative_offset = incoming.last_offset.0.saturating_sub(segment.base_offset.0);

    if !(0..=i64::from(i32::MAX)).contains(&relative_offset) {
        Some(RollReason::OffsetOverflow)
    } else if segment.size_bytes == 0 {
        // Nothing else gets better with another empty segment.
        None
    } else if segment.size_bytes.saturating_add(incoming.size_bytes) > u64::from(config.segment_bytes) {
        Some(RollReason::Size)
    } else if waited_ms > config.segment_ms_max().saturating_sub(segment.jitter_ms) {
        Some(RollReason::Time)
    } else if segment.offset_index_entries >= offset_entries_max
        || segment.time_index_entries >= time_entries_max.saturating_sub(1)
    {
        Some(RollReason::IndexFull)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> ActiveSegment {
        ActiveSegment {
            base_offset: Offset(100),
            size_bytes: 500,
            created: Timestamp(10_000),
            first_timestamp: Some(Timestamp(1_000)),
            jitter_ms: 0,
            offset_index_entries: 3,
            time_index_entries: 3,
        }
    }

    fn incoming() -> Incoming {
        Incoming {
            size_bytes: 500,
            max_timestamp: Timestamp(1_100),
            last_offset: Offset(120),
        }
    }

    fn config() -> LogConfig {
        LogConfig {
            segment_bytes: 1000,
            segment_ms: 100,
            segment_index_bytes: 64,
            ..LogConfig::default()
        }
    }

    #[test]
    fn each_limit_is_reached_one_past_what_fits() {
        let roll = |segment: &ActiveSegment, incoming: &Incoming, now| {
            should_roll(&config(), segment, incoming, Timestamp(now))
        };
        assert_eq!(roll(&segment(), &incoming(), i64::MAX), None);
        let larger = Incoming {
            size_bytes: 501,
            ..incoming()
        };
        assert_eq!(roll(&segment(), &larger, 0), Some(RollReason::Size));
        let later = Incoming {
            max_timestamp: Timestamp(1_101),
            ..incoming()
        };
        assert_eq!(roll(&segment(), &later, 0), Some(RollReason::Time));
        let jittered = ActiveSegment {
            jitter_ms: 1,
            ..segment()
        };
        assert_eq!(roll(&jittered, &incoming(), 0), Some(RollReason::Time));
        let indexed = ActiveSegment {
            offset_index_entries: 8,
            ..segment()
        };
        assert_eq!(roll(&indexed, &incoming(), 0), Some(RollReason::IndexFull));
        let timed = ActiveSegment {
            time_index_entries: 4,
            ..segment()
        };
        assert_eq!(roll(&timed, &incoming(), 0), Some(RollReason::IndexFull));
        let far = Incoming {
            last_offset: Offset(100 + i64::from(i32::MAX)),
            ..incoming()
        };
        assert_eq!(roll(&segment(), &far, 0), None);
        let too_far = Incoming {
            last_offset: far.last_offset.next(),
            ..far
        };
        assert_eq!(roll(&segment(), &too_far, 0), Some(RollReason::OffsetOverflow));
    }

    #[test]
    fn without_record_timestamps_the_age_of_the_segment_counts() {
        let unstamped = ActiveSegment {
            first_timestamp: Some(Timestamp::NONE),
            ..segment()
        };
        assert_eq!(should_roll(&config(), &unstamped, &incoming(), Timestamp(10_100)), None);
        assert_eq!(
            should_roll(&config(), &unstamped, &incoming(), Timestamp(10_101)),
            Some(RollReason::Time)
        );
        let empty = ActiveSegment {
            size_bytes: 0,
            first_timestamp: None,
            ..segment()
        };
        assert_eq!(should_roll(&config(), &empty, &incoming(), Timestamp(99_999)), None);
    }
}
