//! The uniform assignor. Where all members subscribe alike, their numbers of partitions differ by one at most, and no more
//! partitions move than that needs. Else, each topic is spread so among its subscribers, as far as their other topics allow.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{GroupSpec, Partitions};
use crate::ids::{PartitionId, TopicId};

/// So often at most the topics of a mixed group are gone through for a better balance: Kafka's number.
const MAX_BALANCE_ROUNDS: usize = 16;

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Partitions> {
    if group.is_homogeneous() {
        assign_homogeneous(group)
    } else {
        Mixed::new(group).assign()
    }
}

fn assign_homogeneous(group: &GroupSpec<'_>) -> Vec<Partitions> {
    let mut free = Free::new(group);
    let total = free.partitions.values().map(Vec::len).sum::<usize>();
    let count = group.members.len();
    let Some(quota) = total.checked_div(count) else {
        return Vec::new();
    };
    // So many members get one more than the quota: first those who have it already.
    let mut extras = total % count;
    let mut assigned = Vec::with_capacity(count);
    let mut rooms = Vec::with_capacity(count);
    for (index, member) in group.members.iter().enumerate() {
        let takes_extra = extras > 0;
        let mut room = quota + usize::from(takes_extra);
        let mut kept = Partitions::new();
        for (topic, partitions) in member.assignment {
            let partitions = free.take(*topic, partitions, room);
            room -= partitions.len();
            if !partitions.is_empty() {
                kept.insert(*topic, partitions);
            }
        }
        if takes_extra && room > 0 && count - index > extras {
            // The extra partition is not needed to keep what the member has, and enough members come who may take it.
            room -= 1;
        } else if takes_extra {
            extras -= 1;
        }
        assigned.push(kept);
        rooms.push(room);
    }
    let mut free = free.into_iter();
    for (assigned, room) in assigned.iter_mut().zip(rooms) {
        for (topic, partition) in free.by_ref().take(room) {
            insert(assigned, topic, partition);
        }
    }
    assigned
}

/// The partitions that no member has.
struct Free {
    /// By topic and partition: not yet taken.
    partitions: BTreeMap<TopicId, Vec<bool>>,
}

impl Free {
    fn new(group: &GroupSpec<'_>) -> Self {
        let partitions = group
            .partition_counts
            .iter()
            .map(|(topic, count)| (*topic, vec![true; usize::try_from(*count).unwrap_or(0)]))
            .collect();
        Free { partitions }
    }

    /// Takes the first `limit` of a topic's `partitions` that are free.
    fn take(&mut self, topic: TopicId, partitions: &[PartitionId], limit: usize) -> Vec<PartitionId> {
        let Some(free) = self.partitions.get_mut(&topic) else {
            return Vec::new();
        };
        let mut take = |partition: &&PartitionId| {
            let free = usize::try_from(partition.0).ok().and_then(|index| free.get_mut(index));
            free.is_some_and(|free| std::mem::replace(free, false))
        };
        partitions.iter().filter(&mut take).take(limit).copied().collect()
    }

    fn into_iter(self) -> impl Iterator<Item = (TopicId, PartitionId)> {
        self.partitions.into_iter().flat_map(|(topic, free)| {
            (0..)
                .zip(free)
                .filter_map(move |(partition, is_free)| is_free.then_some((topic, PartitionId(partition))))
        })
    }
}

/// The assignment of a group whose members subscribe to different topics, in the making.
struct Mixed<'a> {
    group: &'a GroupSpec<'a>,
    /// Members by their index in the group.
    assigned: Vec<Partitions>,
    /// The number of partitions of each member.
    loads: Vec<usize>,
    /// By topic: who subscribes.
    subscribers: BTreeMap<TopicId, Vec<usize>>,
    free: Free,
}

impl<'a> Mixed<'a> {
    /// Begins with what the members have and still subscribe to.
    fn new(group: &'a GroupSpec<'a>) -> Self {
        let mut free = Free::new(group);
        let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        let mut assigned = Vec::with_capacity(group.members.len());
        for (index, member) in group.members.iter().enumerate() {
            for topic in member.topics.iter() {
                subscribers.entry(*topic).or_default().push(index);
            }
            let mut kept = Partitions::new();
            for (topic, partitions) in member.assignment {
                if member.topics.binary_search(topic).is_ok() {
                    let partitions = free.take(*topic, partitions, usize::MAX);
                    if !partitions.is_empty() {
                        kept.insert(*topic, partitions);
                    }
                }
            }
            assigned.push(kept);
        }
        let loads = assigned
            .iter()
            .map(|partitions| partitions.values().map(Vec::len).sum())
            .collect();
        Mixed {
            group,
            assigned,
            loads,
            subscribers,
            free,
        }
    }

