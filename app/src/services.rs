//! What the node offers at its listeners: the type that implements the inbound ports.

use std::sync::Arc;

use ottla_domain::error::ApiError;
use ottla_domain::ids::BrokerId;
use ottla_domain::metadata::controller::Command;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::ports::inbound::{ControllerApi, ViewApi};
use ottla_domain::ports::outbound::LogStore;

use crate::auto_creation::AutoCreation;
use crate::broker::Broker;
use crate::controller::ControllerHandle;

/// All services of the node.
pub struct Services<S: LogStore> {
    /// Records and replicas.
    pub broker: Arc<Broker<S>>,
    /// The controller of this process.
    pub controller: ControllerHandle,
    /// Makes topics that clients ask about.
    pub auto_creation: AutoCreation,
    /// The cluster's id.
    pub cluster_id: Arc<str>,
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
