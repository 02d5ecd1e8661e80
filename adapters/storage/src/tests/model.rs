//! A log does what a list of batches does: random appends, reads, lookups, deletions, truncations and restarts.

use ottla_domain::ids::{ProducerEpoch, ProducerId};
use ottla_domain::log::producers::ProducerStates;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        records: u8,
        value_size: u16,
        timestamp: i64,
        producer: i64,
    },
    NewEpoch,
    Roll,
    Sync,
    Checkpoint,
    AdvanceLogStart(prop::sample::Index),
    Truncate(prop::sample::Index),
    Restart {
        cleanly: bool,
        without_index: bool,
    },
    Read(prop::sample::Index, u16),
    FindTimestamp(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let append =
        (1u8..5, 0u16..400, 0i64..1000, -1i64..3).prop_map(|(records, value_size, timestamp, producer)| Step::Append {
            records,
            value_size,
            timestamp,
            producer,
        });
    prop_oneof![
        20 => append,
        1 => Just(Step::NewEpoch),
        1 => Just(Step::Roll),
        1 => Just(Step::Sync),
        1 => Just(Step::Checkpoint),
        1 => any::<prop::sample::Index>().prop_map(Step::AdvanceLogStart),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(cleanly, without_index)| Step::Restart { cleanly, without_index }),
        4 => (any::<prop::sample::Index>(), any::<u16>()).prop_map(|(from, size)| Step::Read(from, size)),
        4 => (0i64..1100).prop_map(Step::FindTimestamp),
    ]
}

struct Model {
    fixture: Fixture,
    batches: Vec<RecordBatch>,
    log_start: Offset,
    log_end: Offset,
    epoch: i32,
    sequences: [i32; 3],
}

impl Model {
    fn pick(&self, index: prop::sample::Index) -> Offset {
        let count = self.log_end.0 - self.log_start.0 + 1;
        Offset(self.log_start.0 + index.index(count as usize) as i64)
    }

    /// The batches that are not wholly deleted.
    fn kept(&self) -> impl Iterator<Item = &RecordBatch> + Clone {
        self.batches
            .iter()
            .filter(|batch| batch.header.last_offset() >= self.log_start)
    }

    fn run(mut self, step: Step) -> Model {
        match step {
            Step::Append {
                records,
                value_size,
                timestamp,
                producer,
            } => {
                let mut builder = BatchBuilder::new(self.log_end);
                builder.partition_leader_epoch = LeaderEpoch(self.epoch);
                if let Some(sequence) = usize::try_from(producer).ok().and_then(|id| self.sequences.get_mut(id)) {
                    builder.producer_id = ProducerId(producer);
                    builder.producer_epoch = ProducerEpoch(0);
                    builder.base_sequence = *sequence;
                    *sequence += i32::from(records);
                }
                for record in 0..records {
                    let value = values(usize::from(value_size));
                    builder.append(Timestamp(timestamp - i64::from(record)), None, Some(value.as_bytes()));
                }
                let batch = builder.build();
                self.fixture.append_batch(&batch);
                self.log_end = batch.header.next_offset();
                self.batches.push(batch);
            }
            Step::NewEpoch => self.epoch += 1,
            Step::Roll => self.fixture.log.roll(&self.fixture.state).unwrap(),
            Step::Sync => assert_eq!(self.fixture.log.sync().unwrap(), self.log_end),
            Step::Checkpoint => self.fixture.checkpoint(),
            Step::AdvanceLogStart(index) => {
                self.log_start = self.pick(index);
                self.fixture.log.advance_log_start(self.log_start).unwrap();
                self.fixture.state.raise_high_watermark(self.log_end);
                self.fixture.state.raise_log_start(self.log_start).unwrap();
            }
            Step::Truncate(index) => {
                let end = self.pick(index);
                self.fixture.log.truncate(end, &mut self.fixture.state).unwrap();
                if end < self.log_end {
                    self.batches.retain(|batch| batch.header.last_offset() < end);
                    let last_end = self.kept().last().map(|last| last.header.next_offset());
                    // A cut within the first batch leaves nothing.
                    self.log_end = last_end.unwrap_or(end.min(self.log_start));
                }
                self.log_start = self.log_start.min(self.log_end);
                self.sequences = [0; 3];
                for batch in self.batches.iter().filter(|batch| batch.header.has_producer_id()) {
                    self.sequences[batch.header.producer_id.0 as usize] = batch.header.last_sequence() + 1;
                }
            }
            Step::Restart { cleanly, without_index } => {
                if cleanly {
                    self.fixture.stop_cleanly();
                }
                let stopped = self.fixture.stop();
                if without_index {
                    std::fs::remove_dir_all(stopped.0.path().join("data0/.ottla")).unwrap();
                }
                self.fixture = Fixture::start(stopped);
            }
            Step::Read(from, max_bytes) => self.check_read(self.pick(from), usize::from(max_bytes)),
            Step::FindTimestamp(timestamp) => self.check_timestamp(Timestamp(timestamp)),
        }
        self.check();
        self
    }

