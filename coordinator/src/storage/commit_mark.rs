//! How far a member knew its log to be committed, written down now and then so that a start need
//! not hold all of the log behind the newest snapshot in memory: what is known to be committed is
//! applied while it is read.
//!
//! It is a hint. It may be old, which only makes it less useful; it may be gone; and it counts only
//! where the log has a record of that index *and* term: then, by Raft's log matching, that record
//! is the one that was committed, and so is all before it.

use std::path::{Path, PathBuf};

use super::StorageError;
use super::files::Files;
use super::wal_record::Fields;

const MAGIC: [u8; 8] = *b"OTTLACM1";

/// A record of the log that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitMark {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

impl CommitMark {
    fn path(folder: &Path) -> PathBuf {
        folder.join("committed")
    }

    /// The bytes: magic, index, term, checksum, all little-endian.
    fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.index.to_le_bytes());
        bytes.extend_from_slice(&self.term.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Takes the place of the mark that there was.
    ///
    /// # Errors
    /// If the disk fails; the former mark is still there then.
    pub fn store(self, folder: &Path, files: &Files) -> Result<(), StorageError> {
        files.replace(&Self::path(folder), &self.encode())
    }

    /// The mark in a member's folder, if there is one that is as it was written.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn load(folder: &Path, files: &Files) -> Result<Option<Self>, StorageError> {
        let Some(bytes) = files.read(&Self::path(folder))? else { return Ok(None) };
        let mut fields = Fields(&bytes);
        let magic: [u8; 8] = fields.take();
        let index = u64::from_le_bytes(fields.take());
        let mark = Self { index, term: u64::from_le_bytes(fields.take()) };
        Ok((magic == MAGIC && bytes == mark.encode()).then_some(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_is_not_as_it_was_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, files) = (folder.path(), Files::default());
        assert_eq!(CommitMark::load(folder, &files).unwrap(), None);
        let mark = CommitMark { index: 9, term: 2 };
        mark.store(folder, &files).unwrap();
        assert_eq!(CommitMark::load(folder, &files).unwrap(), Some(mark));
        let path = CommitMark::path(folder);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(CommitMark::load(folder, &files).unwrap(), None, "{length} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(CommitMark::load(folder, &files).unwrap(), None, "bit {bit}");
        }
    }
}
