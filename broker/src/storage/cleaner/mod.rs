//! Compaction, as Kafka's log cleaner does it: of the records of a key only the newest one stays,
//! and where that is a tombstone, nothing in the end.
//!
//! A **pass** over a log reads the part that was not compacted before and notes each key's newest
//! offset ([`key_map`]). Then it rewrites all segments up to there, several small ones into one:
//! records that are not the newest of their key go, batches of aborted transactions go, and what
//! stays keeps its offset ([`filter`], [`transactions`]). The active segment and what is not below
//! the last stable offset are left alone ([`selection`]). How far a pass came stands in
//! `cleaner-offset-checkpoint`.
//!
//! **Tombstones and markers** stay for `delete.retention.ms` after the first pass that found
//! nothing before them to delete, so that a reader that began earlier learns of them. When they may
//! go is noted in their batch's header, where the base timestamp was (KIP-534).
//!
//! **Batches without records** stay where they are the last of a producer that is remembered, since
//! recovery learns its sequence number from them, and at the end of each new segment, which then
//! ends where the next one begins, as recovery expects of segments.
//!
//! **Crashes.** New segments are written aside (`.cleaned`), brought to disk, and put in the place
//! of the old ones by renaming ([`swap`]). All that is rewritten lies before the recovery point on
//! disk. A pass that does not come to its end has done no harm: the next one begins where it did.
//!
//! **Memory**: `log.cleaner.dedupe.buffer.size`, held during passes only, and no more of it than
//! the log's records need. **Disk**: all threads together keep to
//! `log.cleaner.io.max.bytes.per.second` ([`pace`]).
//!
//! A log with a batch that cannot be read is left alone until the broker starts again, which is
//! logged once; the others go on.

pub mod filter;
pub mod key_map;
pub mod pace;
pub mod pass;
pub mod selection;
pub mod swap;
pub mod transactions;
pub mod worker;

/// What the cleaner knows of a log.
#[derive(Debug, Default)]
pub struct CleaningState {
    /// A thread works on it.
    pub in_progress: bool,
    /// Why it is left alone.
    pub uncleanable: Option<String>,
}

/// How logs are compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanerConfig {
    /// `log.cleaner.threads`; none, and nothing is compacted.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`: memory for the keys, of all threads together.
    pub memory_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`, in percent: how full that may get.
    pub load_percent: usize,
    /// `log.cleaner.io.max.bytes.per.second`, of all threads together; `None` for no limit.
    pub bytes_per_second_max: Option<u64>,
    /// `log.cleaner.backoff.ms`: how long a thread sleeps when there is nothing to do.
    pub backoff_ms: u64,
}

impl Default for CleanerConfig {
    /// Kafka's defaults, but for the threads: there are none.
    fn default() -> Self {
        Self {
            threads: 0,
            memory_bytes: 128 << 20,
            load_percent: 90,
            bytes_per_second_max: None,
            backoff_ms: 15_000,
        }
    }
}
