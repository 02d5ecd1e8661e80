//! Reads whole batches of a segment, one after the other, many at a time.

use ottla_domain::ports::outbound::CleaningError;
use ottla_domain::record::batch::{BatchHeader, HEADER_SIZE_BYTES};

use super::Job;
use crate::scan::read_at;
use crate::segment::Segment;

const BUFFER_BYTES_MIN: usize = 16 * 1024;

/// A walk through a segment with a buffer that grows only for batches that are larger.
pub(super) struct BatchReader<'a> {
    segment: &'a Segment,
    /// Where in the file the buffered bytes that were not yielded begin.
    position: u32,
    end: u32,
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
}

impl<'a> BatchReader<'a> {
    pub(super) fn new(segment: &'a Segment, position: u32, buffer_bytes: usize) -> Self {
        let end = segment.size_bytes();
        let left = end.saturating_sub(position) as usize;
        BatchReader {
            segment,
            position,
            end,
            buffer: vec![0; buffer_bytes.max(BUFFER_BYTES_MIN).min(left)],
            start: 0,
            filled: 0,
        }
    }

    /// The next batch, header included; `None` at the end.
    pub(super) fn next(&mut self, job: &Job<'_>) -> Result<Option<(BatchHeader, &[u8])>, CleaningError> {
        let left = self.end.saturating_sub(self.position) as usize;
        if left == 0 {
            return Ok(None);
        }
        self.require(job, left.min(HEADER_SIZE_BYTES))?;
        let buffered = self.buffer.get(self.start..self.filled).unwrap_or_default();
        let header = BatchHeader::parse(buffered).map_err(|error| self.bad(error))?;
        let size_bytes = header.size_bytes();
        if size_bytes > left {
            return Err(self.bad("it ends behind the segment"));
        }
        self.require(job, size_bytes)?;
        let batch = self.buffer.get(self.start..self.start + size_bytes);
        self.start += size_bytes;
        self.position += size_bytes as u32;
        Ok(batch.map(|batch| (header, batch)))
    }

    fn bad(&self, error: impl std::fmt::Display) -> CleaningError {
        CleaningError::Uncleanable(format!(
            "the batch at position {} of segment {} cannot be read: {error}",
            self.position, self.segment.base_offset
        ))
    }

    /// Has at least so many bytes buffered, which the segment has.
    fn require(&mut self, job: &Job<'_>, wanted: usize) -> Result<(), CleaningError> {
        let buffered = self.filled - self.start;
        if buffered >= wanted {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.filled, 0);
        (self.start, self.filled) = (0, buffered);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let left = self.end.saturating_sub(self.position) as usize;
        let target = self.buffer.len().min(left);
        let free = self.buffer.get_mut(buffered..target).unwrap_or_default();
        let from = self.position + buffered as u32;
        let count = job.or_fail(read_at(self.segment.region.file(), free, from), "reading a segment of")?;
        self.filled += count;
        if self.filled < wanted {
            // It was cut meanwhile, or a part of the file is gone.
            job.check()?;
            return Err(self.bad("the file ends before it does"));
        }
        job.pace(count as u64)
    }
}
