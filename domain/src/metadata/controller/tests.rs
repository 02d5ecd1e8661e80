//! What the controller answers, in Kafka's words, and what it writes.

use super::brokers::{AssignReplicasToDirs, UnregisterBroker};
use super::configs::{AlterConfigs, ConfigChange, ConfigOp};
use super::features::{FeatureUpdate, UpdateFeatures, UpgradeType};
use super::heartbeats::{BrokerHeartbeat, FenceEarly, FenceExpired};
use super::isr::{AlterPartition, BalanceLeaders, ElectLeaders, IsrProposal};
use super::partitions::{CreatePartitions, MorePartitions};
use super::producer_ids::{AllocateProducerIds, ProducerIdBlock};
use super::testing::{Cluster, assigned, directory, refusal, topic};
use super::topics::{CreateTopics, DeleteTopics, NewTopic};
use crate::error::ErrorCode::{
    self, BrokerIdNotRegistered, DuplicateBrokerRegistration, ElectionNotNeeded, FencedLeaderEpoch,
    InconsistentClusterId, IneligibleReplica, InvalidConfig, InvalidPartitions, InvalidRegistration,
    InvalidReplicaAssignment, InvalidReplicationFactor, InvalidRequest, InvalidTopicException, InvalidUpdateVersion,
    NotController, PolicyViolation, PreferredLeaderNotAvailable, StaleBrokerEpoch, TopicAlreadyExists, UnknownTopicId,
    UnknownTopicOrPartition, UnsupportedVersion,
};
use crate::ids::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionId, ProducerId, TopicId};
use crate::metadata::config::effective::ConfigSource;
use crate::metadata::image::{ConfigResource, ConfigResourceType};
use crate::metadata::records::MetadataRecord;

fn configured(name: &str, configs: &[(&str, Option<&str>)]) -> NewTopic {
    let owned = |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
    NewTopic {
        configs: configs.iter().map(owned).collect(),
        ..topic(name, 1, 1)
    }
}

