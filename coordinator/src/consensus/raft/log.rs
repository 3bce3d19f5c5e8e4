//! The newest part of the log, in memory, and how far it is durable, committed and applied.

use std::collections::VecDeque;

use crate::storage::membership::SnapshotMeta;
use crate::storage::wal_record::Entry;

/// Room for so many entries is kept even if they are few; most of what a long log took at the
/// start, or for a follower that was away, is given back.
const SPARE_MAX: usize = 4096;

/// The entries behind `base_index`. All indexes in it obey: base ≤ applied ≤ handed to be applied
/// ≤ committed and durable.
#[derive(Debug)]
pub struct Log {
    base_index: u64,
    base_term: u64,
    entries: VecDeque<Entry>,
    /// All up to here was handed out to be made durable.
    handed_to_persist: u64,
    /// All up to here is durable.
    durable: u64,
    commit: u64,
    /// All up to here was handed out to be applied.
    handed_to_apply: u64,
    applied: u64,
    /// The bytes of the entries up to `applied`.
    applied_size: usize,
}

impl Log {
    /// A log that was read from the disk. Entries that do not follow each other are left out, from
    /// the first such on.
    pub fn new(snapshot: Option<&SnapshotMeta>, restored: Vec<Entry>) -> Self {
        let (base_index, base_term) = snapshot.map_or((0, 0), |meta| (meta.index, meta.term));
        let follows = (base_index + 1..).zip(&restored).all(|(index, entry)| entry.index == index);
        assert!(follows, "the log of the disk has gaps, or does not begin behind the snapshot");
        let last = base_index + restored.len() as u64;
        Self {
            base_index,
            base_term,
            entries: restored.into(),
            handed_to_persist: last,
            durable: last,
            commit: base_index,
            handed_to_apply: base_index,
            applied: base_index,
            applied_size: 0,
        }
    }

    pub fn base_index(&self) -> u64 {
        self.base_index
    }

    pub fn last_index(&self) -> u64 {
        self.base_index + self.entries.len() as u64
    }

    pub fn last_term(&self) -> u64 {
        self.entries.back().map_or(self.base_term, |entry| entry.term)
    }

    pub fn last_time_ms(&self) -> Option<i64> {
        self.entries.back().map(|entry| entry.time_ms)
    }

    pub fn durable(&self) -> u64 {
        self.durable
    }

    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// All up to here is committed and durable.
    pub fn settled(&self) -> u64 {
        self.commit.min(self.durable)
    }

