//! Opens the log in a folder: finds its end, cuts what a crash left half written, and brings back its state.
//!
//! Everything below the recovery point was synced and is believed. From there on every batch is checked, the log is cut at
//! the first one that is torn or bad, and index entries are made again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_domain::ids::{Offset, PartitionId, Timestamp, TopicId};
use ottla_domain::log::config::LogConfig;
use ottla_domain::log::epochs::LeaderEpochHistory;
use ottla_domain::log::offsets::LogOffsets;
use ottla_domain::log::producers::ProducerStates;
use ottla_domain::log::state::LogState;
use ottla_domain::ports::outbound::{OpenedLog, StorageError};
use ottla_domain::record::batch::HEADER_SIZE_BYTES;
use ottla_domain::record::control::EndTxnMarker;

use crate::atomic_file;
use crate::cleaning::swap;
use crate::directory::Directory;
use crate::epochs;
use crate::health::{Doing, OrFail};
use crate::index::{Checkpoint, Entry, IndexError, Known, LogIndex};
use crate::log::{Log, Parts, SNAPSHOTS_KEPT};
use crate::partition_metadata;
use crate::scan::{Scanned, Scanner, Step};
use crate::segment::{self, Segment};
use crate::writer::{EntryTaker, Writer};

/// Index entries are written this many at a time while a log is scanned.
const ENTRIES_PER_WRITE: usize = 1024;

/// Which log, and where.
pub(crate) struct Target {
    pub(crate) directory: Arc<Directory>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionId,
    pub(crate) config: Arc<LogConfig>,
}

impl Target {
    fn folder_name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }

    fn folder(&self) -> PathBuf {
        self.directory.path.join(self.folder_name())
    }
}

/// Makes the folder of a new log and opens it.
pub(crate) fn create(target: Target, topic_id: TopicId) -> Result<OpenedLog<Log>, StorageError> {
    let health = Arc::clone(&target.directory.health);
    health.check()?;
    let folder = target.folder();
    let making = Doing("making", &folder);
    if folder.exists() {
        return Err(StorageError::Refused(format!("{} exists already", folder.display())));
    }
    // A crash may have come between the end of an earlier log of this name and that of its checkpoints.
    let name = (target.topic.to_string(), target.partition);
    target.directory.forget_checkpoints(&[name])?;
    let make = || {
        fs::create_dir(&folder)?;
        partition_metadata::write(&folder, topic_id)?;
        Segment::create(&folder, Offset::ZERO).map(Arc::new)
    };
    let segment = make().or_fail(&health, making)?;
    let index = target
        .directory
        .index
        .create_log(&target.folder_name(), topic_id)
        .or_fail(&health, making)?;
    let writer = Writer::new(Arc::clone(&segment), &target.config);
    let state = LogState::empty_at(Offset::ZERO);
    Ok(opened(
        target,
        topic_id,
        index,
        vec![segment],
        writer,
        state,
        Offset::ZERO,
    ))
}

fn opened(
    target: Target,
    topic_id: TopicId,
    index: LogIndex,
    segments: Vec<Arc<Segment>>,
    writer: Writer,
    state: LogState,
    synced: Offset,
) -> OpenedLog<Log> {
    let topic = Arc::clone(&target.topic);
    let partition = target.partition;
    let log = Log::new(Parts {
        folder: target.folder(),
        directory: target.directory,
        topic: target.topic,
        partition,
        index,
        config: target.config,
        log_start: state.offsets.log_start(),
        log_end: state.offsets.log_end(),
        synced,
        segments,
        writer,
    });
    OpenedLog {
        topic,
        topic_id,
        partition,
        log,
        state,
    }
}

