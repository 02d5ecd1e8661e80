//! The active controller: commands become records.
//!
//! A command is evaluated against the speculative image, which holds the records of all commands before it, committed or
//! not. Its records are applied to that image at once; they and the reply leave the controller together, and the reply
//! may be sent when the records are committed. When leadership ends the [`Controller`] is dropped with its image.

pub mod brokers;
pub mod configs;
mod elections;
pub mod features;
pub mod heartbeats;
pub mod isr;
mod partition_change;
pub mod partitions;
pub mod producer_ids;
pub mod sessions;
pub mod topics;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::sessions::Sessions;
use super::config::effective::{NodeConfig, Properties};
use super::image::{ApplyError, MetadataImage};
use super::records::{MetadataRecord, RegisterBrokerRecord};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerEpoch, BrokerId, Mono, Offset};
use crate::ports::outbound::Entropy;

/// What one command may write: more is refused, as nothing of it could be committed in part.
pub const RECORDS_PER_COMMAND_MAX: usize = 10_000;

/// What the controller was started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `node.id` of this controller.
    pub node_id: BrokerId,
    /// The cluster that brokers must belong to.
    pub cluster_id: String,
    /// `server.properties`.
    pub properties: Arc<Properties>,
    /// The voters of the metadata quorum.
    pub voters: BTreeSet<BrokerId>,
    /// The level of `kraft.version`, which is not in the image.
    pub kraft_version: i16,
    /// What an empty metadata log begins with: the content of `bootstrap.checkpoint`.
    pub bootstrap: Arc<[MetadataRecord]>,
}

/// What a command is evaluated against.
pub struct Context<'a> {
    /// The state after all commands before this one.
    pub image: &'a MetadataImage,
    /// What brokers' heartbeats said.
    pub sessions: &'a mut Sessions,
    /// What the controller was started with.
    pub settings: &'a Settings,
    /// Where the first record of this command will be.
    pub next_offset: Offset,
    /// The time.
    pub now: Mono,
    /// Randomness, for ids and for placement.
    pub entropy: &'a dyn Entropy,
}

impl<'a> Context<'a> {
    /// The settings of this node in their layers; those of topics fall back to them.
    pub fn config(&self) -> NodeConfig<'a> {
        NodeConfig::of(self.image, self.settings.node_id, &self.settings.properties)
    }
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<R> {
    /// The change, to be appended as one batch.
    pub records: Vec<MetadataRecord>,
    /// The answer, to be sent once the records, and those of all commands before, are committed.
    pub reply: R,
}

impl<R> Outcome<R> {
    /// An answer without a change.
    pub fn unchanged(reply: R) -> Self {
        Outcome {
            records: Vec::new(),
            reply,
        }
    }

    /// The same without its change, when the client wanted to know only.
    fn validated(mut self, validate_only: bool) -> Self {
        if validate_only {
            self.records.clear();
        }
        self
    }
}

/// Something that the controller is asked to do.
pub trait Command: Send + 'static {
    /// The answer.
    type Reply: Send + 'static;

    /// Decides, without side effects but on sessions.
    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Self::Reply>, ApiError>;
}

/// The state of the active controller, for one epoch of the metadata quorum.
#[derive(Debug)]
pub struct Controller {
    image: MetadataImage,
    sessions: Sessions,
    settings: Settings,
    next_offset: Offset,
}

impl Controller {
    /// Takes over with all that is committed. `next_offset` is where the next record will be.
    pub fn new(committed: MetadataImage, settings: Settings, next_offset: Offset, now: Mono) -> Self {
        let config = NodeConfig::of(&committed, settings.node_id, &settings.properties);
        let session_timeout_ms = config.number("broker.session.timeout.ms");
        Controller {
            sessions: Sessions::new(&committed, settings.node_id, session_timeout_ms, now),
            image: committed,
            settings,
            next_offset,
        }
    }

    /// The speculative image.
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Where the next record will be.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Corrects where the next record will be, after something else was appended to the metadata log.
    pub fn set_next_offset(&mut self, next_offset: Offset) {
        self.next_offset = next_offset;
    }

    /// The quorum's voters changed (KIP-853).
    pub fn set_voters(&mut self, voters: BTreeSet<BrokerId>) {
        self.settings.voters = voters;
    }

    /// Evaluates a command and applies its records. After an [`ApplyError`] the controller must resign: it made records
    /// that do not fit its own image.
    pub fn handle<C: Command>(
        &mut self,
        command: C,
        now: Mono,
        entropy: &dyn Entropy,
    ) -> Result<Result<Outcome<C::Reply>, ApiError>, ApplyError> {
        let outcome = command.evaluate(&mut Context {
            image: &self.image,
            sessions: &mut self.sessions,
            settings: &self.settings,
            next_offset: self.next_offset,
            now,
            entropy,
        });
        if let Ok(outcome) = &outcome {
            for record in &outcome.records {
                self.image.apply(record)?;
                self.sessions.note(record, self.next_offset);
                self.next_offset = self.next_offset.next();
            }
        }
        Ok(outcome)
    }

    /// When [`heartbeats::FenceExpired`] has something to do: as soon as the first session times out.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.sessions.next_deadline()
    }
}

/// The refusal of a command of a user that would write too much at once.
fn limited(records: &[MetadataRecord]) -> Result<(), ApiError> {
    if records.len() > RECORDS_PER_COMMAND_MAX {
        let message = "Unable to perform excessively large batch operation.";
        return Err(ErrorCode::PolicyViolation.with(message));
    }
    Ok(())
}

impl MetadataImage {
    /// The registration of a broker that names itself with its epoch; STALE_BROKER_EPOCH when it was registered anew.
    fn checked_broker(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<&RegisterBrokerRecord, ApiError> {
        let stale = |message: String| ErrorCode::StaleBrokerEpoch.with(message);
        let broker = self.broker(id);
        let broker = broker.ok_or_else(|| stale(format!("No broker registration found for broker id {id}")))?;
        if broker.broker_epoch != epoch.0 {
            let expected = broker.broker_epoch;
            return Err(stale(format!(
                "Expected broker epoch {expected}, but got broker epoch {epoch}"
            )));
        }
        Ok(broker)
    }

    /// True for a broker that is registered, unfenced and not shutting down: one that may lead and be in the ISR.
    fn is_active(&self, id: i32) -> bool {
        self.broker(BrokerId(id))
            .is_some_and(|broker| !broker.fenced && !broker.in_controlled_shutdown)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
