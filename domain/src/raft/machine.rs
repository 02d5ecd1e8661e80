//! The replica: its state, the transitions between states, and the step that ties them together.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::connections::{Connections, Peer};
use super::election::{ElectionState, Votes};
use super::follower::Follower;
use super::io::{Answer, Effects, Fault, Input, LeaderAndEpoch, Moment, Outgoing, QuorumConfig, Token};
use super::leader::{Leader, Parked};
use super::log::ReplicatedLog;
use super::messages::{Leadership, Reply, ReplyResult, Request};
use super::voters::{Endpoint, Endpoints, ReplicaKey, Voter};
use crate::error::ErrorCode;
use crate::ids::{BrokerId, LeaderEpoch, Mono, Offset};

/// Who this replica is and whom it can ask.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This node's key, where it listens for controllers, and the `kraft.version`s it speaks.
    pub local: Voter,
    /// A controller, which may be or become a voter: what it fetches is synced. A broker only observes.
    pub can_become_voter: bool,
    /// Requests that name another cluster are refused.
    pub cluster_id: Arc<str>,
    /// The listener on which controllers reach each other: the first of `controller.listener.names`.
    pub listener: Arc<str>,
    /// `controller.quorum.bootstrap.servers`, or else the addresses in `controller.quorum.voters`.
    pub bootstrap: Vec<(Arc<str>, u16)>,
}

/// No leader is known, or none that can be reached.
#[derive(Clone, Debug)]
pub(super) struct Unattached {
    pub(super) leader: Option<BrokerId>,
    pub(super) voted: Option<ReplicaKey>,
    /// `None` for observers, which never want an election.
    pub(super) election_at: Option<Mono>,
}

/// A voter that asks whether it would win an election (KIP-996).
#[derive(Clone, Debug)]
pub(super) struct Prospective {
    pub(super) leader: Option<BrokerId>,
    pub(super) endpoints: Endpoints,
    pub(super) voted: Option<ReplicaKey>,
    pub(super) votes: Votes,
    pub(super) election_at: Mono,
}

/// A voter that asks for votes.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) votes: Votes,
    pub(super) election_at: Mono,
}

/// A leader that gave up, by its own will or by a restart: it can neither vote nor follow in this epoch.
#[derive(Clone, Debug)]
pub(super) struct Resigned {
    pub(super) unacknowledged: BTreeSet<BrokerId>,
    pub(super) successors: Vec<ReplicaKey>,
    pub(super) election_at: Mono,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Unattached(Unattached),
    Prospective(Prospective),
    Candidate(Candidate),
    Leader(Leader),
    Follower(Follower),
    Resigned(Resigned),
}

/// One replica of the metadata log.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(super) id: Identity,
    pub(super) config: QuorumConfig,
    pub(super) log: ReplicatedLog,
    pub(super) epoch: LeaderEpoch,
    pub(super) state: State,
    pub(super) high_watermark: Option<Offset>,
    pub(super) connections: Connections,
    pub(super) parked: Vec<Parked>,
    pub(super) shutdown: Option<Mono>,
    pub(super) at: Moment,
    pub(super) fx: Effects,
    /// The earliest deadline that the last poll met.
    wake: Option<Mono>,
    told: Option<LeaderAndEpoch>,
}

impl Raft {
    /// A replica as it restarts with the log and the `quorum-state` that it finds.
    ///
    /// Who led comes back resigned: it cannot vote for another in its epoch, and records that it lost are not written again
    /// under the same offset and epoch. A voter that is alone becomes leader at once.
    pub fn new(
        id: Identity,
        config: QuorumConfig,
        log: ReplicatedLog,
        stored: Option<ElectionState>,
        at: Moment,
    ) -> Result<(Raft, Effects), Fault> {
        let mut raft = Raft {
            id,
            config,
            log,
            epoch: LeaderEpoch(0),
            state: State::Unattached(Unattached {
                leader: None,
                voted: None,
                election_at: None,
            }),
            high_watermark: None,
            connections: Connections::default(),
            parked: Vec::new(),
            shutdown: None,
            at,
            fx: Effects::default(),
            wake: None,
            told: None,
        };
        raft.restore(stored)?;
        raft.poll()?;
        let effects = raft.finish();
        Ok((raft, effects))
    }

