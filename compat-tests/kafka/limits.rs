//! Limits of connections that change while the broker runs.

use ottla_compat_tests::node::{Node, Options};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::scenario::{Case, Session, wait_for};

pub const CASES: &[Case] = &[Case::code("connection-limits", connection_limits)];

/// A connection that the broker answers on.
fn connect(node: &Node) -> Option<Connection> {
    let mut connection = Connection::open(node.socket()).ok()?;
    connection.broker_count().ok()?;
    Some(connection)
}

/// Connections above a new limit are closed; those that exist stay.
fn connection_limits(s: &mut Session) {
    let node = s.start(Options::default());
    for limit in [
        "max.connections.per.ip=3",
        "max.connections.per.ip.overrides=[127.0.0.1:3]",
    ] {
        let mut held: Vec<_> = (0..6).map(|_| connect(&node).expect("no limit yet")).collect();
        let alter = "kafka-configs --bootstrap-server $B --alter --broker-defaults";
        s.shell(&node, &[&format!("{alter} --add-config {limit}")]);
        wait_for(
            || connect(&node).is_none().then_some(()),
            || format!("{limit} has no effect"),
        );
        let alive = held
            .iter_mut()
            .filter_map(|connection| connection.broker_count().ok())
            .count();
        s.note("still served", alive);
        drop(held);
        wait_for(|| connect(&node).map(drop), || format!("{limit} keeps everyone out"));
        let (name, _) = limit.split_once('=').expect("a setting");
        s.shell(&node, &[&format!("{alter} --delete-config {name}")]);
        wait_for(
            || (0..6).map(|_| connect(&node)).collect::<Option<Vec<_>>>().map(drop),
            || format!("{name} is not lifted"),
        );
    }
}
