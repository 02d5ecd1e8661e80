//! What may be appended: the checks and conversions of a leader, as Kafka's LogValidator and ProduceRequest make them.

use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;

use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, Timestamp};
use crate::log::AppendOrigin;
use crate::log::config::LogConfig;
use crate::record::batch::{
    BatchError, BatchHeader, HEADER_SIZE_BYTES, LOG_OVERHEAD_BYTES, RecordBatch, TimestampType, peek_size,
};
use crate::record::compression::{Codec, Compression, CompressionType};
use crate::record::walk::{DECOMPRESSED_BYTES_MAX, WalkError, WalkedRecord, walk, walk_stream};

/// How many records of one batch are named in an answer; the others share the batch's error.
const RECORD_ERRORS_MAX: usize = 1_000;

/// What a batch is held against.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The settings of the topic.
    pub config: &'a LogConfig,
    /// A client or a coordinator.
    pub origin: AppendOrigin,
    /// The Produce version is 7 or later, so that the client knows of zstd (KIP-110).
    pub zstd_allowed: bool,
    /// `ottla.validate.compressed=header`: compressed records are not looked at where nothing needs it.
    pub trust_compressed_headers: bool,
    /// The name that messages to people carry, as `topic-0`.
    pub partition: &'a dyn fmt::Display,
}

/// One record's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// The index of the record in its batch.
    pub index: i32,
    /// What is wrong with it.
    pub message: String,
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Rejection {
    /// The code that the client gets.
    pub code: ErrorCode,
    /// What is wrong.
    pub detail: String,
    /// The records at fault (KIP-467); empty when the batch as a whole is.
    pub record_errors: Vec<RecordFault>,
}

impl Rejection {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Rejection {
        Rejection {
            code,
            detail: detail.into(),
            record_errors: Vec::new(),
        }
    }

    /// The message that goes to the client: as in Kafka only where records are named. `detail` is for the log.
    pub fn client_message(&self) -> Option<&str> {
        (!self.record_errors.is_empty()).then_some(&self.detail)
    }
}

impl From<BatchError> for Rejection {
    fn from(error: BatchError) -> Self {
        Rejection::new(error.code(), error.to_string())
    }
}

impl From<WalkError> for Rejection {
    fn from(error: WalkError) -> Self {
        Rejection::new(ErrorCode::InvalidRecord, error.to_string())
    }
}

/// A batch that may be appended: a header to be placed, and the producer's body or, after a conversion, a new one.
#[derive(Clone, Debug)]
pub struct Validated {
    header: BatchHeader,
    body: Bytes,
    log_append_time: bool,
    converted: bool,
}

impl Validated {
    /// A batch that a coordinator of this broker made.
    pub fn of_coordinator(header: BatchHeader, body: Bytes) -> Self {
        Validated {
            header,
            body,
            log_append_time: false,
            converted: false,
        }
    }

    /// The header as it is stored at this offset. Call it under the partition's lock, so that log append times ascend.
    pub fn place(&self, base_offset: Offset, leader_epoch: LeaderEpoch, now: Timestamp) -> BatchHeader {
        let header = self.header.with_offset(base_offset, leader_epoch);
        match self.log_append_time {
            true => header.with_max_timestamp(TimestampType::LogAppendTime, now, &self.body),
            false => header,
        }
    }

    /// What follows the header.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The size of the batch.
    pub fn size_bytes(&self) -> usize {
        self.header.size_bytes()
    }

    /// How many records it holds.
    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// The broker stamps this batch: answers carry the time (`message.timestamp.type=LogAppendTime`).
    pub fn has_log_append_time(&self) -> bool {
        self.log_append_time
    }

    /// The body was compressed anew.
    pub fn is_converted(&self) -> bool {
        self.converted
    }
}

