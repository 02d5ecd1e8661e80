//! Stands between the binary under test and its disk (`LD_PRELOAD`), so that tests can do to it what happens to disks.
//!
//! `OTTLA_DISK_ROOT` names the directory whose files are meant. With `OTTLA_DISK_SHADOW`, a directory that is made here
//! holds what the disk is guaranteed to hold: file content as of the last fsync of the file, names as of the last fsync of
//! their folder. After a kill the tests put that in the place of what the page cache held: a power failure. With
//! `OTTLA_DISK_RULES`, a file says which calls fail or stall; it may change at any time.
//!
//! Calls that no test needs pass by unseen. Those that are seen must be made through libc.
#![allow(unsafe_code)]

mod calls;
mod rules;
mod shadow;

use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rules::Rules;
use shadow::Shadow;

static LAYER: LazyLock<Option<Layer>> = LazyLock::new(Layer::from_environment);

thread_local! {
    /// This thread is at work here: its own calls pass.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Layer {
    root: PathBuf,
    shadow: Option<Shadow>,
    rules: Option<Rules>,
}

/// The kinds of calls that rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Read,
    Write,
    Sync,
    /// Opens, makes, renames or removes.
    Name,
}

impl Layer {
    fn from_environment() -> Option<Layer> {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        let root = path("OTTLA_DISK_ROOT")?;
        Some(Layer {
            shadow: path("OTTLA_DISK_SHADOW").and_then(|folder| Shadow::open(folder, &root).ok()),
            rules: path("OTTLA_DISK_RULES").map(Rules::new),
            root,
        })
    }

    /// Stalls or fails as the rules say; an error number where the call fails.
    fn obey(&self, operation: Operation, path: &Path) -> Result<(), c_int> {
        match &self.rules {
            Some(rules) if path.starts_with(&self.root) => rules.obey(operation, path),
            _ => Ok(()),
        }
    }
}

/// Runs `work` unless this thread is inside already or there is nothing to do.
fn inside<T>(work: impl FnOnce(&Layer) -> T) -> Option<T> {
    if IS_INSIDE.replace(true) {
        return None;
    }
    let done = LAYER.as_ref().map(work);
    IS_INSIDE.set(false);
    done
}

/// What the rules say of a call on an open file.
fn obey_file(operation: Operation, fd: c_int) -> Result<(), c_int> {
    inside(|layer| match layer.rules.is_some().then(|| path_of(fd)).flatten() {
        Some(path) => layer.obey(operation, &path),
        None => Ok(()),
    })
    .unwrap_or(Ok(()))
}

/// What the rules say of a call on a path.
///
/// # Safety
/// `path` is null or a C string.
unsafe fn obey_path(path: *const c_char) -> Result<(), c_int> {
    if path.is_null() {
        return Ok(());
    }
    // SAFETY: by this function's contract.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    inside(|layer| layer.obey(Operation::Name, path)).unwrap_or(Ok(()))
}

/// True when the sync was taken note of, and need not reach the disk.
fn sync(fd: c_int) -> bool {
    let noted = inside(|layer| {
        let shadow = layer.shadow.as_ref()?;
        let path = path_of(fd).filter(|path| path.starts_with(&layer.root))?;
        shadow.sync(fd, &path).ok()
    });
    noted.flatten().is_some()
}

/// Where an open file is, or was before it was removed.
fn path_of(fd: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

/// The shadow begins as what the disk holds before the program does anything.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = {
    extern "C" fn begin() {
        inside(|_| ());
    }
    begin
};