    fn assign(mut self) -> Vec<Partitions> {
        // First the topics whose subscribers get most of them: the others can make up for an imbalance.
        let mut topics: Vec<TopicId> = self.subscribers.keys().copied().collect();
        topics.sort_by(|one, other| {
            let (one_count, other_count) = (self.group.partition_count(*one), self.group.partition_count(*other));
            let (one_subscribers, other_subscribers) = (self.subscriber_count(*one), self.subscriber_count(*other));
            // Partitions a subscriber, descending, compared without fractions.
            let one_share = i64::from(one_count) * other_subscribers;
            let other_share = i64::from(other_count) * one_subscribers;
            (Reverse(one_share), one_subscribers, one).cmp(&(Reverse(other_share), other_subscribers, other))
        });
        for topic in &topics {
            self.assign_free(*topic);
        }
        topics.retain(|topic| self.subscriber_count(*topic) > 1);
        for _ in 0..MAX_BALANCE_ROUNDS {
            let moved: usize = topics.iter().map(|topic| self.balance(*topic)).sum();
            if moved == 0 {
                break;
            }
        }
        self.assigned
    }

    fn subscriber_count(&self, topic: TopicId) -> i64 {
        let subscribers = self.subscribers.get(&topic).map_or(0, Vec::len);
        i64::try_from(subscribers).unwrap_or(i64::MAX)
    }

    /// The subscribers of a topic with their loads, the least loaded first.
    fn by_load(&self, topic: TopicId) -> BTreeSet<(usize, usize)> {
        let subscribers = self.subscribers.get(&topic).into_iter().flatten();
        subscribers
            .filter_map(|member| Some((*self.loads.get(*member)?, *member)))
            .collect()
    }

    /// Gives the free partitions of a topic to its least loaded subscribers.
    fn assign_free(&mut self, topic: TopicId) {
        let mut by_load = self.by_load(topic);
        let free = self.free.partitions.remove(&topic).unwrap_or_default();
        for (partition, _) in (0..).zip(free).filter(|(_, is_free)| *is_free) {
            let Some((load, member)) = by_load.pop_first() else {
                return;
            };
            self.give(member, topic, PartitionId(partition));
            by_load.insert((load + 1, member));
        }
    }

    /// Moves partitions of a topic from its most loaded subscribers to the least loaded ones, until their loads differ by
    /// one at most or the loaded ones have none of the topic. Returns how many moved.
    fn balance(&mut self, topic: TopicId) -> usize {
        let mut by_load = self.by_load(topic);
        // Those who have partitions of the topic to give.
        let mut givers = by_load.clone();
        let mut moved = 0;
        while let (Some(&(low, taker)), Some(&(high, giver))) = (by_load.first(), givers.last()) {
            if high <= low + 1 {
                break;
            }
            givers.remove(&(high, giver));
            let Some(partition) = self.take(giver, topic) else {
                continue;
            };
            self.give(taker, topic, partition);
            by_load.remove(&(high, giver));
            by_load.insert((high - 1, giver));
            givers.insert((high - 1, giver));
            by_load.remove(&(low, taker));
            by_load.insert((low + 1, taker));
            givers.remove(&(low, taker));
            givers.insert((low + 1, taker));
            moved += 1;
        }
        moved
    }

    fn give(&mut self, member: usize, topic: TopicId, partition: PartitionId) {
        if let (Some(assigned), Some(load)) = (self.assigned.get_mut(member), self.loads.get_mut(member)) {
            insert(assigned, topic, partition);
            *load += 1;
        }
    }

    /// Takes the last partition of a topic from a member.
    fn take(&mut self, member: usize, topic: TopicId) -> Option<PartitionId> {
        let assigned = self.assigned.get_mut(member)?;
        let partitions = assigned.get_mut(&topic)?;
        let partition = partitions.pop()?;
        if partitions.is_empty() {
            assigned.remove(&topic);
        }
        *self.loads.get_mut(member)? -= 1;
        Some(partition)
    }
}

fn insert(assigned: &mut Partitions, topic: TopicId, partition: PartitionId) {
    let partitions = assigned.entry(topic).or_default();
    let place = partitions.partition_point(|known| *known < partition);
    partitions.insert(place, partition);
}
