//! Outbound ports: what `app` asks of storage, of the metadata log and of the machine.
//!
//! Storage calls block and never need an async runtime; `app` decides whether a call runs inline (page cache) or on a
//! blocking thread (anything that may wait for a disk).

use std::sync::Arc;

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::ids::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, Mono, Offset, PartitionId, Timestamp, TopicId};
use crate::log::compaction::{Counts, OffsetMap};
use crate::log::config::LogConfig;
use crate::log::producers::ProducerStates;
use crate::log::retention::SegmentFacts;
use crate::log::state::LogState;
use crate::metadata::records::MetadataRecord;
use crate::raft::Outgoing;
use crate::raft::messages::ReplyResult;
use crate::record::batch::{BatchHeader, HEADER_SIZE_BYTES};
use crate::record::compression::Compression;

/// A range of record batches as it lies in a log: in memory, or in a file that `R` gives access to. It begins with a whole
/// batch; the last batch of a file range may be cut short by a limit on its size, as in every fetch of Kafka's.
#[derive(Clone, Debug)]
pub enum RecordSlice<R> {
    /// Batches in memory.
    Memory(Bytes),
    /// Batches in a file, to be sent without copying them through user space.
    File {
        /// Keeps the file open, also after its segment was deleted.
        region: R,
        /// Where the first batch starts, in bytes from the start of the file.
        position: u64,
        /// How much to send.
        size_bytes: u32,
    },
}

impl<R> RecordSlice<R> {
    /// The length of the range in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            RecordSlice::Memory(bytes) => bytes.len(),
            RecordSlice::File { size_bytes, .. } => *size_bytes as usize,
        }
    }
}

/// A batch ready to be written: its final header, and the rest of the batch as it came in.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    /// The parsed form of `header_bytes`.
    pub header: BatchHeader,
    /// The 61 bytes with the offset and the leader epoch assigned.
    pub header_bytes: [u8; HEADER_SIZE_BYTES],
    /// Everything behind the header, untouched.
    pub body: Bytes,
}

/// Why storage could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The offset lies outside of the log: OFFSET_OUT_OF_RANGE.
    #[error("offset {offset} is outside of the log's range {log_start} to {log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// One past the last offset there is.
        log_end: Offset,
    },
    /// The log's directory failed, now or before: KAFKA_STORAGE_ERROR until the node restarts.
    #[error("log directory {directory} is offline: {reason}")]
    Offline {
        /// The directory's path.
        directory: Arc<str>,
        /// The first failure, for a person.
        reason: Arc<str>,
    },
    /// Start-up met something it neither repairs nor may ignore.
    #[error("{0}")]
    Refused(String),
}

impl StorageError {
    /// True when a directory failed, which was said when it did.
    pub const fn is_offline(&self) -> bool {
        matches!(self, StorageError::Offline { .. })
    }

    /// What a client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            StorageError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            StorageError::Offline { .. } | StorageError::Refused(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// What a cleaning of a log goes by (`cleanup.policy=compact`).
pub struct Cleaning<'a> {
    /// Where the last cleaning ended.
    pub first_dirty: Offset,
    /// Where this one ends at the latest: where a segment begins.
    pub first_uncleanable: Offset,
    /// Empty; filled by the first pass.
    pub map: OffsetMap,
    /// How much is read at a time, and as much is gathered before it is written.
    pub buffer_bytes: usize,
    /// When it begins.
    pub now: Timestamp,
    /// The codecs.
    pub compression: &'a dyn Compression,
    /// The producers of the log as they are when this is called.
    pub producers: &'a dyn Fn() -> ProducerStates,
    /// Told of every so many bytes that were read or written; may wait. False ends the cleaning.
    pub go_on: &'a dyn Fn(u64) -> bool,
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cleaned {
    /// Where it ended: the next one begins here.
    pub end: Offset,
    /// Bytes of the first pass.
    pub mapped_bytes: u64,
    /// Bytes of the second pass.
    pub read_bytes: u64,
    /// What is left of them.
    pub retained_bytes: u64,
    /// Records of the second pass, as far as they were looked at.
    pub records: Counts,
    /// How full the map was, 0 to 1.
    pub map_utilization: f64,
}

/// Why a log was not cleaned to the end. Segments that were replaced before stay so; nothing is lost.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CleaningError {
    /// The log was deleted or cut meanwhile, or it was told to end: try again.
    #[error("the cleaning was aborted")]
    Aborted,
    /// The directory failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is in the log cannot be understood: trying again is no use.
    #[error("{0}")]
    Uncleanable(String),
}

