//! Produce (API 0) and the records that a broker refuses.
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ProduceRequest;
use ottla_compat_tests::records::{Batch, Codec, Record};
use ottla_compat_tests::scenario::{Case, Session};
use uuid::Uuid;

use super::{Topic, Wire, at, fetch, metadata, produce};

pub const CASES: &[Case] = &[
    Case::code("produce-versions", versions),
    Case::code("produce-bad-batches", bad_batches),
    Case::code("produce-codecs", codecs),
    Case::code("produce-unknown-places", unknown_places),
    Case::code("produce-one-of-two-fails", one_of_two_fails),
    Case::code("produce-acks", acks),
    Case::code("produce-too-large", too_large),
    Case::code("produce-timestamps", timestamps),
    Case::code("produce-compacted", compacted),
    Case::code("produce-sequences", sequences),
    Case::code("produce-epochs", epochs),
    Case::code("produce-pipelined", pipelined),
];

/// Calls and notes, without what no client reads in an answer that names no records: Kafka gives the log's start with
/// some errors and no message with most.
fn call(w: &mut Wire, version: i16, request: &ProduceRequest) {
    let mut answer = w.connection.call(version, request);
    for partitions in answer
        .iter_mut()
        .flat_map(|answer| &mut answer.responses)
        .map(|topic| &mut topic.partition_responses)
    {
        partitions.sort_by_key(|partition| partition.index);
        for failed in partitions
            .iter_mut()
            .filter(|partition| partition.error_code != 0 && partition.record_errors.is_empty())
        {
            failed.log_start_offset = -1;
            failed.error_message = None;
        }
    }
    w.s.answer::<ProduceRequest>(version, answer);
}

fn versions(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    for version in 3..=13 {
        let batch = Batch::of(w.now(), &["one", "two"]).encode();
        call(&mut w, version, &produce(version, &topic, -1, &[(0, Some(batch))]));
    }
}

/// What Apache Kafka did not foresee: it answers with UNKNOWN_SERVER_ERROR, which need not be imitated.
const UNFORESEEN: [&str; 7] = [
    "unknown codec 5",
    "unknown codec 7",
    "plain records marked gzip",
    "plain records marked snappy",
    "plain records marked lz4",
    "plain records marked zstd",
    "compressed with bad offset deltas",
];

