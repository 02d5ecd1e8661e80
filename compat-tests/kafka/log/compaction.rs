//! Compacted topics: what the log cleaner leaves, to the byte where nothing is compressed, and what clients see of it.
use std::collections::BTreeMap;

use ottla_compat_tests::node::{Node, Options};
use ottla_compat_tests::records::{Batch, Codec, Record};
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use ottla_compat_tests::tools;

use super::{OFTEN, checkpoint, segments};
use crate::wire::{Topic, Wire, at, delete_topic, fetch, list_offsets, produce, wait_gone, wait_led};

pub const CASES: &[Case] = &[
    Case::code("log-compaction", compaction),
    Case::code("log-compaction-codecs", codecs),
    Case::code("log-compaction-tombstones", tombstones),
    Case::code("log-compaction-producers", producers),
    Case::code("log-compaction-policies", policies),
    Case::code("log-compaction-crashes", crashes),
];

/// The cleaner looks for work all the time.
fn busy(more: &[&str]) -> Options {
    let properties = [&OFTEN[..], &["log.cleaner.backoff.ms=50"], more].concat();
    Options::with(&properties)
}

/// Everything that is not in the active segment is cleaned at once; a batch that is more than a second later than the
/// first of its segment begins a new one.
const EAGER: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.0"),
    ("segment.ms", "1000"),
    ("file.delete.delay.ms", "3600000"),
];

fn keyed(key: &str, value: &str) -> Record {
    Record {
        key: Some(key.as_bytes().to_vec().into()),
        ..Record::value(value.as_bytes().to_vec())
    }
}

fn tombstone(key: &str) -> Record {
    Record {
        value: None,
        ..keyed(key, "")
    }
}

/// Waits until partition 0 is cleaned up to an offset.
fn wait_cleaned(node: &Node, topic: &str, offset: i64) {
    let line = format!("{topic} 0 {offset}");
    let found = || checkpoint(node, "cleaner-offset-checkpoint", topic);
    wait_for(
        || (found()? == line).then_some(()),
        || format!("cleaned up to {:?}, never {line}", found()),
    );
}

/// Notes what kafka-dump-log finds in all segments that are in use.
fn note_dump(s: &mut Session, node: &Node, topic: &str) {
    let folder = node.replica_dir(topic, 0);
    let names = segments(&folder);
    let in_use = names.iter().filter_map(|name| name.split_once(' '));
    let files: Vec<_> = in_use
        .filter(|(name, _)| name.ends_with(".log"))
        .map(|(name, _)| folder.join(name).display().to_string())
        .collect();
    for file in files {
        s.shell(
            node,
            &[&format!(
                "kafka-dump-log --deep-iteration --print-data-log --files {file}"
            )],
        );
    }
}

/// What clients read across the gaps, from each of some offsets and times.
fn note_reads(w: &mut Wire, topic: &Topic, end: i64, times: &[i64]) {
    let node = w.node;
    let read = "kcat -b $B -t $T -p 0 -C -e -q -X check.crcs=true -o beginning -f %o|%T|%k|%S|%s\\n";
    w.s.shell(node, &[read]);
    w.s.shell(
        node,
        &[
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 0 --offset earliest --max-messages 13 \
             --formatter-property print.offset=true --formatter-property print.key=true",
        ],
    );
    for offset in 0..=end {
        // What a fetch begins with: the batch that holds the offset, or the one behind the gap.
        let mut answer = w.connection.call(12, &fetch(12, topic, vec![at(0, offset)])).unwrap();
        let partition = &mut answer.responses[0].partitions[0];
        let first = partition
            .records
            .take()
            .filter(|records| records.len() >= 61)
            .map(|records| i64::from_be_bytes(records[..8].try_into().unwrap()));
        w.s.note(&format!("from {offset}"), (partition.error_code, first));
    }
    for time in times.iter().copied().chain([-1, -2, -3]) {
        w.call(7, &list_offsets(topic, &[(0, time)]));
    }
}

