//! OffsetCommit (API 8), OffsetFetch (9) and OffsetDelete (47), right and wrong, in all versions.
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};
use ottla_compat_tests::scenario::{Case, Session};

use super::members::{group, join, protocol, stable_member, sync};
use super::ready;
use crate::wire::{Wire, delete_topic, text, topic_name, wait_gone};

pub const CASES: &[Case] = &[
    Case::code("offset-commit-versions", commit_versions),
    Case::code("offset-commit-errors", commit_errors),
    Case::code("offset-commit-members", commit_members),
    Case::code("offset-fetch", fetch_versions),
    Case::code("offset-delete", delete),
    Case::code("offsets-of-deleted-topic", deleted_topic),
];

/// (partition, offset, leader epoch, metadata)
type Committed<'a> = (i32, i64, i32, Option<&'a str>);

/// A commit from outside of any generation, in the shape of a version.
pub fn commit(version: i16, name: &str, topic: &str, partitions: &[Committed]) -> OffsetCommitRequest {
    let partitions = partitions.iter().map(|(partition, offset, epoch, metadata)| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(metadata.map(text));
        match version {
            ..6 => partition,
            _ => partition.with_committed_leader_epoch(*epoch),
        }
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// Asks for what a group committed, in the shape of a version: of some partitions, or of all.
pub fn committed(version: i16, name: &str, topic: Option<(&str, &[i32])>) -> OffsetFetchRequest {
    if version < 8 {
        let topic = topic.map(|(topic, partitions)| {
            OffsetFetchRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(partitions.to_vec())
        });
        return OffsetFetchRequest::default()
            .with_group_id(group(name))
            .with_topics(topic.map(|topic| vec![topic]));
    }
    let topic = topic.map(|(topic, partitions)| {
        OffsetFetchRequestTopics::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(partitions.to_vec())
    });
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(group(name))
        .with_topics(topic.map(|topic| vec![topic]));
    OffsetFetchRequest::default().with_groups(vec![group])
}

fn deleting(name: &str, topics: &[(&str, &[i32])]) -> OffsetDeleteRequest {
    let topics = topics.iter().map(|(topic, partitions)| {
        let partitions = partitions
            .iter()
            .map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect())
    });
    OffsetDeleteRequest::default()
        .with_group_id(group(name))
        .with_topics(topics.collect())
}

fn commit_versions(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 2, &[]).name;
    for version in 2..=9 {
        let name = format!("{}-{version}", w.s.name);
        ready(&mut w, &name);
        w.call(
            version,
            &commit(version, &name, &topic, &[(0, 7, 3, Some("said")), (1, 0, -1, None)]),
        );
        w.call(5, &committed(5, &name, Some((&topic, &[0, 1]))));
        w.title("back, with more");
        let mut more = commit(version, &name, &topic, &[(0, 5, 0, Some(""))]);
        if version <= 4 {
            more.retention_time_ms = 3_600_000;
        }
        w.call(version, &more);
        w.call(5, &committed(5, &name, Some((&topic, &[0, 1]))));
        w.call(5, &committed(5, &name, None));
    }
}

