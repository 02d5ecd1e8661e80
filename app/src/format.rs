//! Formatting: who a log directory belongs to, and what a new cluster begins with (`kafka-storage format`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ottla_domain::ids::{BrokerId, DirectoryId};
use ottla_domain::metadata::controller::features::{
    Activate, METADATA_VERSION_LATEST, SUPPORTED, metadata_version_name,
};
use ottla_domain::metadata::image::{KRAFT_VERSION, METADATA_VERSION};
use ottla_domain::metadata::records::{FeatureLevelRecord, MetadataRecord};
use ottla_domain::ports::outbound::{Clock, Entropy, StorageError};
use ottla_domain::raft::voters::{Endpoint, Endpoints, KRaftVersion, ReplicaKey, Voter, VoterSet};
use ottla_raft::{METADATA_FOLDER, RaftError};
use ottla_storage::MetaProperties;
use tracing::{info, warn};
use uuid::Uuid;

use crate::clock::{SystemClock, SystemEntropy};
use crate::config::NodeConfig;
use crate::config::listeners::split_csv;
use crate::config::quorum;

/// Why directories cannot be formatted, or not be used as they are.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A directory belongs to someone else, or its files are no good.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file could not be written.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// A directory cannot be read or written.
    #[error("cannot use log directory {}: {error}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What was asked for cannot be done.
    #[error("{0}")]
    Refused(String),
}

fn refused<T>(reason: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError::Refused(reason.into()))
}

/// The voters that a dynamic quorum begins with (KIP-853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitialVoters {
    /// Not said: right for brokers, and for the static voters of `controller.quorum.voters`.
    Unsaid,
    /// This controller joins later.
    None,
    /// This controller alone.
    Standalone,
    /// These, as `id@host:port:directory,...`.
    Listed(String),
}

/// What to format directories with.
#[derive(Clone, Debug)]
pub struct Format {
    /// `--cluster-id`.
    pub cluster_id: String,
    /// `--ignore-formatted`.
    pub ignore_formatted: bool,
    /// Feature levels that differ from the defaults, by name.
    pub features: BTreeMap<String, i16>,
    /// The first voters.
    pub voters: InitialVoters,
}

/// Reads `--release-version` and `--feature`.
pub fn features(release_version: Option<&str>, features: &[String]) -> Result<BTreeMap<String, i16>, FormatError> {
    let mut levels = BTreeMap::new();
    for feature in features {
        let (name, level) = feature.split_once('=').unwrap_or((feature, ""));
        let Ok(level) = level.trim().parse::<i16>() else {
            return refused(format!(
                "--feature {feature} must have the form FEATURE=LEVEL, as kraft.version=1"
            ));
        };
        levels.insert(name.trim().to_owned(), level);
    }
    if let Some(release) = release_version {
        if levels.contains_key(METADATA_VERSION) {
            return refused(format!(
                "only one of --release-version and --feature {METADATA_VERSION} may be given"
            ));
        }
        let level = (0..=METADATA_VERSION_LATEST).find(|level| metadata_version_name(*level) == Some(release));
        let Some(level) = level else {
            return refused(format!(
                "--release-version {release} is not known; the newest is {}",
                newest()
            ));
        };
        levels.insert(METADATA_VERSION.to_owned(), level);
    }
    Ok(levels)
}

fn newest() -> &'static str {
    metadata_version_name(METADATA_VERSION_LATEST).unwrap_or_default()
}

