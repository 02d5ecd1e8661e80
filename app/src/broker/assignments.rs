//! Tells the controller in which directories this broker's replicas lie (KIP-858), which it has to know when one fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{BrokerEpoch, BrokerId, DirectoryId, PartitionId, TopicId};
use ottla_domain::metadata::controller::brokers::AssignReplicasToDirs;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::inbound::ControllerApi;
use ottla_domain::ports::outbound::LogStore;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{debug, error};

use super::Broker;
use crate::lifecycle::{BrokerState, Failures};

/// As many as Kafka's brokers send at once.
const ASSIGNMENTS_PER_REQUEST: usize = 2250;
/// Waited before each request, so that a change of many replicas is one of them.
const GATHERING: Duration = Duration::from_millis(100);
/// The longest wait after requests that failed.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Assignments that the controller has not confirmed, at most one a replica.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    waiting: Mutex<BTreeMap<(TopicId, PartitionId), DirectoryId>>,
    changed: Notify,
}

type Assignment = (DirectoryId, TopicId, PartitionId);

impl Assignments {
    /// The replica lies in this directory, which the metadata does not say yet.
    pub(super) fn add(&self, topic_id: TopicId, partition: PartitionId, directory: DirectoryId) {
        self.waiting.lock().insert((topic_id, partition), directory);
        self.changed.notify_one();
    }

    /// Takes out what goes into one request. Replicas that this broker no longer has are forgotten.
    fn take(&self, broker: BrokerId, image: &MetadataImage) -> Vec<Assignment> {
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        while taken.len() < ASSIGNMENTS_PER_REQUEST
            && let Some(((topic_id, partition), directory)) = waiting.pop_first()
        {
            let known = image
                .topics
                .by_id(topic_id)
                .and_then(|topic| topic.partition(partition));
            if known.is_some_and(|known| known.replicas.contains(&broker.0)) {
                taken.push((directory, topic_id, partition));
            }
        }
        taken
    }

    /// Puts back what failed, unless something newer came meanwhile.
    fn put_back(&self, failed: impl IntoIterator<Item = Assignment>) {
        let mut waiting = self.waiting.lock();
        for (directory, topic_id, partition) in failed {
            waiting.entry((topic_id, partition)).or_insert(directory);
        }
    }

    fn count(&self) -> usize {
        self.waiting.lock().len()
    }
}

impl<S: LogStore> Broker<S> {
    /// How many replicas wait for the controller to take note of their directories.
    pub fn queued_assignments(&self) -> usize {
        self.assignments.count()
    }

    /// Sends assignments as they come up, again and again until the controller takes them. Runs until the task is dropped.
    pub async fn assign_directories<C: ControllerApi>(
        self: Arc<Self>,
        controller: C,
        state: watch::Receiver<BrokerState>,
        timeout_ms: i32,
    ) {
        let mut pause = GATHERING;
        let mut failures = Failures::default();
        loop {
            if self.assignments.count() == 0 {
                self.assignments.changed.notified().await;
            }
            tokio::time::sleep(pause).await;
            let epoch = state.borrow().epoch();
            match self.send_assignments(&controller, epoch, timeout_ms).await {
                Ok(()) => {
                    pause = GATHERING;
                    failures.end();
                }
                Err(error) => {
                    pause = (pause * 2).min(BACKOFF_MAX);
                    if failures.is_news(&error) {
                        error!(%error, "assigning replicas to directories failed; trying again until it is answered");
                    } else {
                        debug!(%error, "assigning replicas to directories failed");
                    }
                }
            }
        }
    }

    async fn send_assignments<C: ControllerApi>(
        &self,
        controller: &C,
        broker_epoch: BrokerEpoch,
        timeout_ms: i32,
    ) -> Result<(), ApiError> {
        let assignments = self.assignments.take(self.id, &self.image());
        if assignments.is_empty() {
            return Ok(());
        }
        let command = AssignReplicasToDirs {
            broker: self.id,
            broker_epoch,
            assignments: assignments.clone(),
        };
        match controller.submit(command, timeout_ms).await {
            Ok(codes) => {
                let failed = assignments
                    .into_iter()
                    .zip(codes)
                    .filter(|(_, code)| *code != ErrorCode::None);
                self.assignments.put_back(failed.map(|(assignment, code)| {
                    debug!(?assignment, %code, "the controller did not take a directory assignment; trying again");
                    assignment
                }));
                Ok(())
            }
            Err(error) => {
                self.assignments.put_back(assignments);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_failed_is_sent_again_unless_something_newer_came() {
        let assignments = Assignments::default();
        let directory = |number| DirectoryId(Uuid::from_u128(number));
        let topic_id = TopicId(Uuid::from_u128(7));
        assignments.add(topic_id, PartitionId(1), directory(200));
        assignments.put_back([
            (directory(100), topic_id, PartitionId(0)),
            (directory(100), topic_id, PartitionId(1)),
        ]);
        let expected = BTreeMap::from([
            ((topic_id, PartitionId(0)), directory(100)),
            ((topic_id, PartitionId(1)), directory(200)),
        ]);
        assert_eq!(*assignments.waiting.lock(), expected);
        // Replicas that are gone from the metadata are forgotten.
        assert_eq!(assignments.take(BrokerId(1), &MetadataImage::default()), []);
        assert_eq!(assignments.count(), 0);
    }
}
