//! Topic settings that change while the broker runs, and what they do to the next batch.
use bytes::Bytes;
use ottla_compat_tests::records::{Batch, Codec, Record};
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use regex::Regex;

use super::{OFTEN, checkpoint, sized};
use crate::wire::{Topic, Wire, at, fetch, produce};

pub const CASES: &[Case] = &[
    Case::code("log-timestamp-type", timestamp_type),
    Case::code("log-timestamp-limits", timestamp_limits),
    Case::code("log-compression", compression),
    Case::code("log-message-size", message_size),
    Case::code("log-cleanup-policy", cleanup_policy),
    Case::code("log-flush", flush),
];

/// Changes a setting of the case's topic with the stock tool.
fn alter(w: &mut Wire, change: &str) {
    let node = w.node;
    w.s.shell(
        node,
        &[&format!(
            "kafka-configs --bootstrap-server $B --alter --topic $T {change}"
        )],
    );
}

/// The answer to a batch: error code, message, and whether it names an append time.
fn send(w: &mut Wire, topic: &Topic, batch: &Batch) -> (i16, Option<String>, bool) {
    let request = produce(9, topic, -1, &[(0, Some(batch.encode()))]);
    let mut answer = w.connection.call(9, &request).unwrap().responses.remove(0);
    let answer = answer.partition_responses.remove(0);
    let message = answer.error_message.map(|text| text.to_string());
    (answer.error_code, message, answer.log_append_time_ms >= 0)
}

/// Sends a batch until the answer shows that a change has arrived, which brokers learn a moment later, and notes it.
fn send_until(w: &mut Wire, topic: &Topic, batch: &Batch, arrived: impl Fn(&(i16, Option<String>, bool)) -> bool) {
    let answer = wait_for(
        || Some(send(w, topic, batch)).filter(&arrived),
        || format!("the change of {} has no effect", topic.name),
    );
    w.s.note("answer", answer);
}

/// The last batch of a topic, as a consumer gets it.
fn last_batch(w: &mut Wire, topic: &Topic) -> Bytes {
    let mut offset = 0;
    let mut last = Bytes::new();
    loop {
        let mut answer = w.connection.call(12, &fetch(12, topic, vec![at(0, offset)])).unwrap();
        let partition = answer.responses.remove(0).partitions.remove(0);
        let mut records = partition.records.unwrap_or_default();
        if records.is_empty() {
            return last;
        }
        while records.len() > 12 {
            let size = 12 + i32::from_be_bytes(records[8..12].try_into().unwrap()) as usize;
            if size > records.len() {
                break;
            }
            last = records.split_to(size);
            let delta = i32::from_be_bytes(last[23..27].try_into().unwrap());
            offset = i64::from_be_bytes(last[..8].try_into().unwrap()) + i64::from(delta) + 1;
        }
    }
}

fn timestamp_type(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let node = w.node;
    for codec in [Codec::None, Codec::Gzip] {
        let batch = Batch {
            codec,
            ..Batch::of(1234, &["x", "y"])
        };
        for (kind, is_append) in [("LogAppendTime", true), ("CreateTime", false)] {
            alter(&mut w, &format!("--add-config message.timestamp.type={kind}"));
            send_until(&mut w, &topic, &batch, |answer| answer.2 == is_append);
            w.s.shell(
                node,
                &["kcat -b $B -t $T -C -e -q -o -2 -f %T|%s\\n -X check.crcs=true"],
            );
            let attributes = last_batch(&mut w, &topic)[22];
            w.s.note("timestamp type bit", attributes & 8);
        }
    }
    // With append time nothing that a client says can be out of bounds.
    alter(
        &mut w,
        "--add-config message.timestamp.type=LogAppendTime,message.timestamp.before.max.ms=1000",
    );
    send_until(&mut w, &topic, &Batch::of(1234, &["x"]), |answer| answer.2);
}

