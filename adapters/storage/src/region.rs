//! Access to a segment's file for those who send it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A segment's file, open for as long as anyone holds this, also after the segment was deleted.
#[derive(Clone, Debug)]
pub struct Region(Arc<File>);

impl Region {
    pub(crate) fn new(file: File) -> Region {
        Region(Arc::new(file))
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