/// Opens the log in an existing folder.
pub(crate) fn open(target: Target, now: Timestamp) -> Result<OpenedLog<Log>, StorageError> {
    let health = Arc::clone(&target.directory.health);
    health.check()?;
    let folder = target.folder();
    let opening = Doing("opening", &folder);
    let topic_id = partition_metadata::read(&folder)
        .or_fail(&health, opening)?
        .unwrap_or(TopicId::ZERO);
    let (index, past) = recall(&target, topic_id).or_fail(&health, opening)?;
    let swapped = swap::recover(&target.directory, &folder).or_fail(&health, opening)?;
    let files = list(&target.directory, &folder).or_fail(&health, opening)?;

    let first_base = files.first().map_or(Offset::ZERO, |(base, _)| *base);
    let log_start = past.log_start.unwrap_or(first_base).max(first_base);
    let stopped_cleanly = target.directory.stopped_cleanly.is_some();
    let segments = open_segments(files, stopped_cleanly).or_fail(&health, opening)?;

    for (number, segment) in segments.iter().enumerate() {
        if swapped.contains(&segment.base_offset)
            && let Some(next) = segments.get(number + 1)
        {
            let interval_bytes = target.config.index_interval_bytes;
            swap::index_again(&index, segment, next.base_offset, interval_bytes).or_fail(&health, opening)?;
        }
    }

    let mut repair = Repair {
        index: &index,
        interval_bytes: target.config.index_interval_bytes,
        recovery_point: past.recovery_point,
        may_have_gaps: target.config.cleanup_policy.compact || past.cleaned.is_some(),
        replay_from: past.producers.end_offset(),
        epochs: past.epochs.clone(),
        producers: past.producers,
        next_offset: Offset::ZERO,
        entries_waiting: 0,
        scanned_bytes: 0,
    };
    let scan_from = repair.recovery_point.min(repair.replay_from);
    let scanned = repair
        .scan(&segments, scan_from, past.is_known)
        .or_fail(&health, opening)?;
    let Repair {
        mut epochs,
        mut producers,
        next_offset: log_end,
        scanned_bytes,
        ..
    } = repair;
    metrics::counter!("ottla_storage_recovery_scanned_bytes_total", "directory" => Arc::clone(health.directory()))
        .increment(scanned_bytes);
    if let Some(cut) = &scanned.cut {
        tracing::warn!(
            folder = %folder.display(), log_end = %log_end, lost_bytes = cut.lost_bytes, reason = %cut.reason,
            "cut the log at the first bad batch"
        );
    }
    let (kept, gone) = segments
        .split_at_checked(scanned.kept_count)
        .unwrap_or((&segments, &[]));
    // The last one first, and durably: a segment must never come back behind a gap.
    for segment in gone.iter().rev() {
        let deleted = segment.mark_deleted(&folder).or_fail(&health, opening)?;
        target.directory.trash.add(deleted, target.config.file_delete_delay_ms);
    }
    if !gone.is_empty() {
        atomic_file::sync_folder(&folder).or_fail(&health, opening)?;
    }
    let mut segments = kept.to_vec();

    epochs.truncate_from_end(log_end);
    epochs.truncate_from_start(log_start);
    if log_end < log_start {
        // What lay behind the log start was lost: nothing that is left may be read.
        return restart(target, topic_id, index, segments, log_start, past.cleaned);
    }
    producers.on_log_start(log_start);
    let below = segments.partition_point(|segment| segment.end_offset() <= log_start);
    for segment in segments.drain(..below.min(segments.len().saturating_sub(1))) {
        let deleted = segment.mark_deleted(&folder).or_fail(&health, opening)?;
        target.directory.trash.add(deleted, target.config.file_delete_delay_ms);
    }
    let Some(active) = segments.last().map(Arc::clone) else {
        return restart(target, topic_id, index, segments, log_start, past.cleaned);
    };
    let first_timestamp = active.first_timestamp().or_fail(&health, opening)?;
    let writer = Writer::resume(active, scanned.entries, first_timestamp, &target.config, now);
    let offsets = LogOffsets::new(log_start, log_end, past.high_watermark);
    let synced = past.recovery_point.clamp(log_start, log_end);
    let state = LogState {
        offsets,
        epochs,
        producers,
    };
    let opened = opened(target, topic_id, index, segments, writer, state, synced);
    opened.log.resume_cleaned(past.cleaned, log_end)?;
    let index = &opened.log.index;
    if past.recovery_point > log_end {
        // Synced data was lost: what is appended in its place was not.
        let lowered = index.put_checkpoint(Checkpoint::RecoveryPoint, log_end);
        lowered.or_fail(&health, opening)?;
    }
    if !past.is_known && log_start > first_base {
        index.put_log_start(log_start).or_fail(&health, opening)?;
    }
    if opened.state.epochs != past.epochs {
        let written = index.put_epochs(&epochs::encode(&opened.state.epochs));
        written.or_fail(&health, opening)?;
    }
    Ok(opened)
}

