use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use ottla_compression::Codecs;
use ottla_domain::coordinator::{Effects, Now, Shard, Stored, Token};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::{LeaderEpoch, Mono, Offset, ProducerEpoch, ProducerId, Timestamp};
use ottla_domain::log::state::LogState;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::memory::MemoryLog;
use ottla_domain::ports::outbound::{EncodedBatch, OpenedLog, PartitionLog as _};
use ottla_domain::record::batch::RecordBatch;
use ottla_domain::record::control::{ControlRecordType, EndTxnMarker, control_batch};
use ottla_domain::record::primitives::EncodeError;
use ottla_domain::record::records::BatchBuilder;
use tokio::runtime::Handle;

use super::actor::Actor;
use super::stages::{Stage, Stages};
use super::{CoordinatorFacts, CoordinatorSettings};
use crate::broker::{Durability, InlineWrites, LedPartition, Tools};
use crate::clock::{SystemClock, SystemEntropy};

/// Counts by name; a name that begins with `?` is asked about, one with `~` is answered by the next count of any name.
#[derive(Default)]
struct Counters {
    counts: BTreeMap<String, usize>,
    /// What transactions count.
    open: Vec<(ProducerId, String)>,
    waiting: Vec<Token>,
    due: Option<Mono>,
}

/// A count that is due as long as it waits.
const LATER: &str = "later";

impl Shard for Counters {
    type Command = String;
    type Reply = usize;
    type Record = String;
    type Event = Infallible;

    fn encode(record: &String, key: &mut BytesMut, value: &mut BytesMut) -> Result<bool, EncodeError> {
        key.put_slice(record.as_bytes());
        value.put_slice(b"+1");
        Ok(record != "tombstone")
    }

