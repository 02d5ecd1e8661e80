//! Walks the batches of a segment file by their headers, reading no more than it must.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use ottla_domain::record::batch::{BatchError, BatchHeader, HEADER_SIZE_BYTES};

/// How much is read at once where everything is going to be looked at.
pub(crate) const SWEEP_CHUNK_BYTES: usize = 128 * 1024;
const LOOKUP_CHUNK_BYTES_MAX: usize = 16 * 1024;

/// A batch that a scan came by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanned {
    /// Its header, whose CRC is not checked.
    pub(crate) header: BatchHeader,
    /// Where it begins in the file.
    pub(crate) position: u32,
}

/// What a scan meets next.
#[derive(Debug)]
pub(crate) enum Step {
    /// A batch that lies wholly before the end.
    Batch(Scanned),
    /// The end, exactly behind a batch.
    End,
    /// Bytes that are no batch, or only a part of one.
    Bad(BatchError),
}

/// A walk through a file, up to a given end.
pub(crate) struct Scanner<'a> {
    file: &'a File,
    position: u32,
    end: u32,
    /// Reads may go this far at once; behind it, header by header.
    eager_until: u64,
    chunk_bytes: usize,
    buffer: Vec<u8>,
    buffer_position: u32,
    read_bytes: u64,
}

impl<'a> Scanner<'a> {
    /// Looks at every batch from `position` on.
    pub(crate) fn sweep(file: &'a File, position: u32, end: u32) -> Scanner<'a> {
        Scanner {
            file,
            position,
            end,
            eager_until: u64::from(end),
            chunk_bytes: SWEEP_CHUNK_BYTES,
            buffer: Vec::new(),
            buffer_position: position,
            read_bytes: 0,
        }
    }

    /// Looks for a batch that an index entry at `position` places within the next `interval_bytes` or right behind them.
    pub(crate) fn lookup(file: &'a File, position: u32, end: u32, interval_bytes: u32) -> Scanner<'a> {
        Scanner {
            eager_until: u64::from(position) + u64::from(interval_bytes),
            chunk_bytes: LOOKUP_CHUNK_BYTES_MAX,
            ..Scanner::sweep(file, position, end)
        }
    }

    /// Where the next batch begins: behind the last one that was yielded.
    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// How many bytes were read from the file.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The next batch.
    pub(crate) fn next(&mut self) -> io::Result<Step> {
        let remaining = self.end.saturating_sub(self.position) as usize;
        if remaining == 0 {
            return Ok(Step::End);
        }
        let available = remaining.min(HEADER_SIZE_BYTES);
        let header = match BatchHeader::parse(self.peek(available)?) {
            Ok(header) => header,
            Err(error) => return Ok(Step::Bad(error)),
        };
        let size_bytes = header.size_bytes();
        if size_bytes > remaining {
            return Ok(Step::Bad(BatchError::Truncated {
                available_bytes: remaining,
                needed_bytes: size_bytes,
            }));
        }
        let position = self.position;
        self.position += size_bytes as u32;
        Ok(Step::Batch(Scanned { header, position }))
    }

    /// The bytes of a batch that this scan yielded.
    pub(crate) fn load(&mut self, batch: &Scanned) -> io::Result<Bytes> {
        let size_bytes = batch.header.size_bytes();
        self.read_bytes += size_bytes as u64;
        read_range(self.file, batch.position, size_bytes)
    }

    /// Checks the CRC of a batch that this scan yielded, in bounded memory.
    pub(crate) fn check_crc(&mut self, batch: &Scanned) -> io::Result<Result<(), BatchError>> {
        let header_bytes = batch.header.encode();
        let mut crc = crc32c::crc32c(header_bytes.get(21..).unwrap_or_default());
        let body_position = batch.position.saturating_add(HEADER_SIZE_BYTES as u32);
        let mut next = body_position;
        let end = batch.position.saturating_add(batch.header.size_bytes() as u32);
        let resume = std::mem::replace(&mut self.position, next);
        while next < end {
            let wanted = (end - next) as usize;
            let bytes = self.peek(wanted.min(self.chunk_bytes))?;
            let bytes = bytes.get(..wanted.min(bytes.len())).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            crc = crc32c::crc32c_append(crc, bytes);
            next += bytes.len() as u32;
            self.position = next;
        }
        self.position = resume;
        Ok(if crc == batch.header.crc {
            Ok(())
        } else {
            Err(BatchError::InvalidCrc {
                stored: batch.header.crc,
                computed: crc,
            })
        })
    }

    /// At least `wanted` bytes at the current position, where the file has them.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        let buffered = |this: &Self| {
            let skip = this.position.checked_sub(this.buffer_position)? as usize;
            let available = this.buffer.len().checked_sub(skip)?;
            (available >= wanted).then_some(skip)
        };
        let skip = match buffered(self) {
            Some(skip) => skip,
            None => {
                self.fill(wanted)?;
                0
            }
        };
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let eager = self.eager_until.saturating_sub(u64::from(self.position));
        let eager = usize::try_from(eager).unwrap_or(usize::MAX).min(self.chunk_bytes);
        let size = eager.max(wanted).min(self.end.saturating_sub(self.position) as usize);
        self.buffer.resize(size, 0);
        let filled = read_at(self.file, &mut self.buffer, self.position)?;
        self.buffer.truncate(filled);
        self.buffer_position = self.position;
        self.read_bytes += filled as u64;
        Ok(())
    }
}

/// Reads a range; shorter than asked where the file ends. The size must come from a checked header.
pub(crate) fn read_range(file: &File, position: u32, size_bytes: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; size_bytes];
    let filled = read_at(file, &mut bytes, position)?;
    bytes.truncate(filled);
    Ok(bytes.into())
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], position: u32) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, u64::from(position) + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
