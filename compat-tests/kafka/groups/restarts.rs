//! The broker stops or is killed in the middle of commits and rebalances: what it acknowledged is there afterwards, groups come
//! back, and their members go on.
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DescribeGroupsRequest};
use ottla_compat_tests::chance::Chance;
use ottla_compat_tests::node::{Node, Options};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::scenario::{Case, Session, wait_within};
use ottla_compat_tests::transcript::now_ms;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message};

use super::members::{group, join, protocol};
use super::offsets::{commit, committed};
use super::ready;
use crate::wire::{Topic, Wire, append, text, topic_name};

pub const CASES: &[Case] = &[
    Case::code("groups-under-restarts", |s| restarts(s, 3)),
    Case::code("groups-under-many-restarts", |s| restarts(s, 30)).long(),
];

const PARTITIONS: i32 = 4;
/// Written to each partition in a round.
const RECORDS: i64 = 200;
/// Groups without members.
const COMMITTERS: usize = 4;
const MEMBERS: usize = 2;
/// How long a group may take to come back: longer than any session of its members.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until the node ends at the latest, once a rebalance began.
const UNTIL_END_MAX_MS: usize = 200;

fn options() -> Options {
    let mut options = super::options();
    let more = [
        "offsets.topic.num.partitions=4",
        "group.consumer.min.session.timeout.ms=1000",
        "group.consumer.session.timeout.ms=3000",
    ];
    options.properties.extend(more.map(String::from));
    options
}

/// Commits one offset after the other to a group of its own.
struct Committer {
    group: String,
    shared: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Progress {
    acknowledged: AtomicI64,
    is_paused: AtomicBool,
    is_idle: AtomicBool,
    is_stopped: AtomicBool,
}

impl Committer {
    fn start(address: SocketAddr, topic: &Topic, group: String) -> Self {
        let shared = Arc::new(Progress::default());
        let (name, topic, of_thread) = (group.clone(), topic.name.clone(), Arc::clone(&shared));
        let thread = thread::spawn(move || of_thread.commit(address, &name, &topic));
        Self {
            group,
            shared,
            thread: Some(thread),
        }
    }

    fn acknowledged(&self) -> i64 {
        self.shared.acknowledged.load(SeqCst)
    }

    /// Returns once it sends nothing any more.
    fn pause(&self) {
        self.shared.is_paused.store(true, SeqCst);
        wait_within(
            PATIENCE,
            || self.shared.is_idle.load(SeqCst).then_some(()),
            || format!("{} does not pause", self.group),
        );
    }

    fn go_on(&self) {
        self.shared.is_paused.store(false, SeqCst);
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Progress {
    fn commit(&self, address: SocketAddr, group: &str, topic: &str) {
        let mut connection = None;
        while !self.is_stopped.load(SeqCst) {
            let is_paused = self.is_paused.load(SeqCst);
            self.is_idle.store(is_paused, SeqCst);
            if is_paused || self.commit_next(&mut connection, address, group, topic).is_none() {
                sleep(Duration::from_millis(2));
            }
        }
    }

    /// Nothing while the broker is away or loads the group: then the same offset is next.
    fn commit_next(
        &self,
        connection: &mut Option<Connection>,
        address: SocketAddr,
        group: &str,
        topic: &str,
    ) -> Option<()> {
        let mut open = connection.take().or_else(|| Connection::open(address).ok())?;
        let next = self.acknowledged.load(SeqCst) + 1;
        let answer = open.call(8, &commit(8, group, topic, &[(0, next, -1, None)])).ok()?;
        *connection = Some(open);
        let is_acknowledged = answer.topics[0].partitions[0].error_code == 0;
        is_acknowledged.then(|| self.acknowledged.store(next, SeqCst))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Range,
    CooperativeSticky,
    Consumer,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Range, Self::CooperativeSticky, Self::Consumer];

    fn assignor(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Consumer => "uniform",
        }
    }
}

/// A group with members that read the topic.
struct Group {
    name: String,
    protocol: Protocol,
    members: Vec<Member>,
    /// Partitions and offsets of all records that its members have read.
    read: Arc<Mutex<BTreeSet<(i32, i64)>>>,
    /// What it had committed when that was looked at last.
    committed: Vec<i64>,
}

impl Group {
    fn start(node: &Node, topic: &Topic, protocol: Protocol) -> Self {
        let mut started = Self {
            name: format!("{}-{protocol:?}", topic.name),
            protocol,
            members: Vec::new(),
            read: Arc::default(),
            committed: vec![-1; PARTITIONS as usize],
        };
        started.members = (0..MEMBERS).map(|_| Member::start(node, topic, &started)).collect();
        started
    }

