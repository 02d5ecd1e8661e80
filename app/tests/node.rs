//! The life of the process: it starts, says so, refuses to start twice, and stops in order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The binary under test: `./dev test` names a copy that no other build replaces.
fn binary() -> PathBuf {
    std::env::var_os("OTTLA_BIN").map_or(env!("CARGO_BIN_EXE_ottla").into(), PathBuf::from)
}

const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    child: Child,
    lines: Receiver<String>,
}

impl Node {
    fn spawn(data: &Path, overrides: &[&str]) -> Node {
        let mut command = Command::new(binary());
        let data = format!("log.dirs={}", data.display());
        let defaults = [
            data.as_str(),
            "listeners=PLAINTEXT://localhost:0,CONTROLLER://127.0.0.1:0",
            "ottla.http.listener=127.0.0.1:0",
        ];
        for setting in defaults.iter().chain(overrides) {
            command.args(["--override", setting]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Node { child, lines }
    }

    /// Waits for the line that says that the node runs.
    fn started(data: &Path, overrides: &[&str]) -> (Node, String) {
        let mut node = Node::spawn(data, overrides);
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = node
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.contains(" started in ") {
                return (node, line);
            }
            seen.push(line);
        }
        panic!("the node did not start: {seen:#?} {}", node.error());
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the node does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote to standard error; ends with the process.
    fn error(&mut self) -> String {
        let mut text = String::new();
        let _ = self.child.kill();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// The one line that it ended with, with exit code 1.
    fn refusal(mut self) -> String {
        assert_eq!(self.wait().code(), Some(1));
        let error = self.error();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_after(line: &str, word: &str) -> SocketAddr {
    let (_, rest) = line.split_once(word).unwrap();
    rest.split([' ', ',', '/']).next().unwrap().parse().unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_starts_says_where_it_is_and_stops_in_order() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    let (mut node, line) = Node::started(&data, &[]);
    for part in [
        "(only this machine reaches them)",
        "advertised as localhost:",
        "cluster id ",
        &data.display().to_string(),
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    TcpStream::connect(address_after(&line, "PLAINTEXT ")).unwrap();
    TcpStream::connect(address_after(&line, "CONTROLLER ")).unwrap();
    let http = address_after(&line, "http://");
    assert!(get(http, "/readyz").starts_with("HTTP/1.1 200 "));
    let metrics = get(http, "/metrics");
    for sample in [
        "process_resident_memory_bytes ",
        "kafka_server_kafkaserver_brokerstate 3",
        "kafka_controller_kafkacontroller_activecontrollercount 1",
        "kafka_server_replicamanager_underreplicatedpartitions 0",
        "kafka_server_brokertopicmetrics_messagesin_total 0",
    ] {
        assert!(metrics.contains(&format!("\n{sample}")), "{sample}: {metrics}");
    }
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait().code(), Some(0), "{}", node.error());
    assert!(data.join(".kafka_cleanshutdown").exists());

    let cluster_id = line.rsplit(' ').next().unwrap().to_owned();
    let (mut node, line) = Node::started(&data, &[]);
    assert!(line.ends_with(&cluster_id), "{line}");
    node.signal(rustix::process::Signal::INT);
    assert_eq!(node.wait().code(), Some(0), "{}", node.error());
}

#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (_node, _) = Node::started(data.path(), &[]);
    let error = Node::spawn(data.path(), &[]).refusal();
    assert!(
        error.contains(&data.path().display().to_string()) && error.contains("in use"),
        "{error}"
    );
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (mut node, _) = Node::started(data.path(), &[]);
    node.signal(rustix::process::Signal::TERM);
    node.wait();
    let error = Node::spawn(data.path(), &["node.id=2"]).refusal();
    assert!(error.contains("node.id=1") && error.contains("node.id=2"), "{error}");
}

/// Another directory id makes it another replica than the one voter there is: nobody could ever tell it of a leader.
#[test]
fn a_controller_that_is_no_voter_any_more_is_refused_at_once() {
    let data = tempfile::tempdir().unwrap();
    let (mut node, _) = Node::started(data.path(), &[]);
    node.signal(rustix::process::Signal::TERM);
    node.wait();
    let file = data.path().join("meta.properties");
    let text = std::fs::read_to_string(&file).unwrap();
    let other = text.lines().map(|line| match line.starts_with("directory.id=") {
        true => "directory.id=AAAAAAAAAAAAAAAAAAAATQ",
        false => line,
    });
    std::fs::write(&file, other.collect::<Vec<_>>().join("\n")).unwrap();
    let error = Node::spawn(data.path(), &[]).refusal();
    for part in ["meta.properties", "1-AAAAAAAAAAAAAAAAAAAATQ", "voters"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let data = tempfile::tempdir().unwrap();
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:0");
    let error = Node::spawn(data.path(), &[&listeners]).refusal();
    assert!(
        error.contains(&format!("127.0.0.1:{port}")) && error.contains("in use"),
        "{error}"
    );
    let http = format!("ottla.http.listener=127.0.0.1:{port}");
    let error = Node::spawn(data.path(), &[&http]).refusal();
    assert!(
        error.contains("ottla.http.listener") && error.contains("in use"),
        "{error}"
    );
    let left = std::fs::read_dir(data.path()).unwrap().count();
    assert_eq!(left, 0, "nothing was formatted");
}
