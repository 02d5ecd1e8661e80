//! The catalogue of settings, and what is in effect: a topic's settings, then a broker's dynamic ones, those of all
//! brokers, `server.properties`, defaults.

mod broker;
pub mod changes;
pub mod check;
pub mod describe;
pub mod effective;
pub mod group;
pub mod setting;
pub mod topic;

use std::collections::BTreeMap;
use std::sync::LazyLock;

pub use self::broker::BROKER_SETTINGS;
pub use self::group::{GROUP_SETTINGS, group_setting};
use self::setting::{Setting, SettingType};
pub use self::topic::TOPIC_SETTINGS;
use self::topic::TopicSetting;

static BROKER: LazyLock<BTreeMap<&str, &Setting>> = LazyLock::new(|| {
    let settings = BROKER_SETTINGS.iter().copied().flatten();
    settings.map(|setting| (setting.name, setting)).collect()
});

/// Every setting of brokers and controllers, sorted by name.
pub fn broker_settings() -> impl Iterator<Item = &'static Setting> {
    BROKER.values().copied()
}

/// The setting of brokers and controllers with this name.
pub fn broker_setting(name: &str) -> Option<&'static Setting> {
    BROKER.get(name).copied()
}

/// The setting of topics with this name.
pub fn topic_setting(name: &str) -> Option<&'static TopicSetting> {
    let index = TOPIC_SETTINGS
        .binary_search_by(|topic| topic.setting.name.cmp(name))
        .ok()?;
    TOPIC_SETTINGS.get(index)
}

/// The names that mean the same in other units, in the order of precedence; of most settings only `name`. A setting of
/// one listener, as `listener.name.internal.ssl.keystore.location`, falls back to the one of all.
pub fn synonyms(name: &str) -> Vec<&str> {
    const GROUPS: [&[&str]; 3] = [
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    ];
    if let Some(group) = GROUPS.iter().find(|group| group.contains(&name)) {
        return group.to_vec();
    }
    if name == "log.flush.interval.ms" {
        return vec![name, "log.flush.scheduler.interval.ms"];
    }
    match listener_setting(name) {
        Some(base) => vec![name, base],
        None => vec![name],
    }
}

/// What `listener.name.{listener}.{setting}` sets for the listener; SASL settings may name a mechanism in front.
fn listener_setting(name: &str) -> Option<&str> {
    const PER_MECHANISM: [&str; 5] = [
        "sasl.jaas.config",
        "sasl.login.callback.handler.class",
        "sasl.login.class",
        "sasl.server.callback.handler.class",
        "connections.max.reauth.ms",
    ];
    let (_, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    let mechanism = PER_MECHANISM.into_iter().find(|setting| base.ends_with(setting));
    Some(mechanism.unwrap_or(base))
}

/// The type of a broker's setting, also of one for a single listener; `Unknown` for a name that Kafka does not know.
pub fn broker_setting_type(name: &str) -> SettingType {
    let known = broker_setting(name).or_else(|| broker_setting(listener_setting(name)?));
    known.map_or(SettingType::Unknown, |setting| setting.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_sound() {
        assert!(TOPIC_SETTINGS.is_sorted_by_key(|topic| topic.setting.name));
        let all = || BROKER_SETTINGS.iter().copied().flatten();
        assert_eq!(broker_settings().count(), all().count(), "a name is defined twice");
        let of_topics = TOPIC_SETTINGS.iter().map(|topic| &topic.setting);
        let of_groups = GROUP_SETTINGS.iter().map(|group| &group.setting);
        for setting in all().chain(of_topics).chain(of_groups) {
            if let Some(default) = setting.default {
                let value = setting.parse(default).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(value.to_string(), default, "{}", setting.name);
            }
            assert!(setting.doc.ends_with('.'), "{}", setting.name);
        }
        for (synonym, _) in TOPIC_SETTINGS.iter().flat_map(|topic| topic.synonyms) {
            assert!(broker_setting(synonym).is_some(), "{synonym}");
        }
        for group in GROUP_SETTINGS {
            let of_broker = [group.synonym, group.min, group.max].into_iter().flatten();
            for name in of_broker {
                assert_eq!(
                    broker_setting(name).map(|setting| setting.kind),
                    Some(group.setting.kind),
                    "{name}"
                );
            }
            let default = group.synonym.and_then(broker_setting).map(|synonym| synonym.default);
            assert_eq!(
                default.unwrap_or(group.setting.default),
                group.setting.default,
                "{}",
                group.setting.name
            );
        }
    }

    #[test]
    fn a_listeners_setting_falls_back() {
        assert_eq!(
            synonyms("listener.name.internal.scram-sha-256.sasl.jaas.config"),
            [
                "listener.name.internal.scram-sha-256.sasl.jaas.config",
                "sasl.jaas.config"
            ]
        );
        assert_eq!(
            broker_setting_type("listener.name.x.ssl.key.password"),
            SettingType::Password
        );
        assert_eq!(broker_setting_type("my.own"), SettingType::Unknown);
        assert_eq!(synonyms("log.roll.hours"), ["log.roll.ms", "log.roll.hours"]);
    }
}
