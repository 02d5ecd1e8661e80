//! FindCoordinator (API 10), DescribeGroups (15), ListGroups (16) and DeleteGroups (42), right and wrong, in all versions.
use kafka_protocol::messages::{DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::scenario::{Case, Session};

use super::members::{group, join, stable_member};
use super::offsets::commit;
use super::{describe, ready};
use crate::wire::{Wire, text};

pub const CASES: &[Case] = &[
    Case::code("find-coordinator", find_coordinator),
    Case::code("describe-groups", describe_groups),
    Case::code("list-groups", list_groups),
    Case::code("delete-groups", delete_groups),
];

fn find_coordinator(s: &mut Session) {
    // Each says it in words of its own.
    let words = r#"error_message: Some\(\s*"[^"]* [^"]*",\s*\)"#;
    s.transcript.replace(words, "error_message: None");
    let mut w = Wire::open(s);
    let name = w.s.name;
    ready(&mut w, name);
    for version in 0..=6 {
        for (key, kind) in [(name, 0), ("", 0), (name, 9), (name, -1)] {
            if version == 0 && kind != 0 {
                continue;
            }
            let request = FindCoordinatorRequest::default().with_key_type(kind);
            let request = match version {
                ..4 => request.with_key(text(key)),
                _ => request.with_coordinator_keys(vec![text(key), text("another")]),
            };
            w.title(&format!("{key:?} of kind {kind}"));
            w.call(version, &request);
        }
        if version >= 4 {
            w.call(version, &FindCoordinatorRequest::default());
        }
    }
}

fn describing(names: &[&str]) -> DescribeGroupsRequest {
    DescribeGroupsRequest::default().with_groups(names.iter().map(|name| group(name)).collect())
}

fn describe_groups(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic().name;
    let name = w.s.name;
    let (simple, gone) = (format!("{name}-simple"), format!("{name}-gone"));
    for name in [name, &simple, &gone] {
        ready(&mut w, name);
    }
    stable_member(&mut w, &join(name, ""));
    w.call(8, &commit(8, &simple, &topic, &[(0, 1, -1, None)]));
    for version in 0..=6 {
        // One at a time: several come in no order.
        for name in [name, &simple, &gone, ""] {
            w.call(version, &describing(&[name]));
        }
        w.call(version, &describing(&[]));
        if version >= 3 {
            w.call(version, &describing(&[name]).with_include_authorized_operations(true));
            w.call(version, &describing(&[&gone]).with_include_authorized_operations(true));
        }
    }
}

/// Lists, and notes those of this case.
fn list(w: &mut Wire, on: &mut Connection, version: i16, states: &[&str], types: &[&str]) {
    let request = ListGroupsRequest::default()
        .with_states_filter(states.iter().copied().map(text).collect())
        .with_types_filter(types.iter().copied().map(text).collect());
    let name = w.s.name;
    let answer = on.call(version, &request).map(|mut answer| {
        answer.groups.retain(|group| group.group_id.0.starts_with(name));
        answer.groups.sort_by_key(|group| group.group_id.0.to_string());
        answer
    });
    w.title(&format!("states {states:?}, types {types:?}"));
    w.s.answer::<ListGroupsRequest>(version, answer);
}

fn list_groups(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic().name;
    let (simple, connect) = (format!("{}-simple", w.s.name), format!("{}-connect", w.s.name));
    let (empty, stable) = (format!("{}-empty", w.s.name), format!("{}-stable", w.s.name));
    for name in [&simple, &connect, &empty, &stable] {
        ready(&mut w, name);
    }
    w.call(8, &commit(8, &simple, &topic, &[(0, 1, -1, None)]));
    stable_member(&mut w, &join(&stable, ""));
    stable_member(&mut w, &join(&connect, "").with_protocol_type(text("connect")));
    // Joined, and never synced.
    w.connection.call(3, &join(&empty, "")).unwrap();
    let mut on = w.connect();
    for version in 0..=5 {
        list(&mut w, &mut on, version, &[], &[]);
        if version >= 4 {
            for states in [
                &["Stable"][..],
                &["stable"],
                &["Empty", "COMPLETINGREBALANCE"],
                &["PreparingRebalance"],
                &["Dead"],
                &["nonsense"],
                &["nonsense", "Stable"],
                &[""],
            ] {
                list(&mut w, &mut on, version, states, &[]);
            }
        }
        if version >= 5 {
            for types in [
                &["classic"][..],
                &["Classic"],
                &["consumer"],
                &["nonsense"],
                &["consumer", "classic"],
            ] {
                list(&mut w, &mut on, version, &[], types);
                list(&mut w, &mut on, version, &["Stable"], types);
            }
        }
    }
}

fn delete_groups(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic().name;
    let deleting = |names: &[&str]| {
        DeleteGroupsRequest::default().with_groups_names(names.iter().map(|name| group(name)).collect())
    };
    for version in 0..=2 {
        let (simple, stable) = (
            format!("{}-{version}", w.s.name),
            format!("{}-{version}-stable", w.s.name),
        );
        for name in [&simple, &stable] {
            ready(&mut w, name);
        }
        w.call(8, &commit(8, &simple, &topic, &[(0, 1, -1, None)]));
        stable_member(&mut w, &join(&stable, ""));
        // One at a time: several come in no order.
        for name in [&simple, &stable, &simple, ""] {
            w.call(version, &deleting(&[name]));
        }
        w.call(version, &deleting(&[]));
        describe(&mut w, 5, &simple);
        describe(&mut w, 5, &stable);
        w.title("it can come again");
        w.call(8, &commit(8, &simple, &topic, &[(0, 2, -1, None)]));
        w.call(version, &deleting(&[&simple]));
    }
}
