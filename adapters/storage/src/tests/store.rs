//! Directories: who may use them, what is in them, and how logs leave them.

use std::fs;

use ottla_domain::ids::Mono;

use super::*;
use crate::partition_metadata;

fn refusal(config: &StoreConfig) -> String {
    match Store::open(config).map(|_| ()) {
        Err(StorageError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_of_another_process_cluster_or_node_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let config = store_config(vec![format(root.path(), 0)]);
    let other_node = StoreConfig {
        node_id: BrokerId(2),
        ..config.clone()
    };
    assert!(refusal(&other_node).contains("node.id=1"));
    let other_cluster = StoreConfig {
        cluster_id: "other".to_owned(),
        ..config.clone()
    };
    assert!(refusal(&other_cluster).contains("cluster.id=MkU3OEVBNTcwNTJENDM2Qg"));

    let twice = store_config(vec![root.path().join("data0"), root.path().join("./data0/../data0")]);
    assert!(refusal(&twice).contains("twice"));

    let store = Store::open(&config).unwrap();
    assert!(refusal(&config).contains("is in use"));
    drop(store);
    Store::open(&config).unwrap();

    let unformatted = store_config(vec![root.path().join("data9")]);
    assert!(refusal(&unformatted).contains("is not formatted"));
}

#[test]
fn only_a_clean_stop_leaves_its_broker_epoch() {
    let mut fixture = Fixture::new(LogConfig::default());
    assert_eq!(fixture.store().previous_broker_epoch(), BrokerEpoch::UNKNOWN);
    fixture.stop_cleanly();
    let fixture = fixture.restart();
    assert_eq!(fixture.store().previous_broker_epoch(), BrokerEpoch(7));
    assert_eq!(fixture.restart().store().previous_broker_epoch(), BrokerEpoch::UNKNOWN);
}

#[test]
fn a_deleted_log_is_gone_at_once_and_its_files_later() {
    let mut fixture = Fixture::new(small());
    for number in 0..40 {
        fixture.append(&[(number, &values(200))], 3);
    }
    fixture.log.advance_log_start(Offset(9)).unwrap();
    fixture.checkpoint();
    fixture.store().delete(&[Arc::clone(&fixture.log)], 1000).unwrap();
    assert!(!fixture.folder().exists());
    let deleted = || {
        let names = fs::read_dir(fixture.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with("-delete")).count()
    };
    assert_eq!(deleted(), 1);
    let error = fixture
        .log
        .append(&[encoded(&batch(Offset(40), &[(1, "a")], 3))], &fixture.state, NOW);
    assert!(error.is_err());
    assert!(fixture.log.advance_log_start(Offset(12)).is_err());

    // A log of that name knows nothing of the one before, not even when the index is lost.
    let again = fixture
        .store()
        .create(directory_id(0), "orders", TOPIC_ID, PartitionId(0), Arc::new(small()))
        .unwrap();
    assert_eq!(
        (again.log.log_start_offset(), again.log.log_end_offset()),
        (Offset(0), Offset(0))
    );
    let starts = fs::read_to_string(fixture.path().join("log-start-offset-checkpoint")).unwrap();
    assert_eq!(starts, "0\n0\n");

    fixture.store().purge(Mono(0));
    fixture.store().purge(Mono(0).plus_ms(999));
    assert_eq!(deleted(), 1);
    fixture.store().purge(Mono(0).plus_ms(1000));
    assert_eq!(deleted(), 0);
    assert!(fixture.folder().exists());
}

fn create_numbered(store: &Store, number: i32) -> OpenedLog<Log> {
    let directory = directory_id(number as u128 % 2);
    let config = Arc::new(small());
    store
        .create(directory, "many", TOPIC_ID, PartitionId(number), config)
        .unwrap()
}

#[test]
fn many_logs_are_deleted_at_once_and_others_keep_what_is_known_of_them() {
    let (_root, paths) = two_directories();
    let store = Store::open(&store_config(paths.clone())).unwrap();
    let create = |number: i32| {
        let OpenedLog { log, mut state, .. } = create_numbered(&store, number);
        append(&log, &mut state, &[(1, "a"), (2, "b")], 0);
        append(&log, &mut state, &[(3, "c")], 0);
        log.advance_log_start(Offset(1)).unwrap();
        log
    };
    let logs: Vec<_> = (0..10).map(create).collect();
    store.delete(&logs[1..], 0).unwrap();
    for (number, path) in paths.iter().enumerate() {
        let starts = fs::read_to_string(path.join("log-start-offset-checkpoint")).unwrap();
        let expected = if number == 0 { "0\n1\nmany 0 1\n" } else { "0\n0\n" };
        assert_eq!(starts, expected);
        store.purge(Mono(0));
        let folders = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        let folders: Vec<_> = folders
            .filter(|name| name.to_string_lossy().starts_with("many"))
            .collect();
        assert_eq!(folders.len(), 1 - number, "{folders:?}");
    }
    drop((store, logs));
    let store = Store::open(&store_config(paths)).unwrap();
    let opened = open_all(&store, &small());
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].log.log_start_offset(), Offset(1));
}