fn compaction(s: &mut Session) {
    let mut node = s.start(busy(&[]));
    let (topic, now) = {
        let mut w = Wire::at(s, &node);
        let now = w.now();
        let topic = w.create("", 1, &EAGER);
        w.title("records without keys are refused");
        w.call(
            9,
            &produce(9, &topic, -1, &[(0, Some(Batch::of(now, &["no key"]).encode()))]),
        );

        for round in 0..4 {
            let time = now + round * 2000;
            let late = Record {
                timestamp_delta: 7,
                ..keyed("often", "late in its batch")
            };
            let own = keyed(&format!("only in {round}"), "stays");
            let value = format!("of round {round}");
            w.append(
                &topic,
                &Batch::new(time, vec![keyed("often", &value), keyed("a", &value), late]),
            );
            w.append(&topic, &Batch::new(time + 1, vec![own, keyed("b", &value)]));
            w.append(
                &topic,
                &Batch::new(time + 2, vec![keyed("a", &value), keyed("b", "twice")]),
            );
        }
        wait_cleaned(w.node, &topic.name, 21);
        note_dump(w.s, w.node, &topic.name);
        let times = [now, now + 1, now + 2000, now + 2001, now + 4002, now + 6000, now + 7000];
        note_reads(&mut w, &topic, 28, &times);
        (topic, now)
    };
    node.stop();
    node.launch();
    s.shell(&node, &["kcat -b $B -t $T -p 0 -C -e -q -o beginning -f %o|%k|%s\\n"]);
    {
        let mut w = Wire::at(s, &node);
        w.title("what is clean and what is new");
        for round in 4..6 {
            w.append(
                &topic,
                &Batch::new(now + round * 2000, vec![keyed("a", "new"), keyed("c", "new")]),
            );
        }
        wait_cleaned(w.node, &topic.name, 30);
        note_dump(w.s, w.node, &topic.name);
    }
    node.kill();
    node.launch();
    s.shell(&node, &["kcat -b $B -t $T -p 0 -C -e -q -o beginning -f %o|%k|%s\\n"]);
    let mut w = Wire::at(s, &node);
    w.title("a topic of that name begins anew");
    delete_topic(&mut w.connection, &topic);
    wait_gone(&mut w.connection, &topic);
    let file = node.log_dirs().remove(0).join("cleaner-offset-checkpoint");
    wait_for(
        || (!std::fs::read_to_string(&file).unwrap().contains(&topic.name)).then_some(()),
        || "the checkpoint of a topic that was deleted stays".into(),
    );
}

fn codecs(s: &mut Session) {
    let node = s.start(busy(&[]));
    let mut w = Wire::at(s, &node);
    let now = w.now();
    // Sizes and checksums are the codec's own.
    for pattern in [
        r"(compresscodec: (?:gzip|snappy|lz4|zstd) .*crc: )\d+",
        r"(position: )\d+",
        r"(Log starting offset: )\d+",
    ] {
        w.s.transcript.replace(pattern, "$1<>");
    }
    w.s.transcript
        .replace(r"( size: )\d+( .*compresscodec: (?:gzip|snappy|lz4|zstd))", "$1<>$2");
    for timestamps in ["CreateTime", "LogAppendTime"] {
        for codec in Codec::ALL {
            let mut configs = EAGER.to_vec();
            configs.push(("message.timestamp.type", timestamps));
            let suffix = format!("-{timestamps}-{}", codec.name());
            let topic = w.create(&suffix, 1, &configs);
            let batch = |time, records| Batch {
                codec,
                ..Batch::new(time, records)
            };
            let headers = Record {
                headers: vec![("h", Some(b"1")), ("h", None)],
                timestamp_delta: 300,
                ..keyed("with headers", "compressible compressible compressible")
            };
            w.append(&topic, &batch(now, vec![keyed("a", "1"), headers, keyed("b", "1")]));
            w.append(
                &topic,
                &batch(now + 1, vec![keyed("c", "untouched"), keyed("d", "untouched")]),
            );
            w.append(&topic, &batch(now + 2, vec![keyed("a", "2")]));
            w.append(&topic, &batch(now + 3, vec![keyed("a", "3"), keyed("b", "3")]));
            if timestamps == "LogAppendTime" {
                // Its segments roll by the broker's time.
                std::thread::sleep(std::time::Duration::from_millis(1100));
            }
            w.append(&topic, &batch(now + 2000, vec![keyed("last", "1")]));
            wait_cleaned(&node, &topic.name, 8);
            if timestamps == "CreateTime" {
                note_dump(w.s, &node, &topic.name);
            }
            let read =
                format!("kcat -b $B -t $T{suffix} -p 0 -C -e -q -X check.crcs=true -o beginning -f %o|%k|%h|%s\\n");
            w.s.shell(&node, &[&read]);
        }
    }
}

/// Offsets, keys and whether there is a value, as a consumer finds them.
fn left(s: &mut Session, node: &Node) -> String {
    s.tool(node, "kcat -b $B -t $T -p 0 -C -e -q -o beginning -f %o|%k|%S\\n")
        .ok()
}

