//! Many connections that do little, and few that ask for much.
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, MetadataRequest, ProduceRequest};
use ottla_compat_tests::raw::{Connection, encode};
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::requests::{append, at, create_topic, fetch, metadata, topic_name};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::transcript::now_ms;

use crate::Attack;
use crate::victim::{MEMORY_MAX_MB, Victim};

pub const ATTACKS: &[Attack] = &[
    ("announced-frames", false, announced_frames),
    ("partial-frames", false, partial_frames),
    ("slow-readers", false, slow_readers),
    ("slow-writers", false, slow_writers),
    ("half-closed", false, half_closed),
    ("connection-storm", false, || connection_storm(Duration::from_secs(1))),
    ("connection-storm-long", true, || {
        connection_storm(Duration::from_secs(10))
    }),
    ("empty-elements", false, empty_elements),
    ("fetch-sessions", false, fetch_sessions),
    ("out-of-files", false, out_of_files),
    ("too-many-connections", false, too_many_connections),
    ("idle-connections", false, idle_connections),
];

const CLOSED: &str = "connection closed";

fn dial(victim: &Victim) -> TcpStream {
    TcpStream::connect(victim.node.socket()).unwrap()
}

/// Many connections, no faster than they are accepted: beyond the backlog of 50 each would take a second.
fn dial_many(victim: &Victim, count: usize) -> Vec<TcpStream> {
    let one = |_| {
        std::thread::sleep(Duration::from_micros(100));
        dial(victim)
    };
    (0..count).map(one).collect()
}

/// A frame's size and content.
fn framed(content: &[u8]) -> Vec<u8> {
    let mut frame = (content.len() as u32).to_be_bytes().to_vec();
    frame.extend(content);
    frame
}

/// The beginning of a Produce that announces more than it sends.
fn partial_produce(announced_bytes: u32, sent_bytes: usize) -> Vec<u8> {
    let mut frame = announced_bytes.to_be_bytes().to_vec();
    frame.extend(encode(9, 1, &ProduceRequest::default()));
    frame.resize(sent_bytes, 0);
    frame
}

/// Waits for an answer or the end of the connection; false for the end.
fn is_answered(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    match stream.read(&mut [0; 4]) {
        Ok(read) => read > 0,
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither an answer nor an end"),
        Err(_) => false,
    }
}

/// Apache Kafka with a heap of 1 GB runs out of memory at 500 of these.
fn announced_frames() {
    let victim = Victim::start(&[]);
    let before = victim.serve(300);
    let frame = partial_produce(100 << 20, 64);
    let hold = || {
        let mut held: Vec<TcpStream> = dial_many(&victim, 2000);
        held.iter_mut().for_each(|stream| stream.write_all(&frame).unwrap());
        victim.wait_open(|count| count >= 2000);
        held
    };
    let held = hold();
    let ((), during) = victim.serve_during(|| std::thread::sleep(Duration::from_secs(2)));
    println!(
        "{} MB at most with 2000 frames of 100 MiB announced",
        victim.memory().peak_mb
    );
    during.assert_like(&before, 3);
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
    let closed = held.iter().filter(|stream| is_closed(stream)).count();
    assert_eq!(closed, 0, "what is announced costs nothing, so nobody has to go");
    drop(held);
    victim.wait_open(|count| count <= 1);
    victim.complaints([]);
    assert_eq!(victim.refused("PLAINTEXT"), 0);
}

/// True when the peer has closed and there is nothing to read.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let result = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match result {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// The same with enough sent to fill `ottla.request.memory.bytes`: those who hold it make room.
fn partial_frames() {
    let victim = Victim::start(&["ottla.request.memory.bytes=33554432"]);
    let before = victim.serve(300);
    let frame = partial_produce(100 << 20, 64 << 10);
    let mut held = Vec::new();
    let ((), during) = victim.serve_during(|| {
        for mut stream in dial_many(&victim, 1000) {
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            // Those that find no room are not read, or closed while they write.
            let _ = stream.write_all(&frame);
            held.push(stream);
        }
    });
    during.assert_like(&before, 10);
    // Larger than what is free for a connection: it has to wait until somebody has gone.
    let batch = Batch::new(now_ms(), vec![Record::value(vec![b'x'; 500_000])]);
    append(&mut victim.connect(), &victim.topic, 0, &batch);
    println!("{} MB at most with 1000 partial frames", victim.memory().peak_mb);
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
    // Others go as long as anybody waits for room.
    let count = || held.iter().filter(|stream| is_closed(stream)).count();
    let closed = wait_for(
        || {
            let closed = count();
            let is_all = victim.refused("PLAINTEXT") == closed && count() == closed;
            (closed > 0 && is_all).then_some(closed)
        },
        || format!("{} closed and {} counted", count(), victim.refused("PLAINTEXT")),
    );
    let [told] = victim.complaints([CLOSED]);
    assert!((1..=closed).contains(&told), "{told} lines for {closed} connections");
    assert!(victim.node.log().contains("it held most of ottla.request.memory.bytes"));
}

