//! kcat's balanced consumer: librdkafka's side of the classic protocol.
use std::collections::BTreeSet;

use ottla_compat_tests::node::Node;
use ottla_compat_tests::running::Running;
use ottla_compat_tests::scenario::{Case, Session, wait_for};

pub const CASES: &[Case] = &[
    Case::code("kcat-group-range", |s| join_and_leave(s, "range")),
    Case::code("kcat-group-roundrobin", |s| join_and_leave(s, "roundrobin")),
];

const PARTITIONS: usize = 4;

/// A member; it reads what is there from the beginning and commits several times a second.
fn member(s: &Session, node: &Node, assignor: &str) -> Running {
    let assignor = format!("partition.assignment.strategy={assignor}");
    let settings = [
        "auto.offset.reset=earliest",
        "session.timeout.ms=6000",
        "heartbeat.interval.ms=100",
        "auto.commit.interval.ms=100",
        "topic.metadata.refresh.interval.ms=500",
        "fetch.wait.max.ms=100",
        &assignor,
    ];
    let bootstrap = node.bootstrap();
    let mut args = vec!["-b", &bootstrap, "-u", "-f", "%p %o %s\\n"];
    settings.iter().for_each(|setting| args.extend(["-X", setting]));
    args.extend(["-G", s.name, s.name]);
    Running::start("kcat", &args)
}

/// The partitions that a member said it has last.
fn assigned(member: &Running) -> BTreeSet<usize> {
    let errors = member.errors();
    let last = errors.iter().rfind(|line| line.contains(" rebalanced "));
    let Some((_, list)) = last.and_then(|line| line.split_once("assigned: ")) else {
        return BTreeSet::new();
    };
    let partition = |text: &str| text.rsplit_once('[')?.1.trim_end_matches(']').parse().ok();
    list.split(", ").filter_map(partition).collect()
}

/// Waits until the members share all partitions evenly, and notes who has which.
fn wait_shared(s: &mut Session, members: &[&Running]) {
    let shares = wait_for(
        || {
            let mut shares: Vec<_> = members.iter().map(|member| assigned(member)).collect();
            let all: BTreeSet<_> = shares.iter().flatten().copied().collect();
            let even = shares.iter().all(|share| share.len() == PARTITIONS / members.len());
            shares.sort();
            (even && all.len() == PARTITIONS).then_some(shares)
        },
        || format!("{:#?}", members.iter().map(|m| m.errors()).collect::<Vec<_>>()),
    );
    s.note("assigned", shares);
}

/// Writes ten records to each partition and waits until the members have read them and all before.
fn write_and_read(s: &mut Session, node: &Node, round: usize, members: &[&Running]) {
    for partition in 0..PARTITIONS {
        let lines: String = (0..10).map(|n| format!("{}\n", round * 10 + n)).collect();
        s.tool(
            node,
            &format!("kcat -b $B -t $T -p {partition} -P -X acks=all\n{lines}"),
        )
        .ok();
    }
    let count = PARTITIONS * 10 * (round + 1);
    let mut lines: Vec<_> = wait_for(
        || {
            let lines: Vec<_> = members.iter().flat_map(|member| member.lines()).collect();
            (lines.len() >= count).then_some(lines)
        },
        || format!("{:#?}", members.iter().map(|m| m.lines()).collect::<Vec<_>>()),
    );
    lines.sort();
    s.note("read", lines.len());
    lines.dedup();
    assert_eq!(lines.len(), count, "{lines:#?}");
    if round == 2 {
        s.note("records", lines);
    }
}

/// One member, two, the second alone: everything is read once, because whoever gives up partitions commits first.
fn join_and_leave(s: &mut Session, assignor: &str) {
    let node = s.node();
    let create = "kafka-topics --bootstrap-server $B --create --topic $T --partitions 4";
    s.tool(node, create).ok();
    s.tool(node, "until partition.3 kcat -b $B -L -t $T");
    let mut first = member(s, node, assignor);
    wait_shared(s, &[&first]);
    write_and_read(s, node, 0, &[&first]);
    let mut second = member(s, node, assignor);
    wait_shared(s, &[&first, &second]);
    write_and_read(s, node, 1, &[&first, &second]);
    let describe = "kafka-consumer-groups --bootstrap-server $B --describe --group $T";
    s.tool(node, &format!(r"until (?s)^(.*\s20\s+20\s+0\s){{4}} {describe}"));
    s.shell(
        node,
        &[
            &format!("sort {describe} --offsets --verbose"),
            &format!("sort {describe} --members --verbose"),
            &format!("{describe} --state --verbose"),
        ],
    );
    s.note("first ends", first.stop());
    wait_shared(s, &[&second]);
    write_and_read(s, node, 2, &[&first, &second]);
    s.note("second ends", second.stop());
    s.shell(
        node,
        &[
            &format!("{describe} --state"),
            &format!("sort {describe} --offsets"),
            &format!("{describe} --members"),
        ],
    );
}
