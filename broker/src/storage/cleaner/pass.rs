//! One pass over a log: reads what is dirty, rewrites the segments, replaces them.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use ottla_common::kafka::record_batch::{BatchError, BatchHeader, RecordBatch};
use ottla_common::kafka::records::RecordLimits;
use tracing::debug;

use super::super::aborted_index::AbortedEntry;
use super::super::append_validation::find_marker;
use super::super::batch_scan::{
    BatchScan, SEQUENTIAL_PIECE_BYTES, ScanError, ScannedBatch, read_batch,
};
use super::super::error::StorageError;
use super::super::leftovers::CLEANED_SUFFIX;
use super::super::log::Log;
use super::super::log_config::LogConfig;
use super::super::log_reader::segments_from;
use super::super::segment::Segment;
use super::CleanerConfig;
use super::filter::{Judge, Remains};
use super::key_map::KeyMap;
use super::selection::{Cleanable, GroupLimits, GroupMember, LogView, SegmentView, groups};
use super::swap::Replaced;
use super::transactions::{CleanedTransactions, Control, Verdict};

/// New batches are written when they have so many bytes together.
const WRITE_BYTES: usize = 1 << 20;

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The broker stops.
    #[error("compaction was told to stop")]
    Stopped,
    /// The log was cut, deleted or closed meanwhile; a later pass sees to it.
    #[error("the log changed while it was compacted")]
    Overtaken,
    /// A batch cannot be read, or the memory is too small for a single batch.
    #[error("the log cannot be compacted: {0}")]
    Uncleanable(String),
    /// The disk failed or is full.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Before it all is compacted now.
    pub end_offset: i64,
    /// Keys of the dirty part.
    pub keys: usize,
    /// Bytes of the segments before.
    pub bytes_before: u64,
    /// Bytes of the segments after.
    pub bytes_after: u64,
    /// Segments before.
    pub segments_before: usize,
    /// Segments after.
    pub segments_after: usize,
}

/// Told of bytes that were read or written; makes the thread wait. `false` if it has to stop.
pub type Spend<'a> = &'a dyn Fn(u64) -> bool;

impl Log {
    /// What [`selection`](super::selection) wants to know.
    ///
    /// # Errors
    /// If the log may not be read.
    pub fn cleaning_view(&self) -> Result<LogView, StorageError> {
        self.check_usable()?;
        let wants_first = self.config().max_compaction_lag_ms < i64::MAX;
        let cleaned_offset = self.dir.cleaner_offset(&self.topic_partition);
        let segments = self.segments.load_full();
        let mut views = Vec::with_capacity(segments.len());
        for segment in segments.iter() {
            let is_dirty = cleaned_offset.is_none_or(|cleaned| segment.end_offset() > cleaned);
            views.push(SegmentView {
                base_offset: segment.base_offset(),
                end_offset: segment.end_offset(),
                size: segment.size(),
                newest_ms: segment.newest_ms(),
                first_ms: if wants_first && is_dirty { first_ms(segment) } else { None },
            });
        }
        Ok(LogView {
            segments: views,
            start_offset: self.log_start_offset(),
            last_stable_offset: self.last_stable_offset(),
            cleaned_offset,
        })
    }

    /// Compacts a part of the log.
    ///
    /// # Errors
    /// Why it did not come to its end. What was done so far stands, and does no harm.
    pub fn clean(
        &self,
        cleanable: &Cleanable,
        config: &CleanerConfig,
        now_ms: i64,
        spend: Spend<'_>,
    ) -> Result<Cleaned, CleanError> {
        let cuts = self.offsets().cuts;
        let (log, log_config) = (self, self.config());
        let mut pass = Pass {
            log,
            config: log_config,
            cuts,
            now_ms,
            spend,
            transactions: CleanedTransactions::default(),
            last_of_producer: last_of_producers(log),
            keys: KeyMap::new(0, config.load_percent, 0),
            done: Cleaned::default(),
        };
        let result = pass.run(cleanable, config);
        // What went wrong in a log that was cut under the hands means nothing.
        match result {
            Err(CleanError::Storage(_) | CleanError::Uncleanable(_)) if !pass.is_current() => {
                Err(CleanError::Overtaken)
            }
            Err(CleanError::Storage(error @ StorageError::Corrupt { .. })) => {
                Err(CleanError::Uncleanable(error.to_string()))
            }
            Err(CleanError::Storage(error)) => Err(CleanError::Storage(self.failed(error))),
            result => result,
        }
    }
}

