//! Calls to the disk that fail or stall. What Kafka promises of failed directories is in compat-tests/kafka/log; here
//! every kind of call fails, and what is said of it is looked at line by line.
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ottla_compat_tests::disk::Disk;
use ottla_compat_tests::load::{batches, ends, read};
use ottla_compat_tests::metrics::{get, scrape};
use ottla_compat_tests::node::{Node, Options, Target, free_ports};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::Batch;
use ottla_compat_tests::requests::{Topic, append, at, create_topic, fetch, list_offsets, produce};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::transcript::now_ms;

const KAFKA_STORAGE_ERROR: i16 = 56;
const EIO: &str = "5";
const ENOSPC: &str = "28";

/// A node with two directories, a topic with a partition in each, and one record in each.
struct Machine {
    node: Node,
    disk: Disk,
    topic: Topic,
    http_port: u16,
    /// The partition in the first directory, where the metadata is, and that in the second.
    partitions: [i32; 2],
}

impl Machine {
    fn start(properties: &[&str]) -> Self {
        let [http_port] = free_ports();
        let http = format!("ottla.http.listener=127.0.0.1:{http_port}");
        let options = Options {
            log_dirs: 2,
            ..Options::with(&[&[http.as_str(), "log.initial.task.delay.ms=10"], properties].concat())
        };
        let mut node = Node::formatted(Target::Ottla, options);
        let disk = Disk::under(&mut node);
        node.launch();
        let mut connection = Connection::open(node.socket()).unwrap();
        let topic = create_topic(&mut connection, "t", 2, &[]);
        let second = usize::from(node.replica_dir("t", 0).starts_with(&node.log_dirs()[0]));
        for partition in 0..2 {
            append(&mut connection, &topic, partition, &Batch::of(now_ms(), &["stored"]));
        }
        Self {
            partitions: [1 - second as i32, second as i32],
            node,
            disk,
            topic,
            http_port,
        }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.node.socket()).unwrap()
    }

    fn send(&self, connection: &mut Connection, partition: i32) -> i16 {
        let batch = Batch::of(now_ms(), &["more"]).encode();
        let request = produce(9, &self.topic, -1, &[(partition, Some(batch))]);
        connection.call(9, &request).unwrap().responses[0].partition_responses[0].error_code
    }
}

/// Lines that the node has written since, of warnings and errors, without their times.
fn complaints(node: &Node, since: usize) -> Vec<String> {
    let log = node.log();
    let lines = log[since..]
        .lines()
        .filter_map(|line| line.split_once("Z "))
        .map(|(_, line)| line.trim_start());
    let is_complaint = |line: &&str| line.starts_with("ERROR") || line.starts_with("WARN");
    lines.filter(is_complaint).map(str::to_owned).collect()
}

