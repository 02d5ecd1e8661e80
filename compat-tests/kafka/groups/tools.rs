//! kafka-consumer-groups, kafka-groups and kafka-console-consumer with a group.
use ottla_compat_tests::node::Node;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::running::Running;
use ottla_compat_tests::scenario::{Case, Session};
use ottla_compat_tests::transcript::now_ms;

use crate::wire::Wire;

pub const CASES: &[Case] = &[
    Case::code("console-consumer-classic", |s| console_consumer(s, "classic")),
    Case::code("console-consumer-consumer", |s| console_consumer(s, "consumer")),
    Case::code("consumer-groups-classic", |s| active_group(s, "classic")),
    Case::code("consumer-groups-consumer", |s| active_group(s, "consumer")),
    Case::code("consumer-groups-reset", reset_offsets),
    Case::code("consumer-groups-delete", delete),
    Case::code("consumer-groups-list", list),
];

const CREATE: [&str; 2] = [
    "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
    "until partition.1 kcat -b $B -L -t $T",
];

const DESCRIBE: &str = "kafka-consumer-groups --bootstrap-server $B --group $T --describe";

/// What is left off with one run is gone on with by the next.
fn console_consumer(s: &mut Session, protocol: &str) {
    let node = s.node();
    s.shell(node, &CREATE);
    s.shell(
        node,
        &[
            "kcat -b $B -t $T -p 0 -P\n1\n2\n3\n4\n",
            "kcat -b $B -t $T -p 1 -P\n5\n6\n",
        ],
    );
    let consume = format!(
        "kafka-console-consumer --bootstrap-server $B --topic $T --group $T --from-beginning \
         --command-property group.protocol={protocol} --formatter-property print.partition=true --formatter-property \
         print.offset=true"
    );
    // Which partition comes first is left to chance.
    s.shell(
        node,
        &[
            &format!("sort {consume} --max-messages 6"),
            &format!("sort {DESCRIBE}"),
            "kcat -b $B -t $T -p 0 -P\n7\n8\n9\n",
            &format!("{consume} --max-messages 2"),
            &format!("sort {DESCRIBE} --offsets"),
            &format!("{consume} --max-messages 1"),
            &format!("sort {DESCRIBE} --offsets"),
            &format!("{DESCRIBE} --state"),
            &format!("{DESCRIBE} --members"),
        ],
    );
    s.shell(
        node,
        &[&format!(
            "kafka-console-consumer --bootstrap-server $B --topic $T --group $T-late --timeout-ms 1500 \
             --command-property group.protocol={protocol}"
        )],
    );
}

/// A console consumer that stays.
fn stay(s: &Session, node: &Node, protocol: &str, more: &[&str]) -> Running {
    let bootstrap = node.bootstrap();
    let protocol = format!("group.protocol={protocol}");
    let mut args = vec![
        "--bootstrap-server",
        &bootstrap,
        "--topic",
        s.name,
        "--group",
        s.name,
        "--from-beginning",
        "--command-property",
        &protocol,
    ];
    for property in ["auto.commit.interval.ms=100", "client.id=one"].iter().chain(more) {
        args.extend(["--command-property", property]);
    }
    Running::java("kafka-console-consumer", &args)
}

