//! The keys and values of the database: big-endian fields, a log id first.

use ottla_domain::ids::{Offset, Timestamp};

use super::{Checkpoint, Entry};

/// With it turned, the bytes of a number order as the number does: -1 comes before 0.
pub(super) const SIGN_BIT: u64 = 1 << 63;

pub(super) fn checkpoint_key(log_id: u64, checkpoint: Checkpoint) -> [u8; 9] {
    let mut key = [checkpoint as u8; 9];
    put(&mut key, 0, log_id.to_be_bytes());
    key
}

fn put<const N: usize>(target: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(target) = target.get_mut(at..at + N) {
        target.copy_from_slice(&bytes);
    }
}

pub(super) fn key(log_id: u64, offset: Offset) -> [u8; 16] {
    let mut key = [0; 16];
    put(&mut key, 0, log_id.to_be_bytes());
    put(&mut key, 8, offset.0.to_be_bytes());
    key
}

pub(super) fn relative_offset(segment: Offset, offset: Offset) -> u32 {
    offset.0.saturating_sub(segment.0).clamp(0, i64::from(u32::MAX)) as u32
}

pub(super) fn offset_key(log_id: u64, segment: Offset, offset: Offset) -> [u8; 20] {
    let mut key = [0; 20];
    put(&mut key, 0, log_id.to_be_bytes());
    put(&mut key, 8, segment.0.to_be_bytes());
    put(&mut key, 16, relative_offset(segment, offset).to_be_bytes());
    key
}

pub(super) fn offset_value(entry: &Entry) -> [u8; 20] {
    let mut value = [0; 20];
    put(&mut value, 0, entry.position.to_be_bytes());
    put(&mut value, 4, entry.max_timestamp.0.to_be_bytes());
    put(&mut value, 12, entry.offset_entries.to_be_bytes());
    put(&mut value, 16, entry.time_entries.to_be_bytes());
    value
}

/// The position is a part of the key: while the running maximum stays the same, the last position counts.
pub(super) fn time_key(log_id: u64, segment: Offset, max_timestamp: Timestamp, position: u32) -> [u8; 28] {
    let mut key = [0; 28];
    put(&mut key, 0, log_id.to_be_bytes());
    put(&mut key, 8, segment.0.to_be_bytes());
    put(&mut key, 16, ((max_timestamp.0 as u64) ^ SIGN_BIT).to_be_bytes());
    put(&mut key, 24, position.to_be_bytes());
    key
}

/// Reads big-endian fields one after the other.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}
