//! Apache Kafka only makes the file longer, which reserves nothing on most file systems, and fills no disk.
use std::fs;
use std::os::unix::fs::MetadataExt;

use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::requests::{append, create_topic};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::tools;
use ottla_compat_tests::transcript::now_ms;

const SEGMENT_BYTES: u64 = 1 << 20;

#[test]
fn segments_have_room_on_the_disk_before_they_are_written() {
    let node = Node::start(Target::Ottla, Options::default());
    let mut connection = Connection::open(node.socket()).unwrap();
    let topic = create_topic(&mut connection, "t", 1, &[("segment.bytes", "1048576")]);
    let folder = node.replica_dir("t", 0);
    // The size and the allocated bytes of each segment.
    let segments = || {
        let entries = fs::read_dir(&folder).unwrap().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|kind| kind == "log"));
        paths.sort();
        let facts = paths.iter().map(|path| fs::metadata(path).unwrap());
        facts
            .map(|facts| (facts.len(), facts.blocks() * 512))
            .collect::<Vec<_>>()
    };
    assert!(segments()[0].1 < SEGMENT_BYTES);
    let change = ["--alter", "--topic", "t", "--add-config", "preallocate=true"];
    tools::java(
        "kafka-configs",
        &[&["--bootstrap-server", &node.bootstrap()], &change[..]].concat(),
    )
    .ok();
    let batch = Batch::new(now_ms(), vec![Record::value(vec![b'x'; 300_000])]);
    let is_reserved = |(size, allocated): &(u64, u64)| *size < SEGMENT_BYTES / 2 && *allocated >= SEGMENT_BYTES;
    wait_for(
        || {
            append(&mut connection, &topic, 0, &batch);
            segments().last().filter(|last| is_reserved(last)).map(|_| ())
        },
        || format!("never reserved: {:?}", segments()),
    );
    // What was not needed is given back.
    let count = segments().len();
    while segments().len() == count {
        append(&mut connection, &topic, 0, &batch);
    }
    wait_for(
        || (segments()[count - 1].1 < SEGMENT_BYTES).then_some(()),
        || format!("never given back: {:?}", segments()),
    );
}
