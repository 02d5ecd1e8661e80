//! What is asked of a group shard, and what it answers. No versions, throttle times or nesting of messages: those are the
//! wire's.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{ApiError, ErrorCode};
use crate::ids::{LeaderEpoch, Offset, PartitionId, TopicId};

/// A member joins a classic group or takes part in its rebalance (JoinGroup).
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// The group.
    pub group_id: Arc<str>,
    /// Empty for a member that has no id yet.
    pub member_id: Arc<str>,
    /// Names a static member across restarts (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// Of the request's header.
    pub client_id: Arc<str>,
    /// Where the client connects from, as Kafka shows it: `/` and the address.
    pub client_host: Arc<str>,
    /// How long the member may be silent.
    pub session_timeout_ms: i32,
    /// How long the member may take to join again in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: Arc<str>,
    /// What the member supports, best first, each with the metadata for whoever assigns.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Why the member joins, for a person (KIP-800).
    pub reason: Option<String>,
    /// A member without an id is told one and has to come again with it: JoinGroup 4 and later (KIP-394).
    pub requires_known_member_id: bool,
    /// The client knows that its assignment may be skipped: JoinGroup 9 and later (KIP-814).
    pub supports_skipping_assignment: bool,
}

/// What became of a JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// NONE, or why the member did not join.
    pub error: ErrorCode,
    /// The generation that begins; -1 on errors.
    pub generation_id: i32,
    /// The group's, where it has one.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that all members support.
    pub protocol_name: Option<Arc<str>>,
    /// The member that assigns; empty on errors.
    pub leader: Arc<str>,
    /// The leader should not assign: nothing changed (KIP-814).
    pub skip_assignment: bool,
    /// The id of the member, which may be new.
    pub member_id: Arc<str>,
    /// All members with their metadata, for the leader.
    pub members: Vec<JoinedMember>,
}

impl Joined {
    /// A refusal.
    pub fn refused(error: ErrorCode, member_id: Arc<str>) -> Self {
        Joined {
            error,
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: "".into(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// A member as the leader of a classic group sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// A member asks for its assignment; the leader brings all of them (SyncGroup).
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group_id: Arc<str>,
    /// The generation that the member knows.
    pub generation_id: i32,
    /// The member.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// What the member believes the group's to be, where it says (KIP-559).
    pub protocol_type: Option<Arc<str>>,
    /// What the member believes the group's to be, where it says (KIP-559).
    pub protocol_name: Option<Arc<str>>,
    /// Of the leader: the assignments by member.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// What became of a SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// NONE, or why there is no assignment.
    pub error: ErrorCode,
    /// The group's.
    pub protocol_type: Option<Arc<str>>,
    /// The group's.
    pub protocol_name: Option<Arc<str>>,
    /// What the leader made for this member.
    pub assignment: Bytes,
}

impl Synced {
    /// A refusal.
    pub fn refused(error: ErrorCode) -> Self {
        Synced {
            error,
            protocol_type: None,
            protocol_name: None,
            assignment: Bytes::new(),
        }
    }
}

/// A member of a classic group lives (Heartbeat).
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group_id: Arc<str>,
    /// The generation that the member knows.
    pub generation_id: i32,
    /// The member.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
}

/// Members leave, or an administrator removes them (LeaveGroup).
#[derive(Clone, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: Arc<str>,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// Who leaves a group.
#[derive(Clone, Debug)]
pub struct LeavingMember {
    /// Its id; empty when only the instance id is known.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// Why, for a person (KIP-800).
    pub reason: Option<String>,
}

/// What became of a LeaveGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// NONE, or an error of the whole.
    pub error: ErrorCode,
    /// Outcomes in the order of the request: member id, instance id, error.
    pub members: Vec<(Arc<str>, Option<Arc<str>>, ErrorCode)>,
}

/// Offsets to commit (OffsetCommit). The topics exist, and names and ids belong together.
#[derive(Clone, Debug)]
pub struct OffsetCommit {
    /// The group.
    pub group_id: Arc<str>,
    /// The member's; negative outside of a group.
    pub generation_id_or_member_epoch: i32,
    /// The member; empty outside of a group.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// How long to keep the offsets, where an old client says; else by `offsets.retention.minutes`.
    pub retention_time_ms: Option<i64>,
    /// OffsetCommit 9 and later: the client knows STALE_MEMBER_EPOCH and GROUP_ID_NOT_FOUND (KIP-848).
    pub knows_member_epochs: bool,
    /// What to commit.
    pub topics: Vec<CommitTopic>,
}

/// Offsets of one topic to commit.
#[derive(Clone, Debug)]
pub struct CommitTopic {
    /// The topic's name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// The offsets.
    pub partitions: Vec<CommitPartition>,
}

/// An offset to commit.
#[derive(Clone, Debug)]
pub struct CommitPartition {
    /// Of which partition.
    pub partition: PartitionId,
    /// The next offset to read.
    pub offset: Offset,
    /// The epoch of the last record read, else -1.
    pub leader_epoch: LeaderEpoch,
    /// The client's own text.
    pub metadata: Option<Arc<str>>,
}

/// Outcomes by topic and partition, in the order of the request.
pub type PartitionErrors = Vec<(Arc<str>, TopicId, Vec<(PartitionId, ErrorCode)>)>;

/// Which committed offsets to read (one group of OffsetFetch).
#[derive(Clone, Debug)]
pub struct OffsetFetch {
    /// The group.
    pub group_id: Arc<str>,
    /// The member, where it says (KIP-848).
    pub member_id: Option<Arc<str>>,
    /// The member's epoch; negative outside of a group.
    pub member_epoch: i32,
    /// The partitions by topic; `None` for all there are.
    pub topics: Option<Vec<FetchTopic>>,
    /// Do not show offsets that an open transaction may change (KIP-447).
    pub require_stable: bool,
}

/// Partitions of a topic whose offsets are read: its name and id, which is [`TopicId::ZERO`] when the client does not use it.
pub type FetchTopic = (Arc<str>, TopicId, Vec<PartitionId>);

/// Committed offsets by topic, or the error of the whole group.
pub type FetchedOffsets = Result<Vec<(Arc<str>, TopicId, Vec<FetchedOffset>)>, ErrorCode>;

/// The committed offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// Of which partition.
    pub partition: PartitionId,
    /// -1 when there is none.
    pub offset: Offset,
    /// -1 when it is unknown.
    pub leader_epoch: LeaderEpoch,
    /// The client's own text; empty when there is none.
    pub metadata: Arc<str>,
    /// NONE or UNSTABLE_OFFSET_COMMIT.
    pub error: ErrorCode,
}

