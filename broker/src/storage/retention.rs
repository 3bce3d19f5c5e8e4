//! Deleting what is too old or too much, from the log's start, a whole segment at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{info, warn};

use super::error::StorageError;
use super::log::{Appender, Deletion, Log};
use super::producer_snapshot::snapshot_file;
use super::segment::{DELETED_SUFFIX, Segment};

impl Log {
    /// Moves the log's start forward (DeleteRecords). Returns the log start offset, or `None` if
    /// `offset` is above the high watermark. It is on disk when this returns.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn advance_log_start_offset(&self, offset: i64) -> Result<Option<i64>, StorageError> {
        self.check_usable()?;
        // With page-cache durability what is committed may not be on disk yet. The start is, when
        // this returns; after a power cut it must not lie behind the end of the log.
        if offset > self.flushed_offset() && offset <= self.high_watermark() {
            self.flush()?;
        }
        let _appender = self.appender.lock();
        let offsets = self.offsets();
        if offset > offsets.high_watermark {
            return Ok(None);
        }
        if offset > offsets.start {
            // In this order, so that a checkpoint that is under way does not write the old start.
            self.move_start(offset);
            let written = self.dir.set_log_start_offset(&self.topic_partition, offset);
            written.map_err(|error| self.failed(error))?;
        }
        Ok(Some(self.log_start_offset()))
    }

    pub(super) fn move_start(&self, offset: i64) {
        self.update_offsets(|offsets| offsets.advance_start(offset));
        if self.epochs.write().truncate_from_start(offset) {
            self.epochs_dirty.store(true, Ordering::Release);
        }
    }

    /// Applies retention.ms, retention.bytes and the log start offset, never above the high
    /// watermark. Returns how many segments went.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn delete_old_segments(&self, now_ms: i64) -> Result<usize, StorageError> {
        self.check_usable()?;
        let mut appender = self.appender.lock();
        let count = self.deletable(now_ms);
        if count == 0 {
            return Ok(0);
        }
        let config = self.config();
        let segments = self.segments.load_full();
        if count == segments.len() {
            // The log goes on after what is deleted.
            self.roll(&mut appender, &config, self.log_end_offset(), now_ms)?;
        }
        let segments = self.segments.load_full();
        let (removed, kept) = segments.split_at(count.min(segments.len()));
        let Some(start) = kept.first().map(|segment| segment.base_offset()) else { return Ok(0) };
        self.move_start(start);
        self.segments.store(Arc::new(kept.to_vec()));
        let due_ms = now_ms.saturating_add(config.file_delete_delay_ms);
        for segment in removed {
            info!(
                log = %self.topic_partition, base_offset = segment.base_offset(),
                size = segment.size(), start, "deleting a segment"
            );
            self.delete_later(&mut appender, segment, due_ms).map_err(|e| self.failed(e))?;
        }
        Ok(removed.len())
    }

    /// How many segments, from the oldest on, may go.
    fn deletable(&self, now_ms: i64) -> usize {
        let config = self.config();
        let offsets = self.offsets();
        let segments = self.segments.load();
        let mut excess = match u64::try_from(config.retention_bytes) {
            Ok(retention_bytes) if config.cleanup_delete => {
                self.size_bytes().saturating_sub(retention_bytes)
            }
            _ => 0,
        };
        let mut count = 0;
        for (number, segment) in segments.iter().enumerate() {
            let next = segments.get(number + 1);
            let end = next.map_or(offsets.end, |next| next.base_offset());
            let size = segment.size();
            let is_empty_active = next.is_none() && size == 0;
            if end > offsets.high_watermark || is_empty_active {
                break;
            }
            let is_before_start = next.is_some() && end <= offsets.start;
            let is_old = config.cleanup_delete
                && config.retention_ms >= 0
                && now_ms.saturating_sub(segment.newest_ms()) > config.retention_ms;
            let is_too_much = excess > 0 && excess >= size;
            if !(is_before_start || is_old || is_too_much) {
                break;
            }
            excess = excess.saturating_sub(size);
            count += 1;
        }
        count
    }

    pub(super) fn delete_later(
        &self,
        appender: &mut Appender,
        segment: &Segment,
        due_ms: i64,
    ) -> Result<(), StorageError> {
        let mut paths = segment.rename_deleted().map_err(segment.error("rename"))?;
        let base_offset = segment.base_offset();
        if appender.snapshots.remove(&base_offset) {
            appender.unsynced_snapshots.remove(&base_offset);
            let from = snapshot_file(&self.folder, base_offset);
            let mut to = from.clone().into_os_string();
            to.push(DELETED_SUFFIX);
            if self.file_system.exists(&from) {
                let renamed = self.file_system.rename(&from, to.as_ref());
                renamed.map_err(StorageError::io("rename", &from))?;
                paths.push(to.into());
            }
        }
        let deletions = paths.into_iter().map(|path| Deletion { due_ms, path });
        self.deletions.lock().extend(deletions);
        Ok(())
    }

    /// Removes files that were renamed long enough ago.
    pub fn remove_deleted_files(&self, now_ms: i64) {
        let mut due = Vec::new();
        self.deletions.lock().retain(|deletion| {
            let is_due = deletion.due_ms <= now_ms;
            if is_due {
                due.push(deletion.path.clone());
            }
            !is_due
        });
        for path in due {
            if let Err(error) = self.file_system.remove(&path) {
                warn!(file = %path.display(), %error, "could not remove a deleted segment's file");
            }
        }
    }
}
