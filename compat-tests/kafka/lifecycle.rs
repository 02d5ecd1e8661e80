//! Stops, kills and starts: what was acknowledged is there afterwards.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use kafka_protocol::messages::DescribeQuorumRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use ottla_compat_tests::node::{Node, Options, Target};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::wire::topic_name;

pub const CASES: &[Case] = &[
    Case::code("restart-after-stop", restart_after_stop),
    Case::code("restart-after-kill", restart_after_kill),
    Case::code("retention", retention),
    Case::code("kill-under-load", kill_under_load),
    Case::code("refuses-to-start", refuses_to_start),
    Case::code("apache-broker-observes", apache_broker_observes),
];

const LOOK: [&str; 6] = [
    "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
    "kcat -b $B -t $T -p 0 -C -e -q -o beginning -f %o|%k|%s\\n",
    "kafka-get-offsets --bootstrap-server $B --topic $T --time earliest",
    "kafka-get-offsets --bootstrap-server $B --topic $T --time latest",
    "kafka-configs --bootstrap-server $B --describe --topic $T",
    "kafka-configs --bootstrap-server $B --describe --broker-defaults",
];

fn fill(s: &mut Session, node: &Node) {
    s.shell(
        node,
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2 --config retention.ms=3600000",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kcat -b $B -t $T -p 0 -P -K: -X acks=all -z lz4\nk1:one\nk2:two\nk3:three\n",
            "kcat -b $B -t $T -p 0 -P -K: -X acks=all\nk4:four\nk5:five\n",
            "kafka-configs --bootstrap-server $B --alter --broker-defaults --add-config log.retention.ms=7200000",
        ],
    );
}

fn restart_after_stop(s: &mut Session) {
    let mut node = s.start(Options::default());
    fill(s, &node);
    s.shell(
        &node,
        &[
            "write $D/delete.json\n{\"version\": 1, \"partitions\": [{\"topic\": \"$T\", \"partition\": 0, \"offset\": 1}]}",
            "kafka-delete-records --bootstrap-server $B --offset-json-file $D/delete.json",
        ],
    );
    s.shell(&node, &LOOK);
    for _ in 0..2 {
        let status = node.stop();
        if s.target == Target::Ottla {
            // A JVM ends as if it had been killed by the signal.
            assert_eq!(status.code(), Some(0), "{}", node.log());
        }
        s.note(
            "clean shutdown marker",
            node.log_dirs()[0].join(".kafka_cleanshutdown").exists(),
        );
        node.launch();
        s.shell(&node, &LOOK);
        s.shell(&node, &["kcat -b $B -t $T -p 0 -P -K: -X acks=all\nk6:six\n"]);
    }
    s.shell(&node, &LOOK);
}

fn restart_after_kill(s: &mut Session) {
    let mut node = s.start(Options::default());
    fill(s, &node);
    for _ in 0..2 {
        node.kill();
        s.note(
            "clean shutdown marker",
            node.log_dirs()[0].join(".kafka_cleanshutdown").exists(),
        );
        node.launch();
        s.shell(&node, &LOOK);
        s.shell(&node, &["kcat -b $B -t $T -p 0 -P -K: -X acks=all\nk6:six\n"]);
    }
    s.shell(&node, &LOOK);
}

/// Segments roll by size and go by size and by time; what is gone stays gone.
fn retention(s: &mut Session) {
    let soon = [
        "log.retention.check.interval.ms=300",
        "log.initial.task.delay.ms=300",
        "log.segment.delete.delay.ms=100",
    ];
    let mut node = s.start(Options::with(&soon));
    let create = "kafka-topics --bootstrap-server $B --create --topic $T";
    s.tool(
        &node,
        &format!("{create} --config segment.bytes=1048576 --config retention.ms=-1"),
    )
    .ok();
    s.tool(
        &node,
        "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
    );
    let lines: String = (0..300).map(|n| format!("{n} {}\n", "x".repeat(10_000))).collect();
    // One record a batch, so that both brokers roll at the same records.
    let produce = format!("kcat -b $B -t $T -p 0 -P -X acks=all -X batch.num.messages=1 -X linger.ms=0\n{lines}");
    s.tool(&node, &produce).ok();
    let segments = |node: &Node| {
        let files = std::fs::read_dir(node.replica_dir("retention", 0)).unwrap();
        let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".log")).collect();
        names.sort();
        names
    };
    s.note("segments", segments(&node));
    let earliest = "kafka-get-offsets --bootstrap-server $B --topic $T --time earliest";
    s.shell(
        &node,
        &[
            "kafka-configs --bootstrap-server $B --alter --topic $T --add-config retention.bytes=1500000",
            &format!("until :0:[1-9] {earliest}"),
        ],
    );
    wait_for(
        || (segments(&node).len() == 2).then_some(()),
        || "the files stay".into(),
    );
    s.note("segments", segments(&node));
    node.stop();
    node.launch();
    s.shell(&node, &[&format!("until :0:[1-9] {earliest}")]);
    s.shell(
        &node,
        &[
            "kafka-configs --bootstrap-server $B --alter --topic $T --add-config retention.ms=1",
            &format!("until :0:300 {earliest}"),
            "kcat -b $B -t $T -p 0 -P -X acks=all\nafter all\n",
        ],
    );
}