/// Batches that differ in one thing from a right one. Some of these are accepted.
fn bad_batches(s: &mut Session) {
    let mut w = Wire::open(s);
    // Each in a partition of its own, so that what one leaves does not change the answer to the next.
    let topic = w.create("", 60, &[]);
    let good = Batch::of(w.now(), &["one", "two"]);
    let edge = |change: fn(&mut Batch)| {
        let mut batch = good.clone();
        change(&mut batch);
        Some(batch.encode())
    };
    let bytes = good.encode();
    let joined = |parts: &[&[u8]]| Some(Bytes::from(parts.concat()));
    let cases = [
        ("good", edge(|_| ())),
        ("wrong crc", edge(|b| b.crc_error = 1)),
        ("magic 0", edge(|b| b.magic = 0)),
        ("magic 1", edge(|b| b.magic = 1)),
        ("magic 3", edge(|b| b.magic = 3)),
        ("magic -1", edge(|b| b.magic = -1)),
        ("length 0", edge(|b| b.length = Some(0))),
        ("length -1", edge(|b| b.length = Some(-1))),
        ("length too long", edge(|b| b.length = Some(1000))),
        ("length too short", edge(|b| b.length = Some(40))),
        ("no records", edge(|b| b.records.clear())),
        ("count too small", edge(|b| b.count = Some(1))),
        ("count too large", edge(|b| b.count = Some(3))),
        (
            "count and delta too large",
            edge(|b| (b.count, b.last_offset_delta) = (Some(3), Some(2))),
        ),
        ("count negative", edge(|b| b.count = Some(-1))),
        (
            "count huge",
            edge(|b| (b.count, b.last_offset_delta) = (Some(i32::MAX), Some(i32::MAX - 1))),
        ),
        ("last offset delta too small", edge(|b| b.last_offset_delta = Some(0))),
        ("last offset delta too large", edge(|b| b.last_offset_delta = Some(9))),
        ("base offset set", edge(|b| b.base_offset = 77)),
        ("base offset negative", edge(|b| b.base_offset = -3)),
        ("leader epoch set", edge(|b| b.leader_epoch = 5)),
        ("control batch", edge(|b| b.attributes = 0x20)),
        ("log append time bit", edge(|b| b.attributes = 0x08)),
        ("unknown attribute bits", edge(|b| b.attributes = 0x4000)),
        ("unknown codec 5", edge(|b| b.attributes = 5)),
        ("unknown codec 7", edge(|b| b.attributes = 7)),
        ("plain records marked gzip", edge(|b| b.attributes = 1)),
        ("plain records marked snappy", edge(|b| b.attributes = 2)),
        ("plain records marked lz4", edge(|b| b.attributes = 3)),
        ("plain records marked zstd", edge(|b| b.attributes = 4)),
        (
            "compressed with one record too many",
            edge(|b| (b.codec, b.count, b.last_offset_delta) = (Codec::Gzip, Some(1), Some(0))),
        ),
        (
            "compressed with one record too few",
            edge(|b| (b.codec, b.count, b.last_offset_delta) = (Codec::Gzip, Some(3), Some(2))),
        ),
        (
            "compressed with bad offset deltas",
            edge(|b| (b.codec, b.records[1].offset_delta) = (Codec::Lz4, Some(5))),
        ),
        (
            "max timestamp too small",
            edge(|b| b.max_timestamp = Some(b.base_timestamp - 5)),
        ),
        (
            "max timestamp too large",
            edge(|b| b.max_timestamp = Some(b.base_timestamp + 5)),
        ),
        (
            "no timestamp",
            edge(|b| (b.base_timestamp, b.max_timestamp) = (-1, Some(-1))),
        ),
        (
            "no record timestamp",
            edge(|b| b.records[0].timestamp_delta = -1 - b.base_timestamp),
        ),
        ("producer id without epoch", edge(|b| b.producer_id = 4001)),
        (
            "producer id without sequence",
            edge(|b| (b.producer_id, b.producer_epoch) = (4001, 0)),
        ),
        ("sequence without producer id", edge(|b| b.base_sequence = 4)),
        (
            "tombstone and empty key",
            edge(|b| {
                b.records[0] = Record {
                    key: Some(Bytes::new()),
                    ..Record::default()
                }
            }),
        ),
        (
            "header without value",
            edge(|b| b.records[0].headers = vec![("h", None), ("h", Some(b"2")), ("", Some(b""))]),
        ),
        ("empty", Some(Bytes::new())),
        ("a few bytes", Some(Bytes::from_static(b"\0\0\0\0\0"))),
        ("zeros", Some(Bytes::from_static(&[0; 100]))),
        ("cut short", Some(bytes.slice(..bytes.len() - 1))),
        ("cut in the header", Some(bytes.slice(..40))),
        ("a byte too many", joined(&[&bytes, b"x"])),
        ("two batches", joined(&[&bytes, &bytes])),
        ("trailing byte inside", {
            // The CRC covers it.
            let mut long = good.clone();
            long.records.push(Record::value("three"));
            (long.count, long.last_offset_delta) = (Some(2), Some(1));
            Some(long.encode())
        }),
    ];
    for (partition, (title, records)) in (0..).zip(cases) {
        w.title(title);
        let request = produce(9, &topic, -1, &[(partition, records)]);
        if UNFORESEEN.contains(&title) {
            let answer = w.connection.call(9, &request).unwrap();
            w.s.note("refused", answer.responses[0].partition_responses[0].error_code != 0);
        } else {
            call(&mut w, 9, &request);
        }
        let stored = w
            .connection
            .call(12, &fetch(12, &topic, vec![at(partition, 0)]))
            .unwrap();
        w.s.note("stored", &stored.responses[0].partitions[0].records);
    }
}

fn codecs(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    for codec in Codec::ALL {
        for version in [3, 6, 7, 13] {
            let mut batch = Batch::of(w.now(), &["compressible compressible compressible", "compressible"]);
            batch.codec = codec;
            w.title(codec.name());
            call(
                &mut w,
                version,
                &produce(version, &topic, -1, &[(0, Some(batch.encode()))]),
            );
        }
    }
    // Stored as they came.
    w.call(12, &fetch(12, &topic, vec![at(0, 0)]));
    // zstd is not for consumers that old.
    w.call(9, &fetch(9, &topic, vec![at(0, 0)]));
    w.call(9, &fetch(9, &topic, vec![at(0, 34)]));
}

