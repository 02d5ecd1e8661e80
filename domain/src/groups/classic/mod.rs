//! Classic groups: members join (JoinGroup), a leader among them assigns (SyncGroup), heartbeats keep them in.
//!
//! The phases are Kafka's. A rebalance prepares (members join), completes (the leader's assignment is awaited), and ends in a
//! stable group, which is written as one `GroupMetadata` record; a group that loses its last member is written as well. What
//! happens between two records is soft state: after a failover members find the last stable generation, hear that they are
//! unknown or behind, and join again.
//!
//! Every request that waits is answered exactly once: its token lives in its member's session, and whatever takes the token or
//! the member out answers it.

mod describing;
mod joining;
mod leaving;
mod members;
mod sessions;
mod syncing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::context::{Context, Timer};
use super::events::News;
use super::records::{GroupMetadataKey, GroupMetadataValue, GroupRecord, MemberMetadata};
use crate::coordinator::Now;
use crate::error::ErrorCode;
use crate::groups::commands::{Joined, Reply, Synced};
use crate::ids::Timestamp;

pub use describing::Subscriptions;
pub use members::{Member, Members, Protocols, Session};

/// The protocol type of consumers (`ConsumerProtocol.PROTOCOL_TYPE`).
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// A group whose members assign among themselves.
#[derive(Debug)]
pub struct ClassicGroup {
    group_id: Arc<str>,

    // Hard state: with the members what a record holds of a stable or empty group.
    generation: Generation,
    members: Members,

    // Soft state, besides the members' sessions.
    phase: Phase,
    pending: PendingMembers,
    /// Some record tells of the group.
    is_recorded: bool,
}

/// What a group has agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Generation {
    /// Counts the rebalances.
    id: i32,
    /// `consumer`, `connect`, ...; none for a group that only holds offsets.
    protocol_type: Option<Arc<str>>,
    /// The protocol that all members support.
    protocol_name: Option<Arc<str>>,
    /// The member that assigns.
    leader: Option<Arc<str>>,
    /// When the group came into its phase; old records do not say.
    since: Option<Timestamp>,
}

/// Where a group is between two generations.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Empty,
    /// Members join; with a delay when the group was empty.
    PreparingRebalance(Option<InitialDelay>),
    /// The leader assigns.
    CompletingRebalance,
    Stable,
}

/// The first rebalance of a group waits for more members (`group.initial.rebalance.delay.ms`, KIP-134): as long as some come, it
/// is put off by one more delay, up to the rebalance timeout in all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InitialDelay {
    delay_ms: i32,
    remaining_ms: i32,
    has_new_member: bool,
}

/// The ids that were given to members who have not joined with them yet (KIP-394).
#[derive(Debug, Default)]
struct PendingMembers {
    ids: BTreeSet<Arc<str>>,
    size_bytes: usize,
}

impl PendingMembers {
    /// A group has no more: clients that ask for ids and vanish must not fill the memory until their sessions end.
    const SIZE_BYTES_MAX: usize = 4 << 20;

    fn weight_bytes(member_id: &str) -> usize {
        member_id.len() + 256
    }

    /// False when there are too many.
    fn insert(&mut self, member_id: Arc<str>) -> bool {
        let size_bytes = self.size_bytes + Self::weight_bytes(&member_id);
        let fits = size_bytes <= Self::SIZE_BYTES_MAX;
        if fits && self.ids.insert(member_id) {
            self.size_bytes = size_bytes;
        }
        fits
    }

    fn remove(&mut self, member_id: &str) -> bool {
        let was_pending = self.ids.remove(member_id);
        if was_pending {
            self.size_bytes -= Self::weight_bytes(member_id);
        }
        was_pending
    }
}

/// A `GroupMetadata` record that no group can have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroup {
    /// Members without the protocol that their metadata is of.
    #[error("group {0} has members but no protocol")]
    NoProtocol(Arc<str>),
    /// A member that is there twice.
    #[error("group {group_id} has the member {member_id} twice")]
    DuplicateMember {
        /// The group.
        group_id: Arc<str>,
        /// The member's id or instance id.
        member_id: Arc<str>,
    },
}

impl ClassicGroup {
    /// A group without members that no record tells of; one that only holds offsets until a member joins.
    pub fn new(group_id: Arc<str>, now: Now) -> Self {
        ClassicGroup {
            group_id,
            generation: Generation {
                id: 0,
                protocol_type: None,
                protocol_name: None,
                leader: None,
                since: Some(now.timestamp).filter(|since| *since != Timestamp::NONE),
            },
            members: Members::default(),
            phase: Phase::Empty,
            pending: PendingMembers::default(),
            is_recorded: false,
        }
    }

