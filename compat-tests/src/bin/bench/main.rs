//! Ottla beside Apache Kafka on this machine: `./dev bench [ROUNDS]` prints a table in Markdown.
//!
//! Both run at the same time and are loaded in turn, so that whatever else the machine does hits both. Every load is
//! bounded in time and in bytes. One round that is not counted warms the JVM up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Fails loudly.

mod load;
mod table;

use std::time::Duration;

use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::{tools, usage};
use table::{Better, Table};

/// How often both are started.
const STARTS: usize = 5;

/// What Apache Kafka's own scripts give the JVM.
const JVM: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

fn main() {
    let rounds = std::env::args().nth(1);
    let rounds = rounds.map_or(3, |rounds| rounds.parse().expect("a number of rounds"));
    let machine = usage::machine();
    let mut nodes = [Target::Ottla, Target::Apache].map(|target| Node::formatted(target, options(target)));
    // The JVM that formatted would idle beside them.
    tools::stop();
    let mut table = Table::default();
    start(&mut nodes, &mut table);
    idle(&nodes, &mut table);
    batched(&nodes, rounds, &mut table);
    unbatched(&nodes, rounds, &mut table);
    fetch(&nodes, rounds, &mut table);
    latency(&nodes, rounds, &mut table);
    for node in &nodes {
        let memory = usage::memory(node.pid());
        table.add("RSS after load, MB", Better::Lower, node.target, memory.now_mb);
        table.add("RSS at its peak, MB", Better::Lower, node.target, memory.peak_mb);
    }
    println!("{machine}\n\n{table}");
}

fn options(target: Target) -> Options {
    let properties = match target {
        // On by default, and part of what a node costs; the harness turns it off.
        Target::Ottla => vec!["ottla.http.listener=127.0.0.1:0".to_string()],
        Target::Apache => Vec::new(),
    };
    Options {
        properties,
        jvm: JVM.map(String::from).to_vec(),
        ..Options::default()
    }
}

/// The first start writes the first metadata, the others find it; the last leaves both running.
fn start(nodes: &mut [Node; 2], table: &mut Table) {
    for round in 0..STARTS {
        eprintln!("start {}/{STARTS}", round + 1);
        for node in nodes.iter_mut() {
            if round > 0 {
                node.stop();
            }
            let took = usage::wall(|| node.launch());
            table.add(
                "Start to the first answer, ms",
                Better::Lower,
                node.target,
                took.as_secs_f64() * 1e3,
            );
        }
    }
}

fn idle(nodes: &[Node; 2], table: &mut Table) {
    // What Apache Kafka still does after its first answer is no idling.
    std::thread::sleep(Duration::from_secs(3));
    let time = Duration::from_secs(10);
    let before = nodes.each_ref().map(|node| usage::cpu(node.pid()));
    std::thread::sleep(time);
    for (node, before) in nodes.iter().zip(before) {
        let cpu = (usage::cpu(node.pid()) - before).as_secs_f64() * 1e3 / time.as_secs_f64();
        table.add("CPU when idle, ms/s", Better::Lower, node.target, cpu);
        table.add(
            "RSS fresh, MB",
            Better::Lower,
            node.target,
            usage::memory(node.pid()).now_mb,
        );
    }
}

/// Loads both in turn, first uncounted.
fn each_round(nodes: &[Node; 2], rounds: usize, name: &str, mut load: impl FnMut(&Node, bool)) {
    for round in 0..=rounds {
        eprintln!("{name} {round}/{rounds}");
        // Who goes first changes.
        let mut order = [&nodes[0], &nodes[1]];
        order.rotate_left(round % 2);
        order.iter().for_each(|node| load(node, round > 0));
    }
}

fn batched(nodes: &[Node; 2], rounds: usize, table: &mut Table) {
    nodes
        .iter()
        .for_each(|node| load::create_topic(node, load::BATCHED, load::PARTITIONS));
    each_round(nodes, rounds, "produce, batched", |node, is_counted| {
        let work = usage::measure(node.pid(), || load::batched(node));
        if is_counted {
            table.add("Produce, MB/s", Better::Higher, node.target, work.per_second() / 1e6);
            table.add(
                "Produce, broker CPU-s/GB",
                Better::Lower,
                node.target,
                work.cpu_each() * 1e9,
            );
        }
    });
}

fn unbatched(nodes: &[Node; 2], rounds: usize, table: &mut Table) {
    nodes
        .iter()
        .for_each(|node| load::create_topic(node, load::UNBATCHED, load::CONNECTIONS));
    each_round(nodes, rounds, "produce, unbatched", |node, is_counted| {
        let work = usage::measure(node.pid(), || load::unbatched(node));
        if is_counted {
            table.add(
                "Unbatched produce, requests/s",
                Better::Higher,
                node.target,
                work.per_second(),
            );
            table.add(
                "Unbatched produce, broker CPU us/request",
                Better::Lower,
                node.target,
                work.cpu_each() * 1e6,
            );
        }
    });
}

fn fetch(nodes: &[Node; 2], rounds: usize, table: &mut Table) {
    each_round(nodes, rounds, "fetch", |node, is_counted| {
        let work = usage::measure(node.pid(), || load::fetch(node));
        if is_counted {
            table.add("Fetch, MB/s", Better::Higher, node.target, work.per_second() / 1e6);
            table.add(
                "Fetch, broker CPU-s/GB",
                Better::Lower,
                node.target,
                work.cpu_each() * 1e9,
            );
        }
    });
}

fn latency(nodes: &[Node; 2], rounds: usize, table: &mut Table) {
    nodes.iter().for_each(|node| load::create_topic(node, load::LATENCY, 1));
    each_round(nodes, rounds, "latency", |node, is_counted| {
        let mut samples = load::latency(node);
        samples.sort_unstable();
        if is_counted {
            for (name, part) in [("median", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                let at = samples[(samples.len() as f64 * part) as usize].as_secs_f64() * 1e6;
                table.add(
                    &format!("End-to-end latency, {name}, us"),
                    Better::Lower,
                    node.target,
                    at,
                );
            }
        }
    });
}
