//! The members of a classic group, with everything that is counted over them, so that no join looks at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::coordinator::Token;

/// About what a member takes besides itself: its places in maps and queues of timers, and the requests that it waits in.
const MEMBER_OVERHEAD_BYTES: usize = 512;
/// About what a protocol takes besides its name and metadata.
const PROTOCOL_OVERHEAD_BYTES: usize = size_of::<(Arc<str>, Bytes)>() + 64;

/// What a member supports, best first, each with the metadata for whoever assigns. No name occurs twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocols(Vec<(Arc<str>, Bytes)>);

impl Protocols {
    /// Takes them over, of a name that occurs twice the first. The metadata is copied into one allocation, so that it does
    /// not keep the frame of a request alive.
    pub fn new(protocols: &[(Arc<str>, Bytes)]) -> Self {
        let size_bytes = protocols.iter().map(|(_, metadata)| metadata.len()).sum();
        let mut blob = BytesMut::with_capacity(size_bytes);
        for (_, metadata) in protocols {
            blob.extend_from_slice(metadata);
        }
        let mut blob = blob.freeze();
        let mut names = BTreeSet::new();
        let mut taken = Vec::with_capacity(protocols.len());
        for (name, metadata) in protocols {
            let metadata = blob.split_to(metadata.len());
            if names.insert(name) {
                taken.push((name.clone(), metadata));
            }
        }
        Protocols(taken)
    }

    /// The metadata for a protocol that the member supports.
    pub fn metadata(&self, name: &str) -> Option<&Bytes> {
        self.0
            .iter()
            .find(|(supported, _)| **supported == *name)
            .map(|(_, metadata)| metadata)
    }

    /// Names and metadata, best first.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Bytes)> {
        self.0.iter().map(|(name, metadata)| (name, metadata))
    }

    /// The member supports nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn size_bytes(&self) -> usize {
        Protocols::size_bytes_of(&self.0)
    }

    /// What these would hold in memory.
    pub fn size_bytes_of(protocols: &[(Arc<str>, Bytes)]) -> usize {
        let size_bytes = |(name, metadata): &(Arc<str>, Bytes)| PROTOCOL_OVERHEAD_BYTES + name.len() + metadata.len();
        protocols.iter().map(size_bytes).sum()
    }
}

/// A member of a classic group: what its record holds, and its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub member_id: Arc<str>,
    /// Of a static member (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// Its client's id.
    pub client_id: Arc<str>,
    /// Its client's address.
    pub client_host: Arc<str>,
    /// How long it may take to join again in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What it supports. A record keeps the one that the group has chosen.
    pub protocols: Protocols,
    /// What the leader made for it in the last generation that got stable.
    pub assignment: Bytes,
    /// Soft state.
    pub session: Session,
}

/// What a member waits for and what is expected of it: lost with a failover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// A JoinGroup that waits for the others.
    pub(super) joining: Option<Token>,
    /// A SyncGroup that waits for the leader.
    pub(super) syncing: Option<Token>,
    /// It has not seen the answer to its first JoinGroup: it cannot send heartbeats, so its session runs while it waits.
    is_new: bool,
    /// It has not asked for its assignment in this generation.
    owes_sync: bool,
}

impl Session {
    /// Of a member that waits in its first JoinGroup.
    pub(super) fn of_new_member() -> Self {
        Session {
            is_new: true,
            ..Session::default()
        }
    }
}

impl Member {
    /// Waits for the answer to a JoinGroup.
    pub(super) fn is_joining(&self) -> bool {
        self.session.joining.is_some()
    }

    /// Waits for an answer, so no heartbeat is expected of it.
    pub(super) fn needs_no_heartbeat(&self) -> bool {
        !self.session.is_new && (self.session.joining.is_some() || self.session.syncing.is_some())
    }

    fn waiting(&mut self, take: impl FnOnce(&mut Session) -> Option<Token>) -> Waiting {
        Waiting {
            token: take(&mut self.session),
            member_id: self.member_id.clone(),
            session_timeout_ms: self.session_timeout_ms,
            assignment: self.assignment.clone(),
        }
    }

    /// What it holds in memory.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + MEMBER_OVERHEAD_BYTES
            + self.member_id.len()
            + self.group_instance_id.as_ref().map_or(0, |id| id.len())
            + self.client_id.len()
            + self.client_host.len()
            + self.protocols.size_bytes()
            + self.assignment.len()
    }
}

/// A request that waited, with its member.
pub(super) struct Waiting {
    pub(super) member_id: Arc<str>,
    pub(super) session_timeout_ms: i32,
    pub(super) token: Option<Token>,
    pub(super) assignment: Bytes,
}

/// The members of a group by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    by_id: BTreeMap<Arc<str>, Member>,
    /// Ids of the static members by instance id.
    static_ids: BTreeMap<Arc<str>, Arc<str>>,
    /// How many members support a protocol.
    supporters: BTreeMap<Arc<str>, usize>,
    joining_count: usize,
    owing_sync_count: usize,
    size_bytes: usize,
}

impl Members {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// The member with this id.
    pub fn get(&self, member_id: &str) -> Option<&Member> {
        self.by_id.get(member_id)
    }

    /// The id of the static member with this instance id.
    pub fn static_id(&self, group_instance_id: &str) -> Option<&Arc<str>> {
        self.static_ids.get(group_instance_id)
    }

    /// What the members hold in memory.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// How many wait for the answer to a JoinGroup.
    pub(super) fn joining_count(&self) -> usize {
        self.joining_count
    }

    /// All members have asked for their assignment in this generation.
    pub(super) fn have_synced(&self) -> bool {
        self.owing_sync_count == 0
    }