/// Validates what a client sent for one partition: exactly one batch of magic 2. Bytes behind it that are no whole batch are
/// dropped, as Kafka does.
pub fn validate(
    records: &Bytes,
    rules: &Rules<'_>,
    compression: &dyn Compression,
    now: Timestamp,
) -> Result<Validated, Rejection> {
    let batch = the_only_batch(records)?;
    let header = batch.header;
    let codec = header
        .attributes
        .compression()
        .ok_or_else(|| Rejection::new(ErrorCode::UnsupportedCompressionType, "unknown compression type id"))?;
    if codec == CompressionType::Zstd && !rules.zstd_allowed {
        return Err(Rejection::new(
            ErrorCode::UnsupportedCompressionType,
            "Produce versions below 7 cannot carry zstd",
        ));
    }
    check_size(batch.bytes().len(), rules)?;
    batch.check_crc()?;
    check_header(&header, rules)?;

    let body = batch.body();
    let target = match header.attributes.is_control() {
        true => Codec::default_of(codec),
        false => rules.config.compression.target(codec),
    };
    let converted = target.compression_type() != codec;
    let trusted = rules.trust_compressed_headers
        && codec != CompressionType::None
        && !converted
        && !rules.config.cleanup_policy.compact;
    let mut records = RecordChecks::new(&header, rules, now);
    if trusted {
        records.trust_header();
    } else if codec == CompressionType::None {
        walk(header.record_count, &body, |record| records.check(record))?;
    } else {
        let mut stream = compression.decompress(codec, &body).map_err(WalkError::from)?;
        walk_stream(header.record_count, &mut stream, |record| records.check(record))?;
    }
    let max_timestamp = records.finish()?;

    let log_append_time = rules.config.message_timestamp_type == TimestampType::LogAppendTime;
    let (header, body) = match converted {
        true => convert(header, &body, codec, target, rules, compression)?,
        false => (header, body),
    };
    let header = match log_append_time {
        true => header,
        false => header.with_max_timestamp(TimestampType::CreateTime, max_timestamp, &body),
    };
    if header.size_bytes() > rules.config.segment_bytes as usize {
        return Err(Rejection::new(
            ErrorCode::RecordListTooLarge,
            format!(
                "batch of {} bytes exceeds segment.bytes {}",
                header.size_bytes(),
                rules.config.segment_bytes
            ),
        ));
    }
    Ok(Validated {
        header,
        body,
        log_append_time,
        converted,
    })
}

fn the_only_batch(records: &Bytes) -> Result<RecordBatch, Rejection> {
    let exactly_one = || {
        Rejection::new(
            ErrorCode::InvalidRecord,
            "exactly one record batch of magic 2 is allowed",
        )
    };
    match peek_size(records)? {
        Some((size_bytes, 2)) if size_bytes <= records.len() => {}
        _ => return Err(exactly_one()),
    }
    let batch = RecordBatch::parse(records)?;
    let rest = records.get(batch.bytes().len()..).unwrap_or_default();
    match peek_size(rest)? {
        Some((size_bytes, _)) if size_bytes <= rest.len() => Err(exactly_one()),
        _ => Ok(batch),
    }
}

fn check_size(size_bytes: usize, rules: &Rules<'_>) -> Result<(), Rejection> {
    let max_bytes = rules.config.max_message_bytes as usize;
    if size_bytes > max_bytes {
        return Err(Rejection::new(
            ErrorCode::MessageTooLarge,
            format!("batch of {size_bytes} bytes exceeds max.message.bytes {max_bytes}"),
        ));
    }
    Ok(())
}

