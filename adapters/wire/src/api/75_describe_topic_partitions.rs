//! DescribeTopicPartitions: topics and partitions page by page, with their eligible leader replicas (KIP-966).
//!
//! - A page holds as many partitions as the client or `max.request.partition.size.limit` allows. The cursor names the first
//!   partition of the next one.
//! - An empty list asks for all topics. Topics come in the order of their names.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, PartitionId};
use ottla_domain::metadata::config::effective::NodeConfig;
use ottla_domain::metadata::records::PartitionRecord;
use ottla_domain::partitioning::names;

use super::endpoints::{Sight, text};
use super::{Api, Call, operations};
use crate::node::Node;

pub(super) static API: Api = Api::broker(75, "DescribeTopicPartitions", (0, 0), 0);

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = &call.node.image();
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (&**cursor.topic_name, cursor.partition_index),
        None => ("", 0),
    };
    let named: BTreeSet<&str> = request.topics.iter().map(|topic| &**topic.name).collect();
    let cursor_is_named = named.is_empty() || request.cursor.is_none() || named.contains(first_topic);
    if first_partition < 0 || !cursor_is_named {
        return refuse(&request);
    }
    let config = NodeConfig::of(image, call.node.node_id(), call.node.properties());
    let limit = config
        .number("max.request.partition.size.limit")
        .min(request.response_partition_limit.into());
    let mut room = usize::try_from(limit).unwrap_or(0).max(1);
    let names: Box<dyn Iterator<Item = &str>> = if named.is_empty() {
        Box::new(image.topics.from_name(first_topic).map(|topic| &*topic.name))
    } else {
        Box::new(named.range(first_topic..).copied())
    };
    let sight = &Sight {
        image,
        listener: &call.listener.name,
    };
    let mut topics = Vec::new();
    let mut next = None;
    for name in names {
        if room == 0 {
            next = Some((name, 0));
            break;
        }
        let Some(topic) = image.topics.by_name(name) else {
            topics.push(absent(name));
            continue;
        };
        let first = PartitionId(if name == first_topic { first_partition } else { 0 });
        let mut rest = topic.partitions.range(first..).map(|(_, partition)| partition);
        let partitions: Vec<_> = rest.by_ref().take(room).map(|one| render(sight, one)).collect();
        room -= partitions.len();
        topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(text(name).into()))
                .with_topic_id(topic.id.0)
                .with_is_internal(names::is_internal(name))
                .with_partitions(partitions)
                .with_topic_authorized_operations(operations::ON_TOPIC),
        );
        if let Some(partition) = rest.next() {
            next = Some((name, partition.partition_id));
            break;
        }
    }
    let next = next.map(|(name, partition)| {
        Cursor::default()
            .with_topic_name(text(name).into())
            .with_partition_index(partition)
    });
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next)
}

fn refuse(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic.name.clone()))
            .with_error_code(ErrorCode::InvalidRequest.number())
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}

fn absent(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match names::validate(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(text(name).into()))
        .with_error_code(error.number())
        .with_is_internal(names::is_internal(name))
        .with_topic_authorized_operations(operations::ON_TOPIC)
}

fn render(sight: &Sight<'_>, partition: &PartitionRecord) -> DescribeTopicPartitionsResponsePartition {
    let ids = |ids: &[i32]| ids.iter().copied().map(Into::into).collect();
    let alive = |replicas: &[i32]| -> Vec<_> {
        let replicas = replicas.iter().copied().filter(|id| sight.is_alive(*id));
        replicas.map(Into::into).collect()
    };
    let leader = sight
        .image
        .broker(BrokerId(partition.leader))
        .and_then(|broker| sight.endpoint(broker));
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(partition.partition_id)
        .with_leader_id(leader.map_or(BrokerId::NONE, |leader| leader.node).0.into())
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(alive(&partition.replicas))
        .with_isr_nodes(alive(&partition.isr))
        .with_eligible_leader_replicas(Some(ids(partition
            .eligible_leader_replicas
            .as_deref()
            .unwrap_or_default())))
        .with_last_known_elr(Some(ids(partition.last_known_elr.as_deref().unwrap_or_default())))
        .with_offline_replicas(sight.offline_replicas(partition).into_iter().map(Into::into).collect())
}
