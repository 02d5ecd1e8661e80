use super::*;
use crate::error::ErrorCode;
use crate::groups::records::*;

fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> ErrorCode {
    result.unwrap_err().code
}

fn names(records: &[GroupRecord]) -> Vec<&'static str> {
    records
        .iter()
        .map(|record| record.name().strip_prefix("ConsumerGroup").unwrap())
        .collect()
}

/// A rig with `foo` of six partitions.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.set_topic("foo", 6);
    rig
}

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut rig = rig();
    let reply = rig.heartbeat(&join("a", &["foo", "missing"])).unwrap();
    assert_eq!(
        reply,
        ConsumerGroupHeartbeatReply {
            member_id: "a".into(),
            member_epoch: 2,
            heartbeat_interval_ms: 5_000,
            assignment: Some(assignment(&[("foo", &[0, 1, 2, 3, 4, 5])])),
        }
    );
    assert_eq!(
        names(&rig.written),
        [
            "MemberMetadata",
            "Metadata",
            "TargetAssignmentMember",
            "TargetAssignmentMetadata",
            "CurrentMemberAssignment"
        ]
    );
    assert_eq!(rig.state(), "Stable");

    let reply = rig.heartbeat(&alive("a", 2)).unwrap();
    assert_eq!(reply.assignment, None);
    assert_eq!(rig.written, []);
    let reply = rig.heartbeat(&ConsumerGroupHeartbeat {
        member_epoch: 2,
        ..join("a", &["foo", "missing"])
    });
    assert!(
        reply.unwrap().assignment.is_some(),
        "a full request asks for the assignment"
    );
    assert_eq!(rig.written, []);
}

#[test]
fn operators_are_told_what_the_group_does() {
    let mut rig = rig();
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    rig.heartbeat(&alive("a", 2)).unwrap();
    let told = |rig: &mut Rig| {
        std::mem::take(&mut rig.news)
            .iter()
            .map(News::to_string)
            .collect::<Vec<_>>()
    };
    let expected = [
        "member a joined (consumer protocol)",
        "group epoch 2: members subscribe to something else",
        "target assignment of epoch 2 for 1 members by uniform",
    ];
    assert_eq!(told(&mut rig), expected);
    // What does not come to pass is not told.
    rig.settings.record_max_bytes = 10;
    rig.heartbeat(&join("b", &["foo"])).unwrap_err();
    assert_eq!(rig.news, []);
    rig.settings.record_max_bytes = 1 << 20;
    rig.pass_ms(45_000);
    let expected = [
        "removed a: silent for longer than the session timeout",
        "group epoch 3: members are gone",
    ];
    assert_eq!(told(&mut rig), expected);
}

#[test]
fn a_partition_moves_once_its_owner_gave_it_up() {
    let mut rig = rig();
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    let reply = rig.heartbeat(&join("b", &["foo"])).unwrap();
    assert_eq!((reply.member_epoch, reply.assignment), (3, Some(vec![])));
    assert!(reply.heartbeat_interval_ms < 5_000, "it waits for partitions");
    assert_eq!(rig.state(), "Reconciling");

    // The owner is asked to give up, and stays in its epoch until it did.
    let reply = rig.heartbeat(&owning("a", 2, &[("foo", &[0, 1, 2, 3, 4, 5])])).unwrap();
    assert_eq!(
        (reply.member_epoch, reply.assignment),
        (2, Some(assignment(&[("foo", &[0, 1, 2])])))
    );
    let reply = rig.heartbeat(&alive("b", 3)).unwrap();
    assert_eq!(reply.assignment, None);
    let reply = rig.heartbeat(&owning("a", 2, &[("foo", &[0, 1, 2, 5])])).unwrap();
    assert_eq!((reply.member_epoch, reply.assignment), (2, None));
    let reply = rig.heartbeat(&owning("a", 2, &[("foo", &[0, 1, 2])])).unwrap();
    assert_eq!((reply.member_epoch, reply.assignment), (3, None));

    let reply = rig.heartbeat(&alive("b", 3)).unwrap();
    assert_eq!(
        (reply.member_epoch, reply.assignment),
        (3, Some(assignment(&[("foo", &[3, 4, 5])])))
    );
    assert_eq!(reply.heartbeat_interval_ms, 5_000);
    assert_eq!(rig.state(), "Stable");
    rig.check_replay();
}

