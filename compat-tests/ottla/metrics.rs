//! What `/metrics` tells is true. Apache Kafka speaks no Prometheus.
use std::fs;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FindCoordinatorRequest, GroupId, MetadataRequest, OffsetCommitRequest,
};
use ottla_compat_tests::metrics::{sample, scrape};
use ottla_compat_tests::node::{Node, free_ports};
use ottla_compat_tests::records::Batch;
use ottla_compat_tests::requests::{at, create_topic, fetch, metadata, text, topic_name};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::tools::run;
use ottla_compat_tests::transcript::now_ms;

use crate::{connect, make_topic, produce, start};

const VERSION: i16 = 9;
const PHASES: [&str; 5] = ["requestqueue", "local", "remote", "responsequeue", "responsesend"];

/// A node, and the port of its metrics.
fn start_scraped() -> (Node, u16) {
    let [http] = free_ports();
    (start(&[&format!("ottla.http.listener=127.0.0.1:{http}")]), http)
}

/// One of `kafka_network_requestmetrics_*`; 0 while there is none.
fn value(text: &str, name: &str, request: &str) -> f64 {
    let name = format!("kafka_network_requestmetrics_{name}{{request=\"{request}\"}}");
    sample(text, &name).unwrap_or_default()
}

/// Apache Kafka does not run a request before the one before it is answered.
#[test]
fn waiting_is_told_from_working() {
    let (node, http) = start_scraped();
    let topic = create_topic(&mut connect(&node), "t", 1, &[]);
    let wait_ms = 1000;
    let mut connection = connect(&node);
    let poll = fetch(VERSION, &topic, vec![at(0, 0)]).with_max_wait_ms(wait_ms);
    connection.send(VERSION, &poll).unwrap();
    connection.send(VERSION, &metadata(&["t"])).unwrap();
    connection.receive::<FetchRequest>(VERSION).unwrap();
    connection.receive::<MetadataRequest>(VERSION).unwrap();

    // Counted once the kernel has the answer: maybe after the client has it.
    let wait_ms = f64::from(wait_ms);
    let is_counted = |text: &String| {
        // Metadata was done at once, but answers go out in the order of the requests.
        let queued_ms = value(text, "responsequeuetimems_sum", "Metadata");
        value(text, "totaltimems_count", "Fetch") == 1.0 && queued_ms > wait_ms / 2.0
    };
    let text = wait_for(|| Some(scrape(http)).filter(is_counted), || scrape(http));
    let of_fetch = |phase: &str| value(&text, &format!("{phase}timems_sum"), "Fetch");
    assert!(of_fetch("remote") >= wait_ms, "{text}");
    let sum: f64 = PHASES.into_iter().map(of_fetch).sum();
    assert!((sum - of_fetch("total")).abs() < 0.01, "{sum} {text}");
    assert!(value(&text, "requestbytes_sum", "Fetch") > 0.0, "{text}");
}

/// As Apache Kafka tells them, besides the number of both.
#[test]
fn fetches_of_followers_are_told_from_those_of_consumers() {
    let (node, http) = start_scraped();
    let mut connection = connect(&node);
    let topic = create_topic(&mut connection, "t", 1, &[]);
    for replica in [-1, 7, 7] {
        let request = fetch(VERSION, &topic, vec![at(0, 0)]).with_replica_id(BrokerId(replica));
        connection.call(VERSION, &request).unwrap();
    }
    let counts = |text: &str| {
        let names = ["Fetch", "FetchConsumer", "FetchFollower"];
        names.map(|name| value(text, "totaltimems_count", name))
    };
    wait_for(
        || (counts(&scrape(http)) == [3.0, 1.0, 2.0]).then_some(()),
        || format!("{:?}", counts(&scrape(http))),
    );
}

/// `ottla.request.memory.bytes` is Ottla's own.
#[test]
fn memory_that_a_request_holds_is_told() {
    let (node, http) = start_scraped();
    let used = || {
        sample(
            &scrape(http),
            "ottla_network_request_memory_used_bytes{listeners=\"broker\"}",
        )
        .unwrap()
    };
    assert_eq!(used(), 0.0);
    // Half of a produce.
    let half_bytes = 100_000;
    let mut half = BytesMut::new();
    half.put_i32(2 * half_bytes);
    half.resize(half_bytes as usize, 0);
    let mut connection = connect(&node);
    connection.send_bytes(&half).unwrap();
    wait_for(|| (used() >= 50_000.0).then_some(()), || format!("{} used", used()));
    drop(connection);
    wait_for(|| (used() == 0.0).then_some(()), || format!("{} used", used()));
}

