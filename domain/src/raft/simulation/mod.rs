//! A cluster in one thread, driven from a seed: replicas with disks that lose what was not synced, over a network that
//! loses, delays, reorders and repeats messages. Every effect is checked against what Raft promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::control::ControlRecord;
use super::messages::{ReplyResult, Request};
use super::voters::{Endpoint, Endpoints, KRaftVersion, ReplicaKey, Voter, VoterSet};
use super::*;
use crate::error::ErrorCode;
use crate::ids::{BrokerId, DirectoryId, LeaderEpoch, Mono, Offset, Timestamp};
use crate::log::epochs::{EpochEntry, LeaderEpochHistory};
use crate::record::batch::RecordBatch;
use crate::record::records::BatchBuilder;

mod checks;
mod disk;

use disk::{Disk, framing, snapshot_records};

const MS: u64 = 1_000_000;
const LISTENER: &str = "CONTROLLER";

/// How hostile the world is.
#[derive(Clone, Debug)]
struct World {
    seed: u64,
    voters: usize,
    observers: usize,
    /// Voters in the log (`kraft.version` 1) instead of static ones.
    is_dynamic: bool,
    loss_percent: u64,
    delay_max_ms: u64,
    crashes_per_minute: u64,
    partitions_per_minute: u64,
    snapshots_per_minute: u64,
    chaos_ms: u64,
}

fn world(voters: usize) -> impl Strategy<Value = World> {
    (
        any::<u64>(),
        0..2usize,
        any::<bool>(),
        0..40u64,
        prop_oneof![Just(5), Just(50), Just(1_500)],
        0..60u64,
        0..30u64,
        0..30u64,
        10_000..60_000u64,
    )
        .prop_map(
            move |(seed, observers, is_dynamic, loss, delay, crashes, partitions, snapshots, chaos_ms)| World {
                seed,
                voters,
                observers,
                is_dynamic,
                loss_percent: loss,
                delay_max_ms: delay,
                crashes_per_minute: crashes,
                partitions_per_minute: partitions,
                snapshots_per_minute: snapshots,
                chaos_ms,
            },
        )
}

struct Node {
    key: ReplicaKey,
    disk: Disk,
    raft: Option<Raft>,
    up_at: u64,
    partial: Option<(SnapshotId, Vec<u8>)>,
    tokens: BTreeMap<Token, Origin>,
    incarnation: u64,
    epoch_seen: LeaderEpoch,
    high_watermark: Option<(LeaderEpoch, Offset)>,
    verified: usize,
}

/// Where a request came from; `vote` is the candidate of a binding vote.
struct Origin {
    to: usize,
    incarnation: u64,
    peer: Peer,
    correlation: u64,
    vote: Option<ReplicaKey>,
}

enum Message {
    Request {
        from: usize,
        incarnation: u64,
        peer: Peer,
        correlation: u64,
        request: Request,
    },
    Reply {
        incarnation: u64,
        peer: Peer,
        correlation: u64,
        reply: ReplyResult,
    },
}

struct Cluster {
    world: World,
    rng: Moment,
    now: u64,
    nodes: Vec<Node>,
    voters: VoterSet,
    queue: BTreeMap<(u64, u64), (usize, Message)>,
    sequence: u64,
    groups: Vec<u64>,
    leaders: BTreeMap<LeaderEpoch, BrokerId>,
    committed: Vec<RecordBatch>,
    /// The least and the largest high watermark that each epoch's leader told of.
    shown: BTreeMap<LeaderEpoch, (Offset, Offset)>,
    is_healed: bool,
    trace: bool,
}

fn endpoints(id: i32) -> Endpoints {
    Endpoints(vec![Endpoint {
        listener: LISTENER.into(),
        host: format!("node{id}").into(),
        port: 9093,
    }])
}

