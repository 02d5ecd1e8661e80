//! What happened to groups, counted (`GroupCoordinatorMetrics` in Apache Kafka).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::commands::Command;
use super::context::Timer;
use super::records::GroupRecord;

/// What all shards of a coordinator count together, so that it outlives each of them.
#[derive(Debug, Default)]
pub struct GroupTotals {
    offset_commits: AtomicU64,
    offset_expirations: AtomicU64,
    offset_deletions: AtomicU64,
    completed_rebalances: AtomicU64,
    consumer_rebalances: AtomicU64,
    member_bytes: AtomicUsize,
}

/// The counts of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Offsets that were committed.
    pub offset_commits: u64,
    /// Offsets that nobody needed any more.
    pub offset_expirations: u64,
    /// Offsets that an admin deleted.
    pub offset_deletions: u64,
    /// Generations of classic groups whose members know what they read.
    pub completed_rebalances: u64,
    /// Times that what a consumer group reads, or who reads it, began to change.
    pub consumer_rebalances: u64,
}

impl GroupTotals {
    /// The counts of now.
    pub fn counts(&self) -> GroupCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        GroupCounts {
            offset_commits: read(&self.offset_commits),
            offset_expirations: read(&self.offset_expirations),
            offset_deletions: read(&self.offset_deletions),
            completed_rebalances: read(&self.completed_rebalances),
            consumer_rebalances: read(&self.consumer_rebalances),
        }
    }

    /// About what the members of all groups hold in memory.
    pub fn member_bytes(&self) -> usize {
        self.member_bytes.load(Ordering::Relaxed)
    }

    /// Some of them held `from` bytes, and hold `to` now.
    pub(super) fn change_member_bytes(&self, from: usize, to: usize) {
        if to >= from {
            self.member_bytes.fetch_add(to - from, Ordering::Relaxed);
        } else {
            self.member_bytes.fetch_sub(from - to, Ordering::Relaxed);
        }
    }

    /// Counts what the records of a step mean that `cause` led to.
    pub(super) fn count(&self, cause: Cause, records: &[GroupRecord]) {
        let (counter, is_counted): (_, fn(&GroupRecord) -> bool) = match cause {
            _ if records.is_empty() => return,
            Cause::Other => return,
            Cause::Commit => (&self.offset_commits, |record| {
                matches!(record, GroupRecord::OffsetCommit(_, Some(_)))
            }),
            Cause::Expiration => (&self.offset_expirations, |record| {
                matches!(record, GroupRecord::OffsetCommit(_, None))
            }),
            Cause::Deletion => (&self.offset_deletions, |record| {
                matches!(record, GroupRecord::OffsetCommit(_, None))
            }),
            // The leader's assignment is what the group stores of itself then.
            Cause::Sync => (&self.completed_rebalances, |record| {
                matches!(record, GroupRecord::GroupMetadata(_, Some(_)))
            }),
            Cause::Membership => (&self.consumer_rebalances, |record| {
                matches!(record, GroupRecord::ConsumerGroupMetadata(_, Some(_)))
            }),
        };
        let mut count = records.iter().filter(|record| is_counted(record)).count() as u64;
        if matches!(cause, Cause::Membership) {
            // A group that changes its protocol writes its old epoch, too.
            count = count.min(1);
        }
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// What led to records, as far as counts tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Commit,
    Expiration,
    Deletion,
    Sync,
    /// Members of a consumer group come or read something else; that they leave is not counted in Kafka.
    Membership,
    Other,
}

impl From<&Command> for Cause {
    fn from(command: &Command) -> Self {
        match command {
            Command::OffsetCommit(_) => Cause::Commit,
            Command::OffsetDelete(_) => Cause::Deletion,
            Command::SyncGroup(_) => Cause::Sync,
            Command::JoinGroup(_) => Cause::Membership,
            Command::ConsumerGroupHeartbeat(heartbeat) if heartbeat.member_epoch >= 0 => Cause::Membership,
            _ => Cause::Other,
        }
    }
}

impl From<&Timer> for Cause {
    fn from(timer: &Timer) -> Self {
        match timer {
            Timer::OffsetExpiration => Cause::Expiration,
            Timer::ConsumerPatterns(_) => Cause::Membership,
            _ => Cause::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::records::{
        ConsumerGroupMetadataKey, ConsumerGroupMetadataValue, GroupMetadataKey, GroupMetadataValue, OffsetCommitKey,
        OffsetCommitValue,
    };

    #[test]
    fn records_count_for_what_led_to_them() {
        let offset = |value| GroupRecord::OffsetCommit(OffsetCommitKey::default(), value);
        let committed = || offset(Some(OffsetCommitValue::default()));
        let classic = |value| GroupRecord::GroupMetadata(GroupMetadataKey::default(), value);
        let epoch = || {
            let value = ConsumerGroupMetadataValue::default();
            GroupRecord::ConsumerGroupMetadata(ConsumerGroupMetadataKey::default(), Some(value))
        };
        let totals = GroupTotals::default();
        totals.count(Cause::Commit, &[committed(), committed()]);
        totals.count(
            Cause::Expiration,
            &[offset(None), offset(None), offset(None), classic(None)],
        );
        totals.count(Cause::Deletion, &[offset(None)]);
        totals.count(Cause::Sync, &[classic(Some(GroupMetadataValue::default()))]);
        totals.count(Cause::Membership, &[epoch(), epoch()]);
        totals.count(Cause::Membership, &[committed()]);
        totals.count(Cause::Other, &[epoch(), offset(None)]);
        let expected = GroupCounts {
            offset_commits: 2,
            offset_expirations: 3,
            offset_deletions: 1,
            completed_rebalances: 1,
            consumer_rebalances: 1,
        };
        assert_eq!(totals.counts(), expected);
    }
}
