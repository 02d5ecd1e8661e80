//! Members leave, or are taken out when they are silent or do not give partitions up in time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ConsumerGroup;
use super::member::{Current, LEAVE_STATIC_EPOCH, Member, MemberState, Owned};
use super::records;
use super::topics::SubscriptionChange;
use crate::error::ApiError;
use crate::groups::commands::{ConsumerGroupHeartbeat, ConsumerGroupHeartbeatReply};
use crate::groups::context::Context;
use crate::groups::events::{News, Removal};

impl ConsumerGroup {
    /// A member leaves, or a static one for a while: it keeps what it has until its session ends.
    pub(super) fn leave(
        &mut self,
        ctx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatReply, ApiError> {
        let member_id = &request.member_id;
        let member = match request.instance_id.as_deref() {
            None => self
                .state
                .members
                .get(member_id)
                .ok_or_else(|| self.unknown_member(member_id))?,
            Some(instance_id) => self.check_instance(instance_id, member_id)?,
        };
        if request.member_epoch == LEAVE_STATIC_EPOCH {
            let left = left_for_a_while(&member.current);
            ctx.write(records::current(&self.group_id, member_id, Some(&left)));
            ctx.tell(&self.group_id, News::LeftForAWhile(Arc::clone(member_id)));
        } else {
            ctx.tell(&self.group_id, News::Left(Arc::clone(member_id), None));
            self.fence(ctx, &[Arc::clone(member_id)]);
        }
        Ok(ConsumerGroupHeartbeatReply {
            member_id: Arc::clone(member_id),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// A member had time to give partitions up, or, of the classic protocol, to join or to sync.
    pub(super) fn on_rebalance_timer(&mut self, ctx: &mut Context<'_>, member_id: &Arc<str>) {
        let is_late = self.state.members.get(member_id).is_some_and(|member| {
            // The timer of a member that gave its partitions up was cancelled.
            member.is_classic() || member.current.state == MemberState::UnrevokedPartitions
        });
        if is_late {
            self.expel(ctx, member_id, Removal::RebalanceTimeout);
        }
    }

    /// Takes a member out that did not do its part.
    pub(super) fn expel(&mut self, ctx: &mut Context<'_>, member_id: &Arc<str>, removal: Removal) {
        if self.state.members.contains_key(member_id) {
            ctx.tell(&self.group_id, News::Removed(removal, vec![Arc::clone(member_id)]));
            self.fence(ctx, &[Arc::clone(member_id)]);
        }
    }

    /// Takes members out, those that are in the group. With the last one of the consumer protocol it may become a classic
    /// group.
    pub(super) fn fence(&mut self, ctx: &mut Context<'_>, member_ids: &[Arc<str>]) {
        let known = member_ids
            .iter()
            .filter(|member_id| self.state.members.contains_key(*member_id));
        let leavers: BTreeSet<Arc<str>> = known.cloned().collect();
        if leavers.is_empty() {
            return;
        }
        let may_downgrade = self.may_downgrade_without(ctx, &leavers);
        if !may_downgrade || self.downgrade(ctx, &leavers, None, true).is_none() {
            self.remove(ctx, &leavers);
        }
    }

    fn remove(&self, ctx: &mut Context<'_>, leavers: &BTreeSet<Arc<str>>) {
        let members: Vec<&Member> = leavers
            .iter()
            .filter_map(|member_id| self.state.members.get(member_id))
            .collect();
        for member_id in leavers {
            records::remove_member(&self.group_id, member_id, &mut ctx.effects.records);
        }
        let mut subscribers: BTreeMap<&str, usize> = BTreeMap::new();
        for pattern in members.iter().filter_map(|member| member.pattern()) {
            *subscribers.entry(pattern).or_default() += 1;
        }
        subscribers.retain(|pattern, count| self.state.patterns.get(*pattern) == Some(count));
        let patterns: BTreeSet<&str> = subscribers.into_keys().collect();
        for pattern in &patterns {
            ctx.write(records::pattern(&self.group_id, pattern, None));
        }
        let hash = self.hash_after(ctx, &SubscriptionChange::of_leavers(&self.state, &members, &patterns));
        let epoch = self.state.epoch.saturating_add(1);
        ctx.write(records::epoch(&self.group_id, Some((epoch, hash))));
        let reason = "members are gone";
        ctx.tell(&self.group_id, News::Epoch { epoch, reason });

        for member_id in leavers {
            ctx.timers.cancel(&self.session_timer(member_id));
            ctx.timers.cancel(&self.rebalance_timer(member_id));
        }
        if leavers.len() < self.state.members.len() {
            let settings = ctx.settings.consumer_group(ctx.image, &self.group_id);
            self.schedule_assignment(ctx, &settings);
        }
    }
}

/// What a static member has that left for a while: all it had and may keep, as if it had got it long ago, so that the
/// member which comes back in its place may commit offsets of it.
fn left_for_a_while(current: &Current) -> Current {
    Current {
        epoch: LEAVE_STATIC_EPOCH,
        previous_epoch: current.previous_epoch,
        state: current.state,
        assigned: current
            .assigned
            .iter()
            .map(|(topic, partitions)| (*topic, partitions.keys().map(|partition| (*partition, 0)).collect()))
            .collect(),
        pending_revocation: Owned::new(),
    }
}