/// The largest timestamp of a segment's first batch.
fn first_ms(segment: &Segment) -> Option<i64> {
    let mut scan = BatchScan::new(segment.file(), 0, segment.size(), 0);
    scan.next_batch().ok().flatten().map(|batch| batch.header.max_timestamp)
}

/// What must be kept of each producer that is remembered: the batch with its last sequence number,
/// or else its last marker.
#[derive(Clone, Copy, Debug)]
struct LastOfProducer {
    last_offset: Option<i64>,
    producer_epoch: i16,
}

fn last_of_producers(log: &Log) -> BTreeMap<i64, LastOfProducer> {
    let appender = log.appender.lock();
    let entries = appender.producers.entries().iter();
    entries
        .map(|(&producer_id, entry)| {
            let last_offset = entry.last_batch().map(|batch| batch.last_offset);
            (producer_id, LastOfProducer { last_offset, producer_epoch: entry.producer_epoch })
        })
        .collect()
}

struct Pass<'a> {
    log: &'a Log,
    config: Arc<LogConfig>,
    cuts: u64,
    now_ms: i64,
    spend: Spend<'a>,
    transactions: CleanedTransactions,
    last_of_producer: BTreeMap<i64, LastOfProducer>,
    keys: KeyMap,
    done: Cleaned,
}

