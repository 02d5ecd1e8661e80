//! The settings of groups (KIP-848, KIP-932, KIP-1071; `GroupConfig` in Apache Kafka).

use super::check::Check;
use super::check::Check::{Any, AtLeast, OneOf, ShareOffsetReset};
use super::effective::NodeConfig;
use super::setting::Effect::{Ignored, Live};
use super::setting::SettingType::{Boolean, Int, String as Text};
use super::setting::{Effect, Setting, SettingType, Update, s};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::image::ConfigMap;

/// A setting of groups, and the broker's settings that say what it is by default and may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupSetting {
    /// The setting.
    pub setting: Setting,
    /// The broker's setting for groups that set nothing.
    pub synonym: Option<&'static str>,
    /// The broker's setting for the smallest value of a group.
    pub min: Option<&'static str>,
    /// The broker's setting for the largest value of a group.
    pub max: Option<&'static str>,
}

const fn g(
    name: &'static str,
    kind: SettingType,
    default: &'static str,
    check: Check,
    effect: Effect,
    doc: &'static str,
) -> GroupSetting {
    GroupSetting {
        setting: s(name, kind, default, check, Update::ClusterWide, effect, doc),
        synonym: None,
        min: None,
        max: None,
    }
}

impl GroupSetting {
    const fn of(mut self, synonym: &'static str) -> GroupSetting {
        self.synonym = Some(synonym);
        self
    }

    const fn within(mut self, min: &'static str, max: &'static str) -> GroupSetting {
        self.min = Some(min);
        self.max(max)
    }

    const fn max(mut self, max: &'static str) -> GroupSetting {
        self.max = Some(max);
        self
    }

    /// What a group has that sets nothing.
    fn default_number(&self, node: &NodeConfig<'_>) -> i64 {
        self.synonym.map_or(0, |synonym| node.number(synonym))
    }
}

/// Every setting of groups, in the order in which their limits are checked.
#[rustfmt::skip]
pub const GROUP_SETTINGS: &[GroupSetting] = &[
    g("consumer.heartbeat.interval.ms", Int, "5000", AtLeast(1), Live, "How often members of the consumer group heartbeat, in ms.").of("group.consumer.heartbeat.interval.ms").within("group.consumer.min.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms"),
    g("consumer.session.timeout.ms", Int, "45000", AtLeast(1), Live, "How long a member of the consumer group may be silent, in ms.").of("group.consumer.session.timeout.ms").within("group.consumer.min.session.timeout.ms", "group.consumer.max.session.timeout.ms"),
    g("consumer.assignment.interval.ms", Int, "1000", AtLeast(0), Live, "The time between two assignments of the consumer group, in ms.").of("group.consumer.assignment.interval.ms").within("group.consumer.min.assignment.interval.ms", "group.consumer.max.assignment.interval.ms"),
    g("share.heartbeat.interval.ms", Int, "5000", AtLeast(1), Ignored, "How often members of the share group heartbeat, in ms.").of("group.share.heartbeat.interval.ms").within("group.share.min.heartbeat.interval.ms", "group.share.max.heartbeat.interval.ms"),
    g("share.session.timeout.ms", Int, "45000", AtLeast(1), Ignored, "How long a member of the share group may be silent, in ms.").of("group.share.session.timeout.ms").within("group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"),
    g("share.record.lock.duration.ms", Int, "30000", AtLeast(1000), Ignored, "How long a member of the share group may keep a record, in ms.").of("group.share.record.lock.duration.ms").within("group.share.min.record.lock.duration.ms", "group.share.max.record.lock.duration.ms"),
    g("share.delivery.count.limit", Int, "5", AtLeast(2), Ignored, "How often a record is delivered to the share group at most.").of("group.share.delivery.count.limit").within("group.share.min.delivery.count.limit", "group.share.max.delivery.count.limit"),
    g("share.partition.max.record.locks", Int, "2000", AtLeast(100), Ignored, "The most records of a partition that are in delivery to the share group.").of("group.share.partition.max.record.locks").within("group.share.min.partition.max.record.locks", "group.share.max.partition.max.record.locks"),
    g("share.assignment.interval.ms", Int, "1000", AtLeast(0), Ignored, "The time between two assignments of the share group, in ms.").of("group.share.assignment.interval.ms").within("group.share.min.assignment.interval.ms", "group.share.max.assignment.interval.ms"),
    g("share.auto.offset.reset", Text, "latest", ShareOffsetReset, Ignored, "Where the share group begins a partition: earliest, latest, or by_duration:P.. so long ago."),
    g("share.isolation.level", Text, "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"]), Ignored, "Whether the share group gets records of transactions that were not committed."),
    g("share.renew.acknowledge.enable", Boolean, "true", Any, Ignored, "Whether members of the share group may keep records longer."),
    g("streams.heartbeat.interval.ms", Int, "5000", AtLeast(1), Ignored, "How often members of the streams group heartbeat, in ms.").of("group.streams.heartbeat.interval.ms").within("group.streams.min.heartbeat.interval.ms", "group.streams.max.heartbeat.interval.ms"),
    g("streams.session.timeout.ms", Int, "45000", AtLeast(1), Ignored, "How long a member of the streams group may be silent, in ms.").of("group.streams.session.timeout.ms").within("group.streams.min.session.timeout.ms", "group.streams.max.session.timeout.ms"),
    g("streams.num.standby.replicas", Int, "0", AtLeast(0), Ignored, "Standby replicas of each task of the streams group.").of("group.streams.num.standby.replicas").max("group.streams.max.standby.replicas"),
    g("streams.assignment.interval.ms", Int, "1000", AtLeast(0), Ignored, "The time between two assignments of the streams group, in ms.").of("group.streams.assignment.interval.ms").within("group.streams.min.assignment.interval.ms", "group.streams.max.assignment.interval.ms"),
    g("streams.initial.rebalance.delay.ms", Int, "3000", AtLeast(0), Ignored, "How long the new streams group waits for more members, in ms.").of("group.streams.initial.rebalance.delay.ms"),
];