#[test]
fn what_a_crash_left_of_deletions_is_removed_after_the_start() {
    let fixture = Fixture::new(LogConfig::default());
    let folder = fixture.path().join("old-0.00000000000000000000000000000abc-delete");
    let file = fixture.folder().join("00000000000000000007.log.deleted");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("00000000000000000000.log"), "x").unwrap();
    fs::write(&file, "x").unwrap();
    let fixture = fixture.restart();
    fixture.store().purge(Mono(0));
    assert!(!folder.exists() && !file.exists());
    assert!(fixture.folder().exists());
}

#[test]
fn a_folder_that_was_removed_and_made_again_is_another_log() {
    let mut fixture = Fixture::new(small());
    for number in 0..40 {
        fixture.append(&[(number, &values(200))], 3);
    }
    fixture.stop_cleanly();
    let path = fixture.folder();
    let stopped = fixture.stop();
    fs::remove_dir_all(&path).unwrap();
    let store = Store::open(&store_config(vec![stopped.0.path().join("data0")])).unwrap();
    assert!(open_all(&store, &small()).is_empty());
    let opened = store
        .create(directory_id(0), "orders", TOPIC_ID, PartitionId(0), Arc::new(small()))
        .unwrap();
    let (log, mut state) = (opened.log, opened.state);
    assert!(state.epochs.entries().is_empty());
    let appended = append(&log, &mut state, &[(1, "new")], 0);
    assert_eq!(read_from(&log, 0), [appended]);
}

