//! Logs on standard output, for people or as JSON, one line an event.

use std::io::IsTerminal;

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::levels::Levels;
use crate::rate_limit::RateLimit;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Time, level, where, message, fields; coloured on a terminal.
    #[default]
    Human,
    /// One object with the same.
    Json,
}

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is no list of levels and `target=level` pairs.
    #[error("{filter} is no log level: {error}")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        error: ParseError,
    },
    /// Something else logs already.
    #[error("logging was set up before")]
    Twice,
}

/// The logging of this process.
#[derive(Clone)]
pub struct Logging {
    limit: RateLimit,
    /// What is logged.
    pub levels: Levels,
}

impl Logging {
    /// Checks a filter.
    pub fn check(filter: &str) -> Result<(), LoggingError> {
        parse(filter).map(|_| ())
    }

    /// Logs what `filter` lets through: a level (`info`), or levels by target (`info,ottla_wire=debug`). Warnings and
    /// errors are limited by the line of code that they come from. The targets `known` can be given levels before they say
    /// anything.
    pub fn install(format: Format, filter: &str, known: &[&'static str]) -> Result<Logging, LoggingError> {
        let limit = RateLimit::default();
        let (levels, filter, watch) = Levels::new(parse(filter)?, known);
        let lines = tracing_subscriber::fmt::layer();
        let filtered = tracing_subscriber::registry().with(filter).with(limit.clone());
        let installed = match format {
            Format::Human => filtered
                .with(lines.with_ansi(std::io::stdout().is_terminal()))
                .with(watch)
                .try_init(),
            Format::Json => filtered.with(lines.json()).with(watch).try_init(),
        };
        installed.map_err(|_| LoggingError::Twice)?;
        Ok(Logging { limit, levels })
    }

    /// Tells how many messages were left out since the last call; to be called now and then.
    pub fn report_left_out(&self) {
        for (origin, count) in self.limit.take_left_out() {
            tracing::info!("left out {count} messages like those of {origin}");
        }
    }
}

fn parse(filter: &str) -> Result<Targets, LoggingError> {
    filter.parse().map_err(|error| LoggingError::Filter {
        filter: filter.to_owned(),
        error,
    })
}
