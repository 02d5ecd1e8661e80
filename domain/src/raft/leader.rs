//! The leader: how far the others are, the high watermark that follows from it, and the answers to their fetches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::control::{self, ControlRecord, LeaderChange};
use super::io::{Answer, Fault, Read, Token};
use super::log::{AppendError, Position, SnapshotId};
use super::machine::{Raft, State};
use super::messages::{
    BeginQuorumEpochRequest, FetchReply, FetchRequest, FetchSnapshotReply, FetchSnapshotRequest, Fetched, Reply,
    Request,
};
use super::voters::{ReplicaKey, VoterSet};
use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, Mono, Offset, Timestamp};
use crate::record::batch::RecordBatch;

/// An observer that was not heard of for so long is forgotten.
const OBSERVER_SESSION_MS: i64 = 300_000;
/// Observers beyond are served but not tracked.
const OBSERVERS_MAX: usize = 10_000;
/// Fetches beyond are answered without waiting.
const PARKED_MAX: usize = 4_096;

/// How far another replica is.
#[derive(Clone, Copy, Debug)]
struct Progress {
    end_offset: Option<Offset>,
    last_fetch: Option<Mono>,
    /// Where this leader's log ended at that fetch.
    leader_end_then: Offset,
    last_caught_up: Option<Mono>,
}

impl Progress {
    const NONE: Progress = Progress {
        end_offset: None,
        last_fetch: None,
        leader_end_then: Offset::NONE,
        last_caught_up: None,
    };

    fn on_fetch(&mut self, now: Mono, fetch_offset: Offset, leader_end: Offset) {
        if fetch_offset >= leader_end {
            self.last_caught_up = self.last_caught_up.max(Some(now));
        } else if self.leader_end_then > Offset::ZERO && fetch_offset >= self.leader_end_then {
            // It has what there was when it fetched last: then it had caught up.
            self.last_caught_up = self.last_caught_up.max(self.last_fetch);
        }
        self.leader_end_then = leader_end;
        self.last_fetch = self.last_fetch.max(Some(now));
        self.end_offset = Some(fetch_offset);
    }
}

/// What a leader keeps of its epoch.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    pub(super) is_resigning: bool,
    local: ReplicaKey,
    epoch_start: Offset,
    voters: BTreeMap<BrokerId, (ReplicaKey, Progress)>,
    observers: BTreeMap<ReplicaKey, Progress>,
    /// The voters that fetched since more than half of them last had.
    fetched: BTreeSet<BrokerId>,
    resign_at: Mono,
    begin_at: Mono,
}

impl Leader {
    pub(super) fn new(
        voters: &VoterSet,
        local: ReplicaKey,
        epoch_start: Offset,
        now: Mono,
        fetch_timeout_ms: i64,
    ) -> Leader {
        Leader {
            is_resigning: false,
            local,
            epoch_start,
            voters: voters
                .iter()
                .map(|voter| (voter.key.id, (voter.key, Progress::NONE)))
                .collect(),
            observers: BTreeMap::new(),
            fetched: BTreeSet::new(),
            resign_at: now.plus_ms(check_quorum_ms(fetch_timeout_ms)),
            begin_at: now,
        }
    }

    /// Follows a change of the voter set; progress moves between voters and observers.
    fn update_voters(&mut self, voters: &VoterSet) {
        let mut old = std::mem::take(&mut self.voters);
        for voter in voters.iter() {
            let progress = match old.remove(&voter.key.id) {
                Some((key, progress)) if key.covers(voter.key) => progress,
                replaced => {
                    if let Some((key, progress)) = replaced {
                        self.observers.insert(key, progress);
                    }
                    self.observers.remove(&voter.key).unwrap_or(Progress::NONE)
                }
            };
            self.voters.insert(voter.key.id, (voter.key, progress));
        }
        self.observers.extend(old.into_values());
    }

