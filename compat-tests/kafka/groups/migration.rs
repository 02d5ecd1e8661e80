//! Groups whose members speak different protocols: a consumer joins a classic group, a classic member joins a consumer group,
//! as `group.consumer.migration.policy` allows (KIP-848).
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{JoinGroupRequest, LeaveGroupRequest};
use ottla_compat_tests::scenario::{Case, Session};

use super::consumer::{Consumers, beat, joining};
use super::members::{group, heartbeat, join, protocol, stable_member, sync};
use super::offsets::{commit, committed};
use super::{describe, member_count, options};
use crate::wire::{Wire, text};

pub const CASES: &[Case] = &[
    Case::code("migration-of-classic-group", classic_group),
    Case::code("migration-of-consumer-group", consumer_group),
    Case::code("migration-in-rebalance", in_rebalance),
    Case::code("migration-of-static-members", static_members),
    Case::code("migration-refused", refused),
    Case::code("migration-of-empty-groups", empty_groups),
    Case::code("migration-disabled", |s| policy(s, "disabled")),
    Case::code("migration-upgrade-only", |s| policy(s, "upgrade")),
    Case::code("migration-downgrade-only", |s| policy(s, "Downgrade")),
];

/// What the leader of a classic group of consumers assigns to a member.
fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(partitions.len() as i32);
    partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    bytes.put_i32(-1);
    bytes.freeze()
}

impl Consumers<'_, '_, '_> {
    /// A request of a consumer of the classic protocol to join.
    fn classic(&self, member: &str) -> JoinGroupRequest {
        join(&self.name, member).with_protocols(vec![protocol("range", &self.topics[0].name)])
    }

    /// Joins with the classic protocol, first for a member id, and notes the answers.
    fn classic_join(&mut self) -> (String, i32) {
        let asked = self.w.call(9, &self.classic("")).unwrap();
        let joined = self.w.call(9, &self.classic(&asked.member_id)).unwrap();
        (joined.member_id.to_string(), joined.generation_id)
    }

    /// A classic group with one member that has all partitions of the topic.
    fn classic_group(&mut self, partitions: &[i32]) -> (String, i32) {
        let (member, generation) = self.classic_join();
        let assigned = SyncGroupRequestAssignment::default()
            .with_member_id(text(&member))
            .with_assignment(assignment(&self.topics[0].name, partitions));
        let request = sync(&self.name, &member, generation, &[]).with_assignments(vec![assigned]);
        self.w.call(3, &request);
        (member, generation)
    }

    /// Asks for the assignment of a member of the classic protocol.
    fn classic_sync(&mut self, member: &str, generation: i32) {
        self.w.call(3, &sync(&self.name, member, generation, &[]));
    }

    fn classic_beat(&mut self, member: &str, generation: i32) {
        self.w.call(4, &heartbeat(&self.name, member, generation));
    }

    fn classic_leave(&mut self, member: &str) {
        let member = MemberIdentity::default().with_member_id(text(member));
        let request = LeaveGroupRequest::default()
            .with_group_id(group(&self.name))
            .with_members(vec![member]);
        self.w.call(5, &request);
    }

    fn commit(&mut self, member: &str, epoch: i32, offset: i64) {
        let request = commit(8, &self.name, &self.topics[0].name, &[(0, offset, -1, None)])
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch);
        self.w.call(8, &request);
        self.w.call(8, &committed(8, &self.name, None));
    }
}

/// A consumer joins a classic group, which becomes a consumer group, and leaves, and it is a classic group again.
fn classic_group(s: &mut Session) {
    let mut g = Consumers::open(s, 4);
    let (member, generation) = g.classic_group(&[0, 1, 2, 3]);
    g.commit(&member, generation, 1);
    g.w.title("a consumer comes");
    g.join(1, "consumer");
    g.describe(0);
    g.describe(1);
    let name = g.name.clone();
    for version in [5, 6] {
        describe(&mut g.w, version, &name);
    }
    g.w.title("the classic member is told to join again");
    g.classic_sync(&member, generation);
    g.classic_beat(&member, generation);
    g.classic_beat(&member, generation - 1);
    g.classic_beat("stranger", generation);
    g.commit(&member, generation, 2);
    g.commit(&member, generation - 1, 3);
    g.commit(&member, generation + 1, 4);
    g.w.title("and gives up what it is not given any more");
    let joined = g.w.call(9, &g.classic(&member)).unwrap();
    g.classic_sync(&member, joined.generation_id);
    let typed = |kind: &str, protocol: &str| {
        sync(&name, &member, joined.generation_id, &[])
            .with_protocol_type(Some(text(kind)))
            .with_protocol_name(Some(text(protocol)))
    };
    for request in [
        typed("consumer", "range"),
        typed("consumer", "roundrobin"),
        typed("connect", "range"),
    ] {
        g.w.call(5, &request);
    }
    g.classic_beat(&member, joined.generation_id);
    g.beat("consumer", joined.generation_id);
    g.describe(1);
    g.w.title("each speaks its own protocol");
    g.classic_beat("consumer", joined.generation_id);
    g.classic_sync("consumer", joined.generation_id);
    g.beat(&member, joined.generation_id);
    g.classic_beat(&member, joined.generation_id);
    g.describe(1);
    g.w.title("that was a change of protocol: both are consumers now");
    g.beat("consumer", -1);
    g.beat(&member, joined.generation_id);
    g.describe(1);
}