#[test]
fn topics_are_refused_with_kafkas_words() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    cluster.create(topic("a.b", 1, 1)).unwrap();
    let long = NewTopic {
        partitions: 1,
        ..assigned("m", &[&[1]])
    };
    for (topic, code, message) in [
        (
            topic("t", 1, 3),
            InvalidReplicationFactor,
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because \
             only 1 broker(s) are registered or some brokers have all their log directories cordoned.",
        ),
        (
            topic("t", 1, 0),
            InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            topic("t", 0, 1),
            InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            topic("", 1, 1),
            InvalidTopicException,
            "Topic name is invalid: the empty string is not allowed",
        ),
        (
            topic("a_b", 1, 1),
            InvalidTopicException,
            "Topic 'a_b' collides with existing topic: a.b",
        ),
        (topic("a.b", 1, 1), TopicAlreadyExists, "Topic 'a.b' already exists."),
        (
            topic("__cluster_metadata", 1, 1),
            InvalidRequest,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ),
        (
            configured("t", &[("retention.ms", Some("-5"))]),
            InvalidConfig,
            "Invalid value -5 for configuration retention.ms: Value must be at least -1",
        ),
        (
            configured("t", &[("nope", Some("1"))]),
            InvalidConfig,
            "Unknown topic config name: nope",
        ),
        (
            configured("t", &[("retention.ms", None)]),
            InvalidConfig,
            "Null value not supported for topic configs: retention.ms",
        ),
        (
            long,
            InvalidRequest,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            assigned("m", &[&[5]]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes broker 5, but no such broker is registered.",
        ),
        (
            assigned("m", &[&[1, 1]]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            assigned("m", &[&[]]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes an empty replica list.",
        ),
    ] {
        assert_eq!(refusal(cluster.create(topic)), (code, message.to_owned()));
    }
    let huge = CreateTopics {
        topics: vec![topic("t", 9_000, 1), topic("u", 1_001, 1)],
        validate_only: false,
    };
    assert_eq!(refusal(cluster.run(huge)).0, PolicyViolation);
    let twice = CreateTopics {
        topics: vec![topic("t", 1, 1), topic("t", 1, 1), topic("u", 1, 1)],
        validate_only: true,
    };
    let reply = cluster.run(twice).unwrap();
    assert_eq!(
        refusal(reply[0].1.clone()),
        (InvalidRequest, "Duplicate topic name.".to_owned())
    );
    assert!(reply[1].1.is_ok() && reply.len() == 2);
    assert_eq!(cluster.image().topics.len(), 1, "nothing was created");
}

#[test]
fn a_topic_is_one_batch_with_its_settings_and_partitions() {
    let mut cluster = Cluster::with_brokers(3, &[("num.partitions", "2"), ("log.retention.hours", "1")]);
    let new = NewTopic {
        configs: vec![("max.message.bytes".to_owned(), Some("77".to_owned()))],
        ..topic("t", -1, 3)
    };
    let command = CreateTopics {
        topics: vec![new],
        validate_only: false,
    };
    let (records, reply) = cluster.evaluate(command).unwrap();
    let created = reply[0].1.clone().unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 3));
    let value = |name: &str| created.configs.iter().find(|config| config.0 == name).cloned().unwrap();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        value("max.message.bytes"),
        ("max.message.bytes", text("77"), ConfigSource::DynamicTopic)
    );
    assert_eq!(
        value("retention.ms"),
        ("retention.ms", text("3600000"), ConfigSource::StaticBroker)
    );
    assert_eq!(value("segment.bytes").2, ConfigSource::Default);
    assert!(matches!(
        records.as_slice(),
        [
            MetadataRecord::Topic(_),
            MetadataRecord::Config(_),
            MetadataRecord::Partition(_),
            MetadataRecord::Partition(_)
        ]
    ));
    let partition = cluster.partition("t", 0);
    assert_eq!(partition.leader, partition.replicas[0]);
    assert_eq!(partition.directories[0], directory(partition.leader).0);
    assert_eq!(created.id.0.get_version_num(), 4);

    let delete = |topics| DeleteTopics { topics };
    let by_name = Some("t".to_owned());
    let reply = cluster
        .run(delete(vec![
            (None, created.id),
            (by_name.clone(), TopicId::ZERO),
            (None, TopicId::ZERO),
        ]))
        .unwrap();
    let errors: Vec<_> = reply
        .iter()
        .map(|topic| topic.error.clone().map(|error| error.code))
        .collect();
    // Given by its id and by its name, it stays, as in Kafka.
    assert_eq!(errors, [Some(InvalidRequest), Some(InvalidRequest)]);
    assert!(!cluster.image().topics.is_empty());
    assert_eq!(cluster.run(delete(vec![(None, created.id)])).unwrap()[0].error, None);
    assert!(cluster.image().topics.is_empty() && cluster.image().configs.is_empty());
    let reply = cluster
        .run(delete(vec![(by_name, TopicId::ZERO), (None, created.id)]))
        .unwrap();
    let errors: Vec<_> = reply
        .iter()
        .map(|topic| topic.error.clone().map(|error| error.code))
        .collect();
    assert_eq!(errors, [Some(UnknownTopicId), Some(UnknownTopicOrPartition)]);
}

#[test]
fn partitions_only_grow() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    cluster.create(topic("t", 3, 1)).unwrap();
    let mut grow = |count, assignments: Option<&[&[i32]]>| {
        let replicas = |replicas: &&[i32]| replicas.iter().copied().map(BrokerId).collect();
        let topics = vec![MorePartitions {
            name: "t".to_owned(),
            count,
            assignments: assignments.map(|assignments| assignments.iter().map(replicas).collect()),
        }];
        let command = CreatePartitions {
            topics,
            validate_only: false,
        };
        cluster.run(command).unwrap().remove(0).1
    };
    let invalid = |message: &str| (InvalidPartitions, message.to_owned());
    assert_eq!(refusal(grow(3, None)), invalid("Topic already has 3 partition(s)."));
    assert_eq!(
        refusal(grow(2, None)),
        invalid("The topic t currently has 3 partition(s); 2 would not be an increase.")
    );
    assert_eq!(
        refusal(grow(5, Some(&[&[1]]))).1,
        "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified."
    );
    assert_eq!(
        refusal(grow(4, Some(&[&[1, 2]]))).1,
        "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent with \
         previous partitions, which have 1 replica(s)."
    );
    assert_eq!(grow(5, Some(&[&[2], &[1]])), Ok(()));
    assert_eq!(cluster.partition("t", 3).replicas, [2]);
    assert_eq!(cluster.partition("t", 4).leader, 1);
}

