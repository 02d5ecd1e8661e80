//! Writes responses: bytes by `sendmsg`, regions of files by `sendfile`.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::budget::{Account, FREE_BYTES};
use crate::metrics;
use crate::response::{Part, Response};

/// How many pieces one `sendmsg` takes.
const SLICES_MAX: usize = 32;
/// How much is copied out of files before it is sent: what is free for a connection.
const COPIED_BYTES_MAX: usize = FREE_BYTES;
/// How much of a file is probed and sent at a time.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// How much of a cold file is waited for at a time.
const COLD_WINDOW_BYTES: u64 = 256 * 1024;
/// How much of it is asked for at a time.
const READ_AHEAD_BYTES: u64 = 1024 * 1024;
/// Pages this far apart stand for those between them: Linux reads ahead 128 KiB by default.
const PROBE_STEP_BYTES: u64 = 64 * 1024;

/// The sending side of a connection.
pub(super) struct Writer<'a> {
    stream: &'a TcpStream,
    account: &'a Account,
    /// What goes out next.
    run: Vec<Bytes>,
    /// How much of it was copied out of files.
    copied_bytes: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(stream: &'a TcpStream, account: &'a Account) -> Self {
        Writer {
            stream,
            account,
            run: Vec::new(),
            copied_bytes: 0,
        }
    }

    /// Takes a response; its last bytes wait for [`Writer::flush`].
    pub(super) async fn push<R: AsFd + Clone + Send + 'static>(&mut self, response: Response<R>) -> io::Result<()> {
        for part in response.parts {
            match part {
                Part::Bytes(bytes) => self.run.push(bytes),
                Part::File {
                    region,
                    position,
                    size_bytes,
                } => self.push_file(region, position, size_bytes).await?,
            }
        }
        Ok(())
    }

    async fn push_file<R: AsFd + Clone + Send + 'static>(
        &mut self,
        region: R,
        position: u64,
        size_bytes: u64,
    ) -> io::Result<()> {
        let size = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        if self.copied_bytes.saturating_add(size) > COPIED_BYTES_MAX {
            self.send(SendFlags::MORE).await?;
        }
        match read_cached(region.as_fd(), position, size) {
            Some(bytes) => {
                metrics::copied_out_of_files(size);
                self.copied_bytes += size;
                self.run.push(bytes);
                Ok(())
            }
            None => {
                self.send(SendFlags::MORE).await?;
                send_file(self.stream, self.account, region, position, size_bytes).await
            }
        }
    }

    /// Sends what was pushed and not sent yet.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.send(SendFlags::empty()).await
    }

    async fn send(&mut self, flags: SendFlags) -> io::Result<()> {
        self.copied_bytes = 0;
        send_bytes(self.stream, self.account, &mut self.run, flags).await
    }
}

async fn send_bytes(stream: &TcpStream, account: &Account, run: &mut Vec<Bytes>, flags: SendFlags) -> io::Result<()> {
    let mut done = 0;
    loop {
        let rest = run.get_mut(done..).unwrap_or_default();
        match rest.first() {
            None => break,
            Some(bytes) if bytes.is_empty() => {
                done += 1;
                continue;
            }
            Some(_) => {}
        }
        let mut sent = stream
            .async_io(Interest::WRITABLE, || {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                for (slice, bytes) in slices.iter_mut().zip(rest.iter()) {
                    *slice = IoSlice::new(bytes);
                }
                let count = rest.len().min(SLICES_MAX);
                let flags = if rest.len() > SLICES_MAX {
                    flags | SendFlags::MORE
                } else {
                    flags
                };
                let slices = slices.get(..count).unwrap_or_default();
                let no_ancillary = &mut SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(
                    stream,
                    slices,
                    no_ancillary,
                    flags | SendFlags::NOSIGNAL,
                )?)
            })
            .await?;
        account.moved(sent);
        for bytes in rest.iter_mut() {
            let step = sent.min(bytes.len());
            bytes.advance(step);
            sent -= step;
        }
    }
    run.clear();
    Ok(())
}

