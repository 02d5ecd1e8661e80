//! The settings of a topic that its logs' rules read.

use crate::record::batch::TimestampType;
use crate::record::compression::{Codec, CompressionType};

/// What `compression.type` of a topic asks of the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicCompression {
    /// `producer`: keep what the producer chose.
    #[default]
    Producer,
    /// Any other: batches in another codec are converted.
    Fixed(Codec),
}

impl TopicCompression {
    /// The codec that a batch with this one is stored in.
    pub const fn target(self, source: CompressionType) -> Codec {
        match self {
            TopicCompression::Producer => Codec::default_of(source),
            TopicCompression::Fixed(codec) => codec,
        }
    }
}

/// `cleanup.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments go by `retention.ms` and `retention.bytes`.
    pub delete: bool,
    /// The latest record of each key stays; records must have keys.
    pub compact: bool,
}

/// The effective settings of one log, defaults included. Names, units and defaults are those of Kafka's topic configs.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `retention.ms`; -1 is forever.
    pub retention_ms: i64,
    /// `retention.bytes`; negative is without limit.
    pub retention_bytes: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `min.cleanable.dirty.ratio`: 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `flush.messages`.
    pub flush_messages: i64,
    /// `flush.ms`.
    pub flush_ms: i64,
    /// `max.message.bytes`: the largest batch, header included.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: i64,
    /// `compression.type` with the level of that codec.
    pub compression: TopicCompression,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election_enable: bool,
    /// `preallocate`.
    pub preallocate: bool,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const WEEK_MS: i64 = 7 * DAY_MS;

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: WEEK_MS,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: WEEK_MS,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            cleanup_policy: CleanupPolicy {
                delete: true,
                compact: false,
            },
            delete_retention_ms: DAY_MS,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            max_message_bytes: (1 << 20) + 12,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: 3_600_000,
            compression: TopicCompression::Producer,
            min_insync_replicas: 1,
            unclean_leader_election_enable: false,
            preallocate: false,
        }
    }
}

impl LogConfig {
    /// How long a segment may take appends; compaction must reach its records in time.
    pub fn segment_ms_max(&self) -> i64 {
        if self.cleanup_policy.compact && self.max_compaction_lag_ms > 0 {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }

    /// How much earlier than `segment.ms` a new segment rolls, so that the segments of many partitions do not all roll at
    /// once. Drawn once a segment.
    pub fn draw_segment_jitter_ms(&self, entropy: u64) -> i64 {
        match self.segment_jitter_ms.min(self.segment_ms) {
            ..=0 => 0,
            bound => (entropy % bound as u64) as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_below_its_bound() {
        let mut config = LogConfig::default();
        assert_eq!(config.draw_segment_jitter_ms(u64::MAX), 0);
        config.segment_jitter_ms = 10;
        assert_eq!(config.draw_segment_jitter_ms(29), 9);
        config.segment_ms = 3;
        assert_eq!(config.draw_segment_jitter_ms(29), 2);
    }
}
