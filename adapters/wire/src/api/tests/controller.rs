use kafka_protocol::messages::*;
use kafka_protocol::messages::{alter_partition_request, assign_replicas_to_dirs_request, broker_registration_request};
use ottla_domain::ids::{BrokerId, DirectoryId, LeaderEpoch, Offset, Timestamp};
use ottla_domain::ports::inbound::ViewApi;
use ottla_domain::raft::messages::{
    FetchReply, FetchSnapshotReply, Fetched, Leadership, Reply, Request as RaftRequest, VoteReply,
};
use ottla_domain::raft::voters::{Endpoint, Endpoints, ReplicaKey, VoterSet};
use ottla_domain::raft::{EpochEnd, QuorumStatus, ReplicaStatus, SnapshotId};
use uuid::Uuid;

use super::*;
use crate::messages::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};

const DIRECTORY: Uuid = Uuid::from_u128(0xd1);

fn name(name: &'static str) -> StrBytes {
    StrBytes::from_static_str(name)
}

fn leadership() -> Leadership {
    Leadership {
        error: ErrorCode::None,
        leader: Some(BrokerId(1)),
        epoch: LeaderEpoch(7),
        endpoints: Endpoints(vec![Endpoint {
            listener: "CONTROLLER".into(),
            host: "leader.example.org".into(),
            port: 9093,
        }]),
    }
}

/// The last request that the quorum was asked.
fn asked(fixture: &Fixture) -> RaftRequest {
    fixture.node.raft_requests.lock().pop().unwrap()
}

#[tokio::test]
async fn votes_are_asked_of_the_quorum() {
    use kafka_protocol::messages::vote_request::{PartitionData, TopicData};
    let fixture = Fixture::start(ListenerKind::Controller);
    for version in versions(52) {
        let mut partition = PartitionData::default()
            .with_replica_id(2.into())
            .with_replica_epoch(8)
            .with_last_offset(100)
            .with_last_offset_epoch(6)
            .with_pre_vote(version >= 2);
        if version >= 1 {
            partition = partition
                .with_replica_directory_id(DIRECTORY)
                .with_voter_directory_id(DIRECTORY);
        }
        let topic = |topic| {
            TopicData::default()
                .with_topic_name(name(topic).into())
                .with_partitions(vec![partition.clone()])
        };
        let mut request = VoteRequest::default()
            .with_cluster_id(Some(name("cluster")))
            .with_topics(vec![topic("__cluster_metadata")]);
        if version >= 1 {
            request = request.with_voter_id(1.into());
        }
        let reply = VoteReply {
            leadership: leadership(),
            granted: true,
        };
        fixture.node.raft_replies.lock().push(Ok(Reply::Vote(reply)));
        let response: VoteResponse = ask(&fixture, 52, version, &request).await;
        let RaftRequest::Vote(vote) = asked(&fixture) else {
            panic!("no vote");
        };
        assert_eq!((vote.epoch.0, vote.last_offset.0, vote.last_epoch.0), (8, 100, 6));
        assert_eq!(vote.cluster_id.as_deref(), Some("cluster"));
        assert_eq!(vote.pre_vote, version >= 2);
        let directory = (version >= 1).then_some(DirectoryId(DIRECTORY));
        assert_eq!((vote.candidate.id, vote.candidate.directory), (BrokerId(2), directory));
        assert_eq!(vote.voter.is_some(), version >= 1);
        let granted = &response.topics[0].partitions[0];
        assert_eq!(
            (granted.vote_granted, granted.leader_id.0, granted.leader_epoch),
            (true, 1, 7)
        );
        let endpoints = response
            .node_endpoints
            .iter()
            .map(|one| (one.node_id.0, one.host.as_str(), one.port));
        let expected = Some((1, "leader.example.org", 9093)).filter(|_| version >= 1);
        assert!(endpoints.eq(expected));

        let response: VoteResponse = ask(&fixture, 52, version, &request.with_topics(vec![topic("other")])).await;
        assert_eq!(response.error_code, ErrorCode::InvalidRequest.number());
        fixture
            .node
            .raft_replies
            .lock()
            .push(Err(ErrorCode::InconsistentClusterId));
    }
}

