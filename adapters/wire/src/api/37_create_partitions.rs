//! CreatePartitions: gives topics more partitions (KIP-195), each topic on its own.
//!
//! - Version 2: flexible. 3: THROTTLING_QUOTA_EXCEEDED.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use ottla_domain::ids::BrokerId;
use ottla_domain::metadata::controller::partitions::{CreatePartitions, MorePartitions};

use super::endpoints::text;
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(37, "CreatePartitions", (0, 3), 2).forwardable();

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
    let command = CreatePartitions {
        topics: request.topics.into_iter().map(more_partitions).collect(),
        validate_only: request.validate_only,
    };
    let results = match call.submit(command, request.timeout_ms).await {
        Ok(results) => results,
        Err(error) => names.into_iter().map(|name| (name, Err(error.clone()))).collect(),
    };
    let results = results.into_iter().map(|(name, result)| {
        let response = CreatePartitionsTopicResult::default()
            .with_name(text(&name).into())
            .with_error_message(None);
        match result {
            Ok(()) => response,
            Err(error) => response
                .with_error_code(error.code.number())
                .with_error_message(error.message.as_deref().map(text)),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn more_partitions(topic: CreatePartitionsTopic) -> MorePartitions {
    let assignments = topic.assignments.map(|assignments| {
        let replicas = assignments.into_iter().map(|assignment| {
            let replicas = assignment.broker_ids.into_iter();
            replicas.map(|id| BrokerId(id.0)).collect()
        });
        replicas.collect()
    });
    MorePartitions {
        name: topic.name.to_string(),
        count: topic.count,
        assignments,
    }
}
