//! One node as a process: Ottla, or Apache Kafka from its jars.
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::raw::Connection;
use crate::{process, tools};

/// How long a node may take until it serves its first request, and until it stops.
const DEADLINE: Duration = Duration::from_secs(60);

/// The cluster id of all nodes of the tests.
pub const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// Features that Apache Kafka turns on by default and Ottla does not offer yet: off, so that both can be compared.
pub const LATER_FEATURES: [&str; 4] = [
    "eligible.leader.replicas.version",
    "share.version",
    "streams.version",
    "transaction.version",
];

/// Whose broker a scenario talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The binary that the environment variable `OTTLA_BIN` names.
    Ottla,
    /// Apache Kafka from the jars in `OTTLA_KAFKA_HOME`.
    Apache,
}

/// How a node starts; every field has a default that suits most scenarios.
#[derive(Clone, Debug)]
pub struct Options {
    /// Lines for server.properties after the usual ones.
    pub properties: Vec<String>,
    /// Use a static `controller.quorum.voters` instead of a dynamic quorum of one.
    pub static_voters: bool,
    /// Arguments for the JVM, for Apache Kafka only.
    pub jvm: Vec<String>,
    /// How many `log.dirs` it has.
    pub log_dirs: usize,
    /// Makes it a broker alone, with node id 2, of the controller on this port.
    pub broker_of: Option<u16>,
}

impl Default for Options {
    fn default() -> Self {
        let jvm = ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
        Self {
            properties: Vec::new(),
            static_voters: false,
            jvm: jvm.map(String::from).to_vec(),
            log_dirs: 1,
            broker_of: None,
        }
    }
}

impl Options {
    /// The defaults and some lines for server.properties.
    pub fn with(properties: &[&str]) -> Self {
        Self {
            properties: properties.iter().map(|line| line.to_string()).collect(),
            ..Self::default()
        }
    }
}

/// A combined broker and controller in a directory of its own; killed when dropped.
pub struct Node {
    /// What runs here.
    pub target: Target,
    /// Client port on 127.0.0.1.
    pub port: u16,
    /// Controller port on 127.0.0.1.
    pub controller_port: u16,
    /// A program and its arguments that run the node given as their last ones, such as `nsenter`.
    pub within: Vec<String>,
    options: Options,
    child: Option<Child>,
    dir: TempDir,
}

impl Node {
    /// Formats a new node and starts it.
    pub fn start(target: Target, options: Options) -> Self {
        let mut node = Self::formatted(target, options);
        node.launch();
        node
    }

