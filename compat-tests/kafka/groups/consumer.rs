//! ConsumerGroupHeartbeat (API 68) and ConsumerGroupDescribe (69), right and wrong: groups of the consumer protocol (KIP-848),
//! whose members the coordinator brings to their assignments step by step.
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, IncrementalAlterConfigsRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use ottla_compat_tests::scenario::{Case, Session, wait_for};

use super::members::{group, join, stable_member};
use super::offsets::{commit, committed};
use super::{describe, ready};
use crate::wire::{Topic, Wire, text, topic_name};

pub const CASES: &[Case] = &[
    Case::code("consumer-member-versions", versions),
    Case::code("consumer-member-ids", member_ids),
    Case::code("consumer-heartbeat-errors", heartbeat_errors),
    Case::code("consumer-reconciliation", reconciliation),
    Case::code("consumer-three-members", three_members),
    Case::code("consumer-epochs", epochs),
    Case::code("consumer-rebalance-timeout", rebalance_timeout),
    Case::code("consumer-session-timeout", session_timeout),
    Case::code("consumer-assignment-interval", assignment_interval),
    Case::code("consumer-static-members", static_members),
    Case::code("consumer-max-size", max_size),
    Case::code("consumer-offsets", offsets),
    Case::code("consumer-describe", describe_groups),
];

/// What a member says that joins, or that says all there is to say.
pub fn joining(name: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(20_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| topic_name(topic)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

/// What a member says that has nothing new to say, or leaves.
pub fn beat(name: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
}

/// The partitions of a topic that a member says it has.
pub fn owned(topic: &Topic, partitions: &[i32]) -> Option<Vec<TopicPartitions>> {
    let topic = TopicPartitions::default()
        .with_topic_id(topic.id)
        .with_partitions(partitions.to_vec());
    Some(vec![topic])
}

/// A group of consumers, and the topics that it may be given: what has no order of its own is noted in theirs.
pub struct Consumers<'a, 'b, 'n> {
    pub w: Wire<'a, 'b, 'n>,
    pub name: String,
    pub topics: Vec<Topic>,
}

impl<'a, 'b> Consumers<'a, 'b, 'b> {
    /// A group named like the scenario, on the shared node, and a topic of that name.
    pub fn open(s: &'a mut Session<'b>, partitions: i32) -> Self {
        let mut w = Wire::open(s);
        let topic = w.create("", partitions, &[]);
        Consumers::of(w, vec![topic])
    }
}

impl<'a, 'b, 'n> Consumers<'a, 'b, 'n> {
    /// A group named like the scenario.
    pub fn of(mut w: Wire<'a, 'b, 'n>, topics: Vec<Topic>) -> Self {
        // Ottla asks members that wait for something to come when it can be there.
        w.s.transcript
            .replace(r"heartbeat_interval_ms: [1-9]\d*", "heartbeat_interval_ms: <some>");
        let name = w.s.name.to_owned();
        ready(&mut w, &name);
        let mut group = Self { w, name, topics };
        group.wait_known();
        group
    }

    /// Another group, named after the scenario.
    pub fn another(&mut self, suffix: impl std::fmt::Display) {
        self.name = format!("{}-{suffix}", self.w.s.name);
        ready(&mut self.w, &self.name);
        self.wait_known();
    }

    /// Waits until the coordinator of the group knows the topics, of which clients may hear first: another group tells that
    /// is in the same partition.
    fn wait_known(&mut self) {
        let place = partition_for(&self.name);
        let mut probes = (0..).map(|n| format!("{}-probe-{n}", self.name));
        let probe = probes.find(|probe| partition_for(probe) == place).unwrap();
        let names: Vec<_> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        let join = joining(&probe, "probe", &names);
        let on = &mut self.w.connection;
        wait_for(
            || {
                let assignment = on.call(1, &join).unwrap().assignment.unwrap_or_default();
                (assignment.topic_partitions.len() == names.len()).then_some(())
            },
            || format!("the coordinator of {} does not hear of {names:?}", self.name),
        );
        on.call(1, &beat(&probe, "probe", -1)).unwrap();
    }

    /// Joins with a subscription to the first topic.
    pub fn join(&mut self, version: i16, member: &str) -> ConsumerGroupHeartbeatResponse {
        let request = joining(&self.name, member, &[&self.topics[0].name]);
        self.call(version, &request).unwrap()
    }

