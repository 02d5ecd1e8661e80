//! Brings a member to its target assignment, step by step: first it gives up what is not in the target, then it moves to the
//! target's epoch and gets what is free; what others still hold it gets once they gave it up (KIP-848).

use super::member::{Current, Member, MemberState, Owned};
use super::state::State;
use crate::error::{ApiError, ErrorCode};
use crate::groups::assignors::Partitions;
use crate::groups::commands::Assignment;
use crate::ids::{PartitionId, TopicId};
use crate::metadata::image::MetadataImage;

/// What a member is brought to.
pub(super) struct Reconciliation<'a> {
    pub(super) state: &'a State,
    pub(super) image: &'a MetadataImage,
    /// The epoch of the target assignment.
    pub(super) target_epoch: i32,
    /// What the member should have.
    pub(super) target: &'a Partitions,
    /// The member subscribes to other topics since this heartbeat: it loses those that it left at once.
    pub(super) subscription_changed: bool,
    /// What the member says that it has.
    pub(super) owned: Option<&'a Assignment>,
}

impl Reconciliation<'_> {
    /// The member's next step; `None` when it has to wait.
    pub(super) fn next(&self, member: &Member) -> Result<Option<Current>, ApiError> {
        let current = &member.current;
        if !self.subscription_changed && current.is_reconciled_to(self.target_epoch) {
            return Ok(None);
        }
        let next = match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => {
                Some(self.towards_target(member, current.epoch))
            }
            MemberState::UnrevokedPartitions if !self.still_owns(&current.pending_revocation) => {
                Some(self.towards_target(member, current.epoch))
            }
            MemberState::Stable | MemberState::UnrevokedPartitions => self
                .subscription_changed
                .then(|| self.without_left_topics(member))
                .flatten(),
            MemberState::UnreleasedPartitions => Some(self.towards_target(member, current.epoch)),
            MemberState::Unknown if self.owned.is_some_and(Vec::is_empty) => {
                Some(self.towards_target(member, self.target_epoch))
            }
            MemberState::Unknown => {
                return Err(ErrorCode::FencedMemberEpoch.with(
                    "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.",
                ));
            }
        };
        Ok(next.filter(|next| next != current))
    }

    /// The member has some of these, or does not say.
    fn still_owns(&self, revoked: &Owned) -> bool {
        self.owned.is_none_or(|owned| {
            owned.iter().any(|(topic, partitions)| {
                let revoked = revoked.get(topic);
                revoked.is_some_and(|revoked| partitions.iter().any(|partition| revoked.contains_key(partition)))
            })
        })
    }

    fn subscribes_to(&self, member: &Member, topic: TopicId) -> bool {
        self.state.subscribes_to(&member.metadata, topic, self.image)
    }

    /// Takes away what the member does not subscribe to any more; `None` when there is no such thing.
    fn without_left_topics(&self, member: &Member) -> Option<Current> {
        let current = &member.current;
        let mut assigned = current.assigned.clone();
        let mut revoked = current.pending_revocation.clone();
        for (topic, partitions) in &current.assigned {
            if !self.subscribes_to(member, *topic) {
                assigned.remove(topic);
                revoked.entry(*topic).or_default().extend(partitions);
            }
        }
        if assigned.len() == current.assigned.len() {
            return None;
        }
        let mut next = Current {
            previous_epoch: current.epoch,
            assigned,
            ..current.clone()
        };
        if self.still_owns(&revoked) {
            next.state = MemberState::UnrevokedPartitions;
            next.pending_revocation = revoked;
        }
        Some(next)
    }

    fn towards_target(&self, member: &Member, epoch: i32) -> Current {
        let current = &member.current;
        let mut assigned = Owned::new();
        let mut revoked = Owned::new();
        for (topic, partitions) in &current.assigned {
            let target = self.target_of(member, *topic);
            for (partition, epoch) in partitions {
                let stays = target.binary_search(partition).is_ok();
                let owned = if stays { &mut assigned } else { &mut revoked };
                owned.entry(*topic).or_default().insert(*partition, *epoch);
            }
        }
        if !revoked.is_empty() && self.still_owns(&revoked) {
            return Current {
                epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned,
                pending_revocation: revoked,
            };
        }
        let mut state = MemberState::Stable;
        for topic in self.target.keys() {
            for partition in self.target_of(member, *topic) {
                if assigned
                    .get(topic)
                    .is_some_and(|assigned| assigned.contains_key(partition))
                {
                    continue;
                }
                // One partition has one owner at a time: what this member had to give up nobody else holds.
                let pending = current.pending_revocation.get(topic);
                let is_own = pending.is_some_and(|pending| pending.contains_key(partition));
                if self.state.is_held(*topic, *partition) && !is_own {
                    state = MemberState::UnreleasedPartitions;
                } else {
                    assigned
                        .entry(*topic)
                        .or_default()
                        .insert(*partition, self.target_epoch);
                }
            }
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state,
            assigned,
            pending_revocation: Owned::new(),
        }
    }

    /// The target of a topic: none when the member does not subscribe to it any more.
    fn target_of(&self, member: &Member, topic: TopicId) -> &[PartitionId] {
        let target = self.target.get(&topic).map_or(&[][..], Vec::as_slice);
        if target.is_empty() || self.subscribes_to(member, topic) {
            target
        } else {
            &[]
        }
    }
}
