//! `.lock`: one process a log directory.

use std::fs::File;
use std::io;
use std::path::Path;

use ottla_domain::ports::outbound::StorageError;
use rustix::fs::{FlockOperation, flock};

/// Holds the lock of a log directory for as long as it lives.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Locks `.lock`; refused when another process has it.
    pub(crate) fn acquire(directory: &Path) -> io::Result<Result<DirectoryLock, StorageError>> {
        let path = directory.join(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Ok(DirectoryLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Err(StorageError::Refused(format!(
                "log directory {} is in use: another process holds {}; stop that process first",
                directory.display(),
                path.display()
            )))),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_the_directorys_name() {
        let folder = tempfile::tempdir().unwrap();
        let held = DirectoryLock::acquire(folder.path()).unwrap().unwrap();
        let refusal = DirectoryLock::acquire(folder.path()).unwrap().unwrap_err().to_string();
        assert!(refusal.contains(folder.path().to_str().unwrap()), "{refusal}");
        drop(held);
        DirectoryLock::acquire(folder.path()).unwrap().unwrap();
    }
}
