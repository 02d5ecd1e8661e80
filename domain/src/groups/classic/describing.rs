//! What others ask of a group: how it looks, which topics its members read, what may be deleted of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{CONSUMER_PROTOCOL_TYPE, ClassicGroup, Member, Members, Phase};
use crate::error::ErrorCode;
use crate::groups::commands::{DescribedGroup, DescribedMember};
use crate::groups::consumer_protocol::subscribed_topics;
use crate::groups::offsets::ExpirationBase;

/// Which topics the members of a group read.
#[derive(Debug, PartialEq, Eq)]
pub enum Subscriptions<'a> {
    /// Not known, so it may be any.
    Unknown,
    /// These.
    Topics(BTreeSet<&'a str>),
}

impl Subscriptions<'_> {
    /// Some member reads the topic, or may.
    pub fn contains(&self, topic: &str) -> bool {
        match self {
            Subscriptions::Unknown => true,
            Subscriptions::Topics(topics) => topics.contains(topic),
        }
    }
}

impl ClassicGroup {
    /// Its id.
    pub fn group_id(&self) -> &Arc<str> {
        &self.group_id
    }

    /// The generation.
    pub fn generation_id(&self) -> i32 {
        self.generation.id
    }

    /// `consumer`, `connect`, ...; none for a group that only holds offsets.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.generation.protocol_type.as_ref()
    }

    /// The protocol that the members have chosen.
    pub fn protocol_name(&self) -> Option<&Arc<str>> {
        self.generation.protocol_name.as_ref()
    }

    /// The members.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// There are no members, and no rebalance.
    pub fn is_empty(&self) -> bool {
        self.phase == Phase::Empty
    }

    /// The members speak the consumers' protocol, so their metadata says which topics they read.
    pub fn uses_consumer_protocol(&self) -> bool {
        self.generation.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// The phase by Kafka's name.
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::PreparingRebalance(_) => "PreparingRebalance",
            Phase::CompletingRebalance => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    /// What the members hold in memory.
    pub fn size_bytes(&self) -> usize {
        self.members.size_bytes() + self.pending.size_bytes
    }

    /// What a member holds in memory, or else the static one of this instance; 0 for a new one.
    pub fn member_bytes(&self, member_id: &str, group_instance_id: Option<&str>) -> usize {
        let of_instance = || self.members.get(self.members.static_id(group_instance_id?)?);
        self.members
            .get(member_id)
            .or_else(of_instance)
            .map_or(0, Member::size_bytes)
    }

    /// The group as DescribeGroups shows it.
    pub fn describe(&self) -> DescribedGroup {
        let protocol = self
            .generation
            .protocol_name
            .as_ref()
            .filter(|_| self.phase == Phase::Stable);
        let member = |member: &Member| DescribedMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol
                .and_then(|name| member.protocols.metadata(name).cloned())
                .unwrap_or_default(),
            assignment: member.assignment.clone(),
        };
        DescribedGroup {
            state: self.state(),
            protocol_type: self.generation.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.cloned().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
        }
    }

    /// The group may be deleted: NON_EMPTY_GROUP while it has members.
    pub fn check_delete(&self) -> Result<(), ErrorCode> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(ErrorCode::NonEmptyGroup)
        }
    }

    /// Single offsets may be deleted (KIP-496): NON_EMPTY_GROUP unless the members' subscriptions are known, by which topics
    /// are then refused one by one.
    pub fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.is_empty() || self.uses_consumer_protocol() {
            Ok(())
        } else {
            Err(ErrorCode::NonEmptyGroup)
        }
    }

    /// From when on offsets of the group may expire (`ClassicGroup.offsetExpirationCondition`).
    pub fn offset_expiration(&self) -> ExpirationBase {
        match self.phase {
            _ if self.generation.protocol_type.is_none() => ExpirationBase::Commit,
            Phase::Empty => self
                .generation
                .since
                .map_or(ExpirationBase::Commit, ExpirationBase::Since),
            Phase::Stable if self.uses_consumer_protocol() => ExpirationBase::Commit,
            _ => ExpirationBase::Never,
        }
    }

    /// The topics of the members' metadata, read anew: of a group that does not speak the consumers' protocol none; unknown
    /// when the metadata of any member cannot be read.
    pub fn subscriptions(&self) -> Subscriptions<'_> {
        let mut topics = BTreeSet::new();
        if self.uses_consumer_protocol() {
            for member in self.members.iter() {
                let protocol = self.generation.protocol_name.as_ref();
                let metadata = protocol.and_then(|name| member.protocols.metadata(name));
                match metadata.map(|metadata| subscribed_topics(metadata)) {
                    Some(Ok(read)) => topics.extend(read),
                    _ => return Subscriptions::Unknown,
                }
            }
        }
        Subscriptions::Topics(topics)
    }
}
