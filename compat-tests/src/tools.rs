//! Runs command line tools: kcat, and the stock Java tools of Apache Kafka.
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::process;

/// How long a tool may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a finished tool left.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a tool that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "tool failed: {self:?}");
        self.stdout
    }

    /// Changes the lines of standard output.
    pub fn map_lines(mut self, change: impl FnOnce(&mut Vec<&str>)) -> Self {
        let mut lines = self.stdout.lines().collect();
        change(&mut lines);
        self.stdout = lines.join("\n");
        self
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {name}: {e}{}", hint(&name)));
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_vec();
    // A tool that stops early does not read all of its input.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(child.stdout.take().expect("stdout"));
    let stderr = read_all(child.stderr.take().expect("stderr"));
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for tool") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            let text =
                |bytes: Receiver<Vec<u8>>| String::from_utf8_lossy(&bytes.recv().unwrap_or_default()).into_owned();
            panic!(
                "{command:?} took more than {DEADLINE:?}\n{}\n{}",
                text(stdout),
                text(stderr)
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |bytes: Receiver<Vec<u8>>| String::from_utf8_lossy(&bytes.recv().expect("output")).into_owned();
    Output {
        code: status.code().unwrap_or(-1),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        sender.send(bytes)
    });
    receiver
}

fn hint(program: &str) -> &'static str {
    match program {
        "kcat" => " (install kcat; Debian: apt-get install kcat)",
        "promtool" => " (install Prometheus; Debian: apt-get install prometheus)",
        "java" => " (install Java 17; Debian: apt-get install openjdk-17-jdk-headless)",
        _ => "",
    }
}

/// Runs kcat, to its end.
pub fn kcat(args: &[&str], input: &[u8]) -> Output {
    run(Command::new("kcat").args(args), input)
}

/// What a partition has from the beginning, each record in this format; kcat checks CRCs.
pub fn read_with_kcat(bootstrap: &str, topic: &str, partition: i32, format: &str) -> String {
    let partition = partition.to_string();
    let place = ["-b", bootstrap, "-t", topic, "-p", &partition, "-o", "beginning"];
    let how = ["-C", "-e", "-q", "-X", "check.crcs=true", "-f", format];
    kcat(&[&place[..], &how].concat(), b"").ok()
}

/// Runs a stock tool by its usual name.
pub fn java(tool: &str, args: &[&str]) -> Output {
    java_with_input(tool, args, b"")
}

/// Runs a stock tool by its usual name on some input.
pub fn java_with_input(tool: &str, args: &[&str], input: &[u8]) -> Output {
    let class = class_of(tool);
    Lease::take().0.as_mut().expect("tool server").run(class, args, input)
}

/// The class behind the usual name of a stock tool.
pub fn class_of(tool: &str) -> &'static str {
    match tool {
        "kafka-broker-api-versions" => "org.apache.kafka.tools.BrokerApiVersionsCommand",
        "kafka-cluster" => "org.apache.kafka.tools.ClusterTool",
        "kafka-configs" => "kafka.admin.ConfigCommand",
        "kafka-console-consumer" => "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "kafka-console-producer" => "org.apache.kafka.tools.ConsoleProducer",
        "kafka-consumer-groups" => "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "kafka-delete-records" => "org.apache.kafka.tools.DeleteRecordsCommand",
        "kafka-dump-log" => "org.apache.kafka.tools.DumpLogSegments",
        "kafka-e2e-latency" => "org.apache.kafka.tools.EndToEndLatency",
        "kafka-features" => "org.apache.kafka.tools.FeatureCommand",
        "kafka-get-offsets" => "org.apache.kafka.tools.GetOffsetShell",
        "kafka-groups" => "org.apache.kafka.tools.GroupsCommand",
        "kafka-log-dirs" => "org.apache.kafka.tools.LogDirsCommand",
        "kafka-metadata-quorum" => "org.apache.kafka.tools.MetadataQuorumCommand",
        "kafka-producer-perf-test" => "org.apache.kafka.tools.ProducerPerformance",
        "kafka-storage" => "kafka.tools.StorageTool",
        "kafka-topics" => "org.apache.kafka.tools.TopicCommand",
        "kafka-verifiable-consumer" => "org.apache.kafka.tools.VerifiableConsumer",
        "kafka-verifiable-producer" => "org.apache.kafka.tools.VerifiableProducer",
        _ => panic!("unknown tool {tool}"),
    }
}