impl Cluster {
    fn new(world: World) -> Cluster {
        let key = |id: usize| ReplicaKey {
            id: BrokerId(id as i32),
            directory: Some(DirectoryId(Uuid::from_u128(1_000 + id as u128))),
        };
        let voters: VoterSet = (0..world.voters)
            .map(|id| Voter {
                key: if world.is_dynamic {
                    key(id)
                } else {
                    ReplicaKey {
                        id: BrokerId(id as i32),
                        directory: None,
                    }
                },
                endpoints: endpoints(id as i32),
                min_kraft_version: KRaftVersion(0),
                max_kraft_version: KRaftVersion(1),
            })
            .collect();
        let nodes = (0..world.voters + world.observers)
            .map(|id| Node {
                key: key(id),
                disk: Disk::default(),
                raft: None,
                up_at: 0,
                partial: None,
                tokens: BTreeMap::new(),
                incarnation: 0,
                epoch_seen: LeaderEpoch(0),
                high_watermark: None,
                verified: 0,
            })
            .collect::<Vec<_>>();
        Cluster {
            rng: Moment {
                entropy: world.seed,
                ..Moment::default()
            },
            now: 1_000 * MS,
            groups: vec![0; nodes.len()],
            nodes,
            voters,
            queue: BTreeMap::new(),
            sequence: 0,
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            shown: BTreeMap::new(),
            is_healed: false,
            trace: std::env::var_os("OTTLA_RAFT_TRACE").is_some(),
            world,
        }
    }

