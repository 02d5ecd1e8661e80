//! The driver of the crate rskafka.
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rskafka::client::error::Error;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::driver::{Answer, Refusal, bytes, list, number, number_or, seen, text};

#[path = "../../driver.rs"]
mod driver;

/// Ends a request before the matrix gives up on the driver: the library itself tries for ever.
const LIMIT: Duration = Duration::from_secs(50);
/// A fetch that waits at the broker holds up the next one.
const MAX_WAIT_MS: i32 = 20;

fn main() {
    let bootstrap = std::env::args().nth(1).expect("bootstrap address");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let client = within(&runtime, ClientBuilder::new(vec![bootstrap]).build()).unwrap_or_else(|_| panic!("no client"));
    let mut clients = Clients {
        runtime,
        client,
        partitions: HashMap::new(),
    };
    driver::run(|request| clients.answer(request))
}

struct Clients {
    runtime: Runtime,
    client: Client,
    partitions: HashMap<(String, i32), PartitionClient>,
}

impl Clients {
    fn answer(&mut self, request: &Value) -> Answer {
        match text(request, "op") {
            "hello" => Ok(json!({
                "family": "rust-rskafka",
                "library": "rskafka",
                "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
                "reads": true,
                "groups": [],
                "cannot_read": {
                    "null-header": "takes the length of a null for malformed",
                    "same-headers": "keeps one header of a name",
                    "append-time": "gives the producer's time",
                },
            })),
            "produce" => self.produce(request),
            "fetch" => self.fetch(request),
            "offsets" => self.offsets(request),
            "offset_for_time" => self.offset_for_time(request),
            "create_topic" => self.create_topic(request),
            "partitions" => self.partitions(request),
            "grow_topic" => Err(Refusal::Unsupported("no CreatePartitions")),
            "alter_config" | "describe_config" => Err(Refusal::Unsupported("no requests about settings")),
            "delete_topic" => self.delete_topic(request),
            "read_until_error" => self.read_until_error(request),
            other => panic!("unknown request {other}"),
        }
    }

    fn produce(&mut self, request: &Value) -> Answer {
        if request["idempotent"] == true {
            return Err(Refusal::Unsupported("no idempotent producer"));
        }
        if number(request, "acks") != -1 {
            return Err(Refusal::Unsupported("always asks for all acknowledgements"));
        }
        let codec = match text(request, "codec") {
            "none" => Compression::NoCompression,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            other => panic!("unknown codec {other}"),
        };
        let records = list(request, "records")
            .iter()
            .map(record)
            .collect::<Result<Vec<_>, _>>()?;
        // The library sends what one call is given as one batch.
        let size = if request["batch"] == true { records.len() } else { 1 };
        let (runtime, partition) = self.partition(request)?;
        let mut offsets = Vec::new();
        for batch in records.chunks(size.max(1)) {
            offsets.extend(within(runtime, partition.produce(batch.to_vec(), codec))?);
        }
        Ok(json!({ "offsets": offsets }))
    }

    fn partition(&mut self, request: &Value) -> Result<(&Runtime, &PartitionClient), Refusal> {
        let key = (text(request, "topic").to_string(), number(request, "partition") as i32);
        if !self.partitions.contains_key(&key) {
            let made = self.client.partition_client(&key.0, key.1, UnknownTopicHandling::Retry);
            let made = within(&self.runtime, made)?;
            self.partitions.insert(key.clone(), made);
        }
        Ok((&self.runtime, &self.partitions[&key]))
    }

    fn fetch(&mut self, request: &Value) -> Answer {
        let count = number(request, "count") as usize;
        let max_bytes = number_or(request, "max_bytes", 16 << 20) as i32;
        let end = deadline(request);
        let mut next = number(request, "offset");
        let (runtime, partition) = self.partition(request)?;
        let mut records = Vec::new();
        while records.len() < count {
            if Instant::now() > end {
                return Err(Refusal::client(
                    "TooFew",
                    format!("{} of {count} records came", records.len()),
                ));
            }
            let (more, _) = within(runtime, partition.fetch_records(next, 1..max_bytes, MAX_WAIT_MS))?;
            next = more.last().map_or(next, |last| last.offset + 1);
            records.extend(more.iter().map(told));
        }
        records.truncate(count);
        Ok(json!({ "records": records }))
    }

