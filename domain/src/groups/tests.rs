//! A model of a whole shard: random clients of both protocols and of none, administrators, topics that come and go, and time.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use uuid::Uuid;

use super::commands::{
    Command, CommitPartition, CommitTopic, CommittedOffset, ConsumerGroupHeartbeat, DeleteGroup, DescribeConsumerGroup,
    DescribeGroup, Heartbeat, JoinGroup, LeaveGroup, LeavingMember, ListGroups, OffsetCommit, OffsetDelete,
    OffsetFetch, Reply, SyncGroup,
};
use super::consumer::tests::{Prefixes, alive, settings};
use super::context::GroupEffects;
use super::records::GroupRecord;
use super::shard::GroupShard;
use crate::coordinator::{Now, Shard, Stored, Token};
use crate::ids::{LeaderEpoch, Mono, Offset, PartitionId, Timestamp};
use crate::metadata::image::MetadataImage;
use crate::metadata::records::{MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord};

const GROUPS: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 2] = ["t", "u"];
const CLIENTS: usize = 6;
/// An assignment of the consumers' protocol: version 0, no topics, no user data.
const NO_PARTITIONS: &[u8] = &[0, 0, 0, 0, 0, 0, 255, 255, 255, 255];

#[derive(Clone, Copy, Debug)]
enum Op {
    /// All that it takes to be in a stable group.
    Settle,
    Join,
    Sync,
    Heartbeat,
    Leave,
    Consume,
    StopConsuming,
    Commit,
    CommitAlone,
    Fetch,
    DeleteOffsets,
    DeleteGroup,
    ToggleTopic,
    Pass(i64),
    Restart,
}

fn op() -> impl Strategy<Value = (Op, usize, usize)> {
    let op = prop_oneof![
        6 => Just(Op::Settle),
        6 => Just(Op::Join),
        6 => Just(Op::Sync),
        3 => Just(Op::Heartbeat),
        2 => Just(Op::Leave),
        6 => Just(Op::Consume),
        2 => Just(Op::StopConsuming),
        4 => Just(Op::Commit),
        2 => Just(Op::CommitAlone),
        2 => Just(Op::Fetch),
        1 => Just(Op::DeleteOffsets),
        1 => Just(Op::DeleteGroup),
        1 => Just(Op::ToggleTopic),
        4 => (1..20_000i64).prop_map(Op::Pass),
        1 => (600_000..700_000_000i64).prop_map(Op::Pass),
        1 => Just(Op::Restart),
    ];
    (op, 0..CLIENTS, 0..GROUPS.len())
}

/// What a client knows of one group.
#[derive(Clone, Default)]
struct Membership {
    member_id: Option<Arc<str>>,
    generation_id: i32,
    members: Vec<Arc<str>>,
    epoch: i32,
}

struct Model {
    shard: GroupShard,
    image: Arc<MetadataImage>,
    now: Now,
    log: Vec<GroupRecord>,
    next_token: u64,
    open: BTreeSet<Token>,
    replies: Vec<(Token, Reply)>,
    clients: Vec<Vec<Membership>>,
    /// Whose each open token is: client and group.
    asked: Vec<(Token, usize, usize)>,
}

fn shard(image: &Arc<MetadataImage>) -> GroupShard {
    GroupShard::new(Box::new(|_| settings()), Arc::new(Prefixes), Arc::default(), image)
}

/// A subscription of the consumers' protocol to every topic.
fn subscription() -> Bytes {
    let mut metadata = BytesMut::new();
    metadata.put_i16(0);
    metadata.put_i32(TOPICS.len() as i32);
    for topic in TOPICS {
        metadata.put_i16(topic.len() as i16);
        metadata.put_slice(topic.as_bytes());
    }
    metadata.put_i32(-1);
    metadata.freeze()
}

impl Model {
    fn new() -> Self {
        let image = Arc::default();
        let mut model = Model {
            shard: shard(&image),
            image,
            now: Now {
                timestamp: Timestamp(1_000_000_000_000),
                mono: Mono(0),
            },
            log: Vec::new(),
            next_token: 0,
            open: BTreeSet::new(),
            replies: Vec::new(),
            clients: vec![vec![Membership::default(); GROUPS.len()]; CLIENTS],
            asked: Vec::new(),
        };
        let effects = model.shard.loaded(model.now);
        model.take(effects);
        model
    }

