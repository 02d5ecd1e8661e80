//! Starts and stops the parts of a node, in order.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_compression::Codecs;
use ottla_domain::groups::totals::GroupTotals;
use ottla_domain::ids::{DirectoryId, LeaderEpoch};
use ottla_domain::metadata::controller::brokers::{RegisterBroker, supported_broker_features};
use ottla_domain::metadata::controller::{self as commands};
use ottla_domain::metadata::image::{ApplyError, MetadataImage};
use ottla_domain::metadata::records::{
    BrokerEndpoint, BrokerFeature, ControllerEndpoint, ControllerFeature, RegisterControllerRecord,
};
use ottla_domain::ports::outbound::{Entropy, LogStore, StorageError};
use ottla_observability::health::Health;
use ottla_raft::{RaftHandle, Stopped};
use ottla_storage::{Log, Store, StoreConfig};
use ottla_wire::server::{BindError, Bound, ConnectionQuota, Listener, ListenerKind, Serving, SocketOptions};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info};
use uuid::Uuid;

use crate::announce::{Listening, announce};
use crate::auto_creation::AutoCreation;
use crate::broker::{Broker, BrokerSettings, Durability, InlineWrites, Tools, keep_awake};
use crate::clock::{SystemClock, SystemEntropy};
use crate::config::NodeConfig;
use crate::config::listeners::Endpoint;
use crate::groups::Groups;
use crate::lifecycle::{self, BrokerState, LifecycleTimes, RegistrationFailed};
use crate::limits::{self, connection_limits, request_limits};
use crate::metadata::{Listeners, Pump, QuorumLeader, reconcile};
use crate::metrics::{GroupMetrics, Quorum, Requests, Runtimes, Sources};
use crate::producer_ids::ProducerIds;
use crate::services::Services;
use crate::{controller, format, groups, observe, quorum};

/// How long requests that were read may take to be answered when the node stops.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// How long the controller may take to let the broker go.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);
/// How long the replica of the metadata log may take to stop.
const RAFT_STOP_GRACE: Duration = Duration::from_secs(5);
/// Raft, the controller, heartbeats and HTTP: little work that must not wait for clients.
const CONTROL_THREADS: usize = 2;

