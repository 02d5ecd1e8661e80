//! Metadata: brokers, topics and partitions, as the listener's clients reach them.
//!
//! - Version 0: an empty list is all topics, and dead brokers stay in the lists of replicas, with an error. 1: null is all
//!   topics; racks, the controller. 2: the cluster's id. 4: the client says whether topics may be created.
//! - Version 5: offline replicas. 6: LISTENER_NOT_FOUND, which older clients are told as LEADER_NOT_AVAILABLE.
//! - Version 7: leader epochs (KIP-320). 8: authorized operations (KIP-430). 9: flexible. 10: topic ids in answers.
//! - Version 11: no more operations on the cluster. 12: topics by id (KIP-516). 13: an error of the whole (KIP-1102).
//!
//! The controller told is a broker, as in Apache Kafka: brokers forward what a controller must do.

use std::collections::BTreeSet;

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, TopicId};
use ottla_domain::metadata::records::PartitionRecord;
use ottla_domain::metadata::topics::TopicImage;
use ottla_domain::partitioning::names;
use uuid::Uuid;

use super::endpoints::{Sight, text};
use super::{Api, Call, operations};
use crate::node::Node;

pub(super) static API: Api = Api::broker(3, "Metadata", (0, 13), 9);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: MetadataRequest) -> MetadataResponse {
    let version = call.version();
    let named = request.topics.as_deref().unwrap_or_default();
    if version < 12
        && named
            .iter()
            .any(|topic| topic.name.is_none() || !topic.topic_id.is_nil())
    {
        return refuse(version, &request);
    }
    let image = &call.node.image();
    let sight = &Sight {
        image,
        listener: &call.listener.name,
    };
    let mut topics = Vec::new();
    let mut missing = Vec::new();
    if request.topics.is_none() || (version == 0 && named.is_empty()) {
        topics.extend(image.topics.iter().filter_map(|topic| render(version, sight, topic)));
    } else if named.iter().any(|topic| !topic.topic_id.is_nil()) {
        let ids: BTreeSet<Uuid> = named
            .iter()
            .map(|topic| topic.topic_id)
            .filter(|id| !id.is_nil())
            .collect();
        let is_known = |id: &&Uuid| image.topics.by_id(TopicId(**id)).is_some();
        topics.extend(ids.iter().filter(|id| !is_known(id)).map(|id| {
            MetadataResponseTopic::default()
                .with_error_code(ErrorCode::UnknownTopicId.number())
                .with_name(None)
                .with_topic_id(*id)
        }));
        let known = ids.iter().filter_map(|id| image.topics.by_id(TopicId(*id)));
        topics.extend(known.filter_map(|topic| render(version, sight, topic)));
    } else {
        let mut seen = BTreeSet::new();
        for name in named.iter().filter_map(|topic| topic.name.as_deref()) {
            if !seen.insert(&**name) {
                continue;
            }
            match image
                .topics
                .by_name(name)
                .and_then(|topic| render(version, sight, topic))
            {
                Some(topic) => topics.push(topic),
                None => missing.push(&**name),
            }
        }
        topics.extend(missing.iter().map(|name| absent(name)));
    }
    missing.retain(|name| names::validate(name).is_ok());
    if request.allow_auto_topic_creation && !missing.is_empty() {
        call.node
            .auto_create_topics(missing.into_iter().map(str::to_owned).collect());
    }
    if version >= 8 && request.include_topic_authorized_operations {
        for topic in topics.iter_mut().filter(|topic| topic.name.is_some()) {
            topic.topic_authorized_operations = operations::ON_TOPIC;
        }
    }
    let mut response = MetadataResponse::default()
        .with_brokers(
            sight
                .alive()
                .map(|endpoint| {
                    MetadataResponseBroker::default()
                        .with_node_id(endpoint.node.0.into())
                        .with_host(StrBytes::from_string(endpoint.host))
                        .with_port(endpoint.port)
                        .with_rack(endpoint.rack.filter(|_| version >= 1).map(StrBytes::from_string))
                })
                .collect(),
        )
        .with_controller_id(sight.controller(call.node.node_id()).0.into())
        .with_topics(topics);
    if version >= 2 {
        response.cluster_id = Some(text(call.node.cluster_id()));
    }
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = operations::ON_CLUSTER;
    }
    response
}

fn refuse(version: i16, request: &MetadataRequest) -> MetadataResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        let response = MetadataResponseTopic::default()
            .with_error_code(ErrorCode::InvalidRequest.number())
            .with_name(Some(topic.name.clone().unwrap_or_default()));
        if version >= 10 {
            response.with_topic_id(topic.topic_id)
        } else {
            response
        }
    });
    MetadataResponse::default().with_topics(topics.collect())
}

fn absent(name: &str) -> MetadataResponseTopic {
    let error = match names::validate(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    MetadataResponseTopic::default()
        .with_error_code(error.number())
        .with_name(Some(text(name).into()))
        .with_is_internal(names::is_internal(name))
}

/// A topic without partitions is as good as absent: its creation is under way.
fn render(version: i16, sight: &Sight<'_>, topic: &TopicImage) -> Option<MetadataResponseTopic> {
    if topic.partitions.is_empty() {
        return None;
    }
    let partitions = topic.partitions.values().map(|one| partition(version, sight, one));
    let response = MetadataResponseTopic::default()
        .with_name(Some(text(&topic.name).into()))
        .with_is_internal(names::is_internal(&topic.name))
        .with_partitions(partitions.collect());
    Some(if version >= 10 {
        response.with_topic_id(topic.id.0)
    } else {
        response
    })
}

fn partition(version: i16, sight: &Sight<'_>, partition: &PartitionRecord) -> MetadataResponsePartition {
    let alive = |replicas: &[i32]| -> Vec<i32> {
        let replicas = replicas.iter().copied();
        replicas.filter(|id| version == 0 || sight.is_alive(*id)).collect()
    };
    let (replicas, isr) = (alive(&partition.replicas), alive(&partition.isr));
    let leader = sight.image.broker(BrokerId(partition.leader));
    let (error, leader) = match leader {
        None => (ErrorCode::LeaderNotAvailable, BrokerId::NONE),
        Some(leader) if sight.endpoint(leader).is_some() => {
            let all_alive = replicas.len() == partition.replicas.len() && isr.len() == partition.isr.len();
            let error = if all_alive {
                ErrorCode::None
            } else {
                ErrorCode::ReplicaNotAvailable
            };
            (error, BrokerId(leader.broker_id))
        }
        Some(_) if version >= 6 => (ErrorCode::ListenerNotFound, BrokerId::NONE),
        Some(_) => (ErrorCode::LeaderNotAvailable, BrokerId::NONE),
    };
    let ids = |ids: Vec<i32>| ids.into_iter().map(Into::into).collect();
    let mut response = MetadataResponsePartition::default()
        .with_error_code(error.number())
        .with_partition_index(partition.partition_id)
        .with_leader_id(leader.0.into())
        .with_replica_nodes(ids(replicas))
        .with_isr_nodes(ids(isr));
    if version >= 5 {
        response.offline_replicas = ids(sight.offline_replicas(partition));
    }
    if version >= 7 {
        response.leader_epoch = partition.leader_epoch;
    }
    response
}
