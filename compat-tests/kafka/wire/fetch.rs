//! Fetch (API 1).
use std::io;
use std::time::Instant;

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::{DeleteRecordsRequest, FetchRequest, FetchResponse, MetadataRequest};
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::scenario::{Case, Session};
use uuid::Uuid;

use super::{Topic, Wire, at, create_topic, delete_topic, fetch, metadata, topic_name, wait_gone};

pub const CASES: &[Case] = &[
    Case::code("fetch-versions", versions),
    Case::code("fetch-offsets", offsets),
    Case::code("fetch-limits", limits),
    Case::code("fetch-waits", waits),
    Case::code("fetch-sessions", sessions),
    Case::code("fetch-session-errors", session_errors),
    Case::code("fetch-deleted-topic", deleted_topic),
    Case::code("fetch-leader-epochs", leader_epochs),
    Case::code("fetch-unknown-places", unknown_places),
    Case::code("fetch-after-delete-records", after_delete_records),
    Case::code("fetch-as-replica", as_replica),
];

/// Three batches: offsets 0-1, 2, 3-5.
fn filled(w: &mut Wire) -> Topic {
    let topic = w.topic();
    fill(w, &topic, 0);
    topic
}

fn fill(w: &mut Wire, topic: &Topic, partition: i32) {
    for values in [&["a", "b"][..], &["c"], &["d", "e", "f"]] {
        let batch = Batch::of(w.now(), values);
        w.append_to(topic, partition, &batch);
    }
}

/// Calls and notes; Kafka puts partitions with errors wherever its hash tables do.
fn call_sorted(w: &mut Wire, version: i16, request: &FetchRequest) {
    let answer = w.connection.call(version, request);
    answer_sorted(w, version, answer);
}

fn answer_sorted(w: &mut Wire, version: i16, mut answer: io::Result<FetchResponse>) {
    for partitions in answer
        .iter_mut()
        .flat_map(|answer| &mut answer.responses)
        .map(|topic| &mut topic.partitions)
    {
        partitions.sort_by_key(|partition| partition.partition_index);
        for failed in partitions.iter_mut().filter(|partition| partition.error_code != 0) {
            // None or an empty list, to clients the same.
            failed.aborted_transactions = None;
        }
    }
    w.s.answer::<FetchRequest>(version, answer);
}

/// Calls and notes, without the beginnings of batches behind the last whole one: a broker may send any number of bytes
/// of a batch that does not fit, and consumers leave them.
fn call_whole(w: &mut Wire, request: &FetchRequest) {
    let mut answer = w.connection.call(12, request);
    let topics = answer.iter_mut().flat_map(|answer| &mut answer.responses);
    for records in topics
        .flat_map(|topic| &mut topic.partitions)
        .flat_map(|partition| &mut partition.records)
    {
        let mut end = 0;
        while let Some(size) = records.get(end + 8..end + 12) {
            let next = end + 12 + u32::from_be_bytes(size.try_into().unwrap()) as usize;
            if next > records.len() {
                break;
            }
            end = next;
        }
        records.truncate(end);
    }
    w.s.answer::<FetchRequest>(12, answer);
}

fn versions(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    for version in 4..=18 {
        w.call(version, &fetch(version, &topic, vec![at(0, 0)]));
    }
    for version in [4, 11, 16] {
        w.call(version, &fetch(version, &topic, vec![at(0, 0)]).with_isolation_level(1));
    }
}

fn offsets(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    for offset in [1, 2, 4, 5, 6, 7, 1000, i64::MAX, -1, -2, i64::MIN] {
        w.title(&format!("offset {offset}"));
        w.call(12, &fetch(12, &topic, vec![at(0, offset)]));
    }
}

fn limits(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 3, &[]);
    (0..3).for_each(|partition| fill(&mut w, &topic, partition));
    let all = |max: i32| {
        (0..3)
            .map(|partition| at(partition, 0).with_partition_max_bytes(max))
            .collect::<Vec<_>>()
    };
    for (title, partition_max, max) in [
        ("everything", 1_000_000, 1_000_000),
        ("one batch each", 100, 1_000_000),
        ("a first batch above the partition's limit", 1, 1_000_000),
        ("nothing allowed in a partition", 0, 1_000_000),
        ("a first batch above the request's limit", 1_000_000, 1),
        ("nothing allowed", 1_000_000, 0),
        ("one partition and a bit", 1_000_000, 300),
    ] {
        w.title(title);
        call_whole(&mut w, &fetch(12, &topic, all(partition_max)).with_max_bytes(max));
    }
    w.title("the order of partitions is the request's");
    w.call(
        12,
        &fetch(12, &topic, vec![at(2, 5), at(0, 3), at(1, 0)]).with_max_bytes(200),
    );
    w.title("the same partition twice");
    call_whole(&mut w, &fetch(12, &topic, vec![at(2, 5), at(2, 0)]));
    w.title("a first batch larger than every limit");
    let large = w.create("-large", 1, &[]);
    let batch = Batch::new(w.now(), vec![Record::value(vec![b'x'; 5000])]);
    w.append(&large, &batch);
    w.append(&large, &batch);
    w.call(
        12,
        &fetch(12, &large, vec![at(0, 0).with_partition_max_bytes(10)]).with_max_bytes(10),
    );
}

