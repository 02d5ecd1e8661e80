//! Cleaning compacted logs, and what a crash leaves of it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use ottla_domain::ids::{ProducerEpoch, ProducerId};
use ottla_domain::log::compaction::{Cleanable, OffsetMap};
use ottla_domain::log::config::CleanupPolicy;
use ottla_domain::ports::outbound::{Cleaned, Cleaning, CleaningError};
use ottla_domain::record::compression::{Codec, Compression, CompressionType, TestCompression};
use ottla_domain::record::control::EndTxnMarker;
use ottla_domain::record::records::Records;
use proptest::prelude::*;

use super::*;

fn compacted() -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        min_cleanable_dirty_ratio: 0.0,
        delete_retention_ms: 1000,
        ..small()
    }
}

/// Appends a batch of keys and values.
fn put(fixture: &mut Fixture, records: &[(&str, Option<&str>)], codec: Codec) {
    let mut builder = BatchBuilder::new(fixture.log.log_end_offset());
    for (key, value) in records {
        let timestamp = Timestamp(100 + fixture.log.log_end_offset().0);
        builder.append(timestamp, Some(key.as_bytes()), value.map(str::as_bytes));
    }
    let batch = builder.build_compressed(&TestCompression, codec).unwrap();
    fixture.append_batch(&batch);
}

fn puts(fixture: &mut Fixture, count: usize) {
    for index in 0..count {
        let (key, value) = (format!("key{}", index % 3), format!("{index}-{}", values(150)));
        put(fixture, &[(&key, Some(&value)), ("often", Some(&value))], Codec::None);
    }
}

fn cleanable(fixture: &Fixture) -> Cleanable {
    let log = &fixture.log;
    let end = log.log_end_offset();
    Cleanable::of(
        &fixture.config,
        &fixture.state.offsets,
        end,
        &log.segments(),
        log.cleaned_offset(),
        |segment| log.first_timestamp(segment.base_offset).unwrap(),
        NOW,
    )
}

fn clean_with(fixture: &Fixture, now: Timestamp, go_on: &dyn Fn(u64) -> bool) -> Result<Cleaned, CleaningError> {
    let cleanable = cleanable(fixture);
    fixture.log.clean(Cleaning {
        first_dirty: cleanable.first_dirty,
        first_uncleanable: cleanable.first_uncleanable,
        map: OffsetMap::new(1 << 20, 0.9, 5),
        buffer_bytes: 1000,
        now,
        compression: &TestCompression,
        producers: &|| fixture.state.producers.clone(),
        go_on,
    })
}

fn clean(fixture: &Fixture) -> Cleaned {
    clean_with(fixture, NOW, &|_| true).unwrap()
}

type Row = (i64, String, Option<String>);

fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        batch.check_crc().unwrap();
        let mut plain = Vec::new();
        let codec = batch.header.attributes.compression().unwrap();
        let body = batch.body();
        std::io::Read::read_to_end(&mut TestCompression.decompress(codec, &body).unwrap(), &mut plain).unwrap();
        for record in Records::of_decompressed(&batch.header, &plain).unwrap() {
            let record = record.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            rows.push((record.offset.0, text(record.key.unwrap()), record.value.map(text)));
        }
    }
    rows
}

fn all_rows(fixture: &Fixture) -> Vec<Row> {
    rows(&fixture.read_from(fixture.log.log_start_offset().0))
}

fn view(rows: &[Row]) -> BTreeMap<&str, Option<&str>> {
    rows.iter()
        .map(|(_, key, value)| (key.as_str(), value.as_deref()))
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".log"))
        .collect();
    names.sort();
    names
}