/// An empty log that begins at `log_start`.
fn restart(
    target: Target,
    topic_id: TopicId,
    index: LogIndex,
    segments: Vec<Arc<Segment>>,
    log_start: Offset,
    cleaned: Option<Offset>,
) -> Result<OpenedLog<Log>, StorageError> {
    let health = Arc::clone(&target.directory.health);
    let folder = target.folder();
    let make = || {
        for segment in &segments {
            target.directory.trash.add(segment.mark_deleted(&folder)?, 0);
        }
        Segment::create(&folder, log_start).map(Arc::new)
    };
    let segment = make().or_fail(&health, Doing("making a segment in", &folder))?;
    let cleared = index.clear().and_then(|()| index.put_epochs(&[]));
    cleared.or_fail(&health, "deleting index entries")?;
    let writer = Writer::new(Arc::clone(&segment), &target.config);
    let state = LogState::empty_at(log_start);
    let opened = opened(target, topic_id, index, vec![segment], writer, state, log_start);
    opened.log.resume_cleaned(cleaned, log_start)?;
    Ok(opened)
}

/// What is known of a log before its segments are looked at.
struct Past {
    /// The index has the segments below the recovery point.
    is_known: bool,
    recovery_point: Offset,
    high_watermark: Offset,
    log_start: Option<Offset>,
    cleaned: Option<Offset>,
    epochs: LeaderEpochHistory,
    producers: ProducerStates,
}

fn recall(target: &Target, topic_id: TopicId) -> Result<(LogIndex, Past), IndexError> {
    let folder_name = target.folder_name();
    let (index, known) = target.directory.index.log(&folder_name, topic_id)?;
    let files = target.directory.checkpointed(&target.topic, target.partition);
    if known == Known::Before {
        match recall_from_index(&index) {
            Ok(past) => {
                // A damaged index may have lost its latest writes: what was deleted stays so.
                let log_start = past.log_start.max(files.log_start);
                // Whichever is earlier: cleaning again does no harm.
                let cleaned = files
                    .cleaned
                    .map(|cleaned| past.cleaned.map_or(cleaned, |past| past.min(cleaned)));
                let past = Past {
                    log_start,
                    cleaned,
                    ..past
                };
                return Ok((index, past));
            }
            Err(error) => {
                tracing::warn!(folder = folder_name, %error, "the index of this log cannot be read and is made again");
            }
        }
    }
    let index = match known {
        Known::New => index,
        Known::Before => target.directory.index.create_log(&folder_name, topic_id)?,
    };
    // Without a memory of the log, what Kafka's files say may only make the log shorter or the scan faster.
    let past = Past {
        is_known: false,
        recovery_point: files.recovery_point.unwrap_or(Offset::ZERO),
        high_watermark: files.high_watermark.unwrap_or(Offset::ZERO),
        log_start: files.log_start,
        cleaned: files.cleaned,
        epochs: LeaderEpochHistory::default(),
        producers: ProducerStates::starting_at(Offset::ZERO),
    };
    Ok((index, past))
}

