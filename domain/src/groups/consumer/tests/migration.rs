use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::error::ErrorCode;
use crate::groups::classic::{CONSUMER_PROTOCOL_TYPE, Member, Protocols, Session};
use crate::groups::commands::{Heartbeat, JoinGroup, Joined, LeaveGroup, LeavingMember, SyncGroup, Synced};
use crate::groups::consumer_protocol::{MemberAssignment, by_id, write_assignment};
use crate::groups::events::Protocol;
use crate::record::primitives::PutPrimitives;

/// The metadata of a member in this version.
pub(super) fn subscription(version: i16, topics: &[&str], owned: &[(&str, &[i32])]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version);
    out.put_array_length(Some(topics.len()));
    for topic in topics {
        out.put_string(topic).unwrap();
    }
    out.put_i32(-1);
    if version >= 1 {
        out.put_array_length(Some(owned.len()));
        for (topic, partitions) in owned {
            out.put_string(topic).unwrap();
            out.put_array_length(Some(partitions.len()));
            partitions.iter().for_each(|partition| out.put_i32(*partition));
        }
    }
    if version >= 2 {
        out.put_i32(1);
    }
    if version >= 3 {
        out.put_nullable_string(Some("rack")).unwrap();
    }
    out.freeze()
}

pub(super) fn classic_join(member_id: &str, metadata: Bytes) -> JoinGroup {
    JoinGroup {
        group_id: GROUP.into(),
        member_id: member_id.into(),
        group_instance_id: None,
        client_id: "classic".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
        protocols: vec![("range".into(), metadata)],
        reason: None,
        requires_known_member_id: false,
        supports_skipping_assignment: true,
    }
}

pub(super) fn classic_sync(member_id: &str, generation_id: i32) -> SyncGroup {
    SyncGroup {
        group_id: GROUP.into(),
        generation_id,
        member_id: member_id.into(),
        group_instance_id: None,
        protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
        protocol_name: Some("range".into()),
        assignments: Vec::new(),
    }
}

pub(super) fn classic_alive(member_id: &str, generation_id: i32) -> Heartbeat {
    Heartbeat {
        group_id: GROUP.into(),
        generation_id,
        member_id: member_id.into(),
        group_instance_id: None,
    }
}

impl Rig {
    pub(super) fn classic_join(&mut self, request: &JoinGroup) -> Joined {
        self.step(|group, ctx| group.classic_join(ctx, request))
    }

    pub(super) fn classic_sync(&mut self, request: &SyncGroup) -> Synced {
        self.step(|group, ctx| group.classic_sync(ctx, request))
    }

    pub(super) fn classic_alive(&mut self, request: &Heartbeat) -> ErrorCode {
        self.step(|group, ctx| group.classic_heartbeat(ctx, request))
    }

    /// What a SyncGroup gave.
    pub(super) fn synced(&self, synced: &Synced) -> Partitions {
        assert_eq!(synced.error, ErrorCode::None);
        by_id(
            &MemberAssignment::read(&synced.assignment).unwrap().partitions,
            &self.image,
        )
    }

    /// Joins and syncs.
    fn rejoin(&mut self, member_id: &str, topics: &[&str], owned: &[(&str, &[i32])]) -> (i32, Partitions) {
        let joined = self.classic_join(&classic_join(member_id, subscription(3, topics, owned)));
        assert_eq!(joined.error, ErrorCode::None);
        let synced = self.classic_sync(&classic_sync(member_id, joined.generation_id));
        (joined.generation_id, self.synced(&synced))
    }

