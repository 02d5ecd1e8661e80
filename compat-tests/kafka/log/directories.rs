//! Several log directories: where replicas go, and what is left when one fails.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kafka_protocol::messages::{DescribeLogDirsRequest, ListOffsetsResponse, MetadataRequest};
use ottla_compat_tests::node::{Node, Options};
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use regex::Regex;

use super::{OFTEN, segments, sized};
use crate::wire::{Topic, Wire, at, fetch, list_offsets, metadata, produce};

pub const CASES: &[Case] = &[
    Case::code("log-dirs-placement", placement),
    Case::code("log-dirs-failure", failure),
    Case::code("log-dirs-broken-at-start", broken_at_start),
    Case::code("log-dirs-strays", strays),
    Case::code("log-dirs-deleted-while-away", deleted_while_away),
    Case::code("log-checkpoints", checkpoints),
];

fn options(log_dirs: usize) -> Options {
    Options {
        log_dirs,
        ..Options::with(&OFTEN)
    }
}

/// The folders of a topic in each directory.
fn folders(node: &Node, topic: &str) -> Vec<Vec<String>> {
    let prefix = format!("{topic}-");
    let list = |dir: PathBuf| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(&prefix)).collect();
        names.sort();
        names
    };
    node.log_dirs().into_iter().map(list).collect()
}

fn directory_id(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("meta.properties")).unwrap();
    let id = text.lines().find_map(|line| line.strip_prefix("directory.id="));
    id.unwrap().to_owned()
}

/// The directories that the metadata log gives for the partitions of a topic: the last word of each.
fn assigned(s: &mut Session, node: &Node, topic: &Topic) -> BTreeMap<i32, String> {
    let file = node.log_dirs()[0].join("__cluster_metadata-0/00000000000000000000.log");
    let dump = s
        .tool(
            node,
            &format!("kafka-dump-log --cluster-metadata-decoder --files {}", file.display()),
        )
        .ok();
    let id = base64(topic.id);
    let record = Regex::new(r#"payload: (\{"type":"PARTITION_(?:CHANGE_)?RECORD".*\})"#).unwrap();
    let mut directories = BTreeMap::new();
    for found in record.captures_iter(&dump) {
        let record: serde_json::Value = serde_json::from_str(&found[1]).unwrap();
        let data = &record["data"];
        if data["topicId"] == id.as_str()
            && let Some(directory) = data["directories"][0].as_str()
        {
            directories.insert(data["partitionId"].as_i64().unwrap() as i32, directory.to_owned());
        }
    }
    directories
}

/// A UUID as Kafka prints it.
fn base64(id: uuid::Uuid) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = id.as_u128();
    (0..22)
        .map(|place| match place {
            21 => bits << 4 & 63,
            _ => bits >> (122 - 6 * place) & 63,
        })
        .map(|six| DIGITS[six as usize] as char)
        .collect()
}

/// Waits until the controller knows in which directory each replica is.
fn wait_assigned(s: &mut Session, node: &Node, topic: &Topic) {
    let expected: BTreeMap<i32, String> = node
        .log_dirs()
        .iter()
        .zip(folders(node, &topic.name))
        .flat_map(|(dir, folders)| {
            let id = directory_id(dir);
            let number = |folder: String| folder.rsplit_once('-').unwrap().1.parse().unwrap();
            folders.into_iter().map(move |folder| (number(folder), id.clone()))
        })
        .collect();
    wait_for(
        || (assigned(s, node, topic) == expected).then_some(()),
        || format!("the controller never heard that replicas are in {expected:?}"),
    );
}

