//! Limits of connections.

use std::io::ErrorKind;
use std::time::Duration;

use ottla_compat_tests::node::{Node, Options};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::scenario::{Case, Session, wait_for};

pub const CASES: &[Case] = &[
    Case::code("connection-limits", connection_limits),
    Case::code("idle-connections", idle_connections),
];

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

/// `connections.max.idle.ms`: those that say nothing are closed, also half-way through a frame; those that talk stay.
fn idle_connections(s: &mut Session) {
    let node = s.start(Options::with(&["connections.max.idle.ms=2000"]));
    let mut idle = [(); 3].map(|()| connect(&node).expect("a connection"));
    idle[1].send_bytes(&[0, 0]).expect("half of a size");
    idle[2].send_bytes(&[0, 0, 1, 0, 0, 3, 0, 9]).expect("half of a frame");
    let mut busy = connect(&node).expect("a connection");
    for connection in &mut idle {
        let slice = Duration::from_millis(100);
        connection.set_deadline(slice).expect("a deadline");
        let closed = || {
            assert_eq!(busy.broker_count().expect("it talks"), 1);
            connection
                .receive_frame()
                .is_err_and(|e| e.kind() == ErrorKind::UnexpectedEof)
                .then_some(())
        };
        wait_for(closed, || "an idle connection stays".into());
    }
    s.note("the busy one goes on", busy.broker_count().map_err(|e| e.kind()));
}
