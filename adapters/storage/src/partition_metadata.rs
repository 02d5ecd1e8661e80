//! `partition.metadata`: the id of the topic that a replica's folder belongs to (KIP-516).

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use ottla_domain::ids::TopicId;

use crate::atomic_file;

const FILE: &str = "partition.metadata";

/// Writes the topic id into a new folder.
pub(crate) fn write(folder: &Path, topic_id: TopicId) -> io::Result<()> {
    let mut file = File::create_new(folder.join(FILE))?;
    write!(file, "version: 0\ntopic_id: {topic_id}")
}

/// Makes what was written durable, where there is such a file; its name is once the folder is synced.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    match File::open(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened?.sync_all(),
    }
}

/// The topic id of a folder; `None` when there is no file, or a power failure left nothing in it.
pub(crate) fn read(folder: &Path) -> io::Result<Option<TopicId>> {
    let text = atomic_file::read(&folder.join(FILE))?.unwrap_or_default();
    if text.bytes().all(|byte| byte == 0) {
        return Ok(None);
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} is malformed"));
    parse(&text).map(Some).ok_or_else(malformed)
}

fn parse(text: &str) -> Option<TopicId> {
    let mut lines = text.lines();
    lines.next()?.strip_prefix("version: 0")?;
    lines.next()?.strip_prefix("topic_id: ")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_kafkas() {
        let folder = tempfile::tempdir().unwrap();
        let topic_id: TopicId = "MkU3OEVBNTcwNTJENDM2Qg".parse().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        write(folder.path(), topic_id).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text, "version: 0\ntopic_id: MkU3OEVBNTcwNTJENDM2Qg");
        assert_eq!(read(folder.path()).unwrap(), Some(topic_id));
        assert_eq!(parse("version: 1\ntopic_id: x"), None);
        for (text, is_readable) in [("", true), ("\0\0\0", true), ("version: 0\ntopic_ix: y", false)] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(
                read(folder.path()).is_ok_and(|topic_id| topic_id.is_none()),
                is_readable,
                "{text:?}"
            );
        }
    }
}
