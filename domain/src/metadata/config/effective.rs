//! What is in effect on a node, and for the logs of a topic.

use std::collections::BTreeMap;

use super::check::{InvalidValue, Value};
use super::setting::SettingType;
use super::topic::TopicSetting;
use super::{broker_setting, synonyms, topic_setting};
use crate::ids::BrokerId;
use crate::log::config::{CleanupPolicy, LogConfig, TopicCompression};
use crate::metadata::image::{ConfigMap, ConfigResource, MetadataImage};
use crate::record::batch::TimestampType;
use crate::record::compression::Codec;

/// `server.properties` after overrides, as text.
pub type Properties = BTreeMap<String, String>;

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// Nobody knows.
    Unknown = 0,
    /// Set for the topic.
    DynamicTopic = 1,
    /// Set for this broker.
    DynamicBroker = 2,
    /// Set for all brokers.
    DynamicDefaultBroker = 3,
    /// In `server.properties`.
    StaticBroker = 4,
    /// Built in.
    Default = 5,
    /// Set for a logger.
    DynamicBrokerLogger = 6,
    /// Set for a client metrics subscription.
    ClientMetrics = 7,
    /// Set for the group.
    Group = 8,
}

impl ConfigSource {
    /// The number in DescribeConfigs and CreateTopics.
    pub const fn number(self) -> i8 {
        self as i8
    }
}

/// The settings of one node in their layers.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig<'a> {
    /// `server.properties`.
    pub properties: &'a Properties,
    /// What is set for this node.
    pub dynamic: Option<&'a ConfigMap>,
    /// What is set for all brokers.
    pub dynamic_default: Option<&'a ConfigMap>,
}

impl<'a> NodeConfig<'a> {
    /// The settings of a node according to an image.
    pub fn of(image: &'a MetadataImage, node: BrokerId, properties: &'a Properties) -> Self {
        NodeConfig {
            properties,
            dynamic: image.config(&ConfigResource::broker(node)),
            dynamic_default: image.config(&ConfigResource::cluster_default()),
        }
    }

