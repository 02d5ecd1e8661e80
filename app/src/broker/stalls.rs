//! Keeps disks that stall from holding up the workers of the runtime, which serve all others.
//!
//! Appends write into the page cache where they are, because that takes microseconds, unless it does not: a disk whose
//! caches are full, or that went away for a while, holds whoever writes to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tokio::time::MissedTickBehavior;

use super::Tools;

/// How long a worker waits for what another thread holds, which it usually does for microseconds.
const WORKER_PATIENCE: Duration = Duration::from_micros(500);
/// For so long a write that stalls may hold up others.
const AWAKE_INTERVAL: Duration = Duration::from_millis(20);
/// After so many intervals in which no write was seen, nobody looks until the next one begins.
const QUIET_INTERVALS: usize = 5;

/// Writes under way on workers: one worker at least is never in any.
#[derive(Debug)]
pub struct InlineWrites {
    count: AtomicUsize,
    max: usize,
    is_watched: AtomicBool,
    begun: Notify,
}

impl InlineWrites {
    /// For a runtime with so many workers.
    pub const fn among(workers: usize) -> InlineWrites {
        InlineWrites {
            count: AtomicUsize::new(0),
            max: workers.saturating_sub(1),
            is_watched: AtomicBool::new(false),
            begun: Notify::const_new(),
        }
    }

    /// Writes here; where too many workers do already, the work of this one goes to another thread meanwhile.
    pub(super) fn run<T>(&self, write: impl FnOnce() -> T) -> T {
        // In this order, and the other way round where the watch ends: one of both sees the other.
        let is_crowded = self.count.fetch_add(1, Ordering::SeqCst) >= self.max;
        let _under_way = UnderWay(&self.count);
        if !self.is_watched.load(Ordering::SeqCst) && !self.is_watched.swap(true, Ordering::SeqCst) {
            self.begun.notify_one();
        }
        if is_crowded { block_in_place(write) } else { write() }
    }

    /// Ends the watch; false when a write has begun meanwhile whose thread counts on it.
    fn stop_watching(&self) -> bool {
        self.is_watched.store(false, Ordering::SeqCst);
        self.count.load(Ordering::SeqCst) == 0 || self.is_watched.swap(true, Ordering::SeqCst)
    }
}

/// One write of those that are counted.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes a worker now and then while writes are under way: the one that writes may be the one that looked for what comes
/// from the network, and the others sleep until it tells them of work. Runs until the task is dropped; outside of the
/// runtime of these workers.
pub async fn keep_awake(tools: Arc<Tools>, workers: Handle) {
    let writes = &tools.inline_writes;
    let mut interval = tokio::time::interval(AWAKE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        writes.begun.notified().await;
        let mut quiet_intervals = 0;
        while quiet_intervals < QUIET_INTERVALS || !writes.stop_watching() {
            interval.tick().await;
            if writes.count.load(Ordering::SeqCst) > 0 {
                workers.spawn(std::future::ready(()));
                quiet_intervals = 0;
            } else {
                quiet_intervals += 1;
            }
        }
    }
}

/// Locks what may be held during a write; while that takes long, the work of a worker goes to another thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let soon = mutex.try_lock_for(WORKER_PATIENCE);
    soon.unwrap_or_else(|| block_in_place(|| mutex.lock()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Two workers: one writes to a disk that stalls, and so would the other.
    #[test]
    fn a_worker_is_left_for_others() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let writes = Arc::new(InlineWrites::among(2));
        let held = Arc::new(Mutex::new(()));
        let (release, stalled) = mpsc::channel::<()>();
        let stalled = Arc::new(Mutex::new(stalled));
        for _ in 0..3 {
            let (writes, stalled, held) = (Arc::clone(&writes), Arc::clone(&stalled), Arc::clone(&held));
            runtime.spawn(async move {
                writes.run(|| {
                    let _held = lock(&held);
                    stalled.lock().recv().ok()
                });
            });
        }
        let (done, is_done) = mpsc::channel();
        for _ in 0..3 {
            let done = done.clone();
            runtime.spawn(async move { done.send(()).unwrap() });
        }
        for _ in 0..3 {
            is_done.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        drop(release);
    }
}
