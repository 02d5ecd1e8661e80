//! Tiered storage.

use crate::metadata::config::check::Check::{Any, AtLeast, NonEmpty, Within};
use crate::metadata::config::setting::Effect::Ignored;
use crate::metadata::config::setting::SettingType::{Boolean, Double, Int, Long, String};
use crate::metadata::config::setting::Update::{ClusterWide, ReadOnly};
use crate::metadata::config::setting::{NULL, Setting, s};

#[rustfmt::skip]
pub(super) const SETTINGS: &[Setting] = &[
    s("remote.fetch.max.wait.ms", Int, "500", AtLeast(1), ClusterWide, Ignored, "How long a fetch waits for tiered storage, in ms."),
    s("remote.list.offsets.request.timeout.ms", Long, "30000", AtLeast(1), ClusterWide, Ignored, "How long ListOffsets waits for tiered storage, in ms."),
    s("remote.log.index.file.cache.total.size.bytes", Long, "1073741824", AtLeast(1), ClusterWide, Ignored, "Disk for indexes fetched from tiered storage."),
    s("remote.log.index.file.cache.ttl.ms", Long, "900000", AtLeast(-1), ReadOnly, Ignored, "How long an unused index of tiered storage stays cached, in ms; -1 is for ever.").internal(),
    s("remote.log.manager.copier.thread.pool.size", Int, "10", AtLeast(1), ClusterWide, Ignored, "Threads that copy segments to tiered storage."),
    s("remote.log.manager.copy.max.bytes.per.second", Long, "9223372036854775807", AtLeast(1), ClusterWide, Ignored, "How fast segments are copied to tiered storage."),
    s("remote.log.manager.copy.quota.window.num", Int, "11", AtLeast(1), ReadOnly, Ignored, "How many samples the copy quota keeps."),
    s("remote.log.manager.copy.quota.window.size.seconds", Int, "1", AtLeast(1), ReadOnly, Ignored, "How long one sample of the copy quota lasts, in seconds."),
    s("remote.log.manager.expiration.thread.pool.size", Int, "10", AtLeast(1), ClusterWide, Ignored, "Threads that delete segments in tiered storage."),
    s("remote.log.manager.fetch.max.bytes.per.second", Long, "9223372036854775807", AtLeast(1), ClusterWide, Ignored, "How fast segments are read from tiered storage."),
    s("remote.log.manager.fetch.quota.window.num", Int, "11", AtLeast(1), ReadOnly, Ignored, "How many samples the fetch quota keeps."),
    s("remote.log.manager.fetch.quota.window.size.seconds", Int, "1", AtLeast(1), ReadOnly, Ignored, "How long one sample of the fetch quota lasts, in seconds."),
    s("remote.log.manager.follower.thread.pool.size", Int, "2", AtLeast(1), ClusterWide, Ignored, "Threads for followers of tiered partitions."),
    s("remote.log.manager.task.interval.ms", Long, "30000", AtLeast(1), ReadOnly, Ignored, "How often tiered partitions are worked on, in ms."),
    s("remote.log.manager.task.retry.backoff.max.ms", Long, "30000", AtLeast(1), ReadOnly, Ignored, "The longest wait before work on tiered storage is retried, in ms.").internal(),
    s("remote.log.manager.task.retry.backoff.ms", Long, "500", AtLeast(1), ReadOnly, Ignored, "The first wait before work on tiered storage is retried, in ms.").internal(),
    s("remote.log.manager.task.retry.jitter", Double, "0.2", Within(0.0, 0.5), ReadOnly, Ignored, "The random part of those waits.").internal(),
    s("remote.log.manager.thread.pool.size", Int, "2", AtLeast(1), ReadOnly, Ignored, "Threads that schedule work on tiered storage."),
    s("remote.log.metadata.custom.metadata.max.bytes", Int, "128", AtLeast(0), ReadOnly, Ignored, "The most custom metadata of a segment in tiered storage."),
    s("remote.log.metadata.manager.class.name", String, "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", NonEmpty, ReadOnly, Ignored, "A Java class that keeps the metadata of tiered storage."),
    s("remote.log.metadata.manager.class.path", String, NULL, Any, ReadOnly, Ignored, "The class path of that class."),
    s("remote.log.metadata.manager.impl.prefix", String, "rlmm.config.", NonEmpty, ReadOnly, Ignored, "The prefix of settings for that class."),
    s("remote.log.metadata.manager.listener.name", String, NULL, NonEmpty, ReadOnly, Ignored, "The listener that class connects to."),
    s("remote.log.reader.max.pending.tasks", Int, "100", AtLeast(1), ReadOnly, Ignored, "The most reads of tiered storage that wait."),
    s("remote.log.reader.threads", Int, "10", AtLeast(1), ClusterWide, Ignored, "Threads that read tiered storage."),
    s("remote.log.storage.manager.class.name", String, NULL, NonEmpty, ReadOnly, Ignored, "A Java class that stores segments in tiered storage."),
    s("remote.log.storage.manager.class.path", String, NULL, Any, ReadOnly, Ignored, "The class path of that class."),
    s("remote.log.storage.manager.impl.prefix", String, "rsm.config.", NonEmpty, ReadOnly, Ignored, "The prefix of settings for that class."),
    s("remote.log.storage.system.enable", Boolean, "false", Any, ReadOnly, Ignored, "Use tiered storage."),
];
