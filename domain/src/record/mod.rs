//! Record batches, the records in them, and the encodings they are made of.

pub mod primitives;
