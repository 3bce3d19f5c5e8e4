//! Pure: which batches belong to aborted transactions, and which markers are still needed.
//!
//! A pass shows all batches in the log's order. A batch of an aborted transaction goes; a marker
//! may go once none of its transaction's batches is left, after it was kept for
//! `delete.retention.ms` more, so that a reader who has seen a batch sees its marker too.

use std::collections::{BTreeMap, BTreeSet};

use super::super::aborted_index::AbortedEntry;
use super::super::producer_state::Marker;

/// A transaction whose marker was not passed yet.
#[derive(Clone, Copy, Debug)]
struct Aborted {
    entry: AbortedEntry,
    /// A batch of it is still in the log.
    was_seen: bool,
}

/// What is known of the transactions at a place in the log.
#[derive(Debug, Default)]
pub struct CleanedTransactions {
    /// First offset and producer → transaction that begins further on.
    ahead: BTreeMap<(i64, i64), AbortedEntry>,
    /// Producer → transaction that was begun.
    aborted: BTreeMap<i64, Aborted>,
    /// Producers that have batches of a transaction that is not aborted.
    committed: BTreeSet<i64>,
}

/// What a batch means for a cleaner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, or its records go one by one.
    Keep,
    /// A batch of an aborted transaction, or a marker that is not needed any more.
    Discard,
    /// An abort marker that is needed, and its entry in the index of aborted transactions.
    KeepAborted(AbortedEntry),
}

impl CleanedTransactions {
    /// A place in the log before all of these transactions.
    pub fn new(aborted: impl IntoIterator<Item = AbortedEntry>) -> Self {
        let ahead =
            aborted.into_iter().map(|entry| ((entry.first_offset, entry.producer_id), entry));
        Self { ahead: ahead.collect(), ..Self::default() }
    }

    fn pass(&mut self, offset: i64) {
        while let Some(first) = self.ahead.first_entry()
            && first.key().0 <= offset
        {
            let entry = first.remove();
            self.aborted.entry(entry.producer_id).or_insert(Aborted { entry, was_seen: false });
        }
    }

    /// The next batch is one of data.
    pub fn see_data(&mut self, producer_id: i64, last_offset: i64, transactional: bool) -> Verdict {
        self.pass(last_offset);
        if !transactional {
            return Verdict::Keep;
        }
        if let Some(aborted) = self.aborted.get_mut(&producer_id) {
            aborted.was_seen = true;
            return Verdict::Discard;
        }
        self.committed.insert(producer_id);
        Verdict::Keep
    }

    /// The next batch is a control batch; with its marker, if it has one.
    pub fn see_control(&mut self, producer_id: i64, offset: i64, control: Control) -> Verdict {
        self.pass(offset);
        match control {
            // It was emptied by an earlier pass.
            Control::Empty => Verdict::Discard,
            Control::Other => Verdict::Keep,
            Control::Marker(marker) if marker.aborted => match self.aborted.remove(&producer_id) {
                Some(Aborted { entry, was_seen: true }) => Verdict::KeepAborted(entry),
                _ => Verdict::Discard,
            },
            Control::Marker(_) => match self.committed.remove(&producer_id) {
                true => Verdict::Keep,
                false => Verdict::Discard,
            },
        }
    }
}

/// What a control batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The end of a transaction.
    Marker(Marker),
    /// Something else.
    Other,
    /// Nothing.
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABORT: Control = Control::Marker(Marker { aborted: true, coordinator_epoch: 0 });
    const COMMIT: Control = Control::Marker(Marker { aborted: false, coordinator_epoch: 0 });

    fn entry(producer_id: i64, first_offset: i64, last_offset: i64) -> AbortedEntry {
        AbortedEntry { producer_id, first_offset, last_offset, last_stable_offset: last_offset + 1 }
    }

    #[test]
    fn aborted_batches_go_and_their_marker_stays_while_there_are_any() {
        let aborted = entry(7, 10, 30);
        let mut log = CleanedTransactions::new([aborted]);
        assert_eq!(log.see_data(7, 5, true), Verdict::Keep, "an earlier one, committed");
        assert_eq!(log.see_control(7, 6, COMMIT), Verdict::Keep);
        assert_eq!(log.see_data(7, 10, true), Verdict::Discard);
        assert_eq!(log.see_data(8, 12, true), Verdict::Keep, "another producer");
        assert_eq!(log.see_data(7, 20, true), Verdict::Discard);
        assert_eq!(log.see_control(7, 30, ABORT), Verdict::KeepAborted(aborted));
        assert_eq!(log.see_control(8, 31, COMMIT), Verdict::Keep);
        assert_eq!(log.see_data(7, 40, true), Verdict::Keep, "a later one");
        assert_eq!(log.see_data(9, 41, false), Verdict::Keep, "no transaction");
    }

    #[test]
    fn markers_of_transactions_without_batches_go() {
        let mut log = CleanedTransactions::new([entry(7, 10, 30)]);
        assert_eq!(log.see_control(7, 30, ABORT), Verdict::Discard);
        assert_eq!(log.see_control(8, 31, COMMIT), Verdict::Discard);
        assert_eq!(log.see_control(8, 32, Control::Empty), Verdict::Discard);
        assert_eq!(log.see_control(8, 33, Control::Other), Verdict::Keep);
    }
}
