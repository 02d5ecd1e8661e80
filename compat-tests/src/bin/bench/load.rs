//! What is asked of a broker. A load returns its amount, requests or bytes of values, and how long it took.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::transcript::now_ms;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

/// The topic of [`batched`] and [`fetch`].
pub const BATCHED: &str = "batched";

/// Its number of partitions.
pub const PARTITIONS: i32 = 6;

/// The topic of [`unbatched`].
pub const UNBATCHED: &str = "unbatched";

/// Its number of partitions, and of connections that write to one each.
pub const CONNECTIONS: i32 = 4;

/// The topic of [`latency`].
pub const LATENCY: &str = "latency";

/// No load takes longer.
const TIME_MAX: Duration = Duration::from_secs(5);

/// No load writes more.
const BYTES_MAX: u64 = 512 << 20;

const VALUE_BYTES: usize = 1024;

/// What stock producers have in flight at most.
const IN_FLIGHT: usize = 5;

const PRODUCE_VERSION: i16 = 12;

/// How long anything may take that has to come.
const WAIT: Duration = Duration::from_secs(30);

/// Creates a topic and waits until all of its partitions take records.
pub fn create_topic(node: &Node, name: &'static str, partitions: i32) {
    let mut connection = Connection::open(node.socket()).expect("connection");
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    let answer = connection.call(7, &request).expect("answer");
    assert_eq!(answer.topics[0].error_code, 0, "topic {name}");
    let deadline = Instant::now() + WAIT;
    for partition in 0..partitions {
        let request = produce(name, partition);
        while !is_stored(&connection.call(PRODUCE_VERSION, &request).expect("answer")) {
            assert!(Instant::now() < deadline, "{name}-{partition} takes no records");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn topic_name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

/// A request with one record and acks=all.
fn produce(topic: &'static str, partition: i32) -> ProduceRequest {
    let batch = Batch::new(now_ms(), vec![Record::value(value(VALUE_BYTES))]);
    let partition = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch.encode()));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic])
}

fn is_stored(answer: &kafka_protocol::messages::ProduceResponse) -> bool {
    answer.responses[0].partition_responses[0].error_code == 0
}

fn value(size_bytes: usize) -> Vec<u8> {
    (0..size_bytes).map(|at| (at * 31 % 251) as u8).collect()
}

fn config(node: &Node, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", node.bootstrap()).set("log_level", "0");
    for (name, value) in more {
        config.set(*name, *value);
    }
    config
}

/// Counts records that were not stored.
#[derive(Default)]
struct Failures(AtomicU64);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn producer(node: &Node, topic: &str, more: &[(&str, &str)]) -> BaseProducer<Failures> {
    let producer: BaseProducer<Failures> = config(node, more)
        .set("acks", "all")
        .create_with_context(Failures::default())
        .expect("producer");
    // Connected, and told where the topic is, before anything is measured.
    producer.client().fetch_metadata(Some(topic), WAIT).expect("metadata");
    producer
}

/// librdkafka's batches of values of 1 KiB, to all partitions.
pub fn batched(node: &Node) -> (u64, Duration) {
    let producer = producer(node, BATCHED, &[]);
    let value = value(VALUE_BYTES);
    let begun = Instant::now();
    let mut bytes = 0;
    let mut partitions = (0..PARTITIONS).cycle();
    while bytes < BYTES_MAX && begun.elapsed() < TIME_MAX {
        // As many at a time as fill a batch.
        let partition = partitions.next().expect("cycle");
        for _ in 0..500 {
            let mut record = BaseRecord::<(), [u8]>::to(BATCHED).partition(partition).payload(&value);
            while let Err((error, rejected)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                producer.poll(Duration::from_millis(10));
                record = rejected;
            }
            bytes += value.len() as u64;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(WAIT).expect("flush");
    assert_eq!(producer.context().0.load(Ordering::Relaxed), 0, "records were lost");
    (bytes, begun.elapsed())
}

/// Requests with one record each, over connections that have as many in flight as stock producers.
pub fn unbatched(node: &Node) -> (u64, Duration) {
    let begun = Instant::now();
    let count = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|partition| scope.spawn(move || pipeline(node, partition, begun)))
            .collect();
        clients.into_iter().map(|client| client.join().expect("client")).sum()
    });
    (count, begun.elapsed())
}

fn pipeline(node: &Node, partition: i32, begun: Instant) -> u64 {
    let mut connection = Connection::open(node.socket()).expect("connection");
    let request = produce(UNBATCHED, partition);
    let (mut sent, mut received) = (0, 0);
    loop {
        while sent - received < IN_FLIGHT as u64 && begun.elapsed() < TIME_MAX {
            connection.send(PRODUCE_VERSION, &request).expect("send");
            sent += 1;
        }
        if received == sent {
            return sent;
        }
        let answer = connection.receive::<ProduceRequest>(PRODUCE_VERSION).expect("answer");
        assert!(is_stored(&answer), "not stored: {answer:?}");
        received += 1;
    }
}

fn consumer(node: &Node) -> BaseConsumer {
    config(node, &[("group.id", "unused"), ("enable.auto.commit", "false")])
        .create()
        .expect("consumer")
}

/// The next record. librdkafka looks for a group's coordinator even if it only assigns; a broker without groups tells it
/// that there are none, and it goes on.
fn next(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    loop {
        match consumer.poll(WAIT).expect("a record") {
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::InvalidRequest)) => (),
            result => return result.expect("a record"),
        }
    }
}

fn assign(consumer: &BaseConsumer, topic: &str, offsets: &[i64]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(offsets) {
        list.add_partition_offset(topic, partition, Offset::Offset(*offset))
            .expect("offset");
    }
    consumer.assign(&list).expect("assign");
}

/// Reads what [`batched`] wrote, from the beginning, by one consumer of all partitions.
pub fn fetch(node: &Node) -> (u64, Duration) {
    let consumer = consumer(node);
    let of = |partition| {
        consumer
            .fetch_watermarks(BATCHED, partition, WAIT)
            .expect("watermarks")
            .1
    };
    let mut left: i64 = (0..PARTITIONS).map(of).sum();
    assign(&consumer, BATCHED, &[0; PARTITIONS as usize]);
    next(&consumer);
    let begun = Instant::now();
    let mut bytes = 0;
    left -= 1;
    while left > 0 && begun.elapsed() < TIME_MAX {
        bytes += next(&consumer).payload_len() as u64;
        left -= 1;
    }
    (bytes, begun.elapsed())
}

/// From the sending of a record of 100 bytes with acks=all until a consumer has it, one record after the other.
pub fn latency(node: &Node) -> Vec<Duration> {
    let producer = producer(node, LATENCY, &[("linger.ms", "0")]);
    let consumer = consumer(node);
    let end = consumer.fetch_watermarks(LATENCY, 0, WAIT).expect("watermarks").1;
    assign(&consumer, LATENCY, &[end]);
    let value = value(100);
    let once = || {
        let begun = Instant::now();
        let record = BaseRecord::<(), [u8]>::to(LATENCY).partition(0).payload(&value);
        producer.send(record).expect("send");
        next(&consumer);
        let took = begun.elapsed();
        producer.poll(Duration::ZERO);
        took
    };
    // The first waits for the consumer's connection.
    once();
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < TIME_MAX {
        samples.push(once());
    }
    samples
}
