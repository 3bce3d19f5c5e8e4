//! What a log knows of the idempotent and transactional producers that wrote to it (KIP-98,
//! KIP-360).
//!
//! Pure: batches go in by their headers, in log order; the same batches give the same state on the
//! leader, on a follower and after recovery. For each producer the last five batches are
//! remembered, as many as a client may have in flight, so that a retry is answered with its first
//! offset.

use std::collections::BTreeMap;

use ottla_common::kafka::record_batch::{BatchHeader, increment_sequence};

use super::error::ProducerError;

/// Batches remembered for each producer.
pub const BATCHES_REMEMBERED: usize = 5;

/// One batch of a producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchMetadata {
    /// The last sequence number.
    pub last_sequence: i32,
    /// The last offset.
    pub last_offset: i64,
    /// The last offset minus the first.
    pub offset_delta: i32,
    /// The largest timestamp.
    pub timestamp: i64,
}

impl BatchMetadata {
    fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        }
    }

    /// The first offset.
    pub fn first_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }

    /// The first sequence number.
    pub fn first_sequence(&self) -> i32 {
        // `increment_sequence` drops the sign bit, so that this goes back over 0 to i32::MAX.
        increment_sequence(self.last_sequence, self.offset_delta.wrapping_neg())
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Its newest epoch; -1 before its first batch.
    pub producer_epoch: i16,
    /// The epoch of the transaction coordinator that wrote the last marker; -1 if none did.
    pub coordinator_epoch: i32,
    /// The largest timestamp of its last batch or marker.
    pub last_timestamp: i64,
    /// Where its open transaction begins.
    pub current_txn_first_offset: Option<i64>,
    /// Its last batches, oldest first, all of its newest epoch.
    batches: Vec<BatchMetadata>,
    /// If its first batch known here did not begin at sequence 0: that sequence. What came before
    /// is not known to have been appended.
    unknown_before: Option<i32>,
}

impl Default for ProducerEntry {
    fn default() -> Self {
        Self {
            producer_epoch: -1,
            coordinator_epoch: -1,
            last_timestamp: -1,
            current_txn_first_offset: None,
            batches: Vec::new(),
            unknown_before: None,
        }
    }
}

/// What a batch did besides being appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionChange {
    /// A transaction began at this offset.
    Began {
        /// Its first offset.
        first_offset: i64,
    },
    /// The open transaction that began at this offset was ended by a marker.
    Ended(CompletedTransaction),
}

/// A transaction that has its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// The transaction's first offset.
    pub first_offset: i64,
    /// The marker's offset.
    pub last_offset: i64,
    /// Whether it was aborted.
    pub aborted: bool,
}

/// A transaction marker (the record of a control batch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Abort or commit.
    pub aborted: bool,
    /// The epoch of the transaction coordinator.
    pub coordinator_epoch: i32,
}

impl ProducerEntry {
    /// An entry as a snapshot file has it.
    pub fn restored(
        producer_epoch: i16,
        coordinator_epoch: i32,
        last_timestamp: i64,
        batch: Option<BatchMetadata>,
    ) -> Self {
        let batches = batch.into_iter().collect();
        Self { producer_epoch, coordinator_epoch, last_timestamp, batches, ..Self::default() }
    }

    /// Its last batch.
    pub fn last_batch(&self) -> Option<&BatchMetadata> {
        self.batches.last()
    }

    /// The batch that `header` is a repetition of.
    pub fn find_duplicate(&self, header: &BatchHeader) -> Option<&BatchMetadata> {
        if header.producer_epoch != self.producer_epoch {
            return None;
        }
        self.batches.iter().find(|batch| {
            batch.first_sequence() == header.base_sequence
                && batch.last_sequence == header.last_sequence()
        })
    }

