//! Kafka's protocol over TCP.

pub mod messages;