/// Asks for records and for long lists of topics again and again, and reads nothing.
fn slow_readers() {
    let victim = Victim::start(&[
        "ottla.request.memory.bytes=8388608",
        // The kernel holds what it may.
        "socket.send.buffer.bytes=16384",
    ]);
    let mut connection = victim.connect();
    for n in 0..10 {
        create_topic(&mut connection, &format!("{n:0>200}"), 100, &[]);
    }
    for _ in 0..30 {
        let batch = Batch::new(now_ms(), vec![Record::value(vec![b'x'; 1_000_000])]);
        append(&mut connection, &victim.topic, 0, &batch);
    }
    let before = victim.serve(300);
    let records = framed(&encode(12, 1, &fetch(12, &victim.topic, vec![at(0, 0)])));
    let topics = framed(&encode(12, 1, &MetadataRequest::default().with_topics(None)));
    let (held, during) = victim.serve_during(|| {
        let mut held = Vec::new();
        for (n, mut stream) in dial_many(&victim, 500).into_iter().enumerate() {
            // So that little of what is not read is in the kernel.
            rustix::net::sockopt::set_socket_recv_buffer_size(stream.as_fd(), 4096).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            let request = if n % 20 == 0 { &topics } else { &records };
            for _ in 0..100 {
                // What is not read any more is enough.
                if stream.write_all(request).is_err() {
                    break;
                }
            }
            held.push(stream);
        }
        wait_for(
            || (victim.refused("PLAINTEXT") > 0).then_some(()),
            || "nobody had to make room".into(),
        );
        held
    });
    println!("{} MB at most with 500 slow readers", victim.memory().peak_mb);
    during.assert_like(&before, 10);
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
    let all_topics = MetadataRequest::default().with_topics(None);
    connection.call(12, &all_topics).expect("room is made");
    let closed = victim.refused("PLAINTEXT");
    drop(held);
    victim.wait_open(|count| count <= 2);
    let [told] = victim.complaints([CLOSED]);
    println!("{closed} of them closed to make room, {told} lines");
    assert!(
        (1..=25).contains(&closed),
        "the others ask for records alone, which take no memory"
    );
    assert!((1..=closed).contains(&told));
    victim.serve(10);
}

/// A request of one byte at a time is answered like any other.
fn slow_writers() {
    let victim = Victim::start(&[]);
    let before = victim.serve(300);
    let frame = framed(&encode(9, 1, &metadata(&["good"])));
    let mut writers: Vec<TcpStream> = dial_many(&victim, 1000);
    for writer in &writers {
        writer.set_nodelay(true).unwrap();
    }
    let ((), during) = victim.serve_during(|| {
        for byte in &frame {
            for writer in &mut writers {
                writer.write_all(std::slice::from_ref(byte)).unwrap();
            }
        }
    });
    println!("{} MB at most with 1000 slow writers", victim.memory().peak_mb);
    assert!(writers.iter_mut().all(is_answered));
    during.assert_like(&before, 20);
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
    victim.complaints([]);
}

/// A client that hangs up while it polls frees its place at once, not when the poll ends; one that has only finished sending
/// still gets its answer.
fn half_closed() {
    let victim = Victim::start(&[]);
    let before = victim.serve(300);
    let other = create_topic(&mut victim.connect(), "polled", 1, &[]);
    let poll = fetch(12, &other, vec![at(0, 0)]).with_max_wait_ms(600_000);
    let poll = framed(&encode(12, 1, &poll));
    let ((), during) = victim.serve_during(|| {
        let mut half: Vec<TcpStream> = dial_many(&victim, 500);
        let mut gone: Vec<TcpStream> = dial_many(&victim, 500);
        for stream in half.iter_mut().chain(&mut gone) {
            stream.write_all(&poll).unwrap();
        }
        victim.wait_open(|count| count >= 1000);
        drop(gone);
        for stream in &half {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        assert!(half.iter_mut().all(is_answered));
        drop(half);
        victim.wait_open(|count| count <= 2);
    });
    println!(
        "{} MB at most with 1000 half-closed connections",
        victim.memory().peak_mb
    );
    during.assert_like(&before, 10);
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
    victim.complaints([]);
    assert_eq!(victim.refused("PLAINTEXT"), 0);
}

/// 10,000 connects a second, most of them reset at once.
fn connection_storm(duration: Duration) {
    const A_SECOND: usize = 10_000;
    const THREADS: usize = 2;
    // With the backlog of 50 the kernel lets some wait a second for another try, and then there is no storm.
    let victim = Victim::start(&["socket.listen.backlog.size=4096"]);
    let before = victim.serve(300);
    let address = victim.node.socket();
    let connects = AtomicUsize::new(0);
    let (took, during) = victim.serve_during(|| {
        let begun = Instant::now();
        let wanted = A_SECOND * duration.as_secs() as usize;
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let number = connects.fetch_add(1, Ordering::Relaxed);
                        if number >= wanted {
                            break;
                        }
                        // The backlog may be full for a moment, and local ports may run short.
                        let stream = wait_for(|| TcpStream::connect(address).ok(), || "cannot connect".into());
                        // No TIME_WAIT, which would use up the ports.
                        rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO)).unwrap();
                        let due = begun + Duration::from_secs(1) * number as u32 / A_SECOND as u32;
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                });
            }
        });
        begun.elapsed()
    });
    println!(
        "{} connects in {took:?}, {} MB at most",
        A_SECOND * duration.as_secs() as usize,
        victim.memory().peak_mb
    );
    during.assert_like(&before, 30);
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
    victim.wait_open(|count| count <= 1);
    victim.complaints([]);
    victim.serve(10);
}

