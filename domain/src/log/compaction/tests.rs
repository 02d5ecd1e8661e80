use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::config::CleanupPolicy;
use crate::log::producers::ProducerStates;
use crate::log::state::LogState;
use crate::record::batch::{BatchHeader, RecordBatch};
use crate::record::control::{ControlRecordType, EndTxnMarker};
use crate::record::records::{BatchBuilder, Records};

const DAY_MS: i64 = 86_400_000;

/// Segments of 100 bytes at 0, 10, 20 and 30 (active) whose largest timestamps are 1000, 2000, 3000 and 4000; the log ends
/// at 35.
fn segments() -> Vec<SegmentFacts> {
    let segment = |index: i64| SegmentFacts {
        base_offset: Offset(index * 10),
        size_bytes: 100,
        largest_timestamp: Timestamp((index + 1) * 1000),
    };
    (0..4).map(segment).collect()
}

fn compacted() -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..LogConfig::default()
    }
}

fn cleanable(config: &LogConfig, log_start: i64, last_stable: i64, checkpoint: Option<i64>, now: i64) -> Cleanable {
    let offsets = LogOffsets::new(Offset(log_start), Offset(35), Offset(35));
    let first = |segment: &SegmentFacts| Timestamp(segment.largest_timestamp.0 - 900);
    Cleanable::of(
        config,
        &offsets,
        Offset(last_stable),
        &segments(),
        checkpoint.map(Offset),
        first,
        Timestamp(now),
    )
}

#[test]
fn what_is_decided_and_old_enough_is_cleanable() {
    let at = |cleanable: Cleanable| {
        (
            cleanable.first_dirty.0,
            cleanable.first_uncleanable.0,
            cleanable.clean_bytes,
            cleanable.cleanable_bytes,
        )
    };
    let config = compacted();
    assert_eq!(at(cleanable(&config, 0, 35, None, 9000)), (0, 30, 0, 300));
    assert_eq!(at(cleanable(&config, 0, 35, Some(10), 9000)), (10, 30, 100, 200));
    // The middle of a segment: it is clean and dirty.
    assert_eq!(at(cleanable(&config, 0, 35, Some(15), 9000)), (15, 30, 200, 200));
    // An open transaction.
    assert_eq!(at(cleanable(&config, 0, 25, Some(10), 9000)), (10, 20, 100, 100));
    assert_eq!(at(cleanable(&config, 0, 5, Some(10), 9000)), (10, 10, 100, 0));
    assert_eq!(at(cleanable(&config, 0, 35, Some(30), 9000)), (30, 30, 300, 0));
    assert_eq!(at(cleanable(&config, 0, 35, Some(33), 9000)), (33, 30, 400, 0));
    // Checkpoints that lie outside of the log.
    let reset = cleanable(&config, 12, 35, Some(10), 9000);
    assert_eq!((at(reset), reset.resets_checkpoint), ((12, 30, 200, 200), true));
    let reset = cleanable(&config, 0, 35, Some(36), 9000);
    assert_eq!((at(reset), reset.resets_checkpoint), ((0, 30, 0, 300), true));

    let lagging = LogConfig {
        min_compaction_lag_ms: 500,
        ..compacted()
    };
    assert_eq!(at(cleanable(&lagging, 0, 35, None, 2499)), (0, 10, 0, 100));
    assert_eq!(at(cleanable(&lagging, 0, 35, None, 2500)), (0, 20, 0, 200));
}

#[test]
fn a_log_is_due_when_it_is_dirty_or_records_wait_too_long() {
    let mut config = compacted();
    assert!(cleanable(&config, 0, 35, Some(10), 9000).is_due(&config));
    assert!(!cleanable(&config, 0, 35, Some(20), 9000).is_due(&config));
    assert_eq!(cleanable(&config, 0, 35, Some(20), 9000).overdue_ms, 0);
    config.max_compaction_lag_ms = 1000;
    // The first batch of the dirty segment is of 2100.
    assert_eq!(cleanable(&config, 0, 35, Some(20), 3100).overdue_ms, 0);
    let overdue = cleanable(&config, 0, 35, Some(20), 3105);
    assert_eq!((overdue.overdue_ms, overdue.is_due(&config)), (5, true));
    let undecided = cleanable(&config, 0, 20, Some(20), 9000);
    assert!(!undecided.is_due(&config));
    config.min_cleanable_dirty_ratio = 0.0;
    config.max_compaction_lag_ms = i64::MAX;
    assert!(!cleanable(&config, 0, 35, Some(30), 9000).is_due(&config));
}

