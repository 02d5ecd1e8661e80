use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::*;
use ottla_domain::ports::inbound::ViewApi;

use super::*;

fn name(name: &'static str) -> StrBytes {
    StrBytes::from_static_str(name)
}

fn new_topic(topic: &'static str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic).into())
        .with_num_partitions(partitions)
        .with_replication_factor(1)
}

#[tokio::test]
async fn topics_are_created_in_every_version() {
    for version in versions(19) {
        let fixture = Fixture::start(ListenerKind::Broker);
        let config = CreatableTopicConfig::default()
            .with_name(name("retention.ms"))
            .with_value(Some(name("1000")));
        let request = CreateTopicsRequest::default().with_topics(vec![
            new_topic("new", 3).with_configs(vec![config]),
            new_topic("topic", 1),
            new_topic("a b", 1),
        ]);
        let response: CreateTopicsResponse = ask(&fixture, 19, version, &request).await;
        let [new, exists, illegal] = &response.topics[..] else {
            panic!("{response:?}");
        };
        assert_eq!((new.name.as_str(), new.error_code), ("new", 0));
        assert_eq!(new.topic_id.is_nil(), version < 7);
        assert_eq!(exists.error_code, ErrorCode::TopicAlreadyExists.number());
        assert_eq!(exists.error_message.as_deref(), Some("Topic 'topic' already exists."));
        assert_eq!(illegal.error_code, ErrorCode::InvalidTopicException.number());
        if version >= 5 {
            assert_eq!((new.num_partitions, new.replication_factor), (3, 1));
            let configs = new.configs.as_ref().unwrap();
            let retention = configs
                .iter()
                .find(|config| config.name.as_str() == "retention.ms")
                .unwrap();
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
        }
        assert_eq!(fixture.node.image().topics.by_name("new").unwrap().partitions.len(), 3);
    }
}

#[tokio::test]
async fn a_refusal_of_all_topics_is_told_for_each() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let request = CreateTopicsRequest::default().with_topics(vec![new_topic("a", 9999), new_topic("b", 9999)]);
    let response: CreateTopicsResponse = ask(&fixture, 19, 7, &request).await;
    let errors = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.error_code));
    let refused = ErrorCode::PolicyViolation.number();
    assert!(errors.eq([("a", refused), ("b", refused)]));
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_id() {
    for version in versions(20) {
        let fixture = Fixture::start(ListenerKind::Broker);
        let request = if version >= 6 {
            DeleteTopicsRequest::default().with_topics(vec![
                DeleteTopicState::default().with_topic_id(TOPIC_ID),
                DeleteTopicState::default().with_name(Some(name("absent").into())),
            ])
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![name("topic").into(), name("absent").into()])
        };
        let mut response: DeleteTopicsResponse = ask(&fixture, 20, version, &request).await;
        response.responses.sort_by_key(|topic| topic.error_code);
        let [deleted, absent] = &response.responses[..] else {
            panic!("{response:?}");
        };
        assert_eq!(
            (deleted.name.as_deref().map(StrBytes::as_str), deleted.error_code),
            (Some("topic"), 0)
        );
        assert_eq!(deleted.topic_id.is_nil(), version < 6);
        assert_eq!(absent.error_code, ErrorCode::UnknownTopicOrPartition.number());
        assert!(fixture.node.image().topics.is_empty());
    }
}

#[tokio::test]
async fn partitions_are_added() {
    for version in versions(37) {
        let fixture = Fixture::start(ListenerKind::Broker);
        let more = |topic, count| {
            CreatePartitionsTopic::default()
                .with_name(name(topic).into())
                .with_count(count)
                .with_assignments(None)
        };
        let request = CreatePartitionsRequest::default().with_topics(vec![more("topic", 5), more("absent", 5)]);
        let response: CreatePartitionsResponse = ask(&fixture, 37, version, &request).await;
        let error = |topic: &str| {
            let mut results = response.results.iter();
            results.find(|result| result.name.as_str() == topic).unwrap().error_code
        };
        assert_eq!(error("topic"), 0);
        assert_eq!(error("absent"), ErrorCode::UnknownTopicOrPartition.number());
        assert_eq!(
            fixture.node.image().topics.by_name("topic").unwrap().partitions.len(),
            5
        );
    }
}