#[test]
fn unknown_folders_and_replicas_that_are_there_twice_are_refused() {
    let (_root, paths) = two_directories();
    let open = || Store::open(&store_config(paths.clone())).unwrap();
    let refusal = |store: Store| {
        let opened = store.open_all(&|_, _| true, &|_| Arc::new(LogConfig::default()), NOW);
        match opened.map(|_| ()) {
            Err(StorageError::Refused(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    for path in &paths {
        fs::create_dir(path.join("orders-0")).unwrap();
        partition_metadata::write(&path.join("orders-0"), TOPIC_ID).unwrap();
    }
    assert!(refusal(open()).contains("orders-0"));
    fs::remove_dir_all(paths[1].join("orders-0")).unwrap();
    fs::create_dir(paths[1].join("backup")).unwrap();
    assert!(refusal(open()).contains("backup"));
}

#[test]
fn strays_are_kept_under_another_name() {
    let (_root, paths) = two_directories();
    let other_id = TopicId(Uuid::from_u128(0xef));
    let store = Store::open(&store_config(paths.clone())).unwrap();
    // The same replica in two directories: in one it belongs to a topic that was deleted.
    for (directory, topic_id) in [(directory_id(0), other_id), (directory_id(1), TOPIC_ID)] {
        let opened = store.create(directory, "orders", topic_id, PartitionId(0), Arc::new(small()));
        let OpenedLog { log, mut state, .. } = opened.unwrap();
        append(&log, &mut state, &[(1, "a")], 0);
        append(&log, &mut state, &[(2, "b")], 0);
        log.advance_log_start(Offset(1)).unwrap();
    }
    // Without its topic id, nobody knows whose records these are.
    fs::create_dir(paths[0].join("unfinished-3")).unwrap();
    fs::write(paths[0].join("unfinished-3/00000000000000000000.log"), "records").unwrap();
    drop(store);

    let store = Store::open(&store_config(paths.clone())).unwrap();
    let is_placed_here = |topic_id, partition| topic_id == TOPIC_ID && partition == PartitionId(0);
    let opened = store.open_all(&is_placed_here, &|_| Arc::new(small()), NOW).unwrap();
    let kept: Vec<_> = opened
        .iter()
        .map(|opened| (opened.topic_id, opened.log.directory()))
        .collect();
    assert_eq!(kept, [(TOPIC_ID, directory_id(1))]);
    let names = fs::read_dir(&paths[0]).unwrap().map(|entry| entry.unwrap().file_name());
    let mut strays: Vec<_> = names
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.ends_with("-stray"))
        .collect();
    strays.sort();
    assert_eq!(strays.len(), 2, "{strays:?}");
    assert!(
        strays[0].starts_with("orders-0.") && strays[1].starts_with("unfinished-3."),
        "{strays:?}"
    );
    assert!(
        fs::metadata(paths[0].join(&strays[0]).join("00000000000000000000.log"))
            .unwrap()
            .len()
            > 0
    );
    store.purge(Mono(i64::MAX as u64));
    assert!(paths[0].join(&strays[0]).exists());

    // What comes under its name inherits nothing.
    let again = store
        .create(directory_id(0), "orders", other_id, PartitionId(0), Arc::new(small()))
        .unwrap();
    assert_eq!(again.log.log_start_offset(), Offset(0));
}

#[test]
fn many_logs_are_opened_at_a_time() {
    let (_root, paths) = two_directories();
    let store = Store::open(&store_config(paths.clone())).unwrap();
    let create = |number: i32| {
        let OpenedLog { log, mut state, .. } = create_numbered(&store, number);
        append(&log, &mut state, &[(1, &number.to_string())], 0);
    };
    (0..20).for_each(create);
    drop(store);
    let store = Store::open(&store_config(paths)).unwrap();
    let mut opened = open_all(&store, &small());
    opened.sort_by_key(|opened| opened.partition);
    for (number, opened) in (0..20).zip(&opened) {
        assert_eq!(opened.partition, PartitionId(number));
        assert_eq!(opened.topic_id, TOPIC_ID);
        assert_eq!(opened.log.directory(), directory_id(number as u128 % 2));
        assert_eq!(
            read_from(&opened.log, 0),
            [batch(Offset(0), &[(1, &number.to_string())], 0)]
        );
    }
    assert_eq!(opened.len(), 20);
}

#[test]
fn the_metadata_log_is_opened_apart() {
    let root = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        metadata_log_dir: format(root.path(), 1),
        ..store_config(vec![format(root.path(), 0)])
    };
    let store = Store::open(&config).unwrap();
    assert_eq!(store.directories().len(), 1);
    let OpenedLog { log, mut state, .. } = store.open_metadata_log(Arc::new(small()), NOW).unwrap();
    let appended = append(&log, &mut state, &[(1, "a")], 1);
    assert_eq!(log.sync().unwrap(), Offset(1));
    assert!(log.folder().ends_with("data1/__cluster_metadata-0"));
    drop((log, store));
    let store = Store::open(&config).unwrap();
    assert!(open_all(&store, &small()).is_empty());
    let opened = store.open_metadata_log(Arc::new(small()), NOW).unwrap();
    assert_eq!(opened.topic_id.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    assert_eq!(read_from(&opened.log, 0), [appended]);
}

#[test]
fn what_replaces_lost_synced_records_is_checked() {
    let root = tempfile::tempdir().unwrap();
    let config = store_config(vec![format(root.path(), 0)]);
    let path = root.path().join("data0/__cluster_metadata-0/00000000000000000000.log");
    let open = || {
        let store = Store::open(&config).unwrap();
        let opened = store.open_metadata_log(Arc::new(LogConfig::default()), NOW).unwrap();
        (store, opened)
    };
    let (store, mut opened) = open();
    append(&opened.log, &mut opened.state, &[(1, "lost")], 1);
    store
        .close(&[(Arc::clone(&opened.log), opened.state.clone())], BrokerEpoch(1))
        .unwrap();
    drop((store, opened));
    fs::write(&path, "").unwrap();
    let (store, mut opened) = open();
    let replaced = append(&opened.log, &mut opened.state, &[(1, "new!")], 1);
    drop((store, opened));
    let mut damaged = replaced.bytes().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, damaged).unwrap();
    assert_eq!(open().1.log.log_end_offset(), Offset(0));
}
