//! Consumers that wait for records that never come, and no consumers at all.
use std::thread;
use std::time::{Duration, Instant};

use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, at, fetch};
use ottla_compat_tests::usage::Work;

use crate::clients::STACK_BYTES;
use crate::session::Session;

const CONSUMERS: usize = 1000;
const PARTITIONS: i32 = 100;
const TIME: Duration = Duration::from_secs(8);
const MAX_WAIT_MS: i32 = 500;
const VERSION: i16 = 17;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;

/// What a broker still does after its first answer is no idling.
const SETTLED: Duration = Duration::from_secs(3);

/// Both brokers with consumers.
pub fn run(session: &mut Session) {
    let mut all = [Vec::new(), Vec::new()];
    session.side_by_side(PARTITIONS, |session, side, node, topic, counts| {
        let consumers = &mut all[side as usize];
        if consumers.is_empty() {
            consumers.extend((0..CONSUMERS).map(|place| Consumer::open(node, topic, place as i32 % PARTITIONS)));
        }
        let work = session.measure(side, node, counts, || poll_all(consumers));
        if counts {
            session.add(side, 0, busy_ms_per_s(&work));
        }
    });
}

/// Both brokers alone.
pub fn idle(session: &mut Session) {
    session.side_by_side(1, |session, side, node, _, counts| {
        let work = session.measure(side, node, counts, || {
            thread::sleep(if counts { TIME } else { SETTLED });
            1
        });
        if counts {
            session.add(side, 0, busy_ms_per_s(&work));
        }
    });
}

fn busy_ms_per_s(work: &Work) -> f64 {
    work.broker.as_secs_f64() * 1e3 / work.time.as_secs_f64()
}

/// Lets all consumers poll for a while; returns how often they did.
fn poll_all(consumers: &mut [Consumer]) -> u64 {
    let begun = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = consumers
            .iter_mut()
            .map(|consumer| {
                let work = move || {
                    let mut count = 0;
                    while begun.elapsed() < TIME {
                        consumer.poll();
                        count += 1;
                    }
                    count
                };
                let thread = thread::Builder::new().stack_size(STACK_BYTES);
                thread.spawn_scoped(scope, work).expect("thread")
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("consumer")).sum()
    })
}

/// A consumer of one partition, with a fetch session as long as the broker has room for it.
struct Consumer {
    connection: Connection,
    topic: Topic,
    partition: i32,
    /// Id and next epoch; zeros ask for a session.
    session: (i32, i32),
}

impl Consumer {
    fn open(node: &Node, topic: &Topic, partition: i32) -> Self {
        Self {
            connection: Connection::open(node.socket()).expect("connection"),
            topic: topic.clone(),
            partition,
            session: (0, 0),
        }
    }

    fn poll(&mut self) {
        let (id, epoch) = self.session;
        let mut request = fetch(VERSION, &self.topic, vec![at(self.partition, 0)])
            .with_max_wait_ms(MAX_WAIT_MS)
            .with_session_id(id)
            .with_session_epoch(epoch);
        if id != 0 {
            // The session knows the partition.
            request.topics.clear();
        }
        let answer = self.connection.call(VERSION, &request).expect("answer");
        self.session = match (answer.error_code, answer.session_id) {
            (0, 0) | (FETCH_SESSION_ID_NOT_FOUND, _) => (0, 0),
            (0, id) => (id, epoch + 1),
            (error, _) => panic!("error code {error}"),
        };
    }
}