/// Every lookup by offset and by time says what a list of the batches says.
fn check_lookups(fixture: &Fixture) {
    let log = &fixture.log;
    let (start, end) = (log.log_start_offset().0, log.log_end_offset());
    let all = fixture.read_from(start);
    for from in start..end.0 {
        let expected = all.iter().find(|batch| batch.header.last_offset().0 >= from);
        let found = batches(log.load(&read(log, from, end.0, 1)).unwrap());
        assert_eq!(found.first(), expected, "from {from}");
    }
    for timestamp in 95..end.0 + 105 {
        let wanted = |batch: &&RecordBatch| batch.header.max_timestamp.0 >= timestamp && batch.header.record_count > 0;
        let expected = all.iter().find(wanted).map(|batch| batch.bytes());
        let found = log.find_by_timestamp(Timestamp(timestamp), end).unwrap();
        assert_eq!(found.as_ref(), expected, "at {timestamp}");
    }
}

#[test]
fn the_latest_record_of_each_key_stays_across_segments() {
    let mut fixture = Fixture::new(compacted());
    puts(&mut fixture, 60);
    let before = all_rows(&fixture);
    let (segment_count, active) = (
        fixture.log.segments().len(),
        fixture.log.segments().last().unwrap().base_offset,
    );
    assert!(segment_count > 5);
    let region = read(&fixture.log, 0, 10, usize::MAX);
    let old_bytes = fixture.log.load(&region).unwrap();

    let cleaned = clean(&fixture);
    assert_eq!(cleaned.end, active);
    assert_eq!(fixture.log.cleaned_offset(), Some(active));
    assert!(cleaned.mapped_bytes == cleaned.read_bytes && cleaned.retained_bytes < cleaned.read_bytes / 10);
    let after = all_rows(&fixture);
    assert_eq!(view(&after), view(&before));
    let below: Vec<_> = after.iter().filter(|row| row.0 < active.0).collect();
    assert_eq!(below.len(), 4, "{below:?}");
    // Readers of the segments that went are unharmed.
    assert_eq!(fixture.log.load(&region).unwrap(), old_bytes);
    check_lookups(&fixture);
    assert_eq!(cleanable(&fixture).cleanable_bytes, 0);

    // The index is that of the new segments.
    for pair in fixture.log.segments().windows(2).filter(|pair| pair[0].size_bytes > 0) {
        let last = fixture.log.index.last_entry(pair[0].base_offset).unwrap().unwrap();
        assert_eq!(
            (last.offset, u64::from(last.position)),
            (pair[1].base_offset, pair[0].size_bytes)
        );
    }

    let files = names(&fixture.folder());
    assert!(
        files
            .iter()
            .all(|name| name.ends_with(".log") || name.ends_with(".deleted")),
        "{files:?}"
    );
    let checkpoint = std::fs::read_to_string(fixture.path().join("cleaner-offset-checkpoint")).unwrap();
    assert_eq!(checkpoint, format!("0\n1\norders 0 {active}\n"));

    // More comes, and what was clean is cleaned with it.
    puts(&mut fixture, 60);
    let before = all_rows(&fixture);
    let fixture = fixture.restart();
    assert_eq!(fixture.log.cleaned_offset(), Some(active));
    assert_eq!(all_rows(&fixture), before);
    let both_count = fixture.log.segments().len();
    clean(&fixture);
    assert!(
        fixture.log.segments().len() < both_count - segment_count / 2,
        "what became small was joined"
    );
    assert_eq!(view(&all_rows(&fixture)), view(&before));
    check_lookups(&fixture);
    let fixture = fixture.restart();
    check_lookups(&fixture);
    assert_eq!(view(&all_rows(&fixture)), view(&before));
}