    /// A stable group of these members, whose [record](ClassicGroup::to_record) the caller writes: what a consumer group becomes that has lost its last
    /// member of the consumer protocol (KIP-848). The members' ids differ. `None` when they have no protocol in common.
    pub fn from_members(
        group_id: Arc<str>,
        now: Now,
        generation_id: i32,
        protocol_type: Arc<str>,
        members: impl IntoIterator<Item = Member>,
    ) -> Option<Self> {
        let mut group = ClassicGroup::new(group_id, now);
        for member in members {
            group.members.insert(member);
        }
        group.generation.id = generation_id;
        group.generation.protocol_type = Some(protocol_type);
        group.generation.protocol_name = Some(group.members.elect_protocol()?);
        group.generation.leader = group.members.iter().next().map(|member| member.member_id.clone());
        group.phase = Phase::Stable;
        group.is_recorded = true;
        Some(group)
    }

    /// The group that a record tells of: a stable one, or an empty one.
    pub fn from_record(group_id: Arc<str>, value: GroupMetadataValue) -> Result<Self, InvalidGroup> {
        let text = |text: String| Arc::<str>::from(text);
        let protocol_name = value.protocol.map(text);
        let mut members = Members::default();
        for member in value.members {
            let Some(protocol) = &protocol_name else {
                return Err(InvalidGroup::NoProtocol(group_id));
            };
            let duplicate = |member_id: &Arc<str>| InvalidGroup::DuplicateMember {
                group_id: group_id.clone(),
                member_id: member_id.clone(),
            };
            let member = Member {
                member_id: member.member_id.into(),
                group_instance_id: member.group_instance_id.map(text),
                client_id: member.client_id.into(),
                client_host: member.client_host.into(),
                rebalance_timeout_ms: match member.rebalance_timeout {
                    -1 => member.session_timeout,
                    timeout_ms => timeout_ms,
                },
                session_timeout_ms: member.session_timeout,
                protocols: Protocols::new(&[(protocol.clone(), member.subscription)]),
                assignment: member.assignment,
                session: Session::default(),
            };
            if members.get(&member.member_id).is_some() {
                return Err(duplicate(&member.member_id));
            }
            if let Some(instance) = &member.group_instance_id
                && members.static_id(instance).is_some()
            {
                return Err(duplicate(instance));
            }
            members.insert(member);
        }
        let leader = value.leader.map(text).filter(|leader| members.get(leader).is_some());
        let first = || Some(members.iter().next()?.member_id.clone());
        Ok(ClassicGroup {
            group_id,
            generation: Generation {
                id: value.generation,
                protocol_type: Some(text(value.protocol_type)).filter(|name| !name.is_empty()),
                protocol_name,
                leader: leader.or_else(first),
                since: Some(Timestamp(value.current_state_timestamp)).filter(|since| *since != Timestamp::NONE),
            },
            phase: if members.is_empty() {
                Phase::Empty
            } else {
                Phase::Stable
            },
            members,
            pending: PendingMembers::default(),
            is_recorded: true,
        })
    }

    /// The record that tells of the group as it is.
    pub fn to_record(&self) -> GroupRecord {
        self.record_with(|member| member.assignment.clone())
    }

