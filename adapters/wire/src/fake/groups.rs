//! Groups for tests: every command is kept and answered with something in each field.

use std::sync::Arc;

use bytes::Bytes;
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::groups::commands::*;
use ottla_domain::ids::{BrokerId, LeaderEpoch, Offset, TopicId};
use ottla_domain::ports::inbound::GroupApi;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{FakeNode, TOPIC_ID};

/// A group that does not exist.
pub(crate) const ABSENT: &str = "absent";

#[derive(Default)]
pub(crate) struct FakeGroups {
    /// What groups were asked, in that order.
    pub(crate) commands: Mutex<Vec<Command>>,
    /// Refuses all commands.
    pub(crate) refusal: Mutex<Option<ErrorCode>>,
    /// A rebalance is under way while this is true.
    pub(crate) rebalances: watch::Sender<bool>,
}

impl GroupApi for FakeNode {
    async fn find_group_coordinator(&self, group_id: &str) -> Result<BrokerId, ApiError> {
        match group_id {
            ABSENT => Err(ErrorCode::CoordinatorNotAvailable.with("no offsets topic")),
            "elsewhere" => Ok(BrokerId(404)),
            _ => Ok(BrokerId(1)),
        }
    }

    async fn group<C: GroupCommand>(&self, command: C) -> Result<C::Reply, ErrorCode> {
        let command = command.into_command();
        let waits = matches!(command, Command::JoinGroup(_) | Command::SyncGroup(_));
        let reply = reply(&command);
        self.groups.commands.lock().push(command);
        if let Some(refusal) = *self.groups.refusal.lock() {
            return Err(refusal);
        }
        if waits {
            let mut rebalances = self.groups.rebalances.subscribe();
            rebalances.wait_for(|rebalances| !rebalances).await.unwrap();
        }
        Ok(C::reply(reply).unwrap())
    }

    async fn list_groups(&self, filter: ListGroups) -> Result<Vec<ListedGroup>, ErrorCode> {
        if let Some(refusal) = *self.groups.refusal.lock() {
            return Err(refusal);
        }
        let listed = ListedGroup {
            group_id: "group".into(),
            protocol_type: "consumer".into(),
            state: "Stable",
            group_type: "classic",
        };
        let all = filter.states.is_empty() || filter.states.contains("stable");
        self.groups.commands.lock().push(Command::ListGroups(filter));
        Ok(if all { vec![listed] } else { Vec::new() })
    }
}

fn absent(group_id: &str) -> ApiError {
    ErrorCode::GroupIdNotFound.with(format!("Group {group_id} not found."))
}