#[test]
fn a_session_ends_and_another_replica_leads() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    cluster.create(assigned("t", &[&[1, 2]])).unwrap();
    cluster.create(assigned("u", &[&[1]])).unwrap();
    let first = cluster.controller.next_deadline().unwrap();
    assert_eq!(first.ms_since(cluster.now), 9_000);
    cluster.now = cluster.now.plus_ms(5_000);
    cluster.run(cluster.heartbeat(2)).unwrap();
    cluster.now = first;
    assert_eq!(cluster.run(FenceExpired), Ok(Some(BrokerId(1))));
    assert_eq!(cluster.run(FenceExpired), Ok(None));
    let (led, lost) = (cluster.partition("t", 0), cluster.partition("u", 0));
    assert_eq!(
        (led.leader, led.leader_epoch, led.isr.as_slice()),
        (2, 1, [2].as_slice())
    );
    assert_eq!(
        (lost.leader, lost.leader_epoch, lost.isr.as_slice()),
        (-1, 1, [1].as_slice())
    );

    // Back with the same epoch, it leads what only it can lead.
    let reply = cluster.run(cluster.heartbeat(1)).unwrap();
    assert!(reply.is_caught_up && !reply.is_fenced);
    assert_eq!(cluster.partition("u", 0).leader, 1);
    assert_eq!(cluster.partition("t", 0).leader, 2);
    // Leadership returns to the preferred replica once that is in sync.
    assert_eq!(cluster.run(BalanceLeaders), Ok(false));
    assert_eq!(cluster.partition("t", 0).leader, 2);
    propose(&mut cluster, 2, "t", 0, &[2, 1]).unwrap();
    cluster.run(BalanceLeaders).unwrap();
    assert_eq!(cluster.partition("t", 0).leader, 1);
}

fn propose(cluster: &mut Cluster, broker: i32, topic: &str, id: i32, isr: &[i32]) -> Result<i32, ErrorCode> {
    let partition = cluster.partition(topic, id);
    let proposal = IsrProposal {
        topic_id: TopicId(partition.topic_id),
        partition: PartitionId(id),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        isr: isr
            .iter()
            .map(|member| (BrokerId(*member), cluster.epoch(*member)))
            .collect(),
        is_recovering: false,
        partition_epoch: PartitionEpoch(partition.partition_epoch),
    };
    propose_exactly(cluster, broker, proposal)
}

fn propose_exactly(cluster: &mut Cluster, broker: i32, proposal: IsrProposal) -> Result<i32, ErrorCode> {
    let command = AlterPartition {
        broker: BrokerId(broker),
        broker_epoch: cluster.epoch(broker),
        partitions: vec![proposal],
    };
    let altered = cluster.run(command).unwrap().remove(0)?;
    Ok(altered.partition_epoch.0)
}

