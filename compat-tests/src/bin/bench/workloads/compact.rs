//! Compaction of a log.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla_compat_tests::chance::Chance;
use ottla_compat_tests::node::Node;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::requests::{create_topic, text};
use ottla_compat_tests::transcript::now_ms;

use crate::clients::batches::value;
use crate::clients::pipeline::{Limit, keep};
use crate::clients::producer;
use crate::ready;
use crate::session::Session;

const KEYS: usize = 200_000;
const KEY_BYTES: usize = 10;
const VALUE_BYTES: usize = 90;
const BATCH_RECORDS: usize = 1000;

/// How often each key is written; a tenth of it does not count, and warms the JVM up.
const COPIES: u32 = 100;

const TOPIC_RESOURCE: i8 = 2;

/// Both brokers.
pub fn run(session: &mut Session) {
    let batches = batches();
    session.one_by_one(|session, side, mut node| {
        node.launch();
        fill(&node, "warm", &batches, COPIES / 10);
        compact(&node, "warm");
        fill(&node, "bench", &batches, COPIES);
        let full_bytes = log_bytes(&node, "bench");
        let work = session.measure(side, &node, true, || {
            compact(&node, "bench");
            1
        });
        session.add(side, 0, work.time.as_secs_f64());
        session.add(side, 1, work.broker.as_secs_f64());
        let bytes = log_bytes(&node, "bench");
        assert!(bytes < full_bytes / 10, "{bytes} of {full_bytes} bytes are left");
        session.note(format!(
            "{side:?} makes {:.1} MB of {:.1} MB.",
            bytes as f64 / 1e6,
            full_bytes as f64 / 1e6
        ));
    });
}

/// Batches in which each key occurs once, somewhere.
fn batches() -> Vec<Bytes> {
    let mut chance = Chance::seeded(1);
    let mut keys: Vec<_> = (0..KEYS).collect();
    for place in (1..KEYS).rev() {
        keys.swap(place, chance.below(place + 1));
    }
    let (now, value) = (now_ms(), Bytes::from(value(VALUE_BYTES)));
    let batches = keys.chunks(BATCH_RECORDS).map(|keys| {
        let records = keys.iter().map(|key| Record {
            key: Some(format!("{key:0KEY_BYTES$}").into()),
            ..Record::value(value.clone())
        });
        Batch::new(now, records.collect()).encode()
    });
    batches.collect()
}

/// Makes a topic that is not compacted yet, and writes the batches.
fn fill(node: &Node, name: &str, batches: &[Bytes], copies: u32) {
    let topic = create_topic(
        &mut ready::connect(node),
        name,
        1,
        &[("cleanup.policy", "delete"), ("segment.bytes", "67108864")],
    );
    let limit = Limit {
        time: Duration::from_secs(120),
        requests: batches.len() as u32 * copies,
    };
    let sent = keep(&mut [producer::open(node, &topic, 0, batches)], 5, limit);
    assert_eq!(sent, u64::from(limit.requests), "the disk is too slow");
}

/// Has a topic compacted, and waits until it is.
fn compact(node: &Node, name: &str) {
    let policy = AlterableConfig::default()
        .with_name(text("cleanup.policy"))
        .with_value(Some(text("compact")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(name))
        .with_configs(vec![policy]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = ready::connect(node).call(1, &request).expect("answer");
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
    let checkpoint = dir(node).join("cleaner-offset-checkpoint");
    let line = format!("{name} 0 ");
    ready::poll("cleaner", || is_cleaned(&checkpoint, &line).then_some(()));
}

/// The cleaner keeps there up to where it cleaned a partition.
fn is_cleaned(checkpoint: &Path, line: &str) -> bool {
    let text = fs::read_to_string(checkpoint).unwrap_or_default();
    let offset = text.lines().find_map(|found| found.strip_prefix(line));
    offset.is_some_and(|offset| offset != "0")
}

/// Segments of partition 0 that are not about to be deleted.
fn log_bytes(node: &Node, name: &str) -> u64 {
    let entries = fs::read_dir(dir(node).join(format!("{name}-0"))).expect("partition");
    let files = entries.map(|entry| entry.expect("entry").path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| fs::metadata(path).expect("segment").len()).sum()
}

fn dir(node: &Node) -> PathBuf {
    node.log_dirs().remove(0)
}
