//! Files that left their log and wait for `file.delete.delay.ms`, so that reads that began before may end.

use std::fs;
use std::io;
use std::path::PathBuf;

use ottla_domain::ids::{Mono, PartitionId};
use parking_lot::Mutex;
use uuid::Uuid;

const NAME_MAX_BYTES: usize = 255;

/// `.deleted` files and `-delete` folders of one log directory.
#[derive(Debug, Default)]
pub(crate) struct Trash(Mutex<Vec<Item>>);

#[derive(Debug)]
struct Item {
    path: PathBuf,
    delay_ms: i64,
    /// Set by the first purge that sees it.
    due: Option<Mono>,
}

impl Trash {
    /// Puts a file or folder in, which is removed this long after the next purge.
    pub(crate) fn add(&self, path: PathBuf, delay_ms: i64) {
        self.0.lock().push(Item {
            path,
            delay_ms,
            due: None,
        });
    }

    /// Removes what is due.
    pub(crate) fn purge(&self, now: Mono) {
        let due = {
            let mut items = self.0.lock();
            let is_due = |item: &mut Item| *item.due.get_or_insert(now.plus_ms(item.delay_ms)) <= now;
            items.extract_if(.., is_due).collect::<Vec<_>>()
        };
        for item in due {
            let removed = match fs::symlink_metadata(&item.path) {
                Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&item.path),
                Ok(_) => fs::remove_file(&item.path),
                Err(error) => Err(error),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // It takes up space and does nothing else; the next start tries again.
                    tracing::warn!(path = %item.path.display(), %error, "cannot remove a deleted file");
                }
                _ => {}
            }
        }
    }
}

/// Why a folder is no longer a log's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Departure {
    /// It waits to be removed.
    Delete,
    /// The cluster's metadata does not place it here; it is kept for people to look at.
    Stray,
}

/// The name that such a folder gets: `topic-partition.uniqueid-delete`, the topic cut to fit into a file name.
pub(crate) fn folder_name(topic: &str, partition: PartitionId, unique: Uuid, departure: Departure) -> String {
    let kind = match departure {
        Departure::Delete => "delete",
        Departure::Stray => "stray",
    };
    let suffix = format!("-{partition}.{}-{kind}", unique.simple());
    let mut kept = topic.len().min(NAME_MAX_BYTES - suffix.len());
    while !topic.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}{suffix}", topic.get(..kept).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_are_kafkas() {
        let unique = Uuid::from_u128(0xabc);
        assert_eq!(
            folder_name("orders", PartitionId(12), unique, Departure::Delete),
            "orders-12.00000000000000000000000000000abc-delete"
        );
        assert_eq!(
            folder_name("orders", PartitionId(12), unique, Departure::Stray),
            "orders-12.00000000000000000000000000000abc-stray"
        );
        let long = folder_name(&"t".repeat(249), PartitionId(0), unique, Departure::Delete);
        assert_eq!(long.len(), 255);
        assert!(long.ends_with("t-0.00000000000000000000000000000abc-delete"));
    }

    #[test]
    fn files_go_after_their_delay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000000000000000000.log.deleted");
        fs::write(&path, "x").unwrap();
        let trash = Trash::default();
        trash.add(path.clone(), 1000);
        trash.purge(Mono(0));
        trash.purge(Mono(0).plus_ms(999));
        assert!(path.exists());
        trash.purge(Mono(0).plus_ms(1000));
        assert!(!path.exists());
        trash.purge(Mono(0).plus_ms(5000));
    }
}
