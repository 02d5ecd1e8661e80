//! Consumer groups and their offsets.
pub mod commit;
pub mod heartbeat;
pub mod join;
pub mod load;
