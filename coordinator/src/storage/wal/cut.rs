//! The log gets shorter: entries that a new leader does not have are cut off, and all of it goes
//! when a snapshot from elsewhere takes its place.
//!
//! **Cutting** never leaves a gap, whenever the process dies. First the file `extent` says less;
//! then segments go, the newest first and each of them durably before the next; then the one that
//! holds the first entry to go is cut there. At any moment the log on disk is the old one up to
//! some record at or behind the cut. The place behind the cut is zeros before anything is written
//! there, since what is left of old records would tell that a torn end had been flushed.

use std::path::Path;

use super::super::StorageError;
use super::super::files::{Files, numbered_path};
use super::super::membership::SnapshotMeta;
use super::super::wal_reader::{SEGMENT_EXTENSION, SegmentReader, Step};
use super::{Active, Extent, Wal, WalOptions, create_segment};

impl Wal {
    /// Cuts the record `index` and all behind it, durably; nothing if there is no such record. It
    /// must not be older than [`Wal::first_index`].
    pub fn truncate_from(&mut self, index: u64) -> Result<(), StorageError> {
        assert!(index >= self.first_index(), "record {index} is not kept any more");
        if self.failed {
            return Err(StorageError::FailedBefore);
        }
        if index >= self.next_index {
            return Ok(());
        }
        self.failed = true;
        self.cut(index)?;
        self.failed = false;
        Ok(())
    }

    fn cut(&mut self, index: u64) -> Result<(), StorageError> {
        let kept = self.segments.partition_point(|first| *first <= index).max(1);
        let newest_segment = self.segments.get(kept - 1).copied().unwrap_or_default();
        Extent { newest_segment, flushed: index - 1 }.store(&self.folder, &self.files)?;
        for first_index in self.segments.drain(kept..).rev() {
            self.files.remove(&numbered_path(&self.folder, first_index, SEGMENT_EXTENSION))?;
            self.files.sync_folder(&self.folder)?;
        }
        let mut reader = SegmentReader::open(&self.folder, &self.files, newest_segment)?;
        while reader.next_index() < index {
            if !matches!(reader.step()?, Step::Record(_)) {
                let reason = format!("record {} was flushed and is damaged", reader.next_index());
                return Err(StorageError::corrupt(reader.path(), reader.position(), reason));
            }
        }
        let (file, position) = (self.files.open(reader.path())?, reader.position());
        file.truncate(position)?;
        file.sync()?;
        self.active = Active { file, salt: reader.salt(), position, allocated: position };
        self.next_index = index;
        Ok(())
    }

    /// Begins the log anew behind a snapshot that is durable; see [`Wal::begin_behind`].
    pub fn reset(&mut self, after: &SnapshotMeta) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::FailedBefore);
        }
        self.failed = true;
        let (folder, files) = (self.folder.clone(), self.files.clone());
        *self = Self::begin_behind(&folder, &files, self.options, after)?;
        Ok(())
    }

    /// Makes an empty log in `folder` that goes on behind a snapshot, in place of what is there:
    /// the log that was, or what is left of it where this was begun before and the process died.
    /// Something else must say until this is done that it is to be done.
    pub fn begin_behind(
        folder: &Path,
        files: &Files,
        options: WalOptions,
        after: &SnapshotMeta,
    ) -> Result<Self, StorageError> {
        files.create_folder(folder)?;
        files.remove_asides(folder)?;
        for first_index in files.numbered(folder, SEGMENT_EXTENSION)? {
            files.remove(&numbered_path(folder, first_index, SEGMENT_EXTENSION))?;
        }
        let next_index = after.index + 1;
        // Flushes the folder, and with that what was removed.
        let active = create_segment(folder, files, next_index)?;
        let (folder, files, buffer) = (folder.to_owned(), files.clone(), Vec::new());
        let segments = vec![next_index];
        let wal =
            Self { folder, files, options, segments, active, next_index, buffer, failed: false };
        wal.write_extent()?;
        Ok(wal)
    }
}