    /// What it has committed, which is never less than before.
    fn look(&mut self, on: &mut Connection, topic: &Topic) -> &[i64] {
        let found = offsets(on, &self.name, topic, &Vec::from_iter(0..PARTITIONS));
        let went_back = found.iter().zip(&self.committed).any(|(found, before)| found < before);
        assert!(!went_back, "{} has {found:?} and had {:?}", self.name, self.committed);
        self.committed = found;
        &self.committed
    }

    /// Waits until its members have read all records below `end`, and committed that.
    fn settle(&mut self, on: &mut Connection, topic: &Topic, end: i64) {
        let name = self.name.clone();
        wait_within(
            PATIENCE,
            || self.look(on, topic).iter().all(|offset| *offset == end).then_some(()),
            || format!("{name} does not commit {end}"),
        );
        let all = (0..PARTITIONS).flat_map(|partition| (0..end).map(move |offset| (partition, offset)));
        let read = self.read.lock().unwrap();
        let skipped: Vec<_> = all.filter(|record| !read.contains(record)).collect();
        assert!(
            skipped.is_empty(),
            "{name} committed {end} and has not read {skipped:?}"
        );
        assert_eq!(read.len() as i64, end * i64::from(PARTITIONS));
    }

    /// Waits until a newcomer is noticed; false where that has passed already.
    fn wait_rebalance(&self, on: &mut Connection) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            let (state, members) = if self.protocol == Protocol::Consumer {
                let look = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&self.name)]);
                let found = on.call(0, &look).unwrap().groups.remove(0);
                (found.group_state, found.members.len())
            } else {
                let look = DescribeGroupsRequest::default().with_groups(vec![group(&self.name)]);
                let found = on.call(5, &look).unwrap().groups.remove(0);
                (found.group_state, found.members.len())
            };
            if &*state != "Stable" || members > MEMBERS {
                return true;
            }
            sleep(Duration::from_millis(5));
        }
        false
    }
}

