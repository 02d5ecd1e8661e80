//! What listeners have heard of the log so far.

use std::collections::VecDeque;

use ottla_domain::ids::Offset;
use ottla_domain::ports::outbound::MetadataEvent;
use ottla_domain::raft::LeaderAndEpoch;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// A listener and where it is. It is never waited for: what does not fit into its channel is offered again later.
pub(crate) struct Listener {
    sender: Sender<MetadataEvent>,
    queued: VecDeque<MetadataEvent>,
    /// The next offset to tell of; `None` before the first snapshot or batch.
    pub(crate) next_offset: Option<Offset>,
    pub(crate) leader: Option<LeaderAndEpoch>,
}

impl Listener {
    pub(crate) fn new(sender: Sender<MetadataEvent>) -> Listener {
        Listener {
            sender,
            queued: VecDeque::new(),
            next_offset: None,
            leader: None,
        }
    }

    pub(crate) fn queue(&mut self, event: MetadataEvent) {
        self.queued.push_back(event);
    }

    /// Sends what is queued; true when all of it went.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(event) = self.queued.pop_front() {
            if let Err(TrySendError::Full(event)) = self.sender.try_send(event) {
                self.queued.push_front(event);
                return false;
            }
        }
        true
    }

    /// True when the leader, or that there is none, is news.
    pub(crate) fn is_leader_news(&self, now: LeaderAndEpoch) -> bool {
        self.leader.is_none_or(|heard| {
            now.epoch > heard.epoch || (now.epoch == heard.epoch && now.leader.is_some() && heard.leader.is_none())
        })
    }
}
