//! Whole replicas: over a log in memory, with real files beside it, alone and several in one process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, DirectoryId, LeaderEpoch, Mono, Offset, Timestamp};
use ottla_domain::metadata::records::{FeatureLevelRecord, MetadataRecord};
use ottla_domain::ports::inbound::RaftApi;
use ottla_domain::ports::memory::MemoryLog;
use ottla_domain::ports::outbound::{Clock, Entropy, MetadataEvent, MetadataLog, OpenedLog, RaftTransport};
use ottla_domain::raft::messages::{
    FetchReply, FetchRequest, FetchSnapshotReply, FetchSnapshotRequest, Fetched, Reply, ReplyResult, Request,
};
use ottla_domain::raft::snapshots::SnapshotConfig;
use ottla_domain::raft::voters::{Endpoint, Endpoints, KRaftVersion, ReplicaKey, Voter, VoterSet};
use ottla_domain::raft::{Identity, Outgoing, QuorumConfig, SnapshotId};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    METADATA_FOLDER, NoPeers, RaftError, RaftHandle, ReplicaConfig, ReplicaPorts, Running, Stopped, start,
    write_initial_voters,
};

/// Whatever takes longer has failed; a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
    }

    fn mono(&self) -> Mono {
        Mono(1 + self.0.elapsed().as_nanos() as u64)
    }
}

struct Counter(AtomicU64);

impl Entropy for Counter {
    fn draw(&self) -> u128 {
        self.0.fetch_add(0x9e37_79b9, Ordering::Relaxed).into()
    }
}

fn empty_log() -> OpenedLog<MemoryLog> {
    MemoryLog::default().after_power_failure()
}

fn voter(id: i32) -> Voter {
    Voter {
        key: ReplicaKey::new(BrokerId(id), DirectoryId(Uuid::from_u128(100 + id as u128))),
        endpoints: Endpoints(vec![Endpoint {
            listener: "CONTROLLER".into(),
            host: format!("node{id}").into(),
            port: 9093,
        }]),
        min_kraft_version: KRaftVersion(0),
        max_kraft_version: KRaftVersion(1),
    }
}

fn config(id: i32, voters: &[i32]) -> ReplicaConfig {
    let static_voter = |id: &i32| Voter {
        key: ReplicaKey {
            id: BrokerId(*id),
            directory: None,
        },
        ..voter(*id)
    };
    ReplicaConfig {
        identity: Identity {
            local: voter(id),
            can_become_voter: voters.contains(&id),
            cluster_id: "cluster".into(),
            listener: "CONTROLLER".into(),
            bootstrap: voters.iter().map(|id| (format!("node{id}").into(), 9093)).collect(),
        },
        quorum: QuorumConfig {
            election_timeout_ms: 100,
            fetch_timeout_ms: 1_000,
            fetch_max_wait_ms: 50,
            request_timeout_ms: 1_000,
            fetch_snapshot_max_bytes: 300,
            ..QuorumConfig::default()
        },
        static_voters: voters.iter().map(static_voter).collect(),
        snapshots: SnapshotConfig::default(),
    }
}

fn feature(name: &str) -> MetadataRecord {
    MetadataRecord::FeatureLevel(FeatureLevelRecord {
        name: name.to_owned(),
        feature_level: 1,
        ..FeatureLevelRecord::default()
    })
}

fn name(record: &MetadataRecord) -> &str {
    match record {
        MetadataRecord::FeatureLevel(record) => &record.name,
        other => panic!("{other:?}"),
    }
}

/// A replica and what its listener has heard.
struct Node {
    handle: RaftHandle,
    disk: Arc<MemoryLog>,
    running: Running<MemoryLog>,
    events: mpsc::Receiver<MetadataEvent>,
    names: Vec<String>,
    /// One past the last offset heard of.
    next_offset: Offset,
    leader: Option<(LeaderEpoch, Option<BrokerId>)>,
    snapshots: usize,
    snapshot_due: usize,
}

impl Node {
    fn start(config: ReplicaConfig, log: OpenedLog<MemoryLog>, folder: &Path, transport: impl RaftTransport) -> Node {
        Node::try_start(config, log, folder, transport, 4).unwrap()
    }

