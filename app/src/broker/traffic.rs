//! What passes through replicas, counted for metrics: per replica, so that no counter is shared by all requests.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{Offset, PartitionId};
use ottla_domain::ports::outbound::{LogStore, PartitionLog};

use super::Broker;
use super::table::{Hosted, PartitionTable};

/// What is counted: Kafka's `BrokerTopicMetrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "the names are Kafka's and say it all")]
pub enum Count {
    MessagesIn,
    BytesIn,
    BytesOut,
    BytesRejected,
    TotalProduceRequests,
    FailedProduceRequests,
    TotalFetchRequests,
    FailedFetchRequests,
    ReplicationBytesOut,
}

impl Count {
    /// All of them, in the order of their numbers.
    pub const ALL: [Count; 9] = [
        Count::MessagesIn,
        Count::BytesIn,
        Count::BytesOut,
        Count::BytesRejected,
        Count::TotalProduceRequests,
        Count::FailedProduceRequests,
        Count::TotalFetchRequests,
        Count::FailedFetchRequests,
        Count::ReplicationBytesOut,
    ];
}

/// The counters of a replica.
#[derive(Default)]
pub struct Traffic([AtomicU64; Count::ALL.len()]);

impl Traffic {
    pub(super) fn add(&self, count: Count, amount: u64) {
        if let Some(counter) = self.0.get(count as usize) {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// A produce that was refused. Kafka does not count what clients bring about in the ordinary course as failed.
    pub(super) fn produce_failed(&self, code: ErrorCode, size_bytes: usize) {
        match code {
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
                self.add(Count::BytesRejected, size_bytes as u64);
            }
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::CorruptMessage
            | ErrorCode::KafkaStorageError => {}
            _ => self.add(Count::FailedProduceRequests, 1),
        }
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        Totals(self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

/// Counters at one moment, of one replica or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; Count::ALL.len()]);

impl Totals {
    /// One of them.
    pub fn get(&self, count: Count) -> u64 {
        self.0.get(count as usize).copied().unwrap_or_default()
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(more);
        }
    }
}

/// A replica of this broker, for metrics.
pub struct ReplicaFacts {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: PartitionId,
    /// This broker leads the partition.
    pub is_leader: bool,
    /// How many replicas are in sync, compared with how many have to be, as the leader knows it.
    pub isr_to_min: std::cmp::Ordering,
    /// The first offset of the log.
    pub log_start: Offset,
    /// One past the last offset of the log.
    pub log_end: Offset,
    /// What consumers may read up to.
    pub high_watermark: Offset,
    /// The size of all segments' files.
    pub size_bytes: u64,
    /// How many segments there are.
    pub segment_count: usize,
    /// What passed through.
    pub totals: Totals,
}

impl<S: LogStore> Broker<S> {
    /// The replicas that serve, and what passed through these and through those that left.
    pub fn replica_facts(&self) -> (Vec<ReplicaFacts>, Totals) {
        // Held while the table is read, so that no replica is counted twice or not at all.
        let retired = self.retired.lock();
        let (table, mut all) = (self.partitions.load_full(), *retired);
        drop(retired);
        let facts = table.online().map(|partition| {
            let log = partition.log();
            let segments = log.segments();
            ReplicaFacts {
                topic: Arc::clone(&partition.topic),
                partition: partition.id,
                is_leader: partition.is_leader(),
                isr_to_min: partition.isr_to_min(),
                log_start: log.log_start_offset(),
                log_end: log.log_end_offset(),
                high_watermark: partition.high_watermark(),
                size_bytes: segments.iter().map(|segment| segment.size_bytes).sum(),
                segment_count: segments.len(),
                totals: partition.traffic.totals(),
            }
        });
        let facts: Vec<ReplicaFacts> = facts.collect();
        facts.iter().for_each(|replica| all += replica.totals);
        (facts, all)
    }

    /// How many replicas lie in failed directories.
    pub fn offline_replica_count(&self) -> usize {
        let is_offline = |hosted: &Hosted<S::Log>| matches!(hosted, Hosted::Offline);
        self.partitions
            .load()
            .iter()
            .filter(|(_, _, hosted)| is_offline(hosted))
            .count()
    }

    /// Replaces the table; what the replicas that leave it have counted stays in the sum.
    pub(super) fn install(&self, table: PartitionTable<S::Log>) {
        let mut retired = self.retired.lock();
        for partition in self.partitions.load().online() {
            if !table.serves(partition) {
                *retired += partition.traffic.totals();
            }
        }
        self.partitions.store(Arc::new(table));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        for (index, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, index);
        }
        let traffic = Traffic::default();
        traffic.add(Count::BytesIn, 5);
        traffic.produce_failed(ErrorCode::MessageTooLarge, 7);
        traffic.produce_failed(ErrorCode::NotLeaderOrFollower, 7);
        traffic.produce_failed(ErrorCode::InvalidRecord, 7);
        let mut totals = traffic.totals();
        totals += traffic.totals();
        let shown = [Count::BytesIn, Count::BytesRejected, Count::FailedProduceRequests].map(|count| totals.get(count));
        assert_eq!(shown, [10, 14, 2]);
    }
}
