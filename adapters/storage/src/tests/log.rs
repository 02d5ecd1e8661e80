//! Appending, reading, rolling and coming back after a stop.

use ottla_domain::ids::Offset;
use ottla_domain::ports::outbound::{PartitionLog, RecordSlice, StorageError};

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
