//! What was in memory only when the broker died.
use std::time::{Duration, Instant};

use ottla_compat_tests::node::Node;
use ottla_compat_tests::usage::{cpu, read_bytes};

use crate::clients::pipeline::{Limit, keep};
use crate::clients::{batches, producer};
use crate::ready;
use crate::session::Session;

/// Less than `log.segment.bytes` in each.
const PARTITIONS: i32 = 10;
const BYTES: usize = 8_000_000_000;
const RECORDS: usize = 1000;
const VALUE_BYTES: usize = 1000;
const IN_FLIGHT: u32 = 2;

/// Both brokers.
pub fn run(session: &mut Session) {
    session.one_by_one(|session, side, mut node| {
        node.launch();
        fill(&node);
        node.kill();
        let begun = Instant::now();
        node.spawn();
        let mut connection = ready::connect(&node);
        ready::wait_led(&mut connection, PARTITIONS as usize);
        (0..PARTITIONS).for_each(|partition| ready::wait_appends(&mut connection, 0, partition));
        session.add(side, 0, begun.elapsed().as_secs_f64() * 1e3);
        session.add(side, 1, cpu(node.pid()).as_secs_f64());
        session.add(side, 2, read_bytes(node.pid()) as f64 / 1e9);
    });
}

fn fill(node: &Node) {
    let mut connection = ready::connect(node);
    let topic = ready::create_topics(&mut connection, 1, PARTITIONS);
    ready::wait_led(&mut connection, PARTITIONS as usize);
    (0..PARTITIONS).for_each(|partition| ready::wait_appends(&mut connection, 0, partition));
    let batch = batches::plain(RECORDS, VALUE_BYTES);
    let limit = Limit {
        time: Duration::from_secs(180),
        requests: (BYTES / batch.len()) as u32 / PARTITIONS as u32,
    };
    let mut producers = producer::open_all(node, &topic, PARTITIONS, PARTITIONS as usize, &batch);
    let sent = keep(&mut producers, IN_FLIGHT, limit);
    assert_eq!(
        sent,
        u64::from(limit.requests) * PARTITIONS as u64,
        "the disk is too slow"
    );
}
