//! Coming back after a stop that was not clean, or with files missing or damaged.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ottla_domain::ids::{Mono, ProducerEpoch, ProducerId};

use super::*;
use crate::segment;

fn segment_path(fixture: &Fixture, base_offset: i64) -> PathBuf {
    fixture.folder().join(segment::file_name(Offset(base_offset)))
}

fn flip(path: &Path, position: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], position).unwrap();
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let mut fixture = Fixture::new(LogConfig::default());
    let appended: Vec<_> = (0..4)
        .map(|number| fixture.append(&[(number, "a"), (number, "b")], 0))
        .collect();
    let size = appended[0].bytes().len();
    let path = segment_path(&fixture, 0);
    let bytes = fs::read(&path).unwrap();
    for kept in (2 * size..4 * size).rev() {
        let stopped = fixture.stop();
        fs::write(&path, &bytes[..kept]).unwrap();
        fixture = Fixture::start(stopped);
        let whole = kept / size;
        assert_eq!(fixture.log.log_end_offset(), Offset(2 * whole as i64), "{kept} bytes");
        assert_eq!(fixture.state.offsets.log_end(), fixture.log.log_end_offset());
        assert_eq!(fixture.read_from(0), appended[..whole]);
        assert_eq!(fs::metadata(&path).unwrap().len() as usize, whole * size);
    }
    let again = fixture.append(&[(9, "again")], 0);
    assert_eq!(fixture.restart().read_from(4), [again]);
}

#[test]
fn the_log_is_cut_before_a_damaged_batch() {
    let mut fixture = Fixture::new(LogConfig::default());
    let appended: Vec<_> = (0..3)
        .map(|number| fixture.append(&[(number, "a"), (number, "b")], 0))
        .collect();
    let size = appended[0].bytes().len();
    let path = segment_path(&fixture, 0);
    let bytes = fs::read(&path).unwrap();
    // The base offset and the leader epoch are not covered by the CRC.
    for position in (8..size).filter(|position| !(12..16).contains(position)) {
        let stopped = fixture.stop();
        fs::write(&path, &bytes).unwrap();
        flip(&path, (size + position) as u64);
        fixture = Fixture::start(stopped);
        assert_eq!(fixture.read_from(0), appended[..1], "byte {position}");
    }
    let stopped = fixture.stop();
    let mut zeros = bytes.clone();
    zeros.resize(2 * bytes.len(), 0);
    fs::write(&path, zeros).unwrap();
    let mut fixture = Fixture::start(stopped);
    assert_eq!(fixture.read_from(0), appended);

    let repeated = batch(Offset(4), &[(9, "an offset that was there")], 0);
    let stopped = fixture.stop();
    fs::write(&path, [bytes.as_slice(), repeated.bytes()].concat()).unwrap();
    fixture = Fixture::start(stopped);
    assert_eq!(fixture.read_from(0), appended);
}

#[test]
fn segments_behind_a_damaged_batch_go() {
    let mut fixture = Fixture::new(small());
    for number in 0..40 {
        fixture.append(&[(number, &values(200))], 0);
    }
    let bases: Vec<_> = fixture
        .log
        .segments()
        .iter()
        .map(|segment| segment.base_offset)
        .collect();
    let (second, third) = (bases[1], bases[2]);
    let path = segment_path(&fixture, second.0);
    let stopped = fixture.stop();
    // Without the index nothing is believed to be synced.
    fs::remove_dir_all(stopped.0.path().join("data0/.ottla")).unwrap();
    flip(&path, fs::metadata(&path).unwrap().len() - 1);
    let fixture = Fixture::start(stopped);
    assert_eq!(fixture.log.log_end_offset(), Offset(third.0 - 1));
    let left: Vec<_> = fixture
        .log
        .segments()
        .iter()
        .map(|segment| segment.base_offset)
        .collect();
    assert_eq!(left, bases[..2]);
    assert!(!segment_path(&fixture, third.0).exists());
}

