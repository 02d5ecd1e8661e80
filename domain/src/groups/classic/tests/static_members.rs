//! Members with an instance id (KIP-345), which may come back under another member id.

use std::sync::Arc;

use super::bench::*;
use crate::coordinator::Token;
use crate::error::ErrorCode;
use crate::groups::commands::{JoinGroup, SyncGroup};

/// A stable group of the static members `a` and `b`: ids of the leader and the other.
fn pair(bench: &mut Bench) -> (Arc<str>, Arc<str>) {
    let members = bench.stable_of(vec![join_static("a"), join_static("b")]);
    (members[0].clone(), members[1].clone())
}

fn instance(member_id: &str) -> &str {
    member_id.split('-').next().unwrap()
}

fn rejoin_static(member_id: &str) -> JoinGroup {
    JoinGroup {
        member_id: member_id.into(),
        ..join_static(instance(member_id))
    }
}

#[test]
fn a_static_member_joins_at_once_under_an_id_of_its_own() {
    let mut bench = Bench::new();
    let token = bench.join(join_static("a"));
    assert!(bench.waits(token));
    bench.pass(INITIAL_DELAY_MS);
    let joined = bench.joined(token);
    assert!(joined.member_id.starts_with("a-"), "{}", joined.member_id);
    assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("a"));
}

#[test]
fn requests_need_the_instances_own_id() {
    let mut bench = Bench::new();
    let (leader, follower) = pair(&mut bench);
    let theirs = instance(&follower);
    assert_eq!(
        bench.heartbeat_as(&leader, Some(theirs), 1),
        ErrorCode::FencedInstanceId
    );
    assert_eq!(bench.heartbeat_as(&leader, Some("x"), 1), ErrorCode::UnknownMemberId);
    assert_eq!(bench.heartbeat_as(&leader, Some(instance(&leader)), 1), ErrorCode::None);
    let wrong = JoinGroup {
        group_instance_id: Some(theirs.into()),
        ..rejoin(&leader)
    };
    let token = bench.join(wrong.clone());
    assert_eq!(bench.joined(token).error, ErrorCode::FencedInstanceId);
    let token = bench.join(JoinGroup {
        group_instance_id: Some("x".into()),
        ..wrong
    });
    assert_eq!(bench.joined(token).error, ErrorCode::UnknownMemberId);
    let token = bench.sync(SyncGroup {
        group_instance_id: Some(theirs.into()),
        ..sync(&leader, 1)
    });
    assert_eq!(bench.synced(token).error, ErrorCode::FencedInstanceId);
    assert_eq!(bench.group.state(), "Stable");
}

#[test]
fn a_follower_comes_back_without_a_rebalance() {
    let mut bench = Bench::new();
    let (leader, follower) = pair(&mut bench);
    let back = bench.join(join_static(instance(&follower)));
    let joined = bench.joined(back);
    assert_eq!((joined.error, joined.generation_id), (ErrorCode::None, 1));
    assert_ne!(joined.member_id, follower);
    assert_eq!(
        (joined.leader, joined.members.len(), joined.skip_assignment),
        (leader, 0, false)
    );
    assert_eq!(bench.group.state(), "Stable");
    // The new id is on record, with the assignment of the old one.
    let value = bench.value();
    let member = value
        .members
        .iter()
        .find(|member| *member.member_id == *joined.member_id)
        .unwrap();
    assert_eq!(member.assignment, assignment(&follower));
    assert_eq!(value.members.len(), 2);
    let token = bench.sync(sync(&joined.member_id, 1));
    assert_eq!(bench.synced(token).assignment, assignment(&follower));
    assert_eq!(
        bench.heartbeat_as(&follower, Some(instance(&follower)), 1),
        ErrorCode::FencedInstanceId
    );
    assert_eq!(bench.heartbeat(&follower, 1), ErrorCode::UnknownMemberId);
    assert_eq!(bench.timers.due(&bench.group.member_timer(&follower)), None);
}

#[test]
fn a_leader_comes_back_without_a_rebalance_and_need_not_assign() {
    for supports_skipping_assignment in [true, false] {
        let mut bench = Bench::new();
        let (leader, _) = pair(&mut bench);
        let back = bench.join(JoinGroup {
            supports_skipping_assignment,
            ..join_static(instance(&leader))
        });
        let joined = bench.joined(back);
        assert_eq!((joined.error, joined.generation_id), (ErrorCode::None, 1));
        assert_eq!(joined.skip_assignment, supports_skipping_assignment);
        if supports_skipping_assignment {
            assert_eq!(joined.leader, joined.member_id);
            assert_eq!(joined.members.len(), 2);
        } else {
            assert_eq!(joined.leader, leader);
            assert!(joined.members.is_empty());
        }
        assert_eq!(bench.value().leader.as_deref(), Some(&*joined.member_id));
        // It leads: a later join of it is a rebalance.
        let again = bench.join(rejoin_static(&joined.member_id));
        assert!(bench.waits(again));
        assert_eq!(bench.group.state(), "PreparingRebalance");
    }
}

