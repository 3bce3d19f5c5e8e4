//! `.timeindex`: from which offset on the records are newer than a timestamp.
//!
//! Entries of 12 bytes, big-endian: timestamp (i64), offset relative to the segment's base offset
//! (u32). An entry says: the largest timestamp up to and including this offset is this. Timestamps
//! grow strictly, offsets grow. The last entry of a closed segment is its largest timestamp.

use std::io;

use super::files::DataFile;
use super::index_file::IndexFile;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 12;

/// One entry, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// The largest timestamp so far; -1 if there is none.
    pub timestamp: i64,
    /// The last offset of the batch that has it.
    pub offset: i64,
}

/// The time index of one segment.
#[derive(Debug)]
pub struct TimeIndex {
    base_offset: i64,
    entries: IndexFile<ENTRY_BYTES>,
}

impl TimeIndex {
    /// Opens the file, which may be empty.
    pub fn open(file: DataFile, base_offset: i64) -> io::Result<Self> {
        Ok(Self { base_offset, entries: IndexFile::open(file)? })
    }

    fn decode(&self, entry: [u8; ENTRY_BYTES]) -> TimeEntry {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = entry;
        let relative = u32::from_be_bytes([i, j, k, l]);
        TimeEntry {
            timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            offset: self.base_offset.saturating_add(i64::from(relative)),
        }
    }

    /// Whether the file has reached the size it may have, but for the last entry of a segment.
    pub fn is_full(&self, segment_index_bytes: u32) -> bool {
        (self.entries.count() + 2) * ENTRY_BYTES > segment_index_bytes as usize
    }

    /// The last entry with a timestamp below `timestamp`: what is sought comes after its offset.
    pub fn lookup_before(&self, timestamp: i64) -> io::Result<Option<TimeEntry>> {
        let before = |&entry: &[u8; ENTRY_BYTES]| self.decode(entry).timestamp < timestamp;
        let count = self.entries.partition_point(before)?;
        let number = count.checked_sub(1);
        number.map(|number| Ok(self.decode(self.entries.get(number)?))).transpose()
    }

    /// The last entry.
    pub fn last(&self) -> io::Result<Option<TimeEntry>> {
        Ok(self.entries.last()?.map(|entry| self.decode(entry)))
    }

    /// Entries.
    pub fn count(&self) -> usize {
        self.entries.count()
    }

    /// Whether the file can be the index of a closed segment whose last offset is at most
    /// `last_offset`.
    pub fn is_sane(&self, last_offset: i64) -> io::Result<bool> {
        let last_fits = match self.last()? {
            // Kafka fills up with zeros; making an index anew for records of 1970 does no harm.
            Some(last) => last.timestamp > 0 && last.offset <= last_offset,
            None => true,
        };
        Ok(last_fits && self.entries.has_whole_entries()?)
    }

    /// Adds an entry, to memory, unless it says nothing new.
    pub fn push(&mut self, entry: TimeEntry) -> io::Result<()> {
        if let Some(last) = self.last()?
            && (entry.timestamp <= last.timestamp || entry.offset < last.offset)
        {
            return Ok(());
        }
        if entry.timestamp < 0 {
            return Ok(());
        }
        let relative = u32::try_from(entry.offset - self.base_offset);
        assert!(relative.is_ok(), "{entry:?} does not fit a segment of {}", self.base_offset);
        let mut bytes = [0; ENTRY_BYTES];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&entry.timestamp.to_be_bytes());
        second.copy_from_slice(&relative.unwrap_or_default().to_be_bytes());
        self.entries.push(bytes);
        Ok(())
    }

    /// Drops the entries of `offset` and later ones.
    pub fn truncate_to(&mut self, offset: i64) -> io::Result<()> {
        let count = self.entries.partition_point(|&entry| self.decode(entry).offset < offset)?;
        self.entries.truncate(count)
    }

    /// The entries and their file.
    pub fn entries(&self) -> &IndexFile<ENTRY_BYTES> {
        &self.entries
    }

    /// The entries and their file.
    pub fn entries_mut(&mut self) -> &mut IndexFile<ENTRY_BYTES> {
        &mut self.entries
    }
}
