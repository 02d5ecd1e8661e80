//! The disk of a simulated replica.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::control::{self, ControlRecord};
use super::super::messages::{Fetched, Reply, ReplyResult};
use super::super::{ElectionState, Read, SnapshotId};
use crate::ids::{Offset, ProducerEpoch, Timestamp};
use crate::record::batch::{Batches, RecordBatch};

/// What survives a crash, given that `synced` batches do for sure.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) election: Option<ElectionState>,
    /// All batches since offset 0: those in the log, and those that only snapshots hold.
    pub(super) history: Vec<RecordBatch>,
    pub(super) synced: usize,
    pub(super) log_start: Offset,
    pub(super) snapshots: BTreeMap<SnapshotId, Bytes>,
}

impl Disk {
    pub(super) fn end(&self) -> Offset {
        self.history
            .last()
            .map_or(Offset::ZERO, |batch| batch.header.next_offset())
    }

    pub(super) fn synced_end(&self) -> Offset {
        let last = self.synced.checked_sub(1).map(|last| &self.history[last]);
        last.map_or(Offset::ZERO, |batch| batch.header.next_offset())
    }

    pub(super) fn count_below(&self, end: Offset) -> usize {
        self.history.partition_point(|batch| batch.header.base_offset < end)
    }

    pub(super) fn log(&self) -> &[RecordBatch] {
        &self.history[self.count_below(self.log_start)..]
    }

    pub(super) fn replace_by(&mut self, id: SnapshotId) {
        self.history = Batches::new(self.snapshots[&id].clone())
            .map(Result::unwrap)
            .filter(|batch| batch.header.producer_epoch.0 != SNAPSHOT_MARK)
            .collect();
        assert_eq!(self.end(), id.end_offset);
        self.synced = self.history.len();
        self.log_start = id.end_offset;
        self.snapshots.retain(|known, _| *known >= id);
    }
}

/// Tells the batches that frame a snapshot from those in it.
const SNAPSHOT_MARK: i16 = 77;

impl Disk {
    pub(super) fn read_into(&self, read: Read, reply: &mut ReplyResult) {
        match (read, reply) {
            (Read::Log { from, up_to, max_bytes }, Ok(Reply::Fetch(reply))) => {
                assert!(from >= self.log_start);
                let mut bytes: Vec<u8> = Vec::new();
                for batch in &self.history[self.count_below(from)..self.count_below(up_to)] {
                    if !bytes.is_empty() && bytes.len() + batch.bytes().len() > max_bytes as usize {
                        break;
                    }
                    bytes.extend_from_slice(batch.bytes());
                }
                reply.fetched = Fetched::Records(bytes.into());
            }
            (
                Read::Snapshot {
                    id,
                    position,
                    max_bytes,
                },
                Ok(Reply::FetchSnapshot(reply)),
            ) => {
                let bytes = &self.snapshots[&id];
                let position = (position as usize).min(bytes.len());
                reply.size_bytes = bytes.len() as i64;
                reply.bytes = bytes.slice(position..bytes.len().min(position + max_bytes as usize));
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn framing(id: SnapshotId, records: &[ControlRecord]) -> Bytes {
    let batch = control::batch(Offset::ZERO, id.epoch, Timestamp(1), records);
    let mut header = batch.header;
    header.producer_epoch = ProducerEpoch(SNAPSHOT_MARK);
    RecordBatch::new(header.with_crc(&batch.body()), &batch.body())
        .bytes()
        .clone()
}

pub(super) fn snapshot_records(bytes: &Bytes) -> Vec<ControlRecord> {
    Batches::new(bytes.clone())
        .map(Result::unwrap)
        .filter(|batch| batch.header.producer_epoch.0 == SNAPSHOT_MARK)
        .flat_map(|batch| control::read(&batch).unwrap())
        .map(|(_, record)| record)
        .collect()
}