/// The setting of groups with this name.
pub fn group_setting(name: &str) -> Option<&'static GroupSetting> {
    GROUP_SETTINGS.iter().find(|group| group.setting.name == name)
}

/// Checks all the settings that a group is to have against their types and the broker's limits. INVALID_CONFIG names the
/// setting and what is wrong.
pub fn validate_group(node: &NodeConfig<'_>, configs: &ConfigMap) -> Result<(), ApiError> {
    let invalid = |message: String| ErrorCode::InvalidConfig.with(message);
    if let Some(unknown) = configs.keys().find(|name| group_setting(name).is_none()) {
        return Err(invalid(format!("Unknown group config name: {unknown}")));
    }
    for group in GROUP_SETTINGS {
        if let Some(text) = configs.get(group.setting.name) {
            group.setting.parse(text).map_err(|error| invalid(error.to_string()))?;
        }
    }
    let own = |group: &GroupSetting| configs.get(group.setting.name)?.trim().parse().ok();
    check_limits(node, |group| own(group).map(|value| (group.setting.name, value))).map_err(invalid)?;
    check_sessions(|group| {
        let value = own(group).unwrap_or_else(|| group.default_number(node));
        (group.setting.name, value)
    })
    .map_err(invalid)
}

/// Checks that what groups have by default is what they may have; says which of the broker's settings contradict one
/// another.
pub fn check_defaults(node: &NodeConfig<'_>) -> Result<(), String> {
    check_limits(node, |group| {
        group.synonym.map(|synonym| (synonym, node.number(synonym)))
    })?;
    check_sessions(|group| (group.synonym.unwrap_or_default(), group.default_number(node)))
}

