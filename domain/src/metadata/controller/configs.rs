//! Settings of topics, groups, brokers and all brokers change (KIP-133, KIP-226, KIP-339, KIP-848).

use std::collections::BTreeSet;

use super::features::MIN_ISR;
use super::partition_change::ELR_VERSION;
use super::{Command, Context, Outcome, limited};
use crate::error::{ApiError, ErrorCode};
use crate::ids::BrokerId;
use crate::metadata::config::changes::{validate_broker, validate_topic};
use crate::metadata::config::group::validate_group;
use crate::metadata::config::setting::{Setting, SettingType};
use crate::metadata::config::{broker_setting, group_setting, topic_setting};
use crate::metadata::image::{ConfigMap, ConfigResource, ConfigResourceType};
use crate::metadata::records::{ClearElrRecord, ConfigRecord, MetadataRecord};
use crate::partitioning::names;

/// What to do to one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// Give it a value.
    Set,
    /// Give it back its default.
    Delete,
    /// Add to a list.
    Append,
    /// Take out of a list.
    Subtract,
    /// A number that Kafka 4.3 does not define.
    Unknown(i8),
}

impl ConfigOp {
    /// The operation with this number.
    pub const fn from_number(number: i8) -> Self {
        match number {
            0 => ConfigOp::Set,
            1 => ConfigOp::Delete,
            2 => ConfigOp::Append,
            3 => ConfigOp::Subtract,
            other => ConfigOp::Unknown(other),
        }
    }
}

/// A change of the settings of one resource: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Whose settings.
    pub resource: ConfigResource,
    /// The number of the resource's type, as it was sent.
    pub resource_type: i8,
    /// Names, what to do, and with which value.
    pub ops: Vec<(String, ConfigOp, Option<String>)>,
}

/// IncrementalAlterConfigs, and AlterConfigs, which names all settings that a resource is to have. Each resource on its
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigs {
    /// The changes.
    pub changes: Vec<ConfigChange>,
    /// Settings that are not named go back to their defaults (AlterConfigs).
    pub replaces_all: bool,
    /// Only say whether it could be done.
    pub validate_only: bool,
    /// The broker that received the request; a broker changes no settings of another one.
    pub received_by: Option<BrokerId>,
}

impl Command for AlterConfigs {
    /// One result for each change, in their order.
    type Reply = Vec<(ConfigResource, Result<(), ApiError>)>;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Self::Reply>, ApiError> {
        let (mut records, mut reply) = (Vec::new(), Vec::with_capacity(self.changes.len()));
        for change in &self.changes {
            let result = change.check_alone(&self.changes);
            let result = result.and_then(|()| self.change(context, change));
            let result = result.map(|mut made| records.append(&mut made));
            reply.push((change.resource.clone(), result));
        }
        if context.image.feature(ELR_VERSION) > 0 {
            let cleared: Vec<_> = records.iter().filter_map(clear_elr).collect();
            records.extend(cleared);
        }
        limited(&records)?;
        Ok(Outcome { records, reply }.validated(self.validate_only))
    }
}

/// Another min ISR makes the eligible leaders meaningless (KIP-966).
fn clear_elr(record: &MetadataRecord) -> Option<MetadataRecord> {
    let MetadataRecord::Config(config) = record else {
        return None;
    };
    let is_topic = config.resource_type == ConfigResourceType::Topic.number();
    let topic_name = if is_topic {
        config.resource_name.clone()
    } else {
        String::new()
    };
    (config.name == MIN_ISR).then(|| {
        MetadataRecord::ClearElr(ClearElrRecord {
            topic_name,
            ..ClearElrRecord::default()
        })
    })
}

/// Kafka's limit of a value, in UTF-16 units.
const VALUE_UNITS_MAX: usize = 32_767;

pub(super) fn check_lengths(configs: &ConfigMap) -> Result<(), ApiError> {
    if configs
        .values()
        .any(|value| value.encode_utf16().count() > VALUE_UNITS_MAX)
    {
        return Err(ErrorCode::InvalidConfig.with(format!(
            "The configuration value cannot be added because it exceeds the maximum value size of {VALUE_UNITS_MAX} bytes."
        )));
    }
    Ok(())
}

