//! Commits of offsets.
use std::time::Duration;

use crate::clients::offsets::{committer, wait_coordinated};
use crate::clients::pipeline::{Limit, Pipeline, keep};
use crate::ready;
use crate::session::Session;

const GROUPS: usize = 50;
const TIME: Duration = Duration::from_secs(2);

/// Of the figures: connections, each with as many groups as any other, and how many requests each has in flight.
const LOADS: [(usize, u32); 3] = [(5, 64), (GROUPS, 64), (GROUPS, 5)];

/// Both brokers.
pub fn run(session: &mut Session) {
    let groups: Vec<_> = (0..GROUPS).map(|number| format!("group{number:02}")).collect();
    session.side_by_side(1, |session, side, node, topic, counts| {
        wait_coordinated(&mut ready::connect(node), topic, &groups);
        for (place, (connections, in_flight)) in LOADS.into_iter().enumerate() {
            let chunks = groups.chunks(GROUPS / connections);
            let mut pipelines: Vec<Pipeline> = chunks.map(|groups| committer(node, topic, 1, groups, 1)).collect();
            let work = session.measure(side, node, counts, || {
                keep(&mut pipelines, in_flight, Limit::time(TIME))
            });
            if counts {
                session.add(side, place * 2, work.per_second());
                session.add(side, place * 2 + 1, work.cpu_each() * 1e6);
            }
        }
    });
}
