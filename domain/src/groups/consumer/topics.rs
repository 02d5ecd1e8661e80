//! The topics that a group subscribes to: which they are after a step, and whether they changed since the last assignment.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BufMut;

use super::ConsumerGroup;
use super::member::Member;
use super::records;
use super::state::State;
use super::xxh3::xxh3_64;
use crate::groups::context::Context;
use crate::groups::events::News;
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
            let reason = match bump {
                true => "members subscribe to something else",
                false => "their topics have changed",
            };
            ctx.tell(&self.group_id, News::Epoch { epoch, reason });
        }
        if self.state.has_partition_metadata {
            ctx.write(records::no_partition_metadata(&self.group_id));
        }
        epoch
    }
}

/// The hash of those topics that exist, in the order of their names; 0 without any. It is Kafka's
/// (`Utils.computeGroupHash`), so that a group does not rebalance because Kafka's coordinator takes it over or gives it up.
pub(super) fn hash<'a>(image: &MetadataImage, names: impl Iterator<Item = &'a str>) -> i64 {
    let mut hashes = Vec::new();
    let mut scratch = Vec::new();
    for topic in names.filter_map(|name| image.topics.by_name(name)) {
        scratch.clear();
        describe(image, topic, &mut scratch);
        hashes.put_u64_le(xxh3_64(&scratch));
    }
    if hashes.is_empty() {
        return 0;
    }
    i64::from_ne_bytes(xxh3_64(&hashes).to_ne_bytes())
}

/// Appends what an assignment may depend on: the topic's id, its name, its size, and the racks of its replicas
/// (`Utils.computeTopicHash`).
fn describe(image: &MetadataImage, topic: &TopicImage, out: &mut Vec<u8>) {
    let (high, low) = topic.id.0.as_u64_pair();
    // The version of the hash.
    out.put_u8(0);
    out.put_u64_le(high);
    out.put_u64_le(low);
    put_text(out, &topic.name);
    put_number(out, topic.partitions.len());
    let mut racks = Vec::new();
    for (number, partition) in topic.partitions.values().enumerate() {
        put_number(out, number);
        let brokers = partition
            .replicas
            .iter()
            .map(|replica| image.broker(BrokerId(*replica)));
        racks.extend(brokers.filter_map(|broker| broker?.rack.as_deref()));
        racks.sort_unstable();
        for rack in racks.drain(..) {
            put_number(out, rack.encode_utf16().count());
            put_text(out, rack);
        }
    }
}

/// As the stream of hash4j takes strings: in UTF-16, with the length behind.
fn put_text(out: &mut Vec<u8>, text: &str) {
    text.encode_utf16().for_each(|unit| out.put_u16_le(unit));
    put_number(out, text.encode_utf16().count());
}

fn put_number(out: &mut Vec<u8>, number: usize) {
    out.put_i32_le(i32::try_from(number).unwrap_or(i32::MAX));
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::metadata::records::{MetadataRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord};

    #[test]
    fn the_hash_is_kafkas() {
        let mut image = MetadataImage::default();
        let mut apply = |record| image.apply(&record).unwrap();
        for (broker_id, rack) in [(1, Some("rack")), (2, None), (3, Some("a"))] {
            apply(MetadataRecord::RegisterBroker(RegisterBrokerRecord {
                broker_id,
                rack: rack.map(str::to_owned),
                ..RegisterBrokerRecord::default()
            }));
        }
        for (name, id) in [("foo", 2), ("goo", 3)] {
            apply(MetadataRecord::Topic(TopicRecord {
                name: name.to_owned(),
                topic_id: Uuid::from_u64_pair(1, id),
                ..TopicRecord::default()
            }));
        }
        for (partition_id, replicas) in [(0, vec![1, 2, 3]), (1, vec![2])] {
            apply(MetadataRecord::Partition(PartitionRecord {
                partition_id,
                topic_id: Uuid::from_u64_pair(1, 2),
                replicas,
                ..PartitionRecord::default()
            }));
        }
        // Made with hash4j 0.22 as Kafka 4.3.1 does it.
        let mut foo = Vec::new();
        describe(&image, image.topics.by_name("foo").unwrap(), &mut foo);
        assert_eq!(xxh3_64(&foo) as i64, 4_806_574_795_360_643_461);
        let hash = |names: &[&str]| hash(&image, names.iter().copied());
        assert_eq!(hash(&["foo", "goo", "missing"]), -7_412_810_630_716_937_595);
        assert_eq!(hash(&["missing"]), 0);
    }
}