/// A consumer group gets a classic member, loses its consumer, and is a classic group with what it had.
fn consumer_group(s: &mut Session) {
    let mut g = Consumers::open(s, 4);
    let name = g.name.clone();
    g.join(1, "consumer");
    g.w.title("nonsense");
    for request in [
        g.classic("").with_protocol_type(text("connect")),
        g.classic("").with_session_timeout_ms(999),
        g.classic("").with_protocols(Vec::new()),
    ] {
        g.w.call(9, &request);
    }
    g.w.title("a classic member comes");
    let (member, generation) = g.classic_join();
    g.classic_sync(&member, generation);
    g.classic_beat(&member, generation);
    g.describe(1);
    g.w.title("the consumer gives up");
    g.beat("consumer", 2);
    g.owns("consumer", 2, &[0, 1]);
    g.classic_beat(&member, generation);
    let joined = g.w.call(9, &g.classic(&member)).unwrap();
    g.classic_sync(&member, joined.generation_id);
    g.classic_beat(&member, joined.generation_id);
    g.describe(1);
    g.w.title("a classic member with a protocol that the first does not know");
    let other = join(&name, "").with_protocols(vec![protocol("sticky", &g.topics[0].name)]);
    g.w.call(9, &other);
    g.w.title("the consumer leaves");
    g.beat("consumer", -1);
    g.describe(1);
    g.beat("consumer", 4);
    g.classic_beat(&member, joined.generation_id);
    describe(&mut g.w, 6, &name);
    let joined = g.w.call(9, &g.classic(&member)).unwrap();
    describe(&mut g.w, 6, &name);
    g.classic_beat(&member, joined.generation_id);
    g.w.title("the last one leaves");
    g.classic_leave(&member);
    describe(&mut g.w, 6, &name);
    g.w.title("an administrator takes the consumer out");
    g.another("admin");
    let name = g.name.clone();
    g.join(1, "consumer");
    let (member, generation) = g.classic_join();
    g.classic_leave("stranger");
    g.classic_leave("consumer");
    g.beat("consumer", 2);
    g.classic_beat(&member, generation);
    describe(&mut g.w, 6, &name);
    g.classic_leave(&member);
    g.w.title("one of two");
    g.another("two");
    g.join(1, "one");
    g.join(1, "two");
    g.classic_leave("two");
    g.classic_leave("two");
    g.beat("two", 3);
    g.beat("one", 2);
    g.describe(1);
}

/// Who waits for the end of a classic group's rebalance is told to join the consumer group that it became.
fn in_rebalance(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    let (member, generation) = g.classic_group(&[0, 1]);
    let asked = g.w.connection.call(9, &g.classic("")).unwrap();
    let mut waiting = g.w.connect();
    let request = g.classic(&asked.member_id);
    waiting.send(9, &request).unwrap();
    member_count(&mut g.w, &g.name, 2);
    g.w.title("a consumer comes in the middle");
    g.call(1, &joining(&g.name.clone(), "consumer", &["absent"]));
    let answer = waiting.receive::<JoinGroupRequest>(9);
    g.w.s.answer::<JoinGroupRequest>(9, answer);
    g.classic_beat(&member, generation);
    g.classic_beat(&asked.member_id, generation);
    let joined = g.w.call(9, &request).unwrap();
    g.classic_beat(&asked.member_id, joined.generation_id);
}