fn tombstones(s: &mut Session) {
    let node = s.start(busy(&[]));
    let mut w = Wire::at(s, &node);
    let now = w.now();
    let mut configs = EAGER.to_vec();
    configs.push(("delete.retention.ms", "4000"));
    let topic = w.create("", 1, &configs);
    w.s.transcript
        .replace(r"(deleteHorizonMs: OptionalLong\[)\d+(\].* crc: )\d+", "$1<>$2<>");
    let batches = [
        vec![keyed("gone", "1"), keyed("back", "1"), keyed("kept", "1")],
        vec![tombstone("gone"), tombstone("back"), keyed("other", "1")],
        vec![keyed("back", "2"), tombstone("never there")],
    ];
    for (index, batch) in (0..).zip(batches) {
        w.append(&topic, &Batch::new(now + index, batch));
    }
    w.append(&topic, &Batch::new(now + 2000, vec![keyed("next", "1")]));
    wait_cleaned(&node, &topic.name, 8);
    note_dump(w.s, &node, &topic.name);
    let before = left(w.s, &node);
    w.s.note("before the horizon", before);

    w.title("once the horizon has passed, with whatever is cleaned next");
    let mut time = now + 4000;
    let found = wait_for(
        || {
            w.append(&topic, &Batch::new(time, vec![keyed("next", "1")]));
            time += 2000;
            std::thread::sleep(std::time::Duration::from_millis(100));
            let found = left(w.s, &node);
            let old: Vec<_> = found
                .lines()
                .take_while(|line| !line.contains("next"))
                .map(str::to_owned)
                .collect();
            (!found.contains("gone")).then_some(old)
        },
        || "the tombstone stays".into(),
    );
    w.s.note("left", found);
}

/// The last batch of a producer stays, empty: what it sends again is known.
fn producers(s: &mut Session) {
    let mut node = s.start(busy(&[]));
    let (topic, (id, epoch), now) = {
        let mut w = Wire::at(s, &node);
        let now = w.now();
        let (id, epoch) = w.producer();
        w.s.transcript
            .replace(&format!("producerId: {id} "), "producerId: <id> ");
        w.s.transcript.replace(r"(producerId: <id> .* crc: )\d+", "$1<crc>");
        let topic = w.create("", 1, &EAGER);
        for sequence in 0..3 {
            let batch = Batch::new(now, vec![keyed("a", "1"), keyed("b", "1")]);
            w.append(&topic, &batch.producer(id, epoch, sequence * 2));
        }
        w.append(&topic, &Batch::new(now, vec![keyed("a", "2"), keyed("b", "2")]));
        w.append(&topic, &Batch::new(now + 2000, vec![keyed("a", "3")]));
        wait_cleaned(&node, &topic.name, 8);
        note_dump(w.s, &node, &topic.name);
        (topic, (id, epoch), now)
    };
    for is_clean in [true, false] {
        match is_clean {
            true => drop(node.stop()),
            false => node.kill(),
        }
        node.launch();
        let mut w = Wire::at(s, &node);
        wait_led(&mut w.connection, &topic, 1);
        w.title("its last batch again, then a gap");
        for sequence in [4, 8] {
            let batch = Batch::new(now, vec![keyed("a", "1"), keyed("b", "1")]).producer(id, epoch, sequence);
            let request = produce(9, &topic, -1, &[(0, Some(batch.encode()))]);
            let answer = w.connection.call(9, &request).unwrap();
            let answer = &answer.responses[0].partition_responses[0];
            w.s.note("answer", (answer.error_code, answer.base_offset));
        }
    }
}

