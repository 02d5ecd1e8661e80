//! What differs between two images: what a broker reconciles its replicas, settings and caches by.

use std::sync::Arc;

use super::image::{ConfigResource, MetadataImage};
use super::records::PartitionRecord;
use super::topics::TopicImage;
use crate::ids::{BrokerId, PartitionId, TopicId};

/// A topic before and after. It was created when `old` is absent and removed when `new` is; a topic that was removed
/// and created again under its name is two changes, as its id differs.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicChange {
    /// The topic's id.
    pub id: TopicId,
    /// The topic before.
    pub old: Option<Arc<TopicImage>>,
    /// The topic after.
    pub new: Option<Arc<TopicImage>>,
}

/// The difference between two images, live changes and loaded snapshots alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataDelta {
    /// Topics that were created, removed, or have changed partitions.
    pub topics: Vec<TopicChange>,
    /// Resources with changed settings.
    pub configs: Vec<ConfigResource>,
    /// Brokers that were registered, changed or unregistered.
    pub brokers: Vec<BrokerId>,
    /// Controllers that were registered or changed.
    pub controllers: Vec<BrokerId>,
    /// Feature levels changed.
    pub features: bool,
    /// Client quotas changed.
    pub client_quotas: bool,
    /// ACLs changed.
    pub acls: bool,
    /// SCRAM credentials changed.
    pub scram: bool,
    /// Delegation tokens changed.
    pub delegation_tokens: bool,
}

/// A partition that has a replica on this broker, in its state after a change.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalReplica {
    /// The topic's id.
    pub topic_id: TopicId,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's state.
    pub partition: Arc<PartitionRecord>,
    /// The partition was not led by this broker in this leader epoch, or not replicated here, before.
    pub is_new_epoch: bool,
}

/// A replica that this broker must not keep: the topic is gone, or the partition moved away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemovedReplica {
    /// The topic's id.
    pub topic_id: TopicId,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
}

/// What a change means to one broker, as `LocalReplicaChanges` in kafka-metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalChanges {
    /// Replicas to delete, before the others are made: a topic may have come back under its name.
    pub removed: Vec<RemovedReplica>,
    /// Partitions that this broker leads and that were created or changed.
    pub leaders: Vec<LocalReplica>,
    /// Partitions that this broker follows and that were created or changed.
    pub followers: Vec<LocalReplica>,
}

impl MetadataDelta {
    /// What changed from `old` to `new`. What the images share costs nothing.
    pub fn between(old: &MetadataImage, new: &MetadataImage) -> MetadataDelta {
        let mut delta = MetadataDelta {
            brokers: changed_keys(&old.brokers, &new.brokers),
            controllers: changed_keys(&old.controllers, &new.controllers),
            features: old.features != new.features,
            client_quotas: old.client_quotas != new.client_quotas,
            acls: old.acls != new.acls,
            scram: old.scram != new.scram,
            delegation_tokens: old.delegation_tokens != new.delegation_tokens,
            ..MetadataDelta::default()
        };
        new.topics.diff(&old.topics, |id, old, new| {
            delta.topics.push(TopicChange {
                id,
                old: old.cloned(),
                new: new.cloned(),
            });
        });
        new.configs
            .diff(&old.configs, |resource, _, _| delta.configs.push(resource.clone()));
        delta
    }

    /// True when nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == MetadataDelta::default()
    }

    /// What the changes of topics mean to `broker`.
    pub fn local_changes(&self, broker: BrokerId) -> LocalChanges {
        let mut changes = LocalChanges::default();
        for topic in &self.topics {
            if let Some(old) = &topic.old {
                for (id, partition) in &old.partitions {
                    let stays = topic
                        .new
                        .as_ref()
                        .and_then(|new| new.partition(*id))
                        .is_some_and(|new| new.replicas.contains(&broker.0));
                    if partition.replicas.contains(&broker.0) && !stays {
                        changes.removed.push(RemovedReplica {
                            topic_id: old.id,
                            topic: Arc::clone(&old.name),
                            partition: *id,
                        });
                    }
                }
            }
            let Some(new) = &topic.new else { continue };
            for (id, partition) in &new.partitions {
                let old = topic.old.as_ref().and_then(|old| old.partitions.get(id));
                if old.is_some_and(|old| Arc::ptr_eq(old, partition) || old == partition)
                    || !partition.replicas.contains(&broker.0)
                {
                    continue;
                }
                let replica = LocalReplica {
                    topic_id: new.id,
                    topic: Arc::clone(&new.name),
                    partition: Arc::clone(partition),
                    is_new_epoch: old.is_none_or(|old| {
                        old.leader_epoch != partition.leader_epoch || !old.replicas.contains(&broker.0)
                    }),
                };
                if partition.leader == broker.0 {
                    changes.leaders.push(replica);
                } else {
                    changes.followers.push(replica);
                }
            }
        }
        changes
    }
}

type Registrations<T> = Arc<std::collections::BTreeMap<BrokerId, Arc<T>>>;

fn changed_keys<T: PartialEq>(old: &Registrations<T>, new: &Registrations<T>) -> Vec<BrokerId> {
    if Arc::ptr_eq(old, new) {
        return Vec::new();
    }
    let removed = old.keys().filter(|id| !new.contains_key(id));
    let changed = new
        .iter()
        .filter(|(id, registration)| old.get(id) != Some(registration))
        .map(|(id, _)| id);
    changed.chain(removed).copied().collect()
}
