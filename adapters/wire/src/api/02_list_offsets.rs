//! ListOffsets: the offsets that belong to timestamps, and those that stand for the ends of a log.
//!
//! - Version 1: one offset, with its timestamp. 2: isolation levels (KIP-98). 4: leader epochs (KIP-320).
//! - Version 5: OFFSET_NOT_AVAILABLE, which older clients are told as LEADER_NOT_AVAILABLE (KIP-207). 6: flexible.
//! - Version 7: -3, the largest timestamp (KIP-734). 8: -4, the earliest local offset (KIP-405). 9: -5, the latest tiered
//!   one (KIP-1005). 10: a timeout for remote storage (KIP-1075). 11: -6, the earliest pending upload (KIP-1023).
//!
//! A partition named twice gets INVALID_REQUEST, once.

use std::collections::BTreeSet;

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, LeaderEpoch, Offset, PartitionId, Timestamp};
use ottla_domain::ports::inbound::{Isolation, ListedOffset, OffsetSpec};

use super::{Api, Call};
use crate::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::node::Node;

pub(super) static API: Api = Api::broker(2, "ListOffsets", (1, 11), 6);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let version = call.version();
    let replica = BrokerId(request.replica_id.0);
    let isolation = if request.isolation_level == 1 {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    };
    let duplicates = duplicates(&request);
    let mut told = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let listed = if duplicates.contains(&(&*topic.name, partition.partition_index)) {
                if !told.insert((&*topic.name, partition.partition_index)) {
                    continue;
                }
                none(ErrorCode::InvalidRequest)
            } else if let Some(spec) = spec(version, partition.timestamp) {
                let epoch = LeaderEpoch(partition.current_leader_epoch);
                let partition = PartitionId(partition.partition_index);
                call.node
                    .list_offset(&topic.name, partition, replica, isolation, epoch, spec)
                    .await
            } else {
                none(ErrorCode::UnsupportedVersion)
            };
            partitions.push(render(version, partition.partition_index, listed));
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

fn duplicates(request: &ListOffsetsRequest) -> BTreeSet<(&str, i32)> {
    let mut seen = BTreeSet::new();
    let partitions = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| (&**topic.name, partition.partition_index))
    });
    partitions.filter(|partition| !seen.insert(*partition)).collect()
}

/// What a timestamp stands for, if this version has it.
fn spec(version: i16, timestamp: i64) -> Option<OffsetSpec> {
    let (spec, since) = match timestamp {
        -1 => (OffsetSpec::Latest, 1),
        -2 => (OffsetSpec::Earliest, 1),
        -3 => (OffsetSpec::MaxTimestamp, 7),
        -4 => (OffsetSpec::EarliestLocal, 8),
        -5 => (OffsetSpec::LatestTiered, 9),
        -6 => (OffsetSpec::EarliestPendingUpload, 11),
        ..=-7 => return None,
        at => (OffsetSpec::At(Timestamp(at)), 1),
    };
    (version >= since).then_some(spec)
}

fn none(error: ErrorCode) -> ListedOffset {
    ListedOffset {
        error,
        timestamp: Timestamp::NONE,
        offset: Offset::NONE,
        leader_epoch: LeaderEpoch::UNKNOWN,
    }
}

fn render(version: i16, partition: i32, listed: ListedOffset) -> ListOffsetsPartitionResponse {
    let error = match listed.error {
        ErrorCode::OffsetNotAvailable if version < 5 => ErrorCode::LeaderNotAvailable,
        error => error,
    };
    let response = ListOffsetsPartitionResponse::default()
        .with_partition_index(partition)
        .with_error_code(error.number())
        .with_timestamp(listed.timestamp.0)
        .with_offset(listed.offset.0);
    if version >= 4 {
        response.with_leader_epoch(listed.leader_epoch.0)
    } else {
        response
    }
}