    fn read_until_error(&mut self, request: &Value) -> Answer {
        let mut end = deadline(request);
        let mut next = number(request, "offset");
        let (topic, partition) = (text(request, "topic"), number(request, "partition") as i32);
        // The one that fetch uses would try for ever.
        let runtime = &self.runtime;
        let partition = within(
            runtime,
            self.client
                .partition_client(topic, partition, UnknownTopicHandling::Error),
        )?;
        let mut count = 0;
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            let fetched = runtime.block_on(async {
                let call = partition.fetch_records(next, 1..1 << 20, MAX_WAIT_MS);
                tokio::time::timeout(left, call).await
            });
            let more = match fetched {
                Err(_) => break,
                Ok(Err(error)) => return Ok(json!({ "records": count, "client_error": name(&error) })),
                Ok(Ok((more, _))) => more,
            };
            next = more.last().map_or(next, |last| last.offset + 1);
            if count == 0 && !more.is_empty() {
                end = deadline(request);
                driver::reply(Ok(json!({ "reading": true })));
            }
            count += more.len();
        }
        Ok(json!({ "records": count, "ended": "timeout" }))
    }

    fn offsets(&mut self, request: &Value) -> Answer {
        let (runtime, partition) = self.partition(request)?;
        let earliest = within(runtime, partition.get_offset(OffsetAt::Earliest))?;
        let latest = within(runtime, partition.get_offset(OffsetAt::Latest))?;
        Ok(json!({ "earliest": earliest, "latest": latest }))
    }

    fn offset_for_time(&mut self, request: &Value) -> Answer {
        let time = time(number(request, "timestamp"));
        let (runtime, partition) = self.partition(request)?;
        let offset = within(runtime, partition.get_offset(OffsetAt::Timestamp(time)))?;
        Ok(json!({ "offset": (offset >= 0).then_some(offset) }))
    }

    fn create_topic(&mut self, request: &Value) -> Answer {
        if request["configs"]
            .as_object()
            .is_some_and(|configs| !configs.is_empty())
        {
            return Err(Refusal::Unsupported("creates topics without settings"));
        }
        let controller = self.client.controller_client().map_err(refusal)?;
        let partitions = number(request, "partitions") as i32;
        within(
            &self.runtime,
            controller.create_topic(text(request, "topic"), partitions, 1, 10_000),
        )?;
        Ok(json!({}))
    }

    fn partitions(&mut self, request: &Value) -> Answer {
        let topics = within(&self.runtime, self.client.list_topics())?;
        let found = topics.into_iter().find(|topic| topic.name == text(request, "topic"));
        let topic = found.ok_or_else(|| Refusal::client("NoTopic", "not in the list of topics"))?;
        Ok(json!({ "count": topic.partitions.len() }))
    }

    fn delete_topic(&mut self, request: &Value) -> Answer {
        let controller = self.client.controller_client().map_err(refusal)?;
        within(&self.runtime, controller.delete_topic(text(request, "topic"), 10_000))?;
        Ok(json!({}))
    }
}

/// Runs a call of the library, but not for ever.
fn within<T>(runtime: &Runtime, call: impl Future<Output = Result<T, Error>>) -> Result<T, Refusal> {
    match runtime.block_on(async { tokio::time::timeout(LIMIT, call).await }) {
        Ok(result) => result.map_err(refusal),
        Err(_) => Err(Refusal::client("Timeout", "no result within the time of a request")),
    }
}

fn refusal(error: Error) -> Refusal {
    Refusal::client(name(&error), &error)
}

/// The library names errors of brokers and does not tell their codes.
fn name(error: &Error) -> String {
    match error {
        Error::ServerError { protocol_error, .. } => format!("{protocol_error:?}"),
        Error::Connection(_) => "Connection".to_string(),
        Error::Request(_) => "Request".to_string(),
        Error::InvalidResponse(_) => "InvalidResponse".to_string(),
        Error::RetryFailed(_) => "RetryFailed".to_string(),
        Error::Timeout => "Timeout".to_string(),
        _ => "Other".to_string(),
    }
}

fn record(told: &Value) -> Result<Record, Refusal> {
    let mut headers = BTreeMap::new();
    for header in list(told, "headers") {
        let name = header[0].as_str().expect("a name").to_string();
        let value = bytes(&header[1]).ok_or(Refusal::Unsupported("headers have values"))?;
        if headers.insert(name, value).is_some() {
            return Err(Refusal::Unsupported("headers are a map"));
        }
    }
    Ok(Record {
        key: bytes(&told["key"]),
        value: bytes(&told["value"]),
        headers,
        timestamp: told["timestamp"].as_i64().map_or_else(Utc::now, time),
    })
}

fn time(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).expect("a time")
}

fn deadline(request: &Value) -> Instant {
    Instant::now() + Duration::from_millis(number(request, "timeout_ms") as u64)
}

fn told(record: &RecordAndOffset) -> Value {
    let RecordAndOffset { record, offset } = record;
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| json!([name, seen(Some(value))]))
        .collect();
    json!({
        "offset": offset,
        "timestamp": record.timestamp.timestamp_millis(),
        "key": seen(record.key.as_deref()),
        "value": seen(record.value.as_deref()),
        "headers": headers,
    })
}
