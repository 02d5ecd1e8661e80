//! What start-up reads from the settings, typed and checked as Kafka's `KafkaConfig` checks it.

use ottla_domain::ids::BrokerId;
use ottla_domain::metadata::config::effective::{NodeConfig as Effective, Properties};
use ottla_observability::logging::{Format, Logging};

use super::error::ConfigError;
use super::listeners::{Endpoint, ProtocolMap, normalised, parse_list, split_csv, split_host_port};
use super::quorum::{self, HostPort, StaticVoter, parse_bootstrap_servers, parse_voters};
use super::settings::{Setting, Settings};
use super::{built_in, check};

/// The name of the setting that holds what a node binds to.
const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const CONTROLLER_NAMES: &str = "controller.listener.names";
const INTER_BROKER: &str = "inter.broker.listener.name";
const INTER_BROKER_PROTOCOL: &str = "security.inter.broker.protocol";
const ROLES: &str = "process.roles";

/// `process.roles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Serves clients.
    pub broker: bool,
    /// Votes in the metadata quorum.
    pub controller: bool,
}

/// Where `/metrics` and the health checks are (`ottla.http.listener`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// What to bind to.
    pub address: HostPort,
    /// Nobody asked for this port: when it is taken, another will do.
    pub is_default: bool,
}

/// A node's configuration.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// `process.roles`.
    pub roles: Roles,
    /// `node.id`.
    pub node_id: BrokerId,
    /// `listeners`, those of the controller among them.
    pub listeners: Vec<Endpoint>,
    /// `controller.listener.names`, normalised.
    pub controller_listener_names: Vec<String>,
    /// What clients and brokers are told to connect to. A port 0 stands for the bound one, no host for this machine's
    /// name.
    pub advertised_listeners: Vec<Endpoint>,
    /// What other controllers and brokers are told to reach this controller at, by the same rules.
    pub advertised_controller_listeners: Vec<Endpoint>,
    /// The listener that brokers use among themselves, normalised.
    pub inter_broker_listener_name: String,
    /// `controller.quorum.voters`; empty for a dynamic quorum.
    pub voters: Vec<StaticVoter>,
    /// `controller.quorum.bootstrap.servers`.
    pub bootstrap_servers: Vec<HostPort>,
    /// `log.dirs`, else `log.dir`.
    pub log_dirs: Vec<String>,
    /// `metadata.log.dir`, else the first of `log_dirs`.
    pub metadata_log_dir: String,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `ottla.http.listener`; `None` when it is empty.
    pub http_listener: Option<HttpListener>,
    /// `ottla.log.format`.
    pub log_format: Format,
    /// `ottla.log.level`.
    pub log_level: String,
    /// No file was given: an empty directory is formatted on start.
    pub formats_itself: bool,
    /// Everything that was given, and where.
    pub settings: Settings,
    /// The same as text: the static layer under the dynamic settings.
    pub properties: Properties,
    /// What the author of the settings should know.
    pub warnings: Vec<String>,
    /// Settings that were given and do nothing.
    pub ignored: Vec<String>,
}

