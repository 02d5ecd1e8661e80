//! JoinGroup (API 11), Heartbeat (12), LeaveGroup (13) and SyncGroup (14), right and wrong, in all versions.
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::scenario::{Case, Session, wait_for};

use super::{describe, member_count, ready};
use crate::wire::{Wire, text};

pub const CASES: &[Case] = &[
    Case::code("group-member-versions", versions),
    Case::code("group-join-errors", join_errors),
    Case::code("group-rebalance", rebalance),
    Case::code("group-protocols", protocols),
    Case::code("group-static-members", static_members),
    Case::code("group-leave", leave),
    Case::code("group-session-timeout", session_timeout),
    Case::code("group-rebalance-timeout", rebalance_timeout),
    Case::code("group-max-size", max_size),
];

const REBALANCE_IN_PROGRESS: i16 = 27;

pub fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// A request to join with one protocol, as a member that has an id or none yet.
pub fn join(name: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(20_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range", "topic")])
}

/// A protocol with the subscription of a consumer to one topic; what cannot be read as one makes Apache Kafka fail.
pub fn protocol(name: &str, topic: &str) -> JoinGroupRequestProtocol {
    let mut subscription = BytesMut::new();
    subscription.put_i16(0);
    subscription.put_i32(1);
    subscription.put_i16(topic.len() as i16);
    subscription.put_slice(topic.as_bytes());
    subscription.put_i32(-1);
    JoinGroupRequestProtocol::default()
        .with_name(text(name))
        .with_metadata(subscription.freeze())
}

/// What a member sends once it has joined; with assignments if it leads.
pub fn sync(name: &str, member: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncGroupRequest {
    let assignments = assignments.iter().map(|(member, assignment)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::from(assignment.to_string()))
    });
    SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_generation_id(generation)
        .with_assignments(assignments.collect())
}

pub fn heartbeat(name: &str, member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_generation_id(generation)
}

/// Leaves, in the shape of a version: alone before 3, in a batch since.
fn leaving(name: &str, version: i16, members: &[(&str, Option<&str>)]) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group(name));
    if version < 3 {
        return request.with_member_id(text(members[0].0));
    }
    let members = members.iter().map(|(member, instance)| {
        MemberIdentity::default()
            .with_member_id(text(member))
            .with_group_instance_id(instance.map(text))
            .with_reason((version >= 5).then(|| text("enough")))
    });
    request.with_members(members.collect())
}

/// Joins an empty group alone and becomes stable; returns the member's id.
pub fn stable_member(w: &mut Wire, request: &JoinGroupRequest) -> (String, i32) {
    let joined = w.connection.call(3, request).unwrap();
    assert_eq!(joined.error_code, 0, "{joined:?}");
    let member = joined.member_id.to_string();
    let name = request.group_id.0.to_string();
    let synced = w
        .connection
        .call(3, &sync(&name, &member, joined.generation_id, &[(&member, "all")]))
        .unwrap();
    assert_eq!(synced.error_code, 0, "{synced:?}");
    (member, joined.generation_id)
}

/// Heartbeats until the group rebalances.
fn wait_rebalance(on: &mut Connection, name: &str, member: &str, generation: i32) {
    wait_for(
        || {
            let answer = on.call(4, &heartbeat(name, member, generation)).unwrap();
            (answer.error_code == REBALANCE_IN_PROGRESS).then_some(())
        },
        || format!("{name} does not rebalance"),
    );
}

/// Notes an answer to a join; members come in no order.
fn note_joined(w: &mut Wire, version: i16, answer: std::io::Result<JoinGroupResponse>) -> JoinGroupResponse {
    let answer = answer.map(|mut answer| {
        answer.members.sort_by(|a, b| a.metadata.cmp(&b.metadata));
        answer
    });
    w.s.answer::<JoinGroupRequest>(version, answer).unwrap()
}