    /// Says nothing new.
    pub fn beat(&mut self, member: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
        let request = beat(&self.name, member, epoch);
        self.call(1, &request).unwrap()
    }

    /// Says what it has of the first topic.
    pub fn owns(&mut self, member: &str, epoch: i32, partitions: &[i32]) -> ConsumerGroupHeartbeatResponse {
        let owned = owned(&self.topics[0], partitions);
        let request = beat(&self.name, member, epoch).with_topic_partitions(owned);
        self.call(1, &request).unwrap()
    }

    /// Sends a heartbeat and notes the answer.
    pub fn call(
        &mut self,
        version: i16,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Option<ConsumerGroupHeartbeatResponse> {
        let answer = self.w.connection.call(version, request);
        let answer = answer.map(|answer| self.tidied(answer));
        self.w.s.answer::<ConsumerGroupHeartbeatRequest>(version, answer)
    }

    /// Sends the same until the answer is the wanted one, and notes that: brokers learn of topics a moment later.
    pub fn until(
        &mut self,
        what: &str,
        request: &ConsumerGroupHeartbeatRequest,
        wanted: impl Fn(&ConsumerGroupHeartbeatResponse) -> bool,
    ) -> ConsumerGroupHeartbeatResponse {
        let on = &mut self.w.connection;
        let answer = wait_for(
            || Some(on.call(1, request).unwrap()).filter(|answer| wanted(answer)),
            || what.to_owned(),
        );
        let answer = self.tidied(answer);
        self.w.s.answer::<ConsumerGroupHeartbeatRequest>(1, Ok(answer)).unwrap()
    }

    fn tidied(&self, mut answer: ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatResponse {
        if let Some(assignment) = &mut answer.assignment {
            let topics = &mut assignment.topic_partitions;
            topics.sort_by_key(|topic| self.topics.iter().position(|known| known.id == topic.topic_id));
            topics.iter_mut().for_each(|topic| topic.partitions.sort_unstable());
        }
        answer
    }

    /// Notes the group.
    pub fn describe(&mut self, version: i16) {
        self.w.title("describe");
        describe_consumers(&mut self.w, version, &[&self.name]);
    }

    /// Waits until the group has so many members.
    pub fn member_count(&mut self, count: usize) {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&self.name)]);
        let on = &mut self.w.connection;
        wait_for(
            || {
                let members = &on.call(1, &request).unwrap().groups[0].members;
                (members.len() == count).then_some(())
            },
            || format!("{} never has {count} members", self.name),
        );
    }
}

/// The partition of `__consumer_offsets` that a group belongs to: by Java's hash of its name.
fn partition_for(name: &str) -> i32 {
    const PARTITIONS: i32 = 50;
    let next = |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = name.encode_utf16().fold(0, next);
    hash.checked_abs().unwrap_or(0) % PARTITIONS
}

/// Notes groups; members come in no order.
fn describe_consumers(w: &mut Wire, version: i16, names: &[&str]) {
    let names = names.iter().map(|name| group(name)).collect();
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(names);
    let answer = w.connection.call(version, &request).map(ordered);
    w.s.answer::<ConsumerGroupDescribeRequest>(version, answer);
}

fn ordered(mut answer: ConsumerGroupDescribeResponse) -> ConsumerGroupDescribeResponse {
    answer.groups.sort_by_key(|group| group.group_id.0.to_string());
    let members = answer.groups.iter_mut().flat_map(|group| {
        // Ids that brokers make are long, and in no order.
        let key = |id: &str| (id.len() > 20, id.to_owned());
        group.members.sort_by_key(|member| key(&member.member_id));
        &mut group.members
    });
    for member in members {
        member.subscribed_topic_names.sort_by_key(|name| name.0.to_string());
        for assignment in [&mut member.assignment, &mut member.target_assignment] {
            let topics = &mut assignment.topic_partitions;
            topics.sort_by_key(|topic| topic.topic_name.0.to_string());
            topics.iter_mut().for_each(|topic| topic.partitions.sort_unstable());
        }
    }
    answer
}

