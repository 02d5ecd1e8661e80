//! Power failures: what was not synced is gone. Kafka leaves that to replication; `ottla.fsync=ack` does not, and metadata
//! and the order in which a log is cut never depend on it.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    DeleteTopicsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
};
use ottla_compat_tests::chance::Chance;
use ottla_compat_tests::disk::{Disk, Left, copy_folder};
use ottla_compat_tests::load::{Load, Shape, batches, ends, new_producer_id, read};
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, create_topic, text, topic_name};
use ottla_compat_tests::scenario::wait_for;

use crate::kills::{BUSY, kill_under};

const SHAPE: Shape = Shape {
    producers: 4,
    consumers: 1,
    partitions: 8,
};
const TOPIC: i8 = 2;
/// A setting without effect on the logs at hand.
const SETTING: &str = "delete.retention.ms";

/// What is left of `.ottla/`.
#[derive(Clone, Copy, Debug)]
enum Index {
    /// Its last synced writes.
    Synced,
    /// What it was before the round.
    Older,
    /// Nothing.
    Gone,
}

struct Machine {
    node: Node,
    disk: Disk,
    chance: Chance,
}

impl Machine {
    fn start(fsync: &str) -> Self {
        let mut node = Node::formatted(Target::Ottla, Options::with(&[&[fsync], &BUSY[..]].concat()));
        let disk = Disk::under(&mut node);
        let chance = Chance::new();
        let mut machine = Self { node, disk, chance };
        machine.launch();
        machine
    }

    fn launch(&mut self) {
        self.disk.settle();
        copy_all(&self.index(), &self.older_index());
        self.node.launch();
    }

    fn dir(&self) -> PathBuf {
        self.node.log_dirs().remove(0)
    }

    fn index(&self) -> PathBuf {
        self.dir().join(".ottla")
    }

    fn older_index(&self) -> PathBuf {
        self.node.dir().join("older-index")
    }

    /// The power was cut after the node was killed. Returns where that is which was in the page cache.
    fn cut(&mut self) -> (PathBuf, String) {
        let left = *self.chance.pick(&Left::ALL);
        let index = *self.chance.pick(&[Index::Synced, Index::Older, Index::Gone]);
        let before = self.disk.cut(&self.dir(), left);
        if !matches!(index, Index::Synced) {
            let _ = fs::remove_dir_all(self.index());
        }
        if matches!(index, Index::Older) {
            copy_all(&self.older_index(), &self.index());
        }
        (before, format!("left: {left:?}, index: {index:?}"))
    }
}

fn copy_all(from: &Path, to: &Path) {
    match from.is_dir() {
        true => copy_folder(from, to),
        false => _ = fs::remove_dir_all(to),
    }
}

/// Changes metadata and remembers what was acknowledged.
struct Admin {
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<Acknowledged>,
}

/// Acknowledged metadata, and what may have come to be without.
#[derive(Clone, Debug, Default)]
struct Acknowledged {
    topics: BTreeSet<String>,
    /// The change that was not acknowledged may have been made.
    uncertain: BTreeSet<String>,
    setting: u64,
    producer_id: i64,
    changes: usize,
}

impl Admin {
    fn begin(node: &Node, topic: &Topic, before: Acknowledged) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (socket, topic, is_over) = (node.socket(), topic.clone(), Arc::clone(&is_stopped));
        let thread = std::thread::spawn(move || {
            let mut known = before;
            let Ok(mut connection) = Connection::open(socket) else {
                return known;
            };
            while !is_over.load(SeqCst) && known.change(&mut connection, &topic).is_ok() {
                known.changes += 1;
            }
            known
        });
        Self { is_stopped, thread }
    }

    fn end(self) -> Acknowledged {
        self.is_stopped.store(true, SeqCst);
        self.thread.join().unwrap()
    }
}

impl Acknowledged {
    /// Makes a topic, deletes an older one, changes a setting, and takes a producer id.
    fn change(&mut self, on: &mut Connection, topic: &Topic) -> std::io::Result<()> {
        let made = format!("m{}", self.changes);
        self.uncertain = BTreeSet::from([made.clone()]);
        let request = kafka_protocol::messages::CreateTopicsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![
                kafka_protocol::messages::create_topics_request::CreatableTopic::default()
                    .with_name(topic_name(&made))
                    .with_num_partitions(1)
                    .with_replication_factor(1),
            ]);
        on.call(7, &request)?;
        self.topics.insert(made);
        if self.topics.len() > 3 {
            let old = self.topics.pop_first().unwrap();
            self.uncertain = BTreeSet::from([old.clone()]);
            let state = DeleteTopicState::default().with_name(Some(topic_name(&old)));
            let request = DeleteTopicsRequest::default()
                .with_topics(vec![state])
                .with_timeout_ms(10_000);
            on.call(6, &request)?;
        }
        self.uncertain.clear();
        let config = AlterableConfig::default()
            .with_name(text(SETTING))
            .with_value(Some(text(&format!("{}", 1_000_000_000 + self.setting + 1))));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(&topic.name))
            .with_configs(vec![config]);
        on.call(
            1,
            &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]),
        )?;
        self.setting += 1;
        self.producer_id = self.producer_id.max(new_producer_id(on)?);
        Ok(())
    }

    /// Fails unless all this is so after a restart; takes over what turned out to have been made.
    fn check(&mut self, on: &mut Connection, topic: &Topic) {
        let all = on
            .call(9, &MetadataRequest::default().with_topics(None))
            .unwrap()
            .topics;
        let names: BTreeSet<_> = all
            .iter()
            .map(|topic| topic.name.as_ref().unwrap().to_string())
            .collect();
        let names: BTreeSet<_> = names.into_iter().filter(|name| *name != topic.name).collect();
        let certain = |names: &BTreeSet<String>| names.difference(&self.uncertain).cloned().collect::<BTreeSet<_>>();
        assert_eq!(certain(&names), certain(&self.topics), "topics");
        self.topics = names;
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(&topic.name))
            .with_configuration_keys(Some(vec![text(SETTING)]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let value = on.call(4, &request).unwrap().results[0].configs[0]
            .value
            .clone()
            .unwrap();
        let value = value.parse::<u64>().unwrap().saturating_sub(1_000_000_000);
        let may_be = self.setting..=self.setting + 1;
        assert!(
            self.setting == 0 || may_be.contains(&value),
            "{value} is not in {may_be:?}"
        );
        self.setting = self.setting.max(value.min(self.setting + 1));
        let id = new_producer_id(on).unwrap();
        assert!(
            id > self.producer_id,
            "producer id {id} was given before {}",
            self.producer_id
        );
        self.producer_id = id;
    }
}