/// An instance takes its place under the other protocol, and the group with it.
fn static_members(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    let name = g.name.clone();
    let instance = Some(text("instance"));
    let classic = g.classic("").with_group_instance_id(instance.clone());
    let joined = g.w.call(9, &classic).unwrap();
    let (old, generation) = (joined.member_id.to_string(), joined.generation_id);
    let assigned = SyncGroupRequestAssignment::default()
        .with_member_id(text(&old))
        .with_assignment(assignment(&g.topics[0].name, &[0, 1]));
    let request = sync(&name, &old, generation, &[])
        .with_group_instance_id(instance.clone())
        .with_assignments(vec![assigned]);
    g.w.call(3, &request);
    g.w.title("as a consumer");
    let joins = joining(&name, "consumer", &[&g.topics[0].name]).with_instance_id(instance.clone());
    let joined = g.call(1, &joins).unwrap();
    g.describe(1);
    g.w.call(
        4,
        &heartbeat(&name, &old, generation).with_group_instance_id(instance.clone()),
    );
    g.classic_beat(&old, generation);
    g.beat("consumer", joined.member_epoch);
    g.w.title("as a classic member");
    let joined = g.w.call(9, &classic).unwrap();
    let new = joined.member_id.to_string();
    let as_instance =
        |member: &str| sync(&name, member, joined.generation_id, &[]).with_group_instance_id(instance.clone());
    g.w.call(3, &as_instance(&new));
    g.w.call(3, &as_instance(&old));
    g.classic_beat(&new, joined.generation_id);
    g.beat("consumer", joined.generation_id);
    describe(&mut g.w, 6, &name);
}

/// What a consumer may find where it wants to join.
fn refused(s: &mut Session) {
    let mut g = Consumers::open(s, 1);
    let cases = ["another-kind", "not-assigned", "nonsense", "own-assignor"];
    for case in cases {
        g.another(case);
        let name = g.name.clone();
        let classic = g.classic("");
        let connects = classic.clone().with_protocol_type(text("connect"));
        match case {
            "another-kind" => _ = stable_member(&mut g.w, &connects),
            // This one is not refused.
            "not-assigned" => _ = g.w.connection.call(3, &classic).unwrap(),
            "nonsense" => _ = stable_member(&mut g.w, &classic),
            _ => {
                let (member, generation) = g.classic_join();
                let mut own = BytesMut::from(&assignment(&g.topics[0].name, &[0])[..]);
                own.truncate(own.len() - 4);
                own.put_i32(4);
                own.put_slice(b"mine");
                let assigned = SyncGroupRequestAssignment::default()
                    .with_member_id(text(&member))
                    .with_assignment(own.freeze());
                let request = sync(&name, &member, generation, &[]).with_assignments(vec![assigned]);
                g.w.call(3, &request);
            }
        }
        g.w.title(case);
        g.beat("consumer", 1);
        g.beat("consumer", -1);
        // Which partition of its topic it would get is left to chance.
        g.call(1, &joining(&name, "consumer", &["absent"]));
        describe(&mut g.w, 6, &name);
    }
}

/// A group without members is of whichever protocol comes next, and keeps its offsets.
fn empty_groups(s: &mut Session) {
    let mut g = Consumers::open(s, 1);
    empty(&mut g);
}

fn empty(g: &mut Consumers) {
    let name = g.name.clone();
    g.w.title("of offsets alone");
    g.commit("", -1, 1);
    g.beat("consumer", 1);
    g.join(1, "consumer");
    g.w.call(8, &committed(8, &name, None));
    g.w.title("of a consumer that left");
    g.beat("consumer", -1);
    g.describe(1);
    let (member, generation) = g.classic_group(&[0]);
    describe(&mut g.w, 6, &name);
    g.w.call(8, &committed(8, &name, None));
    g.w.title("of a classic member that left");
    g.classic_beat(&member, generation);
    g.classic_leave(&member);
    g.join(1, "consumer");
    g.describe(1);
    g.w.call(8, &committed(8, &name, None));
    g.beat("consumer", -1);
}

/// What a broker allows whose policy is not the default, which allows all.
fn policy(s: &mut Session, policy: &str) {
    let mut options = options();
    options
        .properties
        .push(format!("group.consumer.migration.policy={policy}"));
    let node = s.start(options);
    let mut w = Wire::at(s, &node);
    let topic = w.create("", 2, &[]);
    let mut g = Consumers::of(w, vec![topic]);
    empty(&mut g);
    g.w.title("a consumer comes to a classic group");
    g.another("classic");
    let name = g.name.clone();
    let (member, generation) = g.classic_group(&[0, 1]);
    g.call(1, &joining(&name, "consumer", &["absent"]));
    g.classic_beat(&member, generation);
    g.call(1, &beat(&name, "consumer", -1));
    describe(&mut g.w, 6, &name);
    g.w.title("a classic member comes to a consumer group");
    g.another("consumer");
    let name = g.name.clone();
    g.join(1, "consumer");
    let asked = g.w.call(9, &g.classic("")).unwrap();
    let joined = g.w.call(9, &g.classic(&asked.member_id)).unwrap();
    g.w.title("the consumer leaves");
    g.beat("consumer", -1);
    let joined = g.w.call(9, &g.classic(&joined.member_id)).unwrap();
    g.classic_sync(&joined.member_id, joined.generation_id);
    g.describe(1);
    describe(&mut g.w, 6, &name);
}