    /// A member of the consumer protocol joins this classic group.
    fn upgrade(
        &mut self,
        classic: &mut ClassicGroup,
        request: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatReply, ApiError> {
        self.step(|group, ctx| {
            let (upgraded, reply) = ConsumerGroup::upgrade(ctx, classic, request)?;
            *group = upgraded;
            Ok(reply)
        })
    }
}

/// A stable classic group of `a` and `b`, with three partitions of `foo` each.
fn classic_group(rig: &Rig) -> ClassicGroup {
    let member = |member_id: &str| Member {
        member_id: member_id.into(),
        group_instance_id: None,
        client_id: "classic".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 20_000,
        session_timeout_ms: 10_000,
        protocols: Protocols::new(&[("range".into(), subscription(1, &["foo"], &[]))]),
        assignment: Bytes::new(),
        session: Session::default(),
    };
    let members = [member("a"), member("b")];
    let mut group =
        ClassicGroup::from_members(GROUP.into(), rig.now, 7, CONSUMER_PROTOCOL_TYPE.into(), members).unwrap();
    group.assign(|member, _| {
        let numbers: &[i32] = if &*member.member_id == "a" {
            &[0, 1, 2]
        } else {
            &[3, 4, 5]
        };
        write_assignment(&partitions(&[("foo", numbers)]), 1, &rig.image).unwrap()
    });
    group
}

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.set_topic("foo", 6);
    rig
}

#[test]
fn a_classic_group_becomes_a_consumer_group_and_back() {
    let mut rig = rig();
    let mut classic = classic_group(&rig);
    let reply = rig.upgrade(&mut classic, &join("c", &["foo"])).unwrap();
    assert_eq!((reply.member_epoch, reply.assignment), (8, Some(vec![])));
    assert_eq!(rig.news.first(), Some(&News::Converted(Protocol::Consumer)));
    let names: Vec<_> = rig.written.iter().map(GroupRecord::name).collect();
    assert_eq!(
        names
            .iter()
            .map(|name| name.trim_start_matches("ConsumerGroup"))
            .collect::<Vec<_>>(),
        [
            // The classic group goes, its members come, then the new one.
            "GroupMetadata",
            "MemberMetadata",
            "MemberMetadata",
            "Metadata",
            "TargetAssignmentMember",
            "TargetAssignmentMember",
            "TargetAssignmentMetadata",
            "CurrentMemberAssignment",
            "CurrentMemberAssignment",
            "MemberMetadata",
            "Metadata",
            "TargetAssignmentMember",
            "TargetAssignmentMember",
            "TargetAssignmentMember",
            "TargetAssignmentMetadata",
            "CurrentMemberAssignment",
        ]
    );
    rig.check_replay();

    // The members of the classic protocol join again to give partitions up.
    assert_eq!(
        rig.classic_alive(&classic_alive("a", 7)),
        ErrorCode::RebalanceInProgress
    );
    assert_eq!(
        rig.classic_sync(&classic_sync("a", 7)).error,
        ErrorCode::RebalanceInProgress
    );
    let given = rig.rejoin("a", &["foo"], &[("foo", &[0, 1, 2])]);
    assert_eq!(given, (7, partitions(&[("foo", &[0, 1])])));
    assert_eq!(
        rig.classic_alive(&classic_alive("a", 7)),
        ErrorCode::RebalanceInProgress
    );
    assert_eq!(
        rig.rejoin("a", &["foo"], &[("foo", &[0, 1])]),
        (8, partitions(&[("foo", &[0, 1])]))
    );
    assert_eq!(rig.classic_alive(&classic_alive("a", 8)), ErrorCode::None);
    // An eager member has given everything up when it joins.
    assert_eq!(rig.rejoin("b", &["foo"], &[]), (8, partitions(&[("foo", &[3, 4])])));
    let reply = rig.heartbeat(&alive("c", 8)).unwrap();
    assert_eq!(reply.assignment, Some(assignment(&[("foo", &[2, 5])])));
    assert_eq!(rig.state(), "Stable");
    let shown = rig.group.describe(&rig.settings, &rig.image);
    assert_eq!(
        shown
            .members
            .iter()
            .map(|member| member.member_type)
            .collect::<Vec<_>>(),
        [0, 0, 1]
    );

    // With the last member of the consumer protocol the group becomes a classic one, and rebalances.
    rig.heartbeat(&alive("c", -1)).unwrap();
    assert!(rig.news.contains(&News::Converted(Protocol::Classic)), "{:?}", rig.news);
    let mut classic = rig.downgraded.take().unwrap();
    assert_eq!((classic.generation_id(), classic.state()), (8, "PreparingRebalance"));
    assert_eq!(classic.members().len(), 2);
    let assigned = &classic.members().get("a").unwrap().assignment;
    assert_eq!(
        by_id(&MemberAssignment::read(assigned).unwrap().partitions, &rig.image),
        partitions(&[("foo", &[0, 1])])
    );
    assert_eq!(
        rig.written.first().unwrap().name(),
        "ConsumerGroupCurrentMemberAssignment"
    );
    assert_eq!(rig.written.last().unwrap(), &classic.to_record());
    assert!(rig.group.is_empty());
    let heartbeat = rig.step(|_, ctx| classic.heartbeat(ctx, &classic_alive("a", 8)));
    assert_eq!(heartbeat, ErrorCode::RebalanceInProgress);
}

