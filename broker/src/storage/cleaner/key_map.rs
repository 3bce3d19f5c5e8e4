//! Which offset is the last one of each key, in a memory of fixed size.
//!
//! Keys are not kept: a slot of 24 bytes has 16 bytes of the key's hash, of which the keys are
//! chosen at random for each map, and the offset. That two of n keys share a hash has a chance of
//! n² / 2^129. Open addressing; a full map says so, and the pass ends where it was full.

use std::hash::{BuildHasher, RandomState};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 24;

/// The two halves of a hash, then the offset plus one; 0 where the slot is free.
type Slot = [u64; 3];

/// The map.
#[derive(Debug)]
pub struct KeyMap {
    slots: Vec<Slot>,
    count: usize,
    count_max: usize,
    hashers: [RandomState; 2],
    /// All records up to this offset are in the map; -1 before the first.
    latest_offset: i64,
}

impl KeyMap {
    /// A map of at most `memory_bytes`, and no larger than `keys_max` keys need, that is filled up
    /// to `load_percent`.
    pub fn new(memory_bytes: usize, load_percent: usize, keys_max: usize) -> Self {
        let needed = keys_max.saturating_add(keys_max / 2).saturating_add(16);
        let slots = (memory_bytes / SLOT_BYTES).min(needed).max(16);
        Self {
            // Zeroed pages cost nothing until they are written to.
            slots: vec![[0; 3]; slots],
            count: 0,
            count_max: slots.saturating_mul(load_percent.clamp(1, 95)) / 100,
            hashers: [RandomState::new(), RandomState::new()],
            latest_offset: -1,
        }
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Up to which offset all records are in the map.
    pub fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// All records up to `offset` are in the map now.
    pub fn set_latest_offset(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset);
    }

    /// The place of a key: where it is, or a free one.
    fn place(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let [one, two] = &self.hashers;
        let hash = [one.hash_one(key), two.hash_one(key)];
        let count = self.slots.len() as u64;
        let mut place = usize::try_from(hash[0] % count.max(1)).unwrap_or(0);
        loop {
            match self.slots.get(place) {
                Some([a, b, offset]) if *offset == 0 || [*a, *b] == hash => return (place, hash),
                Some(_) => place += 1,
                None => place = 0,
            }
        }
    }

    /// Notes a key's newest offset. `false` if there is no room, and nothing was noted.
    #[must_use]
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        if self.count >= self.count_max {
            return false;
        }
        let (place, [a, b]) = self.place(key);
        if let Some(slot) = self.slots.get_mut(place) {
            self.count += usize::from(slot[2] == 0);
            *slot = [a, b, offset.unsigned_abs().saturating_add(1)];
        }
        true
    }

    /// A key's newest offset.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let (place, _) = self.place(key);
        let offset = self.slots.get(place)?[2].checked_sub(1)?;
        i64::try_from(offset).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_newest_offset() {
        let mut map = KeyMap::new(1 << 16, 90, 1000);
        assert!(map.is_empty() && map.get(b"a").is_none());
        for offset in 0..2000_i64 {
            assert!(map.put(&(offset % 700).to_be_bytes(), offset));
        }
        assert!(map.put(b"", 7));
        assert_eq!(map.len(), 701);
        for key in 0..700_i64 {
            let newest = if key < 600 { key + 1400 } else { key + 700 };
            assert_eq!(map.get(&key.to_be_bytes()), Some(newest));
        }
        assert_eq!((map.get(b""), map.get(&701_i64.to_be_bytes())), (Some(7), None));
    }

    #[test]
    fn a_full_map_says_so_and_is_as_large_as_it_may_be() {
        let mut map = KeyMap::new(100 * SLOT_BYTES, 90, usize::MAX);
        let taken = (0..200_i64).take_while(|key| map.put(&key.to_be_bytes(), *key)).count();
        assert_eq!((taken, map.slots.len()), (90, 100));
        assert_eq!(map.get(&90_i64.to_be_bytes()), None);
        assert_eq!(KeyMap::new(1 << 40, 90, 10).slots.len(), 31, "no more than there are keys");
        assert_eq!(KeyMap::new(0, 90, 0).slots.len(), 16);
    }
}
