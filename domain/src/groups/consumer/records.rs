//! The records of a consumer group, as `GroupCoordinatorRecordHelpers` of Kafka 4.3 makes them.

use super::member::Current;
use super::state::State;
use crate::groups::assignors::Partitions;
use crate::groups::records::*;

/// What a member said of itself; `None` removes it.
pub(super) fn member(group_id: &str, member_id: &str, value: Option<ConsumerGroupMemberMetadataValue>) -> GroupRecord {
    let key = ConsumerGroupMemberMetadataKey {
        group_id: group_id.to_owned(),
        member_id: member_id.to_owned(),
    };
    GroupRecord::ConsumerGroupMemberMetadata(key, value)
}

/// What a member has; `None` when it is removed.
pub(super) fn current(group_id: &str, member_id: &str, value: Option<&Current>) -> GroupRecord {
    let key = ConsumerGroupCurrentMemberAssignmentKey {
        group_id: group_id.to_owned(),
        member_id: member_id.to_owned(),
    };
    GroupRecord::ConsumerGroupCurrentMemberAssignment(key, value.map(Current::to_record))
}

/// What a member should have; `None` when it is removed.
pub(super) fn target(group_id: &str, member_id: &str, value: Option<&Partitions>) -> GroupRecord {
    let key = ConsumerGroupTargetAssignmentMemberKey {
        group_id: group_id.to_owned(),
        member_id: member_id.to_owned(),
    };
    let value = value.map(|partitions| ConsumerGroupTargetAssignmentMemberValue {
        topic_partitions: partitions
            .iter()
            .map(|(topic, partitions)| TopicPartition {
                topic_id: topic.0,
                partitions: partitions.iter().map(|partition| partition.0).collect(),
                unknown_tagged_fields: Vec::new(),
            })
            .collect(),
        unknown_tagged_fields: Vec::new(),
    });
    GroupRecord::ConsumerGroupTargetAssignmentMember(key, value)
}

/// The epoch of the target assignment and when it was made; `None` when the group is deleted.
pub(super) fn target_metadata(group_id: &str, value: Option<(i32, i64)>) -> GroupRecord {
    let key = ConsumerGroupTargetAssignmentMetadataKey {
        group_id: group_id.to_owned(),
    };
    let value = value.map(
        |(assignment_epoch, assignment_timestamp)| ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch,
            assignment_timestamp,
            unknown_tagged_fields: Vec::new(),
        },
    );
    GroupRecord::ConsumerGroupTargetAssignmentMetadata(key, value)
}

/// The group's epoch and the hash of its topics; `None` when the group is deleted.
pub(super) fn epoch(group_id: &str, value: Option<(i32, i64)>) -> GroupRecord {
    let key = ConsumerGroupMetadataKey {
        group_id: group_id.to_owned(),
    };
    let value = value.map(|(epoch, metadata_hash)| ConsumerGroupMetadataValue {
        epoch,
        metadata_hash,
        unknown_tagged_fields: Vec::new(),
    });
    GroupRecord::ConsumerGroupMetadata(key, value)
}

/// Removes the description of the topics that coordinators before Kafka 4.1 kept in place of the hash.
pub(super) fn no_partition_metadata(group_id: &str) -> GroupRecord {
    let key = ConsumerGroupPartitionMetadataKey {
        group_id: group_id.to_owned(),
    };
    GroupRecord::ConsumerGroupPartitionMetadata(key, None)
}

/// The topics of a pattern; `None` when no member subscribes to it any more.
pub(super) fn pattern(
    group_id: &str,
    pattern: &str,
    value: Option<ConsumerGroupRegularExpressionValue>,
) -> GroupRecord {
    let key = ConsumerGroupRegularExpressionKey {
        group_id: group_id.to_owned(),
        regular_expression: pattern.to_owned(),
    };
    GroupRecord::ConsumerGroupRegularExpression(key, value)
}

/// The tombstones of a member, in the order in which they can be replayed.
pub(super) fn remove_member(group_id: &str, member_id: &str, out: &mut Vec<GroupRecord>) {
    out.push(current(group_id, member_id, None));
    out.push(target(group_id, member_id, None));
    out.push(member(group_id, member_id, None));
}

/// The tombstones of a whole group.
pub(super) fn remove_group(group_id: &str, state: &State, out: &mut Vec<GroupRecord>) {
    let members = || state.members.keys();
    out.extend(members().map(|member_id| current(group_id, member_id, None)));
    out.extend(members().map(|member_id| target(group_id, member_id, None)));
    out.push(target_metadata(group_id, None));
    out.extend(members().map(|member_id| member(group_id, member_id, None)));
    out.extend(state.resolved.keys().map(|regex| pattern(group_id, regex, None)));
    out.push(no_partition_metadata(group_id));
    out.push(epoch(group_id, None));
}
