//! `controller.quorum.voters` and `controller.quorum.bootstrap.servers`.

use std::fmt;

use ottla_domain::ids::BrokerId;

use super::error::ConfigError;
use super::listeners::{format_address, split_csv, split_host_port};

/// The setting of a static quorum.
pub const VOTERS: &str = "controller.quorum.voters";
/// The setting of a dynamic quorum (KIP-853).
pub const BOOTSTRAP_SERVERS: &str = "controller.quorum.bootstrap.servers";

/// A controller's address; it is resolved when it is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_address(&self.host, self.port))
    }
}

/// An entry of `controller.quorum.voters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticVoter {
    /// The voter's `node.id`.
    pub id: BrokerId,
    /// Where it listens.
    pub address: HostPort,
}

/// Reads `id@host:port,...`. Of two entries with one id the last counts.
pub fn parse_voters(value: &str) -> Result<Vec<StaticVoter>, ConfigError> {
    let mut voters: Vec<StaticVoter> = Vec::new();
    for entry in split_csv(value) {
        let invalid = || ConfigError::invalid(VOTERS, entry, "each entry must have the form {id}@{host}:{port}");
        let (id, address) = entry.split_once('@').ok_or_else(invalid)?;
        let id: i32 = id
            .parse()
            .map_err(|_| ConfigError::invalid(VOTERS, entry, format!("{id} is no voter id, which is an integer")))?;
        let voter = StaticVoter {
            id: BrokerId(id),
            address: parse_address(address).ok_or_else(invalid)?,
        };
        if voter.address.host == "0.0.0.0" {
            return Err(ConfigError::invalid(VOTERS, entry, "0.0.0.0 is not routable"));
        }
        voters.retain(|known| known.id != voter.id);
        voters.push(voter);
    }
    Ok(voters)
}

/// Reads `host:port,...`.
pub fn parse_bootstrap_servers(value: &str) -> Result<Vec<HostPort>, ConfigError> {
    split_csv(value)
        .map(|entry| {
            parse_address(entry).ok_or_else(|| {
                ConfigError::invalid(BOOTSTRAP_SERVERS, entry, "each entry must have the form {host}:{port}")
            })
        })
        .collect()
}

fn parse_address(text: &str) -> Option<HostPort> {
    let (host, port) = split_host_port(text)?;
    let host = (!host.is_empty()).then(|| host.to_owned())?;
    let port = port.parse().ok()?;
    Some(HostPort { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_and_servers_are_read() {
        let voters = parse_voters("1@localhost:9093, 2@[::1]:9094,1@other:1").unwrap();
        let read: Vec<String> = voters
            .iter()
            .map(|voter| format!("{}@{}", voter.id, voter.address))
            .collect();
        assert_eq!(read, ["2@[::1]:9094", "1@other:1"]);
        let servers = parse_bootstrap_servers("a:1,[::1]:2").unwrap();
        assert_eq!(
            servers.iter().map(HostPort::to_string).collect::<Vec<_>>(),
            ["a:1", "[::1]:2"]
        );
        assert!(parse_voters(" ").unwrap().is_empty());
    }

    #[test]
    fn bad_entries_are_refused_with_their_form() {
        for (text, reason) in [
            ("localhost:9093", "{id}@{host}:{port}"),
            ("1@localhost", "{id}@{host}:{port}"),
            ("1@:9093", "{id}@{host}:{port}"),
            ("1@a@b:9093", "{id}@{host}:{port}"),
            ("1@a:65536", "{id}@{host}:{port}"),
            ("x@a:1", "x is no voter id"),
            ("1@0.0.0.0:9093", "not routable"),
        ] {
            let error = parse_voters(text).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(VOTERS), "{text}: {error}");
        }
        let error = parse_bootstrap_servers("a").unwrap_err().to_string();
        assert!(
            error.contains("{host}:{port}") && error.contains(BOOTSTRAP_SERVERS),
            "{error}"
        );
    }
}
