//! ConsumerGroupHeartbeat: a member of a consumer group joins, lives, changes or leaves (KIP-848).
//!
//! - UNSUPPORTED_VERSION while `group.version` is 0 and where `group.coordinator.rebalance.protocols` leaves `consumer` out.
//! - Version 1: patterns, and members that make their own ids (KIP-1082).

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::groups::commands::{ConsumerGroupHeartbeat, ConsumerGroupHeartbeatReply};
use ottla_domain::ids::{PartitionId, TopicId};

use super::endpoints::text;
use super::groups::{shared, shared_option};
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(68, "ConsumerGroupHeartbeat", (0, 1), 0).served_at_limit();

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let reply = if call.offers_consumer_protocol() {
        call.node.group(command(call, request)).await
    } else {
        Err(ErrorCode::UnsupportedVersion)
    };
    match reply.unwrap_or_else(|error| Err(ApiError::from(error))) {
        Ok(reply) => render(reply),
        Err(error) => ConsumerGroupHeartbeatResponse::default()
            .with_error_code(error.code.number())
            .with_error_message(error.message.as_deref().map(text)),
    }
}

fn command<N: Node>(call: &Call<'_, N>, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeat {
    let names = request.subscribed_topic_names;
    let owned = request.topic_partitions.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(PartitionId);
            (TopicId(topic.topic_id), partitions.collect())
        });
        topics.collect()
    });
    ConsumerGroupHeartbeat {
        group_id: shared(&request.group_id),
        member_id: shared(&request.member_id),
        member_epoch: request.member_epoch,
        instance_id: shared_option(request.instance_id.as_ref()),
        rack_id: shared_option(request.rack_id.as_ref()),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_topic_names: names.map(|names| names.iter().map(|name| shared(name)).collect()),
        subscribed_topic_regex: shared_option(request.subscribed_topic_regex.as_ref()),
        server_assignor: shared_option(request.server_assignor.as_ref()),
        topic_partitions: owned,
        client_id: call.client_id(),
        client_host: call.client_host(),
        makes_member_id: call.version() >= 1,
    }
}

fn render(reply: ConsumerGroupHeartbeatReply) -> ConsumerGroupHeartbeatResponse {
    let assignment = reply.assignment.map(|topics| {
        let topics = topics.into_iter().map(|(id, partitions)| {
            TopicPartitions::default()
                .with_topic_id(id.0)
                .with_partitions(partitions.into_iter().map(|partition| partition.0).collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(text(&reply.member_id)))
        .with_member_epoch(reply.member_epoch)
        .with_heartbeat_interval_ms(reply.heartbeat_interval_ms)
        .with_assignment(assignment)
}
