//! Inbound ports: what the wire adapter asks of the node. Types here have no versions, throttle times or tagged fields.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::outbound::RecordSlice;
use crate::error::{ApiError, ErrorCode};
use crate::groups::commands::{GroupCommand, ListGroups, ListedGroup};
use crate::ids::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Timestamp, TopicId,
};
use crate::metadata::config::effective::Properties;
use crate::metadata::controller::Command;
use crate::metadata::image::MetadataImage;
use crate::metadata::loggers::LogLevel;
use crate::raft;

/// An answer that is there, or one that is waited for while the connection's next request runs.
pub enum Waiting<T> {
    /// Answered.
    Ready(T),
    /// The effects are visible, the answer comes later: a produce after its append, a fetch that polls.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

/// How a request names a topic: by name before topic ids, by id since (KIP-516).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicRef {
    /// By its name.
    Name(Arc<str>),
    /// By its id.
    Id(TopicId),
}

/// When a produce is answered (`acks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// When the leader has appended.
    Leader,
    /// When all in-sync replicas have, and there are `min.insync.replicas` of them.
    All,
}

/// A Produce request.
#[derive(Debug)]
pub struct Produce {
    /// When to answer.
    pub acks: Acks,
    /// How long to wait for replicas.
    pub timeout_ms: i32,
    /// Set by transactional producers.
    pub transactional_id: Option<String>,
    /// zstd is known to the client: Produce 7 (KIP-110).
    pub zstd_allowed: bool,
    /// Kafka's own admin client (client id `__admin_client`) may write to internal topics.
    pub internal_topics_allowed: bool,
    /// What to append.
    pub topics: Vec<ProduceTopic>,
}

/// The part of a Produce request for one topic.
#[derive(Debug)]
pub struct ProduceTopic {
    /// Which topic.
    pub topic: TopicRef,
    /// A slice of the frame for each partition; `None` where the client sent null.
    pub partitions: Vec<(PartitionId, Option<Bytes>)>,
}

/// What became of one partition of a Produce request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Which partition.
    pub partition: PartitionId,
    /// `None` when it was appended.
    pub error: Option<ProduceError>,
    /// The offset of the first record; -1 on errors.
    pub base_offset: Offset,
    /// Set for topics with log append time, else -1.
    pub log_append_time: Timestamp,
    /// The log start offset; -1 on errors.
    pub log_start_offset: Offset,
    /// The leader to go to, with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH (KIP-951).
    pub current_leader: Option<(BrokerId, LeaderEpoch)>,
}

/// Why a partition of a Produce request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceError {
    /// What clients act on, and what people read.
    pub error: ApiError,
    /// The records at fault: index within the batch and a message (KIP-467).
    pub record_errors: Vec<(i32, Option<String>)>,
}

/// Outcomes in the order of the request.
pub type ProduceReply = Vec<(TopicRef, Vec<Produced>)>;

/// Appending records.
pub trait ProduceApi: Send + Sync + 'static {
    /// Appends to every partition named, each on its own: some may fail while others succeed.
    fn produce(&self, request: Produce) -> impl Future<Output = Waiting<ProduceReply>> + Send;
}

/// Which records a fetch may see (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset, with the aborted transactions listed.
    ReadCommitted,
}

/// A Fetch request of a consumer or a follower.
#[derive(Debug)]
pub struct Fetch {
    /// The follower; `BrokerId::NONE` for a consumer.
    pub replica: BrokerId,
    /// The follower's registration, -1 when it is not known (KIP-903).
    pub replica_epoch: BrokerEpoch,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Answer at once when there is this much.
    pub min_bytes: i32,
    /// A limit over all partitions (the first batch is returned all the same).
    pub max_bytes: i32,
    /// What the client may see.
    pub isolation: Isolation,
    /// Session 0 means none or a new one (KIP-227).
    pub session_id: i32,
    /// 0 starts a session, -1 ends one, other epochs continue it.
    pub session_epoch: i32,
    /// Topics come by id: Fetch 13 and later.
    pub by_topic_id: bool,
    /// Added or changed partitions, in order; all of them without a session.
    pub partitions: Vec<(TopicRef, FetchPartition)>,
    /// Partitions to forget.
    pub forgotten: Vec<(TopicRef, PartitionId)>,
    /// `client.rack`, for follower fetching (KIP-392).
    pub rack: String,
}

/// What a fetch asks of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which partition.
    pub partition: PartitionId,
    /// The leader epoch that the client knows, else -1.
    pub current_leader_epoch: LeaderEpoch,
    /// Where to start.
    pub fetch_offset: Offset,
    /// The epoch of the last record that the follower or consumer has, -1 when it does not say (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
    /// The follower's log start offset; -1 for consumers.
    pub log_start_offset: Offset,
    /// A limit for this partition.
    pub max_bytes: i32,
}

