//! Produce: appends records.
//!
//! - Advertised from version 0, as Apache Kafka 4 does, because librdkafka otherwise turns compression off; the request
//!   checker refuses versions below 3.
//! - Version 3: transactional ids (KIP-98). 4: KAFKA_STORAGE_ERROR. 5: the log start offset. 7: zstd (KIP-110).
//! - Version 8: the records at fault, and a message (KIP-467). 9: flexible. 10: the leader to go to (KIP-951).
//! - Versions 11 and 12: clients that know of TRANSACTION_ABORTABLE and of implicit additions to transactions (KIP-890).
//! - Version 13: topics by id (KIP-516).
//! - `acks=0` has no answer; an error closes the connection, so that the producer refreshes its metadata.

use std::sync::Arc;

use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{Offset, PartitionId, Timestamp};
use ottla_domain::ports::inbound::{Acks, Produce, ProduceError, ProduceReply, Produced, TopicRef, Waiting};

use super::endpoints::{Sight, text};
use super::{Answer, Api, Call, Head, Refusal};
use crate::metrics;
use crate::node::Node;
use crate::produce_request::{self, ProduceRequest};
use crate::response::Response;

pub(super) static API: Api = Api::broker(0, "Produce", (0, 13), 9).served_at_limit();
/// The client id with which Apache Kafka's own tools may write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

pub(super) async fn handle<N: Node>(call: &Call<'_, N>) -> Result<Answer<N::Region>, Refusal> {
    let version = call.version();
    let request =
        produce_request::decode(&call.request.body, version).map_err(|error| call.request.unreadable(&error))?;
    let head = call.request.head();
    let acks = match request.acks {
        -1 => Acks::All,
        0 => Acks::None,
        1 => Acks::Leader,
        _ => return respond(head, call.node, &call.listener.name, &refuse_acks(&request)).map(Answer::Now),
    };
    let produce = Produce {
        acks,
        timeout_ms: request.timeout_ms,
        transactional_id: request.transactional_id,
        zstd_allowed: version >= 7,
        internal_topics_allowed: call.request.client_id.as_deref() == Some(ADMIN_CLIENT.as_bytes()),
        topics: request.topics,
    };
    let waiting = call.node.produce(produce).await;
    if acks == Acks::None {
        let reply = match waiting {
            Waiting::Ready(reply) => reply,
            Waiting::Later(reply) => reply.await,
        };
        let failed = |(_, partitions): &(_, Vec<Produced>)| partitions.iter().any(|one| one.error.is_some());
        return if reply.iter().any(failed) {
            Err(Refusal::Silently)
        } else {
            Ok(Answer::Silent)
        };
    }
    match waiting {
        Waiting::Ready(reply) => respond(head, call.node, &call.listener.name, &reply).map(Answer::Now),
        Waiting::Later(reply) => {
            let (node, listener) = (Arc::clone(call.node), Arc::clone(&call.listener.name));
            let response = async move { respond(head, &node, &listener, &reply.await) };
            Ok(Answer::Later(Box::pin(response)))
        }
    }
}

fn refuse_acks(request: &ProduceRequest) -> ProduceReply {
    let refused = |partition: PartitionId| Produced {
        partition,
        error: Some(ProduceError {
            error: ErrorCode::InvalidRequiredAcks.into(),
            record_errors: Vec::new(),
        }),
        base_offset: Offset::NONE,
        log_append_time: Timestamp::NONE,
        log_start_offset: Offset::NONE,
        current_leader: None,
    };
    let topics = request.topics.iter();
    topics
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|(partition, _)| refused(*partition));
            (topic.topic.clone(), partitions.collect())
        })
        .collect()
}

fn respond<N: Node>(
    head: Head,
    node: &Arc<N>,
    listener: &str,
    reply: &ProduceReply,
) -> Result<Response<N::Region>, Refusal> {
    let topics = reply.iter().map(|(topic, partitions)| {
        let response = TopicProduceResponse::default()
            .with_partition_responses(partitions.iter().map(|one| partition(head.version, one)).collect());
        match topic {
            TopicRef::Id(id) => response.with_topic_id(id.0),
            TopicRef::Name(name) => response.with_name(text(name).into()),
        }
    });
    let mut response = ProduceResponse::default().with_responses(topics.collect());
    if head.version >= 10 {
        let partitions = reply.iter().flat_map(|(_, partitions)| partitions);
        let mut leaders = partitions
            .filter_map(|one| one.current_leader.map(|(leader, _)| leader))
            .peekable();
        if leaders.peek().is_some() {
            let image = &node.image();
            let endpoints = Sight { image, listener }.leaders(leaders).into_iter().map(|endpoint| {
                NodeEndpoint::default()
                    .with_node_id(endpoint.node.0.into())
                    .with_host(StrBytes::from_string(endpoint.host))
                    .with_port(endpoint.port)
                    .with_rack(endpoint.rack.map(StrBytes::from_string))
            });
            response.node_endpoints = endpoints.collect();
        }
    }
    head.encode(&response)
}

fn partition(version: i16, produced: &Produced) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default()
        .with_index(produced.partition.0)
        .with_base_offset(produced.base_offset.0)
        .with_log_append_time_ms(produced.log_append_time.0)
        .with_log_start_offset(produced.log_start_offset.0);
    let Some(error) = &produced.error else {
        return response;
    };
    metrics::error(&API, error.error.code);
    response.error_code = error.error.code.number();
    if version >= 8 {
        response.error_message = error.error.message.as_deref().map(text);
        let record_errors = error.record_errors.iter().map(|(index, message)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(message.as_deref().map(text))
        });
        response.record_errors = record_errors.collect();
    }
    if version >= 10
        && let Some((leader, epoch)) = produced.current_leader
    {
        response.current_leader = LeaderIdAndEpoch::default()
            .with_leader_id(leader.0.into())
            .with_leader_epoch(epoch.0);
    }
    response
}
