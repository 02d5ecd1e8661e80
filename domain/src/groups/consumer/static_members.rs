//! Who sends a heartbeat: static members are known by their instance ids and may come back under other member ids
//! (KIP-345).

use std::sync::Arc;

use super::ConsumerGroup;
use super::member::{LEAVE_STATIC_EPOCH, Member};
use super::records;
use crate::error::{ApiError, ErrorCode};
use crate::groups::commands::Assignment;
use crate::groups::context::Context;
use crate::groups::events::{News, Protocol};

/// Who sends a heartbeat or a JoinGroup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'a> {
    pub(super) member_id: &'a Arc<str>,
    pub(super) instance_id: Option<&'a str>,
    /// It may be a new member.
    pub(super) joins: bool,
    /// Of the consumer protocol: the epoch that it knows, and what it says that it has.
    pub(super) consumer: Option<(i32, Option<&'a Assignment>)>,
}

impl Sender<'_> {
    fn check_epoch(&self, member: &Member) -> Result<(), ApiError> {
        self.consumer
            .map_or(Ok(()), |(epoch, owned)| check_epoch(member, epoch, owned))
    }
}

impl ConsumerGroup {
    /// Checks that the sender may be this member. Returns what a new member is before its first heartbeat: nothing, or what
    /// the static member was whose place it takes; `None` for a member that is in the group.
    pub(super) fn find_or_subscribe(
        &self,
        ctx: &mut Context<'_>,
        sender: &Sender<'_>,
    ) -> Result<Option<Member>, ApiError> {
        let Sender { member_id, joins, .. } = *sender;
        let Some(instance_id) = sender.instance_id else {
            return match self.state.members.get(member_id) {
                Some(member) => {
                    sender.check_epoch(member)?;
                    Ok(None)
                }
                None if joins => Ok(Some(self.tell_of(ctx, sender))),
                None => Err(self.unknown_member(member_id)),
            };
        };
        match self.state.static_member(instance_id) {
            None if joins => Ok(match self.state.members.contains_key(member_id) {
                true => None,
                false => Some(self.tell_of(ctx, sender)),
            }),
            Some((_, member))
                if joins
                    && sender.consumer.is_some()
                    && !member.is_classic()
                    && member.current.epoch != LEAVE_STATIC_EPOCH =>
            {
                Err(self.unreleased(instance_id, member_id))
            }
            Some(_) if joins => Ok(self.replace(ctx, instance_id, member_id)),
            _ => {
                let member = self.check_instance(instance_id, member_id)?;
                sender.check_epoch(member)?;
                Ok(None)
            }
        }
    }

    /// A new member, which operators are told of.
    fn tell_of(&self, ctx: &mut Context<'_>, sender: &Sender<'_>) -> Member {
        let news = News::Joined {
            member_id: Arc::clone(sender.member_id),
            instance_id: sender.instance_id.map(Arc::from),
            protocol: match sender.consumer {
                Some(_) => Protocol::Consumer,
                None => Protocol::Classic,
            },
        };
        ctx.tell(&self.group_id, news);
        Member::default()
    }

    /// Gives the place of a static member to another member id: what it had and should have goes with it.
    pub(super) fn replace(&self, ctx: &mut Context<'_>, instance_id: &str, member_id: &Arc<str>) -> Option<Member> {
        let (old_id, old) = self.state.static_member(instance_id)?;
        let news = News::Replaced {
            instance_id: instance_id.into(),
            former_id: Arc::clone(old_id),
            member_id: Arc::clone(member_id),
        };
        ctx.tell(&self.group_id, news);
        let mut new = old.clone();
        new.current.epoch = 0;
        new.current.previous_epoch = 0;
        let group_id = &self.group_id;
        let target = self.state.target.get(old_id).cloned().unwrap_or_default();
        records::remove_member(group_id, old_id, &mut ctx.effects.records);
        ctx.write(records::member(group_id, member_id, Some(new.metadata.clone())));
        ctx.write(records::target(group_id, member_id, Some(&target)));
        ctx.write(records::current(group_id, member_id, Some(&new.current)));
        Some(new)
    }

    /// The static member with this instance id, if its member id is this one.
    pub(super) fn check_instance(&self, instance_id: &str, member_id: &str) -> Result<&Member, ApiError> {
        let Some((owner, member)) = self.state.static_member(instance_id) else {
            return Err(ErrorCode::UnknownMemberId.with(format!("Instance id {instance_id} is unknown.")));
        };
        if **owner != *member_id {
            return Err(ErrorCode::FencedInstanceId.with(format!(
                "Static member {member_id} with instance id {instance_id} was fenced by member {owner}."
            )));
        }
        Ok(member)
    }

    pub(super) fn unknown_member(&self, member_id: &str) -> ApiError {
        ErrorCode::UnknownMemberId.with(format!(
            "Member {member_id} is not a member of group {}.",
            self.group_id
        ))
    }

    fn unreleased(&self, instance_id: &str, member_id: &str) -> ApiError {
        let owner = self.state.static_members.get(instance_id).map_or("", |owner| owner);
        ErrorCode::UnreleasedInstanceId.with(format!(
            "Static member {member_id} with instance id {instance_id} cannot join the group because the instance id is \
             owned by {owner} member."
        ))
    }
}

/// The member's epoch is the one that the group knows; or the one before, when the answer with the new one may have been
/// lost: then the member has nothing that it should not have.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Assignment>) -> Result<(), ApiError> {
    let known = member.current.epoch;
    // A member that was fenced joins again with 0.
    if epoch == 0 || epoch == known {
        return Ok(());
    }
    let has_no_other = || {
        owned.is_some_and(|owned| {
            owned.iter().all(|(topic, partitions)| {
                let assigned = member.current.assigned.get(topic);
                assigned.is_some_and(|assigned| partitions.iter().all(|partition| assigned.contains_key(partition)))
            })
        })
    };
    if epoch < known && epoch == member.current.previous_epoch && has_no_other() {
        return Ok(());
    }
    let order = if epoch > known { "greater" } else { "smaller" };
    Err(ErrorCode::FencedMemberEpoch.with(format!(
        "The consumer group member has a {order} member epoch ({epoch}) than the one known by the group coordinator \
         ({known}). The member must abandon all its partitions and rejoin."
    )))
}
