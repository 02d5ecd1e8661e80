//! Segment files with RocksDB indexes.
