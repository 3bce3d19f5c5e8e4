//! One stretch of a log: a `.log` file of record batches, one after another, and its indexes.
//!
//! The appender writes to the newest segment only, the active one; readers and flushers use all
//! segments meanwhile. What they share stands behind a lock that nobody holds while writing
//! batches.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_common::kafka::record_batch::BatchHeader;
use parking_lot::RwLock;

use super::aborted_index::{AbortedEntry, AbortedIndex};
use super::batch_scan::{BatchScan, LOOKUP_PIECE_BYTES, ScanError, ScannedBatch};
use super::error::StorageError;
use super::files::{DataFile, FileSystem};
use super::log_config::LogConfig;
use super::offset_index::OffsetIndex;
use super::time_index::{TimeEntry, TimeIndex};

/// What a file of a segment that is about to be removed is called: its name and this.
pub const DELETED_SUFFIX: &str = ".deleted";
/// What the files of a segment end with, the batches first.
pub const SEGMENT_SUFFIXES: [&str; 4] = [".log", ".index", ".timeindex", ".txnindex"];

/// The name of a segment's file: its base offset in 20 digits.
pub fn segment_file(folder: &Path, base_offset: i64, suffix: &str) -> PathBuf {
    folder.join(format!("{base_offset:020}{suffix}"))
}

/// What a segment knows of its batches.
#[derive(Debug)]
pub struct SegmentState {
    /// Bytes of whole batches in the file.
    pub size: u64,
    /// The offset after the last batch; the base offset if there is none.
    pub end_offset: i64,
    /// Where offsets are.
    pub offset_index: OffsetIndex,
    /// When records were written.
    pub time_index: TimeIndex,
    /// What was aborted.
    pub aborted: AbortedIndex,
    /// The largest timestamp, and the last offset of the first batch that has it.
    pub max: TimeEntry,
    /// The largest timestamp of the first batch: time-based rolling counts from it.
    first_timestamp: Option<i64>,
    created_ms: i64,
    bytes_since_entry: u64,
}

impl SegmentState {
    /// Takes account of a batch at `position`, which must be the end so far.
    pub fn note_batch(
        &mut self,
        header: &BatchHeader,
        position: u64,
        index_interval_bytes: u32,
    ) -> io::Result<()> {
        let last_offset = header.last_offset();
        if position == 0 {
            self.first_timestamp = Some(header.max_timestamp);
        }
        // Of a batch that compaction emptied, no record has the timestamp.
        if header.max_timestamp > self.max.timestamp && header.records_count > 0 {
            self.max = TimeEntry { timestamp: header.max_timestamp, offset: last_offset };
        }
        if self.bytes_since_entry > u64::from(index_interval_bytes) {
            if let Ok(position) = u32::try_from(position) {
                self.offset_index.push(last_offset, position);
            }
            self.time_index.push(self.max)?;
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.size_bytes() as u64;
        self.size = position + header.size_bytes() as u64;
        self.end_offset = last_offset + 1;
        Ok(())
    }

    /// Forgets all batches, as before reading the file anew.
    pub fn reset(&mut self, base_offset: i64) -> io::Result<()> {
        self.offset_index.entries_mut().truncate(0)?;
        self.time_index.entries_mut().truncate(0)?;
        self.load()?;
        self.size = 0;
        self.end_offset = base_offset;
        self.max = TimeEntry { timestamp: -1, offset: base_offset };
        self.first_timestamp = None;
        self.bytes_since_entry = 0;
        Ok(())
    }

    /// Bytes of the larger one of its indexes.
    pub fn index_bytes(&self) -> u64 {
        let offsets = self.offset_index.count() * super::offset_index::ENTRY_BYTES;
        offsets.max(self.time_index.count() * super::time_index::ENTRY_BYTES) as u64
    }

    fn is_loaded(&self) -> bool {
        self.offset_index.entries().is_loaded() && self.time_index.entries().is_loaded()
    }

    fn load(&mut self) -> io::Result<()> {
        self.offset_index.entries_mut().load()?;
        self.time_index.entries_mut().load()
    }
}

/// One segment of a log.
#[derive(Debug)]
pub struct Segment {
    base_offset: i64,
    folder: PathBuf,
    file_system: FileSystem,
    file: DataFile,
    state: RwLock<SegmentState>,
    /// Whether the indexes are on disk, as they are to be before the recovery point passes them.
    indexes_synced: AtomicBool,
}

impl Segment {
    /// Opens or creates the files. Nothing is checked and the state is that of an empty segment;
    /// [`Segment::adopt`] or recovery say what is in it.
    pub fn open(
        file_system: &FileSystem,
        folder: &Path,
        base_offset: i64,
        now_ms: i64,
    ) -> io::Result<Self> {
        Self::open_named(file_system, folder, (base_offset, ""), now_ms)
    }

