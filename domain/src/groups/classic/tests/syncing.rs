//! How assignments reach the members.

use super::bench::*;
use crate::coordinator::Token;
use crate::error::ErrorCode;
use crate::groups::commands::{Joined, SyncGroup};

/// Two members whose joins were answered: the leader, and the other.
fn completing(bench: &mut Bench) -> (Joined, Joined) {
    let tokens: Vec<Token> = ["a", "b"].map(|client| bench.join_twice(join(client)).1).into();
    bench.pass(2 * INITIAL_DELAY_MS);
    let joined: Vec<Joined> = tokens.iter().map(|token| bench.joined(*token)).collect();
    let (leader, follower): (Vec<_>, Vec<_>) = joined.into_iter().partition(|joined| joined.leader == joined.member_id);
    (leader[0].clone(), follower[0].clone())
}

fn assigning(leader: &Joined) -> SyncGroup {
    SyncGroup {
        assignments: leader
            .members
            .iter()
            .map(|member| (member.member_id.clone(), assignment(&member.member_id)))
            .collect(),
        ..sync(&leader.member_id, leader.generation_id)
    }
}

#[test]
fn followers_wait_for_the_leader_or_come_after_it() {
    let mut bench = Bench::new();
    let (leader, follower) = completing(&mut bench);
    let before = bench.sync(sync(&follower.member_id, 1));
    assert!(bench.waits(before));
    let leading = bench.sync(assigning(&leader));
    let after = bench.sync(sync(&follower.member_id, 1));
    assert_eq!(bench.synced(leading).assignment, assignment(&leader.member_id));
    let synced = bench.synced(before);
    assert_eq!(synced.assignment, assignment(&follower.member_id));
    assert_eq!(synced.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(synced.protocol_name.as_deref(), Some("range"));
    assert_eq!(bench.synced(after), synced);

    let value = bench.value();
    assert_eq!(bench.records.len(), 2);
    assert_eq!((value.generation, &*value.protocol_type), (1, "consumer"));
    assert_eq!(
        (value.protocol.as_deref(), value.leader.as_deref()),
        (Some("range"), Some(&*leader.member_id))
    );
    assert_eq!(value.current_state_timestamp, bench.now().timestamp.0);
    let member = value
        .members
        .iter()
        .find(|member| *member.member_id == *follower.member_id)
        .unwrap();
    assert_eq!(
        (member.client_id.as_str(), member.client_host.as_str()),
        ("b", "/127.0.0.1")
    );
    assert_eq!(
        (member.session_timeout, member.rebalance_timeout),
        (SESSION_MS, REBALANCE_MS)
    );
    assert_eq!(member.subscription, subscription(&["topic"]));
    assert_eq!(member.assignment, assignment(&follower.member_id));
}

#[test]
fn whom_the_leader_forgets_gets_an_empty_assignment() {
    let mut bench = Bench::new();
    let (leader, follower) = completing(&mut bench);
    let waiting = bench.sync(sync(&follower.member_id, 1));
    let mut request = assigning(&leader);
    request
        .assignments
        .retain(|(member_id, _)| *member_id == leader.member_id);
    request.assignments.push(("stranger".into(), assignment("stranger")));
    bench.sync(request);
    assert_eq!(bench.synced(waiting).error, ErrorCode::None);
    assert!(bench.synced(waiting).assignment.is_empty());
}

#[test]
fn wrong_requests_are_refused() {
    let mut bench = Bench::new();
    let refused = |bench: &mut Bench, request: SyncGroup| {
        let token = bench.sync(request);
        bench.synced(token).error
    };
    assert_eq!(refused(&mut bench, sync("nobody", 0)), ErrorCode::UnknownMemberId);
    let (leader, follower) = completing(&mut bench);
    assert_eq!(refused(&mut bench, sync("nobody", 1)), ErrorCode::UnknownMemberId);
    assert_eq!(
        refused(&mut bench, sync(&follower.member_id, 0)),
        ErrorCode::IllegalGeneration
    );
    let typed = |protocol_type: &str, protocol_name: &str| SyncGroup {
        protocol_type: Some(protocol_type.into()),
        protocol_name: Some(protocol_name.into()),
        ..sync(&follower.member_id, 1)
    };
    let inconsistent = ErrorCode::InconsistentGroupProtocol;
    assert_eq!(refused(&mut bench, typed("connect", "range")), inconsistent);
    assert_eq!(refused(&mut bench, typed("consumer", "roundrobin")), inconsistent);
    let right = bench.sync(typed("consumer", "range"));
    assert!(bench.waits(right));
    bench.sync(assigning(&leader));
    assert_eq!(bench.synced(right).error, ErrorCode::None);
    bench.join(rejoin(&leader.member_id));
    assert_eq!(
        refused(&mut bench, sync(&follower.member_id, 1)),
        ErrorCode::RebalanceInProgress
    );
}

#[test]
fn a_sync_that_comes_twice_is_answered_twice() {
    let mut bench = Bench::new();
    let (leader, follower) = completing(&mut bench);
    let first = bench.sync(sync(&follower.member_id, 1));
    let second = bench.sync(sync(&follower.member_id, 1));
    assert_eq!(bench.synced(first).error, ErrorCode::RebalanceInProgress);
    bench.sync(assigning(&leader));
    assert_eq!(bench.synced(second).assignment, assignment(&follower.member_id));
}

#[test]
fn a_leader_that_dies_while_it_assigns_makes_the_others_join_again() {
    let mut bench = Bench::new();
    let (leader, follower) = completing(&mut bench);
    let waiting = bench.sync(sync(&follower.member_id, 1));
    bench.pass(SESSION_MS);
    assert_eq!(bench.synced(waiting).error, ErrorCode::RebalanceInProgress);
    let token = bench.join(rejoin(&follower.member_id));
    let joined = bench.joined(token);
    assert_eq!((joined.generation_id, &joined.leader), (2, &follower.member_id));
    assert_eq!(bench.heartbeat(&leader.member_id, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn assignments_that_no_record_can_hold_are_refused() {
    let mut bench = Bench::new();
    let (leader, follower) = completing(&mut bench);
    let waiting = bench.sync(sync(&follower.member_id, 1));
    let written = bench.records.len();
    let mut request = assigning(&leader);
    request.assignments[0].1 = vec![0; bench.settings.record_max_bytes].into();
    let leading = bench.sync(request);
    for token in [waiting, leading] {
        assert_eq!(bench.synced(token).error, ErrorCode::UnknownServerError);
        assert!(bench.synced(token).assignment.is_empty());
    }
    assert_eq!(bench.records.len(), written);
    assert_eq!(bench.group.state(), "PreparingRebalance");
    assert!(bench.group.members().iter().all(|member| member.assignment.is_empty()));
    let tokens = [&leader, &follower].map(|joined| bench.join(rejoin(&joined.member_id)));
    bench.settle(&tokens);
}

#[test]
fn who_never_asks_for_its_assignment_is_out() {
    // Followers.
    let mut bench = Bench::new();
    let (leader, follower) = completing(&mut bench);
    bench.sync(assigning(&leader));
    let live = |bench: &mut Bench, member: &Joined| {
        bench.pass(5_000);
        assert_eq!(bench.heartbeat(&member.member_id, 1), ErrorCode::None);
    };
    for _ in 0..REBALANCE_MS / 5_000 - 1 {
        live(&mut bench, &leader);
        assert_eq!(bench.heartbeat(&follower.member_id, 1), ErrorCode::None);
    }
    bench.pass(5_000);
    assert_eq!(bench.heartbeat(&follower.member_id, 1), ErrorCode::UnknownMemberId);
    assert_eq!(bench.heartbeat(&leader.member_id, 1), ErrorCode::RebalanceInProgress);

    // The leader.
    let mut bench = Bench::new();
    let (leader, follower) = completing(&mut bench);
    let waiting = bench.sync(sync(&follower.member_id, 1));
    for _ in 0..REBALANCE_MS / 5_000 - 1 {
        live(&mut bench, &leader);
    }
    bench.pass(5_000);
    assert_eq!(bench.synced(waiting).error, ErrorCode::RebalanceInProgress);
    assert_eq!(bench.heartbeat(&leader.member_id, 1), ErrorCode::UnknownMemberId);
}