fn commit_errors(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 1, &[]).name;
    let name = w.s.name;
    ready(&mut w, name);
    let (most, too_much) = ("x".repeat(4096), "x".repeat(4097));
    // As long as allowed in bytes, not in characters.
    let wide = "é".repeat(2049);
    let known = topic.as_str();
    let cases: [(&str, &str, Committed); 11] = [
        ("unknown topic", "absent", (0, 1, -1, None)),
        ("unknown partition", known, (9, 1, -1, None)),
        ("negative partition", known, (-1, 1, -1, None)),
        ("negative offset", known, (0, -1, -1, None)),
        ("very negative offset", known, (0, -7, -1, None)),
        ("beyond the end", known, (0, i64::MAX, 9, None)),
        ("negative epoch", known, (0, 1, -2, None)),
        ("as much metadata as can be", known, (0, 1, -1, Some(&most))),
        ("more", known, (0, 2, -1, Some(&too_much))),
        ("more bytes than characters", known, (0, 3, -1, Some(&wide))),
        ("illegal topic", "a/b", (0, 1, -1, None)),
    ];
    for version in [2, 8, 9] {
        for (title, topic, partition) in &cases {
            w.title(title);
            w.call(version, &commit(version, name, topic, &[*partition]));
        }
        let answer = w.connection.call(5, &committed(5, name, Some((known, &[0])))).unwrap();
        let at = &answer.topics[0].partitions[0];
        w.s.note("at", (at.committed_offset, at.metadata.as_ref().map(|text| text.len())));
    }
    w.title("good ones beside bad ones");
    w.call(
        8,
        &commit(
            8,
            name,
            known,
            &[(9, 1, -1, None), (0, 4, -1, None), (0, 5, -1, Some(&too_much))],
        ),
    );
    w.call(8, &commit(8, name, known, &[]));
    w.call(
        8,
        &OffsetCommitRequest::default()
            .with_group_id(group(name))
            .with_generation_id_or_member_epoch(-1),
    );
    for version in [2, 9] {
        w.title("no group, strangers");
        w.call(version, &commit(version, "", known, &[(0, 1, -1, None)]));
        let strange = commit(version, "fresh", known, &[(0, 1, -1, None)]);
        w.call(version, &strange.clone().with_member_id(text("stranger")));
        w.call(version, &strange.clone().with_generation_id_or_member_epoch(1));
        w.call(
            version,
            &strange
                .with_member_id(text("stranger"))
                .with_generation_id_or_member_epoch(1),
        );
    }
    let fresh = commit(9, "fresh", known, &[(0, 1, -1, None)]);
    w.call(9, &fresh.with_group_instance_id(Some(text("instance"))));
    w.call(5, &committed(5, name, Some((known, &[0]))));
}

/// Commits of members, and of others while there are members.
fn commit_members(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 1, &[]).name;
    let name = w.s.name;
    ready(&mut w, name);
    let (member, generation) = stable_member(&mut w, &join(name, ""));
    let by = |member: &str, generation, offset| {
        commit(9, name, &topic, &[(0, offset, -1, None)])
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(generation)
    };
    let cases = [
        ("the member", by(&member, generation, 1)),
        ("an older generation", by(&member, generation - 1, 2)),
        ("a newer generation", by(&member, generation + 1, 3)),
        ("a stranger", by("stranger", generation, 4)),
        ("nobody", by("", -1, 5)),
        ("nobody, with a generation", by("", generation, 6)),
        ("the member, without a generation", by(&member, -1, 7)),
        (
            "an instance",
            by(&member, generation, 8).with_group_instance_id(Some(text("instance"))),
        ),
    ];
    for (title, request) in cases {
        w.title(title);
        w.call(9, &request);
    }
    w.call(5, &committed(5, name, None));
    w.title("before the leader has synced");
    let again = join(name, &member).with_protocols(vec![protocol("range", "changed")]);
    let joined = w.call(9, &again).unwrap();
    w.call(9, &by(&member, joined.generation_id, 9));
    w.call(9, &by(&member, generation, 10));
    w.call(3, &sync(name, &member, joined.generation_id, &[(&member, "all")]));
    w.call(9, &by(&member, joined.generation_id, 11));
    w.call(5, &committed(5, name, None));
}