/// A whole life in each version.
fn versions(s: &mut Session) {
    let mut w = Wire::open(s);
    for version in 0..=9 {
        let name = format!("{}-{version}", w.s.name);
        ready(&mut w, &name);
        w.title(&format!("join version {version}"));
        let mut joined = w.call(version, &join(&name, "")).unwrap();
        if joined.error_code != 0 {
            let member = joined.member_id.to_string();
            joined = w.call(version, &join(&name, &member)).unwrap();
        }
        let (member, generation) = (joined.member_id.to_string(), joined.generation_id);
        let synced = sync(&name, &member, generation, &[(&member, "everything")]);
        let of_five = |mut request: SyncGroupRequest, version: i16| {
            if version >= 5 {
                request.protocol_type = Some(text("consumer"));
                request.protocol_name = Some(text("range"));
            }
            request
        };
        w.call(version.min(5), &of_five(synced, version.min(5)));
        w.call(
            version.min(5),
            &of_five(sync(&name, &member, generation, &[]), version.min(5)),
        );
        w.call(version.min(4), &heartbeat(&name, &member, generation));
        w.title("join again");
        w.call(version, &join(&name, &member));
        w.call(version.min(4), &heartbeat(&name, &member, generation));
        w.call(version.min(4), &heartbeat(&name, &member, generation + 1));
        w.title("leave");
        let leave_version = version.min(5);
        w.call(leave_version, &leaving(&name, leave_version, &[(&member, None)]));
        w.call(leave_version, &leaving(&name, leave_version, &[(&member, None)]));
        w.call(version.min(4), &heartbeat(&name, &member, generation + 1));
        describe(&mut w, 5, &name);
    }
}

fn join_errors(s: &mut Session) {
    let mut w = Wire::open(s);
    let name = w.s.name;
    ready(&mut w, name);
    let plain = join(name, "");
    let cases = [
        ("no group", join("", "")),
        ("too short a session", plain.clone().with_session_timeout_ms(999)),
        ("too long a session", plain.clone().with_session_timeout_ms(1_800_001)),
        ("negative session", plain.clone().with_session_timeout_ms(-1)),
        ("unknown member", join(name, "stranger")),
        ("no protocol type", plain.clone().with_protocol_type(text(""))),
        ("no protocols", plain.clone().with_protocols(Vec::new())),
        (
            "neither",
            plain.clone().with_protocol_type(text("")).with_protocols(Vec::new()),
        ),
    ];
    for version in [0, 3, 4, 5, 9] {
        for (title, request) in &cases {
            w.title(title);
            w.call(version, request);
        }
    }
    w.title("an unknown static member with an id");
    w.call(
        9,
        &join(name, "stranger").with_group_instance_id(Some(text("instance"))),
    );
    describe(&mut w, 5, name);
    w.title("sync, heartbeat and leave");
    for (group, member, generation) in [
        ("", "member", 0),
        (name, "member", 0),
        (name, "", 0),
        ("absent", "member", 1),
    ] {
        for version in 0..=5 {
            w.call(version, &sync(group, member, generation, &[]));
        }
        for version in 0..=4 {
            w.call(version, &heartbeat(group, member, generation));
        }
        for version in 0..=5 {
            w.call(version, &leaving(group, version, &[(member, None)]));
        }
    }
}

/// A second member comes, both sync, the second one leaves.
fn rebalance(s: &mut Session) {
    let mut w = Wire::open(s);
    let name = w.s.name;
    ready(&mut w, name);
    let (first, generation) = stable_member(&mut w, &join(name, "").with_protocols(vec![protocol("range", "first")]));
    let mut other = w.connect();
    let ask = join(name, "").with_protocols(vec![protocol("range", "second")]);
    let answer = other.call(9, &ask);
    let second = note_joined(&mut w, 9, answer).member_id.to_string();
    w.title("a member id that did not join yet");
    w.call(4, &heartbeat(name, &second, generation));
    w.call(5, &leaving(name, 5, &[(&second, None)]));
    w.title("join");
    let answer = other.call(9, &ask);
    let second = note_joined(&mut w, 9, answer).member_id.to_string();
    other.send(9, &ask.with_member_id(text(&second))).unwrap();
    wait_rebalance(&mut w.connection, name, &first, generation);
    w.call(3, &sync(name, &first, generation, &[]));
    describe(&mut w, 5, name);
    let again = join(name, &first).with_protocols(vec![protocol("range", "first again")]);
    let answer = w.connection.call(9, &again);
    let generation = note_joined(&mut w, 9, answer).generation_id;
    let answer = other.receive::<JoinGroupRequest>(9);
    note_joined(&mut w, 9, answer);
    w.title("while the leader has not synced");
    w.call(4, &heartbeat(name, &second, generation));
    w.call(4, &heartbeat(name, &second, generation - 1));
    w.call(4, &heartbeat(name, "stranger", generation));
    w.call(5, &typed(sync(name, &second, generation - 1, &[]), "consumer", "range"));
    w.call(5, &typed(sync(name, "stranger", generation, &[]), "consumer", "range"));
    w.call(5, &typed(sync(name, &second, generation, &[]), "connect", "range"));
    w.call(5, &typed(sync(name, &second, generation, &[]), "consumer", "sticky"));
    w.call(5, &sync(name, &second, generation, &[]));
    describe(&mut w, 5, name);
    other.send(3, &sync(name, &second, generation, &[])).unwrap();
    let assignments = [(first.as_str(), "one half"), (second.as_str(), "the other")];
    w.call(3, &sync(name, &first, generation, &assignments));
    let answer = other.receive::<SyncGroupRequest>(3);
    w.s.answer::<SyncGroupRequest>(3, answer);
    w.title("stable");
    w.call(3, &sync(name, &second, generation, &[]));
    w.call(3, &sync(name, &second, generation, &[(&second, "not the leader's")]));
    w.call(4, &heartbeat(name, &second, generation));
    w.call(4, &heartbeat(name, &second, generation + 1));
    w.call(4, &heartbeat(name, &second, -1));
    w.title("a follower that joins again without a change stays");
    let answer = other.call(
        9,
        &join(name, &second).with_protocols(vec![protocol("range", "second")]),
    );
    note_joined(&mut w, 9, answer);
    w.title("the second leaves");
    w.call(5, &leaving(name, 5, &[(&second, None)]));
    wait_rebalance(&mut w.connection, name, &first, generation);
    let answer = w.connection.call(9, &again);
    note_joined(&mut w, 9, answer);
    describe(&mut w, 5, name);
}

