//! The content of a snapshot: a header, records and a footer in batches, as Apache Kafka writes and reads it (KIP-630).

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use ottla_domain::ids::{LeaderEpoch, Offset, Timestamp};
use ottla_domain::metadata::records::MetadataRecord;
use ottla_domain::raft::SnapshotId;
use ottla_domain::raft::control::{self, ControlRecord};
use ottla_domain::raft::voters::{KRaftVersion, VoterSet};
use ottla_domain::record::batch::{BatchHeader, HEADER_SIZE_BYTES, RecordBatch};

use crate::batches::{self, RecordsBuilder};
use crate::durable;
use crate::error::RaftError;

pub(crate) const SUFFIX: &str = ".checkpoint";
pub(crate) const PARTIAL_SUFFIX: &str = ".checkpoint.part";
/// Snapshots never change, so Kafka makes them read-only.
pub(crate) const SNAPSHOT_MODE: u32 = 0o400;
/// A batch of records ends when it is larger; Kafka reads up to 8 MiB.
const BATCH_SIZE_BYTES: usize = 1 << 20;

/// A snapshot that is being written under another name, until it is complete and durable.
pub(crate) struct PartialSnapshot {
    path: PathBuf,
    target: PathBuf,
    file: File,
    mode: u32,
    size_bytes: u64,
}

impl PartialSnapshot {
    /// Starts a file for `target`, the name and `mode` of the snapshot when it is complete.
    pub(crate) fn create(target: PathBuf, mode: u32) -> Result<PartialSnapshot, RaftError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let stem = target.file_stem().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!("{stem}-{number}{PARTIAL_SUFFIX}"));
        let file = File::create(&path).map_err(|error| RaftError::file(&path, error))?;
        Ok(PartialSnapshot {
            path,
            target,
            file,
            mode,
            size_bytes: 0,
        })
    }

    /// How much was written.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), RaftError> {
        self.file
            .write_all(bytes)
            .map_err(|error| RaftError::file(&self.path, error))?;
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the snapshot durable and visible under its name.
    pub(crate) fn freeze(self) -> Result<(), RaftError> {
        let frozen = self.file.sync_all().and_then(|()| {
            self.file.set_permissions(fs::Permissions::from_mode(self.mode))?;
            durable::rename(&self.path, &self.target)
        });
        frozen.map_err(|error| RaftError::file(&self.target, error))
    }
}

