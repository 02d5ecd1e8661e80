use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn topic(number: usize) -> TopicId {
    TopicId(Uuid::from_u128(1_000 + number as u128))
}

/// Owned input of an assignor: subscriptions by member, sizes of topics, present assignment.
#[derive(Clone, Debug)]
struct Group {
    names: Vec<(String, Option<String>)>,
    subscriptions: Vec<Vec<usize>>,
    sizes: Vec<i32>,
    present: Vec<Partitions>,
}

impl Group {
    fn new(subscriptions: &[&[usize]], sizes: &[i32]) -> Self {
        Group {
            names: (0..subscriptions.len()).map(|n| (format!("m{n:03}"), None)).collect(),
            subscriptions: subscriptions.iter().map(|topics| topics.to_vec()).collect(),
            sizes: sizes.to_vec(),
            present: vec![Partitions::new(); subscriptions.len()],
        }
    }

    fn assign(&self, assignor: Assignor) -> Vec<Partitions> {
        let members = self.names.iter().zip(&self.subscriptions).zip(&self.present).map(
            |(((member_id, instance_id), topics), assignment)| MemberSpec {
                member_id,
                instance_id: instance_id.as_deref(),
                topics: topics.iter().map(|number| topic(*number)).collect(),
                assignment,
            },
        );
        assignor.assign(&GroupSpec {
            members: members.collect(),
            partition_counts: (0..self.sizes.len())
                .filter(|number| self.subscriptions.iter().any(|topics| topics.contains(number)))
                .map(|number| (topic(number), self.sizes[number]))
                .collect(),
        })
    }

    /// Every partition of a subscribed topic has one owner, who subscribes to it; lists ascend and are not empty.
    fn check(&self, assigned: &[Partitions]) {
        assert_eq!(assigned.len(), self.subscriptions.len());
        let mut owned = std::collections::BTreeSet::new();
        for (assigned, topics) in assigned.iter().zip(&self.subscriptions) {
            for (id, partitions) in assigned {
                assert!(topics.iter().any(|number| topic(*number) == *id), "not subscribed");
                assert!(!partitions.is_empty());
                assert!(partitions.windows(2).all(|pair| pair[0] < pair[1]), "{partitions:?}");
                for partition in partitions {
                    assert!(owned.insert((*id, *partition)), "{partition} of {id} has two owners");
                }
            }
        }
        let expected = (0..self.sizes.len())
            .filter(|number| self.subscriptions.iter().any(|topics| topics.contains(number)))
            .map(|number| self.sizes[number] as usize)
            .sum::<usize>();
        assert_eq!(owned.len(), expected, "not all are assigned");
    }
}

fn load(assigned: &Partitions) -> usize {
    assigned.values().map(Vec::len).sum()
}

fn partitions(of: &[(usize, &[i32])]) -> Partitions {
    of.iter()
        .map(|(number, partitions)| (topic(*number), partitions.iter().copied().map(PartitionId).collect()))
        .collect()
}

/// A group, and one that it may become: members come and go, subscriptions change, topics grow.
fn groups(is_homogeneous: bool) -> impl Strategy<Value = (Group, Group)> {
    (1..6_usize).prop_flat_map(move |topics| {
        let subscription = || proptest::sample::subsequence((0..topics).collect::<Vec<_>>(), 0..=topics);
        let subscriptions = || {
            (subscription(), proptest::collection::vec(subscription(), 1..9)).prop_map(move |(all, each)| {
                if is_homogeneous { vec![all; each.len()] } else { each }
            })
        };
        let sizes = || proptest::collection::vec(0..12_i32, topics);
        let names = proptest::collection::vec((0..30_u8, any::<bool>()), 18);
        (subscriptions(), subscriptions(), sizes(), sizes(), names).prop_map(|(first, second, sizes, more, names)| {
            let group = |subscriptions: Vec<Vec<usize>>, sizes: Vec<i32>| {
                let mut members: Vec<_> = names
                    .iter()
                    .take(subscriptions.len())
                    .map(|(number, is_static)| (format!("m{number:03}"), is_static.then(|| format!("i{number}"))))
                    .collect();
                members.sort();
                members.dedup_by(|one, other| one.0 == other.0);
                Group {
                    present: vec![Partitions::new(); members.len()],
                    subscriptions: subscriptions[..members.len()].to_vec(),
                    names: members,
                    sizes,
                }
            };
            let grown = sizes.iter().zip(more).map(|(size, more)| size + more / 4).collect();
            (group(first, sizes), group(second, grown))
        })
    })
}

/// What the members of `next` that were in `before` have.
fn carry(before: &Group, assigned: &[Partitions], next: &mut Group) {
    for (name, present) in next.names.iter().zip(&mut next.present) {
        if let Some(index) = before.names.iter().position(|known| known.0 == name.0) {
            *present = assigned[index].clone();
        }
    }
}