/// The log of one replica: whole record batches in segments.
///
/// Calls that change the log (`append`, `roll`, `truncate`, `replace_all`) are made by one caller at a time (under the
/// partition's lock); reads, `sync`, `advance_log_start` and `clean` run beside them.
pub trait PartitionLog: Send + Sync + 'static {
    /// Access to a segment's file for `sendfile`.
    type Region: Clone + Send + Sync + 'static;

    /// The first offset of the log.
    fn log_start_offset(&self) -> Offset;

    /// One past the last offset that was appended.
    fn log_end_offset(&self) -> Offset;

    /// Everything below this offset survives a power failure.
    fn synced_offset(&self) -> Offset;

    /// Writes batches with consecutive offsets at the log's end into the page cache, rolling to a new segment first when
    /// the rules of `segment.bytes`, `segment.ms`, `segment.index.bytes` or offset overflow say so. `state` is the log's
    /// state before these batches: a roll snapshots its producers. After an error the directory is offline.
    fn append(&self, batches: &[EncodedBatch], state: &LogState, now: Timestamp) -> Result<(), StorageError>;

    /// True while writes to this log's directory stall: then appends belong on a blocking thread.
    fn is_slow(&self) -> bool;

    /// Makes everything appended so far durable and returns the offset below which it is. Blocks on the disk.
    fn sync(&self) -> Result<Offset, StorageError>;

    /// Batches from the one that holds `from`, up to `upper` (exclusive; no batch that ends above it) and up to
    /// `max_bytes`, which may cut the last batch short. A first batch that is larger is returned whole with
    /// `at_least_one`, else the slice is empty; so it is when `from` is `upper`. A slice ends with its segment. Does not
    /// block when [`PartitionLog::is_resident`] says so.
    fn read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<RecordSlice<Self::Region>, StorageError>;

    /// True when finding `offset` needs no index lookup on disk.
    fn is_resident(&self, offset: Offset) -> bool;

    /// Reads a slice into memory; shorter than the slice where the log was truncated meanwhile. Blocks on the disk.
    fn load(&self, slice: &RecordSlice<Self::Region>) -> Result<Bytes, StorageError>;

    /// The first batch that begins below `upper` and ends at or above the log start offset, and whose largest timestamp
    /// is at least `timestamp`. Blocks on the disk.
    fn find_by_timestamp(&self, timestamp: Timestamp, upper: Offset) -> Result<Option<Bytes>, StorageError>;

    /// The earliest batch that holds the log's largest timestamp; `None` when it does not begin below `upper`, or when no
    /// batch has a timestamp. Blocks on the disk.
    fn find_largest_timestamp(&self, upper: Offset) -> Result<Option<Bytes>, StorageError>;

    /// The segments in the order of their offsets, the active one last. The first call after a start reads the largest
    /// timestamps from the index and blocks on the disk.
    fn segments(&self) -> Vec<SegmentFacts>;

    /// Starts a new segment at the log's end, unless the active one is empty.
    fn roll(&self, state: &LogState) -> Result<(), StorageError>;

    /// Raises the log start offset durably (DeleteRecords, retention) before it returns. Segments that lie wholly below
    /// it leave the log; their files are deleted after `file.delete.delay.ms`. Blocks on the disk.
    fn advance_log_start(&self, log_start: Offset) -> Result<(), StorageError>;

    /// Cuts the log durably so that it ends at or below `end` (below when `end` lies within a batch), and brings `state`
    /// to what it was there: producers from a snapshot and the batches behind it. Blocks on the disk.
    fn truncate(&self, end: Offset, state: &mut LogState) -> Result<(), StorageError>;

    /// Drops everything durably and starts again, empty, at `start`; `state` becomes that of an empty log. Blocks on the
    /// disk.
    fn replace_all(&self, start: Offset, state: &mut LogState) -> Result<(), StorageError>;

    /// Keeps the leader epochs: called after a new epoch was assigned and before its first append is acknowledged. A crash
    /// loses none; after a power failure, those of batches that survived it are found in the batches.
    fn store_epochs(&self, state: &LogState) -> Result<(), StorageError>;

    /// The largest timestamp of the first batch of the segment that begins at `base_offset`; -1 when there is none. Blocks
    /// on the disk.
    fn first_timestamp(&self, base_offset: Offset) -> Result<Timestamp, StorageError>;

    /// Where the last cleaning ended, as the checkpoint says; truncation lowers it.
    fn cleaned_offset(&self) -> Option<Offset>;

    /// Sets where the last cleaning ended, durably. Blocks on the disk.
    fn set_cleaned_offset(&self, offset: Offset) -> Result<(), StorageError>;

    /// Cleans the log: the latest record of each key stays. Segments are replaced one group at a time, each so that a crash
    /// leaves the old ones or the new one; reads that began before go on in the old ones. Blocks for long, and runs beside
    /// all other calls; one cleaning of a log at a time.
    fn clean(&self, cleaning: Cleaning<'_>) -> Result<Cleaned, CleaningError>;

    /// Takes new settings into account.
    fn set_config(&self, config: Arc<LogConfig>);

    /// The directory that holds this log.
    fn directory(&self) -> DirectoryId;
}