#[tokio::test]
async fn leaders_begin_and_end_epochs() {
    use kafka_protocol::messages::{begin_quorum_epoch_request as begin, end_quorum_epoch_request as end};
    let fixture = Fixture::start(ListenerKind::Controller);
    for version in versions(53) {
        let partition = begin::PartitionData::default()
            .with_leader_id(1.into())
            .with_leader_epoch(7);
        let topic = begin::TopicData::default()
            .with_topic_name(name("__cluster_metadata").into())
            .with_partitions(vec![partition]);
        let mut request = BeginQuorumEpochRequest::default().with_topics(vec![topic]);
        if version >= 1 {
            let endpoint = begin::LeaderEndpoint::default()
                .with_name(name("CONTROLLER"))
                .with_host(name("a"))
                .with_port(1);
            request = request.with_leader_endpoints(vec![endpoint]);
        }
        fixture
            .node
            .raft_replies
            .lock()
            .push(Ok(Reply::BeginQuorumEpoch(leadership())));
        let response: BeginQuorumEpochResponse = ask(&fixture, 53, version, &request).await;
        assert_eq!(response.topics[0].partitions[0].leader_epoch, 7);
        let RaftRequest::BeginQuorumEpoch(begun) = asked(&fixture) else {
            panic!("no begin");
        };
        assert_eq!((begun.leader, begun.epoch), (BrokerId(1), LeaderEpoch(7)));
        assert_eq!(begun.endpoints.of("CONTROLLER").is_some(), version >= 1);
    }
    for version in versions(54) {
        let mut partition = end::PartitionData::default()
            .with_leader_id(1.into())
            .with_leader_epoch(7);
        if version >= 1 {
            let candidate = end::ReplicaInfo::default()
                .with_candidate_id(2.into())
                .with_candidate_directory_id(DIRECTORY);
            partition = partition.with_preferred_candidates(vec![candidate]);
        } else {
            partition = partition.with_preferred_successors(vec![2]);
        }
        let topic = end::TopicData::default()
            .with_topic_name(name("__cluster_metadata").into())
            .with_partitions(vec![partition]);
        let request = EndQuorumEpochRequest::default().with_topics(vec![topic]);
        fixture
            .node
            .raft_replies
            .lock()
            .push(Ok(Reply::EndQuorumEpoch(leadership())));
        let response: EndQuorumEpochResponse = ask(&fixture, 54, version, &request).await;
        assert_eq!(response.topics[0].partitions[0].leader_id.0, 1);
        let RaftRequest::EndQuorumEpoch(ended) = asked(&fixture) else {
            panic!("no end");
        };
        let directory = if version >= 1 { DIRECTORY } else { Uuid::nil() };
        assert_eq!(ended.successors, [ReplicaKey::new(BrokerId(2), DirectoryId(directory))]);
    }
}

fn quorum_fetch(topic: Uuid) -> FetchRequest {
    let partition = fetch_request::FetchPartition::default()
        .with_current_leader_epoch(7)
        .with_fetch_offset(5)
        .with_last_fetched_epoch(6)
        .with_replica_directory_id(DIRECTORY);
    let topic = fetch_request::FetchTopic::default()
        .with_topic_id(topic)
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_cluster_id(Some(name("cluster")))
        .with_replica_state(
            fetch_request::ReplicaState::default()
                .with_replica_id(2.into())
                .with_replica_epoch(-1),
        )
        .with_topics(vec![topic])
}