/// Why the node did not start, or stopped by itself: exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A log directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A host name in `listeners` has no address.
    #[error("listener {listener}: cannot resolve {host}: {error}")]
    Resolve {
        /// The listener.
        listener: String,
        /// Its host.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The machine refused something basic.
    #[error("{what}: {error}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The broker could not join.
    #[error(transparent)]
    Registration(#[from] RegistrationFailed),
    /// The metadata log could not be read.
    #[error(transparent)]
    Raft(#[from] ottla_raft::RaftError),
    /// The cluster's metadata is not understood.
    #[error("the metadata log does not make sense: {0}")]
    Metadata(#[from] ApplyError),
    /// Logs or metrics cannot be set up.
    #[error(transparent)]
    Observe(#[from] observe::ObserveError),
    /// A directory could not be formatted.
    #[error(transparent)]
    Format(#[from] format::FormatError),
    /// Nothing is left to serve from.
    #[error("all log.dirs have failed: {0}")]
    NoDirectory(String),
    /// A part of the node stopped by itself.
    #[error("{0} stopped unexpectedly; see the log")]
    Stopped(&'static str),
}

/// Runs the node until it is told to stop.
pub fn run(config: NodeConfig) -> Result<(), NodeError> {
    let started = Instant::now();
    let runtime = |name: &'static str, threads: usize| {
        let mut builder = Builder::new_multi_thread();
        let built = builder.worker_threads(threads).enable_all().thread_name(name).build();
        built.map_err(|error| NodeError::Machine {
            what: "starting threads",
            error,
        })
    };
    let control = runtime("ottla-control", CONTROL_THREADS)?;
    let data = runtime("ottla-data", data_threads())?;
    let outcome = control.block_on(async {
        // Before anything else: a signal that comes while the node starts stops it, too.
        let mut signals = Signals::new().map_err(|error| NodeError::Machine {
            what: "watching for signals",
            error,
        })?;
        let node = tokio::select! {
            node = Node::start(&config, &data, started) => node?,
            () = signals.stop() => return Ok(()),
        };
        node.run(signals).await
    });
    data.shutdown_timeout(STOP_GRACE);
    control.shutdown_timeout(STOP_GRACE);
    outcome
}

/// One for each processor, and one more: so many may write to disks without a change of threads, and one is left when all
/// of these stall.
fn data_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get) + 1
}

/// Opens the ports of every listener.
fn bind_all(config: &NodeConfig) -> Result<Vec<Bound>, NodeError> {
    let number = |name: &str| config.number(name);
    let buffer_bytes = |name: &str| usize::try_from(number(name)).ok();
    let options = SocketOptions {
        backlog: i32::try_from(number("socket.listen.backlog.size")).unwrap_or(i32::MAX),
        send_buffer_bytes: buffer_bytes("socket.send.buffer.bytes"),
        receive_buffer_bytes: buffer_bytes("socket.receive.buffer.bytes"),
    };
    let bind = |endpoint: &Endpoint| {
        let is_controller = config.is_controller_listener(endpoint);
        let kind = if is_controller {
            ListenerKind::Controller
        } else {
            ListenerKind::Broker
        };
        let listener = Listener {
            name: endpoint.name.as_str().into(),
            kind,
            addresses: addresses(endpoint)?,
        };
        Ok(Bound::bind(&listener, options)?)
    };
    config.listeners.iter().map(bind).collect()
}

/// The addresses of a listener; every interface, in both families, when it names no host.
///
/// `localhost` is this machine in both families even where /etc/hosts says less; of another name the first address counts,
/// as in Java.
fn addresses(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NodeError> {
    if endpoint.host.as_deref() == Some("localhost") {
        let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(local.map(|address| SocketAddr::new(address, endpoint.port)).into());
    }
    let Some(host) = &endpoint.host else {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(any.map(|address| SocketAddr::new(address, endpoint.port)).into());
    };
    let failed = |error| NodeError::Resolve {
        listener: endpoint.name.clone(),
        host: host.clone(),
        error,
    };
    let resolved = (host.as_str(), endpoint.port).to_socket_addrs().map_err(failed)?;
    Ok(resolved.take(1).collect())
}

fn listening(bound: &Bound) -> Listening {
    Listening {
        name: Arc::clone(bound.name()),
        addresses: bound.addresses().to_vec(),
    }
}

/// What others are told of these listeners (name, host, port): as configured, with the real port for 0 and this machine's
/// name for no host.
fn advertised(endpoints: &[Endpoint], bound: &[Bound]) -> Vec<(String, String, u16)> {
    let describe = |endpoint: &Endpoint| {
        let listener = bound.iter().find(|bound| **bound.name() == *endpoint.name);
        let bound_port = listener
            .and_then(|bound| bound.addresses().first())
            .map(SocketAddr::port);
        let port = if endpoint.port == 0 {
            bound_port.unwrap_or(0)
        } else {
            endpoint.port
        };
        (
            endpoint.name.clone(),
            endpoint.host.clone().unwrap_or_else(host_name),
            port,
        )
    };
    endpoints.iter().map(describe).collect()
}

fn broker_endpoint((name, host, port): (String, String, u16)) -> BrokerEndpoint {
    BrokerEndpoint {
        name,
        host,
        port,
        ..BrokerEndpoint::default()
    }
}

/// What this controller tells of itself (KIP-919).
fn controller_registration(config: &NodeConfig, bound: &[Bound], incarnation_id: Uuid) -> RegisterControllerRecord {
    let endpoint = |(name, host, port)| ControllerEndpoint {
        name,
        host,
        port,
        ..ControllerEndpoint::default()
    };
    let feature = |feature: BrokerFeature| ControllerFeature {
        name: feature.name,
        min_supported_version: feature.min_supported_version,
        max_supported_version: feature.max_supported_version,
        ..ControllerFeature::default()
    };
    RegisterControllerRecord {
        controller_id: config.node_id.0,
        incarnation_id,
        end_points: advertised(&config.advertised_controller_listeners, bound)
            .into_iter()
            .map(endpoint)
            .collect(),
        features: supported_broker_features().into_iter().map(feature).collect(),
        ..RegisterControllerRecord::default()
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn store_config(config: &NodeConfig, cluster_id: &str) -> StoreConfig {
    StoreConfig {
        log_dirs: config.log_dirs.iter().map(absolute).collect(),
        metadata_log_dir: absolute(&config.metadata_log_dir),
        cluster_id: cluster_id.to_owned(),
        node_id: config.node_id,
        recovery_threads_per_dir: usize::try_from(config.number("num.recovery.threads.per.data.dir")).unwrap_or(1),
    }
}

/// DescribeLogDirs names directories by their absolute paths.
fn absolute(path: impl AsRef<Path>) -> PathBuf {
    std::path::absolute(&path).unwrap_or_else(|_| path.as_ref().to_owned())
}

fn online_directories(store: &Store) -> Vec<DirectoryId> {
    store
        .directories()
        .iter()
        .filter(|facts| facts.offline.is_none())
        .map(|facts| facts.id)
        .collect()
}

fn lifecycle_times(config: &NodeConfig) -> LifecycleTimes {
    let ms = |name: &str| u64::try_from(config.number(name)).unwrap_or(0);
    LifecycleTimes {
        heartbeat_interval_ms: ms("broker.heartbeat.interval.ms"),
        answer_timeout_ms: i32::try_from(config.number("broker.session.timeout.ms") / 2).unwrap_or(i32::MAX),
        registration_timeout_ms: ms("initial.broker.registration.timeout.ms"),
    }
}

/// SIGTERM and SIGINT, which end the process no more once this exists.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits until someone wants the node to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for what ends a node that starts: the failure of its last directory, or of that of the metadata.
async fn failure(broker: &Broker<Store>, raft_stopped: &mut oneshot::Receiver<Stopped<Log>>) -> NodeError {
    tokio::select! {
        failed = broker.halted() => NodeError::NoDirectory(failed),
        stopped = raft_stopped => match stopped.ok().and_then(|stopped| stopped.result.err()) {
            Some(error) => error.into(),
            None => NodeError::Stopped("the replica of the metadata log"),
        },
    }
}

/// A node at work.
struct Node {
    broker: Arc<Broker<Store>>,
    groups: Arc<Groups<Store>>,
    serving: Vec<Serving>,
    stopping: watch::Sender<bool>,
    state: watch::Receiver<BrokerState>,
    raft: RaftHandle,
    raft_stopped: oneshot::Receiver<Stopped<Log>>,
    /// Ends only when the metadata log makes no sense, or is closed.
    pump: JoinHandle<Result<(), ApplyError>>,
    has_broker: bool,
    health: Arc<Health>,
}

impl Node {
    async fn start(config: &NodeConfig, data: &Runtime, started: Instant) -> Result<Node, NodeError> {
        let observability = observe::start(config)?;
        observe::raise_open_files_limit();
        // Ports first: a second node on this machine is told so before it touches anything.
        let bound = bind_all(config)?;
        let cluster_id = format::prepare(config)?;
        let store = Arc::new(Store::open(&store_config(config, &cluster_id))?);
        let clock = SystemClock::default();
        let properties = Arc::new(config.properties.clone());
        let settings = BrokerSettings::new(config.node_id, Arc::clone(&properties));
        let tools = Arc::new(Tools {
            clock,
            entropy: SystemEntropy,
            compression: Box::new(Codecs),
            inline_writes: InlineWrites::among(data_threads()),
            durability: match config.settings.get("ottla.fsync") {
                Some("ack") => Durability::Ack,
                _ => Durability::None,
            },
            trust_compressed: config.settings.get("ottla.validate.compressed") == Some("header"),
        });
        tokio::spawn(keep_awake(Arc::clone(&tools), data.handle().clone()));
        let broker = Arc::new(Broker::new(config.node_id, Arc::clone(&store), tools, settings));

        let quorum = quorum::start(config, &cluster_id, &store, clock)?;
        let mut raft_stopped = quorum.running.stopped;
        let log = Arc::new(quorum.handle.clone());
        let kraft_version = quorum.handle.kraft_version().0;
        let controller = controller::spawn(
            commands::Settings {
                node_id: config.node_id,
                cluster_id: cluster_id.clone(),
                properties,
                voters: config
                    .voters
                    .iter()
                    .map(|voter| voter.id)
                    .chain([config.node_id])
                    .collect(),
                kraft_version,
                bootstrap: format::bootstrap_records(config)?.into(),
            },
            Arc::clone(&log),
            clock,
        );
        let (images, mut image) = watch::channel(Arc::new(MetadataImage::default()));
        let (leader_sender, leader) = watch::channel(QuorumLeader {
            epoch: LeaderEpoch::UNKNOWN,
            leader: None,
        });
        let listeners = Listeners {
            broker: Arc::clone(&broker),
            controller: controller.clone(),
            images,
            leader: leader_sender,
        };
        let pump = tokio::spawn(Pump::new(config.node_id, listeners, log).run(quorum.events));

        let (stopping, is_stopping) = watch::channel(false);
        let (state_sender, state) = watch::channel(BrokerState::Starting);
        let group_totals = Arc::new(GroupTotals::default());
        let groups = Arc::new(groups::coordinator(
            broker.settings().clone(),
            Arc::clone(&group_totals),
            data.handle().clone(),
        ));
        let services = Arc::new(Services {
            broker: Arc::clone(&broker),
            controller: controller.clone(),
            auto_creation: AutoCreation::default(),
            groups: Arc::clone(&groups),
            producer_ids: ProducerIds::default(),
            broker_state: state.clone(),
            leader,
            raft: quorum.handle.clone(),
            cluster_id: cluster_id.as_str().into(),
            levels: observability.levels.clone(),
            kraft_version,
        });
        let memory_bytes = usize::try_from(config.number("ottla.request.memory.bytes")).unwrap_or(usize::MAX);
        let quota = ConnectionQuota::with_request_memory(connection_limits(&config.effective()), memory_bytes);
        tokio::spawn(limits::follow(
            Arc::clone(&quota),
            broker.settings().clone(),
            image.clone(),
        ));
        // Clients that take all connections must not keep admins from the controller.
        let controller_quota = ConnectionQuota::new(connection_limits(&config.effective()));
        if let Some(metrics) = &observability.metrics {
            let sources = Sources {
                broker: Arc::clone(&broker),
                store: Arc::clone(&store),
                clock,
                broker_state: config.roles.broker.then(|| state.clone()),
                is_controller: config.roles.controller,
                leader: services.leader.clone(),
                quorum: Quorum::new(quorum.handle.clone()),
                groups: GroupMetrics::new(Arc::clone(&groups), group_totals),
                of_partitions: config.effective().flag("ottla.metrics.partitions"),
                requests: Requests::record(),
                broker_quota: Arc::clone(&quota),
                controller_quota: Arc::clone(&controller_quota),
                runtimes: Runtimes::new(data.handle().clone(), Handle::current()),
            };
            metrics.add_collector(move |exposition| sources.collect(exposition));
        }
        let request_limits = request_limits(&config.effective());
        let mut serving = Vec::new();
        let (controllers, brokers): (Vec<_>, Vec<_>) = bound.into_iter().partition(|bound| {
            config
                .controller_listener_names
                .iter()
                .any(|name| **name == **bound.name())
        });
        let machine = |error| NodeError::Machine {
            what: "watching a listener",
            error,
        };
        let endpoints = advertised(&config.advertised_listeners, &brokers);
        let incarnation_id = Uuid::from_u128(SystemEntropy.draw());
        if config.roles.controller {
            let record = controller_registration(config, &controllers, incarnation_id);
            tokio::spawn(lifecycle::register_controller(controller.clone(), record));
        }
        let listening: Vec<Listening> = brokers.iter().chain(&controllers).map(listening).collect();
        for bound in controllers {
            serving.push(
                bound
                    .serve(Arc::clone(&services), request_limits, &controller_quota)
                    .map_err(machine)?,
            );
        }
        let has_broker = config.roles.broker;
        if has_broker {
            let times = lifecycle_times(config);
            let registration = RegisterBroker {
                broker: config.node_id,
                cluster_id: cluster_id.clone(),
                incarnation_id,
                endpoints: endpoints.into_iter().map(broker_endpoint).collect(),
                features: supported_broker_features(),
                rack: config.rack.clone(),
                log_directories: online_directories(&store),
                previous_broker_epoch: Some(store.previous_broker_epoch()),
            };
            let joining = async {
                let epoch = lifecycle::register(&controller, registration, times).await?;
                // The image in which this broker is registered has everything committed before.
                let registered = |image: &Arc<MetadataImage>| {
                    image
                        .broker(config.node_id)
                        .is_some_and(|broker| broker.broker_epoch == epoch.0)
                };
                let known = image.wait_for(registered).await;
                let known = known.map_err(|_| NodeError::Stopped("the metadata log"))?.clone();
                Ok::<_, NodeError>((epoch, known))
            };
            let (epoch, known) = tokio::select! {
                joined = joining => joined?,
                error = failure(&broker, &mut raft_stopped) => return Err(error),
            };
            let opened = {
                let broker = Arc::clone(&broker);
                tokio::task::spawn_blocking(move || broker.open_logs(&known)).await
            };
            opened.map_err(|_| NodeError::Stopped("opening logs"))??;
            let coordinators = {
                let (broker, groups) = (Arc::clone(&broker), Arc::clone(&groups));
                move |image: &Arc<MetadataImage>| groups.reconcile(&broker, image)
            };
            tokio::spawn(reconcile(
                Arc::clone(&broker),
                coordinators,
                Arc::new(MetadataImage::default()),
                image,
            ));
            state_sender.send_replace(BrokerState::Fenced(epoch));
            tokio::spawn(lifecycle::beat(
                Arc::clone(&broker),
                controller.clone(),
                times,
                is_stopping,
                state_sender,
            ));
            let assigning = Arc::clone(&broker);
            tokio::spawn(assigning.assign_directories(controller.clone(), state.clone(), times.answer_timeout_ms));
            data.spawn(Arc::clone(&broker).maintain());
            let running = |state: &BrokerState| matches!(state, BrokerState::Running(_));
            let mut unfenced = state.clone();
            tokio::select! {
                unfenced = unfenced.wait_for(running) => {
                    unfenced.map_err(|_| NodeError::Stopped("the broker's heartbeat"))?;
                }
                error = failure(&broker, &mut raft_stopped) => return Err(error),
            }
            let _guard = data.enter();
            for bound in brokers {
                serving.push(
                    bound
                        .serve(Arc::clone(&services), request_limits, &quota)
                        .map_err(machine)?,
                );
            }
        }
        let seen = state.clone();
        observability.health.started(move || match *seen.borrow() {
            BrokerState::Running(_) => Ok(()),
            _ if !has_broker => Ok(()),
            state => Err(format!("{state:?}")),
        });
        announce(
            config,
            &cluster_id,
            &listening,
            observability.http_address,
            started.elapsed(),
        );
        Ok(Node {
            broker,
            groups,
            serving,
            stopping,
            state,
            raft: quorum.handle,
            raft_stopped,
            pump,
            has_broker,
            health: observability.health,
        })
    }

    /// Serves until a signal comes or a part fails, then stops in order.
    async fn run(mut self, mut signals: Signals) -> Result<(), NodeError> {
        let mut replica = None;
        let outcome = tokio::select! {
            () = signals.stop() => Ok(()),
            failed = self.broker.halted() => Err(NodeError::NoDirectory(failed)),
            stopped = &mut self.raft_stopped => {
                // Without a word, its thread has panicked.
                replica = Some(stopped.ok());
                Err(NodeError::Stopped("the replica of the metadata log"))
            }
            ended = &mut self.pump => match ended {
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(())) | Err(_) => Err(NodeError::Stopped("the metadata log")),
            },
        };
        match &outcome {
            Ok(()) => info!("stopping"),
            Err(error) => error!(%error, "stopping"),
        }
        self.stop(outcome.is_ok(), replica).await.and(outcome)
    }

    /// Stops in order. `in_order` is false after a failure, when nobody may be there to let the broker go; `replica` is
    /// what is left of the metadata log's replica, if it stopped first.
    async fn stop(mut self, in_order: bool, replica: Option<Option<Stopped<Log>>>) -> Result<(), NodeError> {
        self.health.stopping();
        let epoch = self.state.borrow().epoch();
        self.stopping.send_replace(true);
        let may_stop = self.state.wait_for(|state| matches!(state, BrokerState::MayStop(_)));
        if self.has_broker && in_order && tokio::time::timeout(SHUTDOWN_PATIENCE, may_stop).await.is_err() {
            error!("the controller did not let this broker go in time; stopping all the same");
        }
        // Members that wait for a rebalance look for their coordinator elsewhere.
        let groups = Arc::clone(&self.groups);
        let closing = tokio::task::spawn_blocking(move || groups.close());
        closing.await.map_err(|_| NodeError::Stopped("closing groups"))?;
        let mut stops = JoinSet::new();
        for serving in self.serving {
            stops.spawn(serving.stop(STOP_GRACE));
        }
        while stops.join_next().await.is_some() {}
        let replica = match replica {
            Some(replica) => replica,
            None => {
                self.raft.shutdown(RAFT_STOP_GRACE);
                self.raft_stopped.await.ok()
            }
        };
        // The replica's log is closed with the others: after it nothing is written any more.
        let (log, failure) = replica.map_or((None, None), |stopped| {
            (Some((stopped.log, stopped.state)), stopped.result.err())
        });
        let broker = self.broker;
        let closed = tokio::task::spawn_blocking(move || broker.close(epoch, log)).await;
        if let Some(error) = failure {
            return Err(error.into());
        }
        closed.map_err(|_| NodeError::Stopped("closing logs"))??;
        info!("stopped");
        Ok(())
    }
}
