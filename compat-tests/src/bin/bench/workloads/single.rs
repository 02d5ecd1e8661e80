//! One record a request.
use std::time::Duration;

use ottla_compat_tests::node::Node;
use ottla_compat_tests::requests::Topic;
use ottla_compat_tests::usage::Work;

use crate::clients::pipeline::{Limit, keep};
use crate::clients::{batches, producer};
use crate::session::Session;
use crate::workload::Side;

const CONNECTIONS: i32 = 4;
const IN_FLIGHT: u32 = 64;

/// Of one run.
const TIME: Duration = Duration::from_secs(5);

/// Of one run with or without metrics: short, because what is compared differs by less than the machine's moods.
const TURN: Duration = Duration::from_millis(1500);
const TURNS_A_ROUND: usize = 4;

/// Both brokers.
pub fn run(session: &mut Session) {
    session.side_by_side(CONNECTIONS, |session, side, node, topic, counts| {
        let work = load(session, side, node, topic, counts, TIME);
        if counts {
            session.add(side, 0, work.per_second());
            session.add(side, 1, work.cpu_each() * 1e6);
        }
    });
}

/// Ottla with and without metrics.
pub fn metrics(session: &mut Session) {
    session.rounds *= TURNS_A_ROUND;
    session.side_by_side(CONNECTIONS, |session, side, node, topic, counts| {
        let work = load(session, side, node, topic, counts, TURN);
        if counts {
            session.add(side, 0, work.cpu_each() * 1e6);
            session.add(side, 1, work.per_second());
        }
    });
}

fn load(session: &mut Session, side: Side, node: &Node, topic: &Topic, counts: bool, time: Duration) -> Work {
    let batch = batches::plain(1, 100);
    let mut producers = producer::open_all(node, topic, CONNECTIONS, CONNECTIONS as usize, &batch);
    session.measure(side, node, counts, || {
        keep(&mut producers, IN_FLIGHT, Limit::time(time))
    })
}
