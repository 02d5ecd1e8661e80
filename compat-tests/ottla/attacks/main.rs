//! Attacks on a node: it answers as it should or closes the connection, says so in its log and metrics, serves others on, and
//! holds no more memory than before.
//!
//! Ottla's alone: Apache Kafka allocates what a frame announces, and has other names for what it counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use libtest_mimic::{Arguments, Trial};

mod batches;
mod connections;
mod frames;
mod generate;
mod groups;
mod victim;

/// An attack, and whether it is for `./dev stress` alone.
type Attack = (&'static str, bool, fn());

fn main() {
    let mut arguments = Arguments::from_args();
    // What is measured under one must not be another's doing.
    arguments.test_threads = Some(1);
    victim::raise_file_limit();
    let attacks = [connections::ATTACKS, frames::ATTACKS, batches::ATTACKS, groups::ATTACKS].concat();
    let trials = attacks.into_iter().map(|(name, is_long, attack)| {
        let run = move || {
            attack();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(is_long)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
