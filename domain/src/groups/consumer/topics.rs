//! The topics that a group subscribes to: which they are after a step, and whether they changed since the last assignment.

use std::collections::{BTreeMap, BTreeSet};

use super::ConsumerGroup;
use super::member::Member;
use super::records;
use super::state::State;
use crate::groups::context::Context;
use crate::ids::BrokerId;
use crate::metadata::image::MetadataImage;
use crate::metadata::topics::TopicImage;

/// Changes of what a group subscribes to that are not applied yet.
#[derive(Debug, Default)]
pub(super) struct SubscriptionChange<'a> {
    /// By topic: changes of the number of members that name it, and of patterns that match it.
    counts: BTreeMap<&'a str, (i64, i64)>,
}

impl<'a> SubscriptionChange<'a> {
    /// One member becomes another, or comes, or goes.
    pub(super) fn of_member(state: &'a State, old: Option<&'a Member>, new: Option<&'a Member>) -> Self {
        let mut change = SubscriptionChange::default();
        change.add_names(old, -1);
        change.add_names(new, 1);
        let old_pattern = old.and_then(Member::pattern);
        if let Some(old_pattern) = old_pattern
            && new.and_then(Member::pattern) != Some(old_pattern)
            && state.patterns.get(old_pattern) == Some(&1)
        {
            change.remove_pattern(state, old_pattern);
        }
        change
    }

    /// Members go, and with them patterns that nobody else subscribes to.
    pub(super) fn of_leavers(state: &'a State, members: &[&'a Member], patterns: &BTreeSet<&'a str>) -> Self {
        let mut change = SubscriptionChange::default();
        for member in members {
            change.add_names(Some(member), -1);
        }
        for pattern in patterns {
            change.remove_pattern(state, pattern);
        }
        change
    }

    fn add_names(&mut self, member: Option<&'a Member>, by: i64) {
        for name in member.iter().flat_map(|member| &member.metadata.subscribed_topic_names) {
            self.counts.entry(name).or_default().0 += by;
        }
    }

    fn remove_pattern(&mut self, state: &'a State, pattern: &str) {
        for name in state.resolved.get(pattern).iter().flat_map(|resolved| &resolved.topics) {
            self.counts.entry(name).or_default().1 -= 1;
        }
    }

    /// The topic is subscribed to after the change; `None` when that does not change.
    fn outcome(&self, state: &State, name: &str) -> Option<bool> {
        let (by_name, by_pattern) = self.counts.get(name)?;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let known = state.subscriptions.get(name).copied().unwrap_or_default();
        let is_subscribed = count(known.by_name) + by_name > 0 || count(known.by_pattern) + by_pattern > 0;
        (is_subscribed != state.subscriptions.contains_key(name)).then_some(is_subscribed)
    }

    /// The names of all topics after the change; `None` when they are the same as before it.
    fn names(&self, state: &'a State) -> Option<BTreeSet<&'a str>> {
        let changed: Vec<(&str, bool)> = self
            .counts
            .keys()
            .filter_map(|name| Some((*name, self.outcome(state, name)?)))
            .collect();
        if changed.is_empty() {
            return None;
        }
        let mut names: BTreeSet<&str> = state.subscriptions.keys().map(|name| &**name).collect();
        for (name, is_subscribed) in changed {
            if is_subscribed {
                names.insert(name);
            } else {
                names.remove(name);
            }
        }
        Some(names)
    }
}

impl ConsumerGroup {
    /// The hash of the topics after a change.
    pub(super) fn hash_after(&self, ctx: &Context<'_>, change: &SubscriptionChange<'_>) -> i64 {
        match change.names(&self.state) {
            Some(names) => hash(ctx.image, names.into_iter()),
            None if self.is_hash_current => self.state.metadata_hash,
            None => hash(ctx.image, self.state.subscriptions.keys().map(|name| &**name)),
        }
    }

    /// Raises the group's epoch when `bump` asks for it or the topics are not what they were. Returns the epoch.
    pub(super) fn update_epoch(&mut self, ctx: &mut Context<'_>, bump: bool, hash: i64) -> i32 {
        self.is_hash_current = true;
        let mut epoch = self.state.epoch;
        if bump || hash != self.state.metadata_hash {
            epoch = epoch.saturating_add(1);
            ctx.write(records::epoch(&self.group_id, Some((epoch, hash))));
        }
        if self.state.has_partition_metadata {
            ctx.write(records::no_partition_metadata(&self.group_id));
        }
        epoch
    }
}

/// The hash of those topics that exist, in the order of their names; 0 without any.
///
/// It is compared with hashes of the same coordinator only, so it need not be Kafka's: a coordinator that takes the group
/// over with another function assigns once more.
pub(super) fn hash<'a>(image: &MetadataImage, names: impl Iterator<Item = &'a str>) -> i64 {
    let mut topics = names.filter_map(|name| image.topics.by_name(name)).peekable();
    if topics.peek().is_none() {
        return 0;
    }
    let mut hasher = Fnv1a::default();
    for topic in topics {
        hasher.topic(image, topic);
    }
    i64::from_ne_bytes(hasher.0.to_ne_bytes())
}

/// The Fowler-Noll-Vo hash, FNV-1a, of 64 bits.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    /// Takes in what an assignment may depend on: the topic's id, its name, its size, and the racks of its replicas.
    fn topic(&mut self, image: &MetadataImage, topic: &TopicImage) {
        self.bytes(topic.id.0.as_bytes());
        self.text(&topic.name);
        self.number(topic.partitions.len());
        let mut racks = Vec::new();
        for partition in topic.partitions.values() {
            let brokers = partition
                .replicas
                .iter()
                .map(|replica| image.broker(BrokerId(*replica)));
            racks.extend(brokers.filter_map(|broker| broker?.rack.as_deref()));
            racks.sort_unstable();
            self.number(racks.len());
            for rack in racks.drain(..) {
                self.text(rack);
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.bytes(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