/// Checks of header fields that only clients can get wrong.
fn check_header(header: &BatchHeader, rules: &Rules<'_>) -> Result<(), Rejection> {
    if rules.origin != AppendOrigin::Client {
        return Ok(());
    }
    let invalid = |detail: String| {
        let partition = rules.partition;
        Err(Rejection::new(
            ErrorCode::InvalidRecord,
            format!("{detail} in topic partition {partition}"),
        ))
    };
    if header.base_offset != Offset::ZERO {
        return invalid(format!("base offset {} should be 0", header.base_offset));
    }
    if header.record_count <= 0 || i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        return invalid(format!(
            "last offset delta {} does not fit the record count {}",
            header.last_offset_delta, header.record_count
        ));
    }
    if header.attributes.is_control() {
        return invalid("clients are not allowed to write control records".to_owned());
    }
    if header.attributes.has_delete_horizon() {
        return invalid("clients are not allowed to set a delete horizon".to_owned());
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return invalid(format!(
            "invalid sequence number {} of producer {}",
            header.base_sequence, header.producer_id
        ));
    }
    Ok(())
}

/// The checks of each record, and the largest timestamp.
struct RecordChecks<'a> {
    header: &'a BatchHeader,
    rules: &'a Rules<'a>,
    now: Timestamp,
    log_append_time: Option<Timestamp>,
    index: i32,
    max_timestamp: Timestamp,
    misplaced: Option<(i32, i32)>,
    invalid_timestamp: bool,
    fault_count: usize,
    faults: Vec<RecordFault>,
}

