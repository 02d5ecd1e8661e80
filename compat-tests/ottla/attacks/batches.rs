//! Batches that are not what they say: bombs, lies and the formats of old.
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Codec};
use ottla_compat_tests::requests::{Topic, create_topic, produce};
use ottla_compat_tests::transcript::now_ms;

use crate::Attack;
use crate::victim::{MEMORY_MAX_MB, Victim};

pub const ATTACKS: &[Attack] = &[
    ("bombs", false, || bombs(64 << 20)),
    ("bombs-large", true, || bombs(1 << 30)),
    ("lying-batches", false, lying_batches),
];

/// Ten million records take a debug build a while.
const TINY_BYTES: usize = 64 << 20;
/// How long a bomb may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const NONE: i16 = 0;
const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

/// The error of a produce to partition 0.
fn send(connection: &mut Connection, topic: &Topic, records: Bytes) -> i16 {
    let answer = connection
        .call(9, &produce(9, topic, -1, &[(0, Some(records))]))
        .unwrap();
    answer.responses[0].partition_responses[0].error_code
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A record without key and headers up to its value, which is of `size` zeroes.
fn head_of_record(size: usize) -> Vec<u8> {
    let mut value_size = Vec::new();
    put_varint(&mut value_size, size as i64);
    let mut head = Vec::new();
    // Attributes, two deltas and a null key before it, the count of headers behind.
    put_varint(&mut head, (4 + value_size.len() + size + 1) as i64);
    head.extend([0, 0, 0, 1]);
    head.extend(value_size);
    head
}

/// A stream of records: one of so many bytes, or as many as fit of which each is as small as can be.
fn plain(is_one: bool, size: usize) -> (i32, Box<dyn Read>) {
    if is_one {
        let head = std::io::Cursor::new(head_of_record(size));
        return (1, Box::new(head.chain(std::io::repeat(0).take(size as u64 + 1))));
    }
    // All with the offset delta 0, which is refused, but only once all were looked at.
    let record = [12, 0, 0, 0, 1, 1, 0];
    let count = size / record.len();
    let mut part = 0;
    let many = std::iter::from_fn(move || {
        part += 1;
        (part <= count).then_some(record)
    });
    (count as i32, Box::new(Flat { many, left: Vec::new() }))
}

struct Flat<I> {
    many: I,
    left: Vec<u8>,
}

impl<I: Iterator<Item = [u8; 7]>> Read for Flat<I> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_empty() {
            self.left = self.many.by_ref().take(4096).flatten().collect();
        }
        let size = self.left.len().min(buffer.len());
        buffer[..size].copy_from_slice(&self.left[..size]);
        self.left.drain(..size);
        Ok(size)
    }
}

fn compressed(codec: Codec, plain: &mut dyn Read) -> Vec<u8> {
    match codec {
        Codec::None => unreachable!("no bomb"),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::copy(plain, &mut encoder).unwrap();
            encoder.finish().unwrap()
        }
        Codec::Snappy => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            let mut block = Vec::new();
            while plain.take(1 << 20).read_to_end(&mut block).unwrap() > 0 {
                let chunk = snap::raw::Encoder::new().compress_vec(&block).unwrap();
                out.put_u32(chunk.len() as u32);
                out.extend(chunk);
                block.clear();
            }
            out
        }
        Codec::Lz4 => {
            let mut encoder = lz4::EncoderBuilder::new()
                .block_mode(lz4::BlockMode::Independent)
                .block_size(lz4::BlockSize::Max4MB)
                .build(Vec::new())
                .unwrap();
            std::io::copy(plain, &mut encoder).unwrap();
            let (out, result) = encoder.finish();
            result.unwrap();
            out
        }
        Codec::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
            std::io::copy(plain, &mut encoder).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// A batch with a body that was compressed elsewhere.
