//! Resident memory.
use std::thread;
use std::time::Duration;

use ottla_compat_tests::usage::memory;

use crate::clients::pipeline::{Limit, keep};
use crate::clients::{batches, producer};
use crate::session::Session;

const PARTITIONS: i32 = 6;
const RECORDS: usize = 64;
const BYTES: u32 = 4_000_000_000;

/// Both brokers.
pub fn run(session: &mut Session) {
    let batch = batches::plain(RECORDS, 1024);
    let limit = Limit {
        time: Duration::from_secs(120),
        requests: BYTES / (RECORDS as u32 * 1024) / PARTITIONS as u32,
    };
    session.one_by_one(|session, side, mut node| {
        node.launch();
        thread::sleep(Duration::from_secs(3));
        session.add(side, 0, memory(node.pid()).now_mb);
        let topic = session.create_topic(side, &node, "bench", PARTITIONS);
        let mut producers = producer::open_all(&node, &topic, PARTITIONS, PARTITIONS as usize, &batch);
        session.measure(side, &node, true, || keep(&mut producers, 5, limit));
        session.add(side, 1, memory(node.pid()).now_mb);
    });
}
