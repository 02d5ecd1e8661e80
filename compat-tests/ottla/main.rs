//! What only Ottla promises; each test says why Kafka does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod compaction;
mod damage;
mod directories;
mod faults;
mod fsync;
mod index;
mod kills;
mod loading;
mod metrics;
mod power;
mod preallocate;
mod prometheus;
mod restarts;
mod sendfile;

use std::fs;
use std::process::Command;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use ottla_compat_tests::node::{CLUSTER_ID, Node, Options, Target, ottla_bin};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::Batch;
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::tools;
use ottla_compat_tests::transcript::now_ms;

const INVALID_REQUEST: i16 = 42;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_RECORD: i16 = 87;
const UNSUPPORTED_VERSION: i16 = 35;

fn start(properties: &[&str]) -> Node {
    Node::start(Target::Ottla, Options::with(properties))
}

fn connect(node: &Node) -> Connection {
    Connection::open(node.socket()).unwrap()
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

/// Creates topic t with one partition and waits until it is led.
fn make_topic(connection: &mut Connection) {
    let topic = CreatableTopic::default()
        .with_name(name())
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    assert_eq!(connection.call(7, &request).unwrap().topics[0].error_code, 0);
    wait_for(|| offset(connection, -1), || "no leader".into());
}

fn offset(connection: &mut Connection, timestamp: i64) -> Option<i64> {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(name())
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![topic]);
    let answer = connection
        .call(7, &request)
        .unwrap()
        .topics
        .remove(0)
        .partitions
        .remove(0);
    (answer.error_code == 0).then_some(answer.offset)
}

/// A produce to partition 0 of t.
fn produce_request(acks: i16, batch: &Batch) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(batch.encode()));
    let topic = TopicProduceData::default()
        .with_name(name())
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic])
}

/// Produces to partition 0 of t and returns the error code.
fn produce(connection: &mut Connection, batch: &Batch) -> i16 {
    let answer = connection.call(9, &produce_request(-1, batch)).unwrap();
    answer.responses[0].partition_responses[0].error_code
}

/// Apache Kafka writes its log start offsets once a minute: after a kill, deleted records come back.
#[test]
fn deleted_records_stay_deleted() {
    let mut node = start(&[]);
    let mut connection = connect(&node);
    make_topic(&mut connection);
    assert_eq!(produce(&mut connection, &Batch::of(now_ms(), &["a", "b", "c"])), 0);
    let wanted = node.dir().join("delete.json");
    fs::write(
        &wanted,
        r#"{"version": 1, "partitions": [{"topic": "t", "partition": 0, "offset": 2}]}"#,
    )
    .unwrap();
    let file = wanted.display().to_string();
    tools::java(
        "kafka-delete-records",
        &["--bootstrap-server", &node.bootstrap(), "--offset-json-file", &file],
    )
    .ok();
    node.kill();
    node.launch();
    let mut connection = connect(&node);
    assert_eq!(
        wait_for(|| offset(&mut connection, -2), || "no leader".into()),
        2,
        "after a kill"
    );
    node.kill();
    fs::remove_dir_all(node.log_dirs()[0].join(".ottla")).unwrap();
    node.launch();
    let mut connection = connect(&node);
    assert_eq!(
        wait_for(|| offset(&mut connection, -2), || "no leader".into()),
        2,
        "without the index"
    );
    assert_eq!(offset(&mut connection, -1), Some(3));
    tools::stop();
}

/// Loggers have names of our own: the targets that stand in the log.
#[test]
fn levels_of_loggers_change_while_the_node_runs() {
    let node = start(&[]);
    let bootstrap = node.bootstrap();
    let configs = |args: &[&str]| {
        let all = [&["--bootstrap-server", &bootstrap, "--broker-logger", "1"], args].concat();
        tools::java("kafka-configs", &all).ok()
    };
    let is_debug = || node.log().contains("DEBUG ottla_wire::connection").then_some(());
    // A produce that wants no answer and fails closes its connection.
    let fail = || {
        let mut connection = connect(&node);
        let request = produce_request(0, &Batch::of(now_ms(), &["x"]));
        connection.send(9, &request).unwrap();
        assert!(connection.broker_count().is_err());
    };
    fail();
    assert_eq!(is_debug(), None);
    configs(&["--alter", "--add-config", "ottla_wire=DEBUG"]);
    fail();
    wait_for(is_debug, || "no line of the level that was set".into());
    assert!(configs(&["--describe"]).contains("ottla_wire=DEBUG"));
    configs(&["--alter", "--delete-config", "ottla_wire"]);
    let described = configs(&["--describe"]);
    assert!(
        !described.contains("DEBUG") && described.contains("root=INFO"),
        "{described}"
    );
    tools::stop();
}

