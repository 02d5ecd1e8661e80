//! DeleteRecords: raises log start offsets.
//!
//! - Offset -1 stands for the high watermark. Version 2: flexible.

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{Offset, PartitionId};

use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(21, "DeleteRecords", (0, 2), 2);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let id = PartitionId(partition.partition_index);
            let deleted = call
                .node
                .delete_records(&topic.name, id, Offset(partition.offset))
                .await;
            let (low_watermark, error) = match deleted {
                Ok(low_watermark) => (low_watermark, ErrorCode::None),
                Err(error) => (Offset::NONE, error),
            };
            partitions.push(
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(id.0)
                    .with_low_watermark(low_watermark.0)
                    .with_error_code(error.number()),
            );
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}
