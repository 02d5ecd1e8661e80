//! On which brokers the replicas of new partitions go.
//!
//! Kafka's striped placement: replicas of one partition go to different racks where they can, consecutive partitions start
//! at consecutive racks and brokers, both from a random start, and fenced brokers come last and never lead.

use std::collections::BTreeMap;

use crate::ids::BrokerId;

/// A broker that replicas may be placed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableBroker {
    /// Its id.
    pub id: BrokerId,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// It does not serve at present.
    pub fenced: bool,
}

/// Why replicas cannot be placed: INVALID_REPLICATION_FACTOR. The texts are those that Kafka's tools show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// No replicas were asked for.
    #[error("Invalid replication factor {0}: the replication factor must be positive.")]
    NotPositive(i32),
    /// Nobody could lead.
    #[error("All brokers are currently fenced, or have all their log directories cordoned.")]
    AllFenced,
    /// A broker holds one replica of a partition at most.
    #[error(
        "The target replication factor of {wanted} cannot be reached because only {brokers} broker(s) are registered \
         or some brokers have all their log directories cordoned."
    )]
    TooFewBrokers {
        /// The replication factor.
        wanted: i32,
        /// The usable brokers, fenced ones too.
        brokers: usize,
    },
}

/// Places `partitions` new partitions of `replication_factor` replicas each; the first replica of each is unfenced and
/// is its preferred leader. The same entropy gives the same placement.
pub fn place(
    brokers: impl IntoIterator<Item = UsableBroker>,
    partitions: usize,
    replication_factor: i32,
    entropy: u128,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    let mut racks = Racks::new(brokers, Random::new(entropy));
    let replicas = match usize::try_from(replication_factor) {
        Ok(replicas) if replicas > 0 => replicas,
        _ => return Err(PlacementError::NotPositive(replication_factor)),
    };
    if racks.unfenced == 0 {
        return Err(PlacementError::AllFenced);
    }
    if replicas > racks.brokers {
        return Err(PlacementError::TooFewBrokers {
            wanted: replication_factor,
            brokers: racks.brokers,
        });
    }
    Ok((0..partitions).map(|_| racks.place(replicas)).collect())
}

/// Brokers that are handed out in turn; each round starts one further than the last.
#[derive(Default)]
struct Ring {
    brokers: Vec<BrokerId>,
    start: usize,
    taken: usize,
    round: usize,
}

impl Ring {
    fn next(&mut self, round: usize) -> Option<BrokerId> {
        if self.round != round {
            self.round = round;
            self.taken = 0;
            self.start += 1;
        }
        if self.taken >= self.brokers.len() {
            return None;
        }
        let broker = self.brokers.get((self.start + self.taken) % self.brokers.len());
        self.taken += 1;
        broker.copied()
    }
}

#[derive(Default)]
struct Rack {
    unfenced: Ring,
    fenced: Ring,
}

impl Rack {
    fn next(&mut self, round: usize) -> Option<BrokerId> {
        self.unfenced.next(round).or_else(|| self.fenced.next(round))
    }
}

struct Racks {
    racks: Vec<Rack>,
    brokers: usize,
    unfenced: usize,
    /// How many partitions were placed.
    round: usize,
    /// The rack that the next partition starts at.
    start: usize,
    random: Random,
}

impl Racks {
    fn new(brokers: impl IntoIterator<Item = UsableBroker>, mut random: Random) -> Self {
        let mut by_name: BTreeMap<Option<String>, Rack> = BTreeMap::new();
        let (mut total, mut unfenced) = (0, 0);
        for broker in brokers {
            let rack = by_name.entry(broker.rack).or_default();
            let ring = if broker.fenced {
                &mut rack.fenced
            } else {
                &mut rack.unfenced
            };
            ring.brokers.push(broker.id);
            total += 1;
            unfenced += usize::from(!broker.fenced);
        }
        let mut racks: Vec<Rack> = by_name.into_values().collect();
        for ring in racks.iter_mut().flat_map(|rack| [&mut rack.unfenced, &mut rack.fenced]) {
            ring.brokers.sort();
            ring.start = random.below(ring.brokers.len());
        }
        Racks {
            start: random.below(racks.len()),
            racks,
            brokers: total,
            unfenced,
            round: 0,
            random,
        }
    }

