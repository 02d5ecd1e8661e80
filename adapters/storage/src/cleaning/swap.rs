//! Swaps a cleaned segment in, in steps of which a crash may come between any two, with Kafka's names (`LocalLog`,
//! `LogLoader`): the new file is `.cleaned` until it is all there, `.swap` while its sources become `.deleted`, then takes
//! its name. A start removes what is `.cleaned` and goes on with what is `.swap`.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_domain::ids::Offset;
use ottla_domain::ports::outbound::{CleaningError, StorageError};

use super::Job;
use super::output::{CLEANED_SUFFIX, Finished};
use crate::atomic_file;
use crate::directory::Directory;
use crate::health::OrFail;
use crate::index::{Entry, IndexError, LogIndex};
use crate::log::Log;
use crate::scan::{Scanner, Step};
use crate::segment::{self, Segment};
use crate::writer::EntryTaker;

const SWAP_SUFFIX: &str = ".swap";

/// Puts a finished segment in the place of its sources, unless they left the log meanwhile.
pub(super) fn replace(job: &Job<'_>, sources: &[Arc<Segment>], finished: Finished) -> Result<(), CleaningError> {
    let log = job.log;
    let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
        return Ok(());
    };
    let _cutting = log.cutting.lock();
    let segments = log.segments.load_full();
    let at = segments.partition_point(|segment| segment.base_offset < first.base_offset);
    let found = segments.get(at..at + sources.len()).unwrap_or_default();
    let is_there = found.len() == sources.len() && found.iter().zip(sources).all(|(a, b)| Arc::ptr_eq(a, b));
    let next = segments.get(at + sources.len()).map(|next| next.base_offset);
    let (Ok(()), true, Some(next)) = (job.check(), is_there, next) else {
        // Nobody knows of it yet.
        let _ = fs::remove_file(&finished.path);
        return job.check().and(Err(CleaningError::Aborted));
    };
    Ok(swap(log, sources, first, last, next, finished)?)
}

fn swap(
    log: &Log,
    sources: &[Arc<Segment>],
    first: &Segment,
    last: &Segment,
    next: Offset,
    mut finished: Finished,
) -> Result<(), StorageError> {
    let health = &log.directory.health;
    let name = log.folder.join(segment::file_name(first.base_offset));
    let swapping = log
        .folder
        .join(format!("{}{SWAP_SUFFIX}", segment::file_name(first.base_offset)));
    let sync = || atomic_file::sync_folder(&log.folder);

    // Retention goes by it where records have no timestamps.
    let modified = last.region.file().metadata().and_then(|metadata| metadata.modified());
    let dated = modified.and_then(|modified| finished.file.set_modified(modified));
    dated.or_fail(health, log.doing("dating a segment of"))?;
    // From here on it will be swapped in, now or by the next start.
    let renamed = fs::rename(&finished.path, &swapping).and_then(|()| sync());
    renamed.or_fail(health, log.doing("renaming a segment of"))?;

    if finished.taker.since_entry_bytes > 0 {
        finished.entries.push(finished.taker.take(next, finished.size_bytes));
    }
    log.index
        .replace(first.base_offset, next, &finished.entries)
        .or_fail(health, "writing index entries")?;
    log.discard(sources.iter())?;
    let renamed = fs::rename(&swapping, &name).and_then(|()| sync());
    renamed.or_fail(health, log.doing("renaming a segment of"))?;

    let max_timestamp = finished.taker.max_timestamp;
    let segment = Segment::new(
        finished.file,
        first.base_offset,
        finished.size_bytes,
        next,
        Some(max_timestamp),
        true,
    );
    let segment = Arc::new(segment);
    log.segments.rcu(|segments| {
        let is_source = |known: &Arc<Segment>| sources.iter().any(|source| Arc::ptr_eq(source, known));
        let mut replaced: Vec<_> = segments.iter().filter(|known| !is_source(known)).cloned().collect();
        let at = replaced.partition_point(|known| known.base_offset < segment.base_offset);
        replaced.insert(at, Arc::clone(&segment));
        replaced
    });
    for source in sources {
        source.forget_cached();
    }
    Ok(())
}

