//! Heartbeats, commits, and members that are not heard of.

use super::bench::*;
use crate::error::ErrorCode;
use crate::groups::classic::ClassicGroup;

#[test]
fn heartbeats_are_answered_by_phase() {
    let mut bench = Bench::new();
    assert_eq!(bench.heartbeat("nobody", 0), ErrorCode::UnknownMemberId);
    let (member_id, token) = bench.join_twice(join("client"));
    assert_eq!(bench.heartbeat(&member_id, 0), ErrorCode::RebalanceInProgress);
    bench.pass(INITIAL_DELAY_MS);
    assert_eq!(bench.heartbeat(&member_id, 1), ErrorCode::None);
    assert_eq!(bench.heartbeat(&member_id, 0), ErrorCode::IllegalGeneration);
    bench.settle(&[token]);
    assert_eq!(bench.heartbeat(&member_id, 1), ErrorCode::None);
    assert_eq!(bench.heartbeat(&member_id, 2), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat("nobody", 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_silent_member_is_out_and_the_others_rebalance() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b"]);
    for _ in 0..3 {
        bench.pass(SESSION_MS - 1);
        assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::None);
        assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::None);
    }
    bench.pass(SESSION_MS / 2);
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::None);
    bench.pass(SESSION_MS / 2);
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::RebalanceInProgress);
    let token = bench.join(rejoin(&members[0]));
    assert_eq!(bench.joined(token).members.len(), 1);
}

#[test]
fn the_last_silent_member_leaves_an_empty_group_on_record() {
    let mut bench = Bench::new();
    bench.stable(&["a"]);
    bench.pass(SESSION_MS);
    assert_eq!(bench.group.state(), "Empty");
    let value = bench.value();
    assert_eq!((value.generation, value.members.len()), (2, 0));
    assert_eq!(
        (value.protocol, value.leader, &*value.protocol_type),
        (None, None, "consumer")
    );
    assert_eq!(value.current_state_timestamp, bench.now().timestamp.0);
    assert_eq!(bench.timers.next(), None);
}

#[test]
fn no_heartbeat_is_expected_of_a_member_that_waits() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b"]);
    let waiting = bench.join(rejoin(&members[0]));
    for _ in 0..5 {
        bench.pass(SESSION_MS - 1);
        assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::RebalanceInProgress);
    }
    assert!(bench.waits(waiting));
    let other = bench.join(rejoin(&members[1]));
    // From now on its session counts again.
    assert_eq!(bench.joined(waiting).generation_id, 2);
    bench.pass(SESSION_MS - 1);
    assert_eq!(bench.heartbeat(&members[1], 2), ErrorCode::None);
    bench.pass(1);
    assert_eq!(bench.heartbeat(&members[0], 2), ErrorCode::UnknownMemberId);
    assert_eq!(bench.joined(other).error, ErrorCode::None);
}

#[test]
fn a_loaded_group_gives_its_members_a_sessions_time() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b"]);
    let mut bench = Bench::of(ClassicGroup::from_record("group".into(), bench.value()).unwrap());
    bench.step(|group, ctx| group.loaded(ctx));
    assert_eq!(bench.group.state(), "Stable");
    bench.pass(SESSION_MS - 1);
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::None);
    let token = bench.sync(sync(&members[1], 1));
    assert_eq!(bench.synced(token).assignment, assignment(&members[1]));
    bench.pass(1);
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::UnknownMemberId);
}

#[test]
fn commits_come_from_members_or_while_there_are_none() {
    let mut bench = Bench::new();
    assert_eq!(bench.commit("", None, -1), Ok(()));
    assert_eq!(bench.commit("anyone", None, -1), Ok(()));
    assert_eq!(bench.commit("anyone", None, 0), Err(ErrorCode::UnknownMemberId));
    let (member_id, token) = bench.join_twice(join("client"));
    bench.pass(INITIAL_DELAY_MS);
    assert_eq!(bench.commit(&member_id, None, 1), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(bench.commit(&member_id, None, 0), Err(ErrorCode::IllegalGeneration));
    bench.settle(&[token]);
    assert_eq!(bench.commit(&member_id, None, 1), Ok(()));
    assert_eq!(bench.commit(&member_id, None, 0), Err(ErrorCode::IllegalGeneration));
    assert_eq!(bench.commit(&member_id, None, -1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(bench.commit("nobody", None, 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.commit("", None, -1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.commit("", Some("instance"), -1), Err(ErrorCode::UnknownMemberId));
    // A commit is a sign of life, also while the group waits for members to join again.
    bench.join(join("pending"));
    bench.pass(SESSION_MS - 1);
    assert_eq!(bench.commit(&member_id, None, 1), Ok(()));
    bench.pass(SESSION_MS - 1);
    assert_eq!(bench.group.members().len(), 1);
    bench.pass(1);
    assert!(bench.group.is_empty());
}

#[test]
fn static_members_commit_under_their_own_id() {
    let mut bench = Bench::new();
    let members = bench.stable_of(vec![join_static("a"), join_static("b")]);
    let instance = |member_id: &str| if member_id.starts_with("a-") { "a" } else { "b" };
    assert_eq!(bench.commit(&members[0], Some(instance(&members[0])), 1), Ok(()));
    let other = Some(instance(&members[1]));
    assert_eq!(bench.commit(&members[0], other, 1), Err(ErrorCode::FencedInstanceId));
}