#[tokio::test]
async fn observers_fetch_the_metadata_log() {
    let fixture = Fixture::start(ListenerKind::Controller);
    let reply = |fetched| {
        Ok(Reply::Fetch(FetchReply {
            leadership: leadership(),
            high_watermark: Some(Offset(9)),
            log_start: Offset(0),
            fetched,
        }))
    };
    for version in 17..=18 {
        let records = Bytes::from_static(b"batches");
        fixture
            .node
            .raft_replies
            .lock()
            .push(reply(Fetched::Records(records.clone())));
        let response: FetchResponse = ask(&fixture, 1, version, &quorum_fetch(Uuid::from_u128(1))).await;
        let RaftRequest::Fetch(fetch) = asked(&fixture) else {
            panic!("no fetch");
        };
        assert_eq!(fetch.replica, ReplicaKey::new(BrokerId(2), DirectoryId(DIRECTORY)));
        assert_eq!(
            (fetch.epoch.0, fetch.fetch_offset.0, fetch.last_fetched_epoch.0),
            (7, 5, 6)
        );
        assert_eq!(fetch.high_watermark, Offset(i64::MAX));
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.records, Some(records));
        assert_eq!(
            (partition.high_watermark, partition.current_leader.leader_epoch),
            (9, 7)
        );
        assert_eq!(response.node_endpoints[0].host.as_str(), "leader.example.org");

        let snapshot = SnapshotId {
            epoch: LeaderEpoch(3),
            end_offset: Offset(8),
        };
        fixture
            .node
            .raft_replies
            .lock()
            .push(reply(Fetched::Snapshot(snapshot)));
        let response: FetchResponse = ask(&fixture, 1, version, &quorum_fetch(Uuid::from_u128(1))).await;
        let told = &response.responses[0].partitions[0].snapshot_id;
        assert_eq!((told.epoch, told.end_offset), (3, 8));

        let end = EpochEnd {
            epoch: LeaderEpoch(2),
            end_offset: Offset(4),
        };
        fixture.node.raft_replies.lock().push(reply(Fetched::Diverging(end)));
        let response: FetchResponse = ask(&fixture, 1, version, &quorum_fetch(Uuid::from_u128(1))).await;
        let told = &response.responses[0].partitions[0].diverging_epoch;
        assert_eq!((told.epoch, told.end_offset), (2, 4));

        let response: FetchResponse = ask(&fixture, 1, version, &quorum_fetch(TOPIC_ID)).await;
        assert_eq!(response.error_code, ErrorCode::InvalidRequest.number());
    }
}

#[tokio::test]
async fn snapshots_are_fetched_in_pieces() {
    use kafka_protocol::messages::fetch_snapshot_request::{PartitionSnapshot, TopicSnapshot};
    let fixture = Fixture::start(ListenerKind::Controller);
    for version in versions(59) {
        let mut partition = PartitionSnapshot::default()
            .with_current_leader_epoch(7)
            .with_position(100);
        partition.snapshot_id.end_offset = 8;
        partition.snapshot_id.epoch = 3;
        let topic = |topic| {
            TopicSnapshot::default()
                .with_name(name(topic).into())
                .with_partitions(vec![partition.clone()])
        };
        let request = FetchSnapshotRequest::default().with_topics(vec![topic("__cluster_metadata")]);
        let id = SnapshotId {
            epoch: LeaderEpoch(3),
            end_offset: Offset(8),
        };
        fixture
            .node
            .raft_replies
            .lock()
            .push(Ok(Reply::FetchSnapshot(FetchSnapshotReply {
                leadership: leadership(),
                snapshot: Some(id),
                size_bytes: 1000,
                position: 100,
                bytes: Bytes::from_static(b"piece"),
            })));
        let response: FetchSnapshotResponse = ask(&fixture, 59, version, &request).await;
        let RaftRequest::FetchSnapshot(fetch) = asked(&fixture) else {
            panic!("no fetch");
        };
        assert_eq!((fetch.snapshot, fetch.position), (id, 100));
        let piece = &response.topics[0].partitions[0];
        assert_eq!(
            (piece.size, piece.position, &*piece.unaligned_records),
            (1000, 100, &b"piece"[..])
        );
        assert_eq!((piece.snapshot_id.end_offset, piece.current_leader.leader_id.0), (8, 1));

        let other = FetchSnapshotRequest::default().with_topics(vec![topic("other")]);
        let response: FetchSnapshotResponse = ask(&fixture, 59, version, &other).await;
        let unknown = ErrorCode::UnknownTopicOrPartition.number();
        assert_eq!(response.topics[0].partitions[0].error_code, unknown);
    }
}

