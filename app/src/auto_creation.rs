//! Topics that come to be because a client asked about them (`auto.create.topics.enable`).

use std::collections::HashSet;
use std::sync::Arc;

use ottla_domain::error::ErrorCode;
use ottla_domain::metadata::controller::topics::{CreateTopics, NewTopic};
use ottla_domain::partitioning::names::is_internal;
use ottla_domain::ports::inbound::ControllerApi;
use ottla_domain::ports::outbound::LogStore;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::controller::ControllerHandle;

/// How long a creation may take before it may be tried again.
const TIMEOUT_MS: i32 = 30_000;
/// How many topics may be under way: clients that invent names faster wait for their turn.
const IN_FLIGHT_MAX: usize = 10_000;

/// Creations under way.
#[derive(Clone, Debug, Default)]
pub struct AutoCreation {
    in_flight: Arc<Mutex<HashSet<String>>>,
}

impl AutoCreation {
    /// Starts to create those of `names` that are not under way yet, unless the setting is off.
    pub fn create<S: LogStore>(&self, broker: &Broker<S>, controller: &ControllerHandle, names: Vec<String>) {
        if !broker
            .settings()
            .effective(&broker.image())
            .flag("auto.create.topics.enable")
        {
            return;
        }
        let new_topic = |name: String| NewTopic {
            name,
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        };
        // Internal topics are made by their coordinators, with settings of their own.
        let topics = names.into_iter().filter(|name| !is_internal(name)).map(new_topic);
        self.start(controller, topics.collect());
    }

    /// Starts to create the topic of a coordinator, unless that is under way. Says why there cannot be one.
    pub fn create_internal<S: LogStore>(
        &self,
        broker: &Broker<S>,
        controller: &ControllerHandle,
        topic: NewTopic,
    ) -> Result<(), String> {
        let brokers = broker.image().unfenced_brokers().count();
        if brokers < usize::try_from(topic.replication_factor).unwrap_or(0) {
            let NewTopic {
                name,
                replication_factor,
                ..
            } = topic;
            return Err(format!(
                "The topic {name} needs {replication_factor} brokers for its replicas, and {brokers} are there. Start more \
                 of them, or lower its replication factor in the configuration."
            ));
        }
        self.start(controller, vec![topic]);
        Ok(())
    }

    fn start(&self, controller: &ControllerHandle, mut topics: Vec<NewTopic>) {
        {
            let mut in_flight = self.in_flight.lock();
            topics.retain(|topic| in_flight.len() < IN_FLIGHT_MAX && in_flight.insert(topic.name.clone()));
        }
        if topics.is_empty() {
            return;
        }
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        let command = CreateTopics {
            topics,
            validate_only: false,
        };
        let (controller, in_flight) = (controller.clone(), Arc::clone(&self.in_flight));
        tokio::spawn(async move {
            match controller.submit(command, TIMEOUT_MS).await {
                Ok(outcomes) => {
                    for (name, outcome) in outcomes {
                        match outcome {
                            Ok(created) => {
                                info!(topic = name, id = %created.id, "created a topic that a client asked for")
                            }
                            Err(error) if error.code == ErrorCode::TopicAlreadyExists => {}
                            Err(error) => warn!(topic = name, %error, "automatic creation failed"),
                        }
                    }
                }
                Err(error) => warn!(topics = ?names, %error, "automatic creation failed"),
            }
            let mut in_flight = in_flight.lock();
            for name in &names {
                in_flight.remove(name);
            }
        });
    }
}