#[test]
fn who_does_not_give_up_in_time_or_is_silent_is_taken_out() {
    let mut rig = rig();
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    rig.heartbeat(&join("b", &["foo"])).unwrap();
    rig.heartbeat(&alive("a", 2)).unwrap();
    // Both send heartbeats, but a gives nothing up.
    for _ in 0..11 {
        rig.pass_ms(5_000);
        rig.heartbeat(&alive("a", 2)).unwrap();
        rig.heartbeat(&alive("b", 3)).unwrap();
    }
    rig.pass_ms(5_000);
    assert_eq!(code(rig.heartbeat(&alive("a", 2))), ErrorCode::UnknownMemberId);
    let reply = rig.heartbeat(&alive("b", 3)).unwrap();
    assert_eq!(reply.assignment, Some(assignment(&[("foo", &[0, 1, 2, 3, 4, 5])])));

    rig.pass_ms(45_000);
    assert_eq!(rig.state(), "Empty");
    assert_eq!(
        names(&rig.written),
        [
            "CurrentMemberAssignment",
            "TargetAssignmentMember",
            "MemberMetadata",
            "Metadata"
        ]
    );
    rig.check_replay();
}

#[test]
fn a_member_that_leaves_leaves_its_partitions_to_the_others() {
    let mut rig = rig();
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    rig.heartbeat(&join("b", &["foo"])).unwrap();
    let reply = rig.heartbeat(&alive("a", -1)).unwrap();
    assert_eq!((reply.member_epoch, reply.heartbeat_interval_ms), (-1, 0));
    let reply = rig.heartbeat(&alive("b", 3)).unwrap();
    assert_eq!(
        (reply.member_epoch, reply.assignment),
        (4, Some(assignment(&[("foo", &[0, 1, 2, 3, 4, 5])])))
    );
    assert_eq!(code(rig.heartbeat(&alive("a", -1))), ErrorCode::UnknownMemberId);
}

#[test]
fn epochs_fence() {
    let mut rig = rig();
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    rig.heartbeat(&join("a", &["foo", "bar"])).unwrap();
    let error = rig.heartbeat(&alive("a", 4)).unwrap_err();
    assert_eq!(error.code, ErrorCode::FencedMemberEpoch);
    assert!(
        error
            .message
            .unwrap()
            .starts_with("The consumer group member has a greater member epoch (4)")
    );
    assert_eq!(code(rig.heartbeat(&alive("a", 1))), ErrorCode::FencedMemberEpoch);
    // The epoch before is good for one who has nothing else: the answer may have been lost.
    assert_eq!(code(rig.heartbeat(&alive("a", 2))), ErrorCode::FencedMemberEpoch);
    assert_eq!(
        code(rig.heartbeat(&owning("a", 2, &[("foo", &[9])]))),
        ErrorCode::FencedMemberEpoch
    );
    let reply = rig.heartbeat(&owning("a", 2, &[("foo", &[0])])).unwrap();
    assert_eq!(reply.member_epoch, 3);
    assert_eq!(code(rig.heartbeat(&alive("b", 3))), ErrorCode::UnknownMemberId);
}

