//! Appending to a log: producer checks, offsets, rolling, the write, and what is to be remembered.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_common::kafka::record_batch::{
    BATCH_HEADER_SIZE, BatchHeader, LOG_OVERHEAD, PatchedHeader, RecordBatch, TimestampType,
    batches,
};
use tracing::debug;

use super::aborted_index::AbortedEntry;
use super::append_validation::{find_marker, validate_for_leader};
use super::error::{AppendError, ProducerError, StorageError};
use super::log::{AppendInfo, AppendOrigin, Appender, LeaderAppend, Log};
use super::log_config::LogConfig;
use super::producer_snapshot;
use super::producer_state::{BatchMetadata, Marker, ProducerEntry, TransactionChange};
use super::segment::Segment;

/// A batch with its offsets, ready to be written.
struct PlacedBatch {
    header: BatchHeader,
    /// Replaces the first bytes of `bytes`; a follower writes the leader's bytes as they are.
    head: Option<PatchedHeader>,
    bytes: Bytes,
    marker: Option<Marker>,
}

impl PlacedBatch {
    fn buffers(&self) -> [IoSlice<'_>; 2] {
        match &self.head {
            Some(head) => {
                let body = self.bytes.get(BATCH_HEADER_SIZE..).unwrap_or_default();
                [IoSlice::new(head.as_bytes()), IoSlice::new(body)]
            }
            None => [IoSlice::new(&self.bytes), IoSlice::new(&[])],
        }
    }
}

impl Log {
    /// Checks, numbers and writes records as the leader. Their order is fixed when it returns.
    ///
    /// # Errors
    /// What is wrong with the records or the disk. Nothing was appended then.
    pub fn append_as_leader(
        &self,
        records: Bytes,
        append: LeaderAppend,
    ) -> Result<AppendInfo, AppendError> {
        self.check_usable()?;
        let config = self.config();
        let valid = validate_for_leader(records, &config, append.origin, append.now_ms)?;
        let size_bytes: usize = valid.iter().map(|batch| batch.bytes.len()).sum();
        let max_bytes = config.segment_bytes as usize;
        if size_bytes > max_bytes {
            return Err(AppendError::RecordListTooLarge { size_bytes, max_bytes });
        }
        let mut appender = self.appender.lock();
        // It may have been closed, or its disk may have failed, while this waited.
        self.check_usable()?;
        let mut offset = self.log_end_offset();
        let mut placed = Vec::with_capacity(valid.len());
        for batch in valid {
            let mut head = batch.head;
            head.set_base_offset(offset);
            head.set_partition_leader_epoch(append.leader_epoch);
            let header = head.header();
            offset = header.next_offset();
            let (bytes, marker) = (batch.bytes, batch.marker);
            placed.push(PlacedBatch { header, head: Some(head), bytes, marker });
        }
        if let Some(duplicate) = check_producers(&appender, &placed, append.origin)? {
            return Ok(self.duplicate_info(&duplicate, &config));
        }
        self.write(&mut appender, &config, &placed, append.now_ms)
    }

    fn duplicate_info(&self, duplicate: &BatchMetadata, config: &LogConfig) -> AppendInfo {
        let set_by_broker = config.message_timestamp_type == TimestampType::LogAppendTime;
        AppendInfo {
            first_offset: duplicate.first_offset(),
            last_offset: duplicate.last_offset,
            max_timestamp: duplicate.timestamp,
            log_append_time_ms: if set_by_broker { duplicate.timestamp } else { -1 },
            log_start_offset: self.log_start_offset(),
            size_bytes: 0,
            duplicate: true,
            flush_due: false,
        }
    }

