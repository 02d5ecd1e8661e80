//! Groups in masses, members that come and vanish, and what they say of themselves.
use std::io::ErrorKind;
use std::thread::sleep;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DeleteGroupsRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, JoinGroupRequest, JoinGroupResponse, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::Request;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, create_topic, text, topic_name};
use ottla_compat_tests::scenario::{wait_for, wait_within};

use crate::Attack;
use crate::victim::{MEMORY_MAX_MB, Victim};

pub const ATTACKS: &[Attack] = &[
    ("classic-groups", false, || classic_groups(10_000)),
    ("consumer-groups", false, || consumer_groups(10_000)),
    ("large-classic-group", false, || large_classic_group(1_000)),
    ("large-consumer-group", false, || large_consumer_group(1_000)),
    ("group-blobs", false, blobs),
    ("group-of-fat-members", false, fat_members),
    ("groups-of-fat-members", false, fat_groups),
    ("group-subscriptions", false, subscriptions),
    ("group-patterns", false, patterns),
    ("group-offsets", false, || offsets(20_000)),
    ("group-names", false, names),
];

const CLOSED: &str = "connection closed";

/// The last versions in which who joins needs no id.
const JOIN: i16 = 3;
const SYNC: i16 = 3;
const HEARTBEAT: i16 = 1;
const COMMIT: i16 = 8;

const UNKNOWN_SERVER_ERROR: i16 = -1;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const GROUP_ID_NOT_FOUND: i16 = 69;
const GROUP_MAX_SIZE_REACHED: i16 = 81;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
const FENCED_MEMBER_EPOCH: i16 = 110;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

/// The longest name that the protocol has room for.
const NAME_MAX: usize = 32_767;
/// Members are silent for as long before they are out.
const SESSION_MS: i32 = 5_000;
/// Logs and their indexes grow, and what is freed is not free for all sizes.
const NOISE_MB: f64 = 15.0;

/// A node with groups, which go soon after their members.
fn start(properties: &[&str]) -> Victim {
    let session = format!("group.consumer.session.timeout.ms={SESSION_MS}");
    let mut all = vec![
        "group.initial.rebalance.delay.ms=0",
        "group.min.session.timeout.ms=1000",
        "group.consumer.min.session.timeout.ms=1000",
        "group.consumer.min.heartbeat.interval.ms=100",
        "group.consumer.heartbeat.interval.ms=200",
        "offsets.retention.check.interval.ms=1000",
        &session,
    ];
    all.extend(properties);
    let victim = Victim::start(&all);
    // In so many groups are some of each partition of the topic of offsets.
    let names: Vec<_> = (0..1_000).map(|name| text(&format!("probe-{name}"))).collect();
    let find = FindCoordinatorRequest::default().with_coordinator_keys(names.clone());
    let groups = names.into_iter().map(|name| {
        OffsetFetchRequestGroup::default()
            .with_group_id(name.into())
            .with_topics(None)
    });
    let fetch = OffsetFetchRequest::default().with_groups(groups.collect());
    let mut connection = victim.connect();
    wait_for(
        || {
            let found = connection.call(4, &find).unwrap().coordinators;
            let fetched = connection.call(8, &fetch).unwrap().groups;
            let codes = found.iter().map(|found| found.error_code);
            let mut codes = codes.chain(fetched.iter().map(|group| group.error_code));
            codes.all(|code| code == 0).then_some(())
        },
        || "groups have no coordinators".into(),
    );
    victim
}

/// Calls over some connections, with some requests under way on each; answers come in the order of the requests.
fn call_all<R: Request>(
    victim: &Victim,
    version: i16,
    requests: impl IntoIterator<Item = R>,
    mut take: impl FnMut(R::Response),
) {
    let mut connections: Vec<_> = (0..16).map(|_| victim.connect()).collect();
    let mut requests = requests.into_iter().peekable();
    while requests.peek().is_some() {
        let mut sent = Vec::new();
        for connection in &mut connections {
            let mut count = 0;
            for request in requests.by_ref().take(20) {
                connection.send(version, &request).unwrap();
                count += 1;
            }
            sent.push(count);
        }
        for (connection, count) in connections.iter_mut().zip(sent) {
            (0..count).for_each(|_| take(connection.receive::<R>(version).unwrap()));
        }
    }
}

