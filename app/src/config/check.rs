//! What is checked of settings beyond their form, and what their author is warned of.

use std::net::IpAddr;

use ottla_domain::metadata::config::effective::NodeConfig as Effective;
use ottla_domain::metadata::config::group::check_defaults;
use ottla_domain::metadata::config::setting::Effect;
use ottla_domain::metadata::config::setting::SettingType;
use ottla_domain::metadata::config::{broker_setting, broker_setting_type, broker_settings, topic_setting};

use super::error::ConfigError;
use super::listeners::split_csv;
use super::settings::{Settings, Source};

/// Refuses a value that its setting does not allow, and settings whose absence would be noticed too late.
pub fn values(settings: &Settings) -> Result<(), ConfigError> {
    for (name, given) in settings.iter() {
        if let Some(setting) = broker_setting(name)
            && setting.kind != SettingType::Class
        {
            setting.parse(&given.value)?;
        }
    }
    let unsupported = [
        (
            "authorizer.class.name",
            "Ottla has no authorizer yet and would let everyone do everything",
        ),
        (
            "config.providers",
            "Ottla does not resolve ${provider:..} in values yet",
        ),
    ];
    match unsupported
        .into_iter()
        .find(|(name, _)| settings.get(name).is_some_and(|value| !value.is_empty()))
    {
        Some((name, reason)) => Err(ConfigError::Inconsistent(format!("{name} must not be set: {reason}"))),
        None => Ok(()),
    }
}

/// Refuses settings that contradict one another, by the rules of Kafka's `KafkaConfig`.
pub fn consistency(effective: &Effective<'_>) -> Result<(), ConfigError> {
    let number = |name: &str| effective.number(name);
    let threads = number("log.cleaner.threads");
    let per_thread = number("log.cleaner.dedupe.buffer.size").checked_div(threads);
    require(per_thread.is_none_or(|bytes| bytes > 1024 * 1024), || {
        format!("log.cleaner.dedupe.buffer.size must be more than 1 MiB for each of the {threads} log.cleaner.threads")
    })?;

    let wait = number("replica.fetch.wait.max.ms");
    for bound in ["replica.socket.timeout.ms", "replica.lag.time.max.ms"] {
        let most = number(bound);
        require(wait <= most, || {
            format!("replica.fetch.wait.max.ms ({wait}) must not be more than {bound} ({most})")
        })?;
    }

    let (queued, request) = (number("queued.max.request.bytes"), number("socket.request.max.bytes"));
    require(queued <= 0 || queued >= request, || {
        format!("queued.max.request.bytes ({queued}) must be at least socket.request.max.bytes ({request})")
    })?;

    let (delay, idle) = (
        number("connection.failed.authentication.delay.ms"),
        number("connections.max.idle.ms"),
    );
    require(idle < 0 || delay < idle, || {
        format!(
            "connection.failed.authentication.delay.ms ({delay}) must be less than connections.max.idle.ms ({idle})"
        )
    })?;

    check_defaults(effective).map_err(ConfigError::Inconsistent)?;

    let overrides = effective.text("max.connections.per.ip.overrides").unwrap_or_default();
    require(number("max.connections.per.ip") != 0 || !overrides.is_empty(), || {
        "max.connections.per.ip can be 0 only when max.connections.per.ip.overrides is set".to_owned()
    })?;
    connection_overrides(overrides).map(|_| ())
}

fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Inconsistent(reason()))
    }
}

/// Reads `max.connections.per.ip.overrides`, pairs of host and count.
pub fn connection_overrides(value: &str) -> Result<Vec<(&str, usize)>, ConfigError> {
    let read = |entry| {
        let (host, count) = str::rsplit_once(entry, ':')?;
        let host = host.trim();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let is_host = bare.parse::<IpAddr>().is_ok()
            || (!bare.is_empty()
                && bare
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')));
        let count = count.trim().parse().ok()?;
        is_host.then_some((bare, count))
    };
    split_csv(value)
        .map(|entry| {
            read(entry).ok_or_else(|| {
                let reason = format!("{entry} is no pair of host and number, as 127.0.0.1:100");
                ConfigError::invalid("max.connections.per.ip.overrides", value, reason)
            })
        })
        .collect()
}

/// Settings of Kafka's that were given and do nothing on Ottla.
pub fn ignored(settings: &Settings) -> Vec<String> {
    let is_ignored = |name: &str| match broker_setting(name) {
        Some(setting) => setting.effect == Effect::Ignored,
        None => broker_setting_type(name) != SettingType::Unknown,
    };
    let given = settings
        .iter()
        .filter(|(name, given)| given.source != Source::BuiltIn && is_ignored(name));
    given.map(|(name, _)| name.to_owned()).collect()
}

/// What the node starts with all the same, for the log.
pub fn warnings(settings: &Settings, effective: &Effective<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, given) in settings.iter() {
        if broker_setting_type(name) == SettingType::Unknown {
            let hint = suggestion(name)
                .map(|known| format!("; did you mean {known}?"))
                .unwrap_or_default();
            warnings.push(format!("unknown setting {name} (from {}){hint}", given.source));
        }
    }
    let heartbeat = effective.number("broker.heartbeat.interval.ms");
    let session = effective.number("broker.session.timeout.ms");
    if heartbeat.saturating_mul(2) > session {
        warnings.push(format!(
            "broker.heartbeat.interval.ms ({heartbeat}) should be at most half of broker.session.timeout.ms ({session}): \
             one late heartbeat fences the broker"
        ));
    }
    warnings
}

