//! LeaveGroup, of one and of many.

use std::sync::Arc;

use super::bench::*;
use crate::error::ErrorCode;
use crate::groups::commands::Left;

fn errors(left: &Left) -> Vec<ErrorCode> {
    assert_eq!(left.error, ErrorCode::None);
    left.members.iter().map(|(_, _, error)| *error).collect()
}

#[test]
fn a_member_leaves_and_the_others_rebalance() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b"]);
    assert_eq!(errors(&bench.leave(&[("nobody", None)])), [ErrorCode::UnknownMemberId]);
    assert_eq!(bench.group.state(), "Stable");
    let left = bench.leave(&[(&members[0], None)]);
    assert_eq!(left.members, [(members[0].clone(), None, ErrorCode::None)]);
    assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::RebalanceInProgress);
    let token = bench.join(rejoin(&members[1]));
    assert_eq!(bench.joined(token).leader, members[1]);
}

#[test]
fn the_last_to_leave_empties_the_group_at_once() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b"]);
    let left = bench.leave(&[(&members[0], None), (&members[1], None), (&members[0], None)]);
    assert_eq!(
        errors(&left),
        [ErrorCode::None, ErrorCode::None, ErrorCode::UnknownMemberId]
    );
    assert_eq!(bench.group.state(), "Empty");
    assert_eq!((bench.value().generation, bench.value().members.len()), (2, 0));
    assert_eq!(bench.timers.next(), None);
    assert_eq!(bench.group.size_bytes(), 0);
}

#[test]
fn who_has_joined_need_not_wait_for_those_who_leave() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b", "c"]);
    let leader = bench.join(rejoin(&members[0]));
    bench.leave(&[(&members[1], None)]);
    assert!(bench.waits(leader));
    bench.leave(&[(&members[2], None)]);
    assert_eq!(bench.joined(leader).generation_id, 2);
}

#[test]
fn a_member_that_leaves_while_it_waits_is_answered() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b"]);
    let joining = bench.join(rejoin(&members[0]));
    bench.leave(&[(&members[0], None)]);
    assert_eq!(bench.joined(joining).error, ErrorCode::UnknownMemberId);
    let (_, new) = bench.join_twice(join("c"));
    let old = bench.join(rejoin(&members[1]));
    let follower = [new, old].map(|token| bench.joined(token));
    let follower = follower
        .iter()
        .find(|joined| joined.member_id != joined.leader)
        .unwrap();
    let syncing = bench.sync(sync(&follower.member_id, 2));
    bench.leave(&[(&follower.member_id, None)]);
    assert_eq!(bench.synced(syncing).error, ErrorCode::UnknownMemberId);
}

#[test]
fn ids_that_were_only_given_can_be_given_back() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a"]);
    let give = |bench: &mut Bench| -> Arc<str> {
        let token = bench.join(join("pending"));
        bench.joined(token).member_id
    };
    let pending = give(&mut bench);
    assert_eq!(errors(&bench.leave(&[(&pending, None)])), [ErrorCode::None]);
    assert_eq!(bench.group.state(), "Stable");
    assert_eq!(errors(&bench.leave(&[(&pending, None)])), [ErrorCode::UnknownMemberId]);

    let pending = give(&mut bench);
    let token = bench.join(rejoin(&members[0]));
    assert!(bench.waits(token));
    let left = bench.leave(&[(&pending, None), ("nobody", None)]);
    assert_eq!(errors(&left), [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(bench.joined(token).generation_id, 2);
}

#[test]
fn static_members_are_taken_out_by_their_instance_ids() {
    let mut bench = Bench::new();
    let members = bench.stable_of(vec![join_static("a"), join_static("b"), join_static("c")]);
    let of = |instance: &str| members.iter().find(|id| id.starts_with(instance)).unwrap();
    let left = bench.leave(&[("", Some("x")), ("", None), (of("b"), Some("a")), (of("b"), Some("x"))]);
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(errors(&left), [unknown, unknown, ErrorCode::FencedInstanceId, unknown]);
    assert_eq!(bench.group.state(), "Stable");
    let left = bench.leave(&[("", Some("a")), (of("b"), Some("b"))]);
    assert_eq!(errors(&left), [ErrorCode::None, ErrorCode::None]);
    assert_eq!(left.members[0].0, "".into());
    assert_eq!(bench.group.state(), "PreparingRebalance");
    assert_eq!(bench.group.members().len(), 1);
}
