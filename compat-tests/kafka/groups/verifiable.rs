//! kafka-verifiable-producer and two kafka-verifiable-consumers of one group: the events that they tell of are complete.
use std::collections::{BTreeMap, BTreeSet};

use ottla_compat_tests::node::Node;
use ottla_compat_tests::running::Running;
use ottla_compat_tests::scenario::{Case, Session};
use serde_json::Value;

pub const CASES: &[Case] = &[
    Case::code("verifiable-classic", |s| verifiable(s, "classic")),
    Case::code("verifiable-consumer", |s| verifiable(s, "consumer")),
];

const RECORDS: usize = 400;
const PARTITIONS: usize = 4;
const KEYS: usize = 20;

/// What a tool has told so far; all of it is JSON.
fn events(tool: &Running) -> Vec<Value> {
    let lines = tool.lines();
    let parsed = lines.iter().map(|line| serde_json::from_str(line));
    parsed
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("{e} in {lines:#?}"))
}

fn named<'a>(events: &'a [Value], name: &str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["name"] == name)
}

fn partition(event: &Value) -> i64 {
    event["partition"].as_i64().expect("a partition")
}

/// Where a record is, and what it is.
type Written = (i64, i64, String);

fn written(event: &Value) -> Written {
    let text = |field: &str| event[field].as_str().unwrap_or_else(|| panic!("no {field} in {event}"));
    let offset = event["offset"].as_i64().expect("an offset");
    (partition(event), offset, format!("{} {}", text("key"), text("value")))
}

/// Runs a producer to its end; returns what it wrote.
fn produce(s: &mut Session, node: &Node, prefix: usize) -> Vec<Written> {
    let arguments = format!(
        "--bootstrap-server {} --topic {} --max-messages {RECORDS} --repeating-keys {KEYS} --value-prefix {prefix}",
        node.bootstrap(),
        s.name
    );
    let arguments: Vec<_> = arguments.split(' ').collect();
    let mut producer = Running::java("kafka-verifiable-producer", &arguments);
    let code = producer.wait_exit();
    // What it wrote comes through a pipe.
    producer.wait_line("tool_data");
    let told = events(&producer);
    let summary = &told[told.len() - 1];
    s.note("produced", (code, &summary["sent"], &summary["acked"]));
    let names: BTreeSet<_> = told.iter().map(|event| event["name"].as_str()).collect();
    s.note("events", names);
    named(&told, "producer_send_success").map(written).collect()
}

/// A consumer of the scenario's group that tells of every record.
fn consume(s: &Session, node: &Node, protocol: &str) -> Running {
    let arguments = format!(
        "--bootstrap-server {} --topic {name} --group-id {name} --group-protocol {protocol} --verbose",
        node.bootstrap(),
        name = s.name
    );
    let arguments: Vec<_> = arguments.split(' ').collect();
    Running::java("kafka-verifiable-consumer", &arguments)
}

/// What a consumer has now.
fn assigned(events: &[Value]) -> BTreeSet<i64> {
    let mut assigned = BTreeSet::new();
    for event in events {
        let partitions = event["partitions"].as_array();
        let partitions = partitions.into_iter().flatten().map(partition);
        match event["name"].as_str() {
            Some("partitions_assigned") => assigned.extend(partitions),
            Some("partitions_revoked") => partitions.for_each(|partition| _ = assigned.remove(&partition)),
            _ => {}
        }
    }
    assigned
}

/// Waits until so many partitions are with each of these consumers.
fn wait_assigned(consumers: &[&Running], counts: &[usize]) {
    for (consumer, count) in consumers.iter().zip(counts) {
        consumer.wait_lines(&format!("{count} partitions"), |_| {
            (assigned(&events(consumer)).len() == *count).then_some(())
        });
    }
    let all: BTreeSet<_> = consumers
        .iter()
        .flat_map(|consumer| assigned(&events(consumer)))
        .collect();
    assert_eq!(all.len(), PARTITIONS, "some partition has two owners or none");
}

/// All records that these consumers have read, each as often as it was.
fn read(consumers: &[&Running]) -> Vec<Written> {
    let all = consumers.iter().flat_map(|consumer| {
        let told = events(consumer);
        named(&told, "record_data").map(written).collect::<Vec<_>>()
    });
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

/// Waits until all records that were written are read and committed; each once.
fn wait_read(s: &mut Session, consumers: &[&Running], mut all: Vec<Written>) {
    all.sort();
    consumers[0].wait_lines(&format!("{} records", all.len()), |_| {
        (read(consumers).len() >= all.len()).then_some(())
    });
    let mut ends = BTreeMap::new();
    for (partition, offset, _) in &all {
        ends.insert(*partition, offset + 1);
    }
    consumers[0].wait_lines("commits", |_| (committed(consumers) == ends).then_some(()));
    // How many each has read depends on which partitions it got.
    s.note("each was read once", read(consumers) == all);
}

/// The last offset that was committed of each partition.
fn committed(consumers: &[&Running]) -> BTreeMap<i64, i64> {
    let mut committed = BTreeMap::new();
    for consumer in consumers {
        for event in named(&events(consumer), "offsets_committed") {
            assert_eq!(event["success"], true, "{event}");
            for at in event["offsets"].as_array().into_iter().flatten() {
                let offset = at["offset"].as_i64().expect("an offset");
                let last: &mut i64 = committed.entry(partition(at)).or_default();
                *last = offset.max(*last);
            }
        }
    }
    committed
}

/// Ends a consumer and notes what its events say as a whole.
fn end(s: &mut Session, title: &str, mut consumer: Running) {
    let code = consumer.stop();
    consumer.wait_line("shutdown_complete");
    let told = events(&consumer);
    let names: BTreeSet<_> = told.iter().map(|event| event["name"].as_str()).collect();
    s.note(title, (code, names));
    let counts = named(&told, "records_consumed").map(|event| {
        let parts = event["partitions"].as_array().into_iter().flatten();
        let parts: u64 = parts.filter_map(|part| part["count"].as_u64()).sum();
        assert_eq!(event["count"], parts, "{event}");
        parts
    });
    let counts: u64 = counts.sum();
    assert_eq!(counts, named(&told, "record_data").count() as u64, "{title}");
    assert_eq!(assigned(&told), BTreeSet::new(), "{title} gave all back");
}

fn verifiable(s: &mut Session, protocol: &str) {
    let node = s.node();
    s.shell(
        node,
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 4",
            "until partition.3 kcat -b $B -L -t $T",
        ],
    );
    let mut all = produce(s, node, 1);
    let first = consume(s, node, protocol);
    let second = consume(s, node, protocol);
    wait_assigned(&[&first, &second], &[2, 2]);
    wait_read(s, &[&first, &second], all.clone());
    all.extend(produce(s, node, 2));
    wait_read(s, &[&first, &second], all.clone());
    let before = read(&[&first]);
    end(s, "first", first);
    wait_assigned(&[&second], &[PARTITIONS]);
    all.extend(produce(s, node, 3));
    let after: BTreeSet<_> = all.into_iter().collect();
    let of_second = after.difference(&before.into_iter().collect()).cloned().collect();
    wait_read(s, &[&second], of_second);
    end(s, "second", second);
    s.shell(
        node,
        &[
            "sort kafka-consumer-groups --bootstrap-server $B --group $T --describe --offsets",
            "kafka-consumer-groups --bootstrap-server $B --group $T --describe --state",
        ],
    );
}
