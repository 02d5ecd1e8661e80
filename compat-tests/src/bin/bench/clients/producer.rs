//! Producers that send the same batches again and again, acks=all.
use bytes::Bytes;
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::encode;
use ottla_compat_tests::requests::{Topic, produce};

use super::pipeline::{CORRELATION_AT, Pipeline};

const VERSION: i16 = 13;

/// Where an answer to one partition has its error code, counted from its size.
const ERROR_AT: usize = CORRELATION_AT + 4 + 1 + 1 + 16 + 1 + 4;

/// A connection to one partition; the batches have the same length.
pub fn open(node: &Node, topic: &Topic, partition: i32, batches: &[Bytes]) -> Pipeline {
    let requests = batches.iter().map(|batch| {
        let request = produce(VERSION, topic, -1, &[(partition, Some(batch.clone()))]);
        encode(VERSION, 0, &request)
    });
    Pipeline::open(node, &requests.collect::<Vec<_>>(), ERROR_AT)
}

/// Connections to partitions in turn.
pub fn open_all(node: &Node, topic: &Topic, partitions: i32, connections: usize, batch: &Bytes) -> Vec<Pipeline> {
    let partitions = (0..partitions).cycle().take(connections);
    partitions
        .map(|partition| open(node, topic, partition, std::slice::from_ref(batch)))
        .collect()
}