    fn take(&mut self, effects: GroupEffects) {
        for record in effects.records {
            let offset = Offset(self.log.len() as i64);
            self.log.push(record.clone());
            self.shard.apply(offset, None, record).unwrap();
        }
        for (token, reply) in effects.replies {
            assert!(self.open.remove(&token), "{token:?} is answered twice: {reply:?}");
            self.replies.push((token, reply));
        }
    }

    fn entropy(&self) -> u128 {
        u128::from(self.next_token) + 1
    }

    fn ask(&mut self, client: usize, group: usize, command: Command) -> Option<Reply> {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.open.insert(token);
        self.asked.push((token, client, group));
        let entropy = self.entropy();
        let effects = self.shard.handle(self.now, entropy, command, token);
        self.take(effects);
        let replies = std::mem::take(&mut self.replies);
        let mut own = None;
        for (answered, reply) in replies {
            if answered == token {
                own = Some(reply.clone());
            }
            self.hear(answered, reply);
        }
        own
    }

    /// A client takes an answer into account.
    fn hear(&mut self, token: Token, reply: Reply) {
        let place = self.asked.iter().position(|(asked, ..)| *asked == token).unwrap();
        let (_, client, group) = self.asked.swap_remove(place);
        let known = &mut self.clients[client][group];
        match reply {
            Reply::JoinGroup(joined) => {
                known.member_id = Some(joined.member_id).filter(|id| !id.is_empty());
                if joined.error.is_none() {
                    known.generation_id = joined.generation_id;
                    known.members = joined.members.into_iter().map(|member| member.member_id).collect();
                }
            }
            Reply::ConsumerGroupHeartbeat(Ok(lived)) => known.epoch = lived.member_epoch,
            Reply::ConsumerGroupHeartbeat(Err(_)) => known.epoch = 0,
            _ => {}
        }
    }

    fn run(&mut self, (op, client, group): (Op, usize, usize)) {
        let group_id: Arc<str> = GROUPS[group].into();
        let known = self.clients[client][group].clone();
        let member_id = known.member_id.clone().unwrap_or_default();
        let consumer_id: Arc<str> = format!("consumer-{client}").into();
        match op {
            Op::Settle => {
                // The first time it may be told its id alone.
                for op in [Op::Join, Op::Join, Op::Pass(3_100), Op::Sync] {
                    self.run((op, client, group));
                }
            }
            Op::Join => {
                let request = JoinGroup {
                    group_id,
                    member_id,
                    group_instance_id: (client == 0).then(|| "static".into()),
                    client_id: "client".into(),
                    client_host: "/here".into(),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 20_000,
                    protocol_type: "consumer".into(),
                    protocols: vec![("range".into(), subscription())],
                    reason: None,
                    requires_known_member_id: client % 2 == 0,
                    supports_skipping_assignment: false,
                };
                self.ask(client, group, Command::JoinGroup(request));
            }
            Op::Sync => {
                let request = SyncGroup {
                    group_id,
                    generation_id: known.generation_id,
                    member_id,
                    group_instance_id: None,
                    protocol_type: None,
                    protocol_name: None,
                    assignments: known
                        .members
                        .iter()
                        .map(|id| (Arc::clone(id), Bytes::from_static(NO_PARTITIONS)))
                        .collect(),
                };
                self.ask(client, group, Command::SyncGroup(request));
            }
            Op::Heartbeat => {
                let request = Heartbeat {
                    group_id,
                    generation_id: known.generation_id,
                    member_id,
                    group_instance_id: None,
                };
                self.ask(client, group, Command::Heartbeat(request)).unwrap();
            }
            Op::Leave => {
                let member = LeavingMember {
                    member_id,
                    group_instance_id: None,
                    reason: None,
                };
                let members = vec![member];
                self.ask(client, group, Command::LeaveGroup(LeaveGroup { group_id, members }))
                    .unwrap();
            }
            Op::Consume | Op::StopConsuming => {
                let stops = matches!(op, Op::StopConsuming);
                let joins = known.epoch <= 0;
                let request = ConsumerGroupHeartbeat {
                    group_id,
                    member_id: consumer_id,
                    member_epoch: if stops { -1 } else { known.epoch.max(0) },
                    instance_id: None,
                    rack_id: None,
                    rebalance_timeout_ms: if joins { 20_000 } else { -1 },
                    subscribed_topic_names: joins.then(|| TOPICS.map(Arc::from).into()),
                    subscribed_topic_regex: None,
                    server_assignor: None,
                    topic_partitions: joins.then(Vec::new),
                    client_id: "client".into(),
                    client_host: "/here".into(),
                    makes_member_id: true,
                };
                self.ask(client, group, Command::ConsumerGroupHeartbeat(request))
                    .unwrap();
            }
            Op::Commit | Op::CommitAlone => {
                let alone = matches!(op, Op::CommitAlone);
                let topic = self.image.topics.by_name(TOPICS[client % 2]);
                let Some((name, id)) = topic.map(|topic| (Arc::clone(&topic.name), topic.id)) else {
                    return;
                };
                let (member, epoch) = match known.member_id {
                    _ if alone => (Arc::default(), -1),
                    Some(id) => (id, known.generation_id),
                    None => (consumer_id, known.epoch),
                };
                let partition = CommitPartition {
                    partition: PartitionId(client as i32 % 3),
                    offset: Offset(self.next_token as i64),
                    leader_epoch: LeaderEpoch(0),
                    metadata: None,
                };
                let request = OffsetCommit {
                    group_id,
                    generation_id_or_member_epoch: epoch,
                    member_id: member,
                    group_instance_id: None,
                    retention_time_ms: None,
                    knows_member_epochs: true,
                    topics: vec![CommitTopic {
                        name,
                        id,
                        partitions: vec![partition],
                    }],
                };
                self.ask(client, group, Command::OffsetCommit(request)).unwrap();
            }
            Op::Fetch => {
                let request = OffsetFetch {
                    group_id,
                    member_id: None,
                    member_epoch: -1,
                    topics: None,
                    require_stable: true,
                };
                let fetched = self.ask(client, group, Command::OffsetFetch(request)).unwrap();
                let Reply::OffsetFetch(Ok(topics)) = fetched else {
                    panic!("{fetched:?}");
                };
                let shown: usize = topics.iter().map(|(_, _, offsets)| offsets.len()).sum();
                let held = self
                    .shard
                    .offsets()
                    .page(None, usize::MAX)
                    .into_iter()
                    .filter(|held| *held.group_id == *GROUPS[group]);
                assert_eq!(shown, held.count());
            }
            Op::DeleteOffsets => {
                let partitions = (0..3).map(PartitionId).collect();
                let topics = vec![(TOPICS[client % 2].into(), partitions)];
                self.ask(client, group, Command::OffsetDelete(OffsetDelete { group_id, topics }))
                    .unwrap();
            }
            Op::DeleteGroup => {
                self.ask(client, group, Command::DeleteGroup(DeleteGroup { group_id }))
                    .unwrap();
            }
            Op::ToggleTopic => self.toggle(TOPICS[client % 2]),
            Op::Pass(ms) => self.pass_ms(ms),
            Op::Restart => self.restart(),
        }
    }

