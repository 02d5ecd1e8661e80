//! Topic settings that change while the broker runs, and what they do to the next batch.
use bytes::Bytes;
use kafka_protocol::messages::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use ottla_compat_tests::records::{Batch, Codec, Record};
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use regex::Regex;

use super::{OFTEN, checkpoint, segments, sized};
use crate::wire::{Topic, Wire, at, fetch, produce, topic_name};

pub const CASES: &[Case] = &[
    Case::code("log-timestamp-type", timestamp_type),
    Case::code("log-timestamp-limits", timestamp_limits),
    Case::code("log-compression", compression),
    Case::code("log-message-size", message_size),
    Case::code("log-cleanup-policy", cleanup_policy),
    Case::code("log-flush", flush),
    Case::code("log-compression-levels", compression_levels),
    Case::code("log-min-insync-replicas", min_insync_replicas),
    Case::code("log-rolls-by-new-settings", rolls_by_new_settings),
    Case::code("log-broker-defaults", broker_defaults),
    Case::code("log-producer-expiration", producer_expiration),
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

/// A higher level takes less room, in each codec that has levels.
fn compression_levels(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let now = w.now();
    // Words in no order: something to find for those who look longer.
    let mut seed = 1_u32;
    let words = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("word{} ", (seed >> 20) % 700)
    });
    let text: String = words.take(20_000).collect();
    let batch = Batch::new(now, vec![Record::value(text)]);
    for (codec, low, high) in [("gzip", 1, 9), ("lz4", 9, 17), ("zstd", 1, 19)] {
        let mut sizes = Vec::new();
        for level in [low, high] {
            alter(
                &mut w,
                &format!("--add-config compression.type={codec},compression.{codec}.level={level}"),
            );
            let number = Codec::ALL.into_iter().find(|known| known.name() == codec).unwrap() as u8;
            // The first batch of a codec shows that the change arrived, a batch of another size that the level did.
            let size = wait_for(
                || {
                    w.append(&topic, &batch);
                    let stored = last_batch(&mut w, &topic);
                    (stored[22] & 7 == number && !sizes.contains(&stored.len())).then_some(stored.len())
                },
                || format!("{codec} at level {level} has no effect"),
            );
            sizes.push(size);
        }
        w.s.note(&format!("{codec}: a higher level is smaller"), sizes[1] < sizes[0]);
    }
}

/// No more replicas have to be in sync than there are.
fn min_insync_replicas(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 1, &[("min.insync.replicas", "2")]);
    let batch = Batch::of(w.now(), &["x"]);
    let answer = send(&mut w, &topic, &batch);
    w.s.note("answer", answer);
}

/// Sends batches until another segment is there.
fn roll(w: &mut Wire, topic: &Topic, batch: impl Fn(i64) -> Batch) {
    let folder = w.node.replica_dir(&topic.name, 0);
    let before = segments(&folder).len();
    let mut number = 0;
    wait_for(
        || {
            w.append(topic, &batch(number));
            number += 1;
            (segments(&folder).len() > before).then_some(())
        },
        || format!("{} never rolls", topic.name),
    );
    w.s.transcript.add("rolled");
}

fn rolls_by_new_settings(s: &mut Session) {
    let mut w = Wire::open(s);
    let now = w.now();
    // The same batch, again and again, rolls for no other reason.
    let small = |_| sized(now, 10);
    let topic = w.create("", 1, &[("segment.index.bytes", "36")]);
    for _ in 0..50 {
        w.append(&topic, &small(0));
    }
    w.s.note("segments", segments(&w.node.replica_dir(&topic.name, 0)).len());
    alter(&mut w, "--add-config index.interval.bytes=0");
    roll(&mut w, &topic, small);
    alter(
        &mut w,
        "--delete-config index.interval.bytes --add-config segment.ms=1000",
    );
    roll(&mut w, &topic, |number| sized(now + 500 * number, 10));
    // The next segment may begin up to its whole age earlier.
    alter(
        &mut w,
        "--add-config segment.ms=1000000000,segment.jitter.ms=1000000000",
    );
    roll(&mut w, &topic, |number| sized(now + 1_000_000 * number.min(3), 10));
    alter(
        &mut w,
        "--delete-config segment.ms,segment.jitter.ms --add-config segment.bytes=1048576",
    );
    roll(&mut w, &topic, |_| sized(now, 300_000));
}

