//! The driver of the crate rdkafka.
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, Timestamp, TopicPartitionList};
use serde_json::{Value, json};

use self::driver::{Answer, Refusal, bytes, list, number, number_or, seen, text};
use self::member::{ASSIGNORS, Member};

#[path = "../../driver.rs"]
mod driver;
mod member;

/// Ends a request before the matrix gives up on the driver.
const LIMIT: Duration = Duration::from_secs(50);
const DEFAULT_MAX_BYTES: i64 = 16 << 20;

fn main() {
    let bootstrap = std::env::args().nth(1).expect("bootstrap address");
    let mut clients = Clients {
        admin: config(&bootstrap).create().expect("admin client"),
        producers: HashMap::new(),
        consumers: HashMap::new(),
        member: None,
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime"),
        bootstrap,
    };
    driver::run(|request| clients.answer(request))
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Where the outcome of a record is put.
type Delivery = Arc<OnceLock<KafkaResult<i64>>>;

struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Delivery;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Delivery) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        let _ = delivery.set(outcome);
    }
}

struct Clients {
    bootstrap: String,
    runtime: tokio::runtime::Runtime,
    admin: AdminClient<DefaultClientContext>,
    producers: HashMap<String, BaseProducer<Deliveries>>,
    consumers: HashMap<i64, BaseConsumer>,
    member: Option<Member>,
}

impl Clients {
    fn answer(&mut self, request: &Value) -> Answer {
        match text(request, "op") {
            "hello" => Ok(json!({
                "family": "rust-rdkafka",
                "library": format!("librdkafka {}", rdkafka::util::get_rdkafka_version().1),
                "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
                "reads": true,
                "groups": ASSIGNORS,
            })),
            "produce" => self.produce(request),
            "fetch" => self.fetch(request),
            "offsets" => self.offsets(request),
            "offset_for_time" => self.offset_for_time(request),
            "create_topic" => self.create_topic(request),
            "partitions" => self.partitions(request),
            "grow_topic" => self.grow_topic(request),
            "alter_config" => self.alter_config(request),
            "describe_config" => self.describe_config(request),
            "delete_topic" => self.delete_topic(request),
            "read_until_error" => self.read_until_error(request),
            "join_group" => {
                self.member = Some(Member::join(request, config(&self.bootstrap))?);
                Ok(json!({}))
            }
            "poll_group" => self.member.as_ref().expect("a member").poll(timeout(request)),
            "leave_group" => self.member.take().expect("a member").leave(),
            other => panic!("unknown request {other}"),
        }
    }

