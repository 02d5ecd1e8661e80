//! Whether a log directory can be trusted: its first failed write, fsync or read takes it offline for good.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ottla_domain::ports::outbound::StorageError;

/// A write that takes longer than this moves the directory's appends off the async workers.
const SLOW_WRITE: Duration = Duration::from_millis(5);

/// The health of one log directory, shared by all who do I/O in it.
#[derive(Debug)]
pub(crate) struct Health {
    directory: Arc<str>,
    failure: OnceLock<Arc<str>>,
    slow: AtomicBool,
}

impl Health {
    pub(crate) fn new(directory: &Path) -> Health {
        Health {
            directory: directory.to_string_lossy().into(),
            failure: OnceLock::new(),
            slow: AtomicBool::new(false),
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

    /// Takes note of how long a write into the page cache took.
    pub(crate) fn wrote_in(&self, elapsed: Duration) {
        let slow = elapsed > SLOW_WRITE;
        if self.slow.load(Ordering::Relaxed) != slow {
            self.slow.store(slow, Ordering::Relaxed);
        }
    }

    /// True when the last write was slow.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
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
