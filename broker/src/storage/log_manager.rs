//! All logs of a broker: opened at the start, made, deleted, flushed, checkpointed and closed.
//!
//! A log directory holds a folder `<topic>-<partition>` for each log.
//! `<topic>-<partition>.<id>-delete` was deleted and waits for its removal;
//! `<topic>-<partition>.<id>-stray` belonged to another topic of the same name and is kept until
//! somebody decides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_common::types::{BrokerId, TopicId, TopicPartition, Uuid};
use parking_lot::{Mutex, RwLock};
use tracing::{error, info, warn};

use super::cleaner::CleanerConfig;
use super::cleaner::worker::Cleaner;
use super::error::StorageError;
use super::files::FileSystem;
use super::flusher::Flusher;
use super::flushing::LogCheckpoint;
use super::loading::{self, LoadedDir};
use super::log::Log;
use super::log_config::LogConfig;
use super::log_dirs::{DirCheckpoints, LogDir};
use super::movements;
use super::recovery::OpenOptions;

/// What the folder of a log that is to be removed is called.
pub(super) const DELETE_SUFFIX: &str = "-delete";
/// What the folder of a log that belonged to another topic of the same name is called.
pub(super) const STRAY_SUFFIX: &str = "-stray";
/// Longest name of a folder that file systems take.
pub(super) const FOLDER_NAME_BYTES_MAX: usize = 255;
/// Bytes of what makes a folder's name unique.
pub(super) const FOLDER_ID_SIZE: usize = 32;

/// How to open all logs.
#[derive(Clone, Debug)]
pub struct LogManagerConfig {
    /// `log.dirs`.
    pub dirs: Vec<PathBuf>,
    /// `broker.id`, checked against and written to `meta.properties`.
    pub broker_id: BrokerId,
    /// Likewise, once known.
    pub cluster_id: Option<Uuid>,
    /// Config of logs until [`Log::set_config`].
    pub default_config: Arc<LogConfig>,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads_per_dir: usize,
    /// Flusher threads of each directory.
    pub flush_threads_per_dir: usize,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval_ms: i64,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: i64,
    /// How logs are compacted.
    pub cleaner: CleanerConfig,
    /// How files are reached.
    pub file_system: FileSystem,
}

impl LogManagerConfig {
    /// Kafka's defaults.
    pub fn new(dirs: Vec<PathBuf>, broker_id: BrokerId) -> Self {
        Self {
            dirs,
            broker_id,
            cluster_id: None,
            default_config: Arc::default(),
            recovery_threads_per_dir: 2,
            flush_threads_per_dir: 4,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            producer_id_expiration_check_interval_ms: 10 * 60 * 1000,
            retention_check_interval_ms: 5 * 60 * 1000,
            cleaner: CleanerConfig::default(),
            file_system: FileSystem::real(),
        }
    }
}

/// Called once when a directory fails, on a thread of its own, with the partitions that are gone
/// with it.
pub type FailureListener = Arc<dyn Fn(&Arc<LogDir>, Vec<TopicPartition>) + Send + Sync>;

#[derive(Default)]
pub(super) struct Logs {
    pub(super) online: BTreeMap<TopicPartition, Arc<Log>>,
    /// Copies that are to replace a log; see [`super::movements`].
    pub(super) future: BTreeMap<TopicPartition, Arc<Log>>,
    /// Where logs go that are not there yet, if somebody said so.
    pub(super) preferred: BTreeMap<TopicPartition, PathBuf>,
    /// Logs that could not be opened, and why.
    damaged: BTreeMap<TopicPartition, String>,
    stray: Vec<PathBuf>,
    pub(super) deleted: Vec<DeletedFolder>,
}

/// A folder that waits for its removal.
#[derive(Debug)]
pub(super) struct DeletedFolder {
    pub(super) path: PathBuf,
    /// How long readers may go on with what they have open.
    pub(super) delay_ms: i64,
    /// When it goes; set when it is first looked at.
    pub(super) due_ms: Option<i64>,
}