#[test]
fn segments_are_joined_while_they_fit() {
    let config = LogConfig {
        segment_bytes: 250,
        segment_index_bytes: 50,
        ..compacted()
    };
    let facts = |base: i64, size_bytes, offset_index_bytes, time_index_bytes| GroupFacts {
        base_offset: Offset(base),
        size_bytes,
        offset_index_bytes,
        time_index_bytes,
    };
    let group = |segments: &[GroupFacts]| group_segments(&config, segments, Offset(1 << 40));
    assert_eq!(group(&[]), []);
    let sizes = [
        facts(0, 100, 0, 0),
        facts(10, 150, 0, 0),
        facts(20, 1, 0, 0),
        facts(30, 900, 0, 0),
    ];
    assert_eq!(group(&sizes[..3]), [0..2, 2..3]);
    assert_eq!(group(&sizes), [0..2, 2..3, 3..4]);
    let indexes = [
        facts(0, 1, 30, 0),
        facts(10, 1, 20, 10),
        facts(20, 1, 1, 45),
        facts(30, 0, 0, 0),
    ];
    assert_eq!(group(&indexes), [0..2, 2..4]);
    let far = i64::from(i32::MAX);
    let offsets = [
        facts(0, 1, 0, 0),
        facts(far, 1, 0, 0),
        facts(far + 1, 1, 0, 0),
        facts(far + 2, 0, 0, 0),
    ];
    assert_eq!(group(&offsets), [0..2, 2..4]);
}

/// A record as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn records_of(batch: &RecordBatch) -> Vec<Seen> {
    let body = batch.body();
    let records = Records::new(&batch.header, &body).unwrap().map(Result::unwrap);
    let seen = records.map(|record| Seen {
        offset: record.offset.0,
        timestamp: record.timestamp.0,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
    });
    seen.collect()
}

/// The transactions of a log as a cleaning learns of them.
fn transactions(log: &[RecordBatch]) -> CleanedTransactions {
    let mut finder = AbortedFinder::default();
    for batch in log {
        match batch.header.attributes.is_control() {
            true => finder.on_control(&batch.header, control_type(batch)),
            false => finder.on_data(&batch.header),
        }
    }
    let mut transactions = CleanedTransactions::default();
    transactions.add_aborted(finder.into_found());
    transactions
}

fn control_type(batch: &RecordBatch) -> Option<ControlRecordType> {
    let records = records_of(batch);
    let key = records.first()?.key.clone()?;
    ControlRecordType::parse_key(&key).ok()
}

struct Cleaning {
    first_dirty: Offset,
    upper: Offset,
    now: i64,
    delete_retention_ms: i64,
    memory_bytes: u64,
}

impl Default for Cleaning {
    fn default() -> Self {
        Cleaning {
            first_dirty: Offset(0),
            upper: Offset(i64::MAX),
            now: 1_000_000,
            delete_retention_ms: DAY_MS,
            memory_bytes: 1 << 20,
        }
    }
}

impl Cleaning {
    fn map(&self, log: &[RecordBatch]) -> OffsetMap {
        let mut map = OffsetMap::new(self.memory_bytes, 0.9, 3);
        let mut transactions = transactions(log);
        for batch in log
            .iter()
            .filter(|batch| batch.header.last_offset() >= self.first_dirty)
        {
            let header = &batch.header;
            if header.attributes.is_control() {
                transactions.on_control(header, control_type(batch));
                map.extend_to(header.last_offset());
            } else if transactions.on_data(header) {
                map.extend_to(header.last_offset());
            } else if map_records(&mut map, header, &batch.body(), self.first_dirty).unwrap() == Mapped::Partly {
                break;
            }
        }
        map
    }

