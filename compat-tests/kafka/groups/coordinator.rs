//! What becomes of groups with their coordinator: there is none, it does not know their protocol, it starts again.
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, LeaveGroupRequest, ListGroupsRequest, OffsetDeleteRequest,
};
use ottla_compat_tests::scenario::{Case, Session};

use super::consumer::{Consumers, beat, joining};
use super::members::{group, heartbeat, join, stable_member, sync};
use super::offsets::{commit, committed};
use super::{describe, options, ready};
use crate::wire::{Wire, text, topic_name};

pub const CASES: &[Case] = &[
    Case::code("groups-without-coordinator", without_coordinator),
    Case::code("groups-without-consumers", without_consumers),
    Case::code("groups-after-restarts", restarts),
];

/// Each says why in words of its own, or not at all.
fn without_words(s: &mut Session) {
    let words = r#"error_message: Some\(\s*"[^"]*",\s*\)"#;
    s.transcript.replace(words, "error_message: None");
}

/// There is no topic of offsets, and it cannot be made.
fn without_coordinator(s: &mut Session) {
    without_words(s);
    let mut options = options();
    // More than there are brokers.
    options.properties.push("offsets.topic.replication.factor=3".into());
    let node = s.start(options);
    let mut w = Wire::at(s, &node);
    let topic = w.create("", 1, &[]).name;
    let name = w.s.name;
    for version in 0..=6 {
        let request = FindCoordinatorRequest::default();
        let request = match version {
            ..4 => request.with_key(text(name)),
            _ => request.with_coordinator_keys(vec![text(name)]),
        };
        w.call(version, &request);
    }
    w.title("members");
    let leaving = LeaveGroupRequest::default().with_group_id(group(name));
    for version in [0, 9] {
        w.call(version, &join(name, ""));
        w.call(version, &join(name, "member"));
        w.call(version.min(4), &heartbeat(name, "member", 1));
    }
    for version in [0, 5] {
        w.call(version, &sync(name, "member", 1, &[]));
    }
    w.call(0, &leaving.clone().with_member_id(text("member")));
    let member = MemberIdentity::default().with_member_id(text("member"));
    w.call(5, &leaving.with_members(vec![member]));
    for version in 0..=1 {
        w.call(version, &joining(name, "member", &[&topic]));
        w.call(version, &beat(name, "member", 1));
        w.call(version, &beat(name, "member", -1));
    }
    w.title("offsets");
    for version in [2, 8, 9] {
        w.call(version, &commit(version, name, &topic, &[(0, 1, -1, None)]));
        w.call(version, &commit(version, name, "absent", &[(0, 1, -1, None)]));
    }
    for version in [1, 2, 7, 8, 9] {
        w.call(version, &committed(version, name, Some((&topic, &[0, 1]))));
    }
    w.call(9, &committed(9, name, None));
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let deleted = OffsetDeleteRequestTopic::default()
        .with_name(topic_name(&topic))
        .with_partitions(vec![partition]);
    let request = OffsetDeleteRequest::default().with_group_id(group(name));
    w.call(0, &request.with_topics(vec![deleted]));
    w.title("groups");
    for version in [0, 5, 6] {
        let request = DescribeGroupsRequest::default().with_groups(vec![group(name)]);
        w.call(version, &request);
    }
    for version in [0, 5] {
        w.call(version, &ListGroupsRequest::default());
    }
    for version in 0..=1 {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(name)]);
        w.call(version, &request);
    }
    for version in [0, 2] {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group(name)]);
        w.call(version, &request);
    }
}

/// A broker that does not offer the consumer protocol.
fn without_consumers(s: &mut Session) {
    without_words(s);
    let mut options = options();
    options
        .properties
        .push("group.coordinator.rebalance.protocols=classic".into());
    let node = s.start(options);
    let mut w = Wire::at(s, &node);
    let topic = w.create("", 1, &[]).name;
    let name = w.s.name;
    ready(&mut w, name);
    for version in 0..=1 {
        for request in [
            joining(name, "member", &[&topic]),
            beat(name, "member", 1),
            beat(name, "member", -3),
        ] {
            w.call(version, &request);
        }
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(name), group("")]);
        w.call(version, &request);
    }
    stable_member(&mut w, &join(name, ""));
    describe(&mut w, 6, name);
}

/// Groups are what they were, also those in the middle of something.
fn restarts(s: &mut Session) {
    let mut node = s.start(options());
    let mut w = Wire::at(s, &node);
    let topics = vec![w.create("", 4, &[])];
    let mut g = Consumers::of(w, topics.clone());
    let name = g.name.clone();
    let topic = topics[0].name.as_str();
    let commits = |member: &str, epoch, offset| {
        commit(9, &name, topic, &[(0, offset, 5, Some("said"))])
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch)
    };
    let instance = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("instance")));
    g.join(1, "a");
    g.join(1, "b");
    g.beat("a", 2);
    g.w.call(9, &commits("a", 2, 1));
    g.w.title("a static member that left for a while");
    g.another("static");
    let static_name = g.name.clone();
    g.call(1, &instance(joining(&static_name, "before", &[topic])));
    g.call(1, &instance(beat(&static_name, "before", -2)));
    g.w.title("a classic group");
    g.another("classic");
    let classic_name = g.name.clone();
    let (member, generation) = stable_member(&mut g.w, &join(&classic_name, ""));
    node.stop();
    node.launch();
    let mut g = Consumers::of(Wire::at(s, &node), topics.clone());
    g.w.title("after a stop");
    g.describe(1);
    g.beat("a", 2);
    g.owns("a", 2, &[0, 1]);
    g.beat("b", 3);
    g.w.call(9, &committed(9, &name, None));
    g.w.call(9, &commits("a", 3, 2));
    g.another("static");
    g.describe(1);
    g.call(1, &instance(joining(&static_name, "after", &[topic])));
    g.another("classic");
    g.w.call(4, &heartbeat(&classic_name, &member, generation));
    describe(&mut g.w, 6, &classic_name);
    node.kill();
    node.launch();
    let mut g = Consumers::of(Wire::at(s, &node), topics);
    g.w.title("after a kill");
    g.describe(1);
    g.beat("a", 3);
    g.beat("b", 3);
    g.w.call(9, &committed(9, &name, None));
    g.beat("b", -1);
    g.beat("a", 3);
    g.describe(1);
    g.another("static");
    g.call(1, &instance(beat(&static_name, "after", 2)));
    g.describe(1);
    g.another("classic");
    g.w.call(4, &heartbeat(&classic_name, &member, generation));
    g.w.call(3, &sync(&classic_name, &member, generation, &[]));
}