/// Arrays of what is nearly nothing on the wire, and a hundred times as much once it is decoded.
fn empty_elements() {
    let victim = Victim::start(&[]);
    let before = victim.serve(300);
    let topic_name = || topic_name("");
    let produce = |bytes: usize| {
        let topics = vec![TopicProduceData::default(); bytes / 3];
        framed(&encode(
            9,
            1,
            &ProduceRequest::default().with_acks(1).with_topic_data(topics),
        ))
    };
    let metadata = |bytes: usize| {
        let topics = vec![MetadataRequestTopic::default().with_name(Some(topic_name())); bytes / 2];
        framed(&encode(9, 1, &MetadataRequest::default().with_topics(Some(topics))))
    };
    let create = |bytes: usize| {
        let topics = vec![CreatableTopic::default(); bytes / 10];
        framed(&encode(7, 1, &CreateTopicsRequest::default().with_topics(topics)))
    };
    let fetch = |bytes: usize| {
        let topics = vec![FetchTopic::default().with_partitions(vec![FetchPartition::default()]); bytes / 42];
        framed(&encode(
            12,
            1,
            &FetchRequest::default().with_topics(topics).with_session_epoch(-1),
        ))
    };
    let hostile: [(&str, usize, Vec<u8>, bool); 10] = [
        ("Produce", 8, produce(16 << 20), false),
        ("Produce", 8, produce(4 << 20), false),
        ("Produce", 1, produce(1 << 20), true),
        ("Metadata", 8, metadata(4 << 20), false),
        ("Metadata", 1, metadata(700 << 10), true),
        ("CreateTopics", 8, create(4 << 20), false),
        ("CreateTopics", 1, create(2 << 20), true),
        ("Fetch", 1, fetch(4_000_000), true),
        ("Fetch", 2, fetch(1 << 20), true),
        ("Produce", 2, produce(500 << 10), true),
    ];
    let mut refused = 0;
    let ((), during) = victim.serve_during(|| {
        for (api, at_once, frame, answered) in hostile {
            let mut streams = dial_many(&victim, at_once);
            for stream in &mut streams {
                // It may be closed before it is read.
                let _ = stream.write_all(&frame);
            }
            let size = frame.len();
            for stream in &mut streams {
                assert_eq!(is_answered(stream), answered, "{api} of {size} bytes");
            }
            refused += if answered { 0 } else { at_once };
            let peak_mb = victim.memory().peak_mb;
            println!("{peak_mb} MB at most with {at_once} {api} of {size} bytes");
        }
    });
    during.assert_like(&before, 10);
    victim.wait_refused("PLAINTEXT", refused);
    let [told] = victim.complaints([CLOSED]);
    assert!((1..=refused).contains(&told), "{told}");
    assert!(victim.node.log().contains("decoding takes more than"));
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
}

/// Kafka bounds the number of fetch sessions, not what they remember: here who finds no room has none and fetches on.
fn fetch_sessions() {
    const PARTITIONS: i32 = 10_000;
    let victim = Victim::start(&[]);
    let before = victim.serve(300);
    let partitions: Vec<_> = (0..PARTITIONS).map(|partition| at(partition, 0)).collect();
    let request = fetch(12, &victim.topic, partitions)
        .with_session_epoch(0)
        .with_max_wait_ms(0);
    let mut sessions = 0;
    let ((), during) = victim.serve_during(|| {
        let mut connection = victim.connect();
        for _ in 0..60 {
            let answer = connection.call(12, &request).unwrap();
            assert_eq!(answer.error_code, 0);
            let told: usize = answer.responses.iter().map(|topic| topic.partitions.len()).sum();
            assert_eq!(told, PARTITIONS as usize, "with a session or without");
            sessions += usize::from(answer.session_id != 0);
        }
    });
    let peak_mb = victim.memory().peak_mb;
    println!("{sessions} of 60 sessions with {PARTITIONS} partitions each, {peak_mb} MB at most");
    during.assert_like(&before, 10);
    assert!((8..60).contains(&sessions));
    assert!(peak_mb < MEMORY_MAX_MB);
    victim.complaints([]);
}

