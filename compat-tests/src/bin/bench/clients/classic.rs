//! Members of groups of the classic protocol, which do what Java's consumer does, and no more.
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponse;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, text};

use super::STACK_BYTES;

const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const LEAVE_VERSION: i16 = 5;

const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

/// Longer than a run, in which members may be silent while the other broker is measured.
const SESSION_TIMEOUT_MS: i32 = 600_000;

const PROTOCOL: &str = "range";

/// A member with a connection of its own.
pub struct Member {
    connection: Connection,
    topic: Topic,
    group: String,
    id: StrBytes,
    generation: i32,
}

/// Lets so many members join a group at once, of which each gets one partition; returns them and how long it took until the
/// last one had its assignment.
pub fn form(node: &Node, topic: &Topic, group: &str, members: usize) -> (Vec<Member>, Duration) {
    let mut members: Vec<_> = (0..members).map(|_| Member::open(node, topic, group)).collect();
    let start = Barrier::new(members.len() + 1);
    let time = thread::scope(|scope| {
        let threads: Vec<_> = members
            .iter_mut()
            .map(|member| {
                let work = || {
                    start.wait();
                    member.join();
                };
                let thread = thread::Builder::new().stack_size(STACK_BYTES);
                thread.spawn_scoped(scope, work).expect("thread")
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        threads.into_iter().for_each(|thread| thread.join().expect("member"));
        begun.elapsed()
    });
    (members, time)
}

/// All members leave their group.
pub fn leave(members: &mut [Member]) {
    let identities = members
        .iter()
        .map(|member| MemberIdentity::default().with_member_id(member.id.clone()));
    let request = LeaveGroupRequest::default()
        .with_group_id(text(&members[0].group).into())
        .with_members(identities.collect());
    let answer = members[0].connection.call(LEAVE_VERSION, &request).expect("answer");
    assert_eq!(answer.error_code, 0, "{answer:?}");
}

impl Member {
    fn open(node: &Node, topic: &Topic, group: &str) -> Self {
        Self {
            connection: Connection::open(node.socket()).expect("connection"),
            topic: topic.clone(),
            group: group.to_owned(),
            id: StrBytes::default(),
            generation: -1,
        }
    }

    /// Joins and syncs until there is an assignment.
    fn join(&mut self) {
        loop {
            let joined = self.ask_to_join();
            match joined.error_code {
                0 => self.generation = joined.generation_id,
                MEMBER_ID_REQUIRED => {
                    self.id = joined.member_id;
                    continue;
                }
                _ => panic!("{joined:?}"),
            }
            let assignments = joined.members.iter().zip(0..).map(|(member, partition)| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(self.assignment(partition))
            });
            let request = SyncGroupRequest::default()
                .with_group_id(text(&self.group).into())
                .with_generation_id(self.generation)
                .with_member_id(self.id.clone())
                .with_protocol_type(joined.protocol_type)
                .with_protocol_name(joined.protocol_name)
                .with_assignments(assignments.collect());
            let synced = self.connection.call(SYNC_VERSION, &request).expect("answer");
            match synced.error_code {
                0 => {
                    assert!(!synced.assignment.is_empty(), "{synced:?}");
                    return;
                }
                REBALANCE_IN_PROGRESS => {}
                _ => panic!("{synced:?}"),
            }
        }
    }

    fn ask_to_join(&mut self) -> JoinGroupResponse {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(PROTOCOL))
            .with_metadata(self.subscription());
        let request = JoinGroupRequest::default()
            .with_group_id(text(&self.group).into())
            .with_session_timeout_ms(SESSION_TIMEOUT_MS)
            .with_rebalance_timeout_ms(SESSION_TIMEOUT_MS)
            .with_member_id(self.id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        self.connection.call(JOIN_VERSION, &request).expect("answer")
    }

    /// Tells that it is there.
    pub fn heartbeat(&mut self) {
        let request = HeartbeatRequest::default()
            .with_group_id(text(&self.group).into())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let answer = self.connection.call(HEARTBEAT_VERSION, &request).expect("answer");
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }

    /// To the topic: version 0, and no user data.
    fn subscription(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        self.put_topics(&mut bytes, &[]);
        bytes.freeze()
    }

    /// One partition of the topic: version 0, and no user data.
    fn assignment(&self, partition: i32) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        self.put_topics(&mut bytes, &[1, partition]);
        bytes.freeze()
    }

    fn put_topics(&self, bytes: &mut BytesMut, after_name: &[i32]) {
        bytes.put_i32(1);
        bytes.put_i16(self.topic.name.len() as i16);
        bytes.put_slice(self.topic.name.as_bytes());
        after_name.iter().for_each(|number| bytes.put_i32(*number));
        bytes.put_i32(-1);
    }
}
