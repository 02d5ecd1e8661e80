//! A member of a consumer group, as its records say.

use std::collections::BTreeMap;

use crate::groups::assignors::Partitions;
use crate::groups::commands::Assignment;
use crate::groups::records::{
    ClassicProtocol, ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue, TopicPartitions,
};
use crate::ids::{PartitionId, TopicId};

/// The epoch of a heartbeat that leaves, and of a member about to be removed.
pub(super) const LEAVE_EPOCH: i32 = -1;
/// The epoch of a static member that left for a while.
pub(super) const LEAVE_STATIC_EPOCH: i32 = -2;

/// Partitions by topic with the epochs at which the member got them. No topic is without any.
pub(super) type Owned = BTreeMap<TopicId, BTreeMap<PartitionId, i32>>;

/// How far a member is on its way to its target assignment (`MemberState` of Kafka's coordinator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberState {
    /// At the target of its epoch.
    Stable,
    /// It has to give partitions up before it may move to the next epoch.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up yet.
    UnreleasedPartitions,
    /// A state of a newer coordinator.
    Unknown,
}

impl MemberState {
    fn from_number(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }

    fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    /// What it said of itself. The topics' names ascend.
    pub(super) metadata: ConsumerGroupMemberMetadataValue,
    /// What it has.
    pub(super) current: Current,
}

/// About what a member takes in memory besides what it said of itself, with its places in maps and queues of timers.
pub(super) const MEMBER_BYTES: usize = size_of::<Member>() + 512;
/// About what a name takes besides its letters, which are there twice: in a list, and by itself.
const NAME_BYTES: usize = 96;

/// What names of topics take in memory.
pub(super) fn names_bytes<'a>(names: impl IntoIterator<Item = &'a str>) -> usize {
    names.into_iter().map(|name| 2 * name.len() + NAME_BYTES).sum()
}

/// What a member said of itself takes in memory.
pub(super) fn metadata_bytes(metadata: &ConsumerGroupMemberMetadataValue) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let classic = metadata.classic_member_metadata.iter();
    let protocols = classic.flat_map(|classic| &classic.supported_protocols);
    let protocol_bytes = |protocol: &ClassicProtocol| NAME_BYTES + protocol.name.len() + protocol.metadata.len();
    names_bytes(metadata.subscribed_topic_names.iter().map(String::as_str))
        + length(&metadata.instance_id)
        + length(&metadata.rack_id)
        + 2 * length(&metadata.subscribed_topic_regex)
        + length(&metadata.server_assignor)
        + metadata.client_id.len()
        + metadata.client_host.len()
        + protocols.map(protocol_bytes).sum::<usize>()
}

impl Default for Member {
    fn default() -> Self {
        Member {
            metadata: ConsumerGroupMemberMetadataValue {
                instance_id: None,
                rack_id: None,
                subscribed_topic_regex: Some(String::new()),
                server_assignor: None,
                classic_member_metadata: None,
                ..ConsumerGroupMemberMetadataValue::default()
            },
            current: Current::default(),
        }
    }
}

impl Member {
    /// What it holds in memory besides its partitions.
    pub(super) fn size_bytes(&self) -> usize {
        MEMBER_BYTES + metadata_bytes(&self.metadata)
    }

    /// The pattern that it subscribes to, if any.
    pub(super) fn pattern(&self) -> Option<&str> {
        pattern(&self.metadata)
    }

    /// It uses the classic protocol.
    pub(super) fn is_classic(&self) -> bool {
        self.metadata.classic_member_metadata.is_some()
    }
}

/// The pattern that a member subscribes to, if any: an empty one is none.
pub(super) fn pattern(metadata: &ConsumerGroupMemberMetadataValue) -> Option<&str> {
    metadata
        .subscribed_topic_regex
        .as_deref()
        .filter(|text| !text.is_empty())
}

/// What a member has and has to give up.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Current {
    /// Its epoch: that of the target assignment that it was last brought to.
    pub(super) epoch: i32,
    /// Its epoch before, which it may still use when an answer was lost.
    pub(super) previous_epoch: i32,
    /// How far it is.
    pub(super) state: MemberState,
    /// What it has, and may keep.
    pub(super) assigned: Owned,
    /// What it has, and must give up.
    pub(super) pending_revocation: Owned,
}

impl Default for Current {
    fn default() -> Self {
        Current {
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::new(),
            pending_revocation: Owned::new(),
        }
    }
}

impl Current {
    /// The member is at the target of this epoch.
    pub(super) fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    pub(super) fn from_record(record: &ConsumerGroupCurrentMemberAssignmentValue) -> Self {
        // Records of before Kafka 4.3 have no assignment epochs, and static members may have left with -2.
        let default_epoch = record.member_epoch.max(0);
        let owned = |topics: &[TopicPartitions]| {
            let topics = topics.iter().filter(|topic| !topic.partitions.is_empty());
            topics
                .map(|topic| {
                    let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
                    let epochs = (epochs.len() == topic.partitions.len()).then_some(epochs);
                    let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| {
                        let epoch = epochs.and_then(|epochs| epochs.get(index)).copied();
                        (PartitionId(*partition), epoch.unwrap_or(default_epoch))
                    });
                    (TopicId(topic.topic_id), partitions.collect())
                })
                .collect()
        };
        Current {
            epoch: record.member_epoch,
            previous_epoch: record.previous_member_epoch,
            state: MemberState::from_number(record.state),
            assigned: owned(&record.assigned_partitions),
            pending_revocation: owned(&record.partitions_pending_revocation),
        }
    }

    pub(super) fn to_record(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        let topics = |owned: &Owned| {
            owned
                .iter()
                .map(|(topic, partitions)| TopicPartitions {
                    topic_id: topic.0,
                    partitions: partitions.keys().map(|partition| partition.0).collect(),
                    assignment_epochs: Some(partitions.values().copied().collect()),
                    unknown_tagged_fields: Vec::new(),
                })
                .collect()
        };
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.number(),
            assigned_partitions: topics(&self.assigned),
            partitions_pending_revocation: topics(&self.pending_revocation),
            unknown_tagged_fields: Vec::new(),
        }
    }

    /// All that the member has: it keeps what it must give up until it did.
    pub(super) fn held(&self) -> impl Iterator<Item = (TopicId, PartitionId)> {
        let all = self.assigned.iter().chain(&self.pending_revocation);
        all.flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
    }
}

/// The partitions alone.
pub(super) fn to_assignment(owned: &Owned) -> Assignment {
    owned
        .iter()
        .map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()))
        .collect()
}

/// All of these partitions, got at `epoch`.
pub(super) fn owned_since(partitions: &Partitions, epoch: i32) -> Owned {
    partitions
        .iter()
        .map(|(topic, partitions)| (*topic, partitions.iter().map(|partition| (*partition, epoch)).collect()))
        .collect()
}

/// The partitions without their epochs.
pub(super) fn partitions(owned: &Owned) -> Partitions {
    owned
        .iter()
        .map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()))
        .collect()
}
