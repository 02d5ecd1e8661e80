//! ElectLeaders: gives leadership to preferred replicas, or, for partitions without a leader, to any replica (KIP-460).
//!
//! - Version 1: unclean elections, an error of the whole. 2: flexible.
//! - A null list asks for all partitions; those that need no election are left out of the answer then.

use std::collections::BTreeMap;

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::PartitionId;
use ottla_domain::metadata::controller::isr::ElectLeaders;

use super::endpoints::text;
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(43, "ElectLeaders", (0, 2), 2).forwardable();

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let unclean = match request.election_type {
        0 => false,
        1 => true,
        _ => return refuse(call.version(), ErrorCode::InvalidRequest),
    };
    let partitions: Option<Vec<_>> = request.topic_partitions.map(|topics| {
        let partitions = topics.into_iter().flat_map(|topic| {
            let name = topic.topic.to_string();
            let partitions = topic.partitions.into_iter();
            partitions.map(move |partition| (name.clone(), PartitionId(partition)))
        });
        partitions.collect()
    });
    let command = ElectLeaders {
        unclean,
        partitions: partitions.clone(),
    };
    let (error, elected) = match call.submit(command, request.timeout_ms).await {
        Ok(elected) => (ErrorCode::None, elected),
        Err(error) => {
            let failed = partitions.into_iter().flatten();
            let failed = failed.map(|(name, partition)| (name, partition, Some(error.clone())));
            (error.code, failed.collect())
        }
    };
    let mut topics: BTreeMap<&str, Vec<PartitionResult>> = BTreeMap::new();
    for (name, partition, error) in &elected {
        let mut result = PartitionResult::default().with_partition_id(partition.0);
        if let Some(error) = error {
            result.error_code = error.code.number();
            result.error_message = error.message.as_deref().map(text);
        }
        topics.entry(name).or_default().push(result);
    }
    let results = topics.into_iter().map(|(topic, results)| {
        ReplicaElectionResult::default()
            .with_topic(text(topic).into())
            .with_partition_result(results)
    });
    refuse(call.version(), error).with_replica_election_results(results.collect())
}

fn refuse(version: i16, error: ErrorCode) -> ElectLeadersResponse {
    let response = ElectLeadersResponse::default();
    if version >= 1 {
        response.with_error_code(error.number())
    } else {
        response
    }
}
