//! The node that is attacked, and a client that wants nothing but to be served.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ottla_compat_tests::metrics::{sample, scrape};
use ottla_compat_tests::node::{Node, Options, Target, free_ports};
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::requests::{Topic, append, at, create_topic, fetch};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::transcript::now_ms;
use ottla_compat_tests::usage;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a node may hold under any attack, MB.
pub const MEMORY_MAX_MB: f64 = 200.0;
/// Between two operations of the good client.
const PACE: Duration = Duration::from_millis(2);

/// Lets this process have as many connections as the system allows.
pub fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).expect("RLIMIT_NOFILE");
}

/// A node of its own for each attack.
pub struct Victim {
    pub node: Node,
    /// With one partition.
    pub topic: Topic,
    http_port: u16,
}

impl Victim {
    pub fn start(properties: &[&str]) -> Self {
        Self::start_within(&[], properties)
    }

    /// Runs the node by another program.
    pub fn start_within(program: &[&str], properties: &[&str]) -> Self {
        let [http_port] = free_ports();
        let listener = format!("ottla.http.listener=127.0.0.1:{http_port}");
        let properties = [&[listener.as_str()], properties].concat();
        let mut node = Node::formatted(Target::Ottla, Options::with(&properties));
        node.within = program.iter().map(|word| word.to_string()).collect();
        node.launch();
        let topic = create_topic(&mut Connection::open(node.socket()).unwrap(), "good", 1, &[]);
        Self { node, topic, http_port }
    }

    pub fn controller(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.node.controller_port))
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.node.socket()).unwrap()
    }

    /// A sample of `/metrics`; 0 before there is one.
    pub fn metric(&self, name: &str) -> f64 {
        sample(&scrape(self.http_port), name).unwrap_or(0.0)
    }

    /// How many connections of a listener were closed because of what they sent.
    pub fn refused(&self, listener: &str) -> usize {
        let name = format!(r#"ottla_network_refused_connections_total{{listener="{listener}"}}"#);
        self.metric(&name) as usize
    }

    /// How many connections there was no place for.
    pub fn turned_away(&self) -> usize {
        self.metric(r#"ottla_network_turned_away_connections_total{listener="PLAINTEXT"}"#) as usize
    }

    /// Waits until exactly so many were.
    pub fn wait_refused(&self, listener: &str, count: usize) {
        wait_for(
            || (self.refused(listener) == count).then_some(()),
            || format!("{} refused and counted instead of {count}", self.refused(listener)),
        );
    }

    /// Waits until as many connections are open as there should be.
    pub fn wait_open(&self, is_right: impl Fn(usize) -> bool) {
        let name = r#"kafka_server_socket_server_metrics_connection_count{listener="PLAINTEXT"}"#;
        wait_for(
            || is_right(self.metric(name) as usize).then_some(()),
            || format!("{} connections are open", self.metric(name)),
        );
    }

    pub fn memory(&self) -> usage::Memory {
        usage::memory(self.node.pid())
    }

    /// Every warning or error so far must be one of these; returns how many there are of each.
    pub fn complaints<const N: usize>(&self, expected: [&str; N]) -> [usize; N] {
        let mut counts = [0; N];
        for line in self.node.log().lines() {
            let is_complaint = line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("panicked");
            if is_complaint {
                let kind = expected.iter().position(|text| line.contains(text));
                counts[kind.unwrap_or_else(|| panic!("unexpected in the log: {line}"))] += 1;
            }
        }
        counts
    }

    /// Serves a good client while something goes on.
    pub fn serve_during<T>(&self, attack: impl FnOnce() -> T) -> (T, Served) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| self.serve_until(|_| is_over.load(Ordering::Relaxed)));
            let over = Over(&is_over);
            let result = attack();
            drop(over);
            (result, client.join().unwrap())
        })
    }

    /// The good client for so many operations.
    pub fn serve(&self, operations: usize) -> Served {
        self.serve_until(|done| done == operations)
    }

    /// Appends a record and reads it back, again and again.
    fn serve_until(&self, is_over: impl Fn(usize) -> bool) -> Served {
        let mut connection = self.connect();
        let mut times = Vec::new();
        while !is_over(times.len()) {
            let batch = Batch::new(now_ms(), vec![Record::value(vec![b'x'; 1000])]);
            let begun = Instant::now();
            let offset = append(&mut connection, &self.topic, 0, &batch);
            let request = fetch(12, &self.topic, vec![at(0, offset)]);
            let answer = connection.call(12, &request).unwrap();
            let records = answer.responses[0].partitions[0].records.as_ref().unwrap();
            times.push(begun.elapsed());
            assert_eq!(i64::from_be_bytes(records[..8].try_into().unwrap()), offset);
            std::thread::sleep(PACE);
        }
        times.sort();
        Served(times)
    }
}

/// Ends the good client's work, also when an attack fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long the good client's operations took, shortest first.
pub struct Served(Vec<Duration>);

impl Served {
    pub fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    pub fn longest(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// Shows both and compares: the other programs of the machine have a say, so this is about orders of magnitude.
    pub fn assert_like(&self, before: &Served, factor: u32) {
        println!(
            "served {} times, median {:?} after {:?}, longest {:?} after {:?}",
            self.0.len(),
            self.median(),
            before.median(),
            self.longest(),
            before.longest()
        );
        assert!(!self.0.is_empty(), "not served at all");
        let limit = before.median() * factor + Duration::from_millis(10);
        assert!(self.median() < limit, "{:?} is more than {limit:?}", self.median());
    }
}
