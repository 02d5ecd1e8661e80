//! Brokers say that they are alive, and are fenced when they no longer do (KIP-631).

use super::elections::{self, Departure};
use super::{Command, Context, Outcome};
use crate::error::ApiError;
use crate::ids::{BrokerEpoch, BrokerId, DirectoryId, Offset};
use crate::metadata::records::{BrokerRegistrationChangeRecord, MetadataRecord, RegisterBrokerRecord};

/// BrokerHeartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerHeartbeat {
    /// Who is alive.
    pub broker: BrokerId,
    /// In which life.
    pub broker_epoch: BrokerEpoch,
    /// Up to where it has applied the metadata log.
    pub metadata_offset: Offset,
    /// It wants to be fenced, or to stay so.
    pub want_fence: bool,
    /// It wants to shut down.
    pub want_shutdown: bool,
    /// Directories that failed (KIP-858).
    pub offline_directories: Vec<DirectoryId>,
    /// Directories that take no new partitions (KIP-1066); absent while the broker does not know.
    pub cordoned_directories: Option<Vec<DirectoryId>>,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerHeartbeatReply {
    /// The broker knows of its own registration.
    pub is_caught_up: bool,
    /// The broker is fenced.
    pub is_fenced: bool,
    /// The broker may stop now.
    pub should_shut_down: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fenced,
    Unfenced,
    ControlledShutdown,
    ShutdownNow,
}

impl BrokerHeartbeat {
    fn next_state(&self, context: &Context<'_>, current: State) -> State {
        let leads = || {
            let leads = |partition: &crate::metadata::records::PartitionRecord| partition.leader == self.broker.0;
            elections::partitions(context, leads).next().is_some()
        };
        let is_caught_up = context.sessions.has_caught_up(self.broker, self.metadata_offset);
        match current {
            State::Fenced if self.want_shutdown => State::ShutdownNow,
            State::Fenced if !self.want_fence && is_caught_up => State::Unfenced,
            State::Fenced => State::Fenced,
            State::Unfenced if self.want_fence && self.want_shutdown => State::ShutdownNow,
            State::Unfenced if self.want_fence => State::Fenced,
            State::Unfenced if self.want_shutdown && leads() => State::ControlledShutdown,
            State::Unfenced if self.want_shutdown => State::ShutdownNow,
            State::Unfenced => State::Unfenced,
            State::ControlledShutdown | State::ShutdownNow => {
                // Others must know that its leaders moved before it stops to answer.
                let recorded = context.sessions.shutdown_offset(self.broker);
                let is_known =
                    recorded.is_none_or(|offset| offset <= context.sessions.lowest_active_offset(context.image));
                if leads() || !is_known {
                    State::ControlledShutdown
                } else {
                    State::ShutdownNow
                }
            }
        }
    }

    fn directories(
        &self,
        context: &Context<'_>,
        registration: &RegisterBrokerRecord,
        records: &mut Vec<MetadataRecord>,
    ) {
        let is_offline = |directory: &uuid::Uuid| self.offline_directories.contains(&DirectoryId(*directory));
        let (failed, online): (Vec<_>, Vec<_>) = registration.log_dirs.iter().copied().partition(is_offline);
        for directory in &failed {
            let there = elections::in_directory(self.broker, DirectoryId(*directory));
            elections::remove_broker(context, self.broker, Departure::Clean, there, records);
        }
        if !failed.is_empty() {
            records.push(MetadataRecord::BrokerRegistrationChange(
                BrokerRegistrationChangeRecord {
                    log_dirs: online,
                    ..self.change()
                },
            ));
        }
        if let Some(cordoned) = &self.cordoned_directories {
            let mut new: Vec<uuid::Uuid> = cordoned.iter().map(|directory| directory.0).collect();
            new.sort();
            let mut known = registration.cordoned_log_dirs.clone();
            known.iter_mut().for_each(|known| known.sort());
            if known.as_ref() != Some(&new) {
                records.push(MetadataRecord::BrokerRegistrationChange(
                    BrokerRegistrationChangeRecord {
                        cordoned_log_dirs: Some(new),
                        ..self.change()
                    },
                ));
            }
        }
    }

    fn change(&self) -> BrokerRegistrationChangeRecord {
        BrokerRegistrationChangeRecord {
            broker_id: self.broker.0,
            broker_epoch: self.broker_epoch.0,
            ..BrokerRegistrationChangeRecord::default()
        }
    }
}

