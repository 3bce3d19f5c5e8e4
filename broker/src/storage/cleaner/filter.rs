//! Pure: what stays of a batch. Offsets, sequence numbers and the batch's first and last offset
//! never change; a batch of which all records stay is kept byte for byte.

use bytes::Bytes;
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::record_batch::{BatchError, BatchHeader, RecordBatch, checksum, set_crc};
use ottla_common::kafka::records::{BatchBuilder, BatchOptions, RecordLimits, RecordView};

use super::key_map::KeyMap;

/// By what a batch is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The newest offset of each key.
    pub keys: &'a KeyMap,
    /// Wall time.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// The batch is of an aborted transaction, or a marker of a transaction without batches.
    pub discard: bool,
    /// Keep the batch even if it is empty: its offset or its producer's sequence is needed.
    pub keep_empty: bool,
}

/// What stays of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Nothing.
    Nothing,
    /// All of it, as it is.
    Original,
    /// A batch with fewer records, or with the time at which its tombstones may go.
    Rewritten(Bytes),
}

impl Judge<'_> {
    /// Judges a batch.
    ///
    /// # Errors
    /// If its records cannot be read.
    pub fn judge(&self, batch: &RecordBatch) -> Result<Remains, BatchError> {
        let header = &batch.header;
        let horizon_ms = header.delete_horizon_ms();
        let is_over = horizon_ms.is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        // A marker is given time to be read before it goes, as tombstones are.
        if self.discard && (!header.is_control() || is_over) {
            return self.emptied(header);
        }
        let buffer = batch.record_buffer(RecordLimits::default())?;
        let mut kept: Vec<RecordView<'_>> = Vec::new();
        let mut has_tombstone = false;
        for record in buffer.views() {
            let record = record?;
            if header.is_control() || self.keeps(&record, is_over) {
                has_tombstone |= record.value.is_none() && !header.is_control();
                kept.push(record);
            }
        }
        if kept.is_empty() {
            return self.emptied(header);
        }
        let sets_horizon = horizon_ms.is_none() && (has_tombstone || self.discard);
        let is_whole = kept.len() == usize::try_from(header.records_count).unwrap_or(0);
        if is_whole && !sets_horizon {
            return Ok(Remains::Original);
        }
        let new_horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms);
        let horizon_ms = if sets_horizon { Some(new_horizon_ms) } else { horizon_ms };
        rewrite(header, &kept, horizon_ms).map(Remains::Rewritten)
    }

    /// Whether a record stays; `is_over` if tombstones of its batch may go.
    fn keeps(&self, record: &RecordView<'_>, is_over: bool) -> bool {
        if record.offset > self.keys.latest_offset() {
            // A later pass comes to it.
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_newest = self.keys.get(key).is_none_or(|newest| record.offset >= newest);
        is_newest && (record.value.is_some() || !is_over)
    }

    fn emptied(&self, header: &BatchHeader) -> Result<Remains, BatchError> {
        if !self.keep_empty {
            return Ok(Remains::Nothing);
        }
        if header.records_count == 0 {
            return Ok(Remains::Original);
        }
        empty(header).map(Remains::Rewritten)
    }
}

fn options(header: &BatchHeader) -> Result<BatchOptions, BatchError> {
    Ok(BatchOptions {
        compression: header.compression()?,
        compression_level: None,
        timestamp_type: header.timestamp_type(),
        base_offset: header.base_offset,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.is_transactional(),
        control: header.is_control(),
        partition_leader_epoch: header.partition_leader_epoch,
    })
}

fn rewrite(
    header: &BatchHeader,
    records: &[RecordView<'_>],
    horizon_ms: Option<i64>,
) -> Result<Bytes, BatchError> {
    let mut builder = BatchBuilder::new(options(header)?);
    if let Some(horizon_ms) = horizon_ms {
        builder.set_delete_horizon_ms(horizon_ms);
    }
    for record in records {
        builder.append_view(record)?;
    }
    builder.set_last_offset(header.last_offset())?;
    builder.build()
}

/// The batch without its records: what recovery and readers learn from its header stays.
fn empty(header: &BatchHeader) -> Result<Bytes, BatchError> {
    let options = BatchOptions { compression: Compression::None, ..options(header)? };
    let mut builder = BatchBuilder::new(options);
    builder.set_last_offset(header.last_offset())?;
    let built = builder.build()?;
    // Its records' timestamps are gone, the largest of them is kept.
    let mut kept = BatchHeader::parse(&built)?;
    kept.max_timestamp = header.max_timestamp;
    let mut bytes = kept.to_bytes();
    let crc = checksum(&bytes);
    set_crc(&mut bytes, crc)?;
    Ok(Bytes::copy_from_slice(&bytes))
}