/// What is behind the recovery point is looked at after a kill, and not after a stop.
#[test]
fn what_a_recovery_looks_at_is_told() {
    let (mut node, http) = start_scraped();
    let mut connection = connect(&node);
    make_topic(&mut connection);
    for _ in 0..10 {
        assert_eq!(produce(&mut connection, &Batch::of(now_ms(), &["x", "y"])), 0);
    }
    let log_dir = node.log_dirs().remove(0);
    let size_bytes = fs::metadata(log_dir.join("t-0/00000000000000000000.log"))
        .unwrap()
        .len() as f64;
    let told = || {
        let text = scrape(http);
        let of = |name: &str| sample(&text, &format!("{name}{{directory=\"{}\"}}", log_dir.display())).unwrap();
        (
            of("ottla_storage_recovery_scanned_bytes_total"),
            of("ottla_storage_recovery_seconds"),
        )
    };
    node.kill();
    node.launch();
    let (scanned_bytes, seconds) = told();
    assert!(
        scanned_bytes >= size_bytes && seconds > 0.0,
        "{scanned_bytes} {seconds}"
    );
    node.stop();
    node.launch();
    assert!(told().0 < scanned_bytes, "{:?}", told());
}

/// What kafka-exporter tells of groups, and what Kafka's coordinator tells of itself.
#[test]
fn groups_and_their_lags_are_told() {
    let (node, http) = start_scraped();
    let mut connection = connect(&node);
    make_topic(&mut connection);
    for _ in 0..3 {
        assert_eq!(produce(&mut connection, &Batch::of(now_ms(), &["x", "y"])), 0);
    }
    let commit = |offset| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    };
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    wait_for(
        || {
            connection.call(4, &find).unwrap();
            let answer = connection.call(8, &commit(2)).unwrap();
            (answer.topics[0].partitions[0].error_code == 0).then_some(())
        },
        || "the commit was never taken".into(),
    );
    let text = scrape(http);
    let of_group = |name: &str, more: &str| {
        let name = format!("kafka_consumergroup_{name}{{consumergroup=\"g\"{more}}}");
        sample(&text, &name).unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let (topic, partition) = (",topic=\"t\"", ",topic=\"t\",partition=\"0\"");
    assert_eq!(of_group("members", ""), 0.0);
    assert_eq!(of_group("current_offset", partition), 2.0);
    assert_eq!(of_group("current_offset_sum", topic), 2.0);
    assert_eq!(of_group("lag", partition), 4.0);
    assert_eq!(of_group("lag_sum", topic), 4.0);
    for (name, expected) in [
        ("kafka_coordinator_group_groupmetadatamanager_numoffsets", 1.0),
        ("kafka_coordinator_group_groupmetadatamanager_numgroupsempty", 1.0),
        (
            "kafka_server_group_coordinator_metrics_group_count{protocol=\"classic\"}",
            1.0,
        ),
        (
            "kafka_server_group_coordinator_metrics_num_partitions{state=\"active\"}",
            50.0,
        ),
        ("kafka_server_group_coordinator_metrics_offset_commit_count", 1.0),
    ] {
        assert_eq!(sample(&text, name), Some(expected), "{name}");
    }
    for name in ["event_queue_time", "event_processing_time", "batch_flush_time"] {
        for quantile in ["p50", "p95", "p99", "p999", "max"] {
            let name = format!("kafka_server_group_coordinator_metrics_{name}_ms_{quantile}");
            assert!(sample(&text, &name).is_some_and(|ms| ms > 0.0), "{name}");
        }
    }
}

/// Sums over partitions stay where there are too many for one line each.
#[test]
fn partitions_of_groups_can_be_left_out() {
    let [http] = free_ports();
    let http_listener = format!("ottla.http.listener=127.0.0.1:{http}");
    let node = start(&[&http_listener, "ottla.metrics.partitions=false"]);
    make_topic(&mut connect(&node));
    let mut kcat = std::process::Command::new("kcat");
    kcat.args([
        "-b",
        &node.bootstrap(),
        "-G",
        "g",
        "-e",
        "-X",
        "auto.offset.reset=earliest",
    ]);
    assert_eq!(produce(&mut connect(&node), &Batch::of(now_ms(), &["x", "y"])), 0);
    let read = run(kcat.arg("t"), b"");
    assert_eq!(read.code, 0, "{read:?}");
    let text = scrape(http);
    let lag = sample(&text, "kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"t\"}");
    assert_eq!(lag, Some(0.0), "{text}");
    assert!(!text.contains("\nkafka_consumergroup_lag{"), "{text}");
    let rebalances = "kafka_server_group_coordinator_metrics_group_completed_rebalance_count";
    assert_eq!(sample(&text, rebalances), Some(1.0), "{text}");
}
