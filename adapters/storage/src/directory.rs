//! One log directory, locked by this process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_domain::ids::{BrokerEpoch, DirectoryId, Offset, PartitionId};
use ottla_domain::ports::outbound::StorageError;
use parking_lot::{Mutex, RwLock};

use crate::checkpoint::{self, Offsets};
use crate::clean_shutdown;
use crate::deletion::Trash;
use crate::flush::Flusher;
use crate::health::{Health, OrFail};
use crate::index::Index;
use crate::lock::DirectoryLock;

/// What all logs of one directory share.
pub(crate) struct Directory {
    pub(crate) id: DirectoryId,
    pub(crate) path: PathBuf,
    pub(crate) health: Arc<Health>,
    pub(crate) index: Index,
    pub(crate) flusher: Flusher,
    pub(crate) trash: Trash,
    /// The broker epoch of the last clean stop; `None` when the last stop was not clean.
    pub(crate) stopped_cleanly: Option<BrokerEpoch>,
    /// Held for writing while the recovery points of all logs are written, for reading while one is lowered.
    pub(crate) cutting: RwLock<()>,
    recovery_points: CheckpointFile,
    high_watermarks: CheckpointFile,
    log_starts: CheckpointFile,
    cleaned: CheckpointFile,
    _lock: DirectoryLock,
}

impl Directory {
    /// Takes over a directory that is locked. From here on its last stop counts as not clean, until the next clean one.
    pub(crate) fn open(
        path: &Path,
        id: DirectoryId,
        health: Arc<Health>,
        lock: DirectoryLock,
    ) -> Result<Directory, StorageError> {
        let stopped_cleanly = clean_shutdown::take(path).or_fail(&health, "removing the clean shutdown marker")?;
        let checkpoint = |file| CheckpointFile::open(path, file).or_fail(&health, format_args!("reading {file}"));
        Ok(Directory {
            id,
            path: path.to_owned(),
            recovery_points: checkpoint(checkpoint::RECOVERY_POINT)?,
            high_watermarks: checkpoint(checkpoint::REPLICATION)?,
            log_starts: checkpoint(checkpoint::LOG_START)?,
            cleaned: checkpoint(checkpoint::CLEANED)?,
            index: Index::open(path, Arc::clone(&health))?,
            flusher: Flusher::start(&health),
            trash: Trash::default(),
            cutting: RwLock::new(()),
            stopped_cleanly,
            health,
            _lock: lock,
        })
    }

    /// What Kafka's checkpoint files say of a log.
    pub(crate) fn checkpointed(&self, topic: &str, partition: PartitionId) -> Checkpointed {
        Checkpointed {
            recovery_point: self.recovery_points.get(topic, partition),
            high_watermark: self.high_watermarks.get(topic, partition),
            log_start: self.log_starts.get(topic, partition),
            cleaned: self.cleaned.get(topic, partition),
        }
    }

    /// Sets the log start offset of a log in Kafka's checkpoint file; `None` when its first segment's name says it.
    pub(crate) fn checkpoint_log_start(
        &self,
        topic: &str,
        partition: PartitionId,
        log_start: Option<Offset>,
    ) -> Result<(), StorageError> {
        let written = self.log_starts.set(&self.path, topic, partition, log_start);
        written.or_fail(&self.health, "writing the log start checkpoint")
    }

    /// Sets in Kafka's checkpoint file up to where a log was cleaned.
    pub(crate) fn checkpoint_cleaned(
        &self,
        topic: &str,
        partition: PartitionId,
        cleaned: Offset,
    ) -> Result<(), StorageError> {
        let written = self.cleaned.set(&self.path, topic, partition, Some(cleaned));
        written.or_fail(&self.health, "writing the cleaner checkpoint")
    }

    /// Lowers the recovery point of a log in Kafka's checkpoint file, before the log is cut.
    pub(crate) fn lower_recovery_point(
        &self,
        topic: &str,
        partition: PartitionId,
        recovery_point: Offset,
    ) -> Result<(), StorageError> {
        if self
            .recovery_points
            .get(topic, partition)
            .is_none_or(|known| known <= recovery_point)
        {
            return Ok(());
        }
        let written = self
            .recovery_points
            .set(&self.path, topic, partition, Some(recovery_point));
        written.or_fail(&self.health, "writing the recovery point checkpoint")
    }

    /// Forgets logs that were deleted, so that those made under their names later do not inherit from them.
    pub(crate) fn forget_checkpoints(&self, logs: &[(String, PartitionId)]) -> Result<(), StorageError> {
        for file in [
            &self.recovery_points,
            &self.high_watermarks,
            &self.log_starts,
            &self.cleaned,
        ] {
            let written = file.forget(&self.path, logs);
            written.or_fail(&self.health, format_args!("writing {}", file.name))?;
        }
        Ok(())
    }

    /// Writes recovery points and high watermarks of all logs of this directory.
    pub(crate) fn write_checkpoints(
        &self,
        logs: impl Iterator<Item = ((String, PartitionId), Offset, Offset)>,
    ) -> Result<(), StorageError> {
        let (mut recovery_points, mut high_watermarks) = (Offsets::new(), Offsets::new());
        for (name, recovery_point, high_watermark) in logs {
            recovery_points.insert(name.clone(), recovery_point);
            high_watermarks.insert(name, high_watermark);
        }
        for (file, offsets) in [
            (&self.recovery_points, recovery_points),
            (&self.high_watermarks, high_watermarks),
        ] {
            let written = file.replace(&self.path, offsets);
            written.or_fail(&self.health, format_args!("writing {}", file.name))?;
        }
        Ok(())
    }
}

/// What Kafka's checkpoint files say of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpointed {
    pub(crate) recovery_point: Option<Offset>,
    pub(crate) high_watermark: Option<Offset>,
    pub(crate) log_start: Option<Offset>,
    pub(crate) cleaned: Option<Offset>,
}

/// A checkpoint file and its content.
struct CheckpointFile {
    name: &'static str,
    offsets: Mutex<Offsets>,
}

impl CheckpointFile {
    fn open(directory: &Path, name: &'static str) -> io::Result<CheckpointFile> {
        Ok(CheckpointFile {
            name,
            offsets: Mutex::new(checkpoint::read(directory, name)?),
        })
    }

    fn get(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        self.offsets.lock().get(&(topic.to_owned(), partition)).copied()
    }

    /// Sets or removes one offset, and writes the file when that changed it.
    fn set(&self, directory: &Path, topic: &str, partition: PartitionId, offset: Option<Offset>) -> io::Result<()> {
        let mut offsets = self.offsets.lock();
        let key = (topic.to_owned(), partition);
        let before = match offset {
            Some(offset) => offsets.insert(key, offset),
            None => offsets.remove(&key),
        };
        if before == offset {
            return Ok(());
        }
        checkpoint::write(directory, self.name, &offsets)
    }

    /// Removes the offsets of some logs, and writes the file when there were any.
    fn forget(&self, directory: &Path, logs: &[(String, PartitionId)]) -> io::Result<()> {
        let mut offsets = self.offsets.lock();
        let before = offsets.len();
        for log in logs {
            offsets.remove(log);
        }
        if offsets.len() == before {
            return Ok(());
        }
        checkpoint::write(directory, self.name, &offsets)
    }

    /// Writes the file, also when nothing changed: this is how a directory without traffic is found to have failed, as
    /// in Kafka.
    fn replace(&self, directory: &Path, offsets: Offsets) -> io::Result<()> {
        let mut current = self.offsets.lock();
        *current = offsets;
        checkpoint::write(directory, self.name, &current)
    }
}