    fn restore(&mut self, stored: Option<ElectionState>) -> Result<(), Fault> {
        let local = self.id.local.key;
        let (epoch, leader, voted) = match stored {
            Some(stored) if stored.epoch >= self.log.last_epoch() => (stored.epoch, stored.leader, stored.voted),
            _ => (self.log.last_epoch(), None, None),
        };
        self.epoch = epoch;
        let endpoints = leader.map(|leader| self.log.voters().endpoints(leader));
        self.state = match (leader, endpoints) {
            (Some(leader), _) if leader == local.id => State::Resigned(self.resigned(Vec::new())),
            _ if voted.is_some_and(|voted| voted.covers(local)) && self.is_voter() => {
                State::Candidate(self.candidate())
            }
            (Some(leader), Some(endpoints)) if self.is_reachable(&endpoints) => {
                State::Follower(self.follower(leader, endpoints, voted))
            }
            _ => State::Unattached(Unattached {
                leader,
                voted,
                election_at: self.is_voter().then(|| self.random_election()),
            }),
        };
        self.persist();
        if self.is_only_voter() && !matches!(self.state, State::Candidate(_)) {
            self.become_prospective()?;
        } else if matches!(&self.state, State::Candidate(candidate) if candidate.votes.is_won()) {
            self.become_leader()?;
        }
        Ok(())
    }

    /// Takes one input in and says what is to be done about it.
    pub fn step(&mut self, at: Moment, input: Input) -> Result<Effects, Fault> {
        self.at = at;
        match input {
            Input::Tick => {}
            Input::Request { token, request } => self.on_request(token, request)?,
            Input::Reply {
                from,
                correlation,
                reply,
            } => self.on_reply(from, correlation, reply)?,
            Input::Append(batches) => self.append_as_leader(batches)?,
            Input::SnapshotFrozen(id) => self.log.add_snapshot(id),
            Input::LogStartAdvanced(id) => self.log.start_at(id),
            Input::SnapshotInstalled { id, records } => self.on_snapshot_installed(id, records)?,
            Input::Resign(epoch) => {
                if let State::Leader(leader) = &mut self.state
                    && self.epoch == epoch
                {
                    leader.is_resigning = true;
                }
            }
            Input::Shutdown { deadline } => self.shutdown = Some(deadline),
        }
        self.poll()?;
        Ok(self.finish())
    }

