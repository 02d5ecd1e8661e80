//! The active controller: one task that evaluates commands in their order, appends what they come to, and answers when
//! that is committed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{LeaderEpoch, Mono, Offset};
use ottla_domain::metadata::config::effective::NodeConfig;
use ottla_domain::metadata::controller::features::{Activate, WriteNoOp};
use ottla_domain::metadata::controller::heartbeats::FenceExpired;
use ottla_domain::metadata::controller::isr::{BalanceLeaders, ElectUncleanLeaders};
use ottla_domain::metadata::controller::{Command, Controller, Settings};
use ottla_domain::metadata::image::{ApplyError, Provenance};
use ottla_domain::metadata::loader::ImageLoader;
use ottla_domain::metadata::records::MetadataRecord;
use ottla_domain::ports::inbound::ControllerApi;
use ottla_domain::ports::outbound::{Clock, MetadataLog};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info};

use crate::clock::{SystemClock, SystemEntropy};

/// How many commands may wait; more are answered with REQUEST_TIMED_OUT when their time is up.
const MAILBOX_SIZE: usize = 1024;

/// A timer that is off.
const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Delivers an answer: after the commit, or an error in place of it.
type Deliver = Box<dyn FnOnce(Result<(), ApiError>) + Send>;

/// Evaluates one command; `None` when it failed and was answered.
type Job = Box<dyn FnOnce(Result<&mut Controller, ApiError>, Mono) -> Result<Option<Evaluated>, ApplyError> + Send>;

struct Evaluated {
    records: Vec<MetadataRecord>,
    deliver: Deliver,
}

enum Message {
    Command(Job),
    Lead {
        epoch: LeaderEpoch,
        loader: Box<ImageLoader>,
        next_offset: Offset,
    },
    Follow,
    Committed(Offset),
}

/// Sends commands to the controller of this process.
#[derive(Clone)]
pub struct ControllerHandle {
    mailbox: mpsc::Sender<Message>,
}

impl ControllerHandle {
    /// This node leads the quorum; `loader` has all that is committed.
    pub async fn lead(&self, epoch: LeaderEpoch, loader: ImageLoader, next_offset: Offset) {
        let loader = Box::new(loader);
        self.tell(Message::Lead {
            epoch,
            loader,
            next_offset,
        })
        .await;
    }

    /// This node does not lead, or no longer.
    pub async fn follow(&self) {
        self.tell(Message::Follow).await;
    }

    /// Everything up to and including this offset is committed, and visible in the published image.
    pub async fn committed(&self, last_offset: Offset) {
        self.tell(Message::Committed(last_offset)).await;
    }

    async fn tell(&self, message: Message) {
        if self.mailbox.send(message).await.is_err() {
            error!("the controller has stopped");
        }
    }
}

impl ControllerApi for ControllerHandle {
    async fn submit<C: Command>(&self, command: C, timeout_ms: i32) -> Result<C::Reply, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |controller, now| {
            // Whoever asked was told that the time is up: too late is not at all, as in Kafka.
            if sender.is_closed() {
                return Ok(None);
            }
            let outcome = match controller {
                Ok(controller) => controller.handle(command, now, &SystemEntropy)?,
                Err(not_controller) => Err(not_controller),
            };
            match outcome {
                Ok(outcome) => {
                    let reply = outcome.reply;
                    let deliver: Deliver = Box::new(move |committed| {
                        // Nobody listens any more when the request timed out or its connection closed.
                        let _ = sender.send(committed.map(|()| reply));
                    });
                    Ok(Some(Evaluated {
                        records: outcome.records,
                        deliver,
                    }))
                }
                Err(error) => {
                    let _ = sender.send(Err(error));
                    Ok(None)
                }
            }
        });
        let answered = async {
            self.mailbox
                .send(Message::Command(job))
                .await
                .map_err(|_| ErrorCode::NotController)?;
            receiver.await.map_err(|_| ErrorCode::NotController)?
        };
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        tokio::time::timeout(timeout, answered)
            .await
            .unwrap_or_else(|_| Err(ErrorCode::RequestTimedOut.into()))
    }
}

/// Starts the controller's task on the current runtime.
pub fn spawn<M: MetadataLog>(settings: Settings, log: Arc<M>, clock: SystemClock) -> ControllerHandle {
    let (mailbox, messages) = mpsc::channel(MAILBOX_SIZE);
    let actor = Actor {
        settings,
        log,
        clock,
        active: None,
    };
    tokio::spawn(actor.run(messages));
    ControllerHandle { mailbox }
}

/// A controller while it leads.
struct Active {
    epoch: LeaderEpoch,
    controller: Controller,
    /// Answers that wait until the offset before theirs is committed.
    waiting: VecDeque<(Offset, Deliver)>,
    committed_end: Offset,
}

struct Actor<M> {
    settings: Settings,
    log: Arc<M>,
    clock: SystemClock,
    active: Option<Active>,
}

