//! Whether a log directory can be trusted: its first failed write, fsync or read takes it offline for good.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use ottla_domain::ports::outbound::StorageError;

/// A write that takes longer than this moves the directory's appends off the async workers.
const SLOW_WRITE: Duration = Duration::from_millis(5);
/// Where the times of writes under way count from.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The health of one log directory, shared by all who do I/O in it.
#[derive(Debug)]
pub(crate) struct Health {
    directory: Arc<str>,
    failure: OnceLock<Arc<str>>,
    /// The last write that ended was slow.
    slow: AtomicBool,
    /// Writes under way.
    writes: AtomicUsize,
    /// When a write began or ended last that left one under way, in microseconds.
    writing_since_us: AtomicU64,
}

/// A write into the page cache under way.
pub(crate) struct Write<'a> {
    health: &'a Health,
    begun: Instant,
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        let health = self.health;
        let slow = self.begun.elapsed() > SLOW_WRITE;
        if health.slow.load(Ordering::Relaxed) != slow {
            health.slow.store(slow, Ordering::Relaxed);
        }
        if health.writes.fetch_sub(1, Ordering::Relaxed) > 1 {
            health.writing_since_us.store(now_us(), Ordering::Relaxed);
        }
    }
}

fn now_us() -> u64 {
    BEGIN.elapsed().as_micros() as u64
}

impl Health {
    pub(crate) fn new(directory: &Path) -> Health {
        Health {
            directory: directory.to_string_lossy().into(),
            failure: OnceLock::new(),
            slow: AtomicBool::new(false),
            writes: AtomicUsize::new(0),
            writing_since_us: AtomicU64::new(0),
        }
    }

    /// The directory's path as configured.
    pub(crate) fn directory(&self) -> &Arc<str> {
        &self.directory
    }

    /// The first failure.
    pub(crate) fn failure(&self) -> Option<&Arc<str>> {
        self.failure.get()
    }

    /// Refuses work in a directory that failed before.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.failure.get().map_or(Ok(()), |reason| Err(self.offline(reason)))
    }

    /// Takes the directory offline, if this is its first failure, and says so.
    pub(crate) fn fail(&self, doing: impl fmt::Display, error: impl fmt::Display) -> StorageError {
        let reason = self.failure.get_or_init(|| {
            let reason = format!("{doing}: {error}");
            tracing::error!(directory = %self.directory, %reason, "log directory goes offline");
            reason.into()
        });
        self.offline(reason)
    }

    fn offline(&self, reason: &Arc<str>) -> StorageError {
        StorageError::Offline {
            directory: Arc::clone(&self.directory),
            reason: Arc::clone(reason),
        }
    }

    /// Takes note of how long a write into the page cache takes, until the result is dropped.
    pub(crate) fn write(&self) -> Write<'_> {
        if self.writes.fetch_add(1, Ordering::Relaxed) == 0 {
            self.writing_since_us.store(now_us(), Ordering::Relaxed);
        }
        Write {
            health: self,
            begun: Instant::now(),
        }
    }

    /// True when the last write was slow, or one is under way that is.
    pub(crate) fn is_slow(&self) -> bool {
        let is_stalled = || {
            let since_us = now_us().saturating_sub(self.writing_since_us.load(Ordering::Relaxed));
            u128::from(since_us) > SLOW_WRITE.as_micros()
        };
        self.slow.load(Ordering::Relaxed) || (self.writes.load(Ordering::Relaxed) > 0 && is_stalled())
    }
}

/// Turns failed I/O into an offline directory.
pub(crate) trait OrFail<T> {
    /// Takes the directory offline on an error; `doing` says what was tried.
    fn or_fail(self, health: &Health, doing: impl fmt::Display) -> Result<T, StorageError>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, health: &Health, doing: impl fmt::Display) -> Result<T, StorageError> {
        self.map_err(|error| health.fail(doing, error))
    }
}

/// What was tried with which file or folder, written out only when it failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doing<'a>(pub(crate) &'static str, pub(crate) &'a Path);

impl fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_does_not_end_is_slow() {
        let health = Health::new(Path::new("/data"));
        assert!(!health.is_slow());
        let quick = health.write();
        let stalled = health.write();
        drop(quick);
        std::thread::sleep(2 * SLOW_WRITE);
        assert!(health.is_slow());
        drop(stalled);
        assert!(health.is_slow(), "until one is quick again");
        drop(health.write());
        assert!(!health.is_slow());
    }
}
