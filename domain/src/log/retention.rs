//! Which segments at the head of a log may go.

use crate::ids::{Offset, Timestamp};
use crate::log::config::LogConfig;
use crate::log::offsets::LogOffsets;

/// What retention reads of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The offset in its name.
    pub base_offset: Offset,
    /// Its size.
    pub size_bytes: u64,
    /// The largest timestamp of its records; of a segment whose records have none, the time of its last change.
    pub largest_timestamp: Timestamp,
}

/// Why segments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionReason {
    /// All their records are below the log start offset.
    LogStartOffset,
    /// The log is larger than `retention.bytes`.
    RetentionBytes,
    /// Their newest record is older than `retention.ms`.
    RetentionMs,
}

/// The segments that may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// How many of the oldest segments.
    pub segment_count: usize,
    /// Where the log begins without them; equal to the log end when the active segment goes too, which needs a roll first.
    pub new_log_start: Offset,
    /// Why.
    pub reason: DeletionReason,
}

/// The oldest of these segments, ascending and with the active one last, that may be deleted for one reason. Ask again
/// after a deletion: another reason may hold. Nothing at or above the high watermark goes.
pub fn next_deletion(
    config: &LogConfig,
    offsets: &LogOffsets,
    segments: &[SegmentFacts],
    now: Timestamp,
) -> Option<Deletion> {
    let next_base = |index: usize| segments.get(index + 1).map(|next| next.base_offset);
    let leading = |reason: DeletionReason, may_go: &mut dyn FnMut(usize, &SegmentFacts) -> bool| {
        let segment_count = segments
            .iter()
            .enumerate()
            .take_while(|(index, segment)| {
                let end = next_base(*index).unwrap_or(offsets.log_end());
                let is_empty_active = next_base(*index).is_none() && segment.size_bytes == 0;
                end <= offsets.high_watermark() && !is_empty_active && may_go(*index, segment)
            })
            .count();
        let last = segment_count.checked_sub(1)?;
        Some(Deletion {
            segment_count,
            new_log_start: next_base(last).unwrap_or(offsets.log_end()),
            reason,
        })
    };

    let below_start = leading(DeletionReason::LogStartOffset, &mut |index, _| {
        next_base(index).is_some_and(|next| next <= offsets.log_start())
    });
    if below_start.is_some() || !config.cleanup_policy.delete {
        return below_start;
    }
    let total_bytes: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    if let Some(mut excess_bytes) = u64::try_from(config.retention_bytes)
        .ok()
        .and_then(|retention_bytes| total_bytes.checked_sub(retention_bytes))
    {
        let by_size = leading(DeletionReason::RetentionBytes, &mut |_, segment| match excess_bytes
            .checked_sub(segment.size_bytes)
        {
            Some(rest) => {
                excess_bytes = rest;
                true
            }
            None => false,
        });
        if by_size.is_some() {
            return by_size;
        }
    }
    if config.retention_ms < 0 {
        return None;
    }
    leading(DeletionReason::RetentionMs, &mut |_, segment| {
        now.0.saturating_sub(segment.largest_timestamp.0) > config.retention_ms
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::config::CleanupPolicy;

    /// Segments of 100 bytes at 0, 10, 20 and 30 with largest timestamps 1000, 2000, 3000 and 4000; the log ends at 35.
    fn segments() -> Vec<SegmentFacts> {
        (0..4)
            .map(|index| SegmentFacts {
                base_offset: Offset(index * 10),
                size_bytes: 100,
                largest_timestamp: Timestamp((index + 1) * 1000),
            })
            .collect()
    }

    fn config(retention_ms: i64, retention_bytes: i64) -> LogConfig {
        LogConfig {
            retention_ms,
            retention_bytes,
            ..LogConfig::default()
        }
    }

    fn deletion(segment_count: usize, new_log_start: i64, reason: DeletionReason) -> Option<Deletion> {
        Some(Deletion {
            segment_count,
            new_log_start: Offset(new_log_start),
            reason,
        })
    }

    #[test]
    fn each_reason_takes_leading_segments_only() {
        let offsets = LogOffsets::new(Offset(0), Offset(35), Offset(35));
        let next = |config: &LogConfig, now| next_deletion(config, &offsets, &segments(), Timestamp(now));
        assert_eq!(next(&config(-1, -1), i64::MAX), None);
        assert_eq!(
            next(&config(500, -1), 2500),
            deletion(1, 10, DeletionReason::RetentionMs)
        );
        assert_eq!(
            next(&config(500, -1), 2501),
            deletion(2, 20, DeletionReason::RetentionMs)
        );
        assert_eq!(
            next(&config(500, -1), 9999),
            deletion(4, 35, DeletionReason::RetentionMs)
        );
        assert_eq!(next(&config(-1, 301), 9999), None);
        assert_eq!(
            next(&config(-1, 300), 9999),
            deletion(1, 10, DeletionReason::RetentionBytes)
        );
        assert_eq!(
            next(&config(-1, 0), 9999),
            deletion(4, 35, DeletionReason::RetentionBytes)
        );

        let mut out_of_order = segments();
        out_of_order[0].largest_timestamp = Timestamp(9000);
        assert_eq!(
            next_deletion(&config(500, -1), &offsets, &out_of_order, Timestamp(9400)),
            None
        );
    }

    #[test]
    fn the_high_watermark_and_the_policy_protect_segments() {
        let offsets = LogOffsets::new(Offset(0), Offset(35), Offset(19));
        let all = config(500, 0);
        assert_eq!(
            next_deletion(&all, &offsets, &segments(), Timestamp(9999)),
            deletion(1, 10, DeletionReason::RetentionBytes)
        );

        let offsets = LogOffsets::new(Offset(25), Offset(35), Offset(35));
        let mut compacted = all.clone();
        compacted.cleanup_policy = CleanupPolicy {
            delete: false,
            compact: true,
        };
        assert_eq!(
            next_deletion(&compacted, &offsets, &segments(), Timestamp(9999)),
            deletion(2, 20, DeletionReason::LogStartOffset)
        );
        assert_eq!(
            next_deletion(&compacted, &offsets, &segments()[2..], Timestamp(9999)),
            None
        );
    }

    #[test]
    fn an_empty_active_segment_stays() {
        let offsets = LogOffsets::new(Offset(0), Offset(30), Offset(30));
        let mut segments = segments();
        segments[3].size_bytes = 0;
        assert_eq!(
            next_deletion(&config(500, -1), &offsets, &segments, Timestamp(9999)),
            deletion(3, 30, DeletionReason::RetentionMs)
        );
    }
}
