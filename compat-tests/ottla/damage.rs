//! Flips bits and cuts files anywhere in a data directory. Kafka promises the same, but checks less of it: here every
//! start ends in a refusal that names the file, or serves a part of what was there that is right.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use ottla_compat_tests::chance::Chance;
use ottla_compat_tests::disk::copy_folder;
use ottla_compat_tests::load::{ends, new_producer_id};
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Codec, Record};
use ottla_compat_tests::requests::{Topic, append, at, create_topic, fetch, list_offsets, topic_name};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::transcript::now_ms;

const PARTITIONS: i32 = 2;
const BATCHES: i32 = 24;
const DELETED_UNTIL: i64 = 7;
const HEADER_FIELDS: [usize; 14] = [0, 7, 8, 11, 12, 16, 17, 21, 23, 27, 35, 43, 51, 57];

/// A data directory to damage, and what it serves undamaged.
struct Original {
    dir: PathBuf,
    partitions: Vec<Vec<u8>>,
    starts: Vec<i64>,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip {
        at: usize,
        bit: u8,
    },
    Cut {
        at: usize,
    },
    /// As many zeros as a sector has.
    Zeros {
        at: usize,
    },
    Remove,
}

/// How a start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// An error that names the file.
    Refused,
    /// Everything is there.
    Whole,
    /// Batches are gone: the end of a log, or what a segment had that was cut below the recovery point.
    Fewer,
    /// A batch that was not to be checked is served as it is, as Kafka does; the client's check of the CRC finds it.
    Noticed,
    /// A part of a header that no CRC covers is served as it is, as Kafka does.
    Uncovered,
    /// The checkpoint of log starts, still of its form, tells of a later start: what lies before it is not shown, as in
    /// Kafka, which has no other record of it.
    Believed,
    /// The end of the metadata log is gone and the topic with it, or a log says to be another topic's: records are set
    /// aside.
    Aside,
}

fn prepare(node: &mut Node, stop: fn(&mut Node)) -> Original {
    node.launch();
    let mut connection = Connection::open(node.socket()).unwrap();
    let topic = create_topic(&mut connection, "t", PARTITIONS, &[("segment.ms", "60000")]);
    let id = new_producer_id(&mut connection).unwrap();
    for n in 0..BATCHES {
        for partition in 0..PARTITIONS {
            let value = |k| Record::value(format!("{partition} {n} {k} {}", "abc".repeat(60)));
            let batch = Batch::new(now_ms() - 3_600_000 + i64::from(n) * 20_000, vec![value(0), value(1)]);
            let codec = Codec::ALL[n as usize % Codec::ALL.len()];
            append(
                &mut connection,
                &topic,
                partition,
                &Batch {
                    codec,
                    ..batch.producer(id, 0, 2 * n)
                },
            );
        }
    }
    let partition = DeleteRecordsPartition::default().with_offset(DELETED_UNTIL);
    let deleted = DeleteRecordsTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![deleted])
        .with_timeout_ms(10_000);
    assert_eq!(
        connection.call(2, &request).unwrap().topics[0].partitions[0].error_code,
        0
    );
    // Metadata enough for snapshots.
    for n in 0..14 {
        create_topic(&mut connection, &format!("m{n}"), 1, &[]);
    }
    let metadata = node.log_dirs()[0].join("__cluster_metadata-0");
    let has_snapshot = || {
        let names = fs::read_dir(&metadata)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".checkpoint"))
            .count()
            > 1
    };
    wait_for(|| has_snapshot().then_some(()), || "no snapshot of the metadata".into());
    // Checkpoints tell of what is there.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let served = serve(&mut connection, &topic).unwrap();
    stop(node);
    let dir = node.dir().join("original");
    copy_folder(&node.log_dirs()[0], &dir);
    Original {
        dir,
        starts: served.iter().map(|(start, _)| *start).collect(),
        partitions: served.into_iter().map(|(_, bytes)| bytes).collect(),
    }
}

