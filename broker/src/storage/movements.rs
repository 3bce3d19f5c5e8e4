//! Moving a log to another directory of the same broker: a copy grows in the new directory, its
//! **future** log, and takes the log's place once it has all of it.
//!
//! The copy lies in `<topic>-<partition>.<id>-future/` and is opened again after a stop, wherever
//! it was. When it is whole and on disk, the file [`COMPLETE_FILE`] is put into it: from then on it
//! is what counts, and the next start finishes what a crash interrupted. Then the old folder is
//! renamed, as that of any log that is deleted, and the copy gets the log's name. So there is at no
//! moment neither, and after a crash never a doubt about which.
//!
//! The copy is a follower of the log: it is cut where the two part by their leader epochs.

use std::path::Path;
use std::sync::Arc;

use ottla_common::types::TopicPartition;
use tracing::{info, warn};

use super::error::{AppendError, StorageError};
use super::files::FileSystem;
use super::loading::{parse_folder, parse_future};
use super::log::Log;
use super::log_dirs::LogDir;
use super::log_manager::{
    DELETE_SUFFIX, DeletedFolder, FOLDER_ID_SIZE, FOLDER_NAME_BYTES_MAX, LogManager, fail_dir,
    note, unique_folder,
};
use super::log_reader::{LogReadError, LogReadRequest, read_region};
use super::recovery::OpenOptions;
use crate::limits::PREFERRED_DIRECTORIES_MAX;

/// What the folder of a copy that grows is called.
pub(super) const FUTURE_SUFFIX: &str = "-future";
/// Is in the folder of a copy that has become what counts.
const COMPLETE_FILE: &str = "replaces-the-log";

/// Why a log is not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was read could not be appended.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Whether a topic's name leaves room for what the folders of its copies are called.
pub fn can_be_moved(topic_partition: &TopicPartition) -> bool {
    let more = FOLDER_ID_SIZE + 1 + FUTURE_SUFFIX.len();
    topic_partition.to_string().len() + more <= FOLDER_NAME_BYTES_MAX
}

impl Log {
    /// Takes what `source` has and this log has not, at most about so many bytes, and cuts what
    /// `source` has not. Returns the bytes taken; none if nothing is left to take.
    ///
    /// # Errors
    /// If a disk fails, or one of the logs is closed.
    pub fn catch_up_with(
        &self,
        source: &Log,
        max_bytes: usize,
        now_ms: i64,
    ) -> Result<usize, CopyError> {
        self.cut_what_is_not_in(source)?;
        let offset = self.log_end_offset();
        let read = source.read(LogReadRequest {
            offset,
            max_bytes,
            min_one_batch: true,
            upper_bound: i64::MAX,
        });
        let region = match read {
            Ok(read) => read.region,
            // Records were deleted meanwhile, or the log was cut: next time it is seen.
            Err(LogReadError::OffsetOutOfRange { .. }) => return Ok(1),
            Err(LogReadError::Storage(error)) => return Err(error.into()),
        };
        let Some(region) = region else {
            self.set_high_watermark(source.high_watermark());
            return Ok(0);
        };
        let bytes = read_region(&region).map_err(StorageError::io("read", source.folder()))?;
        let size = bytes.len();
        self.append_as_follower(bytes, now_ms)?;
        self.set_high_watermark(source.high_watermark());
        self.advance_log_start_offset(source.log_start_offset().min(self.high_watermark()))?;
        Ok(size)
    }

    fn cut_what_is_not_in(&self, source: &Log) -> Result<(), StorageError> {
        let from = source.offsets();
        if self.log_end_offset() < from.start {
            return self.truncate_fully_and_start_at(from.start);
        }
        let Some(latest) = self.latest_leader_epoch() else {
            let is_empty = self.log_start_offset() == self.log_end_offset();
            return match is_empty || self.log_end_offset() <= from.end {
                true => Ok(()),
                false => self.truncate_to(from.end),
            };
        };
        let (epoch, end_offset) = source.end_offset_for_leader_epoch(latest);
        let end_offset = match epoch {
            ..0 => from.start,
            _ if epoch == latest => end_offset,
            _ => self.end_offset_for_leader_epoch(epoch).1.min(end_offset),
        };
        match end_offset < self.log_end_offset() {
            true => self.truncate_to(end_offset),
            false => Ok(()),
        }
    }
}

impl LogManager {
    /// The directory of that path, if it is one of this broker's.
    pub fn dir(&self, path: &Path) -> Option<&Arc<LogDir>> {
        self.dirs().iter().find(|dir| dir.path() == path)
    }

