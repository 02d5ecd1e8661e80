//! What RocksDB tells of itself, for metrics.

use rocksdb::{DB, properties};

use super::database::FAMILIES;

/// The state of the index of a log directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct IndexFacts {
    /// What is in memory and not in files yet.
    pub memtable_bytes: u64,
    /// What is cached of the files.
    pub block_cache_bytes: u64,
    /// The size of the files.
    pub file_bytes: u64,
    /// How many compactions run.
    pub running_compactions: u64,
    /// How many flushes of what is in memory run.
    pub running_flushes: u64,
    /// Writes wait for a compaction or a flush.
    pub is_stalled: bool,
}

impl IndexFacts {
    pub(super) fn of(db: &DB) -> IndexFacts {
        // What RocksDB does not tell counts as nothing.
        let of_all = |name| db.property_int_value(name).ok().flatten().unwrap_or(0);
        let of_families = |name| {
            let families = FAMILIES.iter().filter_map(|family| db.cf_handle(family));
            let values = families.map(|family| db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0));
            values.sum()
        };
        IndexFacts {
            memtable_bytes: of_families(properties::CUR_SIZE_ALL_MEM_TABLES),
            block_cache_bytes: of_all(properties::BLOCK_CACHE_USAGE),
            file_bytes: of_families(properties::LIVE_SST_FILES_SIZE),
            running_compactions: of_all(properties::NUM_RUNNING_COMPACTIONS),
            running_flushes: of_all(properties::NUM_RUNNING_FLUSHES),
            is_stalled: of_all(properties::IS_WRITE_STOPPED) > 0 || of_all(properties::ACTUAL_DELAYED_WRITE_RATE) > 0,
        }
    }
}
