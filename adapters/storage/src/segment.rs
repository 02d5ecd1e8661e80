//! One `.log` file, and what is known of it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use ottla_domain::ids::{Offset, Timestamp};
use ottla_domain::ports::outbound::EncodedBatch;
use ottla_domain::record::batch::{BatchHeader, HEADER_SIZE_BYTES};
use parking_lot::Mutex;

use crate::index::{Entry, LogIndex};
use crate::region::Region;
use crate::scan::{Scanned, Scanner, Step, read_range};
use crate::tail::{Place, Tail};

/// Batches written by one call of the kernel: two slices each, far below IOV_MAX.
const BATCHES_PER_WRITE: usize = 32;

/// A file of consecutive batches. Readers use it while one writer appends.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The offset in the file's name: no batch in it lies below.
    pub(crate) base_offset: Offset,
    /// The file.
    pub(crate) region: Region,
    /// True once the file's name is known to be on disk.
    name_synced: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    size_bytes: u32,
    end_offset: Offset,
    /// Looked up when first asked for, of segments that were found on start.
    max_timestamp: Option<Timestamp>,
    tail: Tail,
}

/// Where a batch was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) base_offset: Offset,
    pub(crate) position: u32,
    pub(crate) size_bytes: u32,
}

/// The name of the file of the segment that begins at `base_offset`.
pub(crate) fn file_name(base_offset: Offset) -> String {
    format!("{base_offset:020}.log")
}

/// The base offset of the segment in a file of this name.
pub(crate) fn parse_file_name(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    digits.parse().ok().filter(|offset| *offset >= 0).map(Offset)
}

