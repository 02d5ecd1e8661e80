//! The broker's life in the cluster: it registers, says that it is alive, and leaves in order (KIP-631).

use std::sync::Arc;
use std::time::Duration;

use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{BrokerEpoch, DirectoryId};
use ottla_domain::metadata::controller::brokers::{RegisterBroker, RegisterController};
use ottla_domain::metadata::controller::heartbeats::BrokerHeartbeat;
use ottla_domain::metadata::records::RegisterControllerRecord;
use ottla_domain::ports::inbound::ControllerApi;
use ottla_domain::ports::outbound::LogStore;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::broker::Broker;

/// How long to wait before asking again a controller that is not ready: little at first, because a node that starts
/// alone is its own controller within milliseconds.
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(2);
    const MOST: Duration = Duration::from_millis(100);

    fn new() -> Backoff {
        Backoff(Self::FIRST)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = pause.saturating_mul(2).min(Self::MOST);
        pause
    }
}

/// How long a registration of a controller may take before it is sent again.
const CONTROLLER_REGISTRATION_TIMEOUT_MS: i32 = 5_000;

/// Tells the first failure from those that follow it, of which nobody need hear.
#[derive(Debug, Default)]
pub struct Failures {
    is_failing: bool,
}

impl Failures {
    /// True for the first failure since the last success; never when there just is no controller.
    pub fn is_news(&mut self, error: &ApiError) -> bool {
        error.code != ErrorCode::NotController && !std::mem::replace(&mut self.is_failing, true)
    }

    /// It worked.
    pub fn end(&mut self) {
        self.is_failing = false;
    }
}

/// How far the broker has come, for whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// Not registered.
    Starting,
    /// Registered, and not trusted with leadership yet.
    Fenced(BrokerEpoch),
    /// At work.
    Running(BrokerEpoch),
    /// Nothing holds it back from stopping.
    MayStop(BrokerEpoch),
}

impl BrokerState {
    /// The broker's epoch, once it is registered.
    pub fn epoch(self) -> BrokerEpoch {
        match self {
            BrokerState::Starting => BrokerEpoch::UNKNOWN,
            BrokerState::Fenced(epoch) | BrokerState::Running(epoch) | BrokerState::MayStop(epoch) => epoch,
        }
    }
}

/// Times of a broker's life.
#[derive(Clone, Copy, Debug)]
pub struct LifecycleTimes {
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: u64,
    /// How long an answer is awaited: half of `broker.session.timeout.ms`, so that a controller that only listens, because it
    /// cannot commit, still hears from the broker within a session (what KAFKA-14392 was about).
    pub answer_timeout_ms: i32,
    /// `initial.broker.registration.timeout.ms`.
    pub registration_timeout_ms: u64,
}

/// The broker could not join the cluster in time.
#[derive(Debug, thiserror::Error)]
#[error("Failed to connect to controller quorum within initial.broker.registration.timeout.ms={timeout_ms}: {last}")]
pub struct RegistrationFailed {
    timeout_ms: u64,
    last: ApiError,
}

/// Registers the broker, trying again until the time is up.
pub async fn register<C: ControllerApi>(
    controller: &C,
    registration: RegisterBroker,
    times: LifecycleTimes,
) -> Result<BrokerEpoch, RegistrationFailed> {
    let deadline = Instant::now() + Duration::from_millis(times.registration_timeout_ms);
    let mut backoff = Backoff::new();
    loop {
        match controller.submit(registration.clone(), times.answer_timeout_ms).await {
            Ok(epoch) => {
                info!(%epoch, "registered with the controller");
                return Ok(epoch);
            }
            Err(last) if Instant::now() >= deadline => {
                return Err(RegistrationFailed {
                    timeout_ms: times.registration_timeout_ms,
                    last,
                });
            }
            Err(error) if error.code == ErrorCode::NotController => debug!(%error, "no controller yet"),
            Err(error) => warn!(%error, "registration failed; trying again"),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Registers this process as a controller, trying until it is done (KIP-919).
pub async fn register_controller<C: ControllerApi>(controller: C, registration: RegisterControllerRecord) {
    let mut backoff = Backoff::new();
    while let Err(error) = controller
        .submit(
            RegisterController(registration.clone()),
            CONTROLLER_REGISTRATION_TIMEOUT_MS,
        )
        .await
    {
        debug!(%error, "registering the controller failed; trying again");
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Heartbeats of a registered broker, until the controller lets it stop. `stopping` turns true when it wants to. A log
/// directory that fails is reported at once.
pub async fn beat<S: LogStore, C: ControllerApi>(
    broker: Arc<Broker<S>>,
    controller: C,
    times: LifecycleTimes,
    mut stopping: watch::Receiver<bool>,
    state: watch::Sender<BrokerState>,
) {
    let interval = Duration::from_millis(times.heartbeat_interval_ms.max(1));
    let mut backoff = Backoff::new();
    let mut failed_directories = broker.failed_directories();
    let mut failures = Failures::default();
    loop {
        failed_directories.mark_unchanged();
        let epoch = state.borrow().epoch();
        let heartbeat = BrokerHeartbeat {
            broker: broker.id,
            broker_epoch: epoch,
            metadata_offset: broker.reconciled_offset(),
            want_fence: false,
            want_shutdown: *stopping.borrow(),
            offline_directories: broker.offline_directories(),
            cordoned_directories: Some(Vec::<DirectoryId>::new()),
        };
        let mut pause = interval;
        match controller.submit(heartbeat, times.answer_timeout_ms).await {
            Ok(reply) if reply.should_shut_down => {
                state.send_replace(BrokerState::MayStop(epoch));
                return;
            }
            Ok(reply) => {
                let next = if reply.is_fenced {
                    BrokerState::Fenced(epoch)
                } else {
                    BrokerState::Running(epoch)
                };
                failures.end();
                let previous = state.send_replace(next);
                if previous != next {
                    info!(?next, "the broker's state changed");
                }
                // A broker on its way in or out asks again soon.
                if reply.is_fenced || *stopping.borrow() {
                    pause = pause.min(backoff.next());
                } else {
                    backoff = Backoff::new();
                }
            }
            Err(error) => {
                if failures.is_news(&error) {
                    error!(%error, "a heartbeat failed; trying again until it is answered");
                } else {
                    debug!(%error, "a heartbeat failed");
                }
                pause = pause.min(backoff.next());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // The sender lives as long as the broker.
            _ = failed_directories.changed() => {}
            changed = stopping.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
