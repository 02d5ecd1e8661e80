//! What the members of all groups may hold in memory (`ottla.group.memory.bytes`).
//!
//! Members stay for the time of their sessions after their clients are gone: without a limit, clients that come, say much and
//! vanish would fill the memory. Who finds no room is told to try again. Offsets do not count: they stay until they expire or
//! are deleted, and a log that is read has to fit.

use super::GroupShard;
use crate::error::ErrorCode;
use crate::groups::classic::Protocols;
use crate::groups::commands::{Command, Joined, Reply, Synced};
use crate::groups::consumer::subscription_bytes;

/// A member may hold `asked_bytes` in place of its `own_bytes` out of `all_bytes`; always, when that is no more than before.
pub(super) fn has_room(all_bytes: usize, own_bytes: usize, asked_bytes: usize, limit_bytes: usize) -> bool {
    asked_bytes <= own_bytes || all_bytes - own_bytes + asked_bytes <= limit_bytes
}

impl GroupShard {
    /// What the members of a group hold.
    pub(super) fn held_bytes(&self, group_id: &str) -> usize {
        self.groups.get(group_id).map_or(0, |group| group.size_bytes())
    }

    /// Takes into account what a step did to a group, whose members held `before_bytes`.
    pub(super) fn weigh(&mut self, group_id: &str, before_bytes: usize) {
        let after_bytes = self.held_bytes(group_id);
        self.member_bytes = self.member_bytes + after_bytes - before_bytes;
        self.totals.change_member_bytes(before_bytes, after_bytes);
    }

    /// The answer to a command whose sender would hold more than before, for which there is no room.
    pub(super) fn no_room(&self, command: &Command) -> Option<Reply> {
        let (group_id, member_id, instance_id, asked_bytes) = match command {
            Command::JoinGroup(request) => (
                &request.group_id,
                &request.member_id,
                &request.group_instance_id,
                Protocols::size_bytes_of(&request.protocols),
            ),
            Command::SyncGroup(request) => (
                &request.group_id,
                &request.member_id,
                &request.group_instance_id,
                request.assignments.iter().map(|(_, assignment)| assignment.len()).sum(),
            ),
            Command::ConsumerGroupHeartbeat(request) => (
                &request.group_id,
                &request.member_id,
                &request.instance_id,
                subscription_bytes(request),
            ),
            _ => return None,
        };
        let limit_bytes = self.world.settings.members_max_bytes;
        let all_bytes = self.totals.member_bytes();
        if asked_bytes == 0 || all_bytes.saturating_add(asked_bytes) <= limit_bytes {
            return None;
        }
        let group = self.groups.get(group_id);
        let own_bytes = group.map_or(0, |group| group.member_bytes(member_id, instance_id.as_deref()));
        if has_room(all_bytes, own_bytes, asked_bytes, limit_bytes) {
            return None;
        }
        let code = ErrorCode::CoordinatorNotAvailable;
        Some(match command {
            Command::JoinGroup(request) => Reply::JoinGroup(Joined::refused(code, request.member_id.clone())),
            Command::SyncGroup(_) => Reply::SyncGroup(Synced::refused(code)),
            _ => Reply::ConsumerGroupHeartbeat(Err(code.with(format!(
                "The members of all groups would hold more than the {limit_bytes} bytes of ottla.group.memory.bytes."
            )))),
        })
    }
}

impl Drop for GroupShard {
    fn drop(&mut self) {
        self.totals.change_member_bytes(self.member_bytes, 0);
    }
}

