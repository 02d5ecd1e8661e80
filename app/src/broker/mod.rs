//! The broker: the replicas that it hosts, and what it does for clients.

mod assignments;
mod cleaner;
mod fetch;
mod inline;
mod internal;
mod maintenance;
mod offsets;
mod partition;
mod produce;
mod reconcile;
mod sessions;
mod settings;
mod stalls;
mod table;
mod traffic;
mod waiters;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwap;
use ottla_domain::ids::{BrokerId, DirectoryId, Offset};
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::inbound::{LogDirectory, ReplicaOnDisk};
use ottla_domain::ports::outbound::{DirectoryFacts, LogStore, PartitionLog};
use ottla_domain::record::compression::Compression;

use self::assignments::Assignments;
use self::cleaner::Cleaner;
use self::sessions::Sessions;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

pub use self::cleaner::{CleanerFacts, Uncleanable};
pub use self::internal::{Changes, LedPartition};
pub use self::settings::BrokerSettings;
pub use self::stalls::{InlineWrites, keep_awake};
use self::table::PartitionTable;
pub use self::traffic::{Count, ReplicaFacts, Totals};
use crate::clock::{SystemClock, SystemEntropy};

/// Access to the files of a store's segments.
pub type RegionOf<S> = <<S as LogStore>::Log as PartitionLog>::Region;

/// What an acknowledged record has survived (`ottla.fsync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process; a power failure is for replication, as in Kafka.
    None,
    /// Also a power failure: records are on disk before they are acknowledged or shown.
    Ack,
}

/// What requests need of the machine.
pub struct Tools {
    /// Time.
    pub clock: SystemClock,
    /// Randomness.
    pub entropy: SystemEntropy,
    /// The codecs.
    pub compression: Box<dyn Compression>,
    /// Appends that write where they are.
    pub inline_writes: InlineWrites,
    /// `ottla.fsync`.
    pub durability: Durability,
    /// `ottla.validate.compressed=header`: the headers of compressed batches are believed.
    pub trust_compressed: bool,
}

/// How many batches may be decompressed at length at a time: half of the cores stay with other clients.
fn long_validations_max() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// A broker, or the empty one of a node that is a controller only.
pub struct Broker<S: LogStore> {
    /// `node.id`.
    pub id: BrokerId,
    store: Arc<S>,
    tools: Arc<Tools>,
    settings: BrokerSettings,
    image: ArcSwap<MetadataImage>,
    partitions: ArcSwap<PartitionTable<S::Log>>,
    /// What passed through replicas that are not in `partitions` any more.
    retired: Mutex<Totals>,
    sessions: Sessions,
    long_validations: Semaphore,
    assignments: Assignments,
    /// Held by whoever replaces `partitions`.
    table_change: Mutex<()>,
    cleaner: Arc<Cleaner>,
    /// Held by the maintenance task that runs.
    maintenance: Mutex<()>,
    /// Nothing is changed on disk any more.
    closed: AtomicBool,
    /// The directories that failed.
    offline: ArcSwap<Vec<DirectoryId>>,
    /// How many log directories failed.
    failed_directories: watch::Sender<usize>,
    /// The offset of the metadata that the replicas have taken over.
    reconciled: AtomicI64,
}

impl<S: LogStore> Broker<S> {
    /// A broker without replicas; [`Broker::open_logs`] finds those on disk.
    pub fn new(id: BrokerId, store: Arc<S>, tools: Arc<Tools>, settings: BrokerSettings) -> Self {
        Broker {
            id,
            store,
            tools,
            sessions: Sessions::new(settings.fetch_session_slots),
            long_validations: Semaphore::new(long_validations_max()),
            assignments: Assignments::default(),
            settings,
            image: ArcSwap::from_pointee(MetadataImage::default()),
            partitions: ArcSwap::from_pointee(PartitionTable::default()),
            retired: Mutex::default(),
            table_change: Mutex::new(()),
            cleaner: Arc::default(),
            maintenance: Mutex::new(()),
            closed: AtomicBool::new(false),
            offline: ArcSwap::default(),
            failed_directories: watch::Sender::new(0),
            reconciled: AtomicI64::new(-1),
        }
    }

    /// The newest metadata that this node has seen committed.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Shows newer metadata to requests at once; replicas follow with [`Broker::reconcile`].
    pub fn publish(&self, image: Arc<MetadataImage>) {
        self.image.store(image);
    }

    /// How many batches are decompressed at length, and may be at a time.
    pub fn long_validations(&self) -> (usize, usize) {
        let max = long_validations_max();
        (max.saturating_sub(self.long_validations.available_permits()), max)
    }

    /// The settings.
    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    /// The offset of the metadata that the replicas have taken over.
    pub fn reconciled_offset(&self) -> Offset {
        Offset(self.reconciled.load(Ordering::Acquire))
    }

    /// Counts the log directories that failed.
    pub fn failed_directories(&self) -> watch::Receiver<usize> {
        self.failed_directories.subscribe()
    }

    /// Waits until the last log directory has failed; returns why each did.
    pub async fn halted(&self) -> String {
        let count = self.store.directories().len();
        // The sender lives as long as the broker.
        let _ = self.failed_directories().wait_for(|failed| *failed == count).await;
        let directories = self.store.directories();
        let describe =
            |facts: &DirectoryFacts| format!("{} ({})", facts.path, facts.offline.as_deref().unwrap_or_default());
        directories.iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    /// The directories that failed, as they were looked at last, but for those that failed before their ids were read. Does
    /// not block.
    pub fn offline_directories(&self) -> Vec<DirectoryId> {
        self.offline.load().to_vec()
    }

    /// The log directories.
    pub fn directories(&self) -> Vec<DirectoryFacts> {
        self.store.directories()
    }

    /// The log directories and what lies in them. Blocks on the disk.
    pub fn log_directories(&self) -> Vec<LogDirectory> {
        let mut replicas: HashMap<DirectoryId, Vec<ReplicaOnDisk>> = HashMap::new();
        for partition in self.partitions.load().online() {
            let log = partition.log();
            let replica = ReplicaOnDisk {
                topic: Arc::clone(&partition.topic),
                partition: partition.id,
                size_bytes: log.segments().iter().map(|segment| segment.size_bytes).sum(),
                offset_lag: partition
                    .high_watermark()
                    .0
                    .saturating_sub(log.log_end_offset().0)
                    .max(0),
            };
            replicas.entry(log.directory()).or_default().push(replica);
        }
        let describe = |facts: DirectoryFacts| LogDirectory {
            path: facts.path,
            is_offline: facts.offline.is_some(),
            total_bytes: facts.total_bytes,
            usable_bytes: facts.usable_bytes,
            replicas: replicas.remove(&facts.id).unwrap_or_default(),
        };
        self.store.directories().into_iter().map(describe).collect()
    }
}
