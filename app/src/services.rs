//! What the node offers at its listeners: the type that implements the inbound ports.

use std::sync::Arc;

use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{BrokerId, ProducerId};
use ottla_domain::metadata::config::effective::Properties;
use ottla_domain::metadata::controller::Command;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::inbound::{ControllerApi, LogDirectory, ProducerIdApi, RaftApi, ViewApi};
use ottla_domain::ports::outbound::LogStore;
use ottla_domain::raft::QuorumStatus;
use ottla_domain::raft::messages::{ReplyResult, Request};
use ottla_observability::levels::Levels;
use ottla_raft::RaftHandle;
use tokio::sync::watch;

use crate::auto_creation::AutoCreation;
use crate::broker::Broker;
use crate::controller::ControllerHandle;
use crate::groups::Groups;
use crate::lifecycle::BrokerState;
use crate::metadata::QuorumLeader;
use crate::producer_ids::ProducerIds;

/// All services of the node.
pub struct Services<S: LogStore> {
    /// Records and replicas.
    pub broker: Arc<Broker<S>>,
    /// The controller of this process.
    pub controller: ControllerHandle,
    /// Makes topics that clients ask about.
    pub auto_creation: AutoCreation,
    /// The groups that this broker coordinates.
    pub groups: Arc<Groups<S>>,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// How far the broker has come.
    pub broker_state: watch::Receiver<BrokerState>,
    /// Who leads the metadata quorum.
    pub leader: watch::Receiver<QuorumLeader>,
    /// The replica of the metadata log.
    pub raft: RaftHandle,
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// What is logged.
    pub levels: Levels,
    /// The level of `kraft.version`.
    pub kraft_version: i16,
}

impl<S: LogStore> ControllerApi for Services<S> {
    async fn submit<C: Command>(&self, command: C, timeout_ms: i32) -> Result<C::Reply, ApiError> {
        self.controller.submit(command, timeout_ms).await
    }
}

impl<S: LogStore> ViewApi for Services<S> {
    fn node_id(&self) -> BrokerId {
        self.broker.id
    }

    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn properties(&self) -> &Properties {
        self.broker.settings().properties()
    }

    fn quorum_leader(&self) -> BrokerId {
        self.leader.borrow().leader.unwrap_or(BrokerId::NONE)
    }

    async fn log_directories(&self) -> Vec<LogDirectory> {
        let broker = Arc::clone(&self.broker);
        tokio::task::spawn_blocking(move || broker.log_directories())
            .await
            .unwrap_or_default()
    }

    fn image(&self) -> Arc<MetadataImage> {
        self.broker.image()
    }

    fn kraft_version(&self) -> i16 {
        self.kraft_version
    }

    fn auto_create_topics(&self, names: Vec<String>) {
        self.auto_creation.create(&self.broker, &self.controller, names);
    }
}

impl<S: LogStore> ProducerIdApi for Services<S> {
    async fn next_producer_id(&self) -> Result<ProducerId, ErrorCode> {
        let epoch = self.broker_state.borrow().epoch();
        self.producer_ids.next(self.broker.id, epoch, &self.controller).await
    }
}

impl<S: LogStore> RaftApi for Services<S> {
    async fn handle(&self, request: Request) -> ReplyResult {
        self.raft.handle(request).await
    }

    async fn describe_quorum(&self) -> Option<QuorumStatus> {
        self.raft.describe_quorum().await
    }
}