fn recall_from_index(index: &LogIndex) -> Result<Past, IndexError> {
    let recovery_point = index.checkpoint(Checkpoint::RecoveryPoint)?.unwrap_or(Offset::ZERO);
    let snapshot = index.producers(recovery_point)?;
    let producers = snapshot.and_then(|(offset, bytes)| match ProducerStates::from_snapshot(&bytes, offset) {
        Ok(producers) => Some(producers),
        Err(error) => {
            tracing::warn!(%offset, %error, "ignoring a snapshot of producers");
            None
        }
    });
    Ok(Past {
        is_known: true,
        recovery_point,
        high_watermark: index.checkpoint(Checkpoint::HighWatermark)?.unwrap_or(Offset::ZERO),
        log_start: index.log_start()?,
        cleaned: index.checkpoint(Checkpoint::Cleaned)?,
        epochs: index
            .epochs()?
            .map_or_else(Default::default, |bytes| epochs::decode(&bytes)),
        producers: producers.unwrap_or(ProducerStates::starting_at(Offset::ZERO)),
    })
}

/// The segment files of a folder in order; what a crash left of deleted ones goes to the trash.
fn list(directory: &Directory, folder: &Path) -> io::Result<Vec<(Offset, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if let Some(base_offset) = segment::parse_file_name(&name) {
            files.push((base_offset, entry.path()));
        } else if name.ends_with(".deleted") {
            directory.trash.add(entry.path(), 0);
        }
    }
    files.sort();
    Ok(files)
}

fn open_segments(files: Vec<(Offset, PathBuf)>, stopped_cleanly: bool) -> io::Result<Vec<Arc<Segment>>> {
    let mut segments = Vec::with_capacity(files.len());
    let mut files = files.into_iter().peekable();
    while let Some((base_offset, path)) = files.next() {
        let end_offset = files.peek().map_or(Offset(i64::MAX), |(next, _)| *next);
        segments.push(Arc::new(Segment::open(
            &path,
            base_offset,
            end_offset,
            stopped_cleanly,
        )?));
    }
    Ok(segments)
}

/// A scan of a log's end.
struct Repair<'a> {
    index: &'a LogIndex,
    interval_bytes: u32,
    /// Batches from here on are checked.
    recovery_point: Offset,
    /// Compaction takes records away; in other logs a gap is what a power failure left of a segment.
    may_have_gaps: bool,
    /// Batches from here on are replayed.
    replay_from: Offset,
    epochs: LeaderEpochHistory,
    producers: ProducerStates,
    /// One past the last offset so far.
    next_offset: Offset,
    entries_waiting: usize,
    scanned_bytes: u64,
}

struct Scan {
    /// How many segments stay.
    kept_count: usize,
    cut: Option<Cut>,
    /// Goes on behind the last batch.
    entries: EntryTaker,
}