    /// Whether a batch may follow. `check_sequence` is for clients' batches only: those of a leader
    /// to its follower, and of the broker itself, are as they are.
    pub fn check(&self, header: &BatchHeader, check_sequence: bool) -> Result<(), ProducerError> {
        let producer_id = header.producer_id;
        let (producer_epoch, current_epoch) = (header.producer_epoch, self.producer_epoch);
        if producer_epoch < current_epoch {
            return Err(ProducerError::InvalidProducerEpoch {
                producer_id,
                producer_epoch,
                current_epoch,
            });
        }
        if check_sequence {
            self.check_sequence(header)?;
        }
        if self.current_txn_first_offset.is_some() && !header.is_transactional() {
            return Err(ProducerError::InvalidTransactionState { producer_id });
        }
        Ok(())
    }

    fn check_sequence(&self, header: &BatchHeader) -> Result<(), ProducerError> {
        let (producer_id, base_sequence) = (header.producer_id, header.base_sequence);
        let out_of_order = |expected| {
            Err(ProducerError::OutOfOrderSequence { producer_id, base_sequence, expected })
        };
        // KIP-360: of a producer that nothing is known of (any more), any sequence is taken.
        if self.producer_epoch < 0 {
            return Ok(());
        }
        if header.producer_epoch != self.producer_epoch {
            return if base_sequence == 0 { Ok(()) } else { out_of_order(0) };
        }
        let (Some(first), Some(last)) = (self.batches.first(), self.batches.last()) else {
            // Only a marker is known of this epoch.
            return if base_sequence == 0 { Ok(()) } else { out_of_order(0) };
        };
        let expected = increment_sequence(last.last_sequence, 1);
        if base_sequence == expected {
            return Ok(());
        }
        let known = match self.unknown_before {
            Some(start) => !is_before(base_sequence, start),
            None => true,
        };
        if known && is_before(header.last_sequence(), first.first_sequence()) {
            return Err(ProducerError::DuplicateSequence { producer_id, base_sequence });
        }
        out_of_order(expected)
    }

    /// Takes account of a data batch that was appended.
    pub fn append(&mut self, header: &BatchHeader) -> Option<TransactionChange> {
        self.set_epoch(header.producer_epoch);
        if self.batches.is_empty() && self.unknown_before.is_none() && header.base_sequence > 0 {
            self.unknown_before = Some(header.base_sequence);
        }
        if self.batches.len() == BATCHES_REMEMBERED {
            self.batches.remove(0);
        }
        self.batches.push(BatchMetadata::of(header));
        self.last_timestamp = header.max_timestamp;
        if header.is_transactional() && self.current_txn_first_offset.is_none() {
            self.current_txn_first_offset = Some(header.base_offset);
            return Some(TransactionChange::Began { first_offset: header.base_offset });
        }
        None
    }

    fn set_epoch(&mut self, producer_epoch: i16) {
        if self.producer_epoch != producer_epoch {
            self.producer_epoch = producer_epoch;
            self.batches.clear();
            self.unknown_before = None;
        }
    }

    /// Whether a marker may be appended.
    pub fn check_marker(&self, header: &BatchHeader, marker: &Marker) -> Result<(), ProducerError> {
        let (producer_epoch, current_epoch) = (header.producer_epoch, self.producer_epoch);
        if producer_epoch < current_epoch {
            let producer_id = header.producer_id;
            return Err(ProducerError::InvalidProducerEpoch {
                producer_id,
                producer_epoch,
                current_epoch,
            });
        }
        let (coordinator_epoch, current_epoch) = (marker.coordinator_epoch, self.coordinator_epoch);
        if coordinator_epoch < current_epoch {
            return Err(ProducerError::TransactionCoordinatorFenced {
                coordinator_epoch,
                current_epoch,
            });
        }
        Ok(())
    }

    /// Takes account of a marker that was appended.
    pub fn append_marker(
        &mut self,
        header: &BatchHeader,
        marker: &Marker,
    ) -> Option<TransactionChange> {
        self.set_epoch(header.producer_epoch);
        self.coordinator_epoch = marker.coordinator_epoch;
        self.last_timestamp = header.max_timestamp;
        let first_offset = self.current_txn_first_offset.take()?;
        Some(TransactionChange::Ended(CompletedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset: header.base_offset,
            aborted: marker.aborted,
        }))
    }
}

/// Whether sequence `a` comes before `b`, counting as producers do.
fn is_before(a: i32, b: i32) -> bool {
    (1..=i32::MAX / 2).contains(&(b.wrapping_sub(a) & i32::MAX))
}

