//! Disks that fill up or go away. Apache Kafka maps index files into memory, so a full disk may end its process; and it
//! says less when it ends.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ottla_compat_tests::metrics::{sample, scrape};
use ottla_compat_tests::node::{Node, Options, Target, free_ports};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::requests::{Topic, at, create_topic, fetch, list_offsets, produce};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::transcript::now_ms;

const KAFKA_STORAGE_ERROR: i16 = 56;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const MIB: u64 = 1 << 20;

fn start(log_dirs: usize) -> Node {
    start_with(log_dirs, "ottla.http.listener=")
}

fn start_with(log_dirs: usize, property: &str) -> Node {
    let options = Options {
        log_dirs,
        ..Options::with(&[
            "log.flush.offset.checkpoint.interval.ms=100",
            "log.initial.task.delay.ms=10",
            property,
        ])
    };
    Node::formatted(Target::Ottla, options)
}

/// A small file system of memory over a directory that only the processes see that enter its namespace.
struct SmallDisk(Child);

impl SmallDisk {
    /// 64 MiB, of which so much is left.
    fn mount(dir: &Path, free_bytes: u64) -> Self {
        let script = r#"cp -a "$1" "$1.formatted" && mount -t tmpfs -o size=64m tmpfs "$1" \
            && cp -a "$1.formatted/." "$1" && head -c "$2" /dev/zero > "$1/taken" && echo mounted && exec sleep infinity"#;
        // Whoever is not root may still be the root of a namespace.
        let user: &[&str] = if rustix::process::geteuid().is_root() {
            &[]
        } else {
            &["--map-root-user"]
        };
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount"])
            .args(user)
            .args(["sh", "-c", script, "sh"])
            .arg(dir)
            .arg(format!("{}", 64 * MIB - free_bytes))
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv (Debian: util-linux)");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "mounted\n");
        Self(holder)
    }

    /// What runs a program inside.
    fn enter(&self) -> Vec<String> {
        let id = self.0.id().to_string();
        let mut words = vec!["nsenter", "--target", &id, "--mount", "--wdns=."];
        if !rustix::process::geteuid().is_root() {
            words.extend(["--user", "--preserve-credentials"]);
        }
        words.into_iter().map(str::to_owned).collect()
    }

