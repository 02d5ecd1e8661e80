//! Keeps hostile or broken clients from filling the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lets one event a second through and counts the others.
pub(crate) struct RateLimit {
    /// The second, since the Unix epoch, of the last event that was let through.
    last: AtomicU64,
    withheld: AtomicU64,
}

impl RateLimit {
    pub(crate) const fn per_second() -> Self {
        RateLimit {
            last: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
        }
    }

    /// `Some(number of events withheld since the last one)` when this one may be told.
    pub(crate) fn allow(&self) -> Option<u64> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |since| since.as_secs());
        if self.last.swap(now, Ordering::Relaxed) == now {
            self.withheld.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.withheld.swap(0, Ordering::Relaxed))
    }
}
