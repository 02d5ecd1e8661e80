//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// An Apache Kafka compatible broker and controller.
///
/// Without a file, one combined node serves clients of this machine on localhost:9092 and keeps its data in ./ottla-data.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to configure the node with.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Anything but starting the node.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where settings come from. `KAFKA_*` environment variables, named as in the official image of Apache Kafka, win over
/// the file.
#[derive(Args, Debug)]
pub struct SettingsArgs {
    /// A server.properties file
    #[arg(value_name = "server.properties")]
    pub file: Option<PathBuf>,
    /// Wins over the file and the environment; may be given several times
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Anything but starting the node.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prepare the log directories of a node, as kafka-storage format does
    Format(FormatArgs),
    /// Print a random cluster or directory id
    RandomUuid,
    /// Show what a node would be configured with
    Config(ConfigArgs),
}

/// `ottla format`.
#[derive(Args, Debug)]
pub struct FormatArgs {
    /// The server.properties file of the node
    #[arg(short, long)]
    pub config: PathBuf,
    /// The id that all nodes of the cluster share
    #[arg(short = 't', long)]
    pub cluster_id: String,
    /// Leave directories alone that are formatted already, instead of failing
    #[arg(short = 'g', long)]
    pub ignore_formatted: bool,
    /// The release whose feature levels the cluster starts with, as 4.3-IV0
    #[arg(short, long)]
    pub release_version: Option<String>,
    /// The level that a feature starts with; may be given several times
    #[arg(short, long, value_name = "FEATURE=LEVEL")]
    pub feature: Vec<String>,
    /// This controller is the first and only voter of a dynamic quorum
    #[arg(short, long, group = "voters")]
    pub standalone: bool,
    /// This controller joins a dynamic quorum later
    #[arg(short = 'N', long, group = "voters")]
    pub no_initial_controllers: bool,
    /// The first voters of a dynamic quorum, the same on every node
    #[arg(short = 'I', long, group = "voters", value_name = "ID@HOST:PORT:DIRECTORY_ID,...")]
    pub initial_controllers: Option<String>,
    /// Wins over the file and the environment; may be given several times
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// `ottla config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// List every setting: its value, where that comes from, its default, and whether it can change while the node runs
    #[arg(long, required = true)]
    pub explain: bool,
    /// What to explain.
    #[command(flatten)]
    pub settings: SettingsArgs,
}
