//! Kafka Streams, killed in the middle of its work and started again elsewhere.
use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ottla_compat_tests::node::{Node, Options};
use ottla_compat_tests::running::Running;
use ottla_compat_tests::scenario::{Case, Session, wait_within};
use ottla_compat_tests::tools;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

pub const CASES: &[Case] = &[Case::code("streams-words", word_count)];

/// How long the application may take to start, to come back, and to count.
const LIMIT: Duration = Duration::from_secs(180);

const WORDS: [&str; 8] = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"];
const WINDOW_MS: i64 = 60_000;
const RECORDS: usize = 3000;

/// Counts by key, as java/WordCount.java writes them.
type Counts = BTreeMap<String, usize>;

fn word_count(s: &mut Session) {
    let node = s.start(Options::with(&["group.initial.rebalance.delay.ms=0"]));
    s.shell(
        &node,
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T-lines --partitions 3",
            "kafka-topics --bootstrap-server $B --create --topic $T-counts --partitions 2",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T-counts",
        ],
    );
    let begin_ms = s.transcript.now_ms - s.transcript.now_ms % WINDOW_MS - 10 * WINDOW_MS;
    let third = RECORDS / 3;
    let first = start(s, &node, "first");
    let producer = producer(&node);
    let lines = format!("{}-lines", s.name);
    let send = |n| send(&producer, &lines, begin_ms, n);
    (0..third).for_each(send);
    // Each record changes two counts.
    wait_changes(s, &node, &first, 2 * third as u64);
    let (killed, kill) = channel::<()>();
    std::thread::scope(|scope| {
        let load = scope.spawn(move || {
            // There is work when the kill comes, however late: what comes again counts no more.
            let mut numbers = (third..2 * third).cycle();
            while kill.recv_timeout(Duration::from_millis(3)) == Err(RecvTimeoutError::Timeout) {
                numbers.by_ref().take(1).for_each(send);
            }
        });
        wait_changes(s, &node, &first, 2 * third as u64 + 500);
        // Dropping kills it.
        drop(first);
        drop(killed);
        load.join().expect("producer");
    });
    (third..RECORDS).for_each(send);
    producer.flush(Duration::from_secs(30)).expect("flushed");
    // What it knew of its work is in its changelogs and in its committed offsets, for one with no state of its own.
    let mut second = start(s, &node, "second");
    let expected = expected(begin_ms);
    wait_within(
        LIMIT,
        || (counts(s, &node) == expected).then_some(()),
        || format!("wrong counts, after {:?}:\n{:#?}", second.lines(), second.errors()),
    );
    // Streams deletes what it committed of its repartition topic, but each task only after it has read something itself:
    // records come again, and count no more.
    let ends = offsets(s, &node, "words-repartition", "latest");
    wait_within(
        LIMIT,
        || {
            (RECORDS - 100..RECORDS).for_each(send);
            producer.flush(Duration::from_secs(30)).expect("flushed");
            let starts = offsets(s, &node, "words-repartition", "earliest");
            starts.iter().zip(&ends).all(|(start, end)| start >= end).then_some(())
        },
        || format!("the repartition topic was not purged:\n{:#?}", second.errors()),
    );
    let lag = "kafka-consumer-groups --bootstrap-server $B --describe --group $T --offsets";
    wait_within(
        LIMIT,
        || {
            let text = s.tool(&node, &format!("only -lines {lag}")).ok();
            let caught_up = |line: &str| line.split_whitespace().nth(5) == Some("0");
            (text.lines().count() == 3 && text.lines().all(caught_up)).then_some(())
        },
        || format!("input is left:\n{:#?}", second.errors()),
    );
    second.stop();
    let relative = |(key, count): (&String, &usize)| match key.split_once('@') {
        Some((word, begin)) => format!("{word} {}: {count}", (millis(begin) - begin_ms) / WINDOW_MS),
        None => format!("{key}: {count}"),
    };
    let counts = counts(s, &node);
    s.note("counts", counts.iter().map(relative).collect::<Vec<_>>());
    // How much was done twice is chance.
    let changes: u64 = offsets(s, &node, "counts", "latest").iter().sum();
    println!("{:?}: {changes} changes for {RECORDS} records", s.target);
    // The tool orders settings partly as the broker sent them, so they follow one a line.
    s.transcript.replace("Configs: .*", "");
    s.shell(
        &node,
        &[
            "sort only PartitionCount kafka-topics --bootstrap-server $B --describe --exclude-internal",
            "sort kafka-configs --bootstrap-server $B --describe --topic $T-words-repartition",
            "sort kafka-configs --bootstrap-server $B --describe --topic $T-minutes-changelog",
            "sort kafka-configs --bootstrap-server $B --describe --topic $T-totals-changelog",
        ],
    );
}

fn start(s: &Session, node: &Node, state: &str) -> Running {
    let program = tools::source("kafka/java/WordCount.java").display().to_string();
    let state = node.dir().join(state).display().to_string();
    Running::class(&program, &[&node.bootstrap(), s.name, &state])
}

fn word(n: usize) -> &'static str {
    // Squares spread the words unevenly.
    WORDS[n * n / 7 % WORDS.len()]
}

fn time_ms(begin_ms: i64, n: usize) -> i64 {
    begin_ms + n as i64 * 10 * WINDOW_MS / RECORDS as i64
}

fn producer(node: &Node) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", node.bootstrap()).set("acks", "all");
    config.create().expect("producer")
}

fn send(producer: &BaseProducer, topic: &str, begin_ms: i64, n: usize) {
    let key = n.to_string();
    let record = BaseRecord::to(topic)
        .partition(n as i32 % 3)
        .timestamp(time_ms(begin_ms, n))
        .key(&key)
        .payload(word(n));
    producer.send(record).map_err(|(e, _)| e).expect("queued");
}

fn expected(begin_ms: i64) -> Counts {
    let mut counts = Counts::new();
    for n in 0..RECORDS {
        let time = time_ms(begin_ms, n);
        let window = format!("{}@{}", word(n), time - time % WINDOW_MS);
        for key in [word(n).to_string(), window] {
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
}

/// The last count of each key; kcat finds the end only of what no one writes to any more.
fn counts(s: &mut Session, node: &Node) -> Counts {
    let text = s.tool(node, "kcat -b $B -t $T-counts -C -e -q -f %k=%s\\n").ok();
    let change = |line: &str| {
        let (key, count) = line.split_once('=').expect("key=count");
        (key.to_string(), count.parse().expect("count"))
    };
    text.lines().map(change).collect()
}

/// Offsets of one of the scenario's topics, by partition.
fn offsets(s: &mut Session, node: &Node, topic: &str, time: &str) -> Vec<u64> {
    let step = format!("sort kafka-get-offsets --bootstrap-server $B --topic $T-{topic} --time {time}");
    let text = s.tool(node, &step).ok();
    let offset = |line: &str| line.rsplit(':').next().and_then(|offset| offset.parse().ok());
    text.lines().map(|line| offset(line).expect("offset")).collect()
}

/// Waits until the application wrote so many changes of counts.
fn wait_changes(s: &mut Session, node: &Node, app: &Running, enough: u64) {
    wait_within(
        LIMIT,
        || (offsets(s, node, "counts", "latest").iter().sum::<u64>() >= enough).then_some(()),
        || format!("too few counts, after {:?}:\n{:#?}", app.lines(), app.errors()),
    );
}

fn millis(text: &str) -> i64 {
    text.parse().expect("milliseconds")
}
