//! Makes the replicas on disk what the metadata says: creates, deletes, leads, and takes over settings.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_domain::ids::{BrokerId, DirectoryId, LeaderEpoch};
use ottla_domain::metadata::delta::{LocalReplica, MetadataDelta};
use ottla_domain::metadata::image::{ConfigResourceType, MetadataImage};
use ottla_domain::ports::outbound::{Clock, LogStore, OpenedLog, PartitionLog, StorageError};
use tracing::{error, warn};

use super::partition::{Leadership, Partition};
use super::table::{Hosted, PartitionTable};
use super::{Broker, Durability};

/// Logs that are synced at a time before this broker leads them.
const SYNC_THREADS: usize = 8;

impl<S: LogStore> Broker<S> {
    /// Opens the logs that are on disk. Blocks.
    ///
    /// Logs that the metadata does not place here are set aside and not opened: most often their topics were deleted while
    /// this broker or the directory was away, but nobody knows.
    pub fn open_logs(&self, image: &Arc<MetadataImage>) -> Result<(), StorageError> {
        let settings = &self.settings;
        let config = |topic: &str| settings.log_config(image, topic);
        let is_placed_here = |topic_id, partition| {
            let known = image
                .topics
                .by_id(topic_id)
                .and_then(|topic| topic.partition(partition));
            known.is_some_and(|partition| partition.replicas.contains(&self.id.0))
        };
        let mut table = PartitionTable::default();
        for opened in self.store.open_all(&is_placed_here, &config, self.tools.clock.now())? {
            let config = settings.log_config(image, &opened.topic);
            let (topic, topic_id, id) = (Arc::clone(&opened.topic), opened.topic_id, opened.partition);
            let partition = Partition::new(opened, config, self.tools.durability);
            table.insert(&topic, topic_id, id, Hosted::Online(Arc::new(partition)));
        }
        self.install(table);
        Ok(())
    }

    /// Takes over a newer image. Blocks on the disk; called by one caller at a time.
    pub fn reconcile(&self, old: &MetadataImage, image: &Arc<MetadataImage>) {
        let delta = MetadataDelta::between(old, image);
        let changes = delta.local_changes(self.id);
        let change = self.table_change.lock();
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        let mut table = PartitionTable::clone(&self.partitions.load());
        // Folders of topics wait as long as the broker's setting says, whatever the topic's own was.
        let delay_ms = self.settings.effective(image).number("log.segment.delete.delay.ms");
        let mut removed_logs = Vec::with_capacity(changes.removed.len());
        for removed in &changes.removed {
            if let Some(Hosted::Online(partition)) = table.remove(&removed.topic, removed.topic_id, removed.partition) {
                partition.close();
                removed_logs.push(Arc::clone(partition.log()));
            }
        }
        if let Err(error) = self.store.delete(&removed_logs, delay_ms)
            && !error.is_offline()
        {
            error!(replicas = removed_logs.len(), %error, "deleting replicas failed");
        }
        self.sync_ahead(&table, &changes.leaders);
        let mut counts = self.directory_counts(&table);
        for replica in changes.leaders.iter().chain(&changes.followers) {
            if let Err(error) = self.lead_or_follow(&mut table, &mut counts, image, replica) {
                if !error.is_offline() {
                    error!(topic = %replica.topic, partition = replica.partition.partition_id, %error,
                        "a replica could not be set up");
                }
                let id = replica.partition.partition_id.into();
                if let Some(Hosted::Online(partition)) = table.remove(&replica.topic, replica.topic_id, id) {
                    partition.close();
                }
                table.insert(&replica.topic, replica.topic_id, id, Hosted::Offline);
            }
        }
        self.install(table);
        drop(change);
        self.apply_configs(&delta, image);
        self.reconciled.store(image.provenance.offset.0, Ordering::Release);
    }