/// The same attack twice, during which others are served: the second one finds the memory that the first one took.
fn in_two_waves(victim: &Victim, attack: impl Fn()) {
    let before = victim.serve(300);
    let before_mb = victim.memory().peak_mb;
    let (peaks_mb, during) = victim.serve_during(|| {
        [(); 2].map(|()| {
            attack();
            victim.memory().peak_mb
        })
    });
    let now_mb = victim.memory().now_mb;
    let [first_mb, second_mb] = peaks_mb;
    println!("{before_mb} MB before, {first_mb} MB and {second_mb} MB at most in two waves, {now_mb} MB after them");
    during.assert_like(&before, 20);
    assert!(second_mb < MEMORY_MAX_MB);
    // How much the allocator has given back by then is chance; without any end a wave would add what the first took.
    let more_mb = (first_mb - before_mb) + NOISE_MB;
    assert!(second_mb - first_mb < more_mb, "little was given back");
}

fn group_count(victim: &Victim) -> usize {
    let listed = victim.connect().call(4, &ListGroupsRequest::default()).unwrap();
    assert_eq!(listed.error_code, 0);
    listed.groups.len()
}

/// Waits until all members are out, and their groups gone with them.
fn wait_no_groups(victim: &Victim) {
    wait_within(
        Duration::from_secs(60),
        || {
            // To list many is no small thing.
            sleep(Duration::from_millis(200));
            (group_count(victim) == 0).then_some(())
        },
        || format!("{} groups are still there", group_count(victim)),
    );
}

/// The subscription of a consumer to one topic.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(-1);
    bytes.freeze()
}