    fn decode(key: Option<&[u8]>, _: Option<&[u8]>) -> Result<Stored<String>, String> {
        match std::str::from_utf8(key.unwrap_or_default()) {
            Ok("unknown") => Ok(Stored::Unknown(7)),
            Ok("unreadable") => Err("told to fail".to_owned()),
            Ok(key) => Ok(Stored::Record(key.to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn handle(&mut self, now: Now, _: u128, command: String, token: Token) -> Effects<String, usize> {
        let count = |name: &str| self.counts.get(name).copied().unwrap_or(0);
        if let Some(name) = command.strip_prefix('?') {
            return Effects::reply(token, count(name));
        }
        if command == "~" {
            self.waiting.push(token);
            return Effects::default();
        }
        if command == LATER {
            self.due = Some(now.mono.plus_ms(1));
            self.waiting.push(token);
            return Effects::default();
        }
        let next = count(&command) + 1;
        let mut replies = vec![(token, next)];
        replies.extend(self.waiting.drain(..).map(|token| (token, 0)));
        Effects {
            records: vec![command],
            replies,
            ..Effects::default()
        }
    }

    fn on_deadline(&mut self, _: Now, _: u128) -> Effects<String, usize> {
        self.due = None;
        Effects {
            records: vec![LATER.to_owned()],
            replies: self.waiting.drain(..).map(|token| (token, 99)).collect(),
            ..Effects::default()
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.due
    }

    fn on_image(&mut self, _: Now, _: Arc<MetadataImage>) -> Effects<String, usize> {
        Effects::default()
    }

    fn apply(&mut self, _: Offset, producer: Option<ProducerId>, record: String) -> Result<(), String> {
        match producer {
            Some(producer) => self.open.push((producer, record)),
            None => *self.counts.entry(record).or_default() += 1,
        }
        Ok(())
    }

    fn apply_marker(&mut self, producer: ProducerId, is_committed: bool) {
        for (_, record) in self.open.extract_if(.., |(of, _)| *of == producer) {
            *self.counts.entry(record).or_default() += usize::from(is_committed);
        }
    }

    fn loaded(&mut self, _: Now) -> Effects<String, usize> {
        Effects::default()
    }
}

fn actor_on(opened: OpenedLog<MemoryLog>, durability: Durability) -> Arc<Actor<MemoryLog, Counters>> {
    let tools = Tools {
        inline_writes: InlineWrites::among(2),
        clock: SystemClock::default(),
        entropy: SystemEntropy,
        compression: Box::new(Codecs),
        durability,
        trust_compressed: false,
    };
    let settings = CoordinatorSettings {
        topic: "memory",
        load_buffer_bytes: 100,
        commit_timeout_ms: 60_000,
    };
    let actor = Actor::new(
        LedPartition::alone(opened, tools),
        Arc::new(settings),
        Arc::new(Stages::new()),
        Handle::current(),
    );
    actor.start(Arc::new(|_: &Arc<MetadataImage>| Counters::default()), Arc::default());
    actor
}

fn actor(durability: Durability) -> Arc<Actor<MemoryLog, Counters>> {
    actor_on(MemoryLog::default().after_power_failure(), durability)
}

fn facts_of(actor: &Actor<MemoryLog, Counters>) -> CoordinatorFacts {
    let mut facts = CoordinatorFacts::default();
    actor.add_to(&mut facts);
    facts
}

/// Asks again while the shard is loading, and while it is about to.
async fn ask(actor: &Arc<Actor<MemoryLog, Counters>>, command: &str) -> Result<usize, ErrorCode> {
    loop {
        match actor.submit(command.to_owned()).await {
            Err(ErrorCode::CoordinatorLoadInProgress) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn commands_are_counted_and_read_again_after_a_restart() {
    let actor = actor(Durability::None);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let actor = Arc::clone(&actor);
        tasks.push(tokio::spawn(async move {
            for _ in 0..200 {
                ask(&actor, "a").await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    ask(&actor, "unknown").await.unwrap();
    assert_eq!(ask(&actor, "?a").await, Ok(1_600));
    let (none, totals) = (Stages::new().totals(), actor.stages.totals());
    for stage in Stage::ALL {
        let [longest] = totals.quantiles_ms(&none, stage, [1.0]);
        assert!(longest > 0.0, "{stage:?}");
        assert_eq!(totals.quantiles_ms(&totals, stage, [0.5, 1.0]), [0.0, 0.0]);
    }
    actor.partition.sync();
    let again = actor_on(actor.partition.log().after_power_failure(), Durability::None);
    assert_eq!(ask(&again, "?a").await, Ok(1_600));
    assert_eq!(ask(&again, "?unknown").await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn one_event_answers_many_and_time_comes_by_itself() {
    let actor = actor(Durability::None);
    assert_eq!(ask(&actor, "a").await, Ok(1));
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let actor = Arc::clone(&actor);
            tokio::spawn(async move { ask(&actor, "~").await })
        })
        .collect();
    // Each is in the shard before it is answered.
    while actor.waiting_count() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&actor, "a").await, Ok(2));
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), Ok(0));
    }
    assert_eq!(ask(&actor, LATER).await, Ok(99));
    assert_eq!(ask(&actor, "?later").await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whoever_looks_holds_nobody_up() {
    let actor = actor(Durability::None);
    assert_eq!(ask(&actor, "a").await, Ok(1));
    let looking = Arc::clone(&actor);
    let (asked, answered) = std::sync::mpsc::channel();
    let asking = tokio::task::spawn_blocking(move || {
        looking.look_at(|counters| {
            // It finds the state taken, and leaves its letter to whoever has it.
            let actor = Arc::clone(&looking);
            let second = Handle::current().spawn(async move { ask(&actor, "a").await });
            while facts_of(&looking).queued == 0 {
                std::thread::yield_now();
            }
            asked.send(second).unwrap();
            counters.counts["a"]
        })
    });
    assert_eq!(asking.await.unwrap(), Some(1));
    assert_eq!(answered.recv().unwrap().await.unwrap(), Ok(2));
    let facts = facts_of(&actor);
    assert_eq!((facts.active, facts.load_times.len()), (1, 1));
    actor.close();
    assert_eq!(actor.look_at(|_| ()), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nobody_hears_of_what_is_not_committed() {
    // Nothing is committed before it is synced, which append starts; a log that fails never is.
    let actor = actor(Durability::Ack);
    assert_eq!(ask(&actor, "a").await, Ok(1));
    assert_eq!(actor.partition.high_watermark(), Offset(1));
    actor.partition.log().fail();
    assert_eq!(ask(&actor, "a").await, Err(ErrorCode::NotCoordinator));
    // The state in memory was ahead of the log.
    assert!(matches!(
        ask(&actor, "?a").await,
        Ok(1) | Err(ErrorCode::NotCoordinator)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn another_term_is_another_shard() {
    let actor = actor(Durability::None);
    assert_eq!(ask(&actor, "a").await, Ok(1));
    // Led on, in another epoch.
    actor.partition.begin_epoch(LeaderEpoch(1), true);
    assert_eq!(ask(&actor, "a").await, Ok(2));
    actor.partition.begin_epoch(LeaderEpoch(2), false);
    assert_eq!(ask(&actor, "a").await, Err(ErrorCode::NotCoordinator));
    // Others may have written in between.
    actor.partition.begin_epoch(LeaderEpoch(3), true);
    assert_eq!(ask(&actor, "a").await, Err(ErrorCode::NotCoordinator));
    actor.close();
    assert_eq!(ask(&actor, "?a").await, Err(ErrorCode::NotCoordinator));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_log_that_cannot_be_read_is_not_served() {
    let actor = actor(Durability::None);
    ask(&actor, "unreadable").await.unwrap();
    actor.partition.sync();
    let again = actor_on(actor.partition.log().after_power_failure(), Durability::None);
    assert_eq!(ask(&again, "?a").await, Err(ErrorCode::NotCoordinator));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_log_that_cannot_be_read_for_a_while_is_served_later() {
    let first = actor(Durability::None);
    ask(&first, "a").await.unwrap();
    first.partition.sync();
    let opened = first.partition.log().after_power_failure();
    opened.log.set_readable(false);
    let again = actor_on(opened, Durability::None);
    assert_eq!(ask(&again, "?a").await, Err(ErrorCode::NotCoordinator));
    again.partition.log().set_readable(true);
    loop {
        match ask(&again, "?a").await {
            Err(ErrorCode::NotCoordinator) => tokio::task::yield_now().await,
            answer => break assert_eq!(answer, Ok(1)),
        }
    }
    assert_eq!(facts_of(&again).failed, 0);
}

/// A batch of a producer's transaction.
fn of_transaction(producer: i64, names: &[&str]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset::ZERO);
    builder.attributes = builder.attributes.with_transactional(true);
    (builder.producer_id, builder.producer_epoch) = (ProducerId(producer), ProducerEpoch(0));
    for name in names {
        builder.append(Timestamp(1), Some(name.as_bytes()), Some(b"+1"));
    }
    builder.build()
}

/// The marker that ends it.
fn end(producer: i64, committed: bool) -> RecordBatch {
    let marker = EndTxnMarker {
        committed,
        coordinator_epoch: 0,
    };
    marker.batch(ProducerId(producer), ProducerEpoch(0), Timestamp(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn transactions_in_the_log_count_once_they_are_committed() {
    let leader_change = (ControlRecordType::LeaderChange, Bytes::new());
    let written = [
        of_transaction(7, &["a", "b"]),
        of_transaction(8, &["a"]),
        of_transaction(7, &["a"]),
        end(8, false),
        of_transaction(9, &["b"]),
        end(7, true),
        control_batch(Offset::ZERO, Timestamp(1), [leader_change]).build(),
        of_transaction(7, &["b"]),
    ];
    let log = MemoryLog::default();
    for batch in written {
        let header = batch.header.with_offset(log.log_end_offset(), LeaderEpoch(0));
        let encoded = EncodedBatch {
            header,
            header_bytes: header.encode(),
            body: batch.body(),
        };
        log.append(&[encoded], &LogState::empty_at(Offset::ZERO), Timestamp(1))
            .unwrap();
    }
    log.sync().unwrap();
    let actor = actor_on(log.after_power_failure(), Durability::None);
    assert_eq!(ask(&actor, "?a").await, Ok(2));
    assert_eq!(ask(&actor, "?b").await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn records_that_do_not_fit_harm_nobody_else() {
    let actor = actor(Durability::None);
    assert_eq!(ask(&actor, "a").await, Ok(1));
    let large = "x".repeat(2 << 20);
    assert_eq!(ask(&actor, &large).await, Err(ErrorCode::UnknownServerError));
    // The shard may have changed in ways that no record tells of, and is loaded again.
    loop {
        match ask(&actor, "?a").await {
            Err(ErrorCode::NotCoordinator) => tokio::task::yield_now().await,
            answer => break assert_eq!(answer, Ok(1)),
        }
    }
}