    fn at(&mut self) -> Moment {
        Moment {
            mono: Mono(self.now),
            wall: Timestamp(self.now as i64 / MS as i64),
            entropy: self.rng.draw(u64::MAX),
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.draw(100) < percent
    }

    fn start(&mut self, index: usize) {
        let at = self.at();
        let node = &mut self.nodes[index];
        let disk = &mut node.disk;
        // A crash between the snapshot and the log's replacement.
        if let Some(latest) = disk.snapshots.keys().last().copied()
            && latest.end_offset > disk.end()
        {
            disk.replace_by(latest);
        }
        let mut epochs = LeaderEpochHistory::from_entries(disk.log().iter().map(|batch| EpochEntry {
            epoch: batch.header.partition_leader_epoch,
            start_offset: batch.header.base_offset,
        }));
        epochs.truncate_from_start(disk.log_start);
        let static_voters = if self.world.is_dynamic {
            VoterSet::default()
        } else {
            self.voters.clone()
        };
        let mut log = ReplicatedLog::new(
            static_voters,
            disk.log_start,
            disk.end(),
            epochs,
            disk.snapshots.keys().copied(),
        );
        if let Some((id, bytes)) = disk.snapshots.last_key_value() {
            log.learn_snapshot(*id, snapshot_records(bytes));
        } else if self.world.is_dynamic {
            let records = [
                ControlRecord::KRaftVersion(KRaftVersion(1)),
                ControlRecord::Voters(self.voters.clone()),
            ];
            log.learn_snapshot(SnapshotId::BOOTSTRAP, records);
        }
        for batch in disk.log() {
            log.learn(batch).unwrap();
        }
        let identity = Identity {
            local: Voter {
                key: node.key,
                endpoints: endpoints(node.key.id.0),
                min_kraft_version: KRaftVersion(0),
                max_kraft_version: KRaftVersion(1),
            },
            can_become_voter: index < self.world.voters,
            cluster_id: "cluster".into(),
            listener: LISTENER.into(),
            bootstrap: (0..self.world.voters)
                .map(|id| (Arc::from(format!("node{id}")), 9093))
                .collect(),
        };
        let config = QuorumConfig {
            fetch_max_bytes: 400,
            fetch_snapshot_max_bytes: 300,
            ..QuorumConfig::default()
        };
        let (raft, effects) = Raft::new(identity, config, log, disk.election.clone(), at).unwrap();
        node.raft = Some(raft);
        node.incarnation += 1;
        self.perform(index, effects);
    }

    /// A crash: batches that were not synced are lost, or some of them.
    fn crash(&mut self, index: usize) {
        let down_ms = self.rng.draw(3_000);
        let unsynced = self.nodes[index].disk.history.len() - self.nodes[index].disk.synced;
        let kept = self.rng.draw(unsynced as u64 + 1) as usize;
        let node = &mut self.nodes[index];
        node.disk.history.truncate(node.disk.synced + kept);
        node.disk.synced += kept;
        node.raft = None;
        node.partial = None;
        node.tokens.clear();
        node.high_watermark = None;
        node.verified = 0;
        node.up_at = self.now + down_ms * MS;
        if self.trace {
            println!("{} node {index} crashes", self.now / MS);
        }
    }

    fn step(&mut self, index: usize, input: Input) {
        let at = self.at();
        let Some(raft) = self.nodes[index].raft.as_mut() else {
            return;
        };
        if self.trace && !matches!(input, Input::Tick) {
            println!("{} node {index} {}: {input:?}", at.mono.0 / MS, raft.state_name());
        }
        let effects = raft
            .step(at, input)
            .unwrap_or_else(|fault| panic!("node {index}: {fault}"));
        self.perform(index, effects);
    }

    fn perform(&mut self, index: usize, mut effects: Effects) {
        let crash_at = if !self.is_healed && self.world.crashes_per_minute > 0 && self.rng.draw(500) == 0 {
            self.rng.draw(6)
        } else {
            u64::MAX
        };
        let node = &mut self.nodes[index];
        let disk = &mut node.disk;
        if crash_at == 0 {
            return self.crash(index);
        }
        if let Some(election) = effects.persist.take() {
            if let Some(old) = &disk.election
                && old.epoch == election.epoch
                && old.voted.is_some()
                && election.leader != Some(node.key.id)
            {
                assert_eq!(
                    old.voted, election.voted,
                    "node {index} changed its vote in epoch {}",
                    old.epoch
                );
            }
            assert!(
                election.epoch >= node.epoch_seen,
                "node {index} went back to epoch {}",
                election.epoch
            );
            node.epoch_seen = election.epoch;
            disk.election = Some(election);
        }
        if crash_at == 1 {
            return self.crash(index);
        }
        if let Some(end) = effects.truncate {
            let count = disk.count_below(end);
            disk.history.truncate(count);
            assert_eq!(disk.end(), end);
            disk.synced = disk.synced.min(count);
            node.verified = node.verified.min(count);
        }
        for batch in effects.append.drain(..) {
            assert_eq!(batch.header.base_offset, disk.end());
            disk.history.push(batch);
        }
        if crash_at == 2 {
            return self.crash(index);
        }
        if effects.sync {
            disk.synced = disk.history.len();
        }
        if crash_at == 3 {
            return self.crash(index);
        }
        let mut installed = None;
        if let Some(piece) = effects.snapshot.take() {
            let partial = node.partial.get_or_insert((piece.id, Vec::new()));
            if piece.position == 0 {
                *partial = (piece.id, Vec::new());
            }
            assert_eq!((piece.id, piece.position), (partial.0, partial.1.len() as i64));
            partial.1.extend_from_slice(&piece.bytes);
            if piece.is_last {
                let bytes = Bytes::from(node.partial.take().unwrap().1);
                let records = snapshot_records(&bytes);
                disk.snapshots.insert(piece.id, bytes);
                if crash_at == 4 {
                    return self.crash(index);
                }
                disk.replace_by(piece.id);
                node.verified = 0;
                installed = Some(Input::SnapshotInstalled { id: piece.id, records });
            }
        }
        self.check(index, &effects, installed.is_some());
        for outgoing in effects.sends {
            let to = match outgoing.to {
                Peer::Node(id) => id.0 as usize,
                Peer::Bootstrap(index) => index,
            };
            let message = Message::Request {
                from: index,
                incarnation: self.nodes[index].incarnation,
                peer: outgoing.to,
                correlation: outgoing.correlation,
                request: outgoing.request,
            };
            self.post(index, to, message);
        }
        for Answer { token, mut reply, read } in effects.answers {
            let Some(Origin {
                to,
                incarnation,
                peer,
                correlation,
                ..
            }) = self.nodes[index].tokens.remove(&token)
            else {
                panic!("node {index} answers {token:?} twice");
            };
            if let Some(read) = read {
                self.nodes[index].disk.read_into(read, &mut reply);
            }
            self.post(
                index,
                to,
                Message::Reply {
                    incarnation,
                    peer,
                    correlation,
                    reply,
                },
            );
        }
        if let Some(installed) = installed {
            self.step(index, installed);
        }
    }

    fn post(&mut self, from: usize, to: usize, message: Message) {
        if !self.is_healed {
            if self.groups[from] != self.groups[to] || self.chance(self.world.loss_percent) {
                return;
            }
            if matches!(message, Message::Request { .. }) && self.chance(3) {
                let Message::Request {
                    peer,
                    correlation,
                    incarnation,
                    ..
                } = message
                else {
                    unreachable!()
                };
                let reply = Err(ErrorCode::NetworkException);
                return self.enqueue(
                    from,
                    Message::Reply {
                        incarnation,
                        peer,
                        correlation,
                        reply,
                    },
                );
            }
            if let Message::Request {
                from,
                incarnation,
                peer,
                correlation,
                request,
            } = &message
                && self.chance(5)
            {
                let copy = Message::Request {
                    from: *from,
                    incarnation: *incarnation,
                    peer: *peer,
                    correlation: *correlation,
                    request: request.clone(),
                };
                self.enqueue(to, copy);
            }
        }
        self.enqueue(to, message);
    }

    fn enqueue(&mut self, to: usize, message: Message) {
        let delay_ms = if self.is_healed { 2 } else { self.world.delay_max_ms };
        let at = self.now + self.rng.draw(delay_ms * MS) + 1;
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (to, message));
    }

