//! An image as the records of a snapshot.

use std::sync::Arc;

use super::image::{METADATA_VERSION, MetadataImage};
use super::records::{ConfigRecord, FeatureLevelRecord, MetadataRecord, ProducerIdsRecord, TopicRecord};

impl MetadataImage {
    /// The records that make this image out of an empty one, in the order of Kafka's snapshots: the feature levels come
    /// first, as they say how to read the rest.
    pub fn to_records(&self) -> impl Iterator<Item = MetadataRecord> {
        let level = |(name, level): (&String, &i16)| {
            MetadataRecord::FeatureLevel(FeatureLevelRecord {
                name: name.clone(),
                feature_level: *level,
                ..FeatureLevelRecord::default()
            })
        };
        let features = self.features.get_key_value(METADATA_VERSION).into_iter().map(level);
        let features = features.chain(
            self.features
                .iter()
                .filter(|(name, _)| *name != METADATA_VERSION)
                .map(level),
        );
        let brokers = self
            .brokers
            .values()
            .map(|broker| MetadataRecord::RegisterBroker(owned(broker)));
        let controllers = self
            .controllers
            .values()
            .map(|controller| MetadataRecord::RegisterController(owned(controller)));
        let topics = self.topics.iter_by_id().flat_map(|topic| {
            let record = MetadataRecord::Topic(TopicRecord {
                name: topic.name.to_string(),
                topic_id: topic.id.0,
                unknown_tagged_fields: topic.unknown_tagged_fields.clone(),
            });
            let partitions = topic
                .partitions
                .values()
                .map(|partition| MetadataRecord::Partition(owned(partition)));
            std::iter::once(record).chain(partitions)
        });
        let configs = self.configs.iter().flat_map(|(resource, configs)| {
            configs.iter().map(|(name, value)| {
                MetadataRecord::Config(ConfigRecord {
                    resource_type: resource.kind.number(),
                    resource_name: resource.name.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                    ..ConfigRecord::default()
                })
            })
        });
        let quotas = self
            .client_quotas
            .values()
            .map(|quota| MetadataRecord::ClientQuota(owned(quota)));
        let producer_ids = self.next_producer_id.iter().map(|next| {
            MetadataRecord::ProducerIds(ProducerIdsRecord {
                broker_id: -1,
                broker_epoch: -1,
                next_producer_id: next.0,
                ..ProducerIdsRecord::default()
            })
        });
        let acls = self
            .acls
            .values()
            .map(|acl| MetadataRecord::AccessControlEntry(owned(acl)));
        let scram = self
            .scram
            .values()
            .map(|credential| MetadataRecord::UserScramCredential(owned(credential)));
        let tokens = self
            .delegation_tokens
            .values()
            .map(|token| MetadataRecord::DelegationToken(owned(token)));
        features
            .chain(brokers)
            .chain(controllers)
            .chain(topics)
            .chain(configs)
            .chain(quotas)
            .chain(producer_ids)
            .chain(acls)
            .chain(scram)
            .chain(tokens)
    }
}

fn owned<T: Clone>(record: &Arc<T>) -> T {
    T::clone(record)
}
