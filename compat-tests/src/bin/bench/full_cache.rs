//! Fills the page cache, as it is on any machine that has been up for a while.
//!
//! On a virtual machine, memory that was not used yet, or was free for some seconds, costs a fault in the hypervisor when it
//! is used again: several times as much as the copy into it. With free memory, that is most of what a broker's writes
//! take, and hides the broker.
use std::fs::File;
use std::io::{Read, Seek};

use ottla_compat_tests::usage::available_bytes;

/// What is left to brokers and clients.
const LEFT_BYTES: u64 = 2 << 30;

/// A file without blocks, of which reading fills the page cache.
pub struct FullCache(File);

impl FullCache {
    /// As large as the memory that is available now.
    pub fn new() -> Self {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(available_bytes().saturating_sub(LEFT_BYTES))
            .expect("size");
        Self(file)
    }

    /// Reads what is not there any more.
    pub fn fill(&mut self) {
        let mut chunk = vec![0; 1 << 20];
        self.0.rewind().expect("rewind");
        while self.0.read(&mut chunk).expect("read") > 0 {}
    }
}