    /// The copy that is to replace a log, if there is one.
    pub fn future(&self, topic_partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().future.get(topic_partition).cloned()
    }

    /// All copies that are to replace logs.
    pub fn futures(&self) -> Vec<Arc<Log>> {
        self.logs.read().future.values().cloned().collect()
    }

    /// A log that is not here yet goes to this directory. Forgotten when the broker stops; too many
    /// such wishes are not taken note of.
    pub fn prefer_dir(&self, topic_partition: &TopicPartition, dir: &LogDir) {
        let preferred = &mut self.logs.write().preferred;
        if preferred.len() < PREFERRED_DIRECTORIES_MAX || preferred.contains_key(topic_partition) {
            preferred.insert(topic_partition.clone(), dir.path().to_owned());
        }
    }

    /// Begins to move a log to a directory; one that is being moved there goes on, one that is
    /// being moved elsewhere begins anew, and one that is there already stays. Returns whether
    /// there is something to copy.
    ///
    /// # Errors
    /// If there is no such log, a directory is offline, or the disk fails.
    pub fn begin_move(
        &self,
        topic_partition: &TopicPartition,
        to: &Arc<LogDir>,
        now_ms: i64,
    ) -> Result<bool, StorageError> {
        let _changing = self.changing.lock();
        let missing = || StorageError::NoDirectory { what: topic_partition.to_string() };
        let log = self.logs.read().online.get(topic_partition).cloned().ok_or_else(missing)?;
        log.check_usable()?;
        if let Some(future) = self.future(topic_partition) {
            if future.dir().path() == to.path() {
                return Ok(true);
            }
            self.drop_future(topic_partition)?;
        }
        if log.dir().path() == to.path() {
            return Ok(false);
        }
        if self.lacks_directory || self.dirs().iter().any(|dir| dir.check_online().is_err()) {
            // There might be another copy in it.
            return Err(missing());
        }
        to.check_online()?;
        let future = self.make_future(&log, to, now_ms).inspect_err(|e| fail_dir(to, e))?;
        info!(log = %topic_partition, to = %to.path().display(), "moving to another directory");
        self.logs.write().future.insert(topic_partition.clone(), Arc::new(future));
        Ok(true)
    }

    fn make_future(&self, log: &Log, to: &Arc<LogDir>, now_ms: i64) -> Result<Log, StorageError> {
        let topic_partition = log.topic_partition();
        to.forget(topic_partition)?;
        let folder = unique_folder(to.path(), &topic_partition.to_string(), FUTURE_SUFFIX)?;
        let options = OpenOptions::of(&to.checkpoints(), topic_partition, now_ms);
        let future = Log::open_in(to, (topic_partition.clone(), folder), log.config(), options)?;
        if let Some(topic_id) = log.topic_id() {
            future.set_topic_id(topic_id)?;
        }
        Ok(future)
    }

