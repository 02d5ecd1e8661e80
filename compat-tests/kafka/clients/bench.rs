//! What a case works with: one family's driver, and the broker.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::Codec;
use ottla_compat_tests::requests::{self, Topic};
use serde_json::{Value, json};

use super::data::{Expected, Record};
use super::driver::Driver;
use super::outcome::{Cell, Checked, Stop, ensure, failed};

/// How to produce.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub codec: Codec,
    pub acks: i16,
    pub idempotent: bool,
    pub batch: bool,
    pub max_message_bytes: Option<usize>,
}

/// As most cases want it.
pub const BATCH: How = How {
    codec: Codec::None,
    acks: -1,
    idempotent: false,
    batch: true,
    max_message_bytes: None,
};

/// Each record alone.
pub const ONE_BY_ONE: How = How { batch: false, ..BATCH };

/// All records that a family wrote, by topic and partition.
pub type Written = BTreeMap<(String, i32), Vec<Expected>>;

pub struct Bench {
    pub family: String,
    /// The case that runs, and the name for its topic.
    case: String,
    pub topic: String,
    /// Goes into the cell.
    pub note: String,
    pub driver: Driver,
    pub written: Written,
    /// Counts the times that the driver had to be started.
    pub starts: usize,
    /// What the driver says of itself.
    pub hello: Value,
    reads: bool,
    /// Cases whose records it cannot read, and why.
    cannot_read: BTreeMap<String, String>,
    address: SocketAddr,
}

impl Bench {
    pub fn start(family: &str, node: &Node) -> Self {
        let mut bench = Self {
            family: family.to_string(),
            case: String::new(),
            topic: String::new(),
            note: String::new(),
            driver: Driver::start(family, &node.bootstrap()),
            written: Written::new(),
            starts: 1,
            hello: Value::Null,
            reads: true,
            cannot_read: BTreeMap::new(),
            address: node.socket(),
        };
        if let Ok(hello) = bench.ask(json!({ "op": "hello" })) {
            bench.reads = hello["reads"] != false;
            bench.cannot_read = serde_json::from_value(hello["cannot_read"].clone()).unwrap_or_default();
            bench.hello = hello;
        }
        bench
    }

    /// Runs a case and tells how it ended.
    pub fn run(&mut self, name: &str, case: impl FnOnce(&mut Self) -> Checked) -> Cell {
        self.case = name.to_string();
        self.topic = format!("{}-{name}", self.family);
        self.note.clear();
        let begin = Instant::now();
        if !self.driver.is_alive() {
            self.driver = Driver::start(&self.family, &self.address.to_string());
            self.starts += 1;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| case(self))).unwrap_or_else(|panic| {
            // It may still have a reply that nobody waits for.
            let _ = self.driver.end();
            let text = panic.downcast_ref::<String>().cloned();
            Err(failed(text.unwrap_or_else(|| "the case panicked".to_string())))
        });
        Cell {
            outcome,
            note: std::mem::take(&mut self.note),
            took: begin.elapsed(),
        }
    }

    /// Whether the family reads without groups; an error if it does, but not what this case wrote.
    pub fn reads(&self) -> Checked<bool> {
        match self.cannot_read.get(&self.case) {
            Some(why) if self.reads => Err(Stop::Unsupported(why.clone())),
            _ => Ok(self.reads),
        }
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address).expect("the broker listens")
    }

    pub fn ask(&mut self, request: Value) -> Checked<Value> {
        self.driver.ask(&request)
    }

    /// The topic of the case, whoever creates it.
    pub fn named(&self) -> Topic {
        Topic {
            name: self.topic.clone(),
            id: Default::default(),
        }
    }

    /// Creates a topic, without the family's help.
    pub fn create(&mut self, suffix: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
        let name = format!("{}{suffix}", self.topic);
        requests::create_topic(&mut self.connect(), &name, partitions, configs)
    }

    /// Lets the family write records, which it must say to be where they belong.
    pub fn produce(&mut self, topic: &Topic, partition: i32, how: How, records: &[Record]) -> Checked {
        let place = (topic.name.clone(), partition);
        let first = self.written.get(&place).map_or(0, Vec::len);
        let reply = self.ask(produce(topic, partition, how, records))?;
        let told = reply["offsets"].as_array().map_or(&[][..], Vec::as_slice);
        let right = told.len() == records.len()
            && (first..)
                .zip(told)
                .all(|(offset, told)| told.is_null() || *told == json!(offset));
        let expected = Expected::of(records, first);
        self.written.entry(place).or_default().extend(expected);
        ensure(right, || format!("offsets from {first} on are {reply}"))
    }

    /// Lets the family read all that it wrote to a partition, if it reads.
    pub fn read_back(&mut self, topic: &Topic, partition: i32) -> Checked {
        let expected = self
            .written
            .get(&(topic.name.clone(), partition))
            .cloned()
            .unwrap_or_default();
        if !self.reads()? {
            return Ok(());
        }
        self.read(&topic.name, partition, &expected)
    }

    /// Lets the family read all that another one wrote.
    pub fn read_all(&mut self, writer: &str, written: &Written) -> Checked {
        for ((topic, partition), records) in written {
            let case = topic.strip_prefix(writer).and_then(|rest| rest.strip_prefix('-'));
            match case.and_then(|case| self.cannot_read.get(case)) {
                Some(why) => {
                    let gap = if self.note.is_empty() { "" } else { "; " };
                    self.note += &format!("{gap}not {}: {why}", case.unwrap_or_default());
                }
                None => self.read(topic, *partition, records)?,
            }
        }
        Ok(())
    }

    /// Lets the family read these records from the beginning of a partition.
    pub fn read(&mut self, topic: &str, partition: i32, expected: &[Expected]) -> Checked {
        let reply = self.ask(fetch(topic, partition, 0, expected.len()))?;
        Expected::check_all(expected, &reply)
    }
}

/// A request to produce.
pub fn produce(topic: &Topic, partition: i32, how: How, records: &[Record]) -> Value {
    let mut request = json!({
        "op": "produce",
        "topic": topic.name,
        "partition": partition,
        "codec": how.codec.name(),
        "acks": how.acks,
        "idempotent": how.idempotent,
        "batch": how.batch,
        "records": records.iter().map(Record::told).collect::<Vec<_>>(),
    });
    if let Some(limit) = how.max_message_bytes {
        request["max_message_bytes"] = limit.into();
    }
    request
}

/// A request to fetch.
pub fn fetch(topic: &str, partition: i32, offset: usize, count: usize) -> Value {
    json!({
        "op": "fetch",
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "count": count,
        "timeout_ms": 20_000,
    })
}