/// What the tool says of a group with a member, and what it refuses.
fn active_group(s: &mut Session, protocol: &str) {
    let node = s.node();
    // How wide columns are depends on the groups of others.
    s.transcript.replace(" {2,}", "  ");
    s.shell(node, &CREATE);
    s.shell(node, &["kcat -b $B -t $T -p 0 -P\n1\n2\n3\n"]);
    let mut member = stay(s, node, protocol, &["group.instance.id=instance"]);
    member.wait_line("3");
    let all = "kafka-consumer-groups --bootstrap-server $B";
    let on = format!("{all} --group $T");
    s.tool(node, &format!("until (?m)\\s3\\s+3\\s+0\\s {DESCRIBE}"));
    s.shell(
        node,
        &[
            &format!("sort {DESCRIBE}"),
            &format!("sort {DESCRIBE} --offsets --verbose"),
            &format!("{DESCRIBE} --members"),
            &format!("{DESCRIBE} --members --verbose"),
            &format!("{DESCRIBE} --state"),
            &format!("{DESCRIBE} --state --verbose"),
            &format!("only $T\\s {all} --list --state"),
            &format!("only $T\\s {all} --list --type {protocol}"),
            &format!("only $T\\s {all} --list --state stable --type {protocol}"),
            &format!("only $T\\s {all} --list --state empty"),
            &format!("{on} --reset-offsets --to-earliest --topic $T --execute"),
            &format!("{on} --delete"),
            &format!("{on} --delete-offsets --topic $T"),
            &format!("{on} --delete-offsets --topic $T-absent"),
            "only $T\\s kafka-groups --bootstrap-server $B --list",
            &format!("only $T\\s kafka-groups --bootstrap-server $B --list --group-type {protocol}"),
            "only $T\\s kafka-groups --bootstrap-server $B --list --consumer",
            "only $T\\s kafka-groups --bootstrap-server $B --list --protocol consumer",
            "only $T\\s kafka-groups --bootstrap-server $B --list --share",
        ],
    );
    // Static members leave no message behind: the group stays as it is until the session is over.
    member.kill();
    s.shell(
        node,
        &[&format!("{DESCRIBE} --state"), &format!("{DESCRIBE} --members")],
    );
}

/// One record at each of these times in partition 0, and more of the last in partition 1.
fn at_times(w: &mut Wire) {
    let topic = w.create("", 2, &[("retention.ms", "-1")]);
    // 2021, 2022 and 2023, then an hour and half an hour ago.
    let now = now_ms();
    let times = [
        1_609_459_200_000,
        1_640_995_200_000,
        1_672_531_200_000,
        now - 3_600_000,
        now - 1_800_000,
    ];
    for (n, time) in times.into_iter().enumerate() {
        for partition in 0..2 {
            let count = if partition == 1 { n + 1 } else { 1 };
            let records = (0..count).map(|_| Record::value("x")).collect();
            w.append_to(&topic, partition, &Batch::new(time, records));
        }
    }
}

/// All the ways to say where a group shall go on, tried and done.
fn reset_offsets(s: &mut Session) {
    let mut w = Wire::open(s);
    at_times(&mut w);
    let node = s.node();
    let reset = "kafka-consumer-groups --bootstrap-server $B --group $T --reset-offsets";
    s.shell(
        node,
        &[
            // No such group: it comes into being.
            &format!("sort {reset} --to-earliest --topic $T"),
            &format!("sort {reset} --to-earliest --topic $T --execute"),
        ],
    );
    for to in [
        "--to-latest",
        "--shift-by -2",
        "--shift-by 1",
        "--shift-by -100",
        "--shift-by 100",
        "--to-offset 2",
        "--to-offset 99",
        "--to-datetime 2022-06-01T00:00:00.000",
        "--to-datetime 2020-01-01T00:00:00.000",
        "--to-datetime 2099-01-01T00:00:00.000",
        "--to-datetime 2022-01-01T00:00:00.000+01:00",
        "--to-datetime yesterday",
        "--by-duration PT45M",
        "--by-duration PT2H",
        "--by-duration PT1M",
        "--by-duration P90000D",
        "--to-current",
        "--to-earliest",
    ] {
        s.shell(
            node,
            &[
                &format!("sort {reset} {to} --topic $T --dry-run"),
                &format!("sort {reset} {to} --topic $T --execute"),
                &format!("sort {DESCRIBE}"),
            ],
        );
    }
    s.shell(
        node,
        &[
            &format!("sort {reset} --to-latest --topic $T:1 --execute"),
            &format!("sort {reset} --to-offset 3 --topic $T:0,1 --execute"),
            &format!("sort {reset} --to-offset 4 --all-topics --execute"),
            &format!("sort {reset} --to-earliest --topic $T:7 --execute"),
            &format!("sort {reset} --to-earliest --topic $T-absent --execute"),
            &format!("sort {reset} --to-current --all-topics --export"),
            "write $D/$T.csv\n$T,0,1\n$T,1,2\n",
            &format!("sort {reset} --from-file $D/$T.csv --dry-run"),
            &format!("sort {reset} --from-file $D/$T.csv --execute"),
            "write $D/$T.csv\n$T,0,3\n$T,1,500\n",
            &format!("sort {reset} --from-file $D/$T.csv --execute --export"),
            &format!("sort {DESCRIBE} --offsets"),
            &format!("{DESCRIBE} --state"),
            "kcat -b $B -X session.timeout.ms=6000 -e -q -o stored -f %p|%o\\n -t $T -p 0 -C -X group.id=$T",
        ],
    );
}

