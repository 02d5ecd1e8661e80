//! A group of either protocol, as far as it makes no difference which.

use std::sync::Arc;

use super::classic::ClassicGroup;
use super::commands::{GroupFacts, ListedGroup, OffsetCommit, OffsetFetch};
use super::consumer::ConsumerGroup;
use super::context::{Context, Timer};
use super::offsets::ExpirationBase;
use super::records::{GroupMetadataKey, GroupRecord};
use crate::error::ErrorCode;

/// A group.
#[derive(Debug)]
pub(super) enum Group {
    /// Members assign among themselves.
    Classic(Box<ClassicGroup>),
    /// The coordinator assigns (KIP-848).
    Consumer(Box<ConsumerGroup>),
}

impl Group {
    pub(super) fn classic(group: ClassicGroup) -> Self {
        Group::Classic(Box::new(group))
    }

    pub(super) fn consumer(group_id: &Arc<str>) -> Self {
        Group::Consumer(Box::new(ConsumerGroup::new(Arc::clone(group_id))))
    }

    pub(super) fn listed(&self) -> ListedGroup {
        match self {
            Group::Classic(group) => ListedGroup {
                group_id: Arc::clone(group.group_id()),
                protocol_type: group.protocol_type().cloned().unwrap_or_default(),
                state: group.state(),
                group_type: "classic",
            },
            Group::Consumer(group) => group.listed(),
        }
    }

    pub(super) fn facts(&self) -> GroupFacts {
        match self {
            Group::Classic(group) => GroupFacts {
                group_id: Arc::clone(group.group_id()),
                is_consumer: false,
                state: group.state(),
                members: group.members().len(),
            },
            Group::Consumer(group) => group.facts(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
        }
    }

    /// What its members hold in memory.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Group::Classic(group) => group.size_bytes(),
            Group::Consumer(group) => group.size_bytes(),
        }
    }

    /// What a member holds in memory, or else the static one of this instance; 0 for a new one.
    pub(super) fn member_bytes(&self, member_id: &str, instance_id: Option<&str>) -> usize {
        match self {
            Group::Classic(group) => group.member_bytes(member_id, instance_id),
            Group::Consumer(group) => group.member_bytes(member_id, instance_id),
        }
    }

    pub(super) fn loaded(&mut self, ctx: &mut Context<'_>) {
        match self {
            Group::Classic(group) => group.loaded(ctx),
            Group::Consumer(group) => group.loaded(ctx),
        }
    }

    pub(super) fn on_timer(&mut self, ctx: &mut Context<'_>, timer: &Timer) {
        match self {
            Group::Classic(group) => group.on_timer(ctx, timer),
            Group::Consumer(group) => group.on_timer(ctx, timer),
        }
    }

    /// Whether its sender may commit these offsets.
    pub(super) fn check_commit(&mut self, ctx: &mut Context<'_>, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.check_commit(ctx, commit),
            Group::Consumer(group) => {
                let check = group.check_commit(commit)?;
                for topic in &commit.topics {
                    for partition in &topic.partitions {
                        check.partition(topic.id, partition.partition)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether its sender may read offsets.
    pub(super) fn check_fetch(&self, fetch: &OffsetFetch) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(_) => Ok(()),
            Group::Consumer(group) => group.check_fetch(fetch.member_id.as_deref(), fetch.member_epoch),
        }
    }

    pub(super) fn check_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.check_delete(),
            Group::Consumer(group) => group.check_delete(),
        }
    }

    /// Whether single offsets may be deleted; those of topics that the group reads may not.
    pub(super) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.check_offset_delete(),
            Group::Consumer(_) => Ok(()),
        }
    }

    /// Which of `topics` the group reads, or may.
    pub(super) fn reads<'a>(&self, topics: impl Iterator<Item = &'a str>) -> Vec<bool> {
        match self {
            Group::Classic(group) => {
                let subscriptions = group.subscriptions();
                topics.map(|topic| subscriptions.contains(topic)).collect()
            }
            Group::Consumer(group) => topics.map(|topic| group.is_subscribed_to(topic)).collect(),
        }
    }

    /// From when its offsets may expire.
    pub(super) fn offset_expiration(&self) -> ExpirationBase {
        match self {
            Group::Classic(group) => group.offset_expiration(),
            Group::Consumer(_) => ExpirationBase::Commit,
        }
    }

    /// Writes that there is no such group any more; whoever waits is told so.
    pub(super) fn delete(&mut self, ctx: &mut Context<'_>) {
        match self {
            Group::Classic(group) => {
                group.give_up(ctx, ErrorCode::UnknownMemberId);
                let key = GroupMetadataKey {
                    group: group.group_id().to_string(),
                };
                ctx.write(GroupRecord::GroupMetadata(key, None));
            }
            Group::Consumer(group) => group.delete(ctx),
        }
    }
}
