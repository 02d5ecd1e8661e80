use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use ottla_domain::groups::commands::Command;
use ottla_domain::ids::{PartitionId, TopicId};
use ottla_domain::metadata::image::ConfigResourceType;
use ottla_domain::metadata::records::{ConfigRecord, MetadataRecord};
use uuid::Uuid;

use super::*;
use crate::fake::groups::ABSENT;
use crate::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponse,
};

const UNKNOWN_ID: Uuid = Uuid::from_u128(404);

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// The one command that the node got since the last call.
fn command(fixture: &Fixture) -> Command {
    let mut commands = std::mem::take(&mut *fixture.node.groups.commands.lock());
    assert_eq!(commands.len(), 1, "{commands:?}");
    commands.remove(0)
}

macro_rules! command {
    ($fixture:expr, $kind:ident) => {
        match command(&$fixture) {
            Command::$kind(command) => command,
            other => panic!("{other:?}"),
        }
    };
}

fn refuse(fixture: &Fixture, error: ErrorCode) {
    *fixture.node.groups.refusal.lock() = Some(error);
}

fn join() -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(text("group").into())
        .with_session_timeout_ms(45_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"topics")),
        ])
}

#[tokio::test]
async fn find_coordinator_tells_where_groups_are() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let missing = ErrorCode::CoordinatorNotAvailable.number();
    for version in versions(10) {
        if version < 4 {
            let ask_for = |key| FindCoordinatorRequest::default().with_key(text(key));
            let found: FindCoordinatorResponse = ask(&fixture, 10, version, &ask_for("group")).await;
            assert_eq!((found.error_code, found.node_id.0, found.port), (0, 1, 9092));
            assert_eq!(found.host.as_str(), "example.org");
            let absent: FindCoordinatorResponse = ask(&fixture, 10, version, &ask_for(ABSENT)).await;
            assert_eq!((absent.error_code, absent.node_id.0, absent.port), (missing, -1, -1));
            let message = absent.error_message.as_deref().filter(|message| !message.is_empty());
            assert_eq!(message, (version >= 1).then_some("no offsets topic"));
            continue;
        }
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![
            text("group"),
            text(ABSENT),
            text("elsewhere"),
        ]);
        let response: FindCoordinatorResponse = ask(&fixture, 10, version, &request).await;
        let found = response.coordinators.iter();
        let found = found.map(|one| (one.key.as_str(), one.error_code, one.node_id.0));
        let expected = [("group", 0, 1), (ABSENT, missing, -1), ("elsewhere", missing, -1)];
        assert!(found.eq(expected), "version {version}: {response:?}");
        let messages = response.coordinators.iter().map(|one| one.error_message.as_deref());
        let unreachable = "The coordinator is not available.";
        assert!(messages.eq([Some(""), Some("no offsets topic"), Some(unreachable)]));
    }
    for kind in 1..4 {
        let request = FindCoordinatorRequest::default()
            .with_key_type(kind)
            .with_coordinator_keys(vec![text("key")]);
        let response: FindCoordinatorResponse = ask(&fixture, 10, 6, &request).await;
        assert_eq!(response.coordinators[0].error_code, ErrorCode::InvalidRequest.number());
    }
}

#[tokio::test]
async fn join_group_carries_what_each_version_has() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(11) {
        let mut request = join();
        if version >= 1 {
            request.rebalance_timeout_ms = 300_000;
        }
        if version >= 5 {
            request.group_instance_id = Some(text("instance"));
        }
        if version >= 8 {
            request.reason = Some(text("because"));
        }
        let response: JoinGroupResponse = ask(&fixture, 11, version, &request).await;
        assert_eq!((response.error_code, response.generation_id), (0, 3));
        assert_eq!(response.protocol_type.is_some(), version >= 7);
        assert_eq!(response.protocol_name.as_deref(), Some("range"));
        assert_eq!(response.skip_assignment, version >= 9);
        assert_eq!(response.members[0].group_instance_id.is_some(), version >= 5);
        assert_eq!(&response.members[0].metadata[..], b"metadata");

        let joined = command!(fixture, JoinGroup);
        let rebalance_timeout_ms = if version >= 1 { 300_000 } else { 45_000 };
        assert_eq!(joined.rebalance_timeout_ms, rebalance_timeout_ms);
        assert_eq!(joined.requires_known_member_id, version >= 4);
        assert_eq!(joined.supports_skipping_assignment, version >= 9);
        assert_eq!(joined.group_instance_id.is_some(), version >= 5);
        assert_eq!(joined.reason.as_deref(), (version >= 8).then_some("because"));
        assert_eq!((&*joined.client_id, &*joined.client_host), ("test", "/127.0.0.1"));
        assert_eq!(joined.protocols, [("range".into(), Bytes::from_static(b"topics"))]);
    }
}