fn placement(s: &mut Session) {
    let mut node = s.start(options(3));
    let mut topics = Vec::new();
    for (suffix, partitions) in [("-first", 6), ("-second", 4), ("-third", 5)] {
        let topic = Wire::at(s, &node).create(suffix, partitions, &[]);
        let mut counts: Vec<_> = folders(&node, &topic.name).iter().map(Vec::len).collect();
        // Which of equals comes first is nobody's promise.
        counts.sort();
        s.note(&topic.name, counts);
        wait_assigned(s, &node, &topic);
        topics.push(topic);
    }
    let before: Vec<_> = topics.iter().map(|topic| folders(&node, &topic.name)).collect();
    node.stop();
    node.launch();
    let after: Vec<_> = topics.iter().map(|topic| folders(&node, &topic.name)).collect();
    assert_eq!(before, after);
    s.transcript.add("all stayed where they were");
}

/// A topic with one partition in each of three directories, and a record in each: the partitions by directory.
fn spread(s: &mut Session, node: &Node) -> (Topic, [i32; 3]) {
    let mut w = Wire::at(s, node);
    let topic = w.create("", 3, &[]);
    let now = w.now();
    (0..3).for_each(|partition| {
        w.append_to(&topic, partition, &sized(now, 100));
    });
    let partition = |dir: usize| {
        let folder = &folders(node, &topic.name)[dir][0];
        folder.rsplit_once('-').unwrap().1.parse().unwrap()
    };
    let partitions = [0, 1, 2].map(partition);
    wait_assigned(s, node, &topic);
    (topic, partitions)
}

/// What clients see of a partition: leader, and the errors of a produce and of a fetch.
fn note_partition(w: &mut Wire, title: &str, topic: &Topic, partition: i32) {
    let answer = w.connection.call(9, &metadata(&[&topic.name])).unwrap();
    let known = answer.topics[0]
        .partitions
        .iter()
        .find(|known| known.partition_index == partition)
        .unwrap();
    let seen = (known.error_code, known.leader_id.0, known.offline_replicas.len());
    w.s.note(&format!("{title}: error, leader, offline replicas"), seen);
    let batch = sized(w.now(), 100).encode();
    let produced = w
        .connection
        .call(9, &produce(9, topic, -1, &[(partition, Some(batch))]))
        .unwrap();
    let produced = &produced.responses[0].partition_responses[0];
    w.s.note(
        &format!("{title}: produce"),
        (produced.error_code, produced.base_offset),
    );
    let fetched = w
        .connection
        .call(12, &fetch(12, topic, vec![at(partition, 0)]))
        .unwrap();
    let fetched = &fetched.responses[0].partitions[0];
    w.s.note(&format!("{title}: fetch"), (fetched.error_code, fetched.high_watermark));
}

fn note_log_dirs(w: &mut Wire, topic: &Topic) {
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let mut results = w.connection.call(4, &request).unwrap().results;
    results.sort_by(|a, b| a.log_dir.cmp(&b.log_dir));
    for result in results {
        let ours = result.topics.iter().filter(|described| **described.name == *topic.name);
        let sizes: Vec<_> = ours
            .flat_map(|topic| topic.partitions.iter().map(|partition| partition.partition_size))
            .collect();
        w.s.note(
            &format!("log dir {:?}: error and sizes", result.log_dir),
            (result.error_code, sizes),
        );
    }
}

/// Waits until the controller knows that nobody leads a partition.
fn wait_leaderless(w: &mut Wire, topic: &Topic, partition: i32) {
    let request: MetadataRequest = metadata(&[&topic.name]);
    wait_for(
        || {
            let answer = w.connection.call(9, &request).unwrap();
            let known = answer.topics[0]
                .partitions
                .iter()
                .find(|known| known.partition_index == partition)?;
            (known.leader_id.0 == -1).then_some(())
        },
        || "the controller never heard of the failure".into(),
    );
}

/// Waits until partitions are led, which clients may hear of before their leader does.
fn wait_led(w: &mut Wire, topic: &Topic, partitions: &[i32]) {
    let all: Vec<_> = partitions.iter().map(|partition| (*partition, -1)).collect();
    let is_led = |answer: ListOffsetsResponse| {
        answer.topics[0]
            .partitions
            .iter()
            .all(|partition| partition.error_code == 0)
    };
    wait_for(
        || is_led(w.connection.call(7, &list_offsets(topic, &all)).unwrap()).then_some(()),
        || format!("{} has no leader", topic.name),
    );
}