struct Cut {
    reason: String,
    lost_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Index(#[from] IndexError),
}

impl Repair<'_> {
    fn scan(&mut self, segments: &[Arc<Segment>], from: Offset, is_indexed: bool) -> Result<Scan, RepairError> {
        let after = segments.partition_point(|segment| segment.base_offset <= from);
        let first = after.saturating_sub(1);
        let mut entries = EntryTaker::behind(Entry::start(Offset::ZERO));
        for (number, segment) in segments.iter().enumerate().skip(first) {
            let mut start = Entry::start(segment.base_offset);
            if is_indexed && number == first {
                start = self.trusted_entry(segment, from)?;
                self.index
                    .truncate(segment.base_offset, start.position, start.offset, self.recovery_point)?;
            }
            self.next_offset = start.offset.max(segment.base_offset);
            entries = EntryTaker::behind(start);
            let size_bytes = segment.size_bytes();
            let (position, reason) = self.scan_segment(segment, size_bytes, &mut entries)?;
            self.scanned_bytes += u64::from(position.saturating_sub(start.position));
            let reason = reason.or_else(|| self.gap_before(segments.get(number + 1)?));
            if let Some(reason) = reason {
                segment.truncate(position)?;
                segment.set_end(position, self.next_offset, entries.max_timestamp);
                let later = segments
                    .iter()
                    .skip(number + 1)
                    .map(|segment| u64::from(segment.size_bytes()));
                let lost_bytes = u64::from(size_bytes - position) + later.sum::<u64>();
                self.index.flush()?;
                return Ok(Scan {
                    kept_count: number + 1,
                    cut: Some(Cut { reason, lost_bytes }),
                    entries,
                });
            }
            match segments.get(number + 1) {
                Some(next) => {
                    if entries.since_entry_bytes > 0 {
                        let entry = entries.take(next.base_offset, position);
                        self.add_entry(segment, entry)?;
                    }
                    segment.set_end(position, next.base_offset, entries.max_timestamp);
                    // What a roll queued, and a crash may have lost: a truncation to there must not replay cleaned batches.
                    let is_kept = number + 1 + SNAPSHOTS_KEPT >= segments.len();
                    if is_kept && self.replay_from <= next.base_offset {
                        self.index.add_producers(next.base_offset, self.producers.snapshot());
                    }
                }
                None => segment.set_end(position, self.next_offset, entries.max_timestamp),
            }
        }
        self.index.flush()?;
        Ok(Scan {
            kept_count: segments.len(),
            cut: None,
            entries,
        })
    }

    /// What is wrong with a segment that follows: it may be on disk while the end of the one before is not.
    fn gap_before(&self, next: &Segment) -> Option<String> {
        let is_gap = self.next_offset < next.base_offset && self.next_offset >= self.recovery_point;
        (is_gap && !self.may_have_gaps).then(|| {
            format!(
                "a segment that begins at {} where {} was expected",
                next.base_offset, self.next_offset
            )
        })
    }

    /// The last entry at or before `from` that fits the segment; its start where the index cannot be read.
    fn trusted_entry(&self, segment: &Segment, from: Offset) -> io::Result<Entry> {
        let start = Entry::start(segment.base_offset);
        let found = self.index.find_offset(segment.base_offset, from);
        let Some(entry) = found.unwrap_or_else(|error| {
            tracing::warn!(%error, segment = %segment.base_offset, "scanning a segment without the index");
            None
        }) else {
            return Ok(start);
        };
        let fits = match segment.sweep(entry.position, segment.size_bytes()).next()? {
            Step::Batch(batch) => batch.header.base_offset == entry.offset,
            Step::End => entry.position == segment.size_bytes(),
            Step::Bad(_) => false,
        };
        Ok(if fits { entry } else { start })
    }

    /// Takes in the batches of a segment, from where `entries` is. Returns where it stopped, and why unless at the end.
    fn scan_segment(
        &mut self,
        segment: &Segment,
        size_bytes: u32,
        entries: &mut EntryTaker,
    ) -> Result<(u32, Option<String>), RepairError> {
        let mut scanner = segment.sweep(entries.last.position, size_bytes);
        loop {
            let position = scanner.position();
            let batch = match scanner.next()? {
                Step::Batch(batch) => batch,
                Step::End => return Ok((position, None)),
                Step::Bad(error) => return Ok((position, Some(error.to_string()))),
            };
            if let Err(reason) = self.check(segment, &mut scanner, &batch)? {
                return Ok((position, Some(reason)));
            }
            if let Some(entry) = entries.batch(&batch.header, position, self.interval_bytes) {
                self.add_entry(segment, entry)?;
            }
            if batch.header.last_offset() >= self.replay_from {
                replay(&mut self.producers, &mut scanner, &batch)?;
            }
            let epoch = batch.header.partition_leader_epoch;
            if self.epochs.latest().is_none_or(|latest| latest.epoch < epoch) {
                self.epochs.assign(epoch, batch.header.base_offset);
            }
            self.next_offset = batch.header.next_offset();
        }
    }