/// The owner of all logs.
pub struct LogManager {
    pub(super) config: LogManagerConfig,
    dirs: Vec<Arc<LogDir>>,
    pub(super) logs: RwLock<Logs>,
    /// Held while a log is made, deleted, set aside or replaced.
    pub(super) changing: Mutex<()>,
    flusher: Flusher,
    /// `None` once the logs are closed.
    cleaner: Mutex<Option<Cleaner>>,
    producer_id_expiration_ms: AtomicI64,
    listener: RwLock<Option<FailureListener>>,
    was_clean_start: bool,
    /// A directory could not be opened, and nobody knows which logs are in it.
    pub(super) lacks_directory: bool,
    last_retention_ms: AtomicI64,
    last_expiry_ms: AtomicI64,
}

impl LogManager {
    /// Locks the directories, recovers and opens all logs in them.
    ///
    /// # Errors
    /// If no directory can be used, or one belongs to another broker, cluster or process.
    pub fn open(config: LogManagerConfig, now_ms: i64) -> Result<Arc<Self>, StorageError> {
        let mut opened = Vec::new();
        for path in &config.dirs {
            match loading::open_dir(&config, path) {
                Ok(dir) => opened.push(dir),
                // The others go on without it, as they would if it failed later.
                Err(error @ StorageError::Io { .. }) if config.dirs.len() > 1 => {
                    error!(directory = %path.display(), %error, "log directory cannot be used");
                }
                Err(error) => return Err(error),
            }
        }
        movements::finish_all(&config.file_system, &opened)?;
        let load = |dir| loading::load(&config, dir, now_ms);
        let loaded: Vec<LoadedDir> = opened.into_iter().map(load).collect();
        if loaded.is_empty() {
            return Err(StorageError::NoDirectory { what: "any log".to_owned() });
        }
        let dirs: Vec<Arc<LogDir>> = loaded.iter().map(|loaded| loaded.dir.clone()).collect();
        let lacks_directory =
            loaded.len() < config.dirs.len() || loaded.iter().any(|loaded| !loaded.is_complete);
        let was_clean_start = loaded.iter().all(|loaded| loaded.was_clean);
        let logs = join(loaded)?;
        let paths: Vec<PathBuf> = dirs.iter().map(|dir| dir.path().to_owned()).collect();
        let flusher = Flusher::start(&paths, config.flush_threads_per_dir)
            .map_err(StorageError::io("start flusher threads for", Path::new("log.dirs")))?;
        info!(logs = logs.online.len(), damaged = logs.damaged.len(), was_clean_start, "logs open");
        let producer_id_expiration_ms = AtomicI64::new(config.producer_id_expiration_ms);
        let manager = Arc::new(Self {
            config,
            dirs,
            logs: RwLock::new(logs),
            changing: Mutex::new(()),
            flusher,
            cleaner: Mutex::new(None),
            producer_id_expiration_ms,
            listener: RwLock::new(None),
            was_clean_start,
            lacks_directory,
            last_retention_ms: AtomicI64::new(now_ms),
            last_expiry_ms: AtomicI64::new(now_ms),
        });
        for dir in &manager.dirs {
            let (weak, failed) = (Arc::downgrade(&manager), Arc::downgrade(dir));
            dir.on_failure(Box::new(move || {
                if let (Some(manager), Some(dir)) = (weak.upgrade(), failed.upgrade()) {
                    manager.tell_failure(&dir);
                }
            }));
        }
        *manager.cleaner.lock() = Some(manager.start_cleaner(manager.config.cleaner)?);
        // A second crash need not read all of this again.
        manager.checkpoint();
        Ok(manager)
    }

    fn start_cleaner(self: &Arc<Self>, config: CleanerConfig) -> Result<Cleaner, StorageError> {
        let weak = Arc::downgrade(self);
        let logs = move || weak.upgrade().map(|manager| manager.logs()).unwrap_or_default();
        Cleaner::start(config, Box::new(logs))
            .map_err(StorageError::io("start cleaner threads for", Path::new("log.dirs")))
    }

    /// Compacts from now on with this config. A pass that is under way is given up and begun anew.
    ///
    /// # Errors
    /// If the operating system refuses a thread; then nothing is compacted.
    pub fn set_cleaner_config(self: &Arc<Self>, config: CleanerConfig) -> Result<(), StorageError> {
        let mut cleaner = self.cleaner.lock();
        let Some(before) = cleaner.as_ref().filter(|before| before.config() != config) else {
            return Ok(());
        };
        // Two sets of threads could choose the same log.
        before.stop();
        *cleaner = Some(self.start_cleaner(config)?);
        info!(?config, "the log cleaner has another config");
        Ok(())
    }

