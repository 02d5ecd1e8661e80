//! What a group looks like from outside, and what its records give back.

use bytes::Bytes;
use proptest::prelude::*;

use super::bench::*;
use crate::error::ErrorCode;
use crate::groups::classic::{ClassicGroup, InvalidGroup, Member, Protocols, Session, Subscriptions};
use crate::groups::commands::JoinGroup;
use crate::groups::offsets::ExpirationBase;
use crate::groups::records::GroupRecord;

#[test]
fn metadata_and_protocol_show_once_the_group_is_stable() {
    let mut bench = Bench::new();
    let described = bench.group.describe();
    assert_eq!((described.state, &*described.protocol_type), ("Empty", ""));
    let (_, token) = bench.join_twice(join("client"));
    let described = bench.group.describe();
    assert_eq!(
        (described.state, &*described.protocol_type),
        ("PreparingRebalance", "consumer")
    );
    assert_eq!((&*described.protocol_name, described.members.len()), ("", 1));
    assert!(described.members[0].metadata.is_empty());
    bench.pass(INITIAL_DELAY_MS);
    let members = bench.settle(&[token]);
    let described = bench.group.describe();
    assert_eq!((described.state, &*described.protocol_name), ("Stable", "range"));
    let member = &described.members[0];
    assert_eq!((&member.member_id, &*member.client_id), (&members[0], "client"));
    assert_eq!(member.metadata, subscription(&["topic"]));
    assert_eq!(member.assignment, assignment(&members[0]));
}

#[test]
fn a_group_with_members_is_not_deleted_and_offsets_only_of_topics_that_nobody_reads() {
    let mut bench = Bench::new();
    assert_eq!(
        (bench.group.check_delete(), bench.group.check_offset_delete()),
        (Ok(()), Ok(()))
    );
    let members = bench.stable(&["client"]);
    assert_eq!(bench.group.check_delete(), Err(ErrorCode::NonEmptyGroup));
    assert_eq!(bench.group.check_offset_delete(), Ok(()));
    assert!(bench.group.subscriptions().contains("topic"));
    assert!(!bench.group.subscriptions().contains("other"));
    bench.leave(&[(&members[0], None)]);
    assert_eq!(bench.group.check_delete(), Ok(()));
    assert!(!bench.group.subscriptions().contains("topic"));

    let mut bench = Bench::new();
    bench.stable_of(vec![JoinGroup {
        protocol_type: "connect".into(),
        ..join("worker")
    }]);
    assert_eq!(bench.group.check_offset_delete(), Err(ErrorCode::NonEmptyGroup));
    assert!(!bench.group.subscriptions().contains("topic"));
}

#[test]
fn offsets_expire_by_the_state_of_the_group() {
    let mut bench = Bench::new();
    assert_eq!(bench.group.offset_expiration(), ExpirationBase::Commit);
    let (member_id, token) = bench.join_twice(join("client"));
    assert_eq!(bench.group.offset_expiration(), ExpirationBase::Never);
    bench.pass(INITIAL_DELAY_MS);
    assert_eq!(bench.group.offset_expiration(), ExpirationBase::Never);
    bench.settle(&[token]);
    assert_eq!(bench.group.offset_expiration(), ExpirationBase::Commit);
    bench.leave(&[(&member_id, None)]);
    let since = bench.now().timestamp;
    bench.pass(1_000);
    assert_eq!(bench.group.offset_expiration(), ExpirationBase::Since(since));
    let mut old = bench.value();
    old.current_state_timestamp = -1;
    let old = ClassicGroup::from_record("group".into(), old).unwrap();
    assert_eq!(old.offset_expiration(), ExpirationBase::Commit);

    let mut bench = Bench::new();
    bench.stable_of(vec![JoinGroup {
        protocol_type: "connect".into(),
        ..join("worker")
    }]);
    assert_eq!(bench.group.offset_expiration(), ExpirationBase::Never);
}

fn with_metadata(metadata: Bytes) -> Bench {
    let mut bench = Bench::new();
    bench.stable_of(vec![
        join("client"),
        JoinGroup {
            protocols: vec![("range".into(), metadata)],
            ..join("hostile")
        },
    ]);
    bench
}