/// A whole life in each version.
fn versions(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    let topic = g.topics[0].clone();
    for version in 0..=1 {
        g.another(version);
        let name = g.name.clone();
        let name = name.as_str();
        g.w.title(&format!("join version {version}"));
        g.join(version, "one");
        let plain = beat(name, "one", 2);
        g.call(version, &plain);
        g.call(version, &plain.clone().with_topic_partitions(owned(&topic, &[0, 1])));
        g.w.title("all there is to say");
        let full = joining(name, "one", &[&topic.name]).with_member_epoch(2);
        g.call(version, &full.clone().with_topic_partitions(owned(&topic, &[0, 1])));
        g.call(version, &full);
        g.w.title("join again");
        g.join(version, "one");
        g.w.title("says other things of itself");
        for request in [
            plain.clone().with_rack_id(Some(text("rack"))),
            plain.clone().with_rebalance_timeout_ms(12_345),
            plain.clone().with_server_assignor(Some(text("range"))),
        ] {
            g.call(version, &request);
        }
        g.describe(version);
        g.w.title("subscribes to another topic, which is not there, then to none, then to both");
        let subscribes = |epoch, topics: &[&str]| {
            joining(name, "one", topics)
                .with_member_epoch(epoch)
                .with_rebalance_timeout_ms(-1)
                .with_topic_partitions(None)
        };
        g.call(version, &subscribes(2, &["absent"]));
        g.call(version, &plain);
        g.call(version, &plain.clone().with_topic_partitions(Some(Vec::new())));
        g.call(version, &subscribes(3, &[]).with_topic_partitions(Some(Vec::new())));
        g.call(
            version,
            &subscribes(4, &[&topic.name, "absent", &topic.name]).with_topic_partitions(Some(Vec::new())),
        );
        g.describe(version);
        g.w.title("leave");
        g.call(version, &beat(name, "one", -1));
        g.call(version, &beat(name, "one", -1));
        g.call(version, &beat(name, "one", 5));
        g.describe(version);
        g.w.title("an empty group goes on where it was");
        g.join(version, "two");
    }
}

/// Members of version 0 may leave it to the broker to give them an id; those of version 1 make it themselves.
fn member_ids(s: &mut Session) {
    let mut g = Consumers::open(s, 1);
    let joined = g.join(0, "");
    let member = joined.member_id.unwrap().to_string();
    g.call(0, &beat(&g.name.clone(), &member, 2));
    g.call(1, &beat(&g.name.clone(), &member, 2));
    g.describe(1);
    g.w.title("each is a new one");
    let joined = g.join(0, "");
    assert_ne!(member, joined.member_id.unwrap().to_string());
    g.join(1, "");
    let long = "long".repeat(1000);
    for id in ["x", "with spaces and ümlauts", " led", long.as_str()] {
        g.another(id.len());
        g.join(1, id);
        g.beat(id, 2);
    }
}

