//! Zstandard (RFC 8878) with its window bounded.

use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::invalid;

const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// 8 MiB: what the format asks every decoder to support, and what levels up to 19 need.
const WINDOW_LOG_COMMON: u32 = 23;
/// 128 MiB: what Kafka's clients read, and what level 22 needs.
const WINDOW_LOG_MAX: u32 = 27;

/// Held while a window beyond the common one is in use, so that at most one such is in memory.
static LARGE_WINDOW: Mutex<()> = Mutex::new(());

/// Decompresses all frames; none may have a larger window than the first, unless it is a common one.
pub(crate) struct Decoder<'a> {
    inner: zstd::stream::read::Decoder<'static, &'a [u8]>,
    _large_window: Option<MutexGuard<'static, ()>>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(body: &'a [u8]) -> io::Result<Decoder<'a>> {
        let window_log = window_log(body)?.max(WINDOW_LOG_COMMON);
        if window_log > WINDOW_LOG_MAX {
            return Err(invalid("zstd window is larger than 128 MiB"));
        }
        let large_window =
            (window_log > WINDOW_LOG_COMMON).then(|| LARGE_WINDOW.lock().unwrap_or_else(PoisonError::into_inner));
        let mut inner = zstd::stream::read::Decoder::with_buffer(body)?;
        inner.window_log_max(window_log)?;
        Ok(Decoder {
            inner,
            _large_window: large_window,
        })
    }
}

/// True when the first frame asks for a window of which there may be only one.
pub(crate) fn has_large_window(body: &[u8]) -> bool {
    window_log(body).is_ok_and(|window_log| window_log > WINDOW_LOG_COMMON)
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

/// The binary logarithm, rounded up, of the window that the first frame's header asks for.
fn window_log(body: &[u8]) -> io::Result<u32> {
    let Some((descriptor, rest)) = body.strip_prefix(&MAGIC).and_then(<[u8]>::split_first) else {
        return Err(invalid("not a zstd frame"));
    };
    let size_bytes = if descriptor & 0x20 == 0 {
        let window = u64::from(*rest.first().ok_or(io::ErrorKind::UnexpectedEof)?);
        let base = 1 << (10 + (window >> 3));
        base + base / 8 * (window & 7)
    } else {
        // A single segment: the window is the whole content, whose size stands behind the dictionary's id.
        let dictionary_id_bytes = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0);
        let content_size_bytes = 1 << (descriptor >> 6);
        let field = rest
            .get(dictionary_id_bytes..dictionary_id_bytes + content_size_bytes)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        // A field of two bytes counts from 256, which makes no difference at the sizes that are told apart here.
        field.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte))
    };
    Ok(u64::BITS - size_bytes.saturating_sub(1).leading_zeros())
}
