//! kafka-dump-log on segments, on the metadata log and on snapshots: what is on disk is Kafka's.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ottla_compat_tests::node::{Node, Options};
use ottla_compat_tests::records::{Batch, Codec, Record};
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use regex::Regex;

use crate::wire::Wire;

pub const CASES: &[Case] = &[
    Case::code("dump-log-segments", segments),
    Case::code("dump-log-conversions", conversions),
    Case::code("dump-log-metadata", metadata),
    Case::code("dump-log-snapshot", snapshot),
];

fn segments(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let (id, epoch) = w.producer();
    w.s.transcript
        .replace(&format!("producerId: {id} "), "producerId: <id> ");
    let now = w.now();
    for codec in Codec::ALL {
        let keyed = Record {
            headers: vec![("h", Some(b"1"))],
            timestamp_delta: 5,
            ..Record::keyed("key", "value")
        };
        let batch = Batch {
            codec,
            ..Batch::new(
                now,
                vec![keyed, Record::value("compressible compressible"), Record::default()],
            )
        };
        w.append(&topic, &batch);
    }
    for sequence in 0..2 {
        w.append(
            &topic,
            &Batch::of(now, &["of a producer"]).producer(id, epoch, sequence),
        );
    }
    let node = w.node;
    let file = node.replica_dir(&topic.name, 0).join("00000000000000000000.log");
    // The producer's id differs, and with it the CRC.
    w.s.transcript.replace(r"(producerId: <id> .* crc: )\d+", "$1<crc>");
    for how in [
        "--deep-iteration --print-data-log",
        "--print-data-log",
        "--deep-iteration",
    ] {
        w.s.shell(node, &[&format!("kafka-dump-log {how} --files {}", file.display())]);
    }
}

/// Topics with a compression.type of their own store everything in it.
fn conversions(s: &mut Session) {
    let mut w = Wire::open(s);
    let codec = Regex::new(r"baseOffset: \d+ .*(compresscodec: \w+)").unwrap();
    for to in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        let topic = w.create(&format!("-{to}"), 1, &[("compression.type", to)]);
        for codec in Codec::ALL {
            let records = vec![
                Record::keyed("key", "compressible compressible"),
                Record::value("compressible"),
            ];
            let batch = Batch {
                codec,
                ..Batch::new(w.now(), records)
            };
            w.append(&topic, &batch);
        }
        let node = w.node;
        let file = node.replica_dir(&topic.name, 0).join("00000000000000000000.log");
        let dump =
            w.s.tool(node, &format!("kafka-dump-log --files {}", file.display()))
                .ok();
        w.s.note(
            to,
            codec
                .captures_iter(&dump)
                .map(|found| found[1].to_string())
                .collect::<Vec<_>>(),
        );
        let read = format!("kcat -b $B -t $T-{to} -C -e -q -o beginning -X check.crcs=true -f %o|%T|%k|%s\\n");
        w.s.shell(node, &[&read]);
    }
}

fn dump(s: &mut Session, node: &Node, file: &Path) -> String {
    s.tool(
        node,
        &format!("kafka-dump-log --cluster-metadata-decoder --files {}", file.display()),
    )
    .ok()
}

/// Types and versions of the records in a dump.
fn types(dump: &str) -> BTreeSet<String> {
    let record = Regex::new(r#"payload: \{"type":"(\w+)","version":(\d+)"#).unwrap();
    record
        .captures_iter(dump)
        .map(|found| format!("{} {}", &found[1], &found[2]))
        .collect()
}

/// What both controllers have to write, whatever else they note on the way.
const COMMON: [&str; 6] = [
    "CONFIG_RECORD",
    "FEATURE_LEVEL_RECORD",
    "PARTITION_RECORD",
    "REGISTER_BROKER_RECORD",
    "REGISTER_CONTROLLER_RECORD",
    "TOPIC_RECORD",
];

fn note(s: &mut Session, dump: &str) {
    let common = types(dump)
        .into_iter()
        .filter(|name| COMMON.iter().any(|common| name.starts_with(common)));
    s.note("record types", common.collect::<Vec<_>>());
    // The whole of what this scenario caused.
    let ours = Regex::new(r#"\{"type":"(TOPIC|PARTITION|CONFIG)_RECORD".*"#).unwrap();
    for found in ours.find_iter(dump) {
        s.transcript.add(found.as_str());
    }
    let header = Regex::new(r"(SnapshotHeader|SnapshotFooter|LeaderChange|KRaftVersion|KRaftVoters) ").unwrap();
    let control: BTreeSet<_> = header.find_iter(dump).map(|found| found.as_str()).collect();
    s.note("control records", control);
}

fn make_topic(s: &mut Session, node: &Node) {
    s.tool(
        node,
        "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2 --config retention.ms=3600000",
    )
    .ok();
    s.tool(
        node,
        "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
    );
}

fn metadata(s: &mut Session) {
    let node = s.start(Options::default());
    make_topic(s, &node);
    let text = dump(s, &node, &metadata_dir(&node).join("00000000000000000000.log"));
    note(s, &text);
}

fn metadata_dir(node: &Node) -> PathBuf {
    node.log_dirs().remove(0).join("__cluster_metadata-0")
}

fn snapshot(s: &mut Session) {
    let node = s.start(Options::with(&["metadata.log.max.record.bytes.between.snapshots=500"]));
    make_topic(s, &node);
    let made = || {
        let files = std::fs::read_dir(metadata_dir(&node))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        // The one of offset 0 comes from formatting.
        let mut files: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|kind| kind == "checkpoint"))
            .filter(|path| {
                !path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("00000000000000000000-")
            })
            .collect();
        files.sort();
        files.pop()
    };
    let text = wait_for(
        || {
            // Snapshots are taken while the topic is on its way: wait for one that has it.
            s.tool(
                &node,
                "kafka-configs --bootstrap-server $B --alter --topic $T --add-config segment.ms=3600000",
            )
            .ok();
            made()
                .map(|file| dump(s, &node, &file))
                .filter(|text| text.contains("segment.ms"))
        },
        || "no snapshot".into(),
    );
    note(s, &text);
}
