//! Finding records by their timestamps (ListOffsets).

use ottla_common::kafka::record_batch::TimestampType;
use ottla_common::kafka::records::RecordLimits;

use super::batch_scan::{BatchScan, SEQUENTIAL_PIECE_BYTES, ScannedBatch, read_batch};
use super::error::StorageError;
use super::log::Log;
use super::segment::Segment;

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record's offset.
    pub offset: i64,
    /// The record's timestamp.
    pub timestamp: i64,
    /// The epoch of the leader that appended it; -1 if unknown.
    pub leader_epoch: i32,
}

impl Log {
    /// The first record with a timestamp of at least `timestamp`.
    ///
    /// # Errors
    /// If the log may not be read, or the disk fails.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampedOffset>, StorageError> {
        self.check_usable()?;
        let start = self.log_start_offset();
        for segment in self.segments.load().iter() {
            if segment.max_timestamp() < timestamp || segment.end_offset() <= start {
                continue;
            }
            let found = self.find_in_segment(
                segment,
                |found| found.timestamp >= timestamp && found.offset >= start,
                timestamp,
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp (ListOffsets -3, KIP-734).
    ///
    /// # Errors
    /// If the log may not be read, or the disk fails.
    pub fn offset_of_max_timestamp(&self) -> Result<Option<TimestampedOffset>, StorageError> {
        self.check_usable()?;
        let start = self.log_start_offset();
        let segments = self.segments.load();
        let readable = segments.iter().filter(|segment| segment.end_offset() > start);
        let Some(timestamp) = readable.map(|segment| segment.max_timestamp()).max() else {
            return Ok(None);
        };
        if timestamp < 0 {
            return Ok(None);
        }
        self.offset_for_timestamp(timestamp)
    }

    /// The first record of a segment that is wanted; none has a timestamp below `timestamp`.
    fn find_in_segment(
        &self,
        segment: &Segment,
        is_wanted: impl Fn(&TimestampedOffset) -> bool,
        timestamp: i64,
    ) -> Result<Option<TimestampedOffset>, StorageError> {
        let (position, size) = {
            let state = segment.state().read();
            let lookup = || {
                let before = state.time_index.lookup_before(timestamp)?;
                // All up to the entry's offset are older.
                let offset = before.map_or(segment.base_offset(), |entry| entry.offset);
                state.offset_index.lookup(offset)
            };
            let entry = lookup().map_err(segment.error("read the index of"));
            (entry.map_err(|error| self.failed(error))?.position, state.size)
        };
        let invalid = |error| self.read_failed(error, segment.file());
        let mut scan =
            BatchScan::new(segment.file(), u64::from(position), size, SEQUENTIAL_PIECE_BYTES);
        while let Some(batch) = scan.next_batch().map_err(invalid)? {
            if batch.header.max_timestamp < timestamp {
                continue;
            }
            if let Some(found) = self.find_in_batch(segment, &batch, &is_wanted)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn find_in_batch(
        &self,
        segment: &Segment,
        batch: &ScannedBatch,
        is_wanted: impl Fn(&TimestampedOffset) -> bool,
    ) -> Result<Option<TimestampedOffset>, StorageError> {
        let leader_epoch = batch.header.partition_leader_epoch;
        if batch.header.timestamp_type() == TimestampType::LogAppendTime {
            let (start, timestamp) = (self.log_start_offset(), batch.header.max_timestamp);
            let offset = batch.header.base_offset.max(start);
            let found = TimestampedOffset { offset, timestamp, leader_epoch };
            let is_in_batch =
                offset <= batch.header.last_offset() && batch.header.records_count > 0;
            return Ok((is_in_batch && is_wanted(&found)).then_some(found));
        }
        let bytes = read_batch(segment.file(), batch);
        let bytes = bytes.map_err(segment.error("read")).map_err(|error| self.failed(error))?;
        let corrupt =
            |error: ottla_common::kafka::record_batch::BatchError| StorageError::Corrupt {
                path: segment.file().path().to_owned(),
                what: format!("{error}, at byte {}", batch.position),
            };
        let buffer = bytes.record_buffer(RecordLimits::default()).map_err(corrupt)?;
        for record in buffer.views() {
            let record = record.map_err(corrupt)?;
            let (offset, timestamp) = (record.offset, record.timestamp);
            let found = TimestampedOffset { offset, timestamp, leader_epoch };
            if is_wanted(&found) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