impl NodeConfig {
    /// Reads and checks settings. Without a file, what they leave open is filled in for a node that only this machine
    /// reaches.
    pub fn new(mut settings: Settings, has_file: bool) -> Result<NodeConfig, ConfigError> {
        if !has_file {
            built_in::fill(&mut settings)?;
        }
        check::values(&settings)?;
        let roles = roles(&settings)?;
        let node_id = node_id(&mut settings)?;
        let properties = settings.properties();
        let effective = Effective {
            properties: &properties,
            dynamic: None,
            dynamic_default: None,
        };
        check::consistency(&effective)?;
        let warnings = check::warnings(&settings, &effective);
        let ignored = check::ignored(&settings);
        let controller_names: Vec<String> = split_csv(required(&settings, CONTROLLER_NAMES)?)
            .map(normalised)
            .collect();
        let protocols = ProtocolMap::parse(settings.get(ProtocolMap::NAME), &controller_names)?;
        let listeners = endpoints(&settings, LISTENERS, "PLAINTEXT://:9092", &protocols)?;
        let advertised = match settings.get(ADVERTISED) {
            Some(value) => {
                let advertised = parse_list(ADVERTISED, value, false)?;
                for endpoint in &advertised {
                    protocols.require_plaintext(ADVERTISED, &endpoint.name)?;
                }
                Some(advertised)
            }
            None => None,
        };
        let is_controllers = |endpoint: &Endpoint| controller_names.contains(&endpoint.name);
        let voters = parse_voters(settings.get(quorum::VOTERS).unwrap_or_default())?;
        let log_dirs = log_dirs(&settings);
        let config = NodeConfig {
            roles,
            node_id,
            advertised_listeners: advertised
                .as_ref()
                .unwrap_or(&listeners)
                .iter()
                .filter(|endpoint| !is_controllers(endpoint))
                .cloned()
                .collect(),
            advertised_controller_listeners: advertised_controllers(
                &controller_names,
                advertised.as_deref().unwrap_or_default(),
                &listeners,
                voters.iter().find(|voter| voter.id == node_id),
            ),
            inter_broker_listener_name: inter_broker_listener(&settings, &protocols)?,
            controller_listener_names: controller_names,
            listeners,
            voters,
            bootstrap_servers: parse_bootstrap_servers(settings.get(quorum::BOOTSTRAP_SERVERS).unwrap_or_default())?,
            metadata_log_dir: match settings.get("metadata.log.dir") {
                Some(directory) => directory.to_owned(),
                None => log_dirs.first().cloned().unwrap_or_default(),
            },
            log_dirs,
            rack: settings.get("broker.rack").map(str::to_owned),
            http_listener: http_listener(&settings)?,
            log_format: match settings.get("ottla.log.format") {
                Some("json") => Format::Json,
                _ => Format::Human,
            },
            log_level: log_level(&settings)?,
            formats_itself: !has_file,
            settings,
            properties,
            warnings,
            ignored,
        };
        config.check_quorum(&protocols)?;
        config.check_listeners()?;
        Ok(config)
    }

