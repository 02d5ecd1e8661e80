//! Kafka promises the same; here the disk holds the log of offsets back, so that its coordinator is seen while it loads.
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use ottla_compat_tests::disk::Disk;
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{create_topic, text, topic_name};
use ottla_compat_tests::scenario::wait_for;

const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const UNKNOWN_MEMBER_ID: i16 = 25;
const COMMITS: i64 = 400;

fn group() -> GroupId {
    GroupId(text("group"))
}

fn commit(offset: i64, metadata: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(metadata)));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

fn find(connection: &mut Connection) -> i16 {
    let request = FindCoordinatorRequest::default().with_key(text("group"));
    connection.call(3, &request).unwrap().error_code
}

/// The error, and the offset.
fn committed(connection: &mut Connection) -> (i16, Option<i64>) {
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group())
        .with_topics(Some(vec![topic]));
    let answer = connection.call(7, &request).unwrap();
    let offset = answer.topics.first().map(|topic| topic.partitions[0].committed_offset);
    (answer.error_code, offset)
}

fn heartbeat(connection: &mut Connection) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("member"))
        .with_generation_id(1);
    connection.call(4, &request).unwrap().error_code
}

/// What all requests are told that need the groups.
fn refusals(on: &mut Connection) -> Vec<(&'static str, i16)> {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let sync = SyncGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text("member"));
    let leave = LeaveGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text("member"));
    let describe = DescribeGroupsRequest::default().with_groups(vec![group()]);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    let offset = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let offsets = OffsetDeleteRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![offset]);
    let delete_offsets = OffsetDeleteRequest::default()
        .with_group_id(group())
        .with_topics(vec![offsets]);
    let consumer = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("member"))
        .with_member_epoch(1);
    let describe_consumer = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
    let committed = on.call(8, &commit(0, "")).unwrap().topics.remove(0);
    vec![
        ("JoinGroup", on.call(3, &join).unwrap().error_code),
        ("SyncGroup", on.call(2, &sync).unwrap().error_code),
        ("LeaveGroup", on.call(2, &leave).unwrap().error_code),
        ("OffsetCommit", committed.partitions[0].error_code),
        ("OffsetDelete", on.call(0, &delete_offsets).unwrap().error_code),
        ("DescribeGroups", on.call(5, &describe).unwrap().groups[0].error_code),
        (
            "ListGroups",
            on.call(4, &ListGroupsRequest::default()).unwrap().error_code,
        ),
        ("DeleteGroups", on.call(1, &delete).unwrap().results[0].error_code),
        ("ConsumerGroupHeartbeat", on.call(1, &consumer).unwrap().error_code),
        (
            "ConsumerGroupDescribe",
            on.call(1, &describe_consumer).unwrap().groups[0].error_code,
        ),
    ]
}

#[test]
fn groups_that_are_not_loaded_yet_are_said_to_be_loading() {
    let options = Options::with(&["offsets.topic.num.partitions=1", "offsets.topic.segment.bytes=1048576"]);
    let mut node = Node::formatted(Target::Ottla, options);
    let disk = Disk::under(&mut node);
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    create_topic(&mut connection, "t", 1, &[]);
    wait_for(
        || (find(&mut connection) == 0 && committed(&mut connection).0 == 0).then_some(()),
        || "no coordinator".into(),
    );
    // A start looks at the last segment, so there have to be two.
    let metadata = "x".repeat(4000);
    for offset in 1..=COMMITS {
        connection.send(8, &commit(offset, &metadata)).unwrap();
    }
    for _ in 1..=COMMITS {
        let answer = connection.receive::<OffsetCommitRequest>(8).unwrap();
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }
    let log = node.replica_dir("__consumer_offsets", 0);
    let segments = std::fs::read_dir(&log).unwrap().flatten();
    let segments = segments.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "log"));
    assert!(segments.count() > 1, "segments have to roll for this to mean something");
    assert!(node.stop().success());

    disk.settle();
    disk.rule(&["stall read data0/__consumer_offsets-0/00000000000000000000.log".to_owned()]);
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    wait_for(
        || (committed(&mut connection).0 == COORDINATOR_LOAD_IN_PROGRESS).then_some(()),
        || "it does not load".into(),
    );
    for round in 0..3 {
        for (api, code) in refusals(&mut connection) {
            assert_eq!(code, COORDINATOR_LOAD_IN_PROGRESS, "{api} in round {round}");
        }
        assert_eq!(committed(&mut connection), (COORDINATOR_LOAD_IN_PROGRESS, None));
        assert_eq!(find(&mut connection), 0, "clients come here and ask again");
        assert_eq!(heartbeat(&mut connection), 0, "members live on");
    }

    disk.rule(&[]);
    let loaded = wait_for(
        || Some(committed(&mut connection)).filter(|(code, _)| *code != COORDINATOR_LOAD_IN_PROGRESS),
        || "it loads for ever".into(),
    );
    assert_eq!(loaded, (0, Some(COMMITS)));
    assert_eq!(heartbeat(&mut connection), UNKNOWN_MEMBER_ID);
}
