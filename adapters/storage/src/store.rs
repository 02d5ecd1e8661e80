//! All log directories of a node.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ottla_domain::ids::{BrokerEpoch, BrokerId, DirectoryId, Mono, Offset, PartitionId, Timestamp, TopicId};
use ottla_domain::log::config::LogConfig;
use ottla_domain::log::state::LogState;
use ottla_domain::ports::outbound::{DirectoryFacts, LogStore, OpenedLog, PartitionLog, StorageError};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::deletion::{self, Departure};
use crate::directory::Directory;
use crate::health::{Doing, Health, OrFail};
use crate::index::{Checkpoint, IndexFacts};
use crate::lock::DirectoryLock;
use crate::log::Log;
use crate::meta_properties::MetaProperties;
use crate::recovery::{self, Target};
use crate::{atomic_file, clean_shutdown, partition_metadata, segment};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
const METADATA_TOPIC: &str = "__cluster_metadata";
const METADATA_TOPIC_ID: TopicId = TopicId(Uuid::from_u128(1));

/// Which directories a store has, and whose they must be.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`; by default the first of `log.dirs`.
    pub metadata_log_dir: PathBuf,
    /// `cluster.id`, which every `meta.properties` must have.
    pub cluster_id: String,
    /// `node.id`, which every `meta.properties` must have.
    pub node_id: BrokerId,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads_per_dir: usize,
}

/// A directory that is open, or that failed before it could be.
struct Slot {
    id: DirectoryId,
    path: PathBuf,
    health: Arc<Health>,
    directory: Option<Arc<Directory>>,
}

/// The log directories of this node, locked until this and all logs are dropped.
pub struct Store {
    /// `log.dirs` in their order, and `metadata.log.dir` last when it is none of them.
    slots: Vec<Slot>,
    log_dir_count: usize,
    metadata_slot: usize,
    recovery_threads_per_dir: usize,
}

impl Store {
    /// Locks the directories, which must be formatted, and opens their indexes. A directory with failing I/O is offline
    /// from the start; one of another cluster or node, or in use by another process, is refused.
    pub fn open(config: &StoreConfig) -> Result<Store, StorageError> {
        let mut paths = config.log_dirs.clone();
        for (number, path) in paths.iter().enumerate() {
            if paths.iter().take(number).any(|other| is_same(other, path)) {
                return Err(StorageError::Refused(format!(
                    "log.dirs names {} twice",
                    path.display()
                )));
            }
        }
        let metadata_slot = paths
            .iter()
            .position(|path| is_same(path, &config.metadata_log_dir))
            .unwrap_or(paths.len());
        if metadata_slot == paths.len() {
            paths.push(config.metadata_log_dir.clone());
        }
        let slots = paths
            .iter()
            .map(|path| open_slot(path, config))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Store {
            slots,
            log_dir_count: config.log_dirs.len(),
            metadata_slot,
            recovery_threads_per_dir: config.recovery_threads_per_dir.max(1),
        })
    }

    /// The broker epoch that the last stop left behind, if it was clean in all log directories (KIP-966); else -1.
    pub fn previous_broker_epoch(&self) -> BrokerEpoch {
        let mut epochs = self.log_slots().map(|slot| slot.directory.as_ref()?.stopped_cleanly);
        let first = epochs.next().flatten().unwrap_or(BrokerEpoch::UNKNOWN);
        if epochs.all(|epoch| epoch == Some(first)) {
            first
        } else {
            BrokerEpoch::UNKNOWN
        }
    }

    /// Opens the log of the metadata quorum in `metadata.log.dir`, or makes it.
    pub fn open_metadata_log(&self, config: Arc<LogConfig>, now: Timestamp) -> Result<OpenedLog<Log>, StorageError> {
        let slot = self.slots.get(self.metadata_slot);
        let directory = slot.map_or(
            Err(StorageError::Refused("no metadata.log.dir".to_owned())),
            Slot::directory,
        )?;
        let target = Target {
            directory: Arc::clone(directory),
            topic: METADATA_TOPIC.into(),
            partition: PartitionId(0),
            config,
        };
        if directory.path.join(format!("{METADATA_TOPIC}-0")).exists() {
            recovery::open(target, now)
        } else {
            recovery::create(target, METADATA_TOPIC_ID)
        }
    }

    /// The index of each directory that did not fail, by the directory's path.
    pub fn index_facts(&self) -> Vec<(Arc<str>, IndexFacts)> {
        let facts = |directory: &Arc<Directory>| (Arc::clone(directory.health.directory()), directory.index.facts());
        self.online().map(facts).collect()
    }

    fn online(&self) -> impl Iterator<Item = &Arc<Directory>> {
        let directories = self.slots.iter().filter_map(|slot| slot.directory.as_ref());
        directories.filter(|directory| directory.health.check().is_ok())
    }

    fn log_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().take(self.log_dir_count)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for directory in self.slots.iter().filter_map(|slot| slot.directory.as_ref()) {
            directory.flusher.stop();
        }
    }
}