fn batch_of(codec: Codec, count: i32, body: &[u8]) -> Bytes {
    let head = Batch {
        count: Some(count),
        last_offset_delta: Some(count - 1),
        attributes: codec as i16,
        ..Batch::new(now_ms(), Vec::new())
    };
    let mut bytes = BytesMut::from(&head.encode()[..]);
    bytes.put_slice(body);
    let length = bytes.len() as u32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// Batches a thousandfold smaller than what is in them, as far as their codecs allow: one huge record of `size` bytes, which
/// is a right one, and as many as can be.
fn bombs(size: usize) {
    let victim = Victim::start(&["message.max.bytes=104857600"]);
    let before = victim.serve(300);
    let topic = create_topic(&mut victim.connect(), "bombed", 1, &[]);
    let to_plain = create_topic(
        &mut victim.connect(),
        "converted",
        1,
        &[("compression.type", "uncompressed"), ("max.message.bytes", "1000000")],
    );
    let idle_mb = victim.memory().now_mb;
    let mut bombs = Vec::new();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for (is_one, size) in [(true, size), (false, TINY_BYTES)] {
            let (count, mut plain) = plain(is_one, size);
            let batch = batch_of(codec, count, &compressed(codec, &mut plain));
            bombs.push((codec, is_one, size, batch));
        }
    }
    let ((), during) = victim.serve_during(|| {
        for (codec, is_one, size, batch) in &bombs {
            let begun = Instant::now();
            let mut connection = victim.connect();
            connection.set_deadline(PATIENCE).unwrap();
            let expected = if *is_one { NONE } else { INVALID_RECORD };
            assert_eq!(
                send(&mut connection, &topic, batch.clone()),
                expected,
                "{codec:?} {is_one}"
            );
            println!(
                "{codec:?} {} to {size} bytes ({}-fold) in {}: {:?}, {} MB at most",
                batch.len(),
                size / batch.len(),
                if *is_one { "one record" } else { "tiny records" },
                begun.elapsed(),
                victim.memory().peak_mb
            );
            let error = send(&mut connection, &to_plain, batch.clone());
            assert!(
                [MESSAGE_TOO_LARGE, INVALID_RECORD].contains(&error),
                "{codec:?} {is_one}: {error}"
            );
        }
    });
    during.assert_like(&before, 30);
    println!("{} MB at most after {idle_mb} MB", victim.memory().peak_mb);
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
    victim.complaints([]);
    victim.serve(10);
}

