//! The settings that the broker reads.

use std::sync::Arc;

use ottla_domain::ids::BrokerId;
use ottla_domain::log::config::LogConfig;
use ottla_domain::metadata::config::effective::{NodeConfig, Properties};
use ottla_domain::metadata::image::{ConfigResource, MetadataImage};

/// `server.properties` and what follows from it.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    node_id: BrokerId,
    properties: Arc<Properties>,
    /// `fetch.max.bytes`: no fetch gets more than this.
    pub(super) fetch_max_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub(super) fetch_session_slots: usize,
    /// `log.cleaner.enable`.
    pub(super) cleans_logs: bool,
    /// `log.retention.check.interval.ms`.
    pub(super) retention_check_interval_ms: u64,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub(super) checkpoint_interval_ms: u64,
    /// `log.flush.scheduler.interval.ms`: how often `flush.ms` is looked at; never, by default.
    pub(super) flush_check_interval_ms: u64,
    /// `log.initial.task.delay.ms`.
    pub(super) initial_task_delay_ms: u64,
    /// `producer.id.expiration.check.interval.ms`.
    pub(super) producer_expiration_check_interval_ms: u64,
}

impl BrokerSettings {
    /// Reads what cannot change while the broker runs.
    pub fn new(node_id: BrokerId, properties: Arc<Properties>) -> Self {
        let config = NodeConfig {
            properties: &properties,
            dynamic: None,
            dynamic_default: None,
        };
        let interval_ms = |name: &str| u64::try_from(config.number(name)).unwrap_or(u64::MAX);
        BrokerSettings {
            fetch_max_bytes: i32::try_from(config.number("fetch.max.bytes")).unwrap_or(i32::MAX),
            fetch_session_slots: usize::try_from(config.number("max.incremental.fetch.session.cache.slots"))
                .unwrap_or(0),
            cleans_logs: config.flag("log.cleaner.enable"),
            retention_check_interval_ms: interval_ms("log.retention.check.interval.ms"),
            checkpoint_interval_ms: interval_ms("log.flush.offset.checkpoint.interval.ms"),
            flush_check_interval_ms: interval_ms("log.flush.scheduler.interval.ms"),
            initial_task_delay_ms: interval_ms("log.initial.task.delay.ms"),
            producer_expiration_check_interval_ms: interval_ms("producer.id.expiration.check.interval.ms"),
            node_id,
            properties,
        }
    }

    /// `server.properties`, with environment and overrides.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// All settings in effect according to an image.
    pub fn effective<'a>(&'a self, image: &'a MetadataImage) -> NodeConfig<'a> {
        NodeConfig::of(image, self.node_id, &self.properties)
    }

    /// What the logs of a topic go by.
    pub fn log_config(&self, image: &MetadataImage, topic: &str) -> Arc<LogConfig> {
        Arc::new(
            self.effective(image)
                .log_config(image.config(&ConfigResource::topic(topic))),
        )
    }
}
