//! Scenarios: what is done to a broker, run on Apache Kafka and on Ottla, with transcripts that must be equal.
use std::fmt::Debug;
use std::io;
use std::sync::OnceLock;

use kafka_protocol::protocol::Request;

use crate::node::{Node, Options, Target};
use crate::raw::Connection;
use crate::tools::{self, Output};
use crate::transcript::{Transcript, assert_equal};

/// A named scenario.
pub struct Case {
    /// Name of the test, and of its topics.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&mut Session),
}

/// Nodes that scenarios share, started when the first one asks.
#[derive(Default)]
pub struct SharedNodes {
    apache: OnceLock<Node>,
    ottla: OnceLock<Node>,
}

impl SharedNodes {
    fn get(&self, target: Target) -> &Node {
        let node = match target {
            Target::Apache => &self.apache,
            Target::Ottla => &self.ottla,
        };
        node.get_or_init(|| Node::start(target, Options::default()))
    }
}

/// Runs a scenario on the targets that the environment variable `OTTLA_COMPAT_TARGET` (`apache` or `ottla`) names, by
/// default on both, and compares.
pub fn run(nodes: &SharedNodes, case: &Case) {
    let on = |target| {
        let mut session = Session {
            target,
            name: case.name,
            nodes,
            transcript: Transcript::default(),
        };
        (case.run)(&mut session);
        session.transcript.text().to_string()
    };
    match std::env::var("OTTLA_COMPAT_TARGET").as_deref() {
        Ok("apache") => print_if_asked(&on(Target::Apache)),
        Ok("ottla") => print_if_asked(&on(Target::Ottla)),
        Ok(other) => panic!("OTTLA_COMPAT_TARGET is {other}, not apache or ottla"),
        Err(_) => assert_equal(&on(Target::Apache), &on(Target::Ottla)),
    }
}

fn print_if_asked(transcript: &str) {
    if std::env::var_os("OTTLA_COMPAT_SHOW").is_some() {
        println!("{transcript}");
    }
}

/// One run of a scenario on one target.
pub struct Session<'a> {
    /// What this run is about.
    pub target: Target,
    /// The scenario's name, which is also the name of its topic.
    pub name: &'static str,
    nodes: &'a SharedNodes,
    /// What is compared.
    pub transcript: Transcript,
}

impl<'a> Session<'a> {
    /// The node that scenarios share: they may only touch topics of their own.
    pub fn node(&mut self) -> &'a Node {
        let node = self.nodes.get(self.target);
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
    /// scenario's name and the node's directory; lines after the first are the tool's input.
    pub fn shell(&mut self, node: &Node, steps: &[&str]) {
        for step in steps {
            let output = self.tool(node, step);
            self.note_output(step, output);
        }
    }

    /// Runs one command line as [`Session::shell`] does, and returns its output instead of noting it.
    pub fn tool(&mut self, node: &Node, step: &str) -> Output {
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
            tool => tools::java_with_input(tool, &args, input.as_bytes()),
        }
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
            Err(e) => self.transcript.add(&format!("api {} version {version}: {e}", R::KEY)),
        }
        answer.ok()
    }
}
