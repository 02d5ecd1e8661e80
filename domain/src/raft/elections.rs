//! Elections: votes and pre-votes (KIP-996), and how a leader takes and hands over an epoch.

use std::sync::Arc;

use super::connections::Peer;
use super::election::Votes;
use super::io::Fault;
use super::log::EpochEnd;
use super::machine::{Candidate, Prospective, Raft, State, Unattached};
use super::messages::{BeginQuorumEpochRequest, EndQuorumEpochRequest, Leadership, Request, VoteReply, VoteRequest};
use super::voters::ReplicaKey;
use crate::error::ErrorCode;
use crate::ids::LeaderEpoch;

impl Raft {
    pub(super) fn on_vote(&mut self, request: &VoteRequest) -> Result<VoteReply, Fault> {
        let (error, granted) = self.vote(request);
        Ok(VoteReply {
            leadership: self.leadership(error),
            granted,
        })
    }

    fn vote(&mut self, request: &VoteRequest) -> (ErrorCode, bool) {
        // A candidate raised its epoch over that of its log; one that only asks may still be in the epoch of its log.
        let is_illegal_epoch = if request.pre_vote {
            request.last_epoch > request.epoch
        } else {
            request.last_epoch >= request.epoch
        };
        if is_illegal_epoch || request.last_offset.0 < 0 || request.last_epoch.0 < 0 {
            return (ErrorCode::InvalidRequest, false);
        }
        if let Some(error) = self.refuse_voter_request(request.candidate.id.0, request.epoch) {
            return (error, false);
        }
        if request.epoch > self.epoch {
            self.become_unattached(request.epoch, None);
        }
        if !self.is_meant(request.voter) {
            return (ErrorCode::InvalidVoterKey, false);
        }
        let candidate_log = EpochEnd {
            epoch: request.last_epoch,
            end_offset: request.last_offset,
        };
        let granted = self.would_vote(request.candidate, candidate_log >= self.log.last(), request.pre_vote);
        if granted && !request.pre_vote {
            self.remember_vote(request.candidate);
        }
        (ErrorCode::None, granted)
    }

    fn refuse_voter_request(&self, sender: i32, epoch: LeaderEpoch) -> Option<ErrorCode> {
        if epoch < self.epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if sender < 0 || sender == self.id.local.key.id.0 {
            Some(ErrorCode::InvalidRequest)
        } else {
            None
        }
    }

    /// True when a request that names its receiver means this replica, not an earlier one with another disk.
    fn is_meant(&self, voter: Option<ReplicaKey>) -> bool {
        voter.is_none_or(|voter| voter.covers(self.id.local.key))
    }

    fn would_vote(&self, candidate: ReplicaKey, is_log_up_to_date: bool, pre_vote: bool) -> bool {
        match &self.state {
            State::Leader(_) => false,
            // A follower that hears from its leader keeps it in office.
            State::Follower(follower) => pre_vote && !follower.has_fetched && is_log_up_to_date,
            State::Candidate(_) | State::Resigned(_) => pre_vote && is_log_up_to_date,
            State::Unattached(Unattached { leader, voted, .. })
            | State::Prospective(Prospective { leader, voted, .. }) => match voted {
                _ if pre_vote => is_log_up_to_date,
                Some(voted) => voted.covers(candidate),
                None => leader.is_none() && is_log_up_to_date,
            },
        }
    }

    /// Persists the vote that was given. The candidate has as good a chance as this replica: it gets the time it needs.
    fn remember_vote(&mut self, candidate: ReplicaKey) {
        let later = self.random_election();
        match &mut self.state {
            State::Unattached(Unattached { voted, election_at, .. }) if voted.is_none() => {
                *voted = Some(candidate);
                *election_at = election_at.map(|_| later);
            }
            State::Prospective(Prospective {
                voted,
                election_at,
                votes,
                ..
            }) if voted.is_none() => {
                *voted = Some(candidate);
                *election_at = later;
                *votes = Votes::new(self.log.voters(), self.id.local.key.id);
            }
            _ => return,
        }
        self.persist();
    }

