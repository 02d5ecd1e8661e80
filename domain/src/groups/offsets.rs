//! Committed offsets: how far each group has read.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::commands::{
    CommitPartition, CommittedOffset, FetchTopic, FetchedOffset, FetchedOffsets, OffsetCommit, PartitionErrors,
};
use super::records::{GroupRecord, OffsetCommitKey, OffsetCommitValue};
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};

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

#[derive(Clone, Debug, PartialEq)]
struct Committed {
    offset: Offset,
    leader_epoch: LeaderEpoch,
    metadata: Arc<str>,
    committed_at: Timestamp,
    /// What an old client asked for, or -1.
    expires_at: Timestamp,
    topic_id: TopicId,
}

impl Committed {
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

    /// Takes a record over.
    pub fn apply(&mut self, key: &OffsetCommitKey, value: Option<&OffsetCommitValue>) {
        let partition = PartitionId(key.partition);
        let Some(value) = value else {
            self.remove(&key.group, &key.topic, partition);
            return;
        };
        let committed = Committed {
            offset: Offset(value.offset),
            leader_epoch: LeaderEpoch(value.leader_epoch),
            metadata: match value.metadata.as_str() {
                "" => Arc::default(),
                metadata => metadata.into(),
            },
            committed_at: Timestamp(value.commit_timestamp),
            expires_at: Timestamp(value.expire_timestamp),
            topic_id: TopicId(value.topic_id),
        };
        // Names are copied for the first offset alone.
        let topics = match self.groups.get_mut(key.group.as_str()) {
            Some(topics) => topics,
            None => self.groups.entry(key.group.as_str().into()).or_default(),
        };
        let partitions = match topics.get_mut(key.topic.as_str()) {
            Some(partitions) => partitions,
            None => topics.entry(key.topic.as_str().into()).or_default(),
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

    /// Reads offsets; without `topics` all that the group has.
    pub fn fetch(&self, group_id: &str, topics: Option<Vec<FetchTopic>>) -> FetchedOffsets {
        let known = self.groups.get(group_id);
        let Some(topics) = topics else {
            let all = known.into_iter().flatten().map(|(topic, partitions)| {
                let offsets = partitions
                    .iter()
                    .map(|(partition, committed)| shown(*partition, Some(committed)));
                (Arc::clone(topic), TopicId::ZERO, offsets.collect())
            });
            return Ok(all.collect());
        };
        let asked = topics.into_iter().map(|(topic, id, partitions)| {
            let known = known.and_then(|known| known.get(&topic));
            let offsets = partitions.into_iter().map(|partition| {
                let committed = known.and_then(|known| known.get(&partition));
                // The topic may have been made anew since.
                let is_same = |committed: &&Committed| {
                    committed.topic_id == TopicId::ZERO || id == TopicId::ZERO || committed.topic_id == id
                };
                shown(partition, committed.filter(is_same))
            });
            (topic, id, offsets.collect())
        });
        Ok(asked.collect())
    }

    /// The tombstones for those of `partitions` that have an offset.
    pub fn delete(&self, group_id: &str, topic: &str, partitions: &[PartitionId]) -> Vec<GroupRecord> {
        let known = self.groups.get(group_id).and_then(|topics| topics.get(topic));
        let has_offset = |partition: &&PartitionId| known.is_some_and(|known| known.contains_key(partition));
        let tombstone = |partition: &PartitionId| offset_tombstone(group_id, topic, *partition);
        partitions.iter().filter(has_offset).map(tombstone).collect()
    }

    /// The tombstones for all offsets of a group.
    pub fn delete_all(&self, group_id: &str) -> Vec<GroupRecord> {
        let topics = self.groups.get(group_id).into_iter().flatten();
        topics
            .flat_map(|(topic, partitions)| {
                let tombstone = |partition: &PartitionId| offset_tombstone(group_id, topic, *partition);
                partitions.keys().map(tombstone)
            })
            .collect()
    }

    /// The tombstones for the offsets of topics that were deleted.
    pub fn delete_topics(&self, deleted: &[(Arc<str>, TopicId)]) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (group_id, topics) in &self.groups {
            for (name, id) in deleted {
                for (partition, committed) in topics.get(name).into_iter().flatten() {
                    if committed.topic_id == TopicId::ZERO || committed.topic_id == *id {
                        records.push(offset_tombstone(group_id, name, *partition));
                    }
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
        if base == ExpirationBase::Never {
            return (records, known.is_none());
        }
        let mut all_expired = true;
        let topics: Vec<&str> = known.into_iter().flatten().map(|(topic, _)| &**topic).collect();
        let subscribed = are_subscribed(&topics);
        for ((topic, partitions), is_subscribed) in known.into_iter().flatten().zip(subscribed) {
            if is_subscribed {
                all_expired = false;
                continue;
            }
            for (partition, committed) in partitions {
                if committed.is_expired(base, retention_ms, now) {
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

fn offset_tombstone(group_id: &str, topic: &str, partition: PartitionId) -> GroupRecord {
    GroupRecord::OffsetCommit(offset_key(group_id, topic, partition), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::commands::CommitTopic;

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
                GroupRecord::OffsetCommit(key, value) => offsets.apply(key, value.as_ref()),
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
            let fetched = offsets.fetch("group", asked(id)).unwrap();
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
            .fetch("group", asked(TopicId(uuid::Uuid::from_u128(8))))
            .unwrap();
        assert_eq!(fetched[0].2[0].offset, Offset::NONE);
        assert_eq!(offsets.fetch("group", None).unwrap()[0].2.len(), 2);
        assert_eq!(offsets.fetch("other", None).unwrap(), []);
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
