//! The hard state of a consumer group: what its records say, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use super::member::{Current, LEAVE_EPOCH, MEMBER_BYTES, Member, Owned, metadata_bytes, names_bytes, pattern};
use crate::groups::assignors::Partitions;
use crate::groups::records::{ConsumerGroupMemberMetadataValue, GroupRecord};
use crate::ids::{PartitionId, TopicId};
use crate::metadata::image::MetadataImage;

/// What all records of the group say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    /// Goes up with each change that asks for another assignment.
    pub(super) epoch: i32,
    /// Of the topics that the group subscribes to: tells whether they changed.
    pub(super) metadata_hash: i64,
    /// The members by id.
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// What each member should have.
    pub(super) target: BTreeMap<Arc<str>, Partitions>,
    /// The epoch of the group that the target assignment was made for; -1 when the group is about to be deleted.
    pub(super) target_epoch: i32,
    /// When the target assignment was made, in ms since the Unix epoch; 0 when that is not known.
    pub(super) target_timestamp: i64,
    /// The topics of the members' patterns.
    pub(super) resolved: BTreeMap<Arc<str>, Resolved>,
    /// A record of before Kafka 4.1 waits for its tombstone.
    pub(super) has_partition_metadata: bool,

    // What follows:
    /// The ids of static members by their instance ids.
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// How often each topic is subscribed to.
    pub(super) subscriptions: SubscribedTopics,
    /// The numbers of members by pattern.
    pub(super) patterns: BTreeMap<Arc<str>, usize>,
    /// The numbers of members by the assignor that they prefer.
    pub(super) assignors: BTreeMap<Arc<str>, usize>,
    /// The number of members of the classic protocol.
    pub(super) classic_members: usize,
    /// The numbers of members of the classic protocol by what they support.
    pub(super) classic_protocols: BTreeMap<Arc<str>, usize>,
    /// The epochs of the members that hold partitions.
    holders: BTreeMap<(TopicId, PartitionId), i32>,
    /// What the members said of themselves takes in memory.
    metadata_bytes: usize,
    /// What the topics of patterns take in memory.
    resolved_bytes: usize,
}

/// About what a held partition takes: with its member, in the target assignment, and by itself.
const HELD_BYTES: usize = 128;

/// How often a topic is subscribed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscriptions {
    /// By members, by its name.
    pub(super) by_name: usize,
    /// By patterns that it matches.
    pub(super) by_pattern: usize,
}

/// The topics that are subscribed to, and how often.
#[derive(Clone, Debug, Default)]
pub(super) struct SubscribedTopics {
    counts: BTreeMap<Arc<str>, Subscriptions>,
    /// Those that came or went, for who keeps an index of them: no part of the state.
    turned: Vec<Arc<str>>,
}

impl Deref for SubscribedTopics {
    type Target = BTreeMap<Arc<str>, Subscriptions>;

    fn deref(&self) -> &Self::Target {
        &self.counts
    }
}

impl PartialEq for SubscribedTopics {
    fn eq(&self, other: &Self) -> bool {
        self.counts == other.counts
    }
}

impl SubscribedTopics {
    fn change(&mut self, topic: &str, by: impl FnOnce(&mut Subscriptions)) {
        self.turned.extend(change(&mut self.counts, topic, by));
    }

    pub(super) fn take_turned(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.turned)
    }
}

/// The topics of a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The topics' names.
    pub(super) topics: BTreeSet<String>,
    /// The offset of the metadata that they were found in.
    pub(super) version: i64,
    /// When they were found, in ms since the Unix epoch.
    pub(super) timestamp: i64,
}

impl Resolved {
    fn size_bytes(&self) -> usize {
        names_bytes(self.topics.iter().map(String::as_str))
    }
}

impl Default for State {
    fn default() -> Self {
        State {
            epoch: 1,
            metadata_hash: 0,
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            target_epoch: 1,
            target_timestamp: 0,
            resolved: BTreeMap::new(),
            has_partition_metadata: false,
            static_members: BTreeMap::new(),
            subscriptions: SubscribedTopics::default(),
            patterns: BTreeMap::new(),
            assignors: BTreeMap::new(),
            classic_members: 0,
            classic_protocols: BTreeMap::new(),
            holders: BTreeMap::new(),
            metadata_bytes: 0,
            resolved_bytes: 0,
        }
    }
}

