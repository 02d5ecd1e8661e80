//! The follower, voter or observer: it fetches what the leader has, truncates where their logs depart, and loads a
//! snapshot where the leader's log starts too late.

use std::sync::Arc;

use super::connections::Peer;
use super::control::ControlRecord;
use super::io::{Fault, SnapshotPiece};
use super::log::{EpochEnd, SnapshotId};
use super::machine::{Raft, State};
use super::messages::{FetchReply, FetchRequest, FetchSnapshotReply, FetchSnapshotRequest, Fetched, Request};
use super::voters::{Endpoints, ReplicaKey};
use crate::error::ErrorCode;
use crate::ids::{BrokerId, Mono, Offset};
use crate::record::batch::{Batches, RecordBatch};

/// A snapshot that is being fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotFetch {
    id: SnapshotId,
    position: i64,
    /// All of it is here; it is being put in place of the log.
    is_complete: bool,
}

/// What a follower keeps of its leader.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    pub(super) leader: BrokerId,
    pub(super) endpoints: Endpoints,
    pub(super) voted: Option<ReplicaKey>,
    /// A voter wants an election then.
    pub(super) fetch_until: Mono,
    /// It has heard from the leader in this epoch, so it does not help to overthrow it.
    pub(super) has_fetched: bool,
    pub(super) snapshot: Option<SnapshotFetch>,
}

impl Raft {
    pub(super) fn poll_follower(&mut self) -> Result<(), Fault> {
        let State::Follower(follower) = &self.state else {
            return Ok(());
        };
        let fetch_until = follower.fetch_until;
        let is_installing = follower.snapshot.is_some_and(|snapshot| snapshot.is_complete);
        if self.is_voter() && self.shutdown.is_none() {
            if fetch_until <= self.now() {
                return self.become_prospective();
            }
            self.wake_at(fetch_until);
        }
        if !is_installing && self.shutdown.is_none() {
            self.fetch_from_leader();
        }
        Ok(())
    }

    fn fetch_from_leader(&mut self) {
        let State::Follower(follower) = &self.state else {
            return;
        };
        let peer = Peer::Node(follower.leader);
        let snapshot = follower.snapshot;
        let Some((host, port)) = self
            .endpoint(&follower.endpoints)
            .map(|endpoint| (Arc::clone(&endpoint.host), endpoint.port))
        else {
            return;
        };
        let now = self.now();
        // A leader that does not answer may have been replaced: any node may know.
        if self.connections.is_overdue(peer, now) {
            self.connections.reset(peer);
            self.fetch_from_any_bootstrap();
        } else if self.connections.is_backing_off(peer, now) {
            self.fetch_from_any_bootstrap();
        } else if let Some(until) = self.connections.in_flight(now) {
            self.wake_at(until);
        } else {
            self.send(peer, host, port, |raft| match snapshot {
                Some(snapshot) => raft.fetch_snapshot_request(snapshot),
                None => raft.fetch_request(),
            });
        }
    }

    /// Asks one of the bootstrap servers, at random, to learn who leads.
    pub(super) fn fetch_from_any_bootstrap(&mut self) {
        let now = self.now();
        if let Some(until) = self.connections.in_flight(now) {
            return self.wake_at(until);
        }
        let count = self.id.bootstrap.len();
        let first = self.at.draw(count as u64) as usize;
        for index in (first..count).chain(0..first) {
            match self.connections.ready(Peer::Bootstrap(index), now) {
                Err(until) => self.wake_at(until),
                Ok(()) => {
                    if let Some((host, port)) = self.id.bootstrap.get(index).cloned() {
                        self.send(Peer::Bootstrap(index), host, port, |raft| raft.fetch_request());
                    }
                    return;
                }
            }
        }
        if let State::Follower(follower) = &self.state
            && let Err(until) = self.connections.ready(Peer::Node(follower.leader), now)
        {
            self.wake_at(until);
        }
    }

    fn fetch_request(&self) -> Request {
        Request::Fetch(FetchRequest {
            cluster_id: Some(Arc::clone(&self.id.cluster_id)),
            replica: self.id.local.key,
            epoch: self.epoch,
            fetch_offset: self.log.end(),
            last_fetched_epoch: self.log.last_epoch(),
            high_watermark: self.high_watermark.unwrap_or(Offset::NONE),
            max_wait_ms: self.config.fetch_max_wait_ms,
            max_bytes: self.config.fetch_max_bytes,
        })
    }

    fn fetch_snapshot_request(&self, snapshot: SnapshotFetch) -> Request {
        Request::FetchSnapshot(FetchSnapshotRequest {
            cluster_id: Some(Arc::clone(&self.id.cluster_id)),
            replica: self.id.local.key,
            epoch: self.epoch,
            snapshot: snapshot.id,
            position: snapshot.position,
            max_bytes: self.config.fetch_snapshot_max_bytes,
        })
    }

    fn on_fetched(&mut self) {
        let fetch_until = self.now().plus_ms(self.config.fetch_timeout_ms);
        if let State::Follower(follower) = &mut self.state {
            follower.fetch_until = fetch_until;
            follower.has_fetched = true;
        }
    }

