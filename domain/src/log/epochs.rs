//! Which leader epoch wrote which offsets (KIP-101): what followers truncate by and consumers check.

use crate::ids::{LeaderEpoch, Offset};

/// A leader epoch and the offset of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The first offset that was written in it.
    pub start_offset: Offset,
}

/// The leader epochs of a log in order: both epochs and start offsets ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochHistory {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochHistory {
    /// The history of these entries; those that conflict with a later one are dropped, as [`LeaderEpochHistory::assign`]
    /// does.
    pub fn from_entries(entries: impl IntoIterator<Item = EpochEntry>) -> LeaderEpochHistory {
        let mut history = LeaderEpochHistory::default();
        for entry in entries {
            history.assign(entry.epoch, entry.start_offset);
        }
        history
    }

    /// Notes that `epoch` writes from `start_offset` on. True when that is news, which must be persisted.
    ///
    /// The newest word wins: entries with the same or a later epoch, or with the same or a later offset, are dropped.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if epoch < LeaderEpoch(0) || start_offset < Offset::ZERO {
            return false;
        }
        if self
            .entries
            .last()
            .is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset)
        {
            return false;
        }
        while self
            .entries
            .pop_if(|last| last.epoch >= epoch || last.start_offset >= start_offset)
            .is_some()
        {}
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// All entries, in ascending order.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The latest entry.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// The epoch that the record at `offset` was or would be written in.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        self.entries.get(after.checked_sub(1)?).map(|entry| entry.epoch)
    }

    /// The end of the latest epoch that is not later than `requested`: that epoch and the start of the next one, or the
    /// log end for the latest. (-1, -1) when there is no answer. This is what OffsetForLeaderEpoch returns.
    pub fn end_offset_for(&self, requested: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        if requested == LeaderEpoch::UNKNOWN {
            return (LeaderEpoch::UNKNOWN, Offset::NONE);
        }
        if self.latest().is_some_and(|latest| latest.epoch == requested) {
            return (requested, log_end);
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= requested);
        let Some(next) = self.entries.get(higher) else {
            return (LeaderEpoch::UNKNOWN, Offset::NONE);
        };
        let floor = higher.checked_sub(1).and_then(|floor| self.entries.get(floor));
        (floor.map_or(requested, |floor| floor.epoch), next.start_offset)
    }

    /// The log now ends at `log_end`: epochs that begin there or later go. True when any did.
    pub fn truncate_from_end(&mut self, log_end: Offset) -> bool {
        let keep = self.entries.partition_point(|entry| entry.start_offset < log_end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// The log now begins at `log_start`: epochs that ended before go, and the one that spans it begins there. True when
    /// anything changed.
    pub fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let begun = self.entries.partition_point(|entry| entry.start_offset <= log_start);
        let Some(spanning) = begun.checked_sub(1) else {
            return false;
        };
        self.entries.drain(..spanning);
        match self.entries.first_mut() {
            Some(first) if spanning > 0 || first.start_offset < log_start => {
                first.start_offset = log_start;
                true
            }
            _ => false,
        }
    }

    /// Forgets everything, when the log is emptied.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> LeaderEpochHistory {
        LeaderEpochHistory::from_entries(entries.iter().map(|(epoch, start)| EpochEntry {
            epoch: LeaderEpoch(*epoch),
            start_offset: Offset(*start),
        }))
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next_known_one() {
        let history = history(&[(2, 10), (4, 20), (7, 30)]);
        let end = |epoch| {
            let (epoch, offset) = history.end_offset_for(LeaderEpoch(epoch), Offset(35));
            (epoch.0, offset.0)
        };
        assert_eq!(end(-1), (-1, -1));
        assert_eq!(end(1), (1, 10));
        assert_eq!(end(2), (2, 20));
        assert_eq!(end(5), (4, 30));
        assert_eq!(end(7), (7, 35));
        assert_eq!(end(8), (-1, -1));
        assert_eq!(
            LeaderEpochHistory::default().end_offset_for(LeaderEpoch(3), Offset(1)),
            (LeaderEpoch(-1), Offset(-1))
        );
    }

    #[test]
    fn the_newest_word_drops_what_conflicts_with_it() {
        let mut epochs = history(&[(2, 10), (4, 20)]);
        assert!(!epochs.assign(LeaderEpoch(4), Offset(25)));
        assert!(epochs.assign(LeaderEpoch(4), Offset(18)));
        assert_eq!(epochs, history(&[(2, 10), (4, 18)]));
        assert!(epochs.assign(LeaderEpoch(3), Offset(30)));
        assert_eq!(epochs, history(&[(2, 10), (3, 30)]));
        assert!(epochs.assign(LeaderEpoch(5), Offset(10)));
        assert_eq!(epochs.entries().len(), 1);
        assert!(!epochs.assign(LeaderEpoch(-1), Offset(40)));
    }

    #[test]
    fn truncation_keeps_what_the_log_still_holds() {
        let mut epochs = history(&[(2, 10), (4, 20), (7, 30)]);
        assert!(epochs.truncate_from_end(Offset(30)));
        assert!(!epochs.truncate_from_end(Offset(25)));
        assert_eq!(epochs, history(&[(2, 10), (4, 20)]));

        assert!(!epochs.truncate_from_start(Offset(5)));
        assert!(epochs.truncate_from_start(Offset(15)));
        assert_eq!(epochs, history(&[(2, 15), (4, 20)]));
        assert!(epochs.truncate_from_start(Offset(40)));
        assert_eq!(epochs, history(&[(4, 40)]));
        assert!(!epochs.truncate_from_start(Offset(40)));
    }

    #[test]
    fn an_offset_belongs_to_the_epoch_that_spans_it() {
        let epochs = history(&[(2, 10), (4, 20)]);
        assert_eq!(epochs.epoch_for_offset(Offset(9)), None);
        assert_eq!(epochs.epoch_for_offset(Offset(10)), Some(LeaderEpoch(2)));
        assert_eq!(epochs.epoch_for_offset(Offset(99)), Some(LeaderEpoch(4)));
    }
}