/// Ends what a crash left of swaps in a folder. Returns the base offsets of segments that were swapped in: what the index
/// says of them may be of their sources.
pub(crate) fn recover(directory: &Directory, folder: &Path) -> io::Result<Vec<Offset>> {
    let (mut cleaned, mut swaps) = (Vec::new(), Vec::new());
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let base_of = |suffix| segment::parse_file_name(name.strip_suffix(suffix)?);
        if name.ends_with(CLEANED_SUFFIX) {
            cleaned.extend(base_of(CLEANED_SUFFIX));
            fs::remove_file(entry.path())?;
        } else if let Some(base_offset) = base_of(SWAP_SUFFIX) {
            swaps.push((base_offset, entry.path()));
        } else if name.ends_with(SWAP_SUFFIX) {
            // An index of Kafka's, which is not used.
            fs::remove_file(entry.path())?;
        } else if let Some(base_offset) = segment::parse_file_name(&name) {
            segments.push((base_offset, entry.path()));
        }
    }
    // Kafka makes many segments of one that overflows, and renames them from the last to the first: with one that is not
    // ready, those behind it are not swapped in.
    if let Some(first_cleaned) = cleaned.into_iter().min() {
        for (_, path) in swaps.extract_if(.., |(base_offset, _)| *base_offset >= first_cleaned) {
            fs::remove_file(path)?;
        }
    }
    let Some(begin) = swaps.iter().map(|(base_offset, _)| *base_offset).min() else {
        return Ok(Vec::new());
    };
    let mut end = Offset::NONE;
    for (base_offset, path) in &swaps {
        tracing::info!(path = %path.display(), "going on with the swap of a cleaned segment");
        end = end.max(*base_offset).max(next_offset(path)?);
    }
    for (base_offset, path) in segments {
        if base_offset == begin || (begin..end).contains(&base_offset) {
            let deleted = path.with_extension("log.deleted");
            fs::rename(&path, &deleted)?;
            directory.trash.add(deleted, 0);
        }
    }
    atomic_file::sync_folder(folder)?;
    for (base_offset, path) in &swaps {
        fs::rename(path, folder.join(segment::file_name(*base_offset)))?;
    }
    atomic_file::sync_folder(folder)?;
    Ok(swaps.into_iter().map(|(base_offset, _)| base_offset).collect())
}

/// One past the last offset in a segment's file.
fn next_offset(path: &Path) -> io::Result<Offset> {
    let file = File::open(path)?;
    let size_bytes = u32::try_from(file.metadata()?.len()).unwrap_or(u32::MAX);
    let mut scanner = Scanner::sweep(&file, 0, size_bytes);
    let mut next = Offset::NONE;
    while let Step::Batch(batch) = scanner.next()? {
        next = batch.header.next_offset();
    }
    Ok(next)
}

/// Makes the index of a segment again, from its batches. `next` is where the next segment begins.
pub(crate) fn index_again(
    index: &LogIndex,
    segment: &Segment,
    next: Offset,
    interval_bytes: u32,
) -> Result<(), crate::recovery::RepairError> {
    let mut taker = EntryTaker::behind(Entry::start(segment.base_offset));
    let mut entries = Vec::new();
    let mut scanner = segment.sweep(0, segment.size_bytes());
    while let Step::Batch(batch) = scanner.next()? {
        entries.extend(taker.batch(&batch.header, batch.position, interval_bytes));
    }
    let size_bytes = scanner.position();
    if taker.since_entry_bytes > 0 {
        entries.push(taker.take(next, size_bytes));
    }
    let replaced: Result<(), IndexError> = index.replace(segment.base_offset, next, &entries);
    Ok(replaced?)
}