impl Format {
    /// Formats the directories that are not formatted yet, and tells of each.
    pub fn run(&self, config: &NodeConfig, mut tell: impl FnMut(String)) -> Result<(), FormatError> {
        let is_dynamic = config.voters.is_empty();
        let voters = self.initial_voters(config, is_dynamic)?;
        let bootstrap = self.bootstrap(is_dynamic)?;
        let found = Found::read(config)?;
        found.check(Some(&self.cluster_id), config.node_id)?;
        if let Some((path, _)) = found.formatted.first()
            && !self.ignore_formatted
        {
            return refused(format!(
                "Log directory {} is already formatted. Use --ignore-formatted to leave it alone and format the others.",
                path.display()
            ));
        }
        if let Some((path, error)) = found.failed.into_iter().next() {
            return Err(FormatError::Directory { path, error });
        }
        if found.empty.is_empty() {
            tell("All of the log directories are already formatted.".to_owned());
            return Ok(());
        }
        for path in &found.empty {
            let is_metadata = *path == Path::new(&config.metadata_log_dir);
            let own = voters
                .as_ref()
                .and_then(|voters| voters.get(config.node_id))
                .filter(|_| is_metadata);
            let kind = match (&voters, &own, is_metadata) {
                (_, _, false) => "data directory",
                (None, _, true) => "metadata directory",
                (Some(_), None, true) => "dynamic metadata directory",
                (Some(_), Some(_), true) => "dynamic metadata voter directory",
            };
            tell(format!(
                "Formatting {kind} {} with {METADATA_VERSION} {}.",
                path.display(),
                newest()
            ));
            let directory_id = own
                .and_then(|voter| voter.key.directory)
                .unwrap_or_else(random_directory_id);
            let now = SystemClock::default().now();
            // The identity comes last: without it the directory is not formatted.
            std::fs::create_dir_all(path).map_err(|error| unusable(path, error))?;
            ottla_raft::write_bootstrap(path, &bootstrap, now)?;
            if let Some(voters) = voters.as_ref().filter(|_| is_metadata) {
                ottla_raft::write_initial_voters(path, voters, now)?;
            }
            let properties = MetaProperties {
                cluster_id: self.cluster_id.clone(),
                node_id: config.node_id,
                directory_id,
            };
            properties.write(path).map_err(|error| unusable(path, error))?;
        }
        Ok(())
    }

    fn initial_voters(&self, config: &NodeConfig, is_dynamic: bool) -> Result<Option<VoterSet>, FormatError> {
        match &self.voters {
            InitialVoters::Standalone | InitialVoters::Listed(_) if !is_dynamic => refused(format!(
                "--standalone and --initial-controllers are for dynamic quorums: remove {} and set {}",
                quorum::VOTERS,
                quorum::BOOTSTRAP_SERVERS
            )),
            InitialVoters::Standalone if !config.roles.controller => {
                refused("--standalone is for controllers, and process.roles contains none")
            }
            InitialVoters::Standalone => Ok(Some(standalone(config))),
            InitialVoters::Listed(voters) => listed(voters, &controller_listener(config)).map(Some),
            InitialVoters::Unsaid if config.roles.controller && is_dynamic => refused(format!(
                "Because {} is not set on this controller, one of --standalone, --initial-controllers and \
                 --no-initial-controllers must be given",
                quorum::VOTERS
            )),
            InitialVoters::Unsaid | InitialVoters::None => Ok(None),
        }
    }

    /// The records of `bootstrap.checkpoint`.
    fn bootstrap(&self, is_dynamic: bool) -> Result<Vec<MetadataRecord>, FormatError> {
        let mut records = Activate::bootstrap_records();
        for (name, level) in &self.features {
            let Some((_, range)) = SUPPORTED.iter().find(|(known, _)| known == name) else {
                let known = SUPPORTED.map(|(known, _)| known).join(", ");
                return refused(format!("Unsupported feature: {name}. Supported features are: {known}"));
            };
            let is_latest = *level == METADATA_VERSION_LATEST;
            if !range.contains(*level) || (name == METADATA_VERSION && !is_latest) {
                let most = if name == METADATA_VERSION {
                    format!("only {METADATA_VERSION_LATEST} ({})", newest())
                } else {
                    range.to_string()
                };
                return refused(format!(
                    "Ottla cannot start a cluster with {name}={level}; allowed is {most}"
                ));
            }
            if name == KRAFT_VERSION {
                if (*level > 0) != is_dynamic {
                    let (is, voters) = if is_dynamic { ("1", "not set") } else { ("0", "set") };
                    return refused(format!(
                        "{KRAFT_VERSION} must be {is} when {} is {voters}",
                        quorum::VOTERS
                    ));
                }
                continue;
            }
            let is_same =
                |record: &MetadataRecord| matches!(record, MetadataRecord::FeatureLevel(known) if known.name == *name);
            if name != METADATA_VERSION {
                records.retain(|record| !is_same(record));
            }
            if name != METADATA_VERSION && *level > 0 {
                records.push(MetadataRecord::FeatureLevel(FeatureLevelRecord {
                    name: name.clone(),
                    feature_level: *level,
                    ..FeatureLevelRecord::default()
                }));
            }
        }
        Ok(records)
    }
}

