//! The groups of a shard by their ids, and consumer groups by what they subscribe to, so that a topic that changes is the
//! matter of its groups alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::consumer::ConsumerGroup;
use super::group::Group;
use super::records::GroupRecord;

/// The groups of a shard.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_id: BTreeMap<Arc<str>, Group>,
    subscribers: Subscribers,
}

/// Consumer groups by what they subscribe to.
#[derive(Debug, Default, PartialEq)]
struct Subscribers {
    by_topic: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Those that subscribe by patterns.
    by_patterns: BTreeSet<Arc<str>>,
}

impl Groups {
    pub(super) fn get(&self, group_id: &str) -> Option<&Group> {
        self.by_id.get(group_id)
    }

    /// To change anything but what its records say: those are [applied](Groups::apply).
    pub(super) fn get_mut(&mut self, group_id: &str) -> Option<&mut Group> {
        self.by_id.get_mut(group_id)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.by_id.values()
    }

    /// All of them, as [`Groups::get_mut`].
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Group)> {
        self.by_id.iter_mut()
    }

    /// Those that come after the one with this id, in the order of their ids.
    pub(super) fn after(&self, group_id: Option<&Arc<str>>) -> impl Iterator<Item = &Group> {
        let start = group_id.map_or(Bound::Unbounded, |after| Bound::Excluded(Arc::clone(after)));
        self.by_id.range((start, Bound::Unbounded)).map(|(_, group)| group)
    }

    /// Puts a group in the place of the one with its id, if there is one.
    pub(super) fn insert(&mut self, group_id: Arc<str>, mut group: Group) {
        self.remove(&group_id);
        if let Group::Consumer(group) = &mut group {
            self.subscribers.update(group);
        }
        self.by_id.insert(group_id, group);
    }

    pub(super) fn remove(&mut self, group_id: &str) {
        if let Some(Group::Consumer(group)) = self.by_id.remove(group_id) {
            self.subscribers.remove(&group);
        }
    }

    /// Takes a record of a consumer group over. A group begins with any of them but a tombstone.
    pub(super) fn apply(&mut self, group_id: &str, is_tombstone: bool, record: &GroupRecord) {
        let is_here = matches!(self.by_id.get(group_id), Some(Group::Consumer(_)));
        if !is_here && !is_tombstone {
            let group_id: Arc<str> = group_id.into();
            let group = Group::consumer(&group_id);
            self.insert(group_id, group);
        }
        if let Some(Group::Consumer(group)) = self.by_id.get_mut(group_id) {
            group.apply(record);
            self.subscribers.update(group);
        }
    }

    /// Every consumer group that subscribes to the topic.
    pub(super) fn for_subscribers(&mut self, topic: &str, mut act: impl FnMut(&mut ConsumerGroup)) {
        for group_id in self.subscribers.by_topic.get(topic).into_iter().flatten() {
            if let Some(Group::Consumer(group)) = self.by_id.get_mut(group_id) {
                act(group);
            }
        }
    }

    /// Every consumer group that subscribes by patterns.
    pub(super) fn with_patterns(&self) -> impl Iterator<Item = &ConsumerGroup> {
        let groups = self.subscribers.by_patterns.iter();
        groups.filter_map(|group_id| match self.by_id.get(group_id) {
            Some(Group::Consumer(group)) => Some(&**group),
            _ => None,
        })
    }

    /// What the index should be.
    #[cfg(test)]
    pub(super) fn check_index(&self) {
        let mut subscribers = Subscribers::default();
        for group in self.by_id.values() {
            let Group::Consumer(group) = group else { continue };
            for topic in group.subscribed_topics() {
                let groups = subscribers.by_topic.entry(Arc::clone(topic)).or_default();
                groups.insert(Arc::clone(group.group_id()));
            }
            if group.has_patterns() {
                subscribers.by_patterns.insert(Arc::clone(group.group_id()));
            }
        }
        assert_eq!(self.subscribers, subscribers);
    }
}

impl Subscribers {
    /// Takes over what has changed since the last time.
    fn update(&mut self, group: &mut ConsumerGroup) {
        for topic in group.take_turned_topics() {
            if group.is_subscribed_to(&topic) {
                let groups = self.by_topic.entry(topic).or_default();
                groups.insert(Arc::clone(group.group_id()));
            } else {
                self.unsubscribe(&topic, group.group_id());
            }
        }
        if group.has_patterns() != self.by_patterns.contains(group.group_id()) {
            match group.has_patterns() {
                true => self.by_patterns.insert(Arc::clone(group.group_id())),
                false => self.by_patterns.remove(group.group_id()),
            };
        }
    }

    fn remove(&mut self, group: &ConsumerGroup) {
        for topic in group.subscribed_topics() {
            self.unsubscribe(topic, group.group_id());
        }
        self.by_patterns.remove(group.group_id());
    }

    fn unsubscribe(&mut self, topic: &str, group_id: &str) {
        if let Some(groups) = self.by_topic.get_mut(topic) {
            groups.remove(group_id);
            if groups.is_empty() {
                self.by_topic.remove(topic);
            }
        }
    }
}
