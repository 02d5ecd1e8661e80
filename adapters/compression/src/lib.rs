//! gzip, snappy, lz4 and zstd as bounded streams.