/// Offsets and whole groups go.
fn delete(s: &mut Session) {
    let mut w = Wire::open(s);
    at_times(&mut w);
    let node = s.node();
    let all = "kafka-consumer-groups --bootstrap-server $B";
    let on = format!("{all} --group $T");
    s.shell(
        node,
        &[
            &format!("{on} --delete"),
            &format!("{on} --delete-offsets --topic $T"),
            &format!("sort {on} --reset-offsets --to-latest --topic $T --execute"),
            &format!("sort {on} --delete-offsets --topic $T:1"),
            &format!("sort {DESCRIBE}"),
            &format!("sort {on} --delete-offsets --topic $T:7"),
            &format!("sort {on} --delete-offsets --topic $T"),
            &format!("sort {DESCRIBE}"),
            &format!("sort {on} --reset-offsets --to-latest --topic $T --execute"),
            &format!("only ^$T$ {all} --list"),
            &format!("{on} --delete"),
            &format!("only ^$T$ {all} --list"),
            &format!("{DESCRIBE} --offsets"),
            &format!("{DESCRIBE} --state"),
            &format!("{on} --delete --group $T-absent"),
            // Offsets go with their topic.
            &format!("sort {on} --reset-offsets --to-latest --topic $T --execute"),
            "kafka-topics --bootstrap-server $B --delete --topic $T",
            &format!("until no.active.members|does.not.exist only ^$T {DESCRIBE} --offsets"),
            &format!("{DESCRIBE} --state"),
        ],
    );
}

/// What filters let through.
fn list(s: &mut Session) {
    // How wide columns are depends on the groups of others.
    s.transcript.replace(" {2,}", "  ");
    let mut w = Wire::open(s);
    at_times(&mut w);
    let node = s.node();
    let all = "kafka-consumer-groups --bootstrap-server $B";
    for group in ["$T-one", "$T-two"] {
        let reset = format!("{all} --group {group} --reset-offsets --to-latest --topic $T --execute");
        s.tool(node, &reset).ok();
    }
    s.shell(
        node,
        &[
            &format!("sort only $T {all} --list"),
            &format!("sort only $T {all} --list --state"),
            &format!("sort only $T {all} --list --state Empty"),
            &format!("sort only $T {all} --list --state stable,dead"),
            &format!("sort only $T {all} --list --type"),
            &format!("sort only $T {all} --list --type classic"),
            &format!("sort only $T {all} --list --type consumer"),
            "sort only $T kafka-groups --bootstrap-server $B --list",
            "sort only $T kafka-groups --bootstrap-server $B --list --group-type classic",
            "sort only $T kafka-groups --bootstrap-server $B --list --protocol anything",
            &format!("{all} --describe --group $T-absent"),
            &format!("{all} --describe --group $T-absent --members"),
            &format!("{all} --describe --group $T-absent --state"),
        ],
    );
}
