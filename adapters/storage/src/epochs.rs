//! The bytes in which leader epochs are kept: epoch and start offset, one after the other.

use ottla_domain::ids::{LeaderEpoch, Offset};
use ottla_domain::log::epochs::{EpochEntry, LeaderEpochHistory};

const ENTRY_SIZE_BYTES: usize = 12;

pub(crate) fn encode(epochs: &LeaderEpochHistory) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(epochs.entries().len() * ENTRY_SIZE_BYTES);
    for entry in epochs.entries() {
        bytes.extend(entry.epoch.0.to_be_bytes());
        bytes.extend(entry.start_offset.0.to_be_bytes());
    }
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> LeaderEpochHistory {
    let (entries, _) = bytes.as_chunks::<ENTRY_SIZE_BYTES>();
    LeaderEpochHistory::from_entries(entries.iter().filter_map(|entry| {
        let (epoch, start_offset) = entry.split_first_chunk()?;
        Some(EpochEntry {
            epoch: LeaderEpoch(i32::from_be_bytes(*epoch)),
            start_offset: Offset(i64::from_be_bytes(start_offset.try_into().ok()?)),
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_survive_a_round_trip() {
        let mut epochs = LeaderEpochHistory::default();
        epochs.assign(LeaderEpoch(3), Offset(10));
        epochs.assign(LeaderEpoch(7), Offset(20));
        assert_eq!(decode(&encode(&epochs)), epochs);
        assert_eq!(decode(&[]), LeaderEpochHistory::default());
    }
}