    /// The log after the cleaning, and where it ended.
    fn run(&self, log: &[RecordBatch], producers: &ProducerStates) -> (Vec<RecordBatch>, Offset) {
        let map = self.map(log);
        let mut transactions = transactions(log);
        let filter = BatchFilter {
            map: &map,
            producers,
            upper: self.upper,
            now: Timestamp(self.now),
            delete_retention_ms: self.delete_retention_ms,
        };
        let (mut cleaned, mut out, mut counts) = (Vec::new(), vec![7], Counts::default());
        for batch in log {
            let header = &batch.header;
            let can_discard = match header.attributes.is_control() {
                true => transactions.on_control(header, control_type(batch)),
                false => transactions.on_data(header),
            };
            let retention = filter.retention(header, can_discard);
            if retention.is_dropped() {
                continue;
            }
            match filter
                .filter(header, retention, &batch.body(), &mut out, &mut counts)
                .unwrap()
            {
                Outcome::Drop => {}
                Outcome::Keep => cleaned.push(batch.clone()),
                Outcome::Empty(header) => cleaned.push(RecordBatch::new(header, &[])),
                Outcome::Rewrite(header) => cleaned.push(RecordBatch::new(BatchFilter::finish(header, &out), &out)),
            }
        }
        for batch in &cleaned {
            batch.check_crc().unwrap();
        }
        (cleaned, map.latest_offset().next())
    }
}

fn batch(base: i64, records: &[(i64, Option<&str>, Option<&str>)]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset(base));
    for (timestamp, key, value) in records {
        builder.append(Timestamp(*timestamp), key.map(str::as_bytes), value.map(str::as_bytes));
    }
    builder.build()
}

fn offsets(log: &[RecordBatch]) -> Vec<i64> {
    log.iter().flat_map(records_of).map(|record| record.offset).collect()
}

#[test]
fn the_latest_record_of_each_key_stays_and_batches_become_sparse() {
    let log = [
        batch(
            0,
            &[
                (5, Some("a"), Some("1")),
                (9, Some("b"), Some("1")),
                (7, Some("c"), Some("1")),
            ],
        ),
        batch(3, &[(8, Some("b"), Some("2")), (8, None, Some("no key"))]),
        batch(5, &[(8, Some("d"), Some("1"))]),
    ];
    let (cleaned, end) = Cleaning::default().run(&log, &ProducerStates::default());
    assert_eq!((offsets(&cleaned), end), (vec![0, 2, 3, 5], Offset(6)));
    assert_eq!(records_of(&cleaned[0])[1], records_of(&log[0])[2]);
    let header = cleaned[0].header;
    assert_eq!(
        (header.base_offset, header.last_offset(), header.record_count),
        (Offset(0), Offset(2), 2)
    );
    assert_eq!(header.max_timestamp, Timestamp(7));
    // Nothing was dropped of it: the very same bytes.
    assert_eq!(cleaned[2], log[2]);
    // Again: nothing changes.
    assert_eq!(Cleaning::default().run(&cleaned, &ProducerStates::default()).0, cleaned);
}

#[test]
fn tombstones_get_a_horizon_and_go_when_it_has_passed() {
    let log = [
        batch(0, &[(5, Some("a"), Some("1"))]),
        batch(1, &[(6, Some("a"), None), (60, Some("b"), Some("2"))]),
        batch(3, &[(7, Some("c"), Some("1"))]),
    ];
    let at = |now| Cleaning {
        now,
        delete_retention_ms: 100,
        ..Cleaning::default()
    };
    let producers = ProducerStates::default();
    let (first, _) = at(1000).run(&log, &producers);
    assert_eq!(offsets(&first), [1, 2, 3]);
    let header = first[0].header;
    assert!(header.attributes.has_delete_horizon() && !first[1].header.attributes.has_delete_horizon());
    assert_eq!(
        (header.base_timestamp, header.max_timestamp),
        (Timestamp(1100), Timestamp(60))
    );
    assert_eq!(records_of(&first[0]), records_of(&log[1]));
    // The horizon is set once.
    assert_eq!(at(1099).run(&first, &producers).0, first);
    let (second, _) = at(1100).run(&first, &producers);
    assert_eq!(offsets(&second), [2, 3]);
    assert_eq!(records_of(&second[0])[0].timestamp, 60);
}

