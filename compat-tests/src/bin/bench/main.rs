//! Ottla beside Apache Kafka on this machine: `./dev bench [--rounds N] [--no-save] [WORKLOAD ...]`.
//!
//! [`workloads::ALL`] says what is measured, how, and what Ottla should reach. Loads are bounded in time and in bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Fails loudly.

mod chart;
mod clients;
mod floor;
mod full_cache;
mod ready;
mod report;
mod session;
mod verdict;
mod workload;
mod workloads;

use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use full_cache::FullCache;
use ottla_compat_tests::usage;
use report::Report;
use session::Session;
use workload::Workload;

/// No workload takes longer; on a quiet machine with two cores all of them together take less than 40 minutes.
const LIMIT: Duration = Duration::from_secs(15 * 60);

fn main() {
    let arguments = Arguments::parse(std::env::args().skip(1));
    let chosen = chosen(&arguments.names);
    check_disk(&chosen);
    let machine = usage::machine();
    let mut cache = FullCache::new();
    let sessions = chosen.iter().map(|workload| {
        cache.fill();
        let session = run(workload, arguments.rounds);
        eprintln!("{}", report::brief(&session));
        session
    });
    let report = Report {
        machine,
        rounds: arguments.rounds,
        sessions: sessions.collect(),
    };
    println!("{report}");
    if arguments.is_saved && chosen.len() == workloads::ALL.len() {
        report.save().expect("docs/bench.md, docs/bench.svg and README.md");
    }
}

struct Arguments {
    rounds: usize,
    is_saved: bool,
    names: Vec<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self {
            rounds: 3,
            is_saved: true,
            names: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--rounds" => match words
                    .next()
                    .and_then(|number| number.parse().ok())
                    .filter(|number| *number > 0)
                {
                    Some(rounds) => arguments.rounds = rounds,
                    None => fail("--rounds needs a number"),
                },
                "--no-save" => arguments.is_saved = false,
                _ => arguments.names.push(word),
            }
        }
        arguments
    }
}

/// The workloads with these names, else those whose names begin so and those of a family; all without names.
fn chosen(names: &[String]) -> Vec<&'static Workload> {
    let all = workloads::ALL.iter();
    if names.is_empty() {
        return all.collect();
    }
    let mut chosen = Vec::new();
    for name in names {
        let exact = all.clone().filter(|workload| workload.name == name);
        let alike = all
            .clone()
            .filter(|workload| workload.name.starts_with(name.as_str()) || workload.family == name);
        match exact.count() {
            0 => chosen.extend(alike),
            _ => chosen.extend(alike.filter(|workload| workload.name == name)),
        }
    }
    if chosen.is_empty() {
        let names: Vec<_> = all.map(|workload| workload.name).collect();
        fail(&format!("no such workload; there are: {}", names.join(", ")));
    }
    chosen
}

fn check_disk(workloads: &[&Workload]) {
    let dir = std::env::temp_dir();
    let needed_gb = workloads
        .iter()
        .map(|workload| workload.disk_gb)
        .max()
        .unwrap_or_default();
    let stat = rustix::fs::statvfs(&dir).expect("free disk space");
    let free_gb = stat.f_bavail * stat.f_frsize / 1_000_000_000;
    if free_gb < needed_gb {
        let dir = dir.display();
        fail(&format!(
            "{dir} has {free_gb} GB free, {needed_gb} GB are needed; TMPDIR names another directory"
        ));
    }
}

fn run(workload: &'static Workload, rounds: usize) -> Session {
    let (done, is_done) = channel::<()>();
    std::thread::spawn(move || {
        if is_done.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            fail(&format!("{} took more than {LIMIT:?}", workload.name));
        }
    });
    let mut session = Session::new(workload, rounds);
    (workload.run)(&mut session);
    drop(done);
    session
}

/// Nodes end with this process.
fn fail(why: &str) -> ! {
    eprintln!("bench: {why}");
    exit(2)
}
