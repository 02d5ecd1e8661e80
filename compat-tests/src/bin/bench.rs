//! Ottla beside Apache Kafka, on this machine, in turns: `./dev bench [ROUNDS]`.
//!
//! Every round starts each broker anew and measures, with the client on the same machine: the time to the first served
//! request; memory; producing 1 KiB records from librdkafka with acks=all; requests of one record each with acks=all;
//! fetching; and the time from a record's being sent to its being fetched. The table shows medians. Only a machine that
//! does nothing else gives numbers worth noting, and only the ratios carry over to another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A bench fails loudly.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::tools;
use ottla_compat_tests::transcript::now_ms;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const PARTITIONS: i32 = 6;
const RECORD_SIZE_BYTES: usize = 1024;
const RECORDS: usize = 400_000;
/// Unmeasured: a JVM compiles while it runs.
const WARM_UP_RECORDS: usize = 100_000;
const REQUESTS: usize = 20_000;
const LATENCIES: usize = 5_000;
const GB: f64 = 1e9;

/// Name and unit of a metric.
type Metric = (&'static str, &'static str);

#[derive(Default)]
struct Results(BTreeMap<usize, (Metric, BTreeMap<bool, Vec<f64>>)>);

impl Results {
    fn add(&mut self, target: Target, place: usize, metric: Metric, value: f64) {
        let (_, values) = self.0.entry(place).or_insert((metric, BTreeMap::new()));
        values.entry(target == Target::Apache).or_default().push(value);
    }

    fn print(&mut self) {
        println!("{:<44} {:>12} {:>12} {:>8}", "", "Ottla", "Kafka", "ratio");
        for ((name, unit), values) in self.0.values_mut() {
            let mut median = |apache| {
                let values = values.get_mut(&apache).expect("both were measured");
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            let (ottla, apache) = (median(false), median(true));
            println!(
                "{:<44} {ottla:>12.2} {apache:>12.2} {:>8.2}",
                format!("{name}, {unit}"),
                ottla / apache
            );
        }
    }
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(3, |rounds| rounds.parse().expect("a number of rounds"));
    let mut results = Results::default();
    for round in 0..rounds {
        // Whoever is first finds the machine in another state than the second.
        let order = match round % 2 {
            0 => [Target::Ottla, Target::Apache],
            _ => [Target::Apache, Target::Ottla],
        };
        for target in order {
            eprintln!("round {} of {rounds}: {target:?}", round + 1);
            measure(target, &mut results);
        }
    }
    results.print();
    tools::stop();
}

fn measure(target: Target, results: &mut Results) {
    let jvm = [
        "-Xms1G",
        "-Xmx1G",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
    ];
    let options = Options {
        jvm: jvm.map(String::from).to_vec(),
        ..Options::default()
    };
    let mut node = Node::formatted(target, options);
    let mut add = |place, metric, value| results.add(target, place, metric, value);
    let before = Instant::now();
    node.launch();
    add(
        0,
        ("start to first served request", "ms"),
        before.elapsed().as_secs_f64() * 1e3,
    );
    let mut connection = Connection::open(node.socket()).expect("connection");
    for topic in ["bulk", "single", "latency"] {
        create(&mut connection, topic, if topic == "bulk" { PARTITIONS } else { 1 });
    }
    add(1, ("memory when fresh", "MiB"), resident_mib(&node));

    produce(&node, WARM_UP_RECORDS);
    let (cpu, before) = (cpu_seconds(&node), Instant::now());
    produce(&node, RECORDS);
    let gigabytes = (RECORDS * RECORD_SIZE_BYTES) as f64 / GB;
    add(
        2,
        ("produce 1 KiB acks=all, librdkafka", "MB/s"),
        gigabytes * 1e3 / before.elapsed().as_secs_f64(),
    );
    add(
        3,
        ("broker CPU to produce", "s/GB"),
        (cpu_seconds(&node) - cpu) / gigabytes,
    );

    fetch(&mut connection);
    let (cpu, before) = (cpu_seconds(&node), Instant::now());
    let gigabytes = (fetch(&mut connection) + fetch(&mut connection)) as f64 / GB;
    add(6, ("fetch", "MB/s"), gigabytes * 1e3 / before.elapsed().as_secs_f64());
    add(
        7,
        ("broker CPU to fetch", "s/GB"),
        (cpu_seconds(&node) - cpu) / gigabytes,
    );

    single(&mut connection, REQUESTS / 2);
    let (cpu, before) = (cpu_seconds(&node), Instant::now());
    single(&mut connection, REQUESTS);
    add(
        4,
        ("requests of one record, acks=all", "1/s"),
        REQUESTS as f64 / before.elapsed().as_secs_f64(),
    );
    add(
        5,
        ("broker CPU for such a request", "us"),
        (cpu_seconds(&node) - cpu) * 1e6 / REQUESTS as f64,
    );

    latencies(&node, LATENCIES / 2);
    let mut times = latencies(&node, LATENCIES);
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    add(8, ("send to fetch, 100 B acks=all, median", "ms"), at(0.5));
    add(9, ("send to fetch, p99", "ms"), at(0.99));
    add(10, ("send to fetch, p99.9", "ms"), at(0.999));
    add(11, ("memory after the load", "MiB"), resident_mib(&node));
}

fn name(topic: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(topic))
}

