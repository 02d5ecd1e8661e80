//! Averages over the recent past of what is only ever counted up.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Averages are over at least that long, as between two scrapes at most.
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
        let note = (Instant::now(), totals);
        Recent(Mutex::new(Notes {
            before_last: note.clone(),
            last: note,
        }))
    }

    /// Earlier totals, and how long ago they were taken.
    pub(super) fn exchange(&self, totals: T) -> (T, Duration) {
        let notes = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, earlier) = notes.before_last.clone();
        if notes.last.0.elapsed() >= WINDOW {
            let last = std::mem::replace(&mut notes.last, (Instant::now(), totals));
            notes.before_last = last;
        }
        (earlier, taken.elapsed())
    }
}

/// How much a total grew a second.
pub(super) fn rate(earlier: u64, now: u64, time: Duration) -> f64 {
    now.saturating_sub(earlier) as f64 / time.as_secs_f64()
}
