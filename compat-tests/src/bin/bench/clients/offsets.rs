//! Committed offsets of groups without members, as simple consumers keep them.
use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest};
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::{Connection, encode};
use ottla_compat_tests::requests::{Topic, text, topic_name};

use super::pipeline::{CORRELATION_AT, Pipeline};
use crate::ready::poll;

const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 8;
const FIND_VERSION: i16 = 4;

/// A connection that commits an offset of each of so many partitions, one request a group.
pub fn committer(node: &Node, topic: &Topic, partitions: i32, groups: &[String], offset: i64) -> Pipeline {
    let requests: Vec<_> = groups
        .iter()
        .map(|group| commit(topic, partitions, group, offset))
        .collect();
    // Tags, throttle time, the number of topics, the topic's name, the number of partitions, the first partition.
    let partitions_bytes = if partitions < 127 { 1 } else { 2 };
    let error_at = CORRELATION_AT + 4 + 1 + 4 + 1 + 1 + topic.name.len() + partitions_bytes + 4;
    Pipeline::open(node, &requests, error_at)
}

fn commit(topic: &Topic, partitions: i32, group: &str, offset: i64) -> Bytes {
    let partitions = (0..partitions).map(|partition| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("")))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(&topic.name))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    encode(COMMIT_VERSION, 0, &request)
}

/// Waits until groups have a coordinator that has loaded them.
pub fn wait_coordinated(on: &mut Connection, topic: &Topic, groups: &[String]) {
    for group in groups {
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        poll("coordinator", || {
            let found = on.call(FIND_VERSION, &find).expect("answer").coordinators;
            (found[0].error_code == 0).then_some(())
        });
        wait_fetched(on, topic, 0, group);
    }
}

/// Waits until the coordinator tells the committed offset of a partition, -1 if there is none.
pub fn wait_fetched(on: &mut Connection, topic: &Topic, partition: i32, group: &str) -> i64 {
    let topics = OffsetFetchRequestTopics::default()
        .with_name(topic_name(&topic.name))
        .with_partition_indexes(vec![partition]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(text(group).into())
        .with_member_epoch(-1)
        .with_topics(Some(vec![topics]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    poll("committed offsets", || {
        let answer = on.call(FETCH_VERSION, &request).expect("answer").groups.remove(0);
        (answer.error_code == 0).then(|| answer.topics[0].partitions[0].committed_offset)
    })
}
