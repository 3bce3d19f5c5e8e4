//! The log: segments of records, appended to and flushed in batches.
//!
//! When [`Wal::append`] returns, its entries are durable. When it fails, nobody knows what is on
//! the disk; the log then takes nothing more, because a second flush that succeeds says nothing
//! about what the first one lost.

use std::path::{Path, PathBuf};

use super::StorageError;
use super::files::{DataFile, Files, numbered_path};
use super::wal_reader::{LogReader, SEGMENT_EXTENSION, SegmentReader, Step, find_later_record};
use super::wal_record::{
    Entry, Fields, SEGMENT_HEADER_SIZE, SegmentHeader, encode_record, record_size,
};
use crate::seeded_bugs::{MemberBug, has};

/// The buffer that batches are encoded in keeps this much room for the next one.
const BUFFER_SIZE_KEPT: usize = 1024 * 1024;

/// How a log lays out its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// The length at which a segment is full, in bytes. A longer record gets a segment of its own.
    pub segment_size: u64,
    /// How much space is reserved at a time, in bytes: a flush that changes neither the file's
    /// length nor where it lies is cheaper.
    pub allocate_step: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_size: 64 * 1024 * 1024, allocate_step: 1024 * 1024 }
    }
}

/// The log of one member, open for appending.
#[derive(Debug)]
pub struct Wal {
    folder: PathBuf,
    files: Files,
    options: WalOptions,
    /// The first indexes of all segments, ascending; the last one is open.
    segments: Vec<u64>,
    active: Active,
    next_index: u64,
    buffer: Vec<u8>,
    failed: bool,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    file: DataFile,
    salt: u32,
    /// Where the next record goes.
    position: u64,
    /// Up to where space is reserved; `u64::MAX` if the file system cannot do that.
    allocated: u64,
}

impl Wal {
    /// Whether there is a log in `folder`, or what is left of one.
    pub fn exists(folder: &Path, files: &Files) -> Result<bool, StorageError> {
        if !files.is_folder(folder) {
            return Ok(false);
        }
        let has_segments = !files.numbered(folder, SEGMENT_EXTENSION)?.is_empty();
        Ok(has_segments || files.read(&Extent::path(folder))?.is_some())
    }

    /// Opens the log in `folder`, or begins one there at index 1. A tail that was never flushed is
    /// cut; anything else that is not as it was written is an error.
    pub fn open(folder: &Path, files: &Files, options: WalOptions) -> Result<Self, StorageError> {
        files.create_folder(folder)?;
        files.remove_asides(folder)?;
        let mut segments = files.numbered(folder, SEGMENT_EXTENSION)?;
        let extent = Extent::read(folder, files)?;
        if segments.is_empty() && extent.is_none() {
            create_segment(folder, files, 1)?;
            segments.push(1);
        }
        let (Some(first), Some(newest)) = (segments.first().copied(), segments.last().copied())
        else {
            return Err(StorageError::inconsistent(folder, "the log's segments are missing"));
        };
        let (active, next_index) = open_newest(folder, files, options, newest)?;
        match extent {
            // The process died while it made the very first segment.
            None if (first, next_index) == (1, 1) => {}
            None => return Err(StorageError::inconsistent(folder, "the file `extent` is missing")),
            Some(extent) => extent.check(folder, &segments, next_index - 1)?,
        }
        let buffer = Vec::new();
        let (folder, files) = (folder.to_owned(), files.clone());
        let wal =
            Self { folder, files, options, segments, active, next_index, buffer, failed: false };
        wal.write_extent()?;
        Ok(wal)
    }

    /// The index of the oldest record that is kept, or that will be the first.
    pub fn first_index(&self) -> u64 {
        self.segments.first().copied().unwrap_or(self.next_index)
    }

    /// The index of the newest record; one below [`Wal::first_index`] if there is none.
    pub fn last_index(&self) -> u64 {
        self.next_index - 1
    }

