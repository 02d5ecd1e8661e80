//! What is wrong with a configuration, in one line for the person who wrote it.

use std::path::PathBuf;

use ottla_domain::metadata::config::check::InvalidValue;

use super::properties::MalformedEscape;

/// Why the node does not start as it is configured: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file that is no properties file.
    #[error("{}, {error}", path.display())]
    Malformed {
        /// As given.
        path: PathBuf,
        /// Where and what.
        error: MalformedEscape,
    },
    /// A value that its setting does not allow, by the catalogue.
    #[error(transparent)]
    Setting(#[from] InvalidValue),
    /// A value that its setting does not allow.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Invalid {
        /// Kafka's name of the setting.
        name: String,
        /// As given.
        value: String,
        /// What is allowed.
        reason: String,
    },
    /// A setting that must be there.
    #[error("Missing required configuration \"{0}\" which has no default value.")]
    Missing(&'static str),
    /// Settings that do not go together.
    #[error("{0}")]
    Inconsistent(String),
}

impl ConfigError {
    /// A value that its setting does not allow.
    pub fn invalid(name: &str, value: impl Into<String>, reason: impl Into<String>) -> ConfigError {
        ConfigError::Invalid {
            name: name.to_owned(),
            value: value.into(),
            reason: reason.into(),
        }
    }
}