    fn try_start(
        config: ReplicaConfig,
        log: OpenedLog<MemoryLog>,
        folder: &Path,
        transport: impl RaftTransport,
        capacity: usize,
    ) -> Result<Node, RaftError> {
        let (sender, events) = mpsc::channel(capacity);
        let seed = config.identity.local.key.id.0 as u64 * 7_919;
        let ports = ReplicaPorts {
            log,
            folder: folder.to_owned(),
            transport,
            clock: RealClock(Instant::now()),
            entropy: Counter(AtomicU64::new(seed)),
            listeners: vec![sender],
        };
        let disk = Arc::clone(&ports.log.log);
        let running = start(config, ports)?;
        Ok(Node {
            handle: running.handle.clone(),
            disk,
            running,
            events,
            names: Vec::new(),
            next_offset: Offset(0),
            leader: None,
            snapshots: 0,
            snapshot_due: 0,
        })
    }

    async fn hear(&mut self) {
        let event = timeout(PATIENCE, self.events.recv()).await.expect("an event in time");
        match event.expect("the replica runs") {
            MetadataEvent::Snapshot {
                end_offset, records, ..
            } => {
                self.names = records.iter().map(|record| name(record).to_owned()).collect();
                self.next_offset = end_offset;
                self.snapshots += 1;
            }
            MetadataEvent::Committed {
                last_offset, records, ..
            } => {
                assert!(last_offset >= self.next_offset, "offsets only ascend");
                self.names.extend(records.iter().map(|record| name(record).to_owned()));
                self.next_offset = last_offset.next();
            }
            MetadataEvent::Leader {
                epoch,
                leader,
                next_offset,
            } => {
                assert!(
                    next_offset <= self.next_offset,
                    "the listener of a leader has caught up"
                );
                assert!(self.leader.is_none_or(|(before, _)| before <= epoch));
                self.leader = Some((epoch, leader));
            }
            MetadataEvent::SnapshotDue => self.snapshot_due += 1,
        }
    }

    async fn until(&mut self, is_enough: impl Fn(&Node) -> bool) {
        while !is_enough(self) {
            self.hear().await;
        }
    }

    /// Waits until some node leads, and returns the epoch.
    async fn led(&mut self) -> LeaderEpoch {
        self.until(|node| node.leader.is_some_and(|(_, leader)| leader.is_some()))
            .await;
        self.leader.unwrap().0
    }

    async fn append(&mut self, epoch: LeaderEpoch, text: &str) {
        let offset = self.handle.append(epoch, vec![feature(text)]).unwrap();
        self.until(|node| node.next_offset > offset).await;
    }

    async fn stop(self) -> Stopped<MemoryLog> {
        self.handle.shutdown(Duration::from_secs(1));
        let stopped = timeout(PATIENCE, self.running.stopped).await;
        stopped.expect("it stops in time").unwrap()
    }
}

