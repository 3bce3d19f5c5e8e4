//! `.index`: which byte of the segment file holds which offset.
//!
//! Entries of 8 bytes, big-endian: offset relative to the segment's base offset (u32), position
//! (u32). An entry names the *last* offset of the batch that begins at the position. Entries grow
//! in both; there is one about every `index.interval.bytes`, so a lookup gives a place to begin to
//! scan. Kafka keeps the file of the active segment at `segment.index.bytes`, filled up with zeros,
//! and cuts it when it closes the segment; both are read here.

use std::io;

use super::files::DataFile;
use super::index_file::IndexFile;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 8;

/// One entry, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// The last offset of a batch.
    pub offset: i64,
    /// Where the batch begins.
    pub position: u32,
}

/// The offset index of one segment.
#[derive(Debug)]
pub struct OffsetIndex {
    base_offset: i64,
    entries: IndexFile<ENTRY_BYTES>,
}

impl OffsetIndex {
    /// Opens the file, which may be empty.
    pub fn open(file: DataFile, base_offset: i64) -> io::Result<Self> {
        Ok(Self { base_offset, entries: IndexFile::open(file)? })
    }

    fn decode(&self, entry: [u8; ENTRY_BYTES]) -> OffsetEntry {
        let [a, b, c, d, e, f, g, h] = entry;
        let relative = u32::from_be_bytes([a, b, c, d]);
        OffsetEntry {
            offset: self.base_offset.saturating_add(i64::from(relative)),
            position: u32::from_be_bytes([e, f, g, h]),
        }
    }

    /// Whether `offset` can be written relative to the base offset. Kafka reads it as an `i32`.
    pub fn can_hold(&self, offset: i64) -> bool {
        (0..=i64::from(i32::MAX)).contains(&(offset - self.base_offset))
    }

    /// Whether the file has reached the size it may have.
    pub fn is_full(&self, segment_index_bytes: u32) -> bool {
        (self.entries.count() + 1) * ENTRY_BYTES > segment_index_bytes as usize
    }

    /// The last entry with an offset of at most `offset`; the beginning if there is none.
    pub fn lookup(&self, offset: i64) -> io::Result<OffsetEntry> {
        let count = self.entries.partition_point(|&entry| self.decode(entry).offset <= offset)?;
        self.before(count)
    }

    /// The last entry with a position of at most `position`; the beginning if there is none.
    pub fn lookup_position(&self, position: u64) -> io::Result<OffsetEntry> {
        let before =
            |&entry: &[u8; ENTRY_BYTES]| u64::from(self.decode(entry).position) <= position;
        let count = self.entries.partition_point(before)?;
        self.before(count)
    }

    fn before(&self, count: usize) -> io::Result<OffsetEntry> {
        match count.checked_sub(1) {
            Some(number) => Ok(self.decode(self.entries.get(number)?)),
            None => Ok(OffsetEntry { offset: self.base_offset, position: 0 }),
        }
    }

    /// The last entry.
    pub fn last(&self) -> io::Result<Option<OffsetEntry>> {
        Ok(self.entries.last()?.map(|entry| self.decode(entry)))
    }

    /// Entries.
    pub fn count(&self) -> usize {
        self.entries.count()
    }

    /// Whether the file can be the index of a closed segment of `segment_bytes`: whole entries, the
    /// last neither zeros nor beyond the segment.
    pub fn is_sane(&self, segment_bytes: u64) -> io::Result<bool> {
        let last_fits = match self.last()? {
            Some(last) => {
                // The batch at the very beginning never gets an entry.
                last.position > 0 && u64::from(last.position) < segment_bytes
            }
            None => true,
        };
        Ok(last_fits && self.entries.has_whole_entries()?)
    }

    /// Adds an entry, to memory.
    pub fn push(&mut self, offset: i64, position: u32) {
        let relative = u32::try_from(offset - self.base_offset);
        assert!(relative.is_ok(), "offset {offset} does not fit a segment of {}", self.base_offset);
        let mut entry = [0; ENTRY_BYTES];
        let (first, second) = entry.split_at_mut(4);
        first.copy_from_slice(&relative.unwrap_or_default().to_be_bytes());
        second.copy_from_slice(&position.to_be_bytes());
        self.entries.push(entry);
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
