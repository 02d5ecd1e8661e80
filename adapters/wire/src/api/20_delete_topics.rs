//! DeleteTopics: each topic on its own.
//!
//! - Version 3: TOPIC_DELETION_DISABLED, which older clients are told as INVALID_REQUEST. 4: flexible. 5: a message.
//! - Version 6: topics by id (KIP-516).

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::TopicId;
use ottla_domain::metadata::controller::topics::{DeleteTopics, DeletedTopic};

use super::endpoints::{message, text};
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(20, "DeleteTopics", (1, 6), 4).forwardable();

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request
        .topic_names
        .iter()
        .map(|name| (Some(name.to_string()), TopicId::ZERO));
    let by_either = request.topics.iter().map(|topic| {
        let name = topic.name.as_ref().map(|name| name.to_string());
        (name, TopicId(topic.topic_id))
    });
    let topics: Vec<_> = by_name.chain(by_either).collect();
    let command = DeleteTopics { topics: topics.clone() };
    let results = match call.submit(command, request.timeout_ms).await {
        Ok(results) => results,
        Err(error) => {
            let error = ApiError {
                code: match error.code {
                    ErrorCode::TopicDeletionDisabled if call.version() < 3 => ErrorCode::InvalidRequest,
                    code => code,
                },
                message: None,
            };
            let failed = |(name, id)| DeletedTopic {
                name,
                id,
                error: Some(error.clone()),
            };
            topics.into_iter().map(failed).collect()
        }
    };
    let results = results.into_iter().map(|deleted| render(call.version(), deleted));
    DeleteTopicsResponse::default().with_responses(results.collect())
}

fn render(version: i16, deleted: DeletedTopic) -> DeletableTopicResult {
    let mut response = DeletableTopicResult::default().with_name(deleted.name.as_deref().map(|name| text(name).into()));
    if version >= 6 {
        response.topic_id = deleted.id.0;
    }
    if let Some(error) = deleted.error {
        response.error_code = error.code.number();
        response.error_message = message(&error).filter(|_| version >= 5);
    }
    response
}