    /// As [`Segment::open`]; the names of the files end with one more suffix.
    fn open_named(
        file_system: &FileSystem,
        folder: &Path,
        (base_offset, more): (i64, &str),
        now_ms: i64,
    ) -> io::Result<Self> {
        let path = |suffix: &str| segment_file(folder, base_offset, &format!("{suffix}{more}"));
        let file = file_system.open(&path(".log"))?;
        let offset_file = file_system.open(&path(".index"))?;
        let time_file = file_system.open(&path(".timeindex"))?;
        let aborted_path = path(".txnindex");
        let aborted = match AbortedIndex::open(file_system, &aborted_path)? {
            Some(aborted) => aborted,
            None => AbortedIndex::create(file_system, &aborted_path)?,
        };
        let state = SegmentState {
            size: 0,
            end_offset: base_offset,
            offset_index: OffsetIndex::open(offset_file, base_offset)?,
            time_index: TimeIndex::open(time_file, base_offset)?,
            aborted,
            max: TimeEntry { timestamp: -1, offset: base_offset },
            first_timestamp: None,
            created_ms: now_ms,
            bytes_since_entry: 0,
        };
        Ok(Self {
            base_offset,
            folder: folder.to_owned(),
            file_system: file_system.clone(),
            file,
            state: RwLock::new(state),
            indexes_synced: AtomicBool::new(false),
        })
    }

    /// A new, empty segment, over whatever lay at its place.
    pub fn create(
        file_system: &FileSystem,
        folder: &Path,
        base_offset: i64,
        now_ms: i64,
    ) -> io::Result<Self> {
        Self::create_named(file_system, folder, (base_offset, ""), now_ms)
    }

    /// As [`Segment::create`]; the names of the files end with one more suffix, so that it is none
    /// of the log's segments yet.
    pub fn create_named(
        file_system: &FileSystem,
        folder: &Path,
        (base_offset, more): (i64, &str),
        now_ms: i64,
    ) -> io::Result<Self> {
        let segment = Self::open_named(file_system, folder, (base_offset, more), now_ms)?;
        segment.file.set_length(0)?;
        {
            let mut state = segment.state.write();
            state.reset(base_offset)?;
            let aborted_path = segment_file(folder, base_offset, &format!(".txnindex{more}"));
            state.aborted = AbortedIndex::create(file_system, &aborted_path)?;
        }
        Ok(segment)
    }

