//! Kafka's checkpoint files: text in each log directory, one offset a partition. They let Kafka's tools and a rebuilt
//! index know what segments do not say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use ottla_domain::ids::{Offset, PartitionId};

use crate::atomic_file;

/// Up to where the log is flushed: recovery begins there.
pub(crate) const RECOVERY_POINT: &str = "recovery-point-offset-checkpoint";
/// The high watermark.
pub(crate) const REPLICATION: &str = "replication-offset-checkpoint";
/// The log start offset where it lies inside of the first segment: DeleteRecords.
pub(crate) const LOG_START: &str = "log-start-offset-checkpoint";

/// Up to where the log was cleaned (`LogCleanerManager`).
pub(crate) const CLEANED: &str = "cleaner-offset-checkpoint";

/// Offsets by topic and partition.
pub(crate) type Offsets = BTreeMap<(String, PartitionId), Offset>;

/// Writes a checkpoint file durably.
pub(crate) fn write(directory: &Path, file: &str, offsets: &Offsets) -> io::Result<()> {
    let mut text = format!("0\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    atomic_file::write(&directory.join(file), text.as_bytes())
}

/// Reads a checkpoint file; empty when there is none or when it is malformed, as nothing in it is needed for safety
/// but the log start, whose file is only ever replaced as a whole.
pub(crate) fn read(directory: &Path, file: &str) -> io::Result<Offsets> {
    let path = directory.join(file);
    let Some(text) = atomic_file::read(&path)? else {
        return Ok(Offsets::new());
    };
    Ok(parse(&text).unwrap_or_else(|| {
        tracing::warn!(path = %path.display(), "ignoring a malformed checkpoint file");
        Offsets::new()
    }))
}

fn parse(text: &str) -> Option<Offsets> {
    let mut lines = text.lines();
    let (Some(version), Some(count)) = (lines.next(), lines.next()) else {
        return Some(Offsets::new());
    };
    if version != "0" {
        return None;
    }
    let mut offsets = Offsets::new();
    let mut found = 0;
    for line in lines {
        let [topic, partition, offset] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return None;
        };
        let partition = PartitionId(partition.parse().ok()?);
        offsets.insert((topic.to_owned(), partition), Offset(offset.parse().ok()?));
        found += 1;
    }
    (count.parse() == Ok(found)).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_kafkas_text() {
        let folder = tempfile::tempdir().unwrap();
        let offsets = Offsets::from([
            (("a".to_owned(), PartitionId(1)), Offset(7)),
            (("b-c".to_owned(), PartitionId(0)), Offset(9)),
        ]);
        write(folder.path(), LOG_START, &offsets).unwrap();
        let text = std::fs::read_to_string(folder.path().join(LOG_START)).unwrap();
        assert_eq!(text, "0\n2\na 1 7\nb-c 0 9\n");
        assert_eq!(read(folder.path(), LOG_START).unwrap(), offsets);
        assert_eq!(read(folder.path(), REPLICATION).unwrap(), Offsets::new());
    }

    #[test]
    fn malformed_text_is_refused() {
        assert_eq!(parse(""), Some(Offsets::new()));
        assert_eq!(parse("0\n0\n"), Some(Offsets::new()));
        for text in [
            "1\n0\n",
            "0\n2\na 0 1\n",
            "0\n1\na 0\n",
            "0\n1\na x 1\n",
            "0\n1\na 0 1 2\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