/// What is refused whatever the group is, and what is not.
fn heartbeat_errors(s: &mut Session) {
    let mut g = Consumers::open(s, 1);
    let topic = g.topics[0].clone();
    let known = topic.name.as_str();
    let name = g.name.clone();
    let name = name.as_str();
    let good = || joining(name, "member", &[known]);
    let cases = [
        ("no group", joining("", "member", &[known])),
        ("a blank group", joining(" \t", "member", &[known])),
        ("a blank member", joining(name, " ", &[known]).with_member_epoch(1)),
        ("no member", beat(name, "", 1)),
        ("no member leaves", beat(name, "", -1)),
        (
            "no member leaves for a while",
            beat(name, "", -2).with_instance_id(Some(text("instance"))),
        ),
        ("no instance", good().with_instance_id(Some(text("")))),
        ("a blank instance", good().with_instance_id(Some(text("  ")))),
        ("no rack", good().with_rack_id(Some(text("")))),
        ("a blank rack", good().with_rack_id(Some(text("\n")))),
        ("no rebalance timeout", good().with_rebalance_timeout_ms(-1)),
        ("no partitions", good().with_topic_partitions(None)),
        ("has partitions", good().with_topic_partitions(owned(&topic, &[0]))),
        ("has none of a topic", good().with_topic_partitions(owned(&topic, &[]))),
        ("no topics", good().with_subscribed_topic_names(None)),
        ("leaves for a while without an instance", beat(name, "member", -2)),
        ("a wrong epoch", beat(name, "member", -3)),
        ("a very wrong epoch", beat(name, "member", i32::MIN)),
        ("an unknown assignor", good().with_server_assignor(Some(text("sticky")))),
        (
            "an assignor without a name",
            good().with_server_assignor(Some(text(""))),
        ),
        (
            "an assignor in capitals",
            good().with_server_assignor(Some(text("Uniform"))),
        ),
        (
            "an unknown assignor later on",
            beat(name, "member", 1).with_server_assignor(Some(text("x"))),
        ),
        ("an unknown group", beat(name, "member", 1)),
        ("leaves an unknown group", beat(name, "member", -1)),
        (
            "leaves an unknown group for a while",
            beat(name, "member", -2).with_instance_id(Some(text("instance"))),
        ),
        // Two mistakes: which is told of.
        ("nothing at all", ConsumerGroupHeartbeatRequest::default()),
        (
            "no group and no instance",
            joining("", "", &[]).with_instance_id(Some(text(""))),
        ),
        (
            "an unknown assignor and no partitions",
            good().with_topic_partitions(None).with_server_assignor(Some(text("x"))),
        ),
    ];
    for version in 0..=1 {
        for (title, request) in &cases {
            g.w.title(&format!("{title}, version {version}"));
            g.call(version, request);
        }
    }
    g.w.title("nothing came of it");
    describe_consumers(&mut g.w, 1, &[name]);
    g.w.title("but these are members");
    for (n, (title, request)) in [
        ("negative rebalance timeout", good().with_rebalance_timeout_ms(-2)),
        ("no rebalance timeout at all", good().with_rebalance_timeout_ms(0)),
        ("no topics", good().with_subscribed_topic_names(Some(Vec::new()))),
        ("illegal topics", joining(name, "member", &["a/b", "", ".."])),
    ]
    .into_iter()
    .enumerate()
    {
        g.w.title(title);
        g.another(n);
        let request = request.with_group_id(group(&g.name));
        g.call(1, &request);
        g.beat("member", 2);
        g.describe(1);
    }
    g.w.title("partitions that are not there");
    g.another("unknown");
    g.join(1, "member");
    g.owns("member", 2, &[0, 9, -1, i32::MAX, 0]);
    g.w.title("strangers");
    for epoch in [2, -1, 7] {
        g.beat("stranger", epoch);
    }
    let with_instance = |epoch| beat(&g.name, "member", epoch).with_instance_id(Some(text("instance")));
    let requests = [2, -1, -2].map(with_instance);
    requests.iter().for_each(|request| _ = g.call(1, request));
    g.beat("member", 2);
}

/// A second member comes, and gets what the first gave up; it leaves, and the first gets all.
fn reconciliation(s: &mut Session) {
    let mut g = Consumers::open(s, 4);
    g.join(1, "a");
    g.owns("a", 2, &[0, 1, 2, 3]);
    g.w.title("the second has to wait");
    g.join(1, "b");
    g.describe(1);
    g.beat("b", 3);
    g.w.title("the first is told what to keep");
    g.beat("a", 2);
    g.describe(1);
    g.w.title("it does not say that it gave the others up");
    g.beat("a", 2);
    g.owns("a", 2, &[0, 1, 2, 3]);
    g.owns("a", 2, &[3]);
    g.beat("b", 3);
    g.w.title("it does");
    g.owns("a", 2, &[0, 1]);
    g.describe(1);
    g.w.title("the second gets them");
    g.beat("b", 3);
    g.owns("b", 3, &[2, 3]);
    g.beat("b", 3);
    g.beat("a", 3);
    g.describe(0);
    g.w.title("the second leaves");
    g.beat("b", -1);
    g.beat("b", 3);
    g.beat("a", 3);
    g.beat("a", 4);
    g.describe(1);
    g.w.title("the second comes back, and the first has given up what it is asked for before");
    g.join(1, "b");
    g.owns("a", 4, &[1]);
    g.beat("b", 5);
    g.describe(1);
    g.w.title("the first leaves");
    g.beat("a", -1);
    g.beat("b", 5);
    g.w.title("and comes back, and the second leaves when it is about to give up");
    g.join(1, "a");
    g.beat("b", 6);
    g.beat("b", -1);
    g.beat("a", 7);
    g.describe(1);
    g.beat("a", -1);
    g.describe(1);
}

