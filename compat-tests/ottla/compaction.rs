//! Power failures while compacted logs are cleaned. With `ottla.fsync=ack`, which Kafka does not have, nothing that was
//! acknowledged is lost: the latest value of each key is there again, or a later one.
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use ottla_compat_tests::chance::Chance;
use ottla_compat_tests::disk::{Disk, Left};
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::requests::{Topic, create_topic};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::tools;
use ottla_compat_tests::transcript::now_ms;

use crate::kills::BUSY;

const KEYS: usize = 40;
const RECORDS_PER_BATCH: usize = 50;
const VALUE_SIZE_BYTES: usize = 2000;
const UNTIL_KILL_MAX_MS: usize = 2500;

/// The number that was acknowledged last for each key.
type Latest = BTreeMap<String, u64>;

/// Writes ever larger numbers until the node is gone.
fn write(socket: SocketAddr, topic: Topic, mut next: u64) -> JoinHandle<(Latest, u64)> {
    std::thread::spawn(move || {
        let mut latest = Latest::new();
        let Ok(mut connection) = Connection::open(socket) else {
            return (latest, next);
        };
        loop {
            let numbers = next..next + RECORDS_PER_BATCH as u64;
            next = numbers.end;
            let key = |number: u64| format!("key{}", number as usize * 7 % KEYS);
            let record = |number: u64| Record {
                key: Some(key(number).into_bytes().into()),
                ..Record::value(format!("{number:0>VALUE_SIZE_BYTES$}").into_bytes())
            };
            let batch = Batch::new(now_ms(), numbers.clone().map(record).collect());
            let request = ottla_compat_tests::requests::produce(9, &topic, -1, &[(0, Some(batch.encode()))]);
            let Ok(answer) = connection.call(9, &request) else {
                return (latest, next);
            };
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            latest.extend(numbers.map(|number| (key(number), number)));
        }
    })
}

fn read(node: &Node, topic: &Topic) -> Latest {
    let text = tools::read_with_kcat(&node.bootstrap(), &topic.name, 0, "%k:%s\\n");
    let parse = |line: &str| {
        let (key, value) = line.split_once(':').unwrap();
        (key.to_owned(), value.parse().unwrap())
    };
    text.lines().map(parse).collect()
}

fn cut_the_power_again_and_again(rounds: usize) {
    let mut chance = Chance::new();
    let properties = [&BUSY[..], &["ottla.fsync=ack", "log.cleaner.backoff.ms=20"]].concat();
    let mut node = Node::formatted(Target::Ottla, Options::with(&properties));
    let disk = Disk::under(&mut node);
    disk.settle();
    node.launch();
    let configs = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("file.delete.delay.ms", "50"),
    ];
    let topic = create_topic(&mut Connection::open(node.socket()).unwrap(), "t", 1, &configs);
    let (mut latest, mut next, mut swaps) = (Latest::new(), 0, 0);
    for round in 0..rounds {
        let writer = write(node.socket(), topic.clone(), next);
        sleep(Duration::from_millis(chance.below(UNTIL_KILL_MAX_MS) as u64));
        node.kill();
        let (acknowledged, written) = writer.join().unwrap();
        latest.extend(acknowledged);
        next = written;
        let (dir, left) = (node.log_dirs().remove(0), *chance.pick(&Left::ALL));
        let before = disk.cut(&dir, left);
        let names = |folder: &std::path::Path| {
            let files = fs::read_dir(folder.join("t-0")).into_iter().flatten().flatten();
            files
                .map(|file| file.file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        swaps += usize::from(
            names(&before)
                .iter()
                .any(|name| name.ends_with(".cleaned") || name.ends_with(".swap")),
        );
        let is_without_index = chance.below(4) == 0;
        if is_without_index {
            fs::remove_dir_all(dir.join(".ottla")).unwrap();
        }
        eprintln!(
            "round {round}: left: {left:?}, without index: {is_without_index}, {:?}",
            names(&dir)
        );
        disk.settle();
        node.launch();
        let found = wait_for(
            || {
                let found = read(&node, &topic);
                (found.len() >= latest.len()).then_some(found)
            },
            || format!("keys are missing: {} of {}", read(&node, &topic).len(), latest.len()),
        );
        for (key, number) in &latest {
            assert!(
                found[key] >= *number,
                "round {round}: {key} has {} after {number}",
                found[key]
            );
        }
    }
    eprintln!("{rounds} power failures, {swaps} of them in the middle of a cleaning, {next} records");
}

#[test]
fn the_latest_acknowledged_values_survive_power_failures() {
    cut_the_power_again_and_again(8);
}

#[test]
#[ignore = "takes minutes: runs in ./dev stress"]
fn the_latest_acknowledged_values_survive_hundreds_of_power_failures() {
    cut_the_power_again_and_again(150);
}