#[tokio::test]
async fn the_quorum_is_described_on_both_listeners() {
    use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
    for kind in [ListenerKind::Broker, ListenerKind::Controller] {
        let fixture = Fixture::start(kind);
        for version in versions(55) {
            let topic = |topic| {
                TopicData::default()
                    .with_topic_name(name(topic).into())
                    .with_partitions(vec![PartitionData::default()])
            };
            let request = DescribeQuorumRequest::default().with_topics(vec![topic("__cluster_metadata")]);
            *fixture.node.quorum.lock() = None;
            let response: DescribeQuorumResponse = ask(&fixture, 55, version, &request).await;
            let error = response.topics[0].partitions[0].error_code;
            assert_eq!(error, ErrorCode::NotLeaderOrFollower.number());

            *fixture.node.quorum.lock() = Some(QuorumStatus {
                leader: BrokerId(1),
                epoch: LeaderEpoch(7),
                high_watermark: Offset(9),
                voters: vec![ReplicaStatus {
                    key: ReplicaKey::new(BrokerId(1), DirectoryId(DIRECTORY)),
                    log_end_offset: Offset(10),
                    last_fetch: Timestamp(1000),
                    last_caught_up: Timestamp(1000),
                }],
                observers: Vec::new(),
                voter_set: VoterSet::default(),
            });
            let response: DescribeQuorumResponse = ask(&fixture, 55, version, &request).await;
            let partition = &response.topics[0].partitions[0];
            assert_eq!(
                (partition.leader_id.0, partition.leader_epoch, partition.high_watermark),
                (1, 7, 9)
            );
            let voter = &partition.current_voters[0];
            assert_eq!((voter.replica_id.0, voter.log_end_offset), (1, 10));
            assert_eq!(voter.last_fetch_timestamp, if version >= 1 { 1000 } else { -1 });
            assert_eq!(voter.replica_directory_id.is_nil(), version < 2);

            let other = DescribeQuorumRequest::default().with_topics(vec![topic("other")]);
            let response: DescribeQuorumResponse = ask(&fixture, 55, version, &other).await;
            let error = response.topics[0].partitions[0].error_code;
            assert_eq!(error, ErrorCode::UnknownTopicOrPartition.number());
        }
    }
}

fn registration(version: i16) -> BrokerRegistrationRequest {
    let listener = broker_registration_request::Listener::default()
        .with_name(name("PLAINTEXT"))
        .with_host(name("two.example.org"))
        .with_port(9092);
    let features = ottla_domain::metadata::controller::brokers::supported_broker_features();
    // Older versions cannot carry a lowest level of 0: what is on begins at 1 in them.
    let least = i16::from(version < 4);
    let is_on = |name: &str| crate::fake::image().feature(name) >= least;
    let features = features.into_iter().filter(|feature| is_on(&feature.name));
    let features = features.map(|feature| {
        broker_registration_request::Feature::default()
            .with_name(StrBytes::from_string(feature.name))
            .with_min_supported_version(feature.min_supported_version.max(least))
            .with_max_supported_version(feature.max_supported_version)
    });
    BrokerRegistrationRequest::default()
        .with_broker_id(2.into())
        .with_cluster_id(name("cluster"))
        .with_incarnation_id(Uuid::from_u128(22))
        .with_listeners(vec![listener])
        .with_features(features.collect())
        .with_log_dirs(if version >= 2 { vec![DIRECTORY] } else { Vec::new() })
}

