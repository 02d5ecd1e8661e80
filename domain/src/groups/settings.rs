//! What groups go by.

use std::sync::Arc;

use crate::metadata::config::effective::NodeConfig;
use crate::metadata::image::MetadataImage;

/// Into which protocol the members of a group may take it online (`group.consumer.migration.policy`, KIP-848).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationPolicy {
    /// A classic group becomes a consumer group when a member with the new protocol joins.
    pub allows_upgrade: bool,
    /// A consumer group becomes a classic group when the last member with the new protocol leaves.
    pub allows_downgrade: bool,
}

/// The settings of a broker that its groups go by.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in ms.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// `group.consumer.session.timeout.ms`, and what groups may set it to.
    pub consumer_session_timeout_ms: Bounded,
    /// `group.consumer.heartbeat.interval.ms`, and what groups may set it to.
    pub consumer_heartbeat_interval_ms: Bounded,
    /// `group.consumer.assignment.interval.ms`, and what groups may set it to.
    pub consumer_assignment_interval_ms: Bounded,
    /// `group.consumer.max.size`.
    pub consumer_max_size: usize,
    /// `group.consumer.assignors`, the default one first.
    pub consumer_assignors: Vec<Arc<str>>,
    /// `group.consumer.migration.policy`.
    pub consumer_migration_policy: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub consumer_regex_refresh_interval_ms: i64,
    /// `ottla.group.memory.bytes`: what the members of all groups of the broker may hold in memory.
    pub members_max_bytes: usize,
    /// No record may be larger: what the log of the offsets topic takes.
    pub record_max_bytes: usize,
}

/// A number with limits for what a group may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// Where the group sets nothing.
    pub default: i32,
    /// The smallest value of a group.
    pub min: i32,
    /// The largest value of a group.
    pub max: i32,
}

impl Bounded {
    /// What a group has that sets `value`: the nearest that is allowed, as in Kafka.
    fn of(self, value: Option<i32>) -> i32 {
        value.map_or(self.default, |value| value.min(self.max).max(self.min))
    }
}

/// The settings of one consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`.
    pub assignment_interval_ms: i32,
}

impl GroupSettings {
    /// Reads a broker's settings.
    pub fn new(config: &NodeConfig<'_>, record_max_bytes: usize) -> Self {
        let int = |name: &str| i32::try_from(config.number(name)).unwrap_or(i32::MAX);
        let size = |name: &str| usize::try_from(config.number(name)).unwrap_or(0);
        let bounded = |name: &str| Bounded {
            default: int(&format!("group.consumer.{name}")),
            min: int(&format!("group.consumer.min.{name}")),
            max: int(&format!("group.consumer.max.{name}")),
        };
        let policy = config.value("group.consumer.migration.policy");
        let policy = policy.map(|policy| policy.to_string()).unwrap_or_default();
        let allows = |way: &str| policy.eq_ignore_ascii_case("BIDIRECTIONAL") || policy.eq_ignore_ascii_case(way);
        let assignors = config.list("group.consumer.assignors");
        GroupSettings {
            min_session_timeout_ms: int("group.min.session.timeout.ms"),
            max_session_timeout_ms: int("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
            max_size: size("group.max.size"),
            offset_metadata_max_bytes: size("offset.metadata.max.bytes"),
            offsets_retention_ms: config.number("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_interval_ms: config.number("offsets.retention.check.interval.ms"),
            consumer_session_timeout_ms: bounded("session.timeout.ms"),
            consumer_heartbeat_interval_ms: bounded("heartbeat.interval.ms"),
            consumer_assignment_interval_ms: bounded("assignment.interval.ms"),
            consumer_max_size: size("group.consumer.max.size"),
            consumer_assignors: assignors.into_iter().map(Into::into).collect(),
            consumer_migration_policy: MigrationPolicy {
                allows_upgrade: allows("UPGRADE"),
                allows_downgrade: allows("DOWNGRADE"),
            },
            consumer_regex_refresh_interval_ms: config.number("group.consumer.regex.refresh.interval.ms"),
            members_max_bytes: size("ottla.group.memory.bytes"),
            record_max_bytes,
        }
    }

    /// The settings of a group: its own, as IncrementalAlterConfigs stored them, within the broker's limits.
    pub fn consumer_group(&self, image: &MetadataImage, group_id: &str) -> ConsumerGroupSettings {
        let own = image.group_config(group_id);
        let value = |name: &str| own.and_then(|own| own.get(name)?.trim().parse().ok());
        ConsumerGroupSettings {
            session_timeout_ms: self
                .consumer_session_timeout_ms
                .of(value("consumer.session.timeout.ms")),
            heartbeat_interval_ms: self
                .consumer_heartbeat_interval_ms
                .of(value("consumer.heartbeat.interval.ms")),
            assignment_interval_ms: self
                .consumer_assignment_interval_ms
                .of(value("consumer.assignment.interval.ms")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BrokerId;
    use crate::metadata::config::effective::Properties;

    fn settings(properties: &[(&str, &str)]) -> GroupSettings {
        let properties = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let properties = Properties::from_iter(properties);
        let image = MetadataImage::default();
        GroupSettings::new(&NodeConfig::of(&image, BrokerId(1), &properties), 1_000_000)
    }

    #[test]
    fn defaults_are_those_of_kafka() {
        let settings = settings(&[]);
        assert_eq!(settings.consumer_assignors, ["uniform".into(), "range".into()]);
        let policy = settings.consumer_migration_policy;
        assert!(policy.allows_upgrade && policy.allows_downgrade);
        assert_eq!(
            (settings.min_session_timeout_ms, settings.max_session_timeout_ms),
            (6_000, 1_800_000)
        );
        assert_eq!(settings.offsets_retention_ms, 7 * 24 * 60 * 60 * 1_000);
    }

    #[test]
    fn lists_and_names_are_read_as_kafka_does() {
        let settings = settings(&[
            ("group.consumer.assignors", "range , uniform"),
            ("group.consumer.migration.policy", "upgrade"),
        ]);
        assert_eq!(settings.consumer_assignors, ["range".into(), "uniform".into()]);
        let policy = settings.consumer_migration_policy;
        assert!(policy.allows_upgrade && !policy.allows_downgrade);
    }
}