#[test]
fn one_assignment_serves_all_who_join_within_the_interval() {
    let mut rig = rig();
    rig.settings.consumer_assignment_interval_ms.default = 1_000;
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    rig.pass_ms(400);
    for member_id in ["b", "c", "d"] {
        let reply = rig.heartbeat(&join(member_id, &["foo"])).unwrap();
        assert_eq!((reply.member_epoch, reply.assignment), (2, Some(vec![])));
        assert_eq!(reply.heartbeat_interval_ms, 601, "it comes when there is an assignment");
    }
    assert_eq!(rig.state(), "Assigning");
    let targets = |rig: &Rig| {
        let is_target = |record: &&GroupRecord| record.name() == "ConsumerGroupTargetAssignmentMetadata";
        rig.log.iter().filter(is_target).count()
    };
    assert_eq!(targets(&rig), 1);
    rig.pass_ms(600);
    assert_eq!((targets(&rig), rig.state()), (2, "Reconciling"));
    let reply = rig.heartbeat(&owning("a", 2, &[("foo", &[0, 1, 2, 3, 4, 5])])).unwrap();
    assert_eq!(reply.assignment, Some(assignment(&[("foo", &[0, 1])])));
    assert_eq!(targets(&rig), 2);
}

#[test]
fn a_group_has_its_limit() {
    let mut rig = rig();
    rig.settings.consumer_max_size = 1;
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    assert_eq!(
        code(rig.heartbeat(&join("b", &["foo"]))),
        ErrorCode::GroupMaxSizeReached
    );
    rig.heartbeat(&join("a", &["foo"])).unwrap();
}

#[test]
fn a_record_that_the_log_would_not_take_is_not_written() {
    let mut rig = rig();
    rig.settings.record_max_bytes = 1_000;
    let long = "x".repeat(900);
    let error = rig.heartbeat(&join("a", &["foo", &long])).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownServerError);
    assert_eq!(rig.written, []);
    rig.heartbeat(&join("a", &["foo"])).unwrap();
}

#[test]
fn topics_that_are_created_grow_or_go_are_noticed() {
    let mut rig = rig();
    rig.heartbeat(&join("a", &["foo", "bar"])).unwrap();
    rig.set_topic("other", 3);
    rig.heartbeat(&alive("a", 2)).unwrap();
    assert_eq!(rig.written, [], "not subscribed to");

    rig.set_topic("bar", 1);
    let reply = rig.heartbeat(&alive("a", 2)).unwrap();
    let all = [("foo", &[0, 1, 2, 3, 4, 5][..]), ("bar", &[0])];
    assert_eq!((reply.member_epoch, reply.assignment), (3, Some(assignment(&all))));
    rig.set_topic("bar", 2);
    let reply = rig.heartbeat(&alive("a", 3)).unwrap();
    assert_eq!((reply.member_epoch, reply.assignment.unwrap()[0].1.len()), (4, 2));

    rig.delete_topic("foo");
    let reply = rig
        .heartbeat(&owning("a", 4, &[("foo", &[0, 1, 2, 3, 4, 5]), ("bar", &[0, 1])]))
        .unwrap();
    assert_eq!(
        (reply.member_epoch, reply.assignment),
        (4, Some(assignment(&[("bar", &[0, 1])])))
    );
    let reply = rig.heartbeat(&owning("a", 4, &[("bar", &[0, 1])])).unwrap();
    assert_eq!(reply.member_epoch, 5);
    // A coordinator that took over looks once.
    rig.fail_over();
    rig.heartbeat(&alive("a", 5)).unwrap();
    assert_eq!(rig.written, []);
}

#[test]
fn a_member_loses_what_it_does_not_subscribe_to_any_more() {
    let mut rig = rig();
    rig.set_topic("bar", 1);
    rig.settings.consumer_assignment_interval_ms.default = 1_000;
    rig.heartbeat(&join("a", &["foo", "bar"])).unwrap();
    // Before the next assignment is made.
    let request = ConsumerGroupHeartbeat {
        subscribed_topic_names: Some(vec!["bar".into()]),
        ..alive("a", 2)
    };
    let reply = rig.heartbeat(&request).unwrap();
    assert_eq!(
        (reply.member_epoch, reply.assignment),
        (2, Some(assignment(&[("bar", &[0])])))
    );
    assert_eq!(rig.group.state.target_epoch, 2);
    rig.pass_ms(1_000);
    let reply = rig.heartbeat(&owning("a", 2, &[("bar", &[0])])).unwrap();
    assert_eq!((reply.member_epoch, reply.assignment), (3, None));
}

