//! Heartbeat, OffsetCommit as a sign of life, and the end of sessions.

use std::sync::Arc;

use super::{ClassicGroup, Phase};
use crate::error::ErrorCode;
use crate::groups::commands::{Heartbeat, OffsetCommit};
use crate::groups::context::Context;
use crate::groups::events::{News, Removal, Shown};

impl ClassicGroup {
    /// A member lives. REBALANCE_IN_PROGRESS asks it to join again.
    pub fn heartbeat(&mut self, ctx: &mut Context<'_>, request: &Heartbeat) -> ErrorCode {
        let member = match self.check_member(&request.member_id, request.group_instance_id.as_ref()) {
            Ok(member) => member,
            Err(error) => return error,
        };
        if request.generation_id != self.generation.id {
            return ErrorCode::IllegalGeneration;
        }
        self.renew_session(ctx, member);
        match self.phase {
            Phase::PreparingRebalance(_) => ErrorCode::RebalanceInProgress,
            _ => ErrorCode::None,
        }
    }

    /// What is wrong with a commit by its sender. A negative generation is outside of the group's protocol: an administrator or
    /// a consumer that assigns its partitions itself, who may commit while the group has no members. A member's commit
    /// counts as a heartbeat, and is refused while it should ask for its assignment.
    pub fn check_commit(&mut self, ctx: &mut Context<'_>, request: &OffsetCommit) -> Result<(), ErrorCode> {
        let generation_id = request.generation_id_or_member_epoch;
        if generation_id < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        if generation_id < 0 && request.member_id.is_empty() && request.group_instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        let member = self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if generation_id != self.generation.id {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.phase == Phase::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.renew_session(ctx, member);
        Ok(())
    }

    /// A member was silent, or did not come back with the id that it was given.
    pub(super) fn expire_session(&mut self, ctx: &mut Context<'_>, member_id: &Arc<str>) {
        let removed = |removal| News::Removed(removal, vec![Arc::clone(member_id)]);
        if self.remove_pending(ctx, member_id) {
            ctx.tell(&self.group_id, removed(Removal::NeverJoined));
        } else {
            let is_silent = self
                .members
                .get(member_id)
                .is_some_and(|member| !member.needs_no_heartbeat());
            if !is_silent {
                return;
            }
            ctx.tell(&self.group_id, removed(Removal::SessionTimeout));
            self.remove_member(ctx, member_id);
            if matches!(self.phase, Phase::CompletingRebalance | Phase::Stable) {
                let member_id = Shown(member_id);
                return self.prepare_rebalance(ctx, format_args!("member {member_id} was silent"));
            }
        }
        if matches!(self.phase, Phase::PreparingRebalance(_)) && self.have_all_joined() {
            self.complete_join(ctx);
        }
    }
}
