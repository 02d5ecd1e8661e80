//! Group coordination: which member of a group reads which partitions, and how far each group has read.
//!
//! [`shard::GroupShard`] holds the groups of one partition of `__consumer_offsets`. Classic groups (JoinGroup and SyncGroup)
//! and consumer groups (KIP-848) live side by side in it, with the offsets that were committed for them.

pub mod assignors;
pub mod classic;
pub mod commands;
pub mod consumer;
mod consumer_protocol;
pub mod context;
pub mod events;
mod group;
mod index;
pub mod offsets;
pub mod partition;
pub mod records;
pub mod settings;
pub mod shard;
pub mod timers;
pub mod totals;
mod transactions;

#[cfg(test)]
mod tests;