#[tokio::test]
async fn brokers_register_beat_and_say_where_replicas_are() {
    let fixture = Fixture::start(ListenerKind::Controller);
    for version in versions(62) {
        let response: BrokerRegistrationResponse = ask(&fixture, 62, version, &registration(version)).await;
        let has_directories = version >= 2;
        let expected = if has_directories {
            ErrorCode::None
        } else {
            ErrorCode::InvalidRegistration
        };
        assert_eq!(response.error_code, expected.number(), "version {version}");
        if has_directories {
            let image = fixture.node.image();
            let broker = image.broker(BrokerId(2)).unwrap();
            assert_eq!(broker.broker_epoch, response.broker_epoch);
            assert_eq!(broker.end_points[0].host, "two.example.org");
        }
    }
    let wrong = registration(4).with_cluster_id(name("other"));
    let response: BrokerRegistrationResponse = ask(&fixture, 62, 4, &wrong).await;
    assert_eq!(response.error_code, ErrorCode::InconsistentClusterId.number());

    let epoch = fixture.node.image().broker(BrokerId(2)).unwrap().broker_epoch;
    for version in versions(63) {
        let beat = BrokerHeartbeatRequest::default()
            .with_broker_id(2.into())
            .with_broker_epoch(epoch)
            .with_current_metadata_offset(10_000);
        let response: BrokerHeartbeatResponse = ask(&fixture, 63, version, &beat).await;
        assert_eq!((response.error_code, response.is_caught_up), (0, true));
        assert!(!response.is_fenced && !response.should_shut_down);
        let stale: BrokerHeartbeatResponse = ask(&fixture, 63, version, &beat.with_broker_epoch(epoch - 1)).await;
        assert_eq!(stale.error_code, ErrorCode::StaleBrokerEpoch.number());
    }

    let partition = assign_replicas_to_dirs_request::PartitionData::default();
    let topic = assign_replicas_to_dirs_request::TopicData::default()
        .with_topic_id(TOPIC_ID)
        .with_partitions(vec![partition]);
    let directory = assign_replicas_to_dirs_request::DirectoryData::default()
        .with_id(DIRECTORY)
        .with_topics(vec![topic]);
    let assign = AssignReplicasToDirsRequest::default()
        .with_broker_id(2.into())
        .with_broker_epoch(epoch)
        .with_directories(vec![directory]);
    let response: AssignReplicasToDirsResponse = ask(&fixture, 73, 0, &assign).await;
    let topic = &response.directories[0].topics[0];
    assert_eq!((response.directories[0].id, topic.topic_id), (DIRECTORY, TOPIC_ID));
    assert_eq!(
        topic.partitions[0].error_code,
        ErrorCode::NotLeaderOrFollower.number(),
        "no replica of it"
    );

    let allocate = AllocateProducerIdsRequest::default()
        .with_broker_id(2.into())
        .with_broker_epoch(epoch);
    let first: AllocateProducerIdsResponse = ask(&fixture, 67, 0, &allocate).await;
    let second: AllocateProducerIdsResponse = ask(&fixture, 67, 0, &allocate).await;
    assert_eq!((first.error_code, first.producer_id_len), (0, 1000));
    assert_eq!(second.producer_id_start.0, first.producer_id_start.0 + 1000);
}

