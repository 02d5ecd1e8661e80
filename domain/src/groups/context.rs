//! What a group sees of the world in one step.

use std::sync::Arc;

use bytes::BytesMut;
use uuid::Uuid;

use super::commands::Reply;
use super::events::{GroupEvent, News};
use super::records::GroupRecord;
use super::settings::GroupSettings;
use super::timers::Timers;
use crate::coordinator::{Effects, Now, RECORD_OVERHEAD_BYTES, Token};
use crate::ids::Mono;
use crate::metadata::image::MetadataImage;

/// What is due, by group and member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A member of a classic group was silent, or never came back with the id that it was given.
    ClassicMember(Arc<str>, Arc<str>),
    /// The members of a classic group had time to join.
    ClassicJoin(Arc<str>),
    /// The members of a classic group had time to ask for their assignments.
    ClassicSync(Arc<str>),
    /// A member of a consumer group was silent.
    ConsumerSession(Arc<str>, Arc<str>),
    /// A member of a consumer group had time to give partitions up, or, of the classic protocol, to join or sync.
    ConsumerRebalance(Arc<str>, Arc<str>),
    /// A consumer group may have its next assignment.
    ConsumerAssignment(Arc<str>),
    /// The patterns of a consumer group are matched again.
    ConsumerPatterns(Arc<str>),
    /// Offsets may have expired.
    OffsetExpiration,
}

/// Matches topics' names against patterns of RE2's syntax. The domain has no regular expressions: the shell brings them.
pub trait Patterns: Send + Sync {
    /// Those of `names` that match as a whole; what is wrong with the pattern, for a person.
    fn matching(&self, pattern: &str, names: &mut dyn Iterator<Item = &Arc<str>>) -> Result<Vec<Arc<str>>, String>;
}

/// The effects of a step of a group.
pub type GroupEffects = Effects<GroupRecord, Reply, GroupEvent>;

/// How far a step had come.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub(super) records: usize,
    events: usize,
}

/// The surroundings of a group while it takes a command or a timer.
pub struct Context<'a> {
    /// The time of this step.
    pub now: Now,
    /// Fresh randomness of this step.
    pub entropy: u128,
    /// The broker's settings.
    pub settings: &'a GroupSettings,
    /// The cluster.
    pub image: &'a MetadataImage,
    /// Topics by pattern.
    pub patterns: &'a dyn Patterns,
    /// What is due when, for all groups of the shard.
    pub timers: &'a mut Timers<Timer>,
    /// What this step asks of the shell.
    pub effects: &'a mut GroupEffects,
}

impl Context<'_> {
    /// Answers a request, this one or an earlier one.
    pub fn reply(&mut self, token: Token, reply: Reply) {
        self.effects.replies.push((token, reply));
    }

    /// Writes a record.
    pub fn write(&mut self, record: GroupRecord) {
        self.effects.records.push(record);
    }

    /// Tells operators what happens.
    pub fn tell(&mut self, group_id: &Arc<str>, news: News) {
        let group_id = Arc::clone(group_id);
        self.effects.events.push(GroupEvent { group_id, news });
    }

    /// How far the step has come.
    pub fn mark(&self) -> Mark {
        Mark {
            records: self.effects.records.len(),
            events: self.effects.events.len(),
        }
    }

    /// Nothing is written, and nothing is told, of what came since.
    pub fn undo(&mut self, mark: Mark) {
        self.effects.records.truncate(mark.records);
        self.effects.events.truncate(mark.events);
    }

    /// Sets a timer that is due after `delay_ms`.
    pub fn set_timer(&mut self, timer: Timer, delay_ms: i64) {
        self.timers.set(timer, self.now.mono.plus_ms(delay_ms));
    }

    /// The moment `delay_ms` from now.
    pub fn after_ms(&self, delay_ms: i64) -> Mono {
        self.now.mono.plus_ms(delay_ms)
    }
}

/// A new member id as Kafka makes them: `prefix-uuid`.
pub fn new_member_id(prefix: &str, entropy: u128) -> Arc<str> {
    format!("{prefix}-{}", random_uuid(entropy)).into()
}

/// A random UUID made of `entropy`.
pub(super) fn random_uuid(entropy: u128) -> Uuid {
    uuid::Builder::from_random_bytes(entropy.to_be_bytes()).into_uuid()
}

/// The log takes these records as one batch of `size_bytes_max`.
pub(super) fn fit_in_a_batch(records: &[GroupRecord], size_bytes_max: usize) -> bool {
    let (mut key, mut value) = (BytesMut::new(), BytesMut::new());
    let are_encoded = records.iter().all(|record| record.encode(&mut key, &mut value).is_ok());
    // The header of the batch takes less than two records do.
    are_encoded && (records.len() + 2) * RECORD_OVERHEAD_BYTES + key.len() + value.len() <= size_bytes_max
}
