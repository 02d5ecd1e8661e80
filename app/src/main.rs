//! Ottla: an Apache Kafka compatible broker and controller in one process.

mod allocator;
mod announce;
mod auto_creation;
mod broker;
mod cli;
mod clock;
mod config;
mod controller;
mod coordinator;
mod format;
mod groups;
mod lifecycle;
mod limits;
mod loggers;
mod metadata;
mod metrics;
mod node;
mod observe;
mod producer_ids;
mod quorum;
mod services;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, SettingsArgs};
use config::{ConfigError, NodeConfig, Settings};
use format::InitialVoters;

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Format(#[from] format::FormatError),
    #[error(transparent)]
    Node(#[from] node::NodeError),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Config(_) => ExitCode::from(2),
            Failure::Format(_) | Failure::Node(_) => ExitCode::FAILURE,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ottla: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => Ok(node::run(load(&cli.settings)?)?),
        Some(Command::RandomUuid) => {
            println!("{}", format::random_id());
            Ok(())
        }
        Some(Command::Config(args)) => {
            let config = load(&args.settings)?;
            // Whoever closes the pipe early has seen enough.
            let _ = config::explain::write(&config, &mut std::io::stdout().lock());
            config.warnings.iter().for_each(|warning| eprintln!("ottla: {warning}"));
            Ok(())
        }
        Some(Command::Format(args)) => {
            let config = load_from(Some(&args.config), &args.overrides)?;
            let format = format::Format {
                features: format::features(args.release_version.as_deref(), &args.feature)?,
                cluster_id: args.cluster_id,
                ignore_formatted: args.ignore_formatted,
                voters: match args.initial_controllers {
                    Some(voters) => InitialVoters::Listed(voters),
                    None if args.standalone => InitialVoters::Standalone,
                    None if args.no_initial_controllers => InitialVoters::None,
                    None => InitialVoters::Unsaid,
                },
            };
            Ok(format.run(&config, |line| println!("{line}"))?)
        }
    }
}

fn load(args: &SettingsArgs) -> Result<NodeConfig, ConfigError> {
    load_from(args.file.as_deref(), &args.overrides)
}

fn load_from(file: Option<&Path>, overrides: &[String]) -> Result<NodeConfig, ConfigError> {
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    NodeConfig::new(Settings::load(file, environment, overrides)?, file.is_some())
}