#[test]
fn a_group_with_unreadable_metadata_may_read_any_topic() {
    let read = subscription(&["b", "a", "b"]);
    let bench = with_metadata(read.clone());
    assert_eq!(
        bench.group.subscriptions(),
        Subscriptions::Topics(["a", "b", "topic"].into())
    );
    let mut endless = read.to_vec();
    endless[2..6].copy_from_slice(&i32::MAX.to_be_bytes());
    let mut null = read.to_vec();
    null[2..6].copy_from_slice(&(-1_i32).to_be_bytes());
    for hostile in [Bytes::new(), read.slice(..read.len() - 1), endless.into(), null.into()] {
        let bench = with_metadata(hostile);
        assert_eq!(bench.group.subscriptions(), Subscriptions::Unknown);
        assert!(bench.group.subscriptions().contains("whatever"));
    }
    // What later versions add does not matter.
    let mut newer = read.to_vec();
    newer[1] = 3;
    newer.extend([1, 2, 3]);
    assert!(!with_metadata(newer.into()).group.subscriptions().contains("other"));
}

proptest! {
    #[test]
    fn any_metadata_is_survived(metadata in prop::collection::vec(any::<u8>(), 0..40)) {
        with_metadata(metadata.into()).group.subscriptions().contains("topic");
    }
}

#[test]
fn records_that_no_group_can_have_written_are_refused() {
    let mut bench = Bench::new();
    bench.stable_of(vec![join_static("a"), join_static("b")]);
    let load = |value| ClassicGroup::from_record("group".into(), value).map(|group| group.describe());
    let value = bench.value();
    assert_eq!(load(value.clone()).unwrap(), bench.group.describe());
    let mut nameless = value.clone();
    nameless.protocol = None;
    assert_eq!(load(nameless), Err(InvalidGroup::NoProtocol("group".into())));
    let duplicate = |member_id: &str| InvalidGroup::DuplicateMember {
        group_id: "group".into(),
        member_id: member_id.into(),
    };
    let mut twice = value.clone();
    twice.members[1].member_id = twice.members[0].member_id.clone();
    assert_eq!(load(twice), Err(duplicate(&value.members[0].member_id)));
    let mut twice = value.clone();
    twice.members[1].group_instance_id = twice.members[0].group_instance_id.clone();
    assert_eq!(load(twice), Err(duplicate("a")));
    // What old versions lack has Kafka's stand-ins; a leader that is no member leads nobody.
    let mut old = value.clone();
    old.leader = None;
    old.members[0].rebalance_timeout = -1;
    let group = ClassicGroup::from_record("group".into(), old).unwrap();
    assert!(group.is_leader(&value.members[0].member_id));
    assert_eq!(
        group
            .members()
            .get(&value.members[0].member_id)
            .unwrap()
            .rebalance_timeout_ms,
        SESSION_MS
    );
}

#[test]
fn a_group_can_be_made_of_members() {
    let member = |member_id: &str, names: &[&str]| Member {
        member_id: member_id.into(),
        group_instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: REBALANCE_MS,
        session_timeout_ms: SESSION_MS,
        protocols: Protocols::new(&protocols(names)),
        assignment: Bytes::new(),
        session: Session::default(),
    };
    let now = Bench::new().now();
    let make = |members| ClassicGroup::from_members("group".into(), now, 7, "consumer".into(), members);
    assert!(make(vec![member("a", &["range"]), member("b", &["sticky"])]).is_none());
    let mut group = make(vec![member("a", &["range"]), member("b", &["sticky", "range"])]).unwrap();
    group.assign(|member, metadata| {
        assert_eq!(*metadata, subscription(&["topic"]));
        assignment(&member.member_id)
    });
    let GroupRecord::GroupMetadata(_, Some(value)) = group.to_record() else {
        panic!("no group");
    };
    assert_eq!(
        (value.generation, value.protocol.as_deref(), value.leader.as_deref()),
        (7, Some("range"), Some("a"))
    );
    let mut bench = Bench::of(group);
    bench.step(|group, ctx| group.loaded(ctx));
    assert_eq!(bench.heartbeat("a", 7), ErrorCode::None);
    let token = bench.sync(sync("b", 7));
    assert_eq!(bench.synced(token).assignment, assignment("b"));
    bench.step(|group, ctx| group.prepare_rebalance(ctx, format_args!("told to")));
    assert_eq!(bench.heartbeat("a", 7), ErrorCode::RebalanceInProgress);
}