#[tokio::test]
async fn leaders_propose_isrs() {
    let fixture = Fixture::start(ListenerKind::Controller);
    for version in versions(56) {
        let partition = |index| {
            let partition = alter_partition_request::PartitionData::default()
                .with_partition_index(index)
                .with_leader_epoch(3)
                .with_partition_epoch(
                    fixture.node.image().topics.by_name("topic").unwrap().partitions
                        [&ottla_domain::ids::PartitionId(0)]
                        .partition_epoch,
                );
            if version >= 3 {
                let member = alter_partition_request::BrokerState::default()
                    .with_broker_id(1.into())
                    .with_broker_epoch(5);
                partition.with_new_isr_with_epochs(vec![member])
            } else {
                partition.with_new_isr(vec![1.into()])
            }
        };
        let topic = alter_partition_request::TopicData::default()
            .with_topic_id(TOPIC_ID)
            .with_partitions(vec![partition(0), partition(9)]);
        let request = AlterPartitionRequest::default()
            .with_broker_id(1.into())
            .with_broker_epoch(5)
            .with_topics(vec![topic]);
        let response: AlterPartitionResponse = ask(&fixture, 56, version, &request).await;
        let [known, unknown] = &response.topics[0].partitions[..] else {
            panic!("{response:?}");
        };
        assert_eq!((known.error_code, known.leader_id.0, known.leader_epoch), (0, 1, 3));
        assert!(known.isr.iter().map(|id| id.0).eq([1]));
        assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition.number());
        let stale: AlterPartitionResponse = ask(&fixture, 56, version, &request.with_broker_epoch(4)).await;
        assert_eq!(stale.error_code, ErrorCode::StaleBrokerEpoch.number());
    }
}

#[tokio::test]
async fn controllers_register() {
    let fixture = Fixture::start(ListenerKind::Controller);
    let request = ControllerRegistrationRequest::default()
        .with_controller_id(3)
        .with_incarnation_id(Uuid::from_u128(33));
    let response: ControllerRegistrationResponse = ask(&fixture, 70, 0, &request).await;
    assert_eq!(response.error_code, 0, "{response:?}");
    assert!(fixture.node.image().controllers.contains_key(&BrokerId(3)));
}

fn enveloped(key: i16, version: i16, flexible: bool, body: &impl Encodable) -> EnvelopeRequest {
    let mut inner = BytesMut::new();
    inner.put_i16(key);
    inner.put_i16(version);
    inner.put_i32(55);
    inner.put_i16(-1);
    if flexible {
        inner.put_u8(0);
    }
    body.encode(&mut inner, version).unwrap();
    EnvelopeRequest::default()
        .with_request_data(inner.freeze())
        .with_request_principal(Some(Bytes::from_static(b"principal")))
        .with_client_host_address(Bytes::from_static(&[127, 0, 0, 1]))
}

#[tokio::test]
async fn envelopes_hold_requests_and_their_answers() {
    let fixture = Fixture::start(ListenerKind::Controller);
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(name("new").into())
        .with_num_partitions(1)
        .with_replication_factor(1);
    let create = CreateTopicsRequest::default().with_topics(vec![topic]);
    let envelope = enveloped(19, 7, true, &create);
    let response: EnvelopeResponse = ask(&fixture, 58, 0, &envelope).await;
    assert_eq!(response.error_code, 0);
    let mut inner = response.response_data.unwrap();
    assert_eq!(&inner[..5], [0, 0, 0, 55, 0]);
    let created = CreateTopicsResponse::decode(&mut inner.split_off(5), 7).unwrap();
    assert_eq!(
        (created.topics[0].name.as_str(), created.topics[0].error_code),
        ("new", 0)
    );

    let error = async |envelope: &EnvelopeRequest| {
        let response: EnvelopeResponse = ask(&fixture, 58, 0, envelope).await;
        assert_eq!(response.response_data, None);
        response.error_code
    };
    let not_forwardable = enveloped(52, 0, true, &VoteRequest::default());
    assert_eq!(error(&not_forwardable).await, ErrorCode::InvalidRequest.number());
    let unreadable = envelope
        .clone()
        .with_request_data(Bytes::from_static(b"\0\x13\0\x07\0\0"));
    assert_eq!(error(&unreadable).await, ErrorCode::UnsupportedVersion.number());
    let no_address = envelope.clone().with_client_host_address(Bytes::new());
    assert_eq!(error(&no_address).await, ErrorCode::InvalidRequest.number());
    *fixture.node.refusal.lock() = Some(ErrorCode::NotController);
    assert_eq!(error(&envelope).await, ErrorCode::NotController.number());
}
