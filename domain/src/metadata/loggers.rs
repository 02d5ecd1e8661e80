//! The levels of a node's loggers, which change at run time and are never stored (KIP-412).

use super::controller::configs::{ConfigChange, ConfigOp};
use crate::error::{ApiError, ErrorCode};
use crate::ids::BrokerId;

/// The logger above all others.
pub const ROOT: &str = "root";

/// What a logger lets through: this and what is more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing that Ottla says: it has no level of this severity.
    Fatal,
    /// What somebody has to see to.
    Error,
    /// What may need somebody.
    Warn,
    /// What happens in the life of the node.
    Info,
    /// What helps to find an error.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Sorted by name, as Kafka lists them.
    const ALL: [LogLevel; 6] = [
        LogLevel::Debug,
        LogLevel::Error,
        LogLevel::Fatal,
        LogLevel::Info,
        LogLevel::Trace,
        LogLevel::Warn,
    ];

    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            LogLevel::Fatal => "FATAL",
            LogLevel::Error => "ERROR",
            LogLevel::Warn => "WARN",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
            LogLevel::Trace => "TRACE",
        }
    }

    fn of(name: &str) -> Option<LogLevel> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// Checks a change of the loggers of `node` (IncrementalAlterConfigs on BROKER_LOGGER); returns each logger with its new
/// level, or `None` where it goes back to that of the logger above it.
pub fn check(
    node: BrokerId,
    change: &ConfigChange,
    exists: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Option<LogLevel>)>, ApiError> {
    let invalid = |message: String| ErrorCode::InvalidRequest.with(message);
    change.check_names_and_values()?;
    let name = &change.resource.name;
    match name.parse::<i32>() {
        Err(_) => return Err(invalid(format!("Node id must be an integer, but it is: {name}"))),
        Ok(id) if id != node.0 => {
            return Err(invalid(format!(
                "Unexpected node id. Expected {node}, but received {id}"
            )));
        }
        Ok(_) => {}
    }
    let checked = |(logger, op, value): &(String, ConfigOp, Option<String>)| {
        let kind = change.resource.kind.name();
        let is_there = || {
            let message = || format!("Logger {logger} does not exist!");
            exists(logger)
                .then_some(())
                .ok_or_else(|| ErrorCode::InvalidConfig.with(message()))
        };
        let level = match op {
            ConfigOp::Set => {
                is_there()?;
                let value = value.as_deref().unwrap_or_default();
                Some(LogLevel::of(value).ok_or_else(|| {
                    ErrorCode::InvalidConfig.with(format!(
                        "Cannot set the log level of {logger} to {value} as it is not a supported log level. Valid log \
                         levels are {}",
                        LogLevel::ALL.map(LogLevel::name).join(", ")
                    ))
                })?)
            }
            ConfigOp::Delete => {
                is_there()?;
                if logger == ROOT {
                    return Err(invalid(format!(
                        "Removing the log level of the {ROOT} logger is not allowed"
                    )));
                }
                None
            }
            ConfigOp::Append => {
                return Err(invalid(format!(
                    "APPEND operation is not allowed for the {kind} resource"
                )));
            }
            ConfigOp::Subtract => {
                return Err(invalid(format!(
                    "SUBTRACT operation is not allowed for the {kind} resource"
                )));
            }
            ConfigOp::Unknown(number) => {
                let message = format!("Unknown operation type {number} is not allowed for the {kind} resource");
                return Err(invalid(message));
            }
        };
        Ok((logger.clone(), level))
    };
    change.ops.iter().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::image::{ConfigResource, ConfigResourceType};

    fn checked(node: &str, op: ConfigOp, logger: &str, value: Option<&str>) -> Result<Option<LogLevel>, String> {
        let change = ConfigChange {
            resource: ConfigResource::new(ConfigResourceType::BrokerLogger, node),
            resource_type: ConfigResourceType::BrokerLogger.number(),
            ops: vec![(logger.to_owned(), op, value.map(str::to_owned))],
        };
        let exists = |logger: &str| ["root", "ottla"].contains(&logger);
        match check(BrokerId(1), &change, exists) {
            Ok(levels) => Ok(levels[0].1),
            Err(error) => Err(error.message.unwrap_or_default()),
        }
    }

    #[test]
    fn levels_are_set_and_unset() {
        assert_eq!(
            checked("1", ConfigOp::Set, "ottla", Some("DEBUG")),
            Ok(Some(LogLevel::Debug))
        );
        assert_eq!(
            checked("1", ConfigOp::Set, "root", Some("FATAL")),
            Ok(Some(LogLevel::Fatal))
        );
        assert_eq!(checked("1", ConfigOp::Delete, "ottla", None), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (node, op, logger, value, part) in [
            ("x", ConfigOp::Set, "ottla", Some("INFO"), "must be an integer"),
            ("2", ConfigOp::Set, "ottla", Some("INFO"), "Expected 1, but received 2"),
            (
                "1",
                ConfigOp::Set,
                "other",
                Some("INFO"),
                "Logger other does not exist!",
            ),
            (
                "1",
                ConfigOp::Set,
                "ottla",
                Some("info"),
                "DEBUG, ERROR, FATAL, INFO, TRACE, WARN",
            ),
            ("1", ConfigOp::Set, "ottla", None, "Null value"),
            ("1", ConfigOp::Delete, "root", None, "Removing"),
            (
                "1",
                ConfigOp::Append,
                "ottla",
                Some("INFO"),
                "APPEND operation is not allowed for the BROKER_LOGGER",
            ),
            (
                "1",
                ConfigOp::Unknown(9),
                "ottla",
                Some("INFO"),
                "Unknown operation type 9",
            ),
        ] {
            let error = checked(node, op, logger, value).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
