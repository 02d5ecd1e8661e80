//! Log directories, their indexes, and the disk.

use std::sync::Arc;

use ottla_domain::ports::outbound::DirectoryFacts;
use ottla_observability::metrics::Exposition;
use ottla_storage::IndexFacts;

use super::gauge;

/// Writes what is known of log directories.
pub(super) fn directories(out: &mut Exposition, all: &[DirectoryFacts]) {
    let offline = all.iter().filter(|directory| directory.offline.is_some()).count();
    gauge(
        out,
        "kafka_log_logmanager_offlinelogdirectorycount",
        "Log directories that failed.",
    )
    .sample(&[], offline as f64);
    type Value = fn(&DirectoryFacts) -> f64;
    let of_each: [(&str, &str, &str, Value); 3] = [
        (
            "kafka_log_logmanager_logdirectoryoffline",
            "logdirectory",
            "1 when the log directory failed.",
            |directory| f64::from(u8::from(directory.offline.is_some())),
        ),
        (
            "ottla_storage_directory_total_bytes",
            "directory",
            "The size of a log directory's file system.",
            |directory| directory.total_bytes as f64,
        ),
        (
            "ottla_storage_directory_usable_bytes",
            "directory",
            "What is left of a log directory's file system.",
            |directory| directory.usable_bytes as f64,
        ),
    ];
    for (name, label, help, value) in of_each {
        let mut samples = gauge(out, name, help);
        for directory in all {
            samples.sample(&[(label, &directory.path)], value(directory));
        }
    }
}

/// Writes the state of the index of each directory.
pub(super) fn indexes(out: &mut Exposition, all: &[(Arc<str>, IndexFacts)]) {
    type Value = fn(&IndexFacts) -> u64;
    let of_each: [(&str, &str, Value); 6] = [
        ("memtable_bytes", "Index entries that are not in files yet.", |index| {
            index.memtable_bytes
        }),
        ("block_cache_bytes", "What is cached of the index's files.", |index| {
            index.block_cache_bytes
        }),
        ("file_bytes", "The size of the index's files.", |index| index.file_bytes),
        ("running_compactions", "Compactions of the index that run.", |index| {
            index.running_compactions
        }),
        ("running_flushes", "Flushes of index entries that run.", |index| {
            index.running_flushes
        }),
        ("stalled", "1 while index entries wait for RocksDB.", |index| {
            u64::from(index.is_stalled)
        }),
    ];
    for (name, help, value) in of_each {
        let name = format!("ottla_log_index_{name}");
        let mut samples = gauge(out, &name, help);
        for (directory, index) in all {
            samples.sample(&[("directory", directory)], value(index) as f64);
        }
    }
}

/// Writes what this process read from disks and wrote to them, as Linux counts it: the page cache is no disk.
pub(super) fn disk(out: &mut Exposition) {
    let Ok(text) = std::fs::read_to_string("/proc/self/io") else {
        return;
    };
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    for (line, name, help) in [
        ("read_bytes:", "read", "Bytes that were read from disks."),
        ("write_bytes:", "write", "Bytes that were written to disks."),
    ] {
        if let Some(bytes) = value(line) {
            gauge(out, &format!("kafka_server_kafkaserver_linux_disk_{name}_bytes"), help).sample(&[], bytes);
        }
    }
}