#[test]
fn a_member_that_comes_back_changed_rebalances_only_if_the_choice_changes() {
    let mut bench = Bench::new();
    let (_, follower) = pair(&mut bench);
    let back = bench.join(JoinGroup {
        protocols: vec![("range".into(), subscription(&["other"]))],
        session_timeout_ms: 2 * SESSION_MS,
        ..join_static(instance(&follower))
    });
    assert_eq!(bench.joined(back).generation_id, 1);
    let back = bench.joined(back).member_id;
    let value = bench.value();
    let member = value.members.iter().find(|member| *member.member_id == *back).unwrap();
    assert_eq!(member.subscription, subscription(&["other"]));
    assert_eq!(member.session_timeout, 2 * SESSION_MS);
    assert!(bench.group.subscriptions().contains("other"));

    let mut bench = Bench::new();
    let (leader, follower) = pair(&mut bench);
    let written = bench.records.len();
    let back = bench.join(JoinGroup {
        protocols: protocols(&["roundrobin"]),
        ..join_static(instance(&follower))
    });
    assert!(bench.waits(back));
    assert_eq!(bench.records.len(), written);
    let leader = bench.join(rejoin_static(&leader));
    assert_eq!(bench.joined(back).protocol_name.as_deref(), Some("roundrobin"));
    bench.settle(&[back, leader]);
}

#[test]
fn whoever_waits_under_the_old_id_is_fenced() {
    // In a JoinGroup.
    let mut bench = Bench::new();
    let (leader, follower) = pair(&mut bench);
    let leading = bench.join(rejoin_static(&leader));
    let back = bench.join(join_static(instance(&leader)));
    assert_eq!(bench.joined(leading).error, ErrorCode::FencedInstanceId);
    assert_eq!(bench.joined(leading).member_id, leader);
    assert!(bench.waits(back));
    let other = bench.join(rejoin_static(&follower));
    let joined = bench.joined(back);
    assert_eq!((joined.generation_id, &joined.leader), (2, &joined.member_id));

    // In a SyncGroup: the leader may assign to the old id, so all join again.
    let syncing = bench.sync(sync(&bench.joined(other).member_id, 2));
    let again = bench.join(join_static(instance(&follower)));
    assert_eq!(bench.synced(syncing).error, ErrorCode::FencedInstanceId);
    assert!(bench.waits(again));
    assert_eq!(bench.group.state(), "PreparingRebalance");
    let leading = bench.join(rejoin_static(&joined.member_id));
    bench.settle(&[again, leading]);
}

#[test]
fn a_new_id_that_no_record_can_hold_changes_nothing() {
    let mut bench = Bench::new();
    let (leader, follower) = pair(&mut bench);
    let before = format!("{:?}", bench.group);
    let token = bench.join(JoinGroup {
        protocols: vec![("range".into(), vec![0; bench.settings.record_max_bytes].into())],
        ..join_static(instance(&leader))
    });
    assert_eq!(bench.joined(token).error, ErrorCode::UnknownServerError);
    assert_eq!(bench.joined(token).member_id, "".into());
    assert_eq!(format!("{:?}", bench.group), before);
    for member in [&leader, &follower] {
        assert_eq!(bench.heartbeat_as(member, Some(instance(member)), 1), ErrorCode::None);
    }
}

#[test]
fn a_silent_static_member_stays_until_its_session_ends() {
    let mut bench = Bench::new();
    let long = |instance: &str| JoinGroup {
        session_timeout_ms: 3 * REBALANCE_MS,
        ..join_static(instance)
    };
    let members = bench.stable_of(vec![long("a"), long("b"), long("c")]);
    let changed: Vec<Token> = members[1..]
        .iter()
        .map(|member| {
            bench.join(JoinGroup {
                protocols: protocols(&["range"]),
                session_timeout_ms: 3 * REBALANCE_MS,
                ..rejoin_static(member)
            })
        })
        .collect();
    bench.pass(REBALANCE_MS);
    // The leader was silent, so another leads, and assigns to it nevertheless.
    let joined = bench.joined(changed[0]);
    assert_ne!(joined.leader, members[0]);
    assert_eq!(bench.group.members().len(), 3);
    bench.settle(&changed);
    assert!(bench.group.members().get(&members[0]).is_some());
    // It does not ask for its assignment in time.
    bench.pass(REBALANCE_MS);
    assert_eq!(bench.group.state(), "PreparingRebalance");
    assert!(bench.group.members().get(&members[0]).is_none());
}

#[test]
fn a_rebalance_in_which_all_are_silent_waits_for_them() {
    let mut bench = Bench::new();
    let long = |instance: &str| JoinGroup {
        session_timeout_ms: 3 * REBALANCE_MS,
        ..join_static(instance)
    };
    let members = bench.stable_of(vec![long("a"), long("b")]);
    bench.leave(&[("", Some(instance(&members[0])))]);
    bench.pass(REBALANCE_MS + 1);
    assert_eq!(bench.group.state(), "PreparingRebalance");
    let back = bench.join(JoinGroup {
        member_id: members[1].clone(),
        ..long(instance(&members[1]))
    });
    assert_eq!(bench.joined(back).generation_id, 2);
    bench.leave(&[("", Some(instance(&members[1])))]);
    assert!(bench.group.is_empty());
}

#[test]
fn every_return_makes_another_id() {
    let mut bench = Bench::new();
    let members = bench.stable_of(vec![join_static("a")]);
    let mut ids = vec![members[0].clone()];
    for _ in 0..5 {
        let token = bench.join(join_static("a"));
        let joined = bench.joined(token);
        assert_eq!((joined.error, joined.generation_id), (ErrorCode::None, 1));
        assert!(!ids.contains(&joined.member_id));
        ids.push(joined.member_id);
    }
    assert_eq!(bench.group.members().len(), 1);
}
