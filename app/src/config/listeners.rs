//! `listeners`, `advertised.listeners` and `listener.security.protocol.map`.

use std::fmt;
use std::net::IpAddr;

use super::error::ConfigError;

/// One entry of `listeners` or `advertised.listeners`: `NAME://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name in upper case, as Kafka normalises it.
    pub name: String,
    /// A name or an address, without brackets; `None` means every interface.
    pub host: Option<String>,
    /// 0 lets the system choose.
    pub port: u16,
}

impl Endpoint {
    /// Reads an entry; `setting` is the name that errors give.
    pub fn parse(setting: &str, entry: &str) -> Result<Endpoint, ConfigError> {
        let invalid = || ConfigError::invalid(setting, entry, "each listener must have the form NAME://HOST:PORT");
        let (name, address) = entry.rsplit_once("://").ok_or_else(invalid)?;
        let (host, port) = split_host_port(address).ok_or_else(invalid)?;
        if name.is_empty() {
            return Err(invalid());
        }
        let port = port
            .parse()
            .map_err(|_| ConfigError::invalid(setting, entry, "the port must be between 0 and 65535"))?;
        Ok(Endpoint {
            name: normalised(name),
            host: (!host.is_empty()).then(|| host.to_owned()),
            port,
        })
    }

    /// True for the address that no client can connect to.
    pub fn is_any_ipv4(&self) -> bool {
        self.host.as_deref() == Some("0.0.0.0")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or_default();
        write!(f, "{}://{}", self.name, format_address(host, self.port))
    }
}

/// Kafka compares listener names in upper case.
pub fn normalised(name: &str) -> String {
    name.to_uppercase()
}

/// `host:port`, an IPv6 address in brackets.
pub fn format_address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Splits `host:port`, `[v6]:port` or `:port`; `None` unless the host has a host's characters and the port is digits.
pub fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    let host_is_sound = host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '%' | '.' | '_' | ':'));
    let port_is_sound = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    (host_is_sound && port_is_sound).then_some((host, port))
}

/// Reads a list of listeners and applies Kafka's rules: names differ, and so do ports (but for port 0), except that an
/// IPv4 and an IPv6 address may share one. Advertised ports may be equal.
pub fn parse_list(setting: &str, value: &str, distinct_ports: bool) -> Result<Vec<Endpoint>, ConfigError> {
    let endpoints = split_csv(value)
        .map(|entry| Endpoint::parse(setting, entry))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, endpoint) in endpoints.iter().enumerate() {
        let earlier = endpoints.iter().take(index);
        if earlier.clone().any(|other| other.name == endpoint.name) {
            let reason = format!(
                "each listener must have a different name, {} comes twice",
                endpoint.name
            );
            return Err(ConfigError::invalid(setting, value, reason));
        }
        let sharing: Vec<&Endpoint> = earlier.filter(|other| other.port == endpoint.port).collect();
        if !distinct_ports || endpoint.port == 0 || sharing.is_empty() {
            continue;
        }
        let families = (
            address_family(endpoint),
            sharing.first().and_then(|other| address_family(other)),
        );
        if sharing.len() > 1 || !matches!(families, (Some(ours), Some(theirs)) if ours != theirs) {
            let reason = format!(
                "each listener must have a different port unless one has an IPv4 and the other an IPv6 address, port: {}",
                endpoint.port
            );
            return Err(ConfigError::invalid(setting, value, reason));
        }
    }
    Ok(endpoints)
}

/// True for IPv6, false for IPv4, `None` for names and for the wildcard.
fn address_family(endpoint: &Endpoint) -> Option<bool> {
    let host = endpoint.host.as_deref()?;
    let without_zone = host.split('%').next()?;
    without_zone.parse::<IpAddr>().ok().map(|address| address.is_ipv6())
}

/// The non-empty entries of a comma-separated list, without the blanks around them.
pub fn split_csv(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// How the bytes on a listener are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Not at all.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    const ALL: [SecurityProtocol; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    /// Kafka's name; case does not matter.
    pub fn parse(name: &str) -> Option<SecurityProtocol> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }
}

/// `listener.security.protocol.map`.
pub struct ProtocolMap {
    explicit: Option<Vec<(String, SecurityProtocol)>>,
    controller_names: Vec<String>,
}

impl ProtocolMap {
    /// The setting's name.
    pub const NAME: &'static str = "listener.security.protocol.map";

    /// Reads the setting. Without it every protocol is the name of its listener and the controllers' listeners are
    /// plaintext.
    pub fn parse(value: Option<&str>, controller_names: &[String]) -> Result<ProtocolMap, ConfigError> {
        let explicit = value
            .map(|value| {
                split_csv(value)
                    .map(|entry| {
                        let invalid = |reason| ConfigError::invalid(Self::NAME, value, reason);
                        let (name, protocol) = entry
                            .rsplit_once(':')
                            .ok_or_else(|| invalid("each entry must have the form NAME:PROTOCOL".to_owned()))?;
                        let protocol = protocol.trim();
                        let protocol = SecurityProtocol::parse(protocol).ok_or_else(|| {
                            invalid(format!(
                                "{protocol} is no security protocol; allowed are PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"
                            ))
                        })?;
                        Ok((normalised(name.trim()), protocol))
                    })
                    .collect::<Result<Vec<_>, ConfigError>>()
            })
            .transpose()?;
        Ok(ProtocolMap {
            explicit,
            controller_names: controller_names.to_vec(),
        })
    }