#[test]
fn members_that_wait_in_a_classic_group_are_told_to_join_again() {
    let mut rig = rig();
    let mut classic = ClassicGroup::new(GROUP.into(), rig.now);
    let request = classic_join("", subscription(0, &["foo"], &[]));
    rig.step(|_, ctx| classic.join(ctx, request, Token(1)));
    let reply = rig.upgrade(&mut classic, &join("c", &["foo"])).unwrap();
    assert_eq!(reply.assignment.unwrap()[0].1.len(), 3, "nobody had it yet");
    assert_eq!(rig.replies.len(), 1);
    assert!(
        matches!(&rig.replies[0], (Token(1), Reply::JoinGroup(joined)) if joined.error == ErrorCode::RebalanceInProgress)
    );
    assert_eq!(rig.group.len(), 2);
    // Who does not come back is taken out after its session.
    rig.pass_ms(10_000);
    assert_eq!(rig.group.len(), 1);
    rig.check_replay();
}

#[test]
fn an_empty_classic_group_is_replaced() {
    let mut rig = rig();
    let mut classic = ClassicGroup::new(GROUP.into(), rig.now);
    rig.settings.consumer_migration_policy.allows_upgrade = false;
    rig.upgrade(&mut classic, &join("c", &["foo"])).unwrap();
    assert_eq!(rig.written.first().unwrap().name(), "GroupMetadata");
    assert_eq!(rig.group.len(), 1);
}

#[test]
fn what_may_not_be_upgraded_stays_as_it_is() {
    let mut rig = rig();
    let mut refused = |classic: &mut ClassicGroup, change: &dyn Fn(&mut Rig)| {
        let settings = rig.settings.clone();
        change(&mut rig);
        let error = rig.upgrade(classic, &join("c", &["foo"])).unwrap_err();
        assert_eq!(
            (error.code, rig.written.len(), rig.timers.next()),
            (ErrorCode::GroupIdNotFound, 0, None)
        );
        let [News::NotConverted(_)] = std::mem::take(&mut rig.news)[..] else {
            panic!("nobody is told");
        };
        rig.settings = settings;
        error.message.unwrap()
    };
    let mut classic = classic_group(&self::rig());
    let begins = "Cannot upgrade classic group group to consumer group because ";
    let message = refused(&mut classic, &|rig| {
        rig.settings.consumer_migration_policy.allows_upgrade = false
    });
    assert_eq!(message, format!("{begins}online upgrade is disabled."));
    let message = refused(&mut classic, &|rig| rig.settings.consumer_max_size = 1);
    assert_eq!(
        message,
        format!("{begins}the group size exceeds the consumer group maximum size.")
    );
    classic.assign(|_, _| Bytes::from_static(&[0, 1, 0, 0]));
    let message = refused(&mut classic, &|_| {});
    assert_eq!(message, format!("{begins}the embedded consumer protocol is malformed."));
    classic.assign(|_, _| Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9]));
    let message = refused(&mut classic, &|_| {});
    assert!(message.starts_with(&format!("{begins}an unsupported custom assignor is in use.")));
    // The heartbeat itself is refused.
    let mut classic = classic_group(&rig);
    let request = ConsumerGroupHeartbeat {
        subscribed_topic_regex: Some("(".into()),
        ..join("c", &[])
    };
    let error = rig.upgrade(&mut classic, &request).unwrap_err();
    assert_eq!(
        (error.code, rig.written.len()),
        (ErrorCode::InvalidRegularExpression, 0)
    );
    assert_eq!(classic.state(), "Stable");
}