#[test]
fn a_leader_changes_its_isr_and_nobody_else_does() {
    let mut cluster = Cluster::with_brokers(3, &[]);
    cluster.create(assigned("t", &[&[1, 2]])).unwrap();
    assert_eq!(propose(&mut cluster, 1, "t", 0, &[1]), Ok(1));
    assert_eq!(propose(&mut cluster, 1, "t", 0, &[1]), Ok(1), "nothing changes");
    assert_eq!(propose(&mut cluster, 2, "t", 0, &[1, 2]), Err(InvalidRequest));
    assert_eq!(
        propose(&mut cluster, 1, "t", 0, &[2]),
        Err(InvalidRequest),
        "without the leader"
    );
    assert_eq!(
        propose(&mut cluster, 1, "t", 0, &[1, 3]),
        Err(InvalidRequest),
        "not a replica"
    );
    let partition = cluster.partition("t", 0);
    let proposal = |leader_epoch, partition_epoch, epoch| IsrProposal {
        topic_id: TopicId(partition.topic_id),
        partition: PartitionId(0),
        leader_epoch: LeaderEpoch(leader_epoch),
        isr: vec![(BrokerId(1), BrokerEpoch(-1)), (BrokerId(2), BrokerEpoch(epoch))],
        is_recovering: false,
        partition_epoch: PartitionEpoch(partition_epoch),
    };
    for (proposal, code) in [
        (proposal(9, 1, -1), NotController),
        (proposal(0, 9, -1), NotController),
        (proposal(-1, 1, -1), FencedLeaderEpoch),
        (proposal(0, 0, -1), InvalidUpdateVersion),
        (proposal(0, 1, 3), IneligibleReplica),
    ] {
        assert_eq!(propose_exactly(&mut cluster, 1, proposal), Err(code));
    }
    let stop = BrokerHeartbeat {
        want_fence: true,
        ..cluster.heartbeat(2)
    };
    cluster.run(stop).unwrap();
    assert_eq!(
        propose(&mut cluster, 1, "t", 0, &[1, 2]),
        Err(IneligibleReplica),
        "fenced"
    );
}

#[test]
fn a_broker_moves_its_leaders_before_it_stops() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    cluster.create(assigned("t", &[&[1, 2]])).unwrap();
    let stop = |cluster: &Cluster| BrokerHeartbeat {
        want_shutdown: true,
        ..cluster.heartbeat(1)
    };
    let reply = cluster.run(stop(&cluster)).unwrap();
    assert!(!reply.should_shut_down && !reply.is_fenced);
    assert_eq!(cluster.partition("t", 0).leader, 2);
    let reply = cluster.run(stop(&cluster)).unwrap();
    assert!(!reply.should_shut_down, "broker 2 does not know yet");
    cluster.run(cluster.heartbeat(2)).unwrap();
    let reply = cluster.run(stop(&cluster)).unwrap();
    assert!(reply.should_shut_down && reply.is_fenced);
    assert!(cluster.image().broker(BrokerId(1)).unwrap().fenced);
}

#[test]
fn unclean_elections_happen_only_where_they_are_allowed() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    let unclean = NewTopic {
        configs: vec![("unclean.leader.election.enable".to_owned(), Some("true".to_owned()))],
        ..assigned("unclean", &[&[1, 2], &[1, 2]])
    };
    cluster.create(unclean).unwrap();
    cluster.create(assigned("clean", &[&[1, 2]])).unwrap();
    propose(&mut cluster, 1, "unclean", 0, &[1]).unwrap();
    propose(&mut cluster, 1, "clean", 0, &[1]).unwrap();
    let early = FenceEarly {
        broker: BrokerId(1),
        broker_epoch: cluster.epoch(1),
    };
    cluster.run(early).unwrap();
    assert_eq!(cluster.partition("unclean", 0).leader, -1, "fenced early");
    assert_eq!(cluster.partition("unclean", 1).leader, 2, "cleanly");
    assert_eq!(cluster.partition("clean", 0).leader, -1);
    cluster.run(super::isr::ElectUncleanLeaders).unwrap();
    let partition = cluster.partition("unclean", 0);
    assert_eq!((partition.leader, partition.leader_recovery_state), (2, 1));
    assert_eq!(partition.isr, [2]);
    assert_eq!(cluster.partition("clean", 0).leader, -1);
    let elect = |unclean| ElectLeaders {
        unclean,
        partitions: Some(vec![("clean".to_owned(), PartitionId(0))]),
    };
    let code = |reply: Vec<super::isr::Elected>| reply[0].2.clone().map(|error| error.code);
    assert_eq!(
        code(cluster.run(elect(false)).unwrap()),
        Some(PreferredLeaderNotAvailable)
    );
    assert_eq!(code(cluster.run(elect(true)).unwrap()), None);
    assert_eq!(code(cluster.run(elect(true)).unwrap()), Some(ElectionNotNeeded));
}