/// Log starts and all bytes of all partitions; `None` when the topic is not known.
fn serve(connection: &mut Connection, topic: &Topic) -> Option<Vec<(i64, Vec<u8>)>> {
    const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    let earliest: Vec<_> = (0..PARTITIONS).map(|partition| (partition, -2)).collect();
    let answer = wait_for(
        || {
            let answer = connection
                .call(7, &list_offsets(topic, &earliest))
                .unwrap()
                .topics
                .remove(0);
            let mut errors = answer.partitions.iter().map(|partition| partition.error_code);
            errors
                .all(|error| error == 0 || error == UNKNOWN_TOPIC_OR_PARTITION)
                .then_some(answer)
        },
        || "no leaders".into(),
    );
    if answer.partitions.iter().any(|partition| partition.error_code != 0) {
        return None;
    }
    let ends = ends(connection, topic, PARTITIONS).ok()?;
    let mut all = Vec::new();
    for (partition, end) in (0..).zip(ends) {
        let found = answer
            .partitions
            .iter()
            .find(|found| found.partition_index == partition);
        let start = found.unwrap().offset;
        all.push((start, read_all(connection, topic, partition, start, end)));
    }
    Some(all)
}

/// The bytes from an offset to the end; as a client that trusts nothing but lengths and last offset deltas gets on.
fn read_all(connection: &mut Connection, topic: &Topic, partition: i32, start: i64, end: i64) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::new(), start);
    while next < end {
        let request = fetch(12, topic, vec![at(partition, next)]).with_max_wait_ms(0);
        let mut answer = connection.call(12, &request).unwrap();
        let fetched = answer.responses[0].partitions.remove(0);
        assert_eq!(fetched.error_code, 0, "at {next}");
        let records = fetched.records.unwrap_or_default();
        let before = next;
        let mut rest = &records[..];
        while rest.len() >= 61 {
            let size = i32::from_be_bytes(rest[8..12].try_into().unwrap()).saturating_add(12);
            let Some(batch) = usize::try_from(size)
                .ok()
                .filter(|size| *size >= 61)
                .and_then(|size| rest.get(..size))
            else {
                break;
            };
            bytes.extend_from_slice(batch);
            let last = i64::from(i32::from_be_bytes(batch[23..27].try_into().unwrap()));
            next = i64::from_be_bytes(batch[..8].try_into().unwrap()).saturating_add(last + 1);
            rest = &rest[batch.len()..];
        }
        if next <= before {
            bytes.extend_from_slice(rest);
            break;
        }
    }
    bytes
}

/// All files of a directory that are part of what a node has.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => all.push(entry.path().strip_prefix(dir).unwrap().to_owned()),
            }
        }
    }
    // Locks say nothing, RocksDB's messages are for people, and empty topics are alike.
    let is_one_of_many = |file: &Path| file.starts_with("m0-0") || !file.to_string_lossy().starts_with('m');
    all.retain(|file| file.ends_with("meta.properties") || is_one_of_many(file));
    all.retain(|file| !file.ends_with("LOCK") && !file.ends_with("LOG") && !file.ends_with(".lock"));
    all.sort();
    all
}

fn is_segment(file: &Path) -> bool {
    file.extension().is_some_and(|kind| kind == "log") && file.parent().is_some_and(|folder| !folder.ends_with("db"))
}

/// The damages that hit each part of a file's structure.
fn structural(file: &Path, content: &[u8]) -> Vec<Damage> {
    let mut all = vec![
        Damage::Cut { at: 0 },
        Damage::Cut {
            at: content.len().saturating_sub(1),
        },
        Damage::Remove,
    ];
    if is_segment(file) || file.extension().is_some_and(|kind| kind == "checkpoint") {
        let mut batch = 0;
        let mut batches = Vec::new();
        while let Some(length) = content.get(batch + 8..batch + 12) {
            batches.push(batch);
            batch += 12 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        }
        for batch in [batches.first(), batches.get(batches.len() / 2), batches.last()]
            .into_iter()
            .flatten()
        {
            all.extend(HEADER_FIELDS.map(|field| Damage::Flip {
                at: batch + field,
                bit: 0,
            }));
            all.extend([0, 12, 61].map(|field| Damage::Cut { at: batch + field }));
        }
    } else if content.len() < 200 {
        all.extend((0..content.len()).step_by(3).map(|at| Damage::Flip {
            at,
            bit: (at % 7) as u8,
        }));
    }
    all
}