/// A directory disappears under the running broker, and comes back for its next start.
fn failure(s: &mut Session) {
    let mut node = s.start(options(3));
    let (topic, [first, second, third]) = spread(s, &node);
    let (lost, away) = (node.log_dirs().remove(2), node.dir().join("away"));
    fs::rename(&lost, &away).unwrap();
    let mut w = Wire::at(s, &node);
    wait_leaderless(&mut w, &topic, third);
    for (title, partition) in [("first", first), ("second", second), ("third", third)] {
        note_partition(&mut w, title, &topic, partition);
    }
    note_log_dirs(&mut w, &topic);
    let another = w.create("-another", 4, &[]);
    w.s.note(
        "new replicas",
        folders(&node, &another.name).iter().map(Vec::len).collect::<Vec<_>>(),
    );
    assert!(!lost.exists());
    w.s.shell(
        &node,
        &["only Leader:.none kafka-topics --bootstrap-server $B --describe --unavailable-partitions"],
    );
    node.stop();
    fs::rename(&away, &lost).unwrap();
    node.launch();
    let mut w = Wire::at(s, &node);
    wait_led(&mut w, &topic, &[first, second, third]);
    for (title, partition) in [("first", first), ("second", second), ("third", third)] {
        note_partition(&mut w, title, &topic, partition);
    }
    note_log_dirs(&mut w, &topic);
}

/// A directory that cannot be used when the broker starts: nothing takes its place.
fn broken_at_start(s: &mut Session) {
    let mut node = s.start(options(3));
    let (topic, [first, second, third]) = spread(s, &node);
    node.stop();
    let (lost, away) = (node.log_dirs().remove(2), node.dir().join("away"));
    fs::rename(&lost, &away).unwrap();
    fs::write(&lost, "not a directory").unwrap();
    node.launch();
    let mut w = Wire::at(s, &node);
    wait_leaderless(&mut w, &topic, third);
    wait_led(&mut w, &topic, &[first, second]);
    for (title, partition) in [("first", first), ("second", second), ("third", third)] {
        note_partition(&mut w, title, &topic, partition);
    }
    note_log_dirs(&mut w, &topic);
    w.s.note(
        "folders",
        folders(&node, &topic.name).iter().map(Vec::len).collect::<Vec<_>>(),
    );
    node.stop();
    fs::remove_file(&lost).unwrap();
    fs::rename(&away, &lost).unwrap();
    node.launch();
    let mut w = Wire::at(s, &node);
    wait_led(&mut w, &topic, &[third]);
    note_partition(&mut w, "third", &topic, third);
}

/// A node whose metadata was lost keeps the records that nobody knows of any more.
fn strays(s: &mut Session) {
    let mut node = s.start(options(1));
    let topic = {
        let mut w = Wire::at(s, &node);
        let topic = w.create("", 2, &[]);
        let now = w.now();
        w.append(&topic, &sized(now, 1000));
        topic
    };
    node.stop();
    let dir = node.log_dirs().remove(0);
    fs::remove_dir_all(dir.join("__cluster_metadata-0")).unwrap();
    fs::remove_file(dir.join("meta.properties")).unwrap();
    node.format();
    node.launch();
    s.transcript.replace(r"\.[0-9a-f]{32}-stray", ".<id>-stray");
    s.note("folders", folders(&node, &topic.name));
    // The name is free; the old records stay beside it, through another start, too.
    let mut w = Wire::at(s, &node);
    let again = w.create("", 1, &[]);
    assert_ne!(again.id, topic.id);
    let now = w.now();
    w.append(&again, &sized(now, 10));
    node.stop();
    node.launch();
    s.shell(&node, &["kcat -b $B -t $T -p 0 -C -e -q -o beginning -f %o|%S\\n"]);
    for folder in folders(&node, &topic.name).remove(0) {
        s.note(&folder, segments(&dir.join(&folder)));
    }
}

