//! Which partitions this broker hosts: an immutable snapshot that requests read without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{PartitionId, TopicId};
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::inbound::TopicRef;
use ottla_domain::ports::outbound::PartitionLog;

use super::partition::Partition;

/// A replica of this broker.
pub(super) enum Hosted<L: PartitionLog> {
    /// It serves.
    Online(Arc<Partition<L>>),
    /// Its log directory failed: KAFKA_STORAGE_ERROR.
    Offline,
}

impl<L: PartitionLog> Clone for Hosted<L> {
    fn clone(&self) -> Self {
        match self {
            Hosted::Online(partition) => Hosted::Online(Arc::clone(partition)),
            Hosted::Offline => Hosted::Offline,
        }
    }
}

/// The replicas of one topic on this broker.
pub(super) struct HostedTopic<L: PartitionLog> {
    pub(super) id: TopicId,
    pub(super) partitions: BTreeMap<PartitionId, Hosted<L>>,
}

impl<L: PartitionLog> Clone for HostedTopic<L> {
    fn clone(&self) -> Self {
        HostedTopic {
            id: self.id,
            partitions: self.partitions.clone(),
        }
    }
}

/// All replicas of this broker, by topic name.
pub(super) struct PartitionTable<L: PartitionLog> {
    topics: HashMap<Arc<str>, Arc<HostedTopic<L>>>,
}

impl<L: PartitionLog> Default for PartitionTable<L> {
    fn default() -> Self {
        PartitionTable { topics: HashMap::new() }
    }
}

impl<L: PartitionLog> Clone for PartitionTable<L> {
    fn clone(&self) -> Self {
        PartitionTable {
            topics: self.topics.clone(),
        }
    }
}

impl<L: PartitionLog> PartitionTable<L> {
    pub(super) fn get(&self, topic: &str, partition: PartitionId) -> Option<&Hosted<L>> {
        self.topics.get(topic)?.partitions.get(&partition)
    }

    pub(super) fn insert(&mut self, topic: &Arc<str>, id: TopicId, partition: PartitionId, hosted: Hosted<L>) {
        let empty = || {
            Arc::new(HostedTopic {
                id,
                partitions: BTreeMap::new(),
            })
        };
        let entry = Arc::make_mut(self.topics.entry(Arc::clone(topic)).or_insert_with(empty));
        if entry.id != id {
            // The topic was deleted and created again: the old one's replicas are gone.
            *entry = HostedTopic {
                id,
                partitions: BTreeMap::new(),
            };
        }
        entry.partitions.insert(partition, hosted);
    }

    /// Takes a replica out, unless it belongs to a newer topic of the same name.
    pub(super) fn remove(&mut self, topic: &str, id: TopicId, partition: PartitionId) -> Option<Hosted<L>> {
        let entry = self.topics.get_mut(topic).filter(|entry| entry.id == id)?;
        let entry = Arc::make_mut(entry);
        let removed = entry.partitions.remove(&partition);
        if entry.partitions.is_empty() {
            self.topics.remove(topic);
        }
        removed
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, PartitionId, &Hosted<L>)> {
        self.topics
            .iter()
            .flat_map(|(topic, entry)| entry.partitions.iter().map(move |(id, hosted)| (topic, *id, hosted)))
    }

    /// True for a replica of this table, and not for an older one of the same name.
    pub(super) fn serves(&self, partition: &Arc<Partition<L>>) -> bool {
        let hosted = self.get(&partition.topic, partition.id);
        matches!(hosted, Some(Hosted::Online(known)) if Arc::ptr_eq(known, partition))
    }

    /// Every replica that serves.
    pub(super) fn online(&self) -> impl Iterator<Item = &Arc<Partition<L>>> {
        self.iter().filter_map(|(_, _, hosted)| match hosted {
            Hosted::Online(partition) => Some(partition),
            Hosted::Offline => None,
        })
    }

    /// The replica that a request means, or Kafka's error: unknown to the cluster, elsewhere, or offline.
    pub(super) fn find(
        &self,
        image: &MetadataImage,
        topic: &str,
        partition: PartitionId,
    ) -> Result<&Arc<Partition<L>>, ErrorCode> {
        match self.get(topic, partition) {
            Some(Hosted::Online(partition)) => Ok(partition),
            Some(Hosted::Offline) => Err(ErrorCode::KafkaStorageError),
            None => {
                let known = image.topics.by_name(topic).and_then(|topic| topic.partition(partition));
                Err(known.map_or(ErrorCode::UnknownTopicOrPartition, |_| ErrorCode::NotLeaderOrFollower))
            }
        }
    }
}

/// The name of a topic that a request names by name or id; UNKNOWN_TOPIC_ID when no topic has the id.
pub(super) fn topic_name(image: &MetadataImage, topic: &TopicRef) -> Result<Arc<str>, ErrorCode> {
    match topic {
        TopicRef::Name(name) => Ok(Arc::clone(name)),
        TopicRef::Id(id) => image
            .topics
            .by_id(*id)
            .map(|topic| Arc::clone(&topic.name))
            .ok_or(ErrorCode::UnknownTopicId),
    }
}