#[tokio::test]
async fn a_refused_join_group_has_no_protocol_and_no_member() {
    let fixture = Fixture::start(ListenerKind::Broker);
    refuse(&fixture, ErrorCode::NotCoordinator);
    let join = join().with_member_id(text("member-1"));
    for version in versions(11) {
        let response: JoinGroupResponse = ask(&fixture, 11, version, &join).await;
        assert_eq!(response.error_code, ErrorCode::NotCoordinator.number());
        assert_eq!(&*response.member_id, "");
        assert_eq!(response.generation_id, -1);
        assert_eq!(response.protocol_name.as_deref(), (version < 7).then_some(""));
    }
}

#[tokio::test]
async fn a_group_without_a_name_is_refused() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let invalid = ErrorCode::InvalidGroupId.number();
    let response: OffsetDeleteResponse = ask(&fixture, 47, 0, &OffsetDeleteRequest::default()).await;
    assert_eq!(response.error_code, invalid);
    let describe = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId::default()]);
    let response: ConsumerGroupDescribeResponse = ask(&fixture, 69, 1, &describe).await;
    assert_eq!(response.groups[0].error_code, invalid);
    assert!(fixture.node.groups.commands.lock().is_empty());
}

#[tokio::test]
async fn requests_behind_a_join_group_wait_for_the_rebalance() {
    let fixture = Fixture::start(ListenerKind::Broker);
    fixture.node.groups.rebalances.send_replace(true);
    let mut client = fixture.connect().await;
    client.send(11, 9, true, 1, &join()).await;
    client.send(12, 4, true, 2, &heartbeat()).await;
    let other = HeartbeatRequest::default().with_group_id(text("other").into());
    let _: HeartbeatResponse = ask(&fixture, 12, 4, &other).await;
    fixture.node.groups.rebalances.send_replace(false);
    let (correlation, _) = client.receive::<JoinGroupResponse>(9, true).await;
    assert_eq!(correlation, 1);
    let (correlation, _) = client.receive::<HeartbeatResponse>(4, true).await;
    assert_eq!(correlation, 2);
    let groups = fixture
        .node
        .groups
        .commands
        .lock()
        .iter()
        .map(group_of)
        .collect::<Vec<_>>();
    assert_eq!(groups.last().map(String::as_str), Some("group"), "{groups:?}");
    assert_eq!(groups.iter().filter(|group| *group == "other").count(), 1);
}

fn group_of(command: &Command) -> String {
    match command {
        Command::JoinGroup(one) => one.group_id.to_string(),
        Command::Heartbeat(one) => one.group_id.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_in_a_rebalance_is_let_go() {
    let fixture = Fixture::start(ListenerKind::Broker);
    fixture.node.groups.rebalances.send_replace(true);
    let mut client = fixture.connect().await;
    client.send(11, 9, true, 1, &join()).await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_node_that_stops_ends_the_wait_for_a_rebalance() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let rebalances = fixture.node.groups.rebalances.clone();
    rebalances.send_replace(true);
    let mut client = fixture.connect().await;
    client.send(11, 9, true, 1, &join()).await;
    // The fake waits once it has the command.
    let has_joined = async {
        while rebalances.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::fake::PATIENCE, has_joined).await.unwrap();
    let stopping = tokio::spawn(fixture.serving.stop(crate::fake::PATIENCE));
    let (_, response) = client.receive::<JoinGroupResponse>(9, true).await;
    assert_eq!(response.error_code, ErrorCode::CoordinatorNotAvailable.number());
    stopping.await.unwrap();
}

fn heartbeat() -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(text("group").into())
        .with_generation_id(3)
        .with_member_id(text("member-1"))
}

#[tokio::test]
async fn sync_group_carries_what_each_version_has() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(14) {
        let mut request = SyncGroupRequest::default()
            .with_group_id(text("group").into())
            .with_generation_id(3)
            .with_member_id(text("member-1"))
            .with_assignments(vec![
                SyncGroupRequestAssignment::default()
                    .with_member_id(text("member-2"))
                    .with_assignment(Bytes::from_static(b"partitions")),
            ]);
        if version >= 3 {
            request.group_instance_id = Some(text("instance"));
        }
        if version >= 5 {
            let response: SyncGroupResponse = ask(&fixture, 14, version, &request).await;
            assert_eq!(response.error_code, ErrorCode::InconsistentGroupProtocol.number());
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = Some(text("range"));
        }
        let response: SyncGroupResponse = ask(&fixture, 14, version, &request).await;
        assert_eq!((response.error_code, &response.assignment[..]), (0, &b"assignment"[..]));
        assert_eq!(response.protocol_name.is_some(), version >= 5);
        let synced = command!(fixture, SyncGroup);
        assert_eq!(synced.group_instance_id.is_some(), version >= 3);
        assert_eq!(synced.protocol_type.is_some(), version >= 5);
        assert_eq!(
            synced.assignments,
            [("member-2".into(), Bytes::from_static(b"partitions"))]
        );
    }
}

