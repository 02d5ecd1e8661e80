//! Replication.

use crate::metadata::config::check::Check::{Any, AtLeast};
use crate::metadata::config::setting::Effect::{Ignored, Start};
use crate::metadata::config::setting::SettingType::{Boolean, Int, Long, String};
use crate::metadata::config::setting::Update::{ClusterWide, ReadOnly};
use crate::metadata::config::setting::{NULL, Setting, s};

#[rustfmt::skip]
pub(super) const SETTINGS: &[Setting] = &[
    s("alter.log.dirs.replication.quota.window.num", Int, "11", AtLeast(1), ReadOnly, Ignored, "How many samples the quota on moves between directories keeps."),
    s("alter.log.dirs.replication.quota.window.size.seconds", Int, "1", AtLeast(1), ReadOnly, Ignored, "How long one sample of that quota lasts, in seconds."),
    s("follower.fetch.last.tiered.offset.enable", Boolean, "false", Any, ClusterWide, Ignored, "Let an empty follower begin behind what is in tiered storage."),
    s("follower.replication.throttled.rate", Long, "9223372036854775807", AtLeast(0), ClusterWide, Ignored, "Bytes a second of throttled replication on followers.").internal(),
    s("leader.replication.throttled.rate", Long, "9223372036854775807", AtLeast(0), ClusterWide, Ignored, "Bytes a second of throttled replication on leaders.").internal(),
    s("num.replica.alter.log.dirs.threads", Int, NULL, Any, ReadOnly, Ignored, "Threads that move replicas between directories."),
    s("num.replica.fetchers", Int, "1", AtLeast(1), ClusterWide, Ignored, "Connections to each broker that replicas are fetched from."),
    s("replica.alter.log.dirs.io.max.bytes.per.second", Long, "9223372036854775807", AtLeast(0), ClusterWide, Ignored, "Bytes a second of moves between directories.").internal(),
    s("replica.fetch.backoff.ms", Int, "1000", AtLeast(0), ReadOnly, Ignored, "How long a follower waits after an error, in ms."),
    s("replica.fetch.max.bytes", Int, "1048576", AtLeast(0), ReadOnly, Ignored, "The most bytes a follower asks of one partition."),
    s("replica.fetch.min.bytes", Int, "1", Any, ReadOnly, Ignored, "The least bytes a follower waits for."),
    s("replica.fetch.response.max.bytes", Int, "10485760", AtLeast(0), ReadOnly, Ignored, "The most bytes of one answer to a follower."),
    s("replica.fetch.wait.max.ms", Int, "500", Any, ReadOnly, Start, "How long a follower's fetch waits for records, in ms."),
    s("replica.high.watermark.checkpoint.interval.ms", Long, "5000", Any, ReadOnly, Ignored, "How often high watermarks are written, in ms."),
    s("replica.lag.time.max.ms", Long, "30000", Any, ReadOnly, Start, "A follower that has not caught up for so long leaves the ISR, in ms."),
    s("replica.selector.class", String, NULL, Any, ReadOnly, Ignored, "A Java class that chooses the replica a consumer reads from."),
    s("replica.socket.receive.buffer.bytes", Int, "65536", Any, ReadOnly, Ignored, "SO_RCVBUF of connections to leaders."),
    s("replica.socket.timeout.ms", Int, "30000", Any, ReadOnly, Start, "The socket timeout of fetches from leaders, in ms."),
    s("replication.quota.window.num", Int, "11", AtLeast(1), ReadOnly, Ignored, "How many samples the replication quota keeps."),
    s("replication.quota.window.size.seconds", Int, "1", AtLeast(1), ReadOnly, Ignored, "How long one sample of the replication quota lasts, in seconds."),
];
