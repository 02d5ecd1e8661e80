//! A member of a group: what comes when it polls is processed.
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::driver::{Refusal, number, text};
use super::refusal;

/// The ways to share partitions that librdkafka knows; the last one is the broker's.
pub const ASSIGNORS: [&str; 4] = ["range", "roundrobin", "cooperative-sticky", CONSUMER];
const CONSUMER: &str = "consumer";

/// Records between two commits.
const FEW: usize = 10;

/// How often a commit that must not fail is tried again, and how long after the last time.
const ATTEMPTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Events of one reply.
const MANY: usize = 500;

pub struct Member {
    consumer: BaseConsumer<Work>,
}

/// What a member does, also while the library rebalances.
struct Work {
    topic: String,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    events: Vec<Value>,
    /// By partition: the offset after what was processed and not committed.
    uncommitted: HashMap<i32, i64>,
    records: usize,
    failure: Option<KafkaError>,
}

impl Member {
    pub fn join(request: &Value, mut config: ClientConfig) -> Result<Self, Refusal> {
        config
            .set("group.id", text(request, "group"))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "20");
        match text(request, "assignor") {
            CONSUMER => config.set("group.protocol", CONSUMER),
            assignor => {
                let session_timeout_ms = number(request, "session_timeout_ms");
                config
                    .set("partition.assignment.strategy", assignor)
                    .set("session.timeout.ms", session_timeout_ms.to_string())
                    .set("heartbeat.interval.ms", (session_timeout_ms / 10).to_string())
            }
        };
        let topic = text(request, "topic");
        let work = Work {
            topic: topic.to_string(),
            done: Mutex::default(),
        };
        let consumer: BaseConsumer<Work> = config.create_with_context(work).map_err(refusal)?;
        consumer.subscribe(&[topic]).map_err(refusal)?;
        Ok(Self { consumer })
    }

    /// Processes what there is, as soon as there is anything.
    pub fn poll(&self, timeout: Duration) -> Result<Value, Refusal> {
        let work = self.consumer.context();
        let end = Instant::now() + timeout;
        loop {
            let count = work.done.lock().unwrap().events.len();
            let wait = match count {
                0 => end.saturating_duration_since(Instant::now()),
                _ => Duration::ZERO,
            };
            match self.consumer.poll(wait) {
                Some(Ok(record)) => work.process(record.partition(), record.offset()),
                // A coordinator that is not there yet, or the like: the library goes on.
                Some(Err(error)) => eprintln!("passed over: {error}"),
                None if count > 0 || Instant::now() >= end => break,
                None => {}
            }
            if work.done.lock().unwrap().records >= FEW {
                work.try_commit(&self.consumer).map_err(refusal)?;
            }
            if count >= MANY {
                break;
            }
        }
        work.reply()
    }

    pub fn leave(self) -> Result<Value, Refusal> {
        let work: Arc<Work> = self.consumer.context().clone();
        work.commit(&self.consumer);
        drop(self.consumer);
        work.reply()
    }
}

impl Work {
    fn process(&self, partition: i32, offset: i64) {
        let mut done = self.done.lock().unwrap();
        done.events.push(json!({ "record": [partition, offset] }));
        done.uncommitted.insert(partition, offset + 1);
        done.records += 1;
    }

    /// Returns false if the group has moved on and the member did not hear of it yet.
    fn try_commit(&self, consumer: &BaseConsumer<Self>) -> KafkaResult<bool> {
        use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress, StaleMemberEpoch};
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in &self.done.lock().unwrap().uncommitted {
            offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*next))?;
        }
        if offsets.count() == 0 {
            return Ok(true);
        }
        match consumer.commit(&offsets, CommitMode::Sync) {
            Ok(()) => {
                let mut done = self.done.lock().unwrap();
                done.uncommitted.clear();
                done.records = 0;
                Ok(true)
            }
            Err(error) => match error.rdkafka_error_code() {
                Some(IllegalGeneration | RebalanceInProgress | StaleMemberEpoch) => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn commit(&self, consumer: &BaseConsumer<Self>) {
        for _ in 0..ATTEMPTS {
            match self.try_commit(consumer) {
                Ok(true) => return,
                Ok(false) => std::thread::sleep(PAUSE),
                Err(error) => return self.fail(error),
            }
        }
        self.fail(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress));
    }

    fn fail(&self, error: KafkaError) {
        self.done.lock().unwrap().failure = Some(error);
    }

    fn reply(&self) -> Result<Value, Refusal> {
        let mut done = self.done.lock().unwrap();
        match done.failure.take() {
            Some(error) => Err(refusal(error)),
            None => Ok(json!({ "events": std::mem::take(&mut done.events) })),
        }
    }
}

impl ClientContext for Work {}

impl ConsumerContext for Work {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let (what, partitions) = match rebalance {
            Rebalance::Assign(partitions) => ("assigned", partitions),
            Rebalance::Revoke(partitions) => ("revoked", partitions),
            Rebalance::Error(error) => return self.fail(error.clone()),
        };
        let numbers: Vec<_> = partitions.elements().iter().map(|one| one.partition()).collect();
        if what == "revoked" && !consumer.assignment_lost() {
            self.commit(consumer);
        }
        let mut done = self.done.lock().unwrap();
        if what == "revoked" {
            done.uncommitted.retain(|partition, _| !numbers.contains(partition));
        }
        done.events.push(json!({ what: numbers }));
    }
}
