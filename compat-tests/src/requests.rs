//! Requests of the wire protocol, as cases need them most often.
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest, ProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::raw::Connection;
use crate::records::Batch;
use crate::scenario::wait_for;

/// A topic of a case.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
}

/// Creates a topic and waits until its partitions are led.
pub fn create_topic(on: &mut Connection, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
    let created = ask_to_create(on, name, partitions, configs);
    assert_eq!(created.error_code, 0, "{created:?}");
    led(on, name, created.topic_id, partitions)
}

/// The same for one partition, where a client that asks for the metadata of the topic may come first: that creates it too.
pub fn create_topic_if_missing(on: &mut Connection, name: &str) -> Topic {
    let created = ask_to_create(on, name, 1, &[]);
    assert!(matches!(created.error_code, 0 | 36), "{created:?}");
    let id = wait_for(
        || {
            let known = on.call(12, &metadata(&[name])).unwrap().topics.remove(0);
            (known.error_code == 0).then_some(known.topic_id)
        },
        || format!("{name} is not known"),
    );
    led(on, name, id, 1)
}

/// A topic, once its partitions are led.
fn led(on: &mut Connection, name: &str, id: Uuid, partitions: i32) -> Topic {
    let topic = Topic {
        name: name.to_owned(),
        id,
    };
    wait_led(on, &topic, partitions);
    topic
}

fn ask_to_create(on: &mut Connection, name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopicResult {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    on.call(7, &request).unwrap().topics.remove(0)
}

/// Waits until all of a topic's partitions are led.
pub fn wait_led(on: &mut Connection, topic: &Topic, partitions: i32) {
    let all: Vec<_> = (0..partitions).map(|partition| (partition, -1)).collect();
    wait_for(
        || {
            let answer = on.call(7, &list_offsets(topic, &all)).unwrap();
            answer.topics[0]
                .partitions
                .iter()
                .all(|partition| partition.error_code == 0)
                .then_some(())
        },
        || format!("{} has no leader", topic.name),
    );
}

/// Deletes a topic.
pub fn delete_topic(on: &mut Connection, topic: &Topic) {
    let named = DeleteTopicState::default().with_name(Some(topic_name(&topic.name)));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![named])
        .with_timeout_ms(10_000);
    let deleted = on.call(6, &request).unwrap().responses.remove(0);
    assert_eq!(deleted.error_code, 0, "{deleted:?}");
}

/// Waits until the broker does not know the name of a topic any more.
pub fn wait_gone(on: &mut Connection, topic: &Topic) {
    wait_for(
        || {
            let answer = on.call(9, &metadata(&[&topic.name])).unwrap();
            (answer.topics[0].error_code == 3).then_some(())
        },
        || format!("{} is still there", topic.name),
    );
}

/// Produces to a partition, which must succeed; returns the base offset.
pub fn append(on: &mut Connection, topic: &Topic, partition: i32, batch: &Batch) -> i64 {
    let request = produce(9, topic, -1, &[(partition, Some(batch.encode()))]);
    let mut answer = on.call(9, &request).unwrap().responses.remove(0);
    let answer = answer.partition_responses.remove(0);
    assert_eq!(answer.error_code, 0, "{answer:?}");
    answer.base_offset
}

/// A string of a message.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

/// The name of a topic in a message.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A Produce request in the shape of a version: by name before 13, by id since.
pub fn produce(version: i16, topic: &Topic, acks: i16, partitions: &[(i32, Option<Bytes>)]) -> ProduceRequest {
    let partitions = partitions.iter().map(|(index, records)| {
        PartitionProduceData::default()
            .with_index(*index)
            .with_records(records.clone())
    });
    let data = TopicProduceData::default().with_partition_data(partitions.collect());
    let data = match version {
        ..13 => data.with_name(topic_name(&topic.name)),
        _ => data.with_topic_id(topic.id),
    };
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data])
}

/// A Fetch request in the shape of a version: by name before 13, by id since.
pub fn fetch(version: i16, topic: &Topic, partitions: Vec<FetchPartition>) -> FetchRequest {
    let data = FetchTopic::default().with_partitions(partitions);
    let data = match version {
        ..13 => data.with_topic(topic_name(&topic.name)),
        _ => data.with_topic_id(topic.id),
    };
    let request = FetchRequest::default()
        .with_max_bytes(50_000_000)
        .with_min_bytes(1)
        .with_topics(vec![data]);
    match version {
        ..7 => request,
        _ => request.with_session_epoch(-1),
    }
}

/// One partition of a Fetch request.
pub fn at(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1_000_000)
}

/// A ListOffsets request for (partition, timestamp).
pub fn list_offsets(topic: &Topic, partitions: &[(i32, i64)]) -> ListOffsetsRequest {
    let partitions = partitions.iter().map(|(index, time)| {
        ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_timestamp(*time)
    });
    let data = ListOffsetsTopic::default()
        .with_name(topic_name(&topic.name))
        .with_partitions(partitions.collect());
    ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![data])
}

/// An InitProducerId request of a producer without transactions.
pub fn init_producer_id(id: i64, epoch: i16) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch)
}

/// A Metadata request for topics by name.
pub fn metadata(names: &[&str]) -> MetadataRequest {
    let topics = names
        .iter()
        .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
    MetadataRequest::default()
        .with_topics(Some(topics.collect()))
        .with_allow_auto_topic_creation(false)
}
