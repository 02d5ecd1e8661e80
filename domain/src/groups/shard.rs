//! The groups of one partition of `__consumer_offsets`.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;

use super::classic::{ClassicGroup, Protocols};
use super::commands::{
    Command, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatReply, DeleteGroup, DescribedConsumerGroup, DescribedGroup,
    FetchedOffsets, GroupFacts, Heartbeat, JoinGroup, Joined, LeaveGroup, LeavingMember, Left, ListGroups, ListedGroup,
    OffsetCommit, OffsetDelete, OffsetFetch, PartitionErrors, Reply, SyncGroup, Synced,
};
use super::consumer::{ConsumerGroup, check_heartbeat};
use super::context::{Context, GroupEffects, Patterns, Timer};
use super::events::{GroupEvent, News, Protocol};
use super::group::Group;
use super::index::Groups;
use super::offsets::Offsets;
use super::records::{Decoded, GroupRecord};
use super::settings::GroupSettings;
use super::timers::Timers;
use super::totals::{Cause, GroupTotals};
use crate::coordinator::{Now, Shard, Stored, Token};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{Mono, Offset, PartitionId, ProducerId, Timestamp, TopicId};
use crate::metadata::image::MetadataImage;
use crate::record::primitives::EncodeError;

/// The members of a classic group may hold so much; what they agree on is one record in the end.
const MEMBERS_MAX_BYTES: usize = 16 << 20;

/// A group that is made by its offsets has no time of its own.
const NEVER: Now = Now {
    timestamp: Timestamp::NONE,
    mono: Mono(0),
};

/// Reads the settings of groups out of an image.
pub type ReadSettings = Box<dyn Fn(&MetadataImage) -> GroupSettings + Send>;

/// The groups of one partition, with their offsets.
pub struct GroupShard {
    groups: Groups,
    offsets: Offsets,
    world: World,
    totals: Arc<GroupTotals>,
    /// What the members of all groups hold in memory; counted in `totals`, too.
    member_bytes: usize,
    /// The log is read: records are all there is to know of a group.
    is_loading: bool,
}

/// What groups see besides themselves.
struct World {
    read_settings: ReadSettings,
    settings: GroupSettings,
    image: Arc<MetadataImage>,
    patterns: Arc<dyn Patterns>,
    timers: Timers<Timer>,
}

impl World {
    fn context<'a>(&'a mut self, now: Now, entropy: u128, effects: &'a mut GroupEffects) -> Context<'a> {
        Context {
            now,
            entropy,
            settings: &self.settings,
            image: &self.image,
            patterns: &*self.patterns,
            timers: &mut self.timers,
            effects,
        }
    }
}

/// The members of a group may hold what one of them says now, in place of what it said before. Records limit what those of
/// a consumer group say.
fn may_hold(group: Option<&Group>, request: &JoinGroup) -> bool {
    let (all_bytes, own_bytes) = match group {
        Some(Group::Consumer(group)) if !group.is_empty() => return true,
        Some(group) => (
            group.size_bytes(),
            group.member_bytes(&request.member_id, request.group_instance_id.as_deref()),
        ),
        None => (0, 0),
    };
    let asked_bytes = Protocols::size_bytes_of(&request.protocols);
    memory::has_room(all_bytes, own_bytes, asked_bytes, MEMBERS_MAX_BYTES)
}

fn not_found(group_id: &str) -> ApiError {
    ErrorCode::GroupIdNotFound.with(format!("Group {group_id} not found."))
}

impl GroupShard {
    /// An empty shard, to be loaded, which counts in `totals`.
    pub fn new(
        read_settings: ReadSettings,
        patterns: Arc<dyn Patterns>,
        totals: Arc<GroupTotals>,
        image: &Arc<MetadataImage>,
    ) -> Self {
        GroupShard {
            totals,
            member_bytes: 0,
            groups: Groups::default(),
            offsets: Offsets::default(),
            world: World {
                settings: read_settings(image),
                read_settings,
                image: Arc::clone(image),
                patterns,
                timers: Timers::default(),
            },
            is_loading: true,
        }
    }

    /// The offsets of all groups.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// At most `max` groups in the order of their names that come after the one named `after`.
    pub fn page(&self, after: Option<&Arc<str>>, max: usize) -> Vec<GroupFacts> {
        self.groups.after(after).take(max).map(Group::facts).collect()
    }

