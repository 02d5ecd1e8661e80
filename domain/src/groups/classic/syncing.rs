//! SyncGroup: the leader brings the assignments, everyone else waits for them.

use std::collections::BTreeMap;
use std::slice;

use bytes::Bytes;

use super::{ClassicGroup, Member, Phase};
use crate::coordinator::Token;
use crate::error::ErrorCode;
use crate::groups::commands::{Reply, SyncGroup, Synced};
use crate::groups::context::{Context, fit_in_a_batch};
use crate::groups::events::{News, Removal};

impl ClassicGroup {
    /// A member asks for its assignment.
    pub fn sync(&mut self, ctx: &mut Context<'_>, request: SyncGroup, token: Token) {
        if let Err(error) = self.check_sync(&request) {
            return ctx.reply(token, Reply::SyncGroup(Synced::refused(error)));
        }
        let member_id = &request.member_id;
        self.members.sync(member_id);
        if self.members.have_synced() {
            ctx.timers.cancel(&self.sync_timer());
        }
        if self.phase == Phase::Stable {
            let assignment = self.members.get(member_id).map(|member| member.assignment.clone());
            return self.reply_synced(ctx, assignment.unwrap_or_default(), token);
        }
        if let Some(earlier) = self.members.wait_for_assignment(member_id, token) {
            let refused = Synced::refused(ErrorCode::RebalanceInProgress);
            ctx.reply(earlier, Reply::SyncGroup(refused));
        }
        if self.is_leader(member_id) {
            self.complete_rebalance(ctx, &request);
        }
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation.id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |theirs: &Option<_>, ours: &Option<_>| theirs.is_some() && theirs != ours;
        if differs(&request.protocol_type, &self.generation.protocol_type)
            || differs(&request.protocol_name, &self.generation.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
            Phase::Empty => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// The leader's assignments make the group stable; who waits gets what is its own, or nothing where the leader forgot it.
    fn complete_rebalance(&mut self, ctx: &mut Context<'_>, request: &SyncGroup) {
        // Copies, so that the frame of the request is not kept alive.
        let assignments = request
            .assignments
            .iter()
            .filter(|(member_id, _)| self.members.get(member_id).is_some());
        let assignments: BTreeMap<&str, Bytes> = assignments
            .map(|(member_id, assignment)| (&**member_id, Bytes::copy_from_slice(assignment)))
            .collect();
        let of = |member: &Member| assignments.get(&*member.member_id).cloned().unwrap_or_default();
        let since = self.generation.since.replace(ctx.now.timestamp);
        let record = self.record_with(of);
        if !fit_in_a_batch(slice::from_ref(&record), ctx.settings.record_max_bytes) {
            self.generation.since = since;
            self.members.assign(|_| Bytes::new());
            self.answer_syncs(ctx, ErrorCode::UnknownServerError);
            return self.prepare_rebalance(ctx, format_args!("the leader's assignments do not fit in the log"));
        }
        let members = self.members.len();
        let news = News::Stable {
            generation_id: self.generation.id,
            leader: request.member_id.clone(),
            members,
            forgotten: members - assignments.len(),
        };
        self.members.assign(of);
        self.enter(ctx.now, Phase::Stable);
        ctx.tell(&self.group_id, news);
        self.write(ctx, record);
        self.answer_syncs(ctx, ErrorCode::None);
    }

    /// Answers all that wait for an assignment and begins their sessions anew, which may have ended while they waited.
    pub(super) fn answer_syncs(&mut self, ctx: &mut Context<'_>, error: ErrorCode) {
        for waiting in self.members.take_syncs() {
            ctx.set_timer(
                self.member_timer(&waiting.member_id),
                i64::from(waiting.session_timeout_ms),
            );
            let Some(token) = waiting.token else {
                continue;
            };
            if error == ErrorCode::None {
                self.reply_synced(ctx, waiting.assignment, token);
            } else {
                ctx.reply(token, Reply::SyncGroup(Synced::refused(error)));
            }
        }
    }

    fn reply_synced(&self, ctx: &mut Context<'_>, assignment: Bytes, token: Token) {
        let synced = Synced {
            error: ErrorCode::None,
            protocol_type: self.generation.protocol_type.clone(),
            protocol_name: self.generation.protocol_name.clone(),
            assignment,
        };
        ctx.reply(token, Reply::SyncGroup(synced));
    }

    /// The time for syncing is over: those that did not ask for their assignment are out.
    pub(super) fn end_syncing(&mut self, ctx: &mut Context<'_>) {
        let is_waiting = matches!(self.phase, Phase::CompletingRebalance | Phase::Stable);
        if !is_waiting || self.members.have_synced() {
            return;
        }
        let late = self.members.owing_sync();
        ctx.tell(&self.group_id, News::Removed(Removal::SyncTimeout, late.clone()));
        for member_id in late {
            self.remove_member(ctx, &member_id);
        }
        self.prepare_rebalance(ctx, format_args!("members did not ask for their assignment"));
    }
}
