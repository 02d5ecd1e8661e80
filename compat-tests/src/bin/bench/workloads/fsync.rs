//! Records that a power failure cannot take.
use std::time::Duration;

use crate::clients::pipeline::{Limit, keep};
use crate::clients::{batches, producer};
use crate::session::Session;

const CONNECTIONS: usize = 64;
const PARTITIONS: i32 = 16;
const TIME: Duration = Duration::from_secs(3);

/// Both brokers.
pub fn run(session: &mut Session) {
    let batch = batches::plain(1, 100);
    session.side_by_side(PARTITIONS, |session, side, node, topic, counts| {
        for (figure, in_flight) in [5, 1].into_iter().enumerate() {
            let mut producers = producer::open_all(node, topic, PARTITIONS, CONNECTIONS, &batch);
            let work = session.measure(side, node, counts, || {
                keep(&mut producers, in_flight, Limit::time(TIME))
            });
            if counts {
                session.add(side, figure, work.per_second());
            }
        }
    });
}
