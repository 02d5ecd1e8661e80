//! Committed offsets: how far each group has read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::commands::{
    CommitPartition, CommitTopic, CommittedOffset, FetchTopic, FetchedOffset, FetchedOffsets, OffsetCommit,
    PartitionErrors,
};
use super::records::{GroupRecord, OffsetCommitKey, OffsetCommitValue};
use super::transactions::{OpenTransactions, Place};
use crate::coordinator::RECORD_OVERHEAD_BYTES;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionId, ProducerId, Timestamp, TopicId};

/// From when on the offsets of a group may expire; groups that are in use keep those of the topics that they subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpirationBase {
    /// Nothing expires: the group is in use and does not say what it reads, or is about to.
    Never,
    /// Each offset by when it was committed.
    Commit,
    /// All by when the group became empty.
    Since(Timestamp),
}

/// What a record says of an offset.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Committed {
    /// Where the record is in the log.
    recorded_at: Offset,
    offset: Offset,
    leader_epoch: LeaderEpoch,
    metadata: Arc<str>,
    committed_at: Timestamp,
    /// What an old client asked for, or -1.
    expires_at: Timestamp,
    topic_id: TopicId,
}

impl Committed {
    fn new(recorded_at: Offset, value: &OffsetCommitValue) -> Self {
        Committed {
            recorded_at,
            offset: Offset(value.offset),
            leader_epoch: LeaderEpoch(value.leader_epoch),
            metadata: match value.metadata.as_str() {
                "" => Arc::default(),
                metadata => metadata.into(),
            },
            committed_at: Timestamp(value.commit_timestamp),
            expires_at: Timestamp(value.expire_timestamp),
            topic_id: TopicId(value.topic_id),
        }
    }

    /// It is of this life of its topic, as far as it says.
    fn is_of(&self, topic_id: TopicId) -> bool {
        self.topic_id == TopicId::ZERO || self.topic_id == topic_id
    }

    fn is_expired(&self, base: ExpirationBase, retention_ms: i64, now: Timestamp) -> bool {
        if self.expires_at != Timestamp::NONE {
            return now >= self.expires_at;
        }
        let since = match base {
            ExpirationBase::Never => return false,
            ExpirationBase::Commit => self.committed_at,
            ExpirationBase::Since(since) => since,
        };
        now.0.saturating_sub(since.0) >= retention_ms
    }
}

type ByPartition = BTreeMap<PartitionId, Committed>;
type ByTopic = BTreeMap<Arc<str>, ByPartition>;

/// The committed offsets of all groups of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offsets {
    groups: BTreeMap<Arc<str>, ByTopic>,
    count: usize,
    open: OpenTransactions,
}