#[tokio::test]
async fn heartbeats_to_a_group_that_is_being_loaded_are_believed() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let rebalancing = ErrorCode::RebalanceInProgress.number();
    for version in versions(12) {
        let response: HeartbeatResponse = ask(&fixture, 12, version, &heartbeat()).await;
        assert_eq!(response.error_code, rebalancing);
    }
    refuse(&fixture, ErrorCode::CoordinatorLoadInProgress);
    let response: HeartbeatResponse = ask(&fixture, 12, 4, &heartbeat()).await;
    assert_eq!(response.error_code, 0);
    refuse(&fixture, ErrorCode::NotCoordinator);
    let response: HeartbeatResponse = ask(&fixture, 12, 4, &heartbeat()).await;
    assert_eq!(response.error_code, ErrorCode::NotCoordinator.number());
}

#[tokio::test]
async fn members_leave_alone_or_together() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let unknown = ErrorCode::UnknownMemberId.number();
    for version in versions(13) {
        let request = LeaveGroupRequest::default().with_group_id(text("group").into());
        if version < 3 {
            let request = request.with_member_id(text("member-1"));
            let response: LeaveGroupResponse = ask(&fixture, 13, version, &request).await;
            assert_eq!((response.error_code, response.members.len()), (unknown, 0));
            assert_eq!(&*command!(fixture, LeaveGroup).members[0].member_id, "member-1");
            continue;
        }
        let mut instance = MemberIdentity::default().with_group_instance_id(Some(text("instance")));
        if version >= 5 {
            instance.reason = Some(text("because"));
        }
        let request = request.with_members(vec![
            MemberIdentity::default().with_member_id(text("member-1")),
            instance,
        ]);
        let response: LeaveGroupResponse = ask(&fixture, 13, version, &request).await;
        assert_eq!(response.error_code, 0);
        let outcomes = response.members.iter();
        let outcomes = outcomes.map(|one| (&*one.member_id, one.group_instance_id.as_deref(), one.error_code));
        assert!(outcomes.eq([("member-1", None, unknown), ("", Some("instance"), unknown)]));
        let left = command!(fixture, LeaveGroup);
        assert_eq!(left.members[1].reason.as_deref(), (version >= 5).then_some("because"));
    }
}