/// The setting that a misspelt name most likely meant; for a topic's setting, the broker's default for it.
fn suggestion(name: &str) -> Option<&'static str> {
    if let Some((broker_name, _)) = topic_setting(name).and_then(|topic| topic.synonyms.first()) {
        return Some(broker_name);
    }
    let most = (name.len() / 5).clamp(1, 3);
    let near = broker_settings().map(|setting| (distance(name, setting.name), setting.name));
    near.filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be put in, left out or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), i + 1);
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ottla_domain::metadata::config::effective::Properties;

    use super::*;

    fn check(given: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut settings = Settings::default();
        for (name, value) in given {
            settings.set(name, value, Source::Override);
        }
        let properties: Properties = settings.properties();
        let effective = Effective {
            properties: &properties,
            dynamic: None,
            dynamic_default: None,
        };
        values(&settings)
            .and_then(|()| consistency(&effective))
            .map(|()| warnings(&settings, &effective))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_sound() {
        assert_eq!(check(&[]), Ok(vec![]));
    }

    #[test]
    fn a_bad_value_is_named_with_what_is_allowed() {
        for (name, value, expected) in [
            (
                "num.partitions",
                "0",
                "Invalid value 0 for configuration num.partitions: Value must be at least 1",
            ),
            (
                "num.partitions",
                "many",
                "Invalid value many for configuration num.partitions: Not a number of type INT",
            ),
            (
                "ottla.fsync",
                "always",
                "Invalid value always for configuration ottla.fsync: String must be one of: none, ack",
            ),
            (
                "delete.topic.enable",
                "yes",
                "Expected value to be either true or false",
            ),
            ("authorizer.class.name", "x.Y", "authorizer.class.name must not be set"),
            ("config.providers", "env", "config.providers must not be set"),
            ("log.roll.ms", "0", "Invalid value 0 for configuration log.roll.ms"),
            ("log.cleaner.threads", "128", "more than 1 MiB for each of the 128"),
            (
                "replica.fetch.wait.max.ms",
                "30001",
                "must not be more than replica.socket.timeout.ms (30000)",
            ),
            (
                "queued.max.request.bytes",
                "1",
                "must be at least socket.request.max.bytes (104857600)",
            ),
            (
                "group.consumer.session.timeout.ms",
                "70000",
                "must be less than or equal to group.consumer.max.session.timeout.ms",
            ),
            (
                "connections.max.idle.ms",
                "100",
                "must be less than connections.max.idle.ms (100)",
            ),
            (
                "max.connections.per.ip",
                "0",
                "only when max.connections.per.ip.overrides is set",
            ),
            (
                "max.connections.per.ip.overrides",
                "127.0.0.1:x",
                "127.0.0.1:x is no pair",
            ),
            ("max.connections.per.ip.overrides", "a b:1", "a b:1 is no pair"),
        ] {
            let error = check(&[(name, value)]).unwrap_err();
            assert!(error.contains(expected), "{name}={value}: {error}");
        }
    }

    #[test]
    fn sound_values_pass() {
        for (name, value) in [
            ("log.retention.ms", "-1"),
            ("log.retention.hours", "-5"),
            ("log.cleaner.threads", "0"),
            ("connections.max.idle.ms", "-1"),
            ("queued.max.request.bytes", "-1"),
            ("max.connections.per.ip.overrides", "127.0.0.1:1, [::1]:2,host-1.x:3"),
        ] {
            assert!(check(&[(name, value)]).is_ok(), "{name}={value}");
        }
        assert_eq!(connection_overrides("[::1]:2").unwrap(), [("::1", 2)]);
    }

    #[test]
    fn ignored_settings_are_those_that_the_user_gave() {
        let mut settings = Settings::default();
        for name in [
            "background.threads",
            "listener.name.x.ssl.key.password",
            "num.partitions",
            "no.such",
        ] {
            settings.set(name, "1", Source::Override);
        }
        settings.set("num.io.threads", "1", Source::BuiltIn);
        assert_eq!(
            ignored(&settings),
            ["background.threads", "listener.name.x.ssl.key.password"]
        );
    }

    #[test]
    fn unknown_settings_are_told_of() {
        let warnings = check(&[
            ("log.retention.hour", "1"),
            ("retention.ms", "1"),
            ("my.own", "1"),
            ("broker.heartbeat.interval.ms", "5000"),
        ])
        .unwrap();
        let expected = [
            "unknown setting log.retention.hour (from --override); did you mean log.retention.hours?",
            "unknown setting my.own (from --override)",
            "unknown setting retention.ms (from --override); did you mean log.retention.ms?",
            "broker.heartbeat.interval.ms (5000) should be at most half",
        ];
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.starts_with(expected), "{warning}");
        }
    }
}