    /// Writes what the leader sent (whole batches; a cut-off last one is ignored), CRCs checked.
    ///
    /// # Errors
    /// If a batch is corrupt or does not continue the log, or the disk fails. Batches before the
    /// one at fault have been appended.
    pub fn append_as_follower(
        &self,
        records: Bytes,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_usable()?;
        let config = self.config();
        let corrupt =
            |error: &dyn std::fmt::Display| AppendError::CorruptMessage(error.to_string());
        let mut placed = Vec::new();
        for batch in batches(records) {
            let batch = batch.map_err(|error| corrupt(&error))?;
            batch.validate().map_err(|error| corrupt(&error))?;
            let marker = find_marker(&batch)?;
            let RecordBatch { header, bytes } = batch;
            placed.push(PlacedBatch { header, head: None, bytes, marker });
        }
        let mut appender = self.appender.lock();
        self.check_usable()?;
        let start = self.make_room_for_start(&mut appender, &placed)?;
        let log_end_offset = self.log_end_offset();
        let mut expected = log_end_offset;
        for PlacedBatch { header, .. } in &placed {
            if header.base_offset < expected {
                let first_offset = header.base_offset;
                return Err(AppendError::OffsetsOutOfOrder { first_offset, log_end_offset });
            }
            expected = header.next_offset();
        }
        let mut info = self.nothing_appended(log_end_offset);
        let mut rest = placed.as_slice();
        while !rest.is_empty() {
            // As many as fit into a segment.
            let mut size = 0;
            let fitting = rest.iter().take_while(|batch| {
                size += batch.bytes.len();
                size <= config.segment_bytes as usize
            });
            let count = fitting.count().max(1);
            let (group, others) = rest.split_at(count.min(rest.len()));
            let written = self.write(&mut appender, &config, group, now_ms)?;
            info = AppendInfo {
                first_offset: if info.size_bytes == 0 {
                    written.first_offset
                } else {
                    info.first_offset
                },
                max_timestamp: info.max_timestamp.max(written.max_timestamp),
                size_bytes: info.size_bytes + written.size_bytes,
                flush_due: info.flush_due || written.flush_due,
                ..written
            };
            rest = others;
        }
        if let Some(start) = start {
            self.move_start(start);
            info.log_start_offset = start;
        }
        Ok(info)
    }

    /// An empty log may start in the midst of the first batch that its leader sends, where records
    /// were deleted. Then the segment has to begin with the batch; returns where the log starts.
    fn make_room_for_start(
        &self,
        appender: &mut Appender,
        placed: &[PlacedBatch],
    ) -> Result<Option<i64>, StorageError> {
        let offsets = self.offsets();
        let Some(PlacedBatch { header, .. }) = placed.first() else { return Ok(None) };
        let is_within = header.base_offset < offsets.end && header.last_offset() >= offsets.end;
        if offsets.start == offsets.end && is_within {
            self.start_anew(appender, header.base_offset)?;
            let written = self.dir.set_log_start_offset(&self.topic_partition, offsets.start);
            written.map_err(|error| self.failed(error))?;
            return Ok(Some(offsets.start));
        }
        Ok(None)
    }

    fn nothing_appended(&self, log_end_offset: i64) -> AppendInfo {
        AppendInfo {
            first_offset: log_end_offset,
            last_offset: log_end_offset - 1,
            max_timestamp: -1,
            log_append_time_ms: -1,
            log_start_offset: self.log_start_offset(),
            size_bytes: 0,
            duplicate: false,
            flush_due: false,
        }
    }