    /// How many threads compact.
    pub fn cleaner_threads(&self) -> usize {
        self.cleaner.lock().as_ref().map_or(0, |cleaner| cleaner.config().threads)
    }

    /// Remembers producers from now on for this long after they wrote last.
    pub fn set_producer_id_expiration_ms(&self, expiration_ms: i64) {
        self.producer_id_expiration_ms.store(expiration_ms, Ordering::Relaxed);
    }

    /// Whether every directory was closed cleanly by the last run.
    pub fn was_clean_start(&self) -> bool {
        self.was_clean_start
    }

    /// The log of a partition, if it is here and its directory is online.
    pub fn log(&self, topic_partition: &TopicPartition) -> Option<Arc<Log>> {
        let log = self.logs.read().online.get(topic_partition).cloned()?;
        log.dir().check_online().is_ok().then_some(log)
    }

    /// The log of a partition, whatever state its directory is in.
    pub fn any_log(&self, topic_partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().online.get(topic_partition).cloned()
    }

    /// All logs, by topic and partition; those of failed directories too.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.logs.read().online.values().cloned().collect()
    }

    /// Logs that could not be opened, and why. They are kept as they are and not served.
    pub fn damaged(&self) -> BTreeMap<TopicPartition, String> {
        self.logs.read().damaged.clone()
    }

    /// The log of a partition, made if it is not there. A log of the same name with another topic
    /// id is set aside as stray, never deleted.
    ///
    /// # Errors
    /// If the log is damaged, no directory is online, or the disk fails; and if a directory could
    /// not be opened at the start, in which the log might be.
    pub fn get_or_create(
        &self,
        topic_partition: &TopicPartition,
        topic_id: TopicId,
        config: Arc<LogConfig>,
        now_ms: i64,
    ) -> Result<Arc<Log>, StorageError> {
        let _changing = self.changing.lock();
        let existing = self.logs.read().online.get(topic_partition).cloned();
        if let Some(log) = existing {
            log.dir().check_online()?;
            match log.topic_id() {
                Some(id) if id != topic_id => {
                    warn!(log = %topic_partition, %id, "setting aside the log of another topic");
                    self.set_aside(&log)?;
                }
                Some(_) => {
                    log.set_config(config);
                    return Ok(log);
                }
                None => {
                    log.set_topic_id(topic_id)?;
                    log.set_config(config);
                    return Ok(log);
                }
            }
        }
        if let Some(what) = self.logs.read().damaged.get(topic_partition) {
            let path = PathBuf::from(topic_partition.to_string());
            return Err(StorageError::Corrupt { path, what: what.clone() });
        }
        let log = self.create(topic_partition, topic_id, config, now_ms)?;
        let mut logs = self.logs.write();
        logs.stray.retain(|path| path != log.folder());
        logs.preferred.remove(topic_partition);
        logs.online.insert(topic_partition.clone(), log.clone());
        Ok(log)
    }

    fn create(
        &self,
        topic_partition: &TopicPartition,
        topic_id: TopicId,
        config: Arc<LogConfig>,
        now_ms: i64,
    ) -> Result<Arc<Log>, StorageError> {
        let dir = self.choose_dir(topic_partition)?;
        // A copy of a log that is not there is a copy of nothing.
        self.drop_future(topic_partition)?;
        let folder = dir.path().join(topic_partition.to_string());
        if !self.config.file_system.exists(&folder) {
            if self.lacks_directory {
                // Made anew elsewhere, it would be empty, and its records would seem to be lost.
                let what = format!("{topic_partition}: it may be in a directory that is offline");
                return Err(StorageError::NoDirectory { what });
            }
            dir.forget(topic_partition).inspect_err(|error| fail_dir(&dir, error))?;
        }
        // It may be there as a stray one: then it is opened like any log that was not closed.
        let options = OpenOptions::of(&dir.checkpoints(), topic_partition, now_ms);
        let opened = Log::open(&dir, topic_partition.clone(), config.clone(), options);
        let log = opened.inspect_err(|error| fail_dir(&dir, error))?;
        match log.topic_id() {
            Some(id) if id == topic_id => {}
            None => log.set_topic_id(topic_id).inspect_err(|error| fail_dir(&dir, error))?,
            Some(_) => {
                let log = Arc::new(log);
                self.set_aside(&log)?;
                return self.create(topic_partition, topic_id, config, now_ms);
            }
        }
        Ok(Arc::new(log))
    }

    /// Where a new log goes: where its folder is already, else where there are the fewest logs.
    fn choose_dir(&self, topic_partition: &TopicPartition) -> Result<Arc<LogDir>, StorageError> {
        let name = topic_partition.to_string();
        let logs = self.logs.read();
        let preferred = logs.preferred.get(topic_partition);
        let online = self.dirs.iter().filter(|dir| dir.check_online().is_ok());
        let best = online.min_by_key(|dir| {
            let is_there = self.config.file_system.exists(&dir.path().join(&name));
            let count = logs.online.values().filter(|log| log.dir().path() == dir.path()).count();
            (!is_there, preferred.is_none_or(|preferred| preferred != dir.path()), count)
        });
        best.cloned().ok_or(StorageError::NoDirectory { what: name })
    }

    /// Takes the log out of service at once; its files go later, by [`LogManager::housekeeping`].
    /// Returns whether there was one.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn delete(&self, topic_partition: &TopicPartition) -> Result<bool, StorageError> {
        let _changing = self.changing.lock();
        self.drop_future(topic_partition)?;
        let Some(log) = self.logs.write().online.remove(topic_partition) else { return Ok(false) };
        log.withdraw();
        log.dir().check_online()?;
        let renamed = self.rename_folder(&log, DELETE_SUFFIX)?;
        info!(log = %topic_partition, folder = %renamed.display(), "deleted the log");
        let delay_ms = log.config().file_delete_delay_ms;
        self.logs.write().deleted.push(DeletedFolder { path: renamed, delay_ms, due_ms: None });
        Ok(true)
    }

    /// Takes a log out of service whose topic is unknown, and keeps its files where they are.
    /// Returns whether there was one.
    ///
    /// # Errors
    /// None so far.
    pub fn set_stray(&self, topic_partition: &TopicPartition) -> Result<bool, StorageError> {
        let _changing = self.changing.lock();
        self.drop_future(topic_partition)?;
        let mut logs = self.logs.write();
        let Some(log) = logs.online.remove(topic_partition) else { return Ok(false) };
        warn!(log = %topic_partition, "no topic owns this log; it is kept and not served");
        logs.stray.push(log.folder().to_owned());
        drop(logs);
        // Closing it writes its side files, so that opening it again is quick.
        if let Err(error) = log.close() {
            warn!(log = %topic_partition, %error, "did not close a stray log cleanly");
            log.dir().note_unclean();
        }
        Ok(true)
    }

    fn set_aside(&self, log: &Arc<Log>) -> Result<(), StorageError> {
        self.drop_future(log.topic_partition())?;
        self.logs.write().online.remove(log.topic_partition());
        if let Err(error) = log.close() {
            warn!(log = %log.topic_partition(), %error, "did not close a stray log cleanly");
            log.dir().note_unclean();
        }
        let renamed = self.rename_folder(log, STRAY_SUFFIX)?;
        self.logs.write().stray.push(renamed);
        Ok(())
    }

    /// Gives a log's folder a name that no log has, and forgets its checkpoints.
    pub(super) fn rename_folder(&self, log: &Log, suffix: &str) -> Result<PathBuf, StorageError> {
        let dir = log.dir();
        let name = log.topic_partition().to_string();
        let room = FOLDER_NAME_BYTES_MAX - suffix.len() - FOLDER_ID_SIZE - 1;
        let name = name.get(..room).unwrap_or(&name);
        let renamed = unique_folder(dir.path(), name, suffix)?;
        let rename = || {
            self.config.file_system.rename(log.folder(), &renamed)?;
            self.config.file_system.sync_folder(dir.path())
        };
        rename()
            .map_err(StorageError::io("rename", log.folder()))
            .and_then(|()| dir.forget(log.topic_partition()))
            .inspect_err(|error| fail_dir(dir, error))?;
        Ok(renamed)
    }

    /// Logs kept that no topic owns: their folders.
    pub fn stray(&self) -> Vec<PathBuf> {
        self.logs.read().stray.clone()
    }

    /// The directories.
    pub fn dirs(&self) -> &[Arc<LogDir>] {
        &self.dirs
    }

    /// Who brings logs to disk.
    pub fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    /// Sets who is told when a directory fails.
    pub fn on_failure(&self, listener: FailureListener) {
        *self.listener.write() = Some(listener);
    }

    fn tell_failure(&self, dir: &Arc<LogDir>) {
        let in_dir = |log: &&Arc<Log>| log.dir().path() == dir.path();
        // What was copied there is looked at again when the broker starts.
        self.logs.write().future.retain(|_, log| log.dir().path() != dir.path());
        let logs = self.logs();
        let gone = logs.iter().filter(in_dir).map(|log| log.topic_partition().clone()).collect();
        let listener = self.listener.read().clone();
        if let Some(listener) = listener {
            listener(dir, gone);
        }
    }

    /// The broker calls this about every second on a blocking thread: retention at its interval,
    /// removal of deleted files, `flush.ms`, expiry of producers.
    pub fn housekeeping(&self, now_ms: i64) {
        let logs = self.logs();
        let is_due = |last: &AtomicI64, interval_ms: i64| {
            let due = now_ms.saturating_sub(last.load(Ordering::Relaxed)) >= interval_ms;
            if due {
                last.store(now_ms, Ordering::Relaxed);
            }
            due
        };
        let retention = is_due(&self.last_retention_ms, self.config.retention_check_interval_ms);
        let interval_ms = self.config.producer_id_expiration_check_interval_ms;
        let expiry = is_due(&self.last_expiry_ms, interval_ms);
        for log in &logs {
            if retention && let Err(error) = log.delete_old_segments(now_ms) {
                warn!(log = %log.topic_partition(), %error, "retention failed");
            }
            if expiry {
                log.expire_producers(
                    now_ms,
                    self.producer_id_expiration_ms.load(Ordering::Relaxed),
                );
            }
            if log.is_flush_due(now_ms) {
                self.flusher.request(log);
            }
            log.remove_deleted_files(now_ms);
        }
        for log in self.futures() {
            log.remove_deleted_files(now_ms);
        }
        self.remove_deleted_folders(now_ms);
    }

    fn remove_deleted_folders(&self, now_ms: i64) {
        let mut due = Vec::new();
        for folder in &mut self.logs.write().deleted {
            let delay_ms = folder.delay_ms;
            if *folder.due_ms.get_or_insert(now_ms.saturating_add(delay_ms)) <= now_ms {
                due.push(folder.path.clone());
            }
        }
        for path in due {
            match self.config.file_system.remove_folder(&path) {
                Ok(()) => self.logs.write().deleted.retain(|kept| kept.path != path),
                Err(error) => {
                    warn!(folder = %path.display(), %error, "could not remove a deleted log")
                }
            }
        }
    }

    /// Writes recovery points, high watermarks and log start offsets (each minute).
    pub fn checkpoint(&self) {
        let mut prepared = Vec::new();
        for log in self.logs().into_iter().chain(self.futures()) {
            match log.prepare_checkpoint() {
                Ok(checkpoint) => prepared.push((log, checkpoint)),
                Err(error) => warn!(log = %log.topic_partition(), %error, "checkpoint failed"),
            }
        }
        for dir in self.dirs.iter().filter(|dir| dir.check_online().is_ok()) {
            let written = dir.update_checkpoints(|checkpoints| {
                for (log, checkpoint) in &prepared {
                    if log.dir().path() == dir.path() && !log.is_closed() {
                        note(checkpoints, log, *checkpoint);
                    }
                }
            });
            if let Err(error) = written {
                warn!(directory = %dir.path().display(), %error, "checkpoint failed");
                fail_dir(dir, &error);
            }
        }
    }

    /// Records the cluster id in `meta.properties` of all directories.
    ///
    /// # Errors
    /// If a directory belongs to another cluster, or the disk fails.
    pub fn set_cluster_id(&self, cluster_id: Uuid) -> Result<(), StorageError> {
        for dir in self.dirs.iter().filter(|dir| dir.check_online().is_ok()) {
            let mut properties = dir.properties();
            properties.check(dir.path(), self.config.broker_id, Some(cluster_id))?;
            properties.cluster_id = Some(cluster_id.to_string());
            dir.set_properties(properties)?;
        }
        Ok(())
    }

    /// Flushes and closes everything, marks the directories as cleanly closed and unlocks them.
    pub fn close(&self, broker_epoch: i64) {
        let _changing = self.changing.lock();
        if let Some(cleaner) = self.cleaner.lock().take() {
            cleaner.stop();
        }
        self.flusher.stop();
        self.close_logs(broker_epoch);
        for dir in &self.dirs {
            dir.unlock();
        }
    }

    fn close_logs(&self, broker_epoch: i64) {
        for dir in self.dirs.iter().filter(|dir| dir.check_online().is_ok()) {
            let mut closed = Vec::new();
            for log in self.logs().into_iter().chain(self.futures()) {
                if log.dir().path() != dir.path() {
                    continue;
                }
                match log.close() {
                    Ok(checkpoint) => closed.push((log, checkpoint)),
                    Err(error) => {
                        warn!(log = %log.topic_partition(), %error, "did not close cleanly");
                        dir.note_unclean();
                    }
                }
            }
            let written = dir.update_checkpoints(|checkpoints| {
                for (log, checkpoint) in &closed {
                    note(checkpoints, log, *checkpoint);
                }
            });
            let marked = written.and_then(|()| dir.write_clean_shutdown(broker_epoch));
            if let Err(error) = marked {
                warn!(directory = %dir.path().display(), %error, "did not close cleanly");
            }
        }
    }
}

