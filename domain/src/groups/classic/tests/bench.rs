//! One group with its surroundings, for tests: requests in, answers by token out, and time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::{Now, Token};
use crate::error::ErrorCode;
use crate::groups::classic::ClassicGroup;
use crate::groups::commands::{
    Heartbeat, JoinGroup, Joined, LeaveGroup, LeavingMember, Left, OffsetCommit, Reply, SyncGroup, Synced,
};
use crate::groups::context::{Context, GroupEffects, Patterns, Timer};
use crate::groups::events::News;
use crate::groups::records::{GroupMetadataValue, GroupRecord};
use crate::groups::settings::{Bounded, GroupSettings, MigrationPolicy};
use crate::groups::timers::Timers;
use crate::ids::{Mono, Timestamp};
use crate::metadata::image::MetadataImage;

pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 60_000;
pub(super) const INITIAL_DELAY_MS: i32 = 3_000;

struct NoPatterns;

impl Patterns for NoPatterns {
    fn matching(&self, _: &str, _: &mut dyn Iterator<Item = &Arc<str>>) -> Result<Vec<Arc<str>>, String> {
        Ok(Vec::new())
    }
}

pub(super) struct Bench {
    pub(super) group: ClassicGroup,
    pub(super) settings: GroupSettings,
    pub(super) timers: Timers<Timer>,
    pub(super) records: Vec<GroupRecord>,
    pub(super) news: Vec<News>,
    pub(super) answers: BTreeMap<Token, Reply>,
    pub(super) asked: BTreeSet<Token>,
    now: Now,
    tokens: u64,
    steps: u64,
}

pub(super) fn settings() -> GroupSettings {
    let bounded = Bounded {
        default: 1,
        min: 1,
        max: 1,
    };
    GroupSettings {
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 1_800_000,
        initial_rebalance_delay_ms: INITIAL_DELAY_MS,
        max_size: usize::MAX,
        offset_metadata_max_bytes: 4096,
        offsets_retention_ms: 1,
        offsets_retention_check_interval_ms: 1,
        consumer_session_timeout_ms: bounded,
        consumer_heartbeat_interval_ms: bounded,
        consumer_assignment_interval_ms: bounded,
        consumer_max_size: usize::MAX,
        consumer_assignors: Vec::new(),
        consumer_migration_policy: MigrationPolicy {
            allows_upgrade: false,
            allows_downgrade: false,
        },
        consumer_regex_refresh_interval_ms: 1,
        members_max_bytes: usize::MAX,
        record_max_bytes: 1 << 20,
    }
}

