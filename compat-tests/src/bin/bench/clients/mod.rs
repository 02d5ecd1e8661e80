//! Clients that cost little, so that the broker is what is measured.
pub mod batches;
pub mod librdkafka;
pub mod producer;
pub mod reader;
