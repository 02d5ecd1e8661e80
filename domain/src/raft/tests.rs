//! Single rules, one replica at a time; what they add up to is in `simulation`.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::messages::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchReply, FetchRequest, Fetched, Leadership, Reply, Request,
    VoteReply, VoteRequest,
};
use super::voters::{Endpoint, Endpoints, KRaftVersion, ReplicaKey, Voter, VoterSet};
use super::*;
use crate::error::ErrorCode;
use crate::ids::{BrokerId, DirectoryId, LeaderEpoch, Mono, Offset, Timestamp};
use crate::log::epochs::LeaderEpochHistory;
use crate::record::batch::RecordBatch;
use crate::record::records::BatchBuilder;

fn key(id: i32) -> ReplicaKey {
    ReplicaKey::new(BrokerId(id), DirectoryId(Uuid::from_u128(100 + id as u128)))
}

fn endpoints(id: i32) -> Endpoints {
    Endpoints(vec![Endpoint {
        listener: "CONTROLLER".into(),
        host: format!("node{id}").into(),
        port: 9093,
    }])
}

fn voter(id: i32, directory: Option<DirectoryId>) -> Voter {
    Voter {
        key: ReplicaKey {
            id: BrokerId(id),
            directory,
        },
        endpoints: endpoints(id),
        min_kraft_version: KRaftVersion(0),
        max_kraft_version: KRaftVersion(1),
    }
}

/// Node 1 at a time that the test sets, among static voters.
struct Replica {
    raft: Raft,
    now_ms: i64,
    last: Effects,
    sent: Vec<Outgoing>,
    next_token: u64,
}

impl Replica {
    fn among(voters: i32) -> Replica {
        Replica::with(voters, QuorumConfig::default())
    }

    fn with(voters: i32, config: QuorumConfig) -> Replica {
        let voter_set: VoterSet = (1..=voters).map(|id| voter(id, None)).collect();
        let log = ReplicatedLog::new(voter_set, Offset(0), Offset(0), LeaderEpochHistory::default(), []);
        let identity = Identity {
            local: voter(1, key(1).directory),
            can_become_voter: true,
            cluster_id: "cluster".into(),
            listener: "CONTROLLER".into(),
            bootstrap: (1..=voters).map(|id| (Arc::from(format!("node{id}")), 9093)).collect(),
        };
        let (raft, last) = Raft::new(identity, config, log, None, moment(0)).unwrap();
        Replica {
            raft,
            now_ms: 0,
            sent: last.sends.clone(),
            last,
            next_token: 0,
        }
    }

    fn step(&mut self, input: Input) -> &Effects {
        self.last = self.raft.step(moment(self.now_ms), input).unwrap();
        self.sent.extend(self.last.sends.iter().cloned());
        &self.last
    }

    /// Lets time pass up to `now_ms`, with a tick at every deadline on the way.
    fn wait_until(&mut self, now_ms: i64) {
        while let Some(deadline) = self
            .raft
            .next_deadline()
            .filter(|deadline| *deadline <= moment(now_ms).mono)
        {
            self.now_ms = deadline.ms_since(Mono(0)) + 1;
            self.step(Input::Tick);
        }
        self.now_ms = now_ms;
    }

    /// Asks, and returns the answer unless it is held back.
    fn ask(&mut self, request: Request) -> Option<Reply> {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.step(Input::Request { token, request });
        self.answer_to(token)
    }

    fn answer_to(&self, token: Token) -> Option<Reply> {
        let mut answers = self.last.answers.iter().filter(|answer| answer.token == token);
        answers.next().map(|answer| answer.reply.clone().unwrap())
    }

    /// Replies to the last request to a node.
    fn reply(&mut self, id: i32, reply: impl FnOnce(&Request) -> messages::ReplyResult) {
        let sent = self
            .sent
            .iter()
            .rev()
            .find(|sent| sent.to == Peer::Node(BrokerId(id)))
            .unwrap();
        let (correlation, reply) = (sent.correlation, reply(&sent.request));
        self.step(Input::Reply {
            from: Peer::Node(BrokerId(id)),
            correlation,
            reply,
        });
    }

