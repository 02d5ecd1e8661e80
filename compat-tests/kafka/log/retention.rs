//! Segments roll and go.
use ottla_compat_tests::node::Options;
use ottla_compat_tests::scenario::{Case, Session, wait_for};

use super::{OFTEN, checkpoint, note_segments_when, segments, sized};
use crate::wire::{Wire, list_offsets};

pub const CASES: &[Case] = &[
    Case::code("log-rolls", rolls),
    Case::code("log-retention", retention),
    Case::code("log-delete-records", delete_records),
    Case::code("log-topic-deletion", topic_deletion),
];

/// The least that `segment.bytes` may be.
const SEGMENT_BYTES: &str = "1048576";

fn rolls(s: &mut Session) {
    let mut w = Wire::open(s);
    let now = w.now();
    let node = w.node;

    let by_size = w.create("-size", 1, &[("segment.bytes", SEGMENT_BYTES)]);
    for _ in 0..7 {
        w.append(&by_size, &sized(now, 300_000));
    }
    // To the byte: 1048576 - 2 * 300_000 fits exactly once.
    let header_and_framing = 61 + 10;
    w.append(&by_size, &sized(now, 1_048_576 - 2 * 300_071 - header_and_framing));

    let by_time = w.create("-time", 1, &[("segment.ms", "1000")]);
    for after_ms in [0, 1000, 1001, 1500, 2002, 0, 5000] {
        w.append(&by_time, &sized(now + after_ms, 10));
    }

    // Four entries of the offset index, two and one to spare of the time index.
    let index = [("segment.index.bytes", "36"), ("index.interval.bytes", "0")];
    let by_offset_index = w.create("-offset-index", 1, &index);
    for _ in 0..12 {
        w.append(&by_offset_index, &sized(now, 100));
    }
    let by_time_index = w.create("-time-index", 1, &index);
    for after_ms in 0..12 {
        w.append(&by_time_index, &sized(now + after_ms, 100));
    }

    for topic in [&by_size, &by_time, &by_offset_index, &by_time_index] {
        note_segments_when(w.s, node, &topic.name, |_| true);
    }
}

fn retention(s: &mut Session) {
    let node = s.start(Options::with(&OFTEN));
    let mut w = Wire::at(s, &node);
    let now = w.now();
    let earliest = |w: &mut Wire, topic: &crate::wire::Topic, expected: i64| {
        wait_for(
            || {
                let answer = w.connection.call(7, &list_offsets(topic, &[(0, -2)])).unwrap();
                (answer.topics[0].partitions[0].offset == expected).then_some(())
            },
            || format!("the log of {} does not begin at {expected}", topic.name),
        );
    };

    w.title("by size");
    let kept = [("segment.bytes", SEGMENT_BYTES), ("file.delete.delay.ms", "3600000")];
    let by_size = w.create("-size", 1, &kept);
    for _ in 0..10 {
        w.append(&by_size, &sized(now, 300_000));
    }
    // What waits for its deletion stays where it is, under another name.
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --topic $T-size --add-config retention.bytes=1500000"],
    );
    earliest(&mut w, &by_size, 3);
    note_segments_when(w.s, &node, &by_size.name, |segments| {
        segments.iter().any(|name| name.contains("deleted"))
    });
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --topic $T-size --add-config retention.bytes=1000,file.delete.delay.ms=100"],
    );
    earliest(&mut w, &by_size, 9);

    w.title("by time");
    let by_time = w.create(
        "-time",
        1,
        &[("segment.bytes", SEGMENT_BYTES), ("file.delete.delay.ms", "100")],
    );
    for hours in [9, 9, 9, 5, 5, 5, 1, 1] {
        w.append(&by_time, &sized(now - hours * 3_600_000, 300_000));
    }
    note_segments_when(w.s, &node, &by_time.name, |_| true);
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --topic $T-time --add-config retention.ms=25200000"],
    );
    earliest(&mut w, &by_time, 3);
    note_segments_when(w.s, &node, &by_time.name, |segments| segments.len() == 2);
    w.title("all of it: the active segment goes, too");
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --topic $T-time --add-config retention.ms=1000"],
    );
    earliest(&mut w, &by_time, 8);
    note_segments_when(w.s, &node, &by_time.name, |segments| segments.len() == 1);

    w.title("by the broker's setting");
    let by_default = w.create("-default", 1, &[("file.delete.delay.ms", "100")]);
    w.append(&by_default, &sized(now - 3_600_000, 10));
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --broker-defaults --add-config log.retention.ms=1800000"],
    );
    earliest(&mut w, &by_default, 1);
    note_segments_when(w.s, &node, &by_default.name, |segments| segments.len() == 1);
    w.append(&by_default, &sized(now, 10));
    w.s.shell(&node, &["kafka-get-offsets --bootstrap-server $B --topic $T-default"]);
}

