//! What a node remembers of an epoch across restarts, and the counting of votes.

use std::collections::BTreeMap;

use super::voters::{KRaftVersion, ReplicaKey, VoterSet};
use crate::ids::{BrokerId, LeaderEpoch};

/// What `quorum-state` holds: without it a restarted voter could vote twice in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionState {
    /// The highest epoch seen.
    pub epoch: LeaderEpoch,
    /// The leader of that epoch.
    pub leader: Option<BrokerId>,
    /// Whom this node voted for in that epoch.
    pub voted: Option<ReplicaKey>,
    /// The ids of the voters; written under `kraft.version` 0 only.
    pub voters: Vec<BrokerId>,
    /// Decides the form in which this is written.
    pub kraft_version: KRaftVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vote {
    Awaited,
    Granted,
    Rejected,
}

/// The votes of one election (or pre-election) as they come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Votes(BTreeMap<BrokerId, (ReplicaKey, Vote)>);

impl Votes {
    /// An election among `voters` in which this node has voted for itself.
    pub(super) fn new(voters: &VoterSet, local: BrokerId) -> Votes {
        let mut votes = Votes(
            voters
                .iter()
                .map(|voter| (voter.key.id, (voter.key, Vote::Awaited)))
                .collect(),
        );
        votes.record(local, true);
        votes
    }

    /// Counts a vote; the first answer of a voter stands, and others than voters do not count.
    pub(super) fn record(&mut self, voter: BrokerId, granted: bool) {
        if let Some((_, vote @ Vote::Awaited)) = self.0.get_mut(&voter) {
            *vote = if granted { Vote::Granted } else { Vote::Rejected };
        }
    }

    fn with(&self, wanted: Vote) -> impl Iterator<Item = ReplicaKey> {
        self.0
            .values()
            .filter(move |(_, vote)| *vote == wanted)
            .map(|(key, _)| *key)
    }

    fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// True when more than half of the voters have granted theirs.
    pub(super) fn is_won(&self) -> bool {
        self.granting().count() >= self.majority()
    }

    /// True when so many voters refused that the election cannot be won.
    pub(super) fn is_lost(&self) -> bool {
        self.granting().count() + self.awaited().count() < self.majority()
    }

    /// Voters that have not answered.
    pub(super) fn awaited(&self) -> impl Iterator<Item = ReplicaKey> {
        self.with(Vote::Awaited)
    }

    /// Voters that granted their vote, this node among them.
    pub(super) fn granting(&self) -> impl Iterator<Item = ReplicaKey> {
        self.with(Vote::Granted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::voters::{Endpoints, Voter};
    use super::*;

    fn votes(voters: i32) -> Votes {
        let set: VoterSet = (1..=voters)
            .map(|id| Voter {
                key: ReplicaKey {
                    id: BrokerId(id),
                    directory: None,
                },
                endpoints: Endpoints::default(),
                min_kraft_version: KRaftVersion(0),
                max_kraft_version: KRaftVersion(0),
            })
            .collect();
        Votes::new(&set, BrokerId(1))
    }

    #[test]
    fn a_single_voter_wins_at_once() {
        assert!(votes(1).is_won());
    }

    #[test]
    fn more_than_half_decides() {
        let mut votes = votes(4);
        votes.record(BrokerId(2), true);
        assert!(!votes.is_won() && !votes.is_lost());
        votes.record(BrokerId(9), true);
        votes.record(BrokerId(2), false);
        votes.record(BrokerId(3), false);
        assert!(!votes.is_won() && !votes.is_lost());
        votes.record(BrokerId(4), false);
        assert!(votes.is_lost());
    }
}