fn reply(command: &Command) -> Reply {
    match command {
        Command::JoinGroup(_) => Reply::JoinGroup(Joined {
            error: ErrorCode::None,
            generation_id: 3,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            leader: "leader".into(),
            skip_assignment: true,
            member_id: "member-1".into(),
            members: vec![JoinedMember {
                member_id: "member-1".into(),
                group_instance_id: Some("instance".into()),
                metadata: Bytes::from_static(b"metadata"),
            }],
        }),
        Command::SyncGroup(_) => Reply::SyncGroup(Synced {
            error: ErrorCode::None,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignment: Bytes::from_static(b"assignment"),
        }),
        Command::Heartbeat(_) => Reply::Heartbeat(ErrorCode::RebalanceInProgress),
        Command::LeaveGroup(leave) => Reply::LeaveGroup(Left {
            error: ErrorCode::None,
            members: leave.members.iter().map(left).collect(),
        }),
        Command::OffsetCommit(commit) => {
            let topics = commit.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|one| (one.partition, committed(one)));
                (Arc::clone(&topic.name), topic.id, partitions.collect())
            });
            Reply::OffsetCommit(Ok(topics.collect()))
        }
        Command::OffsetFetch(fetch) => Reply::OffsetFetch(fetched(fetch)),
        Command::DescribeGroup(one) if &*one.group_id == ABSENT => Reply::DescribeGroup(Err(absent(ABSENT))),
        Command::DescribeGroup(_) => Reply::DescribeGroup(Ok(DescribedGroup {
            state: "Stable",
            protocol_type: "consumer".into(),
            protocol_name: "range".into(),
            members: vec![DescribedMember {
                member_id: "member-1".into(),
                group_instance_id: Some("instance".into()),
                client_id: "client".into(),
                client_host: "/127.0.0.1".into(),
                metadata: Bytes::from_static(b"metadata"),
                assignment: Bytes::from_static(b"assignment"),
            }],
        })),
        Command::DeleteGroup(one) if &*one.group_id == ABSENT => Reply::DeleteGroup(Err(absent(ABSENT))),
        Command::DeleteGroup(_) => Reply::DeleteGroup(Ok(())),
        Command::OffsetDelete(delete) => {
            let topics = delete.topics.iter().map(|(name, partitions)| {
                let outcomes = partitions.iter().map(|id| (*id, ErrorCode::GroupSubscribedToTopic));
                (Arc::clone(name), TopicId::ZERO, outcomes.collect())
            });
            Reply::OffsetDelete(Ok(topics.collect()))
        }
        Command::ConsumerGroupHeartbeat(one) if &*one.group_id == ABSENT => {
            Reply::ConsumerGroupHeartbeat(Err(absent(ABSENT)))
        }
        Command::ConsumerGroupHeartbeat(one) => Reply::ConsumerGroupHeartbeat(Ok(ConsumerGroupHeartbeatReply {
            member_id: Arc::clone(&one.member_id),
            member_epoch: one.member_epoch.saturating_add(1),
            heartbeat_interval_ms: 5_000,
            assignment: one.topic_partitions.clone(),
        })),
        Command::DescribeConsumerGroup(one) if &*one.group_id == ABSENT => {
            Reply::DescribeConsumerGroup(Err(absent(ABSENT)))
        }
        Command::DescribeConsumerGroup(_) => Reply::DescribeConsumerGroup(Ok(described_consumer_group())),
        Command::ListGroups(_) => Reply::ListGroups(Vec::new()),
    }
}

fn left(member: &LeavingMember) -> (Arc<str>, Option<Arc<str>>, ErrorCode) {
    let instance = member.group_instance_id.clone();
    (Arc::clone(&member.member_id), instance, ErrorCode::UnknownMemberId)
}

fn committed(partition: &CommitPartition) -> ErrorCode {
    if partition.metadata.as_ref().is_some_and(|text| text.len() > 4) {
        ErrorCode::OffsetMetadataTooLarge
    } else {
        ErrorCode::None
    }
}

/// Partition 1 has no offset; all topics are one that exists and one that does not any more.
fn fetched(fetch: &OffsetFetch) -> FetchedOffsets {
    let offset = |partition| FetchedOffset {
        partition,
        offset: if partition.0 == 1 { Offset::NONE } else { Offset(10) },
        leader_epoch: LeaderEpoch(2),
        metadata: "note".into(),
        error: ErrorCode::None,
    };
    let topics = match &fetch.topics {
        Some(topics) => topics.clone(),
        None => ["topic", "gone"]
            .map(|name| (name.into(), TopicId::ZERO, vec![0.into()]))
            .into(),
    };
    let topics = topics.into_iter().map(|(name, id, partitions)| {
        let offsets = partitions.into_iter().map(offset);
        (name, id, offsets.collect())
    });
    Ok(topics.collect())
}

fn described_consumer_group() -> DescribedConsumerGroup {
    let assignment = vec![(TopicId(TOPIC_ID), "topic".into(), vec![0.into(), 1.into()])];
    DescribedConsumerGroup {
        state: "Reconciling",
        group_epoch: 4,
        assignment_epoch: 3,
        assignor: "uniform".into(),
        members: vec![DescribedConsumer {
            member_id: "member-1".into(),
            instance_id: Some("instance".into()),
            rack_id: Some("rack".into()),
            member_epoch: 3,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            subscribed_topic_names: vec!["topic".into()],
            subscribed_topic_regex: Some("t.*".into()),
            assignment: assignment.clone(),
            target_assignment: assignment,
            member_type: 1,
        }],
    }
}
