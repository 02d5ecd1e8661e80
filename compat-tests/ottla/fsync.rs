//! `ottla.fsync=ack`, which Kafka does not have, on a disk that strace makes fail or slow.
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::Batch;
use ottla_compat_tests::requests::{Topic, append, at, create_topic, fetch, list_offsets, produce};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::transcript::now_ms;

const KAFKA_STORAGE_ERROR: i16 = 56;

/// strace on a running node, which tampers with the fdatasync of one file.
struct Tampering {
    strace: Child,
    trace: PathBuf,
}

impl Tampering {
    fn begin(node: &Node, file: &Path, inject: &str) -> Self {
        let trace = node.dir().join("trace");
        let mut strace = Command::new("strace")
            .args([
                "-f",
                "-e",
                "trace=fdatasync",
                "-e",
                &format!("inject=fdatasync:{inject}"),
            ])
            .args(["-p", &node.pid().to_string(), "-P"])
            .arg(file)
            .arg("-o")
            .arg(&trace)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace (Debian: strace)");
        // It says so when it has begun.
        let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines();
        let begun = |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.contains("attached"));
        assert!(lines.any(|line| begun(&line)), "strace could not attach");
        std::thread::spawn(move || lines.for_each(drop));
        Self { strace, trace }
    }

    /// How often fdatasync was called.
    fn calls(&self) -> usize {
        let text = std::fs::read_to_string(&self.trace).unwrap();
        text.lines().filter(|line| line.contains("fdatasync(")).count()
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// A node with two directories and a topic with a partition in each: the one in the second, and the other.
fn start() -> (Node, Topic, i32) {
    let options = Options {
        log_dirs: 2,
        ..Options::with(&["ottla.fsync=ack"])
    };
    let node = Node::start(Target::Ottla, options);
    let topic = create_topic(&mut Connection::open(node.socket()).unwrap(), "t", 2, &[]);
    let second = node.log_dirs().remove(1);
    let partition = (0..2).find(|partition| node.replica_dir("t", *partition).starts_with(&second));
    (node, topic, partition.unwrap())
}

fn active_segment(node: &Node, partition: i32) -> PathBuf {
    node.replica_dir("t", partition).join("00000000000000000000.log")
}

fn send(connection: &mut Connection, topic: &Topic, acks: i16, partition: i32) -> i16 {
    let batch = Batch::of(now_ms(), &["unsynced"]).encode();
    let request = produce(9, topic, acks, &[(partition, Some(batch))]);
    connection.call(9, &request).unwrap().responses[0].partition_responses[0].error_code
}

#[test]
fn nothing_is_acknowledged_or_shown_that_could_not_be_synced() {
    let (mut node, topic, partition) = start();
    let mut connection = Connection::open(node.socket()).unwrap();
    append(&mut connection, &topic, partition, &Batch::of(now_ms(), &["synced"]));
    let tampering = Tampering::begin(&node, &active_segment(&node, partition), "error=EIO");
    for acks in [-1, 1] {
        assert_eq!(
            send(&mut connection, &topic, acks, partition),
            KAFKA_STORAGE_ERROR,
            "acks={acks}"
        );
    }
    let fetched = connection.call(12, &fetch(12, &topic, vec![at(partition, 1)])).unwrap();
    let fetched = &fetched.responses[0].partitions[0];
    assert!(
        fetched.records.as_ref().is_none_or(|records| records.is_empty()),
        "{fetched:?}"
    );
    // Never tried again: what a failed fdatasync leaves behind may look clean to the next one.
    assert_eq!(tampering.calls(), 1);
    append(
        &mut connection,
        &topic,
        1 - partition,
        &Batch::of(now_ms(), &["elsewhere"]),
    );
    assert!(node.exited().is_none());
    drop(tampering);
    node.stop();
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    let ends = wait_for(
        || {
            let answer = connection
                .call(7, &list_offsets(&topic, &[(partition, -1), (1 - partition, -1)]))
                .unwrap();
            let partitions = &answer.topics[0].partitions;
            let is_led = partitions.iter().all(|partition| partition.error_code == 0);
            is_led.then(|| (partitions[0].offset, partitions[1].offset))
        },
        || "no leaders".into(),
    );
    assert!(ends.0 >= 1 && ends.1 == 1, "what was acknowledged is there: {ends:?}");
}

/// On a disk whose every fdatasync takes long, producers share them.
#[test]
fn one_sync_serves_all_who_wait() {
    const PRODUCERS: usize = 16;
    const EACH: usize = 10;
    let (node, topic, partition) = start();
    let tampering = Tampering::begin(&node, &active_segment(&node, partition), "delay_enter=20000");
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                let mut connection = Connection::open(node.socket()).unwrap();
                (0..EACH).for_each(|_| assert_eq!(send(&mut connection, &topic, -1, partition), 0));
            });
        }
    });
    let calls = tampering.calls();
    assert!(
        (EACH..PRODUCERS * EACH / 3).contains(&calls),
        "{calls} calls for {PRODUCERS} times {EACH} records"
    );
}