impl State {
    /// Takes a record over. One that removes what is not there changes nothing, as in Kafka.
    pub(super) fn apply(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::ConsumerGroupMetadata(_, Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            GroupRecord::ConsumerGroupPartitionMetadata(_, value) => self.has_partition_metadata = value.is_some(),
            GroupRecord::ConsumerGroupMemberMetadata(key, Some(value)) => {
                self.set_metadata(&key.member_id, value);
            }
            GroupRecord::ConsumerGroupMemberMetadata(key, None) => self.remove_member(&key.member_id),
            GroupRecord::ConsumerGroupTargetAssignmentMetadata(_, value) => {
                let value = value.as_ref();
                self.target_epoch = value.map_or(-1, |value| value.assignment_epoch);
                self.target_timestamp = value.map_or(0, |value| value.assignment_timestamp);
            }
            GroupRecord::ConsumerGroupTargetAssignmentMember(key, Some(value)) => {
                let topics = value.topic_partitions.iter();
                let partitions = topics
                    .filter(|topic| !topic.partitions.is_empty())
                    .map(|topic| {
                        let mut partitions: Vec<_> = topic.partitions.iter().copied().map(PartitionId).collect();
                        partitions.sort_unstable();
                        (TopicId(topic.topic_id), partitions)
                    })
                    .collect();
                let member_id = self.interned(&key.member_id);
                self.target.insert(member_id, partitions);
            }
            GroupRecord::ConsumerGroupTargetAssignmentMember(key, None) => {
                self.target.remove(key.member_id.as_str());
            }
            GroupRecord::ConsumerGroupCurrentMemberAssignment(key, Some(value)) => {
                self.set_current(&key.member_id, Current::from_record(value));
            }
            GroupRecord::ConsumerGroupCurrentMemberAssignment(key, None) => {
                if let Some(member) = self.members.get(key.member_id.as_str()) {
                    let removed = Current {
                        epoch: LEAVE_EPOCH,
                        previous_epoch: LEAVE_EPOCH,
                        state: member.current.state,
                        assigned: Owned::new(),
                        pending_revocation: Owned::new(),
                    };
                    self.set_current(&key.member_id, removed);
                }
            }
            GroupRecord::ConsumerGroupRegularExpression(key, value) => {
                let resolved = value.as_ref().map(|value| Resolved {
                    topics: value.topics.iter().cloned().collect(),
                    version: value.version,
                    timestamp: value.timestamp,
                });
                self.set_resolved(&key.regular_expression, resolved);
            }
            GroupRecord::ConsumerGroupMetadata(_, None)
            | GroupRecord::OffsetCommit(..)
            | GroupRecord::GroupMetadata(..) => {}
        }
    }

    /// The id as the other maps hold it, so that a member's id is in memory once.
    fn interned(&self, member_id: &str) -> Arc<str> {
        let known = self.members.get_key_value(member_id);
        known.map_or_else(|| member_id.into(), |(known, _)| Arc::clone(known))
    }

    fn set_metadata(&mut self, member_id: &str, metadata: &ConsumerGroupMemberMetadataValue) {
        let mut metadata = metadata.clone();
        metadata.subscribed_topic_names.sort_unstable();
        metadata.subscribed_topic_names.dedup();
        let id = self.interned(member_id);
        let mut member = self.members.remove(member_id).unwrap_or_default();
        self.uncount(&member.metadata);
        self.count(&metadata);
        if let Some(instance_id) = metadata.instance_id.as_deref() {
            self.static_members.insert(instance_id.into(), Arc::clone(&id));
        }
        member.metadata = metadata;
        self.members.insert(id, member);
    }

    fn set_current(&mut self, member_id: &str, current: Current) {
        if !self.members.contains_key(member_id) {
            self.count(&Member::default().metadata);
            self.members.insert(member_id.into(), Member::default());
        }
        if let Some(member) = self.members.get_mut(member_id) {
            let old = std::mem::replace(&mut member.current, current);
            release(&mut self.holders, &old);
            for held in member.current.held() {
                let epoch = self.holders.entry(held).or_insert(member.current.epoch);
                *epoch = member.current.epoch.max(*epoch);
            }
        }
    }

    fn remove_member(&mut self, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.uncount(&member.metadata);
        release(&mut self.holders, &member.current);
        if let Some(instance_id) = member.metadata.instance_id.as_deref()
            && self
                .static_members
                .get(instance_id)
                .is_some_and(|id| **id == *member_id)
        {
            self.static_members.remove(instance_id);
        }
    }