fn timestamp_limits(s: &mut Session) {
    const INVALID_TIMESTAMP: i16 = 32;
    let mut w = Wire::open(s);
    let topic = w.topic();
    let now = w.now();
    let (old, new) = (
        Batch::of(now - 7_200_000, &["old"]),
        Batch::of(now + 1_800_000, &["new"]),
    );
    for batch in [&old, &new] {
        send_until(&mut w, &topic, batch, |_| true);
    }
    w.s.transcript.replace(r"\[-?\d+, -?\d+\]", "[<range>]");
    alter(&mut w, "--add-config message.timestamp.before.max.ms=3600000");
    send_until(&mut w, &topic, &old, |answer| answer.0 == INVALID_TIMESTAMP);
    send_until(&mut w, &topic, &new, |_| true);
    alter(&mut w, "--add-config message.timestamp.after.max.ms=1000");
    send_until(&mut w, &topic, &new, |answer| answer.0 == INVALID_TIMESTAMP);
    alter(
        &mut w,
        "--delete-config message.timestamp.before.max.ms,message.timestamp.after.max.ms",
    );
    send_until(&mut w, &topic, &old, |answer| answer.0 == 0);
    send_until(&mut w, &topic, &new, |_| true);
}

/// Each codec into each.
fn compression(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let now = w.now();
    let node = w.node;
    let batch = |codec, number: usize| Batch {
        codec,
        ..Batch::new(
            now,
            vec![
                Record {
                    headers: vec![("h", Some(b"1"))],
                    timestamp_delta: 5,
                    ..Record::keyed("key", "value")
                },
                Record::value(format!("{number} {}", "compressible ".repeat(100))),
                Record::default(),
            ],
        )
    };
    let mut sent = Vec::new();
    for target in ["uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"] {
        alter(&mut w, &format!("--add-config compression.type={target}"));
        // A codec that the topic did not have before shows when the change is there.
        let (probe, expected) = match target {
            "uncompressed" => (Codec::Gzip, Codec::None),
            "producer" => (Codec::None, Codec::None),
            name => (
                Codec::None,
                Codec::ALL.into_iter().find(|codec| codec.name() == name).unwrap(),
            ),
        };
        wait_for(
            || {
                w.append(&topic, &batch(probe, 0));
                (last_batch(&mut w, &topic)[22] & 7 == expected as u8).then_some(())
            },
            || format!("{target} never came into effect"),
        );
        for (number, codec) in Codec::ALL.into_iter().enumerate() {
            sent.push((
                format!("{} to {target}", codec.name()),
                w.append(&topic, &batch(codec, number + 1)),
            ));
        }
    }
    let file = node.replica_dir(&topic.name, 0).join("00000000000000000000.log");
    let dump =
        w.s.tool(
            node,
            &format!(
                "kafka-dump-log --deep-iteration --print-data-log --files {}",
                file.display()
            ),
        )
        .ok();
    let lines: Vec<_> = dump.lines().collect();
    // The codecs' bytes differ between implementations, and positions with them.
    let batches =
        Regex::new(r"^baseOffset: (\d+) .*?(count: .*) position: \d+ (.*) size: \d+ (.*) crc: \d+ (.*)$").unwrap();
    let offset_of_record = Regex::new(r"offset: \d+ ").unwrap();
    for (title, offset) in sent {
        w.title(&title);
        let place = lines
            .iter()
            .position(|line| line.starts_with(&format!("baseOffset: {offset} ")))
            .unwrap();
        let batch = batches
            .captures(lines[place])
            .unwrap_or_else(|| panic!("{}", lines[place]));
        w.s.transcript
            .add(&[&batch[2], &batch[3], &batch[4], &batch[5]].join(" "));
        for line in &lines[place + 1..place + 4] {
            w.s.transcript.add(&offset_of_record.replace(line, ""));
        }
    }
    // Consumers read all of it.
    let read =
        w.s.tool(
            node,
            "kcat -b $B -t $T -C -e -q -o beginning -f %k|%S|%h\\n -X check.crcs=true",
        )
        .ok();
    let mut kinds: Vec<_> = read.lines().collect();
    kinds.sort();
    kinds.dedup();
    w.s.note("records", kinds);
}

