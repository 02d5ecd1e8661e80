//! DescribeLogDirs: this broker's log directories and the replicas in them (KIP-113).
//!
//! - Version 2: flexible. 3: an error of the whole. 4: total and usable bytes (KIP-827). 5: cordoned directories (KIP-1066).
//! - A null list of topics asks for all replicas.

use std::collections::{BTreeMap, BTreeSet};

use ottla_domain::error::ErrorCode;
use ottla_domain::ports::inbound::{LogDirectory, ReplicaOnDisk};

use super::endpoints::text;
use super::{Api, Call};
use crate::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use crate::node::Node;

pub(super) static API: Api = Api::broker(35, "DescribeLogDirs", (1, 5), 2);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted: Option<BTreeSet<(&str, i32)>> = request.topics.as_ref().map(|topics| {
        let partitions = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (&**topic.topic, *partition))
        });
        partitions.collect()
    });
    let is_wanted = |replica: &ReplicaOnDisk| {
        let id = (&*replica.topic, replica.partition.0);
        wanted.as_ref().is_none_or(|wanted| wanted.contains(&id))
    };
    let directories = call.node.log_directories().await;
    let results = directories
        .iter()
        .map(|directory| render(call.version(), directory, is_wanted));
    DescribeLogDirsResponse::default().with_results(results.collect())
}

fn render(version: i16, directory: &LogDirectory, is_wanted: impl Fn(&ReplicaOnDisk) -> bool) -> DescribeLogDirsResult {
    let mut response = DescribeLogDirsResult::default().with_log_dir(text(&directory.path));
    if directory.is_offline {
        response.error_code = ErrorCode::KafkaStorageError.number();
        return response;
    }
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for replica in directory.replicas.iter().filter(|replica| is_wanted(replica)) {
        let partition = DescribeLogDirsPartition::default()
            .with_partition_index(replica.partition.0)
            .with_partition_size(saturated(replica.size_bytes))
            .with_offset_lag(replica.offset_lag);
        topics.entry(&replica.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        DescribeLogDirsTopic::default()
            .with_name(text(topic).into())
            .with_partitions(partitions)
    });
    response.topics = topics.collect();
    if version >= 4 {
        response.total_bytes = saturated(directory.total_bytes);
        response.usable_bytes = saturated(directory.usable_bytes);
    }
    response
}

fn saturated(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
