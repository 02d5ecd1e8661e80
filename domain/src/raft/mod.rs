//! KRaft, Kafka's Raft (KIP-595, 630, 853, 996).

pub mod control_records;