#[test]
fn every_codec_is_kept_and_unchanged_batches_are_the_same_bytes() {
    for codec in CompressionType::ALL {
        let mut fixture = Fixture::new(compacted());
        let codec = Codec::default_of(codec);
        put(&mut fixture, &[("a", Some("1")), ("b", Some("1")), ("c", None)], codec);
        put(&mut fixture, &[("unique", Some("1"))], codec);
        put(&mut fixture, &[("a", Some("2"))], codec);
        fixture.log.roll(&fixture.state).unwrap();
        let before = fixture.read_from(0);
        clean(&fixture);
        let after = fixture.read_from(0);
        let offsets: Vec<_> = rows(&after).iter().map(|row| row.0).collect();
        assert_eq!(offsets, [1, 2, 3, 4]);
        assert_eq!(after[1..], before[1..]);
        let codecs = after.iter().map(|batch| batch.header.attributes.compression().unwrap());
        assert!(
            codecs.clone().all(|found| found == codec.compression_type()),
            "{:?}",
            codecs.collect::<Vec<_>>()
        );
        assert_eq!(after[0].header.base_timestamp, Timestamp(NOW.0 + 1000));

        // Tombstones go once their horizon has passed, and so the segment changes although nothing is dirty.
        clean_with(&fixture, Timestamp(NOW.0 + 999), &|_| true).unwrap();
        assert_eq!(fixture.read_from(0), after);
        put(&mut fixture, &[("z", Some("1"))], codec);
        fixture.log.roll(&fixture.state).unwrap();
        clean_with(&fixture, Timestamp(NOW.0 + 1000), &|_| true).unwrap();
        let offsets: Vec<_> = all_rows(&fixture).iter().map(|row| row.0).collect();
        assert_eq!(offsets, [1, 3, 4, 5]);
    }
}

#[test]
fn a_segment_of_which_everything_stays_is_not_written_again() {
    let mut fixture = Fixture::new(LogConfig {
        segment_bytes: 400,
        ..compacted()
    });
    for index in 0..4 {
        put(
            &mut fixture,
            &[(&format!("key{index}"), Some(&values(200)))],
            Codec::None,
        );
    }
    let before = names(&fixture.folder());
    let cleaned = clean(&fixture);
    assert_eq!(names(&fixture.folder()), before);
    assert_eq!((cleaned.end, cleaned.records.retained), (Offset(3), 3));
    // The first differs in its second half only: what comes before is copied.
    put(&mut fixture, &[("last", Some("1")), ("key3", Some("2"))], Codec::None);
    fixture.log.roll(&fixture.state).unwrap();
    clean(&fixture);
    let offsets: Vec<_> = all_rows(&fixture).iter().map(|row| row.0).collect();
    assert_eq!(offsets, [0, 1, 2, 4, 5]);
    check_lookups(&fixture);
}

