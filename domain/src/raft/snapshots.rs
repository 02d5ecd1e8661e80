//! When a snapshot is due, and when an old one may go.

use super::log::SnapshotId;
use crate::ids::{Mono, Timestamp};

/// The settings of snapshots, with Kafka's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub max_record_bytes: u64,
    /// `metadata.log.max.snapshot.interval.ms`; 0 turns the interval off.
    pub max_interval_ms: i64,
    /// `metadata.max.retention.bytes` of log and snapshots together; negative is without limit.
    pub retention_bytes: i64,
    /// `metadata.max.retention.ms`; negative is for ever.
    pub retention_ms: i64,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        SnapshotConfig {
            max_record_bytes: 20 * 1024 * 1024,
            max_interval_ms: 60 * 60 * 1000,
            retention_bytes: 100 * 1024 * 1024,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
        }
    }
}

/// How much was committed since the last snapshot, and since when.
#[derive(Clone, Copy, Debug)]
pub struct SinceSnapshot {
    bytes: u64,
    start: Mono,
}

impl SinceSnapshot {
    /// A snapshot was made or loaded, or the log is read from its start.
    pub fn new(now: Mono) -> SinceSnapshot {
        SinceSnapshot { bytes: 0, start: now }
    }

    /// Records were committed, in a batch of this size.
    pub fn add(&mut self, size_bytes: usize) {
        self.bytes = self.bytes.saturating_add(size_bytes as u64);
    }

    /// True when there is something new and there is a lot of it, or it has waited long.
    pub fn is_due(&self, now: Mono, config: &SnapshotConfig) -> bool {
        self.bytes >= config.max_record_bytes || self.due_at(config).is_some_and(|due| due <= now)
    }

    /// When what there is has waited long enough.
    pub fn due_at(&self, config: &SnapshotConfig) -> Option<Mono> {
        (self.bytes > 0 && config.max_interval_ms > 0).then(|| self.start.plus_ms(config.max_interval_ms))
    }
}

/// A snapshot on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// Which.
    pub id: SnapshotId,
    /// The size of its file.
    pub size_bytes: u64,
    /// When the last record that it covers was appended.
    pub timestamp: Timestamp,
}

/// Where the log may start, with the snapshots before it gone: at the second oldest snapshot, if the oldest is too old or
/// log and snapshots are too large. `snapshots` are in the order of their ids. The newest snapshot always stays.
pub fn new_log_start(
    snapshots: &[SnapshotFacts],
    log_size_bytes: u64,
    now: Timestamp,
    config: &SnapshotConfig,
) -> Option<SnapshotId> {
    let [oldest, next, ..] = snapshots else {
        return None;
    };
    let snapshots_size_bytes: u64 = snapshots.iter().map(|snapshot| snapshot.size_bytes).sum();
    let is_too_large = u64::try_from(config.retention_bytes)
        .is_ok_and(|limit_bytes| log_size_bytes.saturating_add(snapshots_size_bytes) > limit_bytes);
    let is_too_old = config.retention_ms >= 0 && now.0.saturating_sub(oldest.timestamp.0) > config.retention_ms;
    (is_too_large || is_too_old).then_some(next.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, Offset};

    const CONFIG: SnapshotConfig = SnapshotConfig {
        max_record_bytes: 100,
        max_interval_ms: 1_000,
        retention_bytes: 500,
        retention_ms: 60_000,
    };

    #[test]
    fn a_snapshot_is_due_by_size_or_by_time_but_never_without_news() {
        let at = |ms| Mono(0).plus_ms(ms);
        let mut since = SinceSnapshot::new(at(0));
        assert!(!since.is_due(at(9_000), &CONFIG));
        since.add(40);
        assert!(!since.is_due(at(999), &CONFIG));
        assert!(since.is_due(at(1_000), &CONFIG));
        let by_size_only = SnapshotConfig {
            max_interval_ms: 0,
            ..CONFIG
        };
        assert!(!since.is_due(at(1_000), &by_size_only));
        since.add(60);
        assert!(since.is_due(at(1), &by_size_only));
    }

    #[test]
    fn the_oldest_snapshot_goes_when_it_is_old_or_all_is_too_large() {
        let facts = |offset, timestamp| SnapshotFacts {
            id: SnapshotId {
                epoch: LeaderEpoch(1),
                end_offset: Offset(offset),
            },
            size_bytes: 100,
            timestamp: Timestamp(timestamp),
        };
        let snapshots = [facts(10, 0), facts(20, 50_000), facts(30, 60_000)];
        let now = Timestamp(60_000);
        assert_eq!(new_log_start(&snapshots, 200, now, &CONFIG), None);
        assert_eq!(new_log_start(&snapshots, 201, now, &CONFIG), Some(snapshots[1].id));
        assert_eq!(
            new_log_start(&snapshots, 0, Timestamp(60_001), &CONFIG),
            Some(snapshots[1].id)
        );
        assert_eq!(new_log_start(&snapshots[2..], 9_000, Timestamp(900_000), &CONFIG), None);
        let keep_all = SnapshotConfig {
            retention_bytes: -1,
            retention_ms: -1,
            ..CONFIG
        };
        assert_eq!(new_log_start(&snapshots, 9_000, Timestamp(900_000), &keep_all), None);
    }
}
