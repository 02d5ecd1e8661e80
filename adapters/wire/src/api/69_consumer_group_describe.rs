//! ConsumerGroupDescribe: consumer groups and their members (KIP-848).
//!
//! - UNSUPPORTED_VERSION while `group.version` is 0 and where `group.coordinator.rebalance.protocols` leaves `consumer` out.
//!   A group that is named twice is answered once.
//! - Version 1: whether a member speaks the classic or the consumer protocol (KIP-1099).

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::consumer_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId};
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::groups::commands::{DescribeConsumerGroup, DescribedConsumer, DescribedConsumerGroup};
use ottla_domain::ids::{PartitionId, TopicId};

use super::endpoints::text;
use super::groups::{check_group_id, shared};
use super::{Api, Call, operations};
use crate::node::Node;

pub(super) static API: Api = Api::broker(69, "ConsumerGroupDescribe", (0, 1), 0);

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let mut seen = BTreeSet::new();
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for id in request.group_ids {
        if !seen.insert(id.clone()) {
            continue;
        }
        let described = describe(call, &id).await;
        let mut group = render(call.version(), id, described);
        if request.include_authorized_operations && group.error_code == ErrorCode::None.number() {
            group.authorized_operations = operations::ON_GROUP;
        }
        groups.push(group);
    }
    ConsumerGroupDescribeResponse::default().with_groups(groups)
}

async fn describe<N: Node>(call: &Call<'_, N>, id: &GroupId) -> Result<DescribedConsumerGroup, ApiError> {
    if !call.offers_consumer_protocol() {
        return Err(ErrorCode::UnsupportedVersion.into());
    }
    check_group_id(id)?;
    let command = DescribeConsumerGroup { group_id: shared(id) };
    call.node.group(command).await?
}

fn render(version: i16, id: GroupId, described: Result<DescribedConsumerGroup, ApiError>) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(id);
    match described {
        Ok(described) => {
            let members = described.members.into_iter();
            group
                .with_group_state(text(described.state))
                .with_group_epoch(described.group_epoch)
                .with_assignment_epoch(described.assignment_epoch)
                .with_assignor_name(text(&described.assignor))
                .with_members(members.map(|one| member(version, one)).collect())
        }
        Err(error) => group
            .with_error_code(error.code.number())
            .with_error_message(error.message.as_deref().map(text)),
    }
}

fn member(version: i16, member: DescribedConsumer) -> Member {
    let names = member.subscribed_topic_names.iter();
    let response = Member::default()
        .with_member_id(text(&member.member_id))
        .with_instance_id(member.instance_id.as_deref().map(text))
        .with_rack_id(member.rack_id.as_deref().map(text))
        .with_member_epoch(member.member_epoch)
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_subscribed_topic_names(names.map(|name| text(name).into()).collect())
        .with_subscribed_topic_regex(member.subscribed_topic_regex.as_deref().map(text))
        .with_assignment(assignment(member.assignment))
        .with_target_assignment(assignment(member.target_assignment));
    if version >= 1 {
        response.with_member_type(member.member_type)
    } else {
        response
    }
}

fn assignment(topics: Vec<(TopicId, Arc<str>, Vec<PartitionId>)>) -> Assignment {
    let topics = topics.into_iter().map(|(id, name, partitions)| {
        TopicPartitions::default()
            .with_topic_id(id.0)
            .with_topic_name(text(&name).into())
            .with_partitions(partitions.into_iter().map(|partition| partition.0).collect())
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
