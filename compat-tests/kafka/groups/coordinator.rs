//! Groups that no broker coordinates: there is no topic of offsets, and it cannot be made.
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetDeleteRequest,
};
use ottla_compat_tests::scenario::{Case, Session};

use super::consumer::{beat, joining};
use super::members::{group, heartbeat, join, sync};
use super::offsets::{commit, committed};
use super::options;
use crate::wire::{Wire, text, topic_name};

pub const CASES: &[Case] = &[Case::code("groups-without-coordinator", without_coordinator)];

fn without_coordinator(s: &mut Session) {
    // Each says it in words of its own, or not at all.
    let words = r#"error_message: Some\(\s*"[^"]*",\s*\)"#;
    s.transcript.replace(words, "error_message: None");
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