/// All producers of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    entries: BTreeMap<i64, ProducerEntry>,
}

impl Producers {
    /// The producers, by id.
    pub fn entries(&self) -> &BTreeMap<i64, ProducerEntry> {
        &self.entries
    }

    /// One producer.
    pub fn get(&self, producer_id: i64) -> Option<&ProducerEntry> {
        self.entries.get(&producer_id)
    }

    /// One producer, made if it is new.
    pub fn entry(&mut self, producer_id: i64) -> &mut ProducerEntry {
        self.entries.entry(producer_id).or_default()
    }

    /// Puts back a producer from a snapshot.
    pub fn insert(&mut self, producer_id: i64, entry: ProducerEntry) {
        self.entries.insert(producer_id, entry);
    }

    /// Forgets producers that wrote nothing for so long, unless they have a transaction open.
    pub fn expire(&mut self, now_ms: i64, producer_id_expiration_ms: i64) {
        self.entries.retain(|_, entry| {
            entry.current_txn_first_offset.is_some()
                || now_ms.saturating_sub(entry.last_timestamp) < producer_id_expiration_ms
        });
    }
}

/// The transactions of a log that decide its last stable offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    /// First offset → producer.
    open: BTreeMap<i64, i64>,
    /// Ended, but the marker is not below the high watermark: first offset → marker's offset.
    unreplicated: BTreeMap<i64, i64>,
}

impl Transactions {
    /// The transactions open in a restored state.
    pub fn of(producers: &Producers) -> Self {
        let open = producers.entries().iter();
        let open = open.filter_map(|(&id, entry)| Some((entry.current_txn_first_offset?, id)));
        Self { open: open.collect(), unreplicated: BTreeMap::new() }
    }

    /// A transaction began.
    pub fn begin(&mut self, first_offset: i64, producer_id: i64) {
        self.open.insert(first_offset, producer_id);
    }

    /// A transaction got its marker. Returns the last stable offset without regard to the high
    /// watermark, as the index of aborted transactions wants it.
    pub fn complete(&mut self, completed: &CompletedTransaction) -> i64 {
        self.open.remove(&completed.first_offset);
        self.unreplicated.insert(completed.first_offset, completed.last_offset);
        self.open.keys().next().copied().unwrap_or(completed.last_offset + 1)
    }

