//! Compressed batches, which a broker has to look into.
use std::time::Duration;

use crate::clients::pipeline::{Limit, keep};
use crate::clients::{batches, producer};
use crate::session::Session;

const PARTITIONS: i32 = 6;
const IN_FLIGHT: u32 = 5;
const RECORDS: usize = 64;
const TIME: Duration = Duration::from_secs(4);

/// Of what is written in one run.
const BYTES_MAX: usize = 1_000_000_000;

/// Both brokers.
pub fn run(session: &mut Session) {
    let batch = batches::lz4(RECORDS);
    let payload = (RECORDS * 1024) as u64;
    let ratio = payload as f64 / batch.len() as f64;
    let limit = Limit {
        time: TIME,
        requests: (BYTES_MAX / batch.len()) as u32 / PARTITIONS as u32,
    };
    session.note(format!("The batches are compressed {ratio:.1} to 1."));
    session.side_by_side(PARTITIONS, |session, side, node, topic, counts| {
        let mut producers = producer::open_all(node, topic, PARTITIONS, PARTITIONS as usize, &batch);
        let work = session.measure(side, node, counts, || keep(&mut producers, IN_FLIGHT, limit) * payload);
        if counts {
            session.add(side, 0, work.cpu_each() * 1e9);
            session.add(side, 1, work.per_second() / 1e6);
        }
    });
}