    /// Syncs, several at a time, what has to be on disk before this broker leads: after a crash that may be every log.
    fn sync_ahead(&self, table: &PartitionTable<S::Log>, leaders: &[LocalReplica]) {
        if self.tools.durability != Durability::Ack {
            return;
        }
        let log = |replica: &LocalReplica| match table.get(&replica.topic, replica.partition.partition_id.into()) {
            Some(Hosted::Online(partition)) => Some(Arc::clone(partition.log())),
            _ => None,
        };
        let is_dirty = |log: &Arc<S::Log>| log.synced_offset() < log.log_end_offset();
        let logs: Vec<_> = leaders.iter().filter_map(log).filter(is_dirty).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..SYNC_THREADS.min(logs.len()) {
                scope.spawn(|| {
                    while let Some(log) = logs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Whoever leads meets the failure again.
                        let _ = log.sync();
                    }
                });
            }
        });
    }

    fn lead_or_follow(
        &self,
        table: &mut PartitionTable<S::Log>,
        counts: &mut HashMap<DirectoryId, usize>,
        image: &MetadataImage,
        replica: &LocalReplica,
    ) -> Result<(), StorageError> {
        let id = replica.partition.partition_id.into();
        let hosted = match table.get(&replica.topic, id) {
            Some(Hosted::Online(partition)) if partition.topic_id == replica.topic_id => Arc::clone(partition),
            Some(Hosted::Offline) => return Ok(()),
            _ => {
                let Some(opened) = self.create_log(counts, image, replica)? else {
                    return Ok(());
                };
                let config = self.settings.log_config(image, &replica.topic);
                let partition = Arc::new(Partition::new(opened, config, self.tools.durability));
                table.insert(
                    &replica.topic,
                    replica.topic_id,
                    id,
                    Hosted::Online(Arc::clone(&partition)),
                );
                partition
            }
        };
        let record = &replica.partition;
        let directory = hosted.log().directory();
        if record.directory(self.id.0) != Some(directory) {
            self.assignments.add(replica.topic_id, id, directory);
        }
        let others = record
            .replicas
            .iter()
            .copied()
            .map(BrokerId)
            .filter(|id| *id != self.id);
        hosted.set_leadership(Leadership {
            leader: BrokerId(record.leader),
            epoch: LeaderEpoch(record.leader_epoch),
            is_leader: record.leader == self.id.0,
            isr_count: record.isr.len(),
            others: others.collect(),
        })
    }

    /// Makes the log in the directory that the metadata names, else in the one with the fewest replicas that takes it. While
    /// a directory is offline, one that is named and not online may be that one and have the log: then none is made.
    fn create_log(
        &self,
        counts: &mut HashMap<DirectoryId, usize>,
        image: &MetadataImage,
        replica: &LocalReplica,
    ) -> Result<Option<OpenedLog<S::Log>>, StorageError> {
        let (online, offline): (Vec<_>, Vec<_>) = self
            .store
            .directories()
            .into_iter()
            .partition(|facts| facts.offline.is_none());
        let mut candidates: Vec<DirectoryId> = online.iter().map(|facts| facts.id).collect();
        let assigned = replica.partition.directory(self.id.0).unwrap_or(DirectoryId::MIGRATING);
        if candidates.contains(&assigned) {
            candidates = vec![assigned];
        } else if offline.is_empty() || assigned == DirectoryId::UNASSIGNED {
            candidates.sort_by_key(|id| counts.get(id).copied().unwrap_or(0));
        } else {
            let paths: Vec<_> = offline.iter().map(|facts| &*facts.path).collect();
            warn!(topic = %replica.topic, partition = replica.partition.partition_id, offline = paths.join(", "),
                "no log is made for a replica that may be in a directory that is offline");
            return Ok(None);
        }
        let config = self.settings.log_config(image, &replica.topic);
        let id = replica.partition.partition_id.into();
        let mut failure = StorageError::Refused("no log directory is online; see log.dirs".to_owned());
        for directory in candidates {
            let (topic, config) = (&replica.topic, Arc::clone(&config));
            match self.store.create(directory, topic, replica.topic_id, id, config) {
                Ok(opened) => {
                    *counts.entry(directory).or_default() += 1;
                    return Ok(Some(opened));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn directory_counts(&self, table: &PartitionTable<S::Log>) -> HashMap<DirectoryId, usize> {
        let mut counts = HashMap::new();
        for partition in table.online() {
            *counts.entry(partition.log().directory()).or_default() += 1;
        }
        counts
    }

    /// Changed topic settings concern their topic; changed broker settings concern every log.
    fn apply_configs(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        if delta.configs.is_empty() {
            return;
        }
        let broker_changed = delta
            .configs
            .iter()
            .any(|resource| resource.kind == ConfigResourceType::Broker);
        let named = |topic: &str| {
            delta
                .configs
                .iter()
                .any(|resource| resource.kind == ConfigResourceType::Topic && resource.name == topic)
        };
        let concerned = |topic: &str| broker_changed || named(topic);
        for partition in self
            .partitions
            .load()
            .online()
            .filter(|partition| concerned(&partition.topic))
        {
            partition.set_config(self.settings.log_config(image, &partition.topic));
        }
    }
}