/// A log that was found or made, and the state that goes with it.
pub struct OpenedLog<L> {
    /// The topic's name.
    pub topic: Arc<str>,
    /// From `partition.metadata`.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: PartitionId,
    /// The log.
    pub log: Arc<L>,
    /// Offsets, epochs and producers, as they were recovered.
    pub state: LogState,
}

/// One of `log.dirs`.
#[derive(Clone, Debug)]
pub struct DirectoryFacts {
    /// From `meta.properties`.
    pub id: DirectoryId,
    /// As configured.
    pub path: Arc<str>,
    /// The first failure of a directory that is offline.
    pub offline: Option<Arc<str>>,
    /// The size of the file system (KIP-827).
    pub total_bytes: u64,
    /// What is left of it.
    pub usable_bytes: u64,
}

/// All log directories of this node.
pub trait LogStore: Send + Sync + 'static {
    /// A log of this store.
    type Log: PartitionLog;

    /// The directories in the configured order.
    fn directories(&self) -> Vec<DirectoryFacts>;

    /// Opens every log of every directory, after recovery where the last stop was not clean; several logs at a time.
    /// `config` gives a topic's settings. Folders whose topic id and partition `is_placed_here` does not know are strays: as
    /// in Kafka, they are renamed to `topic-partition.<id>-stray` and kept, because the metadata may be what is wrong.
    fn open_all(
        &self,
        is_placed_here: &(dyn Fn(TopicId, PartitionId) -> bool + Sync),
        config: &(dyn Fn(&str) -> Arc<LogConfig> + Sync),
        now: Timestamp,
    ) -> Result<Vec<OpenedLog<Self::Log>>, StorageError>;

    /// Makes an empty log in a directory. It survives a power failure once something in it does.
    fn create(
        &self,
        directory: DirectoryId,
        topic: &str,
        topic_id: TopicId,
        partition: PartitionId,
        config: Arc<LogConfig>,
    ) -> Result<OpenedLog<Self::Log>, StorageError>;

    /// Takes logs out of their directories at once (by renaming their folders, as Kafka, to `.<id>-delete`); the files are
    /// removed by [`LogStore::purge`] after the delay. Directories that are offline are passed over.
    fn delete(&self, logs: &[Arc<Self::Log>], delay_ms: i64) -> Result<(), StorageError>;

    /// Removes files that have waited for as long as they must since a call of this saw them first.
    fn purge(&self, now: Mono);

    /// Writes recovery points and high watermarks, as Kafka does every minute. Directories that are offline are passed
    /// over.
    fn checkpoint(&self, high_watermarks: &[(Arc<Self::Log>, Offset)]) -> Result<(), StorageError>;

    /// Flushes everything, snapshots producers, and writes `.kafka_cleanshutdown` last, with `broker_epoch` in it; in each
    /// directory that is not offline. All logs must be there, that of the metadata quorum too.
    fn close(&self, logs: &[(Arc<Self::Log>, LogState)], broker_epoch: BrokerEpoch) -> Result<(), StorageError>;
}

