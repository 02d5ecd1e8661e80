//! What the rest of the node asks of the replica's thread, and the offsets that it hands out before the thread runs.

use std::collections::VecDeque;
use std::time::Duration;

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{LeaderEpoch, Offset, Timestamp};
use ottla_domain::metadata::records::MetadataRecord;
use ottla_domain::ports::outbound::NotLeader;
use ottla_domain::raft::messages::{ReplyResult, Request};
use ottla_domain::raft::{Peer, QuorumStatus, SnapshotId};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::error::RaftError;

/// Requests beyond are refused.
const REQUESTS_MAX: usize = 1024;
/// The caller of an append waits while so many records are on their way to the disk.
const PENDING_RECORDS_MAX: usize = 100_000;

/// Something for the replica's thread to do.
pub(crate) enum Command {
    Request {
        request: Request,
        reply: oneshot::Sender<ReplyResult>,
    },
    Reply {
        from: Peer,
        correlation: u64,
        reply: ReplyResult,
    },
    Describe(oneshot::Sender<Option<QuorumStatus>>),
    Resign(LeaderEpoch),
    Snapshot {
        id: SnapshotId,
        timestamp: Timestamp,
        records: Vec<MetadataRecord>,
    },
    SnapshotWritten(Result<SnapshotId, RaftError>),
    Shutdown(Duration),
}

/// Records that were promised offsets from `base_offset` on, under an epoch.
pub(crate) struct PendingBatch {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) base_offset: Offset,
    pub(crate) records: Vec<MetadataRecord>,
}

/// What was found in the inbox.
pub(crate) struct Work {
    pub(crate) commands: VecDeque<Command>,
    pub(crate) appends: Vec<PendingBatch>,
}

#[derive(Default)]
struct Content {
    commands: VecDeque<Command>,
    requests: usize,
    appends: Vec<PendingBatch>,
    pending_records: usize,
    /// The epoch that this replica leads, and the offset that its next record gets.
    leading: Option<(LeaderEpoch, Offset)>,
    is_closed: bool,
}

#[derive(Default)]
pub(crate) struct Inbox {
    content: Mutex<Content>,
    arrived: Condvar,
    drained: Condvar,
}

impl Inbox {
    /// Adds a command, which always has room: there is one a peer, or one a call of the node itself.
    pub(crate) fn push(&self, command: Command) {
        let mut content = self.content.lock();
        if !content.is_closed {
            content.commands.push_back(command);
            self.arrived.notify_one();
        }
    }

    /// Adds a request from outside, if there is room for it.
    pub(crate) fn request(&self, command: Command) -> Result<(), ErrorCode> {
        let mut content = self.content.lock();
        if content.is_closed {
            return Err(ErrorCode::BrokerNotAvailable);
        }
        if content.requests >= REQUESTS_MAX {
            return Err(ErrorCode::RequestTimedOut);
        }
        content.requests += 1;
        content.commands.push_back(command);
        self.arrived.notify_one();
        Ok(())
    }

    /// Promises offsets to records under an epoch, in the order of the calls.
    pub(crate) fn append(&self, epoch: LeaderEpoch, records: Vec<MetadataRecord>) -> Result<Offset, NotLeader> {
        let mut content = self.content.lock();
        while content.pending_records >= PENDING_RECORDS_MAX {
            self.drained.wait(&mut content);
        }
        let Some((leading, next)) = &mut content.leading else {
            return Err(NotLeader { epoch });
        };
        if *leading != epoch {
            return Err(NotLeader { epoch });
        }
        let base_offset = *next;
        *next = base_offset.plus(records.len() as i64);
        if !records.is_empty() {
            content.pending_records += records.len();
            content.appends.push(PendingBatch {
                epoch,
                base_offset,
                records,
            });
            self.arrived.notify_one();
        }
        Ok(base_offset)
    }

    /// Starts or ends the promising of offsets. Batches that were promised offsets under the epoch that ends are dropped.
    pub(crate) fn set_leading(&self, leading: Option<(LeaderEpoch, Offset)>) {
        let mut content = self.content.lock();
        content.leading = leading;
        content.appends.clear();
        content.pending_records = 0;
        self.drained.notify_all();
    }

    /// Takes everything that is there, after waiting for something for as long as `timeout`.
    pub(crate) fn take(&self, timeout: Option<Duration>) -> Work {
        let mut content = self.content.lock();
        if content.commands.is_empty() && content.appends.is_empty() {
            match timeout {
                Some(timeout) => {
                    self.arrived.wait_for(&mut content, timeout);
                }
                None => self.arrived.wait(&mut content),
            }
        }
        content.requests = 0;
        content.pending_records = 0;
        self.drained.notify_all();
        Work {
            commands: std::mem::take(&mut content.commands),
            appends: std::mem::take(&mut content.appends),
        }
    }

    /// The thread has ended: nothing is taken in any more, and who waits is told.
    pub(crate) fn close(&self) {
        let mut content = self.content.lock();
        *content = Content {
            is_closed: true,
            ..Content::default()
        };
        self.drained.notify_all();
    }
}