proptest! {
    #[test]
    fn uniform_is_balanced_and_moves_no_more_than_that_needs((first, mut next) in groups(true)) {
        let assigned = first.assign(Assignor::Uniform);
        first.check(&assigned);
        carry(&first, &assigned, &mut next);
        let assigned = next.assign(Assignor::Uniform);
        next.check(&assigned);

        let loads: Vec<usize> = assigned.iter().map(load).collect();
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);

        // What of the present assignment is still subscribed to, and how much of it can stay at best.
        let valid: Vec<Partitions> = next.present.iter().zip(&next.subscriptions).map(|(present, topics)| {
            present.iter()
                .filter(|(id, _)| topics.iter().any(|number| topic(*number) == **id))
                .map(|(id, partitions)| (*id, partitions.clone()))
                .collect()
        }).collect();
        let total: usize = loads.iter().sum();
        let (quota, extras) = (total / loads.len(), total % loads.len());
        let above = valid.iter().filter(|valid| load(valid) > quota).count();
        let best: usize = valid.iter().map(|valid| load(valid).min(quota)).sum::<usize>() + above.min(extras);
        let kept: usize = valid.iter().zip(&assigned).map(|(valid, assigned)| {
            valid.iter().flat_map(|(id, partitions)| partitions.iter().map(move |partition| (id, partition)))
                .filter(|(id, partition)| assigned.get(id).is_some_and(|now| now.contains(partition)))
                .count()
        }).sum();
        prop_assert_eq!(kept, best);

        next.present = assigned.clone();
        prop_assert_eq!(next.assign(Assignor::Uniform), assigned, "an assignment that is balanced stays");
    }

    #[test]
    fn uniform_spreads_each_topic_where_subscriptions_differ((first, mut next) in groups(false)) {
        let assigned = first.assign(Assignor::Uniform);
        first.check(&assigned);
        carry(&first, &assigned, &mut next);
        let assigned = next.assign(Assignor::Uniform);
        next.check(&assigned);
        for number in 0..next.sizes.len() {
            let subscribers: Vec<usize> = (0..assigned.len())
                .filter(|member| next.subscriptions[*member].contains(&number))
                .collect();
            for giver in &subscribers {
                for taker in &subscribers {
                    prop_assert!(
                        !assigned[*giver].contains_key(&topic(number))
                            || load(&assigned[*giver]) <= load(&assigned[*taker]) + 1,
                        "topic {number} could move from {giver} to {taker}: {assigned:?}"
                    );
                }
            }
        }
        next.present = assigned.clone();
        prop_assert_eq!(next.assign(Assignor::Uniform), assigned, "an assignment that is balanced stays");
    }

    #[test]
    fn range_cuts_each_topic_into_ranges((group, _) in groups(false), (alike, _) in groups(true), size in 0..12_i32) {
        let assigned = group.assign(Assignor::Range);
        group.check(&assigned);
        for number in 0..group.sizes.len() {
            let lengths: Vec<usize> = assigned.iter().zip(&group.subscriptions)
                .filter(|(_, topics)| topics.contains(&number))
                .map(|(assigned, _)| {
                    let range = assigned.get(&topic(number)).cloned().unwrap_or_default();
                    assert!(range.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
                    range.len()
                })
                .collect();
            prop_assert!(lengths.iter().max().unwrap_or(&0) - lengths.iter().min().unwrap_or(&0) <= 1);
        }

        let alike = Group { sizes: vec![size; alike.sizes.len()], ..alike };
        for assigned in alike.assign(Assignor::Range) {
            let ranges: std::collections::BTreeSet<_> = assigned.values().collect();
            prop_assert!(ranges.len() <= 1, "topics of equal size are cut alike");
        }
    }
}

#[test]
fn a_member_that_joins_takes_only_its_share() {
    let mut group = Group::new(&[&[0, 1], &[0, 1], &[0, 1]], &[3, 3]);
    group.present = vec![
        partitions(&[(0, &[0, 1]), (1, &[0])]),
        partitions(&[(0, &[2]), (1, &[1, 2])]),
        Partitions::new(),
    ];
    assert_eq!(
        group.assign(Assignor::Uniform),
        [
            partitions(&[(0, &[0, 1])]),
            partitions(&[(0, &[2]), (1, &[1])]),
            partitions(&[(1, &[0, 2])]),
        ]
    );
}

#[test]
fn more_members_than_partitions() {
    let group = Group::new(&[&[0], &[0], &[0]], &[2]);
    for assignor in [Assignor::Range, Assignor::Uniform] {
        let assigned = group.assign(assignor);
        group.check(&assigned);
        assert_eq!(assigned.iter().map(load).max(), Some(1));
    }
}

#[test]
fn static_members_keep_their_ranges_under_other_member_ids() {
    let mut group = Group::new(&[&[0, 1], &[0, 1], &[0, 1]], &[7, 7]);
    for (name, instance) in group.names.iter_mut().zip(["b", "a", "c"]) {
        name.1 = Some(instance.to_owned());
    }
    let before = group.assign(Assignor::Range);
    assert_eq!(before[1], partitions(&[(0, &[0, 1, 2]), (1, &[0, 1, 2])]));
    group.names[1].0 = "m999".to_owned();
    group.names.rotate_left(1);
    let after = group.assign(Assignor::Range);
    assert_eq!(after[0], before[1]);
    assert_eq!(after[1], before[2]);
    assert_eq!(after[2], before[0]);
}

#[test]
fn the_assignors_of_kafka_are_known() {
    assert_eq!(Assignor::named("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::named("range"), Some(Assignor::Range));
    assert_eq!(Assignor::named("simple"), None);
    assert!(Assignor::Uniform.assign(&GroupSpec::default()).is_empty());
    assert!(Assignor::Range.assign(&GroupSpec::default()).is_empty());
}
