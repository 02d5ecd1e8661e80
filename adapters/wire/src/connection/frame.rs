//! Reads frames: a length of 32 bits, and as many bytes.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::net::TcpStream;

use crate::budget::{Account, Charge, FREE_BYTES, NoRoom};

/// Small frames are read together into a buffer of this size, which is free; larger ones get one of their own.
const CHUNK_BYTES: usize = FREE_BYTES;
/// The API key of Produce, the only request that may be large.
const PRODUCE: [u8; 2] = [0, 0];

/// How large frames may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// `socket.request.max.bytes`.
    pub(crate) produce_max_bytes: usize,
    /// `ottla.request.max.bytes`: of every request but Produce.
    pub(crate) request_max_bytes: usize,
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame announces {size} bytes, allowed are {max_bytes}")]
    Size { size: i32, max_bytes: usize },
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// A frame that came whole.
pub(crate) struct Frame {
    /// What follows its length.
    pub(crate) bytes: Bytes,
    /// The room that it takes.
    pub(crate) charge: Charge,
    /// When its last bytes came.
    pub(crate) received: Instant,
}

/// The receiving side of a connection.
pub(crate) struct FrameReader<'a> {
    stream: &'a TcpStream,
    account: &'a Arc<Account>,
    limits: FrameLimits,
    buffer: BytesMut,
    /// The size of the last frame that came whole. The next one may have as much memory ahead of its bytes.
    delivered_bytes: usize,
    /// When bytes came last.
    received: Instant,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(stream: &'a TcpStream, account: &'a Arc<Account>, limits: FrameLimits) -> Self {
        FrameReader {
            stream,
            account,
            limits,
            buffer: BytesMut::new(),
            delivered_bytes: 0,
            received: Instant::now(),
        }
    }

    /// The next frame, or `None` when the client has closed the connection. Must not be called again after it was dropped
    /// half-way.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if !self.fill(4).await? {
            return Ok(None);
        }
        let size = self.buffer.get_i32();
        let refused = |max_bytes| FrameError::Size { size, max_bytes };
        let size_bytes = usize::try_from(size).map_err(|_| refused(self.limits.produce_max_bytes))?;
        if size_bytes > self.limits.produce_max_bytes {
            return Err(refused(self.limits.produce_max_bytes));
        }
        if size_bytes > self.limits.request_max_bytes {
            if !self.fill(PRODUCE.len()).await? {
                return Ok(None);
            }
            if !self.buffer.starts_with(&PRODUCE) {
                return Err(refused(self.limits.request_max_bytes));
            }
        }
        if size_bytes > CHUNK_BYTES {
            return self.large(size_bytes).await;
        }
        if !self.fill(size_bytes).await? {
            return Ok(None);
        }
        Ok(Some(Frame {
            bytes: self.buffer.split_to(size_bytes).freeze(),
            charge: self.account.charge(),
            received: self.received,
        }))
    }

    /// Receives until there are `size_bytes` in the buffer; false when the connection ends before.
    async fn fill(&mut self, size_bytes: usize) -> io::Result<bool> {
        while self.buffer.len() < size_bytes {
            let missing_bytes = size_bytes - self.buffer.len();
            if self.buffer.capacity() - self.buffer.len() < missing_bytes {
                self.buffer.reserve(CHUNK_BYTES - self.buffer.len());
            }
            match receive(self.stream, &mut self.buffer).await? {
                0 => return Ok(false),
                received => self.received = self.account.moved(received),
            }
        }
        Ok(true)
    }

    /// A frame in memory of its own, which at most doubles as bytes arrive: a size that was only announced costs nothing,
    /// unless the connection has already delivered as much.
    async fn large(&mut self, size_bytes: usize) -> Result<Option<Frame>, FrameError> {
        let mut charge = self.account.charge();
        // It begins in the free buffer, which holds nothing else: the frame is larger.
        let mut frame = std::mem::take(&mut self.buffer);
        let trusted_bytes = size_bytes.min(self.delivered_bytes);
        if trusted_bytes > 0 {
            charge.grow(trusted_bytes).await?;
            frame.reserve(trusted_bytes - frame.len().min(trusted_bytes));
        }
        while frame.len() < size_bytes {
            let missing_bytes = size_bytes - frame.len();
            if frame.len() == frame.capacity() {
                // Room is asked for what has come: who waits for room is not who lets others wait.
                if self.stream.peek(&mut [0]).await? == 0 {
                    return Ok(None);
                }
                let more_bytes = missing_bytes.min(frame.len().max(CHUNK_BYTES));
                charge.grow(more_bytes).await?;
                frame.reserve(more_bytes);
            }
            match receive(self.stream, &mut (&mut frame).limit(missing_bytes)).await? {
                0 => return Ok(None),
                received => self.received = self.account.moved(received),
            }
        }
        self.delivered_bytes = size_bytes;
        Ok(Some(Frame {
            bytes: frame.freeze(),
            charge,
            received: self.received,
        }))
    }
}

async fn receive(stream: &TcpStream, buffer: &mut impl BufMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}
