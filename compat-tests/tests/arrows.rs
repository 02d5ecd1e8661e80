//! The arrows between the rooms of the house, as ARCHITECTURE.md draws them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A test that cannot go on has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may depend on, of the crates of this workspace.
fn allowed(name: &str) -> &'static [&'static str] {
    match name {
        "ottla" => &[
            "ottla-domain",
            "ottla-wire",
            "ottla-storage",
            "ottla-compression",
            "ottla-raft",
            "ottla-observability",
        ],
        "ottla-wire" | "ottla-storage" | "ottla-compression" | "ottla-raft" | "ottla-observability" => {
            &["ottla-domain"]
        }
        _ => &[],
    }
}

/// What `domain` may depend on at all: nothing that touches a clock, a socket, a file, a thread or randomness.
const DOMAIN: [&str; 5] = ["bytes", "crc32c", "indexmap", "thiserror", "uuid"];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
            manifest,
        ])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let normal = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        normal
            .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| (package["name"].as_str().expect("a name").to_owned(), normal(package)))
        .collect()
}

#[test]
fn no_crate_depends_on_one_that_it_must_not_know() {
    let dependencies = dependencies();
    assert!(dependencies.len() >= 9, "{dependencies:?}");
    for (name, on) in &dependencies {
        for other in on.iter().filter(|other| dependencies.contains_key(*other)) {
            assert!(
                allowed(name).contains(&other.as_str()),
                "{name} must not depend on {other}"
            );
        }
    }
}

#[test]
fn domain_is_pure() {
    let dependencies = dependencies();
    let unknown: Vec<_> = dependencies["ottla-domain"]
        .iter()
        .filter(|name| !DOMAIN.contains(&name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "domain must not depend on {unknown:?}");
}