    /// Gives pre-vote and vote of node 2.
    fn elect(&mut self) {
        while self.raft.state_name() != "prospective" {
            self.wait_until(self.now_ms + 10);
        }
        for _ in 0..2 {
            let epoch = self.raft.epoch();
            self.reply(2, |request| Ok(vote_reply(request, epoch, true)));
        }
        assert!(self.raft.is_leader());
    }

    fn follow(&mut self, leader: i32, epoch: i32) {
        let request = BeginQuorumEpochRequest {
            cluster_id: None,
            voter: Some(key(1)),
            leader: BrokerId(leader),
            epoch: LeaderEpoch(epoch),
            endpoints: endpoints(leader),
        };
        self.ask(Request::BeginQuorumEpoch(request));
        assert_eq!(
            (self.raft.state_name(), self.raft.leader()),
            ("follower", Some(BrokerId(leader)))
        );
    }

    fn would_vote(&mut self, candidate: i32, epoch: i32, last: (i32, i64), pre_vote: bool) -> VoteReply {
        let request = VoteRequest {
            cluster_id: None,
            voter: Some(key(1)),
            candidate: key(candidate),
            epoch: LeaderEpoch(epoch),
            last_epoch: LeaderEpoch(last.0),
            last_offset: Offset(last.1),
            pre_vote,
        };
        match self.ask(Request::Vote(request)) {
            Some(Reply::Vote(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn fetch(&mut self, id: i32, offset: i64, last_epoch: i32) -> Option<FetchReply> {
        let request = FetchRequest {
            cluster_id: None,
            replica: key(id),
            epoch: self.raft.epoch(),
            fetch_offset: Offset(offset),
            last_fetched_epoch: LeaderEpoch(last_epoch),
            high_watermark: Offset::NONE,
            max_wait_ms: 500,
            max_bytes: 1024,
        };
        self.ask(Request::Fetch(request)).map(fetch_reply)
    }

    fn fetched(&mut self, high_watermark: i64, fetched: Fetched) {
        let leader = self.raft.leader();
        let leadership = Leadership {
            error: ErrorCode::None,
            leader,
            epoch: self.raft.epoch(),
            endpoints: Endpoints::default(),
        };
        self.reply(leader.unwrap().0, |_| {
            Ok(Reply::Fetch(FetchReply {
                leadership,
                high_watermark: (high_watermark >= 0).then_some(Offset(high_watermark)),
                log_start: Offset(0),
                fetched,
            }))
        });
    }
}

fn moment(ms: i64) -> Moment {
    Moment {
        mono: Mono(0).plus_ms(ms),
        wall: Timestamp(ms),
        entropy: 7,
    }
}

fn vote_reply(request: &Request, epoch: LeaderEpoch, granted: bool) -> Reply {
    assert!(matches!(request, Request::Vote(_)));
    let leadership = Leadership {
        error: ErrorCode::None,
        leader: None,
        epoch,
        endpoints: Endpoints::default(),
    };
    Reply::Vote(VoteReply { leadership, granted })
}

fn fetch_reply(reply: Reply) -> FetchReply {
    match reply {
        Reply::Fetch(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn batch(offset: i64, epoch: i32) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset(offset));
    builder.partition_leader_epoch = LeaderEpoch(epoch);
    builder.append(Timestamp(1), None, Some(b"x"));
    builder.build()
}

fn records(batches: &[RecordBatch]) -> Fetched {
    Fetched::Records(
        batches
            .iter()
            .flat_map(|batch| batch.bytes().to_vec())
            .collect::<Bytes>(),
    )
}

#[test]
fn a_voter_that_is_alone_leads_and_commits_within_its_first_step() {
    let replica = Replica::among(1);
    assert!(replica.raft.is_leader());
    assert_eq!(replica.last.persist.as_ref().unwrap().leader, Some(BrokerId(1)));
    assert_eq!((replica.last.append.len(), replica.last.sync), (1, true));
    assert_eq!(replica.last.high_watermark, Some(Offset(1)));
    assert!(replica.last.sends.is_empty());
    assert_eq!(replica.raft.next_deadline(), None);
}

#[test]
fn a_follower_that_hears_from_its_leader_supports_no_other() {
    let mut replica = Replica::among(3);
    replica.follow(2, 4);
    assert!(
        replica.would_vote(3, 4, (0, 0), true).granted,
        "it has not heard from the leader itself yet"
    );
    replica.fetched(-1, records(&[]));
    assert!(!replica.would_vote(3, 4, (0, 0), true).granted);
    // A pre-vote of the epoch that is known moves nobody out of it.
    assert_eq!(
        (replica.raft.epoch(), replica.raft.leader()),
        (LeaderEpoch(4), Some(BrokerId(2)))
    );
}

#[test]
fn a_vote_is_given_once_an_epoch_and_only_to_a_log_that_is_as_long() {
    let mut replica = Replica::among(3);
    replica.follow(2, 4);
    replica.fetched(-1, records(&[batch(0, 4), batch(1, 4)]));
    assert!(!replica.would_vote(3, 5, (4, 1), false).granted);
    assert!(!replica.would_vote(3, 5, (3, 9), false).granted);
    assert!(replica.would_vote(3, 5, (4, 2), false).granted);
    assert_eq!(replica.last.persist.as_ref().unwrap().voted, Some(key(3)));
    assert!(!replica.would_vote(2, 5, (4, 9), false).granted);
    assert!(replica.would_vote(3, 5, (4, 2), false).granted);
    let stale = replica.would_vote(2, 4, (3, 9), false);
    assert_eq!(
        (stale.granted, stale.leadership.error),
        (false, ErrorCode::FencedLeaderEpoch)
    );
    let impossible = replica.would_vote(2, 6, (6, 0), false);
    assert_eq!(impossible.leadership.error, ErrorCode::InvalidRequest);
}

#[test]
fn voters_from_before_pre_votes_are_asked_for_their_votes_outright() {
    let mut replica = Replica::among(3);
    replica.wait_until(2_000);
    assert_eq!(
        (replica.raft.state_name(), replica.raft.epoch()),
        ("prospective", LeaderEpoch(0))
    );
    replica.reply(2, |request| {
        assert!(matches!(request, Request::Vote(vote) if vote.pre_vote));
        Err(ErrorCode::UnsupportedVersion)
    });
    assert_eq!(
        (replica.raft.state_name(), replica.raft.epoch()),
        ("candidate", LeaderEpoch(1))
    );
    assert!(replica.last.persist.is_some());
}

#[test]
fn fetches_are_held_until_a_record_of_the_leaders_epoch_is_committed() {
    let mut replica = Replica::among(3);
    replica.elect();
    assert_eq!(replica.raft.high_watermark(), None);
    let first = replica.fetch(2, 0, 0).unwrap();
    assert_eq!(first.high_watermark, None);
    assert!(
        replica.last.answers[0].read.is_some(),
        "the follower gets the LeaderChange"
    );
    assert!(
        replica.fetch(9, 1, 1).is_none(),
        "the observer has everything, and nothing is committed"
    );
    let observer = Token(replica.next_token);
    assert_eq!(replica.raft.high_watermark(), None, "an observer does not count");

    let acknowledged = replica.fetch(3, 1, 1).unwrap();
    assert_eq!(acknowledged.high_watermark, Some(Offset(1)));
    let observer = fetch_reply(replica.answer_to(observer).unwrap());
    assert_eq!(observer.high_watermark, Some(Offset(1)));
}

#[test]
fn a_fetch_that_waits_in_vain_is_answered_in_time() {
    let mut replica = Replica::among(1);
    let first = replica.fetch(9, 1, 1).unwrap();
    assert_eq!(
        first.high_watermark,
        Some(Offset(1)),
        "the high watermark itself is news"
    );
    let request = |replica: &mut Replica| {
        let fetch = FetchRequest {
            cluster_id: None,
            replica: key(9),
            epoch: LeaderEpoch(1),
            fetch_offset: Offset(1),
            last_fetched_epoch: LeaderEpoch(1),
            high_watermark: Offset(1),
            max_wait_ms: 500,
            max_bytes: 1024,
        };
        replica.ask(Request::Fetch(fetch))
    };
    assert_eq!(request(&mut replica), None);
    replica.wait_until(400);
    assert!(replica.last.answers.is_empty());
    replica.wait_until(600);
    assert!(
        fetch_reply(replica.answer_to(Token(2)).unwrap())
            .leadership
            .error
            .is_none()
    );

    assert_eq!(request(&mut replica), None);
    replica.step(Input::Append(vec![batch(1, 1)]));
    assert!(replica.last.answers[0].read.is_some());
}

#[test]
fn fetchers_with_another_log_are_told_where_theirs_departs() {
    let mut replica = Replica::among(3);
    replica.follow(2, 4);
    replica.fetched(-1, records(&[batch(0, 2), batch(1, 4)]));
    replica.wait_until(replica.now_ms + 2_100);
    replica.elect();
    let diverging = replica.fetch(3, 3, 2).unwrap().fetched;
    let end = EpochEnd {
        epoch: LeaderEpoch(2),
        end_offset: Offset(1),
    };
    assert_eq!(diverging, Fetched::Diverging(end));
    assert_eq!(
        replica.raft.status(Mono(0), Timestamp(0)).unwrap().voters[2].log_end_offset,
        Offset(-1)
    );
    let newer = replica.fetch(3, 9, 3).unwrap().fetched;
    assert_eq!(newer, Fetched::Diverging(end));
}

#[test]
fn requests_of_other_epochs_and_impossible_ones_are_refused() {
    let mut replica = Replica::among(1);
    let fetch = |epoch, last_epoch| FetchRequest {
        cluster_id: Some("cluster".into()),
        replica: key(9),
        epoch: LeaderEpoch(epoch),
        fetch_offset: Offset(1),
        last_fetched_epoch: LeaderEpoch(last_epoch),
        high_watermark: Offset(1),
        max_wait_ms: 0,
        max_bytes: 1024,
    };
    let mut error = |request| {
        fetch_reply(replica.ask(Request::Fetch(request)).unwrap())
            .leadership
            .error
    };
    assert_eq!(error(fetch(0, 0)), ErrorCode::FencedLeaderEpoch);
    assert_eq!(error(fetch(2, 1)), ErrorCode::UnknownLeaderEpoch);
    assert_eq!(error(fetch(1, 2)), ErrorCode::InvalidRequest);
    assert_eq!(error(fetch(1, 1)), ErrorCode::None);

    replica.next_token += 1;
    let token = Token(replica.next_token);
    let request = Request::Fetch(FetchRequest {
        cluster_id: Some("another".into()),
        ..fetch(1, 1)
    });
    replica.step(Input::Request { token, request });
    assert_eq!(replica.last.answers[0].reply, Err(ErrorCode::InconsistentClusterId));

    let mut follower = Replica::among(3);
    follower.follow(2, 1);
    let reply = follower.fetch(9, 0, 0).unwrap();
    assert_eq!(
        (reply.leadership.error, reply.leadership.leader),
        (ErrorCode::NotLeaderOrFollower, Some(BrokerId(2)))
    );
}

#[test]
fn a_leader_that_loses_touch_with_the_majority_resigns_and_leaves_its_epoch() {
    let mut replica = Replica::among(3);
    replica.elect();
    let elected_ms = replica.now_ms;
    replica.fetch(2, 0, 0);
    replica.wait_until(elected_ms + 2_900);
    assert!(replica.raft.is_leader());
    replica.fetch(2, 0, 0);
    replica.wait_until(elected_ms + 5_800);
    assert!(replica.raft.is_leader());
    replica.wait_until(elected_ms + 6_000);
    assert_eq!(replica.raft.state_name(), "resigned");
    assert_eq!(replica.raft.leading(LeaderEpoch(1)), None);
    assert!(
        !replica.would_vote(3, 1, (0, 9), false).granted,
        "it led this epoch itself"
    );
    replica.wait_until(elected_ms + 8_100);
    assert!(replica.raft.epoch() > LeaderEpoch(1));
}

#[test]
fn a_leader_that_stops_names_the_longest_log_as_its_successor() {
    let mut replica = Replica::among(3);
    replica.elect();
    replica.fetch(3, 1, 1);
    replica.fetch(2, 0, 0);
    replica.step(Input::Shutdown {
        deadline: moment(60_000).mono,
    });
    let successors: Vec<_> = replica
        .last
        .sends
        .iter()
        .filter_map(|sent| match &sent.request {
            Request::EndQuorumEpoch(request) => Some(request.successors.iter().map(|key| key.id.0).collect::<Vec<_>>()),
            _ => None,
        })
        .collect();
    assert_eq!(successors, [[3, 2], [3, 2]]);
    assert!(!replica.last.is_stopped);
    replica.follow(3, 2);
    assert!(replica.last.is_stopped);
}

#[test]
fn successors_take_their_turn() {
    let ends_at = |successors: &[i32]| {
        let mut replica = Replica::among(3);
        replica.follow(2, 4);
        let request = EndQuorumEpochRequest {
            cluster_id: None,
            leader: BrokerId(2),
            epoch: LeaderEpoch(4),
            successors: successors.iter().map(|id| key(*id)).collect(),
            endpoints: endpoints(2),
        };
        replica.ask(Request::EndQuorumEpoch(request));
        let mut waited_ms = 0;
        while replica.raft.state_name() == "follower" {
            waited_ms += 10;
            replica.wait_until(waited_ms);
        }
        waited_ms
    };
    assert_eq!(ends_at(&[1, 3]), 0);
    assert!((490..=510).contains(&ends_at(&[3, 1])));
    assert!((990..=1_010).contains(&ends_at(&[3])));
}

#[test]
fn a_follower_cuts_off_what_its_leader_does_not_have_but_nothing_committed() {
    let mut replica = Replica::among(3);
    replica.follow(2, 4);
    replica.fetched(2, records(&[batch(0, 1), batch(1, 2), batch(2, 3)]));
    assert_eq!((replica.last.append.len(), replica.last.sync), (3, true));
    assert_eq!(replica.last.high_watermark, Some(Offset(2)));

    let diverging = |epoch, end| {
        Fetched::Diverging(EpochEnd {
            epoch: LeaderEpoch(epoch),
            end_offset: Offset(end),
        })
    };
    replica.fetched(2, diverging(2, 2));
    assert_eq!(
        (replica.last.truncate, replica.raft.log().end()),
        (Some(Offset(2)), Offset(2))
    );

    let sent = replica.last.sends.last().unwrap().clone();
    let leadership = Leadership {
        error: ErrorCode::None,
        leader: Some(BrokerId(2)),
        epoch: LeaderEpoch(4),
        endpoints: Endpoints::default(),
    };
    let reply = FetchReply {
        leadership,
        high_watermark: None,
        log_start: Offset(0),
        fetched: diverging(1, 1),
    };
    let fault = replica.raft.step(
        moment(1),
        Input::Reply {
            from: sent.to,
            correlation: sent.correlation,
            reply: Ok(Reply::Fetch(reply)),
        },
    );
    assert!(matches!(fault, Err(Fault::CommittedRecordsLost { .. })));
}

/// A node that looks for its leader in several places may be answered twice.
#[test]
fn a_late_reply_about_an_earlier_end_of_the_log_changes_nothing() {
    let config = QuorumConfig {
        request_timeout_ms: 500,
        ..QuorumConfig::default()
    };
    let mut replica = Replica::with(3, config);
    replica.follow(2, 4);
    replica.reply(2, |_| Err(ErrorCode::NetworkException));
    // Another is asked at once, and the leader again when that one does not answer.
    replica.wait_until(700);
    let is_search = |sent: &&Outgoing| matches!(sent.to, Peer::Bootstrap(_));
    let search = replica.sent.iter().rev().find(is_search).unwrap().clone();
    replica.fetched(-1, records(&[batch(0, 1), batch(1, 2)]));
    assert_eq!(replica.raft.log().end(), Offset(2));

    let reply = FetchReply {
        leadership: Leadership {
            error: ErrorCode::None,
            leader: Some(BrokerId(2)),
            epoch: LeaderEpoch(4),
            endpoints: Endpoints::default(),
        },
        high_watermark: None,
        log_start: Offset(0),
        fetched: Fetched::Diverging(EpochEnd {
            epoch: LeaderEpoch(0),
            end_offset: Offset(0),
        }),
    };
    replica.step(Input::Reply {
        from: search.to,
        correlation: search.correlation,
        reply: Ok(Reply::Fetch(reply)),
    });
    assert_eq!((replica.last.truncate, replica.raft.log().end()), (None, Offset(2)));
}

#[test]
fn damaged_records_are_not_appended() {
    let mut replica = Replica::among(3);
    replica.follow(2, 4);
    let mut bytes = [batch(0, 4).bytes().to_vec(), batch(1, 4).bytes().to_vec()].concat();
    *bytes.last_mut().unwrap() ^= 1;
    replica.fetched(-1, Fetched::Records(bytes.into()));
    assert_eq!(replica.last.append.len(), 1);
    replica.wait_until(replica.now_ms + 30);
    replica.wait_until(replica.now_ms + 30);
    assert_eq!(replica.raft.log().end(), Offset(1));
    // Neither what does not follow, nor what no leader of this epoch can have written.
    for batch in [batch(3, 4), batch(1, 5), batch(1, 3)] {
        let mut replica = Replica::among(3);
        replica.follow(2, 4);
        replica.fetched(-1, records(&[self::batch(0, 4)]));
        replica.fetched(-1, records(&[batch]));
        assert!(replica.last.append.is_empty());
    }
}

#[test]
fn a_second_leader_of_an_epoch_is_refused_when_it_asks_and_a_fault_when_a_peer_names_it() {
    let mut replica = Replica::among(3);
    replica.follow(2, 4);
    let request = BeginQuorumEpochRequest {
        cluster_id: None,
        voter: None,
        leader: BrokerId(3),
        epoch: LeaderEpoch(4),
        endpoints: endpoints(3),
    };
    let Some(Reply::BeginQuorumEpoch(reply)) = replica.ask(Request::BeginQuorumEpoch(request)) else {
        panic!("an answer");
    };
    assert_eq!(
        (reply.error, reply.leader),
        (ErrorCode::InvalidRequest, Some(BrokerId(2)))
    );

    let sent = replica.sent.last().unwrap().clone();
    let leadership = Leadership {
        error: ErrorCode::NotLeaderOrFollower,
        leader: Some(BrokerId(3)),
        epoch: LeaderEpoch(4),
        endpoints: endpoints(3),
    };
    let reply = Reply::Fetch(FetchReply {
        leadership,
        high_watermark: None,
        log_start: Offset(0),
        fetched: records(&[]),
    });
    let input = Input::Reply {
        from: sent.to,
        correlation: sent.correlation,
        reply: Ok(reply),
    };
    assert!(matches!(
        replica.raft.step(moment(1), input),
        Err(Fault::TwoLeaders { .. })
    ));
}
