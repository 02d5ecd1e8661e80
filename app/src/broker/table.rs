//! Which partitions this broker hosts: an immutable snapshot that requests read without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerId, LeaderEpoch, PartitionId, TopicId};
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::metadata::topics::TopicImage;
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

    /// Every replica of a topic that serves.
    pub(super) fn online_of(&self, topic: &str) -> impl Iterator<Item = &Arc<Partition<L>>> {
        let hosted = self.topics.get(topic).into_iter();
        let hosted = hosted.flat_map(|topic| topic.partitions.values());
        hosted.filter_map(|hosted| match hosted {
            Hosted::Online(partition) => Some(partition),
            Hosted::Offline => None,
        })
    }

    /// The replica of a topic that the metadata knows, or Kafka's error: unknown to the cluster, elsewhere, or offline.
    ///
    /// Replicas follow the metadata a little later. One of an older topic of the same name is not meant: what is
    /// appended to it would be deleted with it.
    pub(super) fn find(&self, topic: &TopicImage, partition: PartitionId) -> Result<&Arc<Partition<L>>, ErrorCode> {
        let hosted = self.topics.get(&topic.name).filter(|hosted| hosted.id == topic.id);
        match hosted.and_then(|hosted| hosted.partitions.get(&partition)) {
            Some(Hosted::Online(partition)) => Ok(partition),
            Some(Hosted::Offline) => Err(ErrorCode::KafkaStorageError),
            None => Err(topic
                .partition(partition)
                .map_or(ErrorCode::UnknownTopicOrPartition, |_| ErrorCode::NotLeaderOrFollower)),
        }
    }
}

/// The topic that a request names by name or id: UNKNOWN_TOPIC_OR_PARTITION or UNKNOWN_TOPIC_ID when there is none.
pub(super) fn known_topic<'a>(image: &'a MetadataImage, topic: &TopicRef) -> Result<&'a TopicImage, ErrorCode> {
    let (known, unknown) = match topic {
        TopicRef::Name(name) => (image.topics.by_name(name), ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(id) => (image.topics.by_id(*id), ErrorCode::UnknownTopicId),
    };
    known.map(Arc::as_ref).ok_or(unknown)
}

/// The leader to go to instead, as far as the metadata knows (KIP-951).
pub(super) fn known_leader(
    image: &MetadataImage,
    topic: &TopicRef,
    partition: PartitionId,
) -> Option<(BrokerId, LeaderEpoch)> {
    let partition = known_topic(image, topic).ok()?.partition(partition)?;
    Some((BrokerId(partition.leader), LeaderEpoch(partition.leader_epoch)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ottla_domain::log::config::LogConfig;
    use ottla_domain::ports::memory::MemoryLog;
    use uuid::Uuid;

    use super::*;
    use crate::broker::Durability;

    #[test]
    fn a_replica_of_an_older_topic_of_the_name_is_not_found() {
        let (old, new) = (TopicId(Uuid::from_u128(1)), TopicId(Uuid::from_u128(2)));
        let mut opened = MemoryLog::default().after_power_failure();
        opened.topic_id = old;
        let (name, id) = (Arc::clone(&opened.topic), opened.partition);
        let partition = Partition::new(opened, Arc::new(LogConfig::default()), Durability::None);
        let mut table = PartitionTable::default();
        table.insert(&name, old, id, Hosted::Online(Arc::new(partition)));
        let topic = |topic_id| TopicImage {
            id: topic_id,
            name: Arc::clone(&name),
            partitions: BTreeMap::from([(id, Arc::default())]),
            unknown_tagged_fields: Vec::new(),
        };
        assert!(table.find(&topic(old), id).is_ok());
        assert_eq!(table.find(&topic(new), id).err(), Some(ErrorCode::NotLeaderOrFollower));
        assert_eq!(
            table.find(&topic(new), PartitionId(7)).err(),
            Some(ErrorCode::UnknownTopicOrPartition)
        );
    }
}
