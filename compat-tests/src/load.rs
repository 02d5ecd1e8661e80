//! Idempotent producers that keep hundreds of requests in flight, consumers beside them, and what both remember: after any
//! number of failures of the broker, every record that was sent is in the log once and in order, and nothing that a
//! consumer saw is gone.
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{FetchRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest};
use kafka_protocol::protocol::Request;

use crate::node::Node;
use crate::raw::Connection;
use crate::records::{Batch, Record};
use crate::requests::{Topic, at, fetch, init_producer_id, list_offsets, produce};
use crate::scenario::wait_for;
use crate::transcript::now_ms;

/// As many as an idempotent producer may have in flight for a partition.
const BATCHES_IN_FLIGHT: usize = 5;
const RECORDS_PER_BATCH: i32 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
const RETRY: Duration = Duration::from_millis(2);

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Idempotent producers, each on one connection, which write to all partitions.
    pub producers: usize,
    /// Consumers of all partitions.
    pub consumers: usize,
    /// Partitions of the topic.
    pub partitions: i32,
}

/// Producers and consumers at work on one topic.
pub struct Load {
    shared: Arc<Shared>,
    shape: Shape,
    threads: Vec<JoinHandle<()>>,
    /// Where the log of each partition was compared to.
    verified: Vec<i64>,
    /// The next sequence by producer and partition.
    expected: HashMap<(usize, i32), i32>,
    producer_ids: HashMap<i64, usize>,
    /// The CRCs of what was compared last: a consumer may come to see it only then.
    compared: HashMap<(i32, i64), u32>,
}

struct Shared {
    address: SocketAddr,
    topic: Topic,
    /// All batches are of this time, so that they can be made again for comparison.
    timestamp: i64,
    is_stopped: AtomicBool,
    is_sending: AtomicBool,
    /// Requests without an answer, by producer.
    in_flight: Vec<AtomicUsize>,
    /// Batches that were sent at least once and are not acknowledged, by producer.
    unsettled: Vec<AtomicUsize>,
    acknowledged: AtomicUsize,
    /// Offsets of acknowledged batches, by producer, partition and sequence, since they were compared last.
    offsets: Mutex<HashMap<(usize, i32, i32), i64>>,
    /// The CRC of batches that consumers saw, by partition and offset, since they were compared last.
    seen: Mutex<HashMap<(i32, i64), u32>>,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Begins on a topic that is led.
    pub fn begin(node: &Node, topic: &Topic, shape: Shape) -> Self {
        let counters = || (0..shape.producers).map(|_| AtomicUsize::new(0)).collect();
        let shared = Arc::new(Shared {
            address: node.socket(),
            topic: topic.clone(),
            timestamp: now_ms(),
            is_stopped: AtomicBool::new(false),
            is_sending: AtomicBool::new(true),
            in_flight: counters(),
            unsettled: counters(),
            acknowledged: AtomicUsize::new(0),
            offsets: Mutex::default(),
            seen: Mutex::default(),
            failures: Mutex::default(),
        });
        let mut connection = Connection::open(shared.address).unwrap();
        let ends: Vec<i64> = ends(&mut connection, topic, shape.partitions).expect("a topic that is led");
        let mut load = Self {
            shape,
            verified: ends.clone(),
            expected: HashMap::new(),
            producer_ids: HashMap::new(),
            compared: HashMap::new(),
            threads: Vec::new(),
            shared,
        };
        for number in 0..shape.producers {
            let id = new_producer_id(&mut connection).unwrap();
            load.producer_ids.insert(id, number);
            let lanes = (0..shape.partitions).map(|_| Lane::default()).collect();
            let producer = Producer {
                number,
                id,
                lanes,
                shared: Arc::clone(&load.shared),
            };
            load.threads.push(std::thread::spawn(move || producer.run()));
        }
        for _ in 0..shape.consumers {
            let consumer = Consumer {
                positions: ends.clone(),
                shared: Arc::clone(&load.shared),
            };
            load.threads.push(std::thread::spawn(move || consumer.run()));
        }
        load
    }