/// A member joins with one protocol.
fn join(group: &str, metadata: &Bytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(metadata.clone());
    JoinGroupRequest::default()
        .with_group_id(text(group).into())
        .with_session_timeout_ms(SESSION_MS)
        .with_rebalance_timeout_ms(SESSION_MS)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// A member asks for its assignment; if it leads, with the same one for each member.
fn sync(group: &str, joined: &JoinGroupResponse, assignment: &Bytes) -> SyncGroupRequest {
    let assignments = joined.members.iter().map(|member| {
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(assignment.clone())
    });
    SyncGroupRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(assignments.collect())
}

/// A member of a consumer group joins.
fn consume(group: &str, member: &str, topics: &[String]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(text(group).into())
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(SESSION_MS)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| topic_name(topic)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

/// The same for what matches a pattern.
fn consume_matching(group: &str, member: &str, pattern: &str) -> ConsumerGroupHeartbeatRequest {
    consume(group, member, &[])
        .with_subscribed_topic_names(None)
        .with_subscribed_topic_regex(Some(text(pattern)))
}

/// Commits an offset of each of these partitions from outside of the group.
fn commit(
    group: &str,
    topic: &Topic,
    partitions: impl IntoIterator<Item = i32>,
    metadata: &str,
) -> OffsetCommitRequest {
    let partitions = partitions.into_iter().map(|partition| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(7)
            .with_committed_metadata(Some(text(metadata)))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(&topic.name))
        .with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// The one error that all partitions of a commit have.
fn committed(victim: &Victim, request: &OffsetCommitRequest) -> i16 {
    let answer = victim.connect().call(COMMIT, request).unwrap();
    let mut codes: Vec<_> = answer.topics[0].partitions.iter().map(|one| one.error_code).collect();
    codes.dedup();
    assert_eq!(codes.len(), 1, "{codes:?}");
    codes[0]
}

fn classic_groups(count: usize) {
    let victim = start(&[]);
    in_two_waves(&victim, || {
        let metadata = subscription("good");
        let joins = (0..count).map(|number| join(&format!("group-{number}"), &metadata));
        call_all(&victim, JOIN, joins, |joined| {
            assert_eq!(joined.error_code, 0, "{joined:?}")
        });
        println!("{} groups", group_count(&victim));
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

fn consumer_groups(count: usize) {
    let victim = start(&[]);
    in_two_waves(&victim, || {
        let topics = ["good".to_owned()];
        let joins = (0..count).map(|number| consume(&format!("group-{number}"), "member", &topics));
        let check = |joined: ConsumerGroupHeartbeatResponse| assert_eq!(joined.error_code, 0, "{joined:?}");
        call_all(&victim, HEARTBEAT, joins, check);
        println!("{} groups", group_count(&victim));
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

/// Members join at once, have an assignment, and are not heard of again.
fn large_classic_group(size: usize) {
    let victim = start(&["group.initial.rebalance.delay.ms=500"]);
    let name = "large";
    in_two_waves(&victim, || {
        let mut members: Vec<_> = (0..size).map(|_| victim.connect()).collect();
        let metadata = subscription("good");
        for member in &mut members {
            member.send(JOIN, &join(name, &metadata)).unwrap();
        }
        let receive = |member: &mut Connection| member.receive::<JoinGroupRequest>(JOIN).unwrap();
        let joined: Vec<_> = members.iter_mut().map(receive).collect();
        for (member, joined) in members.iter_mut().zip(&joined) {
            assert_eq!(joined.error_code, 0, "{joined:?}");
            member.send(SYNC, &sync(name, joined, &metadata)).unwrap();
        }
        for member in &mut members {
            let synced = member.receive::<SyncGroupRequest>(SYNC).unwrap();
            assert_eq!((synced.error_code, &synced.assignment), (0, &metadata));
        }
        let describe = DescribeGroupsRequest::default().with_groups(vec![text(name).into()]);
        let group = members[0].call(5, &describe).unwrap().groups.remove(0);
        assert_eq!((&*group.group_state, group.members.len()), ("Stable", size));
        drop(members);
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

/// A member of a consumer group, and what it knows.
struct Consumer {
    id: String,
    epoch: i32,
    owned: Vec<i32>,
}

/// Members join at once, are brought to their assignment, and are not heard of again.
fn large_consumer_group(size: usize) {
    let victim = start(&[]);
    let topic = create_topic(&mut victim.connect(), "large", 100, &[]);
    let name = "large";
    in_two_waves(&victim, || {
        let new = |number| Consumer {
            id: format!("member-{number}"),
            epoch: 0,
            owned: Vec::new(),
        };
        let mut members: Vec<_> = (0..size).map(new).collect();
        let heartbeat = |member: &Consumer| {
            let owned = TopicPartitions::default()
                .with_topic_id(topic.id)
                .with_partitions(member.owned.clone());
            let owned = Some(owned).filter(|owned| !owned.partitions.is_empty());
            let request = consume(name, &member.id, std::slice::from_ref(&topic.name))
                .with_member_epoch(member.epoch)
                .with_topic_partitions(Some(Vec::from_iter(owned)));
            match member.epoch {
                0 => request,
                _ => request.with_rebalance_timeout_ms(-1).with_subscribed_topic_names(None),
            }
        };
        let describe = ConsumerGroupDescribeRequest::default().with_group_ids(vec![text(name).into()]);
        wait_within(
            Duration::from_secs(60),
            || {
                let requests: Vec<_> = members.iter().map(heartbeat).collect();
                let mut of = members.iter_mut();
                call_all(&victim, HEARTBEAT, requests, |answer| {
                    assert_eq!(answer.error_code, 0, "{answer:?}");
                    let member = of.next().unwrap();
                    member.epoch = answer.member_epoch;
                    if let Some(assignment) = answer.assignment {
                        let topics = assignment.topic_partitions.into_iter();
                        member.owned = topics.flat_map(|topic| topic.partitions).collect();
                    }
                });
                let group = victim.connect().call(0, &describe).unwrap().groups.remove(0);
                assert_eq!(group.members.len(), size);
                (&*group.group_state == "Stable").then_some(())
            },
            || "the group does not become stable".into(),
        );
        let mut owned: Vec<_> = members.iter().flat_map(|member| &member.owned).collect();
        owned.sort();
        assert!(owned.into_iter().copied().eq(0..100), "each partition has a reader");
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

/// Subscriptions and assignments that are none, and that announce more than there is.
fn blobs() {
    let victim = start(&[]);
    let written = |write: &dyn Fn(&mut BytesMut)| {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        bytes.freeze()
    };
    let announced = |version: i16, counts: &[i32]| {
        written(&|bytes| {
            bytes.put_i16(version);
            counts.iter().for_each(|count| bytes.put_i32(*count));
        })
    };
    let blobs = [
        Bytes::new(),
        Bytes::from(vec![0xff; 100_000]),
        announced(-1, &[0, -1]),
        announced(0, &[i32::MAX]),
        announced(0, &[-2]),
        announced(1, &[0, i32::MAX]),
        announced(1, &[0, -1, i32::MAX]),
        announced(3, &[1 << 30, 1 << 30]),
        written(&|bytes| {
            bytes.put_i16(0);
            bytes.put_i32(1);
            bytes.put_i16(i16::MAX);
        }),
    ];
    in_two_waves(&victim, || {
        for (number, blob) in blobs.iter().enumerate() {
            let name = format!("group-{number}");
            let mut connection = victim.connect();
            let joined = connection.call(JOIN, &join(&name, blob)).unwrap();
            assert_eq!(joined.error_code, 0, "{joined:?}");
            let synced = connection.call(SYNC, &sync(&name, &joined, blob)).unwrap();
            assert_eq!((synced.error_code, &synced.assignment), (0, blob));
            // Now they are looked into.
            let partitions = vec![OffsetDeleteRequestPartition::default()];
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(topic_name("good"))
                .with_partitions(partitions);
            let delete = OffsetDeleteRequest::default()
                .with_group_id(text(&name).into())
                .with_topics(vec![topic]);
            let deleted = connection.call(0, &delete).unwrap();
            let code = deleted.topics[0].partitions[0].error_code;
            // Which topics it reads is told by what all versions begin with.
            let is_readable = blob[..].get(2..10) == Some(&[0, 0, 0, 0, 255, 255, 255, 255]);
            let expected = if is_readable { 0 } else { GROUP_SUBSCRIBED_TO_TOPIC };
            assert_eq!(code, expected, "{number}");
            let upgraded = connection
                .call(HEARTBEAT, &consume(&name, "member", &["good".into()]))
                .unwrap();
            assert_eq!(upgraded.error_code, GROUP_ID_NOT_FOUND, "{blob:?}");
            assert!(upgraded.error_message.unwrap().contains("malformed"));
        }
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

/// A group whose members say more than 16 MiB together, and than one record can hold.
fn fat_members() {
    let victim = start(&["group.initial.rebalance.delay.ms=1000"]);
    let metadata = Bytes::from(vec![0; 1 << 20]);
    let name = "fat";
    in_two_waves(&victim, || {
        let mut members: Vec<_> = (0..30).map(|_| victim.connect()).collect();
        for member in &mut members {
            member.send(JOIN, &join(name, &metadata)).unwrap();
        }
        let receive = |member: &mut Connection| member.receive::<JoinGroupRequest>(JOIN).unwrap();
        let joined: Vec<_> = members.iter_mut().map(receive).collect();
        let is_in = |joined: &JoinGroupResponse| match joined.error_code {
            0 => true,
            GROUP_MAX_SIZE_REACHED => false,
            _ => panic!("{joined:?}"),
        };
        let count = joined.iter().filter(|joined| is_in(joined)).count();
        assert_eq!(count, 15);
        let leader = joined.iter().position(|joined| !joined.members.is_empty()).unwrap();
        assert_eq!(joined[leader].members.len(), count);
        let synced = members[leader]
            .call(SYNC, &sync(name, &joined[leader], &Bytes::new()))
            .unwrap();
        assert_eq!(synced.error_code, UNKNOWN_SERVER_ERROR);
        drop(members);
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

/// Many groups whose members say much, each of its own: more than `ottla.group.memory.bytes` together.
fn fat_groups() {
    let victim = start(&["ottla.group.memory.bytes=50000000"]);
    // The others are told to come again.
    let check = |codes: Vec<i16>, room: usize| {
        let expected = (0..codes.len()).map(|place| if place < room { 0 } else { COORDINATOR_NOT_AVAILABLE });
        assert_eq!(codes, Vec::from_iter(expected));
    };
    in_two_waves(&victim, || {
        let mut connection = victim.connect();
        let metadata = Bytes::from(vec![0; 3_000_000]);
        let joins = (0..40).map(|number| join(&format!("joins-{number}"), &metadata));
        let joined = joins.map(|request| connection.call(JOIN, &request).unwrap().error_code);
        check(joined.collect(), 16);
        wait_no_groups(&victim);

        let assignment = Bytes::from(vec![0; 900_000]);
        let names: Vec<_> = (0..100).map(|number| format!("syncs-{number}")).collect();
        let mut joined = Vec::new();
        let joins = names.iter().map(|name| join(name, &subscription("good")));
        call_all(&victim, JOIN, joins, |answer| joined.push(answer));
        let syncs = names
            .iter()
            .zip(&joined)
            .map(|(name, joined)| sync(name, joined, &assignment));
        let synced = syncs.map(|request| connection.call(SYNC, &request).unwrap().error_code);
        check(synced.collect(), 55);
        wait_no_groups(&victim);

        let topics: Vec<_> = (0..2_000).map(|number| format!("{number:0>249}")).collect();
        let consumes = (0..80).map(|number| consume(&format!("consumes-{number}"), "member", &topics));
        let consumed = consumes.map(|request| connection.call(HEARTBEAT, &request).unwrap().error_code);
        check(consumed.collect(), 42);
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

/// Members that subscribe to thousands of topics, and say so again and again.
fn subscriptions() {
    let victim = start(&[]);
    let mut names: Vec<String> = (0..4_000).map(|number| format!("{number:0>200}")).collect();
    names.push("good".into());
    in_two_waves(&victim, || {
        let joins = (0..20).map(|number| consume("many", &format!("member-{number}"), &names));
        call_all(&victim, HEARTBEAT, joins, |joined| {
            assert_eq!(joined.error_code, 0, "{joined:?}")
        });
        let all_names: Vec<String> = (0..15_000).map(|number| format!("{number:0>200}")).collect();
        let joins = (0..20).map(|number| consume("too-many", &format!("member-{number}"), &all_names));
        call_all(&victim, HEARTBEAT, joins, |joined| {
            assert_eq!(joined.error_code, UNKNOWN_SERVER_ERROR)
        });
        // Of partitions that it never had.
        let owned = (0..10_000).map(|_| TopicPartitions::default().with_partitions(vec![0; 10]));
        let owns = consume("many", "member-0", &names)
            .with_member_epoch(1)
            .with_topic_partitions(Some(owned.collect()));
        let answer = victim.connect().call(HEARTBEAT, &owns).unwrap();
        assert_eq!(answer.error_code, FENCED_MEMBER_EPOCH, "{answer:?}");
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

/// Patterns that would be large programs, and many of them.
fn patterns() {
    let victim = start(&[]);
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    let refused = [
        "(a{1000}){1000}".to_owned(),
        "((a{100}){100}){100}".to_owned(),
        r"(\pL{500}){500}".to_owned(),
        r"\w{1000}".to_owned(),
        nested(16_000),
        "(".repeat(NAME_MAX),
        "a{".repeat(16_000),
        "[".repeat(NAME_MAX),
        // RE2 takes it: here no program is larger than 1 MiB.
        "x".repeat(NAME_MAX),
    ];
    let taken = [
        "(a*)*".to_owned(),
        "((a?){50}a{50}){2}".to_owned(),
        "a|".repeat(16_000),
        "x".repeat(8_000),
        nested(100),
    ];
    in_two_waves(&victim, || {
        let mut connection = victim.connect();
        for pattern in &refused {
            let shown = &pattern[..20.min(pattern.len())];
            let answer = connection
                .call(HEARTBEAT, &consume_matching("refused", "member", pattern))
                .unwrap();
            assert_eq!(answer.error_code, INVALID_REGULAR_EXPRESSION, "{shown}");
            let message = answer.error_message.unwrap();
            assert!(
                message.contains(shown) && message.len() <= NAME_MAX,
                "{}",
                message.len()
            );
        }
        for (number, pattern) in taken.iter().enumerate() {
            let shown = &pattern[..20.min(pattern.len())];
            let join = consume_matching("taken", &format!("member-{number}"), pattern);
            let answer = connection.call(HEARTBEAT, &join).unwrap();
            assert_eq!(answer.error_code, 0, "{shown}: {answer:?}");
        }
        let joins = (0..200).map(|number| {
            let pattern = format!("(x{number}|.{{0,200}}){}", "y".repeat(2_000));
            consume_matching("many", &format!("member-{number}"), &pattern)
        });
        call_all(&victim, HEARTBEAT, joins, |joined| {
            assert_eq!(joined.error_code, 0, "{joined:?}")
        });
        wait_no_groups(&victim);
    });
    victim.complaints([]);
}

/// Many offsets, and large ones.
fn offsets(groups: usize) {
    const PARTITIONS: i32 = 5;
    let victim = start(&[]);
    let topic = create_topic(&mut victim.connect(), "topic", 200, &[]);
    in_two_waves(&victim, || {
        for _ in 0..2 {
            let commits = (0..groups).map(|number| commit(&format!("group-{number}"), &topic, 0..PARTITIONS, ""));
            call_all(&victim, COMMIT, commits, |answer| {
                let mut partitions = answer.topics[0].partitions.iter();
                assert!(partitions.all(|partition| partition.error_code == 0));
            });
        }
        assert_eq!(group_count(&victim), groups);
        // Those in more states than there are.
        let states = (0..300_000).map(|state| text(&format!("{state:x}")));
        let filter = ListGroupsRequest::default().with_states_filter(states.collect());
        let listed = victim.connect().call(4, &filter).unwrap();
        assert_eq!((listed.error_code, listed.groups.len()), (0, 0));
        let most = "m".repeat(4096);
        for _ in 0..20 {
            assert_eq!(committed(&victim, &commit("fat", &topic, 0..200, &most)), 0);
        }
        let more = "m".repeat(4097);
        let answer = committed(&victim, &commit("fat", &topic, 0..200, &more));
        assert_eq!(answer, OFFSET_METADATA_TOO_LARGE);
        // More than one batch may hold.
        let twice = (0..200).chain(0..200);
        assert_eq!(
            committed(&victim, &commit("fat", &topic, twice, &most)),
            UNKNOWN_SERVER_ERROR
        );

        let names: Vec<_> = (0..groups)
            .map(|number| format!("group-{number}"))
            .chain(["fat".into()])
            .collect();
        let deletes = names.chunks(500).map(|names| {
            let names = names.iter().map(|name| text(name).into());
            DeleteGroupsRequest::default().with_groups_names(names.collect())
        });
        call_all(&victim, 2, deletes, |answer| {
            assert!(answer.results.iter().all(|result| result.error_code == 0));
        });
        assert_eq!(group_count(&victim), 0);
    });
    let [told] = victim.complaints(["the coordinator's records cannot be written"]);
    assert!(told <= 2);
}

/// Names as long as the protocol allows, and longer.
fn names() {
    const GROUPS: usize = 60;
    let victim = start(&[]);
    let topic = create_topic(&mut victim.connect(), "topic", 100, &[]);
    let long = |number: usize| format!("{number:0>NAME_MAX$}");
    in_two_waves(&victim, || {
        let name = long(0);
        let commits = (0..GROUPS).map(|number| commit(&long(number), &topic, 0..10, ""));
        call_all(&victim, COMMIT, commits, |answer| {
            assert_eq!(answer.topics[0].partitions[0].error_code, 0)
        });
        // Each record would have the name of the group.
        assert_eq!(
            committed(&victim, &commit(&name, &topic, 0..100, "")),
            UNKNOWN_SERVER_ERROR
        );
        let again = std::iter::repeat_n(0, 50_000);
        assert_eq!(
            committed(&victim, &commit(&name, &topic, again, "")),
            UNKNOWN_SERVER_ERROR
        );
        let partitions = vec![OffsetDeleteRequestPartition::default(); 200_000];
        let again = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(&topic.name))
            .with_partitions(partitions);
        let delete = OffsetDeleteRequest::default()
            .with_group_id(text(&name).into())
            .with_topics(vec![again]);
        let deleted = victim.connect().call(0, &delete).unwrap();
        assert!(
            deleted.topics[0]
                .partitions
                .iter()
                .all(|partition| partition.error_code == 0)
        );
        for group in 0..GROUPS {
            let delete = DeleteGroupsRequest::default().with_groups_names(vec![text(&long(group)).into()]);
            assert_eq!(victim.connect().call(2, &delete).unwrap().results[0].error_code, 0);
        }

        let joins = (0..GROUPS).map(|number| join(&long(number), &subscription("good")));
        call_all(&victim, JOIN, joins, |joined| assert_eq!(joined.error_code, 0));
        let consumes = (GROUPS..2 * GROUPS).map(|number| consume(&long(number), &name, &["good".into()]));
        call_all(&victim, HEARTBEAT, consumes, |joined| {
            assert_eq!(joined.error_code, 0, "{:?}", joined.error_message)
        });
        let longer = format!("{name}x");
        let closed = victim
            .connect()
            .call(COMMIT, &commit(&longer, &topic, 0..1, ""))
            .unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::UnexpectedEof);
        wait_no_groups(&victim);
    });
    let [told] = victim.complaints([CLOSED]);
    assert!((1..=2).contains(&told));
}