    fn check(&self) {
        let (log, state) = (&self.fixture.log, &self.fixture.state);
        assert_eq!(log.log_start_offset(), self.log_start);
        assert_eq!(log.log_end_offset(), self.log_end);
        assert_eq!(
            (state.offsets.log_start(), state.offsets.log_end()),
            (self.log_start, self.log_end)
        );

        let mut producers = ProducerStates::default();
        for batch in self.kept() {
            producers.replay(&batch.header, None);
            let first_kept = batch.header.base_offset.max(self.log_start);
            assert_eq!(
                state.epochs.epoch_for_offset(first_kept),
                Some(batch.header.partition_leader_epoch)
            );
        }
        for (id, producer) in producers.iter() {
            let known = state.producers.get(id).unwrap();
            assert_eq!(known.batches().last(), producer.batches().last());
        }
    }

    fn check_read(&self, from: Offset, max_bytes: usize) {
        let log = &self.fixture.log;
        let slice = log.read(from, self.log_end, max_bytes, true).unwrap();
        let bytes = log.load(&slice).unwrap();
        let mut expected = Vec::new();
        for batch in self.kept().filter(|batch| batch.header.last_offset() >= from) {
            expected.extend_from_slice(batch.bytes());
        }
        assert!(expected.starts_with(&bytes));
        let first_size = self
            .kept()
            .find(|batch| batch.header.last_offset() >= from)
            .map_or(0, |batch| batch.bytes().len());
        assert!(bytes.len() <= max_bytes.max(first_size));
        assert!(bytes.len() >= first_size);
        assert_eq!(slice.size_bytes(), bytes.len());
    }

    fn check_timestamp(&self, timestamp: Timestamp) {
        let log = &self.fixture.log;
        let expected = self.kept().find(|batch| batch.header.max_timestamp >= timestamp);
        let found = log.find_by_timestamp(timestamp, self.log_end).unwrap();
        assert_eq!(found.as_ref(), expected.map(|batch| batch.bytes()));

        let largest = self.kept().map(|batch| batch.header.max_timestamp).max();
        let earliest = self.kept().find(|batch| Some(batch.header.max_timestamp) == largest);
        let segments = log.segments();
        if segments.iter().map(|segment| segment.largest_timestamp).max() == largest {
            let found = log.find_largest_timestamp(self.log_end).unwrap();
            assert_eq!(found.as_ref(), earliest.map(|batch| batch.bytes()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_does_what_a_list_of_batches_does(steps in prop::collection::vec(step(), 1..80)) {
        let model = Model {
            fixture: Fixture::new(small()),
            batches: Vec::new(),
            log_start: Offset(0),
            log_end: Offset(0),
            epoch: 0,
            sequences: [0; 3],
        };
        steps.into_iter().fold(model, Model::run);
    }
}
