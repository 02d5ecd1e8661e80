//! The cluster's metadata as records and as an image of them.

pub mod records;