async fn send_file<R: AsFd + Clone + Send + 'static>(
    stream: &TcpStream,
    account: &Account,
    region: R,
    mut position: u64,
    size_bytes: u64,
) -> io::Result<()> {
    let end = position.saturating_add(size_bytes);
    let mut is_full = false;
    while position < end {
        let mut window_end = end.min(position.saturating_add(WINDOW_BYTES));
        if !is_cached(region.as_fd(), position, window_end)? {
            window_end = window_end.min(position.saturating_add(COLD_WINDOW_BYTES));
            let (region, ahead_end) = (region.clone(), end.min(position.saturating_add(READ_AHEAD_BYTES)));
            tokio::task::spawn_blocking(move || read_ahead(region.as_fd(), position, ahead_end, window_end))
                .await
                .map_err(io::Error::other)??;
        }
        while position < window_end {
            let size = usize::try_from(window_end - position).unwrap_or(usize::MAX);
            let sent = stream
                .async_io(Interest::WRITABLE, || {
                    // A `sendfile` that finds no room costs more than to ask for room.
                    if std::mem::take(&mut is_full) && !has_room(stream)? {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    Ok(rustix::fs::sendfile(stream, region.as_fd(), Some(&mut position), size)?)
                })
                .await?;
            if sent == 0 {
                // The client was promised more: only the end of the connection can tell it.
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a log file is shorter than its index says",
                ));
            }
            is_full = sent < size;
            account.moved(sent);
            metrics::sent_by_sendfile(sent);
        }
    }
    Ok(())
}

/// False when the socket takes nothing now. Having been asked, Linux tells of room as after a write that found none.
fn has_room(stream: &TcpStream) -> io::Result<bool> {
    let now = rustix::event::Timespec::default();
    let mut sockets = [PollFd::new(stream, PollFlags::OUT)];
    let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut sockets, Some(&now)))?;
    Ok(ready > 0)
}

/// The bytes of a range that is small and cached whole: copying them is cheaper than a `sendfile` of their own.
fn read_cached(file: BorrowedFd<'_>, position: u64, size: usize) -> Option<Bytes> {
    if size > COPIED_BYTES_MAX {
        return None;
    }
    let mut bytes = vec![0; size];
    let slice = &mut [io::IoSliceMut::new(&mut bytes)];
    let read = rustix::io::preadv2(file, slice, position, ReadWriteFlags::NOWAIT);
    (read == Ok(size)).then(|| bytes.into())
}

/// False when sending the range would wait for a disk.
fn is_cached(file: BorrowedFd<'_>, position: u64, end: u64) -> io::Result<bool> {
    for at in probes(position, end) {
        let mut byte = [0];
        let read = rustix::io::preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
        match read {
            Ok(_) => {}
            Err(Errno::AGAIN) => return Ok(false),
            // File systems that cannot tell.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => return Ok(true),
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Has the range up to `ahead_end` read by the kernel and waits until it is there up to `end`. Blocks on the disk.
fn read_ahead(file: BorrowedFd<'_>, position: u64, ahead_end: u64, end: u64) -> io::Result<()> {
    let length = std::num::NonZeroU64::new(ahead_end.saturating_sub(position));
    // Only advice: the reads below do without it, more slowly.
    let _ = rustix::fs::fadvise(file, position, length, Advice::WillNeed);
    for at in probes(position, end) {
        rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut [0u8; 1], at))?;
    }
    Ok(())
}

fn probes(position: u64, end: u64) -> impl Iterator<Item = u64> {
    let step = usize::try_from(PROBE_STEP_BYTES).unwrap_or(usize::MAX);
    (position..end).step_by(step).chain(end.checked_sub(1))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_range_that_was_read_ahead_is_cached() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 300_000]).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        // Not asserted to be cold: some file systems keep everything in memory.
        read_ahead(file.as_fd(), 1000, 300_000, 300_000).unwrap();
        assert!(is_cached(file.as_fd(), 1000, 300_000).unwrap());
    }
}