/// A message of magic 0 or 1, maybe with others inside.
fn old_message(magic: u8, attributes: u8, value: &[u8]) -> Bytes {
    let mut message = vec![magic, attributes];
    if magic == 1 {
        message.put_i64(now_ms());
    }
    message.put_i32(-1);
    message.put_i32(value.len() as i32);
    message.extend(value);
    let mut crc = flate2::Crc::new();
    crc.update(&message);
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(message.len() as i32 + 4);
    out.put_u32(crc.sum());
    out.put_slice(&message);
    out.freeze()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Whatever a batch says of itself that is not so is an error of its partition, and nothing is stored.
fn lying_batches() {
    let victim = Victim::start(&[]);
    let mut connection = victim.connect();
    let topic = create_topic(&mut connection, "lied-to", 1, &[]);
    let good = || Batch::of(now_ms(), &["a", "b", "c"]);
    let mut lies: Vec<(String, i16, Bytes)> = Vec::new();
    for count in [i32::MIN, -1, 0, 1, 2, 4, i32::MAX] {
        for codec in Codec::ALL {
            for deltas_agree in [false, true] {
                let batch = Batch {
                    count: Some(count),
                    last_offset_delta: deltas_agree.then_some(count.wrapping_sub(1)),
                    codec,
                    ..good()
                };
                let what = format!("{count} records, {codec:?}, deltas agree: {deltas_agree}");
                lies.push((what, INVALID_RECORD, batch.encode()));
            }
        }
    }
    for length in [i32::MIN, -1, 0, 1, 48] {
        let batch = Batch {
            length: Some(length),
            ..good()
        };
        lies.push((format!("length {length}"), CORRUPT_MESSAGE, batch.encode()));
    }
    for length in [good().encode().len() as i32, 1 << 20, i32::MAX] {
        let batch = Batch {
            length: Some(length),
            ..good()
        };
        lies.push((format!("length {length}"), INVALID_RECORD, batch.encode()));
    }
    for (attributes, error) in [
        (5, UNSUPPORTED_COMPRESSION_TYPE),
        (6, UNSUPPORTED_COMPRESSION_TYPE),
        (7, UNSUPPORTED_COMPRESSION_TYPE),
        (1, INVALID_RECORD),
        (2, INVALID_RECORD),
        (3, INVALID_RECORD),
        (4, INVALID_RECORD),
        (0x20, INVALID_RECORD),
        (0x40, INVALID_RECORD),
    ] {
        let batch = Batch { attributes, ..good() };
        lies.push((format!("attributes {attributes:#x}"), error, batch.encode()));
    }
    lies.push((
        "a wrong CRC".into(),
        CORRUPT_MESSAGE,
        Batch { crc_error: 1, ..good() }.encode(),
    ));
    for magic in [0, 1] {
        let inner = old_message(magic, 0, b"inner");
        let wrapper = old_message(magic, 1, &gzip(&inner));
        let nested = old_message(magic, 1, &gzip(&wrapper));
        for (what, bytes) in [("plain", inner), ("wrapper", wrapper), ("nested wrapper", nested)] {
            lies.push((format!("{what} of magic {magic}"), INVALID_RECORD, bytes));
        }
    }
    // Sizes that compressed bodies claim.
    let snappy = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    let bodies: [(&str, Codec, Vec<u8>); 8] = [
        (
            "xerial's block of 2 GiB",
            Codec::Snappy,
            [&snappy[..], b"\x7f\xff\xff\xff\x01\x02"].concat(),
        ),
        (
            "xerial's negative block",
            Codec::Snappy,
            [&snappy[..], b"\xff\xff\xff\xff\x01\x02"].concat(),
        ),
        (
            "a snappy block that claims 4 GiB",
            Codec::Snappy,
            [&snappy[..], b"\0\0\0\x06\xff\xff\xff\xff\x0f\0"].concat(),
        ),
        (
            "a bare snappy block that claims 4 GiB",
            Codec::Snappy,
            b"\xff\xff\xff\xff\x0f\0\0".to_vec(),
        ),
        (
            "an lz4 block of 2 GiB",
            Codec::Lz4,
            b"\x04\x22\x4d\x18\x60\x40\x82\xff\xff\xff\x7f\x01".to_vec(),
        ),
        ("an lz4 frame cut short", Codec::Lz4, b"\x04\x22\x4d\x18\x60".to_vec()),
        (
            "a zstd window of 256 MiB",
            Codec::Zstd,
            vec![0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 1, 0, 0],
        ),
        ("nothing", Codec::Gzip, Vec::new()),
    ];
    for (what, codec, body) in bodies {
        lies.push((what.into(), INVALID_RECORD, batch_of(codec, 1, &body)));
    }
    let mut wrong = Vec::new();
    for (what, expected, records) in &lies {
        let error = send(&mut connection, &topic, records.clone());
        if error != *expected {
            wrong.push(format!("{what}: {error} instead of {expected}"));
        }
    }
    println!("{} batches that lie", lies.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // An error is the answer, so nobody is to be warned.
    victim.complaints([]);
    let failed = r#"kafka_server_brokertopicmetrics_failedproducerequests_total{topic="lied-to"}"#;
    // Kafka does not count batches of which it cannot tell what they are.
    let counted = lies.iter().filter(|(_, error, _)| *error != CORRUPT_MESSAGE).count();
    assert_eq!(victim.metric(failed) as usize, counted);
    assert_eq!(send(&mut connection, &topic, good().encode()), NONE);
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
}
