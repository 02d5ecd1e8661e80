//! Random clients and time against one group: what holds whatever they do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::bench::*;
use crate::coordinator::Token;
use crate::error::ErrorCode;
use crate::groups::classic::{ClassicGroup, Members};
use crate::groups::commands::{JoinGroup, Joined, Reply, SyncGroup};
use crate::groups::records::GroupRecord;

const CLIENT_COUNT: usize = 7;
/// The first of the clients are static members.
const INSTANCES: [&str; 3] = ["a", "b", "c"];
const PROTOCOLS: [&[&str]; 4] = [
    &["range", "roundrobin"],
    &["roundrobin", "range"],
    &["range"],
    &["sticky", "range"],
];

#[derive(Clone, Debug)]
enum Step {
    /// The client does what a good client would do next.
    Behave {
        client: usize,
    },
    Join {
        client: usize,
        protocols: usize,
    },
    JoinAnew {
        client: usize,
        protocols: usize,
        knows_pending: bool,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    Commit {
        client: usize,
    },
    Leave {
        clients: Vec<usize>,
    },
    Pass {
        delay_ms: i32,
    },
    Failover,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENT_COUNT;
    let protocols = || prop_oneof![4 => Just(0), 1 => 0..PROTOCOLS.len()];
    prop_oneof![
        40 => client.clone().prop_map(|client| Step::Behave { client }),
        3 => (client.clone(), protocols()).prop_map(|(client, protocols)| Step::Join { client, protocols }),
        // Most of all static members lose their ids.
        5 => (prop_oneof![4 => 0..INSTANCES.len(), 1 => client.clone()], protocols(), prop::bool::weighted(0.8))
            .prop_map(|(client, protocols, knows_pending)| Step::JoinAnew { client, protocols, knows_pending }),
        6 => client.clone().prop_map(|client| Step::Sync { client }),
        3 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Step::Commit { client }),
        1 => prop::collection::vec(client, 1..4).prop_map(|clients| Step::Leave { clients }),
        5 => prop_oneof![4 => Just(INITIAL_DELAY_MS), 4 => 1..INITIAL_DELAY_MS, 1 => 1..REBALANCE_MS]
            .prop_map(|delay_ms| Step::Pass { delay_ms }),
        1 => Just(Step::Failover),
    ]
}

#[derive(Clone, Default)]
struct Client {
    member_id: Arc<str>,
    joined: Option<Joined>,
}

struct Model {
    bench: Bench,
    clients: Vec<Client>,
    /// Whose request it was.
    owners: BTreeMap<Token, usize>,
    /// What a SyncGroup is to be answered with, if not with nothing.
    expected: BTreeMap<Token, Bytes>,
    seen: BTreeSet<Token>,
    /// Who leads which generation since the last failover.
    leaders: BTreeMap<i32, Arc<str>>,
}

/// What stays the same when a static member gets another id.
fn identity(member_id: &str) -> Arc<str> {
    match member_id.split_once('-') {
        Some((prefix, _)) if INSTANCES.contains(&prefix) => prefix.into(),
        _ => member_id.into(),
    }
}

fn assigned(generation_id: i32, member_id: &str) -> Bytes {
    Bytes::from(format!("{generation_id} for {}", identity(member_id)))
}

impl Model {
    fn new(max_size: usize) -> Self {
        Model {
            bench: Bench::with_max_size(max_size),
            clients: vec![Client::default(); CLIENT_COUNT],
            owners: BTreeMap::new(),
            expected: BTreeMap::new(),
            seen: BTreeSet::new(),
            leaders: BTreeMap::new(),
        }
    }