    fn voter(&mut self, key: ReplicaKey) -> Option<&mut Progress> {
        self.voters
            .get_mut(&key.id)
            .and_then(|(voter, progress)| voter.covers(key).then_some(progress))
    }

    /// Notes a fetch; true when it may have moved the high watermark.
    fn on_fetch(&mut self, key: ReplicaKey, now: Mono, fetch_offset: Offset, leader_end: Offset) -> bool {
        if let Some(progress) = self.voter(key) {
            progress.on_fetch(now, fetch_offset, leader_end);
            return true;
        }
        if self.observers.len() >= OBSERVERS_MAX {
            self.forget_observers(now);
        }
        if self.observers.contains_key(&key) || self.observers.len() < OBSERVERS_MAX {
            self.observers
                .entry(key)
                .or_insert(Progress::NONE)
                .on_fetch(now, fetch_offset, leader_end);
        }
        false
    }

    fn forget_observers(&mut self, now: Mono) {
        self.observers.retain(|key, progress| {
            *key == self.local
                || progress
                    .last_fetch
                    .is_none_or(|last| now.ms_since(last) < OBSERVER_SESSION_MS)
        });
    }

    /// Notes that a voter is alive; a leader that does not hear of more than half of them resigns (check quorum).
    fn on_contact(&mut self, key: ReplicaKey, now: Mono, fetch_timeout_ms: i64) {
        if self.voter(key).is_some() {
            self.fetched.insert(key.id);
        }
        let others_needed = self.voters.len() / 2 + 1 - usize::from(self.voters.contains_key(&self.local.id));
        if self.fetched.len() >= others_needed {
            self.fetched.clear();
            self.resign_at = now.plus_ms(check_quorum_ms(fetch_timeout_ms));
        }
    }

    /// The offset below which more than half of the voters have everything.
    fn majority_offset(&self, log_end: Offset) -> Option<Offset> {
        let mut ends: Vec<Option<Offset>> = self
            .voters
            .values()
            .map(|(key, progress)| {
                if key.covers(self.local) {
                    Some(log_end)
                } else {
                    progress.end_offset
                }
            })
            .collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        // With an even number of voters this is the one past the middle: half of them are not enough.
        ends.get(ends.len() / 2).copied().flatten()
    }

    /// The other voters, those with the longest logs first.
    fn successors(&self) -> Vec<ReplicaKey> {
        let mut others: Vec<_> = self
            .voters
            .values()
            .filter(|(key, _)| !key.covers(self.local))
            .map(|(key, progress)| (progress.end_offset, *key))
            .collect();
        others.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        others.into_iter().map(|(_, key)| key).collect()
    }
}

fn check_quorum_ms(fetch_timeout_ms: i64) -> i64 {
    // Half as much again as a follower waits before it wants an election.
    fetch_timeout_ms.saturating_add(fetch_timeout_ms / 2)
}

/// A fetch that waits for something new.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    pub(super) token: Token,
    request: FetchRequest,
    deadline: Mono,
}

/// What DescribeQuorum tells of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Which replica.
    pub key: ReplicaKey,
    /// Where its log ends; -1 when it is not known.
    pub log_end_offset: Offset,
    /// When it fetched last; -1 for never.
    pub last_fetch: Timestamp,
    /// When it last had everything; -1 for never.
    pub last_caught_up: Timestamp,
}

/// What DescribeQuorum tells; only the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStatus {
    /// This node.
    pub leader: BrokerId,
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// -1 while nothing is committed in this epoch.
    pub high_watermark: Offset,
    /// The voters, this node among them.
    pub voters: Vec<ReplicaStatus>,
    /// Others that fetched in the last five minutes.
    pub observers: Vec<ReplicaStatus>,
    /// The voters by name and address.
    pub voter_set: VoterSet,
}

