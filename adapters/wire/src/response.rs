//! What goes out on a connection: bytes, and regions of files between them.

use bytes::Bytes;

/// One frame, its length prefix included.
#[derive(Debug)]
pub(crate) struct Response<R> {
    pub(crate) parts: Vec<Part<R>>,
}

/// A piece of a frame.
#[derive(Debug)]
pub(crate) enum Part<R> {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file.
    File { region: R, position: u64, size_bytes: u64 },
}

impl<R> Response<R> {
    /// What the response holds in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let sizes = self.parts.iter().map(|part| match part {
            Part::Bytes(bytes) => bytes.len(),
            Part::File { .. } => 0,
        });
        sizes.sum::<usize>() + self.parts.len() * size_of::<Part<R>>()
    }
}

impl<R> From<Bytes> for Response<R> {
    fn from(frame: Bytes) -> Self {
        Response {
            parts: vec![Part::Bytes(frame)],
        }
    }
}
