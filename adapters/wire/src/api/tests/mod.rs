mod admin;
mod controller;
mod describe;
mod groups;
mod random;
mod readme;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ottla_domain::error::ErrorCode;

use super::*;
use crate::fake::{Fixture, TOPIC_ID};
use crate::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic};

/// What `kafka-broker-api-versions` prints for a broker of Apache Kafka 4.3.1.
const APACHE_KAFKA: &str = include_str!("../apache_kafka_4_3_1.txt");

fn apache_kafka() -> BTreeMap<i16, (String, i16, i16)> {
    let api = |line: &str| {
        let (name, rest) = line.split_once('(').unwrap();
        let (key, versions) = rest.split_once("): ").unwrap();
        let (min, max) = versions.split_once(" to ").unwrap_or((versions, versions));
        let versions = (min.parse().ok()?, max.parse().ok()?);
        Some((key.parse().unwrap(), (name.to_owned(), versions.0, versions.1)))
    };
    APACHE_KAFKA.lines().filter_map(api).collect()
}

#[test]
fn every_version_of_apache_kafka_is_served_and_no_other() {
    let kafka = apache_kafka();
    for api in APIS.iter().filter(|api| api.broker) {
        let expected = &kafka[&api.key];
        assert_eq!(
            (api.name, api.min_version, api.max_version),
            (expected.0.as_str(), expected.1, expected.2)
        );
    }
    assert!(APIS.is_sorted_by_key(|api| api.key));
    let is_served = |key: &i16| find(*key, ListenerKind::Broker).is_some();
    let gaps = kafka
        .iter()
        .filter(|(key, _)| !is_served(key))
        .map(|(_, api)| api.0.as_str());
    assert_eq!(gaps.collect::<Vec<_>>(), GAPS);
}

/// What brokers of Apache Kafka 4.3.1 serve and Ottla does not yet.
const GAPS: &[&str] = &[
    "SaslHandshake",
    "AddPartitionsToTxn",
    "AddOffsetsToTxn",
    "EndTxn",
    "WriteTxnMarkers",
    "TxnOffsetCommit",
    "CreateAcls",
    "DeleteAcls",
    "AlterReplicaLogDirs",
    "SaslAuthenticate",
    "CreateDelegationToken",
    "RenewDelegationToken",
    "ExpireDelegationToken",
    "DescribeDelegationToken",
    "AlterPartitionReassignments",
    "ListPartitionReassignments",
    "DescribeClientQuotas",
    "AlterClientQuotas",
    "DescribeUserScramCredentials",
    "AlterUserScramCredentials",
    "DescribeTransactions",
    "ListTransactions",
    "ShareGroupHeartbeat",
    "ShareGroupDescribe",
    "ShareFetch",
    "ShareAcknowledge",
    "AddRaftVoter",
    "RemoveRaftVoter",
    "InitializeShareGroupState",
    "ReadShareGroupState",
    "WriteShareGroupState",
    "DeleteShareGroupState",
    "ReadShareGroupStateSummary",
    "StreamsGroupHeartbeat",
    "StreamsGroupDescribe",
    "DescribeShareGroupOffsets",
    "AlterShareGroupOffsets",
    "DeleteShareGroupOffsets",
];

#[test]
fn headers_become_flexible_where_kafka_says() {
    for api in APIS {
        let key = ApiKey::try_from(api.key).unwrap();
        for version in api.min_version..=api.max_version {
            let flexible = version >= api.flexible_from;
            assert_eq!(key.request_header_version(version) >= 2, flexible, "{api:?} {version}");
            if api.key != 18 {
                assert_eq!(key.response_header_version(version) >= 1, flexible, "{api:?} {version}");
            }
        }
    }
}

fn flexible(key: i16, version: i16) -> bool {
    let api = APIS.iter().find(|api| api.key == key).unwrap();
    version >= api.flexible_from
}

fn versions(key: i16) -> std::ops::RangeInclusive<i16> {
    let api = APIS.iter().find(|api| api.key == key).unwrap();
    api.min_version..=api.max_version
}

async fn ask<M: Decodable>(fixture: &Fixture, key: i16, version: i16, request: &impl Encodable) -> M {
    let mut client = fixture.connect().await;
    let flexible = flexible(key, version);
    client.send(key, version, flexible, 77, request).await;
    let (correlation, response) = client.receive(version, flexible && key != 18).await;
    assert_eq!(correlation, 77);
    response
}

fn client_software(name: &'static str) -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(name))
        .with_client_software_version(StrBytes::from_static_str("1.0-x"))
}

#[tokio::test]
async fn api_versions_lists_the_table_and_the_features() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(18) {
        let request = if version >= 3 {
            client_software("a.b")
        } else {
            ApiVersionsRequest::default()
        };
        let response: ApiVersionsResponse = ask(&fixture, 18, version, &request).await;
        assert_eq!(response.error_code, 0);
        let listed = response.api_keys.iter().map(|api| api.api_key);
        assert!(listed.eq(APIS.iter().filter(|api| api.broker).map(|api| api.key)));
        let supported = response.supported_features.iter().map(|feature| feature.name.as_str());
        let expected: &[&str] = match version {
            ..=2 => &[],
            3 => &["metadata.version"],
            _ => &[
                "eligible.leader.replicas.version",
                "group.version",
                "kraft.version",
                "metadata.version",
            ],
        };
        assert!(supported.eq(expected.iter().copied()), "version {version}");
        if version >= 3 {
            assert_eq!(response.finalized_features_epoch, 99);
            let mut finalized: Vec<_> = response
                .finalized_features
                .iter()
                .map(|one| one.name.as_str())
                .collect();
            finalized.sort_unstable();
            assert_eq!(finalized, ["group.version", "kraft.version", "metadata.version"]);
        }
    }
    let response: ApiVersionsResponse = ask(&fixture, 18, 3, &client_software("-")).await;
    assert_eq!(response.error_code, ErrorCode::InvalidRequest.number());
}