impl Drop for PartialSnapshot {
    fn drop(&mut self) {
        // Gone already when it was frozen; left-overs are also removed on start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes the batches of a snapshot one after the other.
pub(crate) struct SnapshotWriter {
    partial: PartialSnapshot,
    epoch: LeaderEpoch,
    now: Timestamp,
    next_offset: Offset,
    records: RecordsBuilder,
}

impl SnapshotWriter {
    /// Begins a snapshot with its header and, where the log names voters, what it says of the quorum.
    pub(crate) fn begin(
        target: PathBuf,
        mode: u32,
        epoch: LeaderEpoch,
        now: Timestamp,
        last_contained_log_timestamp: Timestamp,
        quorum: Option<(KRaftVersion, Option<VoterSet>)>,
    ) -> Result<SnapshotWriter, RaftError> {
        let mut writer = SnapshotWriter {
            partial: PartialSnapshot::create(target, mode)?,
            epoch,
            now,
            next_offset: Offset::ZERO,
            records: RecordsBuilder::new(Offset::ZERO, epoch),
        };
        let mut header = vec![ControlRecord::SnapshotHeader {
            last_contained_log_timestamp,
        }];
        if let Some((version, voters)) = quorum {
            header.push(ControlRecord::KRaftVersion(version));
            header.extend(voters.map(ControlRecord::Voters));
        }
        writer.write_control(&header)?;
        Ok(writer)
    }

    pub(crate) fn push(&mut self, record: &MetadataRecord) -> Result<(), RaftError> {
        self.records.push(self.now, record);
        if self.records.size_bytes() >= BATCH_SIZE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the snapshot and freezes it.
    pub(crate) fn finish(mut self) -> Result<(), RaftError> {
        self.flush()?;
        self.write_control(&[ControlRecord::SnapshotFooter])?;
        self.partial.freeze()
    }

    fn flush(&mut self) -> Result<(), RaftError> {
        if self.records.is_empty() {
            return Ok(());
        }
        let next = RecordsBuilder::new(Offset::ZERO, self.epoch);
        let batch = std::mem::replace(&mut self.records, next).build();
        self.write(&batch)
    }

    fn write_control(&mut self, records: &[ControlRecord]) -> Result<(), RaftError> {
        let batch = control::batch(self.next_offset, self.epoch, self.now, records);
        self.write(&batch)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), RaftError> {
        let header = batch.header.with_offset(self.next_offset, self.epoch);
        self.next_offset = header.next_offset();
        self.partial.write(&header.encode())?;
        self.partial.write(&batch.body())
    }
}

/// A snapshot in memory.
#[derive(Debug)]
pub(crate) struct SnapshotContent {
    /// When the last record that it covers was appended.
    pub(crate) timestamp: Timestamp,
    /// Its control records.
    pub(crate) control: Vec<ControlRecord>,
    /// Its records, unless only control records were asked for.
    pub(crate) records: Vec<MetadataRecord>,
}

/// Reads a whole snapshot.
pub(crate) fn read(path: &Path) -> Result<SnapshotContent, RaftError> {
    load(path, true)
}

/// Reads the control records of a snapshot.
pub(crate) fn read_control(path: &Path) -> Result<SnapshotContent, RaftError> {
    load(path, false)
}

fn load(path: &Path, with_records: bool) -> Result<SnapshotContent, RaftError> {
    let file = File::open(path).map_err(|error| RaftError::file(path, error))?;
    let size_bytes = file.metadata().map_err(|error| RaftError::file(path, error))?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut left_bytes = size_bytes;
    let mut content = SnapshotContent {
        timestamp: Timestamp::NONE,
        control: Vec::new(),
        records: Vec::new(),
    };
    while left_bytes > 0 {
        let batch = read_batch(&mut reader, left_bytes).map_err(|error| RaftError::malformed(path, error))?;
        left_bytes -= batch.header.size_bytes() as u64;
        for (_, record) in control::read(&batch).map_err(|error| RaftError::malformed(path, error))? {
            if let ControlRecord::SnapshotHeader {
                last_contained_log_timestamp,
            } = &record
            {
                content.timestamp = *last_contained_log_timestamp;
            }
            content.control.push(record);
        }
        if with_records {
            let records = batches::records(&batch).map_err(|error| RaftError::malformed(path, error))?;
            content.records.extend(records);
        }
    }
    let is_whole = matches!(content.control.first(), Some(ControlRecord::SnapshotHeader { .. }))
        && matches!(content.control.last(), Some(ControlRecord::SnapshotFooter));
    match is_whole {
        true => Ok(content),
        false => Err(RaftError::malformed(
            path,
            "not a whole snapshot: header or footer is missing",
        )),
    }
}

/// Reads from a snapshot's header when the last record that it covers was appended.
pub(crate) fn read_timestamp(path: &Path) -> Result<Timestamp, RaftError> {
    let mut file = File::open(path).map_err(|error| RaftError::file(path, error))?;
    let size_bytes = file.metadata().map_err(|error| RaftError::file(path, error))?.len();
    let batch = read_batch(&mut file, size_bytes).map_err(|error| RaftError::malformed(path, error))?;
    match control::read(&batch).as_deref() {
        Ok(
            [
                (
                    _,
                    ControlRecord::SnapshotHeader {
                        last_contained_log_timestamp,
                    },
                ),
                ..,
            ],
        ) => Ok(*last_contained_log_timestamp),
        _ => Err(RaftError::malformed(
            path,
            "the snapshot does not begin with its header",
        )),
    }
}

fn read_batch(reader: &mut impl Read, left_bytes: u64) -> io::Result<RecordBatch> {
    let invalid = |reason: &dyn ToString| io::Error::new(io::ErrorKind::InvalidData, reason.to_string());
    let mut header_bytes = [0; HEADER_SIZE_BYTES];
    reader.read_exact(&mut header_bytes)?;
    let header = BatchHeader::parse(&header_bytes).map_err(|error| invalid(&error))?;
    if header.size_bytes() as u64 > left_bytes {
        return Err(invalid(&"a batch is longer than the file"));
    }
    let mut bytes = BytesMut::zeroed(header.size_bytes());
    let (head, body) = bytes.split_at_mut(HEADER_SIZE_BYTES);
    head.copy_from_slice(&header_bytes);
    reader.read_exact(body)?;
    let batch = RecordBatch::parse(&Bytes::from(bytes)).map_err(|error| invalid(&error))?;
    batch.check_crc().map_err(|error| invalid(&error))?;
    Ok(batch)
}

/// The name of a snapshot's file.
pub(crate) fn file_name(id: SnapshotId) -> String {
    format!("{id}{SUFFIX}")
}
