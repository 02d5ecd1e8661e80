//! A store in a temporary folder, and batches to put in it.

mod cleaning;
mod failure;
mod log;
mod lookup;
mod model;
mod recovery;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_domain::ids::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};
use ottla_domain::log::config::LogConfig;
use ottla_domain::log::state::LogState;
use ottla_domain::ports::outbound::{EncodedBatch, LogStore, OpenedLog, PartitionLog, RecordSlice, StorageError};
use ottla_domain::record::batch::{Batches, RecordBatch};
use ottla_domain::record::records::BatchBuilder;
use uuid::Uuid;

use crate::{Log, MetaProperties, Region, Store, StoreConfig};

pub(super) const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";
pub(super) const TOPIC_ID: TopicId = TopicId(Uuid::from_u128(0xabcd));
pub(super) const NOW: Timestamp = Timestamp(1_000_000);

pub(super) fn directory_id(number: u128) -> DirectoryId {
    DirectoryId(Uuid::from_u128(1000 + number))
}

/// Formats a directory below `root`.
pub(super) fn format(root: &Path, number: u128) -> PathBuf {
    let path = root.join(format!("data{number}"));
    let properties = MetaProperties {
        cluster_id: CLUSTER.to_owned(),
        node_id: BrokerId(1),
        directory_id: directory_id(number),
    };
    properties.write(&path).unwrap();
    path
}

/// Two formatted directories.
pub(super) fn two_directories() -> (tempfile::TempDir, Vec<PathBuf>) {
    let root = tempfile::tempdir().unwrap();
    let paths = vec![format(root.path(), 0), format(root.path(), 1)];
    (root, paths)
}

pub(super) fn store_config(log_dirs: Vec<PathBuf>) -> StoreConfig {
    StoreConfig {
        metadata_log_dir: log_dirs[0].clone(),
        log_dirs,
        cluster_id: CLUSTER.to_owned(),
        node_id: BrokerId(1),
        recovery_threads_per_dir: 2,
    }
}

/// Small segments and frequent index entries.
pub(super) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 300,
        ..LogConfig::default()
    }
}

/// One store with one log in it.
pub(super) struct Fixture {
    pub(super) root: tempfile::TempDir,
    pub(super) config: LogConfig,
    pub(super) store: Option<Store>,
    pub(super) log: Arc<Log>,
    pub(super) state: LogState,
}

impl Fixture {
    pub(super) fn new(config: LogConfig) -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let path = format(root.path(), 0);
        let store = Store::open(&store_config(vec![path])).unwrap();
        let opened = store
            .create(
                directory_id(0),
                "orders",
                TOPIC_ID,
                PartitionId(0),
                Arc::new(config.clone()),
            )
            .unwrap();
        Fixture {
            root,
            config,
            store: Some(store),
            log: opened.log,
            state: opened.state,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.path().join("data0")
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.path().join("orders-0")
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Appends a batch of records at the log's end.
    pub(super) fn append(&mut self, records: &[(i64, &str)], epoch: i32) -> RecordBatch {
        append(&self.log, &mut self.state, records, epoch)
    }

    pub(super) fn append_batch(&mut self, batch: &RecordBatch) {
        append_batch(&self.log, &mut self.state, batch);
    }

    pub(super) fn checkpoint(&self) {
        let high_watermark = self.state.offsets.high_watermark();
        self.store()
            .checkpoint(&[(Arc::clone(&self.log), high_watermark)])
            .unwrap();
    }

    pub(super) fn stop_cleanly(&mut self) {
        let logs = [(Arc::clone(&self.log), self.state.clone())];
        self.store().close(&logs, BrokerEpoch(7)).unwrap();
    }

    /// Drops everything that is in memory, as a process does that ends.
    pub(super) fn stop(self) -> (tempfile::TempDir, LogConfig) {
        (self.root, self.config)
    }

    /// Starts again on what is there.
    pub(super) fn start((root, config): (tempfile::TempDir, LogConfig)) -> Fixture {
        let store = Store::open(&store_config(vec![root.path().join("data0")])).unwrap();
        let OpenedLog { log, state, .. } = open_all(&store, &config).pop().unwrap();
        Fixture {
            root,
            config,
            store: Some(store),
            log,
            state,
        }
    }

    pub(super) fn restart(self) -> Fixture {
        Fixture::start(self.stop())
    }

    /// All batches from an offset on.
    pub(super) fn read_from(&self, from: i64) -> Vec<RecordBatch> {
        read_from(&self.log, from)
    }
}

pub(super) fn open_all(store: &Store, config: &LogConfig) -> Vec<OpenedLog<Log>> {
    store
        .open_all(&|_, _| true, &|_| Arc::new(config.clone()), NOW)
        .unwrap()
}

pub(super) fn batch(base_offset: Offset, records: &[(i64, &str)], epoch: i32) -> RecordBatch {
    let mut builder = BatchBuilder::new(base_offset);
    builder.partition_leader_epoch = LeaderEpoch(epoch);
    for (timestamp, value) in records {
        builder.append(Timestamp(*timestamp), None, Some(value.as_bytes()));
    }
    builder.build()
}

pub(super) fn encoded(batch: &RecordBatch) -> EncodedBatch {
    EncodedBatch {
        header: batch.header,
        header_bytes: batch.header.encode(),
        body: batch.body(),
    }
}

pub(super) fn append(log: &Log, state: &mut LogState, records: &[(i64, &str)], epoch: i32) -> RecordBatch {
    let batch = batch(log.log_end_offset(), records, epoch);
    append_batch(log, state, &batch);
    batch
}

pub(super) fn append_batch(log: &Log, state: &mut LogState, batch: &RecordBatch) {
    log.append(&[encoded(batch)], state, NOW).unwrap();
    if state.replay(&batch.header, None).epochs_changed {
        log.store_epochs(state).unwrap();
    }
}

pub(super) fn read(log: &Log, from: i64, upper: i64, max_bytes: usize) -> RecordSlice<Region> {
    log.read(Offset(from), Offset(upper), max_bytes, true).unwrap()
}

pub(super) fn batches(bytes: Bytes) -> Vec<RecordBatch> {
    Batches::new(bytes).collect::<Result<_, _>>().unwrap()
}

pub(super) fn read_from(log: &Log, from: i64) -> Vec<RecordBatch> {
    let (mut from, end) = (from, log.log_end_offset().0);
    let mut all = Vec::new();
    while from < end {
        let slice = read(log, from, end, usize::MAX);
        let read = batches(log.load(&slice).unwrap());
        // Compaction may leave a gap at the end.
        from = read.last().map_or(end, |last| last.header.next_offset().0);
        all.extend(read);
    }
    all
}

pub(super) fn values(count: usize) -> String {
    "v".repeat(count)
}
