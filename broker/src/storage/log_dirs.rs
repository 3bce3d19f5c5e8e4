//! The folders that logs lie in, each failing for itself.
//!
//! A directory is locked while a broker uses it (`.lock`), knows whose it is (`meta.properties`),
//! and says whether it was closed cleanly (`.kafka_cleanshutdown`). After a failure of its disk
//! nothing in it is read or written any more: what a failed `fdatasync` left behind is unknown.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_common::types::{TopicPartition, Uuid};
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use tracing::{error, warn};

use super::checkpoints::{
    CLEANER_FILE, Content, HIGH_WATERMARK_FILE, LOG_START_FILE, Offsets, RECOVERY_POINT_FILE,
    read_offsets, write_offsets,
};
use super::error::StorageError;
use super::files::{DataFile, FileSystem};
use super::meta_properties::MetaProperties;

const LOCK_FILE: &str = ".lock";
const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";

/// What the checkpoint files of a directory say, as last read or written.
#[derive(Clone, Debug, Default)]
pub struct DirCheckpoints {
    /// Everything before is on disk, and so are its indexes.
    pub recovery_points: Offsets,
    /// High watermarks.
    pub high_watermarks: Offsets,
    /// Log start offsets that are not the base offset of the first segment.
    pub log_start_offsets: Offsets,
    /// Everything before was compacted.
    pub cleaner_offsets: Offsets,
    /// The file of recovery points was there and whole, so that a log that is not in it has none.
    pub has_recovery_points: bool,
}

/// Called once when the directory goes offline, on a thread of its own.
type FailureHook = Box<dyn Fn() + Send + Sync>;

/// One of `log.dirs`.
pub struct LogDir {
    path: PathBuf,
    file_system: FileSystem,
    properties: Mutex<MetaProperties>,
    offline: AtomicBool,
    offline_reason: Mutex<Option<String>>,
    on_failure: OnceLock<FailureHook>,
    checkpoints: Mutex<DirCheckpoints>,
    /// A log in it was not opened, or not closed, and needs recovery at the next start.
    has_unclean: AtomicBool,
    /// Held for as long as the directory is used.
    lock: Mutex<Option<DataFile>>,
}

impl LogDir {
    /// Makes the directory if need be and locks it.
    ///
    /// # Errors
    /// If another process has it, or the disk fails.
    pub fn open(file_system: &FileSystem, path: &Path) -> Result<Self, StorageError> {
        file_system.create_folder(path).map_err(StorageError::io("create", path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = file_system.open(&lock_path).map_err(StorageError::io("open", &lock_path))?;
        // The one keeps out another broker of ours, in this process too; the other keeps out Kafka.
        let locked = rustix::fs::flock(lock.handle(), FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| {
                let operation = FlockOperation::NonBlockingLockExclusive;
                rustix::fs::fcntl_lock(lock.handle(), operation)
            });
        if locked.is_err() {
            return Err(StorageError::Locked { path: path.to_owned() });
        }
        let properties = MetaProperties::read(file_system, path)?.unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            file_system: file_system.clone(),
            properties: Mutex::new(properties),
            offline: AtomicBool::new(false),
            offline_reason: Mutex::new(None),
            on_failure: OnceLock::new(),
            checkpoints: Mutex::default(),
            has_unclean: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How its files are reached.
    pub fn file_system(&self) -> &FileSystem {
        &self.file_system
    }

    /// `directory.id` of its `meta.properties`.
    pub fn id(&self) -> Uuid {
        self.properties.lock().directory_id.unwrap_or(Uuid::ZERO)
    }

    /// Its `meta.properties`.
    pub fn properties(&self) -> MetaProperties {
        self.properties.lock().clone()
    }

    /// Replaces its `meta.properties`, if that changes anything.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn set_properties(&self, properties: MetaProperties) -> Result<(), StorageError> {
        let mut current = self.properties.lock();
        if *current != properties || !self.path.join(super::meta_properties::FILE).exists() {
            properties.write(&self.file_system, &self.path)?;
            *current = properties;
        }
        Ok(())
    }

    /// Why the directory is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        self.offline_reason.lock().clone()
    }

    /// Whether it may be used.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_online(&self) -> Result<(), StorageError> {
        if !self.offline.load(Ordering::Acquire) {
            return Ok(());
        }
        let reason = self.offline_reason().unwrap_or_default();
        Err(StorageError::DirectoryOffline { path: self.path.clone(), reason })
    }