#[test]
fn the_last_batch_of_a_producer_and_of_the_cleaning_stay_empty() {
    let mut state = LogState::empty_at(Offset(0));
    let log: Vec<_> = (0..4)
        .map(|index| {
            let mut builder = BatchBuilder::new(Offset(index * 2));
            builder.partition_leader_epoch = crate::ids::LeaderEpoch(3);
            builder.producer_id = ProducerId(index / 2);
            builder.producer_epoch = ProducerEpoch(1);
            builder.base_sequence = index as i32 % 2 * 2;
            for value in ["1", "2"] {
                builder.append(Timestamp(50 + index), Some(b"key"), Some(value.as_bytes()));
            }
            let batch = builder.build();
            state.replay(&batch.header, None);
            batch
        })
        .collect();
    let (cleaned, _) = Cleaning::default().run(&log, &state.producers);
    assert_eq!(offsets(&cleaned), [7]);
    let [empty, last] = &cleaned[..] else {
        panic!("{cleaned:?}")
    };
    assert_eq!((empty.header.base_offset, empty.header.last_sequence()), (Offset(2), 3));
    assert_eq!(empty.header.record_count, 0);
    assert_eq!(empty.header.max_timestamp, Timestamp(51));
    assert_eq!((last.header.base_offset, last.header.last_sequence()), (Offset(6), 3));
    // Replaying the cleaned log gives what is known of the producers' last batches.
    let mut replayed = LogState::empty_at(Offset(0));
    for batch in &cleaned {
        replayed.replay(&batch.header, None);
    }
    for (id, producer) in state.producers.iter() {
        let known = replayed.producers.get(id).unwrap();
        assert_eq!(
            (known.epoch(), known.last_sequence()),
            (producer.epoch(), producer.last_sequence())
        );
    }

    // Without producers only the batch before the end of the cleaning stays.
    let upper = Cleaning {
        upper: Offset(4),
        ..Cleaning::default()
    };
    let (cleaned, _) = upper.run(&log, &ProducerStates::default());
    let ends: Vec<_> = cleaned.iter().map(|batch| batch.header.next_offset().0).collect();
    assert_eq!(ends, [4, 8]);
}

fn transactional(base: i64, producer: i64, key: &str) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset(base));
    builder.producer_id = ProducerId(producer);
    builder.producer_epoch = ProducerEpoch(0);
    builder.base_sequence = 0;
    builder.attributes = builder.attributes.with_transactional(true);
    builder.append(Timestamp(5), Some(key.as_bytes()), Some(b"value"));
    builder.build()
}

fn marker(base: i64, producer: i64, committed: bool) -> RecordBatch {
    let marker = EndTxnMarker {
        committed,
        coordinator_epoch: 0,
    };
    let batch = marker.batch(ProducerId(producer), ProducerEpoch(0), Timestamp(6));
    let header = batch
        .header
        .with_offset(Offset(base), batch.header.partition_leader_epoch);
    RecordBatch::new(header, &batch.body())
}

#[test]
fn aborted_records_go_at_once_and_markers_when_their_transaction_is_gone_and_their_horizon_past() {
    let log = [
        batch(0, &[(1, Some("a"), Some("committed before"))]),
        transactional(1, 7, "a"),
        transactional(2, 8, "b"),
        transactional(3, 7, "c"),
        marker(4, 7, false),
        marker(5, 8, true),
        batch(6, &[(1, Some("z"), Some("other"))]),
    ];
    let at = |now| Cleaning {
        now,
        delete_retention_ms: 100,
        ..Cleaning::default()
    };
    let producers = ProducerStates::default();
    // What was aborted has no say in what is the latest.
    let (first, _) = at(1000).run(&log, &producers);
    assert_eq!(offsets(&first), [0, 2, 4, 5, 6]);
    assert_eq!(first[2], log[4], "the marker was needed until now");
    // The aborted records are gone: from now on the marker's time counts.
    let (second, _) = at(1000).run(&first, &producers);
    assert_eq!(offsets(&second), [0, 2, 4, 5, 6]);
    assert_eq!(second[2].header.base_timestamp, Timestamp(1100));
    assert_eq!(records_of(&second[2]), records_of(&log[4]));
    assert_eq!(second[3], log[5], "its transaction has records");
    assert_eq!(offsets(&at(1099).run(&second, &producers).0), [0, 2, 4, 5, 6]);
    assert_eq!(offsets(&at(1100).run(&second, &producers).0), [0, 2, 5, 6]);
}

#[test]
fn damaged_records_are_errors() {
    let good = batch(0, &[(1, Some("a"), Some("1")), (1, Some("b"), Some("2"))]);
    let mut map = OffsetMap::new(1 << 20, 0.9, 0);
    let body = good.body();
    let cases = [
        (2, body.slice(1..)),
        (1, body.clone()),
        (3, body.clone()),
        (2, Bytes::from([&body[..3], &[40], &body[4..]].concat())),
    ];
    for (record_count, body) in cases {
        let header = BatchHeader {
            record_count,
            ..good.header
        };
        assert!(
            map_records(&mut map, &header, &body, Offset(0)).is_err(),
            "{record_count} {body:?}"
        );
    }
}