    /// Runs a program inside, on a path.
    fn run(&self, program: &[&str], path: &Path) -> bool {
        let enter = self.enter();
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(program).arg(path).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    /// Leaves no room for anything else.
    fn fill(&self, dir: &Path) {
        assert!(!self.run(&["cp", "/dev/zero"], &dir.join("rest")));
    }

    /// Gives back what was taken.
    fn free(&self, dir: &Path) {
        for file in ["taken", "rest"] {
            assert!(self.run(&["rm", "-f"], &dir.join(file)));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(connection: &mut Connection, topic: &Topic, partition: i32, number: usize) -> (i16, i64) {
    try_send(connection, topic, partition, number).unwrap()
}

/// Sends a large record with a number at its end: error code and offset.
fn try_send(connection: &mut Connection, topic: &Topic, partition: i32, number: usize) -> std::io::Result<(i16, i64)> {
    let value = format!("{}{number:>10}", " ".repeat(300_000));
    let batch = Batch::new(now_ms(), vec![Record::value(value)]).encode();
    let request = produce(9, topic, -1, &[(partition, Some(batch))]);
    let answer = connection.call(9, &request)?;
    let answer = &answer.responses[0].partition_responses[0];
    Ok((answer.error_code, answer.base_offset))
}

fn wait_led(connection: &mut Connection, topic: &Topic) {
    let is_led = |connection: &mut Connection| {
        let answer = connection.call(7, &list_offsets(topic, &[(0, -1), (1, -1)])).unwrap();
        answer.topics[0]
            .partitions
            .iter()
            .all(|partition| partition.error_code == 0)
    };
    wait_for(|| is_led(connection).then_some(()), || "no leaders".into());
}

/// The number at the end of the batch's value at an offset.
fn read(connection: &mut Connection, topic: &Topic, partition: i32, offset: i64) -> usize {
    let mut answer = connection
        .call(12, &fetch(12, topic, vec![at(partition, offset)]))
        .unwrap();
    let records = answer.responses[0].partitions[0].records.take().unwrap();
    let size = 12 + i32::from_be_bytes(records[8..12].try_into().unwrap()) as usize;
    assert_eq!(i64::from_be_bytes(records[..8].try_into().unwrap()), offset);
    // Behind the value comes the number of headers.
    let value = std::str::from_utf8(&records[size - 11..size - 1]).unwrap();
    value.trim().parse().unwrap()
}

#[test]
fn a_full_disk_takes_only_its_directory_offline_and_loses_nothing() {
    let [port] = free_ports();
    let mut node = start_with(2, &format!("ottla.http.listener=127.0.0.1:{port}"));
    let failed = || sample(&scrape(port), "kafka_log_logmanager_offlinelogdirectorycount");
    let dir = node.log_dirs().remove(1);
    let disk = SmallDisk::mount(&dir, 16 * MIB);
    node.within = disk.enter();
    node.launch();
    assert_eq!(failed(), Some(0.0));
    let mut connection = Connection::open(node.socket()).unwrap();
    let topic = create_topic(&mut connection, "t", 2, &[]);
    let first = node.log_dirs().remove(0);
    let small = if first.join("t-0").exists() { 1 } else { 0 };
    let mut acknowledged = Vec::new();
    let error = loop {
        match send(&mut connection, &topic, small, acknowledged.len()) {
            (0, offset) => acknowledged.push(offset),
            (error, _) => break error,
        }
        assert!(acknowledged.len() < 100, "16 MiB take in more than 30 MB");
    };
    assert_eq!(error, KAFKA_STORAGE_ERROR);
    assert!(acknowledged.len() > 20, "{acknowledged:?}");
    // It stays so, and everything else works.
    wait_for(
        || match send(&mut connection, &topic, small, 0).0 {
            KAFKA_STORAGE_ERROR => Some(()),
            NOT_LEADER_OR_FOLLOWER => None,
            other => panic!("{other}"),
        },
        || "not offline".into(),
    );
    wait_for(|| (failed() == Some(1.0)).then_some(()), || "not counted".into());
    for number in 0..3 {
        assert_eq!(send(&mut connection, &topic, 1 - small, number), (0, number as i64));
    }
    assert!(node.log().contains(&dir.display().to_string()), "{}", node.log());
    create_topic(&mut connection, "another", 3, &[]);
    node.kill();

    disk.free(&dir);
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    wait_led(&mut connection, &topic);
    for (number, offset) in acknowledged.iter().enumerate() {
        assert_eq!(read(&mut connection, &topic, small, *offset), number);
    }
    assert_eq!(send(&mut connection, &topic, small, 0).0, 0);
}

#[test]
fn a_full_disk_that_is_the_only_one_ends_the_node_and_loses_nothing() {
    let mut node = start(1);
    let dir = node.log_dirs().remove(0);
    let disk = SmallDisk::mount(&dir, 24 * MIB);
    node.within = disk.enter();
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    let topic = create_topic(&mut connection, "t", 2, &[]);
    let mut acknowledged = Vec::new();
    // The connection may end before the answer comes.
    while let Ok((0, offset)) = try_send(&mut connection, &topic, 0, acknowledged.len()) {
        acknowledged.push(offset);
        assert!(acknowledged.len() < 100, "24 MiB take in more than 30 MB");
    }
    assert!(acknowledged.len() > 20, "{acknowledged:?}");
    ends_naming(&mut node, &dir);
    // Nor does it come up while there is no room, not even for what recovery cuts.
    disk.fill(&dir);
    node.spawn();
    ends_naming(&mut node, &dir);

    disk.free(&dir);
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    wait_led(&mut connection, &topic);
    for (number, offset) in acknowledged.iter().enumerate() {
        assert_eq!(read(&mut connection, &topic, 0, *offset), number);
    }
    assert_eq!(send(&mut connection, &topic, 0, 0).0, 0);
}

#[test]
fn the_directory_of_the_metadata_is_named_when_it_cannot_be_used() {
    let mut node = start(2);
    let dir = node.log_dirs().remove(0);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "not a directory").unwrap();
    node.spawn();
    ends_naming(&mut node, &dir);
}

/// The node ends with an error in whose last line the directory is.
fn ends_naming(node: &mut Node, dir: &Path) {
    assert_eq!(node.wait_exit().code(), Some(1));
    let log = node.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains(&dir.display().to_string()), "{last}");
}

/// Takes directories away, and returns with what the node ended.
fn ends_without(lost: &[usize], log_dirs: usize) {
    let mut node = start(log_dirs);
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    let topic = create_topic(&mut connection, "t", 2, &[]);
    for partition in 0..2 {
        assert_eq!(send(&mut connection, &topic, partition, 7), (0, 0));
    }
    let dirs = node.log_dirs();
    let away = |place: &usize| (dirs[*place].clone(), node.dir().join(format!("away{place}")));
    let moved: Vec<_> = lost.iter().map(away).collect();
    for (dir, away) in &moved {
        std::fs::rename(dir, away).unwrap();
    }
    ends_naming(&mut node, &moved[0].0);
    for (dir, away) in &moved {
        std::fs::rename(away, dir).unwrap();
    }
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    wait_led(&mut connection, &topic);
    for partition in 0..2 {
        assert_eq!(read(&mut connection, &topic, partition, 0), 7);
    }
}

#[test]
fn the_last_directory_takes_the_node_with_it_and_is_named() {
    ends_without(&[0], 1);
}

#[test]
fn so_does_the_directory_of_the_metadata() {
    ends_without(&[0], 2);
}