fn commit_topic(
    version: i16,
    name: &'static str,
    id: Uuid,
    partitions: &[(i32, &'static str)],
) -> OffsetCommitRequestTopic {
    let partitions = partitions.iter().map(|(index, metadata)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(100)
            .with_committed_metadata(Some(text(metadata)))
    });
    let topic = OffsetCommitRequestTopic::default().with_partitions(partitions.collect());
    if version >= 10 {
        topic.with_topic_id(id)
    } else {
        topic.with_name(text(name).into())
    }
}

#[tokio::test]
async fn offsets_of_partitions_that_exist_are_committed() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let absent = ErrorCode::UnknownTopicOrPartition.number();
    let too_large = ErrorCode::OffsetMetadataTooLarge.number();
    for version in versions(8) {
        let request = |topics| {
            OffsetCommitRequest::default()
                .with_group_id(text("group").into())
                .with_generation_id_or_member_epoch(3)
                .with_member_id(text("member-1"))
                .with_topics(topics)
        };
        let unknown = commit_topic(version, "absent", UNKNOWN_ID, &[(0, "")]);
        let topics = vec![
            unknown.clone(),
            commit_topic(version, "topic", TOPIC_ID, &[(1, "too large"), (9, ""), (0, "note")]),
        ];
        let by_retention = request(topics.clone()).with_retention_time_ms(if version <= 4 { 60_000 } else { -1 });
        let response: OffsetCommitResponse = ask(&fixture, 8, version, &by_retention).await;
        let errors = |response: &OffsetCommitResponse| {
            let topics = response.topics.iter().flat_map(|topic| &topic.partitions);
            topics
                .map(|one| (one.partition_index, one.error_code))
                .collect::<Vec<_>>()
        };
        let unknown_topic = if version >= 10 {
            ErrorCode::UnknownTopicId.number()
        } else {
            absent
        };
        assert_eq!(
            errors(&response),
            [(0, unknown_topic), (1, too_large), (9, absent), (0, 0)]
        );
        let named = response
            .topics
            .iter()
            .map(|topic| (topic.name.as_str(), topic.topic_id));
        if version >= 10 {
            assert!(named.eq([("", UNKNOWN_ID), ("", TOPIC_ID)]));
        } else {
            assert!(named.eq([("absent", Uuid::nil()), ("topic", Uuid::nil())]));
        }

        let commit = command!(fixture, OffsetCommit);
        assert_eq!(commit.retention_time_ms, (version <= 4).then_some(60_000));
        assert_eq!(commit.knows_member_epochs, version >= 9);
        let [topic] = &commit.topics[..] else {
            panic!("{commit:?}");
        };
        assert_eq!((&*topic.name, topic.id), ("topic", TopicId(TOPIC_ID)));
        let partitions = topic
            .partitions
            .iter()
            .map(|one| (one.partition.0, one.metadata.as_deref()));
        assert!(partitions.eq([(1, Some("too large")), (0, Some("note"))]));

        refuse(&fixture, ErrorCode::NotCoordinator);
        let response: OffsetCommitResponse = ask(&fixture, 8, version, &request(topics)).await;
        let not_coordinator = ErrorCode::NotCoordinator.number();
        let expected = [
            (0, unknown_topic),
            (1, not_coordinator),
            (9, absent),
            (0, not_coordinator),
        ];
        assert_eq!(errors(&response), expected);
        command!(fixture, OffsetCommit);
        *fixture.node.groups.refusal.lock() = None;

        let _: OffsetCommitResponse = ask(&fixture, 8, version, &request(vec![unknown])).await;
        assert!(
            fixture.node.groups.commands.lock().is_empty(),
            "there is nothing to commit"
        );
    }
}

/// One topic's offsets in an answer, whatever its version: name, id and (partition, offset, error).
type Offsets<'a> = (&'a str, Uuid, Vec<(i32, i64, i16)>);

fn offsets(response: &OffsetFetchResponse) -> Vec<Offsets<'_>> {
    let single = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|one| (one.partition_index, one.committed_offset, one.error_code));
        (topic.name.as_str(), Uuid::nil(), partitions.collect())
    });
    let several = response.groups.iter().flat_map(|group| &group.topics).map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|one| (one.partition_index, one.committed_offset, one.error_code));
        (topic.name.as_str(), topic.topic_id, partitions.collect())
    });
    single.chain(several).collect()
}

