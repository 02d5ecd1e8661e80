//! The wire protocol, byte by byte: the same requests go to both brokers, and the decoded answers must be equal.
//!
//! To add a case, write a function over [`Session`] and name it in a `CASES` table. What a case sends is either
//! deterministic or built from [`Wire::now`]; what comes back is noted whole.
use kafka_protocol::protocol::Request;
use ottla_compat_tests::node::Node;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::Batch;
pub use ottla_compat_tests::requests::*;
use ottla_compat_tests::scenario::{Case, Session, wait_for};

mod admin;
mod fetch;
mod frames;
mod metadata;
mod offsets;
mod produce;

pub const FAMILIES: [(&str, &[Case]); 6] = [
    ("wire-produce", produce::CASES),
    ("wire-fetch", fetch::CASES),
    ("wire-offsets", offsets::CASES),
    ("wire-metadata", metadata::CASES),
    ("wire-admin", admin::CASES),
    ("wire-frames", frames::CASES),
];

/// What every case works with: a session, a node and a connection to it.
pub struct Wire<'a, 'b, 'n> {
    pub s: &'a mut Session<'b>,
    pub node: &'n Node,
    pub connection: Connection,
}

impl<'a, 'b> Wire<'a, 'b, 'b> {
    /// On the node that cases share.
    pub fn open(s: &'a mut Session<'b>) -> Self {
        let node = s.node();
        Wire::at(s, node)
    }
}

impl<'a, 'b, 'n> Wire<'a, 'b, 'n> {
    /// On a node of the case's own.
    pub fn at(s: &'a mut Session<'b>, node: &'n Node) -> Self {
        let connection = Connection::open(node.socket()).unwrap();
        Self { s, node, connection }
    }

    /// Another connection to the same node.
    pub fn connect(&self) -> Connection {
        Connection::open(self.node.socket()).unwrap()
    }

    /// The time for records, ms since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.s.transcript.now_ms
    }

    /// Calls an API and notes the answer.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        self.s.call(&mut self.connection, version, request)
    }

    /// Says what comes next.
    pub fn title(&mut self, title: &str) {
        self.s.transcript.add(&format!("--- {title}"));
    }

    /// Creates the topic of the case, with one partition.
    pub fn topic(&mut self) -> Topic {
        self.create("", 1, &[])
    }

    /// Creates a topic and waits until its partitions are led.
    pub fn create(&mut self, suffix: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
        let name = format!("{}{suffix}", self.s.name);
        create_topic(&mut self.connection, &name, partitions, configs)
    }

    /// A new producer's id and epoch; ids differ between brokers, so they are not noted.
    pub fn producer(&mut self) -> (i64, i16) {
        let request = init_producer_id(-1, -1);
        wait_for(
            // A broker may have to ask the controller for ids first.
            || {
                let answer = self.connection.call(4, &request).unwrap();
                (answer.error_code == 0).then_some((answer.producer_id.0, answer.producer_epoch))
            },
            || "no producer id".into(),
        )
    }

    /// Produces to partition 0 of a topic, which must succeed, without noting it.
    pub fn append(&mut self, topic: &Topic, batch: &Batch) -> i64 {
        self.append_to(topic, 0, batch)
    }

    /// Produces to a partition, which must succeed, without noting it; returns the base offset.
    pub fn append_to(&mut self, topic: &Topic, partition: i32, batch: &Batch) -> i64 {
        append(&mut self.connection, topic, partition, batch)
    }
}
