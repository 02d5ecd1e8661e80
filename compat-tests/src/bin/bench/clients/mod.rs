//! Clients that cost little, so that the broker is what is measured.
pub mod batches;
pub mod classic;
pub mod consumer;
pub mod librdkafka;
pub mod offsets;
pub mod pipeline;
pub mod producer;
pub mod reader;

/// A thread of a client that does nothing but call.
pub const STACK_BYTES: usize = 128 * 1024;
