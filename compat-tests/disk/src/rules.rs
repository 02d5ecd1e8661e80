//! What happens to which calls: lines of `ACTION OPERATION TEXT`, where the path has the text in it.
//!
//! An action is `stall`, which holds the call until the line is gone, or an error number. An operation is `read`, `write`,
//! `sync`, `name` or `any`.

use std::ffi::c_int;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::Operation;

/// How soon a call that stalls looks whether it may go on.
const STALL_STEP: Duration = Duration::from_millis(5);

pub(crate) struct Rules(PathBuf);

enum Action {
    Stall,
    Fail(c_int),
}

impl Rules {
    pub(crate) fn new(file: PathBuf) -> Rules {
        Rules(file)
    }

    /// Waits while a rule says so, and fails with the error number of the first that names one.
    pub(crate) fn obey(&self, operation: Operation, path: &Path) -> Result<(), c_int> {
        loop {
            match self.find(operation, path) {
                None => return Ok(()),
                Some(Action::Fail(error)) => return Err(error),
                Some(Action::Stall) => sleep(STALL_STEP),
            }
        }
    }

    /// The file is read each time: whoever changed it wants to be obeyed at once.
    fn find(&self, operation: Operation, path: &Path) -> Option<Action> {
        let path = path.to_string_lossy();
        let text = fs::read_to_string(&self.0).ok()?;
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (action, kind, part) = (words.next()?, words.next()?, words.next()?);
            let is_meant = kind == "any" || kind == name(operation);
            (is_meant && path.contains(part)).then(|| action.parse().map_or(Action::Stall, Action::Fail))
        })
    }
}

fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
        Operation::Sync => "sync",
        Operation::Name => "name",
    }
}
