//! Histograms of fixed size whose buckets widen with the values.
//!
//! Recorders that keep samples take more CPU than all else that is counted of a request. Here a value costs two
//! additions that no other thread waits for where a histogram has one writer at a time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Each power of two is cut into eight buckets: the middle of one is at most a sixteenth off any value in it.
const CUT_BITS: u32 = 3;
/// Values are told apart up to here: a minute in nanoseconds, or more bytes than any request has.
const VALUE_BITS: u32 = 36;
const BUCKETS: usize = ((VALUE_BITS - CUT_BITS + 1) << CUT_BITS) as usize;

fn bucket(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(CUT_BITS + 1);
    // The bits below the leading one are in both terms, so the first of them counts from one.
    ((u64::from(shift) << CUT_BITS) + (value >> shift)) as usize
}

/// The middle of a bucket.
fn middle(bucket: usize) -> f64 {
    let shift = (bucket >> CUT_BITS).saturating_sub(1);
    let first = (bucket - (shift << CUT_BITS)) << shift;
    first as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

/// How often values were recorded; read by any thread.
pub struct Histogram {
    sum: AtomicU64,
    buckets: [AtomicU32; BUCKETS],
}

impl Histogram {
    /// Without values.
    #[allow(
        clippy::new_without_default,
        reason = "it is large: nobody should make one by the way"
    )]
    pub const fn new() -> Self {
        Histogram {
            sum: AtomicU64::new(0),
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }

    /// Records a value. To be called by one thread at a time.
    pub fn record(&self, value: u64) {
        let sum = self.sum.load(Ordering::Relaxed);
        self.sum.store(sum.wrapping_add(value), Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(bucket(value)) {
            let count = bucket.load(Ordering::Relaxed);
            bucket.store(count.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Records a value, as other threads may do now.
    pub fn record_beside_others(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(bucket(value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What histograms held at one moment.
pub struct Totals {
    /// The sum of all values.
    pub sum: u64,
    buckets: Box<[u32; BUCKETS]>,
}

impl Totals {
    /// Of no histogram.
    #[allow(clippy::new_without_default, reason = "as for histograms")]
    pub fn new() -> Self {
        Totals {
            sum: 0,
            buckets: Box::new([0; BUCKETS]),
        }
    }

    /// Adds what a histogram holds now.
    pub fn add(&mut self, histogram: &Histogram) {
        self.sum = self.sum.wrapping_add(histogram.sum.load(Ordering::Relaxed));
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total = total.wrapping_add(bucket.load(Ordering::Relaxed));
        }
    }

    /// The values below which these shares of all that was recorded since `before` lie; zeros when nothing was.
    pub fn quantiles<const N: usize>(&self, before: Option<&Totals>, quantiles: [f64; N]) -> [f64; N] {
        let counts = || {
            let before = before.map(|before| before.buckets.iter()).into_iter().flatten();
            let before = before.copied().chain(std::iter::repeat(0));
            let counts = self.buckets.iter().zip(before);
            counts.map(|(now, before)| u64::from(now.wrapping_sub(before)))
        };
        let total = counts().sum::<u64>() as f64;
        quantiles.map(|quantile| {
            let mut left = (total * quantile).ceil();
            let reached = counts().position(|count| {
                left -= count as f64;
                count > 0 && left <= 0.0
            });
            reached.map_or(0.0, middle)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bucket_follows_on_the_one_before() {
        let mut last = 0;
        for value in 0..100_000 {
            assert!((last..=last + 1).contains(&bucket(value)), "{value}");
            last = bucket(value);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn a_bucket_is_close_to_its_values(value in 0..1_u64 << VALUE_BITS) {
            let off = (middle(bucket(value)) - value as f64).abs();
            prop_assert!(off <= value as f64 / 16.0, "{value}: {off}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_time_since() {
        let histogram = Histogram::new();
        let totals = || {
            let mut totals = Totals::new();
            totals.add(&histogram);
            totals
        };
        (0..100).for_each(|_| histogram.record(1_000_000));
        let before = totals();
        (1..=1000).for_each(|value| histogram.record(value));
        let now = totals();
        assert_eq!(now.sum, 100_000_000 + 500_500);
        for (found, wanted) in now
            .quantiles(Some(&before), [0.5, 0.99])
            .into_iter()
            .zip([500.0, 990.0])
        {
            assert!((found - wanted).abs() <= wanted / 16.0, "{found} for {wanted}");
        }
        let [of_all] = now.quantiles(None, [0.95]);
        assert!(of_all > 900_000.0, "{of_all}");
        assert_eq!(now.quantiles(Some(&now), [0.5]), [0.0], "nothing since");
    }
}
