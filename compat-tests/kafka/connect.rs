//! Kafka Connect with two workers, of which one is killed: lines of a file go through a topic into another file.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_compat_tests::node::{Node, Options, free_ports};
use ottla_compat_tests::running::Running;
use ottla_compat_tests::scenario::{Case, Session, wait_within};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[Case::code("connect-worker-killed", worker_killed)];

/// How long workers may take to start, to take over, and to copy.
const LIMIT: Duration = Duration::from_secs(180);

fn worker_killed(s: &mut Session) {
    let node = s.start(Options::with(&["group.initial.rebalance.delay.ms=0"]));
    s.shell(
        &node,
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
        ],
    );
    let mut workers: Vec<_> = free_ports::<2>()
        .into_iter()
        .map(|port| Worker::start(s, &node, port))
        .collect();
    for worker in &workers {
        worker.wait("a REST API", || worker.rest("GET", "/connectors", None));
    }
    let writer = Writer::start(node.dir().join("source"));
    let sink = node.dir().join("sink");
    for (name, class, file, topics) in [
        ("lines-in", "FileStreamSourceConnector", &writer.file, "topic"),
        ("lines-out", "FileStreamSinkConnector", &sink, "topics"),
    ] {
        let config = json!({
            "connector.class": format!("org.apache.kafka.connect.file.{class}"),
            "tasks.max": "1",
            "file": file,
            topics: s.name,
        });
        let path = format!("/connectors/{name}/config");
        workers[0].wait("a connector", || workers[0].rest("PUT", &path, Some(&config)));
    }
    // The second half of each connector is on the other worker, if Connect spreads them; the killed one has the source.
    let ports: Vec<_> = workers.iter().map(|worker| worker.port).collect();
    let reading = workers[0].wait("running tasks", || {
        running(&workers[0], "lines-out", &ports)?;
        running(&workers[0], "lines-in", &ports)
    });
    workers[0].wait("lines in the sink", || (lines(&sink).len() > 200).then_some(()));
    let at = workers.iter().position(|worker| worker.port == reading);
    let mut killed = workers.remove(at.expect("a worker"));
    killed.program.kill();
    let worker = &workers[0];
    let left = [worker.port];
    for name in ["lines-in", "lines-out"] {
        worker.wait("tasks taken over", || running(worker, name, &left));
    }
    let written = writer.stop();
    let missing = |seen: &[usize]| {
        let seen: BTreeSet<_> = seen.iter().copied().collect();
        (0..written).filter(|line| !seen.contains(line)).count()
    };
    worker.wait("complete sink", || (missing(&lines(&sink)) == 0).then_some(()));
    // A partition may have nothing: a producer stays with one until it has filled a batch.
    let mut stored = Vec::new();
    for partition in 0..2 {
        let step = format!("kcat -b $B -t $T -p {partition} -C -e -q");
        let seen: Vec<usize> = s.tool(&node, &step).ok().lines().filter_map(number).collect();
        // The source went back once, to what its dead worker had noted.
        let back = seen.windows(2).filter(|pair| pair[1] <= pair[0]).count();
        assert!(back <= 1, "partition {partition}: {seen:?}");
        stored.extend(seen);
    }
    assert_eq!(missing(&stored), 0, "lines that are not in the topic");
    println!("{:?}: {written} lines, {} in the sink", s.target, lines(&sink).len());
    for name in ["lines-in", "lines-out"] {
        let status = worker.rest("GET", &format!("/connectors/{name}/status"), None);
        s.transcript.replace(&format!(r"\b{}\b", worker.port), "<worker port>");
        s.note(name, status.expect("status"));
    }
    workers[0].program.stop();
    s.shell(
        &node,
        &["sort kafka-topics --bootstrap-server $B --describe --exclude-internal"],
    );
}

/// One worker and the port of its REST API.
struct Worker {
    program: Running,
    port: u16,
}

impl Worker {
    fn start(s: &Session, node: &Node, port: u16) -> Self {
        let config = node.dir().join(format!("connect-{port}.properties"));
        let (bootstrap, name) = (node.bootstrap(), s.name);
        let text = format!(
            "bootstrap.servers={bootstrap}\n\
             group.id={name}\n\
             listeners=http://127.0.0.1:{port}\n\
             config.storage.topic={name}-configs\n\
             config.storage.replication.factor=1\n\
             offset.storage.topic={name}-offsets\n\
             offset.storage.replication.factor=1\n\
             offset.storage.partitions=5\n\
             status.storage.topic={name}-status\n\
             status.storage.replication.factor=1\n\
             status.storage.partitions=3\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.storage.StringConverter\n\
             plugin.discovery=service_load\n\
             offset.flush.interval.ms=500\n\
             scheduled.rebalance.max.delay.ms=1000\n\
             session.timeout.ms=6000\n\
             heartbeat.interval.ms=1000\n\
             consumer.session.timeout.ms=6000\n\
             consumer.heartbeat.interval.ms=1000\n"
        );
        fs::write(&config, text).expect("worker's properties");
        let class = "org.apache.kafka.connect.cli.ConnectDistributed";
        let program = Running::class(class, &[&config.display().to_string()]);
        Self { program, port }
    }

    /// The JSON of a successful answer of the REST API.
    fn rest(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let body = body.map_or(String::new(), Value::to_string);
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split(' ').nth(1)?.starts_with('2').then_some(())?;
        serde_json::from_str(body).ok()
    }

    fn wait<T>(&self, what: &str, attempt: impl FnMut() -> Option<T>) -> T {
        wait_within(LIMIT, attempt, || {
            let status = |name| self.rest("GET", &format!("/connectors/{name}/status"), None);
            let status = ["lines-in", "lines-out"].map(status);
            format!("no {what}: {status:#?}\n{:#?}", self.program.errors())
        })
    }
}

/// The port of the worker that runs the only task of a connector, once that and the connector run on these workers.
fn running(worker: &Worker, name: &str, on: &[u16]) -> Option<u16> {
    let status = worker.rest("GET", &format!("/connectors/{name}/status"), None)?;
    let port = |of: &Value| {
        let port = of["worker_id"].as_str()?.rsplit(':').next()?.parse().ok()?;
        (of["state"] == "RUNNING" && on.contains(&port)).then_some(port)
    };
    port(&status["connector"])?;
    port(status["tasks"].get(0)?)
}

/// The numbers of the whole lines of a file.
fn lines(file: &PathBuf) -> Vec<usize> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_inclusive('\n')
        .filter_map(|line| number(line.strip_suffix('\n')?))
        .collect()
}

fn number(line: &str) -> Option<usize> {
    line.strip_prefix("line ")?.parse().ok()
}

/// Adds numbered lines to a file until it is stopped or dropped.
struct Writer {
    file: PathBuf,
    wanted: Arc<()>,
    thread: JoinHandle<usize>,
}

impl Writer {
    fn start(file: PathBuf) -> Self {
        let mut out = File::create(&file).expect("source");
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        let thread = std::thread::spawn(move || {
            let mut written = 0;
            while still.strong_count() > 0 {
                let text: String = (written..written + 10).map(|n| format!("line {n}\n")).collect();
                out.write_all(text.as_bytes()).expect("source");
                written += 10;
                // A pace, not a wait.
                std::thread::sleep(Duration::from_millis(20));
            }
            written
        });
        Self { file, wanted, thread }
    }

    /// How many lines there are in the end.
    fn stop(self) -> usize {
        drop(self.wanted);
        self.thread.join().expect("writer")
    }
}