impl Command for BrokerHeartbeat {
    type Reply = BrokerHeartbeatReply;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<BrokerHeartbeatReply>, ApiError> {
        let registration = context.image.checked_broker(self.broker, self.broker_epoch)?;
        let current = if context.sessions.shutdown_offset(self.broker).is_some() {
            State::ControlledShutdown
        } else if registration.fenced {
            State::Fenced
        } else {
            State::Unfenced
        };
        let is_caught_up = context.sessions.has_caught_up(self.broker, self.metadata_offset);
        let next = self.next_state(context, current);
        let mut records = Vec::new();
        match next {
            State::Fenced | State::ShutdownNow if current != next => {
                fence(context, registration, Departure::Clean, &mut records);
            }
            State::Unfenced if current != next => {
                records.push(MetadataRecord::BrokerRegistrationChange(
                    BrokerRegistrationChangeRecord {
                        fenced: -1,
                        ..self.change()
                    },
                ));
                elections::add_broker(context, self.broker, &mut records);
            }
            State::ControlledShutdown if current != next => {
                if !registration.in_controlled_shutdown {
                    records.push(MetadataRecord::BrokerRegistrationChange(
                        BrokerRegistrationChangeRecord {
                            in_controlled_shutdown: 1,
                            ..self.change()
                        },
                    ));
                }
                let isr = elections::in_isr(self.broker);
                elections::remove_broker(context, self.broker, Departure::Clean, isr, &mut records);
            }
            _ => {}
        }
        context.sessions.touch(self.broker, self.metadata_offset, context.now);
        // A directory that fails together with a move of the same partitions is told again by the next heartbeat.
        if records.is_empty() {
            self.directories(context, registration, &mut records);
        }
        if next == State::ControlledShutdown {
            let written = i64::try_from(records.len()).unwrap_or(i64::MAX);
            context
                .sessions
                .begin_shutdown(self.broker, context.next_offset.plus(written - 1));
        }
        Ok(Outcome {
            records,
            reply: BrokerHeartbeatReply {
                is_caught_up,
                is_fenced: matches!(next, State::Fenced | State::ShutdownNow),
                should_shut_down: next == State::ShutdownNow,
            },
        })
    }
}

/// Takes the broker out of all ISRs and fences it.
fn fence(
    context: &Context<'_>,
    registration: &RegisterBrokerRecord,
    departure: Departure,
    records: &mut Vec<MetadataRecord>,
) {
    let id = BrokerId(registration.broker_id);
    elections::remove_broker(context, id, departure, elections::in_isr(id), records);
    records.push(MetadataRecord::BrokerRegistrationChange(
        BrokerRegistrationChangeRecord {
            broker_id: registration.broker_id,
            broker_epoch: registration.broker_epoch,
            fenced: 1,
            ..BrokerRegistrationChangeRecord::default()
        },
    ));
}

/// Fences the broker whose session ended first; to be repeated until the answer is none, so that each fencing sees the
/// one before. Due at [`super::Controller::next_deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceExpired;

impl Command for FenceExpired {
    type Reply = Option<BrokerId>;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Option<BrokerId>>, ApiError> {
        let Some(id) = context.sessions.first_expired(context.now) else {
            return Ok(Outcome::unchanged(None));
        };
        context.sessions.end(id);
        let mut records = Vec::new();
        if let Some(registration) = context.image.broker(id).filter(|registration| !registration.fenced) {
            fence(context, registration, Departure::Clean, &mut records);
        }
        Ok(Outcome {
            records,
            reply: Some(id),
        })
    }
}

/// Fences a broker that is known to be gone before its session ends (`ottla.broker.fast.fencing`), unless it was
/// registered anew or heard of meanwhile. No unclean election follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceEarly {
    /// Who is gone.
    pub broker: BrokerId,
    /// In which life.
    pub broker_epoch: BrokerEpoch,
}

impl Command for FenceEarly {
    type Reply = ();

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<()>, ApiError> {
        let registration = context.image.checked_broker(self.broker, self.broker_epoch)?;
        let mut records = Vec::new();
        if !registration.fenced {
            fence(context, registration, Departure::Early, &mut records);
        }
        Ok(Outcome { records, reply: () })
    }
}