    /// Sets what happens when the directory fails.
    pub fn on_failure(&self, hook: FailureHook) {
        let _ = self.on_failure.set(hook);
    }

    /// Takes the directory offline for good.
    pub fn fail(self: &std::sync::Arc<Self>, cause: &StorageError) {
        {
            let mut reason = self.offline_reason.lock();
            if reason.is_some() {
                return;
            }
            *reason = Some(cause.to_string());
        }
        self.offline.store(true, Ordering::Release);
        error!(directory = %self.path.display(), %cause, "log directory failed and is offline");
        // Whoever noticed may hold a log's lock, so the news travels on its own.
        let dir = self.clone();
        let spawned =
            std::thread::Builder::new().name("log-dir-failure".to_owned()).spawn(move || {
                if let Some(hook) = dir.on_failure.get() {
                    hook();
                }
            });
        if let Err(error) = spawned {
            error!(%error, "could not tell of the failed log directory");
        }
    }

    /// Total and usable bytes of the volume.
    pub fn volume_bytes(&self) -> Option<(u64, u64)> {
        self.file_system.volume_bytes(&self.path).ok()
    }

    /// Whether the last run ended cleanly, with the broker epoch it had. The mark is removed: from
    /// here on only a clean stop makes it again.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn take_clean_shutdown(&self) -> Result<bool, StorageError> {
        let path = self.path.join(CLEAN_SHUTDOWN_FILE);
        let was_clean = self.file_system.exists(&path);
        if was_clean {
            self.file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
            let synced = self.file_system.sync_folder(&self.path);
            synced.map_err(StorageError::io("flush", &self.path))?;
        }
        Ok(was_clean)
    }

    /// A log in it could not be opened or closed: whatever becomes of the others, the directory is
    /// not marked as cleanly closed, since the next start would take that log as it is.
    pub fn note_unclean(&self) {
        self.has_unclean.store(true, Ordering::Release);
    }

    /// Marks the directory as cleanly closed, if all logs in it were.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write_clean_shutdown(&self, broker_epoch: i64) -> Result<(), StorageError> {
        if self.has_unclean.load(Ordering::Acquire) {
            warn!(directory = %self.path.display(), "not all of its logs were closed cleanly");
            return Ok(());
        }
        let path = self.path.join(CLEAN_SHUTDOWN_FILE);
        let content = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        let written = self.file_system.write_atomically(&path, content.as_bytes());
        written.map_err(StorageError::io("write", &path))
    }

    /// Lets another broker have the directory, though somebody here may still hold on to its logs.
    pub fn unlock(&self) {
        *self.lock.lock() = None;
    }

    /// Reads the checkpoints. One that is damaged counts as missing: recovery then reads all logs
    /// whole, high watermarks begin at the log start, and log start offsets at the first segment.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn load_checkpoints(&self) -> Result<DirCheckpoints, StorageError> {
        let load = |name: &str| -> Result<(Offsets, bool), StorageError> {
            let path = self.path.join(name);
            match read_offsets(&self.file_system, &path)? {
                Content::Found(offsets) => Ok((offsets, true)),
                Content::Missing => Ok((Offsets::new(), false)),
                Content::Damaged(what) => {
                    warn!(file = %path.display(), %what, "checkpoint is damaged, going without");
                    Ok((Offsets::new(), false))
                }
            }
        };
        let (recovery_points, has_recovery_points) = load(RECOVERY_POINT_FILE)?;
        let loaded = DirCheckpoints {
            recovery_points,
            high_watermarks: load(HIGH_WATERMARK_FILE)?.0,
            log_start_offsets: load(LOG_START_FILE)?.0,
            cleaner_offsets: load(CLEANER_FILE)?.0,
            has_recovery_points,
        };
        *self.checkpoints.lock() = loaded.clone();
        Ok(loaded)
    }

    fn write_checkpoint(&self, name: &str, offsets: &Offsets) -> Result<(), StorageError> {
        write_offsets(&self.file_system, &self.path.join(name), offsets)
    }

    /// The checkpoints as they are on disk.
    pub fn checkpoints(&self) -> DirCheckpoints {
        self.checkpoints.lock().clone()
    }

    /// Changes the checkpoints, writing the files that change. Nobody else changes them meanwhile,
    /// so what `change` sees of a log is not outdated by one who cuts or deletes it: they change
    /// the log first and its checkpoints then.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn update_checkpoints(
        &self,
        change: impl FnOnce(&mut DirCheckpoints),
    ) -> Result<(), StorageError> {
        let mut current = self.checkpoints.lock();
        let mut new = current.clone();
        change(&mut new);
        new.has_recovery_points = true;
        if current.log_start_offsets != new.log_start_offsets {
            self.write_checkpoint(LOG_START_FILE, &new.log_start_offsets)?;
        }
        if current.high_watermarks != new.high_watermarks {
            self.write_checkpoint(HIGH_WATERMARK_FILE, &new.high_watermarks)?;
        }
        if current.cleaner_offsets != new.cleaner_offsets {
            self.write_checkpoint(CLEANER_FILE, &new.cleaner_offsets)?;
        }
        if current.recovery_points != new.recovery_points || !current.has_recovery_points {
            self.write_checkpoint(RECOVERY_POINT_FILE, &new.recovery_points)?;
        }
        *current = new;
        Ok(())
    }

    /// Up to where a log was compacted, if it ever was.
    pub fn cleaner_offset(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.checkpoints.lock().cleaner_offsets.get(topic_partition).copied()
    }

    /// Before a log is cut at `offset`: the recovery point on disk must not promise more, or bytes
    /// written there next would go unchecked after a crash. They are not compacted either.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn lower_recovery_point(
        &self,
        topic_partition: &TopicPartition,
        offset: i64,
    ) -> Result<(), StorageError> {
        let mut current = self.checkpoints.lock();
        if let Some(cleaned) = current.cleaner_offsets.get_mut(topic_partition)
            && *cleaned > offset
        {
            *cleaned = offset;
            self.write_checkpoint(CLEANER_FILE, &current.cleaner_offsets)?;
        }
        match current.recovery_points.get_mut(topic_partition) {
            Some(recovery_point) if *recovery_point > offset => *recovery_point = offset,
            _ => return Ok(()),
        }
        self.write_checkpoint(RECOVERY_POINT_FILE, &current.recovery_points)
    }

    /// When records were deleted up to `offset`: so it stays.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn set_log_start_offset(
        &self,
        topic_partition: &TopicPartition,
        offset: i64,
    ) -> Result<(), StorageError> {
        let mut current = self.checkpoints.lock();
        current.log_start_offsets.insert(topic_partition.clone(), offset);
        self.write_checkpoint(LOG_START_FILE, &current.log_start_offsets)
    }

    /// When a log is gone: no later log of the name inherits its offsets.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn forget(&self, topic_partition: &TopicPartition) -> Result<(), StorageError> {
        self.update_checkpoints(|checkpoints| {
            checkpoints.recovery_points.remove(topic_partition);
            checkpoints.high_watermarks.remove(topic_partition);
            checkpoints.log_start_offsets.remove(topic_partition);
            checkpoints.cleaner_offsets.remove(topic_partition);
        })
    }
}

impl std::fmt::Debug for LogDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDir").field("path", &self.path).finish_non_exhaustive()
    }
}
