//! Committed offsets that a coordinator reads when it starts.
use std::time::{Duration, Instant};

use ottla_compat_tests::node::Node;
use ottla_compat_tests::requests::{Topic, create_topic};
use ottla_compat_tests::usage::cpu;

use crate::clients::offsets::{committer, wait_coordinated, wait_fetched};
use crate::clients::pipeline::{Limit, keep};
use crate::ready;
use crate::session::Session;

/// All in one partition of `__consumer_offsets`.
const GROUPS: usize = 1000;
const PARTITIONS: i32 = 100;
/// Of each offset.
const COMMITS: u32 = 10;
const OFFSET: i64 = 1_000_000;

/// Both brokers.
pub fn run(session: &mut Session) {
    session.one_by_one(|session, side, mut node| {
        node.launch();
        let (topic, groups) = commit(&node);
        node.stop();
        let begun = Instant::now();
        let ms = || begun.elapsed().as_secs_f64() * 1e3;
        node.launch();
        let started_ms = ms();
        let mut connection = ready::connect(&node);
        let offset = wait_fetched(&mut connection, &topic, PARTITIONS - 1, &groups[GROUPS - 1]);
        let loaded_ms = ms();
        session.add(side, 0, loaded_ms);
        session.add(side, 1, loaded_ms - started_ms);
        session.add(side, 2, cpu(node.pid()).as_secs_f64());
        assert_eq!(offset, OFFSET, "{side:?}");
        for group in &groups {
            assert_eq!(wait_fetched(&mut connection, &topic, 0, group), OFFSET, "{side:?}");
        }
    });
}

fn commit(node: &Node) -> (Topic, Vec<String>) {
    let groups: Vec<_> = (0..GROUPS).map(|number| format!("group{number:03}")).collect();
    let mut connection = ready::connect(node);
    let topic = create_topic(&mut connection, "bench", PARTITIONS, &[]);
    wait_coordinated(&mut connection, &topic, &groups);
    let limit = Limit {
        time: Duration::from_secs(120),
        requests: GROUPS as u32 * COMMITS,
    };
    let sent = keep(&mut [committer(node, &topic, PARTITIONS, &groups, OFFSET)], 4, limit);
    assert_eq!(sent, u64::from(limit.requests), "commits are too slow");
    (topic, groups)
}
