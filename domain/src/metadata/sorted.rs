//! A sorted map whose clones share their parts, so that an image of many topics is cheap to keep and to change.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// Entries of one shared chunk: what a change to a shared map copies.
const CHUNK_ENTRIES_MAX: usize = 64;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map, copied on write in chunks: a clone is one pointer, a change of a shared map copies one pointer a chunk
/// and the entries of one chunk, and [`SortedMap::diff`] skips what two maps share.
#[derive(Debug)]
pub struct SortedMap<K, V> {
    /// None of them empty.
    chunks: Arc<Vec<Chunk<K, V>>>,
    len: usize,
}

impl<K, V> Clone for SortedMap<K, V> {
    fn clone(&self) -> Self {
        SortedMap {
            chunks: Arc::clone(&self.chunks),
            len: self.len,
        }
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap {
            chunks: Arc::default(),
            len: 0,
        }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (Arc::ptr_eq(&self.chunks, &other.chunks) || self.iter().eq(other.iter()))
    }
}

impl<K, V> SortedMap<K, V> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// The chunk that holds `key`, or would.
    fn chunk_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.chunks
            .partition_point(|chunk| chunk.last().is_some_and(|(last, _)| last.borrow() < key))
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_by(|known| known.borrow().cmp(key))
    }

    /// The value of the key that is equal to what `compare` compares keys with: for keys that cannot be borrowed.
    pub fn get_by(&self, compare: impl Fn(&K) -> Ordering) -> Option<&V> {
        let is_before = |chunk: &Chunk<K, V>| chunk.last().is_some_and(|(last, _)| compare(last).is_lt());
        let chunk = self.chunks.get(self.chunks.partition_point(is_before))?;
        let index = chunk.binary_search_by(|(known, _)| compare(known)).ok()?;
        chunk.get(index).map(|(_, value)| value)
    }

    /// True when `key` has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The entries from `key` on (inclusive), in order.
    pub fn range_from<'a, Q: Ord + ?Sized>(&'a self, key: &Q) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        let first = self.chunk_of(key);
        let skip = self
            .chunks
            .get(first)
            .map_or(0, |chunk| chunk.partition_point(|(known, _)| known.borrow() < key));
        self.chunks
            .iter()
            .skip(first)
            .flat_map(|chunk| chunk.iter())
            .skip(skip)
            .map(|(key, value)| (key, value))
    }

    /// Calls `changed(key, old value, new value)` for every key whose value differs from that in `old`.
    pub fn diff<'a>(&'a self, old: &'a Self, mut changed: impl FnMut(&'a K, Option<&'a V>, Option<&'a V>))
    where
        V: PartialEq,
    {
        let (mut new_at, mut old_at) = (Cursor::new(self), Cursor::new(old));
        loop {
            if let (Some(new), Some(old)) = (new_at.whole_chunk(), old_at.whole_chunk())
                && Arc::ptr_eq(new, old)
            {
                new_at.skip_chunk();
                old_at.skip_chunk();
                continue;
            }
            let order = match (new_at.entry(), old_at.entry()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((new, _)), Some((old, _))) => new.cmp(old),
            };
            let new = if order.is_le() { new_at.advance() } else { None };
            let old = if order.is_ge() { old_at.advance() } else { None };
            match (new, old) {
                (Some((key, new)), Some((_, old))) if new != old => changed(key, Some(old), Some(new)),
                (Some((key, new)), None) => changed(key, None, Some(new)),
                (None, Some((key, old))) => changed(key, Some(old), None),
                _ => {}
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> SortedMap<K, V> {
    /// The value of `key`, to be changed in place.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.chunk_of(key);
        let index = self
            .chunks
            .get(at)?
            .binary_search_by(|(known, _)| known.borrow().cmp(key))
            .ok()?;
        let chunk = Arc::make_mut(Arc::make_mut(&mut self.chunks).get_mut(at)?);
        chunk.get_mut(index).map(|(_, value)| value)
    }

    /// Sets the value of `key`; returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(known) = self.get_mut(&key) {
            return Some(std::mem::replace(known, value));
        }
        self.len += 1;
        // A key above all others joins the last chunk.
        let at = self.chunk_of(&key).min(self.chunks.len().saturating_sub(1));
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(at) else {
            chunks.push(Arc::new(vec![(key, value)]));
            return None;
        };
        let entries = Arc::make_mut(chunk);
        let index = entries.partition_point(|(known, _)| *known < key);
        entries.insert(index, (key, value));
        if entries.len() > CHUNK_ENTRIES_MAX {
            let upper = entries.split_off(entries.len() / 2);
            chunks.insert(at + 1, Arc::new(upper));
        }
        None
    }

    /// Removes `key`; returns the value that it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.chunk_of(key);
        let index = self
            .chunks
            .get(at)?
            .binary_search_by(|(known, _)| known.borrow().cmp(key))
            .ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let entries = Arc::make_mut(chunks.get_mut(at)?);
        let (_, value) = entries.remove(index);
        self.len -= 1;
        let left = entries.len();
        if left == 0 {
            chunks.remove(at);
        } else if chunks
            .get(at + 1)
            .is_some_and(|next| left + next.len() <= CHUNK_ENTRIES_MAX / 2)
        {
            let next = chunks.remove(at + 1);
            if let Some(chunk) = chunks.get_mut(at) {
                Arc::make_mut(chunk).extend(next.iter().cloned());
            }
        }
        Some(value)
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = SortedMap::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

/// A place in a map: an entry, or the end.
struct Cursor<'a, K, V> {
    map: &'a SortedMap<K, V>,
    chunk: usize,
    index: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(map: &'a SortedMap<K, V>) -> Self {
        Cursor {
            map,
            chunk: 0,
            index: 0,
        }
    }

    /// The chunk that begins here, if one does.
    fn whole_chunk(&self) -> Option<&'a Chunk<K, V>> {
        self.map.chunks.get(self.chunk).filter(|_| self.index == 0)
    }

    fn skip_chunk(&mut self) {
        self.chunk += 1;
        self.index = 0;
    }

    fn entry(&self) -> Option<(&'a K, &'a V)> {
        let (key, value) = self.map.chunks.get(self.chunk)?.get(self.index)?;
        Some((key, value))
    }

    fn advance(&mut self) -> Option<(&'a K, &'a V)> {
        let entry = self.entry()?;
        self.index += 1;
        if self
            .map
            .chunks
            .get(self.chunk)
            .is_none_or(|chunk| self.index >= chunk.len())
        {
            self.skip_chunk();
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_btree_map_and_clones_stay_as_they_were(
            steps in prop::collection::vec((0..4u8, 0..300u16, any::<u8>()), 0..600)
        ) {
            let mut map = SortedMap::default();
            let mut model = BTreeMap::new();
            let mut kept = (map.clone(), model.clone());
            for (step, key, value) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    2 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    _ => kept = (map.clone(), model.clone()),
                }
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!(kept.0.iter().eq(kept.1.iter()));
            prop_assert!(map.range_from(&150).eq(model.range(150..)));
            for key in 0..300 {
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            let mut diff = BTreeMap::new();
            map.diff(&kept.0, |key, old, new| {
                diff.insert(*key, (old.copied(), new.copied()));
            });
            let expected: BTreeMap<_, _> = (0..300)
                .filter(|key| kept.1.get(key) != model.get(key))
                .map(|key| (key, (kept.1.get(&key).copied(), model.get(&key).copied())))
                .collect();
            prop_assert_eq!(diff, expected);
        }
    }
}