    pub fn applied(&self) -> u64 {
        self.applied
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.base_index + 1)?).ok()
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(self.place(index)?)
    }

    /// The term of an entry that is in memory, or just before.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.base_index {
            return Some(self.base_term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// Whether a log that ends so has all that this one must not lose.
    pub fn is_up_to_date(&self, last_index: u64, last_term: u64) -> bool {
        (last_term, last_index) >= (self.last_term(), self.last_index())
    }

    /// The newest entry at or below `index` whose term is not above `term`: the logs may be equal
    /// up to there. Falls to the base if it is older than what is in memory.
    pub fn newest_not_above(&self, index: u64, term: u64) -> (u64, u64) {
        let end = self.place(index.saturating_add(1)).unwrap_or(0).min(self.entries.len());
        // Terms never fall along the log.
        let end = self.entries.partition_point(|entry| entry.term <= term).min(end);
        match end.checked_sub(1).and_then(|last| self.entries.get(last)) {
            Some(entry) => (entry.index, entry.term),
            None => (self.base_index, self.base_term),
        }
    }

    /// Appends an entry, which must be the next.
    pub fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index() + 1, "the log has no gaps");
        self.entries.push_back(entry);
    }

    /// Cuts `from` and all behind it.
    pub fn truncate(&mut self, from: u64) {
        let Some(place) = self.place(from) else { return };
        self.entries.truncate(place);
        let last = self.last_index();
        self.handed_to_persist = self.handed_to_persist.min(last);
        self.durable = self.durable.min(last);
        self.commit = self.commit.min(last);
    }

    /// Entries from `from` on, up to so many bytes, but one at least if there is one.
    pub fn slice(&self, from: u64, size_max: usize) -> Vec<Entry> {
        let Some(start) = self.place(from).filter(|start| *start < self.entries.len()) else {
            return Vec::new();
        };
        let mut size = 0_usize;
        let fits = self.entries.range(start..).take_while(|entry| {
            let first = size == 0;
            size += entry.size();
            first || size <= size_max
        });
        let count = fits.count();
        self.entries.range(start..start + count).cloned().collect()
    }

    /// What has to be made durable and was not handed out for that.
    pub fn take_unpersisted(&mut self) -> Vec<Entry> {
        let from = self.handed_to_persist + 1;
        self.handed_to_persist = self.last_index();
        self.slice(from, usize::MAX)
    }

    /// Everything up to `index` is durable.
    pub fn persisted(&mut self, index: u64) {
        self.durable = self.durable.max(index.min(self.handed_to_persist));
    }

    /// Everything up to `index` is committed. Returns the former end of what is if it has moved.
    pub fn commit_to(&mut self, index: u64) -> Option<u64> {
        let before = self.commit;
        self.commit = before.max(index.min(self.last_index()));
        (self.commit > before).then_some(before)
    }

    /// What is committed and durable and was not handed out to be applied.
    pub fn take_committed(&mut self) -> Vec<Entry> {
        let end = self.settled();
        let Some(start) = self.place(self.handed_to_apply + 1) else { return Vec::new() };
        let Some(stop) = self.place(end + 1).filter(|stop| *stop > start) else {
            return Vec::new();
        };
        self.handed_to_apply = end;
        self.entries.range(start..stop.min(self.entries.len())).cloned().collect()
    }

    /// Everything up to `index` is applied. Entries that only slow followers may want are kept up
    /// to `kept_size_max` bytes; those behind `wanted_from` up to four times as much.
    pub fn applied_to(&mut self, index: u64, kept_size_max: usize, wanted_from: u64) {
        let index = index.min(self.handed_to_apply);
        if index > self.applied {
            let start = self.place(self.applied + 1).unwrap_or(0);
            let stop = self.place(index + 1).unwrap_or(0).min(self.entries.len());
            let sizes = self.entries.range(start.min(stop)..stop).map(Entry::size);
            self.applied_size += sizes.sum::<usize>();
            self.applied = index;
        }
        while self.base_index < self.applied && self.applied_size > kept_size_max {
            let wanted = self.base_index >= wanted_from;
            if wanted && self.applied_size <= kept_size_max.saturating_mul(4) {
                break;
            }
            let Some(entry) = self.entries.pop_front() else { break };
            (self.base_index, self.base_term) = (entry.index, entry.term);
            self.applied_size -= entry.size();
        }
        if self.entries.capacity() > SPARE_MAX + 4 * self.entries.len() {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Nothing but a snapshot is left.
    pub fn reset(&mut self, index: u64, term: u64) {
        *self = Self {
            base_index: index,
            base_term: term,
            entries: VecDeque::new(),
            handed_to_persist: index,
            durable: index,
            commit: index,
            handed_to_apply: index,
            applied: index,
            applied_size: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::storage::wal_record::EntryKind;

    fn entry(index: u64, term: u64) -> Entry {
        let payload = Bytes::from_static(b"0123456789");
        Entry { index, term, time_ms: 0, kind: EntryKind::Command, payload }
    }

    #[test]
    fn what_was_cut_is_persisted_anew() {
        let mut log = Log::new(None, vec![entry(1, 1), entry(2, 1), entry(3, 1)]);
        assert_eq!((log.durable(), log.take_unpersisted()), (3, vec![]));
        log.truncate(2);
        assert_eq!((log.last_index(), log.durable()), (1, 1));
        log.push(entry(2, 2));
        assert_eq!(log.take_unpersisted(), [entry(2, 2)]);
        log.persisted(3);
        assert_eq!(log.durable(), 2);
        assert_eq!(log.newest_not_above(9, 1), (1, 1));
        assert_eq!(log.newest_not_above(9, 2), (2, 2));
        assert_eq!(log.newest_not_above(1, 9), (1, 1));
        assert_eq!(log.newest_not_above(9, 0), (0, 0));
    }

    #[test]
    fn only_what_is_committed_and_durable_is_applied() {
        let mut log = Log::new(None, Vec::new());
        (1..=4).for_each(|index| log.push(entry(index, 1)));
        assert_eq!(log.take_unpersisted().len(), 4);
        assert_eq!(log.commit_to(3), Some(0));
        assert_eq!(log.take_committed(), []);
        log.persisted(2);
        assert_eq!(log.take_committed(), [entry(1, 1), entry(2, 1)]);
        log.persisted(4);
        assert_eq!(log.take_committed(), [entry(3, 1)]);
        assert_eq!(log.commit_to(9), Some(3));
        assert_eq!(log.take_committed(), [entry(4, 1)]);
    }

    #[test]
    fn what_is_kept_is_bounded_by_its_size() {
        let mut log = Log::new(None, Vec::new());
        (1..=100).for_each(|index| log.push(entry(index, 1)));
        log.take_unpersisted();
        log.persisted(100);
        log.commit_to(100);
        log.take_committed();
        log.applied_to(50, 740, u64::MAX);
        assert_eq!((log.base_index(), log.term(40), log.term(39)), (40, Some(1), None));
        log.applied_to(60, 740, 45);
        assert_eq!(log.base_index(), 45, "a snapshot is on its way");
        log.applied_to(100, 740, 45);
        assert_eq!(log.base_index(), 60, "but four times as much at most");
        assert_eq!(log.slice(61, 150).len(), 2);
        assert_eq!(log.slice(61, 0).len(), 1);
        assert_eq!(log.slice(101, 150).len(), 0);
    }
}