impl Raft {
    /// What DescribeQuorum tells; `None` when this replica does not lead.
    pub fn status(&self, now: Mono, wall: Timestamp) -> Option<QuorumStatus> {
        let State::Leader(leader) = &self.state else {
            return None;
        };
        let stamp = |at: Option<Mono>| at.map_or(Timestamp::NONE, |at| Timestamp(wall.0 - now.ms_since(at)));
        let status = |key: &ReplicaKey, progress: &Progress| {
            let is_leader = key.covers(leader.local);
            ReplicaStatus {
                key: *key,
                log_end_offset: if is_leader {
                    self.log.end()
                } else {
                    progress.end_offset.unwrap_or(Offset::NONE)
                },
                last_fetch: if is_leader { wall } else { stamp(progress.last_fetch) },
                last_caught_up: if is_leader {
                    wall
                } else {
                    stamp(progress.last_caught_up)
                },
            }
        };
        let mut current = leader.clone();
        current.forget_observers(now);
        Some(QuorumStatus {
            leader: leader.local.id,
            epoch: self.epoch,
            high_watermark: self.high_watermark.unwrap_or(Offset::NONE),
            voters: current
                .voters
                .values()
                .map(|(key, progress)| status(key, progress))
                .collect(),
            observers: current
                .observers
                .iter()
                .map(|(key, progress)| status(key, progress))
                .collect(),
            voter_set: self.log.voters().clone(),
        })
    }

    /// Where this leader's epoch starts: a listener that has read past it has seen everything that was committed before.
    pub fn epoch_start(&self) -> Option<Offset> {
        match &self.state {
            State::Leader(leader) => Some(leader.epoch_start),
            _ => None,
        }
    }

    /// The first records of an epoch: who leads, and, where the log does not name the voters yet or names an old address
    /// of this one, the voters.
    pub(super) fn append_start_of_epoch(&mut self, granting: &[BrokerId]) -> Result<(), Fault> {
        let mut records = vec![ControlRecord::LeaderChange(LeaderChange {
            leader: self.id.local.key.id,
            voters: self.log.voters().ids().collect(),
            granting: granting.to_vec(),
        })];
        let version = self.log.kraft_version();
        if version.has_dynamic_voters() {
            let is_bootstrap = self.log.voters_offset().is_none_or(|offset| offset == Offset::NONE);
            let voters = self.log.voters();
            if is_bootstrap || voters.is_stale(&self.id.local) {
                records.push(ControlRecord::KRaftVersion(version));
                records.push(ControlRecord::Voters(voters.updated(self.id.local.clone())));
            }
        }
        let batch = control::batch(self.log.end(), self.epoch, self.at.wall, &records);
        self.append_as_leader(vec![batch])
    }