/// A third member gets from both, as they give up.
fn three_members(s: &mut Session) {
    let mut g = Consumers::open(s, 6);
    g.join(1, "a");
    g.join(1, "b");
    g.owns("a", 2, &[0, 1, 2]);
    g.beat("b", 3);
    g.w.title("a third one");
    g.join(1, "c");
    g.beat("a", 3);
    g.owns("a", 3, &[0, 1]);
    g.w.title("what one gave up the third has, what the other did not it has not");
    g.beat("c", 4);
    g.describe(1);
    g.beat("b", 3);
    g.beat("c", 4);
    g.owns("b", 3, &[3, 4]);
    g.beat("c", 4);
    g.describe(1);
    g.w.title("one leaves while the others hear nothing of it");
    g.beat("b", -1);
    g.beat("a", 4);
    g.beat("c", 4);
    g.beat("a", 5);
    g.beat("c", 5);
    g.describe(1);
}

/// Who may come with which epoch.
fn epochs(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    g.join(1, "a");
    for epoch in [3, i32::MAX] {
        g.beat("a", epoch);
    }
    g.join(1, "b");
    g.owns("a", 2, &[0]);
    g.w.title("the answer with the new epoch may have been lost");
    g.beat("a", 2);
    g.owns("a", 2, &[0]);
    g.owns("a", 2, &[]);
    g.owns("a", 2, &[0, 1]);
    g.w.title("but not the ones before");
    g.join(1, "c");
    g.owns("a", 3, &[0]);
    g.beat("b", 3);
    g.owns("a", 2, &[0]);
    g.w.title("one that was fenced joins again");
    g.join(1, "a");
    g.beat("a", 4);
    g.describe(1);
}

/// Who does not give up in time is out.
fn rebalance_timeout(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    let request = joining(&g.name, "a", &[&g.topics[0].name]).with_rebalance_timeout_ms(1000);
    g.call(1, &request);
    g.join(1, "b");
    g.beat("a", 2);
    g.member_count(1);
    g.beat("a", 2);
    g.beat("b", 3);
    g.beat("b", 4);
    g.describe(1);
}

/// Alters settings of the group, and waits until its members hear of them.
fn configure(g: &mut Consumers, settings: &[(&str, &str)]) {
    const GROUP: i8 = 32;
    const INTERVAL_MS: i32 = 345;
    let interval = INTERVAL_MS.to_string();
    let settings = settings
        .iter()
        .copied()
        .chain([("consumer.heartbeat.interval.ms", interval.as_str())]);
    let configs = settings.map(|(name, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP)
        .with_resource_name(text(&g.name))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    g.w.call(1, &request);
    let join = joining(&g.name, "probe", &[]);
    g.until("the settings of the group", &join, |answer| {
        answer.heartbeat_interval_ms == INTERVAL_MS
    });
    g.beat("probe", -1);
}

/// Who does not heartbeat is out.
fn session_timeout(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    configure(&mut g, &[("consumer.session.timeout.ms", "2000")]);
    let name = g.name.clone();
    g.join(1, "dynamic");
    g.member_count(0);
    g.beat("dynamic", 3);
    g.beat("dynamic", -1);
    g.describe(1);
    g.w.title("static members, those that left for a while too");
    let instance = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("instance")));
    let joins = joining(&name, "static", &[&g.topics[0].name]);
    for leaves in [false, true] {
        g.call(1, &instance(joins.clone()));
        if leaves {
            g.call(1, &instance(beat(&name, "static", -2)));
        }
        g.member_count(0);
        g.call(1, &instance(beat(&name, "static", 2)));
        g.describe(1);
    }
}

/// The next assignment has to wait for some time after the last one (KIP-1263).
fn assignment_interval(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    configure(&mut g, &[("consumer.assignment.interval.ms", "15000")]);
    g.w.title("the first is made at once");
    g.join(1, "a");
    g.beat("a", 3);
    g.w.title("the next is not");
    g.join(1, "b");
    g.describe(1);
    g.beat("a", 3);
    g.beat("b", 3);
    g.w.title("who has left needs none");
    g.beat("b", -1);
    g.beat("a", 3);
    g.describe(1);
}

