//! The contract of coordinators: replicated state machines over the partitions of an internal topic.
//!
//! A shard is all the state behind one partition. Commands turn into records and replies; records are the only way in which
//! hard state changes, live and on load alike, so that recovery, failover and tests take one path. What may be lost on a
//! failover (sessions, waiting requests) is soft state: it changes in [`Shard::handle`] and is rebuilt by [`Shard::loaded`].

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;

use bytes::BytesMut;

use crate::ids::{Mono, Offset, ProducerId, Timestamp};
use crate::metadata::image::MetadataImage;
use crate::record::primitives::EncodeError;

/// What a record takes in a batch besides its key and value, at most: length, attributes, deltas, the number of headers.
pub const RECORD_OVERHEAD_BYTES: usize = 40;

/// Names a request whose answer may come with a later event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// The time, as the shell reads it once for each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What goes into records and is compared with them.
    pub timestamp: Timestamp,
    /// What timeouts are measured with.
    pub mono: Mono,
}

/// What a step asks the shell to do, in this order: apply the records and append them, and, once they are committed, send
/// the replies.
#[derive(Debug)]
pub struct Effects<R, Y, E = Infallible> {
    /// Go into the log as one batch, or with [`Effects::is_atomic`] unset in several.
    pub records: Vec<R>,
    /// The requests that are answered, of this step or of earlier ones.
    pub replies: Vec<(Token, Y)>,
    /// What operators are told.
    pub events: Vec<E>,
    /// The records take effect together or not at all.
    pub is_atomic: bool,
    /// The step has changed nothing but by its records: where they cannot be written, it may be as if it had not been.
    pub is_retractable: bool,
}

impl<R, Y, E> Default for Effects<R, Y, E> {
    fn default() -> Self {
        Effects {
            records: Vec::new(),
            replies: Vec::new(),
            events: Vec::new(),
            is_atomic: true,
            is_retractable: false,
        }
    }
}

impl<R, Y, E> Effects<R, Y, E> {
    /// A reply without records.
    pub fn reply(token: Token, reply: Y) -> Self {
        Effects {
            replies: vec![(token, reply)],
            ..Effects::default()
        }
    }
}

/// Something that operators are told: a line of the log.
pub trait Event: Display {
    /// Somebody should look at it.
    fn is_warning(&self) -> bool;
}

impl Event for Infallible {
    fn is_warning(&self) -> bool {
        match *self {}
    }
}

/// The effects of a step of a shard.
pub type EffectsOf<M> = Effects<<M as Shard>::Record, <M as Shard>::Reply, <M as Shard>::Event>;

/// What the log holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored<R> {
    /// A record.
    Record(R),
    /// A record of a type that this version does not know; it is kept and skipped.
    Unknown(i16),
}

/// The state machine behind one partition of an internal topic.
pub trait Shard: Sized + Send + 'static {
    /// What is asked of it.
    type Command: Send + 'static;
    /// What it answers.
    type Reply: Send + 'static;
    /// What it writes.
    type Record: Send + 'static;
    /// What it tells.
    type Event: Event + Send + 'static;

    /// Appends the bytes of a record's key and value; false for a tombstone, whose value is null. Fails when the record
    /// does not fit its format.
    fn encode(record: &Self::Record, key: &mut BytesMut, value: &mut BytesMut) -> Result<bool, EncodeError>;

    /// Reads a record; `Err` where the shard cannot be what its log says without it.
    fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Stored<Self::Record>, String>;

    /// Takes a command. Changes soft state only; the caller applies the records of the result before the next step.
    /// `entropy` is fresh randomness.
    fn handle(&mut self, now: Now, entropy: u128, command: Self::Command, token: Token) -> EffectsOf<Self>;

    /// Takes the time: what was due by [`Shard::next_deadline`]. The caller calls again while the deadline is not later
    /// than `now`, after it applied the records.
    fn on_deadline(&mut self, now: Now, entropy: u128) -> EffectsOf<Self>;

    /// When [`Shard::on_deadline`] wants to be called, if ever.
    fn next_deadline(&self) -> Option<Mono>;

    /// Takes newer metadata into account.
    fn on_image(&mut self, now: Now, image: Arc<MetadataImage>) -> EffectsOf<Self>;

    /// Takes a record over into hard state: one that a step has just returned, or one that is read from the log. One of a
    /// transaction of a `producer` counts once that is committed. Says what is wrong with one of the log that cannot be: then
    /// the shard is of no use.
    fn apply(&mut self, offset: Offset, producer: Option<ProducerId>, record: Self::Record) -> Result<(), String>;

    /// The transaction of a producer has ended: what it wrote counts from now on, or it is as if it had never been.
    fn apply_marker(&mut self, producer: ProducerId, is_committed: bool);

    /// All records of the log were applied, live ones follow: builds soft state, conservatively.
    fn loaded(&mut self, now: Now) -> EffectsOf<Self>;
}
