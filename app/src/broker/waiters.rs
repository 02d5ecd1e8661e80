//! Who waits for a partition: long polls for records, produces for their replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use ottla_domain::ports::outbound::PartitionLog;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::partition::Partition;

/// The waiters of one partition. Waking costs a fence and an atomic load while nobody waits.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    count: AtomicUsize,
    list: Mutex<Vec<Arc<Notify>>>,
}

impl Waiters {
    /// From now on `waiter` is woken by every change, once for any number of changes until it looks.
    pub(super) fn add(&self, waiter: &Arc<Notify>) {
        let mut list = self.list.lock();
        list.push(Arc::clone(waiter));
        self.count.store(list.len(), Ordering::Relaxed);
        // Either the waiter sees the change when it looks, or whoever changed sees the waiter in `wake`.
        fence(Ordering::SeqCst);
    }

    /// Forgets a waiter.
    pub(super) fn remove(&self, waiter: &Arc<Notify>) {
        let mut list = self.list.lock();
        if let Some(place) = list.iter().position(|known| Arc::ptr_eq(known, waiter)) {
            list.swap_remove(place);
        }
        self.count.store(list.len(), Ordering::Relaxed);
    }

    /// Wakes all. Called after the change is visible: a waiter adds itself first and looks then, so none is missed.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) > 0 {
            self.list.lock().iter().for_each(|waiter| waiter.notify_one());
        }
    }
}

/// Membership among the waiters of some partitions, given up when dropped.
pub(super) struct Watch<L: PartitionLog> {
    notify: Arc<Notify>,
    partitions: Vec<Arc<Partition<L>>>,
}

impl<L: PartitionLog> Watch<L> {
    /// Joins. Look at the partitions after this, not before.
    pub(super) fn new(partitions: Vec<Arc<Partition<L>>>) -> Self {
        let notify = Arc::new(Notify::new());
        partitions.iter().for_each(|partition| partition.waiters.add(&notify));
        Watch { notify, partitions }
    }

    /// Waits for a change since the last call; false when the deadline passed before.
    pub(super) async fn changed(&self, deadline: Instant) -> bool {
        tokio::time::timeout_at(deadline, self.notify.notified()).await.is_ok()
    }
}

impl<L: PartitionLog> Drop for Watch<L> {
    fn drop(&mut self) {
        self.partitions
            .iter()
            .for_each(|partition| partition.waiters.remove(&self.notify));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_between_adding_and_waiting_is_not_missed() {
        let waiters = Waiters::default();
        let waiter = Arc::new(Notify::new());
        waiters.add(&waiter);
        waiters.wake();
        waiter.notified().await;
        waiters.remove(&waiter);
        assert_eq!(Arc::strong_count(&waiter), 1);
        waiters.wake();
    }
}