impl Slot {
    fn directory(&self) -> Result<&Arc<Directory>, StorageError> {
        self.health.check()?;
        self.directory
            .as_ref()
            .ok_or_else(|| self.health.fail("opening", "it was not opened"))
    }
}

fn open_slot(path: &Path, config: &StoreConfig) -> Result<Slot, StorageError> {
    let health = Arc::new(Health::new(path));
    let mut slot = Slot {
        id: DirectoryId::LOST,
        path: path.to_owned(),
        health: Arc::clone(&health),
        directory: None,
    };
    let opened = || {
        let properties = MetaProperties::read(path).or_fail(&health, "reading meta.properties")??;
        let properties = properties.ok_or_else(|| {
            StorageError::Refused(format!(
                "log directory {} is not formatted; run `ottla format --cluster-id {}`",
                path.display(),
                config.cluster_id
            ))
        })?;
        properties.check(path, &config.cluster_id, config.node_id)?;
        let lock = DirectoryLock::acquire(path).or_fail(&health, "locking")??;
        Directory::open(path, properties.directory_id, Arc::clone(&health), lock)
    };
    match opened() {
        Ok(directory) => {
            slot.id = directory.id;
            slot.directory = Some(Arc::new(directory));
        }
        Err(StorageError::Offline { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(slot)
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A folder of a log directory, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Folder {
    Log(String, PartitionId),
    Deleted,
    /// Not ours to open: our index, the metadata log, replicas that Kafka moves or set aside.
    Other,
    Unknown,
}

fn classify(name: &str) -> Folder {
    if name.ends_with("-delete") {
        return Folder::Deleted;
    }
    if name == ".ottla" || name == "__cluster_metadata-0" || name.ends_with("-future") || name.ends_with("-stray") {
        return Folder::Other;
    }
    match name
        .rsplit_once('-')
        .map(|(topic, partition)| (topic, partition.parse()))
    {
        Some((topic, Ok(partition @ 0..))) if !topic.is_empty() => {
            Folder::Log(topic.to_owned(), PartitionId(partition))
        }
        _ => Folder::Unknown,
    }
}

/// True for what a power failure leaves of a new log of which nothing was synced.
fn is_empty_log(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if segment::parse_file_name(&entry.file_name().to_string_lossy()).is_some() && entry.metadata()?.len() > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The logs of a directory. Folders that a crash left of deleted and of new logs go to the trash, strays are set aside.
fn list_logs(
    directory: &Directory,
    is_placed_here: &(dyn Fn(TopicId, PartitionId) -> bool + Sync),
) -> Result<Vec<(String, PartitionId)>, StorageError> {
    let health = &directory.health;
    let read = || {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&directory.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok::<_, io::Error>(folders)
    };
    let (mut logs, mut strays, mut remains) = (Vec::new(), Vec::new(), Vec::new());
    for name in read().or_fail(health, "listing")? {
        match classify(&name) {
            Folder::Log(topic, partition) => {
                let folder = directory.path.join(&name);
                let topic_id = partition_metadata::read(&folder).or_fail(health, Doing("reading", &folder))?;
                let list = match topic_id {
                    Some(topic_id) if is_placed_here(topic_id, partition) => &mut logs,
                    None if is_empty_log(&folder).or_fail(health, Doing("listing", &folder))? => &mut remains,
                    _ => &mut strays,
                };
                list.push((topic, partition));
            }
            Folder::Deleted => directory.trash.add(directory.path.join(name), 0),
            Folder::Other => {}
            Folder::Unknown => {
                return Err(StorageError::Refused(format!(
                    "found folder {}, which is not in the form of topic-partition; log directories hold only Kafka's \
                     data: move the folder elsewhere",
                    directory.path.join(name).display()
                )));
            }
        }
    }
    for left in leave(directory, &remains, Departure::Delete)? {
        directory.trash.add(left, 0);
    }
    for ((topic, partition), left) in strays.iter().zip(leave(directory, &strays, Departure::Stray)?) {
        tracing::warn!(
            topic, %partition, folder = %left.display(),
            "the cluster's metadata does not place this replica here; its folder is set aside"
        );
    }
    let known = directory.index.folders().or_fail(health, "reading the index")?;
    let exists = |name: &String| directory.path.join(name).is_dir();
    for name in known.iter().filter(|name| !exists(name)) {
        directory
            .index
            .delete_folder(name)
            .or_fail(health, "deleting index entries")?;
    }
    Ok(logs)
}

/// Takes the folders of logs out of use durably: gives them other names, which are returned, and forgets their checkpoints.
fn leave(
    directory: &Directory,
    logs: &[(String, PartitionId)],
    departure: Departure,
) -> Result<Vec<PathBuf>, StorageError> {
    let rename = |(topic, partition): &(String, PartitionId)| {
        let folder = directory.path.join(format!("{topic}-{partition}"));
        let unique = Uuid::from_u128(unique_bits());
        let left = directory
            .path
            .join(deletion::folder_name(topic, *partition, unique, departure));
        fs::rename(&folder, &left).or_fail(&directory.health, Doing("renaming", &folder))?;
        Ok(left)
    };
    let left = logs.iter().map(rename).collect::<Result<Vec<_>, StorageError>>()?;
    if !left.is_empty() {
        atomic_file::sync_folder(&directory.path).or_fail(&directory.health, Doing("syncing", &directory.path))?;
        directory.forget_checkpoints(logs)?;
    }
    Ok(left)
}

fn delete_in(directory: &Directory, logs: &[&Arc<Log>], delay_ms: i64) -> Result<(), StorageError> {
    for log in logs {
        log.mark_deleted()?;
    }
    let names: Vec<_> = logs.iter().map(|log| (log.topic.to_string(), log.partition)).collect();
    for left in leave(directory, &names, Departure::Delete)? {
        directory.trash.add(left, delay_ms);
    }
    let folders: Vec<_> = logs
        .iter()
        .map(|log| log.folder.file_name().unwrap_or_default().to_string_lossy())
        .collect();
    let indexes = folders.iter().zip(logs).map(|(folder, log)| (&**folder, &log.index));
    directory
        .index
        .delete_logs(indexes)
        .or_fail(&directory.health, "deleting index entries")
}

impl LogStore for Store {
    type Log = Log;

    fn directories(&self) -> Vec<DirectoryFacts> {
        let facts = |slot: &Slot| {
            let space = rustix::fs::statvfs(&slot.path).ok();
            let bytes = |blocks: u64| space.as_ref().map_or(0, |space| blocks.saturating_mul(space.f_frsize));
            DirectoryFacts {
                id: slot.id,
                path: Arc::clone(slot.health.directory()),
                offline: slot.health.failure().cloned(),
                total_bytes: bytes(space.as_ref().map_or(0, |space| space.f_blocks)),
                usable_bytes: bytes(space.as_ref().map_or(0, |space| space.f_bavail)),
            }
        };
        self.log_slots().map(facts).collect()
    }

    fn open_all(
        &self,
        is_placed_here: &(dyn Fn(TopicId, PartitionId) -> bool + Sync),
        config: &(dyn Fn(&str) -> Arc<LogConfig> + Sync),
        now: Timestamp,
    ) -> Result<Vec<OpenedLog<Log>>, StorageError> {
        let opened = Mutex::new(Vec::new());
        let refused = Mutex::new(None);
        std::thread::scope(|scope| {
            for directory in self.log_slots().filter_map(|slot| slot.directory.as_ref()) {
                let (opened, refused) = (&opened, &refused);
                scope.spawn(move || {
                    let threads = self.recovery_threads_per_dir;
                    match open_directory(directory, threads, is_placed_here, config, now) {
                        Ok(logs) => opened.lock().extend(logs),
                        // The other directories serve on.
                        Err(StorageError::Offline { .. }) => {}
                        Err(error) => *refused.lock() = Some(error),
                    }
                });
            }
        });
        if let Some(error) = refused.into_inner() {
            return Err(error);
        }
        let opened = opened.into_inner();
        refuse_duplicates(&opened)?;
        Ok(opened)
    }

    fn create(
        &self,
        directory: DirectoryId,
        topic: &str,
        topic_id: TopicId,
        partition: PartitionId,
        config: Arc<LogConfig>,
    ) -> Result<OpenedLog<Log>, StorageError> {
        let slot = self.log_slots().find(|slot| slot.id == directory);
        let no_directory = || StorageError::Refused(format!("this node has no log directory {directory}"));
        let target = Target {
            directory: Arc::clone(slot.ok_or_else(no_directory)?.directory()?),
            topic: topic.into(),
            partition,
            config,
        };
        recovery::create(target, topic_id)
    }

    fn delete(&self, logs: &[Arc<Log>], delay_ms: i64) -> Result<(), StorageError> {
        let mut result = Ok(());
        for directory in self.online() {
            let logs: Vec<_> = logs
                .iter()
                .filter(|log| Arc::ptr_eq(&log.directory, directory))
                .collect();
            if !logs.is_empty() {
                result = delete_in(directory, &logs, delay_ms).and(result);
            }
        }
        result
    }

    fn purge(&self, now: Mono) {
        for directory in self.online() {
            directory.trash.purge(now);
        }
    }

    fn checkpoint(&self, high_watermarks: &[(Arc<Log>, Offset)]) -> Result<(), StorageError> {
        let mut result = Ok(());
        let directories = self.log_slots().filter_map(|slot| slot.directory.as_ref());
        for directory in directories.filter(|directory| directory.health.check().is_ok()) {
            let logs = high_watermarks
                .iter()
                .filter(|(log, _)| Arc::ptr_eq(&log.directory, directory));
            result = checkpoint_directory(directory, &logs.cloned().collect::<Vec<_>>()).and(result);
        }
        result
    }

    fn close(&self, logs: &[(Arc<Log>, LogState)], broker_epoch: BrokerEpoch) -> Result<(), StorageError> {
        let mut result = Ok(());
        for directory in self.online() {
            let logs = logs.iter().filter(|(log, _)| Arc::ptr_eq(&log.directory, directory));
            result = close_directory(directory, logs.collect(), broker_epoch).and(result);
        }
        result
    }
}

fn checkpoint_directory(directory: &Directory, logs: &[(Arc<Log>, Offset)]) -> Result<(), StorageError> {
    let _guard = directory.cutting.write();
    let checkpoints = logs.iter().flat_map(|(log, high_watermark)| {
        [
            (&log.index, Checkpoint::RecoveryPoint, log.synced_offset()),
            (&log.index, Checkpoint::HighWatermark, *high_watermark),
        ]
    });
    directory
        .index
        .put_checkpoints(checkpoints)
        .or_fail(&directory.health, "writing checkpoints")?;
    // Kafka's files are those of the broker's replicas; the quorum looks after its own.
    let replicas = logs.iter().filter(|(log, _)| *log.topic != *METADATA_TOPIC);
    directory.write_checkpoints(replicas.map(|(log, high_watermark)| {
        (
            (log.topic.to_string(), log.partition),
            log.synced_offset(),
            *high_watermark,
        )
    }))
}

fn close_directory(
    directory: &Directory,
    logs: Vec<&(Arc<Log>, LogState)>,
    broker_epoch: BrokerEpoch,
) -> Result<(), StorageError> {
    directory.flusher.stop();
    for (log, state) in &logs {
        log.prepare_close(state)?;
    }
    let high_watermarks = logs
        .iter()
        .map(|(log, state)| (Arc::clone(log), state.offsets.high_watermark()));
    checkpoint_directory(directory, &high_watermarks.collect::<Vec<_>>())?;
    directory
        .index
        .close()
        .or_fail(&directory.health, "closing the index")?;
    clean_shutdown::write(&directory.path, broker_epoch).or_fail(&directory.health, "writing the clean shutdown marker")
}

fn open_directory(
    directory: &Arc<Directory>,
    threads: usize,
    is_placed_here: &(dyn Fn(TopicId, PartitionId) -> bool + Sync),
    config: &(dyn Fn(&str) -> Arc<LogConfig> + Sync),
    now: Timestamp,
) -> Result<Vec<OpenedLog<Log>>, StorageError> {
    let folders = list_logs(directory, is_placed_here)?;
    if directory.stopped_cleanly.is_none() && !folders.is_empty() {
        tracing::info!(directory = %directory.path.display(), logs = folders.len(), "recovering after an unclean stop");
    }
    let next = AtomicUsize::new(0);
    let opened = Mutex::new(Vec::with_capacity(folders.len()));
    let failed = Mutex::new(None);
    let progress = Progress::new(directory, folders.len());
    let begun = Instant::now();
    let work = || {
        while let Some((topic, partition)) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            let target = Target {
                directory: Arc::clone(directory),
                topic: topic.as_str().into(),
                partition: *partition,
                config: config(topic),
            };
            match recovery::open(target, now) {
                Ok(log) => opened.lock().push(log),
                Err(error) => {
                    failed.lock().get_or_insert(error);
                    return;
                }
            }
            progress.one_more();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(folders.len()) {
            scope.spawn(work);
        }
        work();
    });
    metrics::gauge!("ottla_storage_recovery_seconds", "directory" => Arc::clone(directory.health.directory()))
        .set(begun.elapsed().as_secs_f64());
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let opened = opened.into_inner();
    // A rebuilt index so has recovery points at once.
    let high_watermarks = opened
        .iter()
        .map(|opened| (Arc::clone(&opened.log), opened.state.offsets.high_watermark()));
    checkpoint_directory(directory, &high_watermarks.collect::<Vec<_>>())?;
    Ok(opened)
}

/// Says now and then how many logs of a directory are still to be opened.
struct Progress {
    directory: String,
    remaining: AtomicUsize,
    said: Mutex<Instant>,
}

impl Progress {
    fn new(directory: &Directory, logs: usize) -> Progress {
        let progress = Progress {
            directory: directory.path.display().to_string(),
            remaining: AtomicUsize::new(logs),
            said: Mutex::new(Instant::now()),
        };
        progress.show(logs);
        progress
    }

    fn show(&self, remaining: usize) {
        metrics::gauge!("kafka_log_logmanager_remaininglogstorecover", "dir" => self.directory.clone())
            .set(remaining as f64);
    }

    fn one_more(&self) {
        let remaining = self.remaining.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        self.show(remaining);
        let mut said = self.said.lock();
        if said.elapsed() > PROGRESS_INTERVAL {
            *said = Instant::now();
            tracing::info!(directory = self.directory, remaining, "opening logs");
        }
    }
}

fn refuse_duplicates(logs: &[OpenedLog<Log>]) -> Result<(), StorageError> {
    let mut seen = HashMap::new();
    for opened in logs {
        if let Some(other) = seen.insert((&opened.topic, opened.partition), &opened.log.folder) {
            return Err(StorageError::Refused(format!(
                "{} and {} are the same replica; remove one of them",
                other.display(),
                opened.log.folder.display()
            )));
        }
    }
    Ok(())
}

/// Enough to tell the remains of one log from another's in a file name.
fn unique_bits() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let draw = || u128::from(RandomState::new().hash_one(std::time::SystemTime::now()));
    (draw() << 64) | draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_told_apart_by_name() {
        assert_eq!(classify("orders-12"), Folder::Log("orders".to_owned(), PartitionId(12)));
        assert_eq!(classify("a-b-0"), Folder::Log("a-b".to_owned(), PartitionId(0)));
        assert_eq!(classify("orders-0.0123-delete"), Folder::Deleted);
        for other in [
            ".ottla",
            "__cluster_metadata-0",
            "orders-0.0123-future",
            "orders-0.0123-stray",
        ] {
            assert_eq!(classify(other), Folder::Other, "{other}");
        }
        for unknown in ["orders", "-0", "orders-x", "orders--1x"] {
            assert_eq!(classify(unknown), Folder::Unknown, "{unknown}");
        }
    }
}
