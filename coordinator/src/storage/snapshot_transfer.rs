//! Snapshots on their way between members: read in chunks of bytes here, put together there.
//!
//! A snapshot that arrives is written aside. Once it is complete it is flushed, read to its end
//! and renamed to `<index>.received`, durably: from then on it takes the place of the log, whatever
//! happens. The log begins anew behind it, and last it becomes a snapshot like any other. A member
//! that starts and finds such a file does the rest of this first.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::StorageError;
use super::files::{ASIDE_EXTENSION, DataFile, Files, numbered_path};
use super::membership::SnapshotMeta;
use super::snapshot::{SNAPSHOT_EXTENSION, SnapshotReader, Snapshots};
use super::wal::{Wal, WalOptions};

/// What a file ends in that is going to take the place of the log.
const RECEIVED_EXTENSION: &str = "received";

/// Snapshots that are received are flushed after so many bytes, as those that are taken.
const FLUSH_STEP: u64 = 1024 * 1024;

/// A snapshot's bytes, for sending.
#[derive(Debug)]
pub struct SnapshotChunks {
    file: DataFile,
    size: u64,
}

impl SnapshotChunks {
    /// The length of the whole in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// At most `length` bytes from `offset` on; fewer only at the end.
    pub fn read(&self, offset: u64, length: usize) -> Result<Bytes, StorageError> {
        Ok(self.file.read_up_to(offset, length)?.into())
    }
}

/// Puts a snapshot together that comes from another member.
#[derive(Debug)]
pub struct SnapshotReceiver {
    file: DataFile,
    target: PathBuf,
    files: Files,
    index: u64,
    received: u64,
    flushed: u64,
}

impl SnapshotReceiver {
    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Which record of the log the snapshot stands behind.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Writes the bytes that follow those that have come.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all_at(bytes, self.received)?;
        self.received += bytes.len() as u64;
        if self.received - self.flushed >= FLUSH_STEP {
            self.file.sync()?;
            self.flushed = self.received;
        }
        Ok(())
    }

    /// All has come: makes it durable, has the whole of it read, and puts it where it will take the
    /// place of the log, even if the process dies. If what came is not a whole snapshot, or `read`
    /// makes nothing of it, nothing of it stays: this member goes on with what it has. Returns what
    /// was read. The caller has to go on with [`Snapshots::install`].
    pub fn finish<T, E: From<StorageError>>(
        self,
        read: impl FnOnce(SnapshotReader) -> Result<T, E>,
    ) -> Result<(SnapshotMeta, T), E> {
        self.file.sync()?;
        match self.read_with(read) {
            Ok(whole) => {
                self.files.rename(self.file.path(), &self.target)?;
                Ok(whole)
            }
            Err(error) => {
                self.abandon()?;
                Err(error)
            }
        }
    }

    fn read_with<T, E: From<StorageError>>(
        &self,
        read: impl FnOnce(SnapshotReader) -> Result<T, E>,
    ) -> Result<(SnapshotMeta, T), E> {
        let path = self.file.path();
        let meta = read_whole(path, &self.files, self.index)?;
        let found = read(SnapshotReader::open(path, &self.files, self.index)?)?;
        Ok((meta, found))
    }

    /// Leaves nothing of what has come.
    pub fn abandon(self) -> Result<(), StorageError> {
        self.files.remove(self.file.path())
    }
}

fn read_whole(path: &Path, files: &Files, index: u64) -> Result<SnapshotMeta, StorageError> {
    let mut reader = SnapshotReader::open(path, files, index)?;
    reader.by_ref().try_for_each(|record| record.map(drop))?;
    Ok(reader.meta().clone())
}

impl Snapshots {
    /// Opens the bytes of the snapshot behind the record `index`.
    pub fn chunks(&self, index: u64) -> Result<SnapshotChunks, StorageError> {
        let file = self.files.open(&numbered_path(&self.folder, index, SNAPSHOT_EXTENSION))?;
        let size = file.length()?;
        Ok(SnapshotChunks { file, size })
    }

    /// Begins to receive the snapshot behind the record `index`. What was received of it before is
    /// gone.
    pub fn receive(&self, index: u64) -> Result<SnapshotReceiver, StorageError> {
        let target = numbered_path(&self.folder, index, RECEIVED_EXTENSION);
        let aside = target.with_extension(format!("{RECEIVED_EXTENSION}.{ASIDE_EXTENSION}"));
        let (file, files) = (self.files.create(&aside)?, self.files.clone());
        Ok(SnapshotReceiver { file, target, files, index, received: 0, flushed: 0 })
    }

    /// Puts a received snapshot in the place of the log, which begins anew behind it, and of all
    /// older snapshots, from which no log leads on.
    pub fn install(&mut self, meta: &SnapshotMeta, wal: &mut Wal) -> Result<(), StorageError> {
        wal.reset(meta)?;
        self.adopt(meta.index)
    }

    /// Finishes what [`Snapshots::install`] did not before the process died, if there is anything.
    /// To be called before the log in `log_folder` is opened.
    pub fn finish_install(
        &mut self,
        log_folder: &Path,
        options: WalOptions,
    ) -> Result<(), StorageError> {
        let received = self.files.numbered(&self.folder, RECEIVED_EXTENSION)?;
        let Some(index) = received.last().copied() else { return Ok(()) };
        let path = numbered_path(&self.folder, index, RECEIVED_EXTENSION);
        let meta = read_whole(&path, &self.files, index)?;
        Wal::begin_behind(log_folder, &self.files, options, &meta)?;
        self.adopt(index)
    }

    fn adopt(&mut self, index: u64) -> Result<(), StorageError> {
        let path = |number, extension| numbered_path(&self.folder, number, extension);
        self.files.rename(&path(index, RECEIVED_EXTENSION), &path(index, SNAPSHOT_EXTENSION))?;
        for older in self.indexes()?.into_iter().filter(|older| *older < index) {
            self.files.remove(&path(older, SNAPSHOT_EXTENSION))?;
        }
        for older in self.files.numbered(&self.folder, RECEIVED_EXTENSION)? {
            self.files.remove(&path(older, RECEIVED_EXTENSION))?;
        }
        self.files.sync_folder(&self.folder)?;
        self.whole.retain(|whole| *whole > index);
        self.mark_whole(index);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