#[test]
fn members_choose_the_assignor() {
    let mut rig = rig();
    rig.set_topic("bar", 3);
    let ranged = |member_id: &str| ConsumerGroupHeartbeat {
        server_assignor: Some("range".into()),
        ..join(member_id, &["foo", "bar"])
    };
    rig.heartbeat(&join("a", &["foo", "bar"])).unwrap();
    rig.heartbeat(&ranged("b")).unwrap();
    assert_eq!(
        rig.group.state.target["b"],
        partitions(&[("foo", &[3, 4, 5]), ("bar", &[2])])
    );
    assert_eq!(&*rig.group.describe(&rig.settings, &rig.image).assignor, "range");
    let unknown = ConsumerGroupHeartbeat {
        server_assignor: Some("mine".into()),
        ..join("c", &["foo"])
    };
    let error = rig.heartbeat(&unknown).unwrap_err();
    assert_eq!(
        error,
        ErrorCode::UnsupportedAssignor
            .with("ServerAssignor mine is not supported. Supported assignors: uniform, range.")
    );
}

#[test]
fn static_members_come_back_to_what_they_had() {
    let mut rig = rig();
    let with_instance = |request: ConsumerGroupHeartbeat, instance_id: &str| ConsumerGroupHeartbeat {
        instance_id: Some(instance_id.into()),
        ..request
    };
    rig.heartbeat(&with_instance(join("a", &["foo"]), "one")).unwrap();
    rig.heartbeat(&with_instance(join("b", &["foo"]), "two")).unwrap();
    rig.heartbeat(&with_instance(owning("a", 2, &[("foo", &[0, 1, 2])]), "one"))
        .unwrap();
    rig.heartbeat(&with_instance(owning("a", 2, &[("foo", &[0, 1, 2])]), "one"))
        .unwrap();
    rig.heartbeat(&with_instance(alive("b", 3), "two")).unwrap();
    assert_eq!(rig.state(), "Stable");

    let error = rig.heartbeat(&with_instance(join("c", &["foo"]), "one")).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnreleasedInstanceId);
    assert_eq!(
        code(rig.heartbeat(&with_instance(alive("c", 3), "one"))),
        ErrorCode::FencedInstanceId
    );
    assert_eq!(
        code(rig.heartbeat(&with_instance(alive("c", 3), "three"))),
        ErrorCode::UnknownMemberId
    );

    // It leaves for a while, nobody gets its partitions, and it comes back under another member id.
    let reply = rig.heartbeat(&with_instance(alive("a", -2), "one")).unwrap();
    assert_eq!((reply.member_epoch, &*reply.member_id), (-2, "a"));
    assert_eq!(names(&rig.written), ["CurrentMemberAssignment"]);
    rig.heartbeat(&with_instance(alive("b", 3), "two")).unwrap();
    let reply = rig.heartbeat(&with_instance(join("c", &["foo"]), "one")).unwrap();
    assert_eq!(
        (reply.member_epoch, reply.assignment),
        (3, Some(assignment(&[("foo", &[0, 1, 2])])))
    );
    assert_eq!(rig.group.state.epoch, 3, "no rebalance");
    assert_eq!(
        names(&rig.written),
        [
            "CurrentMemberAssignment",
            "TargetAssignmentMember",
            "MemberMetadata",
            "MemberMetadata",
            "TargetAssignmentMember",
            "CurrentMemberAssignment",
            "CurrentMemberAssignment",
        ]
    );
    assert_eq!(
        code(rig.heartbeat(&with_instance(alive("a", 3), "one"))),
        ErrorCode::FencedInstanceId
    );

    // One that does not come back within its session is taken out.
    rig.heartbeat(&with_instance(alive("c", -2), "one")).unwrap();
    for _ in 0..9 {
        rig.pass_ms(5_000);
        rig.heartbeat(&with_instance(
            alive("b", rig.group.state.members["b"].current.epoch),
            "two",
        ))
        .unwrap();
    }
    assert_eq!(rig.group.len(), 1);
    rig.check_replay();
}