/// Makes sure that the directories are this node's, formatting them when no file was given and nothing is in them, and
/// returns the cluster's id.
pub fn prepare(config: &NodeConfig) -> Result<String, FormatError> {
    let found = Found::read(config)?;
    found.check(None, config.node_id)?;
    for (path, error) in &found.failed {
        // Kafka starts without a failed directory, unless it is the last, or holds the metadata log.
        if found.formatted.is_empty() && found.empty.is_empty() || *path == Path::new(&config.metadata_log_dir) {
            let error = io::Error::new(error.kind(), error.to_string());
            return Err(unusable(path, error));
        }
        warn!(directory = %path.display(), %error, "a log directory cannot be used; starting without it");
    }
    let cluster_id = found
        .formatted
        .first()
        .map(|(_, properties)| properties.cluster_id.clone());
    if let Some(path) = found.empty.first() {
        if !config.formats_itself {
            return refused(format!(
                "No `meta.properties` found in {}: run `ottla format --cluster-id ID --config FILE` first (`ottla \
                 random-uuid` makes an id)",
                path.display()
            ));
        }
        let chosen = || {
            config
                .settings
                .get("ottla.cluster.id")
                .map_or_else(random_id, str::to_owned)
        };
        let format = Format {
            cluster_id: cluster_id.unwrap_or_else(chosen),
            ignore_formatted: true,
            features: BTreeMap::new(),
            voters: match (config.roles.controller, config.voters.is_empty()) {
                (true, true) => InitialVoters::Standalone,
                _ => InitialVoters::Unsaid,
            },
        };
        for path in &found.empty {
            refuse_strangers(path)?;
        }
        format.run(config, |line| info!("{line}"))?;
        return Ok(format.cluster_id);
    }
    match cluster_id {
        Some(cluster_id) => Ok(cluster_id),
        None => refused("no log directory can be used"),
    }
}

/// What this node's directories were formatted to begin a cluster with. Levels of features whose promise Ottla does not
/// keep yet, as Apache Kafka's tool writes them, are left out.
pub fn bootstrap_records(config: &NodeConfig) -> Result<Vec<MetadataRecord>, FormatError> {
    let directory = Path::new(&config.metadata_log_dir);
    let Some(records) = ottla_raft::read_bootstrap(directory)? else {
        return Ok(Activate::bootstrap_records());
    };
    let mut kept = Vec::with_capacity(records.len());
    for record in records {
        if let MetadataRecord::FeatureLevel(level) = &record {
            let (name, level) = (level.name.as_str(), level.feature_level);
            if name == METADATA_VERSION && level != METADATA_VERSION_LATEST {
                return refused(format!(
                    "{} was formatted for {METADATA_VERSION} {}; Ottla starts clusters only with {}: format it anew, \
                     or join the cluster that it was formatted for",
                    directory.display(),
                    metadata_version_name(level).map_or_else(|| level.to_string(), str::to_owned),
                    newest()
                ));
            }
            if !SUPPORTED
                .iter()
                .any(|(known, range)| *known == name && range.contains(level))
            {
                warn!("not starting the cluster with {name}={level}, which Ottla does not support yet");
                continue;
            }
        }
        kept.push(record);
    }
    Ok(kept)
}

/// What the log directories are.
struct Found {
    formatted: Vec<(PathBuf, MetaProperties)>,
    empty: Vec<PathBuf>,
    failed: Vec<(PathBuf, io::Error)>,
}

impl Found {
    /// Looks into `log.dirs` and `metadata.log.dir`.
    fn read(config: &NodeConfig) -> Result<Found, FormatError> {
        let mut found = Found {
            formatted: Vec::new(),
            empty: Vec::new(),
            failed: Vec::new(),
        };
        let mut paths: Vec<PathBuf> = config.log_dirs.iter().map(PathBuf::from).collect();
        let metadata = PathBuf::from(&config.metadata_log_dir);
        if !paths.contains(&metadata) {
            paths.push(metadata.clone());
        }
        for path in paths {
            match MetaProperties::read(&path) {
                Ok(Ok(Some(properties))) => {
                    let misplaced = path.join(METADATA_FOLDER);
                    if path != metadata && misplaced.exists() {
                        return refused(format!(
                            "{} must not be there: metadata.log.dir is {}",
                            misplaced.display(),
                            metadata.display()
                        ));
                    }
                    found.formatted.push((path, properties));
                }
                Ok(Ok(None)) => found.empty.push(path),
                Ok(Err(error)) => return Err(error.into()),
                Err(error) => found.failed.push((path, error)),
            }
        }
        Ok(found)
    }

