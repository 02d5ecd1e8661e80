//! The settings of topics.

use super::check::Check;
use super::check::Check::{Any, AtLeast, Between, GzipLevel, ListOf, OneOf, ThrottledReplicas, Within};
use super::setting::Effect::{Ignored, Live};
use super::setting::SettingType::{Boolean, Double, Int, List, Long, String};
use super::setting::{Effect, NULL, Setting, SettingType, Update, s};

/// A setting of topics, and the broker's settings that are its default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicSetting {
    /// The setting.
    pub setting: Setting,
    /// Broker settings in the order of precedence, with what their values are multiplied by: `log.retention.hours` is
    /// `retention.ms` in hours.
    pub synonyms: &'static [(&'static str, i64)],
}

const fn t(
    name: &'static str,
    kind: SettingType,
    default: &'static str,
    check: Check,
    effect: Effect,
    doc: &'static str,
    synonyms: &'static [(&'static str, i64)],
) -> TopicSetting {
    TopicSetting {
        setting: s(name, kind, default, check, Update::ClusterWide, effect, doc),
        synonyms,
    }
}

impl TopicSetting {
    const fn internal(mut self) -> TopicSetting {
        self.setting = self.setting.internal();
        self
    }
}

/// Every setting of topics, sorted by name.
#[rustfmt::skip]
pub const TOPIC_SETTINGS: &[TopicSetting] = &[
    t("cleanup.policy", List, "delete", ListOf(&["compact", "delete"]), Live, "What happens to old segments: delete, compact, or both.", &[("log.cleanup.policy", 1)]),
    t("compression.gzip.level", Int, "-1", GzipLevel, Live, "The level of gzip, where compression.type is gzip; -1 is the codec's own.", &[("compression.gzip.level", 1)]),
    t("compression.lz4.level", Int, "9", Between(1, 17), Live, "The level of lz4, where compression.type is lz4.", &[("compression.lz4.level", 1)]),
    t("compression.type", String, "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Live, "The codec that batches are stored with; producer keeps what was sent.", &[("compression.type", 1)]),
    t("compression.zstd.level", Int, "3", Between(-131072, 22), Live, "The level of zstd, where compression.type is zstd.", &[("compression.zstd.level", 1)]),
    t("delete.retention.ms", Long, "86400000", AtLeast(0), Live, "How long tombstones stay in a compacted topic, in ms.", &[("log.cleaner.delete.retention.ms", 1)]),
    t("file.delete.delay.ms", Long, "60000", AtLeast(0), Live, "How long to wait before a deleted file is removed, in ms.", &[("log.segment.delete.delay.ms", 1)]),
    t("flush.messages", Long, "9223372036854775807", AtLeast(1), Live, "Flush the log after so many records.", &[("log.flush.interval.messages", 1)]),
    t("flush.ms", Long, "9223372036854775807", AtLeast(0), Live, "Flush the log after so long, in ms.", &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)]),
    t("follower.replication.throttled.replicas", List, "", ThrottledReplicas, Ignored, "Replicas whose replication is throttled on followers, as partition:broker pairs, or *.", &[]),
    t("index.interval.bytes", Int, "4096", AtLeast(0), Live, "Bytes of records between two entries of the index.", &[("log.index.interval.bytes", 1)]),
    t("internal.segment.bytes", Int, NULL, Any, Ignored, "The segment size, for tests.", &[]).internal(),
    t("leader.replication.throttled.replicas", List, "", ThrottledReplicas, Ignored, "Replicas whose replication is throttled on leaders, as partition:broker pairs, or *.", &[]),
    t("local.retention.bytes", Long, "-2", AtLeast(-2), Ignored, "How much of a partition stays on local disk beside tiered storage; -2 is retention.bytes.", &[("log.local.retention.bytes", 1)]),
    t("local.retention.ms", Long, "-2", AtLeast(-2), Ignored, "How long records stay on local disk beside tiered storage, in ms; -2 is retention.ms.", &[("log.local.retention.ms", 1)]),
    t("max.compaction.lag.ms", Long, "9223372036854775807", AtLeast(1), Live, "Compact records at the latest after so long, in ms.", &[("log.cleaner.max.compaction.lag.ms", 1)]),
    t("max.message.bytes", Int, "1048588", AtLeast(0), Live, "The largest batch of records, after compression.", &[("message.max.bytes", 1)]),
    t("message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), Live, "How far a record's timestamp may lie in the future, in ms.", &[("log.message.timestamp.after.max.ms", 1)]),
    t("message.timestamp.before.max.ms", Long, "9223372036854775807", AtLeast(0), Live, "How far a record's timestamp may lie in the past, in ms.", &[("log.message.timestamp.before.max.ms", 1)]),
    t("message.timestamp.type", String, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), Live, "Whose time records carry: CreateTime or LogAppendTime.", &[("log.message.timestamp.type", 1)]),
    t("min.cleanable.dirty.ratio", Double, "0.5", Within(0.0, 1.0), Live, "Compact a log when this part of it is dirty.", &[("log.cleaner.min.cleanable.ratio", 1)]),
    t("min.compaction.lag.ms", Long, "0", AtLeast(0), Live, "Compact records at the earliest after so long, in ms.", &[("log.cleaner.min.compaction.lag.ms", 1)]),
    t("min.insync.replicas", Int, "1", AtLeast(1), Live, "How many replicas must have a record that is acknowledged with acks=all.", &[("min.insync.replicas", 1)]),
    t("preallocate", Boolean, "false", Any, Live, "Preallocate segment files.", &[("log.preallocate", 1)]),
    t("remote.log.copy.disable", Boolean, "false", Any, Ignored, "Copy no more segments to tiered storage.", &[]),
    t("remote.log.delete.on.disable", Boolean, "false", Any, Ignored, "Delete what is in tiered storage when it is turned off for the topic.", &[]),
    t("remote.storage.enable", Boolean, "false", Any, Ignored, "Use tiered storage for the topic.", &[]),
    t("retention.bytes", Long, "-1", Any, Live, "How much of a partition to keep; -1 is all.", &[("log.retention.bytes", 1)]),
    t("retention.ms", Long, "604800000", AtLeast(-1), Live, "How long to keep records, in ms; -1 is for ever.", &[("log.retention.ms", 1), ("log.retention.minutes", 60000), ("log.retention.hours", 3600000)]),
    t("segment.bytes", Int, "1073741824", AtLeast(1048576), Live, "The size of a segment file.", &[("log.segment.bytes", 1)]),
    t("segment.index.bytes", Int, "10485760", AtLeast(4), Live, "Roll a segment when Kafka's index of it would be larger.", &[("log.index.size.max.bytes", 1)]),
    t("segment.jitter.ms", Long, "0", AtLeast(0), Live, "By how much at most to roll earlier, in ms.", &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3600000)]),
    t("segment.ms", Long, "604800000", AtLeast(1), Live, "Roll a segment after so long, in ms.", &[("log.roll.ms", 1), ("log.roll.hours", 3600000)]),
    t("unclean.leader.election.enable", Boolean, "false", Any, Live, "Let a replica that lacks acknowledged records lead when no other can.", &[("unclean.leader.election.enable", 1)]),
];
