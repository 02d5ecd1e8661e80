//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords and DescribeProducers.

use std::sync::Arc;

use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{BrokerId, LeaderEpoch, Offset, PartitionId, Timestamp};
use ottla_domain::partitioning::names::is_internal;
use ottla_domain::ports::inbound::{ActiveProducer, EpochEnd, Isolation, ListedOffset, OffsetSpec, OffsetsApi};
use ottla_domain::ports::outbound::{LogStore, PartitionLog};
use ottla_domain::record::batch::{RecordBatch, TimestampType};
use ottla_domain::record::compression::{Compression, CompressionType};
use ottla_domain::record::walk::{WalkedRecord, walk, walk_stream};

use super::Broker;
use super::partition::Partition;
use crate::services::Services;

fn listed(error: ErrorCode) -> ListedOffset {
    ListedOffset {
        error,
        timestamp: Timestamp::NONE,
        offset: Offset::NONE,
        leader_epoch: LeaderEpoch::UNKNOWN,
    }
}

impl<S: LogStore> Broker<S> {
    fn replica(&self, topic: &str, partition: PartitionId) -> Result<Arc<Partition<S::Log>>, ErrorCode> {
        let image = self.image();
        let topic = image.topics.by_name(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.partitions.load().find(topic, partition).cloned()
    }

    /// Runs what may wait for a disk on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> Result<T, ErrorCode> + Send + 'static,
    ) -> Result<T, ErrorCode> {
        tokio::task::spawn_blocking(task)
            .await
            .unwrap_or(Err(ErrorCode::UnknownServerError))
    }
}

/// The record that a timestamp means: its timestamp, offset and leader epoch. Blocks on the disk.
fn search<L: PartitionLog>(
    partition: &Partition<L>,
    spec: OffsetSpec,
    upper: Offset,
    compression: &dyn Compression,
) -> Result<Option<(Timestamp, Offset, LeaderEpoch)>, ErrorCode> {
    let log = partition.log();
    let (found, from) = match spec {
        OffsetSpec::At(timestamp) => (log.find_by_timestamp(timestamp, upper), Some(timestamp)),
        _ => (log.find_largest_timestamp(upper), None),
    };
    let Some(bytes) = found.map_err(|error| error.code())? else {
        return Ok(None);
    };
    let batch = RecordBatch::parse(&bytes).map_err(|error| error.code())?;
    let (header, body) = (batch.header, batch.body());
    let from = from.unwrap_or(header.max_timestamp);
    let log_start = partition.log_start_offset();
    let mut first: Option<(Timestamp, Offset, LeaderEpoch)> = None;
    let mut each = |record: WalkedRecord| {
        let timestamp = match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => Timestamp(header.base_timestamp.0.saturating_add(record.timestamp_delta)),
        };
        let offset = header.base_offset.plus(i64::from(record.offset_delta));
        if first.is_none() && timestamp >= from && offset >= log_start && offset < upper {
            first = Some((timestamp, offset, header.partition_leader_epoch));
        }
    };
    let walked = match header.attributes.compression() {
        Some(CompressionType::None) | None => walk(header.record_count, &body, &mut each),
        Some(codec) => {
            let mut stream = compression
                .decompress(codec, &body)
                .map_err(|_| ErrorCode::CorruptMessage)?;
            walk_stream(header.record_count, &mut *stream, &mut each)
        }
    };
    walked.map_err(|_| ErrorCode::CorruptMessage)?;
    Ok(first)
}

impl<S: LogStore> OffsetsApi for Services<S> {
    async fn list_offset(
        &self,
        topic: &str,
        partition: PartitionId,
        replica: BrokerId,
        isolation: Isolation,
        current_leader_epoch: LeaderEpoch,
        spec: OffsetSpec,
    ) -> ListedOffset {
        let partition = match self.broker.replica(topic, partition) {
            Ok(partition) => partition,
            Err(error) => return listed(error),
        };
        if let Err(error) = partition.check_leader(current_leader_epoch) {
            return listed(error);
        }
        let upper = partition.readable_end(replica, isolation);
        let found = |timestamp, offset, leader_epoch| ListedOffset {
            error: ErrorCode::None,
            timestamp,
            offset,
            leader_epoch,
        };
        match spec {
            OffsetSpec::Latest => found(Timestamp::NONE, upper, partition.leader_epoch()),
            OffsetSpec::Earliest | OffsetSpec::EarliestLocal => found(
                Timestamp::NONE,
                partition.log_start_offset(),
                partition.earliest_epoch(),
            ),
            // Without remote storage nothing is tiered and nothing waits for an upload.
            OffsetSpec::LatestTiered | OffsetSpec::EarliestPendingUpload => listed(ErrorCode::None),
            OffsetSpec::MaxTimestamp | OffsetSpec::At(_) => {
                let tools = Arc::clone(&self.broker.tools);
                let search = move || search(&partition, spec, upper, &*tools.compression);
                match self.broker.blocking(search).await {
                    Err(error) => listed(error),
                    Ok(None) => listed(ErrorCode::None),
                    Ok(Some((timestamp, offset, epoch))) => found(timestamp, offset, epoch),
                }
            }
        }
    }

    fn epoch_end(
        &self,
        topic: &str,
        partition: PartitionId,
        current_leader_epoch: LeaderEpoch,
        leader_epoch: LeaderEpoch,
    ) -> EpochEnd {
        let failed = |error| EpochEnd {
            error,
            leader_epoch: LeaderEpoch::UNKNOWN,
            end_offset: Offset::NONE,
        };
        let found = self.broker.replica(topic, partition).and_then(|partition| {
            partition.check_leader(current_leader_epoch)?;
            Ok(partition.epoch_end(leader_epoch))
        });
        match found {
            Err(error) => failed(error),
            Ok((leader_epoch, end_offset)) => EpochEnd {
                error: ErrorCode::None,
                leader_epoch,
                end_offset,
            },
        }
    }

    async fn delete_records(&self, topic: &str, partition: PartitionId, before: Offset) -> Result<Offset, ErrorCode> {
        let partition = self.broker.replica(topic, partition)?;
        if is_internal(topic) {
            return Err(ErrorCode::InvalidTopicException);
        }
        self.broker.blocking(move || partition.delete_records(before)).await
    }

    fn producers(&self, topic: &str, partition: PartitionId) -> Result<Vec<ActiveProducer>, ApiError> {
        let partition = self.broker.replica(topic, partition)?;
        partition.check_leader(LeaderEpoch::UNKNOWN)?;
        Ok(partition.active_producers())
    }
}
