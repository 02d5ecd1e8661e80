//! How members join, and when a rebalance completes.

use super::bench::*;
use crate::coordinator::Token;
use crate::error::ErrorCode;
use crate::groups::classic::ClassicGroup;
use crate::groups::commands::JoinGroup;

#[test]
fn a_dynamic_member_is_given_an_id_and_has_to_come_again_with_it() {
    let mut bench = Bench::new();
    let token = bench.join(join("client"));
    let answer = bench.joined(token);
    assert_eq!(answer.error, ErrorCode::MemberIdRequired);
    assert!(answer.member_id.starts_with("client-"), "{}", answer.member_id);
    assert_eq!(answer.generation_id, -1);
    assert_eq!(bench.group.state(), "Empty");
    // The group is written at once, without what it does not have yet.
    let value = bench.value();
    assert_eq!((value.generation, &*value.protocol_type, value.protocol), (0, "", None));

    let token = bench.join(rejoin(&answer.member_id));
    assert_eq!(bench.group.state(), "PreparingRebalance");
    bench.pass(INITIAL_DELAY_MS);
    let joined = bench.joined(token);
    assert_eq!(joined.error, ErrorCode::None);
    assert_eq!(joined.generation_id, 1);
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, subscription(&["topic"]));
    assert_eq!(bench.group.state(), "CompletingRebalance");
    assert_eq!(bench.records.len(), 1);
}

#[test]
fn an_old_client_joins_without_an_id() {
    let mut bench = Bench::new();
    let token = bench.join(JoinGroup {
        requires_known_member_id: false,
        ..join("client")
    });
    assert!(bench.waits(token));
    bench.pass(INITIAL_DELAY_MS);
    assert_eq!(bench.joined(token).generation_id, 1);
}

#[test]
fn what_no_group_takes_is_refused_beforehand() {
    let settings = settings();
    let check = |request: JoinGroup| ClassicGroup::check_join(&settings, &request);
    let with_session = |session_timeout_ms| JoinGroup {
        session_timeout_ms,
        ..join("client")
    };
    assert_eq!(check(join("client")), Ok(()));
    assert_eq!(check(with_session(6_000)), Ok(()));
    assert_eq!(check(with_session(5_999)), Err(ErrorCode::InvalidSessionTimeout));
    assert_eq!(check(with_session(1_800_001)), Err(ErrorCode::InvalidSessionTimeout));
    let nameless = JoinGroup {
        group_id: "".into(),
        ..join("client")
    };
    assert_eq!(check(nameless), Err(ErrorCode::InvalidGroupId));
}

#[test]
fn the_first_rebalance_waits_for_more_members_up_to_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let (_, first) = bench.join_twice(join("first"));
    bench.pass(INITIAL_DELAY_MS - 1);
    let (_, second) = bench.join_twice(join("second"));
    // The delay begins anew when it ends, and once more only if more come.
    bench.pass(1);
    assert!(bench.waits(first));
    bench.pass(INITIAL_DELAY_MS - 1);
    assert!(bench.waits(second));
    bench.pass(1);
    assert_eq!(bench.joined(first).generation_id, 1);
    assert_eq!(bench.joined(second).generation_id, 1);

    let mut bench = Bench::new();
    let request = JoinGroup {
        rebalance_timeout_ms: 2 * INITIAL_DELAY_MS + 500,
        ..join("client")
    };
    let (_, token) = bench.join_twice(request.clone());
    for _ in 0..6 {
        bench.pass(1_000);
        bench.join_twice(request.clone());
    }
    bench.pass(499);
    assert!(bench.waits(token));
    bench.pass(1);
    assert_eq!(bench.joined(token).error, ErrorCode::None);
}

#[test]
fn a_member_needs_the_groups_type_and_a_protocol_that_all_support() {
    let mut bench = Bench::new();
    let refused = |bench: &mut Bench, request: JoinGroup| {
        let token = bench.join(request.clone());
        let answer = bench.joined(token);
        assert_eq!(answer.member_id, request.member_id);
        assert_eq!((answer.protocol_type, answer.protocol_name), (None, None));
        assert_eq!(answer.error, ErrorCode::InconsistentGroupProtocol);
    };
    let of = |protocol_type: &str, names: &[&str]| JoinGroup {
        protocol_type: protocol_type.into(),
        protocols: protocols(names),
        ..join("client")
    };
    refused(&mut bench, of("", &["range"]));
    refused(&mut bench, of("consumer", &[]));
    let members = bench.stable(&["first"]);
    refused(&mut bench, of("connect", &["range"]));
    refused(&mut bench, of("consumer", &["sticky"]));
    refused(&mut bench, of("consumer", &[]));
    let mut changed = rejoin(&members[0]);
    changed.protocols = protocols(&["sticky"]);
    refused(&mut bench, changed);
    assert_eq!(bench.group.state(), "Stable");
    // An empty group forgets its type.
    bench.leave(&[(&members[0], None)]);
    let (_, token) = bench.join_twice(of("connect", &["sessioned"]));
    bench.pass(INITIAL_DELAY_MS);
    assert_eq!(bench.joined(token).protocol_type.as_deref(), Some("connect"));
}