    /// How many requests wait for their answers.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.iter().map(|count| count.load(SeqCst)).sum()
    }

    /// How many batches were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(SeqCst)
    }

    /// Fails with what producers and consumers met that must not be.
    pub fn check(&self) {
        let failures = self.shared.failures.lock().unwrap().clone();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    /// Sends nothing new until all that was sent is acknowledged, and compares the log with that. Returns how many batches
    /// were compared.
    pub fn settle(&mut self) -> usize {
        self.shared.is_sending.store(false, SeqCst);
        wait_for(
            || {
                self.check();
                let unsettled: usize = self.shared.unsettled.iter().map(|count| count.load(SeqCst)).sum();
                (unsettled == 0).then_some(())
            },
            || "what was sent is not acknowledged".into(),
        );
        let compared = self.compare();
        self.shared.is_sending.store(true, SeqCst);
        compared
    }

    /// Stops all at once, whatever waits for an answer.
    pub fn stop(self) {
        self.shared.is_stopped.store(true, SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }

    fn compare(&mut self) -> usize {
        let mut connection = Connection::open(self.shared.address).unwrap();
        let offsets = std::mem::take(&mut *self.shared.offsets.lock().unwrap());
        let mut compared = HashMap::new();
        let ends = ends(&mut connection, &self.shared.topic, self.shape.partitions).expect("led");
        let mut found = 0;
        for (partition, end) in (0..).zip(ends) {
            let mut next = self.verified[partition as usize];
            while next < end {
                let records = read(&mut connection, &self.shared.topic, partition, next).unwrap();
                assert!(
                    !records.is_empty(),
                    "partition {partition}: nothing at {next} below {end}"
                );
                for batch in batches(&records) {
                    let Some(number) = self.producer_ids.get(&batch.producer_id) else {
                        panic!("partition {partition}: a batch of nobody's at {}", batch.base_offset)
                    };
                    let place = format!("partition {partition}, offset {next}, producer {number}");
                    assert_eq!(batch.base_offset, next, "{place}: a gap");
                    let expected = self.expected.entry((*number, partition)).or_default();
                    assert_eq!(batch.sequence, *expected, "{place}: lost, doubled or out of order");
                    let original = self.shared.made(*number, batch.producer_id, partition, *expected);
                    assert_eq!(batch.bytes[21..], original[21..], "{place}: changed");
                    if let Some(offset) = offsets.get(&(*number, partition, *expected)) {
                        assert_eq!(
                            *offset, next,
                            "{place}: sequence {expected} acknowledged at another offset"
                        );
                        found += 1;
                    }
                    *expected += RECORDS_PER_BATCH;
                    compared.insert((partition, next), batch.crc);
                    next = batch.next_offset;
                }
            }
            self.verified[partition as usize] = next;
        }
        assert_eq!(found, offsets.len(), "acknowledged batches are missing");
        for (place, crc) in std::mem::take(&mut *self.shared.seen.lock().unwrap()) {
            let is_there = compared.get(&place).or(self.compared.get(&place)) == Some(&crc);
            assert!(
                is_there,
                "a consumer saw what is not there: partition and offset {place:?}"
            );
        }
        self.compared = compared;
        self.compared.len()
    }
}

impl Shared {
    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    /// The batch that a producer sends for a sequence of a partition.
    fn made(&self, producer: usize, id: i64, partition: i32, sequence: i32) -> Bytes {
        let padding = "x".repeat((sequence % 700) as usize);
        let record = |n| Record::value(format!("{producer} {partition} {} {padding}", sequence + n));
        let records = (0..RECORDS_PER_BATCH).map(record).collect();
        Batch::new(self.timestamp, records).producer(id, 0, sequence).encode()
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(SeqCst)
    }
}

/// What a producer has under way for one partition.
#[derive(Default)]
struct Lane {
    next: i32,
    /// First sequences of batches that were sent and not acknowledged.
    unsettled: VecDeque<i32>,
}

struct Producer {
    number: usize,
    id: i64,
    lanes: Vec<Lane>,
    shared: Arc<Shared>,
}

impl Producer {
    fn run(mut self) {
        while !self.shared.is_stopped() {
            if let Ok(mut connection) = connect(&self.shared, self.lanes.len() as i32) {
                // However it ends, what has no answer is sent again.
                let _ = self.talk(&mut connection);
            }
            self.shared.in_flight[self.number].store(0, SeqCst);
            sleep(RETRY);
        }
    }

    fn talk(&mut self, connection: &mut Connection) -> io::Result<()> {
        let mut waiting = VecDeque::new();
        for partition in 0..self.lanes.len() {
            for sequence in self.lanes[partition].unsettled.clone() {
                self.send(connection, partition, sequence, &mut waiting)?;
            }
        }
        while !self.shared.is_stopped() {
            if self.shared.is_sending.load(SeqCst) {
                for partition in 0..self.lanes.len() {
                    while self.lanes[partition].unsettled.len() < BATCHES_IN_FLIGHT {
                        let lane = &mut self.lanes[partition];
                        let sequence = lane.next;
                        lane.next += RECORDS_PER_BATCH;
                        lane.unsettled.push_back(sequence);
                        self.shared.unsettled[self.number].fetch_add(1, SeqCst);
                        self.send(connection, partition, sequence, &mut waiting)?;
                    }
                }
            }
            match waiting.pop_front() {
                Some((partition, sequence)) => self.receive(connection, partition, sequence)?,
                None => sleep(RETRY),
            }
        }
        Ok(())
    }

    fn send(
        &self,
        connection: &mut Connection,
        partition: usize,
        sequence: i32,
        waiting: &mut VecDeque<(usize, i32)>,
    ) -> io::Result<()> {
        let batch = self.shared.made(self.number, self.id, partition as i32, sequence);
        let request = produce(9, &self.shared.topic, -1, &[(partition as i32, Some(batch))]);
        connection.send(9, &request)?;
        waiting.push_back((partition, sequence));
        self.shared.in_flight[self.number].store(waiting.len(), SeqCst);
        Ok(())
    }

    fn receive(&mut self, connection: &mut Connection, partition: usize, sequence: i32) -> io::Result<()> {
        let answer = connection.receive::<ProduceRequest>(9)?;
        self.shared.in_flight[self.number].fetch_sub(1, SeqCst);
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!(answer.index, partition as i32, "answers come in the order of requests");
        match answer.error_code {
            0 => {
                let key = (self.number, partition as i32, sequence);
                self.shared.offsets.lock().unwrap().insert(key, answer.base_offset);
            }
            DUPLICATE_SEQUENCE_NUMBER => {}
            // The leader is about to be, or about to go.
            NOT_LEADER_OR_FOLLOWER | UNKNOWN_TOPIC_OR_PARTITION => return Err(io::ErrorKind::Other.into()),
            error => {
                let failure = format!(
                    "producer {} met error {error} at sequence {sequence} of partition {partition}: {:?}; under way: {:?}",
                    self.number, answer.error_message, self.lanes[partition].unsettled
                );
                self.shared.fail(failure);
                return Err(io::ErrorKind::Other.into());
            }
        }
        let first = self.lanes[partition].unsettled.pop_front();
        assert_eq!(first, Some(sequence), "answers come in the order of requests");
        self.shared.unsettled[self.number].fetch_sub(1, SeqCst);
        self.shared.acknowledged.fetch_add(1, SeqCst);
        Ok(())
    }
}

struct Consumer {
    positions: Vec<i64>,
    shared: Arc<Shared>,
}

impl Consumer {
    fn run(mut self) {
        while !self.shared.is_stopped() {
            if let Ok(mut connection) = connect(&self.shared, self.positions.len() as i32) {
                // However it ends, reading goes on where it was.
                let _ = self.talk(&mut connection);
            }
            sleep(RETRY);
        }
    }

    fn talk(&mut self, connection: &mut Connection) -> io::Result<()> {
        while !self.shared.is_stopped() {
            let wanted = (0..)
                .zip(&self.positions)
                .map(|(partition, offset)| at(partition, *offset));
            let request = fetch(12, &self.shared.topic, wanted.collect()).with_max_wait_ms(20);
            let answer = connection.call(12, &request)?;
            for fetched in &answer.responses[0].partitions {
                match fetched.error_code {
                    0 => {}
                    NOT_LEADER_OR_FOLLOWER | UNKNOWN_TOPIC_OR_PARTITION => return Err(io::ErrorKind::Other.into()),
                    error => {
                        let partition = fetched.partition_index;
                        self.shared
                            .fail(format!("a consumer met error {error} in partition {partition}"));
                        return Err(io::ErrorKind::Other.into());
                    }
                }
                let Some(records) = &fetched.records else { continue };
                let mut seen = self.shared.seen.lock().unwrap();
                for batch in batches(records) {
                    seen.insert((fetched.partition_index, batch.base_offset), batch.crc);
                    self.positions[fetched.partition_index as usize] = batch.next_offset;
                }
            }
        }
        Ok(())
    }
}

/// A batch that was read, whose CRC is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its first offset.
    pub base_offset: i64,
    /// One past its last.
    pub next_offset: i64,
    /// Its CRC.
    pub crc: u32,
    /// Its producer, or -1.
    pub producer_id: i64,
    /// Its first sequence, or -1.
    pub sequence: i32,
    /// All of it.
    pub bytes: Bytes,
}