impl Segment {
    /// Makes an empty segment.
    pub(crate) fn create(folder: &Path, base_offset: Offset) -> io::Result<Segment> {
        let path = folder.join(file_name(base_offset));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Segment::new(
            file,
            base_offset,
            0,
            base_offset,
            Some(Timestamp::NONE),
            false,
        ))
    }

    /// Opens a segment that was found; `end_offset` is where the next one begins. After a clean stop everything is on disk
    /// but, perhaps, the names of empty files.
    pub(crate) fn open(
        path: &Path,
        base_offset: Offset,
        end_offset: Offset,
        stopped_cleanly: bool,
    ) -> io::Result<Segment> {
        let file = File::options().read(true).write(true).open(path)?;
        let size = file.metadata()?.len();
        let size = u32::try_from(size).map_err(|_| io::Error::other("a segment of more than 4 GiB"))?;
        let name_synced = stopped_cleanly && size > 0;
        Ok(Segment::new(file, base_offset, size, end_offset, None, name_synced))
    }

    pub(crate) fn new(
        file: File,
        base_offset: Offset,
        size_bytes: u32,
        end_offset: Offset,
        max_timestamp: Option<Timestamp>,
        name_synced: bool,
    ) -> Segment {
        Segment {
            base_offset,
            region: Region::new(file),
            name_synced: AtomicBool::new(name_synced),
            known: Mutex::new(Known {
                size_bytes,
                end_offset,
                max_timestamp,
                tail: Tail::default(),
            }),
        }
    }

    fn file(&self) -> &File {
        self.region.file()
    }

    /// The size of the batches in it.
    pub(crate) fn size_bytes(&self) -> u32 {
        self.known.lock().size_bytes
    }

    /// One past its last offset, or where the next segment begins.
    pub(crate) fn end_offset(&self) -> Offset {
        self.known.lock().end_offset
    }

    /// Writes batches behind the others; they are not visible before [`Segment::publish`].
    pub(crate) fn write(&self, position: u32, batches: &[EncodedBatch]) -> io::Result<()> {
        let mut position = u64::from(position);
        for batches in batches.chunks(BATCHES_PER_WRITE) {
            let mut slices = [IoSlice::new(&[]); 2 * BATCHES_PER_WRITE];
            for (pair, batch) in slices.chunks_exact_mut(2).zip(batches) {
                pair.copy_from_slice(&[IoSlice::new(&batch.header_bytes), IoSlice::new(&batch.body)]);
            }
            let mut rest = slices.get_mut(..2 * batches.len()).unwrap_or_default();
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.region, rest, position) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        position += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Shows readers the batches that were written. `index_entry` is told of each before it is, and gives the index entry
    /// to be taken there.
    pub(crate) fn publish(
        &self,
        batches: &[EncodedBatch],
        mut index_entry: impl FnMut(&BatchHeader, u32) -> Option<Entry>,
    ) {
        let mut known = self.known.lock();
        for batch in batches {
            let (header, position) = (&batch.header, known.size_bytes);
            if let Some(entry) = index_entry(header, position) {
                known.tail.push_entry(entry);
            }
            known
                .tail
                .push_batch(header.base_offset, header.last_offset_delta, position);
            known.size_bytes = position.saturating_add(header.size_bytes() as u32);
            known.end_offset = header.next_offset();
            known.max_timestamp = known.max_timestamp.max(Some(header.max_timestamp));
        }
    }

    /// Takes over what recovery or truncation found: the segment's end and the largest timestamp.
    pub(crate) fn set_end(&self, size_bytes: u32, end_offset: Offset, max_timestamp: Timestamp) {
        *self.known.lock() = Known {
            size_bytes,
            end_offset,
            max_timestamp: Some(max_timestamp),
            tail: Tail::default(),
        };
    }

    /// Forgets the details of the segment's end, once reads there have become rare.
    pub(crate) fn forget_tail(&self) {
        self.known.lock().tail = Tail::default();
    }

    /// True when finding `offset` needs no index.
    pub(crate) fn is_resident(&self, offset: Offset) -> bool {
        let known = self.known.lock();
        offset >= known.end_offset || known.tail.find(offset, known.size_bytes).is_some()
    }

    /// Where the last batch ends that ends at or before `position`, as far as that is remembered; else `position`.
    pub(crate) fn whole_batches(&self, position: u32) -> u32 {
        let known = self.known.lock();
        known
            .tail
            .batch_boundary(position, known.size_bytes)
            .unwrap_or(position)
    }

    /// The first batch whose last offset is at least `offset`, or where the segment ends when it has none.
    pub(crate) fn locate(
        &self,
        index: &LogIndex,
        offset: Offset,
        interval_bytes: u32,
    ) -> io::Result<Result<Located, u32>> {
        let (place, size_bytes) = {
            let known = self.known.lock();
            if offset >= known.end_offset {
                return Ok(Err(known.size_bytes));
            }
            (known.tail.find(offset, known.size_bytes), known.size_bytes)
        };
        let start = match place {
            Some(Place::Exact(located)) => return Ok(Ok(located)),
            Some(Place::From(entry)) => entry,
            None => self.indexed(index, |index| index.find_offset(self.base_offset, offset)),
        };
        let found = self.search(start, size_bytes, interval_bytes, |header| {
            header.last_offset() >= offset
        })?;
        Ok(found.map_or(Err(size_bytes), |(scanned, _)| {
            Ok(Located {
                base_offset: scanned.header.base_offset,
                position: scanned.position,
                size_bytes: scanned.header.size_bytes() as u32,
            })
        }))
    }

    /// The first batch that ends above `from` and whose largest timestamp is at least `timestamp`.
    pub(crate) fn locate_timestamp(
        &self,
        index: &LogIndex,
        timestamp: Timestamp,
        from: Offset,
        interval_bytes: u32,
    ) -> io::Result<Option<(Scanned, Bytes)>> {
        let (remembered, size_bytes) = {
            let known = self.known.lock();
            (known.tail.find_timestamp(timestamp), known.size_bytes)
        };
        let mut start = match remembered {
            Some(entry) => entry,
            None => self.indexed(index, |index| index.find_timestamp(self.base_offset, timestamp)),
        };
        if from > self.base_offset {
            let by_offset = self.indexed(index, |index| index.find_offset(self.base_offset, from));
            if by_offset.position > start.position {
                start = by_offset;
            }
        }
        let found = self.search(start, size_bytes, interval_bytes, |header| {
            // What compaction emptied has a time, but no record.
            header.max_timestamp >= timestamp && header.last_offset() >= from && header.record_count > 0
        })?;
        match found {
            Some((scanned, mut scanner)) => Ok(Some((scanned, scanner.load(&scanned)?))),
            None => Ok(None),
        }
    }

    /// An index entry; the segment's start where there is none or the index cannot be read: the index makes searches
    /// short, it is not needed to answer.
    fn indexed(
        &self,
        index: &LogIndex,
        find: impl FnOnce(&LogIndex) -> Result<Option<Entry>, crate::index::IndexError>,
    ) -> Entry {
        match find(index) {
            Ok(entry) => entry.unwrap_or(Entry::start(self.base_offset)),
            Err(error) => {
                tracing::warn!(%error, segment = %self.base_offset, "searching without the index");
                Entry::start(self.base_offset)
            }
        }
    }

    fn search(
        &self,
        start: Entry,
        size_bytes: u32,
        interval_bytes: u32,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> io::Result<Option<(Scanned, Scanner<'_>)>> {
        let mut scanner = Scanner::lookup(self.file(), start.position, size_bytes, interval_bytes);
        // An entry may be of a segment that takes the place of this one, or took it.
        let end_offset = self.end_offset();
        let fits = |step: &Step| match step {
            Step::Batch(first) => first.header.base_offset == start.offset,
            Step::End => start.offset >= end_offset,
            Step::Bad(_) => false,
        };
        let mut step = scanner.next()?;
        if start.position > 0 && !fits(&step) {
            tracing::warn!(segment = %self.base_offset, ?start, "an index entry does not fit the segment");
            scanner = self.sweep(0, size_bytes);
            step = scanner.next()?;
        }
        while let Step::Batch(scanned) = step {
            if wanted(&scanned.header) {
                metrics::histogram!("ottla_log_index_lookup_scanned_bytes").record(scanner.read_bytes() as f64);
                return Ok(Some((scanned, scanner)));
            }
            step = scanner.next()?;
        }
        Ok(None)
    }

    /// The largest timestamp of its records; -1 when none has one.
    pub(crate) fn max_timestamp(&self, index: &LogIndex) -> io::Result<Timestamp> {
        let (known, size_bytes) = {
            let known = self.known.lock();
            (known.max_timestamp, known.size_bytes)
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let last = self.indexed(index, |index| index.last_entry(self.base_offset));
        let mut max_timestamp = last.max_timestamp;
        let mut scanner = Scanner::sweep(self.file(), last.position.min(size_bytes), size_bytes);
        while let Step::Batch(scanned) = scanner.next()? {
            max_timestamp = max_timestamp.max(scanned.header.max_timestamp);
        }
        self.known.lock().max_timestamp.get_or_insert(max_timestamp);
        Ok(max_timestamp)
    }

    /// The largest timestamp of its first batch.
    pub(crate) fn first_timestamp(&self) -> io::Result<Option<Timestamp>> {
        let size_bytes = HEADER_SIZE_BYTES.min(self.size_bytes() as usize);
        let first = read_range(self.file(), 0, size_bytes)?;
        Ok(BatchHeader::parse(&first).ok().map(|header| header.max_timestamp))
    }

    /// When the file was last written to.
    pub(crate) fn modified(&self) -> io::Result<Timestamp> {
        let since_epoch = self.file().metadata()?.modified()?.duration_since(UNIX_EPOCH);
        let since_epoch_ms = since_epoch.map_or(0, |since| since.as_millis());
        Ok(Timestamp(i64::try_from(since_epoch_ms).unwrap_or(i64::MAX)))
    }

    /// Makes the file's content durable. Must not be called again after it failed.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.region)?)
    }

    /// True when the folder must be synced for the file's name to be durable.
    pub(crate) fn needs_folder_sync(&self) -> bool {
        !self.name_synced.load(Ordering::Acquire)
    }

    /// The folder was synced.
    pub(crate) fn folder_synced(&self) {
        self.name_synced.store(true, Ordering::Release);
    }

    /// Cuts the file durably.
    pub(crate) fn truncate(&self, size_bytes: u32) -> io::Result<()> {
        self.file().set_len(u64::from(size_bytes))?;
        self.file().sync_all()
    }

    /// A walk through its batches from `position` to `end`.
    pub(crate) fn sweep(&self, position: u32, end: u32) -> Scanner<'_> {
        Scanner::sweep(self.file(), position, end)
    }

    /// Reserves disk blocks for what is going to be written; the file's size stays. Only a favour: what cannot be reserved is
    /// allocated as it is written.
    pub(crate) fn reserve(&self, size_bytes: u32) {
        use rustix::fs::{FallocateFlags, fallocate};
        if let Err(error) = fallocate(&self.region, FallocateFlags::KEEP_SIZE, 0, u64::from(size_bytes)) {
            tracing::debug!(segment = %self.base_offset, %error, "cannot preallocate a segment");
        }
    }

    /// Gives back reserved blocks that were not written to. Nothing is written behind the known end any more.
    pub(crate) fn trim(&self) -> io::Result<()> {
        const BLOCK_BYTES: u64 = 512;
        const SLACK_BYTES: u64 = 64 * 1024;
        let size_bytes = u64::from(self.size_bytes());
        let allocated_bytes = self.file().metadata()?.blocks() * BLOCK_BYTES;
        if allocated_bytes > size_bytes + SLACK_BYTES {
            self.file().set_len(size_bytes)?;
        }
        Ok(())
    }

    /// Gives back the memory in which the kernel keeps its content; reads go on.
    pub(crate) fn forget_cached(&self) {
        use rustix::fs::{Advice, fadvise};
        if let Err(error) = fadvise(&self.region, 0, None, Advice::DontNeed) {
            tracing::debug!(segment = %self.base_offset, %error, "cannot give back cached pages");
        }
    }

    /// Takes the file out of the log: renames it to `.deleted`, as Kafka does. Returns the new path.
    pub(crate) fn mark_deleted(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join(file_name(self.base_offset));
        let deleted = folder.join(format!("{}.deleted", file_name(self.base_offset)));
        std::fs::rename(path, &deleted)?;
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_blocks_are_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::create(folder.path(), Offset(0)).unwrap();
        let allocated_bytes = || segment.file().metadata().unwrap().blocks() * 512;
        segment.reserve(1 << 20);
        assert_eq!(segment.file().metadata().unwrap().len(), 0);
        assert!(allocated_bytes() >= 1 << 20);
        segment.trim().unwrap();
        assert_eq!(allocated_bytes(), 0);
    }

    #[test]
    fn names_are_kafkas() {
        assert_eq!(file_name(Offset(1234)), "00000000000000001234.log");
        assert_eq!(parse_file_name("00000000000000001234.log"), Some(Offset(1234)));
        for name in [
            "1234.log",
            "0000000000000000123x.log",
            "-0000000000000001234.log",
            "00000000000000001234.index",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