impl Pass<'_> {
    fn run(
        &mut self,
        cleanable: &Cleanable,
        config: &CleanerConfig,
    ) -> Result<Cleaned, CleanError> {
        self.secure(cleanable.first_uncleanable_offset)?;
        let segments = self.log.segments.load_full();
        let closed: Vec<Arc<Segment>> = segments
            .iter()
            .filter(|segment| segment.end_offset() <= cleanable.first_uncleanable_offset)
            .cloned()
            .collect();
        self.index_keys(&closed, cleanable, config)?;
        let end_offset = self.keys.latest_offset() + 1;
        self.done.keys = self.keys.len();
        self.done.end_offset = end_offset;
        let rewritten: Vec<Arc<Segment>> =
            closed.into_iter().filter(|segment| segment.base_offset() < end_offset).collect();
        // Segments are rewritten to their ends, which may lie further on.
        let rewritten_to = rewritten.last().map_or(end_offset, |segment| segment.end_offset());
        self.transactions = CleanedTransactions::new(aborted(&segments, 0, rewritten_to));
        let limits = GroupLimits {
            segment_bytes: u64::from(self.config.segment_bytes),
            index_bytes: u64::from(self.config.segment_index_bytes),
        };
        let members: Vec<GroupMember> = rewritten.iter().map(|segment| member(segment)).collect();
        let mut rest = rewritten.as_slice();
        for count in groups(&members, limits) {
            let (group, others) = rest.split_at(count.min(rest.len()));
            self.rewrite(group)?;
            rest = others;
        }
        self.note_end(end_offset)?;
        Ok(self.done)
    }

    fn is_current(&self) -> bool {
        !self.log.is_closed() && self.log.offsets().cuts == self.cuts
    }

    fn spend(&self, bytes: u64) -> Result<(), CleanError> {
        if !self.is_current() {
            return Err(CleanError::Overtaken);
        }
        if (self.spend)(bytes) { Ok(()) } else { Err(CleanError::Stopped) }
    }

    /// Sees to it that everything before an offset, with its indexes, is on disk and known to be.
    /// Recovery then takes the new segments as they are, gaps and all.
    fn secure(&self, offset: i64) -> Result<(), CleanError> {
        let (log, dir) = (self.log, &self.log.dir);
        if log.flushed_offset() < offset {
            log.flush()?;
        }
        log.prepare_checkpoint()?;
        let key = log.topic_partition();
        dir.update_checkpoints(|checkpoints| {
            let recovery_point = log.offsets().recovery_point;
            if self.is_current() {
                checkpoints.recovery_points.insert(key.clone(), recovery_point);
            }
        })?;
        match log.offsets().recovery_point >= offset {
            true => Ok(()),
            false => Err(CleanError::Overtaken),
        }
    }

    /// Notes each key's newest offset in the dirty part, as far as there is memory.
    fn index_keys(
        &mut self,
        segments: &[Arc<Segment>],
        cleanable: &Cleanable,
        config: &CleanerConfig,
    ) -> Result<(), CleanError> {
        let (from, to) = (cleanable.first_dirty_offset, cleanable.first_uncleanable_offset);
        let memory_bytes = config.memory_bytes / config.threads.max(1);
        let keys_max = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        self.keys = KeyMap::new(memory_bytes, config.load_percent, keys_max);
        self.keys.set_latest_offset(from - 1);
        let all = self.log.segments.load_full();
        self.transactions = CleanedTransactions::new(aborted(&all, from, to));
        for segment in segments_from(segments, from) {
            if !self.index_segment(segment, from)? {
                if self.keys.latest_offset() < from {
                    return Err(CleanError::Uncleanable(format!(
                        "log.cleaner.dedupe.buffer.size, {} bytes, is too small for a batch",
                        config.memory_bytes
                    )));
                }
                return Ok(());
            }
            self.keys.set_latest_offset(segment.end_offset() - 1);
        }
        Ok(())
    }

    /// Returns whether there was room for all keys.
    fn index_segment(&mut self, segment: &Segment, from: i64) -> Result<bool, CleanError> {
        let invalid = |error: ScanError| error.into_storage_error(segment.file());
        let Some(first) = segment.find_batch(from).map_err(invalid)? else { return Ok(true) };
        let (position, size) = (first.position, segment.size());
        let mut scan = BatchScan::new(segment.file(), position, size, SEQUENTIAL_PIECE_BYTES);
        while let Some(scanned) = scan.next_batch().map_err(invalid)? {
            let batch = self.read(segment, &scanned)?;
            if self.judge(&batch, segment)? == Verdict::Keep && !batch.header.is_control() {
                let buffer = batch.record_buffer(RecordLimits::default());
                let buffer = buffer.map_err(|error| corrupt(segment, &scanned, &error))?;
                for record in buffer.views() {
                    let record = record.map_err(|error| corrupt(segment, &scanned, &error))?;
                    let Some(key) = record.key else { continue };
                    if record.offset >= from && !self.keys.put(key, record.offset) {
                        return Ok(false);
                    }
                }
            }
            self.keys.set_latest_offset(scanned.header.last_offset());
        }
        Ok(true)
    }

    fn read(&self, segment: &Segment, scanned: &ScannedBatch) -> Result<RecordBatch, CleanError> {
        self.spend(scanned.header.size_bytes() as u64)?;
        let batch = read_batch(segment.file(), scanned).map_err(segment.error("read"))?;
        // A new CRC must not make damage look sound.
        batch.validate().map_err(|error| corrupt(segment, scanned, &error))?;
        Ok(batch)
    }

    /// What a batch means among its transactions.
    fn judge(&mut self, batch: &RecordBatch, segment: &Segment) -> Result<Verdict, CleanError> {
        let header = &batch.header;
        let (producer_id, last_offset) = (header.producer_id, header.last_offset());
        if !header.is_control() {
            let transactional = header.is_transactional();
            return Ok(self.transactions.see_data(producer_id, last_offset, transactional));
        }
        let control = match find_marker(batch) {
            Ok(Some(marker)) => Control::Marker(marker),
            Ok(None) if header.records_count == 0 => Control::Empty,
            Ok(None) => Control::Other,
            Err(error) => {
                let path = segment.file().path().to_owned();
                return Err(StorageError::Corrupt { path, what: error.to_string() }.into());
            }
        };
        Ok(self.transactions.see_control(producer_id, last_offset, control))
    }

    /// Makes one segment of several.
    fn rewrite(&mut self, sources: &[Arc<Segment>]) -> Result<(), CleanError> {
        let Some(first) = sources.first() else { return Ok(()) };
        let base_offset = first.base_offset();
        let written = self.write_cleaned(base_offset, sources).and_then(|bytes_after| {
            let replaced = Replaced { sources, cuts: self.cuts, now_ms: self.now_ms };
            match self.log.replace_segments(base_offset, &replaced)? {
                true => Ok(bytes_after),
                false => Err(CleanError::Overtaken),
            }
        });
        let bytes_after = written.inspect_err(|_| {
            // If the disk failed, nothing is touched any more; the next start tidies up.
            if self.log.dir.check_online().is_ok() {
                self.log.remove_cleaned(base_offset);
            }
        })?;
        let bytes_before: u64 = sources.iter().map(|segment| segment.size()).sum();
        debug!(
            log = %self.log.topic_partition, base_offset, segments = sources.len(), bytes_before,
            bytes_after, "compacted segments into one"
        );
        self.done.bytes_before += bytes_before;
        self.done.bytes_after += bytes_after;
        self.done.segments_before += sources.len();
        self.done.segments_after += 1;
        Ok(())
    }

    /// Writes what stays of some segments aside, and brings it to disk.
    fn write_cleaned(
        &mut self,
        base_offset: i64,
        sources: &[Arc<Segment>],
    ) -> Result<u64, CleanError> {
        let (file_system, folder) = (&self.log.file_system, &self.log.folder);
        let name = (base_offset, CLEANED_SUFFIX);
        let cleaned = Segment::create_named(file_system, folder, name, self.now_ms);
        let cleaned = cleaned.map_err(StorageError::io("create a segment in", folder))?;
        let mut writer = Writer::new(&cleaned, self.config.index_interval_bytes);
        let last_with_batches = sources.iter().rposition(|segment| segment.size() > 0);
        for (number, segment) in sources.iter().enumerate() {
            let is_last = Some(number) == last_with_batches;
            self.filter_segment(segment, is_last, &mut writer)?;
        }
        writer.flush()?;
        let sealed = cleaned.seal().and_then(|()| cleaned.sync_data());
        sealed.and_then(|()| cleaned.sync_indexes()).map_err(cleaned.error("flush"))?;
        // Retention goes by it where records have no timestamps.
        if let Some(last) = sources.last()
            && let Ok(modified_ms) = file_system.modified_ms(last.file().path())
        {
            let _ = file_system.set_modified_ms(cleaned.file().path(), modified_ms);
        }
        Ok(cleaned.size())
    }

    fn filter_segment(
        &mut self,
        segment: &Segment,
        is_last: bool,
        writer: &mut Writer<'_>,
    ) -> Result<(), CleanError> {
        let size = segment.size();
        let mut scan = BatchScan::new(segment.file(), 0, size, SEQUENTIAL_PIECE_BYTES);
        let invalid = |error: ScanError| error.into_storage_error(segment.file());
        while let Some(scanned) = scan.next_batch().map_err(invalid)? {
            let batch = self.read(segment, &scanned)?;
            let verdict = self.judge(&batch, segment)?;
            let header = &batch.header;
            let judge = Judge {
                keys: &self.keys,
                now_ms: self.now_ms,
                delete_retention_ms: self.config.delete_retention_ms,
                discard: verdict == Verdict::Discard,
                keep_empty: self.is_last_of_producer(header) || (is_last && scanned.end() == size),
            };
            let remains = judge.judge(&batch).map_err(|e| corrupt(segment, &scanned, &e))?;
            let kept = match remains {
                Remains::Nothing => None,
                Remains::Original => Some((batch.header, batch.bytes)),
                Remains::Rewritten(bytes) => {
                    let header = BatchHeader::parse(&bytes);
                    Some((header.map_err(|e| corrupt(segment, &scanned, &e))?, bytes))
                }
            };
            if let Some((header, bytes)) = kept {
                self.spend(bytes.len() as u64)?;
                writer.push(header, bytes)?;
            }
            if let Verdict::KeepAborted(entry) = verdict {
                writer.push_aborted(entry)?;
            }
        }
        Ok(())
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = self.last_of_producer.get(&header.producer_id);
        last.filter(|_| header.has_producer_id()).is_some_and(|last| match last.last_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.producer_epoch,
        })
    }

    /// Writes down how far the pass came.
    fn note_end(&self, end_offset: i64) -> Result<(), CleanError> {
        let key = self.log.topic_partition();
        self.log.dir.update_checkpoints(|checkpoints| {
            if self.is_current() {
                checkpoints.cleaner_offsets.insert(key.clone(), end_offset);
            }
        })?;
        Ok(())
    }
}

