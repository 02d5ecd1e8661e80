//! The broker's fetch sessions, in shards with a lock each.

use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_domain::fetch::sessions::SessionCache;
use parking_lot::Mutex;

const SHARDS: i32 = 8;
const IDS_PER_SHARD: i32 = i32::MAX / SHARDS;
/// `min.incremental.fetch.session.eviction.ms`, which Kafka does not document and nobody sets.
const EVICTION_MS: i64 = 120_000;
/// How many partitions all sessions remember together: some 300 bytes each.
const PARTITIONS_MAX: usize = 240_000;

/// Fetch sessions, spread over shards by their ids.
#[derive(Debug)]
pub(super) struct Sessions {
    shards: Vec<Mutex<SessionCache>>,
    next: AtomicUsize,
}

impl Sessions {
    /// Room for `capacity` sessions in all (`max.incremental.fetch.session.cache.slots`).
    pub(super) fn new(capacity: usize) -> Self {
        let shard = |number: i32| {
            let ids = number * IDS_PER_SHARD..(number + 1) * IDS_PER_SHARD;
            let share = |all: usize| all.div_ceil(SHARDS as usize);
            Mutex::new(SessionCache::new(
                share(capacity),
                share(PARTITIONS_MAX),
                EVICTION_MS,
                ids,
            ))
        };
        Sessions {
            shards: (0..SHARDS).map(shard).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// The shard that holds a session, if any does.
    pub(super) fn shard(&self, session_id: i32) -> &Mutex<SessionCache> {
        self.at(usize::try_from(session_id / IDS_PER_SHARD).unwrap_or(0))
    }

    /// A shard for a new session, in turn.
    pub(super) fn next_shard(&self) -> &Mutex<SessionCache> {
        self.at(self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len())
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "the index is bounded by the number of shards, which is not zero"
    )]
    fn at(&self, index: usize) -> &Mutex<SessionCache> {
        &self.shards[index.min(self.shards.len() - 1)]
    }
}