/// The whole batches in what a fetch returned; panics where one is not what its CRC says.
pub fn batches(records: &Bytes) -> Vec<Stored> {
    let mut all = Vec::new();
    let mut rest = records.clone();
    while rest.len() >= 61 {
        let size = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        if rest.len() < size {
            break;
        }
        let bytes = rest.split_to(size);
        let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let (base_offset, crc) = (long(0), int(17) as u32);
        assert_eq!(crc32c::crc32c(&bytes[21..]), crc, "a corrupt batch at {base_offset}");
        all.push(Stored {
            base_offset,
            next_offset: base_offset + i64::from(int(23)) + 1,
            crc,
            producer_id: long(43),
            sequence: int(53),
            bytes,
        });
    }
    all
}

/// What a partition has from an offset on.
pub fn read(connection: &mut Connection, topic: &Topic, partition: i32, from: i64) -> io::Result<Bytes> {
    let request: FetchRequest = fetch(12, topic, vec![at(partition, from)]);
    let mut answer = connection.call(12, &request)?;
    let fetched = answer.responses.remove(0).partitions.remove(0);
    match fetched.error_code {
        0 => Ok(fetched.records.unwrap_or_default()),
        error => Err(io::Error::other(format!("error {error} in partition {partition}"))),
    }
}

