//! The file that takes the place of the segments that were cleaned.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_domain::ids::Offset;
use ottla_domain::ports::outbound::CleaningError;
use ottla_domain::record::batch::BatchHeader;

use super::Job;
use crate::index::Entry;
use crate::scan::read_at;
use crate::segment::{self, Segment};
use crate::writer::EntryTaker;

/// What is appended to the name of a segment that is being made, as Kafka does.
pub(super) const CLEANED_SUFFIX: &str = ".cleaned";
/// Index entries of a segment that wait in memory, 8 MiB; where there would be more, every second one is left out.
const ENTRIES_MAX: usize = 256 * 1024;

/// A segment in the making.
pub(super) struct Output {
    base_offset: Offset,
    path: PathBuf,
    /// What was not copied so far, because it is the same as the start of this segment.
    same_as: Option<Arc<Segment>>,
    file: Option<File>,
    /// How much of it is in the file.
    written_bytes: u64,
    buffer: Vec<u8>,
    buffer_bytes: usize,
    entries: Vec<Entry>,
    taker: EntryTaker,
    interval_bytes: u32,
    size_bytes: u64,
}

/// A segment that is ready to be swapped in.
pub(super) struct Finished {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) size_bytes: u32,
    pub(super) entries: Vec<Entry>,
    pub(super) taker: EntryTaker,
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.file.is_some() {
            // The next start removes what cannot be removed now.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Output {
    /// An empty one that begins like its first source. With `may_be_same` nothing is written as long as it is the same.
    pub(super) fn new(job: &Job<'_>, first: &Arc<Segment>, may_be_same: bool) -> Result<Output, CleaningError> {
        let base_offset = first.base_offset;
        let name = format!("{}{CLEANED_SUFFIX}", segment::file_name(base_offset));
        let mut output = Output {
            base_offset,
            path: job.log.folder.join(name),
            same_as: Some(Arc::clone(first)),
            file: None,
            written_bytes: 0,
            buffer: Vec::new(),
            buffer_bytes: job.cleaning.buffer_bytes,
            entries: Vec::new(),
            taker: EntryTaker::behind(Entry::start(base_offset)),
            interval_bytes: job.log.interval_bytes(),
            size_bytes: 0,
        };
        if !may_be_same {
            output.diverge(job)?;
        }
        Ok(output)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// From here on it differs from its source.
    pub(super) fn diverge(&mut self, job: &Job<'_>) -> Result<(), CleaningError> {
        let Some(source) = self.same_as.take() else {
            return Ok(());
        };
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true);
        self.file = Some(job.or_fail(options.open(&self.path), "making a segment in")?);
        self.buffer.reserve_exact(self.buffer_bytes);
        let mut chunk = vec![0; self.buffer_bytes.min(self.size_bytes as usize)];
        while self.written_bytes < self.size_bytes {
            let left = (self.size_bytes - self.written_bytes) as usize;
            let wanted = left.min(chunk.len());
            let free = chunk.get_mut(..wanted).unwrap_or_default();
            let read = read_at(source.region.file(), free, self.written_bytes as u32);
            if job.or_fail(read, "reading a segment of")? < wanted {
                return Err(CleaningError::Aborted);
            }
            self.write(job, chunk.get(..wanted).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Appends a batch of the source as it is.
    pub(super) fn keep(&mut self, job: &Job<'_>, header: &BatchHeader, batch: &[u8]) -> Result<(), CleaningError> {
        self.note(header)?;
        match self.same_as.is_some() {
            true => Ok(()),
            false => self.gather(job, batch),
        }
    }

    /// Appends a batch.
    pub(super) fn push(&mut self, job: &Job<'_>, header: &BatchHeader, body: &[u8]) -> Result<(), CleaningError> {
        self.diverge(job)?;
        self.note(header)?;
        self.gather(job, &header.encode())?;
        self.gather(job, body)
    }

    fn note(&mut self, header: &BatchHeader) -> Result<(), CleaningError> {
        let position = self.size_bytes as u32;
        self.size_bytes += header.size_bytes() as u64;
        if self.size_bytes > i32::MAX as u64 {
            return Err(CleaningError::Uncleanable(format!(
                "segment {} would become larger than 2 GiB",
                self.base_offset
            )));
        }
        if let Some(entry) = self.taker.batch(header, position, self.interval_bytes) {
            self.entries.push(entry);
        }
        if self.entries.len() >= ENTRIES_MAX {
            let mut is_kept = false;
            self.entries.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.interval_bytes = self.interval_bytes.saturating_mul(2).max(1024);
        }
        Ok(())
    }

    fn gather(&mut self, job: &Job<'_>, bytes: &[u8]) -> Result<(), CleaningError> {
        if self.buffer.len() + bytes.len() > self.buffer_bytes {
            self.flush(job)?;
        }
        if bytes.len() > self.buffer_bytes {
            return self.write(job, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self, job: &Job<'_>) -> Result<(), CleaningError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write(job, &buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    fn write(&mut self, job: &Job<'_>, bytes: &[u8]) -> Result<(), CleaningError> {
        if let Some(file) = self.file.as_ref().filter(|_| !bytes.is_empty()) {
            job.or_fail(file.write_all_at(bytes, self.written_bytes), "writing to a segment of")?;
            self.written_bytes += bytes.len() as u64;
            job.pace(bytes.len() as u64)?;
        }
        Ok(())
    }

    /// Brings it to the disk; `None` when it is the same as its source.
    pub(super) fn finish(mut self, job: &Job<'_>) -> Result<Option<Finished>, CleaningError> {
        self.flush(job)?;
        let Some(file) = &self.file else {
            return Ok(None);
        };
        job.or_fail(file.sync_all(), "syncing a segment of")?;
        job.check()?;
        let Some(file) = self.file.take() else {
            return Ok(None);
        };
        Ok(Some(Finished {
            file,
            path: std::mem::take(&mut self.path),
            size_bytes: self.size_bytes as u32,
            entries: std::mem::take(&mut self.entries),
            taker: self.taker,
        }))
    }
}
