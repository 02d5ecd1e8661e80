//! Requests that are encoded once, many in flight. Of the answers only correlation id and one error code are looked at.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::framed;
use rustix::thread::set_current_timer_slack;

/// Where an answer has its correlation id, counted from its size.
pub const CORRELATION_AT: usize = 4;

/// Where a request has its correlation id, counted from its size.
const REQUEST_CORRELATION_AT: usize = 8;

/// As many bytes as are written at once, unless one request is longer.
const WRITE_BYTES: usize = 64 * 1024;

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(60);

/// One connection that sends the same requests again and again.
pub struct Pipeline {
    sender: Sender,
    receiver: Receiver,
}

struct Sender {
    stream: TcpStream,
    /// All requests in their order, often enough for a write.
    frames: Vec<u8>,
    frame_bytes: usize,
    /// Where in `frames` the next one is.
    next: usize,
    sent: u32,
}

struct Receiver {
    stream: TcpStream,
    inbox: Vec<u8>,
    filled: usize,
    answered: u32,
    /// Where an answer has its error code, counted from its size.
    error_at: usize,
}

/// When a load ends.
#[derive(Clone, Copy)]
pub struct Limit {
    /// No request is sent later.
    pub time: Duration,
    /// Of one connection.
    pub requests: u32,
}

impl Limit {
    /// Ends by time alone.
    pub fn time(time: Duration) -> Self {
        Self {
            time,
            requests: u32::MAX,
        }
    }
}

impl Pipeline {
    /// Connects; the requests, as [`ottla_compat_tests::raw::encode`] makes them, have the same length.
    pub fn open(node: &Node, requests: &[Bytes], error_at: usize) -> Self {
        let stream = TcpStream::connect(node.socket()).expect("connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(WAIT)).expect("SO_RCVTIMEO");
        stream.set_write_timeout(Some(WAIT)).expect("SO_SNDTIMEO");
        let all: Vec<_> = requests.iter().map(|request| framed(request)).collect();
        let frame_bytes = all[0].len();
        assert!(all.iter().all(|frame| frame.len() == frame_bytes), "unequal requests");
        let all = all.concat();
        Self {
            receiver: Receiver {
                stream: stream.try_clone().expect("stream"),
                inbox: vec![0; WRITE_BYTES],
                filled: 0,
                answered: 0,
                error_at,
            },
            sender: Sender {
                stream,
                frame_bytes,
                frames: all.repeat((WRITE_BYTES / all.len()).max(1)),
                next: 0,
                sent: 0,
            },
        }
    }

    /// Keeps so many requests under way until the limit; returns how many were answered.
    fn keep(&mut self, in_flight: u32, limit: Limit) -> u64 {
        let begun = Instant::now();
        let first = self.receiver.answered;
        loop {
            if begun.elapsed() < limit.time {
                let wanted = in_flight - (self.sender.sent - self.receiver.answered);
                self.sender
                    .send(wanted.min(limit.requests - (self.sender.sent - first)));
            }
            if self.receiver.answered == self.sender.sent {
                return u64::from(self.receiver.answered - first);
            }
            self.receiver.receive();
        }
    }

    /// Sends so many requests, one `every` so often whether the broker keeps up or not, and waits for the answers.
    pub fn on_schedule(&mut self, begin: Instant, every: Duration, count: u32) {
        let Self { sender, receiver } = self;
        let last = receiver.answered + count;
        thread::scope(|scope| {
            scope.spawn(|| {
                while receiver.answered < last {
                    receiver.receive();
                }
            });
            // The kernel wakes threads up to 50 µs late to save wakeups; a client that is late measures itself.
            set_current_timer_slack(NonZeroU64::new(1)).expect("timer slack");
            for place in 0..count {
                let due = begin + every * place;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                sender.send(1);
            }
        });
    }
}

/// Keeps so many requests under way on each of the connections until the limit; returns how many were answered.
pub fn keep(pipelines: &mut [Pipeline], in_flight: u32, limit: Limit) -> u64 {
    thread::scope(|scope| {
        let clients: Vec<_> = pipelines
            .iter_mut()
            .map(|pipeline| scope.spawn(move || pipeline.keep(in_flight, limit)))
            .collect();
        clients.into_iter().map(|client| client.join().expect("client")).sum()
    })
}

impl Sender {
    fn send(&mut self, mut count: u32) {
        while count > 0 {
            let at_once = (WRITE_BYTES / self.frame_bytes).max(1).min(count as usize);
            let end = (self.next + at_once * self.frame_bytes).min(self.frames.len());
            let frames = &mut self.frames[self.next..end];
            for frame in frames.chunks_exact_mut(self.frame_bytes) {
                self.sent += 1;
                frame[REQUEST_CORRELATION_AT..][..4].copy_from_slice(&self.sent.to_be_bytes());
            }
            self.stream.write_all(frames).expect("a broker that reads");
            count -= (frames.len() / self.frame_bytes) as u32;
            self.next = end % self.frames.len();
        }
    }
}

impl Receiver {
    /// Waits for at least some bytes and takes all answers that are complete.
    fn receive(&mut self) {
        let count = self.stream.read(&mut self.inbox[self.filled..]).expect("an answer");
        assert!(count > 0, "the broker closed the connection");
        self.filled += count;
        let mut at = 0;
        while let Some(size) = self.inbox[at..self.filled].first_chunk() {
            let end = at + 4 + u32::from_be_bytes(*size) as usize;
            if end > self.filled {
                break;
            }
            let answer = &self.inbox[at..end];
            self.answered += 1;
            assert_eq!(
                answer[CORRELATION_AT..][..4],
                self.answered.to_be_bytes(),
                "correlation id"
            );
            assert_eq!(answer[self.error_at..][..2], [0, 0], "error code");
            at = end;
        }
        self.inbox.copy_within(at..self.filled, 0);
        self.filled -= at;
    }
}
