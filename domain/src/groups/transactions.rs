//! Offsets of open transactions (TxnOffsetCommit, KIP-98): they count once their transaction is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::offsets::Committed;
use crate::ids::{PartitionId, ProducerId};

/// A shard holds no more: transactions that nobody ends must not fill the memory.
const COUNT_MAX: usize = 1_000_000;

/// Where an offset is committed: a group, a topic, a partition.
pub(super) type Place = (Arc<str>, Arc<str>, PartitionId);

type ByPartition = BTreeMap<PartitionId, BTreeMap<ProducerId, Committed>>;
type ByTopic = BTreeMap<Arc<str>, ByPartition>;

/// The open transactions of a shard, by the offsets that they would commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OpenTransactions {
    groups: BTreeMap<Arc<str>, ByTopic>,
    /// Where each producer has offsets.
    producers: BTreeMap<ProducerId, BTreeSet<Place>>,
    count: usize,
}

impl OpenTransactions {
    /// A producer would commit an offset in place of the one that it would have before. Fails when there are too many.
    pub(super) fn insert(&mut self, producer: ProducerId, place: Place, committed: Committed) -> Result<(), String> {
        let (group_id, topic, partition) = &place;
        let topics = self.groups.entry(Arc::clone(group_id)).or_default();
        let partitions = topics.entry(Arc::clone(topic)).or_default();
        let producers = partitions.entry(*partition).or_default();
        if producers.insert(producer, committed).is_none() {
            self.count += 1;
        }
        self.producers.entry(producer).or_default().insert(place);
        if self.count > COUNT_MAX {
            return Err(format!(
                "more than {COUNT_MAX} offsets are of transactions that did not end"
            ));
        }
        Ok(())
    }

    /// Ends the transaction of a producer, and gives its offsets.
    pub(super) fn end(&mut self, producer: ProducerId) -> Vec<(Place, Committed)> {
        let places = self.producers.remove(&producer).unwrap_or_default();
        let mut ended = Vec::with_capacity(places.len());
        for place in places {
            let of_place = self.change(&place, |producers| producers.remove(&producer));
            if let Some(committed) = of_place.flatten() {
                self.count -= 1;
                ended.push((place, committed));
            }
        }
        ended
    }

    /// Whatever transactions would commit there is void.
    pub(super) fn remove(&mut self, place: &Place) {
        let removed = self.change(place, std::mem::take).unwrap_or_default();
        self.count -= removed.len();
        for producer in removed.into_keys() {
            if let Some(places) = self.producers.get_mut(&producer) {
                places.remove(place);
                if places.is_empty() {
                    self.producers.remove(&producer);
                }
            }
        }
    }

    /// Changes what producers would commit in a place; nothing stays of a place that is empty then.
    fn change<T>(
        &mut self,
        (group_id, topic, partition): &Place,
        change: impl FnOnce(&mut BTreeMap<ProducerId, Committed>) -> T,
    ) -> Option<T> {
        let topics = self.groups.get_mut(group_id)?;
        let partitions = topics.get_mut(topic)?;
        let producers = partitions.get_mut(partition)?;
        let outcome = change(producers);
        if producers.is_empty() {
            partitions.remove(partition);
        }
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.groups.remove(group_id);
        }
        Some(outcome)
    }

    /// A transaction would commit offsets of the group.
    pub(super) fn has_group(&self, group_id: &str) -> bool {
        self.groups.contains_key(group_id)
    }

    /// A transaction would commit an offset there.
    pub(super) fn contains(&self, group_id: &str, topic: &str, partition: PartitionId) -> bool {
        let topics = self.groups.get(group_id);
        let partitions = topics.and_then(|topics| topics.get(topic));
        partitions.is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// The places of a group.
    pub(super) fn places(&self, group_id: &str) -> impl Iterator<Item = (&Arc<str>, PartitionId)> {
        let topics = self.groups.get(group_id).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic, *partition)))
    }

    /// The groups with the partitions of a topic, and what is offered for each.
    pub(super) fn of_topic(
        &self,
        topic: &str,
    ) -> impl Iterator<Item = (&Arc<str>, PartitionId, impl Iterator<Item = &Committed>)> {
        self.groups.iter().flat_map(move |(group_id, topics)| {
            let partitions = topics.get(topic).into_iter().flatten();
            partitions.map(move |(partition, producers)| (group_id, *partition, producers.values()))
        })
    }

    /// Each group, the number of its partitions, and whose transactions they wait for.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&Arc<str>, usize, BTreeSet<ProducerId>)> {
        self.groups.iter().map(|(group_id, topics)| {
            let all = || topics.values().flatten();
            let producers = all().flat_map(|(_, producers)| producers.keys().copied());
            (group_id, all().count(), producers.collect())
        })
    }
}
