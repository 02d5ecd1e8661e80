//! Segment files with RocksDB indexes, behind the ports `PartitionLog` and `LogStore`.
//!
//! Log directories look like Apache Kafka's; what its index files hold lies in one RocksDB database a directory, in
//! `.ottla/`, which can always be made again. This crate never needs an async runtime, and never answers that something
//! is stored before the kernel has it.

mod atomic_file;
mod checkpoint;
mod clean_shutdown;
mod cleaning;
mod cut;
mod deletion;
mod directory;
mod epochs;
mod flush;
mod health;
mod index;
mod lock;
mod log;
mod meta_properties;
mod partition_metadata;
mod recovery;
mod region;
mod scan;
mod segment;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use index::IndexFacts;
pub use log::Log;
pub use meta_properties::MetaProperties;
pub use region::Region;
pub use store::{Store, StoreConfig};
