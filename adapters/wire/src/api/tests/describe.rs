use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest as ProducersTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::*;

use super::*;
use crate::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResponse};

fn name(name: &'static str) -> StrBytes {
    StrBytes::from_static_str(name)
}

#[tokio::test]
async fn epochs_end_somewhere() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(23) {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(1)
            .with_leader_epoch(3);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(name("topic").into())
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let response: OffsetForLeaderEpochResponse = ask(&fixture, 23, version, &request).await;
        let end = &response.topics[0].partitions[0];
        assert_eq!((end.partition, end.leader_epoch, end.end_offset), (1, 3, 10));
    }
}

#[tokio::test]
async fn there_are_no_acls() {
    for kind in [ListenerKind::Broker, ListenerKind::Controller] {
        let fixture = Fixture::start(kind);
        for version in versions(29) {
            let request = DescribeAclsRequest::default();
            let response: DescribeAclsResponse = ask(&fixture, 29, version, &request).await;
            assert_eq!(response.error_code, ErrorCode::SecurityDisabled.number());
        }
    }
}

fn configs_of(kind: i8, resource: &'static str, names: Option<Vec<StrBytes>>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(name(resource))
        .with_configuration_keys(names)
}

#[tokio::test]
async fn settings_are_described_in_every_version() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(32) {
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![
                configs_of(2, "topic", Some(vec![name("segment.bytes")])),
                configs_of(4, "1", None),
                configs_of(4, "", None),
                configs_of(2, "absent", None),
                configs_of(4, "2", None),
                configs_of(4, "x", None),
            ])
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3);
        let response: DescribeConfigsResponse = ask(&fixture, 32, version, &request).await;
        let [topic, broker, all, absent, other, no_number] = &response.results[..] else {
            panic!("{response:?}");
        };
        let [segment] = &topic.configs[..] else {
            panic!("{topic:?}");
        };
        assert_eq!(segment.value.as_deref(), Some("1048576"));
        assert_eq!(segment.config_source, 4, "static");
        assert!(
            segment
                .synonyms
                .iter()
                .any(|one| one.name.as_str() == "log.segment.bytes")
        );
        assert_eq!(segment.config_type, if version >= 3 { 3 } else { 0 });
        assert_eq!(
            segment.documentation.as_ref().is_some_and(|doc| !doc.is_empty()),
            version >= 3
        );
        assert!(broker.configs.len() > 200);
        assert!(all.configs.is_empty() && all.error_code == 0);
        assert_eq!(absent.error_code, ErrorCode::UnknownTopicOrPartition.number());
        let message = "Unexpected broker id, expected 1 or empty string, but received 2";
        assert_eq!(other.error_message.as_deref(), Some(message));
        assert_eq!(no_number.error_code, ErrorCode::InvalidRequest.number());
    }
    let unknown =
        DescribeConfigsRequest::default().with_resources(vec![configs_of(99, "x", None), configs_of(2, "topic", None)]);
    let response: DescribeConfigsResponse = ask(&fixture, 32, 4, &unknown).await;
    let refused = ErrorCode::InvalidRequest.number();
    assert!(response.results.iter().all(|result| result.error_code == refused));
}

#[tokio::test]
async fn log_directories_are_described() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(35) {
        let all = DescribeLogDirsRequest::default().with_topics(None);
        let response: DescribeLogDirsResponse = ask(&fixture, 35, version, &all).await;
        let [online, offline] = &response.results[..] else {
            panic!("{response:?}");
        };
        assert_eq!((online.log_dir.as_str(), online.error_code), ("/data", 0));
        let partitions = online.topics[0].partitions.iter();
        assert!(
            partitions
                .map(|one| (one.partition_index, one.partition_size))
                .eq([(0, 100), (1, 100)])
        );
        assert_eq!(online.total_bytes, if version >= 4 { 1000 } else { -1 });
        assert_eq!(offline.error_code, ErrorCode::KafkaStorageError.number());
        assert!(offline.topics.is_empty());

        let topic = DescribableLogDirTopic::default()
            .with_topic(name("topic").into())
            .with_partitions(vec![1, 5]);
        let some = DescribeLogDirsRequest::default().with_topics(Some(vec![topic]));
        let response: DescribeLogDirsResponse = ask(&fixture, 35, version, &some).await;
        let partitions = response.results[0].topics[0].partitions.iter();
        assert!(partitions.map(|one| one.partition_index).eq([1]));
    }
}