    /// Calls off a move. Returns whether there was one.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn abandon_move(&self, topic_partition: &TopicPartition) -> Result<bool, StorageError> {
        let _changing = self.changing.lock();
        self.drop_future(topic_partition)
    }

    /// For who holds `changing`.
    pub(super) fn drop_future(
        &self,
        topic_partition: &TopicPartition,
    ) -> Result<bool, StorageError> {
        let Some(future) = self.logs.write().future.remove(topic_partition) else {
            return Ok(false);
        };
        future.withdraw();
        if future.dir().check_online().is_ok() {
            info!(log = %topic_partition, "dropping an unfinished copy of the log");
            let path = self.rename_folder(&future, DELETE_SUFFIX)?;
            let deleted = DeletedFolder { path, delay_ms: 0, due_ms: None };
            self.logs.write().deleted.push(deleted);
        }
        Ok(true)
    }

    /// Puts the copy of a log in its place. Nobody may append to the log meanwhile, and the copy
    /// must have all of it. Returns the log as it is from now on.
    ///
    /// # Errors
    /// If a disk fails. What [`LogManager::log`] says is what counts then, too.
    pub fn replace_with_future(
        &self,
        topic_partition: &TopicPartition,
        now_ms: i64,
    ) -> Result<Arc<Log>, StorageError> {
        let _changing = self.changing.lock();
        let missing = || StorageError::NoDirectory { what: topic_partition.to_string() };
        let online = self.logs.read().online.get(topic_partition).cloned();
        let old = online.ok_or_else(missing)?;
        let future = self.future(topic_partition).ok_or_else(missing)?;
        old.check_usable()?;
        let dir = future.dir().clone();
        let closed = future.close()?;
        let complete = || {
            dir.update_checkpoints(|checkpoints| note(checkpoints, &future, closed))?;
            mark_complete(&self.config.file_system, future.folder())
        };
        complete().inspect_err(|error| fail_dir(&dir, error))?;
        // From here on the copy counts, whatever fails.
        {
            let mut logs = self.logs.write();
            logs.future.remove(topic_partition);
            logs.online.insert(topic_partition.clone(), future.clone());
        }
        old.withdraw();
        let is_gone = match self.rename_folder(&old, DELETE_SUFFIX) {
            Ok(path) => {
                let delay_ms = old.config().file_delete_delay_ms;
                let deleted = DeletedFolder { path, delay_ms, due_ms: None };
                self.logs.write().deleted.push(deleted);
                true
            }
            Err(error) => {
                warn!(log = %topic_partition, %error, "the log of before is left where it was");
                false
            }
        };
        let reopened = self.reopen(&future, is_gone, now_ms);
        let log = Arc::new(reopened.inspect_err(|error| fail_dir(&dir, error))?);
        log.set_high_watermark(old.high_watermark());
        let start = old.log_start_offset();
        self.logs.write().online.insert(topic_partition.clone(), log.clone());
        log.advance_log_start_offset(start)?;
        info!(log = %topic_partition, to = %dir.path().display(), "moved to another directory");
        Ok(log)
    }

    fn reopen(&self, future: &Log, is_gone: bool, now_ms: i64) -> Result<Log, StorageError> {
        let (dir, topic_partition) = (future.dir(), future.topic_partition());
        let folder = dir.path().join(topic_partition.to_string());
        give_name(&self.config.file_system, (future.folder(), &folder), dir.path())?;
        if is_gone {
            forget_complete(&self.config.file_system, &folder)?;
        }
        let options = OpenOptions {
            was_clean: true,
            high_watermark: future.high_watermark(),
            ..OpenOptions::of(&dir.checkpoints(), topic_partition, now_ms)
        };
        Log::open(dir, topic_partition.clone(), future.config(), options)
    }
}

fn mark_complete(file_system: &FileSystem, folder: &Path) -> Result<(), StorageError> {
    let path = folder.join(COMPLETE_FILE);
    let written = file_system.write_atomically(&path, b"");
    written.map_err(StorageError::io("write", &path))
}

fn forget_complete(file_system: &FileSystem, folder: &Path) -> Result<(), StorageError> {
    let path = folder.join(COMPLETE_FILE);
    file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
    file_system.sync_folder(folder).map_err(StorageError::io("flush", folder))
}

fn give_name(
    file_system: &FileSystem,
    (from, to): (&Path, &Path),
    dir: &Path,
) -> Result<(), StorageError> {
    let renamed = file_system.rename(from, to).and_then(|()| file_system.sync_folder(dir));
    renamed.map_err(StorageError::io("rename", from))
}

/// Finishes what a crash interrupted after a copy had become what counts: takes the log of before
/// away and gives the copy its name. Before any log is opened.
///
/// # Errors
/// If a disk fails.
pub(super) fn finish_all(
    file_system: &FileSystem,
    dirs: &[Arc<LogDir>],
) -> Result<(), StorageError> {
    for dir in dirs {
        let entries = file_system.list(dir.path());
        for entry in entries.map_err(StorageError::io("list", dir.path()))? {
            let folder = dir.path().join(&entry.name);
            let Some(topic_partition) =
                parse_future(&entry.name).or_else(|| parse_folder(&entry.name))
            else {
                continue;
            };
            if entry.is_folder && file_system.exists(&folder.join(COMPLETE_FILE)) {
                info!(log = %topic_partition, "finishing the move to another directory");
                let others = dirs.iter().filter(|other| other.path() != dir.path());
                finish(file_system, (dir, &folder), (others, &topic_partition.to_string()))?;
            }
        }
    }
    Ok(())
}

fn finish<'a>(
    file_system: &FileSystem,
    (dir, folder): (&Arc<LogDir>, &Path),
    (others, name): (impl Iterator<Item = &'a Arc<LogDir>>, &str),
) -> Result<(), StorageError> {
    for other in others {
        let before = other.path().join(name);
        if file_system.exists(&before) {
            let doomed = unique_folder(other.path(), name, DELETE_SUFFIX)?;
            give_name(file_system, (&before, &doomed), other.path())?;
        }
    }
    let place = dir.path().join(name);
    if folder != place {
        give_name(file_system, (folder, &place), dir.path())?;
    }
    forget_complete(file_system, &place)
}
