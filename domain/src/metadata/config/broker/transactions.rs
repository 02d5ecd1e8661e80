//! Idempotent producers and transactions.

use crate::metadata::config::check::Check::{Any, AtLeast};
use crate::metadata::config::setting::Effect::{Ignored, Live, Start};
use crate::metadata::config::setting::SettingType::{Boolean, Int, Short};
use crate::metadata::config::setting::Update::{ClusterWide, ReadOnly};
use crate::metadata::config::setting::{Setting, s};

#[rustfmt::skip]
pub(super) const SETTINGS: &[Setting] = &[
    s("add.partitions.to.txn.retry.backoff.max.ms", Int, "100", AtLeast(0), ReadOnly, Ignored, "How long a broker retries to add partitions to a transaction, in ms."),
    s("add.partitions.to.txn.retry.backoff.ms", Int, "20", AtLeast(1), ReadOnly, Ignored, "How long a broker waits between two such tries, in ms."),
    s("producer.id.expiration.check.interval.ms", Int, "600000", AtLeast(1), ReadOnly, Start, "How often expired producers are looked for, in ms.").internal(),
    s("producer.id.expiration.ms", Int, "86400000", AtLeast(1), ClusterWide, Live, "How long a partition remembers an idempotent producer that is silent, in ms."),
    s("transaction.abort.timed.out.transaction.cleanup.interval.ms", Int, "10000", AtLeast(1), ReadOnly, Ignored, "How often timed out transactions are aborted, in ms."),
    s("transaction.max.timeout.ms", Int, "900000", AtLeast(1), ReadOnly, Ignored, "The longest timeout a transaction may ask for, in ms."),
    s("transaction.partition.verification.enable", Boolean, "true", Any, ClusterWide, Ignored, "Check that a partition belongs to the transaction before appending to it."),
    s("transaction.remove.expired.transaction.cleanup.interval.ms", Int, "3600000", AtLeast(1), ReadOnly, Ignored, "How often expired transactional ids are removed, in ms."),
    s("transaction.state.log.load.buffer.size", Int, "5242880", AtLeast(1), ReadOnly, Ignored, "How much of the transactions topic is read at once while loading."),
    s("transaction.state.log.min.isr", Int, "2", AtLeast(1), ReadOnly, Ignored, "min.insync.replicas of the transactions topic."),
    s("transaction.state.log.num.partitions", Int, "50", AtLeast(1), ReadOnly, Ignored, "Partitions of the transactions topic."),
    s("transaction.state.log.replication.factor", Short, "3", AtLeast(1), ReadOnly, Ignored, "The replication factor of the transactions topic."),
    s("transaction.state.log.segment.bytes", Int, "104857600", AtLeast(1), ReadOnly, Ignored, "The segment size of the transactions topic."),
    s("transaction.two.phase.commit.enable", Boolean, "false", Any, ReadOnly, Ignored, "Let outside coordinators take part in two-phase commits."),
    s("transactional.id.expiration.ms", Int, "604800000", AtLeast(1), ReadOnly, Ignored, "How long an unused transactional id is remembered, in ms."),
];