/// A power failure may take the end of a rolled segment and leave the file of the next one.
#[test]
fn the_log_is_cut_at_a_gap_between_segments() {
    for (kept_batches, compact) in [(1, false), (0, false), (1, true)] {
        let mut config = small();
        config.cleanup_policy.compact = compact;
        let mut fixture = Fixture::new(config);
        let appended: Vec<_> = (0..20)
            .map(|number| fixture.append(&[(number, &values(400))], 0))
            .collect();
        let bases: Vec<_> = fixture
            .log
            .segments()
            .iter()
            .map(|segment| segment.base_offset)
            .collect();
        let path = segment_path(&fixture, bases[1].0);
        let stopped = fixture.stop();
        fs::remove_dir_all(stopped.0.path().join("data0/.ottla")).unwrap();
        let kept_bytes = kept_batches * appended[0].bytes().len() as u64;
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(kept_bytes)
            .unwrap();
        let fixture = Fixture::start(stopped);
        let end = if compact { 20 } else { bases[1].0 + kept_batches as i64 };
        assert_eq!(
            fixture.log.log_end_offset(),
            Offset(end),
            "{kept_batches} kept, compact: {compact}"
        );
    }
}

/// A damaged database comes back without its latest writes.
#[test]
fn what_was_deleted_stays_so_when_the_index_forgets() {
    let mut fixture = Fixture::new(LogConfig::default());
    for number in 0..3 {
        fixture.append(&[(number, "a")], 0);
    }
    fixture.log.advance_log_start(Offset(2)).unwrap();
    fixture.log.index.put_log_start(Offset(0)).unwrap();
    assert_eq!(fixture.restart().log.log_start_offset(), Offset(2));
}

#[test]
fn a_new_log_inherits_no_checkpoints_of_an_earlier_one_of_its_name() {
    let root = tempfile::tempdir().unwrap();
    let path = format(root.path(), 0);
    fs::write(path.join("log-start-offset-checkpoint"), "0\n1\norders 0 5\n").unwrap();
    let store = Store::open(&store_config(vec![path])).unwrap();
    let config = LogConfig::default();
    let made = store.create(
        directory_id(0),
        "orders",
        TOPIC_ID,
        PartitionId(0),
        Arc::new(config.clone()),
    );
    let OpenedLog { log, mut state, .. } = made.unwrap();
    append(&log, &mut state, &[(1, "a")], 0);
    drop((log, store));
    let fixture = Fixture::start((root, config));
    assert_eq!(
        (fixture.log.log_start_offset(), fixture.log.log_end_offset()),
        (Offset(0), Offset(1))
    );
}

/// A power failure may leave the names of a new log's files and nothing in them.
#[test]
fn a_new_log_of_which_nothing_was_synced_goes_without_a_trace() {
    let fixture = Fixture::new(LogConfig::default());
    let folder = fixture.folder();
    let (root, config) = fixture.stop();
    fs::write(folder.join("partition.metadata"), "").unwrap();
    let store = Store::open(&store_config(vec![root.path().join("data0")])).unwrap();
    assert!(open_all(&store, &config).is_empty());
    store.purge(Mono(0));
    let left: Vec<_> = fs::read_dir(root.path().join("data0")).unwrap().flatten().collect();
    assert!(
        !left
            .iter()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("orders")),
        "{left:?}"
    );
}

#[test]
fn recovery_begins_at_the_recovery_point() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&[(1, "synced")], 0);
    assert_eq!(fixture.log.sync().unwrap(), Offset(1));
    fixture.append(&[(2, "not synced")], 0);
    fixture.checkpoint();
    assert_eq!(fixture.log.synced_offset(), Offset(1));
    let points = fs::read_to_string(fixture.path().join("recovery-point-offset-checkpoint")).unwrap();
    assert_eq!(points, "0\n1\norders 0 1\n");

    let path = segment_path(&fixture, 0);
    let stopped = fixture.stop();
    flip(&path, 65);
    let fixture = Fixture::start(stopped);
    // As in Kafka, what was synced is not read again; clients check the CRC.
    assert_eq!(fixture.log.log_end_offset(), Offset(2));
    assert_eq!(fixture.log.synced_offset(), Offset(1));

    let stopped = fixture.stop();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(10)
        .unwrap();
    let mut fixture = Fixture::start(stopped);
    assert_eq!(
        (fixture.log.log_end_offset(), fixture.log.synced_offset()),
        (Offset(0), Offset(0))
    );
    // The recovery point fell with the log's end: what comes now is checked.
    fixture.append(&[(3, "damaged below")], 0);
    let stopped = fixture.stop();
    flip(&path, 65);
    assert_eq!(Fixture::start(stopped).log.log_end_offset(), Offset(0));
}

