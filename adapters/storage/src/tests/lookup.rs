//! The index keeps searches short: after a cold start they read at most `index.interval.bytes` and a batch.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::*;

/// The largest value that the histogram of scanned bytes has seen.
#[derive(Clone, Default)]
struct LargestScan(Arc<AtomicU64>);

impl HistogramFn for LargestScan {
    fn record(&self, value: f64) {
        self.0.fetch_max(value as u64, Ordering::Relaxed);
    }
}

impl Recorder for LargestScan {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match key.name() {
            "ottla_log_index_lookup_scanned_bytes" => Histogram::from_arc(Arc::new(self.clone())),
            _ => Histogram::noop(),
        }
    }
}

#[test]
fn cold_lookups_read_an_interval_and_a_batch_also_with_a_rebuilt_index() {
    let config = LogConfig {
        segment_bytes: 100_000,
        index_interval_bytes: 1000,
        ..LogConfig::default()
    };
    let mut fixture = Fixture::new(config.clone());
    let mut largest_batch = 0;
    for number in 0..2000 {
        // Timestamps that jump back and forth, with an outlier that the running maximum hides behind.
        let timestamp = if number == 300 {
            10_000
        } else {
            number + 50 * (number % 2)
        };
        let size = if number % 10 == 0 { 700 } else { 20 };
        let batch = fixture.append(&[(timestamp, &values(size))], 0);
        largest_batch = largest_batch.max(batch.bytes().len());
    }
    assert!(fixture.log.segments().len() > 1);
    for (cleanly, without_index) in [(true, false), (false, false), (true, true)] {
        if cleanly {
            fixture.stop_cleanly();
        }
        let stopped = fixture.stop();
        if without_index {
            std::fs::remove_dir_all(stopped.0.path().join("data0/.ottla")).unwrap();
        }
        fixture = Fixture::start(stopped);
        let scans = LargestScan::default();
        metrics::with_local_recorder(&scans, || {
            for offset in (0..1999).step_by(7) {
                let first = &batches(fixture.log.load(&read(&fixture.log, offset, offset + 1, 1)).unwrap())[0];
                assert_eq!(first.header.base_offset, Offset(offset));
            }
            for timestamp in (0..2000).step_by(7) {
                let found = fixture
                    .log
                    .find_by_timestamp(Timestamp(timestamp), Offset(2000))
                    .unwrap();
                assert!(found.is_some());
            }
            let found = fixture.log.find_largest_timestamp(Offset(2000)).unwrap().unwrap();
            assert_eq!(batches(found)[0].header.base_offset, Offset(300));
        });
        let scanned = scans.0.load(Ordering::Relaxed) as usize;
        assert!(scanned > 0);
        let limit = config.index_interval_bytes as usize + largest_batch;
        assert!(scanned <= limit, "{scanned} bytes were read, {limit} are allowed");
    }
}

#[test]
fn the_index_forgets_what_was_cut() {
    let mut fixture = Fixture::new(LogConfig {
        index_interval_bytes: 100,
        ..LogConfig::default()
    });
    for number in 0..100 {
        fixture.append(&[(number, &values(100))], 0);
    }
    let mut fixture = fixture.restart();
    fixture.log.truncate(Offset(50), &mut fixture.state).unwrap();
    // The same offsets at the same positions, at other times.
    for number in 50..100 {
        fixture.append(&[(1000 - number, &values(100))], 0);
    }
    let fixture = fixture.restart();
    for (timestamp, offset) in [(40, 40), (60, 50), (950, 50), (951, -1)] {
        let found = fixture
            .log
            .find_by_timestamp(Timestamp(timestamp), Offset(100))
            .unwrap();
        let found = found.map_or(-1, |bytes| batches(bytes)[0].header.base_offset.0);
        assert_eq!(found, offset, "at {timestamp}");
    }
}

#[test]
fn reads_near_the_end_need_no_index() {
    let mut fixture = Fixture::new(LogConfig::default());
    for number in 0..1000 {
        fixture.append(&[(number, &values(1000))], 0);
    }
    assert!(fixture.log.is_resident(Offset(1000)));
    assert!(fixture.log.is_resident(Offset(900)));
    let fixture = fixture.restart();
    assert!(fixture.log.is_resident(Offset(1000)));
    assert!(!fixture.log.is_resident(Offset(900)));
}