    /// The protocol of a listener, by its normalised name.
    pub fn protocol(&self, name: &str) -> Option<SecurityProtocol> {
        match &self.explicit {
            // As in Java's maps, the last of two entries for a name counts.
            Some(map) => map
                .iter()
                .rev()
                .find(|(known, _)| known == name)
                .map(|(_, protocol)| *protocol),
            None => SecurityProtocol::ALL
                .into_iter()
                .find(|protocol| protocol.name() == name)
                .or_else(|| {
                    let is_controller = self.controller_names.iter().any(|known| known == name);
                    is_controller.then_some(SecurityProtocol::Plaintext)
                }),
        }
    }

    /// Refuses a listener that has no protocol, or one that Ottla does not speak.
    pub fn require_plaintext(&self, setting: &str, name: &str) -> Result<(), ConfigError> {
        match self.protocol(name) {
            Some(SecurityProtocol::Plaintext) => Ok(()),
            Some(protocol) => {
                let protocol = protocol.name();
                let cause = match &self.explicit {
                    Some(_) => format!("{} gives the listener {name} the protocol {protocol}", Self::NAME),
                    None => format!("{setting} names a listener {name} with the protocol {protocol}"),
                };
                Err(ConfigError::Inconsistent(format!(
                    "{cause}, which Ottla does not support yet: only PLAINTEXT is"
                )))
            }
            None => Err(ConfigError::Inconsistent(format!(
                "No security protocol defined for listener {name} of {setting}: {} needs an entry {name}:PLAINTEXT",
                Self::NAME
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str, host: Option<&str>, port: u16) -> Endpoint {
        Endpoint {
            name: name.into(),
            host: host.map(str::to_owned),
            port,
        }
    }

    fn parse(value: &str) -> Result<Vec<Endpoint>, String> {
        parse_list("listeners", value, true).map_err(|error| error.to_string())
    }

    #[test]
    fn listeners_are_read_as_kafka_reads_them() {
        for (text, expected) in [
            ("PLAINTEXT://:9092", endpoint("PLAINTEXT", None, 9092)),
            ("PLAINTEXT://0.0.0.0:9092", endpoint("PLAINTEXT", Some("0.0.0.0"), 9092)),
            ("PLAINTEXT://[::1]:0", endpoint("PLAINTEXT", Some("::1"), 0)),
            (
                "PLAINTEXT://[fe80::1%eth0]:9092",
                endpoint("PLAINTEXT", Some("fe80::1%eth0"), 9092),
            ),
            ("plaintext://::1:9092", endpoint("PLAINTEXT", Some("::1"), 9092)),
            (
                "My_Net-1.x://broker-1.example.com:65535",
                endpoint("MY_NET-1.X", Some("broker-1.example.com"), 65535),
            ),
        ] {
            assert_eq!(parse(text), Ok(vec![expected]), "{text}");
        }
    }

    #[test]
    fn bad_listeners_are_refused_with_the_reason() {
        for (text, reason) in [
            ("localhost:9092", "NAME://HOST:PORT"),
            ("PLAINTEXT://localhost", "NAME://HOST:PORT"),
            ("PLAINTEXT:/localhost:9092", "NAME://HOST:PORT"),
            ("://localhost:9092", "NAME://HOST:PORT"),
            ("PLAINTEXT://a b:9092", "NAME://HOST:PORT"),
            ("PLAINTEXT://a:-1", "NAME://HOST:PORT"),
            ("PLAINTEXT://a:65536", "between 0 and 65535"),
            ("A://a:1,a://b:2", "different name, A comes twice"),
            ("A://a:1,B://b:1", "different port"),
            ("A://127.0.0.1:1,B://127.0.0.2:1", "different port"),
            ("A://127.0.0.1:1,B://:1", "different port"),
            ("A://127.0.0.1:1,B://[::1]:1,C://10.0.0.1:1", "different port"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(reason) && error.contains("for configuration listeners"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn ports_may_repeat_where_kafka_lets_them() {
        assert!(parse("A://127.0.0.1:1,B://[::1]:1").is_ok());
        assert!(parse("A://:0,B://:0").is_ok());
        assert!(parse_list("advertised.listeners", "A://a:1,B://a:1", false).is_ok());
    }

    #[test]
    fn endpoints_print_what_they_were_read_from() {
        for text in ["A://:9092", "A://[::1]:9092", "A://host:0"] {
            assert_eq!(Endpoint::parse("listeners", text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn protocols_other_than_plaintext_are_refused_by_name() {
        let controllers = ["CONTROLLER".to_owned()];
        let refusal = |map: Option<&str>, name| {
            let map = ProtocolMap::parse(map, &controllers).unwrap();
            map.require_plaintext("listeners", name)
                .map_err(|error| error.to_string())
        };
        assert_eq!(refusal(None, "PLAINTEXT"), Ok(()));
        assert_eq!(refusal(None, "CONTROLLER"), Ok(()));
        assert_eq!(refusal(Some("controller:plaintext"), "CONTROLLER"), Ok(()));
        assert_eq!(refusal(Some("A:SSL, A:PLAINTEXT"), "A"), Ok(()));
        let ssl = refusal(Some("A:SSL"), "A").unwrap_err();
        assert!(
            ssl.starts_with("listener.security.protocol.map gives the listener A the protocol SSL"),
            "{ssl}"
        );
        let sasl = refusal(None, "SASL_SSL").unwrap_err();
        assert!(
            sasl.starts_with("listeners names a listener SASL_SSL with the protocol SASL_SSL"),
            "{sasl}"
        );
        let none = refusal(None, "EXTERNAL").unwrap_err();
        assert!(
            none.starts_with("No security protocol defined for listener EXTERNAL"),
            "{none}"
        );
        assert!(refusal(Some("PLAINTEXT:PLAINTEXT"), "CONTROLLER").is_err());
    }

    #[test]
    fn unknown_protocols_are_refused() {
        for text in ["A:TLS", "A"] {
            assert!(ProtocolMap::parse(Some(text), &[]).is_err(), "{text}");
        }
    }
}