#[cfg(test)]
impl GroupShard {
    /// What was added up step by step is what there is.
    pub(in crate::groups) fn check_weights(&self) {
        let sum: usize = self.groups.iter().map(|group| group.size_bytes()).sum();
        assert_eq!(self.member_bytes, sum);
        assert_eq!(self.totals.member_bytes(), sum);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::coordinator::{Now, Shard, Token};
    use crate::groups::commands::{ConsumerGroupHeartbeat, JoinGroup, LeaveGroup, LeavingMember};
    use crate::groups::consumer::tests::{Prefixes, settings};
    use crate::groups::settings::GroupSettings;
    use crate::groups::totals::GroupTotals;
    use crate::ids::{Mono, Offset, Timestamp};
    use crate::metadata::image::MetadataImage;

    const LIMIT_BYTES: usize = 100_000;
    const NOW: Now = Now {
        timestamp: Timestamp(1_000_000),
        mono: Mono(0),
    };

    struct Rig {
        shard: GroupShard,
        totals: Arc<GroupTotals>,
    }

    impl Rig {
        fn new() -> Self {
            let totals: Arc<GroupTotals> = Arc::default();
            let read = |_: &MetadataImage| GroupSettings {
                members_max_bytes: LIMIT_BYTES,
                ..settings()
            };
            let mut shard = GroupShard::new(Box::new(read), Arc::new(Prefixes), Arc::clone(&totals), &Arc::default());
            shard.loaded(NOW);
            Rig { shard, totals }
        }

        /// The replies to a command, some of which may be of earlier ones.
        fn run(&mut self, command: Command) -> Vec<Reply> {
            let effects = self.shard.handle(NOW, 7, command, Token(0));
            for record in effects.records {
                self.shard.apply(Offset(0), None, record).unwrap();
            }
            self.shard.check_weights();
            effects.replies.into_iter().map(|(_, reply)| reply).collect()
        }

        /// Joins a group of its own; false where there is no room.
        fn join(&mut self, group_id: &str, metadata_bytes: usize) -> bool {
            let request = JoinGroup {
                group_id: group_id.into(),
                member_id: Arc::default(),
                group_instance_id: Some("instance".into()),
                client_id: "client".into(),
                client_host: "/127.0.0.1".into(),
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: 10_000,
                protocol_type: "consumer".into(),
                protocols: vec![("range".into(), Bytes::from(vec![0; metadata_bytes]))],
                reason: None,
                requires_known_member_id: false,
                supports_skipping_assignment: true,
            };
            let replies = self.run(Command::JoinGroup(request));
            let is_refused = |reply: &Reply| match reply {
                Reply::JoinGroup(joined) => joined.error == ErrorCode::CoordinatorNotAvailable,
                _ => false,
            };
            !replies.iter().any(is_refused)
        }

        /// Consumes topics with long names; false where there is no room.
        fn consume(&mut self, group_id: &str, topics: usize) -> bool {
            let request = ConsumerGroupHeartbeat {
                group_id: group_id.into(),
                member_id: "member".into(),
                member_epoch: 0,
                instance_id: None,
                rack_id: None,
                rebalance_timeout_ms: 10_000,
                subscribed_topic_names: Some((0..topics).map(|topic| format!("{topic:0>200}").into()).collect()),
                subscribed_topic_regex: None,
                server_assignor: None,
                topic_partitions: Some(Vec::new()),
                client_id: "client".into(),
                client_host: "/127.0.0.1".into(),
                makes_member_id: true,
            };
            match self.run(Command::ConsumerGroupHeartbeat(request)).remove(0) {
                Reply::ConsumerGroupHeartbeat(Ok(_)) => true,
                Reply::ConsumerGroupHeartbeat(Err(error)) => {
                    assert_eq!(error.code, ErrorCode::CoordinatorNotAvailable);
                    assert!(error.message.unwrap().contains("ottla.group.memory.bytes"));
                    false
                }
                reply => panic!("{reply:?}"),
            }
        }
    }

    #[test]
    fn members_of_all_groups_share_the_room() {
        let mut rig = Rig::new();
        let count = (0..).take_while(|group| rig.join(&group.to_string(), 10_000)).count();
        assert!((8..=9).contains(&count), "{count}");
        assert!((80_000..LIMIT_BYTES).contains(&rig.totals.member_bytes()));
        assert!(!rig.consume("consumers", 50));
        // Who holds no more than before stays.
        assert!(rig.join("0", 10_000));
        assert!(!rig.join("0", 50_000));
        let leaving = LeavingMember {
            member_id: Arc::default(),
            group_instance_id: Some("instance".into()),
            reason: None,
        };
        for group in 0..count {
            rig.run(Command::LeaveGroup(LeaveGroup {
                group_id: group.to_string().into(),
                members: vec![leaving.clone()],
            }));
        }
        assert_eq!(rig.totals.member_bytes(), 0);
        assert!(rig.consume("consumers", 50));
    }

    #[test]
    fn what_consumers_subscribe_to_counts_until_the_shard_goes() {
        let mut rig = Rig::new();
        let count = (0..).take_while(|group| rig.consume(&group.to_string(), 50)).count();
        assert!((2..=4).contains(&count), "{count}");
        assert!(!rig.join("classic", 50_000));
        assert!(rig.consume("0", 50));
        let totals = Arc::clone(&rig.totals);
        drop(rig);
        assert_eq!(totals.member_bytes(), 0);
    }
}
