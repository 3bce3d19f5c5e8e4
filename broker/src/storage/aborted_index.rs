//! `.txnindex`: the transactions that were aborted in a segment. There is no file for a segment
//! without one.
//!
//! Entries of 34 bytes, big-endian: version (i16, 0), producer id (i64), the transaction's first
//! offset (i64), the offset of its abort marker (i64), the last stable offset when the marker was
//! written (i64). They stand in the segment that has the marker, in the order of the markers.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::files::FileSystem;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 34;

/// One aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedEntry {
    /// The producer.
    pub producer_id: i64,
    /// The transaction's first offset.
    pub first_offset: i64,
    /// The offset of the abort marker.
    pub last_offset: i64,
    /// No transaction was open below this offset when the marker was written.
    pub last_stable_offset: i64,
}

impl AbortedEntry {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENTRY_BYTES);
        bytes.put_i16(0);
        bytes.put_i64(self.producer_id);
        bytes.put_i64(self.first_offset);
        bytes.put_i64(self.last_offset);
        bytes.put_i64(self.last_stable_offset);
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < ENTRY_BYTES || bytes.get_i16() != 0 {
            return None;
        }
        Some(Self {
            producer_id: bytes.get_i64(),
            first_offset: bytes.get_i64(),
            last_offset: bytes.get_i64(),
            last_stable_offset: bytes.get_i64(),
        })
    }
}

/// The aborted transactions of one segment: all in memory, since they are few.
#[derive(Debug)]
pub struct AbortedIndex {
    path: PathBuf,
    entries: Vec<AbortedEntry>,
}

impl AbortedIndex {
    /// Reads the file, if there is one. `None` if what is there is not such a file, and the segment
    /// must be read to build it.
    pub fn open(file_system: &FileSystem, path: &Path) -> io::Result<Option<Self>> {
        let content = file_system.read(path)?.unwrap_or_default();
        let mut entries = Vec::with_capacity(content.len() / ENTRY_BYTES);
        for bytes in content.chunks(ENTRY_BYTES) {
            match AbortedEntry::decode(bytes) {
                Some(entry) => entries.push(entry),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { path: path.to_owned(), entries }))
    }

    /// No transactions, and no file.
    pub fn create(file_system: &FileSystem, path: &Path) -> io::Result<Self> {
        file_system.remove(path)?;
        Ok(Self { path: path.to_owned(), entries: Vec::new() })
    }

    /// The transactions, by marker.
    pub fn entries(&self) -> &[AbortedEntry] {
        &self.entries
    }

    /// Adds a transaction, to memory and to the file.
    pub fn append(&mut self, file_system: &FileSystem, entry: AbortedEntry) -> io::Result<()> {
        let position = self.entries.len() * ENTRY_BYTES;
        file_system.open(&self.path)?.write_all_at(&entry.encode(), position as u64)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Drops the transactions whose marker is at `offset` or later.
    pub fn truncate_to(&mut self, file_system: &FileSystem, offset: i64) -> io::Result<()> {
        let count = self.entries.partition_point(|entry| entry.last_offset < offset);
        if count < self.entries.len() {
            self.entries.truncate(count);
            file_system.open(&self.path)?.set_length((count * ENTRY_BYTES) as u64)?;
        }
        Ok(())
    }

    /// Brings the file to disk, if there is one.
    pub fn sync(&self, file_system: &FileSystem) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        file_system.open(&self.path)?.sync_data()
    }
}