#[tokio::test]
async fn records_are_deleted() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let partition = DeleteRecordsPartition::default().with_partition_index(1).with_offset(6);
    let request = DeleteRecordsRequest::default().with_topics(vec![
        DeleteRecordsTopic::default()
            .with_name(name("topic").into())
            .with_partitions(vec![partition]),
    ]);
    for version in versions(21) {
        let response: DeleteRecordsResponse = ask(&fixture, 21, version, &request).await;
        let deleted = &response.topics[0].partitions[0];
        assert_eq!(
            (deleted.partition_index, deleted.low_watermark, deleted.error_code),
            (1, 6, 0)
        );
    }
}

#[tokio::test]
async fn producers_get_ids_but_no_transactions() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(22) {
        let plain = InitProducerIdRequest::default().with_transactional_id(None);
        let response: InitProducerIdResponse = ask(&fixture, 22, version, &plain).await;
        assert_eq!(
            (response.producer_id.0, response.producer_epoch, response.error_code),
            (4000, 0, 0)
        );
        let transactional = plain.clone().with_transactional_id(Some(name("t").into()));
        let response: InitProducerIdResponse = ask(&fixture, 22, version, &transactional).await;
        assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.number());
        assert_eq!((response.producer_id.0, response.producer_epoch), (-1, -1));
    }
}

#[tokio::test]
async fn settings_are_changed_one_by_one_or_all_at_once() {
    use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let fixture = Fixture::start(ListenerKind::Broker);
    let retention = || {
        let image = fixture.node.image();
        let resource = ottla_domain::metadata::image::ConfigResource::topic("topic");
        image
            .config(&resource)
            .and_then(|config| config.get("retention.ms").cloned())
    };
    for version in versions(44) {
        let set = |topic, value| {
            AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(name(topic))
                .with_configs(vec![
                    AlterableConfig::default()
                        .with_name(name("retention.ms"))
                        .with_value(Some(name(value))),
                ])
        };
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![
            set("topic", "5000"),
            set("absent", "1"),
            set("bad name", "x"),
        ]);
        let response: IncrementalAlterConfigsResponse = ask(&fixture, 44, version, &request).await;
        let errors = response
            .responses
            .iter()
            .map(|one| (one.resource_name.as_str(), one.error_code == 0));
        assert!(
            errors.eq([("topic", true), ("absent", false), ("bad name", false)]),
            "{response:?}"
        );
        assert_eq!(retention().as_deref(), Some("5000"));
    }
    for version in versions(33) {
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(name("topic"));
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let response: AlterConfigsResponse = ask(&fixture, 33, version, &request).await;
        assert_eq!(
            (response.responses[0].resource_type, response.responses[0].error_code),
            (2, 0)
        );
        assert_eq!(retention(), None);
    }
}

#[tokio::test]
async fn leaders_are_elected() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(43) {
        let partitions = TopicPartitions::default()
            .with_topic(name("topic").into())
            .with_partitions(vec![0, 7]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![partitions]));
        let response: ElectLeadersResponse = ask(&fixture, 43, version, &request).await;
        let results = response.replica_election_results[0].partition_result.iter();
        let errors = results.map(|result| (result.partition_id, result.error_code));
        let not_needed = ErrorCode::ElectionNotNeeded.number();
        assert!(errors.eq([(0, not_needed), (7, ErrorCode::UnknownTopicOrPartition.number())]));
    }
}

#[tokio::test]
async fn features_are_updated() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(57) {
        let update = |feature, level| {
            let update = FeatureUpdateKey::default()
                .with_feature(name(feature))
                .with_max_version_level(level);
            UpdateFeaturesRequest::default().with_feature_updates(vec![update])
        };
        let response: UpdateFeaturesResponse = ask(&fixture, 57, version, &update("metadata.version", 30)).await;
        assert_eq!(response.error_code, 0, "{response:?}");
        assert_eq!(response.results.len(), usize::from(version < 2));
        let response: UpdateFeaturesResponse = ask(&fixture, 57, version, &update("no.such.feature", 1)).await;
        assert_ne!(response.error_code, 0);
        assert!(response.error_message.is_some());
    }
}

#[tokio::test]
async fn brokers_are_unregistered() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let request = UnregisterBrokerRequest::default().with_broker_id(9.into());
    let response: UnregisterBrokerResponse = ask(&fixture, 64, 0, &request).await;
    assert_eq!(response.error_code, ErrorCode::BrokerIdNotRegistered.number());
    let request = UnregisterBrokerRequest::default().with_broker_id(1.into());
    let response: UnregisterBrokerResponse = ask(&fixture, 64, 0, &request).await;
    assert_eq!(response.error_code, 0);
    assert!(fixture.node.image().brokers.is_empty());
}
