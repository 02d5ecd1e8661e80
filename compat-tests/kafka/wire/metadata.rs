//! Metadata (API 3), ApiVersions (API 18), DescribeCluster (API 60), DescribeTopicPartitions (API 75) and DescribeQuorum
//! (API 55): what clients learn about the cluster.
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest, MetadataRequest,
    describe_quorum_request,
};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use uuid::Uuid;

use super::{Wire, metadata, text, topic_name};

pub const CASES: &[Case] = &[
    Case::code("metadata-versions", versions),
    Case::code("metadata-errors", errors),
    Case::code("metadata-auto-creation", auto_creation),
    Case::code("api-versions", api_versions),
    Case::code("describe-cluster", describe_cluster),
    Case::code("describe-topic-partitions", describe_topic_partitions),
    Case::code("describe-quorum", describe_quorum),
];

fn versions(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 2, &[]);
    for version in 0..=13 {
        let mut request = metadata(&[&topic.name, "absent"]);
        if version < 4 {
            request.allow_auto_topic_creation = true;
            // Before version 4 an absent topic would be made.
            request.topics.as_mut().unwrap().truncate(1);
        }
        w.call(version, &request);
        if version >= 1 {
            w.title("no topics");
            request.topics = Some(Vec::new());
            w.call(version, &request);
        }
        if (8..=10).contains(&version) {
            w.title("what is allowed in the cluster");
            w.call(
                version,
                &request.clone().with_include_cluster_authorized_operations(true),
            );
        }
        if version >= 8 {
            w.title("what is allowed on a topic");
            let request = metadata(&[&topic.name]).with_include_topic_authorized_operations(true);
            w.call(version, &request);
        }
        w.title("all topics");
        let all = request.with_topics((version == 0).then(Vec::new));
        let answer = w.connection.call(version, &all).unwrap();
        let mine = answer
            .topics
            .iter()
            .find(|found| found.name.as_ref().is_some_and(|name| *name.0 == *topic.name));
        w.s.note("this one", mine);
    }
}

fn errors(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    w.call(12, &metadata(&[&topic.name, &topic.name]));
    for name in ["", ".", "a b", "a/b", &"x".repeat(250)] {
        w.title(name);
        w.call(12, &metadata(&[name]));
        w.call(12, &metadata(&[name]).with_allow_auto_topic_creation(true));
    }
    w.title("by id");
    for version in [10, 12, 13] {
        for id in [topic.id, Uuid::from_u128(7)] {
            let by_id = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
            let request = MetadataRequest::default()
                .with_topics(Some(vec![by_id]))
                .with_allow_auto_topic_creation(false);
            w.call(version, &request);
        }
    }
}

fn auto_creation(s: &mut Session) {
    let mut w = Wire::open(s);
    let name = format!("{}-made", w.s.name);
    w.title("not asked for");
    w.call(12, &metadata(&[&name]));
    w.title("asked for");
    let request = metadata(&[&name]).with_allow_auto_topic_creation(true);
    w.call(12, &request);
    wait_for(
        || {
            w.connection
                .call(12, &metadata(&[&name]))
                .unwrap()
                .topics
                .first()
                .filter(|t| t.error_code == 0)
                .map(|_| ())
        },
        || format!("{name} was not made"),
    );
    w.call(12, &metadata(&[&name]));
}

/// Every answer, without the APIs that not both brokers have.
fn api_versions(s: &mut Session) {
    let mut w = Wire::open(s);
    for (listener, port) in [("broker", w.node.port), ("controller", w.node.controller_port)] {
        for version in 0..=4 {
            let mut connection = Connection::open(([127, 0, 0, 1], port).into()).unwrap();
            let mut request = ApiVersionsRequest::default();
            if version >= 3 {
                request = request
                    .with_client_software_name(text("compat"))
                    .with_client_software_version(text("1.0"));
            }
            let mut answer = connection.call(version, &request).unwrap();
            answer.finalized_features.sort_by(|a, b| a.name.cmp(&b.name));
            w.title(&format!("{listener}, version {version}"));
            w.s.note("error", answer.error_code);
            for api in answer.api_keys.iter().filter(|api| SERVED.contains(&api.api_key)) {
                w.s.transcript
                    .add(&format!("{} {}-{}", api.api_key, api.min_version, api.max_version));
            }
            let ours = |name: &str| name == "metadata.version" || name == "kraft.version";
            for feature in answer.supported_features.iter().filter(|feature| ours(&feature.name)) {
                w.s.note("supported", feature);
            }
            for feature in answer.finalized_features.iter().filter(|feature| ours(&feature.name)) {
                w.s.note("finalized", feature);
            }
        }
    }
    w.title("bad software names");
    for (name, version) in [("", "1"), ("a b", "1"), ("a", ""), ("-a", "1"), ("a", "1;")] {
        let mut connection = w.connect();
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version));
        let answer = connection.call(3, &request);
        w.s.note(name, answer.map(|answer| (answer.error_code, answer.api_keys.len())));
    }
}

