//! Topic names, and where the replicas of new partitions go.

pub mod names;
pub mod placement;
