//! What `ottla` runs with when no file is given: one combined node that only this machine reaches.

use super::error::ConfigError;
use super::listeners::{Endpoint, format_address, normalised, parse_list, split_csv};
use super::quorum;
use super::settings::{Settings, Source};

/// Nothing authenticates clients, so the network stays out; `localhost` is 127.0.0.1 and, where there is IPv6, ::1.
const BROKER_LISTENER: &str = "PLAINTEXT://localhost:9092";
const CONTROLLER_LISTENER: &str = "CONTROLLER://127.0.0.1:9093";

/// Fills in what the environment and the overrides left open.
pub fn fill(settings: &mut Settings) -> Result<(), ConfigError> {
    settings.set_built_in("process.roles", "broker,controller");
    if !settings.contains("broker.id") {
        settings.set_built_in("node.id", "1");
    }
    settings.set_built_in("controller.listener.names", "CONTROLLER");
    if !settings.contains("log.dir") {
        settings.set_built_in("log.dirs", "./ottla-data");
    }
    for name in [
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
    ] {
        settings.set_built_in(name, "1");
    }
    let is_controller = split_csv(settings.get("process.roles").unwrap_or_default()).any(|role| role == "controller");
    if is_controller {
        fill_controller(settings)
    } else {
        settings.set_built_in("listeners", BROKER_LISTENER);
        Ok(())
    }
}

/// A controller needs a listener of its own and must be its quorum's bootstrap server.
fn fill_controller(settings: &mut Settings) -> Result<(), ConfigError> {
    let names: Vec<String> = split_csv(settings.get("controller.listener.names").unwrap_or_default())
        .map(normalised)
        .collect();
    let has_name = |endpoint: &Endpoint| names.contains(&endpoint.name);
    let both = format!("{BROKER_LISTENER},{CONTROLLER_LISTENER}");
    let listeners = settings.get("listeners").unwrap_or(&both).to_owned();
    let mut endpoints = parse_list("listeners", &listeners, true)?;
    if !endpoints.iter().any(has_name) && names == ["CONTROLLER"] {
        endpoints.extend(parse_list("listeners", CONTROLLER_LISTENER, true)?);
        settings.set(
            "listeners",
            &format!("{listeners},{CONTROLLER_LISTENER}"),
            Source::BuiltIn,
        );
    } else {
        settings.set_built_in("listeners", &listeners);
    }
    if let Some(endpoint) = endpoints.iter().find(|endpoint| has_name(endpoint))
        && !settings.contains(quorum::VOTERS)
    {
        let host = endpoint
            .host
            .as_deref()
            .filter(|_| !endpoint.is_any_ipv4())
            .unwrap_or("localhost");
        settings.set_built_in(quorum::BOOTSTRAP_SERVERS, &format_address(host, endpoint.port));
    }
    Ok(())
}
