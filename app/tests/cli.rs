//! What the binary answers on the command line: exit codes, and one line for whoever made a mistake.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary under test: `./dev test` names a copy that no other build replaces.
fn binary() -> PathBuf {
    std::env::var_os("OTTLA_BIN").map_or(env!("CARGO_BIN_EXE_ottla").into(), PathBuf::from)
}

fn ottla(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.current_dir(directory).args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KAFKA_") {
            command.env_remove(name);
        }
    }
    command.output().unwrap()
}

fn refusal(directory: &Path, args: &[&str], code: i32) -> String {
    let output = ottla(directory, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
    assert!(error.starts_with("ottla: "), "{error}");
    error
}

fn success(directory: &Path, args: &[&str]) -> String {
    let output = ottla(directory, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn write_config(directory: &Path, more: &str) {
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
         controller.listener.names=CONTROLLER\ncontroller.quorum.bootstrap.servers=127.0.0.1:9093\n\
         log.dirs={}\nottla.http.listener=\n{more}",
        directory.join("data").display()
    );
    std::fs::write(directory.join("server.properties"), text).unwrap();
}

#[test]
fn version_and_help_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let version = success(directory.path(), &["--version"]);
    assert_eq!(version.trim(), format!("ottla {}", env!("CARGO_PKG_VERSION")));
    let help = success(directory.path(), &["--help"]);
    for word in ["server.properties", "--override", "format", "random-uuid", "config"] {
        assert!(help.contains(word), "{help}");
    }
}

#[test]
fn random_ids_are_kafkas() {
    let directory = tempfile::tempdir().unwrap();
    let id = success(directory.path(), &["random-uuid"]);
    assert_eq!(id.trim().len(), 22);
    assert_ne!(id, success(directory.path(), &["random-uuid"]));
}

#[test]
fn a_bad_configuration_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    write_config(directory.path(), "num.partitions=0\n");
    let error = refusal(directory.path(), &["server.properties"], 2);
    assert!(
        error.contains("Invalid value 0 for configuration num.partitions: Value must be at least 1"),
        "{error}"
    );
    let fixed = [
        "server.properties",
        "--override",
        "num.partitions=1",
        "--override",
        "listeners=SSL://:9092",
    ];
    let error = refusal(directory.path(), &fixed, 2);
    assert!(error.contains("SSL, which Ottla does not support yet"), "{error}");
    let error = refusal(directory.path(), &["no-such.properties"], 2);
    assert!(error.contains("cannot read no-such.properties"), "{error}");
    assert_eq!(ottla(directory.path(), &["--no-such-option"]).status.code(), Some(2));
}

#[test]
fn environment_variables_are_settings() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command
        .current_dir(directory.path())
        .env("KAFKA_LOG_RETENTION_HOURS", "never");
    let output = command.args(["config", "--explain"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("Invalid value never for configuration log.retention.hours"),
        "{error}"
    );
}

#[test]
fn settings_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    write_config(directory.path(), "log.retention.hours=72\n");
    let text = success(directory.path(), &["config", "--explain", "server.properties"]);
    let line = text
        .lines()
        .find(|line| line.starts_with("log.retention.hours "))
        .unwrap();
    assert!(
        line.contains("server.properties") && line.ends_with("72 (default 168)"),
        "{line}"
    );
}

#[test]
fn a_directory_is_formatted_once() {
    let directory = tempfile::tempdir().unwrap();
    write_config(directory.path(), "");
    let error = refusal(directory.path(), &["server.properties"], 1);
    assert!(
        error.contains("No `meta.properties` found in") && error.contains("ottla format"),
        "{error}"
    );

    let format = ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties"];
    let error = refusal(directory.path(), &format, 1);
    assert!(error.contains("--standalone"), "{error}");
    let format = [format.as_slice(), &["--standalone"]].concat();
    let formatted = success(directory.path(), &format);
    assert!(
        formatted.starts_with("Formatting dynamic metadata voter directory "),
        "{formatted}"
    );
    assert!(directory.path().join("data/meta.properties").exists());
    let error = refusal(directory.path(), &format, 1);
    assert!(error.contains("is already formatted"), "{error}");
    let again = success(directory.path(), &[format.as_slice(), &["--ignore-formatted"]].concat());
    assert_eq!(again.trim(), "All of the log directories are already formatted.");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("data"), "").unwrap();
    let data = format!("log.dirs={}", directory.path().join("data").display());
    let listeners = "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0";
    let args = [
        "--override",
        &data,
        "--override",
        listeners,
        "--override",
        "ottla.http.listener=",
    ];
    let error = refusal(directory.path(), &args, 1);
    assert!(
        error.contains("cannot use log directory") && error.contains("/data"),
        "{error}"
    );
}
