//! Runs the shards of a coordinator: one for each partition of its internal topic that this broker leads.

mod actor;
mod loading;
mod stages;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ottla_domain::coordinator::Shard;
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::PartitionId;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::outbound::LogStore;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::info;

use self::actor::{Actor, Make};
use self::stages::Stages;
pub use self::stages::{Stage, StageTotals};
use crate::broker::{Broker, LedPartition};

type Actors<S, M> = BTreeMap<PartitionId, Arc<Actor<<S as LogStore>::Log, M>>>;

/// What a coordinator goes by.
pub struct CoordinatorSettings {
    /// The internal topic.
    pub topic: &'static str,
    /// How much of the log is read at once while loading, in bytes.
    pub load_buffer_bytes: usize,
    /// How long an answer may wait for its records to be committed, in ms.
    pub commit_timeout_ms: u64,
}

/// What a coordinator is at (`CoordinatorRuntimeMetrics` in Apache Kafka).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoordinatorFacts {
    /// Partitions whose logs are read.
    pub loading: usize,
    /// Partitions that are served.
    pub active: usize,
    /// Partitions that could not be loaded or went wrong.
    pub failed: usize,
    /// Requests that wait for their turn.
    pub queued: usize,
    /// How long the loads of late took.
    pub load_times: Vec<Duration>,
}

/// A coordinator's shards on this broker.
pub struct Coordinator<S: LogStore, M: Shard> {
    settings: Arc<CoordinatorSettings>,
    stages: Arc<Stages>,
    make: Make<M>,
    /// Where timers and loading run.
    runtime: Handle,
    actors: ArcSwap<Actors<S, M>>,
    /// Held while `actors` is replaced; true once there are to be none any more.
    is_closed: Mutex<bool>,
}

impl<S: LogStore, M: Shard> Coordinator<S, M> {
    /// A coordinator without shards; `make` makes an empty one.
    pub fn new(
        settings: CoordinatorSettings,
        make: impl Fn(&Arc<MetadataImage>) -> M + Send + Sync + 'static,
        runtime: Handle,
    ) -> Self {
        Coordinator {
            settings: Arc::new(settings),
            stages: Arc::new(Stages::new()),
            make: Arc::new(make),
            runtime,
            actors: ArcSwap::default(),
            is_closed: Mutex::new(false),
        }
    }

    /// Takes over which partitions this broker leads, and shows newer metadata to the shards. Called by one caller at a
    /// time, after the broker's replicas were brought in line with `image`. May block.
    pub fn reconcile(&self, broker: &Broker<S>, image: &Arc<MetadataImage>) {
        let is_closed = self.is_closed.lock();
        if *is_closed {
            return;
        }
        let mut known = BTreeMap::clone(&self.actors.load());
        let mut actors = BTreeMap::new();
        for partition in broker.led_partitions(self.settings.topic) {
            let actor = match known.remove(&partition.id()) {
                Some(actor) if actor.serves(&partition) => {
                    actor.show(image);
                    actor
                }
                old => {
                    old.into_iter().for_each(|old| old.close());
                    self.start(partition, image)
                }
            };
            actors.insert(actor.partition.id(), actor);
        }
        self.actors.store(Arc::new(actors));
        for gone in known.into_values() {
            info!(partition = %gone.partition, "no longer coordinates");
            gone.close();
        }
    }

    fn start(&self, partition: LedPartition<S::Log>, image: &Arc<MetadataImage>) -> Arc<Actor<S::Log, M>> {
        let (settings, stages) = (Arc::clone(&self.settings), Arc::clone(&self.stages));
        let actor = Actor::new(partition, settings, stages, self.runtime.clone());
        actor.start(Arc::clone(&self.make), Arc::clone(image));
        actor
    }

    /// Takes a command to the shard of a partition, and answers once what the answer tells is committed.
    pub async fn submit(&self, partition: PartitionId, command: M::Command) -> Result<M::Reply, ErrorCode> {
        let actor = self.actors.load().get(&partition).cloned();
        actor.ok_or(ErrorCode::NotCoordinator)?.submit(command).await
    }

    /// What it is at.
    pub fn facts(&self) -> CoordinatorFacts {
        let mut facts = CoordinatorFacts::default();
        self.actors.load().values().for_each(|actor| actor.add_to(&mut facts));
        facts
    }

    /// How long its work took until now.
    pub fn stage_totals(&self) -> StageTotals {
        self.stages.totals()
    }

    /// Lets `look` see the shard of a partition, unless it is not loaded. Nothing of it is answered meanwhile: it should
    /// not take long.
    pub fn look_at<T>(&self, partition: PartitionId, look: impl FnOnce(&M) -> T) -> Option<T> {
        let actor = self.actors.load().get(&partition).cloned();
        actor?.look_at(look)
    }

    /// The partitions whose shards are here, loaded or not.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.actors.load().keys().copied().collect()
    }

    /// Lets go of all shards, for good: what waits is told to look for another coordinator. May block.
    pub fn close(&self) {
        *self.is_closed.lock() = true;
        for actor in self.actors.swap(Arc::default()).values() {
            actor.close();
        }
    }
}

#[cfg(test)]
mod tests;