    fn produce(&mut self, request: &Value) -> Answer {
        let batch = request["batch"] == true;
        let producer = self.producer(request)?;
        let mut sent = Vec::new();
        for told in list(request, "records") {
            let delivery = Delivery::default();
            send(producer, request, told, delivery.clone())?;
            if !batch {
                producer.flush(LIMIT).map_err(refusal)?;
            }
            sent.push(delivery);
        }
        producer.flush(LIMIT).map_err(refusal)?;
        let offset = |delivery: &Delivery| match delivery.get() {
            Some(Ok(offset)) => Ok((*offset >= 0).then_some(*offset)),
            Some(Err(error)) => Err(refusal(error.clone())),
            None => Err(Refusal::client("NoDelivery", "no outcome after a flush")),
        };
        let offsets = sent.iter().map(offset).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({ "offsets": offsets }))
    }

    fn producer(&mut self, request: &Value) -> Result<&BaseProducer<Deliveries>, Refusal> {
        let limit = number_or(request, "max_message_bytes", 1_000_000);
        let key = ["codec", "acks", "idempotent", "batch"].map(|option| request[option].to_string());
        let key = format!("{key:?} {limit}");
        if !self.producers.contains_key(&key) {
            let mut config = config(&self.bootstrap);
            config
                .set("compression.type", text(request, "codec"))
                .set("acks", number(request, "acks").to_string())
                .set("enable.idempotence", request["idempotent"].to_string())
                .set("message.max.bytes", limit.to_string());
            if request["batch"] == true {
                // A flush does not always end the wait.
                config.set("linger.ms", "50");
            }
            let producer = config.create_with_context(Deliveries).map_err(refusal)?;
            self.producers.insert(key.clone(), producer);
        }
        Ok(&self.producers[&key])
    }

    fn consumer(&mut self, max_bytes: i64) -> Result<&BaseConsumer, Refusal> {
        if !self.consumers.contains_key(&max_bytes) {
            let consumer = config(&self.bootstrap)
                .set("group.id", "unused")
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "error")
                .set("check.crcs", "true")
                // A fetch that waits at the broker holds up the next one.
                .set("fetch.wait.max.ms", "20")
                .set("message.max.bytes", max_bytes.to_string())
                .set("fetch.max.bytes", max_bytes.to_string())
                .set("max.partition.fetch.bytes", max_bytes.to_string())
                .create()
                .map_err(refusal)?;
            self.consumers.insert(max_bytes, consumer);
        }
        Ok(&self.consumers[&max_bytes])
    }

    fn fetch(&mut self, request: &Value) -> Answer {
        let consumer = self.consumer(number_or(request, "max_bytes", DEFAULT_MAX_BYTES))?;
        assign(consumer, request)?;
        let count = number(request, "count") as usize;
        let deadline = deadline(request);
        let mut records = Vec::new();
        let mut last_error = None;
        while records.len() < count {
            match consumer.poll(deadline.saturating_duration_since(Instant::now())) {
                Some(Ok(message)) => records.push(record(&message)),
                Some(Err(error)) => last_error = Some(error),
                None => {
                    let missing = || Refusal::client("TooFew", format!("{} of {count} records came", records.len()));
                    return Err(last_error.map_or_else(missing, refusal));
                }
            }
        }
        consumer.unassign().map_err(refusal)?;
        Ok(json!({ "records": records }))
    }

    fn read_until_error(&mut self, request: &Value) -> Answer {
        use RDKafkaErrorCode::{
            OffsetOutOfRange, UnknownPartition, UnknownTopic, UnknownTopicId, UnknownTopicOrPartition,
        };
        let consumer = self.consumer(DEFAULT_MAX_BYTES)?;
        assign(consumer, request)?;
        let mut end = deadline(request);
        let mut count = 0;
        let mut ended = json!({ "ended": "timeout" });
        while let Some(polled) = consumer.poll(end.saturating_duration_since(Instant::now())) {
            match polled {
                Ok(_) => count += 1,
                Err(error) => match error.rdkafka_error_code() {
                    Some(
                        OffsetOutOfRange | UnknownPartition | UnknownTopic | UnknownTopicId | UnknownTopicOrPartition,
                    ) => {
                        ended = told(&error);
                        break;
                    }
                    _ => eprintln!("passed over: {error}"),
                },
            }
            if count == 1 {
                end = deadline(request);
                driver::reply(Ok(json!({ "reading": true })));
            }
        }
        consumer.unassign().map_err(refusal)?;
        ended["records"] = count.into();
        Ok(ended)
    }

    fn offsets(&mut self, request: &Value) -> Answer {
        let consumer = self.consumer(DEFAULT_MAX_BYTES)?;
        let (earliest, latest) = consumer
            .fetch_watermarks(text(request, "topic"), partition(request), LIMIT)
            .map_err(refusal)?;
        Ok(json!({ "earliest": earliest, "latest": latest }))
    }

    fn offset_for_time(&mut self, request: &Value) -> Answer {
        let times = place(request, number(request, "timestamp"))?;
        let found = self
            .consumer(DEFAULT_MAX_BYTES)?
            .offsets_for_times(times, LIMIT)
            .map_err(refusal)?;
        let offset = found.elements().first().and_then(|found| match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
        Ok(json!({ "offset": offset }))
    }

    fn create_topic(&mut self, request: &Value) -> Answer {
        let partitions = number(request, "partitions") as i32;
        let mut topic = NewTopic::new(text(request, "topic"), partitions, TopicReplication::Fixed(1));
        for (key, value) in request["configs"].as_object().into_iter().flatten() {
            topic = topic.set(key, value.as_str().expect("a string"));
        }
        one(self.runtime.block_on(self.admin.create_topics([&topic], &options())))
    }

    fn partitions(&mut self, request: &Value) -> Answer {
        let metadata = self
            .admin
            .inner()
            .fetch_metadata(Some(text(request, "topic")), LIMIT)
            .map_err(refusal)?;
        let topic = metadata
            .topics()
            .first()
            .ok_or_else(|| Refusal::client("NoTopic", "no topic in metadata"))?;
        Ok(json!({ "count": topic.partitions().len() }))
    }

    fn grow_topic(&mut self, request: &Value) -> Answer {
        let more = NewPartitions::new(text(request, "topic"), number(request, "count") as usize);
        one(self.runtime.block_on(self.admin.create_partitions([&more], &options())))
    }

    fn alter_config(&mut self, request: &Value) -> Answer {
        let topic = ResourceSpecifier::Topic(text(request, "topic"));
        let change = AlterConfig::new(topic).set(text(request, "key"), text(request, "value"));
        let altered = self
            .runtime
            .block_on(self.admin.alter_configs([&change], &options()))
            .map_err(refusal)?;
        altered
            .into_iter()
            .next()
            .expect("a result")
            .map_err(|(_, code)| refusal_of(code))?;
        Ok(json!({}))
    }

    fn describe_config(&mut self, request: &Value) -> Answer {
        let topic = ResourceSpecifier::Topic(text(request, "topic"));
        let described = self
            .runtime
            .block_on(self.admin.describe_configs([&topic], &options()))
            .map_err(refusal)?;
        let resource = described.into_iter().next().expect("a result").map_err(refusal_of)?;
        Ok(json!({ "value": resource.get(text(request, "key")).and_then(|entry| entry.value.clone()) }))
    }

    fn delete_topic(&mut self, request: &Value) -> Answer {
        one(self
            .runtime
            .block_on(self.admin.delete_topics(&[text(request, "topic")], &options())))
    }
}

