//! What was fetched of a partition, without what the reader must not see: control batches, and with
//! isolation what aborted transactions wrote.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::kafka::record_batch::{BatchError, RecordBatch, batches};
use crate::kafka::records::{EndTransactionMarker, Record, RecordLimits};
use crate::types::TopicPartition;

/// Batches of one partition, in order.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// Where it was read from. The first batch may begin with records before it.
    pub start_offset: i64,
    /// The offset after the last record.
    pub next_offset: i64,
    /// The offset up to which all replicas in sync have the partition.
    pub high_watermark: i64,
    /// The offset up to which no transaction is open.
    pub last_stable_offset: i64,
    /// The first offset that there is.
    pub log_start_offset: i64,
    /// The whole batches, which share the bytes of the broker's answer.
    pub batches: Vec<RecordBatch>,
}

impl FetchedPartition {
    /// The records, from `start_offset` on. Decoded and decompressed as it is iterated.
    pub fn records(
        &self,
        limits: RecordLimits,
    ) -> impl Iterator<Item = Result<Record, BatchError>> {
        let start_offset = self.start_offset;
        let before = move |record: &Result<Record, BatchError>| {
            record.as_ref().is_ok_and(|record| record.offset < start_offset)
        };
        let records = self.batches.iter().flat_map(move |batch| batch.records(limits));
        records.filter(move |record| !before(record))
    }

    /// Bytes of all batches.
    pub fn size_bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.bytes.len()).sum()
    }

    /// How many records the batches hold, by their headers: for those who only count. Those before
    /// `start_offset` in the first batch are counted too.
    pub fn records_count(&self) -> i64 {
        self.batches.iter().map(|batch| i64::from(batch.header.records_count)).sum()
    }
}

/// What is in the records of an answer.
pub(super) struct Visible {
    pub batches: Vec<RecordBatch>,
    /// The offset after the last whole batch; that of before if there was none.
    pub next_offset: i64,
}

/// Splits the records of an answer into batches and leaves out what is not to be seen. `aborted`
/// lists producer id and first offset of aborted transactions (with isolation only).
pub(super) fn visible(
    records: Bytes,
    position: i64,
    aborted: &[(i64, i64)],
    check_crcs: bool,
) -> Result<Visible, BatchError> {
    let mut filter = AbortedFilter::new(aborted);
    let mut visible = Visible { batches: Vec::new(), next_offset: position };
    for batch in batches(records) {
        let batch = batch?;
        if check_crcs {
            batch.validate()?;
        }
        let aborted = filter.is_aborted(&batch)?;
        // An answer may begin with batches before the position, if they were appended together.
        if batch.header.last_offset() < position {
            continue;
        }
        visible.next_offset = batch.header.next_offset().max(visible.next_offset);
        if !batch.header.is_control() && !aborted && batch.header.records_count > 0 {
            visible.batches.push(batch);
        }
    }
    Ok(visible)
}

/// Tells the batches of aborted transactions: those between the transaction's first offset, which
/// the broker lists, and its marker.
struct AbortedFilter {
    /// First offset and producer id, smallest offset last.
    upcoming: Vec<(i64, i64)>,
    aborting: BTreeSet<i64>,
}

impl AbortedFilter {
    fn new(aborted: &[(i64, i64)]) -> Self {
        let mut upcoming: Vec<_> = aborted.iter().map(|&(id, first)| (first, id)).collect();
        upcoming.sort_unstable_by(|a, b| b.cmp(a));
        Self { upcoming, aborting: BTreeSet::new() }
    }

    fn is_aborted(&mut self, batch: &RecordBatch) -> Result<bool, BatchError> {
        let header = &batch.header;
        while let Some((_, id)) =
            self.upcoming.pop_if(|(first_offset, _)| *first_offset <= header.last_offset())
        {
            self.aborting.insert(id);
        }
        if header.is_control() {
            if self.aborting.contains(&header.producer_id) && is_abort_marker(batch)? {
                self.aborting.remove(&header.producer_id);
            }
            return Ok(false);
        }
        Ok(header.is_transactional() && self.aborting.contains(&header.producer_id))
    }
}

fn is_abort_marker(batch: &RecordBatch) -> Result<bool, BatchError> {
    let record = batch.records(RecordLimits::default()).next().transpose()?;
    let marker =
        record.and_then(|record| EndTransactionMarker::parse(&record.key?, &record.value?));
    Ok(marker.is_some_and(|marker| !marker.commit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::records::{BatchBuilder, BatchOptions};

    fn data(base_offset: i64, producer_id: i64, count: i64) -> Bytes {
        let transactional = producer_id >= 0;
        let options =
            BatchOptions { base_offset, producer_id, transactional, ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        for number in 0..count {
            builder.append(number, None, Some(b"value"), &[]).unwrap();
        }
        builder.build().unwrap()
    }

    fn marker(base_offset: i64, producer_id: i64, commit: bool) -> Bytes {
        let options = BatchOptions { base_offset, producer_id, ..BatchOptions::default() };
        EndTransactionMarker { commit, coordinator_epoch: 0 }.batch(options, 0).unwrap()
    }

    fn base_offsets(visible: &Visible) -> Vec<i64> {
        visible.batches.iter().map(|batch| batch.header.base_offset).collect()
    }

    #[test]
    fn aborted_transactions_are_left_out_up_to_their_marker() {
        let log = [
            data(0, 7, 2),
            data(2, 8, 1),
            data(3, -1, 1),
            marker(4, 7, false),
            data(5, 7, 1),
            marker(6, 8, true),
            marker(7, 7, true),
        ];
        let log = Bytes::from(log.concat());
        let seen = visible(log.clone(), 0, &[(7, 0)], true).unwrap();
        assert_eq!(base_offsets(&seen), [2, 3, 5], "the later transaction of 7 was committed");
        assert_eq!(seen.next_offset, 8, "markers are passed over");
        let seen = visible(log, 0, &[], true).unwrap();
        assert_eq!(base_offsets(&seen), [0, 2, 3, 5]);
    }

    #[test]
    fn records_before_the_position_are_not_given() {
        let log = Bytes::from([data(0, -1, 5), data(5, -1, 5)].concat());
        let seen = visible(log, 7, &[], true).unwrap();
        assert_eq!(base_offsets(&seen), [5]);
        let fetched = FetchedPartition {
            partition: TopicPartition::new("t", 0),
            start_offset: 7,
            next_offset: seen.next_offset,
            high_watermark: 10,
            last_stable_offset: 10,
            log_start_offset: 0,
            batches: seen.batches,
        };
        let offsets: Vec<i64> =
            fetched.records(RecordLimits::default()).map(|record| record.unwrap().offset).collect();
        assert_eq!(offsets, [7, 8, 9]);
        assert_eq!((fetched.records_count(), fetched.next_offset), (5, 10));
    }

    #[test]
    fn a_cut_off_batch_is_left_for_the_next_time() {
        let log = Bytes::from([data(0, -1, 5), data(5, -1, 5)].concat());
        let seen = visible(log.slice(..log.len() - 1), 0, &[], true).unwrap();
        assert_eq!((base_offsets(&seen), seen.next_offset), (vec![0], 5));
    }

    #[test]
    fn a_corrupt_batch_is_an_error_if_wanted() {
        let mut log = data(0, -1, 5).to_vec();
        *log.last_mut().unwrap() ^= 1;
        assert!(visible(Bytes::from(log.clone()), 0, &[], true).is_err());
        assert!(visible(Bytes::from(log), 0, &[], false).is_ok());
    }
}
