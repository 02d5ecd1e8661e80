//! All settings of a node with where each came from: file < environment < `--override`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ottla_domain::metadata::config::effective::Properties;

use super::error::ConfigError;
use super::{environment, properties};

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// What a node without a file runs with.
    BuiltIn,
    /// The properties file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// `--override`.
    Override,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::BuiltIn => f.write_str("built-in"),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Environment(variable) => write!(f, "environment {variable}"),
            Source::Override => f.write_str("--override"),
        }
    }
}

/// A value as it was written, without the blanks around it, which Kafka ignores for every type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The text.
    pub value: String,
    /// Who said so.
    pub source: Source,
}

/// The settings that were given, by name.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, Setting>);

impl Settings {
    /// Reads the file, then what the environment and then what the overrides (`key=value`, a missing value is empty)
    /// put over it.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[String],
    ) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        if let Some(path) = file {
            let bytes = std::fs::read(path).map_err(|error| ConfigError::Unreadable {
                path: path.to_owned(),
                error,
            })?;
            let properties = properties::parse(&bytes).map_err(|error| ConfigError::Malformed {
                path: path.to_owned(),
                error,
            })?;
            for property in properties {
                settings.set(&property.key, &property.value, Source::File(path.to_owned()));
            }
        }
        for (variable, value) in environment {
            if let Some((name, value)) = environment::setting(&variable, &value) {
                settings.set(&name, &value, Source::Environment(variable));
            }
        }
        for pair in overrides {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            settings.set(name.trim(), value, Source::Override);
        }
        Ok(settings)
    }

    /// Puts a value over what there is.
    pub fn set(&mut self, name: &str, value: &str, source: Source) {
        let value = value.trim().to_owned();
        self.0.insert(name.to_owned(), Setting { value, source });
    }

    /// Gives a node without a file a value, unless the user has.
    pub fn set_built_in(&mut self, name: &str, value: &str) {
        if !self.contains(name) {
            self.set(name, value, Source::BuiltIn);
        }
    }

    /// True when a value was given.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value that was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|setting| setting.value.as_str())
    }

    /// The value that was given, and who gave it.
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// Everything that was given, as text.
    pub fn properties(&self) -> Properties {
        self.iter()
            .map(|(name, setting)| (name.to_owned(), setting.value.clone()))
            .collect()
    }

    /// Everything that was given, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.iter().map(|(name, setting)| (name.as_str(), setting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_win_over_the_environment_and_that_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.properties");
        std::fs::write(&path, "a=file\nb=file\nc=file \nd=1\n").unwrap();
        let environment = [
            ("KAFKA_B", "environment"),
            ("KAFKA_C", "environment"),
            ("HOME", "/root"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let overrides = ["c=x=y".to_owned(), "d".to_owned()];
        let settings = Settings::load(Some(&path), environment, &overrides).unwrap();
        let all: Vec<(&str, &str, Source)> = settings
            .iter()
            .map(|(name, setting)| (name, setting.value.as_str(), setting.source.clone()))
            .collect();
        assert_eq!(
            all,
            [
                ("a", "file", Source::File(path)),
                ("b", "environment", Source::Environment("KAFKA_B".into())),
                ("c", "x=y", Source::Override),
                ("d", "", Source::Override),
            ]
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Settings::load(Some(Path::new("/no/such.properties")), [], &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot read /no/such.properties: No such file"),
            "{error}"
        );
    }
}