fn send(producer: &BaseProducer<Deliveries>, request: &Value, told: &Value, delivery: Delivery) -> Result<(), Refusal> {
    let (key, value) = (bytes(&told["key"]), bytes(&told["value"]));
    let mut headers = OwnedHeaders::new();
    for header in list(told, "headers") {
        headers = headers.insert(Header {
            key: header[0].as_str().expect("a name"),
            value: bytes(&header[1]).as_ref(),
        });
    }
    let mut record: BaseRecord<'_, [u8], [u8], Delivery> = BaseRecord::with_opaque_to(text(request, "topic"), delivery)
        .partition(partition(request))
        .headers(headers);
    record.key = key.as_deref();
    record.payload = value.as_deref();
    record.timestamp = told["timestamp"].as_i64();
    producer.send(record).map_err(|(error, _)| refusal(error))
}

fn partition(request: &Value) -> i32 {
    number(request, "partition") as i32
}

/// The partition of a request, with an offset (or a time in its place).
fn place(request: &Value, offset: i64) -> Result<TopicPartitionList, Refusal> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(text(request, "topic"), partition(request), Offset::Offset(offset))
        .map_err(refusal)?;
    Ok(list)
}

fn assign(consumer: &BaseConsumer, request: &Value) -> Result<(), Refusal> {
    consumer
        .assign(&place(request, number(request, "offset"))?)
        .map_err(refusal)?;
    // librdkafka itself looks but once a second for the leaders of partitions that it did not know.
    consumer
        .fetch_metadata(Some(text(request, "topic")), LIMIT)
        .map_err(refusal)?;
    Ok(())
}

fn deadline(request: &Value) -> Instant {
    Instant::now() + timeout(request)
}

fn timeout(request: &Value) -> Duration {
    Duration::from_millis(number(request, "timeout_ms") as u64)
}

fn record(message: &BorrowedMessage<'_>) -> Value {
    let headers: Vec<_> = message.headers().map_or(Vec::new(), |headers| {
        headers
            .iter()
            .map(|header| json!([header.key, seen(header.value)]))
            .collect()
    });
    let mut record = json!({
        "offset": message.offset(),
        "key": seen(message.key()),
        "value": seen(message.payload()),
        "headers": headers,
    });
    if let Timestamp::CreateTime(time) | Timestamp::LogAppendTime(time) = message.timestamp() {
        record["timestamp"] = time.into();
        record["timestamp_type"] = i32::from(matches!(message.timestamp(), Timestamp::LogAppendTime(_))).into();
    }
    record
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(LIMIT))
        .request_timeout(Some(LIMIT))
}

/// The outcome of an operation on one topic.
fn one(results: KafkaResult<Vec<TopicResult>>) -> Answer {
    let result = results.map_err(refusal)?.into_iter().next().expect("a result");
    result.map(|_| json!({})).map_err(|(_, code)| refusal_of(code))
}

fn refusal(error: KafkaError) -> Refusal {
    Refusal::Error {
        told: told(&error),
        text: error.to_string(),
    }
}

fn refusal_of(code: RDKafkaErrorCode) -> Refusal {
    Refusal::Error {
        told: told_code(code),
        text: code.to_string(),
    }
}

fn told(error: &KafkaError) -> Value {
    let own = || json!({ "client_error": error.to_string() });
    error.rdkafka_error_code().map_or_else(own, told_code)
}

/// How a code is told: librdkafka's own are negative.
fn told_code(code: RDKafkaErrorCode) -> Value {
    match code as i32 {
        broker @ 0.. => json!({ "kafka_error": broker }),
        _ => json!({ "client_error": format!("{code:?}") }),
    }
}