#[test]
fn a_broker_registers_once_at_a_time() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    let epoch = cluster.epoch(1);
    let mut other = cluster.registration(1, 7);
    assert_eq!(refusal(cluster.run(other.clone())).0, DuplicateBrokerRegistration);
    other.cluster_id = "elsewhere".to_owned();
    assert_eq!(
        refusal(cluster.run(other)),
        (
            InconsistentClusterId,
            "Expected cluster ID MkU3OEVBNTcwNTJENDM2Qg, but got cluster ID elsewhere".to_owned()
        )
    );
    let mut taken = cluster.registration(3, 8);
    taken.log_directories = vec![directory(1)];
    assert_eq!(refusal(cluster.run(taken)).0, InvalidRegistration);
    let mut old = cluster.registration(3, 8);
    old.features
        .iter_mut()
        .for_each(|feature| feature.max_supported_version = 29);
    assert_eq!(
        refusal(cluster.run(old)),
        (
            UnsupportedVersion,
            "Unable to register because the broker does not support finalized version 30 of metadata.version. The broker \
             wants a version between 7 and 29, inclusive."
                .to_owned()
        )
    );
    // The same life changes its registration and keeps its epoch; the next has a higher one and is fenced.
    let incarnation = cluster.image().broker(BrokerId(1)).unwrap().incarnation_id.as_u128();
    let same = cluster.registration(1, incarnation);
    assert_eq!(cluster.run(same), Ok(epoch));
    assert!(!cluster.image().broker(BrokerId(1)).unwrap().fenced);
    cluster.create(assigned("t", &[&[1, 2]])).unwrap();
    cluster.now = cluster.now.plus_ms(9_001);
    let next = cluster.registration(1, 7);
    assert!(cluster.run(next).unwrap() > epoch);
    assert!(cluster.image().broker(BrokerId(1)).unwrap().fenced);
    assert_eq!(cluster.partition("t", 0).isr, [2]);
    let stale = BrokerHeartbeat {
        broker_epoch: epoch,
        ..cluster.heartbeat(1)
    };
    assert_eq!(refusal(cluster.run(stale)).0, StaleBrokerEpoch);
    cluster.run(UnregisterBroker { broker: BrokerId(1) }).unwrap();
    assert_eq!(
        refusal(cluster.run(UnregisterBroker { broker: BrokerId(1) })),
        (
            BrokerIdNotRegistered,
            "Broker ID 1 is not currently registered".to_owned()
        )
    );
}

#[test]
fn a_failed_directory_takes_its_replicas_out_of_service() {
    let mut cluster = Cluster::with_brokers(2, &[]);
    let second = DirectoryId(uuid::Uuid::from_u128(5000));
    let incarnation = cluster.image().broker(BrokerId(1)).unwrap().incarnation_id.as_u128();
    let mut two = cluster.registration(1, incarnation);
    two.log_directories.push(second);
    cluster.run(two).unwrap();
    let topic_id = cluster.create(assigned("t", &[&[1, 2], &[1, 2]])).unwrap().id;
    assert_eq!(cluster.partition("t", 0).directory(1), Some(DirectoryId::UNASSIGNED));
    let assign = AssignReplicasToDirs {
        broker: BrokerId(1),
        broker_epoch: cluster.epoch(1),
        assignments: vec![
            (directory(1), topic_id, PartitionId(0)),
            (second, topic_id, PartitionId(1)),
            (second, topic_id, PartitionId(2)),
        ],
    };
    let codes = vec![ErrorCode::None, ErrorCode::None, UnknownTopicOrPartition];
    assert_eq!(cluster.run(assign), Ok(codes));
    let failed = BrokerHeartbeat {
        offline_directories: vec![second],
        ..cluster.heartbeat(1)
    };
    cluster.run(failed).unwrap();
    assert_eq!(cluster.partition("t", 0).leader, 1);
    assert_eq!(
        (cluster.partition("t", 1).leader, &cluster.partition("t", 1).isr),
        (2, &vec![2])
    );
    assert_eq!(cluster.image().broker(BrokerId(1)).unwrap().log_dirs, [directory(1).0]);
}

