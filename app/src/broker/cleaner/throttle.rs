//! Bounds how fast the threads of the cleaner read and write together.

use std::time::{Duration, Instant};

/// How often the rate is looked at, as in Kafka.
const INTERVAL: Duration = Duration::from_millis(300);

/// Bytes since the current interval began.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    begun: Option<Instant>,
    bytes: u64,
}

impl Throttle {
    /// Counts what was read or written, and returns how long to wait so that no more than `bytes_per_second_max` are.
    pub(super) fn add(&mut self, bytes: u64, bytes_per_second_max: f64, now: Instant) -> Duration {
        self.bytes += bytes;
        let elapsed = now.duration_since(*self.begun.get_or_insert(now));
        // Not far above the rate within an interval, either.
        let wanted = Duration::try_from_secs_f64(self.bytes as f64 / bytes_per_second_max).unwrap_or(Duration::MAX);
        let wait = wanted.saturating_sub(elapsed);
        if elapsed < INTERVAL && wait < INTERVAL {
            return Duration::ZERO;
        }
        *self = Throttle {
            begun: Some(now + wait.min(Duration::from_secs(3600))),
            bytes: 0,
        };
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_for_their_time() {
        let begin = Instant::now();
        let mut throttle = Throttle::default();
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(throttle.add(100, 1000.0, at(0)), Duration::ZERO);
        assert_eq!(throttle.add(100, 1000.0, at(0)), Duration::ZERO);
        assert_eq!(throttle.add(100, 1000.0, at(0)), Duration::from_millis(300));
        // From when that wait is over.
        assert_eq!(throttle.add(1000, 1000.0, at(300)), Duration::from_secs(1));
        assert_eq!(throttle.add(100, 1000.0, at(2000)), Duration::ZERO);
        assert_eq!(throttle.add(u64::from(u32::MAX), f64::MAX, at(2001)), Duration::ZERO);
    }
}
