//! Reads a shard's state from its log.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Read as _;
use std::time::{Duration, Instant};

use ottla_domain::coordinator::{Shard, Stored};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::Offset;
use ottla_domain::ports::outbound::PartitionLog;
use ottla_domain::record::batch::{BatchHeader, Batches, RecordBatch};
use ottla_domain::record::compression::CompressionType;
use ottla_domain::record::control::EndTxnMarker;
use ottla_domain::record::records::Records;
use tracing::{info, warn};

use crate::broker::LedPartition;

/// How often the progress of a long load is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// No batch of an internal topic decompresses to more.
const DECOMPRESSED_MAX_BYTES: u64 = 256 << 20;

/// Why a log was not loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The disk did not give it: that may pass.
    #[error("reading at offset {0} failed: {1}")]
    Read(Offset, ErrorCode),
    /// The log is not one that can be loaded; nor will it be.
    #[error("{0}")]
    Content(String),
    /// Nobody wants it any more.
    #[error("it is not wanted any more")]
    Unwanted,
}

impl From<String> for LoadError {
    fn from(reason: String) -> Self {
        LoadError::Content(reason)
    }
}

/// What is wrong with a batch.
fn at(header: &BatchHeader, error: &dyn Display) -> String {
    format!("at offset {}: {error}", header.base_offset)
}

/// Applies every record of the log to `shard`, and returns where the log ends. Blocks. Stops early once it is not wanted
/// any more.
pub(super) fn load<L: PartitionLog, M: Shard>(
    partition: &LedPartition<L>,
    shard: &mut M,
    buffer_bytes: usize,
    is_wanted: impl Fn() -> bool,
) -> Result<Offset, LoadError> {
    let started = Instant::now();
    let mut told = started;
    let mut loaded = Loaded::default();
    let mut next = partition.log_start_offset();
    // This broker leads and this shard alone writes: the end does not move.
    while next < partition.log_end_offset() {
        if !is_wanted() {
            return Err(LoadError::Unwanted);
        }
        let bytes = match partition.read(next, buffer_bytes) {
            Ok(bytes) => bytes,
            // What was below it was deleted meanwhile.
            Err(ErrorCode::OffsetOutOfRange) if next < partition.log_start_offset() => {
                next = partition.log_start_offset();
                continue;
            }
            Err(code) => return Err(LoadError::Read(next, code)),
        };
        let before = next;
        for batch in Batches::new(bytes) {
            // The last batch of a slice may be cut short: it is read again.
            let Ok(batch) = batch else { break };
            let header = batch.header;
            if header.next_offset() <= next {
                continue;
            }
            next = header.next_offset();
            loaded.bytes += header.size_bytes();
            let at = |error: &dyn Display| at(&header, error);
            batch.check_crc().map_err(|error| at(&error))?;
            if header.attributes.is_control() {
                if let Some(marker) = EndTxnMarker::of_batch(&header, &batch.body()).map_err(|error| at(&error))? {
                    shard.apply_marker(header.producer_id, marker.committed);
                }
            } else {
                loaded.apply(partition, shard, &batch)?;
            }
        }
        if next == before {
            return Err(format!("there is no readable batch at offset {next}").into());
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let end = partition.log_end_offset();
            info!(%partition, offset = %next, %end, records = loaded.records, "loading");
        }
    }
    let elapsed_ms = started.elapsed().as_millis();
    if loaded.records > 0 {
        info!(%partition, records = loaded.records, bytes = loaded.bytes, elapsed_ms, "loaded");
    }
    Ok(next)
}

#[derive(Default)]
struct Loaded {
    records: usize,
    bytes: usize,
    unknown_types: BTreeSet<i16>,
}

impl Loaded {
    fn apply<L: PartitionLog, M: Shard>(
        &mut self,
        partition: &LedPartition<L>,
        shard: &mut M,
        batch: &RecordBatch,
    ) -> Result<(), String> {
        let header = &batch.header;
        let at = |error: &dyn Display| at(header, error);
        let body = batch.body();
        let producer = header.attributes.is_transactional().then_some(header.producer_id);
        let mut plain = Vec::new();
        let records = match header.attributes.compression() {
            Some(CompressionType::None) => Records::new(header, &body),
            Some(codec) => {
                let compression = &partition.tools().compression;
                let mut stream = compression.decompress(codec, &body).map_err(|error| at(&error))?;
                let mut limited = stream.by_ref().take(DECOMPRESSED_MAX_BYTES);
                limited.read_to_end(&mut plain).map_err(|error| at(&error))?;
                Records::of_decompressed(header, &plain)
            }
            None => return Err(at(&"the codec is unknown")),
        };
        for record in records.map_err(|error| at(&error))? {
            let record = record.map_err(|error| at(&error))?;
            match M::decode(record.key, record.value) {
                Ok(Stored::Record(stored)) => shard
                    .apply(record.offset, producer, stored)
                    .map_err(|reason| format!("the record at offset {}: {reason}", record.offset))?,
                Ok(Stored::Unknown(number)) => {
                    if self.unknown_types.insert(number) {
                        warn!(%partition, offset = %record.offset, number, "skipping records of a type that is not known");
                    }
                }
                Err(reason) => return Err(format!("the record at offset {}: {reason}", record.offset)),
            }
            self.records += 1;
        }
        Ok(())
    }
}