#[tokio::test]
async fn brokers_describe_brokers_and_controllers_controllers() {
    let (broker, controller) = (
        Fixture::start(ListenerKind::Broker),
        Fixture::start(ListenerKind::Controller),
    );
    for version in versions(60) {
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let response: DescribeClusterResponse = ask(&broker, 60, version, &request).await;
        assert_eq!((response.error_code, response.controller_id.0), (0, 1));
        assert_eq!(response.cluster_id.as_str(), "cluster");
        assert_eq!(response.brokers[0].host.as_str(), "example.org");
        assert_eq!(response.cluster_authorized_operations, operations::ON_CLUSTER);

        let response: DescribeClusterResponse = ask(&controller, 60, version, &request).await;
        let mismatch = if version == 0 {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::MismatchedEndpointType
        };
        assert_eq!(response.error_code, mismatch.number());
        if version >= 1 {
            let response: DescribeClusterResponse =
                ask(&controller, 60, version, &request.clone().with_endpoint_type(2)).await;
            assert_eq!((response.error_code, response.endpoint_type), (0, 2));
            assert_eq!(response.brokers[0].host.as_str(), "controller.example.org");
            assert_eq!(response.controller_id.0, 1);
        }
    }
}

#[tokio::test]
async fn producers_of_unknown_topics_are_unknown() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let topic = |topic| {
        ProducersTopic::default()
            .with_name(name(topic).into())
            .with_partition_indexes(vec![0])
    };
    let request = DescribeProducersRequest::default().with_topics(vec![topic("topic"), topic("absent"), topic("a b")]);
    let response: DescribeProducersResponse = ask(&fixture, 61, 0, &request).await;
    let errors = response.topics.iter().map(|topic| topic.partitions[0].error_code);
    let expected = [
        ErrorCode::None,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::InvalidTopicException,
    ];
    assert!(errors.eq(expected.map(ErrorCode::number)));
}

#[tokio::test]
async fn what_has_settings_is_listed() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let none = ListConfigResourcesRequest::default();
    let response: ListConfigResourcesResponse = ask(&fixture, 74, 0, &none).await;
    assert!(response.config_resources.is_empty() && response.error_code == 0);
    let response: ListConfigResourcesResponse = ask(&fixture, 74, 1, &none).await;
    let listed = response
        .config_resources
        .iter()
        .map(|one| (one.resource_type, one.resource_name.as_str()));
    assert!(listed.eq([(8, "1"), (4, "1"), (2, "topic")]));
    let topics = ListConfigResourcesRequest::default().with_resource_types(vec![2]);
    let response: ListConfigResourcesResponse = ask(&fixture, 74, 1, &topics).await;
    assert_eq!(response.config_resources.len(), 1);
    let unknown = ListConfigResourcesRequest::default().with_resource_types(vec![2, 77]);
    let response: ListConfigResourcesResponse = ask(&fixture, 74, 1, &unknown).await;
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.number());
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let topic = |topic| TopicRequest::default().with_name(name(topic).into());
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(vec![topic("topic"), topic("absent")])
            .with_response_partition_limit(1)
            .with_cursor(cursor);
        let response: DescribeTopicPartitionsResponse = ask(&fixture, 75, 0, &request).await;
        for topic in &response.topics {
            let name = topic.name.as_deref().unwrap().to_string();
            let partitions: Vec<_> = topic
                .partitions
                .iter()
                .map(|one| (one.partition_index, one.leader_id.0))
                .collect();
            seen.push((name, topic.error_code, partitions));
        }
        match response.next_cursor {
            Some(next) => {
                cursor = Some(
                    Cursor::default()
                        .with_topic_name(next.topic_name)
                        .with_partition_index(next.partition_index),
                );
            }
            None => break,
        }
    }
    let unknown = ErrorCode::UnknownTopicOrPartition.number();
    let expected = [
        ("absent".to_owned(), unknown, vec![]),
        ("topic".to_owned(), 0, vec![(0, 1)]),
        ("topic".to_owned(), 0, vec![(1, 1)]),
    ];
    assert_eq!(seen, expected);

    let all = DescribeTopicPartitionsRequest::default();
    let response: DescribeTopicPartitionsResponse = ask(&fixture, 75, 0, &all).await;
    assert_eq!(response.topics[0].partitions.len(), 2);
    assert!(response.next_cursor.is_none());

    let elsewhere = Cursor::default().with_topic_name(name("elsewhere").into());
    let wrong = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![TopicRequest::default().with_name(name("topic").into())])
        .with_cursor(Some(elsewhere));
    let response: DescribeTopicPartitionsResponse = ask(&fixture, 75, 0, &wrong).await;
    assert_eq!(response.topics[0].error_code, ErrorCode::InvalidRequest.number());
}