impl Offsets {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// At most `max` of them, in the order of groups, topics and partitions, that come after `after`: whoever reads many
    /// need not keep the shard for all that time.
    pub fn page(&self, after: Option<&CommittedOffset>, max: usize) -> Vec<CommittedOffset> {
        let from = |name: Option<&'_ Arc<str>>| name.map_or(Bound::Unbounded, |name| Bound::Included(Arc::clone(name)));
        let groups = self
            .groups
            .range((from(after.map(|after| &after.group_id)), Bound::Unbounded));
        let offsets = groups.flat_map(|(group_id, topics)| {
            let after = after.filter(|after| after.group_id == *group_id);
            let topics = topics.range((from(after.map(|after| &after.topic)), Bound::Unbounded));
            topics.flat_map(move |(topic, partitions)| {
                let after = after.filter(|after| after.topic == *topic);
                let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.partition));
                let partitions = partitions.range((start, Bound::Unbounded));
                partitions.map(move |(partition, committed)| CommittedOffset {
                    group_id: Arc::clone(group_id),
                    topic: Arc::clone(topic),
                    partition: *partition,
                    offset: committed.offset,
                })
            })
        });
        offsets.take(max).collect()
    }

    /// Takes over a record that is `recorded_at` this offset of the log; one of a transaction counts once that is committed.
    /// Fails when too many are of transactions that do not end.
    pub fn apply(
        &mut self,
        recorded_at: Offset,
        producer: Option<ProducerId>,
        key: &OffsetCommitKey,
        value: Option<&OffsetCommitValue>,
    ) -> Result<(), String> {
        let partition = PartitionId(key.partition);
        match (value, producer) {
            (None, _) => {
                self.remove(&key.group, &key.topic, partition);
                if self.open.contains(&key.group, &key.topic, partition) {
                    self.open.remove(&place(key));
                }
            }
            (Some(value), None) => {
                let committed = Committed::new(recorded_at, value);
                self.insert(&key.group, &key.topic, partition, committed);
            }
            (Some(value), Some(producer)) => {
                let committed = Committed::new(recorded_at, value);
                self.open.insert(producer, place(key), committed)?;
            }
        }
        Ok(())
    }

    /// The transaction of a producer has ended. What was committed after its own records in the log stays.
    pub fn end_transaction(&mut self, producer: ProducerId, is_committed: bool) {
        let ended = self.open.end(producer);
        for ((group_id, topic, partition), committed) in ended.into_iter().filter(|_| is_committed) {
            let known = self
                .groups
                .get(&group_id)
                .and_then(|topics| topics.get(&topic)?.get(&partition));
            if known.is_none_or(|known| known.recorded_at < committed.recorded_at) {
                self.insert(&group_id, &topic, partition, committed);
            }
        }
    }

    /// The groups that have offsets of open transactions: of how many partitions, and of which producers.
    pub fn open_transactions(&self) -> impl Iterator<Item = (&Arc<str>, usize, BTreeSet<ProducerId>)> {
        self.open.groups()
    }

    fn insert(&mut self, group_id: &str, topic: &str, partition: PartitionId, committed: Committed) {
        // Names are copied for the first offset alone.
        let topics = match self.groups.get_mut(group_id) {
            Some(topics) => topics,
            None => self.groups.entry(group_id.into()).or_default(),
        };
        let partitions = match topics.get_mut(topic) {
            Some(partitions) => partitions,
            None => topics.entry(topic.into()).or_default(),
        };
        if partitions.insert(partition, committed).is_none() {
            self.count += 1;
        }
    }

    fn remove(&mut self, group_id: &str, topic: &str, partition: PartitionId) {
        let Some(topics) = self.groups.get_mut(group_id) else {
            return;
        };
        let Some(partitions) = topics.get_mut(topic) else {
            return;
        };
        if partitions.remove(&partition).is_some() {
            self.count -= 1;
        }
        if partitions.is_empty() {
            topics.remove(topic);
            if topics.is_empty() {
                self.groups.remove(group_id);
            }
        }
    }

    /// What the records of a commit take at least: those of one that does not fit in the log need not be made.
    pub fn records_bytes_min(commit: &OffsetCommit) -> usize {
        let size_bytes = |topic: &CommitTopic| {
            let each_bytes = RECORD_OVERHEAD_BYTES + commit.group_id.len() + topic.name.len();
            each_bytes.saturating_mul(topic.partitions.len())
        };
        commit.topics.iter().map(size_bytes).fold(0, usize::saturating_add)
    }

    /// The records and the outcomes of a commit whose group has agreed. `metadata_max_bytes` is
    /// `offset.metadata.max.bytes`.
    pub fn commit(
        commit: OffsetCommit,
        metadata_max_bytes: usize,
        now: Timestamp,
    ) -> (Vec<GroupRecord>, PartitionErrors) {
        let expires_at = commit.retention_time_ms.map_or(-1, |ms| now.0.saturating_add(ms));
        let mut records = Vec::new();
        let mut outcomes = Vec::with_capacity(commit.topics.len());
        for topic in commit.topics {
            let mut errors = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let CommitPartition {
                    partition,
                    offset,
                    leader_epoch,
                    metadata,
                } = partition;
                // Java counts UTF-16 units.
                let is_too_long = |text: &Arc<str>| {
                    text.len() > metadata_max_bytes && text.encode_utf16().count() > metadata_max_bytes
                };
                if metadata.as_ref().is_some_and(is_too_long) {
                    errors.push((partition, ErrorCode::OffsetMetadataTooLarge));
                    continue;
                }
                errors.push((partition, ErrorCode::None));
                let key = offset_key(&commit.group_id, &topic.name, partition);
                let value = OffsetCommitValue {
                    offset: offset.0,
                    leader_epoch: leader_epoch.0.max(-1),
                    metadata: metadata.as_deref().unwrap_or_default().to_owned(),
                    commit_timestamp: now.0,
                    expire_timestamp: expires_at,
                    topic_id: topic.id.0,
                    ..OffsetCommitValue::default()
                };
                records.push(GroupRecord::OffsetCommit(key, Some(value)));
            }
            outcomes.push((topic.name, topic.id, errors));
        }
        (records, outcomes)
    }

    /// Reads offsets; without `topics` all that the group has. With `require_stable` those that an open transaction may
    /// change are not shown (KIP-447).
    pub fn fetch(&self, group_id: &str, topics: Option<Vec<FetchTopic>>, require_stable: bool) -> FetchedOffsets {
        let has_open = require_stable && self.open.has_group(group_id);
        let show = |topic: &str, partition: PartitionId, committed: Option<&Committed>| {
            if has_open && self.open.contains(group_id, topic, partition) {
                return FetchedOffset {
                    error: ErrorCode::UnstableOffsetCommit,
                    ..shown(partition, None)
                };
            }
            shown(partition, committed)
        };
        let known = self.groups.get(group_id);
        let Some(topics) = topics else {
            let all = known.into_iter().flatten().map(|(topic, partitions)| {
                let offsets = partitions
                    .iter()
                    .map(|(partition, committed)| show(topic, *partition, Some(committed)));
                (Arc::clone(topic), TopicId::ZERO, offsets.collect())
            });
            return Ok(all.collect());
        };
        let asked = topics.into_iter().map(|(topic, id, partitions)| {
            let known = known.and_then(|known| known.get(&topic));
            let offsets = partitions.into_iter().map(|partition| {
                let committed = known.and_then(|known| known.get(&partition));
                // The topic may have been made anew since.
                let is_same = |committed: &&Committed| id == TopicId::ZERO || committed.is_of(id);
                show(&topic, partition, committed.filter(is_same))
            });
            let offsets = offsets.collect();
            (topic, id, offsets)
        });
        Ok(asked.collect())
    }

    /// The tombstones for those of `partitions` that have an offset, be it of an open transaction.
    pub fn delete(&self, group_id: &str, topic: &str, partitions: &[PartitionId]) -> Vec<GroupRecord> {
        let has_offset = |partition: &&PartitionId| {
            self.committed(group_id, topic, **partition).is_some() || self.open.contains(group_id, topic, **partition)
        };
        let tombstone = |partition: &PartitionId| offset_tombstone(group_id, topic, *partition);
        partitions.iter().filter(has_offset).map(tombstone).collect()
    }

    fn committed(&self, group_id: &str, topic: &str, partition: PartitionId) -> Option<&Committed> {
        self.groups.get(group_id)?.get(topic)?.get(&partition)
    }

    /// The tombstones for all offsets of a group.
    pub fn delete_all(&self, group_id: &str) -> Vec<GroupRecord> {
        let topics = self.groups.get(group_id).into_iter().flatten();
        let committed =
            topics.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic, *partition)));
        let open = self.open.places(group_id);
        let open = open.filter(|(topic, partition)| self.committed(group_id, topic, *partition).is_none());
        committed
            .chain(open)
            .map(|(topic, partition)| offset_tombstone(group_id, topic, partition))
            .collect()
    }

    /// The tombstones for the offsets of topics that were deleted.
    pub fn delete_topics(&self, deleted: &[(Arc<str>, TopicId)]) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (group_id, topics) in &self.groups {
            for (name, id) in deleted {
                for (partition, committed) in topics.get(name).into_iter().flatten() {
                    if committed.is_of(*id) {
                        records.push(offset_tombstone(group_id, name, *partition));
                    }
                }
            }
        }
        for (name, id) in deleted {
            for (group_id, partition, mut offers) in self.open.of_topic(name) {
                let committed = self.committed(group_id, name, partition);
                if offers.any(|offer| offer.is_of(*id)) && !committed.is_some_and(|committed| committed.is_of(*id)) {
                    records.push(offset_tombstone(group_id, name, partition));
                }
            }
        }
        records
    }

    /// The tombstones for the offsets of a group that have expired, and whether those are all that it has.
    pub fn expire(
        &self,
        group_id: &str,
        base: ExpirationBase,
        are_subscribed: impl Fn(&[&str]) -> Vec<bool>,
        retention_ms: i64,
        now: Timestamp,
    ) -> (Vec<GroupRecord>, bool) {
        let mut records = Vec::new();
        let known = self.groups.get(group_id);
        let has_open = self.open.has_group(group_id);
        if base == ExpirationBase::Never {
            return (records, known.is_none() && !has_open);
        }
        let mut all_expired = !has_open;
        let topics: Vec<&str> = known.into_iter().flatten().map(|(topic, _)| &**topic).collect();
        let subscribed = are_subscribed(&topics);
        for ((topic, partitions), is_subscribed) in known.into_iter().flatten().zip(subscribed) {
            if is_subscribed {
                all_expired = false;
                continue;
            }
            for (partition, committed) in partitions {
                let is_open = has_open && self.open.contains(group_id, topic, *partition);
                if committed.is_expired(base, retention_ms, now) && !is_open {
                    records.push(offset_tombstone(group_id, topic, *partition));
                } else {
                    all_expired = false;
                }
            }
        }
        (records, all_expired)
    }
}

