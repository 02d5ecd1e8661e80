//! Settings as DescribeConfigs shows them (`ConfigHelper` in Apache Kafka).

use std::collections::BTreeSet;

use super::check::Value;
use super::effective::{ConfigSource, NodeConfig};
use super::group::GroupSetting;
use super::setting::{Setting, SettingType};
use super::topic::TopicSetting;
use super::{GROUP_SETTINGS, TOPIC_SETTINGS, broker_setting, broker_setting_type, broker_settings, synonyms};
use crate::metadata::image::ConfigMap;

/// One value that a setting has, or would have if those above it were not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The name under which it is set.
    pub name: String,
    /// The value as it was given; absent where it is secret.
    pub value: Option<String>,
    /// Where it is set.
    pub source: ConfigSource,
}

/// A setting and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The setting's name.
    pub name: String,
    /// The value in effect; absent where it is null or secret.
    pub value: Option<String>,
    /// It cannot change while the broker runs.
    pub is_read_only: bool,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Its value is secret.
    pub is_sensitive: bool,
    /// The values in the order of precedence, the one in effect first.
    pub synonyms: Vec<ConfigSynonym>,
    /// The type of its values.
    pub kind: SettingType,
    /// What it is for; absent for unknown settings.
    pub doc: Option<&'static str>,
}

impl NodeConfig<'_> {
    /// A topic's settings, sorted by name.
    pub fn describe_topic(&self, overrides: Option<&ConfigMap>) -> Vec<ConfigEntry> {
        let is_set = |setting: &Setting| overrides.is_some_and(|overrides| overrides.contains_key(setting.name));
        let shown = TOPIC_SETTINGS
            .iter()
            .filter(|topic| !topic.setting.is_internal || is_set(&topic.setting));
        let entry = |topic: &TopicSetting| {
            let setting = &topic.setting;
            let synonyms = match topic.synonyms.first() {
                Some((name, _)) => self.synonyms_of(name, setting.kind.is_sensitive()),
                None => Vec::new(),
            };
            let source = is_set(setting).then_some(ConfigSource::DynamicTopic);
            entry_of(setting, self.topic_value(topic, overrides), source, synonyms)
        };
        shown.map(entry).collect()
    }

    /// A group's settings, sorted by name; a group need not exist to have some.
    pub fn describe_group(&self, overrides: Option<&ConfigMap>) -> Vec<ConfigEntry> {
        let entry = |group: &GroupSetting| {
            let setting = &group.setting;
            let own = overrides.and_then(|overrides| setting.parse(overrides.get(setting.name)?).ok());
            let source = own.is_some().then_some(ConfigSource::Group);
            let default = || setting.parse(setting.default?).ok();
            let value = own.or_else(|| self.value(group.synonym?)).or_else(default);
            let synonyms = match group.synonym {
                Some(name) => self.synonyms_of(name, setting.kind.is_sensitive()),
                None => vec![ConfigSynonym {
                    name: setting.name.to_owned(),
                    value: setting.default.map(str::to_owned),
                    source: ConfigSource::Default,
                }],
            };
            entry_of(setting, value, source, synonyms)
        };
        let mut entries: Vec<_> = GROUP_SETTINGS.iter().map(entry).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// This broker's settings, sorted by name: all that Kafka shows, and whatever else is set.
    pub fn describe_broker(&self) -> Vec<ConfigEntry> {
        let mut names: BTreeSet<&str> = broker_settings()
            .filter(|setting| !setting.is_internal)
            .map(|setting| setting.name)
            .collect();
        for layer in [Some(self.properties), self.dynamic_default, self.dynamic]
            .into_iter()
            .flatten()
        {
            names.extend(layer.keys().map(String::as_str));
        }
        let entry = |name: &str| {
            let value = match self.value(name) {
                Some(value) => Some(value.to_string()),
                None => self.text(name).map(str::to_owned),
            };
            broker_entry(
                name,
                value,
                self.synonyms_of(name, broker_setting_type(name).is_sensitive()),
            )
        };
        names.into_iter().map(entry).collect()
    }

    /// What is set for all brokers, sorted by name.
    pub fn describe_cluster_default(&self) -> Vec<ConfigEntry> {
        let set = self.dynamic_default.into_iter().flatten();
        let entry = |(name, value): (&String, &String)| {
            let mut synonyms = self.synonyms_of(name, broker_setting_type(name).is_sensitive());
            synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
            broker_entry(name, Some(value.clone()), synonyms)
        };
        set.map(entry).collect()
    }

    /// Where a broker's setting is set, in all units, from the layer down that sets it under this very name.
    fn synonyms_of(&self, name: &str, is_sensitive: bool) -> Vec<ConfigSynonym> {
        let names = synonyms(name);
        let mut found = Vec::new();
        let mut add = |name: &str, value: &str, source| {
            found.push(ConfigSynonym {
                name: name.to_owned(),
                value: Some(value.to_owned()).filter(|_| !is_sensitive),
                source,
            });
        };
        let layers = [
            (self.dynamic, ConfigSource::DynamicBroker),
            (self.dynamic_default, ConfigSource::DynamicDefaultBroker),
            (Some(self.properties), ConfigSource::StaticBroker),
        ];
        for (layer, source) in layers {
            for name in &names {
                if let Some(value) = layer.and_then(|layer| layer.get(*name)) {
                    add(name, value, source);
                }
            }
        }
        for name in &names {
            if let Some(default) = broker_setting(name).and_then(|setting| setting.default) {
                add(name, default, ConfigSource::Default);
            }
        }
        let first = found.iter().position(|synonym| synonym.name == name);
        found.split_off(first.unwrap_or(found.len()))
    }
}

/// A setting of a topic or a group; `own` is its source where it is set for that one.
fn entry_of(
    setting: &Setting,
    value: Option<Value>,
    own: Option<ConfigSource>,
    mut synonyms: Vec<ConfigSynonym>,
) -> ConfigEntry {
    let is_sensitive = setting.kind.is_sensitive();
    let value = value.map(|value| value.to_string()).filter(|_| !is_sensitive);
    if let Some(source) = own {
        let own = ConfigSynonym {
            name: setting.name.to_owned(),
            value: value.clone(),
            source,
        };
        synonyms.insert(0, own);
    }
    ConfigEntry {
        name: setting.name.to_owned(),
        value,
        is_read_only: false,
        source: source_of(&synonyms),
        is_sensitive,
        synonyms,
        kind: setting.kind,
        doc: Some(setting.doc),
    }
}

fn source_of(synonyms: &[ConfigSynonym]) -> ConfigSource {
    synonyms.first().map_or(ConfigSource::Default, |first| first.source)
}

fn broker_entry(name: &str, value: Option<String>, synonyms: Vec<ConfigSynonym>) -> ConfigEntry {
    let setting = broker_setting(name);
    let kind = broker_setting_type(name);
    let is_sensitive = kind.is_sensitive();
    ConfigEntry {
        name: name.to_owned(),
        value: value.filter(|_| !is_sensitive),
        is_read_only: setting.is_none_or(Setting::is_read_only),
        source: source_of(&synonyms),
        is_sensitive,
        synonyms,
        kind,
        doc: setting.map(|setting| setting.doc),
    }
}
