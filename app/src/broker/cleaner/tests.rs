use super::*;

#[test]
fn a_log_is_claimed_once_and_nothing_begins_after_the_end() {
    let cleaner = Cleaner::default();
    let key = |number| (TopicId::ZERO, PartitionId(number));
    let claim = cleaner.claim(key(0)).unwrap();
    assert!(cleaner.claim(key(0)).is_none());
    assert!(cleaner.claim(key(1)).is_some());
    drop(claim);
    cleaner.shared.lock().uncleanable.insert(key(1));
    assert!(cleaner.claim(key(1)).is_none());

    let claim = cleaner.claim(key(0)).unwrap();
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| cleaner.stop());
        // Whoever cleans hears of it, and the stop waits for them.
        while cleaner.pace(1, f64::MAX) {
            std::thread::yield_now();
        }
        assert!(!stopping.is_finished());
        drop(claim);
    });
    assert!(cleaner.claim(key(0)).is_none());
}