    /// Takes what was fetched, for a log that ended at `asked_at`.
    pub(super) fn on_fetch_reply(&mut self, reply: FetchReply, asked_at: EpochEnd) -> Result<bool, Fault> {
        if let Some(settled) = self.on_leadership(&reply.leadership)? {
            return Ok(settled);
        }
        if !matches!(self.state, State::Follower(_)) || !reply.leadership.error.is_none() {
            return Ok(false);
        }
        if asked_at != self.log.last() {
            // A late reply of one who was asked before the leader was known; meanwhile the leader was asked, too.
            return Ok(true);
        }
        match reply.fetched {
            Fetched::Diverging(diverging) => {
                if diverging.end_offset < self.log.committed() {
                    return Err(Fault::CommittedRecordsLost {
                        end: diverging.end_offset,
                        committed: self.log.committed(),
                    });
                }
                let end = self.log.truncation_point(diverging);
                if end < self.log.committed() {
                    return Err(Fault::CommittedRecordsLost {
                        end,
                        committed: self.log.committed(),
                    });
                }
                self.log.truncate(end);
                self.fx.truncate = Some(end);
            }
            Fetched::Snapshot(id) => {
                if id.end_offset.0 < 0 || id.epoch.0 < 0 {
                    return Ok(false);
                }
                let is_new = !self.log.has_snapshot(id);
                if let State::Follower(follower) = &mut self.state {
                    follower.snapshot = is_new.then_some(SnapshotFetch {
                        id,
                        position: 0,
                        is_complete: false,
                    });
                }
            }
            Fetched::Records(bytes) => {
                if !self.append_as_follower(Batches::new(bytes)) {
                    return Ok(false);
                }
                self.raise_high_watermark(reply.high_watermark);
            }
        }
        self.on_fetched();
        Ok(true)
    }

    /// Appends the batches that continue the log; false when one is damaged or does not.
    fn append_as_follower(&mut self, batches: Batches) -> bool {
        let mut is_sound = true;
        for batch in batches {
            match batch {
                Ok(batch) if self.append_fetched(&batch) => self.fx.append.push(batch),
                _ => {
                    is_sound = false;
                    break;
                }
            }
        }
        // The leader counts what a voter asks the rest of as stored; an observer may be a voter by the leader's log.
        self.fx.sync = !self.fx.append.is_empty() && (self.id.can_become_voter || self.is_voter());
        is_sound
    }

    fn append_fetched(&mut self, batch: &RecordBatch) -> bool {
        batch.header.partition_leader_epoch <= self.epoch && batch.check_crc().is_ok() && self.log.append(batch).is_ok()
    }

    fn raise_high_watermark(&mut self, told: Option<Offset>) {
        let Some(told) = told else {
            return;
        };
        let high_watermark = told.min(self.log.end());
        if self.high_watermark.is_none_or(|known| known < high_watermark) {
            self.high_watermark = Some(high_watermark);
            self.log.commit(high_watermark);
            self.fx.high_watermark = Some(high_watermark);
        }
    }

    pub(super) fn on_fetch_snapshot_reply(&mut self, reply: FetchSnapshotReply) -> Result<bool, Fault> {
        if let Some(settled) = self.on_leadership(&reply.leadership)? {
            return Ok(settled);
        }
        let State::Follower(follower) = &mut self.state else {
            return Ok(false);
        };
        let Some(fetch) = follower.snapshot else {
            return Ok(false);
        };
        let Some(id) = reply
            .snapshot
            .filter(|_| reply.leadership.error != ErrorCode::SnapshotNotFound)
        else {
            // The leader deleted it meanwhile: a fetch will tell of another.
            follower.snapshot = None;
            self.on_fetched();
            return Ok(true);
        };
        let end = fetch.position.saturating_add(reply.bytes.len() as i64);
        if id != fetch.id
            || reply.position != fetch.position
            || end > reply.size_bytes
            || (reply.bytes.is_empty() && end < reply.size_bytes)
        {
            follower.snapshot = None;
            return Ok(false);
        }
        let is_last = end == reply.size_bytes;
        if is_last && id.end_offset < self.log.committed() {
            return Err(Fault::CommittedRecordsLost {
                end: id.end_offset,
                committed: self.log.committed(),
            });
        }
        follower.snapshot = Some(SnapshotFetch {
            id,
            position: end,
            is_complete: is_last,
        });
        self.fx.snapshot = Some(SnapshotPiece {
            id,
            position: fetch.position,
            bytes: reply.bytes,
            is_last,
        });
        self.on_fetched();
        Ok(true)
    }

    pub(super) fn on_snapshot_installed(&mut self, id: SnapshotId, records: Vec<ControlRecord>) -> Result<(), Fault> {
        self.log.replace(id);
        self.log.learn_snapshot(id, records);
        if let State::Follower(follower) = &mut self.state {
            follower.snapshot = None;
        }
        self.raise_high_watermark(Some(id.end_offset));
        Ok(())
    }
}
