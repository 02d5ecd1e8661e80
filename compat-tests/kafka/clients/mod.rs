//! Every family of Kafka clients, through the same cases on Ottla and on Apache Kafka: see README.md.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::time::Instant;

use libtest_mimic::{Failed, Trial};
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::scenario;

use self::bench::Bench;
use self::cases::{CASES, RESTART, after_restart, before_restart};
use self::groups::Family;
use self::outcome::{Cell, ensure};
use self::table::Table;

mod bench;
mod cases;
mod data;
mod driver;
mod groups;
mod outcome;
mod stored;
mod table;

/// The families whose drivers exist.
const FAMILIES: [&str; 12] = [
    "java-4.3",
    "java-3.9",
    "rust-rdkafka",
    "rust-rskafka",
    "confluent-kafka",
    "kafka-python",
    "aiokafka",
    "franz-go",
    "kafka-go",
    "sarama",
    "kafkajs",
    "platformatic-kafka",
];

/// How many cells of all tables pass; fewer fail the run.
const PASSING: usize = 582;

/// Restricts the matrix to cases whose names have one of these parts, separated by commas.
const CASES_CHOSEN: &str = "OTTLA_CLIENTS_CASES";

/// How many families are at work on a broker at a time.
const AT_ONCE: usize = 4;

/// The whole matrix as one test: families share a node, its restart, and what they read of each other.
pub fn trial() -> Trial {
    Trial::test("client-families", || run().map_err(Failed::from)).with_kind("clients")
}

fn run() -> Result<(), String> {
    let chosen_families = std::env::var("OTTLA_CLIENTS").ok();
    let families: Vec<&str> = chosen_families
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
    ottla.iter().for_each(|table| println!("\n{table}"));
    let mut wrong = String::new();
    for (ottla, apache) in results.iter().flat_map(|apache| ottla.iter().zip(apache)) {
        if std::env::var_os("OTTLA_COMPAT_SHOW").is_some() {
            println!("\nOn Apache Kafka:\n{apache}");
        }
        ottla.differences(apache).iter().for_each(|line| {
            let _ = write!(wrong, "\n{line}");
        });
    }
    let passed: usize = ottla.iter().map(Table::passed).sum();
    if chosen_families.is_none() && std::env::var_os(CASES_CHOSEN).is_none() && passed < PASSING {
        let _ = write!(wrong, "\n{passed} cells pass, fewer than {PASSING}");
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong),
    }
}

/// Whether a case is one of those to run.
fn chosen(case: &str) -> bool {
    std::env::var(CASES_CHOSEN).map_or(true, |parts| parts.split(',').any(|part| case.contains(part)))
}

/// Runs everything on one broker; returns what the families can do, and what they read of each other.
fn matrix(target: Target, families: &[&str]) -> Vec<Table> {
    let begin = Instant::now();
    let mut node = Node::start(target, Options::default());
    let mut table = Table::new("case", families);
    let mut benches: Vec<_> = families.iter().map(|family| Bench::start(family, &node)).collect();
    let cases: Vec<_> = CASES.iter().filter(|(name, _)| chosen(name)).collect();
    let columns = in_turn(&mut benches, |b| {
        let cells = cases.iter().map(|(name, case)| b.run(name, *case));
        cells.collect::<Vec<_>>()
    });
    for (place, (name, _)) in cases.iter().enumerate() {
        for (family, cells) in families.iter().zip(&columns) {
            table.put(name, family, cells[place].clone());
        }
    }
    if chosen(RESTART) {
        restart(&mut node, &mut benches, &mut table);
    }
    let reads = read_each_other(&mut benches, families);
    let members: Vec<_> = benches.iter().map(|b| Family::new(&b.family, &b.hello)).collect();
    // One node at a time.
    drop((benches, node));
    groups::run(target, &members, &mut table);
    let tables = vec![table, reads];
    println!("Client families on {target:?} took {:.0?}", begin.elapsed());
    tables
}

/// Restarts the broker under all drivers at once.
fn restart(node: &mut Node, benches: &mut [Bench], table: &mut Table) {
    let before = in_turn(benches, |b| {
        (b.family.clone(), (b.run(RESTART, before_restart), b.starts))
    });
    let before: BTreeMap<_, _> = before.into_iter().collect();
    node.stop();
    node.launch();
    let cells = in_turn(benches, |b| match &before[&b.family] {
        (Cell { outcome: Ok(()), .. }, starts) => {
            let cell = b.run(RESTART, after_restart);
            let same = ensure(b.starts == *starts, || "the driver ended".to_string());
            Cell {
                outcome: cell.outcome.and(same),
                ..cell
            }
        }
        (failed, _) => failed.clone(),
    });
    for (b, cell) in benches.iter().zip(cells) {
        table.put(RESTART, &b.family, cell);
    }
}

/// Lets each family read all that each other family wrote.
fn read_each_other(benches: &mut [Bench], families: &[&str]) -> Table {
    let mut table = Table::new("reads", families);
    let written: Vec<_> = benches.iter().map(|b| (b.family.clone(), b.written.clone())).collect();
    let rows = in_turn(benches, |reader| {
        let family = reader.family.clone();
        let cells = written
            .iter()
            .filter(|(writer, _)| *writer != family)
            .map(|(writer, written)| {
                let cell = reader.run("read", |reader| reader.read_all(writer, written));
                (writer, cell)
            });
        cells.collect::<Vec<_>>()
    });
    for (reader, cells) in families.iter().zip(rows) {
        cells
            .into_iter()
            .for_each(|(writer, cell)| table.put(reader, writer, cell));
    }
    table
}

/// Does something with each of these, a few at a time: most of the time of most clients goes by with waiting.
fn in_turn<T: Send, R: Send>(all: &mut [T], work: impl Fn(&mut T) -> R + Sync) -> Vec<R> {
    let queue = Mutex::new(all.iter_mut().enumerate());
    let next = || queue.lock().unwrap().next();
    let work = || {
        std::iter::from_fn(next)
            .map(|(place, one)| (place, work(one)))
            .collect::<Vec<_>>()
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}
