//! Who votes: replica keys, voter sets and their history along the log (KIP-853).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::ids::{BrokerId, DirectoryId, Offset};

/// The `kraft.version` feature: 0 has static voters without directory ids, 1 has voters in the log (KIP-853).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KRaftVersion(pub i16);

impl KRaftVersion {
    /// The newest version that this code speaks.
    pub const LATEST: KRaftVersion = KRaftVersion(1);

    /// True when the voter set is kept in the log and can change.
    pub fn has_dynamic_voters(self) -> bool {
        self.0 >= 1
    }

    /// The `data_version` of `quorum-state` that goes with this version.
    pub fn quorum_state_version(self) -> i16 {
        self.0.clamp(0, 1)
    }
}

/// One replica of the metadata log: a node and, where it is known, the directory that holds its log.
///
/// A node that lost its disk comes back with another directory id: it is not the voter that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaKey {
    /// `node.id`.
    pub id: BrokerId,
    /// `None` where the peer or the voter set does not tell (`kraft.version` 0).
    pub directory: Option<DirectoryId>,
}

impl ReplicaKey {
    /// A key from its wire form, where the zero id stands for an unknown directory.
    pub fn new(id: BrokerId, directory: DirectoryId) -> ReplicaKey {
        ReplicaKey {
            id,
            directory: (!directory.is_zero()).then_some(directory),
        }
    }

    /// The directory in wire form: zero when unknown.
    pub fn directory_or_zero(self) -> DirectoryId {
        self.directory.unwrap_or(DirectoryId::ZERO)
    }

    /// True when `other` is this replica; a key without a directory stands for any directory of the node.
    pub fn covers(self, other: ReplicaKey) -> bool {
        self.id == other.id && (self.directory.is_none() || self.directory == other.directory)
    }
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.directory {
            Some(directory) => write!(f, "{}-{directory}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// Where a replica listens, for one listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The listener's name, as `CONTROLLER`.
    pub listener: Arc<str>,
    /// A host name or address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// Where a replica listens. Empty when it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints(pub Vec<Endpoint>);

impl Endpoints {
    /// The endpoint of a listener.
    pub fn of(&self, listener: &str) -> Option<&Endpoint> {
        self.0.iter().find(|endpoint| &*endpoint.listener == listener)
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A member of a voter set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Which replica.
    pub key: ReplicaKey,
    /// Where it listens for other controllers.
    pub endpoints: Endpoints,
    /// The lowest `kraft.version` that it speaks.
    pub min_kraft_version: KRaftVersion,
    /// The highest `kraft.version` that it speaks.
    pub max_kraft_version: KRaftVersion,
}

/// The voters, in the order of their ids. A node is in it at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoterSet(BTreeMap<BrokerId, Voter>);

impl VoterSet {
    /// The voters in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Voter> {
        self.0.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when no voter is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids of the voters.
    pub fn ids(&self) -> impl Iterator<Item = BrokerId> {
        self.0.keys().copied()
    }

    /// The voter with this node id, whatever its directory.
    pub fn get(&self, id: BrokerId) -> Option<&Voter> {
        self.0.get(&id)
    }

    /// True when `key` is a voter.
    pub fn contains(&self, key: ReplicaKey) -> bool {
        self.0.get(&key.id).is_some_and(|voter| voter.key.covers(key))
    }

    /// True when `key` is the one voter there is.
    pub fn is_only(&self, key: ReplicaKey) -> bool {
        self.len() == 1 && self.contains(key)
    }

    /// The smallest number of voters that is more than half of them.
    pub fn majority(&self) -> usize {
        self.len() / 2 + 1
    }

    /// Where a voter listens; empty when it is no voter.
    pub fn endpoints(&self, id: BrokerId) -> Endpoints {
        self.get(id).map(|voter| voter.endpoints.clone()).unwrap_or_default()
    }

    /// True when `voter` is in the set, and what the set says of it is out of date.
    pub fn is_stale(&self, voter: &Voter) -> bool {
        self.get(voter.key.id)
            .is_some_and(|known| known.key.covers(voter.key) && known != voter)
    }

    /// This set with what it says of `voter` replaced; unchanged when it is no voter.
    #[must_use]
    pub fn updated(&self, voter: Voter) -> VoterSet {
        let mut set = self.clone();
        if set.contains(voter.key) {
            set.0.insert(voter.key.id, voter);
        }
        set
    }
}

impl FromIterator<Voter> for VoterSet {
    fn from_iter<I: IntoIterator<Item = Voter>>(voters: I) -> Self {
        VoterSet(voters.into_iter().map(|voter| (voter.key.id, voter)).collect())
    }
}

/// What the log says at each offset about a value that records replace: uncommitted ones count at once, truncation
/// takes them back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<T>(BTreeMap<Offset, T>);

impl<T> Default for History<T> {
    fn default() -> Self {
        History(BTreeMap::new())
    }
}

impl<T> History<T> {
    /// The value is `value` from `offset` on.
    pub fn set(&mut self, offset: Offset, value: T) {
        self.0.insert(offset, value);
    }

    /// The last value and where it was written.
    pub fn last(&self) -> Option<(Offset, &T)> {
        self.0.last_key_value().map(|(offset, value)| (*offset, value))
    }

    /// The value at an offset.
    pub fn at(&self, offset: Offset) -> Option<&T> {
        self.0.range(..=offset).next_back().map(|(_, value)| value)
    }

    /// Forgets what was written at or above `end`.
    pub fn truncate_from_end(&mut self, end: Offset) {
        self.0.split_off(&end);
    }

    /// Forgets what was replaced at or below `start`.
    pub fn truncate_from_start(&mut self, start: Offset) {
        if let Some(keep) = self.0.range(..=start).next_back().map(|(offset, _)| *offset) {
            self.0 = self.0.split_off(&keep);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn voter(id: i32, directory: u128) -> Voter {
        Voter {
            key: ReplicaKey::new(BrokerId(id), DirectoryId(Uuid::from_u128(directory))),
            endpoints: Endpoints::default(),
            min_kraft_version: KRaftVersion(0),
            max_kraft_version: KRaftVersion(1),
        }
    }

    #[test]
    fn a_node_with_another_disk_is_another_voter() {
        let set: VoterSet = [voter(1, 7), voter(2, 0)].into_iter().collect();
        assert!(set.contains(voter(1, 7).key));
        assert!(!set.contains(voter(1, 8).key));
        assert!(set.contains(voter(2, 9).key), "static voters have no directory");
        assert_eq!(set.updated(voter(1, 8)), set);
        assert_eq!(set.updated(voter(2, 9)).get(BrokerId(2)), Some(&voter(2, 9)));
    }

    #[test]
    fn history_follows_truncation() {
        let mut history = History::default();
        for offset in [-1, 5, 9] {
            history.set(Offset(offset), offset);
        }
        assert_eq!(history.at(Offset(8)), Some(&5));
        assert_eq!(history.at(Offset(-2)), None);
        history.truncate_from_start(Offset(6));
        assert_eq!(history.at(Offset(4)), None);
        history.truncate_from_end(Offset(9));
        assert_eq!(history.last(), Some((Offset(5), &5)));
    }
}