#[test]
fn patterns_are_matched_and_matched_again() {
    let mut rig = rig();
    rig.set_topic("bar", 1);
    let by_pattern = |member_id: &str, pattern: &str| ConsumerGroupHeartbeat {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(pattern.into()),
        ..join(member_id, &[])
    };
    let error = rig.heartbeat(&by_pattern("a", "f(")).unwrap_err();
    assert_eq!(
        error,
        ErrorCode::InvalidRegularExpression
            .with("SubscribedTopicRegex `f(` is not a valid regular expression: missing closing ).")
    );
    let reply = rig.heartbeat(&by_pattern("a", "fo.*")).unwrap();
    assert_eq!((reply.member_epoch, reply.assignment), (1, Some(vec![])));
    assert_eq!(reply.heartbeat_interval_ms, 50);
    rig.pass_ms(50);
    let reply = rig.heartbeat(&alive("a", 1)).unwrap();
    assert_eq!(reply.assignment, Some(assignment(&[("foo", &[0, 1, 2, 3, 4, 5])])));
    assert!(rig.group.is_subscribed_to("foo"));

    // A new topic is found ten seconds after the patterns were matched.
    rig.set_topic("food", 1);
    rig.pass_ms(9_949);
    rig.heartbeat(&alive("a", 2)).unwrap();
    assert_eq!(rig.written, []);
    rig.pass_ms(1);
    let reply = rig.heartbeat(&alive("a", 2)).unwrap();
    assert_eq!((reply.member_epoch, reply.assignment.unwrap().len()), (3, 2));

    // A pattern whose topics are known needs no match.
    let reply = rig.heartbeat(&by_pattern("b", "fo.*")).unwrap();
    assert_eq!(reply.member_epoch, 4);
    // Nobody subscribes to it any more.
    rig.heartbeat(&alive("b", -1)).unwrap();
    assert!(!names(&rig.written).contains(&"RegularExpression"));
    let reply = rig.heartbeat(&ConsumerGroupHeartbeat {
        subscribed_topic_names: Some(vec!["bar".into()]),
        subscribed_topic_regex: Some("".into()),
        topic_partitions: Some(vec![]),
        ..alive("a", 3)
    });
    assert_eq!(reply.unwrap().assignment, Some(assignment(&[("bar", &[0])])));
    assert!(!rig.group.is_subscribed_to("foo"));
    assert_eq!(rig.group.state.resolved.len(), 0);
    rig.check_replay();
}

#[test]
fn patterns_are_matched_after_a_load() {
    let mut rig = rig();
    let request = ConsumerGroupHeartbeat {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some("fo.*".into()),
        ..join("a", &[])
    };
    rig.heartbeat(&request).unwrap();
    rig.fail_over();
    rig.pass_ms(0);
    assert_eq!(rig.group.state.resolved["fo.*"].topics.len(), 1);
    let matched_at = |rig: &Rig| rig.group.state.resolved["fo.*"].timestamp;
    let first = matched_at(&rig);
    rig.heartbeat(&alive("a", 1)).unwrap();
    for _ in 0..119 {
        rig.pass_ms(5_000);
        rig.heartbeat(&alive("a", 2)).unwrap();
    }
    assert_eq!(matched_at(&rig), first);
    rig.pass_ms(5_000);
    assert_eq!(matched_at(&rig), first + 600_000);
}

