//! Random commands; what must hold after each of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::Command;
use super::brokers::{AssignReplicasToDirs, RegisterBroker, UnregisterBroker};
use super::configs::{AlterConfigs, ConfigChange, ConfigOp};
use super::features::{FeatureUpdate, UpdateFeatures, UpgradeType};
use super::heartbeats::{BrokerHeartbeat, FenceEarly, FenceExpired};
use super::isr::{AlterPartition, BalanceLeaders, ElectLeaders, ElectUncleanLeaders, IsrProposal};
use super::partition_change::ELR_VERSION;
use super::partitions::{CreatePartitions, MorePartitions};
use super::testing::{Cluster, directory, topic};
use super::topics::{DeleteTopics, NewTopic};
use crate::ids::{BrokerId, DirectoryId, LeaderEpoch, Offset, PartitionEpoch, PartitionId, TopicId};
use crate::metadata::delta::MetadataDelta;
use crate::metadata::image::{ConfigResource, MetadataImage};
use crate::metadata::records::{MetadataRecord, PartitionRecord};

const BROKERS: i32 = 4;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Register {
        id: i32,
        restarted: bool,
        rack: u8,
    },
    Heartbeat {
        id: i32,
        behind: bool,
        want_fence: bool,
        want_shutdown: bool,
        failed: bool,
    },
    Pass {
        ms: i64,
    },
    FenceEarly {
        id: i32,
    },
    Unregister {
        id: i32,
    },
    Create {
        name: usize,
        partitions: i32,
        factor: i16,
        min_isr: i32,
        unclean: bool,
    },
    Delete {
        name: usize,
    },
    Grow {
        name: usize,
        by: i32,
    },
    Propose {
        name: usize,
        partition: i32,
        members: u8,
        stale: bool,
    },
    Assign {
        id: i32,
        name: usize,
        partition: i32,
        second: bool,
    },
    Elect {
        name: usize,
        partition: i32,
        unclean: bool,
    },
    Balance,
    ElectUnclean,
    Configure {
        name: Option<usize>,
        unclean: bool,
        min_isr: i32,
        op: i8,
    },
    Elr {
        on: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..=BROKERS;
    let name = 0..NAMES.len();
    prop_oneof![
        3 => (id.clone(), any::<bool>(), 0..3u8).prop_map(|(id, restarted, rack)| Step::Register { id, restarted, rack }),
        12 => (id.clone(), prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(id, behind, want_fence, want_shutdown, failed)| {
                Step::Heartbeat { id, behind, want_fence, want_shutdown, failed }
            }),
        3 => (1..6000i64).prop_map(|ms| Step::Pass { ms }),
        1 => id.clone().prop_map(|id| Step::FenceEarly { id }),
        1 => id.clone().prop_map(|id| Step::Unregister { id }),
        5 => (name.clone(), 1..4i32, 1..4i16, 1..3i32, prop::bool::weighted(0.3))
            .prop_map(|(name, partitions, factor, min_isr, unclean)| {
                Step::Create { name, partitions, factor, min_isr, unclean }
            }),
        1 => name.clone().prop_map(|name| Step::Delete { name }),
        1 => (name.clone(), 1..3i32).prop_map(|(name, by)| Step::Grow { name, by }),
        10 => (name.clone(), 0..4i32, any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(name, partition, members, stale)| Step::Propose { name, partition, members, stale }),
        2 => (id, name.clone(), 0..4i32, any::<bool>())
            .prop_map(|(id, name, partition, second)| Step::Assign { id, name, partition, second }),
        2 => (name.clone(), 0..4i32, any::<bool>())
            .prop_map(|(name, partition, unclean)| Step::Elect { name, partition, unclean }),
        1 => Just(Step::Balance),
        1 => Just(Step::ElectUnclean),
        2 => (prop::option::of(name), any::<bool>(), 1..4i32, 0..2i8)
            .prop_map(|(name, unclean, min_isr, op)| Step::Configure { name, unclean, min_isr, op }),
        1 => any::<bool>().prop_map(|on| Step::Elr { on }),
    ]
}

fn second_directory(id: i32) -> DirectoryId {
    DirectoryId(Uuid::from_u128(2000 + id as u128))
}

/// The cluster, and the replicas that each broker has according to the changes that it was told of.
struct Model {
    cluster: Cluster,
    replicas: BTreeMap<i32, BTreeSet<(TopicId, PartitionId)>>,
    may_lose_records: bool,
}

impl Model {
    fn run<C: Command>(&mut self, command: C) {
        let before = self.cluster.image().clone();
        let Ok((records, _)) = self.cluster.evaluate(command) else {
            return;
        };
        self.check(&before, &records);
    }

