//! What operators are told of groups: what Apache Kafka's coordinator tells in its log of their lives.

use std::fmt::{self, Display, Formatter, Write as _};
use std::sync::Arc;

use crate::coordinator::Event;

/// Something happened to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// The group.
    pub group_id: Arc<str>,
    /// What happened.
    pub news: News,
}

/// The protocol that a group or a member uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Members assign among themselves.
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Classic => "classic",
            Protocol::Consumer => "consumer",
        })
    }
}

/// What happens to groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The first member came.
    Created(Protocol),
    /// A member came.
    Joined {
        /// Its id.
        member_id: Arc<str>,
        /// Of a static member.
        instance_id: Option<Arc<str>>,
        /// What it speaks.
        protocol: Protocol,
    },
    /// A static member came back under another id (KIP-345).
    Replaced {
        /// The instance.
        instance_id: Arc<str>,
        /// Its id until now.
        former_id: Arc<str>,
        /// Its id.
        member_id: Arc<str>,
    },
    /// A member left by itself, or an administrator removed it; with what it said of that (KIP-800).
    Left(Arc<str>, Option<ClientReason>),
    /// A static member left, and its place is kept until its session ends.
    LeftForAWhile(Arc<str>),
    /// Members were taken out.
    Removed(Removal, Vec<Arc<str>>),
    /// A classic group asks its members to join again.
    Rebalancing {
        /// The state in which it was.
        from: &'static str,
        /// The generation that ends.
        generation_id: i32,
        /// Why.
        reason: String,
    },
    /// Another member of a classic group assigns from now on, as the former one is gone.
    NewLeader {
        /// Who assigned.
        former_id: Arc<str>,
        /// Who assigns.
        leader: Arc<str>,
    },
    /// No member came in time: a classic group of static members waits on.
    NobodyJoined,
    /// The members of a classic group have joined, and its leader assigns.
    Generation {
        /// The generation.
        id: i32,
        /// How many members it has.
        members: usize,
    },
    /// The leader of a classic group has assigned.
    Stable {
        /// The generation.
        generation_id: i32,
        /// Who assigned.
        leader: Arc<str>,
        /// How many members there are.
        members: usize,
        /// Those to whom it gave nothing at all, not even an empty assignment.
        forgotten: usize,
    },
    /// A classic group lost its last member.
    Empty {
        /// The generation that this is.
        generation_id: i32,
    },
    /// The epoch of a consumer group went up: it needs another assignment.
    Epoch {
        /// The epoch.
        epoch: i32,
        /// Why.
        reason: &'static str,
    },
    /// A consumer group has another target assignment.
    Target {
        /// The epoch that it is of.
        epoch: i32,
        /// Who made it.
        assignor: &'static str,
        /// For so many members.
        members: usize,
    },
    /// The group is of another protocol now.
    Converted(Protocol),
    /// A member of the consumer protocol did not make a classic group one of its protocol; why not.
    NotConverted(String),
    /// There is no such group any more.
    Deleted,
    /// Offsets of the group wait for the end of transactions, since before this coordinator was loaded.
    OpenTransactions {
        /// Of so many partitions.
        partitions: usize,
        /// Of so many producers, ...
        producers: usize,
        /// ... one of which this is.
        producer_id: i64,
    },
}

/// Why members were taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// They were silent.
    SessionTimeout,
    /// They did not join again, or give up what they should, in time.
    RebalanceTimeout,
    /// They did not ask for their assignment in time.
    SyncTimeout,
    /// They never came back with the ids that they were given.
    NeverJoined,
}

impl Event for GroupEvent {
    fn is_warning(&self) -> bool {
        match self.news {
            News::NobodyJoined | News::OpenTransactions { .. } => true,
            News::Stable { forgotten, .. } => forgotten > 0,
            _ => false,
        }
    }
}

impl Display for GroupEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "group {}: {}", Shown(&self.group_id), self.news)
    }
}