/// APIs that both brokers have, in the order of their keys: what a node is for, but groups and transactions.
const SERVED: [i16; 26] = [
    0, 1, 2, 3, 10, 18, 19, 20, 21, 22, 23, 29, 32, 33, 35, 37, 44, 55, 57, 60, 61, 74, 75, 52, 53, 54,
];

fn describe_cluster(s: &mut Session) {
    let mut w = Wire::open(s);
    for version in 0..=2 {
        w.call(
            version,
            &DescribeClusterRequest::default().with_include_cluster_authorized_operations(true),
        );
        w.call(version, &DescribeClusterRequest::default());
    }
    for kind in [0, 1, 2, 3] {
        w.title(&format!("endpoint type {kind}"));
        w.call(1, &DescribeClusterRequest::default().with_endpoint_type(kind));
        let mut controller = Connection::open(([127, 0, 0, 1], w.node.controller_port).into()).unwrap();
        w.s.call(
            &mut controller,
            1,
            &DescribeClusterRequest::default().with_endpoint_type(kind),
        );
    }
    w.call(2, &DescribeClusterRequest::default().with_include_fenced_brokers(true));
}

fn describe_topic_partitions(s: &mut Session) {
    let mut w = Wire::open(s);
    let first = w.create("-1", 3, &[]);
    let second = w.create("-2", 3, &[]);
    let request = |names: &[&str], limit| {
        let topics = names
            .iter()
            .map(|name| TopicRequest::default().with_name(topic_name(name)));
        DescribeTopicPartitionsRequest::default()
            .with_topics(topics.collect())
            .with_response_partition_limit(limit)
    };
    let both = [&*second.name, &*first.name];
    for limit in [2000, 4, 3, 1, 0, -1] {
        w.title(&format!("limit {limit}"));
        w.call(0, &request(&both, limit));
    }
    for (name, partition) in [(&first.name, 1), (&first.name, 3), (&second.name, 0), (&second.name, 2)] {
        w.title(&format!("from {partition} of {name}"));
        let cursor = Cursor::default()
            .with_topic_name(topic_name(name))
            .with_partition_index(partition);
        w.call(0, &request(&both, 2).with_cursor(Some(cursor)));
    }
    w.title("negative cursor");
    let cursor = Cursor::default()
        .with_topic_name(topic_name(&first.name))
        .with_partition_index(-1);
    w.call(0, &request(&both, 2).with_cursor(Some(cursor)));
    w.title("absent, illegal and twice");
    w.call(0, &request(&["absent", "a b", &first.name, &first.name], 2000));
}

fn describe_quorum(s: &mut Session) {
    // Offsets and times depend on what else happens.
    s.transcript.replace(
        r"\b(leader_epoch|high_watermark|log_end_offset|last_\w+_timestamp): \d+",
        "$1: <n>",
    );
    let w = Wire::open(s);
    let request = |name: &str, partition| {
        let partition = describe_quorum_request::PartitionData::default().with_partition_index(partition);
        let data = describe_quorum_request::TopicData::default()
            .with_topic_name(topic_name(name))
            .with_partitions(vec![partition]);
        DescribeQuorumRequest::default().with_topics(vec![data])
    };
    for port in [w.node.port, w.node.controller_port] {
        let mut connection = Connection::open(([127, 0, 0, 1], port).into()).unwrap();
        for version in 0..=2 {
            w.s.call(&mut connection, version, &request("__cluster_metadata", 0));
        }
        w.s.call(&mut connection, 2, &request("__cluster_metadata", 1));
        w.s.call(&mut connection, 2, &request("another", 0));
        w.s.call(&mut connection, 2, &DescribeQuorumRequest::default());
    }
}