fn message_size(s: &mut Session) {
    const MESSAGE_TOO_LARGE: i16 = 10;
    let mut w = Wire::open(s);
    let topic = w.topic();
    let batch = sized(w.now(), 100_000);
    send_until(&mut w, &topic, &batch, |_| true);
    alter(&mut w, "--add-config max.message.bytes=50000");
    send_until(&mut w, &topic, &batch, |answer| answer.0 == MESSAGE_TOO_LARGE);
    // The size that is stored counts, too.
    alter(&mut w, "--add-config compression.type=uncompressed");
    let small = Batch {
        codec: Codec::Gzip,
        ..batch.clone()
    };
    send_until(&mut w, &topic, &small, |answer| answer.0 == MESSAGE_TOO_LARGE);
    alter(&mut w, "--delete-config max.message.bytes,compression.type");
    send_until(&mut w, &topic, &batch, |answer| answer.0 == 0);
    let huge = sized(w.now(), 1_048_588 - 61 - 11);
    w.title("the default limit, to the byte");
    send_until(&mut w, &topic, &huge, |_| true);
    let more = sized(w.now(), 1_048_588 - 61 - 10);
    send_until(&mut w, &topic, &more, |_| true);
}

fn cleanup_policy(s: &mut Session) {
    const INVALID_RECORD: i16 = 87;
    let mut w = Wire::open(s);
    let topic = w.topic();
    let keyless = Batch::of(w.now(), &["no key"]);
    send_until(&mut w, &topic, &keyless, |_| true);
    alter(&mut w, "--add-config cleanup.policy=compact");
    send_until(&mut w, &topic, &keyless, |answer| answer.0 == INVALID_RECORD);
    alter(&mut w, "--delete-config cleanup.policy");
    send_until(&mut w, &topic, &keyless, |answer| answer.0 == 0);
}

/// What is flushed shows in the recovery point.
fn flush(s: &mut Session) {
    let often = [&OFTEN[..], &["log.flush.scheduler.interval.ms=100"]].concat();
    let node = s.start(ottla_compat_tests::node::Options::with(&often));
    let mut w = Wire::at(s, &node);
    let now = w.now();
    let recovery_point = |topic: &Topic| checkpoint(&node, "recovery-point-offset-checkpoint", &topic.name);
    let reaches = |w: &mut Wire, topic: &Topic, offset: i64| {
        let expected = format!("{} 0 {offset}", topic.name);
        let last = wait_for(
            || recovery_point(topic).filter(|line| *line == expected),
            || format!("not {expected} but {:?}", recovery_point(topic)),
        );
        w.s.note("recovery point", last);
    };
    // By default the scheduler's interval counts.
    let topic = w.create("", 1, &[("flush.ms", "3600000")]);
    w.append(&topic, &sized(now, 10));
    reaches(&mut w, &topic, 0);
    alter(&mut w, "--add-config flush.messages=3");
    // Counted from the last flush.
    let flushed = wait_for(
        || {
            let end = w.append(&topic, &sized(now, 10)) + 1;
            let line = recovery_point(&topic)?;
            let flushed: i64 = line.rsplit_once(' ')?.1.parse().ok()?;
            (flushed > 0).then_some((flushed, end))
        },
        || "flush.messages has no effect".into(),
    );
    assert!(flushed.0 <= flushed.1, "{flushed:?}");
    alter(&mut w, "--add-config flush.ms=100 --delete-config flush.messages");
    let end = w.append(&topic, &sized(now, 10)) + 1;
    wait_for(
        || recovery_point(&topic).filter(|line| *line == format!("{} 0 {end}", topic.name)),
        || format!("flush.ms has no effect: {:?}", recovery_point(&topic)),
    );
}
