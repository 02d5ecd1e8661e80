//! `.kafka_cleanshutdown`: written last on a clean stop, so that its presence proves that everything else was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ottla_domain::ids::BrokerEpoch;
use serde::{Deserialize, Serialize};

use crate::atomic_file;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    version: i32,
    broker_epoch: i64,
}

fn path(directory: &Path) -> PathBuf {
    directory.join(".kafka_cleanshutdown")
}

/// Writes the marker durably.
pub(crate) fn write(directory: &Path, broker_epoch: BrokerEpoch) -> io::Result<()> {
    let content = Content {
        version: 0,
        broker_epoch: broker_epoch.0,
    };
    atomic_file::write(&path(directory), serde_json::to_string(&content)?.as_bytes())
}

/// Removes the marker durably and returns the broker epoch it carried; `None` when the last stop was not clean. A marker
/// whose content cannot be read still proves the clean stop, but not the epoch (KIP-966).
pub(crate) fn take(directory: &Path) -> io::Result<Option<BrokerEpoch>> {
    let path = path(directory);
    let Some(text) = atomic_file::read(&path)? else {
        return Ok(None);
    };
    fs::remove_file(&path)?;
    atomic_file::sync_folder(directory)?;
    let epoch = serde_json::from_str(&text).map_or(BrokerEpoch::UNKNOWN, |content: Content| {
        BrokerEpoch(content.broker_epoch)
    });
    Ok(Some(epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_kafkas_json_and_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), BrokerEpoch(42)).unwrap();
        let text = fs::read_to_string(folder.path().join(".kafka_cleanshutdown")).unwrap();
        assert_eq!(text, r#"{"version":0,"brokerEpoch":42}"#);
        assert_eq!(take(folder.path()).unwrap(), Some(BrokerEpoch(42)));
        assert_eq!(take(folder.path()).unwrap(), None);
        fs::write(folder.path().join(".kafka_cleanshutdown"), "").unwrap();
        assert_eq!(take(folder.path()).unwrap(), Some(BrokerEpoch::UNKNOWN));
    }
}