    /// Formats a new node that [`Node::launch`] starts.
    pub fn formatted(target: Target, options: Options) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ottla-node.")
            .tempdir()
            .expect("temporary directory");
        let [port, controller_port] = free_ports();
        let node = Self {
            target,
            port,
            controller_port,
            within: Vec::new(),
            options,
            child: None,
            dir,
        };
        node.configure(&[]);
        node.format();
        node
    }

    /// Writes server.properties anew with more lines at its end.
    pub fn configure(&self, more: &[&str]) {
        let (port, controller) = (self.port, self.controller_port);
        let dirs: Vec<_> = self.log_dirs().iter().map(|dir| dir.display().to_string()).collect();
        let roles = match self.options.broker_of {
            Some(controller) => format!(
                "process.roles=broker\n\
                 node.id=2\n\
                 controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n"
            ),
            None => format!(
                "process.roles=broker,controller\n\
                 node.id=1\n\
                 {}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n",
                match self.options.static_voters {
                    true => format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
                    false => format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller}"),
                }
            ),
        };
        let mut text = format!(
            "{roles}\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs={}\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n",
            dirs.join(",")
        );
        if self.target == Target::Ottla {
            text.push_str("ottla.http.listener=\n");
        }
        for line in self
            .options
            .properties
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
        {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(self.config(), text).expect("server.properties");
    }

    /// Formats the log directories that are not formatted.
    pub fn format(&self) {
        let config = self.config().display().to_string();
        let mut args = vec!["format", "--cluster-id", CLUSTER_ID, "--config", &config];
        if !self.options.static_voters && self.options.broker_of.is_none() {
            args.push("--standalone");
        }
        let out = match self.target {
            Target::Ottla => tools::run(Command::new(ottla_bin()).args(&args), b""),
            Target::Apache if self.options.broker_of.is_some() => tools::java("kafka-storage", &args),
            Target::Apache => {
                let features = LATER_FEATURES.map(|feature| format!("{feature}=0"));
                features.iter().for_each(|feature| args.extend(["--feature", feature]));
                tools::java("kafka-storage", &args)
            }
        };
        assert_eq!(out.code, 0, "format failed: {out:?}");
    }

    /// Starts the formatted node and waits until a client finds its broker.
    pub fn launch(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "already running");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("log file");
        let mut program = self.within.clone();
        match self.target {
            Target::Ottla => program.push(ottla_bin().display().to_string()),
            Target::Apache => program.extend(tools::java_command(&self.options.jvm, "kafka.Kafka")),
        }
        let mut command = process::tied(&program[0]);
        command.args(&program[1..]).arg(self.config()).current_dir(self.dir());
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log);
        let child = process::spawn(command);
        self.child = Some(child);
    }

    /// Waits until the broker lists itself, which it does once it is unfenced.
    pub fn wait_ready(&mut self) {
        if let Some(status) = self.wait_ready_or_exit() {
            panic!(
                "{:?} ended with {status} before it was ready:\n{}",
                self.target,
                self.log_tail()
            );
        }
    }

    /// Waits until the broker lists itself, or the process ended on its own.
    pub fn wait_ready_or_exit(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + DEADLINE;
        while !self.is_ready() {
            if let Some(status) = self.exited() {
                self.child = None;
                return Some(status);
            }
            assert!(
                Instant::now() < deadline,
                "{:?} is not ready after {DEADLINE:?}:\n{}",
                self.target,
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    fn is_ready(&self) -> bool {
        TcpStream::connect_timeout(&self.socket(), Duration::from_secs(1)).is_ok()
            && Connection::open(self.socket())
                .and_then(|mut c| c.broker_count())
                .is_ok_and(|count| count > 0)
    }

    /// The exit status, if the process ended on its own.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("wait for node")
    }

    /// Waits for the process to end on its own.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{:?} did not end:\n{}",
                self.target,
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the node with SIGTERM and returns how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    /// Stops the node with SIGKILL.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit();
    }

    /// Kills it unless it ended on its own.
    pub fn kill_if_running(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("process id");
        kill_process(pid, signal).expect("signal");
    }

    /// Process id of the running node.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running node").id()
    }

    /// Its bootstrap address, `host:port`.
    pub fn bootstrap(&self) -> String {
        self.socket().to_string()
    }

    /// Its controller's address, `host:port`.
    pub fn controller(&self) -> String {
        format!("127.0.0.1:{}", self.controller_port)
    }

    /// The client port as a socket address.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The directory that holds everything of this node.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of server.properties.
    pub fn config(&self) -> PathBuf {
        self.dir().join("server.properties")
    }

    /// `log.dirs`.
    pub fn log_dirs(&self) -> Vec<PathBuf> {
        (0..self.options.log_dirs)
            .map(|n| self.dir().join(format!("data{n}")))
            .collect()
    }

    /// The folder of a replica, whichever log dir has it.
    pub fn replica_dir(&self, topic: &str, partition: i32) -> PathBuf {
        let name = format!("{topic}-{partition}");
        let dirs = self.log_dirs();
        dirs.iter()
            .map(|dir| dir.join(&name))
            .find(|dir| dir.is_dir())
            .unwrap_or_else(|| panic!("no folder {name}"))
    }

    /// What the node wrote to standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir().join("node.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of {:?}:\n{}", self.target, self.log_tail());
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The binary under test.
pub fn ottla_bin() -> PathBuf {
    std::env::var_os("OTTLA_BIN")
        .map(PathBuf::from)
        .expect("OTTLA_BIN names the binary to test: run ./dev test")
}

/// Ports that were free a moment ago, all different.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners
        .each_ref()
        .map(|listener| listener.local_addr().expect("local address").port())
}