/// An instance that left for a while comes back under another member id and has what it had.
fn static_members(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    let topic = g.topics[0].name.clone();
    for version in 0..=1 {
        g.another(version);
        let name = g.name.clone();
        let as_instance =
            |request: ConsumerGroupHeartbeatRequest, instance: &str| request.with_instance_id(Some(text(instance)));
        let joins = |member: &str| as_instance(joining(&name, member, &[&topic]), "instance");
        let beats = |member: &str, epoch| as_instance(beat(&name, member, epoch), "instance");
        g.w.title(&format!("join version {version}"));
        g.call(version, &joins("a"));
        g.call(version, &beats("a", 2));
        g.w.title("the instance is taken");
        for request in [
            joins("b"),
            joins("a"),
            beats("b", 2),
            beats("b", -1),
            beats("b", -2),
            as_instance(beat(&name, "a", 2), "another"),
            as_instance(beat(&name, "a", -2), "another"),
            beat(&name, "a", 2),
        ] {
            g.call(version, &request);
        }
        g.w.title("leaves for a while");
        g.call(version, &beats("a", -2));
        g.describe(version);
        g.call(version, &beats("a", 2));
        g.call(version, &beats("a", -2));
        g.w.title("comes back");
        g.call(version, &joins("b"));
        g.describe(version);
        for request in [beats("b", 2), beats("a", 2), beat(&name, "a", 2), beats("a", -2)] {
            g.call(version, &request);
        }
        g.w.title("a dynamic member comes meanwhile");
        g.call(version, &beats("b", -2));
        g.join(version, "dynamic");
        g.call(version, &joins("c"));
        g.call(version, &beats("c", 2).with_topic_partitions(owned(&g.topics[0], &[0])));
        g.call(version, &beats("c", 3).with_topic_partitions(owned(&g.topics[0], &[0])));
        g.beat("dynamic", 3);
        g.describe(version);
        g.w.title("comes back with other topics");
        g.call(version, &beats("c", -2));
        g.call(version, &as_instance(joining(&name, "d", &["absent"]), "instance"));
        g.describe(version);
        g.w.title("leaves for good");
        g.call(version, &beats("c", -1));
        g.call(version, &beats("d", -1));
        g.call(version, &beats("d", -1));
        g.beat("dynamic", 3);
        g.describe(version);
    }
}

/// `group.consumer.max.size` is 20 here.
fn max_size(s: &mut Session) {
    let mut g = Consumers::open(s, 1);
    let name = g.name.clone();
    let topic = g.topics[0].name.clone();
    let request = |member: &str| joining(&name, member, &[&topic]);
    for n in 0..20 {
        let answer = g.w.connection.call(1, &request(&format!("member-{n}"))).unwrap();
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }
    g.w.title("one too many");
    g.call(0, &request(""));
    g.call(0, &request("another"));
    g.call(1, &request("another"));
    g.call(1, &request("another").with_instance_id(Some(text("instance"))));
    g.beat("another", 2);
    g.w.title("those that are in it may join again");
    let again = g.w.connection.call(1, &request("member-3")).unwrap();
    g.w.s.note("again", (again.error_code, again.member_epoch));
    g.beat("member-3", -1);
    let instead = g.w.connection.call(1, &request("another")).unwrap();
    g.w.s.note("instead", (instead.error_code, instead.member_epoch));
}

