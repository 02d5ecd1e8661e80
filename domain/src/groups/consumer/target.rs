//! The target assignment: who should read what, made anew when the group's epoch went past it, but not more often than
//! `group.consumer.assignment.interval.ms` allows (KIP-1263).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::ConsumerGroup;
use super::member::{Member, pattern};
use super::records;
use crate::groups::assignors::{Assignor, GroupSpec, MemberSpec, Partitions};
use crate::groups::context::{Context, Timer};
use crate::groups::events::News;
use crate::groups::settings::{ConsumerGroupSettings, GroupSettings};
use crate::ids::TopicId;
use crate::metadata::image::MetadataImage;

/// No partitions.
static NONE: Partitions = Partitions::new();

/// A member whose records are written in this step, and what it was before.
#[derive(Clone, Copy)]
pub(super) struct Updated<'a> {
    pub(super) member_id: &'a str,
    pub(super) old: &'a Member,
    pub(super) new: &'a Member,
}

impl ConsumerGroup {
    /// How long until the next target assignment may be made, in ms; 0 when it may be made at once, and so when the clock
    /// says that the last one was made in the future.
    pub(super) fn assignment_delay_ms(&self, ctx: &Context<'_>, settings: &ConsumerGroupSettings) -> i64 {
        let last = self.state.target_timestamp;
        let now = ctx.now.timestamp.0;
        if last == 0 || now < last {
            return 0;
        }
        last.saturating_add(i64::from(settings.assignment_interval_ms))
            .saturating_sub(now)
            .max(0)
    }

    /// Makes the assignment of `epoch` once that may be.
    pub(super) fn schedule_assignment(&self, ctx: &mut Context<'_>, settings: &ConsumerGroupSettings) {
        let delay_ms = self.assignment_delay_ms(ctx, settings);
        ctx.set_timer(Timer::ConsumerAssignment(self.group_id.clone()), delay_ms);
    }

    /// The time for the next assignment has come.
    pub(super) fn on_assignment_timer(&mut self, ctx: &mut Context<'_>) {
        if self.state.members.is_empty() || self.state.target_epoch >= self.state.epoch {
            return;
        }
        let settings = ctx.settings.consumer_group(ctx.image, &self.group_id);
        if self.assignment_delay_ms(ctx, &settings) > 0 {
            self.schedule_assignment(ctx, &settings);
            return;
        }
        self.make_target(ctx, self.state.epoch, None);
    }

    /// What the member should have now: of a new target assignment when the group's epoch, which may be raised in this step,
    /// asks for one and it may be made, else of the present one. Returns the epoch of the assignment with it.
    pub(super) fn target_for(
        &self,
        ctx: &mut Context<'_>,
        settings: &ConsumerGroupSettings,
        epoch: i32,
        updated: Updated<'_>,
    ) -> (i32, Partitions) {
        if self.state.target_epoch < epoch {
            if self.assignment_delay_ms(ctx, settings) == 0 {
                ctx.timers.cancel(&Timer::ConsumerAssignment(self.group_id.clone()));
                return (epoch, self.make_target(ctx, epoch, Some(updated)));
            }
            self.schedule_assignment(ctx, settings);
        }
        (
            self.state.target_epoch,
            self.present_target(updated.member_id, updated.new).clone(),
        )
    }

    /// The present target of a member; that of the one which it replaces, if it is a static member that came back.
    fn present_target(&self, member_id: &str, member: &Member) -> &Partitions {
        let instance_id = member.metadata.instance_id.as_deref();
        let holder = instance_id.and_then(|instance_id| self.state.static_members.get(instance_id));
        let holder = holder.map_or(member_id, |holder| holder);
        self.state.target.get(holder).unwrap_or(&NONE)
    }