#[test]
fn wrong_requests_get_the_messages_of_kafka() {
    let settings = settings();
    let check = |request: ConsumerGroupHeartbeat| check_heartbeat(&settings, &request).unwrap_err().message.unwrap();
    let a = || join("a", &["foo"]);
    assert_eq!(check(join(" ", &[])), "MemberId can't be empty.");
    assert!(
        check_heartbeat(
            &settings,
            &ConsumerGroupHeartbeat {
                makes_member_id: false,
                ..join("", &[])
            }
        )
        .is_ok()
    );
    let without_id = ConsumerGroupHeartbeat {
        makes_member_id: false,
        ..alive("", -1)
    };
    assert_eq!(check(without_id), "MemberId can't be empty.");
    assert_eq!(
        check(ConsumerGroupHeartbeat {
            group_id: "".into(),
            ..a()
        }),
        "GroupId can't be empty."
    );
    let request = ConsumerGroupHeartbeat {
        instance_id: Some("".into()),
        ..a()
    };
    assert_eq!(check(request), "InstanceId can't be empty.");
    assert_eq!(
        check(ConsumerGroupHeartbeat {
            rack_id: Some("".into()),
            ..a()
        }),
        "RackId can't be empty."
    );
    let request = ConsumerGroupHeartbeat {
        rebalance_timeout_ms: -1,
        ..a()
    };
    assert_eq!(check(request), "RebalanceTimeoutMs must be provided in first request.");
    let request = ConsumerGroupHeartbeat {
        topic_partitions: None,
        ..a()
    };
    assert_eq!(check(request), "TopicPartitions must be empty when (re-)joining.");
    let request = ConsumerGroupHeartbeat {
        subscribed_topic_names: None,
        ..a()
    };
    assert_eq!(
        check(request),
        "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
    );
    assert_eq!(check(alive("a", -2)), "InstanceId can't be null.");
    assert_eq!(check(alive("a", -3)), "MemberEpoch is invalid.");
}

#[test]
fn the_group_makes_the_ids_of_old_clients() {
    let mut rig = rig();
    let reply = rig.heartbeat(&ConsumerGroupHeartbeat {
        makes_member_id: false,
        ..join("", &["foo"])
    });
    let member_id = reply.unwrap().member_id;
    assert_eq!(member_id.len(), 22);
    rig.heartbeat(&alive(&member_id, 2)).unwrap();
}

#[test]
fn records_of_older_coordinators_are_read() {
    let mut rig = rig();
    let key = || ConsumerGroupCurrentMemberAssignmentKey {
        group_id: GROUP.to_owned(),
        member_id: "a".to_owned(),
    };
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    let topic = |assignment_epochs| TopicPartitions {
        topic_id: topic_id("foo").0,
        partitions: vec![0, 1],
        assignment_epochs,
        unknown_tagged_fields: Vec::new(),
    };
    let record = |member_epoch, state, topic| {
        let value = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch,
            previous_member_epoch: 1,
            state,
            assigned_partitions: vec![topic],
            ..ConsumerGroupCurrentMemberAssignmentValue::default()
        };
        GroupRecord::ConsumerGroupCurrentMemberAssignment(key(), Some(value))
    };
    let epochs = |rig: &Rig| -> Vec<i32> {
        rig.group.state.members["a"].current.assigned[&topic_id("foo")]
            .values()
            .copied()
            .collect()
    };
    rig.group.apply(&record(7, 0, topic(None)));
    assert_eq!(epochs(&rig), [7, 7]);
    rig.group.apply(&record(-2, 0, topic(Some(vec![]))));
    assert_eq!(epochs(&rig), [0, 0]);
    rig.group.apply(&record(7, 0, topic(Some(vec![3, 4]))));
    assert_eq!(epochs(&rig), [3, 4]);

    // A state of the future: the member joins again.
    rig.group.apply(&record(2, 9, topic(None)));
    assert_eq!(code(rig.heartbeat(&alive("a", 2))), ErrorCode::FencedMemberEpoch);
    rig.heartbeat(&join("a", &["foo"])).unwrap();

    // The description of topics is replaced by the hash.
    let key = ConsumerGroupPartitionMetadataKey {
        group_id: GROUP.to_owned(),
    };
    let value = ConsumerGroupPartitionMetadataValue::default();
    rig.group
        .apply(&GroupRecord::ConsumerGroupPartitionMetadata(key, Some(value)));
    rig.heartbeat(&join("b", &["foo"])).unwrap();
    assert!(names(&rig.written).contains(&"PartitionMetadata"));
    rig.heartbeat(&join("c", &["foo"])).unwrap();
    assert!(!names(&rig.written).contains(&"PartitionMetadata"));
}

