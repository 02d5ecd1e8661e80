//! Kafka's protocol over TCP.

pub mod checker;
pub mod messages;
