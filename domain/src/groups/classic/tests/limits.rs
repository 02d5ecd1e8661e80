//! `group.max.size`, and what hostile clients may not do.

use std::sync::Arc;

use bytes::Bytes;

use super::bench::*;
use crate::coordinator::Token;
use crate::error::ErrorCode;
use crate::groups::classic::ClassicGroup;
use crate::groups::commands::JoinGroup;

fn full(bench: &Bench, token: Token) -> bool {
    bench.joined(token).error == ErrorCode::GroupMaxSizeReached
}

#[test]
fn a_full_group_turns_new_members_away() {
    for requires_known_member_id in [true, false] {
        let request = JoinGroup {
            requires_known_member_id,
            ..join("client")
        };
        let mut bench = Bench::with_max_size(2);
        let enter = |bench: &mut Bench| match requires_known_member_id {
            true => bench.join_twice(request.clone()).1,
            false => bench.join(request.clone()),
        };
        let tokens = [enter(&mut bench), enter(&mut bench)];
        let third = bench.join(request.clone());
        assert!(full(&bench, third));
        assert_eq!(bench.joined(third).member_id, "".into());
        bench.pass(2 * INITIAL_DELAY_MS);
        let members = bench.settle(&tokens);
        let third = bench.join(request.clone());
        assert!(full(&bench, third));
        // Its own members it takes.
        let leader = bench.join(rejoin(&members[0]));
        let follower = bench.join(rejoin(&members[1]));
        bench.settle(&[leader, follower]);
    }
}

#[test]
fn those_who_were_given_an_id_do_not_count_and_may_find_the_group_full() {
    let mut bench = Bench::with_max_size(1);
    let pending: Vec<Token> = (0..2).map(|_| bench.join(join("client"))).collect();
    let first = bench.join(rejoin(&bench.joined(pending[0]).member_id));
    let second = bench.join(rejoin(&bench.joined(pending[1]).member_id));
    assert!(full(&bench, second));
    bench.pass(INITIAL_DELAY_MS);
    assert_eq!(bench.joined(first).error, ErrorCode::None);
}

#[test]
fn static_members_count_too_and_come_back_by_their_ids() {
    let mut bench = Bench::with_max_size(1);
    let members = bench.stable_of(vec![join_static("a")]);
    let other = bench.join(join_static("b"));
    assert!(full(&bench, other));
    // As in Kafka: without its id even a static member counts as new.
    let back = bench.join(join_static("a"));
    assert!(full(&bench, back));
    let back = bench.join(JoinGroup {
        group_instance_id: Some("a".into()),
        ..rejoin(&members[0])
    });
    assert_eq!(bench.joined(back).error, ErrorCode::None);
}

#[test]
fn a_loaded_group_that_is_too_large_rebalances_without_the_last_to_come() {
    let mut bench = Bench::new();
    let mut members = bench.stable(&["a", "b", "c"]);
    members.sort();
    let mut bench = Bench::of(ClassicGroup::from_record("group".into(), bench.value()).unwrap());
    bench.settings.max_size = 2;
    bench.step(|group, ctx| group.loaded(ctx));
    assert_eq!(bench.group.state(), "PreparingRebalance");
    assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.commit(&members[0], None, 1), Ok(()));
    let tokens: Vec<Token> = members.iter().map(|member| bench.join(rejoin(member))).collect();
    assert!(full(&bench, tokens[2]));
    // Nobody else has to be waited for.
    assert_eq!(bench.joined(tokens[0]).generation_id, 2);
    bench.settle(&tokens[..2]);
}

#[test]
fn ids_that_nobody_uses_do_not_fill_the_memory() {
    let mut bench = Bench::new();
    let client: String = "c".repeat(30_000);
    let mut given = 0;
    let refused = loop {
        let token = bench.join(join(&client));
        match bench.joined(token).error {
            ErrorCode::MemberIdRequired => given += 1,
            error => break error,
        }
    };
    assert_eq!(refused, ErrorCode::CoordinatorLoadInProgress);
    assert!((100..200).contains(&given), "{given}");
    assert!(bench.group.size_bytes() <= 4 << 20);
    bench.pass(SESSION_MS);
    assert_eq!(bench.group.size_bytes(), 0);
    assert_eq!(bench.timers.next(), None);
}

#[test]
fn an_id_that_no_record_can_hold_is_not_made() {
    let mut bench = Bench::new();
    for request in [join(&"c".repeat(32_767)), join_static(&"i".repeat(32_767))] {
        let token = bench.join(request);
        assert_eq!(bench.joined(token).error, ErrorCode::UnknownServerError);
    }
    assert!(bench.group.is_empty());
}

#[test]
fn a_group_whose_name_alone_is_too_long_for_a_record_does_not_begin() {
    let mut bench = Bench::new();
    bench.settings.record_max_bytes = 100;
    let token = bench.join(join("client"));
    assert_eq!(bench.joined(token).error, ErrorCode::UnknownServerError);
    assert!(bench.records.is_empty());
    assert_eq!(bench.timers.next(), None);
}

#[test]
fn metadata_is_counted_and_its_frame_let_go() {
    let mut bench = Bench::new();
    let frame = Bytes::from(vec![7; 1 << 20]);
    let mut request = join("client");
    request.protocols = vec![
        ("range".into(), frame.slice(..10_000)),
        ("range".into(), frame.slice(..)),
    ];
    let (member_id, _) = bench.join_twice(request);
    let size_bytes = bench.group.size_bytes();
    assert!((10_000..11_000).contains(&size_bytes), "{size_bytes}");
    let metadata = bench
        .group
        .members()
        .get(&member_id)
        .unwrap()
        .protocols
        .metadata("range")
        .unwrap();
    assert!(!frame.as_ptr_range().contains(&metadata.as_ptr()));
    bench.leave(&[(&member_id, None)]);
    assert_eq!(bench.group.size_bytes(), 0);
}

#[test]
fn timeouts_of_nothing_keep_nobody_busy() {
    let mut bench = Bench::new();
    let impatient = |instance: &str| JoinGroup {
        rebalance_timeout_ms: 0,
        ..join_static(instance)
    };
    let a = bench.join(impatient("a"));
    let b = bench.join(impatient("b"));
    bench.pass(INITIAL_DELAY_MS);
    let members: Vec<Arc<str>> = [a, b].iter().map(|token| bench.joined(*token).member_id).collect();
    // Nobody had time to sync, so all are out.
    assert!(bench.group.is_empty(), "{members:?}");

    let mut bench = Bench::new();
    let members = bench.stable_of(vec![join_static("a"), join_static("b"), join_static("c")]);
    let mut value = bench.value();
    value.members.iter_mut().for_each(|member| member.rebalance_timeout = 0);
    let mut bench = Bench::of(ClassicGroup::from_record("group".into(), value).unwrap());
    bench.step(|group, ctx| group.loaded(ctx));
    bench.leave(&[(&members[0], None)]);
    bench.pass(SESSION_MS);
    assert!(bench.group.is_empty());
}
