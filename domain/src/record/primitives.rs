//! Kafka's primitive encodings, as records and batches hold them (Kafka's protocol guide, "Protocol Primitive Types").
//!
//! Lengths that come from bytes are checked against the bytes that remain before anything is allocated for them.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a value.
    #[error("{needed} bytes needed, {remaining} left")]
    Truncated {
        /// Bytes that the value takes.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A varint whose last allowed byte says that more follow.
    #[error("varint longer than {max_bytes} bytes")]
    VarintTooLong {
        /// 5 for 32 bits, 10 for 64 bits.
        max_bytes: usize,
    },
    /// A length below -1, or below 0 where null is no value.
    #[error("negative length {0}")]
    NegativeLength(i64),
    /// Null where the type has no null.
    #[error("null where a value is required")]
    UnexpectedNull,
    /// A number that says neither that a structure follows, as 1 does, nor that it is null.
    #[error("{0} where 1 says that a structure follows")]
    BadPresence(i64),
    /// A string that is not UTF-8.
    #[error("string is not UTF-8")]
    NotUtf8,
    /// A string that is longer than Kafka lets any be.
    #[error("string of {0} bytes, 32767 are the most")]
    StringTooLong(usize),
    /// Bytes follow the end of the value.
    #[error("{0} bytes after the end")]
    TrailingBytes(usize),
    /// A frame version of a metadata record other than 1 (`MetadataRecordSerde`).
    #[error("unsupported frame version {0}")]
    UnsupportedFrameVersion(u32),
    /// A record type that Apache Kafka 4.3 does not have.
    #[error("unknown record type {0}")]
    UnknownRecordType(u32),
    /// A version of a known record type that Apache Kafka 4.3 does not have.
    #[error("unsupported version {version} of {record}")]
    UnsupportedVersion {
        /// The record's name in Kafka's schemas.
        record: &'static str,
        /// The version found.
        version: i32,
    },
}

/// A value that its encoding cannot hold: a string of more than 32767 bytes with a 16-bit length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("string of {size_bytes} bytes is longer than 32767")]
pub struct StringTooLong {
    /// The string's UTF-8 length.
    pub size_bytes: usize,
}

