use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::coordinator::{Now, Token};
use crate::groups::assignors::Partitions;
use crate::groups::commands::{Assignment, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatReply, Reply};
use crate::groups::context::{GroupEffects, Patterns};
use crate::groups::events::News;
use crate::groups::settings::{Bounded, GroupSettings, MigrationPolicy};
use crate::groups::timers::Timers;
use crate::ids::{Mono, Offset, PartitionId, Timestamp, TopicId};
use crate::metadata::image::MetadataImage;
use crate::metadata::records::{MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord};

mod heartbeats;
mod migration;
mod model;

pub(super) const GROUP: &str = "group";

/// Patterns that end with `.*` match what begins alike; others match themselves, but for `(`.
pub(in crate::groups) struct Prefixes;

impl Patterns for Prefixes {
    fn matching(&self, pattern: &str, names: &mut dyn Iterator<Item = &Arc<str>>) -> Result<Vec<Arc<str>>, String> {
        if pattern.contains('(') {
            return Err("missing closing )".to_owned());
        }
        let matches = |name: &&Arc<str>| match pattern.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => ***name == *pattern,
        };
        Ok(names.filter(matches).cloned().collect())
    }
}

pub(in crate::groups) fn settings() -> GroupSettings {
    let bounded = |default| Bounded {
        default,
        min: 0,
        max: i32::MAX,
    };
    GroupSettings {
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 1_800_000,
        initial_rebalance_delay_ms: 3_000,
        max_size: 1_000,
        offset_metadata_max_bytes: 4_096,
        offsets_retention_ms: 604_800_000,
        offsets_retention_check_interval_ms: 600_000,
        consumer_session_timeout_ms: bounded(45_000),
        consumer_heartbeat_interval_ms: bounded(5_000),
        consumer_assignment_interval_ms: bounded(0),
        consumer_max_size: 1_000,
        consumer_assignors: vec!["uniform".into(), "range".into()],
        consumer_migration_policy: MigrationPolicy {
            allows_upgrade: true,
            allows_downgrade: true,
        },
        consumer_regex_refresh_interval_ms: 600_000,
        members_max_bytes: usize::MAX,
        record_max_bytes: 1 << 20,
    }
}