/// Apache Kafka's second process becomes the controller before it sees the lock, and does not always end.
#[test]
fn a_second_process_on_a_directory_is_refused() {
    let node = start(&[]);
    let before = fs::read(node.log_dirs()[0].join("meta.properties")).unwrap();
    let [port, controller] = ottla_compat_tests::node::free_ports();
    let output = Command::new(ottla_bin())
        .arg(node.config())
        .args([
            "--override",
            &format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
        ])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0), "{output:?}");
    assert!(
        error.contains(&node.log_dirs()[0].display().to_string()),
        "names the directory: {error}"
    );
    assert_eq!(fs::read(node.log_dirs()[0].join("meta.properties")).unwrap(), before);
    assert_eq!(connect(&node).broker_count().unwrap(), 1, "the first serves on");
}

/// Transactions and share groups come later.
#[test]
fn coordinators_of_other_things_than_groups_are_said_to_be_missing() {
    let node = start(&[]);
    let mut connection = connect(&node);
    for (version, key_type) in (1..=6).map(|version| (version, 1)).chain([(6, 2)]) {
        let key = StrBytes::from_static_str("key");
        let request = FindCoordinatorRequest::default().with_key_type(key_type);
        let request = match version {
            ..4 => request.with_key(key),
            _ => request.with_coordinator_keys(vec![key]),
        };
        let answer = connection.call(version, &request).unwrap();
        let (code, message) = match version {
            ..4 => (answer.error_code, answer.error_message),
            _ => (
                answer.coordinators[0].error_code,
                answer.coordinators[0].error_message.clone(),
            ),
        };
        assert_eq!(code, INVALID_REQUEST, "version {version}");
        assert!(message.unwrap().contains("no transactions"), "version {version}");
    }
}

/// Transactions come later.
#[test]
fn transactions_are_refused() {
    let node = start(&[]);
    let mut connection = connect(&node);
    make_topic(&mut connection);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("x"))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    assert_eq!(connection.call(4, &request).unwrap().error_code, UNSUPPORTED_VERSION);
    let batch = Batch {
        attributes: 0x10,
        ..Batch::of(now_ms(), &["x"]).producer(4000, 0, 0)
    };
    assert_eq!(produce(&mut connection, &batch), INVALID_TXN_STATE);
    assert_eq!(offset(&mut connection, -1), Some(0), "nothing was stored");
}

/// `ottla.fsync=ack` is Ottla's own.
#[test]
fn records_can_be_on_disk_before_they_are_acknowledged() {
    let mut node = start(&["ottla.fsync=ack"]);
    let mut connection = connect(&node);
    make_topic(&mut connection);
    for n in 0..20 {
        assert_eq!(produce(&mut connection, &Batch::of(now_ms(), &["x"])), 0, "record {n}");
    }
    node.kill();
    node.launch();
    let mut connection = connect(&node);
    assert_eq!(wait_for(|| offset(&mut connection, -1), || "no leader".into()), 20);
}

/// Consumers see only what is on disk, so what a producer wants no answer for has to get there too.
#[test]
fn records_without_acknowledgement_are_shown_once_they_are_on_disk() {
    let node = start(&["ottla.fsync=ack"]);
    let mut connection = connect(&node);
    make_topic(&mut connection);
    connection
        .send(9, &produce_request(0, &Batch::of(now_ms(), &["x"])))
        .unwrap();
    let shown = || offset(&mut connection, -1).filter(|offset| *offset == 1);
    wait_for(shown, || "the record stays invisible".into());
}

/// Apache Kafka has to be formatted first; `ottla` alone formats an empty directory.
#[test]
fn an_empty_directory_is_formatted() {
    let dir = tempfile::tempdir().unwrap();
    let [port, controller] = ottla_compat_tests::node::free_ports();
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let mut child = Command::new(ottla_bin())
        .args(["--override", &listeners, "--override", "ottla.http.listener="])
        .current_dir(dir.path())
        .spawn()
        .unwrap();
    let address = ([127, 0, 0, 1], port).into();
    wait_for(
        || {
            Connection::open(address)
                .ok()?
                .broker_count()
                .ok()
                .filter(|count| *count == 1)
        },
        || "it never served".into(),
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let meta = fs::read_to_string(dir.path().join("ottla-data/meta.properties")).unwrap();
    assert!(meta.contains("cluster.id=") && !meta.contains(CLUSTER_ID), "{meta}");
}

/// Apache Kafka stores uncompressed batches whose records lie about their offsets.
#[test]
fn records_may_not_lie_about_their_offsets() {
    let node = start(&[]);
    let mut connection = connect(&node);
    make_topic(&mut connection);
    for lie in [1, 2, -1] {
        let mut batch = Batch::of(now_ms(), &["a", "b"]);
        batch.records[0].offset_delta = Some(lie);
        assert_eq!(produce(&mut connection, &batch), INVALID_RECORD, "{lie}");
    }
    assert_eq!(offset(&mut connection, -1), Some(0), "nothing was stored");
}
