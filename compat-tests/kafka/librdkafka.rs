//! librdkafka, by the crate rdkafka: newer than the one that kcat links.
use std::time::Duration;

use ottla_compat_tests::node::Node;
use ottla_compat_tests::records::Codec;
use ottla_compat_tests::scenario::{Case, Session};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::wire::Wire;

pub const CASES: &[Case] = &[
    Case::code("librdkafka-produce-and-consume", produce_and_consume),
    Case::code("librdkafka-idempotent", idempotent),
    Case::code("librdkafka-assign", assign),
    Case::code("librdkafka-errors", errors),
    Case::code("librdkafka-admin", admin),
];

const WAIT: Duration = Duration::from_secs(20);

fn config(node: &Node, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", node.bootstrap()).set("log_level", "0");
    more.iter().for_each(|(name, value)| {
        config.set(*name, *value);
    });
    config
}

/// The next record or error.
fn poll(consumer: &BaseConsumer) -> KafkaResult<BorrowedMessage<'_>> {
    consumer.poll(WAIT).expect("a record or the end")
}

/// Reads from the beginning of partition 0 to its end, as text.
fn read(node: &Node, topic: &str, start: Offset) -> Vec<String> {
    let consumer: BaseConsumer = config(
        node,
        &[
            ("group.id", "unused"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("check.crcs", "true"),
        ],
    )
    .create()
    .expect("consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, start).expect("offset");
    consumer.assign(&list).expect("assign");
    let mut lines = Vec::new();
    loop {
        match poll(&consumer) {
            Ok(message) => {
                let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                let headers: Vec<_> = message.headers().map_or(Vec::new(), |headers| {
                    headers
                        .iter()
                        .map(|header| (header.key.to_string(), text(header.value)))
                        .collect()
                });
                let (key, value) = (text(message.key()), text(message.payload()));
                lines.push(format!(
                    "{} {key:?} {value:?} {:?} {headers:?}",
                    message.offset(),
                    message.timestamp()
                ));
            }
            Err(KafkaError::PartitionEOF(_)) => return lines,
            Err(e) => {
                lines.push(e.to_string());
                return lines;
            }
        }
    }
}

fn produce_and_consume(s: &mut Session) {
    let node = s.node();
    for (acks, codec) in ["0", "1", "all", "all", "1"].into_iter().zip(Codec::ALL) {
        let topic = Wire::open(s).create(&format!("-{}", codec.name()), 1, &[]).name;
        let producer: BaseProducer = config(node, &[("acks", acks), ("compression.type", codec.name())])
            .create()
            .expect("producer");
        for n in 0..100_i64 {
            let key = format!("key {}", n % 7);
            let value = format!("value {n} ").repeat(20);
            let headers = OwnedHeaders::new()
                .insert(Header {
                    key: "number",
                    value: Some(&n.to_string()),
                })
                .insert(Header {
                    key: "null",
                    value: None::<&str>,
                });
            let record = BaseRecord::to(&topic)
                .partition(0)
                .key(&key)
                .timestamp(s.transcript.now_ms + n)
                .headers(headers);
            producer
                .send(record.payload(&value))
                .map_err(|(e, _)| e)
                .expect("queued");
        }
        producer.flush(WAIT).expect("flushed");
        // Nothing is known about when records sent without acknowledgement arrive.
        let lines = ottla_compat_tests::scenario::wait_for(
            || Some(read(node, &topic, Offset::Beginning)).filter(|lines| lines.len() >= 100),
            || format!("{topic} never had all records"),
        );
        s.note(&topic, lines);
    }
}

fn idempotent(s: &mut Session) {
    let node = s.node();
    Wire::open(s).topic();
    let producer: BaseProducer = config(
        node,
        &[
            ("enable.idempotence", "true"),
            ("linger.ms", "0"),
            ("batch.num.messages", "3"),
        ],
    )
    .create()
    .expect("producer");
    for n in 0..500_i64 {
        let value = n.to_string();
        let record = BaseRecord::<(), _>::to(s.name)
            .partition(0)
            .timestamp(s.transcript.now_ms)
            .payload(&value);
        producer.send(record).map_err(|(e, _)| e).expect("queued");
    }
    producer.flush(WAIT).expect("flushed");
    s.note("records", read(node, s.name, Offset::Beginning));
}

fn assign(s: &mut Session) {
    let node = s.node();
    Wire::open(s).topic();
    let producer: BaseProducer = config(node, &[]).create().expect("producer");
    for n in 0..10_i64 {
        let value = n.to_string();
        let record = BaseRecord::<(), _>::to(s.name)
            .partition(0)
            .timestamp(s.transcript.now_ms + 10 * n)
            .payload(&value);
        producer.send(record).map_err(|(e, _)| e).expect("queued");
        producer.flush(WAIT).expect("flushed");
    }
    for start in [Offset::Beginning, Offset::Offset(4), Offset::OffsetTail(2), Offset::End] {
        s.note(&format!("{start:?}"), read(node, s.name, start));
    }
    let consumer: BaseConsumer = config(node, &[("group.id", "unused"), ("enable.auto.commit", "false")])
        .create()
        .expect("consumer");
    s.note("watermarks", consumer.fetch_watermarks(s.name, 0, WAIT));
    for after_ms in [-1000, 0, 1, 45, 90, 91] {
        let mut times = TopicPartitionList::new();
        times
            .add_partition_offset(s.name, 0, Offset::Offset(s.transcript.now_ms + after_ms))
            .expect("time");
        let offsets = consumer.offsets_for_times(times, WAIT).expect("offsets");
        s.note(&format!("offset for time {after_ms}"), offsets.elements()[0].offset());
    }
}

fn errors(s: &mut Session) {
    let node = s.node();
    Wire::open(s).topic();
    let client = config(
        node,
        &[
            ("group.id", "unused"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
        ],
    );
    let consumer: BaseConsumer = client.create().expect("consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(s.name, 0, Offset::Offset(7)).expect("offset");
    consumer.assign(&list).expect("assign");
    s.note("behind the end", poll(&consumer).map(|message| message.offset()));
    s.note("absent partition", consumer.fetch_watermarks(s.name, 9, WAIT));
    s.note("absent topic", consumer.fetch_watermarks("absent", 0, WAIT));
    let producer: BaseProducer = config(node, &[("message.max.bytes", "3000000")])
        .create()
        .expect("producer");
    producer
        .send(
            BaseRecord::<(), _>::to(s.name)
                .partition(0)
                .payload(&vec![b'x'; 2_000_000]),
        )
        .map_err(|(e, _)| e)
        .expect("queued");
    producer.flush(WAIT).expect("flushed");
    s.note(
        "too large a record is not stored",
        consumer.fetch_watermarks(s.name, 0, WAIT),
    );
}

fn admin(s: &mut Session) {
    let node = s.node();
    let client: AdminClient<DefaultClientContext> = config(node, &[]).create().expect("admin client");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    let topic = NewTopic::new(s.name, 2, TopicReplication::Fixed(1)).set("retention.ms", "3600000");
    s.note("create", runtime.block_on(client.create_topics([&topic], &options)));
    s.note(
        "create again",
        runtime.block_on(client.create_topics([&topic], &options)),
    );
    s.note(
        "grow",
        runtime.block_on(client.create_partitions([&NewPartitions::new(s.name, 4)], &options)),
    );
    s.note(
        "shrink",
        runtime.block_on(client.create_partitions([&NewPartitions::new(s.name, 3)], &options)),
    );
    let described = runtime.block_on(client.describe_configs([&ResourceSpecifier::Topic(s.name)], &options));
    let mut entries = described.expect("answer").remove(0).expect("configs").entries;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    s.note("configs", entries);
    s.note("delete", runtime.block_on(client.delete_topics(&[s.name], &options)));
    s.note(
        "delete again",
        runtime.block_on(client.delete_topics(&[s.name], &options)),
    );
}
