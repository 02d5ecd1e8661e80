//! ConsumerGroupHeartbeat: members join, live, change and leave.

use std::sync::Arc;

use super::member::{LEAVE_EPOCH, LEAVE_STATIC_EPOCH, Member, MemberState, names_bytes, to_assignment};
use super::reconciliation::Reconciliation;
use super::static_members::Sender;
use super::target::Updated;
use super::topics::SubscriptionChange;
use super::{ConsumerGroup, check_size, patterns, records};
use crate::error::{ApiError, ErrorCode};
use crate::groups::commands::{Assignment, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatReply};
use crate::groups::context::{Context, Timer, random_uuid};
use crate::groups::records::ConsumerGroupMemberMetadataValue;
use crate::groups::settings::{ConsumerGroupSettings, GroupSettings};
use crate::ids::uuid_to_string;

/// The shortest time after which a member is asked to come again.
const MIN_HEARTBEAT_INTERVAL_MS: i64 = 50;

/// Refuses requests that are wrong whatever the group is, with Kafka's messages
/// (`GroupCoordinatorService.throwIfConsumerGroupHeartbeatRequestIsInvalid`).
pub fn check_heartbeat(settings: &GroupSettings, request: &ConsumerGroupHeartbeat) -> Result<(), ApiError> {
    let invalid = |message: &str| Err(ErrorCode::InvalidRequest.with(message));
    let is_blank = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());
    let epoch = request.member_epoch;
    if (request.makes_member_id || epoch > 0 || epoch == LEAVE_EPOCH) && is_blank(Some(&request.member_id)) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(Some(&request.group_id)) {
        return invalid("GroupId can't be empty.");
    }
    if is_blank(request.instance_id.as_deref()) {
        return invalid("InstanceId can't be empty.");
    }
    if is_blank(request.rack_id.as_deref()) {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if !request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
    } else if epoch == LEAVE_STATIC_EPOCH {
        if request.instance_id.is_none() {
            return invalid("InstanceId can't be null.");
        }
    } else if epoch < LEAVE_STATIC_EPOCH {
        return invalid("MemberEpoch is invalid.");
    }
    if let Some(assignor) = &request.server_assignor
        && !settings.consumer_assignors.contains(assignor)
    {
        return Err(ErrorCode::UnsupportedAssignor.with(format!(
            "ServerAssignor {assignor} is not supported. Supported assignors: {}.",
            settings.consumer_assignors.join(", ")
        )));
    }
    Ok(())
}

/// What a member that subscribes as this request says would hold of that in memory; 0 where it says nothing new.
pub fn subscription_bytes(request: &ConsumerGroupHeartbeat) -> usize {
    let names = request.subscribed_topic_names.iter().flatten();
    let pattern = request.subscribed_topic_regex.as_ref();
    names_bytes(names.map(|name| &**name)) + 2 * pattern.map_or(0, |pattern| pattern.len())
}

