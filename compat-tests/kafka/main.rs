//! What Kafka promises, shown on Apache Kafka and on Ottla in the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use ottla_compat_tests::scenario::{self, Case, SharedNodes};

mod clients;
mod connect;
mod dump_log;
mod groups;
mod kcat;
mod librdkafka;
mod lifecycle;
mod limits;
mod log;
mod streams;
mod tools;
mod topics;
mod wire;

fn main() {
    let arguments = Arguments::from_args();
    let nodes = Arc::new(SharedNodes::default());
    let mut families: Vec<(&str, &'static [Case])> = vec![
        ("topics", topics::CASES),
        ("tools", self::tools::CASES),
        ("kcat", kcat::CASES),
        ("librdkafka", librdkafka::CASES),
        ("dump-log", dump_log::CASES),
        ("lifecycle", lifecycle::CASES),
        ("limits", limits::CASES),
        ("streams", streams::CASES),
        ("connect", connect::CASES),
    ];
    families.extend(wire::FAMILIES);
    families.extend(log::FAMILIES);
    let group_nodes = Arc::new(SharedNodes::with(groups::options()));
    let families = families.into_iter().map(|family| (&nodes, family));
    let groups = groups::FAMILIES.into_iter().map(|family| (&group_nodes, family));
    let mut trials: Vec<_> = families
        .chain(groups)
        .flat_map(|(nodes, (family, cases))| {
            let nodes = nodes.clone();
            cases.iter().map(move |case| {
                let nodes = nodes.clone();
                Trial::test(case.name, move || {
                    scenario::run(&nodes, case);
                    Ok(())
                })
                .with_kind(family)
                .with_ignored_flag(case.is_long)
            })
        })
        .collect();
    trials.push(clients::trial());
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The exit below runs no destructors: end what was started here.
    drop((nodes, group_nodes));
    ottla_compat_tests::tools::stop();
    conclusion.exit();
}