fn typed(request: SyncGroupRequest, kind: &str, name: &str) -> SyncGroupRequest {
    request
        .with_protocol_type(Some(text(kind)))
        .with_protocol_name(Some(text(name)))
}

/// The group takes the protocol that most of its members like best among those that all know.
fn protocols(s: &mut Session) {
    let mut w = Wire::open(s);
    let name = w.s.name;
    ready(&mut w, name);
    let offers = |names: &[&str]| names.iter().map(|name| protocol(name, name)).collect::<Vec<_>>();
    let (first, generation) = stable_member(&mut w, &join(name, "").with_protocols(offers(&["a", "b", "c"])));
    w.title("nothing in common");
    w.call(3, &join(name, "").with_protocols(offers(&["d"])));
    w.call(
        3,
        &join(name, "")
            .with_protocol_type(text("connect"))
            .with_protocols(offers(&["a"])),
    );
    let mut others = [w.connect(), w.connect()];
    for (n, other) in others.iter_mut().enumerate() {
        let offers = offers(&["c", "b"]);
        other.send(3, &join(name, "").with_protocols(offers)).unwrap();
        member_count(&mut w, name, n + 2);
    }
    wait_rebalance(&mut w.connection, name, &first, generation);
    let again = join(name, &first).with_protocols(offers(&["b", "c"]));
    let joined = w.connection.call(3, &again).unwrap();
    w.s.note(
        "protocol",
        (joined.error_code, joined.protocol_name, joined.members.len()),
    );
    for other in &mut others {
        let joined = other.receive::<JoinGroupRequest>(3).unwrap();
        w.s.note("protocol", (joined.error_code, joined.protocol_name));
    }
}

/// An instance that comes back takes its old place, and its former self is fenced.
fn static_members(s: &mut Session) {
    let mut w = Wire::open(s);
    for version in 5..=9 {
        let name = format!("{}-{version}", w.s.name);
        let name = name.as_str();
        ready(&mut w, name);
        w.title(&format!("join version {version}"));
        let instance = |member: &str, metadata: &str| {
            join(name, member)
                .with_group_instance_id(Some(text("instance")))
                .with_protocols(vec![protocol("range", metadata)])
        };
        let joined = w.call(version, &instance("", "same")).unwrap();
        let (old, generation) = (joined.member_id.to_string(), joined.generation_id);
        let as_instance = |request: SyncGroupRequest| request.with_group_instance_id(Some(text("instance")));
        w.call(3, &as_instance(sync(name, &old, generation, &[(&old, "mine")])));
        w.title("comes back");
        let joined = w.call(version, &instance("", "same")).unwrap();
        let (new, generation) = (joined.member_id.to_string(), joined.generation_id);
        let beat = |member: &str, instance: &str| {
            heartbeat(name, member, generation).with_group_instance_id(Some(text(instance)))
        };
        for request in [
            beat(&old, "instance"),
            beat(&new, "instance"),
            beat(&new, "another"),
            beat("", "instance"),
            heartbeat(name, &new, generation),
        ] {
            w.call(4, &request);
        }
        w.call(3, &as_instance(sync(name, &old, generation, &[])));
        w.call(3, &as_instance(sync(name, &new, generation, &[])));
        w.call(version, &instance(&old, "same"));
        w.title("comes back with other metadata");
        let joined = w.call(version, &instance("", "changed")).unwrap();
        let new = joined.member_id.to_string();
        describe(&mut w, 5, name);
        w.title("leaves");
        for member in [
            ("", Some("another")),
            ("stranger", Some("instance")),
            (new.as_str(), Some("another")),
            ("", Some("instance")),
            ("", Some("instance")),
        ] {
            w.call(3, &leaving(name, 3, &[member]));
        }
        describe(&mut w, 5, name);
    }
}

