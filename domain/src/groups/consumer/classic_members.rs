//! Members of the classic protocol in a consumer group, while it is migrated. The group assigns to them as to others; what it
//! tells others in heartbeats they learn by joining again and asking for their assignment.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::member::{Current, Member, MemberState, partitions};
use super::static_members::Sender;
use super::{ConsumerGroup, check_size, heartbeat};
use crate::error::{ApiError, ErrorCode};
use crate::groups::classic::{CONSUMER_PROTOCOL_TYPE, Protocols};
use crate::groups::commands::{Heartbeat, JoinGroup, Joined, LeaveGroup, Left, SyncGroup, Synced};
use crate::groups::consumer_protocol::{self as protocol, Subscription};
use crate::groups::context::{Context, Mark};
use crate::groups::events::{ClientReason, News};
use crate::groups::records::{ClassicMemberMetadata, ClassicProtocol, ConsumerGroupMemberMetadataValue};

impl ConsumerGroup {
    /// A member of the classic protocol joins this group, which is not empty, or joins again. It is told that another one
    /// leads, as nobody has to assign.
    pub fn classic_join(&mut self, ctx: &mut Context<'_>, request: &JoinGroup) -> Joined {
        let mark = ctx.mark();
        let was_hash_current = self.is_hash_current;
        let joined = self.try_classic_join(ctx, request, mark);
        let joined = joined.and_then(|joined| check_size(ctx, mark).map(|()| joined));
        joined.unwrap_or_else(|error| {
            ctx.undo(mark);
            self.is_hash_current = was_hash_current;
            self.downgraded = None;
            Joined::refused(error.code, Arc::default())
        })
    }

