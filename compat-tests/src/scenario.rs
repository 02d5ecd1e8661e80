//! Scenarios: what is done to a broker, run on Apache Kafka and on Ottla, with transcripts that must be equal.
use std::fmt::Debug;
use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kafka_protocol::protocol::Request;

use crate::node::{Node, Options, Target};
use crate::raw::Connection;
use crate::tools::{self, Output};
use crate::transcript::{Transcript, assert_equal};

/// A named scenario.
pub struct Case {
    /// Name of the test, and of its topics.
    pub name: &'static str,
    /// It is for `./dev stress` alone.
    pub is_long: bool,
    run: Run,
}

enum Run {
    Shell(&'static [&'static str]),
    Code(fn(&mut Session)),
}

impl Case {
    /// Command lines for [`Session::shell`], run on the shared node.
    pub const fn shell(name: &'static str, steps: &'static [&'static str]) -> Self {
        Self {
            name,
            is_long: false,
            run: Run::Shell(steps),
        }
    }

    /// Any code.
    pub const fn code(name: &'static str, code: fn(&mut Session)) -> Self {
        Self {
            name,
            is_long: false,
            run: Run::Code(code),
        }
    }

    /// The same for `./dev stress` alone.
    pub const fn long(self) -> Self {
        Self { is_long: true, ..self }
    }
}

/// Nodes that scenarios share, started when the first one asks.
#[derive(Default)]
pub struct SharedNodes {
    options: Options,
    left: OnceLock<Node>,
    right: OnceLock<Node>,
}

impl SharedNodes {
    /// Nodes that start in some other way than the usual one.
    pub fn with(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }
}

/// What to run on: Apache Kafka and Ottla, which must be alike. The environment variable `OTTLA_COMPAT_TARGET` changes
/// that: `apache` compares two Apache Kafkas, which shows that a scenario tests Kafka and nothing that is left to chance;
/// `ottla` runs on Ottla alone.
pub fn targets() -> Vec<Target> {
    match std::env::var("OTTLA_COMPAT_TARGET").as_deref() {
        Err(_) => vec![Target::Apache, Target::Ottla],
        Ok("apache") => vec![Target::Apache, Target::Apache],
        Ok("ottla") => vec![Target::Ottla],
        Ok(other) => panic!("OTTLA_COMPAT_TARGET is {other}, not apache or ottla"),
    }
}

/// Runs a scenario on the [`targets`] and compares, or prints what it saw on the only one.
pub fn run(nodes: &SharedNodes, case: &Case) {
    let on = |target, shared| {
        let mut session = Session {
            target,
            name: case.name,
            shared,
            options: &nodes.options,
            transcript: Transcript::default(),
        };
        match case.run {
            Run::Shell(steps) => {
                let node = session.node();
                session.shell(node, steps);
            }
            Run::Code(code) => code(&mut session),
        }
        std::mem::take(&mut session.transcript).into_text()
    };
    let (left, right) = match targets()[..] {
        [left, right] => (left, right),
        _ => return println!("{}", on(Target::Ottla, &nodes.right)),
    };
    let expected = on(left, &nodes.left);
    if std::env::var_os("OTTLA_COMPAT_SHOW").is_some() {
        println!("{expected}");
    }
    assert_equal(&expected, &on(right, &nodes.right));
}

/// One run of a scenario on one target.
pub struct Session<'a> {
    /// What this run is about.
    pub target: Target,
    /// The scenario's name, which is also the name of its topic.
    pub name: &'static str,
    shared: &'a OnceLock<Node>,
    options: &'a Options,
    /// What is compared.
    pub transcript: Transcript,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} on {:?} saw:\n{}", self.name, self.target, self.transcript.text());
        }
    }
}

