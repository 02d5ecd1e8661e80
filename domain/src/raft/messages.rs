//! The requests and replies of the quorum, without versions, topics and tagged fields: one type a request and one a
//! reply, used by the side that sends it and by the side that answers.
//!
//! A reply that failed as a whole (another cluster, a malformed request) is the `Err` of a [`ReplyResult`]; failures of
//! the partition are in [`Leadership::error`].

use std::sync::Arc;

use bytes::Bytes;

use super::log::{EpochEnd, SnapshotId};
use super::voters::{Endpoints, ReplicaKey};
use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, Offset};

/// Vote (52): a candidate asks for a vote, or, before it dares to raise the epoch, whether it would get one (KIP-996).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// `None` when the sender does not say.
    pub cluster_id: Option<Arc<str>>,
    /// Whom the request is meant for; `None` when the sender does not say (versions before KIP-853).
    pub voter: Option<ReplicaKey>,
    /// Who wants to lead.
    pub candidate: ReplicaKey,
    /// The candidate's epoch.
    pub epoch: LeaderEpoch,
    /// The epoch of the last record in its log.
    pub last_epoch: LeaderEpoch,
    /// The end of its log.
    pub last_offset: Offset,
    /// True when this is only a question.
    pub pre_vote: bool,
}

/// BeginQuorumEpoch (53): a new leader tells voters that it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginQuorumEpochRequest {
    /// `None` when the sender does not say.
    pub cluster_id: Option<Arc<str>>,
    /// Whom the request is meant for; `None` when the sender does not say.
    pub voter: Option<ReplicaKey>,
    /// The sender.
    pub leader: BrokerId,
    /// The epoch that it leads.
    pub epoch: LeaderEpoch,
    /// Where it listens; empty when it does not say.
    pub endpoints: Endpoints,
}

/// EndQuorumEpoch (54): a leader that resigns asks voters for an election without waiting for a timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndQuorumEpochRequest {
    /// `None` when the sender does not say.
    pub cluster_id: Option<Arc<str>>,
    /// The sender.
    pub leader: BrokerId,
    /// The epoch that it led.
    pub epoch: LeaderEpoch,
    /// Voters in the order in which they should try, the one with the longest log first.
    pub successors: Vec<ReplicaKey>,
    /// Where the sender listens; empty when it does not say.
    pub endpoints: Endpoints,
}

/// Fetch (1) on the metadata partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// `None` when the sender does not say.
    pub cluster_id: Option<Arc<str>>,
    /// Who fetches; id -1 is no replica and is not tracked.
    pub replica: ReplicaKey,
    /// The epoch that the fetcher is in.
    pub epoch: LeaderEpoch,
    /// The end of its log.
    pub fetch_offset: Offset,
    /// The epoch of the last record in its log, 0 when it is empty.
    pub last_fetched_epoch: LeaderEpoch,
    /// The high watermark that it knows: an older one is answered at once (KIP-1166). -1 when it knows none;
    /// `i64::MAX`, the default on the wire, when it does not care.
    pub high_watermark: Offset,
    /// How long to wait for something new.
    pub max_wait_ms: i32,
    /// How much to answer; the first batch comes even if it is larger.
    pub max_bytes: i32,
}

/// FetchSnapshot (59): the next piece of a snapshot (KIP-630).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSnapshotRequest {
    /// `None` when the sender does not say.
    pub cluster_id: Option<Arc<str>>,
    /// Who fetches.
    pub replica: ReplicaKey,
    /// The epoch that the fetcher is in.
    pub epoch: LeaderEpoch,
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// Where the piece starts.
    pub position: i64,
    /// How much to answer.
    pub max_bytes: i32,
}

/// What every reply says of the partition: how the request fared and who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// NONE, or why the partition was refused.
    pub error: ErrorCode,
    /// The leader of `epoch`, if the answering node knows one.
    pub leader: Option<BrokerId>,
    /// The answering node's epoch.
    pub epoch: LeaderEpoch,
    /// Where the leader listens; the wire carries the one of the listener that was asked.
    pub endpoints: Endpoints,
}

/// The reply to [`VoteRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteReply {
    /// How the request fared.
    pub leadership: Leadership,
    /// True when the vote is given.
    pub granted: bool,
}

/// What the leader's log has for a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Whole batches from the fetch offset on; empty when there are none.
    Records(Bytes),
    /// The fetcher's log departs from the leader's: it truncates and asks again (KIP-595).
    Diverging(EpochEnd),
    /// The leader no longer has what the fetcher lacks: it fetches this snapshot (KIP-630).
    Snapshot(SnapshotId),
}

/// The reply to [`FetchRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchReply {
    /// How the request fared.
    pub leadership: Leadership,
    /// `None` (-1) while the leader has committed nothing in its epoch.
    pub high_watermark: Option<Offset>,
    /// Where the leader's log starts.
    pub log_start: Offset,
    /// What there is.
    pub fetched: Fetched,
}

/// The reply to [`FetchSnapshotRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSnapshotReply {
    /// How the request fared.
    pub leadership: Leadership,
    /// Which snapshot; `None` (-1) on errors.
    pub snapshot: Option<SnapshotId>,
    /// The size of the whole snapshot in bytes.
    pub size_bytes: i64,
    /// Where the piece starts.
    pub position: i64,
    /// The piece, not aligned to batches.
    pub bytes: Bytes,
}

/// A request of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Vote.
    Vote(VoteRequest),
    /// BeginQuorumEpoch.
    BeginQuorumEpoch(BeginQuorumEpochRequest),
    /// EndQuorumEpoch.
    EndQuorumEpoch(EndQuorumEpochRequest),
    /// Fetch.
    Fetch(FetchRequest),
    /// FetchSnapshot.
    FetchSnapshot(FetchSnapshotRequest),
}

/// The reply to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To Vote.
    Vote(VoteReply),
    /// To BeginQuorumEpoch.
    BeginQuorumEpoch(Leadership),
    /// To EndQuorumEpoch.
    EndQuorumEpoch(Leadership),
    /// To Fetch.
    Fetch(FetchReply),
    /// To FetchSnapshot.
    FetchSnapshot(FetchSnapshotReply),
}

/// A reply, or the error of the whole request. A sender that got no reply says so with NETWORK_EXCEPTION,
/// REQUEST_TIMED_OUT or, when the peer speaks no version that can carry the request, UNSUPPORTED_VERSION.
pub type ReplyResult = Result<Reply, ErrorCode>;