fn alter(resource: ConfigResource, ops: &[(&str, ConfigOp, Option<&str>)]) -> AlterConfigs {
    let owned =
        |(name, op, value): &(&str, ConfigOp, Option<&str>)| ((*name).to_owned(), *op, value.map(str::to_owned));
    AlterConfigs {
        changes: vec![ConfigChange {
            resource_type: resource.kind.number(),
            resource,
            ops: ops.iter().map(owned).collect(),
        }],
        replaces_all: false,
        validate_only: false,
        received_by: Some(BrokerId(1)),
    }
}

#[test]
fn settings_change_as_a_whole_or_not_at_all() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    cluster.create(topic("t", 1, 1)).unwrap();
    let t = || ConfigResource::topic("t");
    let mut run = |command: AlterConfigs| cluster.run(command).unwrap().remove(0).1;
    for (command, code, message) in [
        (
            alter(t(), &[("retention.ms", ConfigOp::Append, Some("1"))]),
            InvalidConfig,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (
            alter(t(), &[("retention.ms", ConfigOp::Set, None)]),
            InvalidRequest,
            "Null value not supported for : retention.ms",
        ),
        (
            alter(
                ConfigResource::topic("u"),
                &[("retention.ms", ConfigOp::Set, Some("1"))],
            ),
            UnknownTopicOrPartition,
            "The topic 'u' does not exist.",
        ),
        (
            alter(ConfigResource::broker(BrokerId(2)), &[]),
            InvalidRequest,
            "Unexpected broker id, expected 1, but received 2",
        ),
        (
            alter(
                ConfigResource::cluster_default(),
                &[("num.partitions", ConfigOp::Set, Some("3"))],
            ),
            InvalidRequest,
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        (
            alter(
                ConfigResource::new(ConfigResourceType::Group, ""),
                &[("consumer.session.timeout.ms", ConfigOp::Set, Some("50000"))],
            ),
            InvalidRequest,
            "Default group resources are not allowed.",
        ),
        (
            alter(
                ConfigResource::new(ConfigResourceType::Group, "g"),
                &[("consumer.session.timeout.ms", ConfigOp::Append, Some("50000"))],
            ),
            InvalidConfig,
            "Can't APPEND to key consumer.session.timeout.ms because its type is not LIST.",
        ),
        (
            alter(
                ConfigResource::new(ConfigResourceType::Group, "g"),
                &[("consumer.session.timeout.ms", ConfigOp::Set, Some("60001"))],
            ),
            InvalidConfig,
            "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
        ),
        (
            alter(ConfigResource::new(ConfigResourceType::Unknown, "x"), &[]),
            InvalidRequest,
            "Unknown resource type 0",
        ),
    ] {
        assert_eq!(refusal(run(command)), (code, message.to_owned()));
    }
    let good = [
        ("cleanup.policy", ConfigOp::Append, Some("compact")),
        ("retention.ms", ConfigOp::Set, Some("5")),
    ];
    run(alter(t(), &good)).unwrap();
    let bad = [
        ("retention.ms", ConfigOp::Set, Some("6")),
        ("segment.ms", ConfigOp::Set, Some("0")),
    ];
    assert_eq!(refusal(run(alter(t(), &bad))).0, InvalidConfig);
    run(alter(
        ConfigResource::cluster_default(),
        &[("log.retention.ms", ConfigOp::Set, Some("9"))],
    ))
    .unwrap();
    let text = |value: &str| value.to_owned();
    let configs = |cluster: &Cluster| cluster.image().config(&t()).cloned().unwrap_or_default();
    assert_eq!(
        configs(&cluster).into_iter().collect::<Vec<_>>(),
        [
            (text("cleanup.policy"), text("delete,compact")),
            (text("retention.ms"), text("5"))
        ]
    );
    let all = AlterConfigs {
        replaces_all: true,
        ..alter(t(), &[("segment.ms", ConfigOp::Set, Some("7"))])
    };
    cluster.run(all).unwrap().remove(0).1.unwrap();
    assert_eq!(
        configs(&cluster).into_iter().collect::<Vec<_>>(),
        [(text("segment.ms"), text("7"))]
    );
    cluster
        .run(alter(t(), &[("segment.ms", ConfigOp::Delete, None)]))
        .unwrap();
    assert!(configs(&cluster).is_empty());
}

#[test]
fn a_group_that_is_not_there_yet_has_settings() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let group = || ConfigResource::new(ConfigResourceType::Group, "g");
    let name = "consumer.session.timeout.ms";
    let mut run = |op, value| {
        let changed = cluster.run(alter(group(), &[(name, op, value)])).unwrap().remove(0).1;
        changed.unwrap();
        let configs = cluster.committed.image().config(&group());
        configs.and_then(|configs| configs.get(name).cloned())
    };
    assert_eq!(run(ConfigOp::Set, Some("50000")).as_deref(), Some("50000"));
    assert_eq!(run(ConfigOp::Delete, None), None);
    assert!(cluster.committed.image().config(&group()).is_none());
}