    /// The groups that a filter lets through.
    pub fn list(&self, filter: &ListGroups) -> Vec<ListedGroup> {
        let matches =
            |wanted: &BTreeSet<String>, name: &str| wanted.is_empty() || wanted.contains(&name.to_ascii_lowercase());
        let is_wanted =
            |group: &ListedGroup| matches(&filter.states, group.state) && matches(&filter.types, group.group_type);
        self.groups.iter().map(Group::listed).filter(is_wanted).collect()
    }

    #[cfg(test)]
    pub(super) fn check_index(&self) {
        self.groups.check_index();
    }

    fn join(groups: &mut Groups, ctx: &mut Context<'_>, request: JoinGroup, token: Token) {
        if let Err(code) = ClassicGroup::check_join(ctx.settings, &request) {
            return ctx.reply(token, Reply::JoinGroup(Joined::refused(code, request.member_id)));
        }
        let group_id = Arc::clone(&request.group_id);
        if !may_hold(groups.get(&group_id), &request) {
            let refused = Joined::refused(ErrorCode::GroupMaxSizeReached, Arc::default());
            return ctx.reply(token, Reply::JoinGroup(refused));
        }
        match groups.get_mut(&group_id) {
            Some(Group::Classic(group)) => group.join(ctx, request, token),
            Some(Group::Consumer(group)) if !group.is_empty() => {
                let joined = group.classic_join(ctx, &request);
                ctx.reply(token, Reply::JoinGroup(joined));
            }
            known if request.member_id.is_empty() => {
                // An empty group is of whichever protocol comes next.
                let news = match known {
                    Some(group) => {
                        group.delete(ctx);
                        News::Converted(Protocol::Classic)
                    }
                    None => News::Created(Protocol::Classic),
                };
                ctx.tell(&group_id, news);
                let mut group = ClassicGroup::new(Arc::clone(&group_id), ctx.now);
                group.join(ctx, request, token);
                groups.insert(group_id, Group::classic(group));
            }
            _ => {
                let refused = Joined::refused(ErrorCode::UnknownMemberId, request.member_id);
                ctx.reply(token, Reply::JoinGroup(refused));
            }
        }
    }

