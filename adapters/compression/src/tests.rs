use bytes::Bytes;
use ottla_domain::ids::{LeaderEpoch, Offset, Timestamp};
use ottla_domain::log::AppendOrigin;
use ottla_domain::log::config::{LogConfig, TopicCompression};
use ottla_domain::log::validation::{Rules, validate};
use ottla_domain::record::batch::{Batches, RecordBatch};
use ottla_domain::record::records::{BatchBuilder, Records};
use proptest::prelude::*;

use super::*;

fn decompress(codec: CompressionType, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    Codecs.decompress(codec, body)?.read_to_end(&mut plain)?;
    Ok(plain)
}

fn compress(codec: Codec, plain: &[u8]) -> Vec<u8> {
    Codecs.compress(codec, &mut &plain[..], usize::MAX).unwrap()
}

fn from_hex(hex: &str) -> Bytes {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// The same eight records, as the Java client and kcat (librdkafka) sent them and Apache Kafka 4.3.1 stored them.
const GOLDEN: [(CompressionType, &str, &str); 5] = [
    (
        CompressionType::None,
        include_str!("../testdata/java-none.hex"),
        include_str!("../testdata/kcat-none.hex"),
    ),
    (
        CompressionType::Gzip,
        include_str!("../testdata/java-gzip.hex"),
        include_str!("../testdata/kcat-gzip.hex"),
    ),
    (
        CompressionType::Snappy,
        include_str!("../testdata/java-snappy.hex"),
        include_str!("../testdata/kcat-snappy.hex"),
    ),
    (
        CompressionType::Lz4,
        include_str!("../testdata/java-lz4.hex"),
        include_str!("../testdata/kcat-lz4.hex"),
    ),
    (
        CompressionType::Zstd,
        include_str!("../testdata/java-zstd.hex"),
        include_str!("../testdata/kcat-zstd.hex"),
    ),
];

/// The batches of each client, at offset 0 as the client sent them: the offset is not in the CRC.
fn golden_batches() -> impl Iterator<Item = (CompressionType, Vec<RecordBatch>)> {
    GOLDEN.into_iter().flat_map(|(codec, java, kcat)| {
        [java, kcat].map(|hex| {
            let sent = Batches::new(from_hex(hex)).map(|batch| {
                let batch = batch.unwrap();
                assert_eq!(batch.header.attributes.compression(), Some(codec));
                RecordBatch::new(
                    batch.header.with_offset(Offset::ZERO, LeaderEpoch::UNKNOWN),
                    &batch.body(),
                )
            });
            (codec, sent.collect())
        })
    })
}

#[test]
fn batches_of_the_java_client_and_of_librdkafka_are_read() {
    for (codec, batches) in golden_batches() {
        let mut index = 0;
        for batch in batches {
            let plain = decompress(codec, &batch.body()).unwrap();
            for record in Records::of_decompressed(&batch.header, &plain)
                .unwrap()
                .map(Result::unwrap)
            {
                assert_eq!(record.key.unwrap(), format!("key-{index}").as_bytes());
                assert_eq!(
                    record.value.unwrap(),
                    format!("{}{index}", "value ".repeat(20)).as_bytes()
                );
                index += 1;
            }
        }
        assert_eq!(index, 8, "{codec:?}");
    }
}

#[test]
fn validation_accepts_and_converts_what_real_clients_send() {
    for (codec, batch) in golden_batches().flat_map(|(codec, sent)| sent.into_iter().map(move |batch| (codec, batch))) {
        for target in CompressionType::ALL {
            let config = LogConfig {
                compression: TopicCompression::Fixed(Codec::default_of(target)),
                ..LogConfig::default()
            };
            let rules = Rules {
                config: &config,
                origin: AppendOrigin::Client,
                zstd_allowed: true,
                trust_compressed_headers: false,
                partition: &"t-0",
            };
            let now = batch.header.max_timestamp;
            let validated = validate(batch.bytes(), &rules, &Codecs, now).unwrap();
            assert_eq!(validated.is_converted(), codec != target);
            let plain = decompress(codec, &batch.body()).unwrap();
            assert_eq!(
                decompress(target, validated.body()).unwrap(),
                plain,
                "{codec:?} to {target:?}"
            );
        }
    }
}

#[test]
fn every_level_gives_the_body_back() {
    let plain = b"some words, some more words, and again some words".repeat(5_000);
    let levels = [-1, 1, 9].map(Codec::Gzip).into_iter();
    let levels = levels.chain([1, 9, 12, 17].map(Codec::Lz4));
    let levels = levels
        .chain([-131_072, -5, 1, 3, 22].map(Codec::Zstd))
        .chain([Codec::Snappy, Codec::None]);
    for codec in levels {
        let compressed = compress(codec, &plain);
        assert_eq!(
            decompress(codec.compression_type(), &compressed).unwrap(),
            plain,
            "{codec:?}"
        );
    }
    assert!(
        compress(Codec::Lz4(12), &plain) != compress(Codec::Lz4(9), &plain),
        "levels have an effect"
    );
}

#[test]
fn what_is_written_has_the_form_that_java_reads() {
    let plain = b"abcabcabc".repeat(20_000);
    let lz4 = compress(Codec::Lz4(Codec::LZ4_LEVEL_DEFAULT), &plain);
    // Version 1, independent blocks, no checksums; blocks of 64 KiB; the header's checksum.
    assert_eq!(lz4[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    let snappy = compress(Codec::Snappy, &plain);
    assert_eq!(snappy[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    assert_eq!(compress(Codec::Snappy, b""), *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
}

#[test]
fn output_stops_at_its_limit() {
    let noise: Vec<u8> = (0..100_000u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    for codec in CompressionType::ALL {
        let codec = Codec::default_of(codec);
        let error = Codecs.compress(codec, &mut noise.as_slice(), 10_000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{codec:?}");
    }
}

/// A batch of one record with a value of zeroes, a thousandfold smaller than what it holds.
#[test]
fn bombs_are_walked_without_holding_what_comes_out() {
    let mut builder = BatchBuilder::new(Offset(0));
    builder.append(Timestamp(1), Some(b"key"), Some(&vec![0; 64 << 20]));
    let config = LogConfig::default();
    for codec in [CompressionType::Gzip, CompressionType::Zstd, CompressionType::Lz4] {
        let bomb = builder
            .clone()
            .build_compressed(&Codecs, Codec::default_of(codec))
            .unwrap();
        assert!(bomb.bytes().len() < 300 << 10, "{codec:?}");
        let to_plain = LogConfig {
            compression: TopicCompression::Fixed(Codec::None),
            ..config.clone()
        };
        let rules = |config| Rules {
            config,
            origin: AppendOrigin::Client,
            zstd_allowed: true,
            trust_compressed_headers: false,
            partition: &"t-0",
        };
        let (accepted, peak_bytes) =
            peak::of(|| validate(bomb.bytes(), &rules(&config), &Codecs, Timestamp(1)).is_ok());
        assert!(accepted && peak_bytes < 256 << 10, "{codec:?}: {peak_bytes}");
        let (rejection, peak_bytes) =
            peak::of(|| validate(bomb.bytes(), &rules(&to_plain), &Codecs, Timestamp(1)).unwrap_err());
        assert_eq!(rejection.code, ottla_domain::error::ErrorCode::MessageTooLarge);
        assert!(peak_bytes < 4 << 20, "{codec:?}: {peak_bytes}");
    }
}

#[test]
fn sizes_that_a_body_claims_are_not_believed() {
    // A bare snappy block of 4 GiB; xerial's framing around a block of 2 GiB.
    assert!(decompress(CompressionType::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]).is_err());
    let framed = [&compress(Codec::Snappy, b"")[..], &[0x7f, 0xff, 0xff, 0xff, 1, 2]].concat();
    assert!(decompress(CompressionType::Snappy, &framed).is_err());
    // A zstd window of 256 MiB, and a single segment of 1 TiB.
    assert!(decompress(CompressionType::Zstd, &[0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 1, 0, 0]).is_err());
    let segment = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0];
    assert!(decompress(CompressionType::Zstd, &segment).is_err());
}

#[test]
fn lz4_blocks_that_depend_on_each_other_are_refused_as_java_does() {
    let mut encoder = ::lz4::EncoderBuilder::new()
        .block_mode(::lz4::BlockMode::Linked)
        .build(Vec::new())
        .unwrap();
    encoder.write_all(b"abcabcabc").unwrap();
    let (frame, result) = encoder.finish();
    result.unwrap();
    assert!(decompress(CompressionType::Lz4, &frame).is_err());
}

/// Java's clients would not see what follows them.
#[test]
fn lz4_blocks_of_nothing_are_refused() {
    let frame = compress(Codec::Lz4(Codec::LZ4_LEVEL_DEFAULT), b"record");
    // Behind the head of the frame: a block of one byte, which says that no literals follow.
    let (head, blocks) = frame.split_at(7);
    let with_empty = [head, &[1, 0, 0, 0, 0], blocks].concat();
    assert_eq!(decompress(CompressionType::Lz4, &frame).unwrap(), b"record");
    assert!(decompress(CompressionType::Lz4, &with_empty).is_err());
}

/// Kafka checks the checksums of the descriptor and of blocks, and skips that of the content.
#[test]
fn checksums_of_lz4_are_looked_at_as_java_does() {
    use ::lz4::liblz4::BlockChecksum;
    use ::lz4::{BlockMode, BlockSize, ContentChecksum, EncoderBuilder};

    // What does not shrink stays as it is.
    let noise: Vec<u8> = (0..90_000u32)
        .flat_map(|word| twox_hash::XxHash32::oneshot(word, &[]).to_le_bytes())
        .collect();
    let plain = [vec![7; 1 << 20], noise].concat();
    let frame = |size, block_checksum, checksum| {
        let builder = EncoderBuilder::new()
            .block_mode(BlockMode::Independent)
            .block_size(size)
            .block_checksum(block_checksum)
            .checksum(checksum)
            .clone();
        let mut encoder = builder.build(Vec::new()).unwrap();
        encoder.write_all(&plain).unwrap();
        let (frame, result) = encoder.finish();
        result.unwrap();
        frame
    };
    let read = |frame: &[u8]| decompress(CompressionType::Lz4, frame).ok();
    for size in [
        BlockSize::Max64KB,
        BlockSize::Max256KB,
        BlockSize::Max1MB,
        BlockSize::Max4MB,
    ] {
        let frame = |blocks, content| frame(size.clone(), blocks, content);
        let bare = frame(BlockChecksum::NoBlockChecksum, ContentChecksum::NoChecksum);
        assert!(read(&bare) == Some(plain.clone()));
        let mut full = frame(BlockChecksum::BlockChecksumEnabled, ContentChecksum::ChecksumEnabled);
        assert!(read(&full) == Some(plain.clone()));
        let end = full.len() - 1;
        assert!(read(&full[..end]).is_none());
        full[end] ^= 1;
        assert!(read(&full) == Some(plain.clone()));
        // Before the end mark and the checksum of the content stands that of the last block.
        full[end - 8] ^= 1;
        assert!(read(&full).is_none());
        full[end - 8] ^= 1;
        full[6] ^= 1;
        assert!(read(&full).is_none());
    }
}

#[test]
fn joined_snappy_streams_are_read_as_one() {
    let joined = [compress(Codec::Snappy, b"one "), compress(Codec::Snappy, b"two")].concat();
    assert_eq!(decompress(CompressionType::Snappy, &joined).unwrap(), b"one two");
}

proptest! {
    #[test]
    fn bodies_survive_a_round_trip_and_truncation_is_noticed(
        words in proptest::collection::vec((any::<u64>(), 1usize..40), 0..2_000),
        id in 1u8..5,
        cut in any::<prop::sample::Index>(),
    ) {
        let plain: Vec<u8> = words.into_iter().flat_map(|(word, times)| word.to_be_bytes().repeat(times)).collect();
        let codec = CompressionType::from_id(id).unwrap();
        let compressed = compress(Codec::default_of(codec), &plain);
        prop_assert_eq!(&decompress(codec, &compressed).unwrap(), &plain);
        let cut = &compressed[..cut.index(compressed.len())];
        match decompress(codec, cut) {
            Err(_) => {}
            // Snappy's framing has no end mark: a cut between blocks is a shorter body, which the record count notices.
            Ok(shorter) => prop_assert!(codec == CompressionType::Snappy && plain.starts_with(&shorter)),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_run_away(body in proptest::collection::vec(any::<u8>(), 0..300), id in 0u8..5, headed in any::<bool>()) {
        let codec = CompressionType::from_id(id).unwrap();
        let head = if headed { compress(Codec::default_of(codec), b"head") } else { Vec::new() };
        let kept = head.len().min(16);
        let body = [&head[..kept], &body[..]].concat();
        if let Ok(stream) = Codecs.decompress(codec, &body) {
            let _ = io::copy(&mut stream.take(1 << 20), &mut io::sink());
        }
    }
}

/// Counts what a thread holds in Rust's heap; the C libraries' windows are bounded by their parameters.
mod peak {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static LIVE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
    }

    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn count(change: isize) {
        let _ = LIVE.try_with(|cell| {
            let (live, peak) = cell.get();
            let live = live + change;
            cell.set((live, peak.max(live)));
        });
    }

    // SAFETY: every call is passed on to the system's allocator as it came.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count(layout.size() as isize);
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            count(-(layout.size() as isize));
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    /// What `action` returns and the most bytes that it held at a time.
    pub(super) fn of<T>(action: impl FnOnce() -> T) -> (T, isize) {
        let (before, _) = LIVE.get();
        LIVE.set((before, before));
        let result = action();
        (result, LIVE.get().1 - before)
    }
}