#[test]
fn features_go_up_when_everyone_can() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let elr = "eligible.leader.replicas.version";
    let mut update = |name: &str, level, upgrade_type| {
        let updates = vec![FeatureUpdate {
            name: name.to_owned(),
            level,
            upgrade_type,
        }];
        let command = UpdateFeatures {
            updates,
            validate_only: false,
        };
        cluster.run(command)
    };
    let prefix = "The update failed for all features since the following feature had an error: ";
    for (name, level, upgrade_type, message) in [
        (
            "share.version",
            1,
            UpgradeType::Upgrade,
            "Invalid update version 1 for feature share.version. Local controller 1 does not support this feature.",
        ),
        (
            elr,
            2,
            UpgradeType::Upgrade,
            "Invalid update version 2 for feature eligible.leader.replicas.version. Local controller 1 only supports \
             versions 0-1",
        ),
        (
            "metadata.version",
            29,
            UpgradeType::SafeDowngrade,
            "Unsupported metadata.version downgrade from 30 to 29. Refusing to perform the requested downgrade because \
             it might delete metadata information.",
        ),
    ] {
        let refused = refusal(update(name, level, upgrade_type));
        assert_eq!(refused, (InvalidUpdateVersion, format!("{prefix}{message}")));
    }
    update(elr, 1, UpgradeType::Upgrade).unwrap();
    assert_eq!(cluster.image().feature(elr), 1);
    let default = cluster.image().config(&ConfigResource::cluster_default()).unwrap();
    assert_eq!(default.get("min.insync.replicas").map(String::as_str), Some("1"));
    let per_broker = [("min.insync.replicas", ConfigOp::Set, Some("2"))];
    let refused = cluster
        .run(alter(ConfigResource::broker(BrokerId(1)), &per_broker))
        .unwrap()
        .remove(0)
        .1;
    assert_eq!(refusal(refused).0, InvalidConfig);
}

#[test]
fn nobody_is_given_a_producer_id_twice() {
    let mut cluster = Cluster::with_brokers(1, &[]);
    let mut block = |epoch| {
        cluster.run(AllocateProducerIds {
            broker: BrokerId(1),
            broker_epoch: epoch,
        })
    };
    let (epoch, of) = (BrokerEpoch(4), |first| ProducerIdBlock {
        first: ProducerId(first),
        count: 1000,
    });
    assert_eq!(block(epoch), Ok(of(0)));
    assert_eq!(block(epoch), Ok(of(1000)));
    assert_eq!(refusal(block(BrokerEpoch(2))).0, StaleBrokerEpoch);
}