/// A classic group is shown (DescribeGroups).
#[derive(Clone, Debug)]
pub struct DescribeGroup {
    /// The group.
    pub group_id: Arc<str>,
}

/// A classic group as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// `Stable`, `Empty`, ...
    pub state: &'static str,
    /// `consumer`, `connect`, ...; may be empty.
    pub protocol_type: Arc<str>,
    /// The chosen protocol of a stable group, else empty.
    pub protocol_name: Arc<str>,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member of a classic group as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// Its client's id.
    pub client_id: Arc<str>,
    /// Its client's address.
    pub client_host: Arc<str>,
    /// Its metadata for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment; it stays while the group rebalances.
    pub assignment: Bytes,
}

/// Groups are listed (ListGroups).
#[derive(Clone, Debug, Default)]
pub struct ListGroups {
    /// Only groups in these states, in lower case; empty for all (KIP-518).
    pub states: Arc<BTreeSet<String>>,
    /// Only groups of these types, in lower case; empty for all (KIP-848).
    pub types: Arc<BTreeSet<String>>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: Arc<str>,
    /// `consumer`, `connect`, ...; may be empty.
    pub protocol_type: Arc<str>,
    /// `Stable`, `Empty`, ...
    pub state: &'static str,
    /// `Classic` or `Consumer`, as in Kafka's `GroupType`.
    pub group_type: &'static str,
}

/// A group is deleted with its offsets (DeleteGroups).
#[derive(Clone, Debug)]
pub struct DeleteGroup {
    /// The group.
    pub group_id: Arc<str>,
}

/// Offsets of a group are deleted (OffsetDelete, KIP-496).
#[derive(Clone, Debug)]
pub struct OffsetDelete {
    /// The group.
    pub group_id: Arc<str>,
    /// The partitions by topic.
    pub topics: Vec<(Arc<str>, Vec<PartitionId>)>,
}

/// A member of a consumer group joins, lives, changes or leaves (ConsumerGroupHeartbeat, KIP-848). Fields that are `None`
/// did not change since the last heartbeat.
#[derive(Clone, Debug)]
pub struct ConsumerGroupHeartbeat {
    /// The group.
    pub group_id: Arc<str>,
    /// The member; empty when version 0 of the request joins, then the group makes one.
    pub member_id: Arc<str>,
    /// 0 joins, -1 leaves, -2 lets a static member leave for a while.
    pub member_epoch: i32,
    /// Names a static member across restarts.
    pub instance_id: Option<Arc<str>>,
    /// The member's rack.
    pub rack_id: Option<Arc<str>>,
    /// How long the member may take to give partitions up; -1 when it did not change.
    pub rebalance_timeout_ms: i32,
    /// Topics by name.
    pub subscribed_topic_names: Option<Vec<Arc<str>>>,
    /// Topics by a pattern of RE2's syntax.
    pub subscribed_topic_regex: Option<Arc<str>>,
    /// The assignor that the member prefers.
    pub server_assignor: Option<Arc<str>>,
    /// The partitions that the member has.
    pub topic_partitions: Option<Assignment>,
    /// Of the request's header.
    pub client_id: Arc<str>,
    /// Where the client connects from, as Kafka shows it.
    pub client_host: Arc<str>,
    /// The client makes its member id: ConsumerGroupHeartbeat 1 and later (KIP-1082).
    pub makes_member_id: bool,
}