impl AlterConfigs {
    fn change(&self, context: &Context<'_>, change: &ConfigChange) -> Result<Vec<MetadataRecord>, ApiError> {
        change.check_names_and_values()?;
        change.check_ops()?;
        change.check_resource(self.received_by)?;
        let resource = &change.resource;
        let old = context.image.config(resource).cloned().unwrap_or_default();
        let mut new = if self.replaces_all {
            ConfigMap::new()
        } else {
            old.clone()
        };
        for (name, op, value) in &change.ops {
            match change.apply(*op, name, old.get(name), value.as_deref())? {
                Some(value) => new.insert(name.clone(), value),
                None => new.remove(name),
            };
        }
        change.check_min_isr(context)?;
        check_lengths(&new)?;
        let named: BTreeSet<&str> = change.ops.iter().map(|(name, _, _)| name.as_str()).collect();
        match resource.kind {
            ConfigResourceType::Topic => {
                validate_topic(&context.config(), &new)?;
                if context.image.topics.by_name(&resource.name).is_none() {
                    let message = format!("The topic '{}' does not exist.", resource.name);
                    return Err(ErrorCode::UnknownTopicOrPartition.with(message));
                }
            }
            // Anyone may set up a group before its first member comes.
            ConfigResourceType::Group => validate_group(&context.config(), &new)?,
            _ => {
                validate_broker(&new, &named, !resource.name.is_empty())?;
                change.check_broker(context)?;
            }
        }
        // Brokers take a setting that is set again as a wish to read files again: it is always written.
        let is_broker = resource.kind == ConfigResourceType::Broker;
        let dropped = old.keys().map(String::as_str).filter(|name| !new.contains_key(*name));
        let names: BTreeSet<&str> = named.into_iter().chain(dropped).collect();
        let changed = names
            .into_iter()
            .filter(|name| is_broker || old.get(*name) != new.get(*name));
        let record = |name: &str| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: resource.kind.number(),
                resource_name: resource.name.clone(),
                name: name.to_owned(),
                value: new.get(name).cloned(),
                ..ConfigRecord::default()
            })
        };
        Ok(changed.map(record).collect())
    }
}

impl ConfigChange {
    /// No other of the changes in a request is of the same resource.
    pub fn check_alone(&self, all: &[ConfigChange]) -> Result<(), ApiError> {
        if all.iter().filter(|other| other.resource == self.resource).count() > 1 {
            return Err(ErrorCode::InvalidRequest.with("Each resource must appear at most once."));
        }
        Ok(())
    }

    /// Every setting is named once, and has a value where it needs one.
    pub(crate) fn check_names_and_values(&self) -> Result<(), ApiError> {
        let invalid = |message: String| Err(ErrorCode::InvalidRequest.with(message));
        let mut names = BTreeSet::new();
        if !self.ops.iter().all(|(name, _, _)| names.insert(name)) {
            return invalid("Error due to duplicate config keys".to_owned());
        }
        let null = self
            .ops
            .iter()
            .filter(|(_, op, value)| *op != ConfigOp::Delete && value.is_none());
        let null: Vec<&str> = null.map(|(name, _, _)| name.as_str()).collect();
        if !null.is_empty() {
            return invalid(format!("Null value not supported for : {}", null.join(", ")));
        }
        Ok(())
    }

    fn check_ops(&self) -> Result<(), ApiError> {
        for (_, op, _) in &self.ops {
            if let ConfigOp::Unknown(number) = op {
                return Err(ErrorCode::InvalidRequest.with(format!("Unknown operations type {number}")));
            }
        }
        Ok(())
    }

