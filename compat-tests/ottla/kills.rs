//! Killed at random moments with hundreds of requests in flight. Kafka promises the same; what is shown here of the restarts
//! goes further than its clients let one look: every acknowledged batch is found again at the offset that was answered.
use std::thread::sleep;
use std::time::Duration;

use ottla_compat_tests::chance::Chance;
use ottla_compat_tests::load::{Load, Shape};
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::create_topic;
use ottla_compat_tests::scenario::wait_for;

const SHAPE: Shape = Shape {
    producers: 4,
    consumers: 2,
    partitions: 8,
};
/// With these, rolls, retention and checkpoints are under way at many moments.
pub const BUSY: [&str; 7] = [
    "log.segment.bytes=1048576",
    "log.retention.ms=-1",
    "log.retention.bytes=33554432",
    "log.retention.check.interval.ms=200",
    "log.initial.task.delay.ms=100",
    "log.flush.offset.checkpoint.interval.ms=100",
    "log.segment.delete.delay.ms=50",
];
/// A kill counts only with as many requests in flight.
pub const IN_FLIGHT_MIN: usize = 100;
const UNTIL_KILL_MAX_MS: usize = 250;

/// Waits until the load is heavy, then for a random time, and ends the node; true if the load was heavy in that moment.
pub fn kill_under(load: &Load, node: &mut Node, chance: &mut Chance) -> bool {
    wait_for(
        || {
            load.check();
            (load.in_flight() >= IN_FLIGHT_MIN).then_some(())
        },
        || format!("only {} requests in flight", load.in_flight()),
    );
    sleep(Duration::from_millis(chance.below(UNTIL_KILL_MAX_MS) as u64));
    let in_flight = load.in_flight();
    node.kill();
    in_flight >= IN_FLIGHT_MIN
}

fn kill_again_and_again(rounds: usize) {
    let mut chance = Chance::new();
    let mut node = Node::start(Target::Ottla, Options::with(&BUSY));
    let topic = create_topic(
        &mut Connection::open(node.socket()).unwrap(),
        "t",
        SHAPE.partitions,
        &[],
    );
    let mut load = Load::begin(&node, &topic, SHAPE);
    let (mut counted, mut batches) = (0, 0);
    while counted < rounds {
        counted += usize::from(kill_under(&load, &mut node, &mut chance));
        node.launch();
        batches += load.settle();
    }
    let acknowledged = load.acknowledged();
    load.stop();
    eprintln!("{counted} kills with {IN_FLIGHT_MIN} requests and more in flight; {batches} batches compared");
    assert!(batches >= acknowledged);
}

#[test]
fn nothing_acknowledged_is_lost_by_kills() {
    kill_again_and_again(25);
}

#[test]
#[ignore = "takes minutes: runs in ./dev stress"]
fn nothing_acknowledged_is_lost_by_hundreds_of_kills() {
    kill_again_and_again(250);
}