fn check_limits(
    node: &NodeConfig<'_>,
    named: impl Fn(&GroupSetting) -> Option<(&'static str, i64)>,
) -> Result<(), String> {
    for group in GROUP_SETTINGS {
        let Some((name, value)) = named(group) else { continue };
        if let Some(min) = group.min.filter(|min| value < node.number(min)) {
            return Err(format!("{name} must be greater than or equal to {min}"));
        }
        if let Some(max) = group.max.filter(|max| value > node.number(max)) {
            return Err(format!("{name} must be less than or equal to {max}"));
        }
    }
    Ok(())
}

/// A session outlasts the time between two heartbeats.
fn check_sessions(named: impl Fn(&GroupSetting) -> (&'static str, i64)) -> Result<(), String> {
    for protocol in ["consumer", "share", "streams"] {
        let named = |setting: &str| group_setting(&format!("{protocol}.{setting}")).map(&named);
        if let (Some((session_name, session)), Some((heartbeat_name, heartbeat))) =
            (named("session.timeout.ms"), named("heartbeat.interval.ms"))
            && session <= heartbeat
        {
            return Err(format!("{session_name} must be greater than {heartbeat_name}"));
        }
    }
    Ok(())
}

/// `earliest`, `latest`, or `by_duration:` and how long ago.
pub(super) fn is_share_offset_reset(text: &str) -> bool {
    match text.strip_prefix("by_duration:") {
        Some(duration) => duration_ns(duration).is_some_and(|ns| ns >= 0),
        None => matches!(text, "earliest" | "latest"),
    }
}

/// Reads an ISO 8601 duration of days and smaller units, in ns, as Java's `Duration.parse` does.
fn duration_ns(text: &str) -> Option<i128> {
    const SECOND: i128 = 1_000_000_000;
    let text = text.to_ascii_uppercase();
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let mut rest = rest.strip_prefix('P')?;
    let mut total = part(&mut rest, 'D').map(|days| days * 86_400 * SECOND);
    if let Some(mut time) = rest.strip_prefix('T') {
        let hours = part(&mut time, 'H').map(|hours| hours * 3_600 * SECOND);
        let minutes = part(&mut time, 'M').map(|minutes| minutes * 60 * SECOND);
        let seconds = if time.is_empty() { None } else { Some(seconds_ns(time)?) };
        let of_day = [hours, minutes, seconds].into_iter().flatten().reduce(|a, b| a + b)?;
        total = Some(total.unwrap_or(0) + of_day);
    } else if !rest.is_empty() {
        return None;
    }
    total.map(|total| if is_negative { -total } else { total })
}

/// Takes the number in front of `unit` away.
fn part(rest: &mut &str, unit: char) -> Option<i128> {
    let (number, after) = rest.split_once(unit)?;
    let number: i64 = number.parse().ok()?;
    *rest = after;
    Some(number.into())
}

fn seconds_ns(text: &str) -> Option<i128> {
    let text = text.strip_suffix('S')?;
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let whole_ns = i128::from(whole.parse::<i64>().ok()?) * 1_000_000_000;
    let fraction_ns: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(if whole.starts_with('-') {
        whole_ns - fraction_ns
    } else {
        whole_ns + fraction_ns
    })
}

#[cfg(test)]
mod tests {
    use super::super::effective::Properties;
    use super::super::effective::tests::map;
    use super::*;

    fn with(properties: &[(&str, &str)], check: impl Fn(&NodeConfig<'_>) -> Option<String>) -> Option<String> {
        let properties: Properties = map(properties);
        check(&NodeConfig {
            properties: &properties,
            dynamic: None,
            dynamic_default: None,
        })
    }

    #[test]
    fn groups_stay_within_the_brokers_limits() {
        let error = |entries: &[(&str, &str)]| {
            let validate = |node: &NodeConfig<'_>| validate_group(node, &map(entries)).err()?.message;
            with(&[("group.consumer.max.heartbeat.interval.ms", "50000")], validate)
        };
        assert_eq!(error(&[("consumer.session.timeout.ms", "45000")]), None);
        assert_eq!(error(&[("share.auto.offset.reset", "by_duration:PT1H")]), None);
        for (name, value, expected) in [
            (
                "session.timeout.ms",
                "50000",
                "Unknown group config name: session.timeout.ms",
            ),
            (
                "consumer.session.timeout.ms",
                "long",
                "Invalid value long for configuration consumer.session.timeout.ms: Not a number of type INT",
            ),
            (
                "consumer.session.timeout.ms",
                "44999",
                "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
            ),
            (
                "consumer.session.timeout.ms",
                "60001",
                "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
            ),
            (
                "consumer.heartbeat.interval.ms",
                "45000",
                "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms",
            ),
            (
                "streams.num.standby.replicas",
                "3",
                "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas",
            ),
            (
                "share.isolation.level",
                "READ_COMMITTED",
                "Invalid value READ_COMMITTED for configuration share.isolation.level: String must be one of: \
                 read_committed, read_uncommitted",
            ),
            (
                "share.auto.offset.reset",
                "none",
                "Invalid value none for configuration share.auto.offset.reset: Invalid value `none` for configuration \
                 share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format \
                 'by_duration:<PnDTnHnMn.nS>'.",
            ),
        ] {
            assert_eq!(error(&[(name, value)]).as_deref(), Some(expected), "{name}={value}");
        }
    }

    #[test]
    fn a_brokers_defaults_stay_within_its_limits() {
        let error = |entries: &[(&str, &str)]| with(entries, |node| check_defaults(node).err());
        assert_eq!(error(&[]), None);
        assert_eq!(
            error(&[("group.consumer.session.timeout.ms", "6000")]).as_deref(),
            Some(
                "group.consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"
            )
        );
        assert_eq!(
            error(&[
                ("group.consumer.min.session.timeout.ms", "1"),
                ("group.consumer.session.timeout.ms", "5000"),
            ])
            .as_deref(),
            Some("group.consumer.session.timeout.ms must be greater than group.consumer.heartbeat.interval.ms")
        );
    }

    #[test]
    fn durations_are_read_as_java_reads_them() {
        let ms = |text: &str| duration_ns(text).map(|ns| ns / 1_000_000);
        assert_eq!(ms("P2DT3H4M5.006S"), Some(183_845_006));
        assert_eq!(ms("pt5s"), Some(5_000));
        assert_eq!(ms("PT-0.5S"), Some(-500));
        assert_eq!(ms("-P1D"), Some(-86_400_000));
        assert_eq!(ms("P1DT-1H"), Some(82_800_000));
        for bad in [
            "",
            "P",
            "PT",
            "P1DT",
            "1D",
            "P1H",
            "PT1D",
            "PT1S2M",
            "PT1.5H",
            "PT1.0000000001S",
            "PT1Sx",
        ] {
            assert_eq!(duration_ns(bad), None, "{bad}");
        }
        assert!(is_share_offset_reset("latest"));
        assert!(!is_share_offset_reset("by_duration") && !is_share_offset_reset("by_duration:-PT1S"));
    }
}