impl<'a> Session<'a> {
    /// The node that scenarios share: they may only touch topics of their own.
    pub fn node(&mut self) -> &'a Node {
        let node = self
            .shared
            .get_or_init(|| Node::start(self.target, self.options.clone()));
        self.transcript.know(node);
        node
    }

    /// A node for this scenario alone.
    pub fn start(&mut self, options: Options) -> Node {
        let node = Node::start(self.target, options);
        self.transcript.know(&node);
        node
    }

    /// Adds to the transcript.
    pub fn note(&mut self, label: &str, value: impl Debug) {
        self.transcript.add(&format!("{label}: {value:#?}"));
    }

    /// Runs command lines, one a step. `$B`, `$C`, `$T` and `$D` stand for the bootstrap and controller addresses, the
    /// scenario's name and the node's directory; lines after the first are the tool's input. A step may begin with:
    /// - `until PATTERN` repeats the command until its output has the pattern, for what brokers learn a moment later;
    /// - `sort` sorts the lines of the output, for tools that print in no order;
    /// - `only PATTERN` keeps the lines with the pattern.
    pub fn shell(&mut self, node: &Node, steps: &[&str]) {
        for step in steps {
            let output = self.tool(node, step);
            self.note_output(step, output);
        }
    }

    /// Runs one command line as [`Session::shell`] does, and returns its output instead of noting it.
    pub fn tool(&mut self, node: &Node, step: &str) -> Output {
        if let Some(rest) = step.strip_prefix("sort ") {
            return self.tool(node, rest).map_lines(|lines| lines.sort());
        }
        if let Some((pattern, rest)) = step.strip_prefix("only ").and_then(|rest| rest.split_once(' ')) {
            let pattern = self.pattern(pattern);
            return self
                .tool(node, rest)
                .map_lines(|lines| lines.retain(|line| pattern.is_match(line)));
        }
        if let Some((pattern, rest)) = step.strip_prefix("until ").and_then(|rest| rest.split_once(' ')) {
            let pattern = self.pattern(pattern);
            let found = |output: &Output| pattern.is_match(&format!("{}{}", output.stdout, output.stderr));
            return wait_for(
                || Some(self.tool(node, rest)).filter(found),
                || format!("{rest} never said {pattern}"),
            );
        }
        let (line, input) = step.split_once('\n').unwrap_or((step, ""));
        let expand = |word: &str| {
            word.replace("$B", &node.bootstrap())
                .replace("$C", &node.controller())
                .replace("$T", self.name)
                .replace("$D", &node.dir().display().to_string())
        };
        let words: Vec<String> = line.split_whitespace().map(expand).collect();
        let (program, args) = words.split_first().expect("a command");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match program.as_str() {
            "kcat" => tools::kcat(&args, input.as_bytes()),
            "write" => {
                std::fs::write(args[0], expand(input)).expect("write");
                Output::default()
            }
            tool => tools::java_with_input(tool, &args, input.as_bytes()),
        }
    }

    fn pattern(&self, pattern: &str) -> regex::Regex {
        regex::Regex::new(&pattern.replace("$T", self.name)).expect("pattern")
    }

    /// Adds the output of a tool.
    pub fn note_output(&mut self, title: &str, output: Output) {
        let Output { code, stdout, stderr } = output;
        self.transcript
            .add(&format!("$ {title}\n[exit {code}]\n{stdout}\n{stderr}"));
    }

    /// Calls an API on a connection and adds the answer, or how the connection ended.
    pub fn call<R: Request>(&mut self, on: &mut Connection, version: i16, request: &R) -> Option<R::Response>
    where
        R::Response: Debug,
    {
        let answer = on.call(version, request);
        self.answer::<R>(version, answer)
    }

    /// Adds an answer that was received apart from its request.
    pub fn answer<R: Request>(&mut self, version: i16, answer: io::Result<R::Response>) -> Option<R::Response>
    where
        R::Response: Debug,
    {
        match &answer {
            Ok(answer) => self
                .transcript
                .add(&format!("api {} version {version}: {answer:#?}", R::KEY)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.transcript
                    .add(&format!("api {} version {version}: connection closed", R::KEY));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.transcript
                    .add(&format!("api {} version {version}: no answer", R::KEY));
            }
            Err(e) => self.transcript.add(&format!("api {} version {version}: {e}", R::KEY)),
        }
        answer.ok()
    }
}

/// Tries again until there is a result, for as long as a broker may take to learn something.
pub fn wait_for<T>(attempt: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    wait_within(Duration::from_secs(30), attempt, what)
}

/// Tries again until there is a result, for so long.
pub fn wait_within<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(Instant::now() < deadline, "{}", what());
        std::thread::sleep(Duration::from_millis(20));
    }
}