/// Why a structure cannot be written in the version asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A version that Apache Kafka 4.3 does not have.
    #[error("unsupported version {version} of {record}")]
    UnsupportedVersion {
        /// The name in Kafka's schemas.
        record: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field that the version lacks and whose value is not its default, so that writing would lose it.
    #[error("{field} is set, but version {version} does not have it")]
    FieldNotInVersion {
        /// The field's name in Kafka's schemas.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field that is null, which the version does not allow.
    #[error("{field} is null, which version {version} does not allow")]
    NullNotInVersion {
        /// The field's name in Kafka's schemas.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string that does not fit.
    #[error(transparent)]
    StringTooLong(#[from] StringTooLong),
}

/// The result of reading a value.
pub type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Tags and values of tagged fields (KIP-482) that a schema does not name; kept so that rewriting a record loses nothing.
pub type UnknownTaggedFields = Vec<(u32, Bytes)>;

const VARINT_BYTES_MAX: usize = 5;
const VARLONG_BYTES_MAX: usize = 10;

/// Reads values from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        $($(#[$doc])*
        pub fn $name(&mut self) -> Result<$type> {
            Ok(<$type>::from_be_bytes(self.chunk()?))
        })*
    };
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes have not been read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails when bytes are left.
    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes(self.rest.len()))
        }
    }

    /// The next `size_bytes` bytes.
    #[inline]
    pub fn take(&mut self, size_bytes: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .rest
            .split_at_checked(size_bytes)
            .ok_or_else(|| self.truncated(size_bytes))?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.truncated(N))?;
        self.rest = rest;
        Ok(*head)
    }

    #[cold]
    fn truncated(&self, needed: usize) -> DecodeError {
        DecodeError::Truncated {
            needed,
            remaining: self.rest.len(),
        }
    }

    fixed! {
        /// A signed byte.
        i8: i8,
        /// A big-endian 16-bit number.
        i16: i16,
        /// An unsigned big-endian 16-bit number.
        u16: u16,
        /// A big-endian 32-bit number.
        i32: i32,
        /// An unsigned big-endian 32-bit number.
        u32: u32,
        /// A big-endian 64-bit number.
        i64: i64,
        /// A big-endian IEEE 754 number of 64 bits.
        f64: f64,
    }

    /// One byte, false when 0.
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    /// 16 bytes.
    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.chunk()?))
    }

    /// A base-128 number of at most 5 bytes; bits past the 32nd are dropped, as Kafka does.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32> {
        Ok(self.base128(VARINT_BYTES_MAX)? as u32)
    }

    /// A zig-zag number of at most 5 bytes.
    #[inline]
    pub fn varint(&mut self) -> Result<i32> {
        let raw = self.unsigned_varint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zig-zag number of at most 10 bytes.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64> {
        let raw = self.base128(VARLONG_BYTES_MAX)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    #[inline]
    fn base128(&mut self, max_bytes: usize) -> Result<u64> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().take(max_bytes).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.take(index + 1)?;
                return Ok(value);
            }
        }
        if self.rest.len() < max_bytes {
            Err(self.truncated(self.rest.len() + 1))
        } else {
            Err(DecodeError::VarintTooLong { max_bytes })
        }
    }

    /// A 16-bit length and UTF-8.
    pub fn string(&mut self) -> Result<&'a str> {
        self.nullable_string()?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A 16-bit length and UTF-8; -1 is null.
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>> {
        let length = self.i16()?;
        self.sized(i64::from(length))?.map(utf8).transpose()
    }

    /// A 32-bit length and bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        self.nullable_bytes()?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A 32-bit length and bytes; -1 is null.
    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        let length = self.i32()?;
        self.sized(i64::from(length))
    }

    /// A varint length plus one and UTF-8.
    pub fn compact_string(&mut self) -> Result<&'a str> {
        self.compact_nullable_string()?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A varint length plus one and UTF-8; 0 is null.
    pub fn compact_nullable_string(&mut self) -> Result<Option<&'a str>> {
        self.compact_nullable_bytes()?.map(utf8).transpose()
    }

    /// A varint length plus one and bytes.
    pub fn compact_bytes(&mut self) -> Result<&'a [u8]> {
        self.compact_nullable_bytes()?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A varint length plus one and bytes; 0 is null.
    pub fn compact_nullable_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        let length = self.unsigned_varint()?;
        self.sized(i64::from(length) - 1)
    }

    /// A zig-zag length and bytes, as a record's key, value and header values; -1 is null.
    #[inline]
    pub fn varint_nullable_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        let length = self.varint()?;
        self.sized(i64::from(length))
    }

    #[inline]
    fn sized(&mut self, length: i64) -> Result<Option<&'a [u8]>> {
        match usize::try_from(length) {
            Ok(length) => self.take(length).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::NegativeLength(length)),
        }
    }

    /// The number of elements before an array, 32 bits; -1 is null.
    pub fn array_length(&mut self) -> Result<Option<usize>> {
        let length = self.i32()?;
        self.count(i64::from(length))
    }

    /// The number of elements plus one before a compact array, a varint; 0 is null.
    pub fn compact_array_length(&mut self) -> Result<Option<usize>> {
        let length = self.unsigned_varint()?;
        self.count(i64::from(length) - 1)
    }

    // No element of Kafka's takes less than a byte, so a count beyond the remaining bytes is wrong.
    fn count(&self, length: i64) -> Result<Option<usize>> {
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(Some(length)),
            Ok(length) => Err(self.truncated(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::NegativeLength(length)),
        }
    }

    /// The elements of an array that has a 32-bit length.
    pub fn array<T>(&mut self, element: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<Vec<T>> {
        self.nullable_array(element)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// The elements of an array that has a 32-bit length; -1 is null.
    pub fn nullable_array<T>(&mut self, element: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<Option<Vec<T>>> {
        self.array_length()?
            .map(|count| self.elements(count, element))
            .transpose()
    }

    /// The elements of an array that has a varint length plus one.
    pub fn compact_array<T>(&mut self, element: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<Vec<T>> {
        self.compact_nullable_array(element)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// The elements of an array that has a varint length plus one; 0 is null.
    pub fn compact_nullable_array<T>(
        &mut self,
        element: impl FnMut(&mut Reader<'a>) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        self.compact_array_length()?
            .map(|count| self.elements(count, element))
            .transpose()
    }

    /// `count` elements, each read by `element`. Whatever `count` is, no more memory is reserved than there are bytes left or
    /// 4 KiB, whichever is more.
    pub fn elements<T>(
        &mut self,
        count: usize,
        mut element: impl FnMut(&mut Reader<'a>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut elements = Vec::with_capacity(count.min(self.rest.len().max(4096) / size_of::<T>().max(1)));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Whether a structure that may be null follows: 1, or -1 for null. Kafka takes any negative byte for null and others any
    /// but 1, so only the two that everyone writes are let through.
    pub fn presence(&mut self) -> Result<bool> {
        match self.i8()? {
            1 => Ok(true),
            -1 => Ok(false),
            other => Err(DecodeError::BadPresence(other.into())),
        }
    }

    /// Whether a structure that may be null is there, where it has a tag: Kafka writes an unsigned varint then, 1, or 0 for
    /// null.
    pub fn tagged_presence(&mut self) -> Result<bool> {
        match self.unsigned_varint()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::BadPresence(other.into())),
        }
    }

    /// The tagged fields that end a flexible structure (KIP-482). `known` reads the value of a tag and returns true, or
    /// returns false for a tag that it does not know; those are returned. A value must fill its size.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool>,
    ) -> Result<UnknownTaggedFields> {
        let mut unknown = Vec::new();
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size_bytes = self.unsigned_varint()? as usize;
            let value = self.take(size_bytes)?;
            let mut field = Reader::new(value);
            if known(tag, &mut field)? {
                field.finish()?;
            } else {
                unknown.push((tag, Bytes::copy_from_slice(value)));
            }
        }
        Ok(unknown)
    }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)
}

/// Writes Kafka's encodings to a buffer that grows (`BytesMut`, `Vec<u8>`); fixed-width numbers are `BufMut`'s own.
pub trait PutPrimitives: BufMut {
    /// One byte, 1 or 0.
    fn put_bool(&mut self, value: bool) {
        self.put_u8(u8::from(value));
    }

    /// 16 bytes.
    fn put_uuid(&mut self, value: Uuid) {
        self.put_slice(value.as_bytes());
    }

    /// A base-128 number of 1 to 5 bytes.
    fn put_unsigned_varint(&mut self, value: u32) {
        put_base128(self, u64::from(value));
    }

    /// A zig-zag number of 1 to 5 bytes.
    fn put_varint(&mut self, value: i32) {
        self.put_unsigned_varint(zig_zag_32(value));
    }

    /// A zig-zag number of 1 to 10 bytes.
    fn put_varlong(&mut self, value: i64) {
        put_base128(self, zig_zag_64(value));
    }

    /// A 16-bit length and UTF-8. Fails for more than 32767 bytes.
    fn put_string(&mut self, value: &str) -> Result<(), StringTooLong> {
        let length = i16::try_from(value.len()).map_err(|_| StringTooLong {
            size_bytes: value.len(),
        })?;
        self.put_i16(length);
        self.put_slice(value.as_bytes());
        Ok(())
    }

    /// A 16-bit length and UTF-8, -1 for null. Fails for more than 32767 bytes.
    fn put_nullable_string(&mut self, value: Option<&str>) -> Result<(), StringTooLong> {
        match value {
            Some(value) => self.put_string(value),
            None => {
                self.put_i16(-1);
                Ok(())
            }
        }
    }

    /// A 32-bit length and bytes.
    fn put_bytes_field(&mut self, value: &[u8]) {
        self.put_array_length(Some(value.len()));
        self.put_slice(value);
    }

    /// A varint length plus one and UTF-8.
    fn put_compact_string(&mut self, value: &str) {
        self.put_compact_bytes(value.as_bytes());
    }

    /// A varint length plus one and UTF-8, 0 for null.
    fn put_compact_nullable_string(&mut self, value: Option<&str>) {
        self.put_compact_nullable_bytes(value.map(str::as_bytes));
    }

    /// A varint length plus one and bytes.
    fn put_compact_bytes(&mut self, value: &[u8]) {
        self.put_compact_array_length(Some(value.len()));
        self.put_slice(value);
    }

    /// A varint length plus one and bytes, 0 for null.
    fn put_compact_nullable_bytes(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.put_compact_bytes(value),
            None => self.put_compact_array_length(None),
        }
    }

    /// A zig-zag length and bytes, -1 for null, as a record's key, value and header values.
    fn put_varint_nullable_bytes(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => {
                self.put_varint(length_i32(value.len()));
                self.put_slice(value);
            }
            None => self.put_varint(-1),
        }
    }

    /// The number of elements before an array, -1 for null.
    fn put_array_length(&mut self, length: Option<usize>) {
        self.put_i32(length.map_or(-1, length_i32));
    }

    /// The number of elements plus one before a compact array, 0 for null.
    fn put_compact_array_length(&mut self, length: Option<usize>) {
        self.put_unsigned_varint(length.map_or(0, |length| length_i32(length) as u32 + 1));
    }

    /// Tagged fields, those a schema names and those it does not, by ascending tag as Kafka demands (KIP-482).
    fn put_tagged_fields(&mut self, known: &[(u32, BytesMut)], unknown: &[(u32, Bytes)]) {
        let mut fields: Vec<(u32, &[u8])> = Vec::with_capacity(known.len() + unknown.len());
        fields.extend(known.iter().map(|(tag, value)| (*tag, value.as_ref())));
        fields.extend(unknown.iter().map(|(tag, value)| (*tag, value.as_ref())));
        fields.sort_by_key(|(tag, _)| *tag);
        self.put_unsigned_varint(length_i32(fields.len()) as u32);
        for (tag, value) in fields {
            self.put_unsigned_varint(tag);
            self.put_unsigned_varint(length_i32(value.len()) as u32);
            self.put_slice(value);
        }
    }
}

