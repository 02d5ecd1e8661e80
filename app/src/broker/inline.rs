//! A little decompression on the threads that serve clients; what takes longer belongs on a blocking thread.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_domain::record::compression::{Codec, Compression, CompressionType};

/// How much may come out of a batch here: about a millisecond's work. A few KiB can hold a hundred times as much.
const DECOMPRESSED_BYTES_MAX: u64 = 1024 * 1024;

/// Codecs that give up on what would hold up other clients.
pub(super) struct Inline<'a> {
    codecs: &'a dyn Compression,
    gave_up: Arc<AtomicBool>,
}

impl<'a> Inline<'a> {
    pub(super) fn new(codecs: &'a dyn Compression) -> Self {
        Inline {
            codecs,
            gave_up: Arc::default(),
        }
    }

    /// True when an error came from here and not from what was decompressed.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }
}

fn too_much(gave_up: &AtomicBool) -> io::Error {
    gave_up.store(true, Ordering::Relaxed);
    io::ErrorKind::QuotaExceeded.into()
}

impl Compression for Inline<'_> {
    fn decompress<'a>(&self, codec: CompressionType, body: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
        if self.codecs.may_wait(codec, body) {
            return Err(too_much(&self.gave_up));
        }
        Ok(Box::new(Limited {
            stream: self.codecs.decompress(codec, body)?,
            left_bytes: DECOMPRESSED_BYTES_MAX,
            gave_up: Arc::clone(&self.gave_up),
        }))
    }

    /// Compressing is always left to others.
    fn compress(&self, _: Codec, _: &mut dyn Read, _: usize) -> io::Result<Vec<u8>> {
        Err(too_much(&self.gave_up))
    }
}

struct Limited<'a> {
    stream: Box<dyn Read + 'a>,
    left_bytes: u64,
    gave_up: Arc<AtomicBool>,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.left_bytes = self
            .left_bytes
            .checked_sub(read as u64)
            .ok_or_else(|| too_much(&self.gave_up))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use ottla_compression::Codecs;

    use super::*;

    fn decompressed(size: usize) -> (io::Result<u64>, bool) {
        let codec = Codec::default_of(CompressionType::Zstd);
        let body = Codecs
            .compress(codec, &mut vec![0; size].as_slice(), usize::MAX)
            .unwrap();
        let inline = Inline::new(&Codecs);
        let mut stream = inline.decompress(CompressionType::Zstd, &body).unwrap();
        (io::copy(&mut stream, &mut io::sink()), inline.gave_up())
    }

    #[test]
    fn gives_up_on_much_and_on_nothing_else() {
        let limit = DECOMPRESSED_BYTES_MAX as usize;
        assert!(matches!(decompressed(limit), (Ok(size), false) if size == limit as u64));
        assert!(matches!(decompressed(limit + 1), (Err(_), true)));
        let inline = Inline::new(&Codecs);
        assert!(inline.decompress(CompressionType::Zstd, b"noise").is_err() && !inline.gave_up());
        let compressed = inline.compress(Codec::Snappy, &mut &b"words"[..], usize::MAX);
        assert!(compressed.is_err() && inline.gave_up());
    }

    #[test]
    fn gives_up_on_a_window_that_others_may_hold() {
        let inline = Inline::new(&Codecs);
        // A zstd frame that asks for a window of 16 MiB.
        let body = [0x28, 0xb5, 0x2f, 0xfd, 0, 14 << 3, 1, 0, 0];
        assert!(inline.decompress(CompressionType::Zstd, &body).is_err() && inline.gave_up());
    }
}