fn fetch_versions(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 3, &[]).name;
    let name = w.s.name;
    ready(&mut w, name);
    w.call(
        9,
        &commit(9, name, &topic, &[(0, 7, 3, Some("said")), (1, 8, -1, None)]),
    );
    for version in 1..=9 {
        w.title(&format!("version {version}"));
        let known: [i32; 4] = [1, 0, 2, 9];
        w.call(version, &committed(version, name, Some((&topic, &known))));
        w.call(version, &committed(version, name, Some((&topic, &[]))));
        w.call(version, &committed(version, name, Some(("absent", &[0]))));
        w.call(version, &committed(version, "absent", Some((&topic, &[0]))));
        w.call(version, &committed(version, "", Some((&topic, &[0]))));
        if version >= 2 {
            w.call(version, &committed(version, name, None));
            w.call(version, &committed(version, "absent", None));
        }
        if version >= 7 {
            w.call(
                version,
                &committed(version, name, Some((&topic, &known))).with_require_stable(true),
            );
        }
        if version >= 8 {
            w.title("many groups");
            let mut many = committed(version, name, None);
            many.groups
                .extend(committed(version, "absent", Some((&topic, &[0]))).groups);
            let answer = w.connection.call(version, &many).map(|mut answer| {
                answer.groups.sort_by_key(|group| group.group_id.0.to_string());
                answer
            });
            w.s.answer::<OffsetFetchRequest>(version, answer);
            w.call(version, &OffsetFetchRequest::default());
        }
        if version >= 9 {
            w.title("members");
            for (member, epoch) in [(Some("stranger"), 1), (Some("stranger"), -1), (None, 3), (Some(""), 0)] {
                let mut request = committed(version, name, Some((&topic, &[0])));
                request.groups[0].member_id = member.map(text);
                request.groups[0].member_epoch = epoch;
                w.call(version, &request);
            }
        }
    }
}

/// Deletes offsets and notes the answer; partitions come in no order.
fn delete_offsets(w: &mut Wire, name: &str, topics: &[(&str, &[i32])]) {
    let answer = w.connection.call(0, &deleting(name, topics)).map(|mut answer| {
        answer.topics.sort_by(|a, b| a.name.cmp(&b.name));
        let topics = answer.topics.iter_mut();
        topics.for_each(|topic| topic.partitions.sort_by_key(|partition| partition.partition_index));
        answer
    });
    w.s.answer::<OffsetDeleteRequest>(0, answer);
}

fn delete(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 3, &[]).name;
    let name = w.s.name;
    ready(&mut w, name);
    delete_offsets(&mut w, name, &[(&topic, &[0])]);
    delete_offsets(&mut w, "", &[(&topic, &[0])]);
    w.call(8, &commit(8, name, &topic, &[(0, 7, -1, None), (1, 8, -1, None)]));
    for topics in [
        &[(topic.as_str(), &[1, 2, 9][..])][..],
        &[(topic.as_str(), &[][..])],
        &[],
        &[("absent", &[0])],
    ] {
        delete_offsets(&mut w, name, topics);
    }
    w.call(5, &committed(5, name, None));
    w.title("with a member that subscribed to one of two topics");
    let subscribed = join(name, "").with_protocols(vec![protocol("range", &topic)]);
    stable_member(&mut w, &subscribed);
    let unsubscribed = w.create("-unsubscribed", 1, &[]).name;
    delete_offsets(&mut w, name, &[(&topic, &[0]), (&unsubscribed, &[0])]);
    w.title("with a member of another kind");
    let other = format!("{name}-other");
    ready(&mut w, &other);
    w.call(8, &commit(8, &other, &topic, &[(0, 7, -1, None)]));
    stable_member(&mut w, &join(&other, "").with_protocol_type(text("connect")));
    delete_offsets(&mut w, &other, &[(&topic, &[0])]);
    w.call(5, &committed(5, &other, None));
}

/// Offsets go with their topic, and do not come back with another of its name.
fn deleted_topic(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 1, &[]);
    let name = w.s.name;
    ready(&mut w, name);
    w.call(8, &commit(8, name, &topic.name, &[(0, 7, -1, None)]));
    delete_topic(&mut w.connection, &topic);
    wait_gone(&mut w.connection, &topic);
    ottla_compat_tests::scenario::wait_for(
        || {
            let answer = w.connection.call(5, &committed(5, name, None)).unwrap();
            answer.topics.is_empty().then_some(())
        },
        || "offsets of a deleted topic are still there".into(),
    );
    let topic = w.topic();
    w.call(5, &committed(5, name, Some((&topic.name, &[0]))));
    w.call(8, &commit(8, name, &topic.name, &[(0, 1, -1, None)]));
    w.call(5, &committed(5, name, None));
}
