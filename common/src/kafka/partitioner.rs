//! Which partition a record goes to: by the hash of its key, the same as with Java's clients, so
//! that producers of all kinds agree; and without a key, one partition for a while, then another
//! (KIP-480, KIP-794), so that batches fill.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

/// The partition of a record with this key in a topic of `partitions` (at least 1) partitions.
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & i32::MAX) % partitions.max(1)
}

/// The 32-bit MurmurHash2 with the seed that Kafka's clients use.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Java's length is 32 bits wide; keys are shorter than that.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let tail = tail.iter().rev().fold(0, |word, &byte| (word << 8) | u32::from(byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash.cast_signed()
}

/// Where the records without a key of one topic go.
#[derive(Clone, Copy, Debug, Default)]
pub struct StickyPartition {
    partition: Option<i32>,
    bytes: usize,
}

impl StickyPartition {
    /// The partition for a record of `size` bytes, one of `available` (those with a leader; not
    /// empty). After about `switch_bytes` bytes, or if the partition is no longer available,
    /// another is chosen by `random`.
    pub fn next(
        &mut self,
        available: &[i32],
        size: usize,
        switch_bytes: usize,
        random: impl FnOnce() -> u64,
    ) -> Option<i32> {
        let current = self.partition.filter(|partition| available.contains(partition));
        let partition = match current {
            Some(partition) if self.bytes < switch_bytes => partition,
            _ => {
                self.bytes = 0;
                choose(available, current, random())?
            }
        };
        self.partition = Some(partition);
        self.bytes = self.bytes.saturating_add(size);
        Some(partition)
    }
}

/// One of `available`, another than `current` if there is another.
fn choose(available: &[i32], current: Option<i32>, random: u64) -> Option<i32> {
    let count = available.len();
    let index = usize::try_from(random % u64::try_from(count.max(1)).ok()?).ok()?;
    let chosen = *available.get(index)?;
    if Some(chosen) == current {
        return available.get((index + 1) % count).copied();
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own test of this function.
    #[test]
    fn hashes_are_kafkas() {
        for (key, hash) in [
            (&b"21"[..], -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key), hash, "{key:?}");
        }
    }

    #[test]
    fn a_key_has_one_partition() {
        // The hash is negative: its sign is dropped, as Kafka does, not its absolute value taken.
        assert_eq!(partition_for_key(b"foobar", 10), (-790_332_482 & i32::MAX) % 10);
        for partitions in 1..50 {
            assert!((0..partitions).contains(&partition_for_key(b"some key", partitions)));
        }
    }

    #[test]
    fn records_without_a_key_stay_until_a_batch_is_full() {
        let mut sticky = StickyPartition::default();
        let available = [0, 1, 2];
        let first = sticky.next(&available, 60, 100, || 4);
        assert_eq!(first, Some(1));
        assert_eq!(sticky.next(&available, 60, 100, || 2), Some(1), "not full before this one");
        assert_eq!(sticky.next(&available, 60, 100, || 1), Some(2), "never the same again");
        assert_eq!(sticky.next(&[0], 60, 100, || 7), Some(0), "its leader is gone");
        assert_eq!(sticky.next(&[0], 60, 100, || 7), Some(0));
        assert_eq!(sticky.next(&[0], 60, 100, || 7), Some(0), "there is no other");
        assert_eq!(sticky.next(&[], 1, 100, || 7), None);
    }
}
