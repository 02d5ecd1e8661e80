//! Server-side assignors: who of a group's members should read which partitions (KIP-848). Pure functions. None of them
//! looks at racks, as in Kafka 4.3.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ids::{PartitionId, TopicId};

mod range;
mod uniform;

#[cfg(test)]
mod tests;

/// Partitions by topic: those of a topic ascend, no topic is without any.
pub type Partitions = BTreeMap<TopicId, Vec<PartitionId>>;

/// An assignor of Kafka's, by its name in `group.consumer.assignors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Equal numbers of partitions for all, and as few moves as that allows.
    Uniform,
    /// Ranges of each topic: members that subscribe alike get the same numbers of all topics of equal size.
    Range,
}

impl Assignor {
    /// The assignor with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The partitions of each member, in the order of the members.
    pub fn assign(self, group: &GroupSpec<'_>) -> Vec<Partitions> {
        match self {
            Self::Uniform => uniform::assign(group),
            Self::Range => range::assign(group),
        }
    }
}

/// What an assignor sees of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupSpec<'a> {
    /// The members, in the order of their ids.
    pub members: Vec<MemberSpec<'a>>,
    /// The number of partitions of each topic that a member subscribes to.
    pub partition_counts: BTreeMap<TopicId, i32>,
}

/// What an assignor sees of a member.
#[derive(Clone, Debug)]
pub struct MemberSpec<'a> {
    /// Its id.
    pub member_id: &'a str,
    /// Of a static member.
    pub instance_id: Option<&'a str>,
    /// The topics that it subscribes to and that exist, ascending. Members that subscribe alike share the list.
    pub topics: Rc<[TopicId]>,
    /// Its present target assignment. No partition is in those of two members.
    pub assignment: &'a Partitions,
}

impl GroupSpec<'_> {
    /// All members subscribe to the same topics.
    fn is_homogeneous(&self) -> bool {
        self.members.windows(2).all(|pair| match pair {
            [one, other] => Rc::ptr_eq(&one.topics, &other.topics) || one.topics == other.topics,
            _ => true,
        })
    }

    /// The number of partitions of a topic; 0 for one that does not exist.
    fn partition_count(&self, topic: TopicId) -> i32 {
        self.partition_counts.get(&topic).copied().unwrap_or(0)
    }
}