#[test]
fn a_leader_that_gave_a_partition_twice_is_corrected() {
    let mut rig = rig();
    let mut classic = classic_group(&rig);
    classic.assign(|_, _| write_assignment(&partitions(&[("foo", &[0, 1, 2, 3, 4, 5])]), 1, &rig.image).unwrap());
    rig.upgrade(&mut classic, &join("c", &["foo"])).unwrap();
    assert_eq!(rig.group.state.members["b"].current.assigned.len(), 0);
}

/// A consumer group of `c`, which is all there is.
fn consumer_group() -> Rig {
    let mut rig = rig();
    rig.heartbeat(&join("c", &["foo"])).unwrap();
    rig
}

#[test]
fn a_member_of_the_classic_protocol_joins_a_consumer_group() {
    let mut rig = consumer_group();
    let request = JoinGroup {
        requires_known_member_id: true,
        ..classic_join("", subscription(3, &["foo"], &[]))
    };
    let joined = rig.classic_join(&request);
    assert_eq!(
        (joined.error, joined.member_id.len()),
        (ErrorCode::MemberIdRequired, 22)
    );
    assert_eq!(rig.written, []);
    let request = JoinGroup {
        member_id: joined.member_id.clone(),
        ..request
    };
    let joined = rig.classic_join(&request);
    assert_eq!((joined.error, joined.generation_id), (ErrorCode::None, 3));
    assert_eq!((&*joined.leader, joined.members.len()), ("", 0), "nobody has to assign");
    let id = &*joined.member_id;
    assert_eq!(rig.group.state.members[id].metadata.rack_id.as_deref(), Some("rack"));

    // It has nothing until c gives partitions up, and is then told to come.
    let synced = rig.classic_sync(&classic_sync(id, 3));
    assert_eq!(rig.synced(&synced), partitions(&[]));
    assert_eq!(
        (
            synced.protocol_name.as_deref(),
            rig.classic_alive(&classic_alive(id, 3))
        ),
        (Some("range"), ErrorCode::None)
    );
    rig.heartbeat(&owning("c", 2, &[("foo", &[0, 1, 2, 3, 4, 5])])).unwrap();
    let kept = rig.heartbeat(&alive("c", 2)).unwrap();
    assert_eq!(kept.assignment, None);
    let target = rig.group.state.target["c"].clone();
    rig.heartbeat(&ConsumerGroupHeartbeat {
        topic_partitions: Some(target.into_iter().collect()),
        ..alive("c", 2)
    })
    .unwrap();
    assert_eq!(rig.classic_alive(&classic_alive(id, 3)), ErrorCode::RebalanceInProgress);
    let (generation_id, got) = rig.rejoin(id, &["foo"], &[]);
    assert_eq!((generation_id, got[&topic_id("foo")].len()), (3, 3));
    assert_eq!(rig.state(), "Stable");
}

