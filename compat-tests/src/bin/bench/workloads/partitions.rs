//! Many partitions: creating them, having them, and starting with them.
use std::thread;
use std::time::{Duration, Instant};

use ottla_compat_tests::node::Node;
use ottla_compat_tests::usage::memory;

use crate::ready;
use crate::session::Session;

const TOPICS: usize = 20;
const PARTITIONS_EACH: i32 = 100;
const PARTITIONS: usize = TOPICS * PARTITIONS_EACH as usize;

/// Both brokers.
pub fn run(session: &mut Session) {
    session.one_by_one(|session, side, mut node| {
        node.launch();
        let mut connection = ready::connect(&node);
        let begun = Instant::now();
        let ms = || begun.elapsed().as_secs_f64() * 1e3;
        ready::create_topics(&mut connection, TOPICS, PARTITIONS_EACH);
        ready::wait_led(&mut connection, PARTITIONS);
        session.add(side, 0, ms());
        ready::wait_served(&mut connection, TOPICS, PARTITIONS_EACH);
        session.add(side, 1, ms());
        // What the broker still does for them is part of their cost.
        thread::sleep(Duration::from_secs(2));
        session.add(side, 2, memory(node.pid()).now_mb);
        node.stop();
        session.add(side, 3, restart(&mut node));
        node.kill();
        session.add(side, 4, restart(&mut node));
    });
}

/// Milliseconds until all partitions are served and the last one takes a record.
fn restart(node: &mut Node) -> f64 {
    let begun = Instant::now();
    node.spawn();
    let mut connection = ready::connect(node);
    ready::wait_led(&mut connection, PARTITIONS);
    ready::wait_served(&mut connection, TOPICS, PARTITIONS_EACH);
    ready::wait_appends(&mut connection, TOPICS - 1, PARTITIONS_EACH - 1);
    begun.elapsed().as_secs_f64() * 1e3
}
