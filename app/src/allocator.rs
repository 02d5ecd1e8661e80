//! The allocator of the whole process, RocksDB included.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc before `main`: memory that was freed goes back to the system after a second. Without threads of its
/// own, that happens as the process allocates. The C side reads the pointer that the slice begins with.
#[used]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: &[u8] = b"background_thread:false,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
