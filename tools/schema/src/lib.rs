//! Apache Kafka's message schemas, read out of its jars. What is made of them is the binary's matter; the tests make hostile
//! requests of them.
#![allow(missing_docs, reason = "the names are those of Kafka's README of its schemas")]

pub mod jars;
pub mod schema;
