//! Consumer groups: members keep themselves alive with heartbeats, the coordinator assigns the partitions and brings each
//! member to its assignment one by one (KIP-848).
//!
//! Three epochs drive a group. The group's goes up with each change of members, subscriptions or topics. The target
//! assignment has the group's epoch that it was made for. A member's epoch is that of the target that it was last brought
//! to: it goes up only after the member gave up what is not in the target, and nothing is given to it that another member
//! still holds.

use std::sync::Arc;

use crate::error::{ApiError, ErrorCode};
use crate::groups::classic::ClassicGroup;
use crate::groups::context::{Context, Mark, Timer, fit_in_a_batch};
use crate::groups::events::Removal;
use crate::groups::records::GroupRecord;

mod classic_members;
mod describe;
mod heartbeat;
mod leaving;
mod member;
mod migration;
mod offsets;
mod patterns;
mod reconciliation;
mod records;
mod state;
mod static_members;
mod target;
mod topics;
mod xxh3;

#[cfg(test)]
pub(super) mod tests;

pub use heartbeat::{check_heartbeat, subscription_bytes};
pub use offsets::CommitCheck;

use member::MemberState;
use state::State;

/// A consumer group.
#[derive(Debug)]
pub struct ConsumerGroup {
    group_id: Arc<str>,
    state: State,
    /// The stored hash is that of the subscribed topics as they are in the newest image. Soft state.
    is_hash_current: bool,
    /// What the group has become in this step.
    downgraded: Option<Box<ClassicGroup>>,
}

impl ConsumerGroup {
    /// A group without members, before its first record.
    pub fn new(group_id: Arc<str>) -> Self {
        ConsumerGroup {
            group_id,
            state: State::default(),
            is_hash_current: false,
            downgraded: None,
        }
    }

    /// Takes over one of the group's records: the only way in which hard state changes. The record that removes the whole
    /// group is the caller's to act on.
    pub fn apply(&mut self, record: &GroupRecord) {
        self.state.apply(record);
    }

    /// All records were applied: gives every member a whole session, and time to give partitions up.
    pub fn loaded(&mut self, ctx: &mut Context<'_>) {
        let settings = ctx.settings.consumer_group(ctx.image, &self.group_id);
        for (member_id, member) in &self.state.members {
            let classic = member.metadata.classic_member_metadata.as_ref();
            let timeout_ms = classic.map_or(settings.session_timeout_ms, |classic| classic.session_timeout_ms);
            ctx.set_timer(self.session_timer(member_id), i64::from(timeout_ms));
            if member.current.state == MemberState::UnrevokedPartitions {
                let timeout_ms = member.metadata.rebalance_timeout_ms;
                ctx.set_timer(self.rebalance_timer(member_id), i64::from(timeout_ms));
            }
        }
        self.load_patterns(ctx);
        if !self.state.members.is_empty() && self.state.target_epoch < self.state.epoch {
            self.schedule_assignment(ctx, &settings);
        }
    }

    /// A topic that the group subscribes to was created, changed or deleted. It is looked at with the next heartbeat, as in
    /// Kafka.
    pub fn on_topic_change(&mut self) {
        self.is_hash_current = false;
    }

    /// One of the group's timers is due. Those of members that are gone or came to life again mean nothing any more.
    pub fn on_timer(&mut self, ctx: &mut Context<'_>, timer: &Timer) {
        let mark = ctx.mark();
        let was_hash_current = self.is_hash_current;
        match timer {
            Timer::ConsumerSession(_, member_id) => self.expel(ctx, member_id, Removal::SessionTimeout),
            Timer::ConsumerRebalance(_, member_id) => self.on_rebalance_timer(ctx, member_id),
            Timer::ConsumerAssignment(_) => self.on_assignment_timer(ctx),
            Timer::ConsumerPatterns(_) => self.refresh_patterns(ctx),
            Timer::ClassicMember(..) | Timer::ClassicJoin(_) | Timer::ClassicSync(_) | Timer::OffsetExpiration => {}
        }
        // What does not fit is not done. Nobody is told but those who come with heartbeats.
        if check_size(ctx, mark).is_err() {
            ctx.undo(mark);
            self.is_hash_current = was_hash_current;
            self.downgraded = None;
        }
    }

    fn cancel_timers(&self, ctx: &mut Context<'_>) {
        for member_id in self.state.members.keys() {
            ctx.timers.cancel(&self.session_timer(member_id));
            ctx.timers.cancel(&self.rebalance_timer(member_id));
        }
        ctx.timers.cancel(&Timer::ConsumerAssignment(self.group_id.clone()));
        ctx.timers.cancel(&Timer::ConsumerPatterns(self.group_id.clone()));
    }

    fn session_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::ConsumerSession(Arc::clone(&self.group_id), Arc::clone(member_id))
    }

    fn rebalance_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::ConsumerRebalance(Arc::clone(&self.group_id), Arc::clone(member_id))
    }
}

/// Refuses records of this step, those from `mark` on, that the log would not take as one batch.
fn check_size(ctx: &Context<'_>, mark: Mark) -> Result<(), ApiError> {
    let records = ctx.effects.records.get(mark.records..).unwrap_or_default();
    let limit_bytes = ctx.settings.record_max_bytes;
    if fit_in_a_batch(records, limit_bytes) {
        return Ok(());
    }
    Err(ErrorCode::UnknownServerError.with(format!(
        "The group's records would take more than the {limit_bytes} bytes that the log of the groups takes at once."
    )))
}
