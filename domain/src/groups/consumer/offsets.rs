//! What committing, reading and deleting offsets asks of a consumer group.

use std::sync::Arc;

use super::member::Member;
use super::{ConsumerGroup, records};
use crate::error::ErrorCode;
use crate::groups::commands::OffsetCommit;
use crate::groups::context::Context;
use crate::ids::{PartitionId, TopicId};

/// What a member that may commit may commit.
#[derive(Clone, Copy, Debug)]
pub struct CommitCheck<'a>(Option<Outdated<'a>>);

/// A member that commits with an epoch before its own.
#[derive(Clone, Copy, Debug)]
struct Outdated<'a> {
    member: &'a Member,
    epoch: i32,
}

impl CommitCheck<'_> {
    /// A member with an outdated epoch may commit what it has held since that epoch or before (KIP-1251).
    pub fn partition(&self, topic: TopicId, partition: PartitionId) -> Result<(), ErrorCode> {
        let Some(Outdated { member, epoch }) = self.0 else {
            return Ok(());
        };
        let current = &member.current;
        let since = [&current.assigned, &current.pending_revocation]
            .into_iter()
            .find_map(|owned| owned.get(&topic)?.get(&partition));
        match since {
            Some(since) if *since <= epoch => Ok(()),
            _ => Err(stale(member)),
        }
    }
}

/// The error of an epoch that is not the member's.
fn stale(member: &Member) -> ErrorCode {
    if member.is_classic() {
        ErrorCode::IllegalGeneration
    } else {
        ErrorCode::StaleMemberEpoch
    }
}

impl ConsumerGroup {
    /// Who may commit offsets: members with their epochs, anyone while the group is empty.
    pub fn check_commit(&self, commit: &OffsetCommit) -> Result<CommitCheck<'_>, ErrorCode> {
        let epoch = commit.generation_id_or_member_epoch;
        if epoch < 0 && self.is_empty() {
            return Ok(CommitCheck(None));
        }
        let member = self
            .state
            .members
            .get(&commit.member_id)
            .ok_or(ErrorCode::UnknownMemberId)?;
        if !member.is_classic() && !commit.knows_member_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match epoch.cmp(&member.current.epoch) {
            std::cmp::Ordering::Equal => Ok(CommitCheck(None)),
            std::cmp::Ordering::Greater => Err(stale(member)),
            std::cmp::Ordering::Less => Ok(CommitCheck(Some(Outdated { member, epoch }))),
        }
    }

    /// Who may read offsets: members with their epochs, and whoever does not say who it is.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id else {
            return if epoch < 0 {
                Ok(())
            } else {
                Err(ErrorCode::UnknownMemberId)
            };
        };
        let member = self.state.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == epoch {
            Ok(())
        } else {
            Err(stale(member))
        }
    }

    /// Only an empty group may be deleted.
    pub fn check_delete(&self) -> Result<(), ErrorCode> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(ErrorCode::NonEmptyGroup)
        }
    }

    /// Writes the tombstones of the whole group.
    pub fn delete(&self, ctx: &mut Context<'_>) {
        records::remove_group(&self.group_id, &self.state, &mut ctx.effects.records);
        self.cancel_timers(ctx);
    }

    /// The topics that members or patterns subscribe to.
    pub fn subscribed_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.state.subscriptions.keys()
    }

    /// Takes the topics that the group has begun or ceased to subscribe to since the last call.
    pub fn take_turned_topics(&mut self) -> Vec<Arc<str>> {
        self.state.subscriptions.take_turned()
    }

    /// A member or a pattern subscribes to the topic: its offsets neither expire nor may be deleted.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.state.subscriptions.contains_key(topic)
    }
}
