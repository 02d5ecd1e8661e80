//! What a replica tells of itself, for metrics.

use std::collections::VecDeque;

use ottla_domain::ids::{BrokerId, LeaderEpoch, Mono, Offset};

/// A replica at one moment: Kafka's `KafkaRaftMetrics`, with totals where that has averages.
#[derive(Clone, Debug)]
pub struct RaftFacts {
    /// `leader`, `follower`, `observer`, ...
    pub state: &'static str,
    /// Who leads, as far as is known.
    pub leader: Option<BrokerId>,
    /// Whom it voted for in this epoch.
    pub voted: Option<BrokerId>,
    /// The highest epoch seen.
    pub epoch: LeaderEpoch,
    /// Unknown until the leader has committed a record of its own epoch.
    pub high_watermark: Option<Offset>,
    /// Where the next record goes.
    pub log_end: Offset,
    /// The epoch of the last record.
    pub log_end_epoch: LeaderEpoch,
    /// How many voters there are.
    pub voter_count: usize,
    /// Records that this replica wrote as the leader.
    pub appended_records: u64,
    /// Records that it got from the leader.
    pub fetched_records: u64,
    /// How many batches that it wrote as the leader are committed.
    pub commits: u64,
    /// How long it took from writing them to that.
    pub commit_time_ns: u64,
    /// How long its thread had nothing to do.
    pub idle_ns: u64,
}

impl RaftFacts {
    /// Of a replica that has not started.
    pub(crate) const NONE: RaftFacts = RaftFacts {
        state: "unattached",
        leader: None,
        voted: None,
        epoch: LeaderEpoch::UNKNOWN,
        high_watermark: None,
        log_end: Offset::ZERO,
        log_end_epoch: LeaderEpoch::UNKNOWN,
        voter_count: 0,
        appended_records: 0,
        fetched_records: 0,
        commits: 0,
        commit_time_ns: 0,
        idle_ns: 0,
    };
}

/// Batches that the leader wrote and that are not committed, with the time of their writing.
#[derive(Debug, Default)]
pub(crate) struct Uncommitted(VecDeque<(Offset, Mono)>);

impl Uncommitted {
    /// Begins to wait for the batch that ends here.
    pub(crate) fn push(&mut self, end: Offset, now: Mono) {
        self.0.push_back((end, now));
    }

    /// Counts what is committed.
    pub(crate) fn commit(&mut self, high_watermark: Offset, now: Mono, facts: &mut RaftFacts) {
        let committed = self.0.iter().take_while(|(end, _)| *end <= high_watermark).count();
        for (_, written) in self.0.drain(..committed) {
            facts.commits += 1;
            facts.commit_time_ns += now.0.saturating_sub(written.0);
        }
    }

    /// Another leads: what becomes of the batches is not known here.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_once_and_in_time() {
        let (mut uncommitted, mut facts) = (Uncommitted::default(), RaftFacts::NONE);
        for (end, written) in [(10, 100), (20, 150), (30, 400)] {
            uncommitted.push(Offset(end), Mono(written));
        }
        uncommitted.commit(Offset(20), Mono(300), &mut facts);
        uncommitted.commit(Offset(25), Mono(350), &mut facts);
        assert_eq!((facts.commits, facts.commit_time_ns), (2, 200 + 150));
        uncommitted.forget();
        uncommitted.commit(Offset(30), Mono(500), &mut facts);
        assert_eq!(facts.commits, 2);
    }
}
