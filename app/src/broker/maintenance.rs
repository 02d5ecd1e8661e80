//! What a broker does on its own: retention, checkpoints, deletion of files, expiry of producers, the clean stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{BrokerEpoch, Offset};
use ottla_domain::log::state::LogState;
use ottla_domain::ports::outbound::{Clock, LogStore, PartitionLog, StorageError};
use tracing::{error, info, warn};

use super::Broker;
use super::partition::Partition;
use super::table::{Hosted, PartitionTable};

/// How often files whose `file.delete.delay.ms` has passed are looked for.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);
/// How often failed directories are looked for.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

impl<S: LogStore> Broker<S> {
    /// Looks after the broker until the task is dropped.
    pub async fn maintain(self: Arc<Self>) {
        tokio::join!(self.watch_directories(), self.look_after_logs(), self.keep_cleaners());
    }

    async fn watch_directories(self: &Arc<Self>) {
        let mut health = tokio::time::interval(HEALTH_INTERVAL);
        loop {
            health.tick().await;
            let broker = Arc::clone(self);
            if let Err(error) = tokio::task::spawn_blocking(move || broker.check_directories()).await {
                error!(%error, "looking at the log directories failed");
            }
        }
    }

    /// One task at a time.
    async fn look_after_logs(self: &Arc<Self>) {
        let settings = &self.settings;
        let now = tokio::time::Instant::now();
        let every = |interval_ms: u64| {
            let period = Duration::from_millis(interval_ms.max(1));
            let first = Duration::from_millis(interval_ms.clamp(1, settings.initial_task_delay_ms.max(1)));
            let mut interval = tokio::time::interval_at(now + first, period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        };
        let mut retention = every(settings.retention_check_interval_ms);
        let mut checkpoints = every(settings.checkpoint_interval_ms);
        let mut producers = every(settings.producer_expiration_check_interval_ms);
        let mut flushes = every(settings.flush_check_interval_ms);
        let mut purges = tokio::time::interval(PURGE_INTERVAL);
        loop {
            let task: fn(&Self) = tokio::select! {
                _ = retention.tick() => Self::apply_retention,
                _ = checkpoints.tick() => Self::checkpoint,
                _ = flushes.tick() => Self::flush,
                _ = producers.tick() => Self::expire_producers,
                _ = purges.tick() => |broker| broker.store.purge(broker.tools.clock.mono()),
            };
            let broker = Arc::clone(self);
            let task = move || {
                let _running = broker.maintenance.lock();
                if !broker.closed.load(Ordering::SeqCst) {
                    task(&broker);
                }
            };
            if let Err(error) = tokio::task::spawn_blocking(task).await {
                error!(%error, "a maintenance task failed");
            }
        }
    }

    /// Takes the replicas of failed directories out of service; the controller hears of them with a heartbeat at once and
    /// elects others. With the last directory the broker has nothing left to serve.
    fn check_directories(&self) {
        let directories = self.store.directories();
        let offline = directories.iter().filter(|facts| facts.offline.is_some());
        let offline: Vec<_> = offline.map(|facts| facts.id).collect();
        let registered = offline.iter().copied().filter(|id| !id.is_reserved());
        self.offline.store(Arc::new(registered.collect()));
        let lost = |partition: &Partition<S::Log>| offline.contains(&partition.log().directory());
        let is_news = offline.len() != *self.failed_directories.borrow();
        if !is_news && !self.partitions.load().online().any(|partition| lost(partition)) {
            return;
        }
        let _change = self.table_change.lock();
        let mut table = PartitionTable::clone(&self.partitions.load());
        let failed: Vec<_> = table.online().filter(|partition| lost(partition)).cloned().collect();
        for partition in &failed {
            table.insert(&partition.topic, partition.topic_id, partition.id, Hosted::Offline);
        }
        self.install(table);
        failed.iter().for_each(|partition| partition.close());
        if !failed.is_empty() {
            info!(replicas = failed.len(), "replicas are offline until a restart");
        }
        self.failed_directories.send_replace(offline.len());
    }

    fn apply_retention(&self) {
        let now = self.tools.clock.now();
        for partition in self.partitions.load().online() {
            if self.settings.cleans_logs && partition.config().cleanup_policy.compact {
                // The cleaner does it, between its cleanings of the log.
                continue;
            }
            if let Err(error) = partition.apply_retention(now)
                && error != ErrorCode::KafkaStorageError
            {
                warn!(topic = %partition.topic, partition = %partition.id, %error, "retention failed");
            }
        }
    }

    fn expire_producers(&self) {
        let now = self.tools.clock.now();
        let image = self.image();
        let expiration_ms = self.settings.effective(&image).number("producer.id.expiration.ms");
        self.partitions
            .load()
            .online()
            .for_each(|partition| partition.expire_producers(now, expiration_ms));
    }

    /// Syncs the logs whose `flush.ms` has passed.
    fn flush(&self) {
        let now = self.tools.clock.mono();
        self.partitions
            .load()
            .online()
            .for_each(|partition| partition.flush_when_due(now));
    }

    fn checkpoint(&self) {
        if let Err(error) = self.store.checkpoint(&self.high_watermarks())
            && !error.is_offline()
        {
            error!(%error, "writing checkpoints failed");
        }
    }

    fn high_watermarks(&self) -> Vec<(Arc<S::Log>, Offset)> {
        let table = self.partitions.load();
        table
            .online()
            .map(|partition| (Arc::clone(partition.log()), partition.high_watermark()))
            .collect()
    }

    /// Stops cleanly: nothing is appended any more, everything is flushed, and the marker of a clean stop is written.
    /// `metadata` is the log of the metadata quorum, which is closed with the others. Blocks.
    pub fn close(
        &self,
        broker_epoch: BrokerEpoch,
        metadata: Option<(Arc<S::Log>, LogState)>,
    ) -> Result<(), StorageError> {
        self.closed.store(true, Ordering::SeqCst);
        self.cleaner.stop();
        // What is under way on the disk ends first, and nothing begins after.
        let _change = self.table_change.lock();
        let table = self.partitions.load();
        table.online().for_each(|partition| partition.close());
        let _maintenance = self.maintenance.lock();
        let replicas = table
            .online()
            .map(|partition| (Arc::clone(partition.log()), partition.state()));
        let logs: Vec<_> = replicas.chain(metadata).collect();
        self.store.close(&logs, broker_epoch)
    }
}