/// Snapshots what the leader has heard, and waits until it serves that snapshot.
async fn snapshot(node: &Node, folder: &Path) {
    let (epoch, _) = node.leader.unwrap();
    let end_offset = node.next_offset;
    let records = node.names.iter().map(|name| feature(name)).collect();
    node.handle
        .snapshot(Offset(end_offset.0 - 1), epoch, Timestamp(77), records);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = fetched(&node.handle, fetch(epoch, Offset(0), LeaderEpoch(0), 1)).await;
        if reply.fetched == Fetched::Snapshot(SnapshotId { end_offset, epoch }) {
            break;
        }
        assert!(Instant::now() < deadline, "no snapshot at {end_offset}");
    }
    assert!(
        folder
            .join(format!("{:020}-{:010}.checkpoint", end_offset.0, epoch.0))
            .exists()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_voter_keeps_its_records_and_never_its_epoch() {
    let folder = TempDir::new().unwrap();
    let mut node = Node::start(config(1, &[1]), empty_log(), folder.path(), NoPeers);
    let first = node.led().await;
    assert_eq!(node.leader, Some((LeaderEpoch(1), Some(BrokerId(1)))));
    node.append(first, "a").await;
    assert!(node.handle.append(LeaderEpoch(9), vec![feature("x")]).is_err());
    let offsets: Vec<_> = ["b", "c", "d"]
        .map(|text| node.handle.append(first, vec![feature(text), feature(text)]))
        .into();
    assert_eq!(offsets, [Ok(Offset(2)), Ok(Offset(4)), Ok(Offset(6))]);
    node.until(|node| node.next_offset == Offset(8)).await;
    let handle = node.handle.clone();
    let stopped = node.stop().await;
    stopped.result.unwrap();
    assert!(handle.append(first, vec![feature("x")]).is_err());
    let text = fs::read_to_string(folder.path().join("quorum-state")).unwrap();
    assert!(text.contains(r#""leaderId":1,"leaderEpoch":1"#), "{text}");

    let mut node = Node::start(
        config(1, &[1]),
        stopped.log.after_power_failure(),
        folder.path(),
        NoPeers,
    );
    let second = node.led().await;
    assert!(second > first);
    assert_eq!(node.names, ["a", "b", "b", "c", "c", "d", "d"]);
    let quorum = node.handle.describe_quorum().await.unwrap();
    assert_eq!(
        (quorum.leader, quorum.epoch, quorum.high_watermark),
        (BrokerId(1), second, Offset(9))
    );
    assert_eq!(quorum.voters.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_asked_for_made_and_restarted_from() {
    let folder = TempDir::new().unwrap();
    let mut small = config(1, &[1]);
    small.snapshots.max_record_bytes = 300;
    small.snapshots.retention_bytes = 1;
    let mut node = Node::start(small.clone(), empty_log(), folder.path(), NoPeers);
    let epoch = node.led().await;
    for text in ["a", "b", "c"] {
        assert_eq!(node.snapshot_due, 0);
        node.append(epoch, text).await;
    }
    node.append(epoch, "d").await;
    node.until(|node| node.snapshot_due == 1).await;
    snapshot(&node, folder.path()).await;
    node.append(epoch, "e").await;
    assert_eq!(node.snapshot_due, 1);
    snapshot(&node, folder.path()).await;
    node.append(epoch, "f").await;
    let stopped = node.stop().await;
    fs::write(
        folder.path().join("00000000000000000099-0000000001-0.checkpoint.part"),
        "torn",
    )
    .unwrap();

    // Cleaning keeps the newest snapshot and the log behind it.
    let mut node = Node::start(small.clone(), stopped.log.after_power_failure(), folder.path(), NoPeers);
    node.led().await;
    assert_eq!((node.snapshots, node.names.concat()), (1, "abcdef".to_owned()));
    let stopped = node.stop().await;
    let log = stopped.log.after_power_failure();
    assert_eq!(log.state.offsets.log_start(), Offset(6));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

    let mut node = Node::start(small.clone(), log, folder.path(), NoPeers);
    node.led().await;
    assert_eq!((node.snapshots, node.names.concat()), (1, "abcdef".to_owned()));
    let stopped = node.stop().await;

    // Without its snapshot a log that lost its head is refused, not read as if it were whole.
    fs::remove_file(folder.path().join("00000000000000000006-0000000001.checkpoint")).unwrap();
    let refused = Node::try_start(small, stopped.log.after_power_failure(), folder.path(), NoPeers, 4);
    assert!(matches!(refused, Err(RaftError::SnapshotMissing { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_voters_of_a_formatted_quorum_go_into_the_log() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join(METADATA_FOLDER);
    let voters: VoterSet = [voter(1)].into_iter().collect();
    write_initial_voters(dir.path(), &voters, Timestamp(1)).unwrap();
    let mut dynamic = config(1, &[]);
    dynamic.identity.can_become_voter = true;
    let mut node = Node::start(dynamic.clone(), empty_log(), &folder, NoPeers);
    let epoch = node.led().await;
    assert_eq!(node.handle.kraft_version(), KRaftVersion(1));
    assert_eq!(node.next_offset, Offset(3), "LeaderChange, KRaftVersion and Voters");
    node.append(epoch, "a").await;
    snapshot(&node, &folder).await;
    let stopped = node.stop().await;
    let text = fs::read_to_string(folder.join("quorum-state")).unwrap();
    assert!(
        text.ends_with(r#""votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#),
        "{text}"
    );

    // The snapshot names the voters, so they are not written again; another address is.
    dynamic.identity.local.endpoints.0[0].port = 9193;
    let mut node = Node::start(dynamic, stopped.log.after_power_failure(), &folder, NoPeers);
    node.led().await;
    assert_eq!((node.snapshots, node.next_offset), (1, Offset(7)));
    let quorum = node.handle.describe_quorum().await.unwrap();
    assert_eq!(quorum.voter_set.get(BrokerId(1)).unwrap().endpoints.0[0].port, 9193);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_ends_the_replica_and_commits_nothing() {
    let folder = TempDir::new().unwrap();
    let log = empty_log();
    let disk = Arc::clone(&log.log);
    let mut node = Node::start(config(1, &[1]), log, folder.path(), NoPeers);
    let epoch = node.led().await;
    node.append(epoch, "a").await;
    disk.fail();
    node.handle.append(epoch, vec![feature("b")]).unwrap();
    let stopped = timeout(PATIENCE, &mut node.running.stopped).await.unwrap().unwrap();
    assert!(matches!(stopped.result, Err(RaftError::Storage(_))));
    assert!(node.handle.append(epoch, vec![feature("c")]).is_err());
    assert!(node.handle.describe_quorum().await.is_none());
    assert!(
        node.events.recv().await.is_none(),
        "nothing is told of what was not stored"
    );
}

fn fetch(epoch: LeaderEpoch, offset: Offset, last_epoch: LeaderEpoch, max_wait_ms: i32) -> Request {
    Request::Fetch(FetchRequest {
        cluster_id: Some("cluster".into()),
        replica: voter(9).key,
        epoch,
        fetch_offset: offset,
        last_fetched_epoch: last_epoch,
        high_watermark: Offset(i64::MAX),
        max_wait_ms,
        max_bytes: 1 << 20,
    })
}

async fn fetched(handle: &RaftHandle, request: Request) -> FetchReply {
    match handle.handle(request).await {
        Ok(Reply::Fetch(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observers_are_served_with_batches_news_and_snapshots() {
    let folder = TempDir::new().unwrap();
    let mut node = Node::start(config(1, &[1]), empty_log(), folder.path(), NoPeers);
    let epoch = node.led().await;
    node.append(epoch, "a").await;
    let handle = node.handle.clone();

    let reply = fetched(&handle, fetch(LeaderEpoch(0), Offset(0), LeaderEpoch(0), 500)).await;
    assert_eq!(reply.leadership.error, ErrorCode::FencedLeaderEpoch);
    assert_eq!(
        (reply.leadership.leader, reply.leadership.epoch),
        (Some(BrokerId(1)), epoch)
    );

    let reply = fetched(&handle, fetch(epoch, Offset(0), LeaderEpoch(0), 500)).await;
    let all: Bytes = node
        .disk
        .batches()
        .iter()
        .flat_map(|batch| batch.bytes().to_vec())
        .collect();
    assert_eq!(
        (reply.fetched, reply.high_watermark),
        (Fetched::Records(all), Some(Offset(2)))
    );

    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { fetched(&handle, fetch(epoch, Offset(2), epoch, 20_000)).await }
    });
    let quorum = loop {
        let quorum = handle.describe_quorum().await.unwrap();
        if !quorum.observers.is_empty() {
            break quorum;
        }
    };
    assert_eq!(quorum.observers[0].key, voter(9).key);
    node.append(epoch, "b").await;
    let reply = waiting.await.unwrap();
    assert!(matches!(reply.fetched, Fetched::Records(bytes) if !bytes.is_empty()));

    let cut_off = fetched(&handle, fetch(epoch, Offset(3), epoch, 1)).await;
    assert_eq!(cut_off.fetched, Fetched::Records(Bytes::new()));
    let mut other_cluster = fetch(epoch, Offset(3), epoch, 1);
    if let Request::Fetch(request) = &mut other_cluster {
        request.cluster_id = Some("another".into());
    }
    assert_eq!(
        handle.handle(other_cluster).await,
        Err(ErrorCode::InconsistentClusterId)
    );

    snapshot(&node, folder.path()).await;
    let reply = fetched(&handle, fetch(epoch, Offset(0), LeaderEpoch(0), 1)).await;
    let id = SnapshotId {
        end_offset: Offset(3),
        epoch,
    };
    assert_eq!(reply.fetched, Fetched::Snapshot(id));
    let mut loaded = BytesMut::new();
    let whole = fs::read(folder.path().join("00000000000000000003-0000000001.checkpoint")).unwrap();
    while loaded.len() < whole.len() {
        let piece = snapshot_piece(&handle, epoch, id, loaded.len() as i64).await;
        assert_eq!(
            (piece.leadership.error, piece.size_bytes),
            (ErrorCode::None, whole.len() as i64)
        );
        loaded.extend_from_slice(&piece.bytes);
    }
    assert_eq!(loaded, whole);
    let beyond = snapshot_piece(&handle, epoch, id, whole.len() as i64).await;
    assert_eq!(beyond.leadership.error, ErrorCode::PositionOutOfRange);
    let unknown = SnapshotId {
        end_offset: Offset(2),
        epoch,
    };
    let unknown = snapshot_piece(&handle, epoch, unknown, 0).await;
    assert_eq!(unknown.leadership.error, ErrorCode::SnapshotNotFound);
}

async fn snapshot_piece(
    handle: &RaftHandle,
    epoch: LeaderEpoch,
    snapshot: SnapshotId,
    position: i64,
) -> FetchSnapshotReply {
    let request = Request::FetchSnapshot(FetchSnapshotRequest {
        cluster_id: None,
        replica: voter(9).key,
        epoch,
        snapshot,
        position,
        max_bytes: 100,
    });
    match handle.handle(request).await {
        Ok(Reply::FetchSnapshot(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

/// Takes requests to the other replicas of this process; a node that is cut off gets and gives no answers.
#[derive(Clone)]
struct Wires {
    local: i32,
    nodes: Arc<Mutex<BTreeMap<i32, RaftHandle>>>,
    cut_off: Arc<Mutex<Option<i32>>>,
    runtime: Handle,
}

impl Wires {
    fn of(&self, local: i32) -> Wires {
        Wires { local, ..self.clone() }
    }
}

impl RaftTransport for Wires {
    fn send(&self, request: Outgoing, on_reply: Box<dyn FnOnce(ReplyResult) + Send>) {
        let to: i32 = request.host.trim_start_matches("node").parse().unwrap();
        let cut_off = *self.cut_off.lock();
        let handle = self.nodes.lock().get(&to).cloned();
        match handle.filter(|_| cut_off.is_none_or(|cut_off| cut_off != to && cut_off != self.local)) {
            Some(handle) => {
                self.runtime
                    .spawn(async move { on_reply(handle.handle(request.request).await) });
            }
            None => on_reply(Err(ErrorCode::BrokerNotAvailable)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_voters_and_an_observer_follow_the_leader_and_outlive_it() {
    let wires = Wires {
        local: 0,
        nodes: Arc::default(),
        cut_off: Arc::default(),
        runtime: Handle::current(),
    };
    let voters = [1, 2, 3];
    let folders: BTreeMap<i32, TempDir> = (1..5).map(|id| (id, TempDir::new().unwrap())).collect();
    let start = |id: i32| {
        let node = Node::start(config(id, &voters), empty_log(), folders[&id].path(), wires.of(id));
        wires.nodes.lock().insert(id, node.handle.clone());
        node
    };
    let mut nodes: BTreeMap<i32, Node> = voters.iter().map(|id| (*id, start(*id))).collect();
    let leader_of = |node: &Node| node.leader.and_then(|(_, leader)| leader).map(|leader| leader.0);

    // The first leader, then its successor once it is cut off, then the first one as a follower.
    let mut expected = String::new();
    let mut cut_off = None;
    for round in ["a", "b", "c"] {
        let (leader, epoch) = loop {
            let mut leading = None;
            for (id, node) in &mut nodes {
                if Some(*id) != cut_off {
                    while let Ok(Some(_)) = timeout(Duration::from_millis(1), async {
                        node.hear().await;
                        Some(())
                    })
                    .await
                    {}
                    if leader_of(node) == Some(*id) {
                        leading = Some((*id, node.leader.unwrap().0));
                    }
                }
            }
            if let Some((id, epoch)) = leading
                && nodes[&id].handle.append(epoch, vec![feature(round)]).is_ok()
            {
                break (id, epoch);
            }
        };
        expected += round;
        assert!(epoch > LeaderEpoch(0));
        for (id, node) in &mut nodes {
            if Some(*id) != cut_off {
                node.until(|node| node.names.concat() == expected).await;
            }
        }
        cut_off = (round == "a").then_some(leader);
        *wires.cut_off.lock() = cut_off;
    }
    for node in nodes.values_mut() {
        node.until(|node| node.names.concat() == expected).await;
    }

    // A new observer begins with the leader's snapshot.
    let leader = nodes.values_mut().find_map(|node| leader_of(node)).unwrap();
    for (id, node) in &nodes {
        if leader_of(node) == Some(*id) {
            snapshot(node, folders[id].path()).await;
        }
    }
    let mut observer = start(4);
    observer.until(|node| node.names.concat() == expected).await;
    assert_eq!(observer.snapshots, 1, "node {leader} leads");
    for node in nodes.into_values() {
        node.stop().await.result.unwrap();
    }
    observer.stop().await.result.unwrap();
}
