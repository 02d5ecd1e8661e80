//! One run of a workload: starts nodes, says whose turn it is, and keeps what was measured.
use std::path::Path;
use std::time::{Duration, Instant};

use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, create_topic};
use ottla_compat_tests::usage::{self, Work};
use ottla_compat_tests::{metrics, tools};

use crate::workload::{Side, Workload};

/// What Apache Kafka's own scripts give the JVM.
pub const JVM: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// So long each broker is loaded before anything counts.
const WARM_UP: Duration = Duration::from_secs(10);

/// Measured values, in the order of rounds.
#[derive(Default)]
pub struct Values {
    /// Ottla's.
    pub ottla: Vec<f64>,
    /// The rival's.
    pub rival: Vec<f64>,
    /// The machine's, which no broker can beat.
    pub floor: Vec<f64>,
}

/// A workload being measured, and its results in the end.
pub struct Session {
    /// What is measured.
    pub workload: &'static Workload,
    /// How often it counts.
    pub rounds: usize,
    /// One entry a figure.
    pub values: Vec<Values>,
    /// Loads of Ottla and of the rival, added up.
    pub work: [Work; 2],
    /// What else is worth saying.
    pub notes: Vec<String>,
}

impl Session {
    /// Nothing measured yet.
    pub fn new(workload: &'static Workload, rounds: usize) -> Self {
        Self {
            workload,
            rounds,
            values: workload.figures.iter().map(|_| Values::default()).collect(),
            work: Default::default(),
            notes: Vec::new(),
        }
    }

    /// Adds a value to a figure, by its place in the workload's list.
    pub fn add(&mut self, side: Side, figure: usize, value: f64) {
        let values = &mut self.values[figure];
        match side {
            Side::Ottla => values.ottla.push(value),
            Side::Rival => values.rival.push(value),
        }
    }

    /// Adds what the machine takes for the same without a broker.
    pub fn add_floor(&mut self, figure: usize, value: f64) {
        self.values[figure].floor.push(value);
    }

    /// Says something once.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// A formatted node with the workload's settings.
    pub fn formatted(&self, side: Side) -> Node {
        let settings = &self.workload.settings;
        let (target, more) = match side {
            Side::Ottla => (Target::Ottla, settings.ottla),
            Side::Rival => (self.workload.rival.target(), settings.rival),
        };
        let mut properties = Vec::new();
        if target == Target::Ottla {
            // On by default, and part of what a node costs; the harness turns it off.
            properties.push("ottla.http.listener=127.0.0.1:0".to_owned());
        }
        properties.extend(more.iter().map(|line| (*line).to_owned()));
        let options = Options {
            properties,
            jvm: JVM.map(String::from).to_vec(),
            ..Options::default()
        };
        let node = Node::formatted(target, options);
        // The JVM that formatted would idle beside them.
        tools::stop();
        node
    }

    /// Creates a topic with the workload's settings and waits until it is led.
    pub fn create_topic(&self, side: Side, node: &Node, name: &str, partitions: i32) -> Topic {
        let configs = match side {
            Side::Ottla => &[],
            Side::Rival => self.workload.settings.rival_topic,
        };
        let mut connection = Connection::open(node.socket()).expect("connection");
        create_topic(&mut connection, name, partitions, configs)
    }

    /// Both brokers with a topic each, at the same time: they are loaded in turn, so that whatever else the machine
    /// does hits both. What comes before the first round does not count: it warms the JVM up.
    pub fn side_by_side(&mut self, partitions: i32, mut load: impl FnMut(&mut Self, Side, &Node, &Topic, bool)) {
        let nodes = Side::BOTH.map(|side| {
            let mut node = self.formatted(side);
            node.launch();
            let topic = self.create_topic(side, &node, "bench", partitions);
            (side, node, topic)
        });
        self.say_round(0);
        for (side, node, topic) in &nodes {
            let begun = Instant::now();
            while begun.elapsed() < WARM_UP {
                load(self, *side, node, topic, false);
            }
        }
        for round in 1..=self.rounds {
            self.say_round(round);
            for (side, node, topic) in in_turn(&nodes, round) {
                load(self, *side, node, topic, true);
            }
        }
    }

    /// One broker after the other, each anew in each round; nothing else runs meanwhile.
    pub fn one_by_one(&mut self, mut measure: impl FnMut(&mut Self, Side, Node)) {
        for round in 1..=self.rounds {
            self.say_round(round);
            for side in in_turn(&Side::BOTH, round) {
                let node = self.formatted(*side);
                measure(self, *side, node);
            }
        }
    }

    /// Measures a load and remembers who used the CPUs if it counts.
    pub fn measure(&mut self, side: Side, node: &Node, counts: bool, load: impl FnOnce() -> u64) -> Work {
        let work = usage::measure(node.pid(), load);
        if counts {
            self.work[side as usize] += work;
        }
        work
    }

    fn say_round(&self, round: usize) {
        eprintln!("{} {round}/{}", self.workload.name, self.rounds);
    }
}

/// Who goes first changes.
fn in_turn<T>(both: &[T; 2], round: usize) -> [&T; 2] {
    let mut order = both.each_ref();
    order.rotate_left(round % 2);
    order
}

/// The value of a counter of Ottla's; `None` where it has no such counter.
pub fn counter(node: &Node, name: &str) -> Option<f64> {
    let text = metrics::scrape(http_port(node.dir())?);
    let values = text
        .lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.reduce(|sum, value| sum + value)
}

/// The port that the log names.
fn http_port(dir: &Path) -> Option<u16> {
    let log = std::fs::read_to_string(dir.join("node.log")).ok()?;
    let after = log.split("http://127.0.0.1:").nth(1)?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
