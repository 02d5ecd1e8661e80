//! The codecs of a batch's body and the port through which bodies are read and made.

use std::io::{self, Read};

/// A codec of Kafka's record batches (`compression.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CompressionType {
    /// Not compressed.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of xerial's snappy-java.
    Snappy,
    /// The LZ4 frame format with independent blocks.
    Lz4,
    /// Zstandard (KIP-110), from Produce and Fetch version 7 and 10 on.
    Zstd,
}

impl CompressionType {
    /// All codecs in the order of their ids.
    pub const ALL: [CompressionType; 5] = [
        CompressionType::None,
        CompressionType::Gzip,
        CompressionType::Snappy,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ];

    /// The number in the attributes of a batch.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The codec of this number, if Kafka defines it.
    pub const fn from_id(id: u8) -> Option<CompressionType> {
        match id {
            0 => Some(CompressionType::None),
            1 => Some(CompressionType::Gzip),
            2 => Some(CompressionType::Snappy),
            3 => Some(CompressionType::Lz4),
            4 => Some(CompressionType::Zstd),
            _ => None,
        }
    }

    /// Kafka's name, as in a producer's `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            CompressionType::None => "none",
            CompressionType::Gzip => "gzip",
            CompressionType::Snappy => "snappy",
            CompressionType::Lz4 => "lz4",
            CompressionType::Zstd => "zstd",
        }
    }
}

/// A codec with its level (KIP-390): what `compression.type` and `compression.*.level` of a topic ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    None,
    /// Level 1 to 9, or -1 for zlib's default.
    Gzip(i32),
    /// Snappy has no levels.
    Snappy,
    /// Level 1 to 17.
    Lz4(i32),
    /// Level -131072 to 22.
    Zstd(i32),
}

impl Codec {
    /// `compression.gzip.level` when it is not set: zlib's own default.
    pub const GZIP_LEVEL_DEFAULT: i32 = -1;
    /// `compression.lz4.level` when it is not set.
    pub const LZ4_LEVEL_DEFAULT: i32 = 9;
    /// `compression.zstd.level` when it is not set.
    pub const ZSTD_LEVEL_DEFAULT: i32 = 3;

    /// This codec at Kafka's default level.
    pub const fn default_of(codec: CompressionType) -> Codec {
        match codec {
            CompressionType::None => Codec::None,
            CompressionType::Gzip => Codec::Gzip(Codec::GZIP_LEVEL_DEFAULT),
            CompressionType::Snappy => Codec::Snappy,
            CompressionType::Lz4 => Codec::Lz4(Codec::LZ4_LEVEL_DEFAULT),
            CompressionType::Zstd => Codec::Zstd(Codec::ZSTD_LEVEL_DEFAULT),
        }
    }

    /// The codec without its level.
    pub const fn compression_type(self) -> CompressionType {
        match self {
            Codec::None => CompressionType::None,
            Codec::Gzip(_) => CompressionType::Gzip,
            Codec::Snappy => CompressionType::Snappy,
            Codec::Lz4(_) => CompressionType::Lz4,
            Codec::Zstd(_) => CompressionType::Zstd,
        }
    }
}

/// Reads and makes compressed bodies. Implemented by adapters/compression.
pub trait Compression: Send + Sync {
    /// A stream of the decompressed body.
    ///
    /// Memory is bounded by what the codec's format allows for a window or block, never by what a length field says. How
    /// much comes out is not bounded: a reader that collects must bound it. A thread reads one stream at a time: a zstd
    /// stream with a large window waits until no other thread has such a one. Bytes that are not of this codec give an error
    /// when they are reached.
    fn decompress<'a>(&self, codec: CompressionType, body: &'a [u8]) -> io::Result<Box<dyn Read + 'a>>;

    /// True when [`Compression::decompress`] may wait for another thread.
    fn may_wait(&self, _codec: CompressionType, _body: &[u8]) -> bool {
        false
    }

    /// Compresses all of `body`. Fails with the kind `FileTooLarge` once the result exceeds `size_bytes_max`.
    fn compress(&self, codec: Codec, body: &mut dyn Read, size_bytes_max: usize) -> io::Result<Vec<u8>>;
}

/// A stand-in for tests: bodies are the codec's id and the plain bytes.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, Default)]
pub struct TestCompression;

#[cfg(any(test, feature = "testing"))]
impl Compression for TestCompression {
    fn decompress<'a>(&self, codec: CompressionType, body: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
        match body.split_first() {
            _ if codec == CompressionType::None => Ok(Box::new(body)),
            Some((id, plain)) if *id == codec.id() => Ok(Box::new(plain)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn compress(&self, codec: Codec, body: &mut dyn Read, size_bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut compressed = match codec {
            Codec::None => vec![],
            codec => vec![codec.compression_type().id()],
        };
        body.read_to_end(&mut compressed)?;
        match compressed.len() > size_bytes_max {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(compressed),
        }
    }
}