    fn deliver(&mut self, to: usize, message: Message) {
        match message {
            Message::Request {
                from,
                incarnation,
                peer,
                correlation,
                request,
            } => {
                self.sequence += 1;
                let token = Token(self.sequence);
                if self.nodes[to].raft.is_some() {
                    let vote = match &request {
                        Request::Vote(vote) => (!vote.pre_vote).then_some(vote.candidate),
                        _ => None,
                    };
                    self.nodes[to].tokens.insert(
                        token,
                        Origin {
                            to: from,
                            incarnation,
                            peer,
                            correlation,
                            vote,
                        },
                    );
                    self.step(to, Input::Request { token, request });
                }
            }
            Message::Reply {
                incarnation,
                peer,
                correlation,
                reply,
            } => {
                if self.nodes[to].incarnation == incarnation {
                    self.step(
                        to,
                        Input::Reply {
                            from: peer,
                            correlation,
                            reply,
                        },
                    );
                }
            }
        }
    }

    fn run(&mut self, until: u64) {
        while self.now < until {
            let mut next = self.now + 5 * MS;
            if let Some(((at, _), _)) = self.queue.first_key_value() {
                next = next.min(*at);
            }
            for node in &self.nodes {
                match &node.raft {
                    Some(raft) => next = raft.next_deadline().map_or(next, |at| next.min(at.0)),
                    None => next = next.min(node.up_at),
                }
            }
            if next > self.now {
                let passed_ms = (next / MS).saturating_sub(self.now / MS);
                self.now = next;
                for _ in 0..passed_ms {
                    self.trouble();
                }
            }
            for index in 0..self.nodes.len() {
                let node = &self.nodes[index];
                match &node.raft {
                    None if node.up_at <= self.now => self.start(index),
                    Some(raft) if raft.next_deadline().is_some_and(|at| at.0 <= self.now) => {
                        self.step(index, Input::Tick);
                        let raft = self.nodes[index].raft.as_ref();
                        assert!(
                            raft.is_none_or(|raft| raft.next_deadline().is_none_or(|at| at.0 > self.now)),
                            "node {index} has a deadline that does not pass"
                        );
                    }
                    _ => {}
                }
            }
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let (to, message) = entry.remove();
                self.deliver(to, message);
            }
        }
    }

    /// What may happen in a millisecond.
    fn trouble(&mut self) {
        if self.rng.draw(25) == 0 {
            self.propose();
        }
        let per_minute = |rng: &mut Moment, rate: u64| rng.draw(60_000) < rate;
        if per_minute(&mut self.rng, self.world.snapshots_per_minute) {
            self.snapshot();
        }
        if self.is_healed {
            return;
        }
        if per_minute(&mut self.rng, self.world.crashes_per_minute) {
            let index = self.rng.draw(self.nodes.len() as u64) as usize;
            if self.nodes[index].raft.is_some() {
                self.crash(index);
            }
        }
        if per_minute(&mut self.rng, self.world.partitions_per_minute) {
            for index in 0..self.groups.len() {
                self.groups[index] = self.rng.draw(2);
            }
        }
        if per_minute(&mut self.rng, self.world.partitions_per_minute) {
            self.groups.fill(0);
        }
        if per_minute(&mut self.rng, 3) {
            let index = self.rng.draw(self.nodes.len() as u64) as usize;
            if let Some(epoch) = self.nodes[index].raft.as_ref().map(Raft::epoch) {
                self.step(index, Input::Resign(epoch));
            }
        }
    }

    fn propose(&mut self) {
        let index = self.rng.draw(self.nodes.len() as u64) as usize;
        let Some(raft) = &self.nodes[index].raft else {
            return;
        };
        let Some(base_offset) = raft.leading(raft.epoch()) else {
            return;
        };
        let mut builder = BatchBuilder::new(base_offset);
        builder.partition_leader_epoch = raft.epoch();
        for _ in 0..=self.rng.draw(3) {
            self.sequence += 1;
            builder.append(Timestamp(1), None, Some(&self.sequence.to_be_bytes()));
        }
        self.step(index, Input::Append(vec![builder.build()]));
    }

    fn snapshot(&mut self) {
        let index = self.rng.draw(self.nodes.len() as u64) as usize;
        let moves_start = self.chance(60);
        let node = &mut self.nodes[index];
        let Some(raft) = &node.raft else {
            return;
        };
        let Some(end_offset) = raft.high_watermark().filter(|end| *end > raft.log().start()) else {
            return;
        };
        let count = node.disk.count_below(end_offset);
        let id = SnapshotId {
            end_offset,
            epoch: node.disk.history[count - 1].header.partition_leader_epoch,
        };
        if raft.log().has_snapshot(id) {
            return;
        }
        let (version, voters) = raft.log().quorum_at(end_offset);
        let mut records = vec![ControlRecord::SnapshotHeader {
            last_contained_log_timestamp: Timestamp(1),
        }];
        if version.has_dynamic_voters() {
            records.push(ControlRecord::KRaftVersion(version));
            records.push(ControlRecord::Voters(voters.unwrap().clone()));
        }
        let mut bytes = framing(id, &records).to_vec();
        for batch in &node.disk.history[..count] {
            bytes.extend_from_slice(batch.bytes());
        }
        bytes.extend_from_slice(&framing(id, &[ControlRecord::SnapshotFooter]));
        node.disk.snapshots.insert(id, bytes.into());
        self.step(index, Input::SnapshotFrozen(id));
        let node = &mut self.nodes[index];
        if moves_start && node.raft.is_some() {
            node.disk.snapshots.retain(|known, _| *known >= id);
            node.disk.log_start = end_offset;
            self.step(index, Input::LogStartAdvanced(id));
        }
    }

    /// Once all is well, there is a leader, it commits, and everyone follows.
    fn heal_and_check(&mut self) {
        self.is_healed = true;
        self.groups.fill(0);
        let committed = self.committed.len();
        self.run(self.now + 10_000 * MS);
        let goal = self.committed.last().map(|batch| batch.header.next_offset());
        // Long enough to fetch a snapshot in small pieces.
        self.run(self.now + 5_000 * MS);
        assert!(
            self.committed.len() > committed + 20,
            "only {} batches were committed after the network healed",
            self.committed.len() - committed
        );
        let (end, states): (Vec<_>, Vec<_>) = self
            .nodes
            .iter()
            .map(|node| {
                let raft = node.raft.as_ref().unwrap();
                (raft.high_watermark(), raft.state_name())
            })
            .unzip();
        assert!(
            end.iter().all(|high_watermark| *high_watermark >= goal),
            "{end:?} {states:?} {goal:?}"
        );
        assert_eq!(states.iter().filter(|state| **state == "leader").count(), 1);
    }
}

fn survive(world: World) {
    let until = world.chaos_ms * MS;
    let mut cluster = Cluster::new(world);
    cluster.run(cluster.now + until);
    cluster.heal_and_check();
    let snapshots: BTreeSet<_> = cluster
        .nodes
        .iter()
        .flat_map(|node| node.disk.snapshots.keys())
        .collect();
    if cluster.trace {
        println!(
            "{} committed, {} epochs, {} snapshots",
            cluster.committed.len(),
            cluster.leaders.len(),
            snapshots.len()
        );
    }
}

/// `OTTLA_RAFT_CASES` sets how many worlds of each size are tried.
fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("OTTLA_RAFT_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(default),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn three_voters_keep_what_they_commit(world in world(3)) {
        survive(world);
    }
}

proptest! {
    #![proptest_config(cases(150))]
    #[test]
    fn five_voters_keep_what_they_commit(world in world(5)) {
        survive(world);
    }
}

proptest! {
    #![proptest_config(cases(60))]
    #[test]
    fn one_and_two_voters_keep_what_they_commit(world in (1..3usize).prop_flat_map(world)) {
        survive(world);
    }
}
