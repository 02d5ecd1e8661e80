//! Random clients of both protocols: whatever happens, the log tells the whole state and no partition has two owners; once the clients behave,
//! the group comes to rest with all partitions assigned.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::migration::{classic_alive, classic_join, classic_sync, subscription as classic_subscription};
use super::*;
use crate::error::ErrorCode;
use crate::groups::commands::{Heartbeat, JoinGroup, SyncGroup};

const CLIENTS: usize = 5;
const TOPICS: [&str; 4] = ["foo", "food", "bar", "baz"];

#[derive(Clone, Debug)]
enum Op {
    /// A heartbeat, the first of which joins; the client says what it has, and gets the answer.
    Heartbeat(usize, bool, bool),
    Subscribe(usize, Subscription),
    Leave(usize),
    /// The client goes and never comes back, or a static one under another member id; it may say so, and may come back with
    /// the classic protocol.
    Restart(usize, bool, bool),
    Pass(i64),
    Grow(usize, i32),
    Delete(usize),
    FailOver,
}

#[derive(Clone, Debug)]
enum Subscription {
    Names(Vec<&'static str>),
    Pattern(&'static str),
    Both(&'static str, &'static str),
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let names = proptest::sample::subsequence(TOPICS.to_vec(), 0..=4);
    let pattern = || proptest::sample::select(vec!["fo.*", "ba.*", "foo"]);
    prop_oneof![
        4 => names.prop_map(Subscription::Names),
        1 => pattern().prop_map(Subscription::Pattern),
        1 => (proptest::sample::select(TOPICS.to_vec()), pattern()).prop_map(|(name, pattern)| Subscription::Both(name, pattern)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS;
    prop_oneof![
        20 => (client(), any::<bool>(), proptest::bool::weighted(0.9)).prop_map(|(client, says, gets)| Op::Heartbeat(client, says, gets)),
        3 => (client(), subscription()).prop_map(|(client, subscription)| Op::Subscribe(client, subscription)),
        1 => client().prop_map(Op::Leave),
        1 => (client(), any::<bool>(), any::<bool>())
            .prop_map(|(client, says_so, is_classic)| Op::Restart(client, says_so, is_classic)),
        4 => (0..30_000_i64).prop_map(Op::Pass),
        2 => (0..TOPICS.len(), 0..8_i32).prop_map(|(topic, size)| Op::Grow(topic, size)),
        1 => (0..TOPICS.len()).prop_map(Op::Delete),
        1 => Just(Op::FailOver),
    ]
}

#[derive(Clone, Debug)]
struct Client {
    number: usize,
    life: usize,
    is_static: bool,
    /// It uses the classic protocol; its epoch is its generation then.
    is_classic: bool,
    member_id: String,
    subscription: Subscription,
    /// The subscription was not sent yet.
    is_changed: bool,
    /// It got no answer: it says everything again.
    lost_answer: bool,
    epoch: i32,
    owned: Assignment,
    /// When the group expects it.
    due: Mono,
}

impl Client {
    /// Comes back as another member.
    fn begin_life(&mut self) {
        self.life += 1;
        // The group makes the ids of static members of the classic protocol.
        self.member_id = match self.is_classic && self.is_static {
            true => String::new(),
            false => format!("m{}-{}", self.number, self.life),
        };
        self.forget();
    }

    /// Loses what it has and joins again.
    fn forget(&mut self) {
        self.epoch = 0;
        self.owned.clear();
    }

    fn instance_id(&self) -> Option<Arc<str>> {
        self.is_static.then(|| format!("i{}", self.number).into())
    }

    /// Names and pattern; the classic protocol knows no patterns.
    fn subscribed(&self) -> (Vec<&'static str>, &'static str) {
        let (names, pattern) = match &self.subscription {
            Subscription::Names(names) => (names.clone(), ""),
            Subscription::Pattern(pattern) => (vec![], *pattern),
            Subscription::Both(name, pattern) => (vec![*name], *pattern),
        };
        (names, if self.is_classic { "" } else { pattern })
    }

    /// It gets this assignment: true when it has to give partitions up.
    fn take(&mut self, assignment: Assignment) -> bool {
        let holds_less = self.owned.iter().any(|(topic, owned)| {
            let kept = assignment.iter().find(|(id, _)| id == topic);
            !owned
                .iter()
                .all(|partition| kept.is_some_and(|(_, kept)| kept.contains(partition)))
        });
        self.owned = assignment;
        holds_less
    }

    fn request(&self, says_what_it_has: bool) -> ConsumerGroupHeartbeat {
        let is_full = self.epoch == 0 || self.lost_answer;
        let mut request = alive(&self.member_id, self.epoch);
        request.instance_id = self.instance_id();
        request.topic_partitions = (is_full || says_what_it_has).then(|| self.owned.clone());
        if is_full || self.is_changed {
            let (names, pattern) = self.subscribed();
            request.subscribed_topic_names = Some(names.into_iter().map(Arc::from).collect());
            request.subscribed_topic_regex = Some(pattern.into());
            request.rebalance_timeout_ms = if is_full { 60_000 } else { -1 };
        }
        request
    }
}

struct World {
    rig: Rig,
    clients: Vec<Client>,
    /// Topics are not created again, as their ids would be others.
    deleted: BTreeSet<usize>,
}

impl World {
    fn new(assignment_interval_ms: i32, assignor: &str) -> Self {
        let mut rig = Rig::new();
        rig.settings.consumer_assignment_interval_ms.default = assignment_interval_ms;
        rig.settings.consumer_migration_policy.allows_downgrade = false;
        rig.settings.consumer_assignors.retain(|name| **name == *assignor);
        rig.set_topic("foo", 4);
        rig.set_topic("bar", 2);
        let client = |number| Client {
            number,
            life: 0,
            is_static: number % 2 == 0,
            is_classic: false,
            member_id: format!("m{number}-0"),
            subscription: Subscription::Names(vec!["foo"]),
            is_changed: false,
            lost_answer: false,
            epoch: 0,
            owned: Vec::new(),
            due: Mono(0),
        };
        World {
            rig,
            clients: (0..CLIENTS).map(client).collect(),
            deleted: BTreeSet::new(),
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Heartbeat(client, says, gets) => self.heartbeat(client, says, gets),
            Op::Subscribe(client, subscription) => {
                self.clients[client].subscription = subscription;
                self.clients[client].is_changed = true;
            }
            Op::Leave(client) if self.clients[client].member_id.is_empty() => {}
            Op::Leave(client) => {
                let request = ConsumerGroupHeartbeat {
                    topic_partitions: None,
                    member_epoch: -1,
                    ..self.clients[client].request(false)
                };
                let _ = self.rig.heartbeat(&request);
                self.clients[client].forget();
            }
            Op::Restart(client, says_so, is_classic) => {
                let client = &mut self.clients[client];
                if says_so && client.is_static && !client.is_classic {
                    let request = ConsumerGroupHeartbeat {
                        topic_partitions: None,
                        member_epoch: -2,
                        ..client.request(false)
                    };
                    let _ = self.rig.heartbeat(&request);
                }
                // Somebody keeps the group a consumer group.
                client.is_classic = is_classic && client.number > 0;
                client.begin_life();
            }
            Op::Pass(ms) => self.rig.pass_ms(ms),
            Op::Grow(topic, size) if !self.deleted.contains(&topic) => self.rig.set_topic(TOPICS[topic], size),
            Op::Grow(..) => {}
            Op::Delete(topic) => {
                if self.rig.image.topics.by_name(TOPICS[topic]).is_some() {
                    self.deleted.insert(topic);
                    self.rig.delete_topic(TOPICS[topic]);
                }
            }
            Op::FailOver => self.rig.fail_over(),
        }
        self.check();
    }

    fn heartbeat(&mut self, client: usize, says_what_it_has: bool, gets_the_answer: bool) {
        if self.clients[client].is_classic {
            return self.classic_heartbeat(client, gets_the_answer);
        }
        let request = self.clients[client].request(says_what_it_has);
        let reply = self.rig.heartbeat(&request);
        let client = &mut self.clients[client];
        client.due = self.rig.now.mono.plus_ms(1_000);
        client.lost_answer = !gets_the_answer;
        match reply {
            Ok(reply) if gets_the_answer => {
                assert!(reply.member_epoch >= client.epoch);
                client.epoch = reply.member_epoch;
                client.is_changed = false;
                client.due = self.rig.now.mono.plus_ms(i64::from(reply.heartbeat_interval_ms));
                // It gives up at once what is not in the assignment, and says so at once.
                if reply.assignment.is_some_and(|assignment| client.take(assignment)) {
                    client.due = self.rig.now.mono;
                }
            }
            Ok(_) => {}
            Err(error) => match error.code {
                ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                    client.forget();
                    client.due = self.rig.now.mono;
                }
                ErrorCode::UnreleasedInstanceId => {}
                other => panic!("{other}"),
            },
        }
    }

    fn classic_heartbeat(&mut self, number: usize, gets_the_answer: bool) {
        let client = &mut self.clients[number];
        client.due = self.rig.now.mono.plus_ms(3_000);
        if client.epoch > 0 && !client.is_changed {
            let request = Heartbeat {
                group_instance_id: client.instance_id(),
                ..classic_alive(&client.member_id, client.epoch)
            };
            match self.rig.classic_alive(&request) {
                ErrorCode::None => return,
                ErrorCode::RebalanceInProgress => {}
                ErrorCode::UnknownMemberId => client.begin_life(),
                ErrorCode::IllegalGeneration => client.forget(),
                other => panic!("{other}"),
            }
        }
        self.classic_rejoin(number, gets_the_answer);
    }

    /// Joins and asks for the assignment. A cooperative consumer: it keeps what it has meanwhile, and joins once more after
    /// it gave partitions up.
    fn classic_rejoin(&mut self, number: usize, gets_the_answer: bool) {
        if self.rig.group.is_empty() {
            // That would make a classic group.
            return;
        }
        let client = &mut self.clients[number];
        let named: Vec<(String, Vec<i32>)> = client
            .owned
            .iter()
            .filter_map(|(topic, partitions)| {
                let name = self.rig.image.topics.by_id(*topic)?.name.to_string();
                Some((name, partitions.iter().map(|partition| partition.0).collect()))
            })
            .collect();
        let named: Vec<(&str, &[i32])> = named.iter().map(|(name, numbers)| (&**name, &**numbers)).collect();
        let request = JoinGroup {
            group_instance_id: client.instance_id(),
            ..classic_join(
                &client.member_id,
                classic_subscription(3, &client.subscribed().0, &named),
            )
        };
        let joined = self.rig.classic_join(&request);
        client.lost_answer = true;
        if !gets_the_answer {
            // The connection broke: another one joins again.
            return;
        }
        match joined.error {
            ErrorCode::None => {}
            ErrorCode::UnknownMemberId => return client.begin_life(),
            other => panic!("{other}"),
        }
        client.member_id = joined.member_id.to_string();
        client.epoch = joined.generation_id;
        client.is_changed = false;
        let request = SyncGroup {
            group_instance_id: client.instance_id(),
            ..classic_sync(&client.member_id, client.epoch)
        };
        let synced = self.rig.classic_sync(&request);
        match synced.error {
            ErrorCode::None => {
                let assignment = self.rig.synced(&synced).into_iter().collect();
                client.lost_answer = false;
                if client.take(assignment) {
                    client.due = self.rig.now.mono;
                    client.is_changed = true;
                }
            }
            ErrorCode::RebalanceInProgress => client.is_changed = true,
            other => panic!("{other}"),
        }
    }

    /// What a client has that is in the group the group knows. As the group gives no partition to two members, no two
    /// clients have one, unless one of them was taken out.
    fn check(&self) {
        for client in &self.clients {
            if client.is_classic && client.lost_answer {
                // One that was taken out may have joined again, and does not know yet that it lost what it had.
                continue;
            }
            let Some(member) = self.rig.group.state.members.get(client.member_id.as_str()) else {
                continue;
            };
            let held: BTreeSet<_> = member.current.held().collect();
            for (topic, owned) in &client.owned {
                for partition in owned {
                    assert!(
                        held.contains(&(*topic, *partition)),
                        "{client:?} has what is not its own: {member:?}"
                    );
                }
            }
        }
    }

    /// All clients behave for a while.
    fn settle(&mut self) {
        let end = self.rig.now.mono.plus_ms(200_000);
        for client in &mut self.clients {
            client.due = self.rig.now.mono;
        }
        while let Some(client) = (0..CLIENTS).min_by_key(|client| self.clients[*client].due)
            && self.clients[client].due < end
        {
            let wait_ms = self.clients[client].due.ms_since(self.rig.now.mono);
            self.rig.pass_ms(wait_ms);
            self.heartbeat(client, true, true);
            self.check();
        }
    }

    fn check_settled(&self) {
        let state = &self.rig.group.state;
        assert_eq!(state.name(), "Stable", "{state:#?}");
        assert_eq!(state.members.len(), CLIENTS);
        let mut subscribed: BTreeMap<TopicId, usize> = BTreeMap::new();
        for client in &self.clients {
            let (names, pattern) = client.subscribed();
            let matches = |name: &str| names.contains(&name) || !pattern.is_empty() && is_match(pattern, name);
            let topics = self.rig.image.topics.iter().filter(|topic| matches(&topic.name));
            subscribed.extend(
                topics
                    .map(|topic| (topic.id, topic.partitions.len()))
                    .filter(|(_, size)| *size > 0),
            );
            let owned: Partitions = client.owned.iter().cloned().collect();
            let target = state.target.get(client.member_id.as_str()).cloned();
            assert_eq!(owned, target.unwrap_or_default());
            for topic in owned.keys() {
                assert!(matches(&self.rig.image.topics.by_id(*topic).unwrap().name));
            }
        }
        let mut owned: BTreeMap<TopicId, usize> = BTreeMap::new();
        for (topic, partitions) in self.clients.iter().flat_map(|client| &client.owned) {
            *owned.entry(*topic).or_default() += partitions.len();
        }
        assert_eq!(owned, subscribed, "all partitions are assigned");
    }
}

fn is_match(pattern: &str, name: &str) -> bool {
    let name: Arc<str> = name.into();
    !Prefixes
        .matching(pattern, &mut std::iter::once(&name))
        .unwrap()
        .is_empty()
}

proptest! {
    #[test]
    fn groups_converge_and_the_log_tells_all(
        ops in proptest::collection::vec(op(), 1..80),
        interval_ms in proptest::sample::select(vec![0, 1_000, 15_000]),
        assignor in proptest::sample::select(vec!["uniform", "range"]),
    ) {
        let mut world = World::new(interval_ms, assignor);
        for op in ops {
            world.run(op);
        }
        world.rig.check_replay();
        world.settle();
        world.check_settled();
        world.rig.check_replay();
    }
}
