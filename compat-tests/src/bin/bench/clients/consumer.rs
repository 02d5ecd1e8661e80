//! Members of groups of the consumer protocol (KIP-848), which do what Java's consumer does, and no more.
use std::sync::{Barrier, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ConsumerGroupHeartbeatRequest;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::protocol::StrBytes;
use ottla_compat_tests::chance::Chance;
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, text, topic_name};

use super::STACK_BYTES;

const VERSION: i16 = 1;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;

/// The epochs of those who come and of those who go.
const JOINING: i32 = 0;
const LEAVING: i32 = -1;

/// How long a group may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A member with a connection of its own.
struct Member {
    connection: Connection,
    topic: Topic,
    group: String,
    id: StrBytes,
    epoch: i32,
    /// What it has, in order.
    owned: Vec<i32>,
    /// The coordinator knows what it has.
    is_told: bool,
    /// When it is to tell again that it is there.
    due: Instant,
}

/// How many members have what they will have in the end, and since when all have it.
struct Settled {
    state: Mutex<(usize, Option<Instant>)>,
    changed: Condvar,
}

/// Lets so many members join a group at once, and leave in the end; returns how long it took until each had its share of the
/// partitions, the same for all, and the coordinator knew. Nobody has just that before all have joined.
pub fn form_and_leave(node: &Node, topic: &Topic, group: &str, count: usize, share: usize) -> Duration {
    let mut chance = Chance::seeded(1);
    let mut members: Vec<_> = (0..count)
        .map(|_| Member::open(node, topic, group, &mut chance))
        .collect();
    let start = Barrier::new(count + 1);
    let settled = Settled {
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        for member in &mut members {
            let work = || {
                start.wait();
                member.heartbeat_until(&settled, count, share);
                member.epoch = LEAVING;
                member.heartbeat();
            };
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, work).expect("thread");
        }
        start.wait();
        let begun = Instant::now();
        let state = settled.lock();
        let waited = settled
            .changed
            .wait_timeout_while(state, LIMIT, |(_, since)| since.is_none());
        let (state, _) = waited.expect("members");
        let (ready, since) = *state;
        drop(state);
        match since {
            Some(since) => since.duration_since(begun),
            None => {
                // The others wait for this, too.
                eprintln!("{ready} of {count} members have their share after {LIMIT:?}");
                std::process::exit(2);
            }
        }
    })
}

impl Settled {
    fn lock(&self) -> MutexGuard<'_, (usize, Option<Instant>)> {
        self.state.lock().expect("members")
    }
}

impl Member {
    fn open(node: &Node, topic: &Topic, group: &str, chance: &mut Chance) -> Self {
        Self {
            connection: Connection::open(node.socket()).expect("connection"),
            topic: topic.clone(),
            group: group.to_owned(),
            id: text(&uuid::Uuid::from_u64_pair(chance.draw(), chance.draw()).to_string()),
            epoch: JOINING,
            owned: Vec::new(),
            is_told: true,
            due: Instant::now(),
        }
    }

    /// Heartbeats when it is time or something is to be told, until all members have their share.
    fn heartbeat_until(&mut self, settled: &Settled, count: usize, share: usize) {
        let mut has_share = false;
        loop {
            self.heartbeat();
            let mut state = settled.lock();
            let had_share = std::mem::replace(&mut has_share, self.is_told && self.owned.len() == share);
            match (had_share, has_share) {
                (false, true) => state.0 += 1,
                (true, false) => state.0 -= 1,
                _ => {}
            }
            if state.0 == count && state.1.is_none() {
                state.1 = Some(Instant::now());
                settled.changed.notify_all();
            }
            if self.is_told {
                let wait = self.due.saturating_duration_since(Instant::now());
                let waited = settled
                    .changed
                    .wait_timeout_while(state, wait, |(_, since)| since.is_none());
                state = waited.expect("members").0;
            }
            if state.1.is_some() {
                return;
            }
        }
    }

    /// Sends what changed since the last one, and takes what it is assigned.
    fn heartbeat(&mut self) {
        let partitions = TopicPartitions::default()
            .with_topic_id(self.topic.id)
            .with_partitions(self.owned.clone());
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(&self.group).into())
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(-1)
            .with_subscribed_topic_names(None)
            .with_topic_partitions((!self.is_told).then(|| vec![partitions]));
        if self.epoch == JOINING {
            request = request
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_subscribed_topic_names(Some(vec![topic_name(&self.topic.name)]))
                .with_topic_partitions(Some(Vec::new()));
        }
        let answer = self.connection.call(VERSION, &request).expect("answer");
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.epoch = answer.member_epoch;
        self.due = Instant::now() + Duration::from_millis(answer.heartbeat_interval_ms as u64);
        self.is_told = true;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions;
            let mut assigned: Vec<_> = topics.into_iter().flat_map(|topic| topic.partitions).collect();
            assigned.sort_unstable();
            self.is_told = assigned == self.owned;
            self.owned = assigned;
        }
    }
}
