//! Dashboards and alerts against a real Prometheus that scrapes a node under load.
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ottla_compat_tests::metrics::scrape;
use ottla_compat_tests::node::{Node, free_ports};
use ottla_compat_tests::process;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::Batch;
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::tools::{self, run};
use ottla_compat_tests::transcript::now_ms;
use regex::Regex;
use serde_json::Value;

use crate::{connect, make_topic, produce, start};

/// Time enough for a few scrapes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// Every expression of every panel, by dashboard and title, with variables as Grafana fills them in.
fn panels() -> Vec<(String, String)> {
    let mut expressions = Vec::new();
    let mut files: Vec<_> = fs::read_dir(grafana().join("dashboards"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let board = json(&file);
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().unwrap();
                let filled = [
                    ("$__rate_interval", "4s"),
                    ("[10m]", "[4s]"),
                    ("$instance", ".*"),
                    ("$topic", ".*"),
                    ("$group", ".*"),
                ]
                .iter()
                .fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
                expressions.push((format!("{} / {}", board["title"], panel["title"]), filled));
            }
        }
    }
    expressions
}

/// Every selector inside of every alert.
fn selectors() -> Vec<(String, String)> {
    let text = fs::read_to_string(grafana().join("prometheus/alerts.yml")).unwrap();
    let selector = Regex::new(r"[a-z_]+\{job=~[^}]*\}").unwrap();
    let found: BTreeSet<_> = selector
        .find_iter(&text)
        .map(|found| found.as_str().to_owned())
        .collect();
    found
        .into_iter()
        .map(|selector| ("alerts".to_owned(), selector))
        .collect()
}

struct Prometheus {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    fn start(scraped: u16) -> Prometheus {
        let dir = tempfile::tempdir().unwrap();
        let [port] = free_ports();
        let text = fs::read_to_string(grafana().join("prometheus/prometheus.yml")).unwrap();
        let text = text
            .replace("localhost:9404", &format!("127.0.0.1:{scraped}"))
            .replace("15s", "1s")
            .replace(
                "alerts.yml",
                &grafana().join("prometheus/alerts.yml").display().to_string(),
            );
        fs::write(dir.path().join("prometheus.yml"), text).unwrap();
        let mut command = process::tied("prometheus");
        command
            .args([
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                "--log.level=error",
            ])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(dir.path())
            .stdin(Stdio::null());
        let child = process::spawn(command);
        Prometheus { child, port, _dir: dir }
    }

    /// The answer of the HTTP API; `None` while it does not listen.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// How many series an expression has now.
    fn count(&self, expression: &str) -> Result<usize, String> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).ok_or("no answer")?;
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.len()),
            None => Err(answer["error"].to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Some of everything that dashboards show: records in and out, a group, syncs, errors, refused connections.
fn load(node: &Node, connection: &mut Connection, unknown: &mut Connection) {
    assert_eq!(produce(connection, &Batch::of(now_ms(), &["x", "y"])), 0);
    let fetch = tools::run(
        std::process::Command::new("kcat").args([
            "-b",
            &node.bootstrap(),
            "-C",
            "-t",
            "t",
            "-p",
            "0",
            "-c",
            "1",
            "-e",
            "-q",
        ]),
        b"",
    );
    assert_eq!(fetch.code, 0, "{fetch:?}");
    let mut group = std::process::Command::new("kcat");
    group.args([
        "-b",
        &node.bootstrap(),
        "-G",
        "g",
        "-e",
        "-q",
        "-X",
        "auto.offset.reset=earliest",
    ]);
    let read = run(group.arg("t"), b"");
    assert_eq!(read.code, 0, "{read:?}");
    let mut lie = Batch::of(now_ms(), &["a", "b"]);
    lie.records[0].offset_delta = Some(1);
    assert_ne!(produce(unknown, &lie), 0);
    let mut garbage = TcpStream::connect(node.socket()).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let _ = garbage.read_to_end(&mut Vec::new());
}

/// Apache Kafka brings no dashboards.
#[test]
fn every_panel_and_alert_has_data() {
    let [http] = free_ports();
    let node = start(&[
        &format!("ottla.http.listener=127.0.0.1:{http}"),
        "ottla.fsync=ack",
        "group.initial.rebalance.delay.ms=0",
    ]);
    let (mut connection, mut unknown) = (connect(&node), connect(&node));
    make_topic(&mut connection);
    let prometheus = Prometheus::start(http);
    let mut missing: Vec<_> = panels().into_iter().chain(selectors()).collect();
    assert!(missing.len() > 130, "{}", missing.len());
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "no data for {missing:#?}");
        load(&node, &mut connection, &mut unknown);
        missing.retain(|(_, expression)| !matches!(prometheus.count(expression), Ok(1..)));
    }
    let healthy = wait_for(|| prometheus.get("/api/v1/alerts"), || "no alerts".into());
    let firing = healthy["data"]["alerts"].as_array().unwrap();
    let firing: Vec<_> = firing.iter().filter(|alert| alert["state"] == "firing").collect();
    assert!(firing.is_empty(), "{firing:#?}");
}