#[test]
fn members_of_the_classic_protocol_come_in_time_or_are_taken_out() {
    let mut rig = consumer_group();
    let joined = rig.classic_join(&classic_join("m", subscription(3, &["foo"], &[])));
    // It joined, and does not sync.
    for _ in 0..4 {
        rig.pass_ms(4_000);
        assert_ne!(
            rig.classic_alive(&classic_alive("m", joined.generation_id)),
            ErrorCode::UnknownMemberId
        );
    }
    rig.pass_ms(4_000);
    assert_eq!(
        rig.classic_alive(&classic_alive("m", joined.generation_id)),
        ErrorCode::UnknownMemberId
    );

    // It is told to join, and does not.
    let (generation_id, _) = rig.rejoin("m", &["foo"], &[]);
    rig.set_topic("foo", 7);
    rig.heartbeat(&ConsumerGroupHeartbeat {
        topic_partitions: Some(vec![]),
        ..alive("c", 2)
    })
    .unwrap();
    for _ in 0..5 {
        assert_eq!(
            rig.classic_alive(&classic_alive("m", generation_id)),
            ErrorCode::RebalanceInProgress
        );
        rig.pass_ms(4_000);
    }
    assert_eq!(
        rig.classic_alive(&classic_alive("m", generation_id)),
        ErrorCode::UnknownMemberId
    );

    // It is silent.
    rig.rejoin("m", &["foo"], &[]);
    rig.pass_ms(10_000);
    assert_eq!(rig.group.len(), 1);
    rig.check_replay();
}

