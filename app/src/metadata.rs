//! From the metadata log to what this node knows: images for requests, replicas for the broker, commits for the
//! controller.

use std::sync::Arc;

use metrics::{Counter, counter};
use ottla_domain::ids::{BrokerId, LeaderEpoch};
use ottla_domain::metadata::image::{ApplyError, MetadataImage, Provenance};
use ottla_domain::metadata::loader::ImageLoader;
use ottla_domain::metadata::records::MetadataRecord;
use ottla_domain::metadata::topics::RECOVERING;
use ottla_domain::ports::outbound::{LogStore, MetadataEvent, MetadataLog};
use tokio::sync::{mpsc, watch};
use tracing::error;

use crate::broker::Broker;
use crate::controller::ControllerHandle;

/// Who leads the metadata quorum, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumLeader {
    /// The quorum's epoch.
    pub epoch: LeaderEpoch,
    /// Who leads, if anyone.
    pub leader: Option<BrokerId>,
}

/// Where [`Pump`] delivers.
pub struct Listeners<S: LogStore> {
    /// Requests read its image.
    pub broker: Arc<Broker<S>>,
    /// Waits for commits.
    pub controller: ControllerHandle,
    /// The newest image, for whoever follows it.
    pub images: watch::Sender<Arc<MetadataImage>>,
    /// The quorum's leader.
    pub leader: watch::Sender<QuorumLeader>,
}

/// Follows the metadata log.
pub struct Pump<S: LogStore, M> {
    me: BrokerId,
    loader: ImageLoader,
    listeners: Listeners<S>,
    log: Arc<M>,
    /// This node's controller is active.
    leads: bool,
    unclean_elections: Counter,
}

impl<S: LogStore, M: MetadataLog> Pump<S, M> {
    /// Begins with nothing known. `me` is this node.
    pub fn new(me: BrokerId, listeners: Listeners<S>, log: Arc<M>) -> Self {
        Pump {
            me,
            loader: ImageLoader::default(),
            listeners,
            log,
            leads: false,
            unclean_elections: counter!("kafka_controller_controllerstats_uncleanleaderelections_total"),
        }
    }

    /// Runs until the metadata log is closed. An error means that this node cannot understand the cluster's metadata and
    /// has to stop.
    pub async fn run(mut self, mut events: mpsc::Receiver<MetadataEvent>) -> Result<(), ApplyError> {
        while let Some(event) = events.recv().await {
            match event {
                MetadataEvent::Snapshot {
                    end_offset,
                    epoch,
                    timestamp,
                    records,
                } => {
                    self.loader = ImageLoader::default();
                    let offset = end_offset.plus(-1);
                    self.apply(
                        &records,
                        Provenance {
                            offset,
                            epoch,
                            timestamp,
                        },
                    )
                    .await?;
                }
                MetadataEvent::Committed {
                    last_offset,
                    epoch,
                    timestamp,
                    records,
                } => {
                    self.apply(
                        &records,
                        Provenance {
                            offset: last_offset,
                            epoch,
                            timestamp,
                        },
                    )
                    .await?;
                }
                MetadataEvent::SnapshotDue => self.snapshot(),
                MetadataEvent::Leader {
                    epoch,
                    leader,
                    next_offset,
                } => {
                    self.listeners.leader.send_replace(QuorumLeader { epoch, leader });
                    self.leads = leader == Some(self.me);
                    if self.leads {
                        self.listeners
                            .controller
                            .lead(epoch, self.loader.clone(), next_offset)
                            .await;
                    } else {
                        self.listeners.controller.follow().await;
                    }
                }
            }
        }
        Ok(())
    }

    fn snapshot(&self) {
        let image = self.loader.image();
        let Provenance {
            offset,
            epoch,
            timestamp,
        } = image.provenance;
        self.log
            .snapshot(offset, epoch, timestamp, image.to_records().collect());
    }

    async fn apply(&mut self, records: &[MetadataRecord], provenance: Provenance) -> Result<(), ApplyError> {
        if self.leads {
            self.unclean_elections.increment(count_unclean_elections(records));
        }
        self.loader.apply_batch(records, provenance)?;
        let image = Arc::new(self.loader.image().clone());
        // Requests see a change before whoever asked for it hears of it.
        self.listeners.broker.publish(Arc::clone(&image));
        self.listeners.images.send_replace(image);
        self.listeners.controller.committed(provenance.offset).await;
        Ok(())
    }
}

/// How many leaders the records elect that may lack what was acknowledged: Kafka counts those that have to recover. An
/// eligible leader outside of the ISR lacks nothing (KIP-966).
fn count_unclean_elections(records: &[MetadataRecord]) -> u64 {
    let is_unclean = |record: &&MetadataRecord| match record {
        MetadataRecord::PartitionChange(change) => change.leader_recovery_state == RECOVERING,
        _ => false,
    };
    records.iter().filter(is_unclean).count() as u64
}

/// Brings the broker's replicas in line with every newer image, one after the other, and then what runs on them, until the
/// sender is gone.
pub async fn reconcile<S: LogStore>(
    broker: Arc<Broker<S>>,
    coordinators: impl Fn(&Arc<MetadataImage>) + Send + Sync + 'static,
    mut known: Arc<MetadataImage>,
    mut images: watch::Receiver<Arc<MetadataImage>>,
) {
    let coordinators = Arc::new(coordinators);
    loop {
        let newest = Arc::clone(&images.borrow_and_update());
        let task = {
            let (broker, known, newest) = (Arc::clone(&broker), Arc::clone(&known), Arc::clone(&newest));
            let coordinators = Arc::clone(&coordinators);
            move || {
                broker.reconcile(&known, &newest);
                coordinators(&newest);
            }
        };
        match tokio::task::spawn_blocking(task).await {
            Ok(()) => known = newest,
            Err(error) => error!(%error, "taking over new metadata failed"),
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_domain::metadata::records::PartitionChangeRecord;
    use ottla_domain::metadata::topics::{NO_RECOVERY_CHANGE, RECOVERED};

    use super::*;

    #[test]
    fn an_election_is_unclean_when_the_leader_has_to_recover() {
        let change = |leader_recovery_state| {
            MetadataRecord::PartitionChange(PartitionChangeRecord {
                leader: 3,
                leader_recovery_state,
                ..PartitionChangeRecord::default()
            })
        };
        let records = [RECOVERING, NO_RECOVERY_CHANGE, RECOVERED, RECOVERING].map(change);
        assert_eq!(count_unclean_elections(&records), 2);
    }
}