fn random(content: &[u8], chance: &mut Chance) -> Damage {
    let at = chance.below(content.len().max(1));
    match chance.below(4) {
        0 => Damage::Cut { at },
        1 => Damage::Zeros { at },
        _ => Damage::Flip {
            at,
            bit: chance.below(8) as u8,
        },
    }
}

/// False when that changes nothing.
fn apply(damage: Damage, path: &Path) -> bool {
    let before = fs::read(path).unwrap();
    let mut after = before.clone();
    match damage {
        Damage::Flip { at, bit } => after.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit),
        Damage::Cut { at } => after.truncate(at),
        Damage::Zeros { at } => after.iter_mut().skip(at).take(512).for_each(|byte| *byte = 0),
        Damage::Remove => {
            fs::remove_file(path).unwrap();
            return true;
        }
    }
    fs::write(path, &after).unwrap();
    before != after
}

/// How many folders are set aside whose names begin so.
fn aside(node: &Node, begin: &str) -> usize {
    let names = fs::read_dir(&node.log_dirs()[0])
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name());
    let is_aside = |name: &str| name.starts_with(begin) && name.ends_with("-stray");
    names.filter(|name| is_aside(&name.to_string_lossy())).count()
}

/// The log starts of topic `t` that a `log-start-offset-checkpoint` tells of; nothing of other files.
fn told_starts(file: &Path) -> Vec<(usize, i64)> {
    if !file.ends_with("log-start-offset-checkpoint") {
        return Vec::new();
    }
    let text = fs::read(file).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    let told = |line: &str| {
        let mut words = line.strip_prefix("t ")?.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(told).collect()
}

/// Starts on a damaged copy and looks at what comes of it; an error is what must not.
fn outcome(node: &mut Node, original: &Original, file: &Path, topic: &Topic) -> Result<Outcome, String> {
    let since = node.log().len();
    let told_starts = told_starts(&node.log_dirs()[0].join(file));
    node.spawn();
    if let Some(status) = node.wait_ready_or_exit() {
        let log = node.log()[since..].to_owned();
        // Other threads may still say something.
        let error = log.lines().rev().find(|line| line.starts_with("ottla: "));
        let error = error.unwrap_or_default();
        let is_named = file.iter().any(|part| error.contains(&*part.to_string_lossy()));
        return match status.code() {
            Some(1) if is_named => Ok(Outcome::Refused),
            _ => Err(format!("ended with {status} and did not name the file: {error}")),
        };
    }
    let mut connection = Connection::open(node.socket()).unwrap();
    let Some(served) = serve(&mut connection, topic) else {
        let aside = aside(node, "t-");
        return match file.starts_with("__cluster_metadata-0") && aside == PARTITIONS as usize {
            true => Ok(Outcome::Aside),
            false => Err(format!("the topic is gone, {aside} partitions are set aside")),
        };
    };
    let mut worst = Outcome::Whole;
    for (partition, (start, bytes)) in served.iter().enumerate() {
        let (whole, whole_start) = (&original.partitions[partition], original.starts[partition]);
        let own = format!("t-{partition}");
        // Of another topic, by its id: what is there in its place is new.
        let is_new = (*start, bytes.len()) == (0, 0) && file.ends_with("partition.metadata");
        if is_new && file.starts_with(&own) && aside(node, &own) == 1 {
            worst = Outcome::Aside;
            continue;
        }
        if *start > whole_start && told_starts.contains(&(partition, *start)) && whole.ends_with(bytes) {
            worst = Outcome::Believed;
            continue;
        }
        if *start != whole_start && !is_segment(file) {
            return Err(format!(
                "partition {partition} starts at {start} instead of {whole_start}"
            ));
        }
        if bytes == whole {
            continue;
        }
        if !is_segment(file) || !file.starts_with(&own) {
            let (has, had) = (bytes.len(), whole.len());
            return Err(format!("partition {partition} has {has} of {had} bytes"));
        }
        worst = match is_part(bytes, whole) {
            true => Outcome::Fewer,
            false => damaged(bytes, whole)?,
        };
    }
    Ok(worst)
}

/// True when all batches are of the original ones, in order.
fn is_part(bytes: &[u8], whole: &[u8]) -> bool {
    let mut rest = whole;
    let mut served = bytes;
    while !served.is_empty() {
        let Some(length) = rest.get(8..12) else { return false };
        let (batch, behind) = rest.split_at(12 + u32::from_be_bytes(length.try_into().unwrap()) as usize);
        served = served.strip_prefix(batch).unwrap_or(served);
        rest = behind;
    }
    true
}

/// What is served where a segment that was not to be checked is damaged: nothing else than one batch.
fn damaged(bytes: &[u8], whole: &[u8]) -> Result<Outcome, String> {
    let same = bytes
        .iter()
        .zip(whole)
        .take_while(|(served, stored)| served == stored)
        .count();
    // The batch in which they differ.
    let (mut begin, mut end) = (0, 0);
    while end <= same {
        begin = end;
        end += 12 + u32::from_be_bytes(whole[begin + 8..begin + 12].try_into().unwrap()) as usize;
    }
    let served = &bytes[begin..end.min(bytes.len())];
    if served.len() < 61 || served[8..12] != whole[begin + 8..begin + 12] || served[16] != 2 {
        return Ok(Outcome::Noticed);
    }
    match crc32c::crc32c(&served[21..]) == u32::from_be_bytes(served[17..21].try_into().unwrap()) {
        true if same - begin < 21 => Ok(Outcome::Uncovered),
        true => Err("a batch that was never written passes for a right one".into()),
        false => Ok(Outcome::Noticed),
    }
}

fn damage_everything(stop: fn(&mut Node), per_file: usize, structural_every: usize) {
    let mut chance = Chance::new();
    let options = Options::with(&[
        "metadata.log.max.record.bytes.between.snapshots=1000",
        "log.flush.offset.checkpoint.interval.ms=100",
        "log.initial.task.delay.ms=10",
        "log.retention.ms=-1",
        "initial.broker.registration.timeout.ms=15000",
    ]);
    let mut node = Node::formatted(Target::Ottla, options);
    let original = prepare(&mut node, stop);
    let topic = Topic {
        name: "t".into(),
        id: Default::default(),
    };
    let mut outcomes: BTreeMap<(String, Outcome), usize> = BTreeMap::new();
    let (mut count, mut failures) = (0, Vec::new());
    for file in files(&original.dir) {
        let content = fs::read(original.dir.join(&file)).unwrap();
        let skip = chance.below(structural_every);
        let all = structural(&file, &content);
        let mut damages: Vec<_> = all.into_iter().skip(skip).step_by(structural_every).collect();
        damages.extend((0..per_file).map(|_| random(&content, &mut chance)));
        for damage in damages {
            let dir = node.log_dirs().remove(0);
            copy_folder(&original.dir, &dir);
            if !apply(damage, &dir.join(&file)) {
                continue;
            }
            count += 1;
            let outcome = outcome(&mut node, &original, &file, &topic);
            node.kill_if_running();
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(wrong) => {
                    let failure = format!("{}: {damage:?}: {wrong}", file.display());
                    eprintln!("{failure}");
                    failures.push(failure);
                    continue;
                }
            };
            let kind = file.iter().next().unwrap().to_string_lossy().into_owned();
            *outcomes.entry((kind, outcome)).or_default() += 1;
        }
    }
    for ((kind, outcome), count) in &outcomes {
        eprintln!("{count:>5} {outcome:?}: {kind}");
    }
    eprintln!("{count} damages");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 100, "only {count} damages");
}

fn stopped(node: &mut Node) {
    assert!(node.stop().success());
}

#[test]
fn after_a_clean_stop_damage_is_mended_refused_or_noticed() {
    damage_everything(stopped, 2, 8);
}

#[test]
fn after_a_kill_damage_is_mended_refused_or_noticed() {
    damage_everything(Node::kill, 2, 8);
}

#[test]
#[ignore = "takes minutes: runs in ./dev stress"]
fn thousands_of_damages_are_mended_refused_or_noticed() {
    damage_everything(stopped, 25, 1);
    damage_everything(Node::kill, 25, 1);
}