impl Display for News {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            News::Created(protocol) => write!(f, "created ({protocol} protocol)"),
            News::Joined {
                member_id,
                instance_id,
                protocol,
            } => {
                write!(f, "member {}", Shown(member_id))?;
                if let Some(instance_id) = instance_id {
                    write!(f, " with instance id {}", Shown(instance_id))?;
                }
                write!(f, " joined ({protocol} protocol)")
            }
            News::Replaced {
                instance_id,
                former_id,
                member_id,
            } => write!(
                f,
                "static member with instance id {} came back: {} replaces {}",
                Shown(instance_id),
                Shown(member_id),
                Shown(former_id)
            ),
            News::Left(member_id, reason) => {
                write!(f, "member {} left", Shown(member_id))?;
                reason.as_ref().map_or(Ok(()), |reason| reason.fmt(f))
            }
            News::LeftForAWhile(member_id) => write!(f, "static member {} left for a while", Shown(member_id)),
            News::Removed(removal, member_ids) => write!(f, "removed {}: {removal}", Some10(member_ids)),
            News::Rebalancing {
                from,
                generation_id,
                reason,
            } => write!(
                f,
                "preparing to rebalance from {from}, generation {generation_id}: {reason}"
            ),
            News::NewLeader { former_id, leader } => {
                write!(f, "{} leads in place of {}", Shown(leader), Shown(former_id))
            }
            News::NobodyJoined => f.write_str("no member joined again within the rebalance timeout"),
            News::Generation { id, members } => write!(f, "generation {id} begins with {members} members"),
            News::Stable {
                generation_id,
                leader,
                members,
                forgotten,
            } => {
                let leader = Shown(leader);
                write!(
                    f,
                    "stable in generation {generation_id}: leader {leader} assigned to {members} members"
                )?;
                match forgotten {
                    0 => Ok(()),
                    forgotten => write!(f, ", but to {forgotten} of them nothing"),
                }
            }
            News::Empty { generation_id } => write!(f, "empty in generation {generation_id}"),
            News::Epoch { epoch, reason } => write!(f, "group epoch {epoch}: {reason}"),
            News::Target {
                epoch,
                assignor,
                members,
            } => write!(
                f,
                "target assignment of epoch {epoch} for {members} members by {assignor}"
            ),
            News::Converted(protocol) => write!(f, "became a group of the {protocol} protocol"),
            News::NotConverted(reason) => write!(f, "stays classic: {}", Shown(reason)),
            News::Deleted => f.write_str("deleted"),
            News::OpenTransactions {
                partitions,
                producers,
                producer_id,
            } => write!(
                f,
                "offsets of {partitions} partitions wait for the end of transactions of {producers} producers, one with \
                 id {producer_id}: consumers cannot read them until a commit or an abort; to let go of them delete the \
                 group's offsets"
            ),
        }
    }
}

impl Display for Removal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Removal::SessionTimeout => "silent for longer than the session timeout",
            Removal::RebalanceTimeout => "too slow for the rebalance timeout",
            Removal::SyncTimeout => "did not ask for an assignment within the rebalance timeout",
            Removal::NeverJoined => "did not join with the id that was given within the session timeout",
        })
    }
}

/// Why a client did what it did, in its own words (KIP-800), as far as a line of the log holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientReason(String);

impl ClientReason {
    pub(super) fn of(reason: Option<&str>) -> Option<Self> {
        let reason = reason.filter(|reason| !reason.is_empty())?;
        Some(ClientReason(Shown(reason).to_string()))
    }
}

impl Display for ClientReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "; client reason: {}", self.0)
    }
}

/// A client's text in a line of the log: no longer than Kafka's clients make a reason, and without what would break the line
/// or hide in it.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl Shown<'_> {
    const CHARS_MAX: usize = 255;
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(Shown::CHARS_MAX) {
            match char {
                '\'' | '"' => f.write_char(char)?,
                char => char.escape_debug().fmt(f)?,
            }
        }
        match chars.next() {
            None => Ok(()),
            Some(_) => f.write_str("..."),
        }
    }
}

/// The first ten of many ids.
struct Some10<'a>(&'a [Arc<str>]);

impl Display for Some10<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (place, member_id) in self.0.iter().take(10).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{}", Shown(member_id))?;
        }
        match self.0.len().saturating_sub(10) {
            0 => Ok(()),
            others => write!(f, " and {others} others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(news: News) -> String {
        let group_id = "g\nWARN all is lost".into();
        GroupEvent { group_id, news }.to_string()
    }

    #[test]
    fn clients_cannot_write_lines_of_their_own() {
        assert_eq!(told(News::Deleted), r"group g\nWARN all is lost: deleted");
        let reason = ClientReason::of(Some("it's a \"\u{1b}[31m\u{202e}reason\\ ä"));
        let left = told(News::Left("m".into(), reason));
        let (_, reason) = left.split_once("reason: ").unwrap();
        assert_eq!(reason, r#"it's a "\u{1b}[31m\u{202e}reason\\ ä"#);
        let long = ClientReason::of(Some(&"x".repeat(100_000))).unwrap();
        assert_eq!(long.0.len(), 258);
        assert_eq!(ClientReason::of(Some("")), None);
    }

    #[test]
    fn many_members_take_one_line() {
        let members = (0..12).map(|number| format!("m{number}").into()).collect();
        let line = told(News::Removed(Removal::SyncTimeout, members));
        assert!(
            line.contains("m0, m1, ") && line.contains("m9 and 2 others: did not ask"),
            "{line}"
        );
    }
}