    fn instance(client: usize) -> Option<&'static str> {
        INSTANCES.get(client).copied()
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Behave { client } => self.behave(*client),
            Step::Join { client, protocols } => {
                let member_id = self.clients[*client].member_id.clone();
                self.join(*client, member_id, *protocols, true);
            }
            Step::JoinAnew {
                client,
                protocols,
                knows_pending,
            } => self.join(*client, "".into(), *protocols, *knows_pending),
            Step::Sync { client } => self.sync(*client),
            Step::Heartbeat { client } => {
                let member_id = self.clients[*client].member_id.clone();
                let generation_id = self.bench.group.generation_id();
                self.bench
                    .heartbeat_as(&member_id, Self::instance(*client), generation_id);
            }
            Step::Commit { client } => {
                let member_id = self.clients[*client].member_id.clone();
                let generation_id = self.bench.group.generation_id();
                let _ = self.bench.commit(&member_id, Self::instance(*client), generation_id);
            }
            Step::Leave { clients } => {
                let members: Vec<_> = clients
                    .iter()
                    .map(|client| (self.clients[*client].member_id.clone(), Self::instance(*client)))
                    .collect();
                let members: Vec<_> = members.iter().map(|(id, instance)| (&**id, *instance)).collect();
                let left = self.bench.leave(&members);
                assert_eq!(left.members.len(), members.len());
            }
            Step::Pass { delay_ms } => self.bench.pass(*delay_ms),
            Step::Failover => self.fail_over(),
        }
    }

    fn behave(&mut self, client: usize) {
        let waits = self.waiting().any(|token| self.owners[&token] == client);
        let known = &self.clients[client];
        let generation_id = known.joined.as_ref().map(|joined| joined.generation_id);
        let is_assigned = self.bench.group.state() != "PreparingRebalance";
        if waits {
            // Nothing else goes out on its connection.
        } else if is_assigned && generation_id == Some(self.bench.group.generation_id()) {
            self.sync(client);
        } else {
            let member_id = known.member_id.clone();
            self.join(client, member_id, 0, true);
        }
    }

    fn join(&mut self, client: usize, member_id: Arc<str>, protocols_index: usize, requires_known_member_id: bool) {
        let token = self.bench.join(JoinGroup {
            member_id,
            group_instance_id: Self::instance(client).map(Into::into),
            protocols: protocols(PROTOCOLS[protocols_index]),
            requires_known_member_id,
            ..join("client")
        });
        self.owners.insert(token, client);
    }

    fn sync(&mut self, client: usize) {
        let Some(joined) = self.clients[client].joined.clone() else {
            return;
        };
        let assign = |member: &crate::groups::commands::JoinedMember| {
            (
                member.member_id.clone(),
                assigned(joined.generation_id, &member.member_id),
            )
        };
        let member_id = self.clients[client].member_id.clone();
        let token = self.bench.sync(SyncGroup {
            group_instance_id: Self::instance(client).map(Into::into),
            assignments: joined.members.iter().map(assign).collect(),
            protocol_type: joined.protocol_type.clone(),
            ..sync(&member_id, joined.generation_id)
        });
        self.expected.insert(token, assigned(joined.generation_id, &member_id));
        self.owners.insert(token, client);
    }

    /// Another broker leads: it has the records alone.
    fn fail_over(&mut self) {
        let Some(record) = self.bench.records.last().cloned() else {
            return;
        };
        let GroupRecord::GroupMetadata(_, Some(value)) = record else {
            panic!("{record:?}");
        };
        let group = ClassicGroup::from_record("group".into(), value).unwrap();
        let unanswered: Vec<_> = self.waiting().collect();
        self.bench.asked.retain(|token| !unanswered.contains(token));
        for token in unanswered {
            self.owners.remove(&token);
        }
        self.bench.group = group;
        self.bench.timers = Default::default();
        self.leaders.clear();
        self.bench.step(|group, ctx| group.loaded(ctx));
    }

    fn waiting(&self) -> impl Iterator<Item = Token> {
        let answers = &self.bench.answers;
        self.bench
            .asked
            .iter()
            .filter(|token| !answers.contains_key(token))
            .copied()
    }

    /// Clients read their answers.
    fn read_answers(&mut self) {
        let new: Vec<_> = self
            .bench
            .answers
            .keys()
            .filter(|token| !self.seen.contains(token))
            .copied()
            .collect();
        for token in new {
            self.seen.insert(token);
            let client = self.owners[&token];
            match self.bench.answers[&token].clone() {
                Reply::JoinGroup(joined) => self.read_joined(client, joined),
                Reply::SyncGroup(synced) => {
                    if synced.error == ErrorCode::None {
                        assert_eq!(self.bench.group.state(), "Stable");
                        if !synced.assignment.is_empty() {
                            assert_eq!(synced.assignment, self.expected[&token]);
                        }
                    } else {
                        assert!(synced.assignment.is_empty());
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn read_joined(&mut self, client: usize, joined: Joined) {
        match joined.error {
            ErrorCode::None => {
                let leader = identity(&joined.leader);
                let leads = joined.leader == joined.member_id;
                assert_eq!(leads, !joined.members.is_empty());
                let known = self.leaders.entry(joined.generation_id).or_insert(leader.clone());
                assert_eq!(*known, leader, "two lead generation {}", joined.generation_id);
                self.clients[client].member_id = joined.member_id.clone();
                self.clients[client].joined = Some(joined);
            }
            ErrorCode::MemberIdRequired => self.clients[client].member_id = joined.member_id,
            ErrorCode::RebalanceInProgress => (),
            _ => self.clients[client] = Client::default(),
        }
    }

    fn check(&self) {
        let group = &self.bench.group;
        let members = group.members();
        // Every request that is not answered waits in exactly one session.
        let mut held = Vec::new();
        for member in members.iter() {
            held.extend(member.session.joining);
            held.extend(member.session.syncing);
            let timer = self.bench.timers.due(&group.member_timer(&member.member_id));
            assert!(
                timer.is_some() || member.needs_no_heartbeat(),
                "nobody watches {}",
                member.member_id
            );
        }
        held.sort();
        assert_eq!(held, self.waiting().collect::<Vec<_>>());
        for pending in &group.pending.ids {
            assert!(members.get(pending).is_none());
            assert!(self.bench.timers.due(&group.member_timer(pending)).is_some());
        }
        let is_preparing = group.state() == "PreparingRebalance";
        assert_eq!(self.bench.timers.due(&group.join_timer()).is_some(), is_preparing);
        let has_sync_timer = self.bench.timers.due(&group.sync_timer()).is_some();
        assert_eq!(has_sync_timer, !members.have_synced());
        // What is counted is what there is.
        let mut counted = Members::default();
        members.iter().for_each(|member| counted.insert(member.clone()));
        assert_eq!(&counted, members);

        // Beyond the limit are members that have not joined again: of a new generation only silent static ones.
        let max_size = self.bench.settings.max_size;
        assert!(members.joining_count() <= max_size);
        let leads = |leader: &Arc<str>| members.get(leader).is_some();
        assert_eq!(group.generation.leader.as_ref().is_some_and(leads), !members.is_empty());
        match group.state() {
            "Empty" => assert!(members.is_empty()),
            "CompletingRebalance" | "Stable" => {
                assert!(!members.is_empty() && members.joining_count() == 0);
                assert!(members.len() <= max_size + INSTANCES.len());
                assert!(members.support(group.protocol_name().unwrap()));
            }
            _ => assert!(members.have_synced()),
        }
        // What is on record is what there is.
        if let Some(record) = self.bench.records.last()
            && ["Empty", "Stable"].contains(&group.state())
        {
            assert_eq!(*record, group.to_record());
            let GroupRecord::GroupMetadata(_, Some(value)) = record.clone() else {
                panic!("{record:?}");
            };
            let replayed = ClassicGroup::from_record("group".into(), value).unwrap();
            assert_eq!(replayed.generation, group.generation);
            assert_eq!(replayed.describe(), group.describe());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_clients_do(steps in prop::collection::vec(step(), 1..200), max_size in 3_usize..9) {
        let mut model = Model::new(max_size);
        for step in &steps {
            model.run(step);
            model.read_answers();
            model.check();
        }
        // Clients that vanish leave nothing behind.
        model.bench.pass(60 * 60_000);
        model.check();
        prop_assert_eq!(model.waiting().count(), 0);
        prop_assert!(model.bench.group.is_empty());
        prop_assert_eq!(model.bench.group.size_bytes(), 0);
        prop_assert_eq!(model.bench.timers.next(), None);
    }
}
