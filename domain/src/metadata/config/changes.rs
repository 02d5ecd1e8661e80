//! Which changes of settings are allowed.

use std::collections::BTreeSet;

use super::check::Value;
use super::effective::NodeConfig;
use super::setting::{Effect, Setting, SettingType, Update};
use super::topic::TopicSetting;
use super::{broker_setting, listener_setting, topic_setting};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::image::ConfigMap;

/// Checks all the settings that a topic is to have. INVALID_CONFIG names the setting, the value and what is allowed.
pub fn validate_topic(node: &NodeConfig<'_>, configs: &ConfigMap) -> Result<(), ApiError> {
    let invalid = |message: String| ErrorCode::InvalidConfig.with(message);
    if let Some(unknown) = configs.keys().find(|name| topic_setting(name).is_none()) {
        return Err(invalid(format!("Unknown topic config name: {unknown}")));
    }
    for (topic, text) in configs
        .iter()
        .filter_map(|(name, text)| Some((topic_setting(name)?, text)))
    {
        topic.setting.parse(text).map_err(|error| invalid(error.to_string()))?;
    }
    let value = |name: &str| {
        let topic: &TopicSetting = topic_setting(name)?;
        node.topic_value(topic, Some(configs))
    };
    let (least, most) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    if let (Some(Value::Number(low)), Some(Value::Number(high))) = (value(least), value(most))
        && low > high
    {
        return Err(invalid(format!(
            "conflict topic config setting {least} ({low}) > {most} ({high})"
        )));
    }
    if value("remote.storage.enable") == Some(Value::Boolean(true)) {
        let message = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote \
                       log storage.";
        return Err(invalid(message.to_owned()));
    }
    Ok(())
}

/// Checks all the dynamic settings that one broker (`per_broker`) or all are to have, of which those in `changed` are
/// new. INVALID_REQUEST, as Kafka answers, names the settings. Settings that Ottla reads at the start only, or ignores,
/// cannot be changed: an answer that a change was made would be a lie.
pub fn validate_broker(configs: &ConfigMap, changed: &BTreeSet<&str>, per_broker: bool) -> Result<(), ApiError> {
    let invalid = |message: String| ErrorCode::InvalidRequest.with(message);
    let refuse = |why: &str, is_bad: &dyn Fn(&str) -> bool| {
        let bad: Vec<&str> = configs.keys().map(String::as_str).filter(|name| is_bad(name)).collect();
        if bad.is_empty() {
            Ok(())
        } else {
            Err(invalid(format!("{why}: [{}]", bad.join(", "))))
        }
    };
    let base = |name: &str| listener_setting(name).and_then(broker_setting);
    refuse("Cannot update these configs dynamically", &|name| {
        broker_setting(name).is_some_and(Setting::is_read_only)
    })?;
    refuse(
        "These security configs can be dynamically updated only per-listener using the listener prefix",
        &|name| PER_LISTENER_ONLY.contains(&name),
    )?;
    for (name, text) in configs {
        if let Some(setting) = broker_setting(name).or_else(|| base(name))
            && setting.kind != SettingType::Class
        {
            setting.parse(text).map_err(|error| invalid(error.to_string()))?;
        }
    }
    if !per_broker {
        refuse(
            "Cannot update these configs at default cluster level, broker id must be specified",
            &|name| {
                broker_setting(name)
                    .or_else(|| base(name))
                    .is_some_and(|setting| setting.update == Update::PerBroker)
            },
        )?;
    }
    refuse(
        "Cannot update these configs dynamically, Ottla does not act on a change of them",
        &|name| {
            let setting = broker_setting(name).or_else(|| base(name));
            changed.contains(name) && setting.is_some_and(|setting| setting.effect != Effect::Live)
        },
    )
}

/// Key and trust stores change for a listener, never for all of them.
const PER_LISTENER_ONLY: [&str; 10] = [
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

#[cfg(test)]
mod tests {
    use super::super::effective::Properties;
    use super::super::effective::tests::map;
    use super::*;

    fn broker_error(entry: (&str, &str), per_broker: bool) -> String {
        let error = validate_broker(&map(&[entry]), &BTreeSet::from([entry.0]), per_broker).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        error.message.unwrap()
    }

    #[test]
    fn topic_settings_are_checked_together() {
        let properties = Properties::new();
        let node = NodeConfig {
            properties: &properties,
            dynamic: None,
            dynamic_default: None,
        };
        let error = |entries: &[(&str, &str)]| validate_topic(&node, &map(entries)).unwrap_err().message.unwrap();
        assert_eq!(error(&[("retention", "5")]), "Unknown topic config name: retention");
        assert_eq!(
            error(&[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "3")]),
            "conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (3)"
        );
        assert!(error(&[("remote.storage.enable", "true")]).starts_with("Tiered Storage functionality is disabled"));
        assert_eq!(validate_topic(&node, &map(&[("retention.ms", "9")])), Ok(()));
    }

    #[test]
    fn broker_settings_change_only_where_a_change_takes_effect() {
        assert_eq!(
            broker_error(("node.id", "2"), true),
            "Cannot update these configs dynamically: [node.id]"
        );
        assert_eq!(
            broker_error(("message.max.bytes", "many"), false),
            "Invalid value many for configuration message.max.bytes: Not a number of type INT"
        );
        assert_eq!(
            broker_error(("listeners", "PLAINTEXT://:1"), false),
            "Cannot update these configs at default cluster level, broker id must be specified: [listeners]"
        );
        assert_eq!(
            broker_error(("num.io.threads", "9"), true),
            "Cannot update these configs dynamically, Ottla does not act on a change of them: [num.io.threads]"
        );
        assert!(broker_error(("ssl.keystore.type", "PEM"), true).starts_with("These security configs"));
        let kept = validate_broker(&map(&[("num.io.threads", "9")]), &BTreeSet::new(), true);
        assert_eq!(kept, Ok(()));
        assert_eq!(
            validate_broker(
                &map(&[("log.retention.ms", "9"), ("my.own", "x")]),
                &BTreeSet::new(),
                false
            ),
            Ok(())
        );
    }
}
