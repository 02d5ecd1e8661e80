//! What the machine takes for the bytes alone, without a broker: CPU time of one thread that does only what must be.
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use ottla_compat_tests::usage::thread_cpu;
use rustix::fs::sendfile;

use crate::clients::reader::discard;

const CHUNK_BYTES: usize = 1 << 20;

/// So much goes over the loopback device.
const BYTES: u64 = 1 << 30;

/// The file is as long, and used again and again, so that it stays in the page cache.
const FILE_BYTES: u64 = 256 << 20;

/// CPU seconds a GB to receive bytes over loopback, take their CRC32C and write them to a file.
pub fn receive_and_write() -> f64 {
    let (mut here, mut there) = pair();
    let sender = thread::spawn(move || {
        let chunk = vec![7; CHUNK_BYTES];
        for _ in 0..BYTES / CHUNK_BYTES as u64 {
            there.write_all(&chunk).expect("send");
        }
        there.shutdown(Shutdown::Write).expect("shutdown");
    });
    let mut file = tempfile::tempfile().expect("temporary file");
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut crc = 0;
    let before = thread_cpu();
    loop {
        let count = here.read(&mut chunk).expect("receive");
        if count == 0 {
            break;
        }
        crc = crc32c::crc32c_append(crc, &chunk[..count]);
        file.write_all(&chunk[..count]).expect("write");
    }
    let took = thread_cpu() - before;
    std::hint::black_box(crc);
    sender.join().expect("sender");
    took.as_secs_f64() / BYTES as f64 * 1e9
}

/// CPU seconds a GB to send a file that is in the page cache over loopback.
pub fn send_file() -> f64 {
    let (here, there) = pair();
    let reader = thread::spawn(move || {
        let mut scratch = vec![0; CHUNK_BYTES];
        let mut left = BYTES;
        while left > 0 {
            left -= discard(&there, &mut scratch) as u64;
        }
    });
    let file = cached_file();
    let before = thread_cpu();
    let mut sent = 0;
    while sent < BYTES {
        let mut at = sent % FILE_BYTES;
        let room = CHUNK_BYTES.min((BYTES - sent) as usize).min((FILE_BYTES - at) as usize);
        sent += sendfile(&here, &file, Some(&mut at), room).expect("sendfile") as u64;
    }
    let took = thread_cpu() - before;
    reader.join().expect("reader");
    took.as_secs_f64() / BYTES as f64 * 1e9
}

fn cached_file() -> File {
    let mut file = tempfile::tempfile().expect("temporary file");
    let chunk = vec![7; CHUNK_BYTES];
    for _ in 0..FILE_BYTES / CHUNK_BYTES as u64 {
        file.write_all(&chunk).expect("write");
    }
    file.rewind().expect("rewind");
    file
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let there = TcpStream::connect(listener.local_addr().expect("address")).expect("connection");
    (listener.accept().expect("connection").0, there)
}