/// The command line that starts a Java class with all of Kafka's jars, as words.
pub fn java_command(jvm: &[String], class: &str) -> Vec<String> {
    let mut words = vec!["java".to_string()];
    words.extend(jvm.iter().cloned());
    words.push(format!(
        "-Dlog4j2.configurationFile={}",
        source("kafka/log4j2.xml").display()
    ));
    words.extend(["-cp".to_string(), format!("{}/*", lib().display()), class.to_string()]);
    words
}

fn lib() -> PathBuf {
    let home = std::env::var_os("OTTLA_KAFKA_HOME").expect("OTTLA_KAFKA_HOME has Apache Kafka's jars: run ./dev test");
    Path::new(&home).join("lib")
}

/// A file of these tests, by its path in their folder.
pub fn source(path: &str) -> PathBuf {
    // Set by cargo and by ./dev for running tests; programs started by hand use the folder they were built from.
    let dir = std::env::var_os("CARGO_MANIFEST_DIR").map_or(PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    dir.join(path)
}

/// A JVM that runs one tool after the other.
struct ToolServer {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<Output>,
}

impl ToolServer {
    fn start() -> Self {
        let jars = std::fs::read_dir(lib()).expect("Apache Kafka's jars: run ./dev test");
        let (tools, rest): (Vec<_>, Vec<_>) = jars.map(|entry| entry.expect("jar").path()).partition(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("kafka-tools-") && !name.starts_with("kafka-tools-api") || name.starts_with("kafka_")
        });
        let path: Vec<_> = rest.iter().map(|jar| jar.display().to_string()).collect();
        let mut command = process::tied("java");
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            // A logger keeps the standard error that was there first.
            .arg("-Dottla.log.level=OFF")
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                source("kafka/log4j2.xml").display()
            ))
            .args(["-cp", &path.join(":")])
            .arg(source("kafka/java/ToolServer.java"))
            .args(tools)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = process::spawn(command);
        let stdin = child.stdin.take().expect("stdin");
        let mut stdout = child.stdout.take().expect("stdout");
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            while let Ok(output) = read_answer(&mut stdout) {
                if sender.send(output).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin, answers }
    }

    fn run(&mut self, class: &str, args: &[&str], input: &[u8]) -> Output {
        let mut request = Vec::new();
        request.extend((args.len() as u32 + 1).to_be_bytes());
        for word in std::iter::once(&class)
            .chain(args)
            .map(|word| word.as_bytes())
            .chain([input])
        {
            request.extend((word.len() as u32).to_be_bytes());
            request.extend(word);
        }
        self.stdin
            .write_all(&request)
            .and_then(|()| self.stdin.flush())
            .expect("tool server");
        self.answers
            .recv_timeout(DEADLINE)
            .unwrap_or_else(|e| panic!("{class} {args:?} gave no answer: {e}"))
    }
}

impl Drop for ToolServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_answer(pipe: &mut impl Read) -> std::io::Result<Output> {
    let mut int = || {
        let mut bytes = [0; 4];
        pipe.read_exact(&mut bytes).map(|()| i32::from_be_bytes(bytes))
    };
    let code = int()?;
    let mut text = || {
        let mut size = [0; 4];
        pipe.read_exact(&mut size)?;
        let mut bytes = vec![0; u32::from_be_bytes(size) as usize];
        pipe.read_exact(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Output {
        code,
        stdout: text()?,
        stderr: text()?,
    })
}

/// Idle tool servers, and how many exist: more than two would only fight for the processors.
static SERVERS: Mutex<(Vec<ToolServer>, usize)> = Mutex::new((Vec::new(), 0));
static RETURNED: Condvar = Condvar::new();

/// A tool server on loan: it goes back to the idle ones, or is ended when the caller panics.
struct Lease(Option<ToolServer>);

impl Lease {
    fn take() -> Self {
        let mut servers = SERVERS.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            if let Some(server) = servers.0.pop() {
                return Self(Some(server));
            }
            if servers.1 < 2 {
                servers.1 += 1;
                return Self(Some(ToolServer::start()));
            }
            servers = RETURNED.wait(servers).unwrap_or_else(|e| e.into_inner());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut servers = SERVERS.lock().unwrap_or_else(|e| e.into_inner());
        match self.0.take() {
            Some(server) if !std::thread::panicking() => servers.0.push(server),
            _ => servers.1 -= 1,
        }
        RETURNED.notify_one();
    }
}

/// Ends the idle tool servers; who needs one later starts it.
pub fn stop() {
    let mut servers = SERVERS.lock().unwrap_or_else(|e| e.into_inner());
    let ended = servers.0.drain(..).len();
    servers.1 -= ended;
    RETURNED.notify_all();
}