    /// The log's way to the file system.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// About how many bytes the log takes on disk: a full segment is of the size that is
    /// configured.
    pub fn size(&self) -> u64 {
        let full = self.segments.len().saturating_sub(1) as u64;
        full * self.options.segment_size + self.active.position
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Appends entries, which must follow the last one without a gap, and flushes them: one flush
    /// for all, and one more for each segment that becomes full.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::FailedBefore);
        }
        // Only what succeeds to the end may be followed by more.
        self.failed = true;
        let mut batch_first = self.next_index;
        for entry in entries {
            assert_eq!(entry.index, self.next_index, "the log has no gaps");
            let size = record_size(entry.payload.len()) as u64;
            let end = self.active.position + self.buffer.len() as u64 + size;
            let empty = batch_first == self.next_index
                && self.active.position == SEGMENT_HEADER_SIZE as u64;
            if end > self.options.segment_size && !empty {
                self.flush()?;
                self.roll()?;
                batch_first = self.next_index;
            }
            encode_record(self.active.salt, entry, batch_first, &mut self.buffer);
            self.next_index += 1;
        }
        self.flush()?;
        self.failed = false;
        Ok(())
    }

    /// Writes the buffer and flushes the file.
    fn flush(&mut self) -> Result<(), StorageError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let end = self.active.position + self.buffer.len() as u64;
        self.active.reserve(end, self.options)?;
        self.active.file.write_all_at(&self.buffer, self.active.position)?;
        let flushed = self.active.file.sync();
        if !has(MemberBug::FlushErrorIgnored) {
            flushed?;
        }
        self.active.position = end;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_SIZE_KEPT);
        Ok(())
    }

    /// Goes on in a new segment.
    fn roll(&mut self) -> Result<(), StorageError> {
        let first_index = self.next_index;
        self.active = create_segment(&self.folder, &self.files, first_index)?;
        self.segments.push(first_index);
        // Before the first record is written there: a segment with records cannot get lost unseen.
        self.write_extent()
    }

    /// Reads from the record `from` on; it must not be older than [`Wal::first_index`].
    pub fn read_from(&self, from: u64) -> LogReader {
        assert!(from >= self.first_index(), "record {from} is not kept any more");
        LogReader::new((&self.folder, &self.files), &self.segments, from, self.last_index())
    }

    /// Forgets the segments that hold only records below `index`. Returns their files, oldest
    /// first, which the caller removes in this order, on whatever thread.
    pub fn forget_before(&mut self, index: u64) -> Vec<PathBuf> {
        // A segment is needed unless the next one begins at or below the index.
        let kept = self.segments.partition_point(|first| *first <= index).saturating_sub(1);
        let forgotten = self.segments.drain(..kept);
        forgotten.map(|first| numbered_path(&self.folder, first, SEGMENT_EXTENSION)).collect()
    }

    /// Notes that all is flushed, so that the next start knows how far the log must reach.
    pub fn close(&mut self) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::FailedBefore);
        }
        self.write_extent()
    }

    fn write_extent(&self) -> Result<(), StorageError> {
        let newest_segment = self.segments.last().copied().unwrap_or_default();
        Extent { newest_segment, flushed: self.next_index - 1 }.store(&self.folder, &self.files)
    }
}

impl Active {
    /// Reserves space up to `end` at least, in whole steps.
    fn reserve(&mut self, end: u64, options: WalOptions) -> Result<(), StorageError> {
        if end <= self.allocated {
            return Ok(());
        }
        let wanted = end.next_multiple_of(options.allocate_step);
        let wanted = wanted.min(options.segment_size).max(end);
        let reserved = self.file.allocate(self.allocated, wanted)?;
        self.allocated = if reserved { wanted } else { u64::MAX };
        Ok(())
    }
}

/// Makes a segment aside, flushes it and puts it in its place.
fn create_segment(folder: &Path, files: &Files, first_index: u64) -> Result<Active, StorageError> {
    let path = numbered_path(folder, first_index, SEGMENT_EXTENSION);
    let salt = files.random(&path)?;
    let header = SegmentHeader { salt, first_index }.encode();
    files.replace(&path, &header)?;
    let position = header.len() as u64;
    Ok(Active { file: files.open(&path)?, salt, position, allocated: position })
}