    /// The static settings, as the catalogue reads them.
    pub fn effective(&self) -> Effective<'_> {
        Effective {
            properties: &self.properties,
            dynamic: None,
            dynamic_default: None,
        }
    }

    /// A whole number of the static settings.
    pub fn number(&self, name: &str) -> i64 {
        self.effective().number(name)
    }

    /// True for a listener that serves the controller's APIs.
    pub fn is_controller_listener(&self, endpoint: &Endpoint) -> bool {
        self.controller_listener_names.contains(&endpoint.name)
    }

    /// The rules for voters and for the controllers' listeners, by role.
    fn check_quorum(&self, protocols: &ProtocolMap) -> Result<(), ConfigError> {
        let node_id = self.node_id;
        let is_voter = self.voters.iter().any(|voter| voter.id == node_id);
        let of_controller = |endpoint: &&Endpoint| self.is_controller_listener(endpoint);
        if self.voters.is_empty() && self.bootstrap_servers.is_empty() {
            return inconsistent(format!(
                "{ROLES} is set, so one of {} (the controllers to ask first) and {} (a fixed set of controllers) must be too",
                quorum::BOOTSTRAP_SERVERS,
                quorum::VOTERS
            ));
        }
        if !self.roles.controller {
            if is_voter {
                return inconsistent(format!(
                    "{ROLES} is broker only, so node.id {node_id} must not be among the voters of {}",
                    quorum::VOTERS
                ));
            }
            if let Some(endpoint) = self.listeners.iter().find(of_controller) {
                return inconsistent(format!(
                    "{CONTROLLER_NAMES} must not name {}, which is one of {LISTENERS}, when {ROLES} is broker only",
                    endpoint.name
                ));
            }
            return self
                .controller_listener_names
                .iter()
                .try_for_each(|name| protocols.require_plaintext(CONTROLLER_NAMES, name));
        }
        if !self.roles.broker
            && self
                .listeners
                .iter()
                .any(|endpoint| !self.is_controller_listener(endpoint))
        {
            return inconsistent(format!(
                "{LISTENERS} must hold only listeners of {CONTROLLER_NAMES} when {ROLES} is controller only"
            ));
        }
        if !self.voters.is_empty() && !is_voter {
            return inconsistent(format!(
                "{ROLES} contains controller, so node.id {node_id} must be among the voters of {}",
                quorum::VOTERS
            ));
        }
        if !self
            .listeners
            .iter()
            .any(|endpoint| self.is_controller_listener(endpoint))
        {
            return inconsistent(format!(
                "{CONTROLLER_NAMES} must name at least one of {LISTENERS} when {ROLES} contains controller"
            ));
        }
        let unbound = |name: &&String| !self.listeners.iter().any(|endpoint| endpoint.name == **name);
        match self.controller_listener_names.iter().find(unbound) {
            Some(name) => inconsistent(format!(
                "{CONTROLLER_NAMES} must name only {LISTENERS} when {ROLES} contains controller, and {name} is none"
            )),
            None => Ok(()),
        }
    }

    /// The rules for what is advertised.
    fn check_listeners(&self) -> Result<(), ConfigError> {
        if self.roles.broker {
            let names = |endpoints: &[Endpoint]| {
                let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
                names.join(", ")
            };
            let has = |endpoints: &[Endpoint], name: &str| endpoints.iter().any(|endpoint| endpoint.name == name);
            let advertised = &self.advertised_listeners;
            if advertised.is_empty() {
                return inconsistent(format!(
                    "a broker must advertise at least one listener; are all of {LISTENERS} in {CONTROLLER_NAMES}?"
                ));
            }
            if !has(advertised, &self.inter_broker_listener_name) {
                return inconsistent(format!(
                    "{INTER_BROKER} must be one of {ADVERTISED}: {} is not among {}",
                    self.inter_broker_listener_name,
                    names(advertised)
                ));
            }
            if let Some(unbound) = advertised.iter().find(|endpoint| !has(&self.listeners, &endpoint.name)) {
                return inconsistent(format!(
                    "{ADVERTISED} must name only {LISTENERS}: {} is not among {}",
                    unbound.name,
                    names(&self.listeners)
                ));
            }
        }
        let mut advertised = self
            .advertised_listeners
            .iter()
            .chain(&self.advertised_controller_listeners);
        if advertised.any(Endpoint::is_any_ipv4) {
            return inconsistent(format!(
                "{ADVERTISED} cannot use the address 0.0.0.0, to which no client can connect: name a host or an address \
                 that clients reach"
            ));
        }
        Ok(())
    }
}

fn inconsistent(reason: String) -> Result<(), ConfigError> {
    Err(ConfigError::Inconsistent(reason))
}

fn required<'a>(settings: &'a Settings, name: &'static str) -> Result<&'a str, ConfigError> {
    settings.get(name).ok_or(ConfigError::Missing(name))
}

fn roles(settings: &Settings) -> Result<Roles, ConfigError> {
    let value = required(settings, ROLES)?;
    let has = |name: &str| split_csv(value).any(|role| role == name);
    Ok(Roles {
        broker: has("broker"),
        controller: has("controller"),
    })
}

/// `node.id`, or `broker.id`, its older name; the one that is missing is filled in, as Kafka does.
fn node_id(settings: &mut Settings) -> Result<BrokerId, ConfigError> {
    const NAMES: [&str; 2] = ["node.id", "broker.id"];
    let [given, older] = NAMES.map(|name| settings.setting(name).cloned());
    let Some(chosen) = given.clone().or(older.clone()) else {
        return Err(ConfigError::Missing("node.id"));
    };
    let read = |setting: &Setting| match setting.value.parse::<i32>() {
        Ok(id) if id >= 0 => Ok(BrokerId(id)),
        _ => Err(ConfigError::invalid(
            "node.id",
            &setting.value,
            "must be a number from 0 to 2147483647",
        )),
    };
    let id = read(&chosen)?;
    if let (Some(given), Some(older)) = (&given, &older)
        && read(older)? != id
    {
        return Err(ConfigError::Inconsistent(format!(
            "node.id is {} and broker.id, its older name, is {}: they must be equal, or only node.id be set",
            given.value, older.value
        )));
    }
    for name in NAMES {
        settings.set(name, &chosen.value, chosen.source.clone());
    }
    Ok(id)
}