#[derive(Clone, Debug)]
struct Written {
    key: Option<u8>,
    value: Option<u8>,
    ends_batch: bool,
}

fn written() -> impl Strategy<Value = Written> {
    let key = prop_oneof![9 => (0u8..12).prop_map(Some), 1 => Just(None)];
    let value = prop_oneof![4 => any::<u8>().prop_map(Some), 1 => Just(None)];
    (key, value, proptest::bool::weighted(0.3)).prop_map(|(key, value, ends_batch)| Written { key, value, ends_batch })
}

fn build(written: &[Written]) -> Vec<RecordBatch> {
    let mut log = Vec::new();
    let mut builder = BatchBuilder::new(Offset(0));
    for (index, record) in written.iter().enumerate() {
        let key = record.key.map(|key| [key]);
        let value = record.value.map(|value| [value]);
        builder.append(
            Timestamp(index as i64 * 37 % 100),
            key.as_ref().map(|key| &key[..]),
            value.as_ref().map(|value| &value[..]),
        );
        if record.ends_batch || index + 1 == written.len() {
            let next = BatchBuilder::new(Offset(index as i64 + 1));
            log.push(std::mem::replace(&mut builder, next).build());
        }
    }
    log
}

proptest! {
    /// Kafka's rules in one sentence each, over random logs, checkpoints and sizes of the map.
    #[test]
    fn cleaning_keeps_what_it_must_and_drops_what_it_may(
        written in proptest::collection::vec(written(), 1..60),
        first_dirty in 0i64..60,
        slots in 2u64..20,
        is_old in any::<bool>(),
    ) {
        let log = build(&written);
        let cleaning = Cleaning {
            first_dirty: Offset(first_dirty.min(written.len() as i64)),
            memory_bytes: slots * 24,
            ..Cleaning::default()
        };
        let (cleaned, end) = cleaning.run(&log, &ProducerStates::default());
        let all: Vec<Seen> = log.iter().flat_map(records_of).collect();
        let left: Vec<Seen> = cleaned.iter().flat_map(records_of).collect();

        // What stays is as it was, in order.
        let by_offset: BTreeMap<_, _> = all.iter().map(|record| (record.offset, record)).collect();
        for record in &left {
            prop_assert_eq!(by_offset.get(&record.offset), Some(&record));
        }
        prop_assert!(left.is_sorted_by(|a, b| a.offset < b.offset));

        let mut latest = BTreeMap::new();
        for record in all.iter().filter(|record| (cleaning.first_dirty.0..end.0).contains(&record.offset)) {
            if let Some(key) = &record.key {
                latest.insert(key.clone(), record.offset);
            }
        }
        for record in &all {
            let stays = match &record.key {
                _ if record.offset >= end.0 => true,
                None => false,
                Some(key) => latest.get(key).is_none_or(|latest| record.offset >= *latest),
            };
            prop_assert_eq!(left.contains(record), stays, "{:?} until {:?}", record, end);
        }
        // A reader that has read everything has, for each key, what it had before.
        let view = |records: &[Seen]| -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
            let keyed = records.iter().filter_map(|record| Some((record.key.clone()?, record.value.clone())));
            keyed.collect()
        };
        prop_assert_eq!(view(&all), view(&left));

        // Once more, later: tombstones go when their horizon has passed.
        let again = Cleaning {
            now: cleaning.now + if is_old { DAY_MS } else { DAY_MS - 1 },
            ..Cleaning::default()
        };
        let (later, _) = again.run(&cleaned, &ProducerStates::default());
        let later: Vec<Seen> = later.iter().flat_map(records_of).collect();
        let live = |records: &[Seen]| view(records).into_iter().filter(|(_, value)| value.is_some()).collect::<Vec<_>>();
        prop_assert_eq!(live(&later), live(&all));
        let horizons = cleaned.iter().filter(|batch| batch.header.attributes.has_delete_horizon());
        let gone = horizons.flat_map(records_of).filter(|record| record.value.is_none());
        for tombstone in gone {
            let is_latest = view(&left).get(&tombstone.key.clone().unwrap_or_default()) == Some(&None);
            if is_latest {
                prop_assert_eq!(later.contains(&tombstone), !is_old && !superseded(&left, &tombstone));
            }
        }
    }
}

fn superseded(records: &[Seen], record: &Seen) -> bool {
    records
        .iter()
        .any(|other| other.key == record.key && other.offset > record.offset)
}