/// The high watermarks of a topic's partitions, if all are led.
pub fn ends(connection: &mut Connection, topic: &Topic, partitions: i32) -> io::Result<Vec<i64>> {
    let all: Vec<_> = (0..partitions).map(|partition| (partition, -1)).collect();
    let mut answer: <ListOffsetsRequest as Request>::Response = connection.call(7, &list_offsets(topic, &all))?;
    let mut partitions = answer.topics.remove(0).partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    match partitions.iter().find(|partition| partition.error_code != 0) {
        Some(failed) => Err(io::Error::other(format!("error {}", failed.error_code))),
        None => Ok(partitions.iter().map(|partition| partition.offset).collect()),
    }
}

/// The id of a new producer.
pub fn new_producer_id(connection: &mut Connection) -> io::Result<i64> {
    let request: InitProducerIdRequest = init_producer_id(-1, -1);
    let answer = connection.call(4, &request)?;
    match answer.error_code {
        0 => Ok(answer.producer_id.0),
        error => Err(io::Error::other(format!("no producer id: error {error}"))),
    }
}

/// Connects once all partitions are led: the first batch of a producer may have any sequence, so a later one must not
/// come first.
fn connect(shared: &Shared, partitions: i32) -> io::Result<Connection> {
    let mut connection = Connection::open(shared.address)?;
    ends(&mut connection, &shared.topic, partitions)?;
    Ok(connection)
}
