//! One request at a time to each peer: which wait for a reply, which back off after a failure.

use std::collections::BTreeMap;

use super::log::EpochEnd;
use crate::ids::{BrokerId, Mono};

/// Whom a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// A node whose id is known.
    Node(BrokerId),
    /// An entry of `controller.quorum.bootstrap.servers` (or of `controller.quorum.voters`), by its position: it is asked
    /// who leads.
    Bootstrap(usize),
}

#[derive(Clone, Copy, Debug)]
enum Connection {
    Awaiting {
        correlation: u64,
        until: Mono,
        /// Where the log ended when the request was sent.
        log_end: EpochEnd,
    },
    BackingOff {
        until: Mono,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    peers: BTreeMap<Peer, Connection>,
    last_correlation: u64,
}

impl Connections {
    /// `Ok` when a request may go to `peer`, else when to try again.
    pub(super) fn ready(&mut self, peer: Peer, now: Mono) -> Result<(), Mono> {
        match self.peers.get(&peer) {
            Some(Connection::Awaiting { until, .. } | Connection::BackingOff { until }) if now < *until => Err(*until),
            _ => {
                self.peers.remove(&peer);
                Ok(())
            }
        }
    }

    /// True when the reply of `peer` is overdue.
    pub(super) fn is_overdue(&self, peer: Peer, now: Mono) -> bool {
        matches!(self.peers.get(&peer), Some(Connection::Awaiting { until, .. }) if *until <= now)
    }

    /// True while `peer` is spared after a failure.
    pub(super) fn is_backing_off(&self, peer: Peer, now: Mono) -> bool {
        matches!(self.peers.get(&peer), Some(Connection::BackingOff { until }) if now < *until)
    }

    /// When the last of the replies that are waited for will be overdue; `None` when none is waited for.
    pub(super) fn in_flight(&self, now: Mono) -> Option<Mono> {
        self.peers
            .values()
            .filter_map(|connection| match connection {
                Connection::Awaiting { until, .. } if now < *until => Some(*until),
                _ => None,
            })
            .min()
    }

    /// Notes a request, sent while the log ends at `log_end`, and returns its correlation id.
    pub(super) fn sent(&mut self, peer: Peer, until: Mono, log_end: EpochEnd) -> u64 {
        self.last_correlation = self.last_correlation.wrapping_add(1);
        let correlation = self.last_correlation;
        let awaiting = Connection::Awaiting {
            correlation,
            until,
            log_end,
        };
        self.peers.insert(peer, awaiting);
        correlation
    }

    /// Where the log ended when the request was sent that this reply answers; `None` when no such reply is waited for.
    pub(super) fn awaited(&self, peer: Peer, correlation: u64) -> Option<EpochEnd> {
        match self.peers.get(&peer) {
            Some(Connection::Awaiting {
                correlation: awaited,
                log_end,
                ..
            }) if *awaited == correlation => Some(*log_end),
            _ => None,
        }
    }

    /// Notes how a reply was taken: after a failure the peer is spared until `retry_at`.
    pub(super) fn settle(&mut self, peer: Peer, correlation: u64, is_success: bool, retry_at: Mono) {
        if self.awaited(peer, correlation).is_none() {
            return;
        }
        if is_success {
            self.peers.remove(&peer);
        } else {
            self.peers.insert(peer, Connection::BackingOff { until: retry_at });
        }
    }

    pub(super) fn reset(&mut self, peer: Peer) {
        self.peers.remove(&peer);
    }

    /// Forgets all requests: replies to them are ignored.
    pub(super) fn reset_all(&mut self) {
        self.peers.clear();
    }
}