    fn toggle(&mut self, name: &str) {
        let mut image = MetadataImage::clone(&self.image);
        let known = image.topics.by_name(name).map(|topic| topic.id);
        let records = match known {
            Some(id) => vec![MetadataRecord::RemoveTopic(RemoveTopicRecord {
                topic_id: id.0,
                ..RemoveTopicRecord::default()
            })],
            None => {
                let topic_id = Uuid::from_u128(self.entropy() + 1_000);
                let topic = TopicRecord {
                    name: name.to_owned(),
                    topic_id,
                    ..TopicRecord::default()
                };
                let partition = |partition_id| {
                    MetadataRecord::Partition(PartitionRecord {
                        topic_id,
                        partition_id,
                        ..PartitionRecord::default()
                    })
                };
                std::iter::once(MetadataRecord::Topic(topic))
                    .chain((0..3).map(partition))
                    .collect()
            }
        };
        self.next_token += 1;
        records.iter().for_each(|record| image.apply(record).unwrap());
        self.image = Arc::new(image);
        let effects = self.shard.on_image(self.now, Arc::clone(&self.image));
        self.take(effects);
        let exists = |committed: &CommittedOffset| self.image.topics.by_name(&committed.topic).is_some();
        assert!(self.shard.offsets().page(None, usize::MAX).iter().all(exists));
    }

    fn pass_ms(&mut self, ms: i64) {
        let end = self.now.mono.plus_ms(ms);
        while let Some(due) = self.shard.next_deadline().filter(|due| *due <= end) {
            let due = due.max(self.now.mono);
            self.now.timestamp.0 += due.ms_since(self.now.mono);
            self.now.mono = due;
            let effects = self.shard.on_deadline(self.now, self.entropy());
            self.next_token += 1;
            self.take(effects);
            for (token, reply) in std::mem::take(&mut self.replies) {
                self.hear(token, reply);
            }
        }
        self.now.timestamp.0 += end.ms_since(self.now.mono);
        self.now.mono = end;
    }