#[test]
fn truncation_lowers_the_recovery_point() {
    for without_index in [false, true] {
        let mut fixture = Fixture::new(LogConfig::default());
        let appended: Vec<_> = (0..4).map(|number| fixture.append(&[(number, "a")], 0)).collect();
        fixture.log.sync().unwrap();
        fixture.checkpoint();
        fixture.log.truncate(Offset(2), &mut fixture.state).unwrap();
        assert_eq!(fixture.log.synced_offset(), Offset(2));
        for number in 0..2 {
            fixture.append(&[(number, "b")], 1);
        }
        let path = segment_path(&fixture, 0);
        let stopped = fixture.stop();
        if without_index {
            fs::remove_dir_all(stopped.0.path().join("data0/.ottla")).unwrap();
        }
        flip(&path, fs::metadata(&path).unwrap().len() - 1);
        let fixture = Fixture::start(stopped);
        let read = fixture.read_from(0);
        assert_eq!(read[..2], appended[..2]);
        assert_eq!(read.len(), 3);
    }
}

#[test]
fn nothing_is_recovered_after_a_clean_stop() {
    let mut fixture = Fixture::new(small());
    for number in 0..40 {
        fixture.append(&[(number, &values(200))], 0);
    }
    fixture.stop_cleanly();
    let last = fixture.log.segments().last().unwrap().base_offset;
    let path = segment_path(&fixture, last.0);
    let stopped = fixture.stop();
    flip(&path, fs::metadata(&path).unwrap().len() - 1);
    let fixture = Fixture::start(stopped);
    assert_eq!(
        (fixture.log.log_end_offset(), fixture.log.synced_offset()),
        (Offset(40), Offset(40))
    );
}

#[test]
fn deleted_records_stay_deleted_without_the_index() {
    for inside_a_segment in [true, false] {
        let mut fixture = Fixture::new(small());
        for number in 0..40 {
            fixture.append(&[(number, &values(200))], number as i32 / 10);
        }
        let second = fixture.log.segments()[1].base_offset;
        let log_start = Offset(second.0 + i64::from(inside_a_segment));
        fixture.log.advance_log_start(log_start).unwrap();
        assert_eq!(fixture.log.segments()[0].base_offset, second);

        let stopped = fixture.stop();
        fs::remove_dir_all(stopped.0.path().join("data0/.ottla")).unwrap();
        let fixture = Fixture::start(stopped);
        assert_eq!(fixture.log.log_start_offset(), log_start);
        assert_eq!(fixture.state.offsets.log_start(), log_start);
        assert!(matches!(
            fixture.log.read(Offset(log_start.0 - 1), Offset(40), 10, true),
            Err(StorageError::OutOfRange { .. })
        ));
        assert_eq!(fixture.state.epochs.entries().len(), 4);
        assert_eq!(fixture.restart().log.log_start_offset(), log_start);
    }
}

#[test]
fn a_log_whose_records_were_lost_behind_its_start_begins_there_again() {
    let mut fixture = Fixture::new(LogConfig::default());
    for number in 0..4 {
        fixture.append(&[(number, "a")], 0);
    }
    fixture.log.advance_log_start(Offset(3)).unwrap();
    let path = segment_path(&fixture, 0);
    let stopped = fixture.stop();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(10)
        .unwrap();
    let mut fixture = Fixture::start(stopped);
    assert_eq!(
        (fixture.log.log_start_offset(), fixture.log.log_end_offset()),
        (Offset(3), Offset(3))
    );
    let appended = fixture.append(&[(1, "b")], 5);
    assert_eq!(fixture.restart().read_from(3), [appended]);
}