fn fetch_group(version: i16, topics: Option<&[(&'static str, Uuid)]>) -> OffsetFetchRequestGroup {
    let topic = |(name, id): &(&'static str, Uuid)| {
        let topic = OffsetFetchRequestTopics::default().with_partition_indexes(vec![0, 1]);
        if version >= 10 {
            topic.with_topic_id(*id)
        } else {
            topic.with_name(text(name).into())
        }
    };
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(text("group").into())
        .with_topics(topics.map(|topics| topics.iter().map(topic).collect()));
    if version >= 9 {
        group.with_member_id(Some(text("member-1"))).with_member_epoch(4)
    } else {
        group
    }
}

fn fetch_offsets(version: i16, topics: Option<&[(&'static str, Uuid)]>) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default().with_require_stable(version >= 7);
    if version >= 8 {
        return request.with_groups(vec![fetch_group(version, topics), fetch_group(version, topics)]);
    }
    let topics = topics.map(|topics| {
        let topic = |(name, _): &(&'static str, Uuid)| {
            OffsetFetchRequestTopic::default()
                .with_name(text(name).into())
                .with_partition_indexes(vec![0, 1])
        };
        topics.iter().map(topic).collect()
    });
    request.with_group_id(text("group").into()).with_topics(topics)
}

#[tokio::test]
async fn committed_offsets_are_fetched_by_name_or_id() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(9) {
        let id = |id| if version >= 10 { id } else { Uuid::nil() };
        let name = |name| if version >= 10 { "" } else { name };
        let asked = [("topic", TOPIC_ID), ("absent", UNKNOWN_ID)];
        let response: OffsetFetchResponse = ask(&fixture, 9, version, &fetch_offsets(version, Some(&asked))).await;
        let known = vec![(0, 10, 0), (1, -1, 0)];
        let unknown = if version >= 10 {
            let error = ErrorCode::UnknownTopicId.number();
            vec![(0, -1, error), (1, -1, error)]
        } else {
            known.clone()
        };
        let expected = [
            (name("topic"), id(TOPIC_ID), known),
            (name("absent"), id(UNKNOWN_ID), unknown),
        ];
        assert_eq!(offsets(&response), expected, "version {version}");

        let fetch = command!(fixture, OffsetFetch);
        assert_eq!(fetch.require_stable, version >= 7);
        let member = (fetch.member_id.as_deref(), fetch.member_epoch);
        assert_eq!(
            member,
            if version >= 9 {
                (Some("member-1"), 4)
            } else {
                (None, -1)
            }
        );
        let topics = fetch.topics.unwrap();
        assert_eq!(
            topics[0],
            ("topic".into(), TopicId(id(TOPIC_ID)), [0, 1].map(PartitionId).into())
        );
        assert_eq!(topics.len(), if version >= 10 { 1 } else { 2 });

        if version >= 2 {
            let response: OffsetFetchResponse = ask(&fixture, 9, version, &fetch_offsets(version, None)).await;
            let mut expected = vec![(name("topic"), id(TOPIC_ID), vec![(0, 10, 0)])];
            if version < 10 {
                expected.push(("gone", Uuid::nil(), vec![(0, 10, 0)]));
            }
            assert_eq!(offsets(&response), expected);
            assert_eq!(command!(fixture, OffsetFetch).topics, None);
        }
    }
}

#[tokio::test]
async fn the_error_of_a_group_is_told_where_the_version_has_room() {
    let fixture = Fixture::start(ListenerKind::Broker);
    refuse(&fixture, ErrorCode::CoordinatorLoadInProgress);
    let loading = ErrorCode::CoordinatorLoadInProgress.number();
    for version in versions(9) {
        let asked = [("topic", TOPIC_ID)];
        let response: OffsetFetchResponse = ask(&fixture, 9, version, &fetch_offsets(version, Some(&asked))).await;
        match version {
            1 => assert_eq!(
                offsets(&response),
                [("topic", Uuid::nil(), vec![(0, -1, loading), (1, -1, loading)])]
            ),
            2..=7 => assert_eq!((response.error_code, response.topics.len()), (loading, 0)),
            _ => {
                let [group] = &response.groups[..] else {
                    panic!("{response:?}");
                };
                assert_eq!((group.group_id.as_str(), group.error_code), ("group", loading));
                assert!(group.topics.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn groups_that_do_not_exist_are_dead_or_not_found() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(15) {
        let ids = vec![text("group").into(), text(ABSENT).into(), text("group").into()];
        let request = DescribeGroupsRequest::default()
            .with_groups(ids)
            .with_include_authorized_operations(version >= 3);
        let response: DescribeGroupsResponse = ask(&fixture, 15, version, &request).await;
        let [group, absent] = &response.groups[..] else {
            panic!("{response:?}");
        };
        assert_eq!((group.error_code, group.group_state.as_str()), (0, "Stable"));
        assert_eq!(group.protocol_data.as_str(), "range");
        assert_eq!(group.members[0].group_instance_id.is_some(), version >= 4);
        let all = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
        assert_eq!(group.authorized_operations, if version >= 3 { all } else { i32::MIN });
        assert_eq!(absent.group_state.as_str(), "Dead");
        if version >= 6 {
            assert_eq!(absent.error_code, ErrorCode::GroupIdNotFound.number());
            assert_eq!(absent.error_message.as_deref(), Some("Group absent not found."));
        } else {
            assert_eq!(absent.error_code, 0);
        }
    }
    refuse(&fixture, ErrorCode::NotCoordinator);
    let request = DescribeGroupsRequest::default().with_groups(vec![text("group").into()]);
    let response: DescribeGroupsResponse = ask(&fixture, 15, 6, &request).await;
    let group = &response.groups[0];
    let not_coordinator = ErrorCode::NotCoordinator.number();
    assert_eq!((group.error_code, group.group_state.as_str()), (not_coordinator, ""));
}

#[tokio::test]
async fn groups_are_listed_with_states_and_types() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(16) {
        let mut request = ListGroupsRequest::default();
        if version >= 4 {
            request.states_filter = vec![text("Stable")];
        }
        if version >= 5 {
            request.types_filter = vec![text("classic")];
        }
        let response: ListGroupsResponse = ask(&fixture, 16, version, &request).await;
        let group = &response.groups[0];
        assert_eq!(
            (group.group_id.as_str(), group.protocol_type.as_str()),
            ("group", "consumer")
        );
        assert_eq!(group.group_state.as_str(), if version >= 4 { "Stable" } else { "" });
        assert_eq!(group.group_type.as_str(), if version >= 5 { "classic" } else { "" });
        let filter = command!(fixture, ListGroups);
        assert_eq!(
            (filter.states.len(), filter.types.len()),
            ((version >= 4).into(), (version >= 5).into())
        );
    }
    refuse(&fixture, ErrorCode::CoordinatorLoadInProgress);
    let response: ListGroupsResponse = ask(&fixture, 16, 5, &ListGroupsRequest::default()).await;
    assert_eq!(response.error_code, ErrorCode::CoordinatorLoadInProgress.number());
}

#[tokio::test]
async fn groups_are_deleted_once_each() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(42) {
        let ids = ["group", ABSENT, "group"].map(|id| text(id).into());
        let request = DeleteGroupsRequest::default().with_groups_names(ids.into());
        let response: DeleteGroupsResponse = ask(&fixture, 42, version, &request).await;
        let results = response
            .results
            .iter()
            .map(|one| (one.group_id.as_str(), one.error_code));
        assert!(results.eq([("group", 0), (ABSENT, ErrorCode::GroupIdNotFound.number())]));
    }
}

#[tokio::test]
async fn offsets_of_partitions_that_exist_are_deleted() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let topic = |name, partitions: &[i32]| {
        let partition = |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
        OffsetDeleteRequestTopic::default()
            .with_name(text(name).into())
            .with_partitions(partitions.iter().map(partition).collect())
    };
    let request = OffsetDeleteRequest::default()
        .with_group_id(text("group").into())
        .with_topics(vec![topic("absent", &[0]), topic("topic", &[1, 9, 0])]);
    let response: OffsetDeleteResponse = ask(&fixture, 47, 0, &request).await;
    let outcomes = response.topics.iter().flat_map(|topic| &topic.partitions);
    let outcomes = outcomes.map(|one| (one.partition_index, one.error_code));
    let absent = ErrorCode::UnknownTopicOrPartition.number();
    let subscribed = ErrorCode::GroupSubscribedToTopic.number();
    assert!(outcomes.eq([(0, absent), (1, subscribed), (9, absent), (0, subscribed)]));
    let delete = command!(fixture, OffsetDelete);
    assert_eq!(delete.topics, [("topic".into(), [1, 0].map(PartitionId).into())]);

    refuse(&fixture, ErrorCode::GroupIdNotFound);
    let response: OffsetDeleteResponse = ask(&fixture, 47, 0, &request).await;
    let not_found = ErrorCode::GroupIdNotFound.number();
    assert_eq!((response.error_code, response.topics.len()), (not_found, 0));
}

#[tokio::test]
async fn consumer_group_heartbeats_carry_what_changed() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(68) {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text("group").into())
            .with_member_id(text("member-1"))
            .with_member_epoch(4)
            .with_topic_partitions(Some(vec![
                TopicPartitions::default()
                    .with_topic_id(TOPIC_ID)
                    .with_partitions(vec![0, 1]),
            ]));
        if version >= 1 {
            request.subscribed_topic_regex = Some(text("t.*"));
        }
        let response: ConsumerGroupHeartbeatResponse = ask(&fixture, 68, version, &request).await;
        assert_eq!((response.error_code, response.member_epoch), (0, 5));
        assert_eq!(
            (response.member_id.as_deref(), response.heartbeat_interval_ms),
            (Some("member-1"), 5_000)
        );
        let assignment = response.assignment.unwrap();
        assert_eq!(assignment.topic_partitions[0].topic_id, TOPIC_ID);
        assert_eq!(assignment.topic_partitions[0].partitions, [0, 1]);

        let heartbeat = command!(fixture, ConsumerGroupHeartbeat);
        assert_eq!(heartbeat.makes_member_id, version >= 1);
        assert_eq!(
            heartbeat.subscribed_topic_regex.as_deref(),
            (version >= 1).then_some("t.*")
        );
        assert_eq!(
            (heartbeat.subscribed_topic_names, heartbeat.rebalance_timeout_ms),
            (None, -1)
        );
        assert_eq!((&*heartbeat.client_id, &*heartbeat.client_host), ("test", "/127.0.0.1"));

        let unchanged = request.with_topic_partitions(None).with_group_id(text(ABSENT).into());
        let response: ConsumerGroupHeartbeatResponse = ask(&fixture, 68, version, &unchanged).await;
        assert_eq!(response.error_code, ErrorCode::GroupIdNotFound.number());
        assert_eq!(response.error_message.as_deref(), Some("Group absent not found."));
        assert_eq!(response.assignment, None);
        assert_eq!(command!(fixture, ConsumerGroupHeartbeat).topic_partitions, None);
    }
}

#[tokio::test]
async fn consumer_groups_are_described_with_both_assignments() {
    let fixture = Fixture::start(ListenerKind::Broker);
    for version in versions(69) {
        let ids = ["group", ABSENT, "group"].map(|id| text(id).into());
        let request = ConsumerGroupDescribeRequest::default()
            .with_group_ids(ids.into())
            .with_include_authorized_operations(true);
        let response: ConsumerGroupDescribeResponse = ask(&fixture, 69, version, &request).await;
        let [group, absent] = &response.groups[..] else {
            panic!("{response:?}");
        };
        assert_eq!(
            (group.group_state.as_str(), group.group_epoch, group.assignment_epoch),
            ("Reconciling", 4, 3)
        );
        assert_ne!(group.authorized_operations, i32::MIN);
        let member = &group.members[0];
        assert_eq!(member.member_type, if version >= 1 { 1 } else { -1 });
        assert_eq!(member.subscribed_topic_regex.as_deref(), Some("t.*"));
        let assigned = &member.target_assignment.topic_partitions[0];
        assert_eq!((assigned.topic_name.as_str(), assigned.topic_id), ("topic", TOPIC_ID));
        assert_eq!(absent.error_code, ErrorCode::GroupIdNotFound.number());
        assert_eq!(absent.error_message.as_deref(), Some("Group absent not found."));
        assert_eq!(absent.authorized_operations, i32::MIN);
    }
}

#[tokio::test]
async fn a_broker_may_not_offer_consumer_groups() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let classic_only = ConfigRecord {
        resource_type: ConfigResourceType::Broker.number(),
        name: "group.coordinator.rebalance.protocols".to_owned(),
        value: Some("classic".to_owned()),
        ..Default::default()
    };
    let mut image = crate::fake::image();
    image.apply(&MetadataRecord::Config(classic_only)).unwrap();
    *fixture.node.image.lock() = Arc::new(image);
    let unsupported = ErrorCode::UnsupportedVersion.number();
    let request = ConsumerGroupHeartbeatRequest::default().with_group_id(text("group").into());
    let response: ConsumerGroupHeartbeatResponse = ask(&fixture, 68, 1, &request).await;
    assert_eq!(response.error_code, unsupported);
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![text("group").into()]);
    let response: ConsumerGroupDescribeResponse = ask(&fixture, 69, 1, &request).await;
    assert_eq!(response.groups[0].error_code, unsupported);
    assert!(fixture.node.groups.commands.lock().is_empty());
}