fn size(answer: &FetchResponse) -> usize {
    answer
        .responses
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| p.records.as_ref().map_or(0, |r| r.len()))
        .sum()
}

fn waits(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    w.title("nothing to read, until the time is up");
    let before = Instant::now();
    w.call(12, &fetch(12, &topic, vec![at(0, 6)]).with_max_wait_ms(300));
    assert!(before.elapsed().as_millis() >= 300, "answered early");
    w.title("too little to read, until the time is up");
    let before = Instant::now();
    w.call(
        12,
        &fetch(12, &topic, vec![at(0, 0)])
            .with_max_wait_ms(300)
            .with_min_bytes(100_000),
    );
    assert!(before.elapsed().as_millis() >= 300, "answered early");
    w.title("an error is no reason to wait");
    call_sorted(
        &mut w,
        12,
        &fetch(12, &topic, vec![at(9, 0), at(0, 6)]).with_max_wait_ms(25_000),
    );
    w.title("no partitions is no reason to wait");
    w.call(
        12,
        &FetchRequest::default()
            .with_session_epoch(-1)
            .with_max_wait_ms(25_000)
            .with_min_bytes(1),
    );
    w.title("what arrives wakes it");
    let mut waiting = w.connect();
    waiting
        .send(12, &fetch(12, &topic, vec![at(0, 6)]).with_max_wait_ms(25_000))
        .unwrap();
    let batch = Batch::of(w.now(), &["g"]);
    w.append(&topic, &batch);
    let answer = waiting.receive::<FetchRequest>(12);
    w.s.answer::<FetchRequest>(12, answer);
    w.title("but only once it is enough");
    let enough = batch.encode().len() as i32 * 2;
    waiting
        .send(
            12,
            &fetch(12, &topic, vec![at(0, 7)])
                .with_max_wait_ms(25_000)
                .with_min_bytes(enough),
        )
        .unwrap();
    w.append(&topic, &batch);
    w.append(&topic, &batch);
    let answer = waiting.receive::<FetchRequest>(12).unwrap();
    w.s.note("size", size(&answer));
    w.title("requests behind a waiting one are answered after it");
    w.connection
        .send(12, &fetch(12, &topic, vec![at(0, 9)]).with_max_wait_ms(300))
        .unwrap();
    w.connection.send(9, &metadata(&[&topic.name])).unwrap();
    let first = w.connection.receive::<FetchRequest>(12);
    w.s.answer::<FetchRequest>(12, first);
    let second = w.connection.receive::<MetadataRequest>(9);
    w.s.answer::<MetadataRequest>(9, second);
}

fn sessions(s: &mut Session) {
    s.transcript.replace(r"session_id: -?[1-9]\d*", "session_id: <n>");
    let mut w = Wire::open(s);
    let topic = w.create("", 3, &[]);
    fill(&mut w, &topic, 0);
    for version in [7, 12, 13, 16] {
        w.title("a full request begins a session");
        let full = fetch(version, &topic, vec![at(0, 6), at(1, 0), at(2, 0)]).with_session_epoch(0);
        let id = w.call(version, &full).unwrap().session_id;
        assert_ne!(id, 0);
        let next = |epoch: i32| {
            FetchRequest::default()
                .with_max_bytes(1_000_000)
                .with_session_id(id)
                .with_session_epoch(epoch)
        };
        w.title("nothing new");
        w.call(version, &next(1));
        w.title("only the partition with something new");
        let batch = Batch::of(w.now(), &["x"]);
        let offset = w.append_to(&topic, 1, &batch);
        w.call(version, &next(2));
        w.title("what was not consumed comes again");
        w.call(version, &next(3));
        w.title("another position");
        w.call(
            version,
            &next(4).with_topics(fetch(version, &topic, vec![at(1, offset + 1)]).topics),
        );
        w.title("a position out of range");
        w.call(
            version,
            &next(5).with_topics(fetch(version, &topic, vec![at(2, 50)]).topics),
        );
        w.title("errors are repeated");
        w.call(version, &next(6));
        w.title("forgotten");
        let forgotten = match version {
            ..13 => ForgottenTopic::default().with_topic(topic_name(&topic.name)),
            _ => ForgottenTopic::default().with_topic_id(topic.id),
        };
        let forget = next(7).with_forgotten_topics_data(vec![forgotten.with_partitions(vec![2])]);
        w.call(version, &forget);
        w.call(version, &next(8));
        w.title("the end of the session");
        w.call(version, &next(-1));
        w.call(version, &next(9));
    }
}