    /// All members support this protocol.
    pub(super) fn support(&self, protocol: &str) -> bool {
        self.supporters.get(protocol).copied().unwrap_or(0) == self.len()
    }

    /// The longest that any member may take to join again.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.iter()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
            .max(0)
    }

    /// The protocol with most votes: each member votes for the one that it likes best of those that all support.
    pub(super) fn elect_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.iter() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| self.support(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        // Of several the last one that is the largest: go backwards, so that a tie goes to the first name.
        votes
            .into_iter()
            .rev()
            .max_by_key(|(_, votes)| *votes)
            .map(|(name, _)| name.clone())
    }

    /// Adds a member. Its id and its instance id are new.
    pub(super) fn insert(&mut self, member: Member) {
        if let Some(instance) = &member.group_instance_id {
            self.static_ids.insert(instance.clone(), member.member_id.clone());
        }
        self.count(&member);
        self.by_id.insert(member.member_id.clone(), member);
    }

    /// Takes a member out, with the requests that it waits for.
    pub(super) fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.by_id.remove(member_id)?;
        if let Some(instance) = &member.group_instance_id {
            self.static_ids.remove(instance);
        }
        self.discount(&member);
        Some(member)
    }

    /// Gives a static member another id. The former one is returned with the requests that it waited in, which do not pass on.
    pub(super) fn rename(&mut self, member_id: &str, new_id: Arc<str>) -> Option<Member> {
        let former = self.remove(member_id)?;
        self.insert(Member {
            member_id: new_id,
            session: Session {
                owes_sync: former.session.owes_sync,
                ..Session::default()
            },
            ..former.clone()
        });
        Some(former)
    }

    /// Changes what a member supports and how long it may take.
    pub(super) fn update(
        &mut self,
        member_id: &str,
        protocols: Protocols,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let Some(mut member) = self.remove(member_id) else {
            return;
        };
        member.protocols = protocols;
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        self.insert(member);
    }

    /// A member waits in a JoinGroup; gives the one that it waited in before.
    pub(super) fn join(&mut self, member_id: &str, token: Token) -> Option<Token> {
        let replaced = self.by_id.get_mut(member_id)?.session.joining.replace(token);
        self.joining_count += usize::from(replaced.is_none());
        replaced
    }

    /// A member has asked for its assignment.
    pub(super) fn sync(&mut self, member_id: &str) {
        if let Some(member) = self.by_id.get_mut(member_id)
            && std::mem::take(&mut member.session.owes_sync)
        {
            self.owing_sync_count -= 1;
        }
    }

    /// A member waits in a SyncGroup; gives the one that it waited in before.
    pub(super) fn wait_for_assignment(&mut self, member_id: &str, token: Token) -> Option<Token> {
        self.by_id.get_mut(member_id)?.session.syncing.replace(token)
    }

    /// Nobody owes a SyncGroup any longer.
    pub(super) fn forgive_syncs(&mut self) {
        if self.owing_sync_count > 0 {
            self.by_id
                .values_mut()
                .for_each(|member| member.session.owes_sync = false);
            self.owing_sync_count = 0;
        }
    }

    /// Those that have not asked for their assignment in this generation.
    pub(super) fn owing_sync(&self) -> Vec<Arc<str>> {
        let owing = self.iter().filter(|member| member.session.owes_sync);
        owing.map(|member| member.member_id.clone()).collect()
    }

    /// A generation begins: all members owe a SyncGroup; gives all, with the JoinGroups in which they waited.
    pub(super) fn begin_generation(&mut self) -> Vec<Waiting> {
        self.joining_count = 0;
        self.owing_sync_count = self.by_id.len();
        let begin = |member: &mut Member| {
            member.session.is_new = false;
            member.session.owes_sync = true;
            member.waiting(|session| session.joining.take())
        };
        self.by_id.values_mut().map(begin).collect()
    }

    /// Gives every member an assignment.
    pub(super) fn assign(&mut self, assignment: impl Fn(&Member) -> Bytes) {
        for member in self.by_id.values_mut() {
            let assignment = assignment(member);
            self.size_bytes = self.size_bytes + assignment.len() - member.assignment.len();
            member.assignment = assignment;
        }
    }

    /// Takes the SyncGroups in which members wait.
    pub(super) fn take_syncs(&mut self) -> Vec<Waiting> {
        let waiting = self
            .by_id
            .values_mut()
            .filter(|member| member.session.syncing.is_some());
        waiting
            .map(|member| member.waiting(|session| session.syncing.take()))
            .collect()
    }

    /// Takes the JoinGroups in which members wait.
    pub(super) fn take_joins(&mut self) -> Vec<Waiting> {
        self.joining_count = 0;
        let waiting = self
            .by_id
            .values_mut()
            .filter(|member| member.session.joining.is_some());
        waiting
            .map(|member| member.waiting(|session| session.joining.take()))
            .collect()
    }

    fn count(&mut self, member: &Member) {
        for (name, _) in member.protocols.iter() {
            *self.supporters.entry(name.clone()).or_default() += 1;
        }
        self.joining_count += usize::from(member.session.joining.is_some());
        self.owing_sync_count += usize::from(member.session.owes_sync);
        self.size_bytes += member.size_bytes();
    }

    fn discount(&mut self, member: &Member) {
        for (name, _) in member.protocols.iter() {
            if let Some(supporters) = self.supporters.get_mut(name) {
                *supporters -= 1;
                if *supporters == 0 {
                    self.supporters.remove(name);
                }
            }
        }
        self.joining_count -= usize::from(member.session.joining.is_some());
        self.owing_sync_count -= usize::from(member.session.owes_sync);
        self.size_bytes -= member.size_bytes();
    }
}
