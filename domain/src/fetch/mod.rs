//! What a broker remembers of its readers.

pub mod sessions;
