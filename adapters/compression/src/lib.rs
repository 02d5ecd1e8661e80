//! gzip, snappy, lz4 and zstd as bounded streams: the [`Compression`] port.
//!
//! Formats and levels are those of Apache Kafka's clients. What a hostile body can make us hold in memory: the window of
//! gzip (32 KiB), a block of lz4 (4 MiB), a block of snappy (22 times the body), a window of zstd (8 MiB; one at a
//! time up to 128 MiB).

mod lz4;
mod snappy;
mod zstd;

use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use ottla_domain::record::compression::{Codec, Compression, CompressionType};

/// The codecs of Kafka's record batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Codecs;

impl Compression for Codecs {
    fn decompress<'a>(&self, codec: CompressionType, body: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match codec {
            CompressionType::None => Box::new(body),
            CompressionType::Gzip => Box::new(MultiGzDecoder::new(body)),
            CompressionType::Snappy => Box::new(snappy::Decoder::new(body)?),
            CompressionType::Lz4 => Box::new(lz4::Decoder::new(body)?),
            CompressionType::Zstd => Box::new(zstd::Decoder::new(body)?),
        })
    }

    fn may_wait(&self, codec: CompressionType, body: &[u8]) -> bool {
        codec == CompressionType::Zstd && zstd::has_large_window(body)
    }

    fn compress(&self, codec: Codec, body: &mut dyn Read, size_bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut output = Limited {
            bytes: Vec::new(),
            size_bytes_max,
        };
        match codec {
            Codec::None => drop(io::copy(body, &mut output)?),
            Codec::Gzip(level) => {
                let level = u32::try_from(level).map_or(flate2::Compression::default(), flate2::Compression::new);
                let mut encoder = GzEncoder::new(&mut output, level);
                io::copy(body, &mut encoder)?;
                encoder.finish()?;
            }
            Codec::Snappy => snappy::compress(body, &mut output)?,
            Codec::Lz4(level) => lz4::compress(level, body, &mut output)?,
            Codec::Zstd(level) => {
                let mut encoder = ::zstd::stream::write::Encoder::new(&mut output, level)?;
                io::copy(body, &mut encoder)?;
                encoder.finish()?;
            }
        }
        Ok(output.bytes)
    }
}

/// Collects output up to a limit.
struct Limited {
    bytes: Vec<u8>,
    size_bytes_max: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.size_bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests;