/// A partition's part of a fetch reply.
#[derive(Clone, Debug)]
pub struct Fetched<R> {
    /// Which partition.
    pub partition: PartitionId,
    /// NONE, or why there are no records.
    pub error: ErrorCode,
    /// -1 on errors.
    pub high_watermark: Offset,
    /// -1 on errors.
    pub last_stable_offset: Offset,
    /// -1 on errors.
    pub log_start_offset: Offset,
    /// Where the replica's log departs from the leader's: (epoch, end offset) (KIP-595).
    pub diverging_epoch: Option<(LeaderEpoch, Offset)>,
    /// Set when the client asked the wrong node (KIP-951) or, on the metadata quorum, always.
    pub current_leader: Option<(BrokerId, LeaderEpoch)>,
    /// The snapshot to load instead: (end offset, epoch) (KIP-630).
    pub snapshot_id: Option<(Offset, LeaderEpoch)>,
    /// (producer id, first offset); `None` when nothing was asked about transactions.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    /// A better replica to read from, else -1 (KIP-392).
    pub preferred_read_replica: BrokerId,
    /// Whole batches; `None` stands for null.
    pub records: Option<RecordSlice<R>>,
}

impl<R> Fetched<R> {
    /// A partition that cannot be read, with nothing known of its offsets.
    pub fn failed(partition: PartitionId, error: ErrorCode) -> Self {
        Fetched {
            partition,
            error,
            high_watermark: Offset::NONE,
            last_stable_offset: Offset::NONE,
            log_start_offset: Offset::NONE,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted: None,
            preferred_read_replica: BrokerId::NONE,
            records: Some(RecordSlice::Memory(Bytes::new())),
        }
    }
}

/// A fetch reply.
#[derive(Clone, Debug)]
pub struct FetchReply<R> {
    /// An error of the whole request, as FETCH_SESSION_ID_NOT_FOUND.
    pub error: ErrorCode,
    /// 0 when there is no session.
    pub session_id: i32,
    /// The partitions to tell of, grouped by topic in the order of the session.
    pub topics: Vec<(TopicRef, Vec<Fetched<R>>)>,
}

/// Reading records.
pub trait FetchApi: Send + Sync + 'static {
    /// Access to files for `sendfile`.
    type Region: Clone + Send + Sync + 'static;

    /// Reads what there is, or waits for it until the client has `hung_up`: then it answers at once.
    fn fetch(
        &self,
        request: Fetch,
        hung_up: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = Waiting<FetchReply<Self::Region>>> + Send;
}

/// What ListOffsets asks for: a timestamp, or one of Kafka's negative numbers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// -1: the high watermark, or the last stable offset.
    Latest,
    /// -2: the log start offset.
    Earliest,
    /// -3: the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// -4: the first offset on local disk (KIP-405).
    EarliestLocal,
    /// -5: the last offset in remote storage (KIP-1005).
    LatestTiered,
    /// -6: the first offset not yet in remote storage (KIP-1023).
    EarliestPendingUpload,
    /// The first record at or after this time.
    At(Timestamp),
}

/// An answer of ListOffsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// NONE, or why there is no answer.
    pub error: ErrorCode,
    /// -1 when there is none.
    pub timestamp: Timestamp,
    /// -1 when there is none.
    pub offset: Offset,
    /// -1 when it is unknown.
    pub leader_epoch: LeaderEpoch,
}

/// An answer of OffsetForLeaderEpoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// NONE, or why there is no answer.
    pub error: ErrorCode,
    /// The largest epoch at or below the one asked for, else -1.
    pub leader_epoch: LeaderEpoch,
    /// Where that epoch ends, else -1.
    pub end_offset: Offset,
}

/// The state of one producer in a partition (DescribeProducers, KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Its last sequence number, -1 when there is none.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch.
    pub last_timestamp: Timestamp,
    /// The epoch of the transaction coordinator, -1 when there is none.
    pub coordinator_epoch: i32,
    /// Where its open transaction starts, -1 when there is none.
    pub current_txn_start_offset: Offset,
}

/// Questions about a partition's offsets and producers, and the deletion of its head.
pub trait OffsetsApi: Send + Sync + 'static {
    /// ListOffsets of one partition. `replica` is `BrokerId::NONE` for consumers.
    fn list_offset(
        &self,
        topic: &str,
        partition: PartitionId,
        replica: BrokerId,
        isolation: Isolation,
        current_leader_epoch: LeaderEpoch,
        spec: OffsetSpec,
    ) -> impl Future<Output = ListedOffset> + Send;

    /// OffsetForLeaderEpoch of one partition.
    fn epoch_end(
        &self,
        topic: &str,
        partition: PartitionId,
        current_leader_epoch: LeaderEpoch,
        leader_epoch: LeaderEpoch,
    ) -> EpochEnd;

    /// DeleteRecords of one partition; -1 stands for the high watermark. The new low watermark.
    fn delete_records(
        &self,
        topic: &str,
        partition: PartitionId,
        before: Offset,
    ) -> impl Future<Output = Result<Offset, ErrorCode>> + Send;

    /// DescribeProducers of one partition.
    fn producers(&self, topic: &str, partition: PartitionId) -> Result<Vec<ActiveProducer>, ApiError>;
}

