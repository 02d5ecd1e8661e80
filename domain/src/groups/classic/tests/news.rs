//! What operators are told.

use std::mem;

use super::bench::*;
use crate::error::ErrorCode;
use crate::groups::commands::{JoinGroup, LeaveGroup, LeavingMember};
use crate::groups::events::{News, Removal};

fn lines(bench: &mut Bench) -> Vec<String> {
    mem::take(&mut bench.news).iter().map(News::to_string).collect()
}

#[test]
fn a_group_comes_to_life_and_dies() {
    let mut bench = Bench::new();
    let request = JoinGroup {
        reason: Some("at\nlast".into()),
        ..join("a")
    };
    let (a, token) = bench.join_twice(request);
    bench.pass(INITIAL_DELAY_MS);
    bench.settle(&[token]);
    let expected = [
        format!("member {a} joined (classic protocol)"),
        format!(r"preparing to rebalance from Empty, generation 0: member {a} joins; client reason: at\nlast"),
        "generation 1 begins with 1 members".to_owned(),
        format!("stable in generation 1: leader {a} assigned to 1 members"),
    ];
    assert_eq!(lines(&mut bench), expected);

    let leaving = LeavingMember {
        member_id: a.clone(),
        group_instance_id: None,
        reason: Some("bored".into()),
    };
    let request = LeaveGroup {
        group_id: "group".into(),
        members: vec![leaving],
    };
    bench.step(|group, ctx| group.leave(ctx, &request));
    let expected = [
        format!("member {a} left; client reason: bored"),
        "preparing to rebalance from Stable, generation 1: 1 members left".to_owned(),
        "empty in generation 2".to_owned(),
    ];
    assert_eq!(lines(&mut bench), expected);
}

#[test]
fn members_that_do_not_do_their_part_are_named() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b"]);
    let (leader, other) = (members[0].clone(), members[1].clone());
    bench.news.clear();
    // The leader is silent, ...
    bench.pass(SESSION_MS / 2);
    assert_eq!(bench.heartbeat(&other, 1), ErrorCode::None);
    bench.pass(SESSION_MS / 2);
    let expected = [
        format!("removed {leader}: silent for longer than the session timeout"),
        format!("{other} leads in place of {leader}"),
        format!("preparing to rebalance from Stable, generation 1: member {leader} was silent"),
    ];
    assert_eq!(lines(&mut bench), expected);

    // ... one lives and does not join again, ...
    let (new, token) = bench.join_twice(join("c"));
    while bench.waits(token) {
        bench.heartbeat(&other, 1);
        bench.pass(SESSION_MS / 2);
    }
    let late = News::Removed(Removal::RebalanceTimeout, vec![other]);
    assert!(bench.news.contains(&late), "{:?}", bench.news);

    // ... and one joins and asks for nothing.
    bench.news.clear();
    while bench.heartbeat(&new, 2) == ErrorCode::None {
        bench.pass(SESSION_MS / 2);
    }
    let late = News::Removed(Removal::SyncTimeout, vec![new]);
    assert!(bench.news.contains(&late), "{:?}", bench.news);
}
