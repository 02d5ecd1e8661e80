//! librdkafka with its defaults and acks=all.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_compat_tests::node::Node;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use super::batches::value;

/// How long anything may take that has to come.
const WAIT: Duration = Duration::from_secs(60);

/// So many records go to a partition before the next one's turn.
const RUN: usize = 500;

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

/// A connected producer.
pub struct Batched(BaseProducer<Failures>);

impl Batched {
    /// Connects.
    pub fn open(node: &Node, topic: &str) -> Self {
        let producer: BaseProducer<Failures> = ClientConfig::new()
            .set("bootstrap.servers", node.bootstrap())
            .set("log_level", "0")
            .set("acks", "all")
            .create_with_context(Failures::default())
            .expect("producer");
        producer.client().fetch_metadata(Some(topic), WAIT).expect("metadata");
        Self(producer)
    }

    /// Writes values to all partitions until a limit; returns the bytes of the values.
    pub fn produce(&self, topic: &str, partitions: i32, value_bytes: usize, time: Duration, bytes_max: u64) -> u64 {
        let value = value(value_bytes);
        let begun = Instant::now();
        let mut bytes = 0;
        let mut partitions = (0..partitions).cycle();
        while bytes < bytes_max && begun.elapsed() < time {
            let partition = partitions.next().expect("cycle");
            for _ in 0..RUN {
                self.send(BaseRecord::to(topic).partition(partition).payload(&value));
            }
            bytes += (RUN * value.len()) as u64;
            self.0.poll(Duration::ZERO);
        }
        self.0.flush(WAIT).expect("flush");
        assert_eq!(self.0.context().0.load(Ordering::Relaxed), 0, "records were lost");
        bytes
    }

    fn send(&self, mut record: BaseRecord<'_, (), Vec<u8>>) {
        while let Err((error, rejected)) = self.0.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
            self.0.poll(Duration::from_millis(10));
            record = rejected;
        }
    }
}
