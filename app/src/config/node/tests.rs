use super::super::settings::Source;
use super::*;

fn configure(has_file: bool, given: &[(&str, &str)]) -> Result<NodeConfig, String> {
    let mut settings = Settings::default();
    for (name, value) in given {
        settings.set(name, value, Source::Override);
    }
    NodeConfig::new(settings, has_file).map_err(|error| error.to_string())
}

const COMBINED: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
    ("controller.listener.names", "CONTROLLER"),
    ("controller.quorum.bootstrap.servers", "localhost:9093"),
];
const BROKER: &[(&str, &str)] = &[
    ("process.roles", "broker"),
    ("node.id", "2"),
    ("controller.listener.names", "CONTROLLER"),
    ("controller.quorum.voters", "1@localhost:9093"),
];
const CONTROLLER: &[(&str, &str)] = &[
    ("process.roles", "controller"),
    ("node.id", "1"),
    ("listeners", "CONTROLLER://:9093"),
    ("controller.listener.names", "CONTROLLER"),
    ("controller.quorum.voters", "1@localhost:9093"),
];

fn with(base: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]) -> Result<NodeConfig, String> {
    configure(true, &[base, more].concat())
}

fn shown(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(Endpoint::to_string).collect()
}

#[test]
fn without_a_file_a_combined_node_serves_this_machine() {
    let config = configure(false, &[]).unwrap();
    assert_eq!(
        config.roles,
        Roles {
            broker: true,
            controller: true
        }
    );
    assert_eq!(config.node_id, BrokerId(1));
    assert_eq!(
        shown(&config.listeners),
        ["PLAINTEXT://localhost:9092", "CONTROLLER://127.0.0.1:9093"]
    );
    assert_eq!(shown(&config.advertised_listeners), ["PLAINTEXT://localhost:9092"]);
    assert_eq!(
        shown(&config.advertised_controller_listeners),
        ["CONTROLLER://127.0.0.1:9093"]
    );
    assert_eq!(config.bootstrap_servers[0].to_string(), "127.0.0.1:9093");
    assert_eq!(
        (config.log_dirs.as_slice(), config.metadata_log_dir.as_str()),
        (&["./ottla-data".into()][..], "./ottla-data")
    );
    assert!(config.formats_itself && config.http_listener.unwrap().is_default);
    assert_eq!(config.settings.get("offsets.topic.replication.factor"), Some("1"));
}

#[test]
fn without_a_file_what_is_given_counts_and_the_rest_follows_from_it() {
    let config = configure(
        false,
        &[("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0")],
    )
    .unwrap();
    assert_eq!(shown(&config.advertised_listeners), ["PLAINTEXT://127.0.0.1:0"]);
    assert_eq!(config.bootstrap_servers[0].to_string(), "127.0.0.1:0");

    let config = configure(false, &[("listeners", "PLAINTEXT://:9092")]).unwrap();
    assert_eq!(
        shown(&config.listeners),
        ["PLAINTEXT://:9092", "CONTROLLER://127.0.0.1:9093"]
    );

    let config = configure(false, &[("broker.id", "7"), ("log.dir", "/data")]).unwrap();
    assert_eq!(
        (config.node_id, config.log_dirs),
        (BrokerId(7), vec!["/data".to_owned()])
    );

    let config = configure(false, &[("controller.quorum.voters", "1@h:9093")]).unwrap();
    assert!(config.bootstrap_servers.is_empty());
}

#[test]
fn a_file_needs_what_kafka_needs() {
    for missing in ["process.roles", "node.id", "controller.listener.names"] {
        let given: Vec<(&str, &str)> = COMBINED.iter().copied().filter(|(name, _)| *name != missing).collect();
        let error = configure(true, &given).unwrap_err();
        assert!(
            error.contains(&format!("Missing required configuration \"{missing}\"")),
            "{error}"
        );
    }
    let config = with(COMBINED, &[]).unwrap();
    assert_eq!(config.log_dirs, ["/tmp/kafka-logs"]);
    assert!(!config.formats_itself);
}

#[test]
fn each_role_starts_with_what_it_needs() {
    let broker = with(BROKER, &[]).unwrap();
    assert_eq!(shown(&broker.listeners), ["PLAINTEXT://:9092"]);
    assert!(broker.advertised_controller_listeners.is_empty());
    let controller = with(CONTROLLER, &[]).unwrap();
    assert!(controller.advertised_listeners.is_empty());
    // The voter's own address stands in for the wildcard.
    assert_eq!(
        shown(&controller.advertised_controller_listeners),
        ["CONTROLLER://localhost:9093"]
    );
}

