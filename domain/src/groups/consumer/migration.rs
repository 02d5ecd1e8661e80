//! Groups change their protocol while they run, as `group.consumer.migration.policy` allows: a classic group becomes a
//! consumer group with the first member of the consumer protocol, and a classic group again with the last one that leaves
//! (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::classic_members::classic_metadata;
use super::heartbeat::sorted;
use super::member::{Current, Member, MemberState, owned_since};
use super::topics::hash;
use super::{ConsumerGroup, check_size, records};
use crate::error::{ApiError, ErrorCode};
use crate::groups::assignors::Partitions;
use crate::groups::classic::{self, CONSUMER_PROTOCOL_TYPE, ClassicGroup, Protocols, Session};
use crate::groups::commands::{ConsumerGroupHeartbeat, ConsumerGroupHeartbeatReply};
use crate::groups::consumer_protocol::{self as protocol, MemberAssignment, Subscription};
use crate::groups::context::{Context, Timer};
use crate::groups::events::{News, Protocol};
use crate::groups::records::{ConsumerGroupMemberMetadataValue, GroupMetadataKey, GroupRecord};

impl ConsumerGroup {
    /// A member of the consumer protocol joins a classic group. Where that may become a consumer group, its waiting members
    /// are told to join again, and the caller puts the new group in its place before it applies the step's records. Those
    /// of the change itself are in it already; they may be applied twice.
    pub fn upgrade(
        ctx: &mut Context<'_>,
        classic: &mut ClassicGroup,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<(ConsumerGroup, ConsumerGroupHeartbeatReply), ApiError> {
        if request.member_epoch != 0 {
            let message = format!("Group {} is not a consumer group.", request.group_id);
            return Err(ErrorCode::GroupIdNotFound.with(message));
        }
        let mark = ctx.mark();
        ctx.tell(classic.group_id(), News::Converted(Protocol::Consumer));
        let upgraded = upgraded(ctx, classic).and_then(|mut group| {
            let reply = group.heartbeat(ctx, request)?;
            check_size(ctx, mark)?;
            Ok((group, reply))
        });
        if let Err(error) = &upgraded {
            ctx.undo(mark);
            ctx.tell(classic.group_id(), News::NotConverted(error.to_string()));
            return upgraded;
        }
        classic.give_up(ctx, ErrorCode::RebalanceInProgress);
        for member in classic.members().iter() {
            let timer = Timer::ConsumerSession(Arc::clone(classic.group_id()), Arc::clone(&member.member_id));
            ctx.set_timer(timer, i64::from(member.session_timeout_ms));
        }
        upgraded
    }

    /// The classic group that this one has become in the last step, to be put in its place before the step's records are
    /// applied.
    pub fn take_downgraded(&mut self) -> Option<Box<ClassicGroup>> {
        self.downgraded.take()
    }

    /// The group may become a classic one without these members: the others use the classic protocol.
    pub(super) fn may_downgrade_without(&self, ctx: &Context<'_>, leavers: &BTreeSet<Arc<str>>) -> bool {
        let leaving = leavers.iter().filter_map(|member_id| self.state.members.get(member_id));
        let staying = self.state.members.len() - leavers.len();
        let classic = self.state.classic_members - leaving.filter(|member| member.is_classic()).count();
        staying > 0
            && classic == staying
            && ctx.settings.consumer_migration_policy.allows_downgrade
            && staying <= ctx.settings.max_size
    }

    /// The group may become a classic one when a member of the classic protocol takes the place of this static member, the
    /// last one of the consumer protocol.
    pub(super) fn may_downgrade_for(&self, ctx: &Context<'_>, instance_id: &str) -> bool {
        let replaced = self.state.static_member(instance_id);
        replaced.is_some_and(|(_, member)| !member.is_classic())
            && self.state.classic_members + 1 == self.state.members.len()
            && ctx.settings.consumer_migration_policy.allows_downgrade
            && self.state.members.len() <= ctx.settings.max_size
    }

    /// Makes a classic group of the members but for those who leave; a static member that joins takes the place of the one
    /// that has its instance id. Returns the generation and the protocol; `None`, and nothing is done, when the group cannot
    /// be written.
    pub(super) fn downgrade(
        &mut self,
        ctx: &mut Context<'_>,
        leavers: &BTreeSet<Arc<str>>,
        joining: Option<(&Arc<str>, &Member)>,
        rebalance: bool,
    ) -> Option<(i32, Arc<str>)> {
        let joining_instance = joining.and_then(|(_, member)| member.metadata.instance_id.as_deref());
        let replaced = joining_instance.and_then(|instance_id| self.state.static_members.get(instance_id));
        let stays = |member_id: &Arc<str>| !leavers.contains(member_id) && Some(member_id) != replaced;
        let staying = self
            .state
            .members
            .iter()
            .filter(|(member_id, _)| stays(member_id))
            .chain(joining);
        let members: Vec<classic::Member> = staying.filter_map(|(id, member)| classic_member(id, member)).collect();
        let protocol_type = CONSUMER_PROTOCOL_TYPE.into();
        let group_id = Arc::clone(&self.group_id);
        let mut group = ClassicGroup::from_members(group_id, ctx.now, self.state.epoch, protocol_type, members)?;
        group.assign(|member, metadata| {
            let is_joining = joining.is_some_and(|(id, _)| *id == member.member_id);
            let holder = replaced.filter(|_| is_joining).unwrap_or(&member.member_id);
            let target = self.state.target.get(holder).unwrap_or(&Partitions::new()).clone();
            let version = protocol::version(metadata).unwrap_or(0);
            protocol::write_assignment(&target, version, ctx.image).unwrap_or_default()
        });
        let agreed = (group.generation_id(), group.protocol_name()?.clone());

        let mark = ctx.mark();
        records::remove_group(&self.group_id, &self.state, &mut ctx.effects.records);
        ctx.write(group.to_record());
        if check_size(ctx, mark).is_err() {
            ctx.undo(mark);
            return None;
        }
        ctx.tell(&self.group_id, News::Converted(Protocol::Classic));
        self.cancel_timers(ctx);
        group.loaded(ctx);
        if rebalance {
            group.prepare_rebalance(ctx, format_args!("its members have to learn what they read now"));
        }
        self.downgraded = Some(Box::new(group));
        Some(agreed)
    }
}

/// The consumer group that a classic group becomes: members have what they had, and are at the target that this is.
fn upgraded(ctx: &mut Context<'_>, classic: &ClassicGroup) -> Result<ConsumerGroup, ApiError> {
    let group_id = classic.group_id();
    let mut group = ConsumerGroup::new(Arc::clone(group_id));
    let mark = ctx.mark();
    let key = GroupMetadataKey {
        group: group_id.to_string(),
    };
    ctx.write(GroupRecord::GroupMetadata(key, None));
    if classic.is_empty() {
        return Ok(group);
    }
    check_upgrade(ctx, classic)?;

    let mut members = Vec::with_capacity(classic.members().len());
    let mut names = BTreeSet::new();
    let mut held = BTreeSet::new();
    for member in classic.members().iter() {
        let malformed = |_| not_upgraded(classic, "the embedded consumer protocol is malformed.");
        let assignment = MemberAssignment::read(&member.assignment).map_err(malformed)?;
        if !assignment.user_data.is_empty() {
            return Err(not_upgraded(
                classic,
                "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default \
                 assignor before re-attempting the upgrade.",
            ));
        }
        // No partition has two owners, whatever the leader made of it.
        let mut partitions = protocol::by_id(&assignment.partitions, ctx.image);
        partitions.retain(|topic, partitions| {
            partitions.retain(|partition| held.insert((*topic, *partition)));
            !partitions.is_empty()
        });
        // A group whose first rebalance has not ended has not chosen yet.
        let chosen = classic.protocol_name().and_then(|name| member.protocols.metadata(name));
        let metadata = chosen.or_else(|| member.protocols.iter().next().map(|(_, metadata)| metadata));
        let metadata = metadata.map_or(&[][..], |metadata| metadata);
        let subscription = Subscription::read(metadata).map_err(malformed)?;
        names.extend(subscription.topics.iter().copied());
        members.push((member, upgraded_metadata(member, &subscription), partitions));
    }

    let epoch = classic.generation_id();
    for (member, metadata, _) in &members {
        ctx.write(records::member(group_id, &member.member_id, Some(metadata.clone())));
    }
    ctx.write(records::epoch(
        group_id,
        Some((epoch, hash(ctx.image, names.into_iter()))),
    ));
    for (member, _, partitions) in &members {
        ctx.write(records::target(group_id, &member.member_id, Some(partitions)));
    }
    ctx.write(records::target_metadata(group_id, Some((epoch, 0))));
    for (member, _, partitions) in &members {
        let current = Current {
            epoch,
            previous_epoch: epoch,
            state: MemberState::Stable,
            assigned: owned_since(partitions, epoch),
            ..Current::default()
        };
        ctx.write(records::current(group_id, &member.member_id, Some(&current)));
    }
    for record in ctx.effects.records.iter().skip(mark.records) {
        group.apply(record);
    }
    group.is_hash_current = true;
    Ok(group)
}

fn check_upgrade(ctx: &Context<'_>, classic: &ClassicGroup) -> Result<(), ApiError> {
    if !ctx.settings.consumer_migration_policy.allows_upgrade {
        Err(not_upgraded(classic, "online upgrade is disabled."))
    } else if !classic.uses_consumer_protocol() {
        Err(not_upgraded(
            classic,
            "the group does not use the consumer embedded protocol.",
        ))
    } else if classic.members().len() > ctx.settings.consumer_max_size {
        Err(not_upgraded(
            classic,
            "the group size exceeds the consumer group maximum size.",
        ))
    } else {
        Ok(())
    }
}

fn not_upgraded(classic: &ClassicGroup, reason: &str) -> ApiError {
    ErrorCode::GroupIdNotFound.with(format!(
        "Cannot upgrade classic group {} to consumer group because {reason}",
        classic.group_id()
    ))
}

fn upgraded_metadata(member: &classic::Member, subscription: &Subscription<'_>) -> ConsumerGroupMemberMetadataValue {
    ConsumerGroupMemberMetadataValue {
        instance_id: member.group_instance_id.as_deref().map(str::to_owned),
        rack_id: subscription.rack_id.map(str::to_owned),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        subscribed_topic_names: sorted(subscription.topics.iter().copied()),
        subscribed_topic_regex: Some(String::new()),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: None,
        classic_member_metadata: Some(classic_metadata(member.session_timeout_ms, &member.protocols)),
        unknown_tagged_fields: Vec::new(),
    }
}

/// The member in a classic group; `None` for one that does not use the classic protocol.
fn classic_member(member_id: &Arc<str>, member: &Member) -> Option<classic::Member> {
    let metadata = &member.metadata;
    let classic = metadata.classic_member_metadata.as_ref()?;
    let protocols: Vec<_> = classic
        .supported_protocols
        .iter()
        .map(|protocol| (Arc::from(protocol.name.as_str()), protocol.metadata.clone()))
        .collect();
    Some(classic::Member {
        member_id: Arc::clone(member_id),
        group_instance_id: metadata.instance_id.as_deref().map(Arc::from),
        client_id: metadata.client_id.as_str().into(),
        client_host: metadata.client_host.as_str().into(),
        rebalance_timeout_ms: metadata.rebalance_timeout_ms,
        session_timeout_ms: classic.session_timeout_ms,
        protocols: Protocols::new(&protocols),
        assignment: bytes::Bytes::new(),
        session: Session::default(),
    })
}