    /// The text that is in effect for exactly this name, unless the setting has its default. A layer that sets the same
    /// in other units hides the layers below it: a dynamic `log.retention.ms` also a static `log.retention.hours`.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let group = synonyms(name);
        let group = if name.starts_with("listener.name.") {
            &[name]
        } else {
            group.as_slice()
        };
        for layer in [self.dynamic, self.dynamic_default, Some(self.properties)]
            .into_iter()
            .flatten()
        {
            if group.iter().any(|synonym| layer.contains_key(*synonym)) {
                return layer.get(name).map(String::as_str);
            }
        }
        None
    }

    /// The value in effect; `None` where it is null, unknown or invalid.
    pub fn value(&self, name: &str) -> Option<Value> {
        let setting = broker_setting(name)?;
        setting.parse(self.text(name).or(setting.default)?).ok()
    }

    /// A whole number in effect; 0 where there is none, as for a setting whose default is null.
    pub fn number(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Number(number)) => number,
            _ => 0,
        }
    }

    /// A boolean in effect.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Boolean(true)))
    }

    /// The items of a list in effect.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        }
    }

    /// What a topic's setting is without an override: the first synonym that is set, else the first that has a default.
    pub fn topic_default(&self, topic: &TopicSetting) -> Option<Value> {
        let set = topic.synonyms.iter().find_map(|(name, factor)| {
            let text = self.text(name)?;
            let value = broker_setting(name)?.parse(text).ok()?;
            Some(scaled(value, *factor))
        });
        let default = || {
            topic.synonyms.iter().find_map(|(name, factor)| {
                let setting = broker_setting(name)?;
                Some(scaled(setting.parse(setting.default?).ok()?, *factor))
            })
        };
        let own = || topic.setting.parse(topic.setting.default?).ok();
        let value = set.or_else(default).or_else(own)?;
        // Kafka reads any negative broker-wide retention as no limit.
        match (topic.setting.name, value) {
            ("retention.ms", Value::Number(number)) if number < 0 => Some(Value::Number(-1)),
            (_, value) => Some(value),
        }
    }

    /// The value of a topic's setting with the topic's overrides.
    pub fn topic_value(&self, topic: &TopicSetting, overrides: Option<&ConfigMap>) -> Option<Value> {
        let over = overrides.and_then(|overrides| overrides.get(topic.setting.name));
        match over.map(|text| topic.setting.parse(text)) {
            Some(Ok(value)) => Some(value),
            _ => self.topic_default(topic),
        }
    }

    /// The settings that the logs of a topic go by.
    pub fn log_config(&self, overrides: Option<&ConfigMap>) -> LogConfig {
        let value = |name: &str| self.topic_value(topic_setting(name)?, overrides);
        let number = |name: &str| match value(name) {
            Some(Value::Number(number)) => number,
            _ => 0,
        };
        let size = |name: &str| u32::try_from(number(name)).unwrap_or(0);
        let flag = |name: &str| matches!(value(name), Some(Value::Boolean(true)));
        let text = |name: &str| match value(name) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        };
        let policies = match value("cleanup.policy") {
            Some(Value::List(policies)) => policies,
            _ => Vec::new(),
        };
        let level = |name: &str| i32::try_from(number(name)).unwrap_or(0);
        let compression = match text("compression.type").as_str() {
            "uncompressed" => TopicCompression::Fixed(Codec::None),
            "gzip" => TopicCompression::Fixed(Codec::Gzip(level("compression.gzip.level"))),
            "snappy" => TopicCompression::Fixed(Codec::Snappy),
            "lz4" => TopicCompression::Fixed(Codec::Lz4(level("compression.lz4.level"))),
            "zstd" => TopicCompression::Fixed(Codec::Zstd(level("compression.zstd.level"))),
            _ => TopicCompression::Producer,
        };
        LogConfig {
            segment_bytes: size("segment.bytes"),
            segment_ms: number("segment.ms"),
            segment_jitter_ms: number("segment.jitter.ms"),
            segment_index_bytes: size("segment.index.bytes"),
            index_interval_bytes: size("index.interval.bytes"),
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            file_delete_delay_ms: number("file.delete.delay.ms"),
            cleanup_policy: CleanupPolicy {
                delete: policies.iter().any(|policy| policy == "delete"),
                compact: policies.iter().any(|policy| policy == "compact"),
            },
            delete_retention_ms: number("delete.retention.ms"),
            min_cleanable_dirty_ratio: match value("min.cleanable.dirty.ratio") {
                Some(Value::Double(ratio)) => ratio,
                _ => 0.0,
            },
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            max_compaction_lag_ms: number("max.compaction.lag.ms"),
            flush_messages: number("flush.messages"),
            flush_ms: number("flush.ms"),
            max_message_bytes: size("max.message.bytes"),
            message_timestamp_type: match text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            message_timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            compression,
            min_insync_replicas: size("min.insync.replicas"),
            unclean_leader_election_enable: flag("unclean.leader.election.enable"),
            preallocate: flag("preallocate"),
        }
    }

    /// What the controller tells of a new topic (CreateTopics 5): the text and its source, with the synonyms in order of
    /// precedence within each layer.
    pub fn effective_topic_text(&self, topic: &TopicSetting, overrides: &ConfigMap) -> (Option<String>, ConfigSource) {
        if let Some(text) = overrides.get(topic.setting.name) {
            return (Some(text.clone()), ConfigSource::DynamicTopic);
        }
        let layers = [
            (self.dynamic, ConfigSource::DynamicBroker),
            (self.dynamic_default, ConfigSource::DynamicDefaultBroker),
            (Some(self.properties), ConfigSource::StaticBroker),
        ];
        for (layer, source) in layers {
            for (name, factor) in topic.synonyms {
                if let Some(text) = layer.and_then(|layer| layer.get(*name)) {
                    let text = match *factor {
                        1 => text.clone(),
                        factor => text
                            .trim()
                            .parse()
                            .map_or(0, |number: i64| number.saturating_mul(factor))
                            .to_string(),
                    };
                    return (Some(text), source);
                }
            }
        }
        (topic.setting.default.map(str::to_owned), ConfigSource::Default)
    }

    /// `node.id` and `broker.id` name the same: whichever is missing is filled in, as Kafka does before it reads the rest.
    pub fn populate_synonyms(properties: &mut Properties) {
        for (from, to) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
            if let Some(id) = properties.get(from).cloned() {
                properties.entry(to.to_owned()).or_insert(id);
            }
        }
    }

    /// Checks every known setting of `server.properties`.
    pub fn validate_properties(properties: &Properties) -> Result<(), InvalidValue> {
        for (name, text) in properties {
            if let Some(setting) = broker_setting(name)
                && setting.kind != SettingType::Class
            {
                setting.parse(text)?;
            }
        }
        Ok(())
    }
}

fn scaled(value: Value, factor: i64) -> Value {
    match value {
        Value::Number(number) => Value::Number(number.saturating_mul(factor)),
        other => other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Settings by their names.
    pub(in super::super) fn map(entries: &[(&str, &str)]) -> Properties {
        let entries = entries.iter();
        entries
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_defaults_are_those_of_a_log() {
        let properties = Properties::new();
        let node = NodeConfig {
            properties: &properties,
            dynamic: None,
            dynamic_default: None,
        };
        assert_eq!(node.log_config(None), LogConfig::default());
    }

    #[test]
    fn a_higher_layer_wins_in_whatever_unit() {
        let properties = map(&[
            ("log.retention.minutes", "2"),
            ("log.retention.hours", "9"),
            ("log.roll.ms", "7"),
        ]);
        let dynamic_default = map(&[("log.retention.ms", "5"), ("message.max.bytes", "100")]);
        let dynamic = map(&[("message.max.bytes", "200")]);
        let layers = |dynamic, dynamic_default| NodeConfig {
            properties: &properties,
            dynamic,
            dynamic_default,
        };
        assert_eq!(layers(None, None).log_config(None).retention_ms, 120_000);
        let node = layers(Some(&dynamic), Some(&dynamic_default));
        let overrides = map(&[("segment.ms", "3")]);
        let config = node.log_config(Some(&overrides));
        assert_eq!(
            (config.retention_ms, config.max_message_bytes, config.segment_ms),
            (5, 200, 3)
        );
        assert_eq!(node.log_config(None).segment_ms, 7);
        let retention = topic_setting("retention.ms").unwrap();
        assert_eq!(
            layers(None, None).effective_topic_text(retention, &ConfigMap::new()),
            (Some("120000".to_owned()), ConfigSource::StaticBroker)
        );
    }
}
