//! The line that says that the node runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::NodeConfig;
use crate::config::listeners::format_address;

/// A listener, and where it really listens.
pub struct Listening {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses, with the ports that were chosen for 0.
    pub addresses: Vec<SocketAddr>,
}

/// Logs where the node listens and who can reach it, where its data is, the cluster's id, and how long it took.
pub fn announce(
    config: &NodeConfig,
    cluster_id: &str,
    listeners: &[Listening],
    http: Option<SocketAddr>,
    elapsed: Duration,
) {
    tracing::info!("{}", line(config, cluster_id, listeners, http, elapsed));
}

fn line(
    config: &NodeConfig,
    cluster_id: &str,
    listeners: &[Listening],
    http: Option<SocketAddr>,
    elapsed: Duration,
) -> String {
    let of = |listening: &Listening| {
        let addresses: Vec<String> = listening.addresses.iter().map(SocketAddr::to_string).collect();
        format!("{} {}", listening.name, addresses.join(" and "))
    };
    let bound: Vec<String> = listeners.iter().map(of).collect();
    let is_local = listeners
        .iter()
        .flat_map(|listening| &listening.addresses)
        .all(|address| address.ip().is_loopback());
    let reach = if is_local {
        " (only this machine reaches them)"
    } else {
        ""
    };
    let advertised: Vec<String> = config
        .advertised_listeners
        .iter()
        .filter_map(|endpoint| {
            let listening = listeners.iter().find(|listening| *listening.name == *endpoint.name);
            let port = match endpoint.port {
                0 => listening?.addresses.first()?.port(),
                port => port,
            };
            Some(format_address(
                endpoint.host.as_deref().unwrap_or("this host's name"),
                port,
            ))
        })
        .collect();
    let advertised = if advertised.is_empty() {
        String::new()
    } else {
        format!(", advertised as {}", advertised.join(", "))
    };
    let http = http
        .map(|address| format!(", metrics at http://{address}/metrics"))
        .unwrap_or_default();
    format!(
        "Ottla {} node {} started in {} ms: {}{reach}{advertised}{http}, data in {}, cluster id {cluster_id}",
        env!("CARGO_PKG_VERSION"),
        config.node_id,
        elapsed.as_millis(),
        bound.join(", "),
        config.log_dirs.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn listening(name: &str, addresses: &[&str]) -> Listening {
        Listening {
            name: name.into(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn the_line_says_where_and_for_whom() {
        let config = NodeConfig::new(Settings::default(), false).unwrap();
        let mut listeners = [
            listening("PLAINTEXT", &["127.0.0.1:9092", "[::1]:9092"]),
            listening("CONTROLLER", &["127.0.0.1:9093"]),
        ];
        let http = Some("127.0.0.1:9404".parse().unwrap());
        let line = |listeners: &[Listening]| {
            line(
                &config,
                "MkU3OEVBNTcwNTJENDM2Qg",
                listeners,
                http,
                Duration::from_millis(38),
            )
        };
        assert_eq!(
            line(&listeners),
            format!(
                "Ottla {} node 1 started in 38 ms: PLAINTEXT 127.0.0.1:9092 and [::1]:9092, CONTROLLER 127.0.0.1:9093 \
                 (only this machine reaches them), advertised as localhost:9092, metrics at \
                 http://127.0.0.1:9404/metrics, data in ./ottla-data, cluster id MkU3OEVBNTcwNTJENDM2Qg",
                env!("CARGO_PKG_VERSION")
            )
        );
        listeners[0] = listening("PLAINTEXT", &["0.0.0.0:9092"]);
        assert!(!line(&listeners).contains("only this machine"));
    }
}
