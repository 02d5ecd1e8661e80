//! From when a record is due to be sent until a consumer has it.
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, at, fetch, list_offsets};

use crate::clients::{batches, producer};
use crate::session::Session;

const EVERY: Duration = Duration::from_millis(1);
const COUNT: u32 = 10_000;
const FETCH_VERSION: i16 = 17;
const MAX_WAIT_MS: i32 = 500;

/// The load beside it: 100 MB/s of values in batches of 64 KiB.
const LOAD_EVERY: Duration = Duration::from_nanos(655_360);
const LOAD_RECORDS: usize = 64;

/// Less is worth saying.
const LOAD_MB_PER_S_MIN: f64 = 95.0;

/// Until all threads are there.
const LEAD: Duration = Duration::from_millis(100);

/// Both brokers, with or without load on another topic.
pub fn run(session: &mut Session, is_loaded: bool) {
    let mut others = [None, None];
    session.side_by_side(1, |session, side, node, topic, counts| {
        let other = &mut others[side as usize];
        if is_loaded && other.is_none() {
            *other = Some(session.create_topic(side, node, "load", 1));
        }
        let mut sampled = Sampled::default();
        session.measure(side, node, counts, || {
            sampled = sample(node, topic, other.as_ref());
            sampled.times.len() as u64
        });
        let Sampled {
            mut times,
            load_mb_per_s,
        } = sampled;
        times.sort_unstable();
        if counts {
            if let Some(reached) = load_mb_per_s.filter(|reached| *reached < LOAD_MB_PER_S_MIN) {
                session.note(format!("{side:?} took only {reached:.0} MB/s of the load in a round."));
            }
            for (figure, part) in [0.5, 0.99, 0.999].into_iter().enumerate() {
                let place = (times.len() as f64 * part) as usize;
                session.add(side, figure, times[place].as_secs_f64() * 1e6);
            }
        }
    });
}

#[derive(Default)]
struct Sampled {
    /// How long each record took.
    times: Vec<Duration>,
    /// What the other topic took meanwhile.
    load_mb_per_s: Option<f64>,
}

/// Records at their rate, while another topic is loaded or not.
fn sample(node: &Node, topic: &Topic, other: Option<&Topic>) -> Sampled {
    let mut producer = producer::open(node, topic, 0, &[batches::plain(1, 100)]);
    let mut consumer = Consumer::at_end(node, topic);
    let load = other.map(|other| producer::open(node, other, 0, &[batches::plain(LOAD_RECORDS, 1024)]));
    let begin = Instant::now() + LEAD;
    thread::scope(|scope| {
        let load = load.map(|mut load| {
            let count = (EVERY * COUNT).div_duration_f64(LOAD_EVERY) as u32;
            scope.spawn(move || {
                load.on_schedule(begin, LOAD_EVERY, count);
                f64::from(count) * (LOAD_RECORDS * 1024) as f64 / begin.elapsed().as_secs_f64() / 1e6
            })
        });
        scope.spawn(|| producer.on_schedule(begin, EVERY, COUNT));
        let times = consumer.receive(begin);
        Sampled {
            times,
            load_mb_per_s: load.map(|load| load.join().expect("load")),
        }
    })
}

/// Long-polls one partition.
struct Consumer {
    connection: Connection,
    topic: Topic,
    offset: i64,
}

impl Consumer {
    fn at_end(node: &Node, topic: &Topic) -> Self {
        let mut connection = Connection::open(node.socket()).expect("connection");
        let answer = connection.call(7, &list_offsets(topic, &[(0, -1)])).expect("answer");
        Self {
            connection,
            topic: topic.clone(),
            offset: answer.topics[0].partitions[0].offset,
        }
    }

    /// Waits for all records; returns how long each took since it was due.
    fn receive(&mut self, begin: Instant) -> Vec<Duration> {
        let (mut samples, mut due) = (Vec::new(), begin);
        while samples.len() < COUNT as usize {
            let records = self.poll();
            let now = Instant::now();
            for _ in 0..count_records(&records) {
                samples.push(now.saturating_duration_since(due));
                due += EVERY;
                self.offset += 1;
            }
        }
        samples
    }

    fn poll(&mut self) -> Bytes {
        let request = fetch(FETCH_VERSION, &self.topic, vec![at(0, self.offset)]).with_max_wait_ms(MAX_WAIT_MS);
        let mut answer = self.connection.call(FETCH_VERSION, &request).expect("answer");
        let Some(topic) = answer.responses.first_mut() else {
            return Bytes::new();
        };
        let partition = topic.partitions.remove(0);
        assert_eq!(partition.error_code, 0, "{partition:?}");
        partition.records.unwrap_or_default()
    }
}

/// Each batch has one record.
fn count_records(mut batches: &[u8]) -> usize {
    let mut count = 0;
    while let Some(size) = batches.get(8..12).and_then(|size| size.first_chunk()) {
        batches = batches
            .get(12 + u32::from_be_bytes(*size) as usize..)
            .unwrap_or_default();
        count += 1;
    }
    count
}
