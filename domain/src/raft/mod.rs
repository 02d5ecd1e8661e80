//! KRaft, Kafka's Raft (KIP-595, 630, 853, 996), as a pure state machine.
//!
//! Unlike Raft, replicas pull: followers fetch, and their fetch offsets are their acknowledgements. [`Raft::step`] takes one
//! [`Input`] at a [`Moment`] and returns [`Effects`], to be carried out in order; a single voter elects itself within
//! [`Raft::new`]. The rules are spread over `machine` (states and transitions), `elections`, `leader` and `follower`.

pub mod control;
pub mod control_records;
pub mod messages;
pub mod snapshots;
pub mod voters;

mod connections;
mod election;
mod elections;
mod follower;
mod io;
mod leader;
mod log;
mod machine;

pub use connections::Peer;
pub use election::ElectionState;
pub use io::{
    Answer, Effects, Fault, Input, LeaderAndEpoch, Moment, Outgoing, QuorumConfig, Read, SnapshotPiece, Token,
};
pub use leader::{QuorumStatus, ReplicaStatus};
pub use log::{AppendError, EpochEnd, ReplicatedLog, SnapshotId};
pub use machine::{Identity, Raft};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
