//! The LZ4 frame format as Kafka's Lz4BlockInputStream and Lz4BlockOutputStream read and write it.

use std::io::{self, Read, Write};

use lz4::liblz4::BlockChecksum;
use lz4::{BlockMode, BlockSize, ContentChecksum, EncoderBuilder};
use ottla_domain::record::compression::Codec;

use crate::invalid;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// Version 1, independent blocks, no dictionary, nothing reserved; content size and checksums are free.
const FLAGS_FIXED: u8 = 0b1110_0011;
const FLAGS_EXPECTED: u8 = 0b0110_0000;

/// Decompresses one frame; what follows it is not looked at, as in Kafka.
pub(crate) struct Decoder<'a> {
    /// Gone at the end of the frame.
    inner: Option<lz4::Decoder<&'a [u8]>>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(body: &'a [u8]) -> io::Result<Decoder<'a>> {
        let flags = match body.split_at_checked(MAGIC.len()) {
            Some((magic, [flags, ..])) if magic == MAGIC => *flags,
            _ => return Err(invalid("not an LZ4 frame")),
        };
        // Java's reader knows no dependent blocks: what it cannot consume must not be stored.
        if flags & FLAGS_FIXED != FLAGS_EXPECTED {
            return Err(invalid("unsupported LZ4 frame flags"));
        }
        Ok(Decoder {
            inner: Some(lz4::Decoder::new(body)?),
        })
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else {
            return Ok(0);
        };
        let size_bytes = inner.read(buffer)?;
        // The library takes the end of its input for the end of the frame, unless it is asked.
        if size_bytes == 0
            && !buffer.is_empty()
            && let Some(inner) = self.inner.take()
            && inner.finish().1.is_err()
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(size_bytes)
    }
}

/// Writes one frame of independent blocks of 64 KiB. Kafka's default level is LZ4's fast mode, all others its high
/// compression mode.
pub(crate) fn compress(level: i32, body: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    let level = match level {
        Codec::LZ4_LEVEL_DEFAULT => 0,
        level => u32::try_from(level).unwrap_or(0),
    };
    let mut encoder = EncoderBuilder::new()
        .level(level)
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB)
        .block_checksum(BlockChecksum::NoBlockChecksum)
        .checksum(ContentChecksum::NoChecksum)
        .build(output)?;
    io::copy(body, &mut encoder)?;
    encoder.finish().1
}