/// A group with what a shard gives it: time, timers, topics, and a log of its records.
pub(super) struct Rig {
    pub(super) group: ConsumerGroup,
    pub(super) settings: GroupSettings,
    pub(super) image: MetadataImage,
    pub(super) timers: Timers<Timer>,
    pub(super) now: Now,
    pub(super) log: Vec<GroupRecord>,
    /// The records of the last step.
    pub(super) written: Vec<GroupRecord>,
    /// What the group has become.
    pub(super) downgraded: Option<Box<ClassicGroup>>,
    /// The answers to requests that waited.
    pub(super) replies: Vec<(Token, Reply)>,
    /// What was told since somebody asked.
    pub(super) news: Vec<News>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Rig {
            group: ConsumerGroup::new(GROUP.into()),
            settings: settings(),
            image: MetadataImage::default(),
            timers: Timers::default(),
            now: Now {
                timestamp: Timestamp(1_000_000_000),
                mono: Mono(0),
            },
            log: Vec::new(),
            written: Vec::new(),
            downgraded: None,
            replies: Vec::new(),
            news: Vec::new(),
        }
    }

    pub(super) fn step<R>(&mut self, step: impl FnOnce(&mut ConsumerGroup, &mut Context<'_>) -> R) -> R {
        let mut effects = GroupEffects::default();
        let mut ctx = Context {
            now: self.now,
            entropy: self.log.len() as u128 + 1,
            settings: &self.settings,
            image: &self.image,
            patterns: &Prefixes,
            timers: &mut self.timers,
            effects: &mut effects,
        };
        let result = step(&mut self.group, &mut ctx);
        for record in &effects.records {
            self.group.apply(record);
        }
        self.log.extend(effects.records.iter().cloned());
        self.written = effects.records;
        self.replies.extend(effects.replies);
        self.news.extend(effects.events.into_iter().map(|event| event.news));
        self.downgraded = self.group.take_downgraded().or(self.downgraded.take());
        self.check();
        result
    }

    pub(super) fn heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatReply, ApiError> {
        check_heartbeat(&self.settings, request)?;
        self.step(|group, ctx| group.heartbeat(ctx, request))
    }

    /// Lets time pass, with what is due in it.
    pub(super) fn pass_ms(&mut self, ms: i64) {
        let end = Now {
            timestamp: Timestamp(self.now.timestamp.0 + ms),
            mono: self.now.mono.plus_ms(ms),
        };
        while let Some(due) = self.timers.next().filter(|due| *due <= end.mono) {
            let passed = due.ms_since(self.now.mono);
            self.now.timestamp.0 += passed;
            self.now.mono = Mono(due.0.max(self.now.mono.0));
            if let Some(timer) = self.timers.pop_due(self.now.mono) {
                self.step(|group, ctx| group.on_timer(ctx, &timer));
            }
        }
        self.now = end;
    }

    /// Creates topics or gives them more partitions.
    pub(super) fn set_topic(&mut self, name: &str, partitions: i32) {
        let id = topic_id(name);
        let is_new = self.image.topics.by_id(id).is_none();
        if is_new {
            self.change_image(MetadataRecord::Topic(TopicRecord {
                name: name.to_owned(),
                topic_id: id.0,
                ..TopicRecord::default()
            }));
        }
        let known = self.image.topics.by_id(id).unwrap().partitions.len() as i32;
        for partition_id in known..partitions {
            self.change_image(MetadataRecord::Partition(PartitionRecord {
                topic_id: id.0,
                partition_id,
                replicas: vec![1],
                ..PartitionRecord::default()
            }));
        }
        self.topic_changed(name, is_new);
    }

    pub(super) fn delete_topic(&mut self, name: &str) {
        if self.image.topics.by_name(name).is_some() {
            self.change_image(MetadataRecord::RemoveTopic(RemoveTopicRecord {
                topic_id: topic_id(name).0,
                ..RemoveTopicRecord::default()
            }));
            self.topic_changed(name, false);
        }
    }

    fn topic_changed(&mut self, name: &str, is_new: bool) {
        self.step(|group, ctx| {
            if group.is_subscribed_to(name) {
                group.on_topic_change();
            }
            if is_new && group.has_patterns() {
                group.refresh_patterns_soon(ctx);
            }
        });
    }

    fn change_image(&mut self, record: MetadataRecord) {
        self.image.apply(&record).unwrap();
        self.image.provenance.offset = Offset(self.image.provenance.offset.0 + 1);
    }

    /// Loses all that is not in the log.
    pub(super) fn fail_over(&mut self) {
        self.group = self.replayed();
        self.timers = Timers::default();
        self.step(|group, ctx| group.loaded(ctx));
    }

    fn replayed(&self) -> ConsumerGroup {
        let mut replayed = ConsumerGroup::new(GROUP.into());
        for record in &self.log {
            replayed.apply(record);
        }
        replayed
    }

    pub(super) fn check_replay(&self) {
        assert_eq!(self.replayed().state, self.group.state);
    }

    /// No partition is held by two members, and no pattern is kept that nobody subscribes to.
    fn check(&self) {
        let mut held = BTreeSet::new();
        for (member_id, member) in &self.group.state.members {
            for partition in member.current.held() {
                assert!(
                    held.insert(partition),
                    "{partition:?} of {member_id} is another's: {:#?}",
                    self.group.state
                );
            }
        }
        let state = &self.group.state;
        assert!(
            state
                .resolved
                .keys()
                .all(|pattern| state.patterns.contains_key(pattern))
        );
    }

    pub(super) fn state(&self) -> &'static str {
        self.group.state()
    }
}

/// The life of a topic is its name.
pub(super) fn topic_id(name: &str) -> TopicId {
    let mut bytes = [0; 16];
    bytes[0] = 1;
    for (byte, text) in bytes[1..].iter_mut().zip(name.bytes()) {
        *byte = text;
    }
    TopicId(Uuid::from_bytes(bytes))
}

pub(super) fn partitions(of: &[(&str, &[i32])]) -> Partitions {
    of.iter()
        .map(|(name, partitions)| (topic_id(name), partitions.iter().copied().map(PartitionId).collect()))
        .collect()
}

pub(super) fn assignment(of: &[(&str, &[i32])]) -> Assignment {
    partitions(of).into_iter().collect()
}

/// What a member sends when nothing changed.
pub(in crate::groups) fn alive(member_id: &str, epoch: i32) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat {
        group_id: GROUP.into(),
        member_id: member_id.into(),
        member_epoch: epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: None,
        subscribed_topic_regex: None,
        server_assignor: None,
        topic_partitions: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        makes_member_id: true,
    }
}

/// What a member sends to join.
pub(super) fn join(member_id: &str, topics: &[&str]) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(|name| Arc::from(*name)).collect()),
        topic_partitions: Some(Vec::new()),
        ..alive(member_id, 0)
    }
}

/// What a member sends when it has these partitions.
pub(super) fn owning(member_id: &str, epoch: i32, owned: &[(&str, &[i32])]) -> ConsumerGroupHeartbeat {
    ConsumerGroupHeartbeat {
        topic_partitions: Some(assignment(owned)),
        ..alive(member_id, epoch)
    }
}
