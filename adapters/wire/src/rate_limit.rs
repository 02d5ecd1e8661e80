//! Keeps hostile or broken clients from filling the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lets so many events a second through and counts the others.
pub struct RateLimit {
    per_second: u64,
    /// The second, since the Unix epoch, of the last event.
    last: AtomicU64,
    /// How many there were in it.
    count: AtomicU64,
    withheld: AtomicU64,
}

impl RateLimit {
    /// Lets at most `max` events a second through.
    pub const fn per_second(max: u64) -> Self {
        RateLimit {
            per_second: max,
            last: AtomicU64::new(0),
            count: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
        }
    }

    /// `Some(number of events withheld since the last one)` when this one may be told.
    pub fn allow(&self) -> Option<u64> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |since| since.as_secs());
        // A thread that is late with its second only lets a few more through.
        if self.last.swap(now, Ordering::Relaxed) != now {
            self.count.store(0, Ordering::Relaxed);
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.per_second {
            self.withheld.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.withheld.swap(0, Ordering::Relaxed))
    }
}
