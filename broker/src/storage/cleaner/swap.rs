//! Puts a compacted segment in the place of those that it was made of, so that readers go on, and
//! so that after a crash there are the ones or the other.
//!
//! | step | what a crash after it leaves, and what becomes of it |
//! |---|---|
//! | all of `N.*.cleaned` are on disk | `.cleaned` files, which are removed |
//! | `N.log.cleaned` → `N.log.swap`, on disk | from here on the new segment counts |
//! | `N.index.cleaned` → `N.index.swap` and so on | the same |
//! | the old files → `.deleted`, on disk | the same |
//! | `N.log.swap` → `N.log` | indexes with `.swap` names, which get their own |
//! | `N.index.swap` → `N.index` and so on | nothing to be done |
//!
//! [`leftovers`](super::super::leftovers) does what is left. Readers that have an old segment go on
//! reading its files, which are removed `file.delete.delay.ms` later.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::error::StorageError;
use super::super::leftovers::{CLEANED_SUFFIX, SWAP_SUFFIX};
use super::super::log::{Appender, Deletion, Log};
use super::super::segment::{SEGMENT_SUFFIXES, Segment, segment_file};

/// What is to be replaced.
#[derive(Debug)]
pub struct Replaced<'a> {
    /// The old segments, next to one another.
    pub sources: &'a [Arc<Segment>],
    /// How often the log had been cut when they were read.
    pub cuts: u64,
    /// Wall time.
    pub now_ms: i64,
}

impl Log {
    fn cleaned_path(&self, base_offset: i64, suffix: &str, more: &str) -> PathBuf {
        segment_file(&self.folder, base_offset, &format!("{suffix}{more}"))
    }

    /// Puts the complete segment that lies aside at `base_offset` in the place of others. `false`
    /// if the log was cut meanwhile or has not all of them any more; nothing is changed then.
    ///
    /// # Errors
    /// If the log is closed. If the disk fails, it is offline then.
    pub(in super::super) fn replace_segments(
        &self,
        base_offset: i64,
        replaced: &Replaced<'_>,
    ) -> Result<bool, StorageError> {
        let sources = replaced.sources;
        let mut appender = self.appender.lock();
        self.check_usable()?;
        let segments = self.segments.load_full();
        let is_first = |s: &Arc<Segment>| sources.first().is_some_and(|f| Arc::ptr_eq(s, f));
        let place = segments.iter().position(is_first);
        let Some((before, rest)) = place.and_then(|place| segments.split_at_checked(place)) else {
            return Ok(false);
        };
        let Some((present, after)) = rest.split_at_checked(sources.len()) else { return Ok(false) };
        let are_same = present.iter().zip(sources).all(|(one, other)| Arc::ptr_eq(one, other));
        // The last one is active.
        if !are_same || after.is_empty() || self.offsets().cuts != replaced.cuts {
            return Ok(false);
        }
        let swapped = self.rename_all(&mut appender, base_offset, replaced).and_then(|()| {
            let opened =
                Segment::open(&self.file_system, &self.folder, base_offset, replaced.now_ms);
            let segment = opened.map_err(StorageError::io("open", &self.folder))?;
            let end_offset = sources.last().map_or(base_offset, |last| last.end_offset());
            segment.adopt(end_offset).map_err(segment.error("open"))?;
            Ok(Arc::new(segment))
        });
        // Half done, it is for recovery to do the rest.
        let segment = swapped.inspect_err(|error| self.dir.fail(error))?;
        self.segments.store(Arc::new([before, &[segment], after].concat()));
        drop(appender);
        let synced = self.file_system.sync_folder(&self.folder);
        synced.map_err(StorageError::io("flush", &self.folder)).map_err(|e| self.failed(e))?;
        Ok(true)
    }

    fn rename_all(
        &self,
        appender: &mut Appender,
        base_offset: i64,
        replaced: &Replaced<'_>,
    ) -> Result<(), StorageError> {
        let rename = |suffix: &str, from: &str, to: &str| {
            let from = self.cleaned_path(base_offset, suffix, from);
            if !self.file_system.exists(&from) {
                return Ok(());
            }
            let to = self.cleaned_path(base_offset, suffix, to);
            self.file_system.rename(&from, &to).map_err(StorageError::io("rename", &from))
        };
        let sync = || {
            let synced = self.file_system.sync_folder(&self.folder);
            synced.map_err(StorageError::io("flush", &self.folder))
        };
        rename(".log", CLEANED_SUFFIX, SWAP_SUFFIX)?;
        sync()?;
        for suffix in SEGMENT_SUFFIXES {
            rename(suffix, CLEANED_SUFFIX, SWAP_SUFFIX)?;
        }
        let due_ms = replaced.now_ms.saturating_add(self.config().file_delete_delay_ms);
        for segment in replaced.sources {
            if segment.base_offset() != base_offset {
                self.delete_later(appender, segment, due_ms)?;
                continue;
            }
            // Its snapshot stays: it is of the offset at which the new segment begins too.
            let paths = segment.rename_deleted().map_err(segment.error("rename"))?;
            let deletions = paths.into_iter().map(|path| Deletion { due_ms, path });
            self.deletions.lock().extend(deletions);
        }
        sync()?;
        for suffix in SEGMENT_SUFFIXES {
            rename(suffix, SWAP_SUFFIX, "")?;
        }
        Ok(())
    }

    /// Removes what a pass that did not come to its end wrote aside.
    pub(in super::super) fn remove_cleaned(&self, base_offset: i64) {
        for suffix in SEGMENT_SUFFIXES {
            let path = self.cleaned_path(base_offset, suffix, CLEANED_SUFFIX);
            if let Err(error) = self.file_system.remove(&path) {
                tracing::warn!(file = %path.display(), %error, "could not remove a file");
            }
        }
    }
}