/// Partitions by topic.
pub type Assignment = Vec<(TopicId, Vec<PartitionId>)>;

/// The answer to a ConsumerGroupHeartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeatReply {
    /// The member.
    pub member_id: Arc<str>,
    /// Its epoch from now on.
    pub member_epoch: i32,
    /// When to come again; 0 for one that left.
    pub heartbeat_interval_ms: i32,
    /// What the member should have, when that changed or it asked.
    pub assignment: Option<Assignment>,
}

/// A consumer group is shown (ConsumerGroupDescribe).
#[derive(Clone, Debug)]
pub struct DescribeConsumerGroup {
    /// The group.
    pub group_id: Arc<str>,
}

/// A consumer group as ConsumerGroupDescribe shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    /// `Stable`, `Reconciling`, ...
    pub state: &'static str,
    /// The group's epoch.
    pub group_epoch: i32,
    /// The epoch of the target assignment.
    pub assignment_epoch: i32,
    /// The assignor that the group uses.
    pub assignor: Arc<str>,
    /// The members.
    pub members: Vec<DescribedConsumer>,
}

/// A member as ConsumerGroupDescribe shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumer {
    /// Its id.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// Its epoch.
    pub member_epoch: i32,
    /// Its client's id.
    pub client_id: Arc<str>,
    /// Its client's address.
    pub client_host: Arc<str>,
    /// Topics by name.
    pub subscribed_topic_names: Vec<Arc<str>>,
    /// Topics by a pattern; `None` without one.
    pub subscribed_topic_regex: Option<Arc<str>>,
    /// What it has, with the topics' names.
    pub assignment: Vec<(TopicId, Arc<str>, Vec<PartitionId>)>,
    /// What it should have, with the topics' names.
    pub target_assignment: Vec<(TopicId, Arc<str>, Vec<PartitionId>)>,
    /// -1 unknown, 0 classic, 1 consumer.
    pub member_type: i8,
}

/// A command with its answer: one request of a client to one group.
pub trait GroupCommand: Sized + Send + 'static {
    /// What it is answered with.
    type Reply: Send + 'static;

    /// The group that it is for.
    fn group_id(&self) -> &str;

    /// The command as the shard takes it.
    fn into_command(self) -> Command;

    /// The answer out of what the shard gives; `None` when it is one to another command.
    fn reply(reply: Reply) -> Option<Self::Reply>;
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident => $reply:ty;)*) => {
        /// A command to a shard.
        #[derive(Clone, Debug)]
        pub enum Command {
            $($(#[$doc])* $name($name),)*
            /// What the groups of this shard are, for ListGroups.
            ListGroups(ListGroups),
        }

        /// An answer of a shard, named as its command.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Reply {
            $($(#[$doc])* $name($reply),)*
            /// What the groups of this shard are.
            ListGroups(Vec<ListedGroup>),
        }

        $(impl GroupCommand for $name {
            type Reply = $reply;

            fn group_id(&self) -> &str {
                &self.group_id
            }

            fn into_command(self) -> Command {
                Command::$name(self)
            }

            fn reply(reply: Reply) -> Option<$reply> {
                match reply {
                    Reply::$name(reply) => Some(reply),
                    _ => None,
                }
            }
        })*
    };
}

commands! {
    /// Joins a classic group.
    JoinGroup => Joined;
    /// Asks for the assignment in a classic group.
    SyncGroup => Synced;
    /// Keeps a member of a classic group alive.
    Heartbeat => ErrorCode;
    /// Takes members out.
    LeaveGroup => Left;
    /// Commits offsets; the error is one of the whole.
    OffsetCommit => Result<PartitionErrors, ErrorCode>;
    /// Reads committed offsets.
    OffsetFetch => FetchedOffsets;
    /// Shows a classic group; GROUP_ID_NOT_FOUND with Kafka's message where there is none.
    DescribeGroup => Result<DescribedGroup, ApiError>;
    /// Deletes a group.
    DeleteGroup => Result<(), ApiError>;
    /// Deletes offsets; the error is one of the whole.
    OffsetDelete => Result<PartitionErrors, ErrorCode>;
    /// Joins, keeps alive, or leaves a consumer group.
    ConsumerGroupHeartbeat => Result<ConsumerGroupHeartbeatReply, ApiError>;
    /// Shows a consumer group.
    DescribeConsumerGroup => Result<DescribedConsumerGroup, ApiError>;
}

/// A committed offset with its place, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The group.
    pub group_id: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The next offset to read.
    pub offset: Offset,
}

/// A group in short, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// The group.
    pub group_id: Arc<str>,
    /// It is a consumer group (KIP-848), not a classic one.
    pub is_consumer: bool,
    /// `Stable`, `Empty`, ...
    pub state: &'static str,
    /// How many members it has.
    pub members: usize,
}