impl<T: BufMut + ?Sized> PutPrimitives for T {}

fn put_base128(out: &mut (impl BufMut + ?Sized), mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

// Everything that is encoded came in a frame or was built from one, far below 2 GiB.
fn length_i32(length: usize) -> i32 {
    debug_assert!(i32::try_from(length).is_ok());
    length as i32
}

fn zig_zag_32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zig_zag_64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes that [`PutPrimitives::put_unsigned_varint`] writes.
pub fn unsigned_varint_size(value: u32) -> usize {
    base128_size(u64::from(value))
}

/// Bytes that [`PutPrimitives::put_varint`] writes.
pub fn varint_size(value: i32) -> usize {
    unsigned_varint_size(zig_zag_32(value))
}

/// Bytes that [`PutPrimitives::put_varlong`] writes.
pub fn varlong_size(value: i64) -> usize {
    base128_size(zig_zag_64(value))
}

fn base128_size(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    /// Reads the whole, and fails to read every shorter prefix.
    fn whole<T>(bytes: &[u8], read: impl Fn(&mut Reader<'_>) -> Result<T>) -> T {
        for end in 0..bytes.len() {
            assert!(
                read(&mut Reader::new(&bytes[..end])).is_err(),
                "accepted {end} of {} bytes",
                bytes.len()
            );
        }
        let mut reader = Reader::new(bytes);
        let value = read(&mut reader).unwrap();
        assert_eq!(reader.finish(), Ok(()));
        value
    }

    #[test]
    fn known_encodings() {
        assert_eq!(written(|out| out.put_varint(-1)), [1]);
        assert_eq!(written(|out| out.put_varint(64)), [0x80, 1]);
        assert_eq!(written(|out| out.put_varint(i32::MIN)), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(
            written(|out| out.put_varlong(i64::MIN)),
            [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]
        );
        assert_eq!(written(|out| out.put_unsigned_varint(300)), [0xac, 2]);
        assert_eq!(written(|out| out.put_compact_string("ab")), [3, b'a', b'b']);
        assert_eq!(written(|out| out.put_compact_nullable_string(None)), [0]);
        assert_eq!(written(|out| out.put_nullable_string(None).unwrap()), [255, 255]);
        assert_eq!(written(|out| out.put_bytes_field(b"x")), [0, 0, 0, 1, b'x']);
    }

    #[test]
    fn bad_bytes_are_errors() {
        assert_eq!(
            Reader::new(&[0x80; 5]).varint(),
            Err(DecodeError::VarintTooLong { max_bytes: 5 })
        );
        assert_eq!(
            Reader::new(&[0x80; 10]).varlong(),
            Err(DecodeError::VarintTooLong { max_bytes: 10 })
        );
        assert_eq!(
            Reader::new(&[0x80; 2]).varint(),
            Err(DecodeError::Truncated {
                needed: 3,
                remaining: 2
            }),
            "more of the number may follow"
        );
        assert_eq!(Reader::new(&[0]).compact_string(), Err(DecodeError::UnexpectedNull));
        assert_eq!(
            Reader::new(&[0xff, 0xfe, 0]).nullable_string(),
            Err(DecodeError::NegativeLength(-2))
        );
        assert_eq!(Reader::new(&[2, 0xff]).compact_string(), Err(DecodeError::NotUtf8));
        assert_eq!(
            Reader::new(&[0x7f, 0xff, 0xff, 0xff]).array_length(),
            Err(DecodeError::Truncated {
                needed: 0x7fff_ffff,
                remaining: 0
            })
        );
        let long = "x".repeat(32_768);
        assert_eq!(Vec::new().put_string(&long), Err(StringTooLong { size_bytes: 32_768 }));
    }

    #[test]
    fn tagged_fields_are_ordered_and_unknown_ones_returned() {
        let known = [(3, BytesMut::from(&[7u8][..]))];
        let unknown = vec![(1, Bytes::from_static(b"one")), (9, Bytes::new())];
        let bytes = written(|out| out.put_tagged_fields(&known, &unknown));
        assert_eq!(bytes, [3, 1, 3, b'o', b'n', b'e', 3, 1, 7, 9, 0]);
        let mut seen = None;
        let read = Reader::new(&bytes).tagged_fields(|tag, field| {
            if tag == 3 {
                seen = Some(field.i8()?);
            }
            Ok(tag == 3)
        });
        assert_eq!((read, seen), (Ok(unknown), Some(7)));
        let half_read = Reader::new(&[1, 3, 2, 0, 0]).tagged_fields(|_, field| field.i8().map(|_| true));
        assert_eq!(half_read, Err(DecodeError::TrailingBytes(1)));
    }

    proptest! {
        #[test]
        fn numbers_round_trip(int: i32, long: i64, unsigned: u32) {
            let bytes = written(|out| out.put_varint(int));
            prop_assert_eq!(varint_size(int), bytes.len());
            prop_assert_eq!(whole(&bytes, |r| r.varint()), int);
            let bytes = written(|out| out.put_varlong(long));
            prop_assert_eq!(varlong_size(long), bytes.len());
            prop_assert_eq!(whole(&bytes, |r| r.varlong()), long);
            let bytes = written(|out| out.put_unsigned_varint(unsigned));
            prop_assert_eq!(unsigned_varint_size(unsigned), bytes.len());
            prop_assert_eq!(whole(&bytes, |r| r.unsigned_varint()), unsigned);
        }

        #[test]
        fn strings_and_bytes_round_trip(text in prop::option::of(".{0,200}"), raw in prop::option::of(prop::collection::vec(any::<u8>(), 0..300))) {
            let bytes = written(|out| out.put_nullable_string(text.as_deref()).unwrap());
            prop_assert_eq!(whole(&bytes, |r| Ok(r.nullable_string()?.map(str::to_owned))), text.clone());
            let bytes = written(|out| out.put_compact_nullable_string(text.as_deref()));
            prop_assert_eq!(whole(&bytes, |r| Ok(r.compact_nullable_string()?.map(str::to_owned))), text);
            let bytes = written(|out| out.put_compact_nullable_bytes(raw.as_deref()));
            prop_assert_eq!(whole(&bytes, |r| Ok(r.compact_nullable_bytes()?.map(<[u8]>::to_vec))), raw.clone());
            let bytes = written(|out| out.put_varint_nullable_bytes(raw.as_deref()));
            prop_assert_eq!(whole(&bytes, |r| Ok(r.varint_nullable_bytes()?.map(<[u8]>::to_vec))), raw);
        }

        #[test]
        fn arrays_round_trip(values in prop::collection::vec(any::<i32>(), 0..100)) {
            let bytes = written(|out| {
                out.put_compact_array_length(Some(values.len()));
                values.iter().for_each(|value| out.put_i32(*value));
            });
            let read = whole(&bytes, |r| {
                r.compact_array(|r| r.i32())
            });
            prop_assert_eq!(read, values);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Reader::new(&bytes).tagged_fields(|_, field| field.varlong().map(|_| true));
            let _ = Reader::new(&bytes).compact_nullable_string();
            let _ = Reader::new(&bytes).nullable_bytes();
            let _ = Reader::new(&bytes).varint_nullable_bytes();
            let _ = Reader::new(&bytes).array_length();
        }
    }
}
