//! A member's log as the simulator knows it from what the member wanted written, and from what was.

use std::collections::BTreeSet;

use ottla_coordinator::storage::wal_record::Entry;

use crate::invariants::Print;

/// See the module.
#[derive(Debug, Default)]
pub struct Shadow {
    /// The index and term before the first of the entries.
    start: (u64, u64),
    entries: Vec<Print>,
    /// Every entry, by index and term, that was ever durable, whatever became of it later.
    durable: BTreeSet<(u64, u64)>,
    /// All up to here came in a snapshot.
    snapshot_index: u64,
}

impl Shadow {
    /// The process starts with these entries behind an index, all of them durable.
    pub fn restore(&mut self, start: (u64, u64), entries: &[Entry]) {
        self.start = start;
        self.entries = entries.iter().map(Print::of).collect();
        self.durable.extend(entries.iter().map(|entry| (entry.index, entry.term)));
        self.snapshot_index = self.snapshot_index.max(start.0);
    }

    /// The log begins anew behind a snapshot.
    pub fn install(&mut self, index: u64, term: u64) {
        self.start = (index, term);
        self.entries.clear();
        self.snapshot_index = self.snapshot_index.max(index);
    }

    /// An entry is appended, in place of those that are there from its index on. Returns the term
    /// of the entry before it, if that is known.
    pub fn append(&mut self, entry: &Entry) -> Option<u64> {
        let place = usize::try_from(entry.index.checked_sub(self.start.0 + 1)?).ok()?;
        self.entries.truncate(place);
        let previous = match place.checked_sub(1) {
            None => Some(self.start.1),
            Some(before) => self.entries.get(before).map(|print| print.term),
        };
        if place == self.entries.len() {
            self.entries.push(Print::of(entry));
        }
        previous
    }

    /// Entries are durable now.
    pub fn persisted(&mut self, entries: impl Iterator<Item = (u64, u64)>) {
        self.durable.extend(entries);
    }

    /// The entry at an index.
    pub fn get(&self, index: u64) -> Option<Print> {
        let place = usize::try_from(index.checked_sub(self.start.0 + 1)?).ok()?;
        self.entries.get(place).copied()
    }

    /// The term and index up to which a snapshot, or an earlier log, holds all.
    pub fn snapshot(&self) -> (u64, u64) {
        (self.start.1, self.start.0)
    }

    /// Up to where entries are not known one by one.
    pub fn start(&self) -> u64 {
        self.start.0
    }

    /// Whether an entry was ever durable here.
    pub fn was_durable(&self, index: u64, term: u64) -> bool {
        index <= self.snapshot_index || self.durable.contains(&(index, term))
    }
}