    pub(super) fn on_vote_reply(&mut self, from: Peer, reply: &VoteReply) -> Result<bool, Fault> {
        if let Some(settled) = self.on_leadership(&reply.leadership)? {
            return Ok(settled);
        }
        let Peer::Node(voter) = from else {
            return Ok(true);
        };
        match &mut self.state {
            State::Prospective(Prospective { votes, .. }) => {
                votes.record(voter, reply.granted);
                if votes.is_won() {
                    self.become_candidate()?;
                } else if votes.is_lost() {
                    self.give_up_prospect();
                }
            }
            State::Candidate(Candidate { votes, .. }) => {
                votes.record(voter, reply.granted);
                // One that lost waits out its timeout: a rival needs time to win.
                if votes.is_won() {
                    self.become_leader()?;
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// Back to the leader that is known, if any.
    fn give_up_prospect(&mut self) {
        let State::Prospective(prospective) = &self.state else {
            return;
        };
        let (leader, endpoints) = (prospective.leader, prospective.endpoints.clone());
        match leader {
            Some(leader) if leader != self.id.local.key.id && self.is_reachable(&endpoints) => {
                self.become_follower(self.epoch, leader, endpoints);
            }
            _ => self.become_unattached(self.epoch, leader),
        }
    }

    pub(super) fn on_begin_epoch(&mut self, request: &BeginQuorumEpochRequest) -> Result<ErrorCode, Fault> {
        if let Some(error) = self.refuse_voter_request(request.leader.0, request.epoch) {
            return Ok(error);
        }
        if self.check_leader(Some(request.leader), request.epoch).is_err() {
            return Ok(ErrorCode::InvalidRequest);
        }
        let endpoints = self.known_endpoints(Some(request.leader), &request.endpoints);
        self.follow(Some(request.leader), request.epoch, endpoints);
        Ok(match self.is_meant(request.voter) {
            true => ErrorCode::None,
            false => ErrorCode::InvalidVoterKey,
        })
    }

    pub(super) fn on_begin_epoch_reply(&mut self, reply: &Leadership) -> Result<bool, Fault> {
        Ok(self.on_leadership(reply)?.unwrap_or(true))
    }

    pub(super) fn on_end_epoch(&mut self, request: &EndQuorumEpochRequest) -> Result<ErrorCode, Fault> {
        if let Some(error) = self.refuse_voter_request(request.leader.0, request.epoch) {
            return Ok(error);
        }
        if self.check_leader(Some(request.leader), request.epoch).is_err() {
            return Ok(ErrorCode::InvalidRequest);
        }
        let endpoints = self.known_endpoints(Some(request.leader), &request.endpoints);
        self.follow(Some(request.leader), request.epoch, endpoints);
        let backoff_ms = self.successor_backoff_ms(&request.successors);
        let election_at = self.now().plus_ms(backoff_ms);
        if let State::Follower(follower) = &mut self.state
            && follower.leader == request.leader
        {
            follower.fetch_until = election_at;
        }
        Ok(ErrorCode::None)
    }

    /// The first successor tries at once, those behind it wait exponentially longer, others longest.
    fn successor_backoff_ms(&self, successors: &[ReplicaKey]) -> i64 {
        let max_ms = self.config.election_backoff_max_ms;
        let local = self.id.local.key;
        match successors.iter().position(|successor| successor.covers(local)) {
            Some(0) => 0,
            None if successors.is_empty() => 0,
            None => max_ms,
            Some(position) => {
                let base_ms = max_ms >> (successors.len() - 1).min(62);
                base_ms
                    .checked_mul(1i64.checked_shl((position - 1) as u32).unwrap_or(i64::MAX))
                    .map_or(max_ms, |backoff_ms| backoff_ms.min(max_ms))
            }
        }
    }

    pub(super) fn on_end_epoch_reply(&mut self, from: Peer, reply: &Leadership) -> Result<bool, Fault> {
        if let Some(settled) = self.on_leadership(reply)? {
            return Ok(settled);
        }
        if let (State::Resigned(resigned), Peer::Node(voter)) = (&mut self.state, from) {
            resigned.unacknowledged.remove(&voter);
        }
        Ok(true)
    }

    // Deadlines.

    pub(super) fn poll_unattached(&mut self) -> Result<(), Fault> {
        let State::Unattached(Unattached { election_at, .. }) = &self.state else {
            return Ok(());
        };
        if let Some(election_at) = *election_at
            && self.is_voter()
            && self.shutdown.is_none()
        {
            if election_at <= self.now() {
                return self.become_prospective();
            }
            self.wake_at(election_at);
        }
        if self.shutdown.is_none() {
            self.fetch_from_any_bootstrap();
        }
        Ok(())
    }

    pub(super) fn poll_prospective(&mut self) -> Result<(), Fault> {
        let State::Prospective(Prospective { votes, election_at, .. }) = &self.state else {
            return Ok(());
        };
        let (votes, election_at) = (votes.clone(), *election_at);
        if election_at <= self.now() && self.shutdown.is_none() {
            self.give_up_prospect();
        } else {
            self.ask_for_votes(&votes, true);
            self.wake_at(election_at);
        }
        Ok(())
    }

    pub(super) fn poll_candidate(&mut self) -> Result<(), Fault> {
        let State::Candidate(Candidate { votes, election_at }) = &self.state else {
            return Ok(());
        };
        let (votes, election_at) = (votes.clone(), *election_at);
        if election_at <= self.now() && self.shutdown.is_none() {
            self.become_prospective()
        } else {
            self.ask_for_votes(&votes, false);
            self.wake_at(election_at);
            Ok(())
        }
    }

    fn ask_for_votes(&mut self, votes: &Votes, pre_vote: bool) {
        if votes.is_lost() {
            return;
        }
        for voter in votes.awaited() {
            self.send_to_voter(voter.id, |raft| {
                let last = raft.log.last();
                Request::Vote(VoteRequest {
                    cluster_id: Some(Arc::clone(&raft.id.cluster_id)),
                    voter: Some(voter),
                    candidate: raft.id.local.key,
                    epoch: raft.epoch,
                    last_epoch: last.epoch,
                    last_offset: last.end_offset,
                    pre_vote,
                })
            });
        }
    }

    pub(super) fn poll_resigned(&mut self) {
        let State::Resigned(resigned) = &self.state else {
            return;
        };
        let election_at = resigned.election_at;
        if election_at <= self.now() && self.shutdown.is_none() {
            // Another epoch, as this replica led this one and must not be told that it does.
            let next = LeaderEpoch(self.epoch.0.saturating_add(1));
            self.become_unattached(next, None);
            return;
        }
        let (voters, successors) = (resigned.unacknowledged.clone(), resigned.successors.clone());
        for voter in voters {
            let successors = successors.clone();
            self.send_to_voter(voter, |raft| {
                Request::EndQuorumEpoch(EndQuorumEpochRequest {
                    cluster_id: Some(Arc::clone(&raft.id.cluster_id)),
                    leader: raft.id.local.key.id,
                    epoch: raft.epoch,
                    successors,
                    endpoints: raft.id.local.endpoints.clone(),
                })
            });
        }
        if self.shutdown.is_none() {
            self.wake_at(election_at);
        }
    }
}