#[test]
fn wrong_requests_of_the_classic_protocol() {
    let mut rig = consumer_group();
    let metadata = || subscription(3, &["foo"], &[]);
    let (generation_id, _) = rig.rejoin("m", &["foo"], &[]);
    assert_eq!(rig.classic_alive(&classic_alive("m", 9)), ErrorCode::IllegalGeneration);
    assert_eq!(rig.classic_alive(&classic_alive("n", 3)), ErrorCode::UnknownMemberId);
    assert_eq!(
        rig.classic_alive(&classic_alive("c", 2)),
        ErrorCode::UnknownMemberId,
        "of the other protocol"
    );
    let request = SyncGroup {
        protocol_name: Some("sticky".into()),
        ..classic_sync("m", generation_id)
    };
    assert_eq!(rig.classic_sync(&request).error, ErrorCode::InconsistentGroupProtocol);
    let request = SyncGroup {
        protocol_type: Some("connect".into()),
        ..classic_sync("m", generation_id)
    };
    assert_eq!(rig.classic_sync(&request).error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(
        rig.classic_sync(&classic_sync("m", 1)).error,
        ErrorCode::IllegalGeneration
    );

    let request = JoinGroup {
        protocol_type: "connect".into(),
        ..classic_join("n", metadata())
    };
    assert_eq!(rig.classic_join(&request).error, ErrorCode::InconsistentGroupProtocol);
    let request = JoinGroup {
        protocols: vec![("sticky".into(), metadata())],
        ..classic_join("n", metadata())
    };
    assert_eq!(
        rig.classic_join(&request).error,
        ErrorCode::InconsistentGroupProtocol,
        "m does not support it"
    );
    let request = classic_join("n", Bytes::from_static(&[0, 3, 0, 0, 0, 9]));
    assert_eq!(rig.classic_join(&request).error, ErrorCode::UnknownServerError);
    let request = JoinGroup {
        group_instance_id: Some("i".into()),
        ..classic_join("n", metadata())
    };
    assert_eq!(rig.classic_join(&request).error, ErrorCode::UnknownMemberId);
    rig.settings.consumer_max_size = 2;
    assert_eq!(
        rig.classic_join(&classic_join("n", metadata())).error,
        ErrorCode::GroupMaxSizeReached
    );
    rig.settings.consumer_migration_policy = MigrationPolicy {
        allows_upgrade: false,
        allows_downgrade: false,
    };
    assert_eq!(
        rig.classic_join(&classic_join("m", metadata())).error,
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(rig.written, []);
}

#[test]
fn members_are_removed_by_an_administrator() {
    let mut rig = consumer_group();
    rig.rejoin("m", &["foo"], &[]);
    let instance = ConsumerGroupHeartbeat {
        instance_id: Some("i".into()),
        ..join("s", &["foo"])
    };
    rig.heartbeat(&instance).unwrap();
    let leaving = |member_id: &str, instance_id: Option<&str>| LeavingMember {
        member_id: member_id.into(),
        group_instance_id: instance_id.map(Arc::from),
        reason: None,
    };
    let request = LeaveGroup {
        group_id: GROUP.into(),
        members: vec![
            leaving("m", None),
            leaving("x", None),
            leaving("x", Some("i")),
            leaving("", Some("i")),
            leaving("", Some("j")),
        ],
    };
    let left = rig.step(|group, ctx| group.classic_leave(ctx, &request));
    let errors: Vec<_> = left.members.iter().map(|(_, _, error)| *error).collect();
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(
        errors,
        [
            ErrorCode::None,
            unknown,
            ErrorCode::FencedInstanceId,
            ErrorCode::None,
            unknown
        ]
    );
    assert_eq!(rig.group.len(), 1);
    let epochs = rig
        .written
        .iter()
        .filter(|record| record.name() == "ConsumerGroupMetadata");
    assert_eq!(epochs.count(), 1, "one rebalance for all");
}

#[test]
fn a_static_member_comes_back_with_the_classic_protocol() {
    let mut rig = rig();
    rig.heartbeat(&ConsumerGroupHeartbeat {
        instance_id: Some("i".into()),
        ..join("s", &["foo"])
    })
    .unwrap();
    let request = JoinGroup {
        group_instance_id: Some("i".into()),
        ..classic_join("", subscription(3, &["foo"], &[]))
    };
    // It may take the place of one that has not left, and the group has nobody of the consumer protocol any more.
    let joined = rig.classic_join(&request);
    assert_eq!(
        (joined.error, joined.generation_id, joined.protocol_name.as_deref()),
        (ErrorCode::None, 2, Some("range"))
    );
    let classic = rig.downgraded.take().unwrap();
    assert_eq!((classic.state(), classic.generation_id()), ("Stable", 2));
    let member = classic.members().get(&joined.member_id).unwrap();
    assert_eq!(
        by_id(
            &MemberAssignment::read(&member.assignment).unwrap().partitions,
            &rig.image
        ),
        partitions(&[("foo", &[0, 1, 2, 3, 4, 5])]),
        "it has what it had"
    );
    assert_eq!(rig.written.last(), Some(&classic.to_record()));
    assert!(rig.group.is_empty());

    // Where that is not allowed the group stays.
    let mut rig = self::rig();
    rig.settings.consumer_migration_policy.allows_downgrade = false;
    rig.heartbeat(&ConsumerGroupHeartbeat {
        instance_id: Some("i".into()),
        ..join("s", &["foo"])
    })
    .unwrap();
    let joined = rig.classic_join(&request);
    assert_eq!((joined.error, joined.generation_id), (ErrorCode::None, 2));
    assert!(rig.downgraded.is_none());
    let request = SyncGroup {
        group_instance_id: Some("i".into()),
        ..classic_sync(&joined.member_id, 2)
    };
    let synced = rig.classic_sync(&request);
    assert_eq!(rig.synced(&synced)[&topic_id("foo")].len(), 6, "it has what it had");
    rig.check_replay();

    // It needs another assignment.
    let mut rig = self::rig();
    rig.heartbeat(&ConsumerGroupHeartbeat {
        instance_id: Some("i".into()),
        ..join("s", &["foo"])
    })
    .unwrap();
    let request = JoinGroup {
        group_instance_id: Some("i".into()),
        ..classic_join("", subscription(3, &["bar"], &[]))
    };
    assert_eq!(rig.classic_join(&request).error, ErrorCode::None);
    assert_eq!(rig.downgraded.take().unwrap().state(), "PreparingRebalance");
}

#[test]
fn a_member_of_the_classic_protocol_takes_up_the_consumer_protocol() {
    let mut rig = consumer_group();
    rig.settings.consumer_migration_policy.allows_downgrade = false;
    rig.rejoin("m", &["foo"], &[]);
    assert_eq!(rig.group.state.classic_members, 1);
    let reply = rig.heartbeat(&join("m", &["foo"])).unwrap();
    assert_eq!(reply.member_epoch, 3);
    assert_eq!(
        (rig.group.state.classic_members, rig.group.state.classic_protocols.len()),
        (0, 0)
    );
    rig.check_replay();
}
