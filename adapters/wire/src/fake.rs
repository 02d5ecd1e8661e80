//! A node for tests, and a client to talk to it over a real socket.

pub(crate) mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{BrokerId, LeaderEpoch, Mono, Offset, PartitionId, ProducerId, Timestamp};
use ottla_domain::metadata::config::effective::Properties;
use ottla_domain::metadata::controller::brokers::supported_broker_features;
use ottla_domain::metadata::controller::{Command, Controller, Settings};
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::metadata::loggers::LogLevel;
use ottla_domain::metadata::records::{
    BrokerEndpoint, ControllerEndpoint, FeatureLevelRecord, MetadataRecord, PartitionRecord, RegisterBrokerRecord,
    RegisterControllerRecord, TopicRecord,
};
use ottla_domain::ports::inbound::*;
use ottla_domain::ports::outbound::{Entropy, RecordSlice};
use ottla_domain::raft::QuorumStatus;
use ottla_domain::raft::messages::{ReplyResult, Request};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use uuid::Uuid;

use crate::server::{
    Bound, ConnectionLimits, ConnectionQuota, Listener, ListenerKind, RequestLimits, Serving, SocketOptions,
};

/// Tests that wait for something longer than this have failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(0x70_91c);

type Slice = RecordSlice<Arc<File>>;

pub(crate) struct FakeNode {
    pub(crate) image: Mutex<Arc<MetadataImage>>,
    /// Every produce, in the order of execution.
    pub(crate) produced: Mutex<Vec<Produce>>,
    /// Produces with acks=all are answered once this is true.
    pub(crate) replicated: watch::Sender<bool>,
    /// DeleteRecords is not done while this is true.
    pub(crate) holds_delete_records: watch::Sender<bool>,
    /// What the next fetches return; when there is nothing they poll for ever.
    pub(crate) records: Mutex<Vec<Slice>>,
    /// A fetch panics while this is true.
    pub(crate) panics: AtomicBool,
    /// Topics whose creation was asked for.
    pub(crate) created: Mutex<Vec<String>>,
    controller: Mutex<Controller>,
    /// Refuses all commands.
    pub(crate) refusal: Mutex<Option<ErrorCode>>,
    /// What was asked of the quorum, and what it will reply.
    pub(crate) raft_requests: Mutex<Vec<Request>>,
    pub(crate) raft_replies: Mutex<Vec<ReplyResult>>,
    pub(crate) quorum: Mutex<Option<QuorumStatus>>,
    loggers: Mutex<BTreeMap<String, LogLevel>>,
    pub(crate) groups: groups::FakeGroups,
    properties: Properties,
}

impl Default for FakeNode {
    fn default() -> Self {
        let properties = Properties::from([("log.segment.bytes".to_owned(), "1048576".to_owned())]);
        let settings = Settings {
            node_id: BrokerId(1),
            cluster_id: "cluster".to_owned(),
            properties: Arc::new(properties.clone()),
            voters: BTreeSet::from([BrokerId(1)]),
            kraft_version: 0,
            bootstrap: Arc::default(),
        };
        FakeNode {
            image: Mutex::new(Arc::new(image())),
            produced: Mutex::default(),
            replicated: watch::Sender::new(false),
            holds_delete_records: watch::Sender::new(false),
            records: Mutex::default(),
            panics: AtomicBool::new(false),
            created: Mutex::default(),
            controller: Mutex::new(Controller::new(image(), settings, Offset(100), Mono(0))),
            refusal: Mutex::default(),
            raft_requests: Mutex::default(),
            raft_replies: Mutex::default(),
            quorum: Mutex::default(),
            groups: groups::FakeGroups::default(),
            loggers: Mutex::new(BTreeMap::from([("root".to_owned(), LogLevel::Info)])),
            properties,
        }
    }
}

/// Broker 1 on the listener PLAINTEXT leads both partitions of `topic`.
pub(crate) fn image() -> MetadataImage {
    let mut image = MetadataImage::default();
    let mut records = vec![
        MetadataRecord::FeatureLevel(FeatureLevelRecord {
            name: "metadata.version".to_owned(),
            feature_level: 30,
            ..Default::default()
        }),
        MetadataRecord::FeatureLevel(FeatureLevelRecord {
            name: "group.version".to_owned(),
            feature_level: 1,
            ..Default::default()
        }),
        MetadataRecord::RegisterBroker(RegisterBrokerRecord {
            broker_id: 1,
            broker_epoch: 5,
            end_points: vec![BrokerEndpoint {
                name: "PLAINTEXT".to_owned(),
                host: "example.org".to_owned(),
                port: 9092,
                ..Default::default()
            }],
            features: supported_broker_features(),
            rack: Some("rack-a".to_owned()),
            fenced: false,
            ..Default::default()
        }),
        MetadataRecord::RegisterController(RegisterControllerRecord {
            controller_id: 1,
            end_points: vec![ControllerEndpoint {
                name: "CONTROLLER".to_owned(),
                host: "controller.example.org".to_owned(),
                port: 9093,
                ..Default::default()
            }],
            ..Default::default()
        }),
        MetadataRecord::Topic(TopicRecord {
            name: "topic".to_owned(),
            topic_id: TOPIC_ID,
            ..Default::default()
        }),
    ];
    records.extend((0..2).map(|partition_id| {
        MetadataRecord::Partition(PartitionRecord {
            partition_id,
            topic_id: TOPIC_ID,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch: 3,
            ..Default::default()
        })
    }));
    for record in records {
        image.apply(&record).unwrap();
    }
    image.provenance.offset = Offset(99);
    image
}