#[test]
fn members_vote_for_a_protocol_among_those_that_all_support() {
    let mut bench = Bench::new();
    let of = |names: &[&str]| JoinGroup {
        protocols: protocols(names),
        ..join("client")
    };
    bench.stable_of(vec![
        of(&["only-mine", "range", "sticky"]),
        of(&["sticky", "range"]),
        of(&["sticky", "range", "sticky"]),
    ]);
    assert_eq!(bench.group.protocol_name().map(|name| &**name), Some("sticky"));

    let mut bench = Bench::new();
    bench.stable_of(vec![of(&["sticky", "range"]), of(&["range", "sticky"])]);
    assert_eq!(bench.group.protocol_name().map(|name| &**name), Some("range"));
}

#[test]
fn unknown_members_are_told_so() {
    let mut bench = Bench::new();
    let unknown = |bench: &mut Bench, request: JoinGroup| {
        let token = bench.join(request.clone());
        assert_eq!(bench.joined(token).error, ErrorCode::UnknownMemberId);
        assert_eq!(bench.joined(token).member_id, request.member_id);
    };
    unknown(&mut bench, rejoin("nobody"));
    bench.stable(&["client"]);
    unknown(&mut bench, rejoin("nobody"));
    // An id that was given to a dynamic member is of no use to a static one.
    let token = bench.join(join("client"));
    let pending = rejoin(&bench.joined(token).member_id);
    unknown(
        &mut bench,
        JoinGroup {
            group_instance_id: Some("instance".into()),
            ..pending
        },
    );
}

