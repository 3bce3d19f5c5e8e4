//! Cutting a log's end off, as a follower does whose leader has another history, and starting anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{info, warn};

use super::error::StorageError;
use super::log::{Appender, Deletion, Log};
use super::producer_state::{Producers, Transactions};
use super::recovery::{ProducerRebuild, newest_snapshot};
use super::segment::Segment;

impl Log {
    /// Cuts everything from `offset` on, and a batch that `offset` is in the midst of. Lowers the
    /// high watermark if need be, which is logged: it may only happen after an unclean election.
    ///
    /// # Errors
    /// If the disk fails; the directory is offline then.
    pub fn truncate_to(&self, offset: i64) -> Result<(), StorageError> {
        self.check_usable()?;
        let mut appender = self.appender.lock();
        let offsets = self.offsets();
        if offset >= offsets.end {
            // An epoch in which this log led and wrote nothing may be noted at its end, which its
            // leader knows nothing of: kept, the two logs would seem to part for ever.
            if self.epochs.write().truncate_from_end(offsets.end) {
                self.epochs_dirty.store(true, Ordering::Release);
            }
            return Ok(());
        }
        if offset < offsets.start {
            return self.start_anew(&mut appender, offset);
        }
        if offset < offsets.high_watermark {
            warn!(
                log = %self.topic_partition, offset, high_watermark = offsets.high_watermark,
                "truncating below the high watermark: committed records are lost"
            );
        }
        info!(log = %self.topic_partition, offset, end = offsets.end, "truncating the log");
        // First nobody may look there any more, nor promise on disk that all is well there.
        self.update_offsets(|offsets| offsets.cut(offset));
        // A failure from here on leaves the log in pieces, which only recovery can join.
        self.dir
            .lower_recovery_point(&self.topic_partition, offset)
            .and_then(|()| self.cut(&mut appender, offset))
            .inspect_err(|error| self.dir.fail(error))
    }

    fn cut(&self, appender: &mut Appender, offset: i64) -> Result<(), StorageError> {
        let segments = self.segments.load_full();
        let kept = segments.partition_point(|segment| segment.base_offset() <= offset).max(1);
        let (kept, removed) = segments.split_at(kept.min(segments.len()));
        self.segments.store(Arc::new(kept.to_vec()));
        self.delete_now(removed)?;
        let config = self.config();
        let active = self.active_segment();
        let cut = active.truncate_to(offset, config.index_interval_bytes)?;
        // Batches go as a whole, so the log ends before one that `offset` was in the midst of, and
        // the whole batch is fetched again.
        let offset = match cut {
            Some(cut) if cut.header.base_offset < offset => {
                cut.header.base_offset.max(self.log_start_offset())
            }
            _ => offset,
        };
        self.update_offsets(|offsets| offsets.cut(offset));
        if self.epochs.write().truncate_from_end(offset) {
            self.epochs_dirty.store(true, Ordering::Release);
        }
        self.reload_producers(appender, offset)
    }

    /// Works out the producers as they were when the log ended at `offset`.
    fn reload_producers(&self, appender: &mut Appender, offset: i64) -> Result<(), StorageError> {
        for later in appender.snapshots.split_off(&(offset + 1)) {
            appender.unsynced_snapshots.remove(&later);
            let path = super::producer_snapshot::snapshot_file(&self.folder, later);
            self.file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
        }
        let (from, producers) =
            newest_snapshot(&self.file_system, &self.folder, &mut appender.snapshots)?;
        let mut rebuild = ProducerRebuild { producers, ..ProducerRebuild::default() };
        let segments = self.segments.load();
        for segment in super::log_reader::segments_from(&segments, from) {
            rebuild.replay(segment, from)?;
        }
        *self.transactions.lock() = Transactions::of(&rebuild.producers);
        appender.producers = rebuild.producers;
        Ok(())
    }

    /// Throws everything away; the next record gets `offset`.
    ///
    /// # Errors
    /// If the disk fails; the directory is offline then.
    pub fn truncate_fully_and_start_at(&self, offset: i64) -> Result<(), StorageError> {
        self.check_usable()?;
        let mut appender = self.appender.lock();
        self.start_anew(&mut appender, offset)
    }

    pub(super) fn start_anew(
        &self,
        appender: &mut Appender,
        offset: i64,
    ) -> Result<(), StorageError> {
        info!(log = %self.topic_partition, offset, "throwing the log away and starting anew");
        self.update_offsets(|offsets| offsets.recovery_point = offsets.start);
        self.dir.forget(&self.topic_partition).map_err(|error| self.failed(error))?;
        let mut start = || {
            let removed = self.segments.load_full();
            self.delete_now(&removed)?;
            for snapshot in std::mem::take(&mut appender.snapshots) {
                let path = super::producer_snapshot::snapshot_file(&self.folder, snapshot);
                self.file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
            }
            appender.unsynced_snapshots.clear();
            // The folder has just been changed, so this is about now.
            let now_ms = self.file_system.modified_ms(&self.folder).unwrap_or(0);
            let created = Segment::create(&self.file_system, &self.folder, offset, now_ms);
            let segment = created.map_err(StorageError::io("create a segment in", &self.folder))?;
            self.folder_dirty.store(true, Ordering::Release);
            self.segments.store(Arc::new(vec![Arc::new(segment)]));
            Ok(())
        };
        start().inspect_err(|error| self.dir.fail(error))?;
        appender.producers = Producers::default();
        *self.transactions.lock() = Transactions::default();
        self.epochs.write().clear();
        self.epochs_dirty.store(true, Ordering::Release);
        self.update_offsets(|offsets| {
            let cuts = offsets.cuts + 1;
            *offsets = super::offsets::LogOffsets::opened(offset, offset, offset);
            offsets.cuts = cuts;
        });
        // A checkpoint may have been under way.
        let lowered = self.dir.lower_recovery_point(&self.topic_partition, offset);
        lowered.inspect_err(|error| self.dir.fail(error))
    }

    /// Takes files of segments away that are not in the list any more. Readers that have them open
    /// go on reading.
    fn delete_now(&self, segments: &[Arc<Segment>]) -> Result<(), StorageError> {
        for segment in segments.iter().rev() {
            let renamed = segment.rename_deleted().map_err(segment.error("rename"))?;
            let deletions = renamed.into_iter().map(|path| Deletion { due_ms: 0, path });
            self.deletions.lock().extend(deletions);
        }
        Ok(())
    }
}