    fn sync(groups: &mut Groups, ctx: &mut Context<'_>, request: SyncGroup, token: Token) {
        let refused = match groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            Some(Group::Classic(group)) if !group.is_empty() => return group.sync(ctx, request, token),
            Some(Group::Consumer(group)) if !group.is_empty() => {
                let synced = group.classic_sync(ctx, &request);
                return ctx.reply(token, Reply::SyncGroup(synced));
            }
            _ => ErrorCode::UnknownMemberId,
        };
        ctx.reply(token, Reply::SyncGroup(Synced::refused(refused)));
    }

    fn heartbeat(groups: &mut Groups, ctx: &mut Context<'_>, request: &Heartbeat) -> ErrorCode {
        match groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            Some(Group::Classic(group)) => group.heartbeat(ctx, request),
            Some(Group::Consumer(group)) => group.classic_heartbeat(ctx, request),
            None => ErrorCode::UnknownMemberId,
        }
    }

    fn leave(groups: &mut Groups, ctx: &mut Context<'_>, request: &LeaveGroup) -> Left {
        match groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => Left {
                error: ErrorCode::InvalidGroupId,
                members: Vec::new(),
            },
            Some(Group::Classic(group)) => group.leave(ctx, request),
            Some(Group::Consumer(group)) => group.classic_leave(ctx, request),
            None => {
                let unknown = |member: &LeavingMember| {
                    let (id, instance) = (&member.member_id, &member.group_instance_id);
                    (Arc::clone(id), instance.clone(), ErrorCode::UnknownMemberId)
                };
                Left {
                    error: ErrorCode::None,
                    members: request.members.iter().map(unknown).collect(),
                }
            }
        }
    }

    fn commit(groups: &mut Groups, ctx: &mut Context<'_>, request: OffsetCommit) -> Result<PartitionErrors, ErrorCode> {
        match groups.get_mut(&request.group_id) {
            Some(group) => group.check_commit(ctx, &request)?,
            // Anyone may keep offsets who takes no part in a group.
            None if request.generation_id_or_member_epoch < 0 => {}
            None if request.knows_member_epochs => return Err(ErrorCode::GroupIdNotFound),
            None => return Err(ErrorCode::IllegalGeneration),
        }
        if Offsets::records_bytes_min(&request) > ctx.settings.record_max_bytes {
            return Err(ErrorCode::UnknownServerError);
        }
        let metadata_max_bytes = ctx.settings.offset_metadata_max_bytes;
        let (records, outcomes) = Offsets::commit(request, metadata_max_bytes, ctx.now.timestamp);
        ctx.effects.records.extend(records);
        Ok(outcomes)
    }

    fn describe(&self, group_id: &str) -> Result<DescribedGroup, ApiError> {
        match self.groups.get(group_id) {
            Some(Group::Classic(group)) => Ok(group.describe()),
            Some(_) => Err(ErrorCode::GroupIdNotFound.with(format!("Group {group_id} is not a classic group."))),
            None => Err(not_found(group_id)),
        }
    }

    fn delete(
        groups: &mut Groups,
        offsets: &Offsets,
        ctx: &mut Context<'_>,
        request: &DeleteGroup,
    ) -> Result<(), ApiError> {
        let group = groups
            .get_mut(&request.group_id)
            .ok_or_else(|| not_found(&request.group_id))?;
        group.check_delete()?;
        ctx.effects.records.extend(offsets.delete_all(&request.group_id));
        group.delete(ctx);
        ctx.tell(&request.group_id, News::Deleted);
        // All that is left of it after a failure in between is deleted when it is asked for again.
        ctx.effects.is_atomic = false;
        Ok(())
    }

    fn delete_offsets(
        groups: &Groups,
        offsets: &Offsets,
        ctx: &mut Context<'_>,
        request: OffsetDelete,
    ) -> Result<PartitionErrors, ErrorCode> {
        let group = groups.get(&request.group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        group.check_offset_delete()?;
        let read = group.reads(request.topics.iter().map(|(topic, _)| &**topic));
        let mut outcomes = Vec::with_capacity(request.topics.len());
        // One that is named twice goes once.
        let mut deleted: BTreeMap<Arc<str>, BTreeSet<PartitionId>> = BTreeMap::new();
        for ((topic, partitions), is_read) in request.topics.into_iter().zip(read) {
            let code = if is_read {
                ErrorCode::GroupSubscribedToTopic
            } else {
                deleted.entry(Arc::clone(&topic)).or_default().extend(&partitions);
                ErrorCode::None
            };
            let errors = partitions.into_iter().map(|partition| (partition, code)).collect();
            outcomes.push((topic, TopicId::ZERO, errors));
        }
        for (topic, partitions) in deleted {
            let records = offsets.delete(&request.group_id, &topic, &Vec::from_iter(partitions));
            ctx.effects.records.extend(records);
        }
        ctx.effects.is_atomic = false;
        Ok(outcomes)
    }

    fn fetch(&self, request: OffsetFetch) -> FetchedOffsets {
        if let Some(group) = self.groups.get(&request.group_id) {
            group.check_fetch(&request)?;
        }
        self.offsets
            .fetch(&request.group_id, request.topics, request.require_stable)
    }

    fn consumer_heartbeat(
        groups: &mut Groups,
        ctx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatReply, ApiError> {
        check_heartbeat(ctx.settings, request)?;
        let group_id = &request.group_id;
        match groups.get_mut(group_id) {
            Some(Group::Consumer(group)) => group.heartbeat(ctx, request),
            Some(Group::Classic(classic)) => {
                let (group, reply) = ConsumerGroup::upgrade(ctx, classic, request)?;
                groups.insert(Arc::clone(group_id), Group::Consumer(Box::new(group)));
                Ok(reply)
            }
            None if request.member_epoch == 0 => {
                let mark = ctx.mark();
                ctx.tell(group_id, News::Created(Protocol::Consumer));
                let mut group = ConsumerGroup::new(Arc::clone(group_id));
                let reply = group.heartbeat(ctx, request);
                if reply.is_err() {
                    ctx.undo(mark);
                }
                let reply = reply?;
                groups.insert(Arc::clone(group_id), Group::Consumer(Box::new(group)));
                Ok(reply)
            }
            // Kafka tells it in other words to a member that leaves.
            None if request.member_epoch < 0 => Err(not_found(group_id)),
            None => Err(ErrorCode::GroupIdNotFound.with(format!("Consumer group {group_id} not found."))),
        }
    }

    /// A consumer group that has lost its last member of the consumer protocol goes on as a classic one.
    fn replace_downgraded(groups: &mut Groups, group_id: &str) {
        if let Some(group) = groups.get_mut(group_id)
            && let Group::Consumer(consumer) = group
            && let Some(classic) = consumer.take_downgraded()
        {
            groups.insert(group_id.into(), Group::Classic(classic));
        }
    }

    fn describe_consumer(&self, group_id: &str) -> Result<DescribedConsumerGroup, ApiError> {
        match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => Ok(group.describe(&self.world.settings, &self.world.image)),
            Some(_) => Err(ErrorCode::GroupIdNotFound.with(format!("Group {group_id} is not a consumer group."))),
            None => Err(not_found(group_id)),
        }
    }

    /// Writes off the offsets that nobody needs, and the groups that are empty without them.
    fn expire(groups: &mut Groups, offsets: &Offsets, ctx: &mut Context<'_>) {
        let retention_ms = ctx.settings.offsets_retention_ms;
        for (group_id, group) in groups.iter_mut() {
            let base = group.offset_expiration();
            let is_subscribed = |topics: &[&str]| group.reads(topics.iter().copied());
            let (records, all_expired) = offsets.expire(group_id, base, is_subscribed, retention_ms, ctx.now.timestamp);
            ctx.effects.records.extend(records);
            if all_expired && group.is_empty() {
                group.delete(ctx);
                ctx.tell(group_id, News::Deleted);
            }
        }
        ctx.effects.is_atomic = false;
        ctx.set_timer(
            Timer::OffsetExpiration,
            ctx.settings.offsets_retention_check_interval_ms,
        );
    }

    fn on_timer(&mut self, now: Now, entropy: u128, timer: &Timer, effects: &mut GroupEffects) {
        let group_id = match timer {
            Timer::OffsetExpiration => {
                let mut ctx = self.world.context(now, entropy, effects);
                return Self::expire(&mut self.groups, &self.offsets, &mut ctx);
            }
            Timer::ClassicMember(group_id, _)
            | Timer::ClassicJoin(group_id)
            | Timer::ClassicSync(group_id)
            | Timer::ConsumerSession(group_id, _)
            | Timer::ConsumerRebalance(group_id, _)
            | Timer::ConsumerAssignment(group_id)
            | Timer::ConsumerPatterns(group_id) => group_id,
        };
        let before_bytes = self.held_bytes(group_id);
        let mut ctx = self.world.context(now, entropy, effects);
        if let Some(group) = self.groups.get_mut(group_id) {
            group.on_timer(&mut ctx, timer);
        }
        Self::replace_downgraded(&mut self.groups, group_id);
        self.weigh(group_id, before_bytes);
    }

    /// Takes a command for which there is room.
    fn step(&mut self, now: Now, entropy: u128, command: Command, token: Token) -> GroupEffects {
        let mut effects = GroupEffects::default();
        let cause = Cause::from(&command);
        let mut ctx = self.world.context(now, entropy, &mut effects);
        let groups = &mut self.groups;
        let is_retractable = match &command {
            Command::OffsetCommit(_) | Command::OffsetDelete(_) => true,
            // Consumer groups change by their records, and by timers that look again.
            Command::LeaveGroup(request) => matches!(groups.get(&request.group_id), Some(Group::Consumer(_))),
            _ => false,
        };
        let reply = match command {
            Command::JoinGroup(request) => {
                let group_id = Arc::clone(&request.group_id);
                Self::join(groups, &mut ctx, request, token);
                Self::replace_downgraded(groups, &group_id);
                None
            }
            Command::SyncGroup(request) => {
                Self::sync(groups, &mut ctx, request, token);
                None
            }
            Command::Heartbeat(request) => Some(Reply::Heartbeat(Self::heartbeat(groups, &mut ctx, &request))),
            Command::LeaveGroup(request) => {
                let left = Self::leave(groups, &mut ctx, &request);
                Self::replace_downgraded(groups, &request.group_id);
                Some(Reply::LeaveGroup(left))
            }
            Command::OffsetCommit(request) => Some(Reply::OffsetCommit(Self::commit(groups, &mut ctx, request))),
            Command::OffsetFetch(request) => Some(Reply::OffsetFetch(self.fetch(request))),
            Command::DescribeGroup(request) => Some(Reply::DescribeGroup(self.describe(&request.group_id))),
            Command::DeleteGroup(request) => {
                let deleted = Self::delete(groups, &self.offsets, &mut ctx, &request);
                Some(Reply::DeleteGroup(deleted))
            }
            Command::OffsetDelete(request) => {
                let deleted = Self::delete_offsets(groups, &self.offsets, &mut ctx, request);
                Some(Reply::OffsetDelete(deleted))
            }
            Command::ListGroups(filter) => Some(Reply::ListGroups(self.list(&filter))),
            Command::ConsumerGroupHeartbeat(request) => {
                let lived = Self::consumer_heartbeat(groups, &mut ctx, &request);
                Self::replace_downgraded(groups, &request.group_id);
                Some(Reply::ConsumerGroupHeartbeat(lived))
            }
            Command::DescribeConsumerGroup(request) => {
                Some(Reply::DescribeConsumerGroup(self.describe_consumer(&request.group_id)))
            }
        };
        effects.is_retractable = is_retractable;
        effects.replies.extend(reply.map(|reply| (token, reply)));
        self.totals.count(cause, &effects.records);
        effects
    }

    /// There is no such group any more.
    fn remove(&mut self, group_id: &str) {
        let before_bytes = self.held_bytes(group_id);
        self.groups.remove(group_id);
        self.weigh(group_id, before_bytes);
    }
}

