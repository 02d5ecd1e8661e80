//! This node's replica of the metadata log, from its configuration.

use std::path::Path;
use std::sync::Arc;

use ottla_domain::ids::DirectoryId;
use ottla_domain::log::config::LogConfig;
use ottla_domain::ports::outbound::{Clock, MetadataEvent};
use ottla_domain::raft::snapshots::SnapshotConfig;
use ottla_domain::raft::voters::{Endpoint, Endpoints, KRaftVersion, ReplicaKey, Voter, VoterSet};
use ottla_domain::raft::{Identity, QuorumConfig};
use ottla_raft::{NoPeers, RaftHandle, ReplicaConfig, ReplicaPorts, Running};
use ottla_storage::{Log, MetaProperties, Store};
use tokio::sync::mpsc;

use crate::clock::{SystemClock, SystemEntropy};
use crate::config::NodeConfig;
use crate::config::quorum::StaticVoter;
use crate::node::NodeError;

/// How many events of the metadata log may wait for this node to take them in.
const EVENTS_WAITING_MAX: usize = 1024;

/// A running replica and what it tells.
pub struct Quorum {
    /// Speaks to it.
    pub handle: RaftHandle,
    /// Ends when it stops.
    pub running: Running<Log>,
    /// What is committed, and who leads.
    pub events: mpsc::Receiver<MetadataEvent>,
}

/// Opens the metadata log and starts the replica. Blocks on the disk.
pub fn start(config: &NodeConfig, cluster_id: &str, store: &Store, clock: SystemClock) -> Result<Quorum, NodeError> {
    let log = store.open_metadata_log(Arc::new(log_config(config)), clock.now())?;
    let metadata_log_dir = Path::new(&config.metadata_log_dir);
    let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let ports = ReplicaPorts {
        log,
        folder: ottla_raft::metadata_folder(metadata_log_dir),
        transport: NoPeers,
        clock,
        entropy: SystemEntropy,
        listeners: vec![sender],
    };
    let running = ottla_raft::start(replica_config(config, cluster_id, metadata_log_dir)?, ports)?;
    Ok(Quorum {
        handle: running.handle.clone(),
        running,
        events,
    })
}

fn replica_config(config: &NodeConfig, cluster_id: &str, metadata_log_dir: &Path) -> Result<ReplicaConfig, NodeError> {
    let settings = config.effective();
    let number = |name: &str| settings.number(name);
    let controllers = &config.advertised_controller_listeners;
    let endpoint = |listener: &str, host: &str, port: u16| Endpoint {
        listener: listener.into(),
        host: host.into(),
        port,
    };
    let local = Voter {
        key: ReplicaKey::new(config.node_id, directory_id(metadata_log_dir)?),
        endpoints: Endpoints(
            controllers
                .iter()
                .map(|known| endpoint(&known.name, known.host.as_deref().unwrap_or_default(), known.port))
                .collect(),
        ),
        min_kraft_version: KRaftVersion(0),
        max_kraft_version: KRaftVersion::LATEST,
    };
    let listener = config
        .controller_listener_names
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let static_voter = |voter: &StaticVoter| Voter {
        key: ReplicaKey {
            id: voter.id,
            directory: None,
        },
        endpoints: Endpoints(vec![endpoint(listener, &voter.address.host, voter.address.port)]),
        min_kraft_version: KRaftVersion(0),
        max_kraft_version: KRaftVersion(0),
    };
    let bootstrap = if config.bootstrap_servers.is_empty() {
        config.voters.iter().map(|voter| &voter.address).collect::<Vec<_>>()
    } else {
        config.bootstrap_servers.iter().collect()
    };
    Ok(ReplicaConfig {
        identity: Identity {
            local,
            can_become_voter: config.roles.controller,
            cluster_id: cluster_id.into(),
            listener: listener.into(),
            bootstrap: bootstrap
                .iter()
                .map(|address| (address.host.as_str().into(), address.port))
                .collect(),
        },
        quorum: QuorumConfig {
            election_timeout_ms: number("controller.quorum.election.timeout.ms"),
            fetch_timeout_ms: number("controller.quorum.fetch.timeout.ms"),
            election_backoff_max_ms: number("controller.quorum.election.backoff.max.ms"),
            request_timeout_ms: number("controller.quorum.request.timeout.ms"),
            retry_backoff_ms: number("controller.quorum.retry.backoff.ms"),
            ..QuorumConfig::default()
        },
        static_voters: config.voters.iter().map(static_voter).collect::<VoterSet>(),
        snapshots: SnapshotConfig {
            max_record_bytes: u64::try_from(number("metadata.log.max.record.bytes.between.snapshots")).unwrap_or(0),
            max_interval_ms: number("metadata.log.max.snapshot.interval.ms"),
            retention_bytes: number("metadata.max.retention.bytes"),
            retention_ms: number("metadata.max.retention.ms"),
        },
    })
}

/// Segments of the metadata log go only behind a snapshot, which the replica sees to.
fn log_config(config: &NodeConfig) -> LogConfig {
    let settings = config.effective();
    LogConfig {
        segment_bytes: u32::try_from(settings.number("metadata.log.segment.bytes")).unwrap_or(u32::MAX),
        segment_ms: settings.number("metadata.log.segment.ms"),
        retention_ms: -1,
        retention_bytes: -1,
        ..LogConfig::default()
    }
}

fn directory_id(metadata_log_dir: &Path) -> Result<DirectoryId, NodeError> {
    let unreadable = |error| NodeError::Machine {
        what: "reading meta.properties",
        error,
    };
    let properties = MetaProperties::read(metadata_log_dir).map_err(unreadable)??;
    Ok(properties.map_or(DirectoryId::MIGRATING, |properties| properties.directory_id))
}