    fn check(&self, segment: &Segment, scanner: &mut Scanner<'_>, batch: &Scanned) -> io::Result<Result<(), String>> {
        let header = &batch.header;
        let relative = header.last_offset().0.saturating_sub(segment.base_offset.0);
        if header.last_offset_delta < 0 || header.base_offset < self.next_offset || relative > i64::from(i32::MAX) {
            return Ok(Err(format!(
                "a batch with offsets {} to {} where {} was expected",
                header.base_offset,
                header.last_offset(),
                self.next_offset
            )));
        }
        if header.base_offset < self.recovery_point {
            return Ok(Ok(()));
        }
        Ok(scanner.check_crc(batch)?.map_err(|error| error.to_string()))
    }

    fn add_entry(&mut self, segment: &Segment, entry: Entry) -> Result<(), IndexError> {
        self.index.add(segment.base_offset, entry);
        self.entries_waiting += 1;
        if self.entries_waiting >= ENTRIES_PER_WRITE {
            self.entries_waiting = 0;
            self.index.flush()?;
        }
        Ok(())
    }
}

fn replay(producers: &mut ProducerStates, scanner: &mut Scanner<'_>, batch: &Scanned) -> io::Result<()> {
    let header = &batch.header;
    let mut marker = None;
    if header.attributes.is_control() && header.has_producer_id() {
        let bytes = scanner.load(batch)?;
        let body = bytes.get(HEADER_SIZE_BYTES..).unwrap_or_default();
        marker = EndTxnMarker::of_batch(header, body).unwrap_or_else(|error| {
            tracing::error!(offset = %header.base_offset, %error, "ignoring an unreadable transaction marker");
            None
        });
    }
    producers.replay(header, marker);
    Ok(())
}

/// The producers as they were at `end`: the latest snapshot before, and the batches behind it.
pub(crate) fn producers_at(
    index: &LogIndex,
    segments: &[Arc<Segment>],
    log_start: Offset,
    end: Offset,
) -> io::Result<ProducerStates> {
    let snapshot = index.producers(end).map_err(io::Error::other)?;
    let snapshot = snapshot.and_then(|(offset, bytes)| ProducerStates::from_snapshot(&bytes, offset).ok());
    let mut producers = snapshot.unwrap_or(ProducerStates::starting_at(log_start));
    let from = producers.end_offset();
    let first = segments.partition_point(|segment| segment.end_offset() <= from);
    for segment in segments.get(first..).unwrap_or_default() {
        let start = index.find_offset(segment.base_offset, from).map_err(io::Error::other)?;
        let position = start.map_or(0, |entry| entry.position);
        let mut scanner = segment.sweep(position, segment.size_bytes());
        while let Step::Batch(batch) = scanner.next()? {
            if batch.header.base_offset >= end {
                break;
            }
            if batch.header.last_offset() >= from {
                replay(&mut producers, &mut scanner, &batch)?;
            }
        }
    }
    Ok(producers)
}

/// The writer of a segment that was cut at `position`, where the log now ends at `end`.
pub(crate) fn resume(
    segment: &Arc<Segment>,
    index: &LogIndex,
    position: u32,
    end: Offset,
    config: &LogConfig,
    now: Timestamp,
) -> io::Result<Writer> {
    let last = index.last_entry(segment.base_offset).map_err(io::Error::other)?;
    let mut entries = EntryTaker::behind(last.unwrap_or(Entry::start(segment.base_offset)));
    let mut scanner = segment.sweep(entries.last.position, position);
    while let Step::Batch(batch) = scanner.next()? {
        entries.batch(&batch.header, batch.position, u32::MAX);
    }
    segment.set_end(position, end, entries.max_timestamp);
    Ok(Writer::resume(
        Arc::clone(segment),
        entries,
        segment.first_timestamp()?,
        config,
        now,
    ))
}