/// What changed of the metrics that tell of failures and of what is served.
fn changes(before: &str, after: &str) -> Vec<String> {
    let tells = |name: &str| {
        let of_state = [
            "kafka_log_logmanager_",
            "kafka_server_replicamanager_",
            "kafka_controller_",
        ];
        let of_failure = ["fail", "error", "offline", "expired", "stray"];
        // The metadata log grows all the time.
        let of_progress = name.starts_with("kafka_controller_kafkacontroller_last");
        !of_progress && of_state.iter().any(|part| name.starts_with(part))
            || of_failure.iter().any(|part| name.contains(part))
    };
    let samples = |text: &str| -> BTreeMap<String, String> {
        let all = text.lines().filter_map(|line| line.rsplit_once(' '));
        let told = all.filter(|(name, _)| !name.starts_with('#') && tells(name) && !name.contains("quantile"));
        told.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let before = samples(before);
    let changed = samples(after)
        .into_iter()
        .filter(|(name, value)| before.get(name) != Some(value));
    changed
        .map(|(name, value)| format!("{name} {} -> {value}", before.get(&name).map_or("none", String::as_str)))
        .collect()
}

/// What makes the node meet the failure, besides a produce.
type Provoke = fn(&Machine, &mut Connection);

/// The second directory fails at a kind of call on some file: only its partition goes, it is said once, and all that was
/// acknowledged is there after a restart.
fn only_its_directory_fails(rule: &str, provoke: Provoke) {
    let mut machine = Machine::start(&["ottla.fsync=ack", "log.flush.offset.checkpoint.interval.ms=200"]);
    let [first, second] = machine.partitions;
    let mut connection = machine.connect();
    let (before, log) = (scrape(machine.http_port), machine.node.log().len());
    machine.disk.rule(&[rule.to_owned()]);
    provoke(&machine, &mut connection);
    let mut acknowledged = 1;
    wait_for(
        || match machine.send(&mut connection, second) {
            0 => {
                acknowledged += 1;
                None
            }
            KAFKA_STORAGE_ERROR => Some(()),
            other => panic!("{rule}: error {other}"),
        },
        || format!("{rule}: the directory stays"),
    );
    let fetched = connection
        .call(12, &fetch(12, &machine.topic, vec![at(second, 0)]))
        .unwrap();
    assert_eq!(
        fetched.responses[0].partitions[0].error_code, KAFKA_STORAGE_ERROR,
        "{rule}"
    );
    let refused = |api| {
        format!(
            "kafka_network_requestmetrics_errors_total{{request=\"{api}\",error=\"KAFKA_STORAGE_ERROR\"}} none -> 1"
        )
    };
    let expected = |directory: &Path| {
        let directory = directory.display();
        let mut expected = vec![
            "kafka_controller_kafkacontroller_offlinepartitionscount 0 -> 1".to_owned(),
            "kafka_controller_kafkacontroller_preferredreplicaimbalancecount 0 -> 1".to_owned(),
            format!("kafka_log_logmanager_logdirectoryoffline{{logdirectory=\"{directory}\"}} 0 -> 1"),
            "kafka_log_logmanager_offlinelogdirectorycount 0 -> 1".to_owned(),
            "kafka_server_replicamanager_atminisrpartitioncount 2 -> 1".to_owned(),
            "kafka_server_replicamanager_leadercount 2 -> 1".to_owned(),
            "kafka_server_replicamanager_offlinereplicacount 0 -> 1".to_owned(),
        ];
        expected.extend(["Fetch", "Produce"].map(refused));
        expected.sort();
        expected
    };
    let directory = machine.node.log_dirs().remove(1);
    let metrics = || changes(&before, &scrape(machine.http_port));
    wait_for(
        || (metrics() == expected(&directory)).then_some(()),
        || format!("{rule}: {:#?}", metrics()),
    );
    assert_eq!(machine.send(&mut connection, first), 0, "{rule}");
    assert_eq!(machine.send(&mut connection, second), KAFKA_STORAGE_ERROR, "{rule}");
    let said = complaints(&machine.node, log);
    let goes = format!("log directory goes offline directory={} reason=", directory.display());
    assert!(said.len() == 1 && said[0].contains(&goes), "{rule}: {said:#?}");

    machine.disk.rule(&[]);
    machine.node.kill();
    machine.disk.settle();
    machine.node.launch();
    let mut connection = machine.connect();
    let ends = wait_for(|| ends(&mut connection, &machine.topic, 2).ok(), || "no leaders".into());
    assert_eq!(ends[first as usize], 2, "{rule}");
    assert!(
        ends[second as usize] >= acknowledged,
        "{rule}: {acknowledged} acknowledged, {ends:?} there"
    );
    let all = batches(&read(&mut connection, &machine.topic, second, 0).unwrap());
    assert_eq!(all.len() as i64, ends[second as usize], "{rule}");
    assert_eq!(machine.send(&mut connection, second), 0, "{rule}");
}

#[test]
fn a_call_that_fails_takes_its_directory_offline_and_is_said_once() {
    fn nothing(_: &Machine, _: &mut Connection) {}
    fn lookup(machine: &Machine, connection: &mut Connection) {
        let by_time = list_offsets(&machine.topic, &[(machine.partitions[1], 1)]);
        let answer = connection.call(7, &by_time).unwrap();
        assert_eq!(answer.topics[0].partitions[0].error_code, KAFKA_STORAGE_ERROR);
    }
    let segment = "data1/t-";
    let cases: [(String, Provoke); 9] = [
        (format!("{EIO} write {segment}"), nothing),
        (format!("{ENOSPC} write {segment}"), nothing),
        (format!("{EIO} read {segment}"), lookup),
        (format!("{EIO} sync {segment}"), nothing),
        (format!("{ENOSPC} sync {segment}"), nothing),
        (format!("{EIO} write data1/.ottla/db/"), nothing),
        (format!("{EIO} sync data1/.ottla/db/"), nothing),
        (
            format!("{ENOSPC} write data1/recovery-point-offset-checkpoint"),
            nothing,
        ),
        (format!("{EIO} name data1/replication-offset-checkpoint"), nothing),
    ];
    for (rule, provoke) in &cases {
        only_its_directory_fails(rule, *provoke);
    }
    eprintln!("{} kinds of failing calls", cases.len());
}

#[test]
fn a_call_that_fails_where_the_metadata_is_ends_the_node_and_names_it() {
    let rules = [
        format!("{EIO} write data0/__cluster_metadata-0"),
        format!("{ENOSPC} write data0/__cluster_metadata-0"),
        format!("{EIO} sync data0/__cluster_metadata-0"),
        format!("{EIO} sync data0/.ottla/db/"),
        format!("{EIO} any data0/recovery-point-offset-checkpoint"),
    ];
    for rule in &rules {
        let mut machine = Machine::start(&["ottla.fsync=ack", "log.flush.offset.checkpoint.interval.ms=200"]);
        let log = machine.node.log().len();
        let directory = machine.node.log_dirs()[0].display().to_string();
        machine.disk.rule(std::slice::from_ref(rule));
        assert_eq!(machine.node.wait_exit().code(), Some(1), "{rule}");
        let said = complaints(&machine.node, log);
        assert!(
            said[0].contains("log directory goes offline") && said[0].contains(&directory),
            "{rule}: {said:#?}"
        );
        let text = machine.node.log();
        let last = text.lines().last().unwrap();
        assert!(last.contains(&directory), "{rule}: {last}");

        machine.disk.rule(&[]);
        machine.disk.settle();
        machine.node.launch();
        let mut connection = machine.connect();
        let ends = wait_for(|| ends(&mut connection, &machine.topic, 2).ok(), || "no leaders".into());
        assert_eq!(ends, [1, 1], "{rule}");
    }
    eprintln!(
        "{} kinds of failing calls in the directory of the metadata",
        rules.len()
    );
}

/// Half of `broker.session.timeout.ms`.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(4500);

/// While one directory stalls, the other's partition, metadata and health are answered; afterwards everything is.
fn others_go_on(stalled: usize, fsync: &str, long: Duration) {
    const PRODUCERS: usize = 12;
    let machine = Machine::start(&[fsync, "log.flush.offset.checkpoint.interval.ms=200"]);
    let stalling = machine.partitions[stalled];
    let rules = ["write", "sync", "name"].map(|kind| format!("stall {kind} data{stalled}/"));
    machine.disk.rule(&rules);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // More than there are workers.
        let waiting: Vec<_> = (0..PRODUCERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = machine.connect();
                    connection.set_deadline(long + Duration::from_secs(30)).unwrap();
                    machine.send(&mut connection, stalling)
                })
            })
            .collect();
        let mut connection = machine.connect();
        connection.set_deadline(Duration::from_secs(5)).unwrap();
        let mut answered = 0;
        while begun.elapsed() < long {
            assert_eq!(machine.send(&mut connection, 1 - stalling), 0);
            let fetched = connection
                .call(12, &fetch(12, &machine.topic, vec![at(1 - stalling, 0)]))
                .unwrap();
            assert_eq!(fetched.responses[0].partitions[0].error_code, 0);
            let listed = connection
                .call(7, &list_offsets(&machine.topic, &[(1 - stalling, 1)]))
                .unwrap();
            assert_eq!(listed.topics[0].partitions[0].error_code, 0);
            assert_eq!(connection.broker_count().unwrap(), 1);
            assert!(get(machine.http_port, "/livez").starts_with("HTTP/1.1 200"));
            scrape(machine.http_port);
            answered += 1;
        }
        assert!(answered > 0);
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "it did not stall");
        machine.disk.rule(&[]);
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), 0);
        }
        eprintln!("{answered} rounds of requests answered while data{stalled} stalled for {long:?}");
    });
    let mut connection = machine.connect();
    assert_eq!(
        ends(&mut connection, &machine.topic, 2).unwrap()[stalling as usize],
        1 + PRODUCERS as i64
    );
    // A log of metadata that stalls commits nothing. Assignments may have been committed before.
    let once = usize::from(stalled == 0 && long > HEARTBEAT_TIMEOUT);
    let complaints = complaints(&machine.node, 0);
    let count = |what| complaints.iter().filter(|line| line.contains(what)).count();
    let (heartbeats, assignments) = (
        count("a heartbeat failed"),
        count("assigning replicas to directories failed"),
    );
    assert!(
        heartbeats == once && assignments <= once && complaints.len() == heartbeats + assignments,
        "{complaints:#?}"
    );
}

fn all_stalls(long: Duration) {
    for fsync in ["ottla.fsync=none", "ottla.fsync=ack"] {
        others_go_on(1, fsync, long);
        others_go_on(0, fsync, long);
    }
}

#[test]
fn a_directory_that_stalls_holds_up_its_own_partitions_only() {
    all_stalls(Duration::from_secs(3));
}

#[test]
#[ignore = "takes minutes: runs in ./dev stress"]
fn a_directory_that_stalls_for_long_holds_up_its_own_partitions_only() {
    all_stalls(Duration::from_secs(20));
}