    fn set_resolved(&mut self, regex: &str, resolved: Option<Resolved>) {
        if let Some(old) = self.resolved.remove(regex) {
            self.resolved_bytes -= old.size_bytes();
            for topic in &old.topics {
                self.subscriptions.change(topic, |count| count.by_pattern -= 1);
            }
        }
        if let Some(resolved) = resolved {
            self.resolved_bytes += resolved.size_bytes();
            for topic in &resolved.topics {
                self.subscriptions.change(topic, |count| count.by_pattern += 1);
            }
            self.resolved.insert(regex.into(), resolved);
        }
    }

    fn count(&mut self, metadata: &ConsumerGroupMemberMetadataValue) {
        self.metadata_bytes += metadata_bytes(metadata);
        self.change_counts(metadata, |count| *count += 1);
    }

    fn uncount(&mut self, metadata: &ConsumerGroupMemberMetadataValue) {
        self.metadata_bytes -= metadata_bytes(metadata);
        self.change_counts(metadata, |count| *count -= 1);
    }

    fn change_counts(&mut self, metadata: &ConsumerGroupMemberMetadataValue, by: impl Fn(&mut usize)) {
        for topic in &metadata.subscribed_topic_names {
            self.subscriptions.change(topic, |count| by(&mut count.by_name));
        }
        if let Some(pattern) = pattern(metadata) {
            change(&mut self.patterns, pattern, &by);
        }
        if let Some(assignor) = &metadata.server_assignor {
            change(&mut self.assignors, assignor, &by);
        }
        if let Some(classic) = &metadata.classic_member_metadata {
            by(&mut self.classic_members);
            for protocol in &classic.supported_protocols {
                change(&mut self.classic_protocols, &protocol.name, &by);
            }
        }
    }

    /// The member of a static member's instance id.
    pub(super) fn static_member(&self, instance_id: &str) -> Option<(&Arc<str>, &Member)> {
        let member_id = self.static_members.get(instance_id)?;
        self.members.get_key_value(member_id)
    }

    /// What the members hold in memory.
    pub(super) fn size_bytes(&self) -> usize {
        self.members.len() * MEMBER_BYTES + self.metadata_bytes + self.resolved_bytes + self.holders.len() * HELD_BYTES
    }

    /// A member holds the partition, even if only to give it up.
    pub(super) fn is_held(&self, topic: TopicId, partition: PartitionId) -> bool {
        self.holders.contains_key(&(topic, partition))
    }

    /// The topic is among those that a member with this metadata subscribes to. A pattern that is not resolved has none.
    pub(super) fn subscribes_to(
        &self,
        metadata: &ConsumerGroupMemberMetadataValue,
        topic: TopicId,
        image: &MetadataImage,
    ) -> bool {
        let Some(topic) = image.topics.by_id(topic) else {
            return false;
        };
        let names = &metadata.subscribed_topic_names;
        names.binary_search_by(|name| name.as_str().cmp(&topic.name)).is_ok()
            || pattern(metadata)
                .and_then(|pattern| self.resolved.get(pattern))
                .is_some_and(|resolved| resolved.topics.contains(&*topic.name))
    }

    /// The name of the state that tools show.
    pub(super) fn name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self
            .members
            .values()
            .all(|member| member.current.is_reconciled_to(self.target_epoch))
        {
            "Stable"
        } else {
            "Reconciling"
        }
    }
}

/// Takes away what the member held, unless another one has it at a later epoch by now.
fn release(holders: &mut BTreeMap<(TopicId, PartitionId), i32>, current: &Current) {
    for held in current.held() {
        if holders.get(&held) == Some(&current.epoch) {
            holders.remove(&held);
        }
    }
}

/// Changes a count; one that is zero is not kept. Gives the key if it came or went.
fn change<C: Default + PartialEq>(
    counts: &mut BTreeMap<Arc<str>, C>,
    key: &str,
    by: impl FnOnce(&mut C),
) -> Option<Arc<str>> {
    let Some(count) = counts.get_mut(key) else {
        let mut count = C::default();
        by(&mut count);
        let key: Arc<str> = key.into();
        counts.insert(Arc::clone(&key), count);
        return Some(key);
    };
    by(count);
    match *count == C::default() {
        true => counts.remove_entry(key).map(|(key, _)| key),
        false => None,
    }
}
