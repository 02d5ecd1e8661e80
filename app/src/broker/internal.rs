//! Partitions of internal topics, as the coordinators on this broker write and read them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ottla_domain::error::ErrorCode;
#[cfg(test)]
use ottla_domain::ids::LeaderEpoch;
use ottla_domain::ids::{Offset, PartitionId};
use ottla_domain::log::validation::Validated;
use ottla_domain::ports::inbound::Acks;
use ottla_domain::ports::outbound::{LogStore, PartitionLog};
use ottla_domain::record::records::BatchBuilder;
use tokio::time::Instant;

use super::partition::Partition;
use super::produce::AppendOptions;
use super::waiters::Watch;
use super::{Broker, Tools};

/// A partition that this broker leads, and the term in which it does: what is appended in another one is refused. A term
/// ends when this broker leads no longer, and goes on through epochs in which it still does.
pub struct LedPartition<L: PartitionLog> {
    partition: Arc<Partition<L>>,
    tools: Arc<Tools>,
    term: u64,
}

impl<L: PartitionLog> fmt::Display for LedPartition<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition.topic, self.partition.id)
    }
}

impl<S: LogStore> Broker<S> {
    /// The partitions of a topic that this broker leads.
    pub fn led_partitions(&self, topic: &str) -> Vec<LedPartition<S::Log>> {
        let table = self.partitions.load();
        let led = |partition: &Arc<Partition<S::Log>>| LedPartition {
            term: partition.term(),
            partition: Arc::clone(partition),
            tools: Arc::clone(&self.tools),
        };
        table
            .online_of(topic)
            .filter(|partition| partition.is_leader())
            .map(led)
            .collect()
    }
}

impl<L: PartitionLog> LedPartition<L> {
    /// Its number.
    pub fn id(&self) -> PartitionId {
        self.partition.id
    }

    /// The same replica in the same term.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.partition, &other.partition) && self.term == other.term
    }

    /// What the machine offers.
    pub fn tools(&self) -> &Arc<Tools> {
        &self.tools
    }

    /// True when an append waits for the disk: then it belongs on a blocking thread.
    pub fn is_slow(&self) -> bool {
        self.partition.is_slow()
    }

    /// The replica left this broker.
    pub fn is_closed(&self) -> bool {
        self.partition.is_closed()
    }

    /// The first offset that there is.
    pub fn log_start_offset(&self) -> Offset {
        self.partition.log_start_offset()
    }

    /// Where the next record goes.
    pub fn log_end_offset(&self) -> Offset {
        self.partition.log().log_end_offset()
    }

    /// Below it everything is committed.
    pub fn high_watermark(&self) -> Offset {
        self.partition.high_watermark()
    }

    /// The largest batch that the topic takes (`max.message.bytes`).
    pub fn batch_max_bytes(&self) -> usize {
        self.partition.batch_max_bytes()
    }

    fn options(&self) -> AppendOptions {
        AppendOptions {
            acks: Acks::All,
            zstd_allowed: true,
            internal_topics_allowed: true,
            term: Some(self.term),
        }
    }

    /// Whether something can be appended now, as far as that is known before.
    pub fn check_append(&self) -> Result<(), ErrorCode> {
        self.partition
            .check_append(&self.partition.config(), self.options())
            .map(|_| ())
    }

    /// Appends a batch with acks=all, and returns where the log ends then. It is committed once the high watermark is
    /// there. Offsets of the builder count for nothing.
    pub fn append(&self, batch: BatchBuilder) -> Result<Offset, ErrorCode> {
        let (header, body) = batch.into_parts();
        let end_delta = i64::from(header.record_count);
        let appended = self
            .partition
            .append(&Validated::of_coordinator(header, body), self.options(), &self.tools);
        match appended {
            Ok(appended) => {
                if self.partition.claim_sync() {
                    let partition = Arc::clone(&self.partition);
                    tokio::task::spawn_blocking(move || partition.run_sync());
                }
                Ok(appended.answer.base_offset.plus(end_delta))
            }
            Err(refused) => Err(refused
                .error
                .map_or(ErrorCode::UnknownServerError, |refusal| refusal.error.code)),
        }
    }

    /// Whole batches from the one that holds `from`, about `max_bytes` of them; empty at the log's end. Blocks.
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Bytes, ErrorCode> {
        let log = self.partition.log();
        let slice = log.read(from, log.log_end_offset(), max_bytes, true);
        let loaded = slice.and_then(|slice| log.load(&slice));
        loaded.map_err(|error| error.code())
    }

    /// Membership among those who hear of changes of the partition. Look at it after this call, not before.
    pub fn watch(&self) -> Changes<L> {
        Changes(Watch::new(vec![Arc::clone(&self.partition)]))
    }
}

/// Hears of changes of a partition.
pub struct Changes<L: PartitionLog>(Watch<L>);

impl<L: PartitionLog> Changes<L> {
    /// Waits for a change since the last call; false when the deadline passed before.
    pub async fn next(&self, deadline: Instant) -> bool {
        self.0.changed(deadline).await
    }
}

#[cfg(test)]
impl<L: PartitionLog> LedPartition<L> {
    /// A partition that nobody else has.
    pub fn alone(opened: ottla_domain::ports::outbound::OpenedLog<L>, tools: Tools) -> Self {
        let partition = Partition::new(opened, Arc::default(), tools.durability);
        partition.lead_alone(LeaderEpoch(0), true);
        LedPartition {
            term: partition.term(),
            partition: Arc::new(partition),
            tools: Arc::new(tools),
        }
    }

    /// Another epoch begins, led by this broker or not.
    pub fn begin_epoch(&self, epoch: LeaderEpoch, is_leader: bool) {
        self.partition.lead_alone(epoch, is_leader);
    }

    /// Syncs what was appended.
    pub fn sync(&self) {
        self.partition.run_sync();
    }

    /// The log.
    pub fn log(&self) -> &L {
        self.partition.log()
    }
}
