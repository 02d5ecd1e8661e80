//! The replica as the rest of the node sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI16, Ordering};
use std::time::Duration;

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{LeaderEpoch, Offset, Timestamp};
use ottla_domain::metadata::records::MetadataRecord;
use ottla_domain::ports::inbound::RaftApi;
use ottla_domain::ports::outbound::{MetadataLog, NotLeader, RaftTransport};
use ottla_domain::raft::messages::{ReplyResult, Request};
use ottla_domain::raft::voters::KRaftVersion;
use ottla_domain::raft::{Outgoing, QuorumStatus, SnapshotId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::facts::RaftFacts;
use crate::inbox::{Command, Inbox};

/// Speaks to the replica's thread. Cheap to clone.
#[derive(Clone)]
pub struct RaftHandle {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) kraft_version: Arc<AtomicI16>,
    pub(crate) facts: Arc<Mutex<RaftFacts>>,
}

impl RaftHandle {
    /// Ends the replica: a leader of others first hands over, for as long as `timeout`.
    pub fn shutdown(&self, timeout: Duration) {
        self.inbox.push(Command::Shutdown(timeout));
    }

    /// The `kraft.version` by the last word of the log.
    pub fn kraft_version(&self) -> KRaftVersion {
        KRaftVersion(self.kraft_version.load(Ordering::Relaxed))
    }

    /// The replica as it is now, for metrics.
    pub fn facts(&self) -> RaftFacts {
        self.facts.lock().clone()
    }
}

impl MetadataLog for RaftHandle {
    fn append(&self, epoch: LeaderEpoch, records: Vec<MetadataRecord>) -> Result<Offset, NotLeader> {
        self.inbox.append(epoch, records)
    }

    fn resign(&self, epoch: LeaderEpoch) {
        self.inbox.push(Command::Resign(epoch));
    }

    fn snapshot(&self, last_offset: Offset, epoch: LeaderEpoch, timestamp: Timestamp, records: Vec<MetadataRecord>) {
        let id = SnapshotId {
            end_offset: last_offset.next(),
            epoch,
        };
        self.inbox.push(Command::Snapshot { id, timestamp, records });
    }
}

impl RaftApi for RaftHandle {
    async fn handle(&self, request: Request) -> ReplyResult {
        let (reply, answer) = oneshot::channel();
        self.inbox.request(Command::Request { request, reply })?;
        answer.await.unwrap_or(Err(ErrorCode::BrokerNotAvailable))
    }

    async fn describe_quorum(&self) -> Option<QuorumStatus> {
        let (reply, answer) = oneshot::channel();
        self.inbox.request(Command::Describe(reply)).ok()?;
        answer.await.ok().flatten()
    }
}

/// The transport of a quorum of one, which has nobody to talk to.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl RaftTransport for NoPeers {
    fn send(&self, _request: Outgoing, on_reply: Box<dyn FnOnce(ReplyResult) + Send>) {
        on_reply(Err(ErrorCode::BrokerNotAvailable));
    }
}