fn create(connection: &mut Connection, topic: &'static str, partitions: i32) {
    let made = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![made])
        .with_timeout_ms(10_000);
    assert_eq!(connection.call(7, &request).expect("answer").topics[0].error_code, 0);
    for partition in 0..partitions {
        wait_for(
            || (fetch_from(connection, topic, partition, 0, 0).1 == 0).then_some(()),
            || "no leader".into(),
        );
    }
}

fn produce(node: &Node, count: usize) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", node.bootstrap())
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "100000")
        .create()
        .expect("producer");
    let payload: Vec<u8> = (0..RECORD_SIZE_BYTES).map(|n| (n * 31 % 251) as u8).collect();
    for n in 0..count {
        let mut record = BaseRecord::<(), _>::to("bulk")
            .partition(n as i32 % PARTITIONS)
            .payload(&payload);
        while let Err((error, unsent)) = producer.send(record) {
            assert!(
                matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)),
                "{error}"
            );
            record = unsent;
            producer.poll(Duration::from_millis(1));
        }
        if n % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(60)).expect("flushed");
    assert_eq!(producer.in_flight_count(), 0);
}

fn produce_request(topic: &'static str, value: &[u8]) -> ProduceRequest {
    let batch = Batch::new(now_ms(), vec![Record::value(value.to_vec())]).encode();
    let partition = PartitionProduceData::default().with_records(Some(batch));
    let data = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data])
}

fn produce_one(connection: &mut Connection, topic: &'static str, value: &[u8]) {
    let answer = connection.call(9, &produce_request(topic, value)).expect("answer");
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

fn single(connection: &mut Connection, count: usize) {
    for _ in 0..count {
        produce_one(connection, "single", &[b'x'; 100]);
    }
}

/// Fetches once; returns what came and the error code.
fn fetch_from(
    connection: &mut Connection,
    topic: &'static str,
    partition: i32,
    offset: i64,
    max_wait_ms: i32,
) -> (bytes::Bytes, i16) {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1_048_576);
    let data = FetchTopic::default()
        .with_topic(name(topic))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_bytes(52_428_800)
        .with_min_bytes(1)
        .with_max_wait_ms(max_wait_ms)
        .with_session_epoch(-1)
        .with_topics(vec![data]);
    let mut answer = connection
        .call(12, &request)
        .expect("answer")
        .responses
        .remove(0)
        .partitions
        .remove(0);
    (answer.records.take().unwrap_or_default(), answer.error_code)
}

/// The offset after the last whole batch.
fn next_offset(records: &[u8]) -> Option<i64> {
    let mut rest = records;
    let mut next = None;
    while rest.len() >= 61 {
        let int = |at: usize| i32::from_be_bytes(rest[at..at + 4].try_into().expect("four bytes"));
        let base = i64::from_be_bytes(rest[..8].try_into().expect("eight bytes"));
        let size = int(8) as usize + 12;
        if rest.len() < size {
            break;
        }
        next = Some(base + i64::from(int(23)) + 1);
        rest = &rest[size..];
    }
    next
}

/// Fetches all of the bulk topic and returns its size.
fn fetch(connection: &mut Connection) -> usize {
    let mut total = 0;
    for partition in 0..PARTITIONS {
        let mut offset = 0;
        loop {
            let (records, error) = fetch_from(connection, "bulk", partition, offset, 0);
            assert_eq!(error, 0);
            total += records.len();
            match next_offset(&records) {
                Some(next) => offset = next,
                None => break,
            }
        }
    }
    total
}

/// Sends one record after the other and waits for each at a consumer; times in ms.
fn latencies(node: &Node, count: usize) -> Vec<f64> {
    let mut producer = Connection::open(node.socket()).expect("connection");
    let mut consumer = Connection::open(node.socket()).expect("connection");
    let mut offset = 0;
    while let Some(next) = next_offset(&fetch_from(&mut consumer, "latency", 0, offset, 0).0) {
        offset = next;
    }
    let (arrived, arrivals) = channel();
    let consuming = std::thread::spawn(move || {
        for _ in 0..count {
            loop {
                if let Some(next) = next_offset(&fetch_from(&mut consumer, "latency", 0, offset, 5_000).0) {
                    offset = next;
                    break;
                }
            }
            arrived.send(Instant::now()).expect("receiver");
        }
    });
    let times = (0..count).map(|_| {
        let sent = Instant::now();
        produce_one(&mut producer, "latency", &[b'x'; 100]);
        let arrival = arrivals.recv_timeout(Duration::from_secs(10)).expect("a record");
        (arrival - sent).as_secs_f64() * 1e3
    });
    let times = times.collect();
    consuming.join().expect("consumer");
    times
}

/// User and system time of the broker so far.
fn cpu_seconds(node: &Node) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).expect("/proc");
    // The name, in parentheses, may have spaces.
    let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}

fn resident_mib(node: &Node) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .expect("a size")
        .parse::<f64>()
        .expect("a number")
        / 1024.0
}