fn unknown_places(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let records = Some(Batch::of(w.now(), &["x"]).encode());
    let absent = Topic {
        name: "absent".into(),
        id: Uuid::from_u128(7),
    };
    let nil = Topic {
        name: "".into(),
        id: Uuid::nil(),
    };
    let illegal = Topic {
        name: "a topic!".into(),
        id: Uuid::nil(),
    };
    for version in [3, 9, 12, 13] {
        for (title, topic, partition) in [
            ("absent partition", &topic, 1),
            ("negative partition", &topic, -1),
            ("absent topic", &absent, 0),
            ("no topic", &nil, 0),
            ("illegal topic", &illegal, 0),
        ] {
            w.title(title);
            call(
                &mut w,
                version,
                &produce(version, topic, -1, &[(partition, records.clone())]),
            );
        }
    }
    w.title("no topics");
    w.call(9, &ProduceRequest::default().with_acks(-1).with_timeout_ms(1000));
    w.title("metadata topic");
    let internal = Topic {
        name: "__cluster_metadata".into(),
        id: Uuid::from_u128(1),
    };
    call(&mut w, 9, &produce(9, &internal, -1, &[(0, records.clone())]));
    w.call(13, &produce(13, &internal, -1, &[(0, records)]));
}

fn one_of_two_fails(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 3, &[]);
    let good = Batch::of(w.now(), &["x"]);
    let bad = Batch {
        crc_error: 1,
        ..good.clone()
    };
    let parts = [
        (0, Some(good.encode())),
        (1, Some(bad.encode())),
        (2, Some(good.encode())),
        (9, Some(good.encode())),
    ];
    call(&mut w, 9, &produce(9, &topic, -1, &parts));
    call(&mut w, 13, &produce(13, &topic, 1, &parts));
    w.call(12, &fetch(12, &topic, vec![at(0, 0), at(1, 0), at(2, 0)]));
}

fn acks(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let records = Some(Batch::of(w.now(), &["x"]).encode());
    for acks in [1, -1, 2, -2, 7] {
        w.title(&format!("acks {acks}"));
        call(&mut w, 9, &produce(9, &topic, acks, &[(0, records.clone())]));
    }
    w.title("acks 0 is not answered");
    w.connection
        .send(9, &produce(9, &topic, 0, &[(0, records.clone())]))
        .unwrap();
    w.call(9, &metadata(&[&topic.name]));
    w.title("an error with acks 0 closes the connection");
    w.connection.send(9, &produce(9, &topic, 0, &[(5, records)])).unwrap();
    let answer = w.connection.call(9, &metadata(&[&topic.name]));
    w.s.answer::<kafka_protocol::messages::MetadataRequest>(9, answer);
}

fn too_large(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 1, &[("max.message.bytes", "1000")]);
    let now = w.now();
    let sized = |size: usize| Batch::new(now, vec![Record::value(vec![b'x'; size])]);
    // 61 bytes of batch header and 9 of this record are not value.
    for size in [900, 929, 930, 931, 2000] {
        let records = sized(size).encode();
        w.title(&format!("batch of {} bytes", records.len()));
        call(&mut w, 9, &produce(9, &topic, -1, &[(0, Some(records))]));
    }
    w.title("compressed to less");
    let small = Batch {
        codec: Codec::Gzip,
        ..sized(5000)
    }
    .encode();
    call(&mut w, 9, &produce(9, &topic, -1, &[(0, Some(small))]));
}

fn timestamps(s: &mut Session) {
    let mut w = Wire::open(s);
    let append = w.create("-append", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let now = w.now();
    for codec in [Codec::None, Codec::Lz4] {
        let batch = Batch {
            codec,
            ..Batch::of(1234, &["x", "y"])
        };
        call(&mut w, 9, &produce(9, &append, -1, &[(0, Some(batch.encode()))]));
    }
    // The broker's clock is in the CRC, so the bytes cannot be equal: compare what a client reads.
    let node = w.node;
    w.s.shell(
        node,
        &["kcat -b $B -t $T-append -C -e -q -o beginning -f %o|%T|%s\\n -X check.crcs=true"],
    );
    let limits = [
        ("message.timestamp.before.max.ms", "3600000"),
        ("message.timestamp.after.max.ms", "3600000"),
    ];
    let limited = w.create("-limited", 1, &limits);
    for (title, time) in [
        ("now", now),
        ("before the limit", now - 7_200_000),
        ("after the limit", now + 7_200_000),
        ("at the epoch", 0),
        ("none", -1),
        ("negative", -2),
    ] {
        w.title(title);
        let batch = Batch::of(time, &["x", "y"]);
        call(&mut w, 9, &produce(9, &limited, -1, &[(0, Some(batch.encode()))]));
    }
    w.title("one record of three");
    let mut batch = Batch::of(now, &["x", "y", "z"]);
    batch.records[1].timestamp_delta = -7_200_000;
    call(&mut w, 9, &produce(9, &limited, -1, &[(0, Some(batch.encode()))]));
    w.s.transcript.replace(r"\[-\d+, ", "[<long ago>, ");
    w.title("the default limit for the future");
    let default = w.create("-default", 1, &[]);
    for hours in [1, 2 * 24, 365 * 24] {
        let batch = Batch::of(now + hours * 3_600_000, &["x"]);
        call(&mut w, 9, &produce(9, &default, -1, &[(0, Some(batch.encode()))]));
    }
}

fn compacted(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 1, &[("cleanup.policy", "compact")]);
    let now = w.now();
    for (title, records) in [
        ("keys", vec![Record::keyed("k", "v"), Record::keyed("k2", "v")]),
        (
            "no key",
            vec![Record::keyed("k", "v"), Record::value("v"), Record::value("w")],
        ),
    ] {
        for codec in [Codec::None, Codec::Zstd] {
            w.title(title);
            let batch = Batch {
                codec,
                ..Batch::new(now, records.clone())
            };
            for version in [7, 9] {
                call(
                    &mut w,
                    version,
                    &produce(version, &topic, -1, &[(0, Some(batch.encode()))]),
                );
            }
        }
    }
}

