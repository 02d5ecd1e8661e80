//! Logs, and the defaults of topics.

use crate::metadata::config::check::Check::{
    Any, AtLeast, Between, Distinct, GzipLevel, ListOf, NonEmptyDistinct, OneOf, Retention, Within,
};
use crate::metadata::config::setting::Effect::{Ignored, Live, Start};
use crate::metadata::config::setting::SettingType::{Boolean, Double, Int, List, Long, String};
use crate::metadata::config::setting::Update::{ClusterWide, PerBroker, ReadOnly};
use crate::metadata::config::setting::{NULL, Setting, s};

#[rustfmt::skip]
pub(super) const SETTINGS: &[Setting] = &[
    s("compression.gzip.level", Int, "-1", GzipLevel, ClusterWide, Live, "The level of gzip, where compression.type is gzip; -1 is the codec's own."),
    s("compression.lz4.level", Int, "9", Between(1, 17), ClusterWide, Live, "The level of lz4, where compression.type is lz4."),
    s("compression.type", String, "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide, Live, "The codec that batches are stored with; producer keeps what was sent."),
    s("compression.zstd.level", Int, "3", Between(-131072, 22), ClusterWide, Live, "The level of zstd, where compression.type is zstd."),
    s("cordoned.log.dirs", List, "", Distinct, PerBroker, Ignored, "Directories of log.dirs that take no new partitions."),
    s("log.cleaner.backoff.ms", Long, "15000", AtLeast(0), ClusterWide, Live, "How long the cleaner sleeps when there is nothing to clean, in ms."),
    s("log.cleaner.dedupe.buffer.size", Long, "134217728", Any, ClusterWide, Live, "Memory of all cleaner threads for keys."),
    s("log.cleaner.delete.retention.ms", Long, "86400000", AtLeast(0), ClusterWide, Live, "How long tombstones stay in compacted topics, in ms."),
    s("log.cleaner.enable", Boolean, "true", Any, ReadOnly, Start, "Run the cleaner."),
    s("log.cleaner.io.buffer.load.factor", Double, "0.9", Any, ClusterWide, Live, "How full the cleaner's buffer of keys may be."),
    s("log.cleaner.io.buffer.size", Int, "524288", AtLeast(0), ClusterWide, Live, "Memory of all cleaner threads for reading and writing."),
    s("log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308", Any, ClusterWide, Live, "How fast the cleaner may read and write."),
    s("log.cleaner.max.compaction.lag.ms", Long, "9223372036854775807", AtLeast(1), ClusterWide, Live, "Compact records at the latest after so long, in ms."),
    s("log.cleaner.min.cleanable.ratio", Double, "0.5", Within(0.0, 1.0), ClusterWide, Live, "Compact a log when this part of it is dirty."),
    s("log.cleaner.min.compaction.lag.ms", Long, "0", AtLeast(0), ClusterWide, Live, "Compact records at the earliest after so long, in ms."),
    s("log.cleaner.threads", Int, "1", AtLeast(0), ClusterWide, Live, "Threads of the cleaner."),
    s("log.cleanup.policy", List, "delete", ListOf(&["compact", "delete"]), ClusterWide, Live, "What happens to old segments: delete, compact, or both."),
    s("log.dir", List, "/tmp/kafka-logs", NonEmptyDistinct, ReadOnly, Start, "A directory for logs, when log.dirs is unset."),
    s("log.dir.failure.timeout.ms", Long, "30000", AtLeast(1), ReadOnly, Ignored, "Stop the broker when it cannot report a failed directory for so long, in ms."),
    s("log.dirs", List, NULL, NonEmptyDistinct, ReadOnly, Start, "Directories for logs."),
    s("log.flush.interval.messages", Long, "9223372036854775807", AtLeast(1), ClusterWide, Live, "Flush a log after so many records."),
    s("log.flush.interval.ms", Long, NULL, Any, ClusterWide, Live, "Flush a log after so long, in ms; log.flush.scheduler.interval.ms when unset."),
    s("log.flush.offset.checkpoint.interval.ms", Int, "60000", AtLeast(0), ReadOnly, Start, "How often recovery points are written, in ms."),
    s("log.flush.scheduler.interval.ms", Long, "9223372036854775807", Any, ReadOnly, Start, "How often logs are looked at for a flush that is due, in ms."),
    s("log.flush.start.offset.checkpoint.interval.ms", Int, "60000", AtLeast(0), ReadOnly, Start, "How often log start offsets are written, in ms."),
    s("log.index.interval.bytes", Int, "4096", AtLeast(0), ClusterWide, Live, "Bytes of records between two entries of the index."),
    s("log.index.size.max.bytes", Int, "10485760", AtLeast(4), ClusterWide, Live, "Roll a segment when Kafka's index of it would be larger."),
    s("log.initial.task.delay.ms", Long, "30000", AtLeast(0), ReadOnly, Start, "When background work on logs begins after the start, in ms.").internal(),
    s("log.local.retention.bytes", Long, "-2", AtLeast(-2), ClusterWide, Ignored, "How much of a partition stays on local disk beside tiered storage; -2 is log.retention.bytes."),
    s("log.local.retention.ms", Long, "-2", AtLeast(-2), ClusterWide, Ignored, "How long records stay on local disk beside tiered storage, in ms; -2 is log.retention.ms."),
    s("log.message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), ClusterWide, Live, "How far a record's timestamp may lie in the future, in ms."),
    s("log.message.timestamp.before.max.ms", Long, "9223372036854775807", AtLeast(0), ClusterWide, Live, "How far a record's timestamp may lie in the past, in ms."),
    s("log.message.timestamp.type", String, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide, Live, "Whose time records carry: CreateTime or LogAppendTime."),
    s("log.preallocate", Boolean, "false", Any, ClusterWide, Live, "Preallocate segment files."),
    s("log.retention.bytes", Long, "-1", Any, ClusterWide, Live, "How much of a partition to keep; -1 is all."),
    s("log.retention.check.interval.ms", Long, "300000", AtLeast(1), ReadOnly, Start, "How often logs are looked at for segments to delete, in ms."),
    s("log.retention.hours", Int, "168", Retention, ReadOnly, Start, "How long to keep records, in hours, unless given in minutes or ms."),
    s("log.retention.minutes", Int, NULL, Retention, ReadOnly, Start, "How long to keep records, in minutes, unless given in ms."),
    s("log.retention.ms", Long, NULL, Retention, ClusterWide, Live, "How long to keep records, in ms; -1 is for ever."),
    s("log.roll.hours", Int, "168", AtLeast(1), ReadOnly, Start, "Roll a segment after so long, in hours, unless given in ms."),
    s("log.roll.jitter.hours", Int, "0", AtLeast(0), ReadOnly, Start, "By how much at most to roll earlier, in hours, unless given in ms."),
    s("log.roll.jitter.ms", Long, NULL, AtLeast(0), ClusterWide, Live, "By how much at most to roll earlier, in ms."),
    s("log.roll.ms", Long, NULL, AtLeast(1), ClusterWide, Live, "Roll a segment after so long, in ms."),
    s("log.segment.bytes", Int, "1073741824", AtLeast(1048576), ClusterWide, Live, "The size of a segment file."),
    s("log.segment.delete.delay.ms", Long, "60000", AtLeast(0), ClusterWide, Live, "How long to wait before a deleted file is removed, in ms."),
    s("message.max.bytes", Int, "1048588", AtLeast(0), ClusterWide, Live, "The largest batch of records, after compression."),
    s("min.insync.replicas", Int, "1", AtLeast(1), ClusterWide, Live, "How many replicas must have a record that is acknowledged with acks=all."),
    s("num.recovery.threads.per.data.dir", Int, "2", AtLeast(1), ClusterWide, Start, "Threads per directory that recover logs at start and flush them at stop."),
];
