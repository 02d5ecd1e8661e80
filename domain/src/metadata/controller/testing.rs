//! A controller with brokers that tests command.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::brokers::{RegisterBroker, supported_broker_features};
use super::features::Activate;
use super::heartbeats::BrokerHeartbeat;
use super::topics::{CreateTopics, CreatedTopic, NewTopic};
use super::{Command, Controller, Settings};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, Mono, Offset, PartitionId, Timestamp};
use crate::metadata::config::effective::Properties;
use crate::metadata::image::{MetadataImage, Provenance};
use crate::metadata::loader::ImageLoader;
use crate::metadata::records::{BrokerEndpoint, MetadataRecord, PartitionRecord};
use crate::ports::outbound::Entropy;

/// Entropy that is the same in every run.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Entropy for Counter {
    fn draw(&self) -> u128 {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        u128::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834)
    }
}

pub(super) const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A controller, its committed log as an image, and a clock.
pub(super) struct Cluster {
    pub(super) controller: Controller,
    pub(super) committed: ImageLoader,
    pub(super) entropy: Counter,
    pub(super) now: Mono,
}

impl Cluster {
    pub(super) fn new(properties: &[(&str, &str)]) -> Self {
        let properties: Properties = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let settings = Settings {
            node_id: BrokerId(1),
            cluster_id: CLUSTER.to_owned(),
            properties: Arc::new(properties),
            voters: BTreeSet::from([BrokerId(1)]),
            kraft_version: 1,
            bootstrap: Activate::bootstrap_records().into(),
        };
        let mut committed = ImageLoader::default();
        let first = Activate { in_transaction: false }.records(committed.image(), &settings);
        committed.apply_batch(&first, at(first.len())).unwrap();
        let now = Mono(0);
        let next = committed.image().provenance.offset.next();
        Cluster {
            controller: Controller::new(committed.image().clone(), settings, next, now),
            committed,
            entropy: Counter::default(),
            now,
        }
    }

    /// With brokers 1 to `brokers`, unfenced, each with one directory.
    pub(super) fn with_brokers(brokers: i32, properties: &[(&str, &str)]) -> Self {
        let mut cluster = Cluster::new(properties);
        for id in 1..=brokers {
            cluster.join(id, None);
        }
        cluster
    }

    pub(super) fn image(&self) -> &MetadataImage {
        self.controller.image()
    }

    /// Evaluates a command and commits its records.
    pub(super) fn run<C: Command>(&mut self, command: C) -> Result<C::Reply, ApiError> {
        self.evaluate(command).map(|(_, reply)| reply)
    }

    pub(super) fn evaluate<C: Command>(&mut self, command: C) -> Result<(Vec<MetadataRecord>, C::Reply), ApiError> {
        let outcome = self.controller.handle(command, self.now, &self.entropy).unwrap()?;
        let last = Provenance {
            offset: Offset(self.controller.next_offset().0 - 1),
            ..at(0)
        };
        self.committed.apply_batch(&outcome.records, last).unwrap();
        Ok((outcome.records, outcome.reply))
    }

    pub(super) fn registration(&self, id: i32, incarnation: u128) -> RegisterBroker {
        RegisterBroker {
            broker: BrokerId(id),
            cluster_id: CLUSTER.to_owned(),
            incarnation_id: Uuid::from_u128(incarnation),
            endpoints: vec![BrokerEndpoint {
                name: "PLAINTEXT".to_owned(),
                host: "localhost".to_owned(),
                port: 9092,
                ..BrokerEndpoint::default()
            }],
            features: supported_broker_features(),
            rack: None,
            log_directories: vec![directory(id)],
            previous_broker_epoch: None,
        }
    }

    pub(super) fn heartbeat(&self, id: i32) -> BrokerHeartbeat {
        BrokerHeartbeat {
            broker: BrokerId(id),
            broker_epoch: self.epoch(id),
            metadata_offset: Offset(self.controller.next_offset().0 - 1),
            want_fence: false,
            want_shutdown: false,
            offline_directories: Vec::new(),
            cordoned_directories: None,
        }
    }

    pub(super) fn epoch(&self, id: i32) -> BrokerEpoch {
        let broker = self.image().broker(BrokerId(id));
        broker.map_or(BrokerEpoch::UNKNOWN, |broker| BrokerEpoch(broker.broker_epoch))
    }

    /// Registers a new life of a broker and unfences it.
    pub(super) fn join(&mut self, id: i32, rack: Option<&str>) {
        let incarnation = self.entropy.draw();
        let registration = RegisterBroker {
            rack: rack.map(str::to_owned),
            ..self.registration(id, incarnation)
        };
        self.run(registration).unwrap();
        let heartbeat = self.heartbeat(id);
        assert!(!self.run(heartbeat).unwrap().is_fenced);
    }

    pub(super) fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, ApiError> {
        let command = CreateTopics {
            topics: vec![topic],
            validate_only: false,
        };
        self.run(command)?.remove(0).1
    }

    pub(super) fn partition(&self, topic: &str, id: i32) -> &PartitionRecord {
        self.image()
            .topics
            .by_name(topic)
            .unwrap()
            .partition(PartitionId(id))
            .unwrap()
    }
}

fn at(records: usize) -> Provenance {
    Provenance {
        offset: Offset(records as i64 - 1),
        epoch: LeaderEpoch(1),
        timestamp: Timestamp(0),
    }
}

/// The only directory of a broker.
pub(super) fn directory(id: i32) -> DirectoryId {
    DirectoryId(Uuid::from_u128(1000 + id as u128))
}

pub(super) fn topic(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor,
        assignments: Vec::new(),
        configs: Vec::new(),
    }
}

pub(super) fn assigned(name: &str, assignments: &[&[i32]]) -> NewTopic {
    let replicas = |replicas: &&[i32]| replicas.iter().copied().map(BrokerId).collect();
    NewTopic {
        assignments: (0..).map(PartitionId).zip(assignments.iter().map(replicas)).collect(),
        ..topic(name, -1, -1)
    }
}

/// The code and the text of a refusal.
pub(super) fn refusal<T: std::fmt::Debug>(result: Result<T, ApiError>) -> (ErrorCode, String) {
    let error = result.unwrap_err();
    (error.code, error.message.unwrap_or_default())
}