    fn apply(&mut self, step: Step) {
        let cluster = &mut self.cluster;
        match step {
            Step::Register { id, restarted, rack } => {
                let known = cluster
                    .image()
                    .broker(BrokerId(id))
                    .map(|broker| broker.incarnation_id.as_u128());
                let fresh = u128::try_from(cluster.controller.next_offset().0).unwrap();
                let incarnation = known.filter(|_| !restarted).unwrap_or(fresh);
                let command = RegisterBroker {
                    rack: (rack > 0).then(|| rack.to_string()),
                    log_directories: vec![directory(id), second_directory(id)],
                    previous_broker_epoch: (rack > 1).then(|| cluster.epoch(id)),
                    ..cluster.registration(id, incarnation)
                };
                self.run(command);
            }
            Step::Heartbeat {
                id,
                behind,
                want_fence,
                want_shutdown,
                failed,
            } => {
                let mut command = BrokerHeartbeat {
                    want_fence,
                    want_shutdown,
                    offline_directories: if failed { vec![second_directory(id)] } else { Vec::new() },
                    cordoned_directories: Some(if want_fence { vec![directory(id)] } else { Vec::new() }),
                    ..cluster.heartbeat(id)
                };
                if behind {
                    command.metadata_offset = Offset(0);
                }
                self.run(command);
            }
            Step::Pass { ms } => {
                cluster.now = cluster.now.plus_ms(ms);
                while self
                    .cluster
                    .controller
                    .next_deadline()
                    .is_some_and(|deadline| deadline <= self.cluster.now)
                {
                    self.run(FenceExpired);
                }
            }
            Step::FenceEarly { id } => {
                let command = FenceEarly {
                    broker: BrokerId(id),
                    broker_epoch: cluster.epoch(id),
                };
                self.run(command);
            }
            Step::Unregister { id } => self.run(UnregisterBroker { broker: BrokerId(id) }),
            Step::Create {
                name,
                partitions,
                factor,
                min_isr,
                unclean,
            } => {
                let command = super::topics::CreateTopics {
                    topics: vec![NewTopic {
                        configs: vec![
                            ("min.insync.replicas".to_owned(), Some(min_isr.to_string())),
                            ("unclean.leader.election.enable".to_owned(), Some(unclean.to_string())),
                        ],
                        ..topic(NAMES[name], partitions, factor)
                    }],
                    validate_only: false,
                };
                self.run(command);
            }
            Step::Delete { name } => self.run(DeleteTopics {
                topics: vec![(Some(NAMES[name].to_owned()), TopicId::ZERO)],
            }),
            Step::Grow { name, by } => {
                let present = cluster
                    .image()
                    .topics
                    .by_name(NAMES[name])
                    .map_or(0, |topic| topic.partitions.len());
                let topics = vec![MorePartitions {
                    name: NAMES[name].to_owned(),
                    count: present as i32 + by,
                    assignments: None,
                }];
                self.run(CreatePartitions {
                    topics,
                    validate_only: false,
                });
            }
            Step::Propose {
                name,
                partition,
                members,
                stale,
            } => {
                let Some(partition) = self.partition(name, partition).cloned() else {
                    return;
                };
                let isr = partition.replicas.iter().enumerate();
                let isr = isr.filter(|(index, id)| **id == partition.leader || members & (1 << index) != 0);
                let isr = isr.map(|(_, id)| (BrokerId(*id), self.cluster.epoch(*id))).collect();
                let command = AlterPartition {
                    broker: BrokerId(partition.leader),
                    broker_epoch: self.cluster.epoch(partition.leader),
                    partitions: vec![IsrProposal {
                        topic_id: TopicId(partition.topic_id),
                        partition: partition.id(),
                        leader_epoch: LeaderEpoch(partition.leader_epoch),
                        isr,
                        is_recovering: false,
                        partition_epoch: PartitionEpoch(partition.partition_epoch - i32::from(stale)),
                    }],
                };
                self.run(command);
            }
            Step::Assign {
                id,
                name,
                partition,
                second,
            } => {
                let Some(partition) = self.partition(name, partition) else {
                    return;
                };
                let to = if second { second_directory(id) } else { directory(id) };
                let command = AssignReplicasToDirs {
                    broker: BrokerId(id),
                    broker_epoch: self.cluster.epoch(id),
                    assignments: vec![(to, TopicId(partition.topic_id), partition.id())],
                };
                self.run(command);
            }
            Step::Elect {
                name,
                partition,
                unclean,
            } => {
                self.may_lose_records = unclean;
                self.run(ElectLeaders {
                    unclean,
                    partitions: Some(vec![(NAMES[name].to_owned(), PartitionId(partition))]),
                });
                self.may_lose_records = false;
            }
            Step::Balance => self.run(BalanceLeaders),
            Step::ElectUnclean => self.run(ElectUncleanLeaders),
            Step::Configure {
                name,
                unclean,
                min_isr,
                op,
            } => {
                let resource = name.map_or(ConfigResource::cluster_default(), |name| {
                    ConfigResource::topic(NAMES[name])
                });
                let op = ConfigOp::from_number(op);
                let command = AlterConfigs {
                    changes: vec![ConfigChange {
                        resource_type: resource.kind.number(),
                        resource,
                        ops: vec![
                            (
                                "unclean.leader.election.enable".to_owned(),
                                op,
                                Some(unclean.to_string()),
                            ),
                            ("min.insync.replicas".to_owned(), op, Some(min_isr.to_string())),
                        ],
                    }],
                    replaces_all: false,
                    validate_only: false,
                    received_by: None,
                };
                self.run(command);
            }
            Step::Elr { on } => self.run(UpdateFeatures {
                updates: vec![FeatureUpdate {
                    name: ELR_VERSION.to_owned(),
                    level: i16::from(on),
                    upgrade_type: if on {
                        UpgradeType::Upgrade
                    } else {
                        UpgradeType::SafeDowngrade
                    },
                }],
                validate_only: false,
            }),
        }
    }