/// A session knows its topics by name, too: the errors tell whether a topic has gone, or another one has its name.
fn deleted_topic(s: &mut Session) {
    s.transcript.replace(r"session_id: -?[1-9]\d*", "session_id: <n>");
    let mut w = Wire::open(s);
    for version in [12, 13, 17] {
        let topic = w.create(&format!("-{version}"), 2, &[]);
        let full = fetch(version, &topic, vec![at(0, 0), at(1, 0)]);
        let id = w.call(version, &full.clone().with_session_epoch(0)).unwrap().session_id;
        let next = |epoch: i32| {
            FetchRequest::default()
                .with_max_bytes(1000)
                .with_session_id(id)
                .with_session_epoch(epoch)
        };
        w.title("deleted while a fetch waits");
        let mut waiting = w.connect();
        waiting.send(version, &next(1).with_max_wait_ms(20_000)).unwrap();
        delete_topic(&mut w.connection, &topic);
        let answer = waiting.receive::<FetchRequest>(version);
        answer_sorted(&mut w, version, answer);
        w.title("gone");
        wait_gone(&mut w.connection, &topic);
        call_sorted(&mut w, version, &next(2));
        call_sorted(&mut w, version, &full);
        w.title("another one has its name");
        create_topic(&mut w.connection, &topic.name, 1, &[]);
        call_sorted(&mut w, version, &next(3));
        call_sorted(&mut w, version, &full);
    }
}

fn session_errors(s: &mut Session) {
    s.transcript.replace(r"session_id: -?[1-9]\d*", "session_id: <n>");
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    let request = |id, epoch| {
        FetchRequest::default()
            .with_max_bytes(1000)
            .with_session_id(id)
            .with_session_epoch(epoch)
    };
    w.title("unknown session");
    w.call(12, &request(123, 1));
    w.title("a session that does not exist is closed");
    w.call(12, &request(123, -1));
    w.title("epoch without session");
    w.call(12, &request(0, 5));
    w.title("wrong epoch");
    let id = w
        .call(12, &fetch(12, &topic, vec![at(0, 0)]).with_session_epoch(0))
        .unwrap()
        .session_id;
    w.call(12, &request(id, 2));
    w.title("the right epoch still works");
    w.call(12, &request(id, 1));
    w.title("a request that was answered");
    w.call(12, &request(id, 1));
    w.title("a new session in place of the old");
    w.call(
        12,
        &fetch(12, &topic, vec![at(0, 4)])
            .with_session_id(id)
            .with_session_epoch(0),
    );
    w.call(12, &request(id, 2));
    w.title("a session of names asked by id");
    let id = w
        .call(12, &fetch(12, &topic, vec![at(0, 0)]).with_session_epoch(0))
        .unwrap()
        .session_id;
    w.call(13, &request(id, 1));
}

fn leader_epochs(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    for (title, current, last, offset) in [
        ("the current epoch", 0, -1, 3),
        ("a later epoch", 1, -1, 3),
        ("an epoch far off", i32::MAX, -1, 3),
        ("a negative epoch", -5, -1, 3),
        ("the epoch last fetched", 0, 0, 3),
        ("a later epoch last fetched", 0, 3, 3),
        ("a later epoch last fetched, beyond the end", 0, 0, 9),
    ] {
        w.title(title);
        let partition = at(0, offset)
            .with_current_leader_epoch(current)
            .with_last_fetched_epoch(last);
        w.call(12, &fetch(12, &topic, vec![partition.clone()]));
        w.call(16, &fetch(16, &topic, vec![partition]));
    }
}

fn unknown_places(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    let absent = Topic {
        name: "absent".into(),
        id: Uuid::from_u128(7),
    };
    let nil = Topic {
        name: "".into(),
        id: Uuid::nil(),
    };
    for version in [4, 12, 13, 16] {
        w.title("absent partition beside a present one");
        call_sorted(&mut w, version, &fetch(version, &topic, vec![at(1, 0), at(0, 3)]));
        w.title("absent topic");
        call_sorted(&mut w, version, &fetch(version, &absent, vec![at(0, 0)]));
        w.title("no topic");
        call_sorted(&mut w, version, &fetch(version, &nil, vec![at(0, 0)]));
    }
}

fn after_delete_records(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    let delete = |offset| {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(0)
            .with_offset(offset);
        let data = DeleteRecordsTopic::default()
            .with_name(topic_name(&topic.name))
            .with_partitions(vec![partition]);
        DeleteRecordsRequest::default()
            .with_topics(vec![data])
            .with_timeout_ms(5000)
    };
    w.call(2, &delete(4));
    for offset in [0, 3, 4, 5] {
        w.title(&format!("offset {offset}"));
        w.call(12, &fetch(12, &topic, vec![at(0, offset)]));
    }
    w.call(2, &delete(-1));
    w.call(12, &fetch(12, &topic, vec![at(0, 6)]));
}

/// A broker that is no replica.
fn as_replica(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    w.call(12, &fetch(12, &topic, vec![at(0, 0)]).with_replica_id(7.into()));
    w.call(12, &fetch(12, &topic, vec![at(0, 0)]).with_replica_id(1.into()));
    // Consumers that debug: they see what is not committed yet.
    w.call(12, &fetch(12, &topic, vec![at(0, 0)]).with_replica_id((-2).into()));
}
