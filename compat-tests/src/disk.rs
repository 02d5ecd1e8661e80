//! The disk under a node, which tests cut off, break and stall: the harness's side of compat-tests/disk.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use crate::node::Node;

/// Makes a folder, or what stands in its place, a copy of another, which must be there.
pub fn copy_folder(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp").success(), "cannot copy {from:?}");
}

/// What is left after a power failure. All of these are what a disk may do; none gives what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Names and content as they were synced last.
    Synced,
    /// Content as it was synced last, under all names that were there: the file system wrote its journal in time.
    Names,
    /// Names and lengths that were there; zeros where content was not synced.
    Zeros,
}

impl Left {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Synced, Self::Names, Self::Zeros];
}

/// The layer under one node.
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Puts the layer under a node that does not run yet.
    pub fn under(node: &mut Node) -> Self {
        let layer = std::env::var("OTTLA_DISK_LAYER")
            .expect("OTTLA_DISK_LAYER names the library that ottla-compat-disk builds: run ./dev test");
        let disk = Self {
            folder: tempfile::Builder::new()
                .prefix("ottla-disk.")
                .tempdir()
                .expect("temporary directory"),
        };
        node.within = vec![
            "env".into(),
            format!("LD_PRELOAD={layer}"),
            format!("OTTLA_DISK_ROOT={}", node.dir().display()),
            format!("OTTLA_DISK_SHADOW={}", disk.shadow().display()),
            format!("OTTLA_DISK_RULES={}", disk.rules().display()),
        ];
        disk
    }

    fn shadow(&self) -> PathBuf {
        self.folder.path().join("shadow")
    }

    fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    /// Everything that is there is on the disk: to be called before each start of the node.
    pub fn settle(&self) {
        let _ = fs::remove_dir_all(self.shadow());
    }

    /// From now on these rules hold and no others; compat-tests/disk/src/rules.rs says what they mean.
    pub fn rule(&self, rules: &[String]) {
        let new = self.folder.path().join("rules.new");
        fs::write(&new, rules.join("\n")).expect("rules");
        fs::rename(new, self.rules()).expect("rules");
    }

    /// The paths of all syncs since [`Disk::settle`].
    pub fn syncs(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.shadow().join("syncs")).expect("the layer was loaded");
        text.lines().map(PathBuf::from).collect()
    }

    /// Puts what the disk holds in the place of a log directory of a node that was killed; what was there goes to the
    /// returned path.
    pub fn cut(&self, dir: &Path, left: Left) -> PathBuf {
        let before = dir.with_extension("before");
        let _ = fs::remove_dir_all(&before);
        fs::rename(dir, &before).expect("log directory");
        match left {
            Left::Synced => self.restore_names(&self.node(&before), dir),
            Left::Names | Left::Zeros => self.restore_content(&before, dir, left),
        }
        before
    }

    fn node(&self, real: &Path) -> PathBuf {
        let metadata = fs::symlink_metadata(real).expect("metadata");
        let made = metadata
            .created()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let key = format!("{}-{}", metadata.ino(), made.unwrap_or_default().as_nanos());
        self.shadow().join("nodes").join(key)
    }

    fn restore_names(&self, node: &Path, to: &Path) {
        if !node.is_dir() {
            fs::copy(node, to).expect("copy");
            return;
        }
        fs::create_dir(to).expect("folder");
        for link in fs::read_dir(node).expect("folder").flatten() {
            let target = fs::read_link(link.path()).expect("link");
            let child = self.shadow().join("nodes").join(target);
            self.restore_names(&child, &to.join(link.file_name()));
        }
    }

    fn restore_content(&self, real: &Path, to: &Path, left: Left) {
        if real.is_dir() {
            fs::create_dir(to).expect("folder");
            for entry in fs::read_dir(real).expect("folder").flatten() {
                self.restore_content(&entry.path(), &to.join(entry.file_name()), left);
            }
            return;
        }
        let content = fs::read(self.node(real)).unwrap_or_default();
        fs::write(to, &content).expect("file");
        let length = fs::metadata(real).expect("metadata").len();
        if left == Left::Zeros && length > content.len() as u64 {
            let file = fs::File::options().write(true).open(to).expect("file");
            file.set_len(length).expect("length");
        }
    }
}