/// Offsets of members, with their epochs.
fn offsets(s: &mut Session) {
    let mut g = Consumers::open(s, 4);
    let (name, topic) = (g.name.clone(), g.topics[0].name.clone());
    let (name, topic) = (name.as_str(), topic.as_str());
    let by = |member: &str, epoch, partition, offset| {
        commit(9, name, topic, &[(partition, offset, -1, None)])
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch)
    };
    let note_all = |g: &mut Consumers| _ = g.w.call(8, &committed(8, name, None));
    let commits = |g: &mut Consumers, requests: &[OffsetCommitRequest]| {
        requests.iter().for_each(|request| _ = g.w.call(9, request));
        note_all(g);
    };
    g.join(1, "a");
    g.w.title("one member");
    commits(
        &mut g,
        &[
            by("a", 2, 0, 1),
            by("a", 1, 0, 2),
            by("a", 3, 0, 3),
            by("a", -1, 0, 4),
            by("", -1, 0, 5),
            by("", 2, 0, 6),
            by("stranger", 2, 0, 7),
            by("stranger", -1, 0, 8),
            by("a", 2, 1, 9).with_group_instance_id(Some(text("instance"))),
        ],
    );
    g.w.title("old versions");
    for version in [2, 8] {
        let request = commit(version, name, topic, &[(0, 10, -1, None)])
            .with_member_id(text("a"))
            .with_generation_id_or_member_epoch(2);
        g.w.call(version, &request);
    }
    g.w.title("with an older epoch: of what it has since then, of what it gives up, of what it gave up");
    g.join(1, "b");
    g.beat("a", 2);
    commits(&mut g, &[by("a", 2, 0, 11), by("a", 2, 3, 12), by("b", 3, 3, 13)]);
    g.owns("a", 2, &[0, 1]);
    g.beat("b", 3);
    commits(
        &mut g,
        &[
            by("a", 3, 0, 14),
            by("a", 2, 0, 15),
            by("a", 2, 3, 16),
            by("b", 2, 3, 17),
        ],
    );
    g.w.title("good ones beside stale ones");
    let both = commit(
        9,
        name,
        topic,
        &[(0, 18, -1, None), (3, 19, -1, None), (9, 20, -1, None)],
    )
    .with_member_id(text("a"))
    .with_generation_id_or_member_epoch(2);
    let answer = g.w.connection.call(9, &both).map(|mut answer| {
        let partitions = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        // A broker tells of those that are not there first.
        let mut partitions: Vec<_> = partitions.map(std::mem::take).collect();
        partitions.sort_by_key(|partition| partition.partition_index);
        answer.topics.truncate(1);
        answer.topics[0].partitions = partitions;
        answer
    });
    g.w.s.answer::<OffsetCommitRequest>(9, answer);
    g.w.title("read");
    for (member, epoch) in [
        (None, -1),
        (Some("a"), 3),
        (Some("a"), 2),
        (Some("a"), 4),
        (Some("a"), -1),
        (Some("stranger"), 3),
        (Some("stranger"), -1),
        (Some(""), -1),
        (Some(""), 3),
    ] {
        let mut request: OffsetFetchRequest = committed(9, name, Some((topic, &[0, 3])));
        request.groups[0].member_id = member.map(text);
        request.groups[0].member_epoch = epoch;
        g.w.title(&format!("{member:?} {epoch}"));
        g.w.call(9, &request);
    }
    g.w.title("anyone, once it is empty");
    g.beat("a", -1);
    g.beat("b", -1);
    commits(
        &mut g,
        &[
            by("", -1, 0, 20),
            by("a", 3, 0, 21),
            by("a", -1, 0, 22),
            by("", 3, 0, 23),
        ],
    );
}

/// Groups of other kinds, groups that are not there, and the older API.
fn describe_groups(s: &mut Session) {
    let mut g = Consumers::open(s, 1);
    let consumer = g.name.clone();
    g.join(1, "a");
    g.another("classic");
    let classic = g.name.clone();
    stable_member(&mut g.w, &join(&classic, ""));
    g.another("simple");
    let simple = g.name.clone();
    g.w.call(8, &commit(8, &simple, &g.topics[0].name, &[(0, 1, -1, None)]));
    let absent = format!("{consumer}-absent");
    ready(&mut g.w, &absent);
    let w = &mut g.w;
    for version in 0..=1 {
        for name in [&consumer, &classic, &simple, &absent, "", " "] {
            w.title(name);
            describe_consumers(w, version, &[name]);
        }
        w.title("many and none");
        describe_consumers(w, version, &[&consumer, &absent, "", &classic]);
        describe_consumers(w, version, &[]);
        w.title("operations");
        for name in [&consumer, &absent] {
            let request = ConsumerGroupDescribeRequest::default()
                .with_group_ids(vec![group(name)])
                .with_include_authorized_operations(true);
            w.call(version, &request);
        }
    }
    w.title("the older API");
    for version in [0, 5, 6] {
        describe(w, version, &consumer);
    }
}