#[test]
fn a_deleted_group_leaves_nothing() {
    let mut rig = rig();
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    assert_eq!(rig.group.check_delete(), Err(ErrorCode::NonEmptyGroup));
    rig.heartbeat(&alive("a", -1)).unwrap();
    assert_eq!(rig.group.check_delete(), Ok(()));
    rig.step(|group, ctx| group.delete(ctx));
    assert_eq!(
        names(&rig.written),
        ["TargetAssignmentMetadata", "PartitionMetadata", "Metadata"]
    );
    assert_eq!(rig.timers.next(), None);
}

#[test]
fn the_group_is_shown() {
    let mut rig = rig();
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    rig.heartbeat(&join("b", &["foo"])).unwrap();
    rig.heartbeat(&alive("a", 2)).unwrap();
    let shown = rig.group.describe(&rig.settings, &rig.image);
    assert_eq!(
        (shown.state, shown.group_epoch, shown.assignment_epoch),
        ("Reconciling", 3, 3)
    );
    assert_eq!(&*shown.assignor, "uniform");
    let a = &shown.members[0];
    assert_eq!((&*a.member_id, a.member_epoch, a.member_type), ("a", 2, 1));
    let partitions = |numbers: &[i32]| numbers.iter().copied().map(PartitionId).collect::<Vec<_>>();
    let foo = |numbers: &[i32]| vec![(topic_id("foo"), Arc::from("foo"), partitions(numbers))];
    assert_eq!(
        a.assignment,
        foo(&[0, 1, 2, 3, 4, 5]),
        "it holds what it has to give up"
    );
    assert_eq!(a.target_assignment, foo(&[0, 1, 2]));
    assert_eq!(rig.group.listed().group_type, "consumer");
}

#[test]
fn members_commit_what_they_held_in_their_epochs() {
    use crate::groups::commands::OffsetCommit;
    let mut rig = rig();
    let commit = |member_id: &str, epoch| OffsetCommit {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: epoch,
        member_id: member_id.into(),
        group_instance_id: None,
        retention_time_ms: None,
        knows_member_epochs: true,
        topics: Vec::new(),
    };
    assert!(rig.group.check_commit(&commit("", -1)).is_ok(), "the group is empty");
    rig.heartbeat(&join("a", &["foo"])).unwrap();
    rig.set_topic("bar", 1);
    rig.heartbeat(&ConsumerGroupHeartbeat {
        subscribed_topic_names: Some(vec!["bar".into(), "foo".into()]),
        ..alive("a", 2)
    })
    .unwrap();
    assert_eq!(rig.group.state.members["a"].current.epoch, 3);
    let checked = |rig: &Rig, epoch, topic: &str| {
        let check = rig.group.check_commit(&commit("a", epoch))?;
        check.partition(topic_id(topic), PartitionId(0))
    };
    assert_eq!(checked(&rig, 3, "bar"), Ok(()));
    assert_eq!(checked(&rig, 2, "foo"), Ok(()));
    assert_eq!(
        checked(&rig, 2, "bar"),
        Err(ErrorCode::StaleMemberEpoch),
        "it did not have it then"
    );
    assert_eq!(checked(&rig, 1, "foo"), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(checked(&rig, 4, "foo"), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(
        rig.group.check_commit(&commit("", -1)).unwrap_err(),
        ErrorCode::UnknownMemberId
    );
    let old = OffsetCommit {
        knows_member_epochs: false,
        ..commit("a", 3)
    };
    assert_eq!(rig.group.check_commit(&old).unwrap_err(), ErrorCode::UnsupportedVersion);

    assert_eq!(rig.group.check_fetch(None, -1), Ok(()));
    assert_eq!(rig.group.check_fetch(Some("a"), 3), Ok(()));
    assert_eq!(rig.group.check_fetch(Some("a"), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(rig.group.check_fetch(Some("b"), 3), Err(ErrorCode::UnknownMemberId));
}
