//! LeaveGroup.

use std::sync::Arc;

use super::{ClassicGroup, Phase};
use crate::error::ErrorCode;
use crate::groups::commands::{LeaveGroup, LeavingMember, Left};
use crate::groups::context::Context;
use crate::groups::events::{ClientReason, News};

impl ClassicGroup {
    /// Members leave, or an administrator takes them out, static ones by their instance ids alone (KIP-345).
    pub fn leave(&mut self, ctx: &mut Context<'_>, request: &LeaveGroup) -> Left {
        let count = self.members.len();
        let mut members = Vec::with_capacity(request.members.len());
        for member in &request.members {
            let error = self.leave_one(ctx, member).err().unwrap_or(ErrorCode::None);
            members.push((member.member_id.clone(), member.group_instance_id.clone(), error));
        }
        match self.phase {
            // An id that was only given away takes nothing with it.
            Phase::CompletingRebalance | Phase::Stable if self.members.len() < count => {
                let left = count - self.members.len();
                self.prepare_rebalance(ctx, format_args!("{left} members left"));
            }
            _ => self.maybe_complete_join(ctx),
        }
        Left {
            error: ErrorCode::None,
            members,
        }
    }

    fn leave_one(&mut self, ctx: &mut Context<'_>, member: &LeavingMember) -> Result<(), ErrorCode> {
        let instance = member.group_instance_id.as_ref();
        let member_id = if member.member_id.is_empty() {
            let member_id = instance.and_then(|instance| self.members.static_id(instance));
            member_id.ok_or(ErrorCode::UnknownMemberId)?.clone()
        } else if self.remove_pending(ctx, &member.member_id) {
            member.member_id.clone()
        } else {
            self.check_member(&member.member_id, instance)?.member_id.clone()
        };
        let reason = ClientReason::of(member.reason.as_deref());
        ctx.tell(&self.group_id, News::Left(Arc::clone(&member_id), reason));
        self.remove_member(ctx, &member_id);
        Ok(())
    }
}