/// A clock; tests turn it by hand.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> Timestamp;
    /// A clock that never steps.
    fn mono(&self) -> Mono;
}

/// A source of randomness; tests seed it.
pub trait Entropy: Send + Sync + 'static {
    /// 128 fresh bits.
    fn draw(&self) -> u128;
}

/// The controller is not this node, or no longer in the epoch that it was asked under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not lead the metadata quorum in epoch {epoch}")]
pub struct NotLeader {
    /// The epoch that was asked for.
    pub epoch: LeaderEpoch,
}

/// What the metadata log tells its listeners, in the order of the log.
#[derive(Clone, Debug)]
pub enum MetadataEvent {
    /// A snapshot that replaces everything told before.
    Snapshot {
        /// One past the last offset that the snapshot covers.
        end_offset: Offset,
        /// The epoch of the last record that it covers.
        epoch: LeaderEpoch,
        /// When the last record that it covers was appended.
        timestamp: Timestamp,
        /// All of it.
        records: Vec<MetadataRecord>,
    },
    /// A committed batch; control batches come without records, so that offsets have no gaps.
    Committed {
        /// The offset of the last record.
        last_offset: Offset,
        /// The epoch in which it was appended.
        epoch: LeaderEpoch,
        /// When it was appended.
        timestamp: Timestamp,
        /// Its records.
        records: Vec<MetadataRecord>,
    },
    /// The quorum has a leader, or none. A node hears that it leads itself only after it has heard of every record below
    /// `next_offset`, which includes the leader's own first control record.
    Leader {
        /// The quorum's epoch.
        epoch: LeaderEpoch,
        /// Who leads, if anyone.
        leader: Option<BrokerId>,
        /// Where the next record goes, for the leader itself; -1 for others.
        next_offset: Offset,
    },
    /// So much was committed since the last snapshot, or so long ago was it, that another is due: the listener answers with
    /// [`MetadataLog::snapshot`] (metadata.log.max.record.bytes.between.snapshots, metadata.log.max.snapshot.interval.ms).
    SnapshotDue,
}

/// The metadata log, as the controller writes it. Listeners receive [`MetadataEvent`]s.
pub trait MetadataLog: Send + Sync + 'static {
    /// Appends records as one atomic batch under the leader epoch that the caller evaluated them in, and returns the
    /// offset of the first one. They are committed when listeners have heard of them. Many calls may be under way at
    /// once; they take effect in the order in which they were made and may share a disk write.
    fn append(&self, epoch: LeaderEpoch, records: Vec<MetadataRecord>) -> Result<Offset, NotLeader>;

    /// Gives up the leadership of this epoch: the caller cannot go on.
    fn resign(&self, epoch: LeaderEpoch);

    /// Writes a snapshot of everything up to and including `last_offset`, in the background.
    fn snapshot(&self, last_offset: Offset, epoch: LeaderEpoch, timestamp: Timestamp, records: Vec<MetadataRecord>);
}

/// Takes the quorum's requests to other nodes.
pub trait RaftTransport: Send + Sync + 'static {
    /// Sends a request and hands its reply to `on_reply`, or, when there is none, the code that says why (BROKER_NOT_AVAILABLE,
    /// REQUEST_TIMED_OUT, UNSUPPORTED_VERSION). Does not block.
    fn send(&self, request: Outgoing, on_reply: Box<dyn FnOnce(ReplyResult) + Send>);
}
