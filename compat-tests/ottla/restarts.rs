//! Kafka promises the same; here it goes on for longer, rolls segments, and loses its index on the way.
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::create_topic;
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::tools;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

const ROUND: usize = 10_000;
const VALUE_BYTES: usize = 300;

/// Counts what was acknowledged, and what was not.
#[derive(Clone, Default)]
struct Deliveries {
    acknowledged: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.acknowledged.fetch_add(1, SeqCst),
            Err(_) => self.lost.fetch_add(1, SeqCst),
        };
    }
}

/// An idempotent producer never stops: everything is there in the end, once and in order.
#[test]
fn stopped_and_killed_again_and_again_under_load() {
    let mut node = Node::start(Target::Ottla, Options::with(&["log.segment.bytes=1048576"]));
    create_topic(&mut Connection::open(node.socket()).unwrap(), "t", 1, &[]);
    let deliveries = Deliveries::default();
    let producer: BaseProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", node.bootstrap())
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "120000")
        .set("reconnect.backoff.max.ms", "100")
        .set("queue.buffering.max.messages", "2000")
        .set("linger.ms", "1")
        .set("log_level", "0")
        .create_with_context(deliveries.clone())
        .unwrap();
    let rounds: [fn(&mut Node); 7] = [
        Node::kill,
        stopped,
        Node::kill,
        without_index,
        stopped,
        without_index,
        Node::kill,
    ];
    let count = ROUND * (rounds.len() + 1);
    let sending = std::thread::spawn(move || {
        for n in 0..count {
            let value = format!("{n:>VALUE_BYTES$}");
            let mut record = BaseRecord::<(), _>::to("t").partition(0).payload(&value);
            // The queue is full while the broker is away.
            while let Err((_, unsent)) = producer.send(record) {
                record = unsent;
                producer.poll(Duration::from_millis(5));
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    });
    for (round, end) in (1..).zip(rounds) {
        wait_for(
            || {
                assert_eq!(deliveries.lost.load(SeqCst), 0, "lost in round {round}");
                (deliveries.acknowledged.load(SeqCst) >= round * ROUND).then_some(())
            },
            || format!("too few acknowledged in round {round}"),
        );
        end(&mut node);
        node.launch();
    }
    sending.join().unwrap();
    assert_eq!(deliveries.acknowledged.load(SeqCst), count);
    let read = tools::read_with_kcat(&node.bootstrap(), "t", 0, "%o %s\\n");
    let mut lines = 0;
    for (n, line) in read.lines().enumerate() {
        let mut words = line.split_whitespace().map(|word| word.parse::<usize>().unwrap());
        assert_eq!(
            (words.next(), words.next()),
            (Some(n), Some(n)),
            "lost, doubled or out of order"
        );
        lines += 1;
    }
    assert_eq!(lines, count);
    let segments = fs::read_dir(node.replica_dir("t", 0)).unwrap().flatten();
    let segments = segments.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "log"));
    assert!(
        segments.count() > 10,
        "segments have to roll for this to mean something"
    );
}

fn stopped(node: &mut Node) {
    assert!(node.stop().success());
}

/// Killed, and its index is gone.
fn without_index(node: &mut Node) {
    node.kill();
    fs::remove_dir_all(node.log_dirs()[0].join(".ottla")).unwrap();
}
