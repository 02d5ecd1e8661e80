//! What goes into a step and what comes out of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::connections::Peer;
use super::control::ControlRecord;
use super::election::ElectionState;
use super::log::{AppendError, SnapshotId};
use super::messages::{ReplyResult, Request};
use crate::ids::{BrokerId, LeaderEpoch, Mono, Offset, Timestamp};
use crate::record::batch::RecordBatch;

/// The settings of a quorum, with Kafka's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumConfig {
    /// `controller.quorum.election.timeout.ms`: an election lasts this long and up to twice as long.
    pub election_timeout_ms: i64,
    /// `controller.quorum.fetch.timeout.ms`: a voter that hears nothing from the leader for so long wants an election.
    pub fetch_timeout_ms: i64,
    /// `controller.quorum.election.backoff.max.ms`: the longest wait of a voter that a resigning leader names last.
    pub election_backoff_max_ms: i64,
    /// `controller.quorum.request.timeout.ms`: a reply is overdue after this.
    pub request_timeout_ms: i64,
    /// `controller.quorum.retry.backoff.ms`: how long a peer is spared after a failure.
    pub retry_backoff_ms: i64,
    /// `controller.quorum.fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `controller.quorum.fetch.snapshot.max.bytes`.
    pub fetch_snapshot_max_bytes: i32,
    /// How long a fetch asks the leader to wait for something new.
    pub fetch_max_wait_ms: i32,
}

impl Default for QuorumConfig {
    fn default() -> Self {
        QuorumConfig {
            election_timeout_ms: 1_000,
            fetch_timeout_ms: 2_000,
            election_backoff_max_ms: 1_000,
            request_timeout_ms: 2_000,
            retry_backoff_ms: 20,
            fetch_max_bytes: 1024 * 1024,
            fetch_snapshot_max_bytes: 1024 * 1024,
            fetch_max_wait_ms: 500,
        }
    }
}

/// Time and chance at a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// What timeouts read.
    pub mono: Mono,
    /// What control records are stamped with.
    pub wall: Timestamp,
    /// Fresh random bits.
    pub entropy: u64,
}

impl Moment {
    /// A number below `bound` (0 for a bound of 0), by splitmix64.
    pub(super) fn draw(&mut self, bound: u64) -> u64 {
        self.entropy = self.entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.entropy;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)).checked_rem(bound).unwrap_or(0)
    }
}

/// Names a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Something that happens to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes: the next deadline is due.
    Tick,
    /// A peer asks.
    Request {
        /// Comes back with the answer.
        token: Token,
        /// What it asks.
        request: Request,
    },
    /// A peer answers, or does not.
    Reply {
        /// Who.
        from: Peer,
        /// From [`Outgoing`].
        correlation: u64,
        /// What it says.
        reply: ReplyResult,
    },
    /// The leader's own records: batches of its epoch that continue the log ([`super::Raft::leading`]).
    Append(Vec<RecordBatch>),
    /// A snapshot made here is on disk.
    SnapshotFrozen(SnapshotId),
    /// Everything below this snapshot left the log, and older snapshots are gone.
    LogStartAdvanced(SnapshotId),
    /// The fetched snapshot ([`SnapshotPiece`]) is on disk and has replaced the log.
    SnapshotInstalled {
        /// Which.
        id: SnapshotId,
        /// The control records in it.
        records: Vec<ControlRecord>,
    },
    /// The listener cannot lead this epoch any longer.
    Resign(LeaderEpoch),
    /// Stop; a leader of others first hands over, until the deadline.
    Shutdown {
        /// When to stop in any case.
        deadline: Mono,
    },
}

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: Peer,
    /// Its address.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Comes back with the reply.
    pub correlation: u64,
    /// When the reply is overdue.
    pub overdue_at: Mono,
    /// What to ask.
    pub request: Request,
}

/// Bytes that the driver puts into an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Batches of the log, for [`super::messages::Fetched::Records`].
    Log {
        /// Where to start.
        from: Offset,
        /// Where to end at the latest.
        up_to: Offset,
        /// How much; the first batch is read even if it is larger.
        max_bytes: i32,
    },
    /// A piece of a snapshot; a position outside of it is answered with POSITION_OUT_OF_RANGE.
    Snapshot {
        /// Which.
        id: SnapshotId,
        /// Where to start.
        position: i64,
        /// How much.
        max_bytes: i32,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which request.
    pub token: Token,
    /// What to answer.
    pub reply: ReplyResult,
    /// What to read into it first.
    pub read: Option<Read>,
}

/// A piece of a snapshot that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// Which snapshot; the first piece of another one discards what there is of this one.
    pub id: SnapshotId,
    /// Where the piece goes.
    pub position: i64,
    /// The piece.
    pub bytes: Bytes,
    /// The snapshot is complete: make it durable, replace the log with it, and say [`Input::SnapshotInstalled`].
    pub is_last: bool,
}

/// Who leads in which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderAndEpoch {
    /// `None` during elections.
    pub leader: Option<BrokerId>,
    /// The epoch.
    pub epoch: LeaderEpoch,
}

/// What a step asks of the driver, to be done in the order of the fields: nothing is sent before what it promises is on
/// disk. When one fails, the rest must not be done, and the replica must not be used again.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Write this, and sync it.
    pub persist: Option<ElectionState>,
    /// Cut the log's end.
    pub truncate: Option<Offset>,
    /// The epoch that this leader starts at the log's end; stored with the log's epochs.
    pub start_epoch: Option<LeaderEpoch>,
    /// Append these.
    pub append: Vec<RecordBatch>,
    /// Sync the log after appending.
    pub sync: bool,
    /// Write a piece of a fetched snapshot.
    pub snapshot: Option<SnapshotPiece>,
    /// Records below this offset are committed.
    pub high_watermark: Option<Offset>,
    /// Another leader, or another epoch.
    pub leader: Option<LeaderAndEpoch>,
    /// Requests to send.
    pub sends: Vec<Outgoing>,
    /// Requests to answer.
    pub answers: Vec<Answer>,
    /// The replica has stopped, or its deadline has passed.
    pub is_stopped: bool,
}

impl Effects {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.persist.is_none()
            && self.truncate.is_none()
            && self.start_epoch.is_none()
            && self.append.is_empty()
            && self.snapshot.is_none()
            && self.high_watermark.is_none()
            && self.leader.is_none()
            && self.sends.is_empty()
            && self.answers.is_empty()
            && !self.is_stopped
    }
}

/// The replica met what must not be: it stops, as going on could lose committed records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A peer names another leader for an epoch than is known here.
    #[error("node {other} is said to lead epoch {epoch}, but {}", Known(*.known))]
    TwoLeaders {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The leader that is known here.
        known: Option<BrokerId>,
        /// The leader that the peer names.
        other: BrokerId,
    },
    /// The leader's log lacks records that are known to be committed.
    #[error("the leader asks to truncate to offset {end}, but everything below {committed} is committed")]
    CommittedRecordsLost {
        /// Where the leader wants to truncate to.
        end: Offset,
        /// What is committed.
        committed: Offset,
    },
    /// The leader's own batches are not what they should be.
    #[error(transparent)]
    Append(#[from] AppendError),
}

struct Known(Option<BrokerId>);

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(leader) => write!(f, "node {leader} does"),
            None => f.write_str("this node does not"),
        }
    }
}