/// What was deleted stays so, whichever way the node ends.
fn delete_records(s: &mut Session) {
    let mut node = s.start(Options::with(&OFTEN));
    let topic = {
        let mut w = Wire::at(s, &node);
        let now = w.now();
        let topic = w.create(
            "",
            1,
            &[("segment.bytes", SEGMENT_BYTES), ("file.delete.delay.ms", "3600000")],
        );
        for _ in 0..8 {
            w.append(&topic, &sized(now, 300_000));
        }
        topic
    };
    let look = [
        "kafka-get-offsets --bootstrap-server $B --topic $T --time earliest",
        "kafka-get-offsets --bootstrap-server $B --topic $T --time latest",
        "kcat -b $B -t $T -p 0 -C -e -q -o beginning -f %o|%S\\n",
    ];
    let delete = |s: &mut Session, node: &_, before: i64| {
        let json = format!(
            "{{\"partitions\": [{{\"topic\": \"$T\", \"partition\": 0, \"offset\": {before}}}], \"version\": 1}}"
        );
        s.shell(
            node,
            &[
                &format!("write $D/delete.json\n{json}"),
                "kafka-delete-records --bootstrap-server $B --offset-json-file $D/delete.json",
            ],
        );
    };
    // Kafka writes it down a moment later.
    let written = |node: &_, before: i64| {
        let line = format!("{} 0 {before}", topic.name);
        wait_for(
            || (checkpoint(node, "log-start-offset-checkpoint", &topic.name)? == line).then_some(()),
            || format!("never written: {line}"),
        );
    };
    delete(s, &node, 4);
    // What waits for its deletion does not outlive a start.
    note_segments_when(s, &node, &topic.name, |segments| segments[0].contains("deleted"));
    written(&node, 4);
    s.shell(&node, &look);
    node.kill();
    node.launch();
    note_segments_when(s, &node, &topic.name, |segments| segments.len() == 2);
    s.shell(&node, &look);
    delete(s, &node, 5);
    written(&node, 5);
    node.stop();
    node.launch();
    s.shell(&node, &look);
    delete(s, &node, -1);
    note_segments_when(s, &node, &topic.name, |segments| segments[0].contains("deleted"));
    node.stop();
    node.launch();
    s.shell(&node, &look);
    note_segments_when(s, &node, &topic.name, |segments| segments.len() == 1);
}

fn topic_deletion(s: &mut Session) {
    let mut node = s.start(Options::with(&OFTEN));
    let dir = node.log_dirs().remove(0);
    let folders = || {
        let entries = std::fs::read_dir(&dir).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("log-topic-deletion")).collect();
        names.sort();
        names
    };
    let (topic, now) = {
        let mut w = Wire::at(s, &node);
        // The topic's own delay is not what counts for the folder.
        let topic = w.create("", 3, &[("file.delete.delay.ms", "3600000")]);
        let now = w.now();
        w.append(&topic, &sized(now, 1000));
        (topic, now)
    };
    s.note("folders", folders());
    s.shell(&node, &["kafka-topics --bootstrap-server $B --delete --topic $T"]);
    wait_for(
        || folders().is_empty().then_some(()),
        || format!("still there: {:?}", folders()),
    );

    s.transcript.add("the name is free, and nothing comes back");
    let again = {
        let mut w = Wire::at(s, &node);
        let again = w.create("", 1, &[]);
        w.append(&again, &sized(now, 10));
        again
    };
    assert_ne!(again.id, topic.id);
    s.note("folders", folders());
    node.kill();
    node.launch();
    s.shell(&node, &["kcat -b $B -t $T -p 0 -C -e -q -o beginning -f %o|%S\\n"]);
    s.note("folders", folders());
    s.note("segments", segments(&node.replica_dir(&again.name, 0)));
}