impl ProduceApi for FakeNode {
    async fn produce(&self, request: Produce) -> Waiting<ProduceReply> {
        let acks = request.acks;
        let outcome = |partition: PartitionId, records: &Option<Bytes>| Produced {
            partition,
            error: records.is_none().then(|| ProduceError {
                error: ErrorCode::InvalidRecord.with("no records"),
                record_errors: vec![(0, Some("null".to_owned()))],
            }),
            base_offset: Offset(7),
            log_append_time: Timestamp::NONE,
            log_start_offset: Offset(0),
            current_leader: records.is_none().then_some((BrokerId(1), LeaderEpoch(3))),
        };
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            (
                topic.topic.clone(),
                partitions.map(|(id, records)| outcome(*id, records)).collect(),
            )
        });
        let reply: ProduceReply = topics.collect();
        self.produced.lock().push(request);
        if acks != Acks::All {
            return Waiting::Ready(reply);
        }
        let mut replicated = self.replicated.subscribe();
        Waiting::Later(Box::pin(async move {
            replicated.wait_for(|replicated| *replicated).await.unwrap();
            reply
        }))
    }
}

impl FetchApi for FakeNode {
    type Region = Arc<File>;

    async fn fetch(
        &self,
        request: Fetch,
        hung_up: impl Future<Output = ()> + Send + 'static,
    ) -> Waiting<FetchReply<Arc<File>>> {
        assert!(!self.panics.load(Ordering::Relaxed), "asked for");
        let Some(records) = self.records.lock().pop() else {
            let nothing = FetchReply {
                error: ErrorCode::None,
                session_id: 0,
                topics: Vec::new(),
            };
            return Waiting::Later(Box::pin(async move {
                hung_up.await;
                nothing
            }));
        };
        let topics = request.partitions.iter().map(|(topic, partition)| {
            let fetched = Fetched {
                partition: partition.partition,
                error: ErrorCode::None,
                high_watermark: Offset(10),
                last_stable_offset: Offset(10),
                log_start_offset: Offset(0),
                diverging_epoch: None,
                current_leader: None,
                snapshot_id: None,
                aborted: None,
                preferred_read_replica: BrokerId::NONE,
                records: Some(records.clone()),
            };
            (topic.clone(), vec![fetched])
        });
        Waiting::Ready(FetchReply {
            error: ErrorCode::None,
            session_id: 0,
            topics: topics.collect(),
        })
    }
}

impl OffsetsApi for FakeNode {
    async fn list_offset(
        &self,
        topic: &str,
        _: PartitionId,
        _: BrokerId,
        _: Isolation,
        _: LeaderEpoch,
        spec: OffsetSpec,
    ) -> ListedOffset {
        let known = self.image().topics.by_name(topic).is_some();
        ListedOffset {
            error: if known {
                ErrorCode::None
            } else {
                ErrorCode::UnknownTopicOrPartition
            },
            timestamp: match spec {
                OffsetSpec::At(timestamp) => timestamp,
                _ => Timestamp::NONE,
            },
            offset: Offset(10),
            leader_epoch: LeaderEpoch(3),
        }
    }

    fn epoch_end(&self, _: &str, _: PartitionId, _: LeaderEpoch, leader_epoch: LeaderEpoch) -> EpochEnd {
        EpochEnd {
            error: ErrorCode::None,
            leader_epoch,
            end_offset: Offset(10),
        }
    }

    async fn delete_records(&self, _: &str, _: PartitionId, before: Offset) -> Result<Offset, ErrorCode> {
        let mut held = self.holds_delete_records.subscribe();
        held.wait_for(|held| !held).await.unwrap();
        Ok(before)
    }

    fn producers(&self, _: &str, _: PartitionId) -> Result<Vec<ActiveProducer>, ApiError> {
        Ok(Vec::new())
    }
}

/// Commands go to a real controller whose records count as committed at once.
impl ControllerApi for FakeNode {
    async fn submit<C: Command>(&self, command: C, _: i32) -> Result<C::Reply, ApiError> {
        if let Some(refusal) = *self.refusal.lock() {
            return Err(refusal.into());
        }
        let mut controller = self.controller.lock();
        let outcome = controller.handle(command, Mono(0), &Counter::default()).unwrap()?;
        let mut image = controller.image().clone();
        image.provenance.offset = Offset(99);
        *self.image.lock() = Arc::new(image);
        Ok(outcome.reply)
    }
}