    /// The replicas of one partition. There are at least so many brokers, and at least one is unfenced.
    fn place(&mut self, replicas: usize) -> Vec<BrokerId> {
        // All unfenced brokers have led once in this order: another order gives other sets of replicas.
        if self.round > 0 && self.round.is_multiple_of(self.unfenced) {
            self.shuffle();
        }
        let (count, round, start) = (self.racks.len(), self.round, self.start % self.racks.len().max(1));
        let mut placed = Vec::with_capacity(replicas.min(self.brokers));
        let mut leader_rack = None;
        for index in (start..count).chain(0..start) {
            let leader = self.racks.get_mut(index).and_then(|rack| rack.unfenced.next(round));
            if let Some(leader) = leader {
                placed.push(leader);
                leader_rack = Some(index);
                break;
            }
        }
        let mut index = start;
        while placed.len() < replicas {
            // The leader's rack has had its turn in the first time around.
            if leader_rack == Some(index) {
                leader_rack = None;
            } else {
                placed.extend(self.racks.get_mut(index).and_then(|rack| rack.next(round)));
            }
            index = (index + 1) % count;
        }
        self.round += 1;
        self.start = start + 1;
        placed
    }

    fn shuffle(&mut self) {
        self.random.shuffle(&mut self.racks);
        for rack in &mut self.racks {
            self.random.shuffle(&mut rack.unfenced.brokers);
            self.random.shuffle(&mut rack.fenced.brokers);
        }
    }
}

/// A SplitMix64 generator: enough to spread replicas, no secret.
struct Random(u64);

impl Random {
    fn new(entropy: u128) -> Self {
        Random((entropy >> 64) as u64 ^ entropy as u64)
    }

    /// A number below `bound`; 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * bound as u128) >> 64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn broker(id: i32, rack: Option<&str>, fenced: bool) -> UsableBroker {
        UsableBroker {
            id: BrokerId(id),
            rack: rack.map(str::to_owned),
            fenced,
        }
    }

    #[test]
    fn refusals_have_kafkas_words() {
        let one = || [broker(1, None, false)];
        assert_eq!(
            place(one(), 1, 3, 0).unwrap_err().to_string(),
            "The target replication factor of 3 cannot be reached because only 1 broker(s) are registered or some \
             brokers have all their log directories cordoned."
        );
        assert_eq!(place(one(), 1, 0, 0), Err(PlacementError::NotPositive(0)));
        assert_eq!(place([broker(1, None, true)], 1, 1, 0), Err(PlacementError::AllFenced));
        assert_eq!(place([], 1, 1, 0), Err(PlacementError::AllFenced));
        assert_eq!(place(one(), 3, 1, 9).unwrap(), vec![vec![BrokerId(1)]; 3]);
    }

    #[test]
    fn a_fenced_broker_follows_but_does_not_lead() {
        let brokers = || [broker(1, Some("a"), true), broker(2, Some("b"), false)];
        for entropy in 0..20 {
            for replicas in place(brokers(), 5, 2, entropy).unwrap() {
                assert_eq!(replicas, vec![BrokerId(2), BrokerId(1)]);
            }
        }
    }

    proptest! {
        #[test]
        fn replicas_differ_leaders_spread_and_racks_are_used(
            racks in 1..5usize, per_rack in 1..5usize, factor in 1..5i32, partitions in 1..60usize, entropy: u128
        ) {
            let total = racks * per_rack;
            prop_assume!(factor as usize <= total);
            let rack_of = |id: i32| id as usize % racks;
            let brokers = (0..total as i32).map(|id| broker(id, Some(&rack_of(id).to_string()), false));
            let placed = place(brokers, partitions, factor, entropy).unwrap();
            let mut leads = vec![0; total];
            for replicas in &placed {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), factor as usize);
                let used: BTreeSet<_> = replicas.iter().map(|id| rack_of(id.0)).collect();
                prop_assert_eq!(used.len(), racks.min(factor as usize));
                leads[replicas[0].0 as usize] += 1;
            }
            // Without racks everyone leads once before anyone leads again.
            if racks == 1 {
                let least = partitions / total;
                prop_assert!(leads.iter().all(|count| (least..=least + 1).contains(count)));
            }
        }
    }
}