    /// Makes a target assignment and writes what changed. Returns the target of the updated member.
    fn make_target(&self, ctx: &mut Context<'_>, epoch: i32, updated: Option<Updated<'_>>) -> Partitions {
        let state = &self.state;
        let replaced = updated.and_then(|updated| {
            let instance_id = updated.new.metadata.instance_id.as_deref()?;
            state.static_members.get(instance_id)
        });
        let mut members: Vec<(&str, &Member, &Partitions)> = state
            .members
            .iter()
            .filter(|(id, _)| Some(*id) != replaced && updated.is_none_or(|updated| *updated.member_id != ***id))
            .map(|(id, member)| (&**id, member, state.target.get(id).unwrap_or(&NONE)))
            .collect();
        if let Some(updated) = updated {
            let target = self.present_target(updated.member_id, updated.new);
            let place = members.partition_point(|(id, ..)| *id < updated.member_id);
            members.insert(place, (updated.member_id, updated.new, target));
        }
        let assignor = Assignor::named(self.preferred_assignor(ctx.settings, updated)).unwrap_or(Assignor::Uniform);
        let assigned = assignor.assign(&self.spec(ctx.image, &members));

        let mut of_updated = Partitions::new();
        for ((member_id, ..), assigned) in members.iter().zip(assigned) {
            if state.target.get(*member_id) != Some(&assigned) {
                ctx.write(records::target(&self.group_id, member_id, Some(&assigned)));
            }
            if updated.is_some_and(|updated| updated.member_id == *member_id) {
                of_updated = assigned;
            }
        }
        let timestamp = ctx.now.timestamp.0.max(0);
        ctx.write(records::target_metadata(&self.group_id, Some((epoch, timestamp))));
        let news = News::Target {
            epoch,
            assignor: assignor.name(),
            members: members.len(),
        };
        ctx.tell(&self.group_id, news);
        of_updated
    }

    /// What the assignors see of these members.
    fn spec<'a>(&self, image: &MetadataImage, members: &[(&'a str, &'a Member, &'a Partitions)]) -> GroupSpec<'a> {
        let mut spec = GroupSpec {
            members: Vec::with_capacity(members.len()),
            partition_counts: BTreeMap::new(),
        };
        // Most groups subscribe alike, so that the topics of one member are those of the next.
        let mut last: Option<(&Member, Rc<[TopicId]>)> = None;
        for (member_id, member, assignment) in members {
            let topics = match &last {
                Some((other, topics)) if subscribe_alike(other, member) => Rc::clone(topics),
                _ => self.topics(image, member, &mut spec.partition_counts),
            };
            last = Some((member, Rc::clone(&topics)));
            spec.members.push(MemberSpec {
                member_id,
                instance_id: member.metadata.instance_id.as_deref(),
                topics,
                assignment,
            });
        }
        spec
    }

    /// The topics that a member subscribes to and that exist, with their sizes.
    fn topics(&self, image: &MetadataImage, member: &Member, sizes: &mut BTreeMap<TopicId, i32>) -> Rc<[TopicId]> {
        let resolved = member.pattern().and_then(|pattern| self.state.resolved.get(pattern));
        let matched = resolved.iter().flat_map(|resolved| &resolved.topics);
        let names = member.metadata.subscribed_topic_names.iter().chain(matched);
        let mut ids: Vec<TopicId> = names
            .filter_map(|name| {
                let topic = image.topics.by_name(name)?;
                let size = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                sizes.insert(topic.id, size);
                Some(topic.id)
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into()
    }

    /// The assignor that most members prefer, of several the first by name, else the broker's first.
    pub(super) fn preferred_assignor<'a>(
        &'a self,
        settings: &'a GroupSettings,
        updated: Option<Updated<'a>>,
    ) -> &'a str {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for (name, count) in &self.state.assignors {
            counts.insert(name, i64::try_from(*count).unwrap_or(i64::MAX));
        }
        if let Some(updated) = updated {
            for (member, by) in [(updated.old, -1), (updated.new, 1)] {
                if let Some(name) = &member.metadata.server_assignor {
                    *counts.entry(name).or_default() += by;
                }
            }
        }
        let preferred = counts
            .into_iter()
            .rev()
            .filter(|(_, count)| *count > 0)
            .max_by_key(|(_, count)| *count);
        let first = settings.consumer_assignors.first();
        preferred
            .map(|(name, _)| name)
            .or(first.map(|name| &**name))
            .unwrap_or_default()
    }
}

fn subscribe_alike(one: &Member, other: &Member) -> bool {
    pattern(&one.metadata) == pattern(&other.metadata)
        && one.metadata.subscribed_topic_names == other.metadata.subscribed_topic_names
}
