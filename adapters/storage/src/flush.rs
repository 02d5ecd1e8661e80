//! What makes logs durable: at most one fdatasync of a log at a time, which serves all who wait, and a thread that flushes
//! segments once they are rolled.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use ottla_domain::ids::Offset;
use ottla_domain::ports::outbound::StorageError;
use parking_lot::{Condvar, Mutex};

use crate::health::Health;
use crate::log::Log;

/// The offset below which a log is on disk.
#[derive(Debug)]
pub(crate) struct SyncPoint {
    synced: AtomicI64,
    /// True while someone works on it.
    taken: Mutex<bool>,
    free: Condvar,
}

impl SyncPoint {
    pub(crate) fn new(synced: Offset) -> SyncPoint {
        SyncPoint {
            synced: AtomicI64::new(synced.0),
            taken: Mutex::new(false),
            free: Condvar::new(),
        }
    }

    /// The offset below which everything is on disk.
    pub(crate) fn get(&self) -> Offset {
        Offset(self.synced.load(Ordering::Acquire))
    }

    /// Returns once everything below `target` is on disk. One caller at a time runs `flush`, which takes the offset that is
    /// synced already and returns how far it came; whoever comes meanwhile waits for it.
    pub(crate) fn reach(
        &self,
        target: Offset,
        flush: impl FnOnce(Offset) -> Result<Offset, StorageError>,
    ) -> Result<Offset, StorageError> {
        let mut taken = self.taken.lock();
        while *taken && self.get() < target {
            self.free.wait(&mut taken);
        }
        if self.get() >= target {
            return Ok(self.get());
        }
        *taken = true;
        drop(taken);
        let from = self.get();
        let reached = flush(from);
        if let Ok(reached) = reached {
            self.synced.store(reached.max(from).0, Ordering::Release);
        }
        self.release();
        reached.map(|reached| reached.max(from))
    }

    /// Keeps all others away while the log is cut or its recovery point moves; `change` takes what is on disk before and
    /// returns what is after.
    pub(crate) fn exclusively(
        &self,
        change: impl FnOnce(Offset) -> Result<Offset, StorageError>,
    ) -> Result<(), StorageError> {
        let mut taken = self.taken.lock();
        while *taken {
            self.free.wait(&mut taken);
        }
        *taken = true;
        drop(taken);
        let changed = change(self.get()).map(|synced| self.synced.store(synced.0, Ordering::Release));
        self.release();
        changed
    }

    fn release(&self) {
        *self.taken.lock() = false;
        self.free.notify_all();
    }
}

/// The thread that flushes rolled segments of one directory.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    wake: Condvar,
}

#[derive(Default)]
struct Jobs {
    /// Each log at most once.
    logs: Vec<Weak<Log>>,
    stop: bool,
}

impl Flusher {
    pub(crate) fn start(health: &Health) -> Flusher {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log-flush".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || for_thread.run())
            .map_err(|error| health.fail("starting a thread", error))
            .ok();
        Flusher {
            shared,
            thread: Mutex::new(thread),
        }
    }

    /// Flushes the rolled segments of a log, soon.
    pub(crate) fn add(&self, log: Weak<Log>) {
        self.shared.jobs.lock().logs.push(log);
        self.shared.wake.notify_one();
    }

    /// Ends the thread; what it was told of stays unflushed.
    pub(crate) fn stop(&self) {
        self.shared.jobs.lock().stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A thread that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let logs = {
                let mut jobs = self.jobs.lock();
                while jobs.logs.is_empty() && !jobs.stop {
                    self.wake.wait(&mut jobs);
                }
                if jobs.stop {
                    return;
                }
                std::mem::take(&mut jobs.logs)
            };
            for log in logs.iter().filter_map(Weak::upgrade) {
                // A failure took the directory offline, which all others see.
                let _ = log.flush_rolled();
            }
        }
    }
}
