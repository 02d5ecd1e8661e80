//! Every family of Kafka clients, through the same cases on Ottla and on Apache Kafka: see README.md.
use std::fmt::Write;
use std::time::Instant;

use libtest_mimic::{Failed, Trial};
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::scenario;

use self::bench::Bench;
use self::cases::{CASES, RESTART, after_restart, before_restart};
use self::outcome::{Cell, ensure};
use self::table::Table;

mod bench;
mod cases;
mod data;
mod driver;
mod outcome;
mod stored;
mod table;

/// The families whose drivers exist.
const FAMILIES: [&str; 2] = ["java-4.3", "java-3.9"];

/// How many cells of all tables pass; fewer fail the run.
const PASSING: usize = 66;

/// The whole matrix as one test: families share a node, its restart, and what they read of each other.
pub fn trial() -> Trial {
    Trial::test("client-families", || run().map_err(Failed::from)).with_kind("clients")
}

fn run() -> Result<(), String> {
    let chosen = std::env::var("OTTLA_CLIENTS").ok();
    let families: Vec<&str> = chosen
        .as_deref()
        .map_or(FAMILIES.to_vec(), |names| names.split(',').collect());
    let results = std::thread::scope(|scope| {
        let runs: Vec<_> = scenario::targets()
            .into_iter()
            .map(|target| {
                let families = &families;
                scope.spawn(move || matrix(target, families))
            })
            .collect();
        runs.into_iter().map(|run| run.join()).collect::<Result<Vec<_>, _>>()
    });
    let mut results = results.map_err(|_| "the matrix panicked")?;
    let ottla = results.pop().unwrap_or_default();
    let mut wrong = String::new();
    for apache in &results {
        for line in ottla
            .iter()
            .zip(apache)
            .flat_map(|(ottla, apache)| ottla.differences(apache))
        {
            let _ = write!(wrong, "\n{line}");
        }
    }
    let passed: usize = ottla.iter().map(Table::passed).sum();
    if chosen.is_none() && passed < PASSING {
        let _ = write!(wrong, "\n{passed} cells pass, fewer than {PASSING}");
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong),
    }
}

/// Runs everything on one broker; returns what the families can do, and what they read of each other.
fn matrix(target: Target, families: &[&str]) -> Vec<Table> {
    let begin = Instant::now();
    let mut node = Node::start(target, Options::default());
    let mut table = Table::new("case");
    let mut benches: Vec<_> = families.iter().map(|family| Bench::start(family, &node)).collect();
    for b in &mut benches {
        for (name, case) in CASES {
            let cell = b.run(name, *case);
            table.put(name, &b.family, cell);
        }
    }
    restart(&mut node, &mut benches, &mut table);
    let tables = vec![table, read_each_other(&mut benches)];
    let mut text = format!("\nClient families on {target:?}, {:.0?}\n", begin.elapsed());
    tables.iter().for_each(|table| text.push_str(&table.to_string()));
    println!("{text}");
    tables
}

/// Restarts the broker under all drivers at once.
fn restart(node: &mut Node, benches: &mut [Bench], table: &mut Table) {
    let before: Vec<_> = benches
        .iter_mut()
        .map(|b| (b.run(RESTART, before_restart), b.starts))
        .collect();
    node.stop();
    node.launch();
    for (b, (before, starts)) in benches.iter_mut().zip(before) {
        let cell = match &before.outcome {
            Ok(()) => b.run(RESTART, after_restart),
            Err(_) => before,
        };
        let outcome = cell
            .outcome
            .and_then(|()| ensure(b.starts == starts, || "the driver ended".to_string()));
        table.put(RESTART, &b.family, Cell { outcome, ..cell });
    }
}

/// Lets each family read all that each family wrote.
fn read_each_other(benches: &mut [Bench]) -> Table {
    let mut table = Table::new("reads");
    let written: Vec<_> = benches.iter().map(|b| (b.family.clone(), b.written.clone())).collect();
    for reader in benches {
        for (writer, written) in &written {
            let cell = reader.run("read", |reader| {
                let mut places = written.iter();
                places.try_for_each(|((topic, partition), records)| reader.read(topic, *partition, records))
            });
            table.put(&reader.family, writer, cell);
        }
    }
    table
}