impl<M: MetadataLog> Actor<M> {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let properties = Arc::clone(&self.settings.properties);
        let config = NodeConfig {
            properties: &properties,
            dynamic: None,
            dynamic_default: None,
        };
        let every = |name: &str, unit_ms: u64| {
            let period_ms = u64::try_from(config.number(name)).unwrap_or(0).saturating_mul(unit_ms);
            let period = if period_ms == 0 {
                LONG
            } else {
                Duration::from_millis(period_ms)
            };
            let mut interval = tokio::time::interval_at(Instant::now() + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let balances = config.flag("auto.leader.rebalance.enable");
        let mut idle = every("metadata.max.idle.interval.ms", 1);
        let mut balance = every("leader.imbalance.check.interval.seconds", 1000);
        let mut unclean = every("unclean.leader.election.interval.ms", 1);
        loop {
            let deadline = self
                .active
                .as_ref()
                .and_then(|active| active.controller.next_deadline());
            let wait_ms = deadline.map_or(i64::MAX, |deadline| deadline.ms_since(self.clock.mono()) + 1);
            let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.handle(message),
                    None => return,
                },
                () = tokio::time::sleep(wait) => self.evaluate_own(FenceExpired),
                // Consumers of the metadata log see that it is alive (KIP-835).
                _ = idle.tick() => self.evaluate_own(WriteNoOp),
                _ = balance.tick(), if balances => self.evaluate_own(BalanceLeaders),
                _ = unclean.tick() => self.evaluate_own(ElectUncleanLeaders),
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Lead {
                epoch,
                loader,
                next_offset,
            } => self.lead(epoch, *loader, next_offset),
            Message::Follow => self.follow(),
            Message::Committed(last_offset) => self.committed(last_offset.next()),
            Message::Command(job) => self.evaluate(job),
        }
    }

    /// Completes what is open in the log, writes what a new cluster begins with, and takes commands from then on.
    fn lead(&mut self, epoch: LeaderEpoch, mut loader: ImageLoader, next_offset: Offset) {
        info!(%epoch, %next_offset, "this controller is active");
        let records = Activate {
            in_transaction: loader.in_transaction(),
        }
        .records(loader.image(), &self.settings);
        let mut end = next_offset;
        if !records.is_empty() {
            end = next_offset.plus(i64::try_from(records.len()).unwrap_or(i64::MAX));
            let last = Provenance {
                offset: end.plus(-1),
                epoch,
                timestamp: self.clock.now(),
            };
            if let Err(error) = loader.apply_batch(&records, last) {
                error!(%error, "the metadata of a new cluster does not fit; resigning");
                self.log.resign(epoch);
                return;
            }
            match self.log.append(epoch, records) {
                Ok(base) if base == next_offset => {}
                moved => {
                    error!(?moved, %next_offset, "the metadata log moved before the controller began; resigning");
                    self.log.resign(epoch);
                    return;
                }
            }
        }
        let now = self.clock.mono();
        let controller = Controller::new(loader.image().clone(), self.settings.clone(), end, now);
        self.active = Some(Active {
            epoch,
            controller,
            waiting: VecDeque::new(),
            committed_end: next_offset,
        });
    }

    fn follow(&mut self) {
        if let Some(active) = self.active.take() {
            info!(epoch = %active.epoch, "this controller is no longer active");
            let gone = || Err(ErrorCode::NotController.with("The active controller has moved to another node."));
            active.waiting.into_iter().for_each(|(_, deliver)| deliver(gone()));
        }
    }

    fn committed(&mut self, end: Offset) {
        let Some(active) = &mut self.active else { return };
        active.committed_end = active.committed_end.max(end);
        while active
            .waiting
            .front()
            .is_some_and(|(offset, _)| *offset <= active.committed_end)
        {
            if let Some((_, deliver)) = active.waiting.pop_front() {
                deliver(Ok(()));
            }
        }
    }

    fn evaluate(&mut self, job: Job) {
        let now = self.clock.mono();
        let Some(active) = &mut self.active else {
            let inactive = ErrorCode::NotController.with("This node is not the active controller.");
            // Without a controller there is nothing to apply to, and so no error to see.
            let _ = job(Err(inactive), now);
            return;
        };
        let epoch = active.epoch;
        let first = active.controller.next_offset();
        match job(Ok(&mut active.controller), now) {
            Ok(None) => {}
            Ok(Some(evaluated)) if evaluated.records.is_empty() => {
                // What the answer tells may not be committed yet.
                active.waiting.push_back((first, evaluated.deliver));
                self.committed(Offset::ZERO);
            }
            Ok(Some(evaluated)) => {
                let end = active.controller.next_offset();
                match self.log.append(epoch, evaluated.records) {
                    Ok(base) if base == first => active.waiting.push_back((end, evaluated.deliver)),
                    Ok(base) => {
                        error!(%base, %first, "the metadata log moved under the controller; resigning");
                        self.resign(epoch);
                    }
                    Err(not_leader) => {
                        (evaluated.deliver)(Err(ErrorCode::NotController.with(not_leader.to_string())));
                        self.follow();
                    }
                }
            }
            Err(error) => {
                error!(%error, "the controller made records that do not fit its own image; resigning");
                self.resign(epoch);
            }
        }
    }

    fn evaluate_own<C: Command>(&mut self, command: C) {
        self.evaluate(Box::new(move |controller, now| {
            let Ok(controller) = controller else { return Ok(None) };
            let outcome = controller.handle(command, now, &SystemEntropy)?;
            match outcome {
                Ok(outcome) => Ok(Some(Evaluated {
                    records: outcome.records,
                    deliver: Box::new(|_| ()),
                })),
                Err(error) => {
                    error!(%error, "a command of the controller itself failed");
                    Ok(None)
                }
            }
        }));
    }

    fn resign(&mut self, epoch: LeaderEpoch) {
        self.follow();
        self.log.resign(epoch);
    }
}