#[test]
fn the_index_is_made_again_when_it_is_damaged_or_old_and_refused_when_it_is_newer() {
    let mut fixture = Fixture::new(small());
    let appended: Vec<_> = (0..40)
        .map(|number| fixture.append(&[(number, &values(200))], 0))
        .collect();
    let index = fixture.path().join(".ottla");
    let tables = || {
        let files = fs::read_dir(index.join("db"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
            .collect::<Vec<_>>()
    };
    let manifest = || {
        let mut files = fs::read_dir(index.join("db"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files.find(|path| path.to_string_lossy().contains("MANIFEST")).unwrap()
    };
    let damage: [&dyn Fn(); 7] = [
        // A type that RocksDB would read for ever, in the second record.
        &|| {
            let mut content = fs::read(manifest()).unwrap();
            let first_bytes = 7 + usize::from(u16::from_le_bytes([content[4], content[5]]));
            content[first_bytes + 6] = 5;
            fs::write(manifest(), content).unwrap();
        },
        &|| fs::write(index.join("db/CURRENT"), "nonsense\n").unwrap(),
        &|| fs::remove_file(index.join("format-version")).unwrap(),
        &|| fs::write(index.join("format-version"), "0\n").unwrap(),
        &|| fs::write(index.join("format-version"), "?").unwrap(),
        &|| {
            let tables = tables();
            assert!(!tables.is_empty());
            tables.iter().for_each(|table| flip(table, 20));
        },
        &|| fs::remove_dir_all(index.join("db")).unwrap(),
    ];
    for damage in damage {
        // A second start brings what the first one wrote into tables.
        fixture = fixture.restart();
        fixture.stop_cleanly();
        let stopped = fixture.stop();
        damage();
        fixture = Fixture::start(stopped);
        assert_eq!(fixture.read_from(0), appended);
        let found = fixture.log.find_by_timestamp(Timestamp(23), Offset(40)).unwrap();
        assert_eq!(found.as_ref(), Some(appended[23].bytes()));
    }
    let stopped = fixture.stop();
    fs::write(index.join("format-version"), "2\n").unwrap();
    let config = store_config(vec![stopped.0.path().join("data0")]);
    let refusal = Store::open(&config).err().unwrap().to_string();
    assert!(
        refusal.contains(".ottla") && refusal.contains("format version 2"),
        "{refusal}"
    );
}

#[test]
fn producers_come_back_from_snapshots_and_batches() {
    let mut fixture = Fixture::new(small());
    for number in 0..30 {
        let mut builder = BatchBuilder::new(Offset(number));
        builder.producer_id = ProducerId(number % 3);
        builder.producer_epoch = ProducerEpoch(2);
        builder.base_sequence = (number / 3) as i32;
        builder.append(Timestamp(number), None, Some(values(200).as_bytes()));
        fixture.append_batch(&builder.build());
    }
    let producers = fixture.state.producers.clone();
    let fixture = fixture.restart();
    for (id, expected) in producers.iter() {
        let found = fixture.state.producers.get(id).unwrap();
        assert_eq!(found.batches().last(), expected.batches().last());
        assert_eq!(found.epoch(), expected.epoch());
    }
    assert_eq!(fixture.state.producers.end_offset(), Offset(30));
}

#[test]
fn snapshots_of_what_was_cut_are_forgotten() {
    let mut fixture = Fixture::new(LogConfig::default());
    let append = |fixture: &mut Fixture, producer, offset| {
        let mut builder = BatchBuilder::new(Offset(offset));
        builder.producer_id = ProducerId(producer);
        builder.producer_epoch = ProducerEpoch(0);
        builder.base_sequence = 0;
        builder.append(Timestamp(1), None, None);
        fixture.append_batch(&builder.build());
    };
    append(&mut fixture, 1, 0);
    append(&mut fixture, 2, 1);
    fixture.log.roll(&fixture.state).unwrap();
    append(&mut fixture, 3, 2);
    fixture.log.truncate(Offset(1), &mut fixture.state).unwrap();
    let ids = |fixture: &Fixture| fixture.state.producers.iter().map(|(id, _)| id.0).collect::<Vec<_>>();
    assert_eq!(ids(&fixture), [1]);
    append(&mut fixture, 4, 1);
    append(&mut fixture, 5, 2);
    fixture.log.sync().unwrap();
    fixture.checkpoint();
    assert_eq!(ids(&fixture.restart()), [1, 4, 5]);
}
