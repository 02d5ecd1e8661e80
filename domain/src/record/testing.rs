//! What the tests of records share.

use bytes::Bytes;
use uuid::Uuid;

use crate::record::primitives::UnknownTaggedFields;

/// Random values, from bytes that proptest shrinks towards zeros.
pub(crate) struct Entropy(std::vec::IntoIter<u8>);

impl Entropy {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Entropy(bytes.into_iter())
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.0.next().unwrap_or(0))
    }

    fn below(&mut self, limit: u8) -> usize {
        usize::from(self.array::<1>()[0] % limit)
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.below(2) == 1
    }

    pub(crate) fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.array())
    }

    pub(crate) fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    pub(crate) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    pub(crate) fn f64(&mut self) -> f64 {
        f64::from(self.i32())
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_bytes(self.array())
    }

    pub(crate) fn string(&mut self) -> String {
        "aß𝄞".chars().cycle().take(self.below(150)).collect()
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        self.vec(|entropy| entropy.array::<1>()[0]).into()
    }

    pub(crate) fn option<T>(&mut self, value: impl FnOnce(&mut Entropy) -> T) -> Option<T> {
        self.bool().then(|| value(self))
    }

    pub(crate) fn vec<T>(&mut self, mut element: impl FnMut(&mut Entropy) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| element(self)).collect()
    }

    pub(crate) fn unknown_tagged_fields(&mut self) -> UnknownTaggedFields {
        (0..self.below(3)).map(|n| (100 + n as u32, self.bytes())).collect()
    }
}

/// The bytes that hexadecimal digits stand for.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