/// Admin changes. `C` is one of the commands of [`crate::metadata::controller`].
pub trait ControllerApi: Send + Sync + 'static {
    /// Evaluates a command on the active controller and answers once its records are committed. NOT_CONTROLLER when no
    /// controller is reachable, REQUEST_TIMED_OUT after `timeout_ms`.
    fn submit<C: Command>(
        &self,
        command: C,
        timeout_ms: i32,
    ) -> impl Future<Output = Result<C::Reply, ApiError>> + Send;
}

/// What this node is and what it sees. Requests that show state have no types here: the wire renders them from the
/// metadata image.
pub trait ViewApi: Send + Sync + 'static {
    /// `node.id`.
    fn node_id(&self) -> BrokerId;

    /// The cluster's id.
    fn cluster_id(&self) -> &str;

    /// The metadata as this node last applied it.
    fn image(&self) -> Arc<MetadataImage>;

    /// `server.properties` after overrides.
    fn properties(&self) -> &Properties;

    /// Who leads the metadata quorum, as far as this node knows; else `BrokerId::NONE`.
    fn quorum_leader(&self) -> BrokerId;

    /// The level of `kraft.version`, which lives in the quorum's control records and not in the image (KIP-853).
    fn kraft_version(&self) -> i16;

    /// Starts to create topics that a client asked about, unless `auto.create.topics.enable` is off or their creation is
    /// under way. The names are legal. Does not wait: the client is told UNKNOWN_TOPIC_OR_PARTITION and asks again.
    fn auto_create_topics(&self, names: Vec<String>);

    /// This broker's log directories in the configured order, each path absolute, with all replicas in them.
    fn log_directories(&self) -> impl Future<Output = Vec<LogDirectory>> + Send;
}

/// What the node logs (KIP-412).
pub trait LoggerApi: Send + Sync + 'static {
    /// All loggers by name, [`crate::metadata::loggers::ROOT`] among them. One without a level of its own has that of the
    /// nearest above it.
    fn loggers(&self) -> BTreeMap<String, LogLevel>;

    /// Gives a logger a level of its own, or with `None` takes it away.
    fn set_log_level(&self, logger: &str, level: Option<LogLevel>);
}

/// A log directory of this broker (DescribeLogDirs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirectory {
    /// The absolute path.
    pub path: Arc<str>,
    /// It failed: nothing else is known of it.
    pub is_offline: bool,
    /// The size of the file system (KIP-827).
    pub total_bytes: u64,
    /// What is left of it.
    pub usable_bytes: u64,
    /// The replicas that it holds.
    pub replicas: Vec<ReplicaOnDisk>,
}

/// A replica in a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaOnDisk {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The size of its segments.
    pub size_bytes: u64,
    /// How many offsets its log end lies behind the high watermark; 0 when it does not.
    pub offset_lag: i64,
}

/// Ids for idempotent producers.
pub trait ProducerIdApi: Send + Sync + 'static {
    /// An id that nobody was given before, from this broker's block; COORDINATOR_LOAD_IN_PROGRESS, which producers retry,
    /// when the controller does not give another block in time.
    fn next_producer_id(&self) -> impl Future<Output = Result<ProducerId, ErrorCode>> + Send;
}

/// The metadata quorum, as controllers and observers see it on the controller listener.
pub trait RaftApi: Send + Sync + 'static {
    /// Answers Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch and FetchSnapshot on the metadata partition. A fetch waits for
    /// something new as long as it allows.
    fn handle(&self, request: raft::messages::Request) -> impl Future<Output = raft::messages::ReplyResult> + Send;

    /// What DescribeQuorum tells; `None` when this node does not lead the quorum.
    fn describe_quorum(&self) -> impl Future<Output = Option<raft::QuorumStatus>> + Send;
}

/// Groups and their offsets, as far as this broker coordinates them. Every method answers NOT_COORDINATOR for a group that
/// another broker coordinates, COORDINATOR_LOAD_IN_PROGRESS while the groups are read from the log, and
/// COORDINATOR_NOT_AVAILABLE when the broker stops or its log failed.
pub trait GroupApi: Send + Sync + 'static {
    /// The broker that coordinates a group. Creates the topic of offsets where there is none yet: then the answer is
    /// COORDINATOR_NOT_AVAILABLE, which clients retry.
    fn find_group_coordinator(&self, group_id: &str) -> impl Future<Output = Result<BrokerId, ApiError>> + Send;

    /// Takes a command to a group and answers once what the answer tells is committed. A JoinGroup or SyncGroup may take as
    /// long as a rebalance.
    fn group<C: GroupCommand>(&self, command: C) -> impl Future<Output = Result<C::Reply, ErrorCode>> + Send;

    /// The groups that this broker coordinates.
    fn list_groups(&self, filter: ListGroups) -> impl Future<Output = Result<Vec<ListedGroup>, ErrorCode>> + Send;
}