fn sequences(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 2, &[]);
    let (id, epoch) = w.producer();
    let now = w.now();
    let batch = |sequence, values: &[&'static str]| Some(Batch::of(now, values).producer(id, epoch, sequence).encode());
    for (title, partition, sequence, values) in [
        ("first", 0, 0, &["a", "b"][..]),
        ("second", 0, 2, &["c"]),
        ("duplicate of the second", 0, 2, &["c"]),
        ("duplicate of the first", 0, 0, &["a", "b"]),
        ("overlap", 0, 1, &["b", "c"]),
        ("part of the first", 0, 0, &["a"]),
        ("gap", 0, 5, &["f"]),
        ("third", 0, 3, &["d"]),
        ("fourth", 0, 4, &["e"]),
        ("fifth", 0, 5, &["f"]),
        ("sixth", 0, 6, &["g"]),
        ("duplicate of the second, which is still known", 0, 2, &["c"]),
        ("duplicate of the first, which is forgotten", 0, 0, &["a", "b"]),
        ("another partition starts at 0", 1, 1, &["x"]),
        ("another partition", 1, 0, &["x"]),
    ] {
        w.title(title);
        call(
            &mut w,
            9,
            &produce(9, &topic, -1, &[(partition, batch(sequence, values))]),
        );
    }
    w.title("sequences wrap");
    let (id, epoch) = w.producer();
    for (sequence, values) in [(0, &["a"][..]), (i32::MAX, &["b"]), (i32::MAX - 1, &["a", "b", "c"])] {
        let batch = Batch::of(now, values).producer(id, epoch, sequence).encode();
        call(&mut w, 9, &produce(9, &topic, -1, &[(1, Some(batch))]));
    }
    w.title("what was stored");
    w.s.transcript.replace(r"(?s)\brecords: Some\(.*", "records");
    let stored = w
        .connection
        .call(12, &fetch(12, &topic, vec![at(0, 0), at(1, 0)]))
        .unwrap();
    for partition in &stored.responses[0].partitions {
        w.s.note("high watermark", partition.high_watermark);
        w.s.note("size", partition.records.as_ref().map(Bytes::len));
    }
}

fn epochs(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let (id, _) = w.producer();
    let now = w.now();
    for (title, epoch, sequence) in [
        ("epoch 3 begins", 3, 0),
        ("goes on", 3, 1),
        ("epoch 2 is fenced", 2, 2),
        ("epoch 4 has to begin at 0", 4, 2),
        ("epoch 4 begins", 4, 0),
        ("epoch 3 is fenced", 3, 2),
        ("negative epoch", -1, 2),
    ] {
        w.title(title);
        let batch = Batch::of(now, &["x"]).producer(id, epoch, sequence).encode();
        call(&mut w, 9, &produce(9, &topic, -1, &[(0, Some(batch))]));
    }
    w.title("an unknown producer may begin anywhere");
    let (id, epoch) = w.producer();
    let batch = Batch::of(now, &["x"]).producer(id, epoch, 12).encode();
    call(&mut w, 9, &produce(9, &topic, -1, &[(0, Some(batch))]));
}

/// Five requests in one write: they are executed and answered in order.
fn pipelined(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let (id, epoch) = w.producer();
    let mut bytes = BytesMut::new();
    for sequence in 0..5 {
        let batch = Batch::of(w.now(), &["x"]).producer(id, epoch, sequence).encode();
        let frame = ottla_compat_tests::raw::encode(9, 100 + sequence, &produce(9, &topic, -1, &[(0, Some(batch))]));
        bytes.put_u32(frame.len() as u32);
        bytes.put_slice(&frame);
    }
    w.connection.send_bytes(&bytes).unwrap();
    for _ in 0..5 {
        let answer = w.connection.receive_frame().unwrap();
        w.s.transcript.add(&format!("{answer:?}"));
    }
}
