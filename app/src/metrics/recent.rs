//! Averages over the recent past of what is only ever counted up.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Averages are over at least that long, however many scrape, and twice that at most while they do so often; over less
/// only in the beginning.
const WINDOW: Duration = Duration::from_secs(30);

/// Totals of a while ago.
pub(super) struct Recent<T>(Mutex<Notes<T>>);

struct Notes<T> {
    before_last: (Instant, T),
    last: (Instant, T),
}

impl<T: Clone> Recent<T> {
    /// Begins with these totals.
    pub(super) fn new(totals: T) -> Self {
        Recent::begun(Instant::now(), totals)
    }

    fn begun(now: Instant, totals: T) -> Self {
        Recent(Mutex::new(Notes {
            before_last: (now, totals.clone()),
            last: (now, totals),
        }))
    }

    /// Earlier totals, and how long ago they were taken; those of now are for later.
    pub(super) fn exchange(&self, totals: T) -> (T, Duration) {
        self.exchange_at(Instant::now(), totals)
    }

    fn exchange_at(&self, now: Instant, totals: T) -> (T, Duration) {
        let notes = &mut *self.0.lock();
        let (taken, earlier) = notes.before_last.clone();
        if now.duration_since(notes.last.0) >= WINDOW {
            notes.before_last = std::mem::replace(&mut notes.last, (now, totals));
        }
        (earlier, now.duration_since(taken))
    }
}

/// How much a total grew a second.
pub(super) fn rate(earlier: u64, now: u64, time: Duration) -> f64 {
    now.saturating_sub(earlier) as f64 / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_compared_with_those_of_at_least_a_window_ago() {
        let start = Instant::now();
        let recent = Recent::begun(start, 0);
        let exchange = |seconds| {
            let now = start + Duration::from_secs(seconds);
            let (earlier, time) = recent.exchange_at(now, seconds);
            assert_eq!(time.as_secs(), seconds - earlier);
            earlier
        };
        // Scraped often, ...
        let earlier = [1, 29, 31, 40, 61, 62, 91, 92].map(exchange);
        assert_eq!(earlier, [0, 0, 0, 0, 0, 31, 31, 61]);
        // ... and seldom.
        assert_eq!([300, 600, 900].map(exchange), [61, 91, 300]);
    }
}
