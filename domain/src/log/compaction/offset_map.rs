//! Which offset each key was written at last, in memory of a fixed size (`SkimpyOffsetMap` in Kafka).

use std::hint::black_box;

use super::digest::digest;
use crate::ids::Offset;

/// The digest of a key and its offset, 24 bytes as in Kafka: `log.cleaner.dedupe.buffer.size` holds as many keys.
const WORDS_PER_SLOT: usize = 3;
const SLOT_SIZE_BYTES: u64 = 8 * WORDS_PER_SLOT as u64;
/// Where the table begins; small ones stay in the processor's caches.
const SLOTS_MIN: usize = 8 * 1024;
/// By how much the table grows when it is full: while it moves, an eighth more than its memory is in use.
const GROWTH: usize = 8;

/// Keys and their latest offsets. Keys are known by their digests, see [`super::digest`].
#[derive(Debug)]
pub struct OffsetMap {
    secret: [u64; 2],
    /// Two words of digest and one of the offset plus one; all zero where there is no key.
    words: Vec<u64>,
    slots_max: usize,
    load_factor: f64,
    keys: usize,
    keys_max: usize,
    latest: Offset,
}

/// What a map knows of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u64; 2]);

/// The map has no place for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl OffsetMap {
    /// An empty map that grows to at most so much memory (`log.cleaner.dedupe.buffer.size`, by the number of threads),
    /// filled up to a part of it (`log.cleaner.io.buffer.load.factor`). `secret` is random and used for one map only.
    pub fn new(memory_bytes: u64, load_factor: f64, secret: u128) -> OffsetMap {
        let slots_max = usize::try_from(memory_bytes / SLOT_SIZE_BYTES)
            .unwrap_or(usize::MAX)
            .max(2);
        let mut map = OffsetMap {
            secret: [secret as u64, (secret >> 64) as u64],
            words: Vec::new(),
            slots_max,
            load_factor,
            keys: 0,
            keys_max: 0,
            latest: Offset::NONE,
        };
        map.allocate(SLOTS_MIN.min(slots_max));
        map
    }

    fn allocate(&mut self, slots: usize) -> Vec<u64> {
        // A free slot is left in any case: it ends every search.
        self.keys_max = ((slots as f64 * self.load_factor) as usize).clamp(1, slots - 1);
        std::mem::replace(&mut self.words, vec![0; slots * WORDS_PER_SLOT])
    }

    fn slots(&self) -> usize {
        self.words.len() / WORDS_PER_SLOT
    }

    /// What the map knows a key by.
    #[inline]
    pub fn digest(&self, key: &[u8]) -> Digest {
        Digest(digest(self.secret, key))
    }

    /// Reads where these keys are, so that looking for each soon after does not wait for memory: the processor reads
    /// these places all at once, but not those of records that it has not come to.
    pub fn warm(&self, digests: impl Iterator<Item = Digest>) {
        let words = digests.map(|digest| self.words.get(self.home(digest) * WORDS_PER_SLOT));
        black_box(words.flatten().fold(0, |all, word| all ^ word));
    }

    /// Where a key belongs.
    #[inline]
    fn home(&self, Digest([high, _]): Digest) -> usize {
        ((u128::from(high) * self.slots() as u128) >> 64) as usize
    }

    /// The slot that has this digest, or the free one where it belongs: the index of its first word, and the offset plus
    /// one.
    #[inline]
    fn find(&self, digest: Digest) -> (usize, u64) {
        let Digest([high, low]) = digest;
        let mut slot = self.home(digest);
        loop {
            let at = slot * WORDS_PER_SLOT;
            match self.words.get(at..at + WORDS_PER_SLOT) {
                Some([_, _, 0]) => return (at, 0),
                Some([a, b, stored]) if *a == high && *b == low => return (at, *stored),
                Some(_) => slot += 1,
                None => slot = 0,
            }
        }
    }

    fn store(&mut self, at: usize, Digest([high, low]): Digest, stored: u64) {
        if let Some(slot) = self.words.get_mut(at..at + WORDS_PER_SLOT) {
            slot.copy_from_slice(&[high, low, stored]);
        }
    }

    /// Notes that a key was written at `offset`. Offsets must ascend. A key that is known is always taken.
    #[inline]
    pub fn put(&mut self, digest: Digest, offset: Offset) -> Result<(), Full> {
        let (mut at, known) = self.find(digest);
        if known == 0 {
            if self.keys >= self.keys_max {
                self.grow()?;
                at = self.find(digest).0;
            }
            self.keys += 1;
        }
        self.store(at, digest, offset.0 as u64 + 1);
        self.latest = offset;
        Ok(())
    }

    #[cold]
    fn grow(&mut self) -> Result<(), Full> {
        let slots = self.slots().saturating_mul(GROWTH).min(self.slots_max);
        if slots <= self.slots() {
            return Err(Full);
        }
        let old = self.allocate(slots);
        for slot in old.chunks_exact(WORDS_PER_SLOT) {
            if let [high, low, stored] = slot
                && *stored > 0
            {
                let digest = Digest([*high, *low]);
                let (at, _) = self.find(digest);
                self.store(at, digest, *stored);
            }
        }
        Ok(())
    }

    /// The latest offset of a key, as far as the map reaches.
    #[inline]
    pub fn get(&self, digest: Digest) -> Option<Offset> {
        let (_, stored) = self.find(digest);
        stored.checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// The offset up to which (inclusive) the map knows what was written; -1 when it knows nothing.
    pub const fn latest_offset(&self) -> Offset {
        self.latest
    }

    /// Everything up to `offset`, inclusive, was looked at.
    pub fn extend_to(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// How much of the memory that it may take is in use, 0 to 1.
    pub fn utilization(&self) -> f64 {
        self.keys as f64 / self.slots_max as f64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_map_knows_the_latest_offset_of_each_key(
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3), 0..3000),
            slots in 2u64..3000,
            secret in any::<u128>(),
        ) {
            let mut map = OffsetMap::new(slots * SLOT_SIZE_BYTES, 0.9, secret);
            let mut expected = BTreeMap::new();
            for (offset, key) in (0..).map(Offset).zip(&keys) {
                match map.put(map.digest(key), offset) {
                    Ok(()) => { expected.insert(key.clone(), offset); }
                    Err(Full) => {
                        prop_assert_eq!(expected.len(), ((slots as f64 * 0.9) as usize).clamp(1, slots as usize - 1));
                        break;
                    }
                }
                prop_assert_eq!(map.latest_offset(), offset);
            }
            for key in &keys {
                prop_assert_eq!(map.get(map.digest(key)), expected.get(key).copied());
            }
        }
    }

    #[test]
    fn a_map_grows_to_its_memory_and_keeps_what_it_has() {
        let count = 200_000i64;
        let mut map = OffsetMap::new(10 << 20, 0.9, 7);
        for offset in 0..count {
            map.put(map.digest(&offset.to_be_bytes()), Offset(offset)).unwrap();
        }
        for offset in 0..count {
            assert_eq!(map.get(map.digest(&offset.to_be_bytes())), Some(Offset(offset)));
        }
        assert_eq!(map.get(map.digest(b"unknown")), None);
        assert!(map.words.len() * 8 <= 10 << 20);
        assert!((0.4..0.5).contains(&map.utilization()));
    }
}