#[test]
fn advertised_listeners_are_told_apart_from_bound_ones() {
    let config = with(
        COMBINED,
        &[
            ("listeners", "IN://:9092,OUT://:9094,CONTROLLER://0.0.0.0:9093"),
            ("advertised.listeners", "IN://broker:9092,OUT://[2001:db8::1]:19094"),
            (
                "listener.security.protocol.map",
                "IN:PLAINTEXT,OUT:PLAINTEXT,CONTROLLER:PLAINTEXT,UNUSED:SSL",
            ),
            ("inter.broker.listener.name", "in"),
        ],
    )
    .unwrap();
    assert_eq!(
        shown(&config.advertised_listeners),
        ["IN://broker:9092", "OUT://[2001:db8::1]:19094"]
    );
    assert_eq!(shown(&config.advertised_controller_listeners), ["CONTROLLER://:9093"]);
    assert_eq!(config.inter_broker_listener_name, "IN");
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    type Given = &'static [(&'static str, &'static str)];
    #[rustfmt::skip]
    let refusals: &[(Given, Given, &str)] = &[
        (COMBINED, &[("process.roles", "broker,zookeeper")], "Invalid value zookeeper for configuration process.roles"),
        (COMBINED, &[("process.roles", "broker,broker")], "'process.roles' values must not be duplicated"),
        (COMBINED, &[("process.roles", "")], "'process.roles' must not be empty"),
        (COMBINED, &[("node.id", "-1")], "Invalid value -1 for configuration node.id"),
        (COMBINED, &[("node.id", "one")], "Invalid value one for configuration node.id"),
        (COMBINED, &[("broker.id", "2")], "node.id is 1 and broker.id, its older name, is 2"),
        (COMBINED, &[("controller.quorum.bootstrap.servers", "")], "one of controller.quorum.bootstrap.servers"),
        (COMBINED, &[("controller.quorum.voters", "2@h:9093")], "node.id 1 must be among the voters"),
        (COMBINED, &[("listeners", "PLAINTEXT://:9092")], "must name at least one of listeners"),
        (COMBINED, &[("controller.listener.names", "CONTROLLER,OTHER")], "and OTHER is none"),
        (COMBINED, &[("listeners", "CONTROLLER://:9093")], "must advertise at least one listener"),
        (COMBINED, &[("listeners", "")], "'listeners' must not be empty"),
        (COMBINED, &[("listeners", "PLAINTEXT://0.0.0.0:9092,CONTROLLER://:9093")], "cannot use the address 0.0.0.0"),
        (COMBINED, &[("advertised.listeners", "PLAINTEXT://0.0.0.0:9092")], "cannot use the address 0.0.0.0"),
        (COMBINED, &[("advertised.listeners", "PLAINTEXT://h:9092,X://h:1"),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,X:PLAINTEXT,CONTROLLER:PLAINTEXT")],
            "X is not among PLAINTEXT, CONTROLLER"),
        (COMBINED, &[("inter.broker.listener.name", "CONTROLLER")],
            "inter.broker.listener.name must be one of advertised.listeners: CONTROLLER is not among PLAINTEXT"),
        (COMBINED, &[("inter.broker.listener.name", "PLAINTEXT"), ("security.inter.broker.protocol", "PLAINTEXT")],
            "only one of"),
        (COMBINED, &[("security.inter.broker.protocol", "SSL")], "supports only PLAINTEXT"),
        (COMBINED, &[("listeners", "SSL://:9092,CONTROLLER://:9093")],
            "listeners names a listener SSL with the protocol SSL"),
        (COMBINED, &[("listener.security.protocol.map", "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT")],
            "gives the listener PLAINTEXT the protocol SASL_PLAINTEXT, which Ottla does not support yet"),
        (COMBINED, &[("log.dirs", "/a,/b,/a")], "'log.dirs' values must not be duplicated"),
        (COMBINED, &[("log.dirs", "")], "'log.dirs' must not be empty"),
        (COMBINED, &[("ottla.http.listener", "9404")], "must be HOST:PORT"),
        (BROKER, &[("node.id", "1")], "node.id 1 must not be among the voters"),
        (BROKER, &[("controller.listener.names", "")], "'controller.listener.names' must not be empty"),
        (BROKER, &[("controller.listener.names", "PLAINTEXT")], "must not name PLAINTEXT"),
        (BROKER, &[("controller.listener.names", "SSL")], "protocol SSL, which Ottla does not support yet"),
        (CONTROLLER, &[("listeners", "CONTROLLER://:9093,PLAINTEXT://:9092")], "must hold only listeners of"),
    ];
    for (base, more, reason) in refusals {
        let error = with(base, more).unwrap_err();
        assert!(error.contains(reason), "{more:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn the_http_listener_can_be_moved_and_turned_off() {
    let http = |value| with(COMBINED, &[("ottla.http.listener", value)]).unwrap().http_listener;
    assert_eq!(http(""), None);
    let moved = http("[::]:0").unwrap();
    assert_eq!(
        (moved.address.to_string(), moved.is_default),
        ("[::]:0".to_owned(), false)
    );
}