/// Opens the newest segment and cuts what was never flushed. Returns with it the index of the next
/// record.
fn open_newest(
    folder: &Path,
    files: &Files,
    options: WalOptions,
    first_index: u64,
) -> Result<(Active, u64), StorageError> {
    let mut reader = SegmentReader::open(folder, files, first_index)?;
    let invalid = loop {
        match reader.step()? {
            Step::Record(_) => {}
            Step::End => break "it is missing".to_owned(),
            Step::Invalid(reason) => break reason,
        }
    };
    let (position, missing) = (reader.position(), reader.next_index());
    let rest = reader.read_rest()?;
    if let Some((place, later)) = find_later_record(&rest, reader.salt(), missing) {
        let later_position = position + place as u64;
        let reason = format!(
            "record {missing} was flushed, but {invalid}, while the later record {later} at byte \
             {later_position} is whole"
        );
        return Err(StorageError::corrupt(reader.path(), position, reason));
    }
    let file = files.open(reader.path())?;
    let mut allocated = file.length()?;
    if rest.iter().any(|byte| *byte != 0) {
        tracing::warn!(
            file = %reader.path().display(),
            position,
            reason = invalid,
            "cut the end of the log, which was being written and never acknowledged"
        );
        file.truncate(position)?;
        allocated = position;
    }
    // What was read may be in the page cache only. From here on it counts as flushed. If the last
    // flush failed, the system takes the batch for flushed although it is not: written again, it is
    // flushed again.
    let (batch_position, batch_size) =
        (reader.batch_position(), position - reader.batch_position());
    let batch_size = usize::try_from(batch_size).unwrap_or(usize::MAX);
    let batch = file.read_up_to(batch_position, batch_size)?;
    file.write_all_at(&batch, batch_position)?;
    file.sync()?;
    let mut active = Active { file, salt: reader.salt(), position, allocated };
    active.reserve(position, options)?;
    Ok((active, missing))
}

/// What is known for sure of how far the log reaches, in a file beside its segments. Segments alone
/// cannot tell that the newest of them has been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// The first index of the newest segment.
    newest_segment: u64,
    /// Up to here the log was flushed when this was written.
    flushed: u64,
}

impl Extent {
    const MAGIC: [u8; 8] = *b"OTTLAEXT";

    fn path(folder: &Path) -> PathBuf {
        folder.join("extent")
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = Self::MAGIC.to_vec();
        bytes.extend_from_slice(&self.newest_segment.to_le_bytes());
        bytes.extend_from_slice(&self.flushed.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn store(self, folder: &Path, files: &Files) -> Result<(), StorageError> {
        files.replace(&Self::path(folder), &self.encode())
    }

    fn read(folder: &Path, files: &Files) -> Result<Option<Self>, StorageError> {
        let path = Self::path(folder);
        let Some(bytes) = files.read(&path)? else { return Ok(None) };
        let mut fields = Fields(&bytes);
        let magic: [u8; 8] = fields.take();
        let newest_segment = u64::from_le_bytes(fields.take());
        let extent = Self { newest_segment, flushed: u64::from_le_bytes(fields.take()) };
        if magic != Self::MAGIC || bytes != extent.encode() {
            return Err(StorageError::corrupt(&path, 0, "it is not as it was written"));
        }
        Ok(Some(extent))
    }

    fn check(self, folder: &Path, segments: &[u64], last_index: u64) -> Result<(), StorageError> {
        if !segments.contains(&self.newest_segment) {
            let path = numbered_path(folder, self.newest_segment, SEGMENT_EXTENSION);
            let reason = format!("the log segment {} is missing", path.display());
            return Err(StorageError::inconsistent(folder, reason));
        }
        if last_index < self.flushed {
            let flushed = self.flushed;
            let reason =
                format!("the log ends at record {last_index}, but was flushed up to {flushed}");
            return Err(StorageError::inconsistent(folder, reason));
        }
        Ok(())
    }
}

mod cut;

#[cfg(test)]
mod tests;