    fn try_classic_join(&mut self, ctx: &mut Context<'_>, request: &JoinGroup, mark: Mark) -> Result<Joined, ApiError> {
        let policy = ctx.settings.consumer_migration_policy;
        if !policy.allows_upgrade && !policy.allows_downgrade {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        let is_unknown = request.member_id.is_empty();
        let member_id = match self.state.members.get_key_value(&request.member_id) {
            Some((known, _)) => Arc::clone(known),
            None if is_unknown => heartbeat::new_member_id(ctx.entropy),
            None => Arc::clone(&request.member_id),
        };
        self.check_room(ctx.settings.consumer_max_size, &member_id)?;
        let protocols = Protocols::new(&request.protocols);
        let Some((protocol, metadata)) = protocols.iter().next().filter(|_| self.supports(request, &protocols)) else {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        };
        if is_unknown && request.group_instance_id.is_none() && request.requires_known_member_id {
            return Ok(Joined::refused(ErrorCode::MemberIdRequired, member_id));
        }

        let instance_id = request.group_instance_id.as_deref();
        let sender = Sender {
            member_id: &member_id,
            instance_id,
            joins: instance_id.is_none() || is_unknown,
            consumer: None,
        };
        let old = match self.find_or_subscribe(ctx, &sender)? {
            Some(member) => member,
            None => self.state.members.get(&member_id).cloned().unwrap_or_default(),
        };
        // All protocols have the same subscription, as in Kafka.
        let subscription = Subscription::read(metadata).map_err(|error| {
            ErrorCode::UnknownServerError.with(format!("The subscription of a member cannot be read: {error}"))
        })?;
        let metadata = joined_metadata(&old, request, &subscription, &protocols);
        let changed = (metadata != old.metadata).then(|| metadata.clone());

        if let Some(instance_id) = instance_id
            && self.may_downgrade_for(ctx, instance_id)
        {
            // What was written about the member so far is of a group that is no more.
            let joining = Member {
                metadata,
                current: old.current.clone(),
            };
            let rebalance = old.metadata.subscribed_topic_names != joining.metadata.subscribed_topic_names
                || old.pattern().is_some()
                || !self.is_hash_current
                || self.state.target_epoch < self.state.epoch;
            let written = ctx.effects.records.split_off(mark.records);
            if let Some((generation_id, protocol)) =
                self.downgrade(ctx, &BTreeSet::new(), Some((&member_id, &joining)), rebalance)
            {
                return Ok(joined(member_id, generation_id, protocol));
            }
            ctx.effects.records.extend(written);
        }

        let settings = ctx.settings.consumer_group(ctx.image, &self.group_id);
        let owned = protocol::owned(&subscription, ctx.image);
        let updated = self.update(ctx, &settings, &member_id, &old, changed, Some(&owned))?;
        ctx.set_timer(self.session_timer(&member_id), i64::from(request.session_timeout_ms));
        // It has joined, and has to ask for its assignment in time.
        ctx.set_timer(
            self.rebalance_timer(&member_id),
            i64::from(request.rebalance_timeout_ms),
        );
        Ok(joined(member_id, updated.member.current.epoch, Arc::clone(protocol)))
    }

    /// Some protocol is supported by all members of the classic protocol.
    fn supports(&self, request: &JoinGroup, protocols: &Protocols) -> bool {
        let supporters = |name: &Arc<str>| self.state.classic_protocols.get(name).copied().unwrap_or(0);
        *request.protocol_type == *CONSUMER_PROTOCOL_TYPE
            && protocols
                .iter()
                .any(|(name, _)| supporters(name) == self.state.classic_members)
    }

    /// A member of the classic protocol asks for its assignment.
    pub fn classic_sync(&mut self, ctx: &mut Context<'_>, request: &SyncGroup) -> Synced {
        self.try_classic_sync(ctx, request).unwrap_or_else(Synced::refused)
    }

    fn try_classic_sync(&mut self, ctx: &mut Context<'_>, request: &SyncGroup) -> Result<Synced, ErrorCode> {
        let member_id = &request.member_id;
        let (member, classic) =
            self.classic_member(member_id, request.group_instance_id.as_deref(), request.generation_id)?;
        let protocol = classic.supported_protocols.first();
        let is_other_type = request
            .protocol_type
            .as_deref()
            .is_some_and(|name| name != CONSUMER_PROTOCOL_TYPE);
        let is_other_protocol = request
            .protocol_name
            .as_deref()
            .is_some_and(|name| protocol.is_none_or(|protocol| *protocol.name != *name));
        if is_other_type || is_other_protocol {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let current = &member.current;
        if self.state.target_epoch > current.epoch && current.state != MemberState::UnrevokedPartitions {
            self.expect_join(ctx, member_id, member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let version = protocol.map_or(Ok(0), |protocol| protocol::version(&protocol.metadata));
        let assignment = version
            .ok()
            .and_then(|version| protocol::write_assignment(&partitions(&current.assigned), version, ctx.image).ok());
        let assignment = assignment.ok_or(ErrorCode::UnknownServerError)?;
        ctx.timers.cancel(&self.rebalance_timer(member_id));
        ctx.set_timer(self.session_timer(member_id), i64::from(classic.session_timeout_ms));
        Ok(Synced {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
        })
    }

    /// A member of the classic protocol lives. It is told to join again when there is a target assignment that it does not
    /// know, when it has partitions to give up, and when partitions that it waits for are free.
    pub fn classic_heartbeat(&mut self, ctx: &mut Context<'_>, request: &Heartbeat) -> ErrorCode {
        let member_id = &request.member_id;
        let found = self.classic_member(member_id, request.group_instance_id.as_deref(), request.generation_id);
        let (member, classic) = match found {
            Ok(found) => found,
            Err(error) => return error,
        };
        ctx.set_timer(self.session_timer(member_id), i64::from(classic.session_timeout_ms));
        let current = &member.current;
        let joins_again = current.epoch < self.state.target_epoch
            || current.state == MemberState::UnrevokedPartitions
            || current.state == MemberState::UnreleasedPartitions && !self.waits_for_partitions(member_id, current);
        if !joins_again {
            return ErrorCode::None;
        }
        self.expect_join(ctx, member_id, member);
        ErrorCode::RebalanceInProgress
    }

    /// Members are taken out, be they of the classic protocol or not: an administrator may remove any.
    pub fn classic_leave(&mut self, ctx: &mut Context<'_>, request: &LeaveGroup) -> Left {
        let mut leavers = BTreeSet::new();
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in &request.members {
            let error = match self.leaver(&leaving.member_id, leaving.group_instance_id.as_deref()) {
                Ok(member_id) => {
                    // Told once, however often a request names it.
                    if leavers.insert(Arc::clone(&member_id)) {
                        let reason = ClientReason::of(leaving.reason.as_deref());
                        ctx.tell(&self.group_id, News::Left(member_id, reason));
                    }
                    ErrorCode::None
                }
                Err(error) => error,
            };
            members.push((Arc::clone(&leaving.member_id), leaving.group_instance_id.clone(), error));
        }
        self.fence(ctx, &leavers.into_iter().collect::<Vec<_>>());
        Left {
            error: ErrorCode::None,
            members,
        }
    }

    /// Who is meant: an administrator may name static members by their instance ids alone.
    fn leaver(&self, member_id: &str, instance_id: Option<&str>) -> Result<Arc<str>, ErrorCode> {
        let known = match instance_id {
            None => self.state.members.get_key_value(member_id),
            Some(instance_id) => self.state.static_member(instance_id),
        };
        let (known_id, _) = known.ok_or(ErrorCode::UnknownMemberId)?;
        if instance_id.is_some() && !member_id.is_empty() && **known_id != *member_id {
            return Err(ErrorCode::FencedInstanceId);
        }
        Ok(Arc::clone(known_id))
    }

    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation_id: i32,
    ) -> Result<(&Member, &ClassicMemberMetadata), ErrorCode> {
        let member = match instance_id {
            None => self.state.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?,
            Some(instance_id) => self
                .check_instance(instance_id, member_id)
                .map_err(|error| error.code)?,
        };
        let classic = member
            .metadata
            .classic_member_metadata
            .as_ref()
            .ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch != generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok((member, classic))
    }

    /// The member has to join within its rebalance timeout, unless such a time runs already.
    fn expect_join(&self, ctx: &mut Context<'_>, member_id: &Arc<str>, member: &Member) {
        let timer = self.rebalance_timer(member_id);
        if ctx.timers.due(&timer).is_none() {
            ctx.set_timer(timer, i64::from(member.metadata.rebalance_timeout_ms));
        }
    }

    /// The member waits for a partition that another one still holds.
    fn waits_for_partitions(&self, member_id: &str, current: &Current) -> bool {
        self.state
            .target
            .get(member_id)
            .into_iter()
            .flatten()
            .any(|(topic, partitions)| {
                let assigned = current.assigned.get(topic);
                partitions.iter().any(|partition| {
                    let has_it = assigned.is_some_and(|assigned| assigned.contains_key(partition));
                    !has_it && self.state.is_held(*topic, *partition)
                })
            })
    }
}

fn joined(member_id: Arc<str>, generation_id: i32, protocol_name: Arc<str>) -> Joined {
    Joined {
        error: ErrorCode::None,
        generation_id,
        protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
        protocol_name: Some(protocol_name),
        leader: Arc::default(),
        skip_assignment: false,
        member_id,
        members: Vec::new(),
    }
}

/// What a member of the classic protocol says of itself.
fn joined_metadata(
    old: &Member,
    request: &JoinGroup,
    subscription: &Subscription<'_>,
    protocols: &Protocols,
) -> ConsumerGroupMemberMetadataValue {
    let old = &old.metadata;
    let instance_id = request.group_instance_id.as_deref().map(str::to_owned);
    ConsumerGroupMemberMetadataValue {
        instance_id: instance_id.or_else(|| old.instance_id.clone()),
        rack_id: subscription.rack_id.map(str::to_owned).or_else(|| old.rack_id.clone()),
        client_id: request.client_id.to_string(),
        client_host: request.client_host.to_string(),
        subscribed_topic_names: heartbeat::sorted(subscription.topics.iter().copied()),
        subscribed_topic_regex: Some(String::new()),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => old.rebalance_timeout_ms,
            timeout_ms => timeout_ms,
        },
        server_assignor: old.server_assignor.clone(),
        classic_member_metadata: Some(classic_metadata(request.session_timeout_ms, protocols)),
        unknown_tagged_fields: Vec::new(),
    }
}

/// What a record keeps of a member's classic protocol.
pub(super) fn classic_metadata(session_timeout_ms: i32, protocols: &Protocols) -> ClassicMemberMetadata {
    let protocol = |(name, metadata): (&Arc<str>, &bytes::Bytes)| ClassicProtocol {
        name: name.to_string(),
        metadata: metadata.clone(),
        unknown_tagged_fields: Vec::new(),
    };
    ClassicMemberMetadata {
        session_timeout_ms,
        supported_protocols: protocols.iter().map(protocol).collect(),
        unknown_tagged_fields: Vec::new(),
    }
}
