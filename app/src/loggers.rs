//! Kafka's names for the levels of what the node logs (KIP-412).

use std::collections::BTreeMap;

use ottla_domain::metadata::loggers::LogLevel;
use ottla_domain::ports::inbound::LoggerApi;
use ottla_domain::ports::outbound::LogStore;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::services::Services;

impl<S: LogStore> LoggerApi for Services<S> {
    fn loggers(&self) -> BTreeMap<String, LogLevel> {
        let levels = self.levels.all().into_iter();
        levels.map(|(logger, level)| (logger, to_kafka(level))).collect()
    }

    fn set_log_level(&self, logger: &str, level: Option<LogLevel>) {
        self.levels.set(logger, level.map(from_kafka));
    }
}

fn from_kafka(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Fatal => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn to_kafka(level: LevelFilter) -> LogLevel {
    match level.into_level() {
        None => LogLevel::Fatal,
        Some(Level::ERROR) => LogLevel::Error,
        Some(Level::WARN) => LogLevel::Warn,
        Some(Level::INFO) => LogLevel::Info,
        Some(Level::DEBUG) => LogLevel::Debug,
        Some(Level::TRACE) => LogLevel::Trace,
    }
}