fn shown(partition: PartitionId, committed: Option<&Committed>) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: committed.map_or(Offset::NONE, |committed| committed.offset),
        leader_epoch: committed.map_or(LeaderEpoch::UNKNOWN, |committed| committed.leader_epoch),
        metadata: committed.map_or_else(Arc::default, |committed| Arc::clone(&committed.metadata)),
        error: ErrorCode::None,
    }
}

fn offset_key(group_id: &str, topic: &str, partition: PartitionId) -> OffsetCommitKey {
    OffsetCommitKey {
        group: group_id.to_owned(),
        topic: topic.to_owned(),
        partition: partition.0,
    }
}

fn place(key: &OffsetCommitKey) -> Place {
    (
        key.group.as_str().into(),
        key.topic.as_str().into(),
        PartitionId(key.partition),
    )
}

fn offset_tombstone(group_id: &str, topic: &str, partition: PartitionId) -> GroupRecord {
    GroupRecord::OffsetCommit(offset_key(group_id, topic, partition), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::context::fit_in_a_batch;

    const NOW: Timestamp = Timestamp(1_000_000);
    const ID: TopicId = TopicId(uuid::Uuid::from_u128(7));

    fn partition(partition: i32, offset: i64, metadata: Option<&str>) -> CommitPartition {
        CommitPartition {
            partition: PartitionId(partition),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(3),
            metadata: metadata.map(Arc::from),
        }
    }

    fn commit(topic: &str, partitions: Vec<CommitPartition>) -> OffsetCommit {
        OffsetCommit {
            group_id: "group".into(),
            generation_id_or_member_epoch: -1,
            member_id: Arc::default(),
            group_instance_id: None,
            retention_time_ms: None,
            knows_member_epochs: true,
            topics: vec![CommitTopic {
                name: topic.into(),
                id: ID,
                partitions,
            }],
        }
    }

    fn apply(offsets: &mut Offsets, records: &[GroupRecord]) {
        for record in records {
            match record {
                GroupRecord::OffsetCommit(key, value) => {
                    offsets.apply(Offset::ZERO, None, key, value.as_ref()).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn committed(topics: &[&str]) -> Offsets {
        let mut offsets = Offsets::default();
        for topic in topics {
            let (records, _) = Offsets::commit(commit(topic, vec![partition(0, 5, None)]), 10, NOW);
            apply(&mut offsets, &records);
        }
        offsets
    }

    #[test]
    fn what_is_committed_is_fetched() {
        let mut offsets = Offsets::default();
        let partitions = vec![
            partition(0, 5, Some("who")),
            partition(1, 6, Some("eleven bytes")),
            partition(2, 7, Some("äöüäöüäöü")),
        ];
        let (records, outcomes) = Offsets::commit(commit("topic", partitions), 10, NOW);
        let errors: Vec<_> = outcomes[0].2.iter().map(|(_, error)| *error).collect();
        assert_eq!(
            errors,
            [ErrorCode::None, ErrorCode::OffsetMetadataTooLarge, ErrorCode::None]
        );
        apply(&mut offsets, &records);
        apply(&mut offsets, &records);
        assert_eq!(offsets.count(), 2);
        let asked = |id| Some(vec![("topic".into(), id, vec![PartitionId(0), PartitionId(1)])]);
        for id in [ID, TopicId::ZERO] {
            let fetched = offsets.fetch("group", asked(id), true).unwrap();
            let [known, unknown] = &fetched[0].2[..] else { panic!() };
            assert_eq!((known.offset, known.leader_epoch), (Offset(5), LeaderEpoch(3)));
            assert_eq!(&*known.metadata, "who");
            assert_eq!(
                (unknown.offset, unknown.leader_epoch),
                (Offset::NONE, LeaderEpoch::UNKNOWN)
            );
        }
        // Another life of the topic.
        let fetched = offsets
            .fetch("group", asked(TopicId(uuid::Uuid::from_u128(8))), true)
            .unwrap();
        assert_eq!(fetched[0].2[0].offset, Offset::NONE);
        assert_eq!(offsets.fetch("group", None, true).unwrap()[0].2.len(), 2);
        assert_eq!(offsets.fetch("other", None, true).unwrap(), []);
    }

    #[test]
    fn records_are_larger_than_thought_before() {
        let commit = commit("topic", (0..3).map(|number| partition(number, 5, None)).collect());
        let min_bytes = Offsets::records_bytes_min(&commit);
        let (records, _) = Offsets::commit(commit, 10, NOW);
        assert!(!fit_in_a_batch(&records, min_bytes));
    }

    #[test]
    fn pages_are_all_of_it() {
        let mut offsets = Offsets::default();
        for (group, topic) in [("a", "s"), ("a", "t"), ("b", "s")] {
            let commit = OffsetCommit {
                group_id: group.into(),
                ..commit(topic, (0..3).map(|number| partition(number, 5, None)).collect())
            };
            apply(&mut offsets, &Offsets::commit(commit, 10, NOW).0);
        }
        let all = offsets.page(None, 100);
        assert_eq!(all.len(), offsets.count());
        for size in 1..=10 {
            let mut paged: Vec<CommittedOffset> = Vec::new();
            loop {
                let page = offsets.page(paged.last(), size);
                assert!(page.len() <= size);
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            assert_eq!(paged, all);
        }
        // What was read last may be gone.
        let records = offsets.delete("a", "t", &[PartitionId(1)]);
        apply(&mut offsets, &records);
        assert_eq!(offsets.page(Some(&all[4]), 1), [all[5].clone()]);
    }

    #[test]
    fn tombstones_forget() {
        let mut offsets = committed(&["a", "b"]);
        assert_eq!(offsets.delete("group", "a", &[PartitionId(1)]), []);
        let records = offsets.delete("group", "a", &[PartitionId(0), PartitionId(1)]);
        apply(&mut offsets, &records);
        assert_eq!(offsets, committed(&["b"]));
        assert_eq!(
            offsets.delete_topics(&[("b".into(), TopicId(uuid::Uuid::from_u128(8)))]),
            []
        );
        let records = offsets.delete_topics(&[("b".into(), ID)]);
        assert_eq!(records, offsets.delete_all("group"));
        apply(&mut offsets, &records);
        assert_eq!(offsets, Offsets::default());
    }

    /// Applies a commit of an offset of partition 0 that is recorded at a place in the log; of a transaction by a producer.
    fn record(offsets: &mut Offsets, at: i64, producer: Option<i64>, topic: &str, offset: Option<i64>) {
        let key = offset_key("group", topic, PartitionId(0));
        let value = offset.map(|offset| OffsetCommitValue {
            offset,
            topic_id: ID.0,
            commit_timestamp: NOW.0,
            ..OffsetCommitValue::default()
        });
        let producer = producer.map(ProducerId);
        offsets.apply(Offset(at), producer, &key, value.as_ref()).unwrap();
    }

    /// The offset of partition 0 for those who do not care, and the error for those who ask for a stable one.
    fn seen(offsets: &Offsets, topic: &str) -> (i64, ErrorCode) {
        let asked = || Some(vec![(topic.into(), TopicId::ZERO, vec![PartitionId(0)])]);
        let any = offsets.fetch("group", asked(), false).unwrap()[0].2[0].clone();
        let stable = offsets.fetch("group", asked(), true).unwrap()[0].2[0].clone();
        assert_eq!(any.error, ErrorCode::None);
        let shown = if stable.error.is_none() {
            any.offset
        } else {
            Offset::NONE
        };
        assert_eq!(stable.offset, shown);
        (any.offset.0, stable.error)
    }

    #[test]
    fn offsets_of_transactions_count_once_they_are_committed() {
        let (none, unstable) = (ErrorCode::None, ErrorCode::UnstableOffsetCommit);
        let mut offsets = Offsets::default();
        record(&mut offsets, 0, None, "a", Some(1));
        record(&mut offsets, 1, Some(7), "a", Some(2));
        record(&mut offsets, 2, Some(8), "a", Some(3));
        record(&mut offsets, 3, Some(7), "a", Some(4));
        record(&mut offsets, 4, Some(7), "b", Some(5));
        assert_eq!(seen(&offsets, "a"), (1, unstable));
        assert_eq!(seen(&offsets, "b"), (-1, unstable));
        assert_eq!(seen(&offsets, "c"), (-1, none));
        let (group, producers) = ("group".into(), BTreeSet::from([7, 8].map(ProducerId)));
        assert!(offsets.open_transactions().eq([(&group, 2, producers)]));
        // One at a time, the last one of each.
        offsets.end_transaction(ProducerId(7), true);
        assert_eq!(seen(&offsets, "a"), (4, unstable));
        assert_eq!(seen(&offsets, "b"), (5, none));
        // What was aborted never was, and a marker may have nothing to end.
        offsets.end_transaction(ProducerId(8), false);
        offsets.end_transaction(ProducerId(8), true);
        offsets.end_transaction(ProducerId(9), true);
        assert_eq!(seen(&offsets, "a"), (4, none));
        assert_eq!(offsets.open_transactions().count(), 0);
        assert_eq!(offsets.count(), 2);
    }

    #[test]
    fn the_place_in_the_log_decides_between_commits() {
        let mut offsets = Offsets::default();
        record(&mut offsets, 0, Some(7), "a", Some(2));
        record(&mut offsets, 1, None, "a", Some(3));
        record(&mut offsets, 2, Some(8), "a", Some(4));
        record(&mut offsets, 3, Some(7), "b", Some(5));
        offsets.end_transaction(ProducerId(8), true);
        offsets.end_transaction(ProducerId(7), true);
        assert_eq!(seen(&offsets, "a"), (4, ErrorCode::None));
        // A tombstone is for those of transactions, too.
        record(&mut offsets, 4, Some(7), "a", Some(6));
        record(&mut offsets, 5, None, "a", None);
        record(&mut offsets, 6, Some(7), "b", Some(7));
        offsets.end_transaction(ProducerId(7), true);
        assert_eq!(seen(&offsets, "a"), (-1, ErrorCode::None));
        assert_eq!(seen(&offsets, "b"), (7, ErrorCode::None));
    }

    #[test]
    fn deletions_reach_offsets_of_transactions_and_time_does_not() {
        let mut offsets = Offsets::default();
        record(&mut offsets, 0, None, "a", Some(1));
        record(&mut offsets, 1, Some(7), "a", Some(2));
        record(&mut offsets, 2, Some(7), "b", Some(3));
        let expired = offsets.expire("group", ExpirationBase::Commit, subscribing_to(""), 0, NOW);
        assert_eq!(expired, (Vec::new(), false));
        assert_eq!(offsets.delete("group", "b", &[PartitionId(0), PartitionId(1)]).len(), 1);
        assert_eq!(offsets.delete_topics(&[("a".into(), ID), ("b".into(), ID)]).len(), 2);
        let tombstones = offsets.delete_all("group");
        assert_eq!(tombstones.len(), 2);
        apply(&mut offsets, &tombstones);
        assert_eq!(offsets, Offsets::default());
    }

    fn subscribing_to(topic: &str) -> impl Fn(&[&str]) -> Vec<bool> {
        move |topics| topics.iter().map(|known| *known == topic).collect()
    }

    #[test]
    fn offsets_expire_when_nobody_needs_them() {
        let offsets = committed(&["a", "b"]);
        let expired = |base, subscribed: &str, now_ms| {
            let (records, all) = offsets.expire("group", base, subscribing_to(subscribed), 100, Timestamp(now_ms));
            (records.len(), all)
        };
        assert_eq!(expired(ExpirationBase::Commit, "", NOW.0 + 99), (0, false));
        assert_eq!(expired(ExpirationBase::Commit, "", NOW.0 + 100), (2, true));
        assert_eq!(expired(ExpirationBase::Commit, "a", NOW.0 + 100), (1, false));
        assert_eq!(expired(ExpirationBase::Never, "", NOW.0 + 100), (0, false));
        assert_eq!(
            expired(ExpirationBase::Since(Timestamp(NOW.0 + 50)), "", NOW.0 + 100),
            (0, false)
        );
        assert_eq!(
            expired(ExpirationBase::Since(Timestamp(NOW.0 + 50)), "", NOW.0 + 150),
            (2, true)
        );
        // An old client's own wish counts alone.
        let mut offsets = Offsets::default();
        let mut old = commit("topic", vec![partition(0, 5, None)]);
        old.retention_time_ms = Some(10);
        let (records, _) = Offsets::commit(old, 10, NOW);
        apply(&mut offsets, &records);
        let expired = |now_ms| {
            offsets
                .expire(
                    "group",
                    ExpirationBase::Commit,
                    subscribing_to(""),
                    100,
                    Timestamp(now_ms),
                )
                .1
        };
        assert!(!expired(NOW.0 + 9));
        assert!(expired(NOW.0 + 10));
    }
}
