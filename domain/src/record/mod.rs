//! Record batches, the records in them, and the encodings they are made of.

pub mod batch;
pub mod compression;
pub mod control;
pub mod primitives;
pub mod records;
#[cfg(test)]
pub(crate) mod testing;
pub mod walk;