/// The name of a folder that no other has.
pub(super) fn unique_folder(dir: &Path, name: &str, suffix: &str) -> Result<PathBuf, StorageError> {
    let random = Uuid::random().map_err(|error| std::io::Error::other(error.to_string()));
    let id = random.map_err(StorageError::io("name a folder in", dir))?;
    let id: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(dir.join(format!("{name}.{id}{suffix}")))
}

/// Enters a log into its directory's checkpoints; it may have been cut since it was prepared.
pub(super) fn note(checkpoints: &mut DirCheckpoints, log: &Log, checkpoint: LogCheckpoint) {
    let key = log.topic_partition().clone();
    let recovery_point = checkpoint.recovery_point.min(log.offsets().recovery_point);
    checkpoints.recovery_points.insert(key.clone(), recovery_point);
    checkpoints.high_watermarks.insert(key.clone(), log.high_watermark());
    match log.start_within_segment() {
        Some(log_start_offset) => checkpoints.log_start_offsets.insert(key, log_start_offset),
        None => checkpoints.log_start_offsets.remove(&key),
    };
}

/// Takes a directory offline for a failure of its disk, unless it is a shortage that passes.
pub(super) fn fail_dir(dir: &Arc<LogDir>, error: &StorageError) {
    if matches!(error, StorageError::Io { .. }) && !error.is_shortage() {
        dir.fail(error);
    }
}

fn join(loaded: Vec<LoadedDir>) -> Result<Logs, StorageError> {
    let mut logs = Logs::default();
    for dir in loaded {
        for log in dir.logs {
            let key = log.topic_partition().clone();
            if let Some(other) = logs.online.insert(key, Arc::new(log)) {
                let twin = other.topic_partition().to_string();
                return Err(StorageError::WrongDirectory {
                    path: other.folder().to_owned(),
                    what: format!("the log {twin} is in two log directories; move one away"),
                });
            }
        }
        for log in dir.futures {
            // One that was begun twice is begun anew when the partition is opened.
            logs.future.insert(log.topic_partition().clone(), Arc::new(log));
        }
        logs.damaged.extend(dir.damaged);
        logs.stray.extend(dir.stray);
        let left = dir.deleted.into_iter();
        logs.deleted.extend(left.map(|path| DeletedFolder { path, delay_ms: 0, due_ms: None }));
    }
    Ok(logs)
}
