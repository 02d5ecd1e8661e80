//! The LZ4 frame format as Kafka's Lz4BlockInputStream and Lz4BlockOutputStream read and write it.

use std::io::{self, Read, Write};
use std::ops::Range;

use lz4::liblz4::BlockChecksum;
use lz4::{BlockMode, BlockSize, ContentChecksum, EncoderBuilder};
use ottla_domain::record::compression::Codec;
use twox_hash::XxHash32;

use crate::invalid;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// Version 1, independent blocks, no dictionary, nothing reserved; content size and checksums are free.
const FLAGS_FIXED: u8 = 0b1110_0011;
const FLAGS_EXPECTED: u8 = 0b0110_0000;
const HAS_BLOCK_CHECKSUMS: u8 = 0b1_0000;
const HAS_CONTENT_SIZE: u8 = 0b1000;
const HAS_CONTENT_CHECKSUM: u8 = 0b100;
/// In the size of a block: it is not compressed.
const IS_PLAIN: u32 = 1 << 31;
/// No byte of a compressed block stands for more.
const EXPANSION_MAX: usize = 255;

/// Decompresses one frame; what follows it is not looked at, as in Kafka.
///
/// The library's own reader of frames would check the checksum of the content, which Go's clients add and which takes three
/// times as long as the decompression. Kafka leaves it out: the batch has a CRC.
pub(crate) struct Decoder<'a> {
    flags: u8,
    block_bytes_max: usize,
    /// The blocks that were not read yet; `None` behind the last.
    rest: Option<&'a [u8]>,
    /// Holds the block that is being read, if it was compressed.
    buffer: Vec<u8>,
    /// What is left of it.
    unread: Range<usize>,
    /// What is left of a block that was not compressed.
    plain: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(body: &'a [u8]) -> io::Result<Decoder<'a>> {
        let Some(descriptor) = body.strip_prefix(&MAGIC) else {
            return Err(invalid("not an LZ4 frame"));
        };
        let [flags, block_size, ..] = *descriptor else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        // Java's reader knows no dependent blocks: what it cannot consume must not be stored.
        if flags & FLAGS_FIXED != FLAGS_EXPECTED {
            return Err(invalid("unsupported LZ4 frame flags"));
        }
        let block_bytes_max = match block_size {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(invalid("unsupported LZ4 block size")),
        };
        let size = if flags & HAS_CONTENT_SIZE == 0 { 2 } else { 10 };
        let (descriptor, mut rest) = split(descriptor, size)?;
        let [_, checksum, ..] = hash(descriptor).to_le_bytes();
        if take::<1>(&mut rest)? != [checksum] {
            return Err(invalid("wrong checksum of an LZ4 frame descriptor"));
        }
        Ok(Decoder {
            flags,
            block_bytes_max,
            rest: Some(rest),
            buffer: Vec::new(),
            unread: 0..0,
            plain: &[],
        })
    }

    /// Goes on to the next block; false at the end of the frame.
    fn next_block(&mut self) -> io::Result<bool> {
        let Some(mut rest) = self.rest.take() else {
            return Ok(false);
        };
        let field = u32::from_le_bytes(take(&mut rest)?);
        let size = usize::try_from(field & !IS_PLAIN).unwrap_or(usize::MAX);
        if size == 0 {
            if self.flags & HAS_CONTENT_CHECKSUM != 0 {
                take::<4>(&mut rest)?;
            }
            return Ok(false);
        }
        if size > self.block_bytes_max {
            return Err(invalid("an LZ4 block is larger than its frame allows"));
        }
        let (block, mut rest) = split(rest, size)?;
        if self.flags & HAS_BLOCK_CHECKSUMS != 0 && u32::from_le_bytes(take(&mut rest)?) != hash(block) {
            return Err(invalid("wrong checksum of an LZ4 block"));
        }
        if field & IS_PLAIN != 0 {
            self.plain = block;
        } else {
            let room = self.block_bytes_max.min(size.saturating_mul(EXPANSION_MAX));
            if self.buffer.len() < room {
                self.buffer.resize(room, 0);
            }
            let room = i32::try_from(room).map_err(io::Error::other)?;
            self.unread = 0..lz4::block::decompress_to_buffer(block, Some(room), &mut self.buffer)?;
            // Java's clients take it for the end and find records missing.
            if self.unread.is_empty() {
                return Err(invalid("an empty LZ4 block"));
            }
        }
        self.rest = Some(rest);
        Ok(true)
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            let mut unread = self.buffer.get(self.unread.clone()).unwrap_or_default();
            let read = unread.read(buffer)?;
            self.unread.start += read;
            let read = if read > 0 { read } else { self.plain.read(buffer)? };
            if read > 0 || !self.next_block()? {
                return Ok(read);
            }
        }
        Ok(0)
    }
}

fn hash(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

fn split(bytes: &[u8], at: usize) -> io::Result<(&[u8], &[u8])> {
    bytes
        .split_at_checked(at)
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> io::Result<[u8; N]> {
    let (taken, rest) = bytes
        .split_first_chunk()
        .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    *bytes = rest;
    Ok(*taken)
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