#[derive(Default)]
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn draw(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) << 64 | 0x1234
    }
}

impl ProducerIdApi for FakeNode {
    async fn next_producer_id(&self) -> Result<ProducerId, ErrorCode> {
        Ok(ProducerId(4000))
    }
}

impl RaftApi for FakeNode {
    async fn handle(&self, request: Request) -> ReplyResult {
        self.raft_requests.lock().push(request);
        self.raft_replies
            .lock()
            .pop()
            .unwrap_or(Err(ErrorCode::RequestTimedOut))
    }

    async fn describe_quorum(&self) -> Option<QuorumStatus> {
        self.quorum.lock().clone()
    }
}

impl LoggerApi for FakeNode {
    fn loggers(&self) -> BTreeMap<String, LogLevel> {
        self.loggers.lock().clone()
    }

    fn set_log_level(&self, logger: &str, level: Option<LogLevel>) {
        self.loggers
            .lock()
            .insert(logger.to_owned(), level.unwrap_or(LogLevel::Info));
    }
}

impl ViewApi for FakeNode {
    fn node_id(&self) -> BrokerId {
        BrokerId(1)
    }

    fn cluster_id(&self) -> &str {
        "cluster"
    }

    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.lock())
    }

    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn quorum_leader(&self) -> BrokerId {
        BrokerId(1)
    }

    fn kraft_version(&self) -> i16 {
        1
    }

    fn auto_create_topics(&self, names: Vec<String>) {
        self.created.lock().extend(names);
    }

    async fn log_directories(&self) -> Vec<LogDirectory> {
        let replica = |partition| ReplicaOnDisk {
            topic: "topic".into(),
            partition: PartitionId(partition),
            size_bytes: 100,
            offset_lag: 0,
        };
        let online = LogDirectory {
            path: "/data".into(),
            is_offline: false,
            total_bytes: 1000,
            usable_bytes: 500,
            replicas: vec![replica(0), replica(1)],
        };
        let offline = LogDirectory {
            path: "/broken".into(),
            is_offline: true,
            ..online.clone()
        };
        vec![online, offline]
    }
}

/// A fake node behind a real socket.
pub(crate) struct Fixture {
    pub(crate) node: Arc<FakeNode>,
    pub(crate) address: SocketAddr,
    pub(crate) serving: Serving,
}

pub(crate) const LIMITS: RequestLimits = RequestLimits {
    produce_max_bytes: 3 << 20,
    request_max_bytes: 1 << 20,
    idle: None,
};

impl Fixture {
    pub(crate) fn start(kind: ListenerKind) -> Self {
        Self::with(kind, LIMITS, ConnectionLimits::default())
    }

    pub(crate) fn with(kind: ListenerKind, limits: RequestLimits, connections: ConnectionLimits) -> Self {
        Self::bind(kind, limits, &ConnectionQuota::new(connections))
    }

    pub(crate) fn with_memory(request_memory_bytes: usize) -> Self {
        let quota = ConnectionQuota::with_request_memory(ConnectionLimits::default(), request_memory_bytes);
        Self::bind(ListenerKind::Broker, LIMITS, &quota)
    }

    fn bind(kind: ListenerKind, limits: RequestLimits, quota: &Arc<ConnectionQuota>) -> Self {
        let listener = Listener {
            name: match kind {
                ListenerKind::Broker => "PLAINTEXT".into(),
                ListenerKind::Controller => "CONTROLLER".into(),
            },
            kind,
            addresses: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        };
        let options = SocketOptions {
            backlog: 50,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        };
        let bound = Bound::bind(&listener, options).unwrap();
        let address = bound.addresses()[0];
        let node = Arc::new(FakeNode::default());
        let serving = bound.serve(Arc::clone(&node), limits, quota).unwrap();
        Fixture { node, address, serving }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.address).await.unwrap(),
        }
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    /// Sends a request with a flexible header or one of old.
    pub(crate) async fn send(
        &mut self,
        key: i16,
        version: i16,
        flexible: bool,
        correlation: i32,
        body: &impl Encodable,
    ) {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(correlation);
        frame.put_i16(4);
        frame.put_slice(b"test");
        if flexible {
            frame.put_u8(0);
        }
        body.encode(&mut frame, version).unwrap();
        let size = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next frame, or `None` when the connection is closed.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        let read = async {
            let size = self.stream.read_u32().await.ok()?;
            let mut frame = vec![0; size as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(frame.into())
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("neither an answer nor an end")
    }

    /// The next answer: its correlation id and message, which must fill the frame.
    pub(crate) async fn receive<M: Decodable>(&mut self, version: i16, flexible: bool) -> (i32, M) {
        let mut frame = self.frame().await.expect("an answer");
        let correlation = frame.get_i32();
        if flexible {
            assert_eq!(frame.get_u8(), 0);
        }
        let message = M::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty());
        (correlation, message)
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        self.frame().await.is_none()
    }
}