fn endpoints(
    settings: &Settings,
    setting: &str,
    default: &str,
    protocols: &ProtocolMap,
) -> Result<Vec<Endpoint>, ConfigError> {
    let value = settings.get(setting).unwrap_or(default);
    let endpoints = parse_list(setting, value, true)?;
    if endpoints.is_empty() {
        return Err(ConfigError::invalid(
            setting,
            value,
            "at least one NAME://HOST:PORT must be there",
        ));
    }
    for endpoint in &endpoints {
        protocols.require_plaintext(setting, &endpoint.name)?;
    }
    Ok(endpoints)
}

/// Each of `controller.listener.names`, as it is advertised or else as it is bound. The address that a static voter is
/// configured with stands in for the wildcard of the first.
fn advertised_controllers(
    names: &[String],
    advertised: &[Endpoint],
    listeners: &[Endpoint],
    own_voter: Option<&StaticVoter>,
) -> Vec<Endpoint> {
    let find = |endpoints: &[Endpoint], name: &str| endpoints.iter().find(|endpoint| endpoint.name == name).cloned();
    let mut found = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(endpoint) = find(advertised, name) {
            found.push(endpoint);
        } else if let Some(mut endpoint) = find(listeners, name) {
            if endpoint.is_any_ipv4() {
                endpoint.host = None;
            }
            if let (0, None, Some(voter)) = (index, &endpoint.host, own_voter) {
                endpoint.host = Some(voter.address.host.clone());
                endpoint.port = voter.address.port;
            }
            found.push(endpoint);
        }
    }
    found
}

fn inter_broker_listener(settings: &Settings, protocols: &ProtocolMap) -> Result<String, ConfigError> {
    match (settings.get(INTER_BROKER), settings.get(INTER_BROKER_PROTOCOL)) {
        (Some(_), Some(_)) => Err(ConfigError::Inconsistent(format!(
            "only one of {INTER_BROKER} and {INTER_BROKER_PROTOCOL} may be set"
        ))),
        (Some(name), None) => {
            let name = normalised(name);
            protocols.require_plaintext(INTER_BROKER, &name)?;
            Ok(name)
        }
        (None, Some(protocol)) if protocol != "PLAINTEXT" => {
            let reason = "Ottla supports only PLAINTEXT yet";
            Err(ConfigError::invalid(INTER_BROKER_PROTOCOL, protocol, reason))
        }
        (None, _) => Ok("PLAINTEXT".to_owned()),
    }
}

fn log_dirs(settings: &Settings) -> Vec<String> {
    let given = settings.get("log.dirs").or(settings.get("log.dir"));
    split_csv(given.unwrap_or("/tmp/kafka-logs"))
        .map(str::to_owned)
        .collect()
}

fn log_level(settings: &Settings) -> Result<String, ConfigError> {
    const NAME: &str = "ottla.log.level";
    let level = settings.get(NAME).unwrap_or("info");
    let allowed = "must be error, warn, info, debug or trace, or levels by crate as in info,ottla_wire=debug";
    Logging::check(level).map_err(|_| ConfigError::invalid(NAME, level, allowed))?;
    Ok(level.to_owned())
}

fn http_listener(settings: &Settings) -> Result<Option<HttpListener>, ConfigError> {
    const NAME: &str = "ottla.http.listener";
    let given = settings.get(NAME);
    let value = given.unwrap_or("127.0.0.1:9404");
    if value.is_empty() {
        return Ok(None);
    }
    let invalid = || ConfigError::invalid(NAME, value, "must be HOST:PORT, with port 0 for any, or empty for none");
    let (host, port) = split_host_port(value).ok_or_else(invalid)?;
    Ok(Some(HttpListener {
        address: HostPort {
            host: host.to_owned(),
            port: port.parse().map_err(|_| invalid())?,
        },
        is_default: given.is_none(),
    }))
}

#[cfg(test)]
mod tests;