/// What topics do not set they have from the broker, whose settings change as well.
fn broker_defaults(s: &mut Session) {
    const MESSAGE_TOO_LARGE: i16 = 10;
    const INVALID_TIMESTAMP: i16 = 32;
    let node = s.start(ottla_compat_tests::node::Options::default());
    let mut w = Wire::at(s, &node);
    let now = w.now();
    let topic = w.topic();
    let alter = |w: &mut Wire, change: &str| {
        w.s.shell(
            &node,
            &[&format!(
                "kafka-configs --bootstrap-server $B --alter --broker-defaults {change}"
            )],
        );
    };
    let large = sized(now, 2000);
    alter(&mut w, "--add-config message.max.bytes=1000");
    send_until(&mut w, &topic, &large, |answer| answer.0 == MESSAGE_TOO_LARGE);
    alter(&mut w, "--delete-config message.max.bytes");
    send_until(&mut w, &topic, &large, |answer| answer.0 == 0);
    alter(&mut w, "--add-config compression.type=zstd");
    wait_for(
        || {
            w.append(&topic, &large);
            (last_batch(&mut w, &topic)[22] & 7 == Codec::Zstd as u8).then_some(())
        },
        || "compression.type has no effect".into(),
    );
    alter(&mut w, "--add-config log.message.timestamp.before.max.ms=1000");
    send_until(&mut w, &topic, &large, |answer| answer.0 == INVALID_TIMESTAMP);
    alter(&mut w, "--add-config log.message.timestamp.type=LogAppendTime");
    send_until(&mut w, &topic, &large, |answer| answer.2);
    alter(
        &mut w,
        "--delete-config log.message.timestamp.type,log.message.timestamp.before.max.ms,compression.type",
    );
    send_until(&mut w, &topic, &large, |answer| answer.0 == 0 && !answer.2);
    alter(&mut w, "--add-config log.segment.bytes=1048576");
    roll(&mut w, &topic, |_| sized(now, 300_000));
    alter(
        &mut w,
        "--delete-config log.segment.bytes --add-config log.roll.ms=1000",
    );
    roll(&mut w, &topic, |number| sized(now + 500 * number, 10));
}

/// A broker forgets producers that were idle for as long as it is told to.
fn producer_expiration(s: &mut Session) {
    let node = s.start(ottla_compat_tests::node::Options::with(&[
        "producer.id.expiration.check.interval.ms=100",
    ]));
    let mut w = Wire::at(s, &node);
    let topic = w.topic();
    let (id, epoch) = w.producer();
    let batch = |sequence| Batch::of(ottla_compat_tests::transcript::now_ms(), &["x"]).producer(id, epoch, sequence);
    w.append(&topic, &batch(0));
    let request = DescribeProducersRequest::default().with_topics(vec![
        TopicRequest::default()
            .with_name(topic_name(&topic.name))
            .with_partition_indexes(vec![0]),
    ]);
    let known = |w: &mut Wire| {
        let mut answer = w.connection.call(0, &request).unwrap();
        answer.topics.remove(0).partitions.remove(0).active_producers.len()
    };
    let before = known(&mut w);
    w.s.note("producers", before);
    w.s.shell(
        &node,
        &["kafka-configs --bootstrap-server $B --alter --broker-defaults --add-config producer.id.expiration.ms=1"],
    );
    wait_for(|| (known(&mut w) == 0).then_some(()), || "never forgotten".into());
    // To a broker that has forgotten it, it may come with any sequence.
    let answer = send(&mut w, &topic, &batch(7));
    w.s.note("answer", answer);
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