    /// Takes the file and its indexes as they are: a segment that was closed, whose batches end at
    /// `end_offset`. Whether its indexes can be right is for the caller to have checked.
    pub fn adopt(&self, end_offset: i64) -> io::Result<()> {
        let mut state = self.state.write();
        state.size = self.file.length()?;
        state.end_offset = end_offset;
        if let Some(last) = state.time_index.last()? {
            state.max = last;
        }
        self.indexes_synced.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes a closed segment ready to be appended to.
    pub fn activate(&self) -> io::Result<()> {
        self.indexes_synced.store(false, Ordering::Release);
        self.state.write().load()
    }

    /// The smallest offset that may be in it; also its name.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The file of batches.
    pub fn file(&self) -> &DataFile {
        &self.file
    }

    /// What it knows of its batches.
    pub fn state(&self) -> &RwLock<SegmentState> {
        &self.state
    }

    /// Bytes of batches.
    pub fn size(&self) -> u64 {
        self.state.read().size
    }

    /// The offset after the last batch.
    pub fn end_offset(&self) -> i64 {
        self.state.read().end_offset
    }

    /// The largest timestamp, -1 if there is none.
    pub fn max_timestamp(&self) -> i64 {
        self.state.read().max.timestamp
    }

    /// When its newest record was written, by the records' or else the file's time.
    pub fn newest_ms(&self) -> i64 {
        match self.max_timestamp() {
            timestamp if timestamp >= 0 => timestamp,
            _ => self.file_system.modified_ms(self.file.path()).unwrap_or(i64::MAX),
        }
    }

    /// An error of one of its files.
    pub fn error(&self, action: &'static str) -> impl FnOnce(io::Error) -> StorageError {
        StorageError::io(action, self.file.path())
    }

    /// Whether a batch should begin a new segment.
    pub fn should_roll(&self, batch: &BatchHeader, config: &LogConfig, now_ms: i64) -> bool {
        let state = self.state.read();
        let size = state.size.saturating_add(batch.size_bytes() as u64);
        let jitter_ms = roll_jitter_ms(self.base_offset, config.segment_jitter_ms);
        let waited_ms = match state.first_timestamp {
            Some(first) if first >= 0 => batch.max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(state.created_ms),
        };
        state.size > 0
            && (size > u64::from(config.segment_bytes)
                || waited_ms > config.segment_age_max_ms().saturating_sub(jitter_ms)
                || state.offset_index.is_full(config.segment_index_bytes)
                || state.time_index.is_full(config.segment_index_bytes))
            || !state.offset_index.can_hold(batch.last_offset())
    }

    /// Writes batches at the end. Either all of them are in the segment afterwards, or an error is
    /// returned and the segment is as before; `Err((error, false))` if that could not be restored.
    pub fn append(
        &self,
        headers: &[BatchHeader],
        buffers: &mut [IoSlice<'_>],
        index_interval_bytes: u32,
    ) -> Result<(), (io::Error, bool)> {
        let (position, is_loaded) = {
            let state = self.state.read();
            (state.size, state.is_loaded())
        };
        if !is_loaded {
            // It was closed, and the segment that was to follow could not be made.
            self.activate().map_err(|error| (error, true))?;
        }
        if let Err(error) = self.file.write_all_vectored_at(buffers, position) {
            let restored = self.file.set_length(position).is_ok();
            return Err((error, restored));
        }
        let mut state = self.state.write();
        let mut position = position;
        for header in headers {
            // Entries go to memory, which does not fail.
            state.note_batch(header, position, index_interval_bytes).map_err(|e| (e, false))?;
            position += header.size_bytes() as u64;
        }
        Ok(())
    }

    /// Notes an aborted transaction whose marker is in this segment.
    pub fn append_aborted(&self, entry: AbortedEntry) -> io::Result<()> {
        self.state.write().aborted.append(&self.file_system, entry)
    }

    /// The first batch whose last offset is at least `offset`.
    pub fn find_batch(&self, offset: i64) -> Result<Option<ScannedBatch>, ScanError> {
        let (start, size) = {
            let state = self.state.read();
            if offset >= state.end_offset {
                return Ok(None);
            }
            (state.offset_index.lookup(offset)?, state.size)
        };
        let mut scan =
            BatchScan::new(&self.file, u64::from(start.position), size, LOOKUP_PIECE_BYTES);
        while let Some(batch) = scan.next_batch()? {
            if batch.header.last_offset() >= offset {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Where the whole batches end that begin with `first`, are at most `max_bytes` long together
    /// (but for the first) and lie before `upper_bound`; and the offset after them.
    pub fn batches_end(
        &self,
        first: &ScannedBatch,
        max_bytes: usize,
        upper_bound: i64,
    ) -> Result<(u64, i64), ScanError> {
        let limit = first.position.saturating_add(max_bytes as u64);
        let (start, size, end_offset) = {
            let state = self.state.read();
            if limit >= state.size && upper_bound >= state.end_offset {
                return Ok((state.size, state.end_offset));
            }
            let by_position = state.offset_index.lookup_position(limit)?.position;
            let by_offset = state.offset_index.lookup(upper_bound.saturating_sub(1))?.position;
            (u64::from(by_position.min(by_offset)), state.size, state.end_offset)
        };
        let start = start.max(first.end());
        let mut end = (start, None);
        let mut scan = BatchScan::new(&self.file, start, size, LOOKUP_PIECE_BYTES);
        while let Some(batch) = scan.next_batch()? {
            if batch.end() > limit || batch.header.last_offset() >= upper_bound {
                end.1 = end.1.or(Some(batch.header.base_offset));
                break;
            }
            end = (batch.end(), Some(batch.header.next_offset()));
        }
        Ok((end.0, end.1.unwrap_or(end_offset).min(upper_bound)))
    }

    /// Cuts all batches with offsets from `offset` on, and makes the segment active. Returns the
    /// first batch that was cut.
    pub fn truncate_to(
        &self,
        offset: i64,
        index_interval_bytes: u32,
    ) -> Result<Option<ScannedBatch>, StorageError> {
        let cut = self.find_batch(offset).map_err(|e| e.into_storage_error(&self.file))?;
        self.activate().map_err(self.error("load the indexes of"))?;
        let mut state = self.state.write();
        if let Some(cut) = &cut {
            self.file.set_length(cut.position).map_err(self.error("truncate"))?;
            // Else a crash could bring back the old tail with newer batches in its midst.
            self.file.sync_data().map_err(self.error("flush"))?;
            state.size = cut.position;
        }
        state.offset_index.truncate_to(offset).map_err(self.error("truncate the index of"))?;
        state.time_index.truncate_to(offset).map_err(self.error("truncate the index of"))?;
        let aborted = &mut state.aborted;
        aborted.truncate_to(&self.file_system, offset).map_err(self.error("truncate"))?;
        self.rescan_tail(&mut state, index_interval_bytes)?;
        Ok(cut)
    }

    /// Learns, from the batches after the last index entry, what the indexes do not say.
    fn rescan_tail(
        &self,
        state: &mut SegmentState,
        index_interval_bytes: u32,
    ) -> Result<(), StorageError> {
        let (size, base_offset) = (state.size, self.base_offset);
        let last = state.offset_index.last().map_err(self.error("read the index of"))?;
        let start = last.map_or(0, |last| u64::from(last.position));
        let newest = state.time_index.last().map_err(self.error("read the index of"))?;
        state.max = newest.unwrap_or(TimeEntry { timestamp: -1, offset: base_offset });
        state.end_offset = base_offset;
        state.bytes_since_entry = 0;
        if start == 0 {
            state.first_timestamp = None;
        }
        let mut scan = BatchScan::new(&self.file, start, size, LOOKUP_PIECE_BYTES);
        let invalid = |error: ScanError| error.into_storage_error(&self.file);
        while let Some(batch) = scan.next_batch().map_err(invalid)? {
            // The entry at `start` is there already: its batch is only counted.
            let interval = if batch.position == start { u32::MAX } else { index_interval_bytes };
            let noted = state.note_batch(&batch.header, batch.position, interval);
            noted.map_err(self.error("index"))?;
        }
        if state.first_timestamp.is_none() && state.size > 0 {
            let mut scan = BatchScan::new(&self.file, 0, state.size, LOOKUP_PIECE_BYTES);
            let first = scan.next_batch().map_err(invalid)?;
            state.first_timestamp = first.map(|batch| batch.header.max_timestamp);
        }
        Ok(())
    }

    /// Takes the file and indexes of a segment that was active when the log was closed cleanly.
    pub fn resume(&self, index_interval_bytes: u32) -> Result<(), StorageError> {
        self.activate().map_err(self.error("load the indexes of"))?;
        let mut state = self.state.write();
        state.size = self.file.length().map_err(self.error("read"))?;
        self.rescan_tail(&mut state, index_interval_bytes)
    }

    /// Completes the indexes and frees their memory: nothing is appended any more.
    pub fn seal(&self) -> io::Result<()> {
        let mut state = self.state.write();
        let max = state.max;
        state.time_index.entries_mut().load()?;
        state.time_index.push(max)?;
        state.offset_index.entries_mut().seal()?;
        state.time_index.entries_mut().seal()
    }

    /// Brings all batches to disk.
    pub fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Brings the indexes of a closed segment to disk, once.
    pub fn sync_indexes(&self) -> io::Result<()> {
        if self.indexes_synced.load(Ordering::Acquire) {
            return Ok(());
        }
        // Nobody writes to a closed segment, so holding this over the calls stops nobody.
        let state = self.state.read();
        state.offset_index.entries().sync()?;
        state.time_index.entries().sync()?;
        state.aborted.sync(&self.file_system)?;
        self.indexes_synced.store(true, Ordering::Release);
        Ok(())
    }

    /// Renames the files so that they are no segment any more; returns what is to be removed once
    /// no reader needs it.
    pub fn rename_deleted(&self) -> io::Result<Vec<PathBuf>> {
        let mut renamed = Vec::new();
        for suffix in SEGMENT_SUFFIXES {
            let from = segment_file(&self.folder, self.base_offset, suffix);
            if self.file_system.exists(&from) {
                let to = segment_file(
                    &self.folder,
                    self.base_offset,
                    &format!("{suffix}{DELETED_SUFFIX}"),
                );
                self.file_system.rename(&from, &to)?;
                renamed.push(to);
            }
        }
        Ok(renamed)
    }
}

/// How much earlier than `segment.ms` a segment rolls: between 0 and `segment_jitter_ms`, the same
/// each time for a segment.
fn roll_jitter_ms(base_offset: i64, segment_jitter_ms: i64) -> i64 {
    if segment_jitter_ms <= 0 {
        return 0;
    }
    fastrand::Rng::with_seed(base_offset.cast_unsigned()).i64(0..=segment_jitter_ms)
}