impl<'a> RecordChecks<'a> {
    fn new(header: &'a BatchHeader, rules: &'a Rules<'a>, now: Timestamp) -> RecordChecks<'a> {
        RecordChecks {
            header,
            rules,
            now,
            log_append_time: match header.attributes.timestamp_type() {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(header.max_timestamp),
            },
            index: 0,
            max_timestamp: Timestamp::NONE,
            misplaced: None,
            invalid_timestamp: false,
            fault_count: 0,
            faults: Vec::new(),
        }
    }

    fn check(&mut self, record: WalkedRecord) {
        let timestamp = self.log_append_time.unwrap_or(Timestamp(
            self.header.base_timestamp.0.wrapping_add(record.timestamp_delta),
        ));
        if record.offset_delta != self.index && self.misplaced.is_none() {
            self.misplaced = Some((self.index, record.offset_delta));
        }
        if self.rules.config.cleanup_policy.compact && !record.has_key {
            self.fault(format!(
                "Compacted topic cannot accept message without key in topic partition {}",
                self.rules.partition
            ));
        } else {
            self.check_timestamp(timestamp, record.offset_delta);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.index += 1;
    }

    /// The header's own word for all records.
    fn trust_header(&mut self) {
        self.check_timestamp(self.header.max_timestamp, self.header.last_offset_delta);
        self.max_timestamp = self.header.max_timestamp;
    }

    fn check_timestamp(&mut self, timestamp: Timestamp, offset_delta: i32) {
        let config = self.rules.config;
        if config.message_timestamp_type == TimestampType::CreateTime && timestamp != Timestamp::NONE {
            let (before_max_ms, after_max_ms) = (
                config.message_timestamp_before_max_ms,
                config.message_timestamp_after_max_ms,
            );
            // Both bounds wrap, as in Kafka: the default lower bound is as far back as 64 bits go.
            let age_ms = self.now.0.wrapping_sub(timestamp.0);
            if age_ms > before_max_ms || age_ms.wrapping_neg() > after_max_ms {
                self.invalid_timestamp = true;
                self.fault(format!(
                    "Timestamp {timestamp} of message with offset {} is out of range. The timestamp should be within \
                     [{}, {}]",
                    self.header.base_offset.plus(i64::from(offset_delta)),
                    self.now.0.wrapping_sub(before_max_ms),
                    self.now.0.wrapping_add(after_max_ms)
                ));
            }
        } else if self.log_append_time.is_some() {
            self.invalid_timestamp = true;
            self.fault(
                "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime."
                    .to_owned(),
            );
        }
    }

    fn fault(&mut self, message: String) {
        self.fault_count += 1;
        if self.faults.len() < RECORD_ERRORS_MAX {
            let index = self.index;
            self.faults.push(RecordFault { index, message });
        }
    }

    fn finish(self) -> Result<Timestamp, Rejection> {
        if !self.faults.is_empty() {
            let (code, detail) = match self.invalid_timestamp {
                true => (
                    ErrorCode::InvalidTimestamp,
                    "One or more records have been rejected due to invalid timestamp".to_owned(),
                ),
                false => (
                    ErrorCode::InvalidRecord,
                    format!(
                        "One or more records have been rejected due to {} record errors in total, and only showing the \
                         first three errors at most: [{}]",
                        self.fault_count,
                        self.faults
                            .iter()
                            .take(3)
                            .map(RecordFault::to_string)
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                ),
            };
            return Err(Rejection {
                code,
                detail,
                record_errors: self.faults,
            });
        }
        if let Some((index, offset_delta)) = self.misplaced {
            return Err(Rejection::new(
                ErrorCode::InvalidRecord,
                format!("record {index} has the offset delta {offset_delta}"),
            ));
        }
        Ok(self.max_timestamp)
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordError(batchIndex={}, message='{}')", self.index, self.message)
    }
}

/// Compresses the very same records with another codec.
fn convert(
    header: BatchHeader,
    body: &Bytes,
    source: CompressionType,
    target: Codec,
    rules: &Rules<'_>,
    compression: &dyn Compression,
) -> Result<(BatchHeader, Bytes), Rejection> {
    let size_bytes_max = (rules.config.max_message_bytes as usize).saturating_sub(HEADER_SIZE_BYTES);
    let body = compression
        .decompress(source, body)
        .and_then(|stream| compression.compress(target, &mut stream.take(DECOMPRESSED_BYTES_MAX), size_bytes_max))
        .map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => Rejection::new(
                ErrorCode::MessageTooLarge,
                format!(
                    "batch exceeds max.message.bytes {} as {}",
                    rules.config.max_message_bytes,
                    target.compression_type().name()
                ),
            ),
            _ => Rejection::new(
                ErrorCode::InvalidRecord,
                format!("failed to convert the batch: {error}"),
            ),
        })?;
    let header = BatchHeader {
        length_bytes: (HEADER_SIZE_BYTES - LOG_OVERHEAD_BYTES + body.len()) as i32,
        attributes: header.attributes.with_compression(target.compression_type()),
        ..header
    };
    Ok((header.with_crc(&body), body.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ProducerEpoch, ProducerId};
    use crate::log::config::{CleanupPolicy, TopicCompression};
    use crate::record::compression::TestCompression;
    use crate::record::records::{BatchBuilder, Records};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn rules(config: &LogConfig) -> Rules<'_> {
        Rules {
            config,
            origin: AppendOrigin::Client,
            zstd_allowed: true,
            trust_compressed_headers: false,
            partition: &"t-0",
        }
    }

    fn builder(timestamps: &[i64]) -> BatchBuilder {
        let mut builder = BatchBuilder::new(Offset::ZERO);
        for timestamp in timestamps {
            builder.append(Timestamp(*timestamp), Some(b"key"), Some(b"value"));
        }
        builder
    }

    fn compressed(timestamps: &[i64], codec: CompressionType) -> RecordBatch {
        builder(timestamps)
            .build_compressed(&TestCompression, Codec::default_of(codec))
            .unwrap()
    }

    /// A copy of the batch with another header, its CRC made right.
    fn with_header(batch: &RecordBatch, change: impl FnOnce(&mut BatchHeader)) -> RecordBatch {
        let mut header = batch.header;
        change(&mut header);
        RecordBatch::new(header.with_crc(&batch.body()), &batch.body())
    }

    fn check(batch: &RecordBatch, config: &LogConfig) -> Result<Validated, Rejection> {
        validate(batch.bytes(), &rules(config), &TestCompression, NOW)
    }

    fn code(batch: &RecordBatch, config: &LogConfig) -> ErrorCode {
        check(batch, config).map_or_else(|rejection| rejection.code, |_| ErrorCode::None)
    }

    #[test]
    fn a_good_batch_keeps_its_body_and_crc() {
        for codec in CompressionType::ALL {
            let batch = compressed(&[1_000_000, 1_000_005], codec);
            let validated = check(&batch, &LogConfig::default()).unwrap();
            let placed = validated.place(Offset(40), LeaderEpoch(3), NOW);
            assert_eq!(validated.body(), &batch.body());
            assert_eq!(placed, batch.header.with_offset(Offset(40), LeaderEpoch(3)));
            assert!(!validated.is_converted() && !validated.has_log_append_time());
        }
    }

    #[test]
    fn exactly_one_batch_of_the_current_magic_is_accepted() {
        let batch = builder(&[1_000_000]).build();
        let config = LogConfig::default();
        let sent = |bytes: &[u8]| {
            validate(&Bytes::copy_from_slice(bytes), &rules(&config), &TestCompression, NOW)
                .map_or_else(|rejection| rejection.code, |_| ErrorCode::None)
        };
        let bytes = batch.bytes();
        assert_eq!(sent(bytes), ErrorCode::None);
        assert_eq!(
            sent(&[bytes, &bytes[..40]].concat()),
            ErrorCode::None,
            "a partial batch behind is dropped"
        );
        assert_eq!(sent(&[&bytes[..], &bytes[..]].concat()), ErrorCode::InvalidRecord);
        assert_eq!(sent(&[]), ErrorCode::InvalidRecord);
        assert_eq!(sent(&bytes[..bytes.len() - 1]), ErrorCode::InvalidRecord);
        for (magic, expected) in [(1, ErrorCode::InvalidRecord), (3, ErrorCode::CorruptMessage)] {
            let mut other = bytes.to_vec();
            other[16] = magic;
            assert_eq!(sent(&other), expected);
        }
        let mut damaged = bytes.to_vec();
        damaged[62] ^= 1;
        assert_eq!(sent(&damaged), ErrorCode::CorruptMessage);
    }

    #[test]
    fn header_fields_must_be_what_a_client_may_send() {
        let batch = builder(&[1_000_000, 1_000_000]).build();
        let invalid: [fn(&mut BatchHeader); 9] = [
            |header| header.base_offset = Offset(1),
            |header| header.record_count = 0,
            |header| header.record_count = 1,
            |header| header.last_offset_delta = -1,
            |header| (header.last_offset_delta, header.record_count) = (2, 3),
            |header| (header.last_offset_delta, header.record_count) = (0, 1),
            |header| header.attributes = header.attributes.with_control(true),
            |header| header.attributes.0 |= 0x40,
            |header| (header.producer_id, header.producer_epoch) = (ProducerId(5), ProducerEpoch(0)),
        ];
        for (index, change) in invalid.into_iter().enumerate() {
            let rejection = check(&with_header(&batch, change), &LogConfig::default()).unwrap_err();
            assert_eq!(
                (rejection.code, rejection.client_message()),
                (ErrorCode::InvalidRecord, None),
                "{index}"
            );
        }
        let unknown_codec = with_header(&batch, |header| header.attributes.0 |= 7);
        assert_eq!(
            code(&unknown_codec, &LogConfig::default()),
            ErrorCode::UnsupportedCompressionType
        );
    }

    #[test]
    fn sizes_are_limited_by_the_topic() {
        let batch = builder(&[1_000_000]).build();
        let size_bytes = batch.bytes().len() as u32;
        let limited = |max_message_bytes, segment_bytes| LogConfig {
            max_message_bytes,
            segment_bytes,
            ..LogConfig::default()
        };
        assert_eq!(code(&batch, &limited(size_bytes, size_bytes)), ErrorCode::None);
        assert_eq!(
            code(&batch, &limited(size_bytes - 1, size_bytes)),
            ErrorCode::MessageTooLarge
        );
        assert_eq!(
            code(&batch, &limited(size_bytes, size_bytes - 1)),
            ErrorCode::RecordListTooLarge
        );
    }

    #[test]
    fn timestamps_out_of_range_are_named_by_record() {
        let config = LogConfig {
            message_timestamp_before_max_ms: 100,
            message_timestamp_after_max_ms: 10,
            ..LogConfig::default()
        };
        for codec in CompressionType::ALL {
            assert_eq!(
                code(&compressed(&[999_900, 1_000_010, -1], codec), &config),
                ErrorCode::None
            );
            let rejection = check(&compressed(&[999_899, 1_000_000, 1_000_011], codec), &config).unwrap_err();
            assert_eq!(rejection.code, ErrorCode::InvalidTimestamp);
            let indexes: Vec<_> = rejection.record_errors.iter().map(|fault| fault.index).collect();
            assert_eq!(indexes, [0, 2]);
            assert_eq!(
                rejection.record_errors[1].message,
                "Timestamp 1000011 of message with offset 2 is out of range. The timestamp should be within [999900, \
                 1000010]"
            );
            assert_eq!(
                rejection.client_message(),
                Some("One or more records have been rejected due to invalid timestamp")
            );
        }
    }

    #[test]
    fn the_largest_timestamp_is_computed_and_the_broker_may_stamp_instead() {
        let batch = builder(&[1_000_003, 1_000_009, 1_000_001]).build();
        let lying = with_header(&batch, |header| header.max_timestamp = Timestamp(5));
        let validated = check(&lying, &LogConfig::default()).unwrap();
        let placed = validated.place(Offset(0), LeaderEpoch(0), NOW);
        assert_eq!(placed.max_timestamp, Timestamp(1_000_009));
        placed.check_crc(validated.body()).unwrap();

        let stamped = LogConfig {
            message_timestamp_type: TimestampType::LogAppendTime,
            ..LogConfig::default()
        };
        let validated = check(&batch, &stamped).unwrap();
        let placed = validated.place(Offset(0), LeaderEpoch(0), Timestamp(77));
        assert!(validated.has_log_append_time());
        assert_eq!(
            (placed.max_timestamp, placed.attributes.timestamp_type()),
            (Timestamp(77), TimestampType::LogAppendTime)
        );
        placed.check_crc(validated.body()).unwrap();

        let claims = with_header(&batch, |header| {
            header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        });
        assert_eq!(code(&claims, &stamped), ErrorCode::InvalidTimestamp);
    }

    #[test]
    fn compacted_topics_need_keys() {
        let config = LogConfig {
            cleanup_policy: CleanupPolicy {
                delete: false,
                compact: true,
            },
            ..LogConfig::default()
        };
        let mut builder = builder(&[1_000_000]);
        builder.append(Timestamp(1_000_000), None, Some(b"value"));
        assert_eq!(code(&builder.clone().build(), &LogConfig::default()), ErrorCode::None);
        for codec in CompressionType::ALL {
            let batch = builder
                .clone()
                .build_compressed(&TestCompression, Codec::default_of(codec))
                .unwrap();
            let rejection = validate(
                batch.bytes(),
                &Rules {
                    trust_compressed_headers: true,
                    ..rules(&config)
                },
                &TestCompression,
                NOW,
            )
            .unwrap_err();
            assert_eq!(
                (rejection.code, rejection.record_errors[0].index),
                (ErrorCode::InvalidRecord, 1)
            );
            assert_eq!(
                rejection.client_message(),
                Some(
                    "One or more records have been rejected due to 1 record errors in total, and only showing the first \
                     three errors at most: [RecordError(batchIndex=1, message='Compacted topic cannot accept message \
                     without key in topic partition t-0')]"
                )
            );
        }
    }

    #[test]
    fn a_topics_codec_converts_and_a_bigger_result_is_refused() {
        let batch = compressed(&[1_000_000, 1_000_007], CompressionType::Gzip);
        for target in CompressionType::ALL {
            let mut config = LogConfig {
                compression: TopicCompression::Fixed(Codec::default_of(target)),
                ..LogConfig::default()
            };
            let validated = check(&batch, &config).unwrap();
            let placed = validated.place(Offset(9), LeaderEpoch(1), NOW);
            assert_eq!(validated.is_converted(), target != CompressionType::Gzip);
            assert_eq!(placed.attributes.compression(), Some(target));
            placed.check_crc(validated.body()).unwrap();
            let mut plain = Vec::new();
            TestCompression
                .decompress(target, validated.body())
                .unwrap()
                .read_to_end(&mut plain)
                .unwrap();
            let offsets: Vec<_> = Records::of_decompressed(&placed, &plain)
                .unwrap()
                .map(|record| record.map(|record| record.offset))
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(offsets, [Offset(9), Offset(10)]);

            let plain_batch = builder(&[1_000_000, 1_000_007]).build();
            if target != CompressionType::None {
                config.max_message_bytes = plain_batch.bytes().len() as u32;
                assert_eq!(
                    code(&plain_batch, &config),
                    ErrorCode::MessageTooLarge,
                    "the stand-in adds a byte"
                );
            }
        }
    }

    #[test]
    fn a_body_that_is_not_its_codec_is_refused_unless_headers_are_trusted() {
        let batch = with_header(&builder(&[1_000_000]).build(), |header| {
            header.attributes = header.attributes.with_compression(CompressionType::Lz4);
        });
        let config = LogConfig::default();
        assert_eq!(code(&batch, &config), ErrorCode::InvalidRecord);
        let trusting = Rules {
            trust_compressed_headers: true,
            ..rules(&config)
        };
        assert!(validate(batch.bytes(), &trusting, &TestCompression, NOW).is_ok());
        let late = with_header(&batch, |header| header.max_timestamp = Timestamp(i64::MAX));
        let rejection = validate(late.bytes(), &trusting, &TestCompression, NOW).unwrap_err();
        assert_eq!(rejection.code, ErrorCode::InvalidTimestamp);

        let zstd = compressed(&[1_000_000], CompressionType::Zstd);
        let old = Rules {
            zstd_allowed: false,
            ..rules(&config)
        };
        let rejection = validate(zstd.bytes(), &old, &TestCompression, NOW).unwrap_err();
        assert_eq!(rejection.code, ErrorCode::UnsupportedCompressionType);
    }

    #[test]
    fn records_must_be_framed_and_numbered() {
        let batch = builder(&[1_000_000, 1_000_000]).build();
        let with_body = |change: fn(&mut Vec<u8>)| {
            let mut body = batch.body().to_vec();
            change(&mut body);
            let header = BatchHeader {
                length_bytes: (49 + body.len()) as i32,
                ..batch.header
            };
            RecordBatch::new(header.with_crc(&body), &body)
        };
        assert_eq!(code(&with_body(|_| ()), &LogConfig::default()), ErrorCode::None);
        let broken: [fn(&mut Vec<u8>); 4] = [
            |body| body.push(0),
            |body| body.truncate(body.len() - 1),
            |body| body[0] ^= 2,
            // The offset delta of the first record.
            |body| body[3] = 2,
        ];
        for change in broken {
            assert_eq!(
                code(&with_body(change), &LogConfig::default()),
                ErrorCode::InvalidRecord
            );
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics_and_never_passes_the_crc(at in any::<prop::sample::Index>(), bits in 1u8.., codec in 0u8..5) {
            let codec = CompressionType::from_id(codec).unwrap();
            let mut bytes = compressed(&[1_000_000, 1_000_002], codec).bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            let config = LogConfig::default();
            let outcome = validate(&Bytes::from(bytes), &rules(&config), &TestCompression, NOW);
            // The leader epoch is neither checked nor covered.
            prop_assert_eq!(outcome.is_ok(), (12..16).contains(&at));
        }
    }
}