    fn record_with(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupRecord {
        let text = |text: &Arc<str>| text.to_string();
        let protocol_name = self.generation.protocol_name.as_ref();
        let member = |member: &Member| MemberMetadata {
            member_id: text(&member.member_id),
            group_instance_id: member.group_instance_id.as_ref().map(text),
            client_id: text(&member.client_id),
            client_host: text(&member.client_host),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: protocol_name
                .and_then(|name| member.protocols.metadata(name).cloned())
                .unwrap_or_default(),
            assignment: assignment(member),
            unknown_tagged_fields: Vec::new(),
        };
        GroupRecord::GroupMetadata(
            GroupMetadataKey {
                group: text(&self.group_id),
            },
            Some(GroupMetadataValue {
                protocol_type: self.generation.protocol_type.as_ref().map(text).unwrap_or_default(),
                generation: self.generation.id,
                protocol: protocol_name.map(text),
                leader: self.generation.leader.as_ref().map(text),
                current_state_timestamp: self.generation.since.unwrap_or(Timestamp::NONE).0,
                members: self.members.iter().map(member).collect(),
                unknown_tagged_fields: Vec::new(),
            }),
        )
    }

    fn write(&mut self, ctx: &mut Context<'_>, record: GroupRecord) {
        self.is_recorded = true;
        ctx.write(record);
    }

    /// Gives every member an assignment, made from its metadata for the chosen protocol: for a group
    /// [`from members`](ClassicGroup::from_members).
    pub fn assign(&mut self, assignment: impl Fn(&Member, &Bytes) -> Bytes) {
        let Some(protocol) = self.generation.protocol_name.clone() else {
            return;
        };
        let of = |member: &Member| {
            member
                .protocols
                .metadata(&protocol)
                .map(|metadata| assignment(member, metadata))
        };
        self.members.assign(|member| of(member).unwrap_or_default());
    }

    /// The shard begins to lead: members have a session's time to be heard of. A group that is larger than `group.max.size`
    /// allows rebalances, which gives members the chance to commit before some are turned away.
    pub fn loaded(&mut self, ctx: &mut Context<'_>) {
        for member in self.members.iter() {
            self.renew_session(ctx, member);
        }
        if self.members.len() > ctx.settings.max_size {
            self.prepare_rebalance(ctx, format_args!("it has more members than group.max.size allows"));
        }
    }

    /// The group ends, or becomes one of the other protocol: answers whatever waits and forgets the timers.
    pub fn give_up(&mut self, ctx: &mut Context<'_>, error: ErrorCode) {
        for waiting in self.members.take_joins() {
            if let Some(token) = waiting.token {
                ctx.reply(token, Reply::JoinGroup(Joined::refused(error, waiting.member_id)));
            }
        }
        for waiting in self.members.take_syncs() {
            if let Some(token) = waiting.token {
                ctx.reply(token, Reply::SyncGroup(Synced::refused(error)));
            }
        }
        for member_id in self
            .members
            .iter()
            .map(|member| &member.member_id)
            .chain(&self.pending.ids)
        {
            ctx.timers.cancel(&self.member_timer(member_id));
        }
        ctx.timers.cancel(&self.join_timer());
        ctx.timers.cancel(&self.sync_timer());
    }

    /// Something is due.
    pub fn on_timer(&mut self, ctx: &mut Context<'_>, timer: &Timer) {
        match timer {
            Timer::ClassicMember(_, member_id) => self.expire_session(ctx, member_id),
            Timer::ClassicJoin(_) => self.end_joining(ctx),
            Timer::ClassicSync(_) => self.end_syncing(ctx),
            _ => (),
        }
    }

    fn member_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::ClassicMember(self.group_id.clone(), member_id.clone())
    }

    fn join_timer(&self) -> Timer {
        Timer::ClassicJoin(self.group_id.clone())
    }

    fn sync_timer(&self) -> Timer {
        Timer::ClassicSync(self.group_id.clone())
    }

    fn renew_session(&self, ctx: &mut Context<'_>, member: &Member) {
        ctx.set_timer(
            self.member_timer(&member.member_id),
            i64::from(member.session_timeout_ms),
        );
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.generation.leader.as_deref() == Some(member_id)
    }

    /// Another member leads, if any.
    fn set_leader(&mut self, ctx: &mut Context<'_>, leader: Option<Arc<str>>) {
        let former = std::mem::replace(&mut self.generation.leader, leader.clone());
        if let (Some(former_id), Some(leader)) = (former, leader) {
            ctx.tell(&self.group_id, News::NewLeader { former_id, leader });
        }
    }

    fn enter(&mut self, now: Now, phase: Phase) {
        self.phase = phase;
        self.generation.since = Some(now.timestamp);
    }

    /// What is wrong with a request of this member: FENCED_INSTANCE_ID when another member has its instance id by now,
    /// UNKNOWN_MEMBER_ID when there is none.
    fn check_member(&self, member_id: &str, group_instance_id: Option<&Arc<str>>) -> Result<&Member, ErrorCode> {
        if let Some(instance) = group_instance_id {
            let current = self.members.static_id(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if **current != *member_id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)
    }

    /// Takes a member out and answers it UNKNOWN_MEMBER_ID, so that it joins again if it lives.
    fn remove_member(&mut self, ctx: &mut Context<'_>, member_id: &str) -> bool {
        let Some(member) = self.members.remove(member_id) else {
            return false;
        };
        ctx.timers.cancel(&self.member_timer(&member.member_id));
        if let Some(token) = member.session.joining {
            let refused = Joined::refused(ErrorCode::UnknownMemberId, "".into());
            ctx.reply(token, Reply::JoinGroup(refused));
        }
        if let Some(token) = member.session.syncing {
            ctx.reply(token, Reply::SyncGroup(Synced::refused(ErrorCode::UnknownMemberId)));
        }
        if self.is_leader(member_id) {
            let first = self.members.iter().next().map(|member| member.member_id.clone());
            self.set_leader(ctx, first);
        }
        true
    }

    /// Takes an id out that was given to a member who has not joined.
    fn remove_pending(&mut self, ctx: &mut Context<'_>, member_id: &Arc<str>) -> bool {
        let was_pending = self.pending.remove(member_id);
        if was_pending {
            ctx.timers.cancel(&self.member_timer(member_id));
        }
        was_pending
    }
}