    /// When [`Input::Tick`] is due next, unless something else happens before.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.wake
    }

    /// What Raft knows of the log.
    pub fn log(&self) -> &ReplicatedLog {
        &self.log
    }

    /// The settings.
    pub fn config(&self) -> &QuorumConfig {
        &self.config
    }

    /// The highest epoch seen.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The leader of the epoch, if it is known. A leader that resigned still counts, as it led this epoch.
    pub fn leader(&self) -> Option<BrokerId> {
        match &self.state {
            State::Unattached(Unattached { leader, .. }) | State::Prospective(Prospective { leader, .. }) => *leader,
            State::Candidate(_) => None,
            State::Leader(_) | State::Resigned(_) => Some(self.id.local.key.id),
            State::Follower(follower) => Some(follower.leader),
        }
    }

    /// Records below are committed; unknown until the leader has committed a record of its own epoch.
    pub fn high_watermark(&self) -> Option<Offset> {
        self.high_watermark
    }

    /// The end of the log when this replica leads `epoch`: where its next record goes.
    pub fn leading(&self, epoch: LeaderEpoch) -> Option<Offset> {
        (self.is_leader() && self.epoch == epoch).then(|| self.log.end())
    }

    /// True while this replica leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.state, State::Leader(_))
    }

    /// True when the log counts this replica among the voters.
    pub fn is_voter(&self) -> bool {
        self.log.voters().contains(self.id.local.key)
    }

    /// The state's name, as Kafka's metric `current-state` has it: `leader`, `follower`, `observer`, ...
    pub fn state_name(&self) -> &'static str {
        match &self.state {
            State::Unattached(Unattached { voted: Some(_), .. }) => "unattached-voted",
            State::Unattached(_) => "unattached",
            State::Prospective(Prospective { voted: Some(_), .. }) => "prospective-voted",
            State::Prospective(_) => "prospective",
            State::Candidate(_) => "candidate",
            State::Leader(_) => "leader",
            State::Follower(_) if !self.is_voter() => "observer",
            State::Follower(_) => "follower",
            State::Resigned(_) => "resigned",
        }
    }

    /// Whom this replica voted for in its epoch, as Kafka's metric `current-vote` has it.
    pub fn voted_id(&self) -> Option<BrokerId> {
        match &self.state {
            State::Leader(_) => Some(self.id.local.key.id),
            _ => self.voted().map(|voted| voted.id),
        }
    }

    pub(super) fn is_only_voter(&self) -> bool {
        self.log.voters().is_only(self.id.local.key)
    }

    pub(super) fn now(&self) -> Mono {
        self.at.mono
    }

    pub(super) fn endpoint<'a>(&self, endpoints: &'a Endpoints) -> Option<&'a Endpoint> {
        endpoints.of(&self.id.listener)
    }

    pub(super) fn is_reachable(&self, endpoints: &Endpoints) -> bool {
        self.endpoint(endpoints).is_some()
    }

    fn voted(&self) -> Option<ReplicaKey> {
        match &self.state {
            State::Unattached(Unattached { voted, .. })
            | State::Prospective(Prospective { voted, .. })
            | State::Follower(Follower { voted, .. }) => *voted,
            State::Candidate(_) => Some(self.id.local.key),
            State::Leader(_) | State::Resigned(_) => None,
        }
    }

    fn leader_endpoints(&self) -> Endpoints {
        match &self.state {
            State::Unattached(_) | State::Candidate(_) => Endpoints::default(),
            State::Prospective(prospective) => prospective.endpoints.clone(),
            State::Follower(follower) => follower.endpoints.clone(),
            State::Leader(_) | State::Resigned(_) => self.id.local.endpoints.clone(),
        }
    }

    /// What every reply says.
    pub(super) fn leadership(&self, error: ErrorCode) -> Leadership {
        Leadership {
            error,
            leader: self.leader(),
            epoch: self.epoch,
            endpoints: self.leader_endpoints(),
        }
    }

    /// A random point in time, one to two election timeouts from now.
    pub(super) fn random_election(&mut self) -> Mono {
        let timeout_ms = self.config.election_timeout_ms;
        let extra_ms = self.at.draw(u64::try_from(timeout_ms).unwrap_or(0));
        self.now().plus_ms(timeout_ms).plus_ms(extra_ms as i64)
    }

    pub(super) fn wake_at(&mut self, deadline: Mono) {
        self.wake = Some(self.wake.map_or(deadline, |wake| wake.min(deadline)));
    }

    // Transitions.

    pub(super) fn persist(&mut self) {
        self.fx.persist = Some(ElectionState {
            epoch: self.epoch,
            leader: self.leader(),
            voted: self.voted(),
            voters: self.log.voters().ids().collect(),
            kraft_version: self.log.kraft_version(),
        });
    }

    /// Leaves the present state; waiting fetches are sent to the new leader.
    fn leave(&mut self, state: State) {
        self.state = state;
        self.connections.reset_all();
        let reply = self.empty_fetch_reply(ErrorCode::NotLeaderOrFollower);
        for parked in std::mem::take(&mut self.parked) {
            self.answer(parked.token, Ok(Reply::Fetch(reply.clone())));
        }
    }

    fn resigned(&mut self, successors: Vec<ReplicaKey>) -> Resigned {
        let local = self.id.local.key.id;
        Resigned {
            unacknowledged: self.log.voters().ids().filter(|id| *id != local).collect(),
            successors,
            election_at: self.random_election(),
        }
    }

    fn candidate(&mut self) -> Candidate {
        Candidate {
            votes: Votes::new(self.log.voters(), self.id.local.key.id),
            election_at: self.random_election(),
        }
    }

    fn follower(&self, leader: BrokerId, endpoints: Endpoints, voted: Option<ReplicaKey>) -> Follower {
        Follower {
            leader,
            endpoints,
            voted,
            fetch_until: self.now().plus_ms(self.config.fetch_timeout_ms),
            has_fetched: false,
            snapshot: None,
        }
    }

    pub(super) fn become_unattached(&mut self, epoch: LeaderEpoch, leader: Option<BrokerId>) {
        let election_at = if self.is_voter() {
            // A new epoch does not give more time: who keeps bumping it must not hold off elections for ever.
            let inherited = match &self.state {
                State::Unattached(unattached) => unattached.election_at,
                State::Prospective(prospective) if !prospective.votes.is_lost() => Some(prospective.election_at),
                State::Candidate(candidate) => Some(candidate.election_at),
                State::Resigned(resigned) => Some(resigned.election_at),
                _ => None,
            };
            Some(inherited.unwrap_or_else(|| self.random_election()))
        } else {
            None
        };
        // Within an epoch a vote is remembered: no second one may be given.
        let voted = if epoch == self.epoch { self.voted() } else { None };
        self.epoch = epoch;
        self.leave(State::Unattached(Unattached {
            leader,
            voted,
            election_at,
        }));
        self.persist();
    }

    pub(super) fn become_follower(&mut self, epoch: LeaderEpoch, leader: BrokerId, endpoints: Endpoints) {
        let voted = if epoch == self.epoch { self.voted() } else { None };
        self.epoch = epoch;
        let follower = self.follower(leader, endpoints, voted);
        self.leave(State::Follower(follower));
        self.persist();
    }

    pub(super) fn become_prospective(&mut self) -> Result<(), Fault> {
        let prospective = Prospective {
            leader: self.leader(),
            endpoints: self.leader_endpoints(),
            voted: self.voted(),
            votes: Votes::new(self.log.voters(), self.id.local.key.id),
            election_at: self.random_election(),
        };
        let is_won = prospective.votes.is_won();
        self.leave(State::Prospective(prospective));
        if is_won { self.become_candidate() } else { Ok(()) }
    }

    pub(super) fn become_candidate(&mut self) -> Result<(), Fault> {
        self.epoch = LeaderEpoch(self.epoch.0.saturating_add(1));
        let candidate = self.candidate();
        let is_won = candidate.votes.is_won();
        self.leave(State::Candidate(candidate));
        self.persist();
        if is_won { self.become_leader() } else { Ok(()) }
    }

    pub(super) fn become_resigned(&mut self, successors: Vec<ReplicaKey>) {
        // Not persisted: a leader that restarts is resigned anyway.
        let resigned = self.resigned(successors);
        self.leave(State::Resigned(resigned));
    }

    pub(super) fn become_leader(&mut self) -> Result<(), Fault> {
        let State::Candidate(candidate) = &self.state else {
            return Ok(());
        };
        let granting = candidate.votes.granting().map(|key| key.id).collect::<Vec<_>>();
        // What the previous leader committed is committed, but this one cannot show a high watermark that is sure not
        // to go back before a record of its own epoch is committed.
        self.high_watermark = None;
        let start = self.log.end();
        let leader = Leader::new(
            self.log.voters(),
            self.id.local.key,
            start,
            self.now(),
            self.config.fetch_timeout_ms,
        );
        self.leave(State::Leader(leader));
        self.persist();
        self.log.start_epoch(self.epoch);
        self.fx.start_epoch = Some(self.epoch);
        self.append_start_of_epoch(&granting)
    }

    // Requests, replies and what both say of leadership.

    pub(super) fn answer(&mut self, token: Token, reply: ReplyResult) {
        self.fx.answers.push(Answer {
            token,
            reply,
            read: None,
        });
    }

    fn on_request(&mut self, token: Token, request: Request) -> Result<(), Fault> {
        let cluster_id = match &request {
            Request::Vote(request) => &request.cluster_id,
            Request::BeginQuorumEpoch(request) => &request.cluster_id,
            Request::EndQuorumEpoch(request) => &request.cluster_id,
            Request::Fetch(request) => &request.cluster_id,
            Request::FetchSnapshot(request) => &request.cluster_id,
        };
        if cluster_id
            .as_ref()
            .is_some_and(|cluster| *cluster != self.id.cluster_id)
        {
            self.answer(token, Err(ErrorCode::InconsistentClusterId));
            return Ok(());
        }
        let reply = match request {
            Request::Vote(request) => Reply::Vote(self.on_vote(&request)?),
            Request::BeginQuorumEpoch(request) => {
                let error = self.on_begin_epoch(&request)?;
                Reply::BeginQuorumEpoch(self.leadership(error))
            }
            Request::EndQuorumEpoch(request) => {
                let error = self.on_end_epoch(&request)?;
                Reply::EndQuorumEpoch(self.leadership(error))
            }
            Request::Fetch(request) => return self.on_fetch(token, request),
            Request::FetchSnapshot(request) => return self.on_fetch_snapshot(token, &request),
        };
        self.answer(token, Ok(reply));
        Ok(())
    }

    fn on_reply(&mut self, from: Peer, correlation: u64, reply: ReplyResult) -> Result<(), Fault> {
        let Some(asked_at) = self.connections.awaited(from, correlation) else {
            return Ok(());
        };
        let is_success = match reply {
            Ok(Reply::Vote(reply)) => self.on_vote_reply(from, &reply)?,
            Ok(Reply::BeginQuorumEpoch(leadership)) => self.on_begin_epoch_reply(&leadership)?,
            Ok(Reply::EndQuorumEpoch(leadership)) => self.on_end_epoch_reply(from, &leadership)?,
            Ok(Reply::Fetch(reply)) => self.on_fetch_reply(reply, asked_at)?,
            Ok(Reply::FetchSnapshot(reply)) => self.on_fetch_snapshot_reply(reply)?,
            Err(ErrorCode::UnsupportedVersion) if matches!(self.state, State::Prospective(_)) => {
                // A voter from before pre-votes is asked for its vote outright.
                self.become_candidate()?;
                true
            }
            Err(_) => false,
        };
        let retry_at = self.now().plus_ms(self.config.retry_backoff_ms);
        self.connections.settle(from, correlation, is_success, retry_at);
        Ok(())
    }

    /// Acts on what a reply says of leadership. `Some` when that settles the reply, with whether it was a success; else the
    /// reply is one of this epoch, without an error that is common to all.
    pub(super) fn on_leadership(&mut self, said: &Leadership) -> Result<Option<bool>, Fault> {
        let endpoints = self.known_endpoints(said.leader, &said.endpoints);
        if said.epoch < self.epoch || said.error == ErrorCode::UnknownLeaderEpoch {
            return Ok(Some(true));
        }
        if said.epoch > self.epoch
            || matches!(
                said.error,
                ErrorCode::FencedLeaderEpoch | ErrorCode::NotLeaderOrFollower
            )
        {
            self.check_leader(said.leader, said.epoch)?;
            self.follow(said.leader, said.epoch, endpoints);
            return Ok(Some(true));
        }
        if let (Some(leader), None) = (said.leader, self.leader()) {
            self.check_leader(said.leader, said.epoch)?;
            if !self.is_reachable(&endpoints) {
                return Ok(Some(false));
            }
            // The request is not repeated: an observer finds the leader and its first records with one fetch.
            self.become_follower(said.epoch, leader, endpoints);
            return Ok(if said.error.is_none() { None } else { Some(true) });
        }
        Ok(match said.error {
            ErrorCode::None | ErrorCode::SnapshotNotFound => None,
            ErrorCode::InvalidVoterKey => Some(true),
            _ => Some(false),
        })
    }

    /// The endpoints that a message tells for a leader, or else those of the voter set.
    pub(super) fn known_endpoints(&self, leader: Option<BrokerId>, told: &Endpoints) -> Endpoints {
        match leader {
            Some(leader) if told.is_empty() => self.log.voters().endpoints(leader),
            Some(_) => told.clone(),
            None => Endpoints::default(),
        }
    }

    /// An epoch has one leader, and this node knows when it is the one.
    pub(super) fn check_leader(&self, leader: Option<BrokerId>, epoch: LeaderEpoch) -> Result<(), Fault> {
        let Some(other) = leader else {
            return Ok(());
        };
        let known = self.leader();
        let is_consistent = if other == self.id.local.key.id {
            epoch < self.epoch || (epoch == self.epoch && known == leader)
        } else {
            epoch != self.epoch || known.is_none() || known == leader
        };
        if is_consistent {
            Ok(())
        } else {
            Err(Fault::TwoLeaders { epoch, known, other })
        }
    }

    /// Moves on to a later epoch, or to a leader that was not known.
    pub(super) fn follow(&mut self, leader: Option<BrokerId>, epoch: LeaderEpoch, endpoints: Endpoints) {
        let is_news = epoch > self.epoch
            || (epoch == self.epoch && leader.is_some() && {
                // A follower that learns more endpoints of its leader starts over with them.
                self.leader().is_none()
                    || (!matches!(self.state, State::Leader(_) | State::Resigned(_))
                        && endpoints.0.len() > self.leader_endpoints().0.len())
            });
        match leader {
            Some(leader) if is_news && self.is_reachable(&endpoints) => self.become_follower(epoch, leader, endpoints),
            _ if epoch > self.epoch => self.become_unattached(epoch, leader),
            _ => {}
        }
    }

    /// Sends a request unless the peer is busy or spared.
    pub(super) fn send(&mut self, to: Peer, host: Arc<str>, port: u16, request: impl FnOnce(&Raft) -> Request) {
        match self.connections.ready(to, self.now()) {
            Ok(()) => {
                let overdue_at = self.now().plus_ms(self.config.request_timeout_ms);
                let correlation = self.connections.sent(to, overdue_at, self.log.last());
                let request = request(self);
                self.fx.sends.push(Outgoing {
                    to,
                    host,
                    port,
                    correlation,
                    overdue_at,
                    request,
                });
                self.wake_at(overdue_at);
            }
            Err(until) => self.wake_at(until),
        }
    }

    /// Sends a request to a voter.
    pub(super) fn send_to_voter(&mut self, id: BrokerId, request: impl FnOnce(&Raft) -> Request) {
        let endpoints = self.log.voters().endpoints(id);
        if let Some(endpoint) = self.endpoint(&endpoints) {
            let (host, port) = (Arc::clone(&endpoint.host), endpoint.port);
            self.send(Peer::Node(id), host, port, request);
        }
    }

    // Deadlines.

    /// Does what is due and sends what can be sent.
    fn poll(&mut self) -> Result<(), Fault> {
        self.wake = None;
        self.expire_parked();
        if let Some(deadline) = self.shutdown {
            let has_remote_leader = self.leader().is_some_and(|leader| leader != self.id.local.key.id);
            if deadline <= self.now() || !self.is_voter() || self.is_only_voter() || has_remote_leader {
                self.fx.is_stopped = true;
                return Ok(());
            }
            self.wake_at(deadline);
        }
        // Transitions follow one another at most from follower to prospective, candidate and leader.
        for _ in 0..5 {
            let state = std::mem::discriminant(&self.state);
            let epoch = self.epoch;
            match &self.state {
                State::Unattached(_) => self.poll_unattached()?,
                State::Prospective(_) => self.poll_prospective()?,
                State::Candidate(_) => self.poll_candidate()?,
                State::Leader(_) => self.poll_leader(),
                State::Follower(_) => self.poll_follower()?,
                State::Resigned(_) => self.poll_resigned(),
            }
            if state == std::mem::discriminant(&self.state) && epoch == self.epoch {
                break;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Effects {
        // A leader that resigned is not told of: it may take no more commands, and the next epoch follows soon.
        let leader = LeaderAndEpoch {
            leader: self.leader(),
            epoch: self.epoch,
        };
        if !matches!(self.state, State::Resigned(_)) && self.told != Some(leader) {
            self.told = Some(leader);
            self.fx.leader = Some(leader);
        }
        std::mem::take(&mut self.fx)
    }
}
