//! Batches as librdkafka makes them.
use std::time::Duration;

use crate::clients::librdkafka::Batched;
use crate::floor;
use crate::session::Session;

const PARTITIONS: i32 = 6;
const TIME: Duration = Duration::from_secs(5);
const BYTES_MAX: u64 = 512 << 20;

/// Both brokers, with values of this size.
pub fn run(session: &mut Session, value_bytes: usize) {
    session.side_by_side(PARTITIONS, |session, side, node, topic, counts| {
        let producer = Batched::open(node, &topic.name);
        let work = session.measure(side, node, counts, || {
            producer.produce(&topic.name, PARTITIONS, value_bytes, TIME, BYTES_MAX)
        });
        if counts {
            session.add(side, 0, work.cpu_each() * 1e9);
            session.add(side, 1, work.per_second() / 1e6);
        }
    });
    for _ in 0..session.rounds {
        session.add_floor(0, floor::receive_and_write());
    }
}
