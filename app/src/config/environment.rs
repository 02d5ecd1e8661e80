//! Settings from environment variables, named as the official Apache Kafka image names them.

/// Variables that the image's start scripts use for other things.
const NO_SETTINGS: &[&str] = &[
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_JMX_HOSTNAME",
];

/// The image's variable for the level of its root logger.
const LOG_LEVEL: &str = "KAFKA_LOG4J_ROOT_LOGLEVEL";

/// The image's variable for the cluster that an empty directory is formatted for.
const CLUSTER_ID: &str = "CLUSTER_ID";

/// The setting that a variable stands for, and its value there.
pub fn setting(variable: &str, value: &str) -> Option<(String, String)> {
    if variable == CLUSTER_ID {
        return Some(("ottla.cluster.id".to_owned(), value.to_owned()));
    }
    if variable == LOG_LEVEL {
        let level = match value.trim().to_uppercase().as_str() {
            "ALL" => "trace".to_owned(),
            "FATAL" => "error".to_owned(),
            level => level.to_lowercase(),
        };
        return Some(("ottla.log.level".to_owned(), level));
    }
    setting_name(variable).map(|name| (name, value.to_owned()))
}

/// The setting that a variable stands for: `KAFKA_LOG_RETENTION_HOURS` is `log.retention.hours`; two underscores are
/// one, three a dash.
fn setting_name(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix("KAFKA_").filter(|rest| !rest.is_empty())?;
    if NO_SETTINGS.contains(&variable) {
        return None;
    }
    // The order of the replacements is the image's, so that odd names come out alike.
    Some(
        rest.to_lowercase()
            .replace('_', ".")
            .replace("...", "-")
            .replace("..", "_"),
    )
}

#[cfg(test)]
mod tests {
    use super::{setting, setting_name};

    #[test]
    fn names_follow_the_official_image() {
        for (variable, setting) in [
            ("KAFKA_LOG_RETENTION_HOURS", Some("log.retention.hours")),
            ("KAFKA_NODE_ID", Some("node.id")),
            ("KAFKA_LISTENER_NAME_A__B_SSL", Some("listener.name.a_b.ssl")),
            ("KAFKA_A___B", Some("a-b")),
            ("KAFKA_A____B", Some("a-.b")),
            ("KAFKA_A_____B", Some("a-_b")),
            ("KAFKA_OTTLA_HTTP_LISTENER", Some("ottla.http.listener")),
            ("KAFKA_HEAP_OPTS", None),
            ("KAFKA_LOG4J_OPTS", None),
            ("KAFKA_LOG4J_LOGGERS", None),
            ("KAFKA_JMX_HOSTNAME", None),
            ("KAFKA_", None),
            ("CLUSTER_ID", None),
            ("LOG_DIRS", None),
        ] {
            assert_eq!(setting_name(variable).as_deref(), setting, "{variable}");
        }
    }
    #[test]
    fn what_the_image_reads_besides_settings_is_read() {
        for (given, level) in [("WARN", "warn"), ("ALL", "trace"), ("FATAL", "error")] {
            let expected = ("ottla.log.level".to_owned(), level.to_owned());
            assert_eq!(setting("KAFKA_LOG4J_ROOT_LOGLEVEL", given), Some(expected));
        }
        assert_eq!(
            setting("KAFKA_NODE_ID", "1"),
            Some(("node.id".to_owned(), "1".to_owned()))
        );
    }
}