    fn check_resource(&self, received_by: Option<BrokerId>) -> Result<(), ApiError> {
        let invalid = |message: String| Err(ErrorCode::InvalidRequest.with(message));
        let name = self.resource.name.as_str();
        match self.resource.kind {
            ConfigResourceType::Topic if name.is_empty() => {
                invalid("Default topic resources are not allowed.".to_owned())
            }
            ConfigResourceType::Topic => {
                names::validate(name).map_err(|error| ErrorCode::InvalidTopicException.with(error.to_string()))
            }
            ConfigResourceType::Broker if name.is_empty() => Ok(()),
            ConfigResourceType::Broker => match (name.parse::<i32>(), received_by) {
                (Err(_), _) => invalid(format!("Node id must be an integer, but it is: {name}")),
                (Ok(id), Some(BrokerId(this))) if id != this => {
                    invalid(format!("Unexpected broker id, expected {this}, but received {name}"))
                }
                (Ok(id), None) if id < 0 => invalid("Invalid negative broker ID.".to_owned()),
                _ => Ok(()),
            },
            // Loggers are no settings: AlterConfigs does not know them.
            ConfigResourceType::Unknown | ConfigResourceType::BrokerLogger => {
                invalid(format!("Unknown resource type {}", self.resource_type))
            }
            ConfigResourceType::Group if name.is_empty() => {
                invalid("Default group resources are not allowed.".to_owned())
            }
            ConfigResourceType::Group => Ok(()),
            ConfigResourceType::ClientMetrics => invalid(format!(
                "Ottla has no settings of type {} yet.",
                self.resource.kind.name()
            )),
        }
    }

    fn check_broker(&self, context: &Context<'_>) -> Result<(), ApiError> {
        if self.resource.name.is_empty() {
            return Ok(());
        }
        let id = BrokerId(self.resource.name.parse().unwrap_or(-1));
        let image = context.image;
        let is_known = image.brokers.contains_key(&id)
            || image.controllers.contains_key(&id)
            || context.settings.voters.contains(&id);
        if !is_known {
            return Err(ErrorCode::BrokerIdNotRegistered.with(format!("No node with id {id} found.")));
        }
        Ok(())
    }

    /// With ELR, min.insync.replicas is set for topics and for all brokers, never for one of them (KIP-966).
    fn check_min_isr(&self, context: &Context<'_>) -> Result<(), ApiError> {
        let named = self.ops.iter().find(|(name, _, _)| name == MIN_ISR);
        let is_broker = self.resource.kind == ConfigResourceType::Broker;
        let Some((_, op, _)) = named.filter(|_| is_broker && context.image.feature(ELR_VERSION) > 0) else {
            return Ok(());
        };
        let why = match (self.resource.name.is_empty(), op) {
            (false, _) => "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
            (true, ConfigOp::Delete) => "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
            _ => return Ok(()),
        };
        Err(ErrorCode::InvalidConfig.with(why))
    }

    /// The new value of one setting.
    fn apply(
        &self,
        op: ConfigOp,
        name: &str,
        old: Option<&String>,
        value: Option<&str>,
    ) -> Result<Option<String>, ApiError> {
        let value = value.unwrap_or_default();
        let (is_append, verb) = match op {
            ConfigOp::Set => return Ok(Some(value.to_owned())),
            ConfigOp::Delete | ConfigOp::Unknown(_) => return Ok(None),
            ConfigOp::Append => (true, "append"),
            ConfigOp::Subtract => (false, "subtract"),
        };
        let setting: Option<&Setting> = match self.resource.kind {
            ConfigResourceType::Topic => topic_setting(name).map(|topic| &topic.setting),
            ConfigResourceType::Group => group_setting(name).map(|group| &group.setting),
            _ => broker_setting(name),
        };
        let Some(setting) = setting.filter(|setting| setting.kind == SettingType::List) else {
            let message = if self.resource.kind == ConfigResourceType::Broker {
                format!("Config value {verb} is not allowed for config key: {name}")
            } else {
                let verb = verb.to_uppercase();
                format!("Can't {verb} to key {name} because its type is not LIST.")
            };
            return Err(ErrorCode::InvalidConfig.with(message));
        };
        let present = old.map(String::as_str).or(setting.default).unwrap_or_default();
        let mut items: Vec<&str> = present.split(',').filter(|item| !item.is_empty()).collect();
        for item in value.split(',') {
            match items.iter().position(|known| *known == item) {
                None if is_append => items.push(item),
                Some(index) if !is_append => {
                    items.remove(index);
                }
                _ => {}
            }
        }
        Ok(Some(items.join(",")))
    }
}
