//! The groups of one partition of `__consumer_offsets`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;

use super::classic::ClassicGroup;
use super::commands::{
    Command, DeleteGroup, DescribedGroup, Heartbeat, JoinGroup, Joined, LeaveGroup, Left, ListGroups, ListedGroup,
    OffsetCommit, OffsetDelete, OffsetFetch, PartitionErrors, Reply, SyncGroup, Synced,
};
use super::context::{Context, Patterns, Timer};
use super::offsets::Offsets;
use super::records::{Decoded, GroupMetadataKey, GroupRecord};
use super::settings::GroupSettings;
use super::timers::Timers;
use crate::coordinator::{Effects, Now, Shard, Stored, Token};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{Mono, Offset, Timestamp, TopicId};
use crate::metadata::image::MetadataImage;
use crate::record::primitives::EncodeError;

/// A group of either protocol.
#[derive(Debug)]
enum Group {
    /// Members assign among themselves.
    Classic(Box<ClassicGroup>),
}

/// A group that is made by its offsets has no time of its own.
const NEVER: Now = Now {
    timestamp: Timestamp::NONE,
    mono: Mono(0),
};

/// Reads the settings of groups out of an image.
pub type ReadSettings = Box<dyn Fn(&MetadataImage) -> GroupSettings + Send>;