fn corrupt(segment: &Segment, scanned: &ScannedBatch, error: &BatchError) -> CleanError {
    let what = format!("{error}, at byte {}", scanned.position);
    StorageError::Corrupt { path: segment.file().path().to_owned(), what }.into()
}

fn member(segment: &Segment) -> GroupMember {
    let state = segment.state().read();
    GroupMember {
        base_offset: segment.base_offset(),
        end_offset: state.end_offset,
        size: state.size,
        index_size: state.index_bytes(),
    }
}

/// The aborted transactions that a reader of `from..to` must know of.
fn aborted(segments: &[Arc<Segment>], from: i64, to: i64) -> Vec<AbortedEntry> {
    let mut found = Vec::new();
    'segments: for segment in segments_from(segments, from) {
        for entry in segment.state().read().aborted.entries() {
            if entry.last_offset >= from && entry.first_offset < to {
                found.push(*entry);
            }
            if entry.last_stable_offset >= to {
                break 'segments;
            }
        }
    }
    found
}

/// Collects batches and appends them together.
struct Writer<'a> {
    segment: &'a Segment,
    index_interval_bytes: u32,
    headers: Vec<BatchHeader>,
    batches: Vec<Bytes>,
    size: usize,
}

impl<'a> Writer<'a> {
    fn new(segment: &'a Segment, index_interval_bytes: u32) -> Self {
        Self { segment, index_interval_bytes, headers: Vec::new(), batches: Vec::new(), size: 0 }
    }

    fn push(&mut self, header: BatchHeader, bytes: Bytes) -> Result<(), CleanError> {
        self.size += bytes.len();
        self.headers.push(header);
        self.batches.push(bytes);
        if self.size >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn push_aborted(&self, entry: AbortedEntry) -> Result<(), CleanError> {
        let appended = self.segment.append_aborted(entry);
        Ok(appended.map_err(self.segment.error("note an aborted transaction of"))?)
    }

    fn flush(&mut self) -> Result<(), CleanError> {
        if self.headers.is_empty() {
            return Ok(());
        }
        let mut buffers: Vec<IoSlice<'_>> =
            self.batches.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let appended = self.segment.append(&self.headers, &mut buffers, self.index_interval_bytes);
        appended.map_err(|(error, _)| self.segment.error("append to")(error))?;
        self.headers.clear();
        self.batches.clear();
        self.size = 0;
        Ok(())
    }
}