/// Some descriptors are kept for log files: clients are turned away before storage has to fail.
fn out_of_files() {
    const LOW: &str = "file descriptors run low";
    let victim = Victim::start_within(&["prlimit", "--nofile=256:256"], &["log.segment.bytes=1048576"]);
    let before = victim.serve(300);
    let ((), during) = victim.serve_during(|| {
        let mut held: Vec<TcpStream> = dial_many(&victim, 300);
        // Turned away, not left in the backlog.
        wait_for(
            || held.iter().any(is_closed).then_some(()),
            || "nobody was turned away".into(),
        );
        // New segments need files.
        let batch = Batch::new(now_ms(), vec![Record::value(vec![b'x'; 900_000])]);
        held.truncate(50);
        let mut connection = wait_for(
            || {
                let mut connection = Connection::open(victim.node.socket()).ok()?;
                connection.broker_count().ok()?;
                Some(connection)
            },
            || "nobody is let in again".into(),
        );
        for _ in 0..10 {
            append(&mut connection, &victim.topic, 0, &batch);
        }
    });
    during.assert_like(&before, 10);
    let [told, warned] = victim.complaints([LOW, "at most 256 files can be open"]);
    assert!((1..=40).contains(&told) && warned == 1, "{told} and {warned} lines");
    assert!(victim.turned_away() >= told);
    victim.serve(10);
}

/// Beyond `max.connections.per.ip` they are closed, beyond `max.connections` they wait.
fn too_many_connections() {
    const TOO_MANY: &str = "too many connections from one address";
    let victim = Victim::start(&["max.connections.per.ip=20"]);
    let mut held: Vec<Connection> = Vec::new();
    while let Ok(mut connection) = Connection::open(victim.node.socket()) {
        if connection.broker_count().is_err() {
            break;
        }
        held.push(connection);
        assert!(held.len() <= 20, "more than max.connections.per.ip");
    }
    assert_eq!(held.len(), 20);
    for _ in 0..500 {
        assert!(!is_answered(&mut dial(&victim)));
    }
    assert!(held.iter_mut().all(|connection| connection.broker_count().is_ok()));
    let [told] = victim.complaints([TOO_MANY]);
    assert!((1..=30).contains(&told), "{told} lines");
    assert_eq!(victim.turned_away(), 501);
    held.clear();
    wait_for(
        || victim.connect().broker_count().ok(),
        || "nobody is let in again".into(),
    );

    let victim = Victim::start(&["max.connections=20"]);
    // The controller's listener counts, too, and so does the broker's own connection if it has one.
    let mut held: Vec<Connection> = (0..40).map(|_| victim.connect()).collect();
    let mut served = 0;
    for connection in &mut held {
        connection.set_deadline(Duration::from_millis(300)).unwrap();
        match connection.broker_count() {
            Ok(_) => served += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                break;
            }
        }
    }
    assert!((15..=20).contains(&served), "{served} served");
    let mut waiting = held.split_off(served);
    drop(held);
    // The answer to the first one's request comes late: it was asked already.
    let mut next = waiting.swap_remove(1);
    next.set_deadline(Duration::from_secs(30)).unwrap();
    next.broker_count().unwrap();
    victim.complaints([]);
}

/// `connections.max.idle.ms`.
fn idle_connections() {
    let victim = Victim::start(&["connections.max.idle.ms=1000"]);
    let mut idle: Vec<TcpStream> = dial_many(&victim, 200);
    let mut half_way: Vec<TcpStream> = dial_many(&victim, 200);
    let frame = partial_produce(100 << 20, 64);
    half_way.iter_mut().for_each(|stream| stream.write_all(&frame).unwrap());
    let ((), _) = victim.serve_during(|| {
        let begun = Instant::now();
        assert!(!idle.iter_mut().chain(&mut half_way).any(is_answered));
        assert!(begun.elapsed() > Duration::from_millis(500), "closed too early");
    });
    victim.wait_open(|count| count <= 1);
    victim.complaints([]);
    assert_eq!(victim.refused("PLAINTEXT"), 0, "being idle is no offence");
}