/// Counts what the broker acknowledged.
#[derive(Clone, Default)]
struct Acknowledged(Arc<AtomicUsize>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(_) => self.0.fetch_add(1, SeqCst),
            Err((e, _)) => panic!("lost: {e}"),
        };
    }
}

/// An idempotent producer goes on through two kills: everything is there once, and in order.
fn kill_under_load(s: &mut Session) {
    const COUNT: usize = 30_000;
    let mut node = s.start(Options::default());
    s.tool(
        &node,
        "kafka-topics --bootstrap-server $B --create --topic $T --partitions 1",
    )
    .ok();
    let acknowledged = Acknowledged::default();
    let producer: BaseProducer<Acknowledged> = ClientConfig::new()
        .set("bootstrap.servers", node.bootstrap())
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "120000")
        .set("reconnect.backoff.max.ms", "200")
        .set("queue.buffering.max.messages", "1000")
        .set("linger.ms", "1")
        .set("log_level", "0")
        .create_with_context(acknowledged.clone())
        .unwrap();
    let topic = s.name;
    let sending = std::thread::spawn(move || {
        for n in 0..COUNT {
            let value = n.to_string();
            let mut record = BaseRecord::<(), _>::to(topic).partition(0).payload(&value);
            // The queue is full while the broker is away.
            while let Err((_, unsent)) = producer.send(record) {
                record = unsent;
                producer.poll(Duration::from_millis(5));
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    });
    for goal in [COUNT / 5, COUNT / 2] {
        wait_for(
            || (acknowledged.0.load(SeqCst) >= goal).then_some(()),
            || "too few acknowledged".into(),
        );
        node.kill();
        node.launch();
    }
    sending.join().unwrap();
    s.note("acknowledged", acknowledged.0.load(SeqCst));
    let read = s
        .tool(
            &node,
            "kcat -b $B -t $T -p 0 -C -e -q -o beginning -f %s\\n -X check.crcs=true",
        )
        .ok();
    let values: Vec<usize> = read.lines().map(|line| line.parse().unwrap()).collect();
    assert!(
        values.iter().copied().eq(0..COUNT),
        "lost, doubled or out of order: {} values",
        values.len()
    );
}

fn refuses_to_start(s: &mut Session) {
    let mut node = s.start(Options::default());
    let refused = |s: &mut Session, node: &mut Node, why: &str| {
        node.spawn();
        let status = node.wait_exit();
        s.note(why, status.code().is_some_and(|code| code != 0));
    };
    node.stop();
    let meta = node.log_dirs()[0].join("meta.properties");
    let text = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, text.replace("node.id=1", "node.id=7")).unwrap();
    refused(s, &mut node, "the directory of another node");
    std::fs::write(&meta, text).unwrap();
    for line in [
        "node.id=-5",
        "log.segment.bytes=many",
        "listeners=PLAINTEXT://127.0.0.1:99999",
        "process.roles=cook",
    ] {
        node.configure(&[line]);
        refused(s, &mut node, line);
    }
    node.configure(&[]);
    node.launch();
    s.note(
        "serves again",
        Connection::open(node.socket()).unwrap().broker_count().unwrap(),
    );
}

/// A broker of Apache Kafka follows the metadata log of either controller to its end.
fn apache_broker_observes(s: &mut Session) {
    let node = s.start(Options::default());
    s.tool(
        &node,
        "kafka-topics --bootstrap-server $B --create --topic $T --partitions 3",
    )
    .ok();
    let options = Options {
        broker_of: Some(node.controller_port),
        ..Options::default()
    };
    let mut broker = Node::formatted(Target::Apache, options);
    broker.spawn();
    let mut controller = Connection::open(([127, 0, 0, 1], node.controller_port).into()).unwrap();
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default()
        .with_topic_name(topic_name("__cluster_metadata"))
        .with_partitions(vec![partition]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    let offsets = || {
        let answer = controller
            .call(2, &request)
            .unwrap()
            .topics
            .remove(0)
            .partitions
            .remove(0);
        let leader = answer.current_voters[0].log_end_offset;
        let observer = answer.observers.iter().find(|observer| observer.replica_id.0 == 2)?;
        (observer.log_end_offset == leader).then_some(())
    };
    wait_for(offsets, || "the broker never caught up".into());
    s.transcript.add("caught up");
}