    fn partition(&self, name: usize, id: i32) -> Option<&PartitionRecord> {
        let topic = self.cluster.image().topics.by_name(NAMES[name])?;
        topic.partition(PartitionId(id))
    }

    fn check(&mut self, before: &MetadataImage, records: &[MetadataRecord]) {
        let after = self.cluster.image();
        for topic in after.topics.iter() {
            let unclean = after.config(&ConfigResource::topic(&*topic.name));
            let is_set = |configs: &crate::metadata::image::ConfigMap| {
                configs.get("unclean.leader.election.enable").map(|text| text == "true")
            };
            let default = after.config(&ConfigResource::cluster_default()).and_then(is_set);
            let is_unclean_allowed = unclean.and_then(is_set).or(default).unwrap_or(false);
            for partition in topic.partitions.values() {
                check_partition(after, partition);
                if let Some(old) = before.topics.partition(topic.id, partition.id()) {
                    check_change(old, partition, is_unclean_allowed || self.may_lose_records);
                }
            }
        }
        // Whoever replays the log, or a snapshot, comes to the same state.
        let mut committed = self.cluster.committed.image().clone();
        committed.provenance = after.provenance;
        assert_eq!(&committed, after);
        let mut replayed = MetadataImage {
            provenance: after.provenance,
            ..MetadataImage::default()
        };
        after.to_records().for_each(|record| replayed.apply(&record).unwrap());
        assert_eq!(&replayed, after);
        // So does a broker that only hears of differences.
        let delta = MetadataDelta::between(before, after);
        let is_told = |record: &MetadataRecord| !matches!(record, MetadataRecord::Config(_));
        assert!(!records.iter().any(is_told) || !delta.is_empty() || after == before);
        for (broker, replicas) in &mut self.replicas {
            let changes = delta.local_changes(BrokerId(*broker));
            for removed in changes.removed {
                assert!(replicas.remove(&(removed.topic_id, removed.partition)));
            }
            for replica in changes.leaders.iter().chain(&changes.followers) {
                replicas.insert((replica.topic_id, replica.partition.id()));
            }
            let topics = after.topics.iter();
            let all = topics.flat_map(|topic| topic.partitions.values().map(|partition| (topic.id, partition)));
            let own = all.filter(|(_, partition)| partition.replicas.contains(broker));
            assert_eq!(*replicas, own.map(|(id, partition)| (id, partition.id())).collect());
        }
    }
}

fn check_partition(image: &MetadataImage, partition: &PartitionRecord) {
    let elr = partition.eligible_leader_replicas.as_deref().unwrap_or_default();
    let distinct: BTreeSet<i32> = partition.isr.iter().chain(elr).copied().collect();
    assert_eq!(distinct.len(), partition.isr.len() + elr.len(), "{partition:?}");
    assert!(
        distinct.iter().all(|member| partition.replicas.contains(member)),
        "{partition:?}"
    );
    assert_eq!(partition.directories.len(), partition.replicas.len());
    if partition.has_leader() {
        assert!(partition.isr.contains(&partition.leader), "{partition:?}");
        assert!(image.is_active(partition.leader), "{partition:?}");
    }
}

fn check_change(old: &PartitionRecord, new: &PartitionRecord, may_lose_records: bool) {
    if old == new {
        return;
    }
    assert!(new.partition_epoch > old.partition_epoch, "{old:?} {new:?}");
    assert!(new.leader_epoch >= old.leader_epoch, "{old:?} {new:?}");
    if new.leader != old.leader {
        assert!(new.leader_epoch > old.leader_epoch, "{old:?} {new:?}");
    }
    let is_safe = |leader| {
        let lists = [&old.eligible_leader_replicas, &old.last_known_elr];
        old.isr.contains(&leader) || lists.into_iter().flatten().any(|list| list.contains(&leader))
    };
    assert!(
        !new.has_leader() || is_safe(new.leader) || may_lose_records,
        "{old:?} {new:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_state_stays_sound(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model {
            cluster: Cluster::new(&[("broker.session.timeout.ms", "9000")]),
            replicas: (1..=BROKERS).map(|id| (id, BTreeSet::new())).collect(),
            may_lose_records: false,
        };
        for id in 1..=BROKERS {
            model.apply(Step::Register { id, restarted: true, rack: 0 });
            model.apply(Step::Heartbeat { id, behind: false, want_fence: false, want_shutdown: false, failed: false });
        }
        for step in steps {
            model.apply(step);
        }
    }
}