/// What the layer has to have seen for a power failure to mean anything.
fn assert_syncs(syncs: &[PathBuf], is_ack: bool) {
    let has = |part: &str| syncs.iter().any(|path| path.to_string_lossy().contains(part));
    for part in [
        "/__cluster_metadata-0/00000000000000000000.log",
        "/recovery-point-offset-checkpoint.tmp",
        "/quorum-state.tmp",
        "/.ottla/db/",
    ] {
        assert!(has(part), "no sync of {part} was seen in {syncs:#?}");
    }
    if is_ack {
        assert!(has("/t-0/"), "no sync of a segment was seen");
    }
}

fn with_every_record_synced(rounds: usize) {
    let mut machine = Machine::start("ottla.fsync=ack");
    let topic = create_topic(
        &mut Connection::open(machine.node.socket()).unwrap(),
        "t",
        SHAPE.partitions,
        &[],
    );
    let mut load = Load::begin(&machine.node, &topic, SHAPE);
    let mut metadata = Acknowledged::default();
    let (mut counted, mut compared) = (0, 0);
    while counted < rounds {
        let admin = Admin::begin(&machine.node, &topic, metadata);
        counted += usize::from(kill_under(&load, &mut machine.node, &mut machine.chance));
        metadata = admin.end();
        assert_syncs(&machine.disk.syncs(), true);
        let (_, how) = machine.cut();
        eprintln!("round {counted}: {how}");
        machine.launch();
        compared += load.settle();
        metadata.check(&mut Connection::open(machine.node.socket()).unwrap(), &topic);
    }
    load.stop();
    eprintln!(
        "{counted} power failures with ottla.fsync=ack, {compared} batches compared, {} changes of metadata",
        metadata.changes
    );
}

/// Nobody promised the records; but what is left of them is a part of what was there, from the start.
fn with_page_cache_alone(rounds: usize) {
    let mut machine = Machine::start("ottla.fsync=none");
    let topic = create_topic(
        &mut Connection::open(machine.node.socket()).unwrap(),
        "t",
        SHAPE.partitions,
        &[],
    );
    let mut metadata = Acknowledged::default();
    let (mut counted, mut lost) = (0, 0);
    while counted < rounds {
        let load = Load::begin(&machine.node, &topic, SHAPE);
        let admin = Admin::begin(&machine.node, &topic, metadata);
        counted += usize::from(kill_under(&load, &mut machine.node, &mut machine.chance));
        load.stop();
        metadata = admin.end();
        assert_syncs(&machine.disk.syncs(), false);
        let (before, how) = machine.cut();
        eprintln!("round {counted}: {how}");
        machine.launch();
        let mut connection = Connection::open(machine.node.socket()).unwrap();
        metadata.check(&mut connection, &topic);
        let ends = wait_for(
            || ends(&mut connection, &topic, SHAPE.partitions).ok(),
            || "no leaders".into(),
        );
        for (partition, end) in (0..).zip(ends) {
            lost += assert_prefix(&mut connection, &topic, partition, end, &before);
        }
    }
    eprintln!(
        "{counted} power failures without fsync, {lost} batches lost, {} changes of metadata",
        metadata.changes
    );
}

/// Fails unless a partition serves what its files had before, without its end. Returns how many batches are lost.
fn assert_prefix(on: &mut Connection, topic: &Topic, partition: i32, end: i64, before: &Path) -> usize {
    let folder = before.join(format!("{}-{partition}", topic.name));
    let files = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        .collect();
    files.sort();
    let had: Vec<_> = files
        .iter()
        .flat_map(|path| batches(&fs::read(path).unwrap().into()))
        .collect();
    let Some(first) = had.first() else { return 0 };
    let (mut next, mut count) = (first.base_offset.min(end), 0);
    while next < end {
        let read = read(on, topic, partition, next).unwrap();
        assert!(!read.is_empty(), "partition {partition}: nothing at {next} below {end}");
        for batch in batches(&read) {
            assert_eq!(batch, had[count], "partition {partition}, offset {next}");
            next = batch.next_offset;
            count += 1;
        }
    }
    had.len() - count
}

#[test]
fn acknowledged_records_survive_power_failures() {
    with_every_record_synced(12);
}

#[test]
fn without_fsync_power_failures_take_the_ends_of_logs_alone() {
    with_page_cache_alone(12);
}

#[test]
#[ignore = "takes minutes: runs in ./dev stress"]
fn acknowledged_records_survive_hundreds_of_power_failures() {
    with_every_record_synced(200);
}

#[test]
#[ignore = "takes minutes: runs in ./dev stress"]
fn without_fsync_hundreds_of_power_failures_take_the_ends_of_logs_alone() {
    with_page_cache_alone(200);
}
