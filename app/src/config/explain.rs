//! `ottla config --explain`: every setting, what it is, where that comes from, and whether it does anything.

use std::io::{self, Write};

use ottla_domain::metadata::config::setting::{Effect, Setting, SettingType, Update};
use ottla_domain::metadata::config::{
    GROUP_SETTINGS, TOPIC_SETTINGS, broker_setting, broker_setting_type, broker_settings,
};

use super::node::NodeConfig;

/// Writes one line a setting: name, whether it changes while the node runs, source, value.
pub fn write(config: &NodeConfig, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "# dynamic: kafka-configs changes it while the node runs; start: read when the node starts;\n\
         # ignored: accepted so that files made for Apache Kafka work, without effect.\n"
    )?;
    let rows: Vec<[String; 4]> = broker_settings()
        .filter(|setting| !setting.is_internal || config.settings.contains(setting.name))
        .map(|setting| row(config, setting))
        .chain(others(config))
        .collect();
    let width = |column: fn(&[String; 4]) -> &str| rows.iter().map(|row| column(row).len()).max().unwrap_or_default();
    let (name_width, source_width) = (width(|row| &row[0]), width(|row| &row[2]));
    for [name, change, source, value] in &rows {
        let line = format!("{name:name_width$}  {change:7}  {source:source_width$}  {value}");
        writeln!(out, "{}", line.trim_end())?;
    }
    let mut ignored = |of: &str, settings: &mut dyn Iterator<Item = &Setting>| {
        let ignored = settings.filter(|setting| setting.effect == Effect::Ignored);
        let names: Vec<&str> = ignored.map(|setting| setting.name).collect();
        writeln!(out, "\n# {of} settings without effect: {}", names.join(", "))
    };
    ignored("topic", &mut TOPIC_SETTINGS.iter().map(|topic| &topic.setting))?;
    ignored("group", &mut GROUP_SETTINGS.iter().map(|group| &group.setting))
}

fn row(config: &NodeConfig, setting: &Setting) -> [String; 4] {
    let given = config.settings.setting(setting.name);
    let default = setting.default.unwrap_or("null");
    let value = match given {
        Some(_) if setting.kind.is_sensitive() => "[hidden]".to_owned(),
        Some(given) if given.value == default => default.to_owned(),
        Some(given) => format!("{} (default {default})", given.value),
        None => default.to_owned(),
    };
    let change = match (setting.effect, setting.update) {
        (Effect::Ignored, _) => "ignored",
        (Effect::Live, Update::PerBroker | Update::ClusterWide) => "dynamic",
        (Effect::Live, Update::ReadOnly) | (Effect::Start, _) => "start",
    };
    let source = given.map_or("default".to_owned(), |given| given.source.to_string());
    [setting.name.to_owned(), change.to_owned(), source, value]
}

/// Settings of single listeners, and names that nobody knows: none of them does anything.
fn others(config: &NodeConfig) -> impl Iterator<Item = [String; 4]> {
    config
        .settings
        .iter()
        .filter(|(name, _)| broker_setting(name).is_none())
        .map(|(name, given)| {
            // What is not known may be a secret.
            let (change, value) = match broker_setting_type(name) {
                SettingType::Unknown => ("unknown", "[hidden]"),
                kind if kind.is_sensitive() => ("ignored", "[hidden]"),
                _ => ("ignored", given.value.as_str()),
            };
            [
                name.to_owned(),
                change.to_owned(),
                given.source.to_string(),
                value.to_owned(),
            ]
        })
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Settings, Source};
    use super::*;

    #[test]
    fn every_setting_is_explained_and_secrets_are_kept() {
        let mut settings = Settings::default();
        settings.set(
            "log.retention.hours",
            "72",
            Source::Environment("KAFKA_LOG_RETENTION_HOURS".into()),
        );
        settings.set("num.partitions", "1", Source::Override);
        settings.set("ssl.key.password", "hunter2", Source::Override);
        settings.set("listener.name.a.ssl.key.password", "hunter2", Source::Override);
        settings.set("no.such", "hunter2", Source::Override);
        let config = NodeConfig::new(settings, false).unwrap();
        let mut out = Vec::new();
        write(&config, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = |name: &str| -> Vec<&str> {
            let found = text.lines().find(|line| line.split_whitespace().next() == Some(name));
            found
                .unwrap_or_else(|| panic!("no {name} in {text}"))
                .split("  ")
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .collect()
        };
        assert_eq!(
            line("log.retention.hours"),
            [
                "log.retention.hours",
                "start",
                "environment KAFKA_LOG_RETENTION_HOURS",
                "72 (default 168)"
            ]
        );
        assert_eq!(line("num.partitions"), ["num.partitions", "start", "--override", "1"]);
        assert_eq!(
            line("log.retention.ms"),
            ["log.retention.ms", "dynamic", "default", "null"]
        );
        assert_eq!(
            line("background.threads"),
            ["background.threads", "ignored", "default", "10"]
        );
        assert_eq!(line("node.id"), ["node.id", "start", "built-in", "1 (default null)"]);
        assert_eq!(line("no.such"), ["no.such", "unknown", "--override", "[hidden]"]);
        assert!(!text.contains("hunter2"), "{text}");
        for of in ["topic", "group"] {
            assert!(text.contains(&format!("\n# {of} settings without effect: ")), "{text}");
        }
        let known = broker_settings().filter(|setting| !setting.is_internal).count();
        assert!(text.lines().count() >= known);
    }
}
