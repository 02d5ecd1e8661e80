//! CreateTopics: each topic on its own, some may fail while others are created.
//!
//! - Version 4: default partitions and replicas (KIP-464). 5: flexible; what was created is told (KIP-525).
//! - Version 6: THROTTLING_QUOTA_EXCEEDED. 7: topic ids (KIP-516).

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::ApiError;
use ottla_domain::ids::{BrokerId, PartitionId};
use ottla_domain::metadata::config::topic_setting;
use ottla_domain::metadata::controller::topics::{CreateTopics, CreatedTopic, NewTopic};

use super::endpoints::{message, text};
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(19, "CreateTopics", (2, 7), 5).forwardable();

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
    let command = CreateTopics {
        topics: request.topics.into_iter().map(new_topic).collect(),
        validate_only: request.validate_only,
    };
    let results = match call.submit(command, request.timeout_ms).await {
        Ok(results) => results,
        Err(error) => names.into_iter().map(|name| (name, Err(error.clone()))).collect(),
    };
    let results = results
        .iter()
        .map(|(name, result)| render(call.version(), name, result));
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter().map(|assignment| {
        let replicas = assignment.broker_ids.into_iter().map(|id| BrokerId(id.0));
        (PartitionId(assignment.partition_index), replicas.collect())
    });
    let configs = topic.configs.into_iter().map(|config| {
        let value = config.value.map(|value| value.to_string());
        (config.name.to_string(), value)
    });
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
    }
}

fn render(version: i16, name: &str, result: &Result<CreatedTopic, ApiError>) -> CreatableTopicResult {
    let response = CreatableTopicResult::default()
        .with_name(text(name).into())
        .with_error_message(None);
    let created = match result {
        Ok(created) => created,
        Err(error) => {
            return response
                .with_error_code(error.code.number())
                .with_error_message(message(error))
                .with_configs(Some(Vec::new()));
        }
    };
    let response = if version >= 7 {
        response.with_topic_id(created.id.0)
    } else {
        response
    };
    if version < 5 {
        return response;
    }
    let configs = created.configs.iter().map(|(name, value, source)| {
        let is_sensitive = topic_setting(name).is_some_and(|topic| topic.setting.kind.is_sensitive());
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(value.as_deref().filter(|_| !is_sensitive).map(text))
            .with_config_source(source.number())
            .with_is_sensitive(is_sensitive)
    });
    response
        .with_num_partitions(created.partitions)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(configs.collect()))
}