fn start() -> Now {
    Now {
        timestamp: Timestamp(1_700_000_000_000),
        mono: Mono(1_000_000_000),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Bench::of(ClassicGroup::new("group".into(), start()))
    }

    pub(super) fn of(group: ClassicGroup) -> Self {
        Bench {
            group,
            settings: settings(),
            timers: Timers::default(),
            records: Vec::new(),
            news: Vec::new(),
            answers: BTreeMap::new(),
            asked: BTreeSet::new(),
            now: start(),
            tokens: 0,
            steps: 0,
        }
    }

    pub(super) fn with_max_size(max_size: usize) -> Self {
        let mut bench = Bench::new();
        bench.settings.max_size = max_size;
        bench
    }

    /// One step of the group; its answers go to requests that were asked and not yet answered.
    pub(super) fn step<T>(&mut self, step: impl FnOnce(&mut ClassicGroup, &mut Context<'_>) -> T) -> T {
        let mut effects = GroupEffects::default();
        self.steps += 1;
        let outcome = step(
            &mut self.group,
            &mut Context {
                now: self.now,
                entropy: u128::from(self.steps) << 64,
                settings: &self.settings,
                image: &MetadataImage::default(),
                patterns: &NoPatterns,
                timers: &mut self.timers,
                effects: &mut effects,
            },
        );
        self.records.extend(effects.records);
        self.news.extend(effects.events.into_iter().map(|event| event.news));
        for (token, reply) in effects.replies {
            assert!(self.asked.contains(&token), "{token:?} was not asked: {reply:?}");
            let earlier = self.answers.insert(token, reply);
            assert_eq!(earlier, None, "{token:?} is answered twice");
        }
        outcome
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.asked.insert(token);
        token
    }

    pub(super) fn join(&mut self, request: JoinGroup) -> Token {
        let token = self.token();
        self.step(|group, ctx| group.join(ctx, request, token));
        token
    }

    /// Joins without an id, and again with the one that the group gives.
    pub(super) fn join_twice(&mut self, mut request: JoinGroup) -> (Arc<str>, Token) {
        let token = self.join(request.clone());
        let answer = self.joined(token);
        assert_eq!(answer.error, ErrorCode::MemberIdRequired);
        request.member_id = answer.member_id.clone();
        (answer.member_id, self.join(request))
    }

    pub(super) fn sync(&mut self, request: SyncGroup) -> Token {
        let token = self.token();
        self.step(|group, ctx| group.sync(ctx, request, token));
        token
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation_id: i32) -> ErrorCode {
        self.heartbeat_as(member_id, None, generation_id)
    }

    pub(super) fn heartbeat_as(&mut self, member_id: &str, instance: Option<&str>, generation_id: i32) -> ErrorCode {
        let request = Heartbeat {
            group_id: "group".into(),
            generation_id,
            member_id: member_id.into(),
            group_instance_id: instance.map(Into::into),
        };
        self.step(|group, ctx| group.heartbeat(ctx, &request))
    }

    /// Pairs of member id and instance id.
    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Left {
        let leaving = |(member_id, instance): &(&str, Option<&str>)| LeavingMember {
            member_id: (*member_id).into(),
            group_instance_id: instance.map(Into::into),
            reason: None,
        };
        let request = LeaveGroup {
            group_id: "group".into(),
            members: members.iter().map(leaving).collect(),
        };
        self.step(|group, ctx| group.leave(ctx, &request))
    }

    pub(super) fn commit(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation_id: i32,
    ) -> Result<(), ErrorCode> {
        let request = OffsetCommit {
            group_id: "group".into(),
            generation_id_or_member_epoch: generation_id,
            member_id: member_id.into(),
            group_instance_id: instance.map(Into::into),
            retention_time_ms: None,
            knows_member_epochs: false,
            topics: Vec::new(),
        };
        self.step(|group, ctx| group.check_commit(ctx, &request))
    }

    /// Lets time pass; whatever is due happens when it is due.
    pub(super) fn pass(&mut self, delay_ms: i32) {
        let end = self.now.mono.plus_ms(delay_ms.into());
        let mut fired = 0;
        while let Some(next) = self.timers.next().filter(|next| *next <= end) {
            let passed_ms = next.ms_since(self.now.mono);
            self.now.mono = self.now.mono.max(next);
            self.now.timestamp.0 += passed_ms;
            while let Some(timer) = self.timers.pop_due(self.now.mono) {
                fired += 1;
                assert!(fired < 100_000, "timers never rest");
                self.step(|group, ctx| group.on_timer(ctx, &timer));
            }
        }
        self.now.timestamp.0 += end.ms_since(self.now.mono);
        self.now.mono = end;
    }

    pub(super) fn waits(&self, token: Token) -> bool {
        assert!(self.asked.contains(&token));
        !self.answers.contains_key(&token)
    }

    pub(super) fn joined(&self, token: Token) -> Joined {
        match &self.answers[&token] {
            Reply::JoinGroup(joined) => joined.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn synced(&self, token: Token) -> Synced {
        match &self.answers[&token] {
            Reply::SyncGroup(synced) => synced.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// The last record.
    pub(super) fn value(&self) -> GroupMetadataValue {
        match self.records.last().unwrap() {
            GroupRecord::GroupMetadata(key, Some(value)) => {
                assert_eq!(key.group, "group");
                value.clone()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Members with these clients' ids join an empty group, which gets stable: their ids, the leader first.
    pub(super) fn stable(&mut self, clients: &[&str]) -> Vec<Arc<str>> {
        self.stable_of(clients.iter().map(|client| join(client)).collect())
    }

    pub(super) fn stable_of(&mut self, joins: Vec<JoinGroup>) -> Vec<Arc<str>> {
        let tokens: Vec<_> = joins
            .into_iter()
            .map(|request| match request.group_instance_id {
                Some(_) => self.join(request),
                None => self.join_twice(request).1,
            })
            .collect();
        while tokens.iter().any(|token| self.waits(*token)) {
            self.pass(INITIAL_DELAY_MS);
        }
        self.settle(&tokens)
    }

    /// Members whose joins were answered all sync, the leader last: their ids, the leader first.
    pub(super) fn settle(&mut self, tokens: &[Token]) -> Vec<Arc<str>> {
        let mut joined: Vec<_> = tokens.iter().map(|token| self.joined(*token)).collect();
        assert!(
            joined.iter().all(|joined| joined.error == ErrorCode::None),
            "{joined:?}"
        );
        joined.sort_by_key(|joined| joined.member_id == joined.leader);
        let syncs: Vec<_> = joined
            .iter()
            .map(|joined| {
                let mut request = sync(&joined.member_id, joined.generation_id);
                request.assignments = joined
                    .members
                    .iter()
                    .map(|member| (member.member_id.clone(), assignment(&member.member_id)))
                    .collect();
                self.sync(request)
            })
            .collect();
        for (token, joined) in syncs.into_iter().zip(&joined) {
            assert_eq!(self.synced(token).assignment, assignment(&joined.member_id));
        }
        assert_eq!(self.group.state(), "Stable");
        joined.into_iter().rev().map(|joined| joined.member_id).collect()
    }
}

pub(super) fn assignment(member_id: &str) -> Bytes {
    Bytes::from(format!("for {member_id}"))
}

/// A dynamic member's first request.
pub(super) fn join(client: &str) -> JoinGroup {
    JoinGroup {
        group_id: "group".into(),
        member_id: "".into(),
        group_instance_id: None,
        client_id: client.into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range", "roundrobin"]),
        reason: None,
        requires_known_member_id: true,
        supports_skipping_assignment: true,
    }
}

/// A static member's first request.
pub(super) fn join_static(instance: &str) -> JoinGroup {
    JoinGroup {
        group_instance_id: Some(instance.into()),
        ..join("static")
    }
}

pub(super) fn rejoin(member_id: &str) -> JoinGroup {
    JoinGroup {
        member_id: member_id.into(),
        ..join("client")
    }
}

pub(super) fn protocols(names: &[&str]) -> Vec<(Arc<str>, Bytes)> {
    let metadata = subscription(&["topic"]);
    names.iter().map(|name| ((*name).into(), metadata.clone())).collect()
}

/// `ConsumerProtocolSubscription` of version 0.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

/// A follower's request.
pub(super) fn sync(member_id: &str, generation_id: i32) -> SyncGroup {
    SyncGroup {
        group_id: "group".into(),
        generation_id,
        member_id: member_id.into(),
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    }
}
