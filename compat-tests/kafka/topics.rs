//! kafka-topics.
use ottla_compat_tests::scenario::{Case, Session};

pub const CASES: &[Case] = &[Case {
    name: "topics_create_and_describe",
    run: create_and_describe,
}];

fn create_and_describe(s: &mut Session) {
    let node = s.node();
    s.shell(
        node,
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 3 --replication-factor 1",
            "kafka-topics --bootstrap-server $B --describe --topic $T",
            "kafka-topics --bootstrap-server $B --create --topic $T",
        ],
    );
}