    /// Writes batches that go into one segment together, and takes account of them.
    fn write(
        &self,
        appender: &mut Appender,
        config: &LogConfig,
        placed: &[PlacedBatch],
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        let (Some(first), Some(last)) = (placed.first(), placed.last()) else {
            return Ok(self.nothing_appended(self.log_end_offset()));
        };
        let headers: Vec<BatchHeader> = placed.iter().map(|batch| batch.header).collect();
        let (segment, rolled) = self.segment_for(appender, config, &headers, now_ms)?;
        let mut buffers: Vec<IoSlice<'_>> = placed.iter().flat_map(PlacedBatch::buffers).collect();
        segment.append(&headers, &mut buffers, config.index_interval_bytes).map_err(
            |(error, restored)| {
                let error = segment.error("append to")(error);
                if !restored {
                    self.dir.fail(&error);
                }
                self.failed(error)
            },
        )?;
        for batch in placed {
            self.remember(appender, &segment, batch)?;
        }
        let end = last.header.next_offset();
        let offsets = self.update_offsets(|offsets| {
            offsets.end = end;
            *offsets
        });
        let set_by_broker = first.header.timestamp_type() == TimestampType::LogAppendTime;
        Ok(AppendInfo {
            first_offset: first.header.base_offset,
            last_offset: last.header.last_offset(),
            max_timestamp: headers.iter().map(|header| header.max_timestamp).max().unwrap_or(-1),
            log_append_time_ms: if set_by_broker { first.header.max_timestamp } else { -1 },
            log_start_offset: offsets.start,
            size_bytes: placed.iter().map(|batch| batch.bytes.len()).sum(),
            duplicate: false,
            flush_due: rolled || offsets.end - offsets.flushed >= config.flush_messages,
        })
    }

    /// The segment to append to: the active one, or a new one. Says which.
    fn segment_for(
        &self,
        appender: &mut Appender,
        config: &LogConfig,
        headers: &[BatchHeader],
        now_ms: i64,
    ) -> Result<(Arc<Segment>, bool), StorageError> {
        // As if it were one batch.
        let size: usize = headers.iter().map(BatchHeader::size_bytes).sum();
        let mut whole = headers.first().copied().unwrap_or_default();
        let base_offset = whole.base_offset;
        let last_offset = headers.last().map_or(base_offset, BatchHeader::last_offset);
        whole.batch_length = i32::try_from(size.saturating_sub(LOG_OVERHEAD)).unwrap_or(i32::MAX);
        whole.last_offset_delta = i32::try_from(last_offset - base_offset).unwrap_or(i32::MAX);
        whole.max_timestamp = headers.iter().map(|header| header.max_timestamp).max().unwrap_or(-1);
        let active = self.active_segment();
        if !active.should_roll(&whole, config, now_ms) {
            return Ok((active, false));
        }
        // Segments follow one another without a gap, so that recovery can tell when one lost its
        // end; a gap that compaction left lies at the beginning of a segment, if that can hold it.
        let end = self.log_end_offset();
        let is_near = last_offset - end <= i64::from(i32::MAX);
        let base_offset = if is_near { end } else { base_offset };
        let segment = self.roll(appender, config, base_offset, now_ms)?;
        Ok((segment, true))
    }

    /// The segment that is appended to.
    pub(super) fn active_segment(&self) -> Arc<Segment> {
        let segments = self.segments.load();
        let Some(active) = segments.last() else {
            panic!("the log in {} has no segment", self.folder.display())
        };
        active.clone()
    }

    /// Closes the active segment and makes a new one.
    pub(super) fn roll(
        &self,
        appender: &mut Appender,
        config: &LogConfig,
        base_offset: i64,
        now_ms: i64,
    ) -> Result<Arc<Segment>, StorageError> {
        let active = self.active_segment();
        if active.base_offset() == base_offset {
            // It is empty, and only its indexes or its base offset were in the way.
            return Ok(active);
        }
        active.seal().map_err(active.error("close the indexes of")).map_err(|e| self.failed(e))?;
        self.take_snapshot(appender, base_offset).map_err(|e| self.failed(e))?;
        let created = Segment::create(&self.file_system, &self.folder, base_offset, now_ms);
        let created = created.map_err(StorageError::io("create a segment in", &self.folder));
        let segment = Arc::new(created.map_err(|error| self.failed(error))?);
        if config.preallocate {
            let reserved = segment.file().reserve(u64::from(config.segment_bytes));
            reserved.map_err(segment.error("reserve space for")).map_err(|e| self.failed(e))?;
        }
        self.folder_dirty.store(true, Ordering::Release);
        let mut segments = self.segments.load().as_ref().clone();
        segments.push(segment.clone());
        self.segments.store(Arc::new(segments));
        debug!(log = %self.topic_partition, base_offset, "rolled a new segment");
        Ok(segment)
    }

