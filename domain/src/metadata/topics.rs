//! The topics of an image and their partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::image::ApplyError;
use super::records::{PartitionChangeRecord, PartitionRecord};
use super::sorted::SortedMap;
use crate::ids::{DirectoryId, PartitionId, TopicId};
use crate::partitioning::names::collision_key;

/// What a [`PartitionChangeRecord`] holds in `leader` when the leader stays and its epoch is not bumped.
pub const NO_LEADER_CHANGE: i32 = -2;
/// The `leader` of a partition without one.
pub const NO_LEADER: i32 = -1;
/// `leader_recovery_state`: the leader holds all that was acknowledged.
pub const RECOVERED: i8 = 0;
/// `leader_recovery_state`: the leader was elected uncleanly (KIP-704).
pub const RECOVERING: i8 = 1;
/// `leader_recovery_state` of a change that keeps it.
pub const NO_RECOVERY_CHANGE: i8 = -1;

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicImage {
    /// Names this life of the topic.
    pub id: TopicId,
    /// The topic's name.
    pub name: Arc<str>,
    /// The partitions by their number, each as the record that would create it in its present state.
    pub partitions: BTreeMap<PartitionId, Arc<PartitionRecord>>,
    /// Of the topic's record, kept for snapshots.
    pub unknown_tagged_fields: Vec<(u32, Bytes)>,
}

impl TopicImage {
    /// The state of partition `id`.
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionRecord> {
        self.partitions.get(&id).map(Arc::as_ref)
    }
}

/// All topics, by id and by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topics {
    by_id: SortedMap<TopicId, Arc<TopicImage>>,
    by_name: SortedMap<Arc<str>, TopicId>,
    /// Names with `.` or `_`, by what they collide on.
    by_collision: SortedMap<String, Arc<str>>,
}

impl Topics {
    /// The topic with this id.
    pub fn by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    /// The topic with this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_id.get(self.by_name.get(name)?)
    }

    /// A topic whose metrics could not be told from those of a topic with this name.
    pub fn colliding(&self, name: &str) -> Option<&str> {
        let other = self.by_collision.get(&collision_key(name)?)?;
        Some(other)
    }

    /// The state of a partition.
    pub fn partition(&self, topic: TopicId, partition: PartitionId) -> Option<&PartitionRecord> {
        self.by_id(topic)?.partition(partition)
    }

    /// The number of topics.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True without topics.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The topics in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values().filter_map(|id| self.by_id.get(id))
    }

    /// The topics whose names are `first` or sort after it, in the order of their names.
    pub fn from_name(&self, first: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.range_from(first).filter_map(|(_, id)| self.by_id.get(id))
    }

    /// The topics in the order of their ids.
    pub fn iter_by_id(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_id.values()
    }

    /// Calls `changed(id, old, new)` for every topic that differs from that in `old`.
    pub fn diff<'a>(
        &'a self,
        old: &'a Self,
        mut changed: impl FnMut(TopicId, Option<&'a Arc<TopicImage>>, Option<&'a Arc<TopicImage>>),
    ) {
        self.by_id.diff(&old.by_id, |id, old, new| changed(*id, old, new));
    }

    pub(super) fn create(&mut self, topic: TopicImage) -> Result<(), ApplyError> {
        if let Some(known) = self.by_name(&topic.name) {
            return Err(ApplyError::DuplicateTopic {
                name: topic.name.to_string(),
                known: known.id,
                new: topic.id,
            });
        }
        if let Some(key) = collision_key(&topic.name) {
            self.by_collision.insert(key, Arc::clone(&topic.name));
        }
        self.by_name.insert(Arc::clone(&topic.name), topic.id);
        self.by_id.insert(topic.id, Arc::new(topic));
        Ok(())
    }

    pub(super) fn remove(&mut self, id: TopicId) -> Result<Arc<TopicImage>, ApplyError> {
        let topic = self.by_id.remove(&id).ok_or(ApplyError::UnknownTopic(id))?;
        self.by_name.remove(&topic.name);
        if let Some(key) = collision_key(&topic.name)
            && self.by_collision.get(&key) == Some(&topic.name)
        {
            self.by_collision.remove(&key);
        }
        Ok(topic)
    }

    pub(super) fn get_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, ApplyError> {
        let topic = self.by_id.get_mut(&id).ok_or(ApplyError::UnknownTopic(id))?;
        Ok(Arc::make_mut(topic))
    }

    /// Forgets the eligible leader replicas (KIP-966) of one topic, or of all.
    pub(super) fn clear_elr(&mut self, name: &str) -> Result<(), ApplyError> {
        let ids: Vec<TopicId> = if name.is_empty() {
            self.by_id.iter().map(|(id, _)| *id).collect()
        } else {
            let known = self.by_name.get(name);
            vec![*known.ok_or_else(|| ApplyError::UnknownTopicName(name.to_owned()))?]
        };
        let has_elr = |partition: &PartitionRecord| {
            partition.eligible_leader_replicas.is_some() || partition.last_known_elr.is_some()
        };
        for id in ids {
            if !self
                .by_id(id)
                .is_some_and(|topic| topic.partitions.values().any(|partition| has_elr(partition)))
            {
                continue;
            }
            for partition in self
                .get_mut(id)?
                .partitions
                .values_mut()
                .filter(|partition| has_elr(partition))
            {
                let partition = Arc::make_mut(partition);
                partition.eligible_leader_replicas = None;
                partition.last_known_elr = None;
                partition.partition_epoch += 1;
            }
        }
        Ok(())
    }
}

