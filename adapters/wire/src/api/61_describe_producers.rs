//! DescribeProducers: the producers that a partition's leader knows (KIP-664).

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::PartitionId;
use ottla_domain::partitioning::names;
use ottla_domain::ports::inbound::ActiveProducer;

use super::endpoints::{message, text};
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(61, "DescribeProducers", (0, 0), 0);

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let image = call.node.image();
    // Kafka says so of topics, not of partitions.
    let mut absent = ApiError::from(ErrorCode::UnknownTopicOrPartition);
    absent.message = message(&absent).map(|message| message.to_string());
    let topics = request.topics.into_iter().map(|topic| {
        let known = match names::validate(&topic.name) {
            Err(error) => Err(ErrorCode::InvalidTopicException.with(error.to_string())),
            Ok(()) if image.topics.by_name(&topic.name).is_none() => Err(absent.clone()),
            Ok(()) => Ok(()),
        };
        let partitions = topic.partition_indexes.iter().map(|partition| {
            let producers = known.clone();
            let producers = producers.and_then(|()| call.node.producers(&topic.name, PartitionId(*partition)));
            render(*partition, producers)
        });
        let partitions = partitions.collect();
        TopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn render(partition: i32, producers: Result<Vec<ActiveProducer>, ApiError>) -> PartitionResponse {
    let response = PartitionResponse::default().with_partition_index(partition);
    match producers {
        Ok(producers) => {
            let producers = producers.into_iter().map(|producer| {
                ProducerState::default()
                    .with_producer_id(producer.producer_id.0.into())
                    .with_producer_epoch(i32::from(producer.producer_epoch.0))
                    .with_last_sequence(producer.last_sequence)
                    .with_last_timestamp(producer.last_timestamp.0)
                    .with_coordinator_epoch(producer.coordinator_epoch)
                    .with_current_txn_start_offset(producer.current_txn_start_offset.0)
            });
            response.with_active_producers(producers.collect())
        }
        Err(error) => response
            .with_error_code(error.code.number())
            .with_error_message(error.message.as_deref().map(text)),
    }
}