    /// Writes down the producers as they are at the log's end.
    pub(super) fn take_snapshot(
        &self,
        appender: &mut Appender,
        offset: i64,
    ) -> Result<(), StorageError> {
        if appender.snapshots.contains(&offset) {
            return Ok(());
        }
        producer_snapshot::write(&self.file_system, &self.folder, offset, &appender.producers)?;
        appender.snapshots.insert(offset);
        appender.unsynced_snapshots.insert(offset);
        self.folder_dirty.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes account of a batch that is in the segment, before readers can see it.
    fn remember(
        &self,
        appender: &mut Appender,
        segment: &Segment,
        batch: &PlacedBatch,
    ) -> Result<(), StorageError> {
        let header = &batch.header;
        if header.partition_leader_epoch >= 0 {
            self.note_epoch(header.partition_leader_epoch, header.base_offset);
        }
        if !header.has_producer_id() {
            return Ok(());
        }
        let entry = appender.producers.entry(header.producer_id);
        match note_batch(entry, header, batch.marker.as_ref()) {
            None => {}
            Some(TransactionChange::Began { first_offset }) => {
                self.transactions.lock().begin(first_offset, header.producer_id);
            }
            Some(TransactionChange::Ended(completed)) => {
                let last_stable_offset = self.transactions.lock().complete(&completed);
                if completed.aborted {
                    let entry = AbortedEntry {
                        producer_id: completed.producer_id,
                        first_offset: completed.first_offset,
                        last_offset: completed.last_offset,
                        last_stable_offset,
                    };
                    let appended = segment.append_aborted(entry);
                    // The marker is in the log already; without its entry, aborted records would
                    // be shown as committed, so there is no going on, disk full or not.
                    appended
                        .map_err(segment.error("note an aborted transaction of"))
                        .inspect_err(|error| self.dir.fail(error))?;
                }
            }
        }
        Ok(())
    }
}

/// Takes account of a batch of a producer; a control batch without a marker says nothing.
pub(super) fn note_batch(
    entry: &mut ProducerEntry,
    header: &BatchHeader,
    marker: Option<&Marker>,
) -> Option<TransactionChange> {
    match marker {
        Some(marker) => entry.append_marker(header, marker),
        None if header.is_control() => None,
        None => entry.append(header),
    }
}

/// Whether all batches may be appended, one after another. Returns the batch that the first one is
/// a repetition of.
fn check_producers(
    appender: &Appender,
    placed: &[PlacedBatch],
    origin: AppendOrigin,
) -> Result<Option<BatchMetadata>, ProducerError> {
    let check_sequence = origin == AppendOrigin::Client;
    let unknown = ProducerEntry::default();
    if let [batch] = placed {
        let entry = appender.producers.get(batch.header.producer_id).unwrap_or(&unknown);
        return check_batch(entry, batch, check_sequence);
    }
    let mut entries: BTreeMap<i64, ProducerEntry> = BTreeMap::new();
    for batch in placed {
        let producer_id = batch.header.producer_id;
        let known = || appender.producers.get(producer_id).unwrap_or(&unknown).clone();
        let entry = entries.entry(producer_id).or_insert_with(known);
        if let Some(duplicate) = check_batch(entry, batch, check_sequence)? {
            return Ok(Some(duplicate));
        }
        note_batch(entry, &batch.header, batch.marker.as_ref());
    }
    Ok(None)
}

fn check_batch(
    entry: &ProducerEntry,
    batch: &PlacedBatch,
    check_sequence: bool,
) -> Result<Option<BatchMetadata>, ProducerError> {
    let header = &batch.header;
    if !header.has_producer_id() {
        return Ok(None);
    }
    if check_sequence && let Some(duplicate) = entry.find_duplicate(header) {
        return Ok(Some(*duplicate));
    }
    match &batch.marker {
        Some(marker) => entry.check_marker(header, marker)?,
        None => entry.check(header, check_sequence)?,
    }
    Ok(None)
}