/// What the dashboards and alerts that Strimzi brings for Apache Kafka ask for, but for what its clients, containers and the
/// JVM tell.
const STOCK: [&str; 41] = [
    "kafka_cluster_partition_atminisr",
    "kafka_cluster_partition_underminisr",
    "kafka_controller_controllerstats_uncleanleaderelections_total",
    "kafka_controller_kafkacontroller_activecontrollercount",
    "kafka_controller_kafkacontroller_offlinepartitionscount",
    "kafka_log_log_size",
    "kafka_log_logmanager_offlinelogdirectorycount",
    "kafka_network_socketserver_networkprocessoravgidle_percent",
    "kafka_server_brokertopicmetrics_bytesin_total",
    "kafka_server_brokertopicmetrics_bytesout_total",
    "kafka_server_brokertopicmetrics_failedfetchrequests_total",
    "kafka_server_brokertopicmetrics_failedproducerequests_total",
    "kafka_server_brokertopicmetrics_messagesin_total",
    "kafka_server_brokertopicmetrics_totalfetchrequests_total",
    "kafka_server_brokertopicmetrics_totalproducerequests_total",
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    "kafka_server_kafkaserver_linux_disk_read_bytes",
    "kafka_server_kafkaserver_linux_disk_write_bytes",
    "kafka_server_raftmetrics_append_records_rate",
    "kafka_server_raftmetrics_commit_latency_avg",
    "kafka_server_raftmetrics_current_epoch",
    "kafka_server_raftmetrics_current_leader",
    "kafka_server_raftmetrics_current_state",
    "kafka_server_raftmetrics_current_vote",
    "kafka_server_raftmetrics_fetch_records_rate",
    "kafka_server_raftmetrics_high_watermark",
    "kafka_server_raftmetrics_log_end_offset",
    "kafka_server_replicamanager_leadercount",
    "kafka_server_replicamanager_partitioncount",
    "kafka_server_replicamanager_underminisrpartitioncount",
    "kafka_server_replicamanager_underreplicatedpartitions",
    "kafka_server_socket_server_metrics_connection_count",
    "kafka_topic_partition_current_offset",
    "kafka_topic_partition_in_sync_replica",
    "kafka_topic_partition_leader_is_preferred",
    "kafka_topic_partition_oldest_offset",
    "kafka_topic_partition_replicas",
    "kafka_topic_partition_under_replicated_partition",
    "kafka_topic_partitions",
    "process_open_fds",
    "process_start_time_seconds",
];

/// The names are those of Kafka's JMX beans after Strimzi's rules: Apache Kafka itself speaks no Prometheus.
#[test]
fn stock_dashboards_find_what_they_ask_for() {
    let [http] = free_ports();
    let node = start(&[&format!("ottla.http.listener=127.0.0.1:{http}")]);
    make_topic(&mut connect(&node));
    let text = scrape(http);
    let is_missing = |name: &&str| !text.contains(&format!("\n{name} ")) && !text.contains(&format!("\n{name}{{"));
    let missing: Vec<_> = STOCK.into_iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let types = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let silent: Vec<_> = types
        .filter(|name| !text.contains(&format!("# HELP {name} ")))
        .collect();
    assert!(silent.is_empty(), "they do not say what they are: {silent:#?}");
}

/// The rules are well-formed, and each alert fires when it should and only then.
#[test]
fn alerts_fire_when_they_should() {
    let promtool = |args: &[&str]| {
        let output = run(
            std::process::Command::new("promtool")
                .args(args)
                .current_dir(grafana().join("prometheus")),
            b"",
        );
        assert_eq!(output.code, 0, "{output:?}");
    };
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts.test.yml"]);
    let read = |name: &str| fs::read_to_string(grafana().join("prometheus").join(name)).unwrap();
    let (alerts, tests) = (read("alerts.yml"), read("alerts.test.yml"));
    for found in Regex::new(r"alert: (\w+)").unwrap().captures_iter(&alerts) {
        for case in ["fires", "is quiet"] {
            assert!(
                tests.contains(&format!("- name: {} {case}\n", &found[1])),
                "{} {case}",
                &found[1]
            );
        }
    }
}
