//! What groups leave in `__consumer_offsets`, read by Kafka's own tools.
use ottla_compat_tests::node::Node;
use ottla_compat_tests::scenario::{Case, Session};

use super::members::{heartbeat, join, protocol, stable_member};
use super::offsets::commit;
use super::{member_count, ready};
use crate::wire::Wire;

pub const CASES: &[Case] = &[Case::code("group-records", records)];

/// One partition, so that all records are in one log.
fn start(s: &mut Session) -> Node {
    let mut options = super::options();
    options.properties.push("offsets.topic.num.partitions=1".into());
    s.start(options)
}

/// Groups of both protocols come and go, commit and forget.
fn live(s: &mut Session, node: &Node) {
    let mut w = Wire::at(s, node);
    let topic = w.create("", 2, &[]).name;
    ready(&mut w, "simple");
    w.call(
        8,
        &commit(8, "simple", &topic, &[(0, 7, 3, Some("said")), (1, 8, -1, None)]),
    );
    let subscribed = join("classic", "").with_protocols(vec![protocol("range", &topic)]);
    let (member, generation) = stable_member(&mut w, &subscribed.with_session_timeout_ms(1000));
    let mut by_member = commit(8, "classic", &topic, &[(0, 5, 0, None)]);
    by_member.member_id = member.clone().into();
    by_member.generation_id_or_member_epoch = generation;
    w.call(8, &by_member);
    w.call(4, &heartbeat("classic", &member, generation));
    // Its session ends.
    member_count(&mut w, "classic", 0);
    let groups = "kafka-consumer-groups --bootstrap-server $B";
    s.shell(
        node,
        &[
            "kcat -b $B -t $T -p 0 -P\n1\n2\n3\n",
            "kafka-console-consumer --bootstrap-server $B --topic $T --group new --from-beginning --max-messages 3 \
             --command-property group.protocol=consumer",
            &format!("{groups} --group simple --delete-offsets --topic $T:1"),
            &format!("{groups} --group classic --delete"),
        ],
    );
}

fn records(s: &mut Session) {
    let node = start(s);
    live(s, &node);
    // A hash of topics with their ids.
    s.transcript
        .replace(r#""metadataHash":-?\d+"#, r#""metadataHash":<hash>"#);
    s.transcript.replace(r#""topicHash":-?\d+"#, r#""topicHash":<hash>"#);
    let log = node
        .replica_dir("__consumer_offsets", 0)
        .join("00000000000000000000.log");
    let dump = s.tool(
        &node,
        &format!("kafka-dump-log --offsets-decoder --files {}", log.display()),
    );
    // How records are batched is the broker's affair.
    let payloads = dump.ok();
    let payloads = payloads.lines().filter_map(|line| Some(&line[line.find("key: ")?..]));
    s.transcript.add(&payloads.collect::<Vec<_>>().join("\n"));
    for formatter in ["OffsetsMessageFormatter", "GroupMetadataMessageFormatter"] {
        s.shell(
            &node,
            &[&format!(
                "kafka-console-consumer --bootstrap-server $B --topic __consumer_offsets --partition 0 --offset earliest \
                 --timeout-ms 2000 --formatter org.apache.kafka.tools.consumer.{formatter}"
            )],
        );
    }
}
