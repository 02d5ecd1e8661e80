//! The metadata quorum, heartbeats and elections.

use crate::metadata::config::check::Check::{Any, AtLeast, NonEmptyDistinct};
use crate::metadata::config::setting::Effect::{Ignored, Live, Start};
use crate::metadata::config::setting::SettingType::{Boolean, Int, List, Long, String};
use crate::metadata::config::setting::Update::{ClusterWide, ReadOnly};
use crate::metadata::config::setting::{NULL, Setting, s};

#[rustfmt::skip]
pub(super) const SETTINGS: &[Setting] = &[
    s("auto.leader.rebalance.enable", Boolean, "true", Any, ReadOnly, Start, "Give leadership back to preferred replicas in the background."),
    s("broker.heartbeat.interval.ms", Int, "2000", Any, ReadOnly, Start, "How often a broker tells the controller that it is alive, in ms."),
    s("broker.session.timeout.ms", Int, "9000", Any, ReadOnly, Start, "How long the controller waits for a heartbeat before it fences a broker, in ms."),
    s("controlled.shutdown.enable", Boolean, "true", Any, ReadOnly, Start, "Move leaders away before a broker stops."),
    s("controller.listener.names", List, NULL, NonEmptyDistinct, ReadOnly, Start, "The listeners of controllers."),
    s("controller.performance.always.log.threshold.ms", Long, "2000", AtLeast(0), ReadOnly, Ignored, "Log controller events that take longer, in ms.").internal(),
    s("controller.performance.sample.period.ms", Long, "60000", AtLeast(100), ReadOnly, Ignored, "How often controller performance is logged, in ms.").internal(),
    s("controller.quorum.append.linger.ms", Int, "25", AtLeast(0), ReadOnly, Start, "How long the controller gathers records before it writes them, in ms."),
    s("controller.quorum.auto.join.enable", Boolean, "false", Any, ReadOnly, Ignored, "Let a new controller add itself to the voters."),
    s("controller.quorum.bootstrap.servers", List, "", Any, ReadOnly, Start, "Addresses of controllers to find the quorum by."),
    s("controller.quorum.election.backoff.max.ms", Int, "1000", AtLeast(0), ReadOnly, Start, "The longest wait before another election, in ms."),
    s("controller.quorum.election.timeout.ms", Int, "1000", AtLeast(0), ReadOnly, Start, "How long an election may take, in ms."),
    s("controller.quorum.fetch.max.bytes", Int, "1048576", AtLeast(1), ReadOnly, Start, "The most bytes of one fetch of the metadata log."),
    s("controller.quorum.fetch.snapshot.max.bytes", Int, "1048576", AtLeast(1), ReadOnly, Start, "The most bytes of one fetch of a metadata snapshot."),
    s("controller.quorum.fetch.timeout.ms", Int, "2000", AtLeast(0), ReadOnly, Start, "How long a voter waits for the leader before it stands for election, in ms."),
    s("controller.quorum.request.timeout.ms", Int, "2000", AtLeast(0), ReadOnly, Start, "How long a member of the quorum waits for an answer, in ms."),
    s("controller.quorum.retry.backoff.ms", Int, "20", AtLeast(0), ReadOnly, Start, "How long a member of the quorum waits before it retries, in ms."),
    s("controller.quorum.voters", List, "", Any, ReadOnly, Start, "A static set of voters, as id@host:port."),
    s("initial.broker.registration.timeout.ms", Int, "60000", Any, ReadOnly, Start, "How long a starting broker tries to register, in ms."),
    s("internal.metadata.delete.delay.millis", Long, "60000", Any, ReadOnly, Ignored, "How long deleted metadata log files are kept, in ms.").internal(),
    s("internal.metadata.log.segment.bytes", Int, NULL, Any, ReadOnly, Ignored, "The segment size of the metadata log, for tests.").internal(),
    s("internal.metadata.max.batch.size.in.bytes", Int, "8388608", Any, ReadOnly, Ignored, "The largest batch of the metadata log.").internal(),
    s("leader.imbalance.check.interval.seconds", Long, "300", AtLeast(1), ReadOnly, Start, "How often leadership goes back to preferred replicas, in seconds."),
    s("metadata.log.dir", String, NULL, Any, ReadOnly, Start, "The directory of the metadata log; the first of log.dirs when unset."),
    s("metadata.log.max.record.bytes.between.snapshots", Long, "20971520", AtLeast(1), ReadOnly, Start, "Snapshot the metadata after so many bytes of records."),
    s("metadata.log.max.snapshot.interval.ms", Long, "3600000", AtLeast(0), ReadOnly, Start, "Snapshot changed metadata after so long, in ms."),
    s("metadata.log.segment.bytes", Int, "1073741824", AtLeast(8388608), ReadOnly, Start, "The segment size of the metadata log."),
    s("metadata.log.segment.ms", Long, "604800000", Any, ReadOnly, Start, "Roll a segment of the metadata log after so long, in ms."),
    s("metadata.max.idle.interval.ms", Int, "500", AtLeast(0), ReadOnly, Start, "Write a record that changes nothing after so long without one, in ms; 0 is never."),
    s("metadata.max.retention.bytes", Long, "104857600", Any, ReadOnly, Start, "How much metadata log to keep behind a snapshot."),
    s("metadata.max.retention.ms", Long, "604800000", Any, ReadOnly, Start, "How long to keep metadata log behind a snapshot, in ms."),
    s("unclean.leader.election.enable", Boolean, "false", Any, ClusterWide, Live, "Let a replica that lacks acknowledged records lead when no other can."),
    s("unclean.leader.election.interval.ms", Long, "300000", AtLeast(1), ReadOnly, Start, "How often partitions without a leader are looked at for an unclean election, in ms.").internal(),
];
