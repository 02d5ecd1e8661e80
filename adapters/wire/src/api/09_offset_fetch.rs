//! OffsetFetch: how far groups have read.
//!
//! - A partition without an offset has -1 and no error, whether or not it exists.
//! - Version 2: null asks for all topics, and a group has an error of its own, which version 1 is told of each partition.
//! - Version 5: leader epochs (KIP-320). 6: flexible. 7: offsets that an open transaction may change are refused (KIP-447).
//! - Version 8: several groups (KIP-709); one that is named twice is answered once. 9: members of consumer groups (KIP-848).
//! - Version 10: topics by id alone; one that is not known gets UNKNOWN_TOPIC_ID, and is left out where all are asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::{GroupId, TopicName};
use ottla_domain::error::ErrorCode;
use ottla_domain::groups::commands::{FetchedOffset, OffsetFetch};
use ottla_domain::ids::{LeaderEpoch, Offset, PartitionId, TopicId};
use ottla_domain::metadata::image::MetadataImage;

use super::endpoints::text;
use super::groups::{shared, shared_option};
use super::{Api, Call};
use crate::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use crate::node::Node;

pub(super) static API: Api = Api::broker(9, "OffsetFetch", (1, 10), 6);
const GROUP_ERRORS_FROM: i16 = 2;
const SEVERAL_GROUPS_FROM: i16 = 8;
const TOPIC_IDS_FROM: i16 = 10;

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if call.version() < SEVERAL_GROUPS_FROM {
        let group = only_group(request);
        let fetched = fetch(call, group.clone(), require_stable).await;
        return render_only_group(call.version(), &group, fetched);
    }
    let mut seen = BTreeSet::new();
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        if seen.insert(group.group_id.clone()) {
            let id = group.group_id.clone();
            groups.push(render(id, fetch(call, group, require_stable).await));
        }
    }
    OffsetFetchResponse::default().with_groups(groups)
}

/// The request of versions up to 7 in the form of later ones.
fn only_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topic = |topic: crate::messages::offset_fetch::OffsetFetchRequestTopic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        };
        topics.into_iter().map(topic).collect()
    });
    OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_topics(topics)
}

/// Committed offsets by topic.
type Fetched = Vec<(TopicName, TopicId, Vec<FetchedOffset>)>;

async fn fetch<N: Node>(
    call: &Call<'_, N>,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> Result<Fetched, ErrorCode> {
    let image = &call.node.image();
    let by_id = call.version() >= TOPIC_IDS_FROM;
    let asks_for_all = group.topics.is_none();
    let mut unknown = Vec::new();
    let topics = group.topics.map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            let partitions = topic.partition_indexes.into_iter().map(PartitionId);
            if !by_id {
                known.push((shared(&topic.name), TopicId::ZERO, partitions.collect()));
                continue;
            }
            let id = TopicId(topic.topic_id);
            match image.topics.by_id(id) {
                Some(topic) => known.push((Arc::clone(&topic.name), id, partitions.collect())),
                None => unknown.push((TopicName::default(), id, partitions.map(not_known).collect())),
            }
        }
        known
    });
    let command = OffsetFetch {
        group_id: shared(&group.group_id),
        member_id: shared_option(group.member_id.as_ref()),
        member_epoch: group.member_epoch,
        topics,
        require_stable,
    };
    let topics = call.node.group(command).await.flatten().map_err(|code| match code {
        // Consumers before 3.9 do not know how to go on after it (`GroupCoordinatorService.handleOffsetFetchException`).
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        code => code,
    })?;
    let named = topics.into_iter().filter_map(|(name, id, offsets)| {
        let id = if by_id && asks_for_all {
            present_id(image, &name, id)?
        } else {
            id
        };
        Some((text(&name).into(), id, offsets))
    });
    Ok(named.chain(unknown).collect())
}

/// The group may know a topic by its name alone; without an id version 10 cannot tell of it.
fn present_id(image: &MetadataImage, name: &str, id: TopicId) -> Option<TopicId> {
    if id == TopicId::ZERO {
        image.topics.by_name(name).map(|topic| topic.id)
    } else {
        Some(id)
    }
}

fn not_known(partition: PartitionId) -> FetchedOffset {
    failed(partition, ErrorCode::UnknownTopicId)
}

fn failed(partition: PartitionId, error: ErrorCode) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: Offset::NONE,
        leader_epoch: LeaderEpoch::UNKNOWN,
        metadata: Arc::default(),
        error,
    }
}

fn render(id: GroupId, fetched: Result<Fetched, ErrorCode>) -> OffsetFetchResponseGroup {
    let group = OffsetFetchResponseGroup::default().with_group_id(id);
    let topics = match fetched {
        Ok(topics) => topics,
        Err(error) => return group.with_error_code(error.number()),
    };
    let topics = topics.into_iter().map(|(name, id, offsets)| {
        let partitions = offsets.into_iter().map(|offset| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(offset.partition.0)
                .with_committed_offset(offset.offset.0)
                .with_committed_leader_epoch(offset.leader_epoch.0)
                .with_metadata(Some(text(&offset.metadata)))
                .with_error_code(offset.error.number())
        });
        OffsetFetchResponseTopics::default()
            .with_name(name)
            .with_topic_id(id.0)
            .with_partitions(partitions.collect())
    });
    group.with_topics(topics.collect())
}

/// The answer of versions up to 7.
fn render_only_group(
    version: i16,
    asked: &OffsetFetchRequestGroup,
    fetched: Result<Fetched, ErrorCode>,
) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    let topics = match fetched {
        Ok(topics) => topics,
        Err(error) if version >= GROUP_ERRORS_FROM => return response.with_error_code(error.number()),
        Err(error) => {
            let topics = asked.topics.iter().flatten().map(|topic| {
                let partitions = topic.partition_indexes.iter();
                let offsets = partitions.map(|partition| failed(PartitionId(*partition), error));
                (topic.name.clone(), TopicId::ZERO, offsets.collect())
            });
            topics.collect()
        }
    };
    let topics = topics.into_iter().map(|(name, _, offsets)| {
        let partitions = offsets.into_iter().map(|offset| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(offset.partition.0)
                .with_committed_offset(offset.offset.0)
                .with_committed_leader_epoch(offset.leader_epoch.0)
                .with_metadata(Some(text(&offset.metadata)))
                .with_error_code(offset.error.number())
        });
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}