#[test]
fn a_cleaning_ends_when_it_is_told_to_and_goes_on_later() {
    let mut fixture = Fixture::new(compacted());
    puts(&mut fixture, 60);
    let before = all_rows(&fixture);
    for patience in 0.. {
        let left = Cell::new(patience);
        let go_on = |_| left.replace(left.get() - 1) > 0;
        match clean_with(&fixture, NOW, &go_on) {
            Err(CleaningError::Aborted) => {
                let files = names(&fixture.folder());
                assert!(
                    !files
                        .iter()
                        .any(|name| name.ends_with(".cleaned") || name.ends_with(".swap"))
                );
                assert_eq!(fixture.log.cleaned_offset(), None);
            }
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
        assert_eq!(view(&all_rows(&fixture)), view(&before));
    }
    check_lookups(&fixture);
}

#[test]
fn what_changes_the_log_meanwhile_aborts_the_cleaning() {
    // Truncation, DeleteRecords up to a segment that is being cleaned, deletion of the log.
    type Change = fn(&mut LogState, &Log, &Store);
    let changes: [(&str, Change); 4] = [
        ("truncate", |state, log, _| log.truncate(Offset(31), state).unwrap()),
        ("truncate and go on", |state, log, _| {
            // What was the last segment to be cleaned is the active one for a while, and goes on with other records.
            let segments = log.segments();
            let last = segments[segments.len() - 2].base_offset;
            log.truncate(last.plus(4), state).unwrap();
            let mut builder = BatchBuilder::new(log.log_end_offset());
            builder.append(Timestamp(7), Some(b"other"), Some(b"1"));
            append_batch(log, state, &builder.build());
            log.roll(state).unwrap();
        }),
        ("delete records", |_, log, _| log.advance_log_start(Offset(60)).unwrap()),
        ("delete", |_, log, store| {
            let log = store_log(log, store);
            store.delete(&[log], 0).unwrap();
        }),
    ];
    for (name, change) in changes {
        let mut fixture = Fixture::new(compacted());
        puts(&mut fixture, 60);
        fixture.state.raise_high_watermark(fixture.log.log_end_offset());
        LOG.with(|log| *log.borrow_mut() = Some(Arc::clone(&fixture.log)));
        let state = std::cell::RefCell::new(fixture.state.clone());
        let calls = Cell::new(0);
        let go_on = |_| {
            calls.set(calls.get() + 1);
            if calls.get() == 15 {
                change(&mut state.borrow_mut(), &fixture.log, fixture.store());
            }
            true
        };
        let outcome = clean_with(&fixture, NOW, &go_on);
        assert!(matches!(outcome, Err(CleaningError::Aborted)), "{name}: {outcome:?}");
        assert!(calls.get() >= 15);
        LOG.with(|log| *log.borrow_mut() = None);
        if name != "delete" {
            fixture.state = state.into_inner();
            let (start, end) = (fixture.log.log_start_offset(), fixture.log.log_end_offset());
            assert!(
                fixture
                    .read_from(start.0)
                    .iter()
                    .all(|batch| batch.header.next_offset() <= end)
            );
            let files = names(&fixture.folder());
            assert!(!files.iter().any(|name| name.ends_with(".cleaned")), "{files:?}");
            clean(&fixture);
            check_lookups(&fixture);
        }
    }
}

thread_local! {
    static LOG: std::cell::RefCell<Option<Arc<Log>>> = const { std::cell::RefCell::new(None) };
}

fn store_log(_: &Log, _: &Store) -> Arc<Log> {
    LOG.with(|log| log.borrow().clone()).unwrap()
}

#[test]
fn truncation_lowers_the_checkpoint() {
    let mut fixture = Fixture::new(compacted());
    puts(&mut fixture, 40);
    let cleaned = clean(&fixture).end;
    fixture.log.truncate(cleaned.plus(-10), &mut fixture.state).unwrap();
    let lowered = fixture.log.cleaned_offset().unwrap();
    assert!(lowered <= cleaned.plus(-10));
    let fixture = fixture.restart();
    assert_eq!(fixture.log.cleaned_offset(), Some(lowered));
}

/// The snapshot of the last roll may be lost in a crash; what a truncation would replay instead, a cleaning takes away.
#[test]
fn producers_are_known_where_a_log_is_cut_that_was_recovered_and_cleaned() {
    let mut fixture = Fixture::new(compacted());
    for sequence in 0..2 {
        let mut builder = BatchBuilder::new(fixture.log.log_end_offset());
        builder.producer_id = ProducerId(7);
        builder.producer_epoch = ProducerEpoch(0);
        builder.base_sequence = sequence;
        builder.append(Timestamp(5), Some(b"key"), Some(b"value"));
        fixture.append_batch(&builder.build());
        if sequence == 0 {
            put(&mut fixture, &[("key", Some("newer"))], Codec::None);
            fixture.log.roll(&fixture.state).unwrap();
        }
    }
    let stopped = fixture.stop();
    std::fs::remove_dir_all(stopped.0.path().join("data0/.ottla")).unwrap();
    let mut fixture = Fixture::start(stopped);
    clean(&fixture);
    assert_eq!(all_rows(&fixture).first().unwrap().0, 1);
    fixture.log.truncate(Offset(2), &mut fixture.state).unwrap();
    let known = fixture.state.producers.get(ProducerId(7));
    assert_eq!(known.map(|known| known.last_sequence()), Some(0));
}

#[test]
fn transactions_whose_markers_lie_in_the_active_segment_are_known() {
    let mut fixture = Fixture::new(compacted());
    let transactional = |fixture: &mut Fixture, producer: i64, key: &str, value: &str| {
        let mut builder = BatchBuilder::new(fixture.log.log_end_offset());
        builder.producer_id = ProducerId(producer);
        builder.producer_epoch = ProducerEpoch(0);
        builder.base_sequence = 0;
        builder.attributes = builder.attributes.with_transactional(true);
        builder.append(Timestamp(5), Some(key.as_bytes()), Some(value.as_bytes()));
        fixture.append_batch(&builder.build());
    };
    let marker = |fixture: &mut Fixture, producer: i64, committed: bool| {
        let marker = EndTxnMarker {
            committed,
            coordinator_epoch: 0,
        };
        let batch = marker.batch(ProducerId(producer), ProducerEpoch(0), Timestamp(6));
        let header = batch.header.with_offset(fixture.log.log_end_offset(), LeaderEpoch(0));
        let batch = RecordBatch::new(header, &batch.body());
        fixture.log.append(&[encoded(&batch)], &fixture.state, NOW).unwrap();
        fixture.state.replay(&batch.header, Some(marker));
    };
    put(&mut fixture, &[("a", Some("1")), ("b", Some("1"))], Codec::None);
    transactional(&mut fixture, 1, "a", "aborted");
    transactional(&mut fixture, 2, "b", "2");
    fixture.log.roll(&fixture.state).unwrap();
    marker(&mut fixture, 2, true);
    marker(&mut fixture, 1, false);
    clean(&fixture);
    let batches = fixture.read_from(0);
    let data: Vec<_> = batches
        .iter()
        .filter(|batch| !batch.header.attributes.is_control())
        .cloned()
        .collect();
    let expected = [
        (0, "a".to_owned(), Some("1".to_owned())),
        (3, "b".to_owned(), Some("2".to_owned())),
    ];
    assert_eq!(rows(&data), expected);
    // The last batch of the aborted producer stays, empty.
    let empty = data.iter().find(|batch| batch.header.record_count == 0).unwrap();
    assert_eq!(
        (empty.header.base_offset, empty.header.producer_id),
        (Offset(2), ProducerId(1))
    );
}

#[test]
fn a_batch_that_cannot_be_read_makes_the_log_uncleanable_and_changes_nothing() {
    let mut fixture = Fixture::new(compacted());
    puts(&mut fixture, 30);
    let path = fixture.folder().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[400] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let before = names(&fixture.folder());
    let outcome = clean_with(&fixture, NOW, &|_| true);
    assert!(matches!(outcome, Err(CleaningError::Uncleanable(_))), "{outcome:?}");
    assert_eq!(names(&fixture.folder()), before);
    assert!(fixture.log.directory.health.check().is_ok());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// What is on disk between any two steps of a swap, with the index as it was before or after.
#[test]
fn a_crash_at_any_step_of_a_swap_leaves_the_old_segments_or_the_new_one() {
    let config = LogConfig {
        // All of it becomes one segment.
        segment_index_bytes: 1 << 20,
        ..compacted()
    };
    let mut fixture = Fixture::new(config.clone());
    puts(&mut fixture, 30);
    fixture.log.roll(&fixture.state).unwrap();
    put(&mut fixture, &[("tail", Some("1"))], Codec::None);
    fixture.log.set_config(Arc::new(LogConfig {
        segment_bytes: 1 << 20,
        ..config.clone()
    }));
    fixture.log.sync().unwrap();
    fixture.log.flush_rolled().unwrap();
    fixture.checkpoint();
    let old_rows = all_rows(&fixture);
    let sources: Vec<_> = names(&fixture.folder());
    let (active, sources) = sources.split_last().unwrap();
    let (root, _) = fixture.stop();
    let before = tempfile::tempdir().unwrap();
    copy(root.path(), before.path());

    let fixture = Fixture::start((root, config.clone()));
    fixture.log.set_config(Arc::new(LogConfig {
        segment_bytes: 1 << 20,
        ..config.clone()
    }));
    clean(&fixture);
    let new_rows = all_rows(&fixture);
    assert_ne!(new_rows, old_rows);
    let (root, _) = fixture.stop();
    let after = root.path().join("data0");
    let cleaned = std::fs::read(after.join("orders-0").join(&sources[0])).unwrap();

    // `None` for a file that is not ready, else how many sources were renamed.
    let steps = std::iter::once(None).chain((0..=sources.len()).map(Some));
    for step in steps {
        for with_new_index in [false, true] {
            let crashed = tempfile::tempdir().unwrap();
            copy(before.path(), crashed.path());
            let data = crashed.path().join("data0");
            let folder = data.join("orders-0");
            if with_new_index {
                std::fs::remove_dir_all(data.join(".ottla")).unwrap();
                copy(&after.join(".ottla"), &data.join(".ottla"));
            }
            let suffix = if step.is_some() { "swap" } else { "cleaned" };
            std::fs::write(folder.join(format!("{}.{suffix}", sources[0])), &cleaned).unwrap();
            for source in &sources[..step.unwrap_or(0)] {
                std::fs::rename(folder.join(source), folder.join(format!("{source}.deleted"))).unwrap();
            }
            let fixture = Fixture::start((crashed, config.clone()));
            let rows = all_rows(&fixture);
            assert_eq!(view(&rows), view(&old_rows), "{step:?}");
            match step {
                None => assert_eq!(rows, old_rows),
                Some(_) => assert_eq!(rows, new_rows, "{step:?}"),
            }
            check_lookups(&fixture);
            fixture.store().purge(ottla_domain::ids::Mono(0));
            let left = names(&fixture.folder());
            let expected = match step {
                None => names(&before.path().join("data0/orders-0")),
                Some(_) => vec![sources[0].clone(), active.clone()],
            };
            assert_eq!(left, expected, "{step:?}");
            clean(&fixture);
            assert_eq!(view(&all_rows(&fixture)), view(&old_rows));
            check_lookups(&fixture);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<(u8, Option<u8>)>, u8, i64),
    Roll,
    Clean { patience: usize, later_ms: i64 },
    Restart { without_index: bool },
    Truncate(prop::sample::Index),
    AdvanceLogStart(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![5 => any::<u8>().prop_map(Some), 1 => Just(None)];
    let records = prop::collection::vec((0u8..8, value), 1..5);
    prop_oneof![
        12 => (records, 0u8..5, -1i64..3).prop_map(|(records, codec, producer)| Step::Put(records, codec, producer)),
        2 => Just(Step::Roll),
        4 => (0usize..60, 0i64..3000).prop_map(|(patience, later_ms)| Step::Clean { patience, later_ms }),
        1 => any::<bool>().prop_map(|without_index| Step::Restart { without_index }),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        1 => any::<prop::sample::Index>().prop_map(Step::AdvanceLogStart),
    ]
}

/// The log as it would be if nothing had ever been cleaned.
#[derive(Default)]
struct Uncleaned(Vec<RecordBatch>);

impl Uncleaned {
    fn live(&self, log_start: Offset) -> BTreeMap<String, String> {
        let all = rows(&self.0);
        let from_start: Vec<_> = all.into_iter().filter(|row| row.0 >= log_start.0).collect();
        live(&from_start)
    }
}

fn live(rows: &[Row]) -> BTreeMap<String, String> {
    let view = view(rows).into_iter();
    view.filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readers_of_a_compacted_log_see_what_they_would_without_compaction(steps in prop::collection::vec(step(), 1..60)) {
        let mut fixture = Fixture::new(LogConfig { segment_bytes: 700, index_interval_bytes: 100, ..compacted() });
        let mut uncleaned = Uncleaned::default();
        let mut sequences = BTreeMap::new();
        let mut now = NOW;
        // Without snapshots of the producers, what is known of them after a truncation is what batches say.
        let (mut has_snapshots, mut is_truncated) = (true, false);
        for step in steps {
            match step {
                Step::Put(records, codec, producer) => {
                    let mut builder = BatchBuilder::new(fixture.log.log_end_offset());
                    if producer >= 0 {
                        let sequence = sequences.entry(producer).or_insert(0);
                        builder.producer_id = ProducerId(producer);
                        builder.producer_epoch = ProducerEpoch(0);
                        builder.base_sequence = *sequence;
                        *sequence += records.len() as i32;
                    }
                    for (key, value) in &records {
                        let (key, value) = (format!("k{key}"), value.map(|value| format!("{value:->40}")));
                        let timestamp = Timestamp(100 + fixture.log.log_end_offset().0);
                        builder.append(timestamp, Some(key.as_bytes()), value.as_ref().map(String::as_bytes));
                    }
                    let codec = Codec::default_of(CompressionType::from_id(codec).unwrap());
                    let batch = builder.build_compressed(&TestCompression, codec).unwrap();
                    fixture.append_batch(&batch);
                    uncleaned.0.push(batch);
                }
                Step::Roll => fixture.log.roll(&fixture.state).unwrap(),
                Step::Clean { patience, later_ms } => {
                    now = Timestamp(now.0 + later_ms);
                    let left = Cell::new(patience);
                    let go_on = |_| left.get().checked_sub(1).map(|less| left.set(less)).is_some();
                    match clean_with(&fixture, now, &go_on) {
                        Ok(_) | Err(CleaningError::Aborted) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                Step::Restart { without_index } => {
                    has_snapshots &= !without_index;
                    let stopped = fixture.stop();
                    if without_index {
                        std::fs::remove_dir_all(stopped.0.path().join("data0/.ottla")).unwrap();
                    }
                    fixture = Fixture::start(stopped);
                }
                Step::Truncate(index) => {
                    is_truncated = true;
                    let (start, end) = (fixture.log.log_start_offset().0, fixture.log.log_end_offset().0);
                    // Replication never truncates below what was cleaned: that is below the high watermark.
                    let cleaned = fixture.log.segments().last().unwrap().base_offset.0.max(start);
                    let target = Offset(cleaned + index.index((end - cleaned + 1) as usize) as i64);
                    fixture.log.truncate(target, &mut fixture.state).unwrap();
                    let end = fixture.log.log_end_offset();
                    uncleaned.0.retain(|batch| batch.header.next_offset() <= end);
                    sequences.clear();
                    for batch in uncleaned.0.iter().filter(|batch| batch.header.has_producer_id()) {
                        sequences.insert(batch.header.producer_id.0, batch.header.last_sequence() + 1);
                    }
                }
                Step::AdvanceLogStart(index) => {
                    let (start, end) = (fixture.log.log_start_offset().0, fixture.log.log_end_offset().0);
                    let target = Offset(start + index.index((end - start + 1) as usize) as i64);
                    fixture.log.advance_log_start(target).unwrap();
                    fixture.state.raise_high_watermark(Offset(end));
                    fixture.state.raise_log_start(target).unwrap();
                }
            }
            let log_start = fixture.log.log_start_offset();
            let readable: Vec<_> = all_rows(&fixture).into_iter().filter(|row| row.0 >= log_start.0).collect();
            prop_assert_eq!(live(&readable), uncleaned.live(log_start));
            prop_assert_eq!(fixture.log.log_end_offset(), fixture.state.offsets.log_end());
            for (producer, sequence) in &sequences {
                let known = fixture.state.producers.get(ProducerId(*producer));
                let is_read = uncleaned.0.iter().any(|batch| {
                    batch.header.producer_id.0 == *producer && batch.header.base_offset >= log_start
                });
                if is_read && (has_snapshots || !is_truncated) {
                    prop_assert_eq!(known.map(|known| known.last_sequence()), Some(sequence - 1));
                }
            }
        }
        check_lookups(&fixture);
    }
}