#[test]
fn a_rebalance_waits_for_those_who_were_given_an_id_until_their_session_ends() {
    let mut bench = Bench::new();
    let members = bench.stable(&["first"]);
    let pending = bench.join(join("second"));
    let token = bench.join(rejoin(&members[0]));
    assert!(bench.waits(token));
    let second = bench.join(rejoin(&bench.joined(pending).member_id));
    assert_eq!(bench.joined(token).generation_id, 2);
    let members = bench.settle(&[token, second]);

    let pending = bench.join(join("third"));
    let tokens = [bench.join(rejoin(&members[0])), bench.join(rejoin(&members[1]))];
    bench.pass(SESSION_MS - 1);
    assert!(bench.waits(tokens[0]) && bench.waits(tokens[1]));
    bench.pass(1);
    assert_eq!(bench.joined(tokens[0]).generation_id, 3);
    let late = bench.join(rejoin(&bench.joined(pending).member_id));
    assert_eq!(bench.joined(late).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_joins_again_unchanged_while_the_leader_assigns_is_told_where_it_is() {
    let mut bench = Bench::new();
    let tokens: Vec<_> = ["a", "b"].map(|client| bench.join_twice(join(client)).1).into();
    bench.pass(2 * INITIAL_DELAY_MS);
    for first in tokens.iter().map(|token| bench.joined(*token)).collect::<Vec<_>>() {
        let again = bench.join(rejoin(&first.member_id));
        assert_eq!(bench.joined(again), first);
    }
    // One that has changed makes all join again, those too that wait for their assignment.
    let follower = bench.joined(tokens[1]);
    let waiting = bench.sync(sync(&follower.member_id, 1));
    let mut changed = rejoin(&bench.joined(tokens[0]).member_id);
    changed.protocols[0].1 = subscription(&["topic", "another"]);
    let changed = bench.join(changed);
    assert_eq!(bench.synced(waiting).error, ErrorCode::RebalanceInProgress);
    assert_eq!(bench.group.state(), "PreparingRebalance");
    let other = bench.join(rejoin(&follower.member_id));
    assert_eq!(bench.joined(changed).generation_id, 2);
    assert_eq!(bench.joined(other).generation_id, 2);
}

#[test]
fn the_leader_or_a_changed_follower_starts_a_rebalance_of_a_stable_group() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b"]);
    let same = bench.join(rejoin(&members[1]));
    let answer = bench.joined(same);
    assert_eq!((answer.error, answer.generation_id), (ErrorCode::None, 1));
    assert_eq!((answer.members.len(), answer.leader), (0, members[0].clone()));
    assert_eq!(bench.group.state(), "Stable");

    let leader = bench.join(rejoin(&members[0]));
    assert!(bench.waits(leader));
    assert_eq!(bench.heartbeat(&members[1], 1), ErrorCode::RebalanceInProgress);
    let follower = bench.join(rejoin(&members[1]));
    let members = bench.settle(&[leader, follower]);

    let mut changed = rejoin(&members[1]);
    changed.protocols = protocols(&["range"]);
    let changed = bench.join(changed);
    assert!(bench.waits(changed));
    let leader = bench.join(rejoin(&members[0]));
    let (leader, follower) = (bench.joined(leader), bench.joined(changed));
    assert_eq!((leader.generation_id, follower.generation_id), (3, 3));
    // All members for the leader, none for the other.
    assert_eq!(leader.members.len(), 2);
    assert!(follower.members.is_empty());
}

#[test]
fn who_does_not_join_again_in_time_is_out_and_another_leads() {
    let mut bench = Bench::new();
    let members = bench.stable(&["a", "b", "c"]);
    let changed = |member_id: &str| JoinGroup {
        protocols: protocols(&["range"]),
        ..rejoin(member_id)
    };
    let tokens: Vec<_> = members[1..].iter().map(|member| bench.join(changed(member))).collect();
    // The leader lives, but does not join.
    for _ in 0..REBALANCE_MS / 5_000 - 1 {
        bench.pass(5_000);
        assert_eq!(bench.heartbeat(&members[0], 1), ErrorCode::RebalanceInProgress);
        assert!(tokens.iter().all(|token| bench.waits(*token)));
    }
    bench.pass(5_000);
    let leader = bench.joined(tokens[0]).leader;
    assert_ne!(leader, members[0]);
    assert_eq!(bench.heartbeat(&members[0], 2), ErrorCode::UnknownMemberId);
    assert_eq!(bench.settle(&tokens)[0], leader);
    assert_eq!(bench.group.members().len(), 2);
}

#[test]
fn a_new_member_that_waits_too_long_is_told_to_come_again() {
    let mut bench = Bench::new();
    let slow = JoinGroup {
        rebalance_timeout_ms: 10 * 60_000,
        ..join("slow")
    };
    let members = bench.stable_of(vec![slow]);
    let (member_id, new) = bench.join_twice(join("new"));
    for _ in 0..59 {
        bench.pass(5_000);
        bench.heartbeat(&members[0], 1);
    }
    assert!(bench.waits(new));
    bench.pass(5_000);
    assert_eq!(bench.joined(new).error, ErrorCode::UnknownMemberId);
    assert_eq!(bench.joined(new).member_id, "".into());
    assert!(bench.group.members().get(&member_id).is_none());
}

#[test]
fn a_join_that_comes_twice_is_answered_twice() {
    let mut bench = Bench::new();
    let (member_id, first) = bench.join_twice(join("client"));
    let second = bench.join(rejoin(&member_id));
    assert_eq!(bench.joined(first).error, ErrorCode::RebalanceInProgress);
    assert!(bench.waits(second));
    bench.pass(INITIAL_DELAY_MS);
    assert_eq!(bench.joined(second).error, ErrorCode::None);
}

#[test]
fn generations_count_on_past_the_largest_number() {
    let mut bench = Bench::new();
    bench.stable(&["client"]);
    let mut value = bench.value();
    value.generation = i32::MAX;
    let mut bench = Bench::of(ClassicGroup::from_record("group".into(), value).unwrap());
    let leader = bench.group.members().iter().next().unwrap().member_id.clone();
    let token = bench.join(rejoin(&leader));
    assert_eq!(bench.joined(token).generation_id, 1);
}

#[test]
fn a_group_that_nobody_could_join_is_empty_again() {
    let mut bench = Bench::new();
    let (member_id, token) = bench.join_twice(join("client"));
    bench.leave(&[(&member_id, None)]);
    assert_eq!(bench.joined(token).error, ErrorCode::UnknownMemberId);
    bench.pass(INITIAL_DELAY_MS);
    assert_eq!(bench.group.state(), "Empty");
    assert_eq!((bench.value().generation, bench.value().leader), (1, None));
    assert_eq!(bench.timers.next(), None);
}

#[test]
fn giving_up_answers_all_who_wait() {
    let mut bench = Bench::new();
    let tokens: Vec<Token> = ["a", "b"].map(|client| bench.join_twice(join(client)).1).into();
    bench.join(join("pending"));
    bench.step(|group, ctx| group.give_up(ctx, ErrorCode::NotCoordinator));
    for token in tokens {
        assert_eq!(bench.joined(token).error, ErrorCode::NotCoordinator);
    }
    assert_eq!(bench.timers.next(), None);

    let mut bench = Bench::new();
    let tokens: Vec<Token> = ["a", "b"].map(|client| bench.join_twice(join(client)).1).into();
    bench.pass(2 * INITIAL_DELAY_MS);
    let follower = tokens
        .iter()
        .map(|token| bench.joined(*token))
        .find(|joined| joined.leader != joined.member_id);
    let waiting = bench.sync(sync(&follower.unwrap().member_id, 1));
    bench.step(|group, ctx| group.give_up(ctx, ErrorCode::NotCoordinator));
    assert_eq!(bench.synced(waiting).error, ErrorCode::NotCoordinator);
    assert_eq!(bench.timers.next(), None);
}
