//! Metadata records to batches and back.

use bytes::BytesMut;
use ottla_domain::ids::{LeaderEpoch, Offset, Timestamp};
use ottla_domain::metadata::records::MetadataRecord;
use ottla_domain::record::batch::RecordBatch;
use ottla_domain::record::records::{BatchBuilder, Records};

use crate::error::RaftError;

/// A batch of records, as a leader appends it and a snapshot holds it.
pub(crate) struct RecordsBuilder {
    builder: BatchBuilder,
    value: BytesMut,
}

impl RecordsBuilder {
    pub(crate) fn new(base_offset: Offset, epoch: LeaderEpoch) -> RecordsBuilder {
        let mut builder = BatchBuilder::new(base_offset);
        builder.partition_leader_epoch = epoch;
        RecordsBuilder {
            builder,
            value: BytesMut::new(),
        }
    }

    pub(crate) fn push(&mut self, now: Timestamp, record: &MetadataRecord) {
        self.value.clear();
        record.encode(&mut self.value);
        self.builder.append(now, None, Some(&self.value));
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.builder.size_bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    pub(crate) fn build(self) -> RecordBatch {
        self.builder.build()
    }
}

/// The records of a batch; none of a control batch.
pub(crate) fn records(batch: &RecordBatch) -> Result<Vec<MetadataRecord>, RaftError> {
    if batch.header.attributes.is_control() {
        return Ok(Vec::new());
    }
    let base_offset = batch.header.base_offset;
    let body = batch.body();
    Records::new(&batch.header, &body)
        .map_err(|error| RaftError::record(base_offset, error))?
        .map(|record| {
            let record = record.map_err(|error| RaftError::record(base_offset, error))?;
            MetadataRecord::decode(record.value.unwrap_or_default())
                .map_err(|error| RaftError::record(record.offset, error))
        })
        .collect()
}