#[tokio::test]
async fn an_api_versions_of_the_future_is_answered_in_version_0() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    // The body is in a format that is not known.
    let frame = [0, 0, 0, 13, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff, 0, 9, 9];
    tokio::io::AsyncWriteExt::write_all(&mut client.stream, &frame)
        .await
        .unwrap();
    let (correlation, response) = client.receive::<ApiVersionsResponse>(0, false).await;
    assert_eq!(
        (correlation, response.error_code),
        (5, ErrorCode::UnsupportedVersion.number())
    );
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!(
        (response.api_keys[0].api_key, response.api_keys[0].max_version),
        (18, 4)
    );
}

fn metadata_topic(name: &'static str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(StrBytes::from_static_str(name).into()))
}

#[tokio::test]
async fn metadata_shows_brokers_and_topics_in_every_version() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(3) {
        let all = MetadataRequest::default().with_topics(if version == 0 { Some(Vec::new()) } else { None });
        let response: MetadataResponse = ask(&fixture, 3, version, &all).await;
        assert_eq!(response.brokers[0].host.as_str(), "example.org");
        assert_eq!(response.brokers[0].rack.is_some(), version >= 1);
        assert_eq!(response.cluster_id.is_some(), version >= 2);
        let [topic] = &response.topics[..] else {
            panic!("{response:?}");
        };
        assert_eq!(topic.name.as_deref().map(StrBytes::as_str), Some("topic"));
        assert_eq!(topic.topic_id.is_nil(), version < 10);
        let leaders = topic
            .partitions
            .iter()
            .map(|one| (one.partition_index, one.error_code, one.leader_id.0));
        assert!(leaders.eq([(0, 0, 1), (1, 0, 1)]));

        let some = MetadataRequest::default().with_topics(Some(vec![
            metadata_topic("new"),
            metadata_topic("new"),
            metadata_topic("not new"),
        ]));
        let response: MetadataResponse = ask(&fixture, 3, version, &some).await;
        let errors = response.topics.iter().map(|topic| topic.error_code);
        let expected = [ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidTopicException];
        assert!(errors.eq(expected.map(ErrorCode::number)));
        assert_eq!(std::mem::take(&mut *fixture.node.created.lock()), ["new"]);

        if version >= 1 {
            let none = MetadataRequest::default().with_topics(Some(Vec::new()));
            let response: MetadataResponse = ask(&fixture, 3, version, &none).await;
            assert!(response.topics.is_empty());
        }
    }
}

#[tokio::test]
async fn metadata_finds_topics_by_id() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let unknown = uuid::Uuid::from_u128(404);
    let by_id = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let request = MetadataRequest::default().with_topics(Some(vec![by_id(TOPIC_ID), by_id(unknown)]));
    let response: MetadataResponse = ask(&fixture, 3, 12, &request).await;
    assert_eq!(response.topics[0].topic_id, unknown);
    assert_eq!(response.topics[0].error_code, ErrorCode::UnknownTopicId.number());
    assert_eq!(response.topics[1].name.as_deref().map(StrBytes::as_str), Some("topic"));
    let response: MetadataResponse = ask(&fixture, 3, 11, &request).await;
    assert!(
        response
            .topics
            .iter()
            .all(|topic| topic.error_code == ErrorCode::InvalidRequest.number())
    );
}

#[tokio::test]
async fn metadata_never_creates_unasked() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let request = MetadataRequest::default()
        .with_topics(Some(vec![metadata_topic("new")]))
        .with_allow_auto_topic_creation(false);
    let response: MetadataResponse = ask(&fixture, 3, 4, &request).await;
    assert_eq!(
        response.topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.number()
    );
    assert!(fixture.node.created.lock().is_empty());
}

#[tokio::test]
async fn list_offsets_answers_each_partition_once() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let partition = |index, timestamp| {
        ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(timestamp)
    };
    for version in versions(2) {
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(StrBytes::from_static_str("topic").into())
                    .with_partitions(vec![
                        partition(0, -1),
                        partition(1, -1),
                        partition(1, -2),
                        partition(2, -3),
                        partition(3, -7),
                        partition(4, 5),
                    ]),
            ]);
        let response: ListOffsetsResponse = ask(&fixture, 2, version, &request).await;
        let answers = response.topics[0]
            .partitions
            .iter()
            .map(|one| (one.partition_index, one.error_code));
        let unsupported = ErrorCode::UnsupportedVersion.number();
        let max_timestamp = if version >= 7 { 0 } else { unsupported };
        let expected = [
            (0, 0),
            (1, ErrorCode::InvalidRequest.number()),
            (2, max_timestamp),
            (3, unsupported),
            (4, 0),
        ];
        assert!(answers.eq(expected), "version {version}: {response:?}");
    }
}
