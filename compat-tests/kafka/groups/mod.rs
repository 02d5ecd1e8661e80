//! Consumer groups: who gets which partitions, what was committed, and what tools tell of both.
use kafka_protocol::messages::{DescribeGroupsRequest, FindCoordinatorRequest};
use ottla_compat_tests::node::Options;
use ottla_compat_tests::scenario::{Case, wait_for};

use self::members::group;
use crate::wire::{Wire, text};

mod admin;
mod consumer;
mod coordinator;
mod kcat;
mod members;
mod migration;
pub mod offsets;
mod offsets_by_id;
mod records;
mod restarts;
mod subscriptions;
mod tools;
mod verifiable;

pub const FAMILIES: [(&str, &[Case]); 13] = [
    ("groups-kcat", kcat::CASES),
    ("groups-tools", tools::CASES),
    ("groups-members", members::CASES),
    ("groups-consumer", consumer::CASES),
    ("groups-subscriptions", subscriptions::CASES),
    ("groups-migration", migration::CASES),
    ("groups-offsets", offsets::CASES),
    ("groups-offsets-by-id", offsets_by_id::CASES),
    ("groups-admin", admin::CASES),
    ("groups-coordinator", coordinator::CASES),
    ("groups-records", records::CASES),
    ("groups-restarts", restarts::CASES),
    ("groups-verifiable", verifiable::CASES),
];

/// How the nodes start that these scenarios share: members that come and go hold up no one for long.
pub fn options() -> Options {
    Options::with(&[
        "group.initial.rebalance.delay.ms=0",
        "group.min.session.timeout.ms=1000",
        "group.consumer.min.heartbeat.interval.ms=100",
        "group.consumer.heartbeat.interval.ms=200",
        "group.consumer.min.session.timeout.ms=1000",
        "group.consumer.assignment.interval.ms=0",
        "group.consumer.max.size=20",
        "group.max.size=20",
    ])
}

/// Waits until a group has a coordinator that is ready: the first request for one creates its topic.
fn ready(w: &mut Wire, name: &str) {
    let find = FindCoordinatorRequest::default().with_key(text(name));
    let look = DescribeGroupsRequest::default().with_groups(vec![group(name)]);
    wait_for(
        || {
            let found = w.connection.call(3, &find).unwrap();
            let known = w.connection.call(5, &look).unwrap().groups.remove(0);
            // Neither loading, nor unavailable, nor another's.
            (found.error_code == 0 && !(14..=16).contains(&known.error_code)).then_some(())
        },
        || format!("{name} has no coordinator"),
    );
}

/// Notes a group; its members come in no order.
fn describe(w: &mut Wire, version: i16, name: &str) {
    let look = DescribeGroupsRequest::default().with_groups(vec![group(name)]);
    let answer = w.connection.call(version, &look).map(|mut answer| {
        let members = &mut answer.groups[0].members;
        members.sort_by(|a, b| {
            (&a.member_metadata, &a.member_assignment).cmp(&(&b.member_metadata, &b.member_assignment))
        });
        answer
    });
    w.s.answer::<DescribeGroupsRequest>(version, answer);
}

/// Waits until a group has so many members.
fn member_count(w: &mut Wire, name: &str, count: usize) {
    let look = DescribeGroupsRequest::default().with_groups(vec![group(name)]);
    wait_for(
        || {
            let members = &w.connection.call(5, &look).unwrap().groups[0].members;
            (members.len() == count).then_some(())
        },
        || format!("{name} never has {count} members"),
    );
}
