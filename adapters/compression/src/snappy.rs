//! Snappy as Kafka's clients send it: blocks in the framing of xerial's snappy-java, or one bare block (librdkafka).

use std::io::{self, Read, Write};

use crate::invalid;

/// The magic, the version and the oldest version that can read it, both 1.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const MAGIC_BYTES: usize = 8;
/// What snappy-java puts into a block.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy of 64 bytes takes 3, so nothing expands further.
const EXPANSION_MAX: usize = 22;

/// Decompresses block by block.
pub(crate) struct Decoder<'a> {
    /// What follows the current block.
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    position: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(body: &'a [u8]) -> io::Result<Decoder<'a>> {
        if body.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let framed = body.len() >= HEADER.len() && body.starts_with(&HEADER[..MAGIC_BYTES]);
        Ok(Decoder {
            rest: body,
            framed,
            block: Vec::new(),
            position: 0,
        })
    }

    /// The next compressed block; `None` at the end.
    fn next_block(&mut self) -> io::Result<Option<&'a [u8]>> {
        if !self.framed {
            return Ok(Some(std::mem::take(&mut self.rest)).filter(|block| !block.is_empty()));
        }
        // A header stands at the front, and again where streams were joined.
        while self.rest.starts_with(&HEADER[..MAGIC_BYTES]) {
            self.rest = self.rest.get(HEADER.len()..).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (length, rest) = self.rest.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.rest = rest;
        Ok(Some(block))
    }

    fn decompress(&mut self, block: &[u8]) -> io::Result<()> {
        let size_bytes = snap::raw::decompress_len(block)?;
        if size_bytes > block.len().saturating_mul(EXPANSION_MAX) {
            return Err(invalid("snappy block claims an impossible size"));
        }
        self.position = 0;
        self.block.resize(size_bytes, 0);
        snap::raw::Decoder::new().decompress(block, &mut self.block)?;
        Ok(())
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            match self.next_block()? {
                Some(block) => self.decompress(block)?,
                None => return Ok(0),
            }
        }
        let mut available = self.block.get(self.position..).unwrap_or_default();
        let size_bytes = available.read(buffer)?;
        self.position += size_bytes;
        Ok(size_bytes)
    }
}

/// Writes xerial's framing, which every client reads.
pub(crate) fn compress(body: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    output.write_all(&HEADER)?;
    let mut encoder = snap::raw::Encoder::new();
    let mut compressed = vec![0; snap::raw::max_compress_len(BLOCK_BYTES)];
    let mut plain = Vec::with_capacity(BLOCK_BYTES);
    loop {
        plain.clear();
        if body.take(BLOCK_BYTES as u64).read_to_end(&mut plain)? == 0 {
            return Ok(());
        }
        let size_bytes = encoder.compress(&plain, &mut compressed)?;
        output.write_all(&(size_bytes as u32).to_be_bytes())?;
        output.write_all(compressed.get(..size_bytes).unwrap_or_default())?;
    }
}