    /// Markers below the high watermark are final.
    pub fn advance_high_watermark(&mut self, high_watermark: i64) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    /// The oldest offset whose fate `read_committed` does not know.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        let open = self.open.keys().next();
        let unreplicated = self.unreplicated.keys().next();
        open.into_iter().chain(unreplicated).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer_epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            last_offset_delta: count - 1,
            records_count: count,
            producer_id: 7,
            producer_epoch,
            base_sequence,
            max_timestamp: 100 + base_offset,
            ..BatchHeader::default()
        }
    }

    fn transactional(header: BatchHeader) -> BatchHeader {
        BatchHeader { attributes: 0x10, ..header }
    }

    fn append(entry: &mut ProducerEntry, header: BatchHeader) -> Result<(), ProducerError> {
        entry.check(&header, true)?;
        entry.append(&header);
        Ok(())
    }

    #[test]
    fn sequences_follow_one_another_and_retries_are_recognised() {
        let mut entry = ProducerEntry::default();
        for number in 0..8 {
            append(&mut entry, batch(0, number * 10, 10, i64::from(number) * 100)).unwrap();
        }
        let found = entry.find_duplicate(&batch(0, 40, 10, 0)).unwrap();
        assert_eq!((found.first_offset(), found.last_offset), (400, 409));
        assert!(entry.find_duplicate(&batch(0, 40, 9, 0)).is_none(), "another batch");
        assert!(entry.find_duplicate(&batch(1, 40, 10, 0)).is_none(), "another epoch");
        assert!(entry.find_duplicate(&batch(0, 20, 10, 0)).is_none(), "too long ago");
        assert!(matches!(
            entry.check(&batch(0, 20, 10, 0), true),
            Err(ProducerError::DuplicateSequence { base_sequence: 20, .. })
        ));
        assert!(matches!(
            entry.check(&batch(0, 90, 10, 0), true),
            Err(ProducerError::OutOfOrderSequence { expected: 80, .. })
        ));
        entry.check(&batch(0, 90, 10, 0), false).unwrap();
    }

    #[test]
    fn sequences_wrap() {
        let mut entry = ProducerEntry::default();
        append(&mut entry, batch(0, i32::MAX - 1, 1, 0)).unwrap();
        append(&mut entry, batch(0, i32::MAX, 3, 1)).unwrap();
        assert_eq!(entry.last_batch().unwrap().last_sequence, 1);
        assert_eq!(entry.last_batch().unwrap().first_sequence(), i32::MAX);
        let duplicate = entry.find_duplicate(&batch(0, i32::MAX, 3, 50)).unwrap();
        assert_eq!(duplicate.first_offset(), 1);
        append(&mut entry, batch(0, 2, 1, 4)).unwrap();
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
        let mut entry = ProducerEntry::default();
        append(&mut entry, batch(3, 5, 1, 0)).unwrap();
        assert!(matches!(
            entry.check(&batch(2, 6, 1, 1), true),
            Err(ProducerError::InvalidProducerEpoch { current_epoch: 3, .. })
        ));
        assert!(matches!(
            entry.check(&batch(4, 6, 1, 1), true),
            Err(ProducerError::OutOfOrderSequence { expected: 0, .. })
        ));
        append(&mut entry, batch(4, 0, 2, 1)).unwrap();
        append(&mut entry, batch(4, 2, 1, 3)).unwrap();
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere_but_its_past_stays_unknown() {
        let mut entry = ProducerEntry::default();
        append(&mut entry, batch(0, 50, 1, 0)).unwrap();
        assert!(matches!(
            entry.check(&batch(0, 40, 1, 0), true),
            Err(ProducerError::OutOfOrderSequence { expected: 51, .. })
        ));
    }

    #[test]
    fn a_transaction_holds_the_last_stable_offset_until_its_marker_is_replicated() {
        let mut entry = ProducerEntry::default();
        let mut transactions = Transactions::default();
        let began = entry.append(&transactional(batch(0, 0, 5, 10)));
        assert_eq!(began, Some(TransactionChange::Began { first_offset: 10 }));
        transactions.begin(10, 7);
        assert!(matches!(
            entry.check(&batch(0, 5, 1, 15), true),
            Err(ProducerError::InvalidTransactionState { .. })
        ));
        let marker = Marker { aborted: true, coordinator_epoch: 2 };
        entry.check_marker(&batch(0, -1, 1, 20), &marker).unwrap();
        let ended = entry.append_marker(&batch(0, -1, 1, 20), &marker);
        let Some(TransactionChange::Ended(completed)) = ended else { panic!("{ended:?}") };
        assert_eq!((completed.first_offset, completed.last_offset), (10, 20));
        assert_eq!(transactions.complete(&completed), 21);
        assert_eq!(transactions.first_unstable_offset(), Some(10));
        transactions.advance_high_watermark(20);
        assert_eq!(transactions.first_unstable_offset(), Some(10));
        transactions.advance_high_watermark(21);
        assert_eq!(transactions.first_unstable_offset(), None);
        let stale = Marker { aborted: false, coordinator_epoch: 1 };
        assert!(matches!(
            entry.check_marker(&batch(0, -1, 1, 21), &stale),
            Err(ProducerError::TransactionCoordinatorFenced { current_epoch: 2, .. })
        ));
    }

    #[test]
    fn idle_producers_are_forgotten_unless_in_a_transaction() {
        let mut producers = Producers::default();
        producers.entry(1).append(&batch(0, 0, 1, 0));
        producers.entry(2).append(&transactional(batch(0, 0, 1, 1)));
        producers.expire(199, 100);
        assert_eq!(producers.entries().len(), 2);
        producers.expire(1_000, 100);
        assert_eq!(producers.entries().keys().collect::<Vec<_>>(), [&2]);
    }
}