impl PartitionRecord {
    /// The number of the partition.
    pub fn id(&self) -> PartitionId {
        PartitionId(self.partition_id)
    }

    /// True when a broker leads the partition.
    pub fn has_leader(&self) -> bool {
        self.leader != NO_LEADER
    }

    /// The directory that holds the replica of this broker, if it is a replica (KIP-858).
    pub fn directory(&self, broker_id: i32) -> Option<DirectoryId> {
        let index = self.replicas.iter().position(|replica| *replica == broker_id)?;
        self.directories.get(index).copied().map(DirectoryId)
    }

    /// True while replicas are being added or removed (KIP-455).
    pub fn is_reassigning(&self) -> bool {
        !self.adding_replicas.is_empty() || !self.removing_replicas.is_empty()
    }

    /// As the image keeps it: absent lists for empty ones, and a directory for each replica.
    pub(super) fn normalized(mut self) -> Result<Self, ApplyError> {
        if !self.directories.is_empty() && self.directories.len() != self.replicas.len() {
            return Err(ApplyError::Directories {
                topic: TopicId(self.topic_id),
                partition: self.id(),
            });
        }
        if self
            .directories
            .iter()
            .all(|directory| *directory == DirectoryId::MIGRATING.0)
        {
            self.directories = vec![DirectoryId::MIGRATING.0; self.replicas.len()];
        }
        self.eligible_leader_replicas = self.eligible_leader_replicas.filter(|replicas| !replicas.is_empty());
        self.last_known_elr = self.last_known_elr.filter(|replicas| !replicas.is_empty());
        Ok(self)
    }

    /// This state after `change`: what the change names, a higher partition epoch, and with a leader a higher leader
    /// epoch, be it the same leader.
    pub fn merge(&self, change: &PartitionChangeRecord) -> Result<PartitionRecord, ApplyError> {
        let mut next = self.clone();
        fn set<T: Clone>(field: &mut T, change: &Option<T>) {
            if let Some(value) = change {
                field.clone_from(value);
            }
        }
        set(&mut next.replicas, &change.replicas);
        set(&mut next.directories, &change.directories);
        set(&mut next.isr, &change.isr);
        set(&mut next.removing_replicas, &change.removing_replicas);
        set(&mut next.adding_replicas, &change.adding_replicas);
        if change.eligible_leader_replicas.is_some() {
            next.eligible_leader_replicas
                .clone_from(&change.eligible_leader_replicas);
        }
        if change.last_known_elr.is_some() {
            next.last_known_elr.clone_from(&change.last_known_elr);
        }
        if change.leader != NO_LEADER_CHANGE {
            next.leader = change.leader;
            next.leader_epoch = next.leader_epoch.saturating_add(1);
        }
        if change.leader_recovery_state != NO_RECOVERY_CHANGE {
            next.leader_recovery_state = change.leader_recovery_state;
        }
        next.partition_epoch = next.partition_epoch.saturating_add(1);
        next.normalized()
    }
}
