//! Apache Kafka has index files in its place: that the index is used, and how much is read, are Ottla's own to show.
use std::fs;

use ottla_compat_tests::metrics::{sample, scrape};
use ottla_compat_tests::node::{Node, Options, Target, free_ports};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::requests::{Topic, append, at, create_topic, fetch, list_offsets};

const SCANNED: &str = "ottla_log_index_lookup_scanned_bytes";
const BATCHES: i64 = 2000;
const VALUE_BYTES: usize = 700;
/// What a batch of one record adds to its value.
const BATCH_OVERHEAD_BYTES: usize = 61 + 10;
/// The default of `index.interval.bytes`.
const INTERVAL_BYTES: f64 = 4096.0;

/// The number of lookups so far, and the bytes that they read.
fn scanned(port: u16) -> (f64, f64) {
    let text = scrape(port);
    let read = |suffix: &str| sample(&text, &format!("{SCANNED}_{suffix}")).unwrap_or(0.0);
    (read("count"), read("sum"))
}

/// Runs a lookup and checks what it read.
fn lookup(port: u16, what: &str, find: impl FnOnce()) {
    let (count, sum) = scanned(port);
    find();
    let (count_after, sum_after) = scanned(port);
    assert_eq!(count_after - count, 1.0, "{what} looks once into a segment");
    let most = INTERVAL_BYTES + (VALUE_BYTES + BATCH_OVERHEAD_BYTES) as f64;
    assert!(sum_after - sum <= most, "{what} read {} bytes", sum_after - sum);
}

/// Looks all over the log: what is found is right, and little is read for it.
fn look_around(node: &Node, port: u16, topic: &Topic, first: i64) {
    let mut connection = Connection::open(node.socket()).unwrap();
    for offset in [0, 1, 5, 6, 7, 700, 999, 1000, 1001, 1234, 1800] {
        lookup(port, &format!("a fetch at {offset}"), || {
            let part = at(0, offset).with_partition_max_bytes(100);
            let mut answer = connection.call(12, &fetch(12, topic, vec![part])).unwrap();
            let records = answer.responses[0].partitions[0].records.take().unwrap();
            assert_eq!(i64::from_be_bytes(records[..8].try_into().unwrap()), offset);
        });
        lookup(port, &format!("a search for the time of {offset}"), || {
            let answer = connection
                .call(7, &list_offsets(topic, &[(0, first + 10 * offset - 5)]))
                .unwrap();
            assert_eq!(answer.topics[0].partitions[0].offset, offset);
        });
    }
}

#[test]
fn cold_lookups_read_an_interval_and_a_batch() {
    let [port] = free_ports();
    let listener = format!("ottla.http.listener=127.0.0.1:{port}");
    let mut node = Node::start(Target::Ottla, Options::with(&[&listener]));
    let mut connection = Connection::open(node.socket()).unwrap();
    let topic = create_topic(&mut connection, "t", 1, &[]);
    let first = ottla_compat_tests::transcript::now_ms() - 3_600_000;
    for n in 0..BATCHES {
        let batch = Batch::new(first + 10 * n, vec![Record::value(vec![b'x'; VALUE_BYTES])]);
        append(&mut connection, &topic, 0, &batch);
    }
    node.stop();
    node.launch();
    look_around(&node, port, &topic, first);
    node.kill();
    node.launch();
    look_around(&node, port, &topic, first);
    // Made again from the segments, whichever way the node ended.
    for is_clean in [true, false] {
        if is_clean {
            node.stop();
        } else {
            node.kill();
        }
        fs::remove_dir_all(node.log_dirs()[0].join(".ottla")).unwrap();
        node.launch();
        look_around(&node, port, &topic, first);
    }
}