/// A topic is deleted, and made again, while a directory with one of its replicas is away.
fn deleted_while_away(s: &mut Session) {
    let mut node = s.start(options(3));
    let (topic, [_, _, third]) = spread(s, &node);
    let (lost, away) = (node.log_dirs().remove(2), node.dir().join("away"));
    fs::rename(&lost, &away).unwrap();
    let mut w = Wire::at(s, &node);
    wait_leaderless(&mut w, &topic, third);
    w.s.shell(&node, &["kafka-topics --bootstrap-server $B --delete --topic $T"]);
    wait_for(
        || folders(&node, &topic.name).iter().all(Vec::is_empty).then_some(()),
        || "the replicas that are there stay".into(),
    );
    let again = w.create("", 3, &[]);
    assert_ne!(again.id, topic.id);
    let now = w.now();
    w.append_to(&again, third, &sized(now, 10));
    node.stop();
    fs::rename(&away, &lost).unwrap();
    node.launch();
    let mut w = Wire::at(s, &node);
    wait_led(&mut w, &again, &[0, 1, 2]);
    w.s.transcript.replace(r"-\d\.[0-9a-f]{32}-stray", "-<n>.<id>-stray");
    w.s.note("what came back", &folders(&node, &topic.name)[2]);
    note_partition(&mut w, "the new topic", &again, third);
}

/// The text files beside the logs, after a clean stop.
fn checkpoints(s: &mut Session) {
    let mut node = s.start(options(2));
    let json = "{\"partitions\": [{\"topic\": \"$T\", \"partition\": 1, \"offset\": 2}], \"version\": 1}";
    {
        let mut w = Wire::at(s, &node);
        let topic = w.create("", 4, &[]);
        let now = w.now();
        for partition in 0..4 {
            for _ in 0..=partition {
                w.append_to(&topic, partition, &sized(now, 100));
            }
        }
    }
    s.shell(
        &node,
        &[
            &format!("write $D/delete.json\n{json}"),
            "kafka-delete-records --bootstrap-server $B --offset-json-file $D/delete.json",
        ],
    );
    node.stop();
    s.transcript.replace(r"brokerEpoch(\W+)\d+", "brokerEpoch$1<n>");
    let dirs = node.log_dirs();
    for file in [
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "log-start-offset-checkpoint",
    ] {
        let mut lines = Vec::new();
        for dir in &dirs {
            // Where there is nothing to say there is nothing to find, or an empty file.
            let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
            if text.is_empty() {
                continue;
            }
            let mut parts = text.lines();
            assert_eq!(parts.next(), Some("0"), "{text}");
            let count: usize = parts.next().unwrap().parse().unwrap();
            let found: Vec<_> = parts.map(str::to_owned).collect();
            assert_eq!(count, found.len(), "{text}");
            lines.extend(found);
        }
        lines.sort();
        s.note(file, lines);
    }
    let file = |partition| node.replica_dir(s.name, partition).join("00000000000000000000.log");
    let files: Vec<_> = (0..4).map(|partition| file(partition).display().to_string()).collect();
    s.transcript.replace(r"data[01]\b", "data<n>");
    s.shell(
        &node,
        &[&format!("kafka-dump-log --deep-iteration --files {}", files.join(","))],
    );
    for dir in dirs {
        s.note(
            "clean shutdown",
            fs::read_to_string(dir.join(".kafka_cleanshutdown")).unwrap(),
        );
        let folder = fs::read_dir(&dir)
            .unwrap()
            .flatten()
            .find(|entry| entry.file_name().into_string().unwrap().starts_with(s.name));
        s.note(
            "topic id",
            fs::read_to_string(folder.unwrap().path().join("partition.metadata")).unwrap(),
        );
    }
}