impl ConsumerGroup {
    /// A member joins, lives or leaves. The request has passed [`check_heartbeat`].
    pub fn heartbeat(
        &mut self,
        ctx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatReply, ApiError> {
        let mark = ctx.mark();
        let was_hash_current = self.is_hash_current;
        let reply = if request.member_epoch < 0 {
            self.leave(ctx, request)
        } else {
            self.live(ctx, request)
        };
        let reply = reply.and_then(|reply| check_size(ctx, mark).map(|()| reply));
        if reply.is_err() {
            ctx.undo(mark);
            self.is_hash_current = was_hash_current;
            self.downgraded = None;
        }
        reply
    }

    fn live(
        &mut self,
        ctx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatReply, ApiError> {
        self.check_room(ctx.settings.consumer_max_size, &request.member_id)?;
        let known = self.state.members.get_key_value(&request.member_id);
        let member_id = match known {
            Some((known, _)) => Arc::clone(known),
            None if request.member_id.is_empty() => new_member_id(ctx.entropy),
            None => Arc::clone(&request.member_id),
        };
        let settings = ctx.settings.consumer_group(ctx.image, &self.group_id);
        let joins = request.member_epoch == 0;
        let sender = Sender {
            member_id: &member_id,
            instance_id: request.instance_id.as_deref(),
            joins,
            consumer: Some((request.member_epoch, request.topic_partitions.as_ref())),
        };
        let found = self.find_or_subscribe(ctx, &sender)?;

        // The usual heartbeat: nothing changed, and nothing is to do.
        if let Some(member) = self.state.members.get(&member_id)
            && found.is_none()
            && !joins
            && self.is_hash_current
            && self.state.epoch == self.state.target_epoch
            && member.current.is_reconciled_to(self.state.target_epoch)
            && !self.waits_for_pattern(member)
            && updated_metadata(member, request).is_none()
        {
            ctx.set_timer(self.session_timer(&member_id), i64::from(settings.session_timeout_ms));
            return Ok(ConsumerGroupHeartbeatReply {
                member_id,
                member_epoch: member.current.epoch,
                heartbeat_interval_ms: settings.heartbeat_interval_ms,
                assignment: is_full(request).then(|| to_assignment(&member.current.assigned)),
            });
        }

        let old = match found {
            Some(member) => member,
            None => self.state.members.get(&member_id).cloned().unwrap_or_default(),
        };
        let metadata = updated_metadata(&old, request);
        let new = self.update(
            ctx,
            &settings,
            &member_id,
            &old,
            metadata,
            request.topic_partitions.as_ref(),
        )?;
        ctx.set_timer(self.session_timer(&member_id), i64::from(settings.session_timeout_ms));

        let shows_assignment = joins || is_full(request) || new.member.current.assigned != old.current.assigned;
        Ok(ConsumerGroupHeartbeatReply {
            member_epoch: new.member.current.epoch,
            heartbeat_interval_ms: self.next_heartbeat_ms(ctx, &settings, &new),
            assignment: shows_assignment.then(|| to_assignment(&new.member.current.assigned)),
            member_id,
        })
    }

    /// The group has room for one more, or the member is in it.
    pub(super) fn check_room(&self, max_size: usize, member_id: &str) -> Result<(), ApiError> {
        if self.state.members.len() >= max_size && !self.state.members.contains_key(member_id) {
            return Err(ErrorCode::GroupMaxSizeReached.with(format!(
                "The consumer group has reached its maximum capacity of {max_size} members."
            )));
        }
        Ok(())
    }

    /// Writes what changes with the member's `metadata`, if that changed, makes a target assignment where one is due, and
    /// takes the member's next step towards it.
    pub(super) fn update(
        &mut self,
        ctx: &mut Context<'_>,
        settings: &ConsumerGroupSettings,
        member_id: &Arc<str>,
        old: &Member,
        metadata: Option<ConsumerGroupMemberMetadataValue>,
        owned: Option<&Assignment>,
    ) -> Result<Updating, ApiError> {
        let mut new = old.clone();
        if let Some(metadata) = metadata {
            new.metadata = metadata;
            ctx.write(records::member(&self.group_id, member_id, Some(new.metadata.clone())));
        }
        if old.is_classic() && !new.is_classic() {
            // It needs not join or sync in time any more.
            ctx.timers.cancel(&self.rebalance_timer(member_id));
        }
        let names_changed = new.metadata.subscribed_topic_names != old.metadata.subscribed_topic_names;
        let pattern = self.change_pattern(ctx, old, &new)?;

        let bump = names_changed || pattern == PatternChange::Resolved;
        let mut epoch = self.state.epoch;
        if bump || !self.is_hash_current {
            let change = SubscriptionChange::of_member(&self.state, Some(old), Some(&new));
            let hash = self.hash_after(ctx, &change);
            epoch = self.update_epoch(ctx, bump, hash);
        }

        let updated = Updated {
            member_id,
            old,
            new: &new,
        };
        let (target_epoch, target) = self.target_for(ctx, settings, epoch, updated);

        let next = Reconciliation {
            state: &self.state,
            image: ctx.image,
            target_epoch,
            target: &target,
            subscription_changed: names_changed || pattern != PatternChange::None,
            owned,
        }
        .next(&new)?;
        if let Some(next) = next {
            ctx.write(records::current(&self.group_id, member_id, Some(&next)));
            self.set_rebalance_timer(ctx, member_id, &new, next.state);
            new.current = next;
        }
        Ok(Updating {
            member: new,
            epoch,
            target_epoch,
        })
    }

    /// The member's pattern was not matched yet.
    fn waits_for_pattern(&self, member: &Member) -> bool {
        member
            .pattern()
            .is_some_and(|pattern| !self.state.resolved.contains_key(pattern))
    }

    /// A member of the consumer protocol has a time to give partitions up; those of the classic protocol have times to join
    /// and to sync.
    fn set_rebalance_timer(&self, ctx: &mut Context<'_>, member_id: &Arc<str>, member: &Member, state: MemberState) {
        if member.is_classic() {
            return;
        }
        let timer = self.rebalance_timer(member_id);
        if state == MemberState::UnrevokedPartitions {
            ctx.set_timer(timer, i64::from(member.metadata.rebalance_timeout_ms));
        } else {
            ctx.timers.cancel(&timer);
        }
    }

    /// Writes what a changed pattern asks for: the topics of one that nobody subscribes to any more go, a new one is matched
    /// soon.
    fn change_pattern(&self, ctx: &mut Context<'_>, old: &Member, new: &Member) -> Result<PatternChange, ApiError> {
        if old.metadata.subscribed_topic_regex == new.metadata.subscribed_topic_regex {
            return Ok(PatternChange::None);
        }
        if let Some(pattern) = old.pattern()
            && self.state.patterns.get(pattern) == Some(&1)
        {
            ctx.write(records::pattern(&self.group_id, pattern, None));
        }
        let Some(pattern) = new.pattern() else {
            let left = old.pattern().is_some();
            return Ok(if left {
                PatternChange::Resolved
            } else {
                PatternChange::Unresolved
            });
        };
        if !self.state.patterns.contains_key(pattern) {
            patterns::check(ctx, pattern)?;
        } else if self.state.resolved.contains_key(pattern) {
            return Ok(PatternChange::Resolved);
        }
        self.refresh_patterns_soon(ctx);
        Ok(PatternChange::Unresolved)
    }

    /// When the member should come again. Kafka always says `group.consumer.heartbeat.interval.ms`, with which a group that
    /// rebalances takes a multiple of it; here a member that waits for something comes when it can be there.
    fn next_heartbeat_ms(&self, ctx: &Context<'_>, settings: &ConsumerGroupSettings, member: &Updating) -> i32 {
        let interval_ms = i64::from(settings.heartbeat_interval_ms);
        let due_ms = |timer: Timer| {
            let due = ctx.timers.due(&timer)?;
            Some(due.ms_since(ctx.now.mono) + 1)
        };
        let group_id = || Arc::clone(&self.group_id);
        let wait_ms = if member.target_epoch < member.epoch {
            due_ms(Timer::ConsumerAssignment(group_id()))
        } else if self.waits_for_pattern(&member.member) {
            due_ms(Timer::ConsumerPatterns(group_id()))
        } else if member.member.current.state == MemberState::UnreleasedPartitions {
            Some(interval_ms / 10)
        } else {
            None
        };
        let wait_ms = wait_ms.map_or(interval_ms, |wait_ms| {
            wait_ms.max(MIN_HEARTBEAT_INTERVAL_MS).min(interval_ms)
        });
        i32::try_from(wait_ms).unwrap_or(settings.heartbeat_interval_ms)
    }
}

/// A member after this step, and what it waits for.
pub(super) struct Updating {
    pub(super) member: Member,
    /// The group's epoch.
    epoch: i32,
    target_epoch: i32,
}

/// What became of a member's pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PatternChange {
    /// It did not change.
    None,
    /// It changed, and its topics are not known yet: the group's epoch goes up once they are.
    Unresolved,
    /// It changed to one whose topics are known, or to none.
    Resolved,
}

/// The request says all that a member says when it joins: it asks for its whole assignment.
fn is_full(request: &ConsumerGroupHeartbeat) -> bool {
    request.rebalance_timeout_ms != -1
        && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
        && request.topic_partitions.is_some()
}

/// What the member says of itself now; `None` when that did not change.
fn updated_metadata(member: &Member, request: &ConsumerGroupHeartbeat) -> Option<ConsumerGroupMemberMetadataValue> {
    let old = &member.metadata;
    let names = request.subscribed_topic_names.as_ref();
    let names = names.map(|names| sorted(names.iter().map(|name| &**name)));
    let stays = |new: &Option<Arc<str>>, old: &Option<String>| new.is_none() || new.as_deref() == old.as_deref();
    let timeout_ms = request.rebalance_timeout_ms;
    if stays(&request.instance_id, &old.instance_id)
        && stays(&request.rack_id, &old.rack_id)
        && (timeout_ms == -1 || timeout_ms == old.rebalance_timeout_ms)
        && stays(&request.server_assignor, &old.server_assignor)
        && names.as_ref().is_none_or(|names| *names == old.subscribed_topic_names)
        && stays(&request.subscribed_topic_regex, &old.subscribed_topic_regex)
        && *request.client_id == *old.client_id
        && *request.client_host == *old.client_host
        && !member.is_classic()
    {
        return None;
    }
    let updated = |new: &Option<Arc<str>>, old: &Option<String>| new.as_deref().map(str::to_owned).or(old.clone());
    Some(ConsumerGroupMemberMetadataValue {
        instance_id: updated(&request.instance_id, &old.instance_id),
        rack_id: updated(&request.rack_id, &old.rack_id),
        client_id: request.client_id.to_string(),
        client_host: request.client_host.to_string(),
        subscribed_topic_names: names.unwrap_or_else(|| old.subscribed_topic_names.clone()),
        subscribed_topic_regex: updated(&request.subscribed_topic_regex, &old.subscribed_topic_regex),
        rebalance_timeout_ms: if timeout_ms == -1 {
            old.rebalance_timeout_ms
        } else {
            timeout_ms
        },
        server_assignor: updated(&request.server_assignor, &old.server_assignor),
        classic_member_metadata: None,
        unknown_tagged_fields: Vec::new(),
    })
}

/// Topics' names as records hold them.
pub(super) fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A member id as Kafka makes them for those that have none.
pub(super) fn new_member_id(entropy: u128) -> Arc<str> {
    uuid_to_string(random_uuid(entropy)).into()
}