/// A consumer in a thread of its own. It leaves its group when it is dropped.
struct Member {
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    fn start(node: &Node, topic: &Topic, of: &Group) -> Self {
        let mut config = ClientConfig::new();
        let settings = [
            ("log_level", "0"),
            ("auto.offset.reset", "earliest"),
            // An offset is committed once its record was noted.
            ("enable.auto.offset.store", "false"),
            ("auto.commit.interval.ms", "50"),
            ("fetch.wait.max.ms", "100"),
            ("reconnect.backoff.ms", "20"),
            ("reconnect.backoff.max.ms", "200"),
            ("retry.backoff.ms", "50"),
            ("topic.metadata.refresh.interval.ms", "500"),
        ];
        settings.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config
            .set("bootstrap.servers", node.bootstrap())
            .set("group.id", &of.name);
        match of.protocol {
            Protocol::Consumer => config.set("group.protocol", "consumer"),
            _ => config
                .set("partition.assignment.strategy", of.protocol.assignor())
                .set("session.timeout.ms", "3000")
                .set("heartbeat.interval.ms", "200"),
        };
        let consumer: BaseConsumer = config.create().expect("consumer");
        consumer.subscribe(&[topic.name.as_str()]).expect("subscribed");
        let (is_stopped, read) = (Arc::new(AtomicBool::new(false)), Arc::clone(&of.read));
        let of_thread = Arc::clone(&is_stopped);
        let thread = thread::spawn(move || {
            while !of_thread.load(SeqCst) {
                // Errors tell that the broker is away, over which librdkafka gets by itself.
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                    read.lock().unwrap().insert((message.partition(), message.offset()));
                    // Where the partition is another's by now, that one reads the record again.
                    let _ = consumer.store_offset_from_message(&message);
                }
                assert_eq!(consumer.client().fatal_error(), None);
            }
        });
        Self {
            is_stopped,
            thread: Some(thread),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.is_stopped.store(true, SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Someone who joins, and is not heard of again once this is dropped.
fn stranger(node: &Node, topic: &Topic, of: &Group, number: usize) -> Connection {
    let mut connection = Connection::open(node.socket()).unwrap();
    if of.protocol == Protocol::Consumer {
        let heartbeat = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group(&of.name))
            .with_member_id(text(&format!("stranger-{number}")))
            .with_rebalance_timeout_ms(1500)
            .with_subscribed_topic_names(Some(vec![topic_name(&topic.name)]))
            .with_topic_partitions(Some(Vec::new()));
        let answer = connection.call(1, &heartbeat).unwrap();
        assert_eq!(answer.error_code, 0, "{answer:?}");
    } else {
        let request = join(&of.name, "")
            .with_session_timeout_ms(1500)
            .with_rebalance_timeout_ms(1500)
            .with_protocols(vec![owning_nothing(protocol(of.protocol.assignor(), &topic.name))]);
        connection.send(3, &request).unwrap();
    }
    connection
}

/// The subscription in version 1, which says what a member owns: librdkafka's cooperative assignor crashes where it does not.
fn owning_nothing(protocol: JoinGroupRequestProtocol) -> JoinGroupRequestProtocol {
    let mut metadata = BytesMut::from(&protocol.metadata[..]);
    metadata[..2].copy_from_slice(&1_i16.to_be_bytes());
    metadata.put_i32(0);
    protocol.with_metadata(metadata.freeze())
}

/// What a group has committed for partitions of a topic, once it is loaded.
fn offsets(on: &mut Connection, name: &str, topic: &Topic, partitions: &[i32]) -> Vec<i64> {
    wait_within(
        PATIENCE,
        || {
            let answer = on
                .call(5, &committed(5, name, Some((topic.name.as_str(), partitions))))
                .unwrap();
            let offsets = || {
                let partitions = answer.topics[0].partitions.iter();
                partitions.map(|partition| partition.committed_offset).collect()
            };
            (answer.error_code == 0).then(offsets)
        },
        || format!("{name} is not loaded"),
    )
}

/// Writes the records of a round to each partition.
fn write(on: &mut Connection, topic: &Topic) {
    for partition in 0..PARTITIONS {
        let records = (0..RECORDS).map(|number| Record::value(number.to_string())).collect();
        append(on, topic, partition, &Batch::new(now_ms(), records));
    }
}

fn restarts(s: &mut Session, rounds: usize) {
    let mut chance = Chance::new();
    let mut node = s.start(options());
    let committing: Vec<_> = (0..COMMITTERS).map(|number| format!("committer-{number}")).collect();
    let topic = {
        let mut w = Wire::at(s, &node);
        let topic = w.create("", PARTITIONS, &[]);
        committing.iter().for_each(|name| ready(&mut w, name));
        topic
    };
    let start = |name| Committer::start(node.socket(), &topic, name);
    let committers: Vec<_> = committing.into_iter().map(start).collect();
    let mut groups = Protocol::ALL.map(|protocol| Group::start(&node, &topic, protocol));
    let mut newcomers = Vec::new();
    let mut connection = Connection::open(node.socket()).unwrap();
    write(&mut connection, &topic);
    let (mut end, mut rebalances) = (RECORDS, 0);
    for round in 0..rounds {
        for group in &mut groups {
            group.settle(&mut connection, &topic, end);
        }
        newcomers.clear();
        let before: Vec<_> = committers.iter().map(Committer::acknowledged).collect();
        wait_within(
            PATIENCE,
            || {
                let mut more = committers.iter().zip(&before);
                more.all(|(it, before)| it.acknowledged() > before + 20).then_some(())
            },
            || "commits are not acknowledged".into(),
        );
        let mut strangers = Vec::new();
        for (place, group) in groups.iter().enumerate() {
            if (round + place) % 2 == 0 {
                strangers.push(stranger(&node, &topic, group, round));
            } else {
                newcomers.push(Member::start(&node, &topic, group));
            }
        }
        write(&mut connection, &topic);
        end += RECORDS;
        rebalances += usize::from(chance.pick(&groups).wait_rebalance(&mut connection));
        sleep(Duration::from_millis(chance.below(UNTIL_END_MAX_MS) as u64));
        if round % 3 == 1 {
            let _ = node.stop();
        } else {
            node.kill();
        }
        drop(strangers);
        committers.iter().for_each(Committer::pause);
        node.launch();
        connection = Connection::open(node.socket()).unwrap();
        for committer in &committers {
            let acknowledged = committer.acknowledged();
            let found = offsets(&mut connection, &committer.group, &topic, &[0])[0];
            // The answer to one more may have been lost.
            let possible = acknowledged..=acknowledged + 1;
            assert!(
                possible.contains(&found),
                "{} has {found} of {acknowledged}",
                committer.group
            );
        }
        for group in &mut groups {
            group.look(&mut connection, &topic);
        }
        committers.iter().for_each(Committer::go_on);
    }
    eprintln!("{rebalances} of {rounds} ends were in a rebalance");
    assert!(rebalances > rounds / 2);
    for group in &mut groups {
        group.settle(&mut connection, &topic, end);
        s.note(&group.name, &group.committed);
    }
}