/// The groups of one partition, with their offsets.
pub struct GroupShard {
    groups: BTreeMap<Arc<str>, Group>,
    offsets: Offsets,
    world: World,
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
    fn context<'a>(&'a mut self, now: Now, entropy: u128, effects: &'a mut Effects<GroupRecord, Reply>) -> Context<'a> {
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

fn not_found(group_id: &str) -> ApiError {
    ErrorCode::GroupIdNotFound.with(format!("Group {group_id} not found."))
}

impl GroupShard {
    /// An empty shard, to be loaded.
    pub fn new(read_settings: ReadSettings, patterns: Arc<dyn Patterns>, image: &MetadataImage) -> Self {
        GroupShard {
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            world: World {
                settings: read_settings(image),
                read_settings,
                image: Arc::default(),
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

    /// The groups that a filter lets through.
    pub fn list(&self, filter: &ListGroups) -> Vec<ListedGroup> {
        let matches = |wanted: &[String], name: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        let listed = self.groups.iter().map(|(group_id, group)| match group {
            Group::Classic(group) => ListedGroup {
                group_id: Arc::clone(group_id),
                protocol_type: group.protocol_type().cloned().unwrap_or_default(),
                state: group.state(),
                group_type: "Classic",
            },
        });
        let is_wanted =
            |group: &ListedGroup| matches(&filter.states, group.state) && matches(&filter.types, group.group_type);
        listed.filter(is_wanted).collect()
    }

    fn join(groups: &mut BTreeMap<Arc<str>, Group>, ctx: &mut Context<'_>, request: JoinGroup, token: Token) {
        if let Err(code) = ClassicGroup::check_join(ctx.settings, &request) {
            return ctx.reply(token, Reply::JoinGroup(Joined::refused(code, Arc::default())));
        }
        match groups.get_mut(&request.group_id) {
            Some(Group::Classic(group)) => group.join(ctx, request, token),
            None if request.member_id.is_empty() => {
                let mut group = Box::new(ClassicGroup::new(Arc::clone(&request.group_id), ctx.now));
                let group_id = Arc::clone(&request.group_id);
                group.join(ctx, request, token);
                groups.insert(group_id, Group::Classic(group));
            }
            None => {
                let refused = Joined::refused(ErrorCode::UnknownMemberId, request.member_id);
                ctx.reply(token, Reply::JoinGroup(refused));
            }
        }
    }

    fn sync(groups: &mut BTreeMap<Arc<str>, Group>, ctx: &mut Context<'_>, request: SyncGroup, token: Token) {
        let refused = match groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            Some(Group::Classic(group)) if !group.is_empty() => return group.sync(ctx, request, token),
            _ => ErrorCode::UnknownMemberId,
        };
        ctx.reply(token, Reply::SyncGroup(Synced::refused(refused)));
    }

    fn heartbeat(groups: &mut BTreeMap<Arc<str>, Group>, ctx: &mut Context<'_>, request: &Heartbeat) -> ErrorCode {
        match groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            Some(Group::Classic(group)) => group.heartbeat(ctx, request),
            None => ErrorCode::UnknownMemberId,
        }
    }

    fn leave(groups: &mut BTreeMap<Arc<str>, Group>, ctx: &mut Context<'_>, request: &LeaveGroup) -> Left {
        let error = match groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            Some(Group::Classic(group)) => return group.leave(ctx, request),
            None => ErrorCode::UnknownMemberId,
        };
        Left {
            error,
            members: Vec::new(),
        }
    }

    fn commit(
        groups: &mut BTreeMap<Arc<str>, Group>,
        ctx: &mut Context<'_>,
        request: OffsetCommit,
    ) -> Result<PartitionErrors, ErrorCode> {
        match groups.get_mut(&request.group_id) {
            Some(Group::Classic(group)) => group.check_commit(ctx, &request)?,
            // Anyone may keep offsets who takes no part in a group.
            None if request.generation_id_or_member_epoch < 0 => {}
            None if request.knows_member_epochs => return Err(ErrorCode::GroupIdNotFound),
            None => return Err(ErrorCode::IllegalGeneration),
        }
        let metadata_max_bytes = ctx.settings.offset_metadata_max_bytes;
        let (records, outcomes) = Offsets::commit(request, metadata_max_bytes, ctx.now.timestamp);
        if !batch_fits(&records, ctx.settings.record_max_bytes) {
            // As of any record that the log would not take.
            return Err(ErrorCode::UnknownServerError);
        }
        ctx.effects.records.extend(records);
        Ok(outcomes)
    }

    fn describe(&self, group_id: &str) -> Result<DescribedGroup, ApiError> {
        match self.groups.get(group_id) {
            Some(Group::Classic(group)) => Ok(group.describe()),
            None => Err(not_found(group_id)),
        }
    }

    fn delete(
        groups: &mut BTreeMap<Arc<str>, Group>,
        offsets: &Offsets,
        ctx: &mut Context<'_>,
        request: &DeleteGroup,
    ) -> Result<(), ApiError> {
        match groups.get_mut(&request.group_id) {
            None => return Err(not_found(&request.group_id)),
            Some(Group::Classic(group)) => group.check_delete()?,
        }
        ctx.effects.records.extend(offsets.delete_all(&request.group_id));
        Self::end(groups, ctx, &request.group_id);
        Ok(())
    }

    /// Writes that there is no such group any more.
    fn end(groups: &mut BTreeMap<Arc<str>, Group>, ctx: &mut Context<'_>, group_id: &Arc<str>) {
        ctx.effects.is_atomic = false;
        match groups.get_mut(group_id) {
            Some(Group::Classic(group)) => {
                group.give_up(ctx, ErrorCode::UnknownMemberId);
                let key = GroupMetadataKey {
                    group: group_id.to_string(),
                };
                ctx.write(GroupRecord::GroupMetadata(key, None));
            }
            None => {}
        }
    }

    fn delete_offsets(
        groups: &mut BTreeMap<Arc<str>, Group>,
        offsets: &Offsets,
        ctx: &mut Context<'_>,
        request: OffsetDelete,
    ) -> Result<PartitionErrors, ErrorCode> {
        let group = groups.get_mut(&request.group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        match group {
            Group::Classic(group) => group.check_offset_delete()?,
        }
        let mut outcomes = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in request.topics {
            let is_subscribed = match group {
                Group::Classic(group) => group.is_subscribed_to(&topic),
            };
            let code = if is_subscribed {
                ErrorCode::GroupSubscribedToTopic
            } else {
                ctx.effects
                    .records
                    .extend(offsets.delete(&request.group_id, &topic, &partitions));
                ErrorCode::None
            };
            let errors = partitions.into_iter().map(|partition| (partition, code)).collect();
            outcomes.push((topic, TopicId::ZERO, errors));
        }
        ctx.effects.is_atomic = false;
        Ok(outcomes)
    }

    fn fetch(&self, request: OffsetFetch) -> Reply {
        Reply::OffsetFetch(self.offsets.fetch(&request.group_id, request.topics))
    }

    /// Writes off the offsets that nobody needs, and the groups that are empty without them.
    fn expire(groups: &mut BTreeMap<Arc<str>, Group>, offsets: &Offsets, ctx: &mut Context<'_>) {
        let mut ended = Vec::new();
        for (group_id, group) in groups.iter() {
            let (records, all_expired) = match group {
                Group::Classic(group) => {
                    let subscriptions = group.subscriptions();
                    let base = group.offset_expiration();
                    let is_subscribed = |topic: &str| subscriptions.contains(topic);
                    let retention_ms = ctx.settings.offsets_retention_ms;
                    offsets.expire(group_id, base, is_subscribed, retention_ms, ctx.now.timestamp)
                }
            };
            ctx.effects.records.extend(records);
            let is_empty = match group {
                Group::Classic(group) => group.is_empty(),
            };
            if all_expired && is_empty {
                ended.push(Arc::clone(group_id));
            }
        }
        for group_id in ended {
            Self::end(groups, ctx, &group_id);
        }
        ctx.effects.is_atomic = false;
        ctx.set_timer(
            Timer::OffsetExpiration,
            ctx.settings.offsets_retention_check_interval_ms,
        );
    }

    fn on_timer(&mut self, now: Now, entropy: u128, timer: &Timer, effects: &mut Effects<GroupRecord, Reply>) {
        let mut ctx = self.world.context(now, entropy, effects);
        match timer {
            Timer::OffsetExpiration => Self::expire(&mut self.groups, &self.offsets, &mut ctx),
            Timer::ClassicMember(group_id, _) | Timer::ClassicJoin(group_id) | Timer::ClassicSync(group_id) => {
                match self.groups.get_mut(group_id) {
                    Some(Group::Classic(group)) => group.on_timer(&mut ctx, timer),
                    None => {}
                }
            }
            _ => {}
        }
    }
}

/// The log takes these records as one batch.
fn batch_fits(records: &[GroupRecord], size_bytes_max: usize) -> bool {
    // Length, attributes, deltas and the number of headers.
    const RECORD_OVERHEAD_BYTES: usize = 40;
    let (mut key, mut value) = (BytesMut::new(), BytesMut::new());
    let encoded = records.iter().all(|record| record.encode(&mut key, &mut value).is_ok());
    encoded && (records.len() + 2) * RECORD_OVERHEAD_BYTES + key.len() + value.len() <= size_bytes_max
}

impl Shard for GroupShard {
    type Command = Command;
    type Reply = Reply;
    type Record = GroupRecord;

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

    fn handle(&mut self, now: Now, entropy: u128, command: Command, token: Token) -> Effects<GroupRecord, Reply> {
        let mut effects = Effects::default();
        let mut ctx = self.world.context(now, entropy, &mut effects);
        let groups = &mut self.groups;
        let reply = match command {
            Command::JoinGroup(request) => {
                Self::join(groups, &mut ctx, request, token);
                None
            }
            Command::SyncGroup(request) => {
                Self::sync(groups, &mut ctx, request, token);
                None
            }
            Command::Heartbeat(request) => Some(Reply::Heartbeat(Self::heartbeat(groups, &mut ctx, &request))),
            Command::LeaveGroup(request) => Some(Reply::LeaveGroup(Self::leave(groups, &mut ctx, &request))),
            Command::OffsetCommit(request) => Some(Reply::OffsetCommit(Self::commit(groups, &mut ctx, request))),
            Command::OffsetFetch(request) => Some(self.fetch(request)),
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
            Command::ConsumerGroupHeartbeat(_) | Command::DescribeConsumerGroup(_) => None,
        };
        effects.replies.extend(reply.map(|reply| (token, reply)));
        effects
    }

    fn on_deadline(&mut self, now: Now, entropy: u128) -> Effects<GroupRecord, Reply> {
        let mut effects = Effects::default();
        if let Some(timer) = self.world.timers.pop_due(now.mono) {
            self.on_timer(now, entropy, &timer, &mut effects);
        }
        effects
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.world.timers.next()
    }

    fn on_image(&mut self, _now: Now, image: Arc<MetadataImage>) -> Effects<GroupRecord, Reply> {
        let mut effects = Effects::default();
        let old = std::mem::replace(&mut self.world.image, image);
        let mut deleted = Vec::new();
        self.world.image.topics.diff(&old.topics, |id, old, new| {
            if let (Some(old), None) = (old, new) {
                deleted.push((Arc::clone(&old.name), id));
            }
        });
        if !deleted.is_empty() {
            effects.records = self.offsets.delete_topics(&deleted);
            effects.is_atomic = false;
        }
        self.world.settings = (self.world.read_settings)(&self.world.image);
        effects
    }

    fn apply(&mut self, _offset: Offset, record: GroupRecord) -> Result<(), String> {
        match record {
            GroupRecord::OffsetCommit(key, value) => {
                if value.is_some() && !self.groups.contains_key(key.group.as_str()) {
                    let group_id: Arc<str> = key.group.as_str().into();
                    let group = ClassicGroup::new(Arc::clone(&group_id), NEVER);
                    self.groups.insert(group_id, Group::Classic(Box::new(group)));
                }
                self.offsets.apply(&key, value.as_ref());
            }
            GroupRecord::GroupMetadata(key, None) => {
                if let Some(Group::Classic(_)) = self.groups.get(key.group.as_str()) {
                    self.groups.remove(key.group.as_str());
                }
            }
            GroupRecord::GroupMetadata(key, Some(value)) => {
                // A group that is here has written the record about itself.
                let is_known = matches!(self.groups.get(key.group.as_str()), Some(Group::Classic(_)));
                if self.is_loading || !is_known {
                    let group_id: Arc<str> = key.group.into();
                    let group = ClassicGroup::from_record(Arc::clone(&group_id), value);
                    let group = Box::new(group.map_err(|error| error.to_string())?);
                    self.groups.insert(group_id, Group::Classic(group));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn loaded(&mut self, now: Now) -> Effects<GroupRecord, Reply> {
        self.is_loading = false;
        let mut effects = Effects::default();
        let mut ctx = self.world.context(now, 0, &mut effects);
        for group in self.groups.values_mut() {
            match group {
                Group::Classic(group) => group.loaded(&mut ctx),
            }
        }
        ctx.set_timer(
            Timer::OffsetExpiration,
            ctx.settings.offsets_retention_check_interval_ms,
        );
        effects
    }
}
