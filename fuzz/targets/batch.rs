//! What a client sends for a partition, and what a log may hold: as it is, and with its CRC made right, so that what lies
//! behind that check is reached.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_compression::Codecs;
use ottla_domain::ids::Timestamp;
use ottla_domain::log::AppendOrigin;
use ottla_domain::log::config::{CleanupPolicy, LogConfig, TopicCompression};
use ottla_domain::log::validation::{Rules, validate};
use ottla_domain::record::batch::{Batches, RecordBatch};
use ottla_domain::record::compression::{Codec, CompressionType};
use ottla_domain::record::control::EndTxnMarker;
use ottla_domain::record::records::Records;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    read(&bytes);
    if let Ok(batch) = RecordBatch::parse(&bytes) {
        let body = batch.body();
        read(RecordBatch::new(batch.header.with_crc(&body), &body).bytes());
    }
});

fn read(bytes: &Bytes) {
    for batch in Batches::new(bytes.clone()).map_while(Result::ok) {
        let body = batch.body();
        if let Ok(records) = Records::new(&batch.header, &body) {
            for record in records.map_while(Result::ok) {
                record.headers.for_each(drop);
            }
        }
        let _ = EndTxnMarker::of_batch(&batch.header, &body);
    }
    let compacted = CleanupPolicy { delete: false, compact: true };
    let topics = [
        LogConfig::default(),
        LogConfig { cleanup_policy: compacted, ..LogConfig::default() },
        LogConfig {
            compression: TopicCompression::Fixed(Codec::default_of(CompressionType::None)),
            max_message_bytes: 100_000,
            ..LogConfig::default()
        },
    ];
    for config in &topics {
        let rules = Rules {
            config,
            origin: AppendOrigin::Client,
            zstd_allowed: true,
            trust_compressed_headers: false,
            partition: &"t-0",
        };
        let _ = validate(bytes, &rules, &Codecs, Timestamp(1_000_000));
    }
}