    /// Refuses directories of other nodes or clusters, and one that is a copy of another.
    fn check(&self, cluster_id: Option<&str>, node_id: BrokerId) -> Result<(), FormatError> {
        let Some((_, first)) = self.formatted.first() else {
            return Ok(());
        };
        let cluster_id = cluster_id.unwrap_or(&first.cluster_id);
        for (index, (path, properties)) in self.formatted.iter().enumerate() {
            properties.check(path, cluster_id, node_id)?;
            let earlier = self.formatted.iter().take(index);
            if let Some((other, _)) = earlier
                .into_iter()
                .find(|(_, other)| other.directory_id == properties.directory_id)
            {
                return refused(format!(
                    "{} and {} have the same directory.id {}: one is a copy of the other",
                    other.display(),
                    path.display(),
                    properties.directory_id
                ));
            }
        }
        Ok(())
    }
}

/// A node that formats by itself takes only what is empty: files of someone else would be taken for its own.
fn refuse_strangers(path: &Path) -> Result<(), FormatError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(path, error)),
    };
    // A crash in the middle of formatting leaves these, and the next start goes on.
    let ours = ["lost+found", "bootstrap.checkpoint", METADATA_FOLDER];
    for entry in entries {
        let name = entry.map_err(|error| unusable(path, error))?.file_name();
        if !ours.iter().any(|known| name == *known) && !name.to_string_lossy().ends_with(".tmp") {
            return refused(format!(
                "{} holds {} but no meta.properties: it is no log directory; give an empty one as log.dirs, or format it \
                 with `ottla format`",
                path.display(),
                name.to_string_lossy()
            ));
        }
    }
    Ok(())
}

fn unusable(path: &Path, error: io::Error) -> FormatError {
    FormatError::Directory {
        path: path.to_owned(),
        error,
    }
}

fn random_uuid() -> Uuid {
    // Kafka keeps ids that start with a dash for itself: command lines take them for options.
    loop {
        let uuid = Uuid::from_u128(SystemEntropy.draw());
        if uuid.as_u128() >> 122 != 0b11_1110 {
            return uuid;
        }
    }
}

/// A fresh id that is none of the reserved ones.
pub fn random_id() -> String {
    ottla_domain::ids::uuid_to_string(random_uuid())
}

fn random_directory_id() -> DirectoryId {
    DirectoryId(random_uuid())
}

fn controller_listener(config: &NodeConfig) -> String {
    config.controller_listener_names.first().cloned().unwrap_or_default()
}

fn standalone(config: &NodeConfig) -> VoterSet {
    let endpoint = config.advertised_controller_listeners.first();
    let host = endpoint
        .and_then(|endpoint| endpoint.host.as_deref())
        .unwrap_or("localhost");
    let port = endpoint.map_or(0, |endpoint| endpoint.port);
    let listener = controller_listener(config);
    [voter(config.node_id, random_directory_id(), &listener, host, port)]
        .into_iter()
        .collect()
}

fn voter(id: BrokerId, directory: DirectoryId, listener: &str, host: &str, port: u16) -> Voter {
    Voter {
        key: ReplicaKey::new(id, directory),
        endpoints: Endpoints(vec![Endpoint {
            listener: listener.into(),
            host: host.into(),
            port,
        }]),
        min_kraft_version: KRaftVersion(0),
        max_kraft_version: KRaftVersion::LATEST,
    }
}

/// Reads `--initial-controllers`.
fn listed(text: &str, listener: &str) -> Result<VoterSet, FormatError> {
    let read = |entry: &str| {
        let (id, rest) = entry.split_once('@')?;
        let (address, directory) = rest.rsplit_once(':')?;
        let (host, port) = crate::config::listeners::split_host_port(address)?;
        let id = id.parse::<i32>().ok().filter(|id| *id >= 0)?;
        let directory: DirectoryId = directory.parse().ok()?;
        let port = port.parse().ok()?;
        (!host.is_empty() && !directory.is_zero()).then(|| voter(BrokerId(id), directory, listener, host, port))
    };
    let mut voters: Vec<Voter> = Vec::new();
    for entry in split_csv(text) {
        let Some(voter) = read(entry) else {
            return refused(format!(
                "--initial-controllers: {entry} must have the form ID@HOST:PORT:DIRECTORY_ID, as \
                 1@localhost:9093:JEXY6aqzQY-32P5TStzaFg"
            ));
        };
        if voters.iter().any(|known| known.key.id == voter.key.id) {
            return refused(format!("--initial-controllers: node id {} comes twice", voter.key.id));
        }
        voters.push(voter);
    }
    if voters.is_empty() {
        return refused("--initial-controllers names no controller");
    }
    Ok(voters.into_iter().collect())
}

#[cfg(test)]
mod tests;