impl Shard for GroupShard {
    type Command = Command;
    type Reply = Reply;
    type Record = GroupRecord;
    type Event = GroupEvent;

    fn encode(record: &GroupRecord, key: &mut BytesMut, value: &mut BytesMut) -> Result<bool, EncodeError> {
        record.encode(key, value)
    }

    fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Stored<GroupRecord>, String> {
        let key = key.ok_or("it has no key")?;
        match GroupRecord::decode(key, value) {
            Ok(Decoded::Known(record)) => Ok(Stored::Record(record)),
            Ok(Decoded::UnknownType(number)) => Ok(Stored::Unknown(number)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn handle(&mut self, now: Now, entropy: u128, command: Command, token: Token) -> GroupEffects {
        if let Some(refused) = self.no_room(&command) {
            return GroupEffects::reply(token, refused);
        }
        let group_id = match &command {
            Command::JoinGroup(request) => &request.group_id,
            Command::SyncGroup(request) => &request.group_id,
            Command::LeaveGroup(request) => &request.group_id,
            Command::ConsumerGroupHeartbeat(request) => &request.group_id,
            // The others change members by their records alone.
            _ => return self.step(now, entropy, command, token),
        };
        let group_id = Arc::clone(group_id);
        let before_bytes = self.held_bytes(&group_id);
        let effects = self.step(now, entropy, command, token);
        self.weigh(&group_id, before_bytes);
        effects
    }

    fn on_deadline(&mut self, now: Now, entropy: u128) -> GroupEffects {
        let mut effects = GroupEffects::default();
        if let Some(timer) = self.world.timers.pop_due(now.mono) {
            self.on_timer(now, entropy, &timer, &mut effects);
            self.totals.count(Cause::from(&timer), &effects.records);
        }
        effects
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.world.timers.next()
    }

    fn on_image(&mut self, now: Now, image: Arc<MetadataImage>) -> GroupEffects {
        let mut effects = GroupEffects::default();
        let old = std::mem::replace(&mut self.world.image, image);
        if self.world.image.configs != old.configs {
            self.world.settings = (self.world.read_settings)(&self.world.image);
        }
        let (mut changed, mut deleted, mut has_new_topics) = (Vec::new(), Vec::new(), false);
        self.world.image.topics.diff(&old.topics, |id, old, new| {
            has_new_topics |= old.is_none();
            if let (Some(old), None) = (old, new) {
                deleted.push((Arc::clone(&old.name), id));
            }
            changed.extend(old.or(new).map(|topic| Arc::clone(&topic.name)));
        });
        if changed.is_empty() {
            return effects;
        }
        effects.is_atomic = false;
        effects.records = self.offsets.delete_topics(&deleted);
        let mut ctx = self.world.context(now, 0, &mut effects);
        for name in &changed {
            self.groups.for_subscribers(name, ConsumerGroup::on_topic_change);
        }
        if has_new_topics {
            for group in self.groups.with_patterns() {
                group.refresh_patterns_soon(&mut ctx);
            }
        }
        effects
    }

    fn apply(&mut self, offset: Offset, producer: Option<ProducerId>, record: GroupRecord) -> Result<(), String> {
        match record {
            GroupRecord::OffsetCommit(key, value) => {
                if value.is_some() && self.groups.get(&key.group).is_none() {
                    let group_id: Arc<str> = key.group.as_str().into();
                    let group = ClassicGroup::new(Arc::clone(&group_id), NEVER);
                    self.groups.insert(group_id, Group::classic(group));
                }
                self.offsets.apply(offset, producer, &key, value.as_ref())?;
            }
            // Transactions are of offsets alone: all else counts at once.
            GroupRecord::GroupMetadata(key, None) => {
                if let Some(Group::Classic(_)) = self.groups.get(&key.group) {
                    self.remove(&key.group);
                }
            }
            GroupRecord::GroupMetadata(key, Some(value)) => {
                // A group that is here has written the record about itself.
                let is_known = matches!(self.groups.get(&key.group), Some(Group::Classic(_)));
                if self.is_loading || !is_known {
                    let group_id: Arc<str> = key.group.into();
                    let group = ClassicGroup::from_record(Arc::clone(&group_id), value);
                    let group = group.map_err(|error| error.to_string())?;
                    let before_bytes = self.held_bytes(&group_id);
                    self.groups.insert(Arc::clone(&group_id), Group::classic(group));
                    self.weigh(&group_id, before_bytes);
                }
            }
            GroupRecord::ConsumerGroupMetadata(key, None) => {
                if let Some(Group::Consumer(_)) = self.groups.get(&key.group_id) {
                    self.remove(&key.group_id);
                }
            }
            record => {
                let (group_id, is_tombstone) = match &record {
                    GroupRecord::ConsumerGroupMetadata(key, value) => (&key.group_id, value.is_none()),
                    GroupRecord::ConsumerGroupPartitionMetadata(key, value) => (&key.group_id, value.is_none()),
                    GroupRecord::ConsumerGroupMemberMetadata(key, value) => (&key.group_id, value.is_none()),
                    GroupRecord::ConsumerGroupTargetAssignmentMetadata(key, value) => (&key.group_id, value.is_none()),
                    GroupRecord::ConsumerGroupTargetAssignmentMember(key, value) => (&key.group_id, value.is_none()),
                    GroupRecord::ConsumerGroupCurrentMemberAssignment(key, value) => (&key.group_id, value.is_none()),
                    GroupRecord::ConsumerGroupRegularExpression(key, value) => (&key.group_id, value.is_none()),
                    GroupRecord::OffsetCommit(..) | GroupRecord::GroupMetadata(..) => return Ok(()),
                };
                let before_bytes = self.held_bytes(group_id);
                self.groups.apply(group_id, is_tombstone, &record);
                self.weigh(group_id, before_bytes);
            }
        }
        Ok(())
    }

    fn apply_marker(&mut self, producer: ProducerId, is_committed: bool) {
        self.offsets.end_transaction(producer, is_committed);
    }

    fn loaded(&mut self, now: Now) -> GroupEffects {
        self.is_loading = false;
        let mut effects = GroupEffects::default();
        let mut ctx = self.world.context(now, 0, &mut effects);
        for (_, group) in self.groups.iter_mut() {
            group.loaded(&mut ctx);
        }
        for (group_id, partitions, producers) in self.offsets.open_transactions() {
            let news = News::OpenTransactions {
                partitions,
                producers: producers.len(),
                producer_id: producers.first().map_or(-1, |first| first.0),
            };
            ctx.tell(group_id, news);
        }
        ctx.set_timer(
            Timer::OffsetExpiration,
            ctx.settings.offsets_retention_check_interval_ms,
        );
        effects
    }
}
