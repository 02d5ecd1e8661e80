//! Appending, reading, rolling and coming back after a stop.

use std::sync::atomic::{AtomicBool, Ordering};

use ottla_domain::ids::Mono;

use super::*;

#[test]
fn what_was_appended_is_read_also_after_a_restart() {
    for cleanly in [true, false] {
        let mut fixture = Fixture::new(small());
        let appended: Vec<_> = (0..50)
            .map(|number| fixture.append(&[(number, "first"), (number + 1, &values(number as usize))], 3))
            .collect();
        assert!(fixture.log.segments().len() > 2);
        assert_eq!(fixture.read_from(0), appended);
        if cleanly {
            fixture.stop_cleanly();
        }
        let state = fixture.state.clone();
        let mut fixture = fixture.restart();
        assert_eq!(fixture.log.log_end_offset(), Offset(100));
        assert_eq!(fixture.state.epochs, state.epochs);
        assert_eq!(fixture.state.producers, state.producers);
        assert_eq!(fixture.read_from(0), appended);
        assert_eq!(fixture.read_from(41), appended[20..]);

        let more = fixture.append(&[(9, "more")], 4);
        let fixture = fixture.restart();
        assert_eq!(fixture.read_from(100), [more]);
    }
}

#[test]
fn a_read_keeps_to_its_limits() {
    let mut fixture = Fixture::new(small());
    let appended: Vec<_> = (0..4).map(|_| fixture.append(&[(1, "a"), (1, "b")], 0)).collect();
    let size = appended[0].bytes().len();
    let log = &fixture.log;
    let load = |slice: RecordSlice<_>| batches(log.load(&slice).unwrap());

    assert_eq!(load(read(log, 0, 8, size * 2)), appended[..2]);
    assert_eq!(load(read(log, 1, 8, size * 2 + 1)), appended[..2]);
    assert_eq!(load(read(log, 2, 5, usize::MAX)), appended[1..2]);
    assert_eq!(load(read(log, 2, 8, 1)), appended[1..2]);
    assert_eq!(log.read(Offset(2), Offset(8), size - 1, false).unwrap().size_bytes(), 0);
    assert_eq!(read(log, 8, 8, 100).size_bytes(), 0);
    for offset in [-1, 9] {
        let error = log.read(Offset(offset), Offset(8), 100, true).unwrap_err();
        assert!(matches!(error, StorageError::OutOfRange { .. }), "{error}");
    }
}

#[test]
fn readers_see_whole_batches_while_the_log_rolls_and_loses_its_head() {
    let fixture = Fixture::new(small());
    let (log, store, mut state) = (Arc::clone(&fixture.log), fixture.store(), fixture.state.clone());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) || reads == 0 {
                    let (start, end) = (log.log_start_offset(), log.log_end_offset());
                    for from in start.0..end.0 {
                        let slice = match log.read(Offset(from), end, 500, true) {
                            Ok(slice) => slice,
                            Err(StorageError::OutOfRange { .. }) => break,
                            Err(error) => panic!("{error}"),
                        };
                        let batches = batches(log.load(&slice).unwrap());
                        let first = batches.first().unwrap();
                        assert!(first.header.base_offset <= Offset(from) && first.header.last_offset() >= Offset(from));
                        assert!(batches.iter().all(|batch| batch.check_crc().is_ok()));
                        assert!(batches.last().unwrap().header.next_offset() <= end);
                        reads += 1;
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let log_start = Offset(log.log_end_offset().0 - 20);
                log.advance_log_start(log_start).unwrap();
                store.purge(Mono(0));
            }
        });
        for number in 0..400 {
            let batch = batch(log.log_end_offset(), &[(number, &values(150)), (number, "b")], 0);
            append_batch(&log, &mut state, &batch);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_sync_serves_all_who_wait() {
    let mut fixture = Fixture::new(small());
    for number in 0..40 {
        fixture.append(&[(number, &values(200))], 0);
    }
    let log = &fixture.log;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(log.sync().unwrap(), Offset(40)));
        }
    });
    assert_eq!(log.synced_offset(), Offset(40));
}

#[test]
fn segments_say_what_retention_needs() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&[(500, "a"), (100, "b")], 0);
    fixture.log.roll(&fixture.state).unwrap();
    fixture.log.roll(&fixture.state).unwrap();
    let unstamped = fixture.append(&[(-1, "a")], 0);
    let fixture = fixture.restart();
    let [first, second] = fixture.log.segments()[..] else {
        panic!()
    };
    assert_eq!(
        (first.base_offset, first.largest_timestamp),
        (Offset(0), Timestamp(500))
    );
    assert_eq!(
        (second.base_offset, second.size_bytes),
        (Offset(2), unstamped.bytes().len() as u64)
    );
    // The time at which the file was written to.
    assert!(second.largest_timestamp > Timestamp(1_600_000_000_000));
}

#[test]
fn a_batch_that_was_there_is_not_appended_again() {
    let mut fixture = Fixture::new(LogConfig::default());
    let first = fixture.append(&[(1, "a")], 0);
    assert!(fixture.log.append(&[encoded(&first)], &fixture.state, NOW).is_err());
    assert_eq!(fixture.read_from(0), [first]);
}
