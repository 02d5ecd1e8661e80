//! What the disk is guaranteed to hold.
//!
//! `nodes/KEY` is a file with the content that was synced, or a folder with a symbolic link for each name that was synced
//! in it, whose target is the key of the file or folder. `root` links to the key of the root. A key is the number of an
//! inode and the time when it was made, because numbers are used again. `syncs` lists the paths of all syncs.

use std::collections::HashSet;
use std::ffi::c_int;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

const CHUNK_BYTES: usize = 64 * 1024;

pub(crate) struct Shadow {
    folder: PathBuf,
    /// One sync at a time: an older content must not replace a newer one.
    log: Mutex<File>,
}

impl Shadow {
    /// Takes up a shadow, or makes one of all that is under the root.
    pub(crate) fn open(folder: PathBuf, root: &Path) -> io::Result<Shadow> {
        let shadow = |folder: PathBuf| {
            let log = File::options().create(true).append(true).open(folder.join("syncs"))?;
            Ok(Shadow {
                folder,
                log: Mutex::new(log),
            })
        };
        if folder.exists() {
            return shadow(folder);
        }
        let making = folder.with_extension("making");
        fs::create_dir_all(making.join("nodes"))?;
        let begun = shadow(making.clone())?;
        begun.add_all(root)?;
        symlink(key(&fs::metadata(root)?), making.join("root"))?;
        fs::rename(&making, &folder)?;
        shadow(folder)
    }

    fn node(&self, key: &str) -> PathBuf {
        self.folder.join("nodes").join(key)
    }

    fn add_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            self.mirror(path, &self.node(&key(&fs::metadata(path)?)))?;
            for entry in fs::read_dir(path)? {
                self.add_all(&entry?.path())?;
            }
            return Ok(());
        }
        let file = File::open(path)?;
        copy(&file, &self.node(&key(&file.metadata()?)))
    }

    /// An fsync of an open file or folder at `path`.
    pub(crate) fn sync(&self, fd: c_int, path: &Path) -> io::Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // Opened anew, because it may be open for writing alone; by number, because it may be removed.
        let file = File::open(format!("/proc/self/fd/{fd}"))?;
        let metadata = file.metadata()?;
        let node = self.node(&key(&metadata));
        match metadata.is_dir() {
            true => self.mirror(path, &node)?,
            false => copy(&file, &node)?,
        }
        writeln!(log, "{}", path.display())
    }

    /// Makes a folder's names those of a real one. New ones come before old ones go, so that a rename shows one of both
    /// whenever the process dies.
    fn mirror(&self, path: &Path, node: &Path) -> io::Result<()> {
        fs::create_dir_all(node)?;
        let mut names = HashSet::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // It may be gone meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            let key = key(&metadata);
            let child = self.node(&key);
            if metadata.is_dir() {
                fs::create_dir_all(&child)?;
            } else if !child.exists() {
                File::create(&child)?;
            }
            let link = node.join(entry.file_name());
            if fs::read_link(&link).map_or(true, |target| target != Path::new(&key)) {
                let new = self.folder.join("link");
                symlink(&key, &new)?;
                fs::rename(&new, &link)?;
            }
            names.insert(entry.file_name());
        }
        for entry in fs::read_dir(node)? {
            let entry = entry?;
            if !names.contains(&entry.file_name()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn key(metadata: &Metadata) -> String {
    let made = metadata
        .created()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{}-{}", metadata.ino(), made.unwrap_or_default().as_nanos())
}

/// Makes the file at `to` like `from`, whose begin is mostly there already.
fn copy(from: &File, to: &Path) -> io::Result<()> {
    let to = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(to)?;
    let (mut ours, mut theirs) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut position = 0;
    loop {
        let read = from.read_at(&mut ours, position)?;
        let new = ours.get(..read).unwrap_or_default();
        if read == 0 {
            return to.set_len(position);
        }
        let known = to.read_at(&mut theirs, position)?;
        if theirs.get(..known) != Some(new) {
            to.write_all_at(new, position)?;
        }
        position += read as u64;
    }
}