/// Many leave with one request, each with an answer of its own.
fn leave(s: &mut Session) {
    let mut w = Wire::open(s);
    for version in 3..=5 {
        let name = format!("{}-{version}", w.s.name);
        ready(&mut w, &name);
        let (member, _) = stable_member(&mut w, &join(&name, ""));
        let members = [
            ("stranger", None),
            (member.as_str(), Some("not-static")),
            (member.as_str(), None),
            (member.as_str(), None),
            ("", None),
            ("", Some("nobody")),
        ];
        w.call(version, &leaving(&name, version, &members));
        w.call(version, &leaving(&name, version, &[]));
        describe(&mut w, 5, &name);
    }
}

/// Who does not heartbeat is out, dynamic or static.
fn session_timeout(s: &mut Session) {
    let mut w = Wire::open(s);
    for instance in [None, Some(text("instance"))] {
        let name = format!("{}-{}", w.s.name, instance.is_some());
        ready(&mut w, &name);
        let request = join(&name, "")
            .with_session_timeout_ms(1000)
            .with_group_instance_id(instance);
        let joined = w.connection.call(7, &request).unwrap();
        let joined = match joined.error_code {
            0 => joined,
            _ => w.connection.call(7, &request.with_member_id(joined.member_id)).unwrap(),
        };
        let member = joined.member_id.to_string();
        let request = sync(&name, &member, joined.generation_id, &[(&member, "all")]);
        assert_eq!(w.connection.call(3, &request).unwrap().error_code, 0);
        member_count(&mut w, &name, 1);
        member_count(&mut w, &name, 0);
        w.call(4, &heartbeat(&name, &member, joined.generation_id));
        describe(&mut w, 5, &name);
    }
}

/// Who does not join again in time is out, and the others go on.
fn rebalance_timeout(s: &mut Session) {
    let mut w = Wire::open(s);
    let name = w.s.name;
    ready(&mut w, name);
    let hasty = |metadata| {
        join(name, "")
            .with_rebalance_timeout_ms(1000)
            .with_protocols(vec![protocol("range", metadata)])
    };
    let (first, generation) = stable_member(&mut w, &hasty("first"));
    let mut other = w.connect();
    let answer = other.call(3, &hasty("second"));
    let joined = note_joined(&mut w, 3, answer);
    w.s.note("members", joined.members.len());
    w.call(4, &heartbeat(name, &first, generation));
    w.title("and who leads and does not sync is out as well");
    let second = joined.member_id.to_string();
    member_count(&mut w, name, 0);
    w.call(4, &heartbeat(name, &second, joined.generation_id));
    describe(&mut w, 5, name);
}

/// `group.max.size` is 20 here.
fn max_size(s: &mut Session) {
    let mut w = Wire::open(s);
    let name = w.s.name;
    ready(&mut w, name);
    let first = w.connection.call(3, &join(name, "")).unwrap().member_id;
    let mut others: Vec<_> = (1..20).map(|_| w.connect()).collect();
    for other in &mut others {
        other.send(3, &join(name, "")).unwrap();
    }
    member_count(&mut w, name, 20);
    w.connection.call(3, &join(name, &first)).unwrap();
    for other in &mut others {
        let joined = other.receive::<JoinGroupRequest>(3).unwrap();
        assert_eq!(joined.error_code, 0, "{joined:?}");
    }
    for version in [0, 3, 4, 9] {
        w.call(version, &join(name, ""));
    }
    w.call(9, &join(name, "").with_group_instance_id(Some(text("instance"))));
}