    /// The shard as its log tells it.
    fn replayed(&self) -> GroupShard {
        let mut shard = shard(&self.image);
        for (place, record) in self.log.iter().enumerate() {
            let (mut key, mut value) = (BytesMut::new(), BytesMut::new());
            let has_value = GroupShard::encode(record, &mut key, &mut value).unwrap();
            let stored = GroupShard::decode(Some(&key), has_value.then_some(&value)).unwrap();
            let Stored::Record(stored) = stored else {
                panic!("{record:?} is not known");
            };
            shard.apply(Offset(place as i64), None, stored).unwrap();
        }
        shard
    }

    /// Another broker leads: whoever waits is told so, and the log is all there is.
    fn restart(&mut self) {
        let mut shard = self.replayed();
        self.open.clear();
        self.asked.clear();
        let effects = shard.loaded(self.now);
        self.shard = shard;
        self.take(effects);
    }

    /// What is written is what is.
    fn check(&mut self) {
        self.shard.check_index();
        let mut replayed = self.replayed();
        self.shard.check_weights();
        replayed.check_weights();
        assert_eq!(replayed.offsets(), self.shard.offsets());
        let live = self.shard.list(&ListGroups::default());
        for group in replayed.list(&ListGroups::default()) {
            let group_id = &group.group_id;
            let known = live.iter().find(|known| known.group_id == *group_id);
            let known = known.unwrap_or_else(|| panic!("{group_id} is in the log alone"));
            assert_eq!(known.group_type, group.group_type, "{group_id}");
            let is_settled = known.group_type == "consumer" || ["Stable", "Empty"].contains(&known.state);
            if is_settled {
                let shown = |shard: &mut GroupShard| {
                    let mut show = |command| shard.handle(self.now, 0, command, Token(u64::MAX)).replies.remove(0).1;
                    let group_id = || Arc::clone(group_id);
                    match known.group_type {
                        "consumer" => show(Command::DescribeConsumerGroup(DescribeConsumerGroup {
                            group_id: group_id(),
                        })),
                        _ => show(Command::DescribeGroup(DescribeGroup { group_id: group_id() })),
                    }
                };
                assert_eq!(shown(&mut replayed), shown(&mut self.shard), "{group_id}");
            }
        }
        // A group of which no record tells has nothing to lose.
        for group in live {
            let is_told = replayed
                .list(&ListGroups::default())
                .iter()
                .any(|told| told.group_id == group.group_id);
            assert!(is_told || group.state == "Empty", "{group:?} is not in the log");
        }
    }
}

/// Who heartbeats and who leaves hear of it in different words, as in Kafka.
#[test]
fn members_of_an_unknown_group_are_told_so() {
    let mut model = Model::new();
    let mut message = |epoch| {
        let request = Command::ConsumerGroupHeartbeat(alive("member", epoch));
        match model.ask(0, 0, request) {
            Some(Reply::ConsumerGroupHeartbeat(Err(error))) => error.message.unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(message(1), "Consumer group group not found.");
    assert_eq!(message(-1), "Group group not found.");
}

#[test]
fn offsets_that_are_named_twice_are_deleted_once() {
    let mut model = Model::new();
    model.toggle(TOPICS[0]);
    model.run((Op::CommitAlone, 0, 0));
    let named = || (Arc::from(TOPICS[0]), vec![PartitionId(0), PartitionId(0)]);
    let delete = OffsetDelete {
        group_id: GROUPS[0].into(),
        topics: vec![named(), named()],
    };
    let effects = model
        .shard
        .handle(model.now, 0, Command::OffsetDelete(delete), Token(u64::MAX));
    assert_eq!(effects.records.len(), 1);
}

proptest! {
    #[test]
    fn the_log_tells_all_of_a_shard(ops in prop::collection::vec(op(), 1..120)) {
        let mut model = Model::new();
        for topic in TOPICS {
            model.toggle(topic);
        }
        for op in ops {
            model.run(op);
            model.check();
        }
        // Everyone goes: in the end nobody waits, and nothing is held.
        model.pass_ms(60_000);
        model.pass_ms(2_000_000);
        assert_eq!(model.open.iter().collect::<Vec<_>>(), Vec::<&Token>::new());
        model.pass_ms(2_000_000_000);
        assert_eq!(model.shard.list(&ListGroups::default()), []);
        assert_eq!(model.shard.offsets().count(), 0);
        assert_eq!(model.replayed().list(&ListGroups::default()), []);
    }
}
