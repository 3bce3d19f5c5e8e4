//! Bringing a log to disk, and writing down how far it is there.

use std::sync::atomic::Ordering;

use super::checkpoints::{PARTITION_METADATA_FILE, write_epochs};
use super::error::StorageError;
use super::log::{FlushListener, Log};
use super::producer_snapshot::snapshot_file;

/// What the checkpoint files say of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// Everything before is on disk, with its indexes.
    pub recovery_point: i64,
}

impl Log {
    /// Adds a listener of [`Log::flushed_offset`].
    pub fn on_flush(&self, listener: FlushListener) {
        self.listeners.write().push(listener);
    }

    /// Brings everything appended so far to disk, on the caller's thread; appends go on meanwhile.
    /// Returns how far the log is on disk. Most callers ask the
    /// [`Flusher`](super::flusher::Flusher) instead.
    ///
    /// # Errors
    /// If the disk fails. The directory is offline then, and the flush is never tried again: what
    /// the failed call left on disk is unknown, and the next one might succeed all the same.
    pub fn flush(&self) -> Result<i64, StorageError> {
        self.check_usable()?;
        self.flush_if(Self::check_usable)
    }

    fn flush_if(&self, check: fn(&Self) -> Result<(), StorageError>) -> Result<i64, StorageError> {
        let flushed = {
            let _flushing = self.flushing.lock();
            // It may have been closed, or its disk may have failed, while this waited.
            check(self)?;
            let before = self.offsets();
            self.sync_files(before.flushed).inspect_err(|error| self.dir.fail(error))?;
            let after = self.update_offsets(|offsets| {
                if offsets.cuts == before.cuts {
                    offsets.flushed = offsets.flushed.max(before.end);
                }
                *offsets
            });
            (after.flushed > before.flushed).then_some(after.flushed)
        };
        if let Some(flushed) = flushed {
            // Without the lock: one that is told may wait for who wants to close the log.
            let listeners = self.listeners.read().clone();
            for listener in &listeners {
                listener(flushed);
            }
        }
        Ok(self.flushed_offset())
    }

    fn sync_files(&self, flushed: i64) -> Result<(), StorageError> {
        let segments = self.segments.load_full();
        for segment in segments.iter().filter(|segment| segment.end_offset() > flushed) {
            segment.sync_data().map_err(segment.error("flush"))?;
        }
        // Records are not safe while the name of their file is not.
        let sync_folder =
            |path| self.file_system.sync_folder(path).map_err(StorageError::io("flush", path));
        if self.topic_id_dirty.swap(false, Ordering::AcqRel) {
            let path = self.folder.join(PARTITION_METADATA_FILE);
            let synced = self.file_system.open(&path).and_then(|file| file.sync_data());
            synced.map_err(StorageError::io("flush", &path))?;
        }
        if self.folder_dirty.swap(false, Ordering::AcqRel) {
            sync_folder(&self.folder)?;
        }
        if self.parent_dirty.swap(false, Ordering::AcqRel) {
            sync_folder(self.dir.path())?;
        }
        Ok(())
    }

    /// How many records are not known to be on disk.
    pub fn unflushed_records(&self) -> i64 {
        let offsets = self.offsets();
        offsets.end - offsets.flushed
    }

    /// Whether `flush.ms` wants a flush. Takes note of the time.
    pub fn is_flush_due(&self, now_ms: i64) -> bool {
        let since_ms = now_ms.saturating_sub(self.last_flush_ms.load(Ordering::Relaxed));
        if since_ms < self.config().flush_ms {
            return false;
        }
        self.last_flush_ms.store(now_ms, Ordering::Relaxed);
        self.unflushed_records() > 0
    }

    /// Brings to disk what recovery relies on for everything before the flushed offset (indexes of
    /// closed segments, producer snapshots, leader epochs), and says what may then be written into
    /// the directory's checkpoint files. Batches are not flushed.
    ///
    /// # Errors
    /// If the disk fails; the directory is offline then, unless it is only full.
    pub fn prepare_checkpoint(&self) -> Result<LogCheckpoint, StorageError> {
        let _preparing = self.preparing.lock();
        self.check_usable()?;
        self.prepare_open()
    }

    fn prepare_open(&self) -> Result<LogCheckpoint, StorageError> {
        // Taken first: what is appended and flushed later may need more than is synced here.
        let before = self.offsets();
        let synced = self.sync_side_files();
        synced.map_err(|error| self.failed(error))?;
        let offsets = self.update_offsets(|offsets| {
            if offsets.cuts == before.cuts {
                offsets.recovery_point = offsets.recovery_point.max(before.flushed);
            }
            *offsets
        });
        Ok(LogCheckpoint { recovery_point: offsets.recovery_point })
    }

    /// The log start offset, if it is not the base offset of the first segment and so has to be
    /// written down.
    pub fn start_within_segment(&self) -> Option<i64> {
        let start = self.log_start_offset();
        let first = self.segments.load().first().map(|segment| segment.base_offset());
        (first != Some(start)).then_some(start)
    }

    fn sync_side_files(&self) -> Result<(), StorageError> {
        let segments = self.segments.load_full();
        if let Some((_active, closed)) = segments.split_last() {
            for segment in closed {
                segment.sync_indexes().map_err(segment.error("flush the indexes of"))?;
            }
        }
        let unsynced = self.appender.lock().unsynced_snapshots.clone();
        for offset in unsynced {
            let path = snapshot_file(&self.folder, offset);
            // It may have been deleted with its segment since.
            if self.file_system.exists(&path) {
                let file = self.file_system.open(&path);
                let synced = file.and_then(|file| file.sync_data());
                synced.map_err(StorageError::io("flush", &path))?;
            }
            self.appender.lock().unsynced_snapshots.remove(&offset);
        }
        if self.epochs_dirty.swap(false, Ordering::AcqRel) {
            let epochs = self.epochs.read().clone();
            write_epochs(&self.file_system, &self.folder, &epochs)
                .inspect_err(|_| self.epochs_dirty.store(true, Ordering::Release))?;
        }
        Ok(())
    }

    /// Refuses everything from now on, flushes, takes a snapshot of the producers and writes all
    /// side files. Returns the last checkpoint, which is the log's end.
    ///
    /// # Errors
    /// If the disk fails; the log has to be recovered then.
    pub fn close(&self) -> Result<LogCheckpoint, StorageError> {
        self.check_usable()?;
        self.set_closed();
        {
            let mut appender = self.appender.lock();
            let end = self.log_end_offset();
            self.take_snapshot(&mut appender, end).map_err(|error| self.failed(error))?;
            let active = self.active_segment();
            let sealed = active.seal().and_then(|()| active.sync_indexes());
            sealed.map_err(active.error("close the indexes of")).map_err(|e| self.failed(e))?;
        }
        self.flush_if(|log| log.dir.check_online())?;
        let checkpoint = self.prepare_open()?;
        self.remove_deleted_files(i64::MAX);
        Ok(checkpoint)
    }
}