    pub(super) fn append_as_leader(&mut self, batches: Vec<RecordBatch>) -> Result<(), Fault> {
        for batch in &batches {
            if !self.is_leader() || batch.header.partition_leader_epoch != self.epoch {
                return Err(Fault::Append(AppendError::OutOfOrder {
                    offset: batch.header.base_offset,
                    epoch: batch.header.partition_leader_epoch,
                    log_end: self.log.end(),
                    last_epoch: self.epoch,
                }));
            }
            self.log.append(batch)?;
        }
        self.fx.append.extend(batches);
        self.fx.sync = true;
        if let State::Leader(leader) = &mut self.state {
            leader.update_voters(self.log.voters());
        }
        self.advance_high_watermark();
        let (ready, waiting) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|parked| parked.request.fetch_offset < self.log.end());
        self.parked = waiting;
        self.answer_parked(ready);
        Ok(())
    }

    /// Moves the high watermark to what more than half of the voters have, once that includes a record of this epoch:
    /// only then no other log can win an election over it (KIP-595).
    fn advance_high_watermark(&mut self) {
        let State::Leader(leader) = &self.state else {
            return;
        };
        let Some(offset) = leader.majority_offset(self.log.end()) else {
            return;
        };
        if offset <= leader.epoch_start || self.high_watermark.is_some_and(|known| offset <= known) {
            return;
        }
        self.high_watermark = Some(offset);
        self.log.commit(offset);
        self.fx.high_watermark = Some(offset);
        let waiting = std::mem::take(&mut self.parked);
        self.answer_parked(waiting);
    }

    fn answer_parked(&mut self, parked: Vec<Parked>) {
        for Parked { token, request, .. } in parked {
            let answer = self.serve_fetch(token, &request);
            self.fx.answers.push(answer);
        }
    }

    pub(super) fn expire_parked(&mut self) {
        let now = self.now();
        let (expired, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|parked| parked.deadline <= now);
        if let Some(next) = waiting.iter().map(|parked| parked.deadline).min() {
            self.wake_at(next);
        }
        self.parked = waiting;
        for Parked { token, .. } in expired {
            let reply = self.empty_fetch_reply(ErrorCode::None);
            self.answer(token, Ok(Reply::Fetch(reply)));
        }
    }

    /// Why a request to the leader is refused.
    fn refuse_leader_request(&self, epoch: LeaderEpoch) -> Option<ErrorCode> {
        if epoch < self.epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if epoch > self.epoch {
            Some(ErrorCode::UnknownLeaderEpoch)
        } else if !self.is_leader() {
            Some(ErrorCode::NotLeaderOrFollower)
        } else if self.shutdown.is_some() {
            Some(ErrorCode::BrokerNotAvailable)
        } else {
            None
        }
    }

    pub(super) fn empty_fetch_reply(&self, error: ErrorCode) -> FetchReply {
        let is_served = error.is_none() && self.is_leader();
        FetchReply {
            leadership: self.leadership(error),
            high_watermark: self.high_watermark.filter(|_| is_served),
            log_start: self.log.start(),
            fetched: Fetched::Records(Bytes::new()),
        }
    }

    pub(super) fn on_fetch(&mut self, token: Token, request: FetchRequest) -> Result<(), Fault> {
        if request.max_wait_ms < 0
            || request.fetch_offset.0 < 0
            || request.last_fetched_epoch.0 < 0
            || request.last_fetched_epoch > request.epoch
            || request.replica.id == self.id.local.key.id
        {
            let reply = self.empty_fetch_reply(ErrorCode::InvalidRequest);
            self.answer(token, Ok(Reply::Fetch(reply)));
            return Ok(());
        }
        let answer = self.serve_fetch(token, &request);
        let has_news = match &answer.reply {
            Ok(Reply::Fetch(reply)) => {
                !reply.leadership.error.is_none()
                    || answer.read.is_some()
                    || !matches!(reply.fetched, Fetched::Records(_))
                    || request.high_watermark < reply.high_watermark.unwrap_or(Offset::NONE)
            }
            _ => true,
        };
        if has_news || request.max_wait_ms == 0 || self.parked.len() >= PARKED_MAX {
            self.fx.answers.push(answer);
        } else {
            let deadline = self.now().plus_ms(i64::from(request.max_wait_ms));
            self.parked.push(Parked {
                token,
                request,
                deadline,
            });
            self.wake_at(deadline);
        }
        Ok(())
    }

    /// Answers a fetch with what there is, and notes how far the fetcher is.
    fn serve_fetch(&mut self, token: Token, request: &FetchRequest) -> Answer {
        let answer = |reply, read| Answer {
            token,
            reply: Ok(Reply::Fetch(reply)),
            read,
        };
        if let Some(error) = self.refuse_leader_request(request.epoch) {
            return answer(self.empty_fetch_reply(error), None);
        }
        let mut reply = self.empty_fetch_reply(ErrorCode::None);
        let position = match self.log.latest_snapshot() {
            // An empty replica is served faster by a snapshot than by the log.
            Some(id) if request.fetch_offset == Offset::ZERO && id != SnapshotId::BOOTSTRAP => Position::Snapshot(id),
            _ => self.log.position(request.fetch_offset, request.last_fetched_epoch),
        };
        match position {
            Position::Diverging(end) => reply.fetched = Fetched::Diverging(end),
            Position::Snapshot(id) => reply.fetched = Fetched::Snapshot(id),
            Position::Valid => {
                self.on_valid_fetch(request.replica, request.fetch_offset);
                reply.high_watermark = self.high_watermark;
                let read = (request.fetch_offset < self.log.end()).then_some(Read::Log {
                    from: request.fetch_offset,
                    up_to: self.log.end(),
                    max_bytes: request.max_bytes,
                });
                return answer(reply, read);
            }
        }
        answer(reply, None)
    }

    fn on_valid_fetch(&mut self, replica: ReplicaKey, fetch_offset: Offset) {
        let (now, log_end, fetch_timeout_ms) = (self.now(), self.log.end(), self.config.fetch_timeout_ms);
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        if replica.id.0 < 0 {
            return;
        }
        let is_voter = leader.on_fetch(replica, now, fetch_offset, log_end);
        leader.on_contact(replica, now, fetch_timeout_ms);
        if is_voter {
            self.advance_high_watermark();
        }
    }

    pub(super) fn on_fetch_snapshot(&mut self, token: Token, request: &FetchSnapshotRequest) -> Result<(), Fault> {
        let error = self.refuse_leader_request(request.epoch).or_else(|| {
            // The bootstrap snapshot is not replicated: the first leader writes what it says into the log.
            let is_served = request.snapshot != SnapshotId::BOOTSTRAP && self.log.has_snapshot(request.snapshot);
            (!is_served).then_some(ErrorCode::SnapshotNotFound)
        });
        if error.is_none()
            && request.replica.id.0 >= 0
            && let (now, fetch_timeout_ms) = (self.now(), self.config.fetch_timeout_ms)
            && let State::Leader(leader) = &mut self.state
        {
            leader.on_contact(request.replica, now, fetch_timeout_ms);
        }
        let reply = FetchSnapshotReply {
            leadership: self.leadership(error.unwrap_or(ErrorCode::None)),
            snapshot: error.is_none().then_some(request.snapshot),
            size_bytes: 0,
            position: request.position,
            bytes: Bytes::new(),
        };
        self.fx.answers.push(Answer {
            token,
            reply: Ok(Reply::FetchSnapshot(reply)),
            read: error.is_none().then_some(Read::Snapshot {
                id: request.snapshot,
                position: request.position,
                max_bytes: request.max_bytes,
            }),
        });
        Ok(())
    }

    pub(super) fn poll_leader(&mut self) {
        let (now, is_stopping) = (self.now(), self.shutdown.is_some());
        let begin_every_ms = self.config.fetch_timeout_ms / 2;
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let is_alone = leader.voters.len() == 1 && leader.voters.contains_key(&leader.local.id);
        if is_stopping || leader.is_resigning || (!is_alone && leader.resign_at <= now) {
            let successors = leader.successors();
            return self.become_resigned(successors);
        }
        if is_alone {
            return;
        }
        let resign_at = leader.resign_at;
        let mut begin = Vec::new();
        if leader.begin_at <= now {
            leader.begin_at = now.plus_ms(begin_every_ms);
            begin.extend(
                leader
                    .voters
                    .values()
                    .filter(|(key, progress)| {
                        key.id != leader.local.id
                            && progress
                                .last_fetch
                                .is_none_or(|last| now.ms_since(last) >= begin_every_ms)
                    })
                    .map(|(key, _)| *key),
            );
        }
        let begin_at = leader.begin_at;
        for voter in begin {
            self.send_to_voter(voter.id, |raft| {
                Request::BeginQuorumEpoch(BeginQuorumEpochRequest {
                    cluster_id: Some(Arc::clone(&raft.id.cluster_id)),
                    voter: Some(voter),
                    leader: raft.id.local.key.id,
                    epoch: raft.epoch,
                    endpoints: raft.id.local.endpoints.clone(),
                })
            });
        }
        self.wake_at(resign_at);
        self.wake_at(begin_at);
    }
}