fn policies(s: &mut Session) {
    let node = s.start(busy(&[]));
    let mut w = Wire::at(s, &node);
    let now = w.now();
    let delete = |w: &mut Wire, topic: &Topic, before: i64| {
        let json = format!(
            "{{\"partitions\": [{{\"topic\": \"{}\", \"partition\": 0, \"offset\": {before}}}], \"version\": 1}}",
            topic.name
        );
        let node = w.node;
        w.s.shell(
            node,
            &[
                &format!("write $D/delete.json\n{json}"),
                "kafka-delete-records --bootstrap-server $B --offset-json-file $D/delete.json",
            ],
        );
    };
    w.title("compact");
    let compacted = w.create("-compact", 1, &EAGER);
    w.append(&compacted, &Batch::new(now, vec![keyed("a", "1")]));
    delete(&mut w, &compacted, 1);

    w.title("compact,delete");
    let mut configs = EAGER.to_vec();
    configs[0].1 = "compact,delete";
    configs.push(("retention.ms", "36000000"));
    let both = w.create("-both", 1, &configs);
    for round in 0..4 {
        let time = now + round * 2000;
        w.append(
            &both,
            &Batch::new(time, vec![keyed("a", "1"), keyed(&format!("only {round}"), "1")]),
        );
    }
    wait_cleaned(&node, &both.name, 6);
    delete(&mut w, &both, 3);
    let look = [
        "kafka-get-offsets --bootstrap-server $B --topic $T-both --time earliest",
        "kcat -b $B -t $T-both -p 0 -C -e -q -o beginning -f %o|%k\\n",
    ];
    w.s.shell(&node, &look);
    w.append(&both, &Batch::new(now + 8000, vec![keyed("a", "2")]));
    wait_cleaned(&node, &both.name, 8);
    w.s.shell(&node, &look);
    w.title("what is too old goes");
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --topic $T-both --add-config retention.ms=1"],
    );
    w.append(&both, &Batch::new(now - 3_600_000, vec![keyed("z", "1")]));
    wait_for(
        || {
            let answer = w.connection.call(7, &list_offsets(&both, &[(0, -2)])).unwrap();
            (answer.topics[0].partitions[0].offset >= 8).then_some(())
        },
        || "old segments stay".into(),
    );

    w.title("compact, then delete, then compact");
    let changing = w.create("-changing", 1, &EAGER);
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --topic $T-changing --add-config cleanup.policy=delete"],
    );
    w.append(&changing, &Batch::of(now, &["no key"]));
    w.append(&changing, &Batch::new(now, vec![keyed("a", "1"), keyed("a", "2")]));
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --topic $T-changing --add-config cleanup.policy=compact"],
    );
    w.append(&changing, &Batch::new(now + 2000, vec![keyed("b", "1")]));
    wait_cleaned(&node, &changing.name, 3);
    w.s.shell(
        &node,
        &["kcat -b $B -t $T-changing -p 0 -C -e -q -o beginning -f %o|%k|%s\\n"],
    );
}

/// Killed again and again while the cleaner works, a broker loses no key, and ends with the same.
fn crashes(s: &mut Session) {
    const KEYS: usize = 50;
    let slow = "log.cleaner.io.max.bytes.per.second=2000000";
    let mut node = s.start(busy(&[slow]));
    let topic = {
        let mut w = Wire::at(s, &node);
        w.create(
            "",
            1,
            &[
                ("cleanup.policy", "compact"),
                ("min.cleanable.dirty.ratio", "0.01"),
                ("segment.bytes", "1048576"),
            ],
        )
    };
    let mut expected = BTreeMap::new();
    let filler = "x".repeat(1000);
    for round in 0..4 {
        let before = checkpoint(&node, "cleaner-offset-checkpoint", &topic.name);
        let mut lines = String::new();
        for record in 0..3000 {
            let (key, value) = (
                format!("key{}", record * (round + 1) % KEYS),
                format!("{round}-{record}-{filler}"),
            );
            lines.push_str(&format!("{key}:{value}\n"));
            expected.insert(key, value);
        }
        let bootstrap = node.bootstrap();
        let arguments = [
            "-b",
            &bootstrap,
            "-t",
            &topic.name,
            "-p",
            "0",
            "-P",
            "-K",
            ":",
            "-X",
            "acks=all",
        ];
        tools::kcat(&arguments, lines.as_bytes()).ok();
        // In the middle of a cleaning or soon after one.
        let folder = node.replica_dir(&topic.name, 0);
        let is_cleaning = || {
            let names = std::fs::read_dir(&folder).unwrap().flatten();
            names
                .map(|entry| entry.file_name())
                .any(|name| name.to_string_lossy().ends_with(".cleaned"))
        };
        wait_for(
            || {
                let is_cleaned = checkpoint(&node, "cleaner-offset-checkpoint", &topic.name) != before;
                (is_cleaning() || is_cleaned).then_some(())
            },
            || "nothing is cleaned".into(),
        );
        match round % 3 {
            2 => drop(node.stop()),
            _ => node.kill(),
        }
        node.launch();
    }
    let text = s
        .tool(
            &node,
            "kcat -b $B -t $T -p 0 -C -e -q -X check.crcs=true -o beginning -f %k:%s\\n",
        )
        .ok();
    let read: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once(':')).collect();
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(read, expected, "the latest value of each key");
    s.note("every key has its latest value", read.len());
}
