//! The log and its disk: what rolls, what goes when, what is left after a restart.
use std::path::Path;

use ottla_compat_tests::node::Node;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::scenario::{Case, Session, wait_for};

mod compaction;
mod directories;
mod retention;
mod settings;

pub const FAMILIES: [(&str, &[Case]); 4] = [
    ("log-retention", retention::CASES),
    ("log-settings", settings::CASES),
    ("log-directories", directories::CASES),
    ("log-compaction", compaction::CASES),
];

/// Everything that a broker does now and then, it does often.
const OFTEN: [&str; 5] = [
    "log.initial.task.delay.ms=10",
    "log.retention.check.interval.ms=100",
    "log.flush.offset.checkpoint.interval.ms=200",
    "log.flush.start.offset.checkpoint.interval.ms=200",
    "log.segment.delete.delay.ms=500",
];

/// A batch of one record whose value has this many bytes.
fn sized(timestamp: i64, size_bytes: usize) -> Batch {
    Batch::new(timestamp, vec![Record::value(vec![b'x'; size_bytes])])
}

/// The names and sizes of segments in a folder, those that wait for their deletion included.
fn segments(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let is_segment = name.ends_with(".log") || name.ends_with(".log.deleted");
            // It may go between the two looks.
            let size_bytes = entry.metadata().ok()?.len();
            is_segment.then(|| format!("{name} {size_bytes}"))
        })
        .collect();
    found.sort();
    found
}

/// Waits until the segments of partition 0 satisfy a condition, and notes them.
fn note_segments_when(s: &mut Session, node: &Node, topic: &str, is_wanted: impl Fn(&[String]) -> bool) {
    let folder = node.replica_dir(topic, 0);
    let found = wait_for(
        || Some(segments(&folder)).filter(|segments| is_wanted(segments)),
        || format!("segments of {topic} stay {:#?}", segments(&folder)),
    );
    s.note(&format!("segments of {topic}"), found);
}

/// The line of a checkpoint file for partition 0 of a topic.
fn checkpoint(node: &Node, file: &str, topic: &str) -> Option<String> {
    let folder = node.replica_dir(topic, 0);
    let text = std::fs::read_to_string(folder.parent().unwrap().join(file)).unwrap_or_default();
    let prefix = format!("{topic} 0 ");
    text.lines().find(|line| line.starts_with(&prefix)).map(str::to_owned)
}
