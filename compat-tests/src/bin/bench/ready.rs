//! Whether a broker serves its partitions.
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, MetadataRequest};
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, list_offsets, produce, topic_name};
use uuid::Uuid;

use crate::clients::batches;

/// How long a broker may take for anything.
const LIMIT: Duration = Duration::from_secs(240);
const EVERY: Duration = Duration::from_millis(2);

const METADATA_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;

/// The last version that names topics.
const PRODUCE_VERSION: i16 = 12;

/// Tries again until there is a result.
pub fn poll<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(EVERY);
    }
}

/// Connects as soon as the node listens.
pub fn connect(node: &Node) -> Connection {
    let mut connection = poll("connection", || Connection::open(node.socket()).ok());
    connection.set_deadline(LIMIT).expect("SO_RCVTIMEO");
    connection
}

/// Creates topics by one request; returns the first.
pub fn create_topics(on: &mut Connection, topics: usize, partitions: i32) -> Topic {
    let topics = (0..topics).map(|number| {
        CreatableTopic::default()
            .with_name(topic_name(&named(number).name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
    });
    let request = CreateTopicsRequest::default()
        .with_topics(topics.collect())
        .with_timeout_ms(60_000);
    let created = on.call(7, &request).expect("answer").topics;
    for topic in &created {
        assert_eq!(topic.error_code, 0, "{topic:?}");
    }
    Topic {
        name: created[0].name.to_string(),
        id: created[0].topic_id,
    }
}

/// A topic whose id does not matter.
fn named(number: usize) -> Topic {
    Topic {
        name: format!("topic{number:02}"),
        id: Uuid::nil(),
    }
}

/// Waits until Metadata lists a broker and a leader of so many partitions.
pub fn wait_led(on: &mut Connection, partitions: usize) {
    let request = MetadataRequest::default().with_topics(None);
    poll("leaders", || {
        let answer = on.call(METADATA_VERSION, &request).ok()?;
        let all = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let led = all.filter(|partition| partition.error_code == 0 && partition.leader_id.0 >= 0);
        (!answer.brokers.is_empty() && led.count() == partitions).then_some(())
    });
}

/// Waits until the leaders of all partitions serve, whatever Metadata says of them.
pub fn wait_served(on: &mut Connection, topics: usize, partitions: i32) {
    let all: Vec<_> = (0..partitions).map(|partition| (partition, -1)).collect();
    for number in 0..topics {
        let request = list_offsets(&named(number), &all);
        poll("leaders that serve", || {
            let answer = on.call(LIST_OFFSETS_VERSION, &request).expect("answer");
            let mut partitions = answer.topics[0].partitions.iter();
            partitions.all(|partition| partition.error_code == 0).then_some(())
        });
    }
}

/// Waits until a partition of one of the topics takes a record.
pub fn wait_appends(on: &mut Connection, topic: usize, partition: i32) {
    let request = produce(
        PRODUCE_VERSION,
        &named(topic),
        -1,
        &[(partition, Some(batches::plain(1, 100)))],
    );
    poll("append", || {
        let answer = on.call(PRODUCE_VERSION, &request).expect("answer");
        (answer.responses[0].partition_responses[0].error_code == 0).then_some(())
    });
}
