//! A directory that fails goes offline; the others serve on.

use std::fs::{self, File};

use super::*;

fn two_online() -> (tempfile::TempDir, Store) {
    let (root, paths) = two_directories();
    let store = Store::open(&store_config(paths)).unwrap();
    (root, store)
}

fn create(store: &Store, directory: u128, topic: &str) -> OpenedLog<Log> {
    let config = Arc::new(LogConfig::default());
    store
        .create(directory_id(directory), topic, TOPIC_ID, PartitionId(0), config)
        .unwrap()
}

fn is_offline<T: std::fmt::Debug>(result: Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Offline { .. }))
}

#[test]
fn a_failed_write_takes_only_its_directory_offline() {
    let (root, store) = two_online();
    let (mut broken, mut healthy) = (create(&store, 0, "broken"), create(&store, 1, "healthy"));
    append(&broken.log, &mut broken.state, &[(1, "a")], 0);
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    broken.log.replace_active_file(full);

    let lost = batch(Offset(1), &[(1, "lost")], 0);
    for _ in 0..2 {
        assert!(is_offline(broken.log.append(&[encoded(&lost)], &broken.state, NOW)));
    }
    assert_eq!(broken.log.log_end_offset(), Offset(1));
    assert!(is_offline(broken.log.sync()));
    assert!(is_offline(broken.log.read(Offset(0), Offset(1), 100, true)));
    assert!(is_offline(broken.log.advance_log_start(Offset(1))));
    assert!(is_offline(broken.log.truncate(Offset(0), &mut broken.state.clone())));
    let config = Arc::new(LogConfig::default());
    assert!(is_offline(
        store
            .create(directory_id(0), "t", TOPIC_ID, PartitionId(0), config)
            .map(|_| ())
    ));

    let facts = store.directories();
    let reason = facts[0].offline.as_ref().unwrap();
    assert!(
        reason.contains("broken-0") && reason.contains("No space left"),
        "{reason}"
    );
    assert_eq!(facts[1].offline, None);
    append(&healthy.log, &mut healthy.state, &[(1, "a")], 0);
    let logs = [(broken.log, broken.state), (healthy.log, healthy.state)];
    store.close(&logs, BrokerEpoch(1)).unwrap();
    let marker = |number| root.path().join(format!("data{number}/.kafka_cleanshutdown")).exists();
    assert!(!marker(0) && marker(1));
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    let (_root, store) = two_online();
    let mut opened = create(&store, 0, "t");
    append(&opened.log, &mut opened.state, &[(1, "a")], 0);
    // fdatasync of a pipe's end fails.
    let (reader, _writer) = std::io::pipe().unwrap();
    opened
        .log
        .replace_active_file(File::from(std::os::fd::OwnedFd::from(reader)));
    assert!(is_offline(opened.log.sync()));
    assert!(is_offline(opened.log.sync()));
    assert_eq!(opened.log.synced_offset(), Offset(0));
    assert!(store.directories()[0].offline.is_some());
}

#[test]
fn a_directory_that_goes_away_is_noticed_without_traffic() {
    let (root, store) = two_online();
    let logs = [(create(&store, 0, "t").log, Offset(0))];
    store.checkpoint(&logs).unwrap();
    store.checkpoint(&logs).unwrap();
    for number in 0..2 {
        let path = root.path().join(format!("data{number}"));
        fs::rename(&path, root.path().join(format!("away{number}"))).unwrap();
    }
    assert!(is_offline(store.checkpoint(&logs)));
    assert!(store.directories().iter().all(|facts| facts.offline.is_some()));
}

#[test]
fn a_directory_that_cannot_be_opened_is_offline_from_the_start() {
    let (_root, paths) = two_directories();
    fs::remove_file(paths[1].join("meta.properties")).unwrap();
    fs::create_dir(paths[1].join("meta.properties")).unwrap();
    let store = Store::open(&store_config(paths)).unwrap();
    let facts = store.directories();
    assert_eq!((facts[0].id, facts[0].offline.as_ref()), (directory_id(0), None));
    assert!(facts[1].offline.is_some());
    assert!(open_all(&store, &LogConfig::default()).is_empty());
    create(&store, 0, "t");
}
