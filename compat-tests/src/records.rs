//! Builds record batches of magic 2 byte by byte, right and wrong ones.
use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};

/// Codecs by their number in a batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The value of `compression.type` and of kcat's `-z`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("gzip")
            }
            Self::Snappy => {
                // One chunk of the framing of snappy-java, which is what Kafka's clients write.
                let chunk = snap::raw::Encoder::new().compress_vec(bytes).expect("snappy");
                let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
                out.extend((chunk.len() as u32).to_be_bytes());
                out.extend(chunk);
                out
            }
            Self::Lz4 => {
                let mut encoder = lz4::EncoderBuilder::new()
                    .block_mode(lz4::BlockMode::Independent)
                    // As librdkafka and Java's clients.
                    .checksum(lz4::ContentChecksum::NoChecksum)
                    .build(Vec::new())
                    .expect("lz4");
                encoder.write_all(bytes).expect("lz4");
                let (out, result) = encoder.finish();
                result.map(|()| out).expect("lz4")
            }
            Self::Zstd => zstd::stream::encode_all(bytes, 0).expect("zstd"),
        }
    }
}

/// A record; `..` gives the usual rest.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Difference to the batch's base timestamp, ms.
    pub timestamp_delta: i64,
    /// Difference to the batch's base offset; by default its place in the batch.
    pub offset_delta: Option<i32>,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Vec<(&'static str, Option<&'static [u8]>)>,
}

impl Record {
    /// A record with just a value.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// A record with key and value.
    pub fn keyed(key: &'static str, value: &'static str) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::value(value)
        }
    }
}

/// A batch; everything that a client may get wrong can be set.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Batch {
    pub base_offset: i64,
    /// Replaces the true length of what follows the length field.
    pub length: Option<i32>,
    pub leader_epoch: i32,
    pub magic: i8,
    /// Added to the right CRC.
    pub crc_error: u32,
    pub codec: Codec,
    /// Attribute bits beside the codec's.
    pub attributes: i16,
    pub last_offset_delta: Option<i32>,
    pub base_timestamp: i64,
    pub max_timestamp: Option<i64>,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// Replaces the true number of records.
    pub count: Option<i32>,
    pub records: Vec<Record>,
}

impl Batch {
    /// A right batch, as a producer without idempotence sends it.
    pub fn new(base_timestamp: i64, records: Vec<Record>) -> Self {
        Self {
            base_offset: 0,
            length: None,
            leader_epoch: -1,
            magic: 2,
            crc_error: 0,
            codec: Codec::None,
            attributes: 0,
            last_offset_delta: None,
            base_timestamp,
            max_timestamp: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: None,
            records,
        }
    }

    /// A right batch with these values.
    pub fn of(base_timestamp: i64, values: &[&'static str]) -> Self {
        Self::new(
            base_timestamp,
            values.iter().map(|value| Record::value(*value)).collect(),
        )
    }

    /// The batch of an idempotent producer.
    pub fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, sequence);
        self
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut records = BytesMut::new();
        for (place, record) in self.records.iter().enumerate() {
            put_record(&mut records, place as i32, record);
        }
        let last = self.records.len() as i32 - 1;
        let largest = self
            .records
            .iter()
            .map(|record| record.timestamp_delta)
            .max()
            .unwrap_or(0);
        // What the CRC covers.
        let mut body = BytesMut::new();
        body.put_i16(self.attributes | self.codec as i16);
        body.put_i32(self.last_offset_delta.unwrap_or(last));
        body.put_i64(self.base_timestamp);
        body.put_i64(self.max_timestamp.unwrap_or(self.base_timestamp + largest));
        body.put_i64(self.producer_id);
        body.put_i16(self.producer_epoch);
        body.put_i32(self.base_sequence);
        body.put_i32(self.count.unwrap_or(last + 1));
        body.put_slice(&self.codec.compress(&records));
        let mut batch = BytesMut::new();
        batch.put_i64(self.base_offset);
        batch.put_i32(self.length.unwrap_or(body.len() as i32 + 9));
        batch.put_i32(self.leader_epoch);
        batch.put_i8(self.magic);
        batch.put_u32(crc32c::crc32c(&body).wrapping_add(self.crc_error));
        batch.put_slice(&body);
        batch.freeze()
    }
}

fn put_record(out: &mut BytesMut, place: i32, record: &Record) {
    let mut body = BytesMut::new();
    body.put_i8(0);
    put_varint(&mut body, record.timestamp_delta);
    put_varint(&mut body, record.offset_delta.unwrap_or(place).into());
    put_bytes(&mut body, record.key.as_deref());
    put_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        put_bytes(&mut body, Some(name.as_bytes()));
        put_bytes(&mut body, *value);
    }
    put_varint(out, body.len() as i64);
    out.put_slice(&body);
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.put_slice(bytes.unwrap_or_default());
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}
