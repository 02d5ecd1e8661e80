//! A consumer that has the kernel throw record bytes away: it looks at nothing but the fields before them.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::{encode, framed};
use ottla_compat_tests::requests::{Topic, at, fetch};
use rustix::net::{RecvFlags, recv};

/// The last version whose fields before the records are all of a fixed size.
const VERSION: i16 = 11;

/// `max.partition.fetch.bytes` of stock consumers.
const PARTITION_BYTES_MAX: i32 = 1 << 20;

/// Index, error code, high watermark, last stable offset, log start, aborted transactions (none), preferred replica,
/// size of the records.
const PARTITION_BYTES: usize = 4 + 2 + 8 + 8 + 8 + 4 + 4 + 4;

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(30);

/// What a topic holds: equal batches, the same number in each partition.
#[derive(Clone, Copy)]
pub struct Contents {
    /// Of the topic.
    pub partitions: i32,
    /// Of each partition.
    pub batches: u64,
    /// In each batch.
    pub records: u64,
    /// Of each batch.
    pub batch_bytes: usize,
}

/// One connection that reads all partitions of a topic from the beginning, and again at its end.
pub struct Reader {
    stream: TcpStream,
    topic: Topic,
    contents: Contents,
    offsets: Vec<u64>,
    scratch: Vec<u8>,
}

impl Reader {
    /// Connects.
    pub fn open(node: &Node, topic: &Topic, contents: Contents) -> Self {
        let stream = TcpStream::connect(node.socket()).expect("connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(WAIT)).expect("SO_RCVTIMEO");
        Self {
            stream,
            topic: topic.clone(),
            contents,
            offsets: vec![0; contents.partitions as usize],
            scratch: vec![0; PARTITION_BYTES_MAX as usize],
        }
    }

    /// Reads for so long; returns how many bytes of whole batches came.
    pub fn read(&mut self, time: Duration) -> u64 {
        let begun = Instant::now();
        let mut bytes = 0;
        while begun.elapsed() < time {
            bytes += self.fetch();
        }
        bytes
    }

    fn fetch(&mut self) -> u64 {
        let partitions = (0..)
            .zip(&self.offsets)
            .map(|(partition, offset)| at(partition, *offset as i64).with_partition_max_bytes(PARTITION_BYTES_MAX));
        let request = encode(VERSION, 0, &fetch(VERSION, &self.topic, partitions.collect()));
        self.stream.write_all(&framed(&request)).expect("request");
        // Size, correlation id, throttle time, error code, session, number of topics, name, number of partitions.
        let mut head = self.take(4 + 4 + 4 + 2 + 4 + 4 + 2 + self.topic.name.len() + 4);
        assert_eq!(head[12..14], [0, 0], "error code");
        let count = head.split_off(head.len() - 4).get_i32();
        (0..count).map(|_| self.partition()).sum()
    }

    fn partition(&mut self) -> u64 {
        let mut head = self.take(PARTITION_BYTES);
        let (index, error) = (head.get_i32() as usize, head.get_i16());
        assert_eq!(error, 0, "error code of partition {index}");
        let size = head.split_off(head.len() - 4).get_i32() as usize;
        self.skip(size);
        // The last batch may be cut: nobody can use it.
        let batches = (size / self.contents.batch_bytes) as u64;
        let next = self.offsets[index] + batches * self.contents.records;
        self.offsets[index] = next % (self.contents.batches * self.contents.records);
        batches * self.contents.batch_bytes as u64
    }

    fn take(&mut self, size_bytes: usize) -> Bytes {
        let mut bytes = vec![0; size_bytes];
        self.stream.read_exact(&mut bytes).expect("an answer");
        bytes.into()
    }

    fn skip(&mut self, mut size_bytes: usize) {
        while size_bytes > 0 {
            let room = self.scratch.len().min(size_bytes);
            size_bytes -= discard(&self.stream, &mut self.scratch[..room]);
        }
    }
}

/// Takes up to as many bytes as the buffer has room for off the socket, without copying them; returns how many.
pub fn discard(stream: &TcpStream, scratch: &mut [u8]) -> usize {
    let (_, count) = recv(stream, scratch, RecvFlags::TRUNC).expect("record bytes");
    assert!(count > 0, "the broker closed the connection");
    count
}
