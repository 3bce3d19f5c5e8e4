//! Opens a log directory and, on several threads, all logs in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_common::types::{TopicPartition, Uuid};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use super::error::StorageError;
use super::log::Log;
use super::log_dirs::LogDir;
use super::log_manager::{DELETE_SUFFIX, FOLDER_ID_SIZE, LogManagerConfig, STRAY_SUFFIX, fail_dir};
use super::movements::FUTURE_SUFFIX;
use super::recovery::OpenOptions;

/// What was found in a directory.
pub(super) struct LoadedDir {
    pub dir: Arc<LogDir>,
    pub was_clean: bool,
    /// All its logs are known, even if not all of them are opened.
    pub is_complete: bool,
    pub logs: Vec<Log>,
    /// Copies that were to replace logs.
    pub futures: Vec<Log>,
    /// Logs that cannot be opened, and why.
    pub damaged: BTreeMap<TopicPartition, String>,
    pub stray: Vec<PathBuf>,
    pub deleted: Vec<PathBuf>,
}

/// Locks a directory, checks whose it is, and gives it an id if it has none.
pub(super) fn open_dir(
    config: &LogManagerConfig,
    path: &Path,
) -> Result<Arc<LogDir>, StorageError> {
    let dir = LogDir::open(&config.file_system, path)?;
    let mut properties = dir.properties();
    properties.check(path, config.broker_id, config.cluster_id)?;
    properties.broker_id = Some(config.broker_id);
    if let Some(cluster_id) = config.cluster_id {
        properties.cluster_id = Some(cluster_id.to_string());
    }
    if properties.directory_id.is_none() {
        let random = Uuid::random().map_err(|error| std::io::Error::other(error.to_string()));
        properties.directory_id = Some(random.map_err(StorageError::io("name", path))?);
    }
    dir.set_properties(properties)?;
    Ok(Arc::new(dir))
}

/// The partition that a folder's name is of.
pub(super) fn parse_folder(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let is_number = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    if topic.is_empty() || !is_number {
        return None;
    }
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

/// The partition that a folder with the copy of a log is of.
pub(super) fn parse_future(name: &str) -> Option<TopicPartition> {
    let (partition, id) = name.strip_suffix(FUTURE_SUFFIX)?.rsplit_once('.')?;
    let is_id = id.len() == FOLDER_ID_SIZE && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { parse_folder(partition) } else { None }
}

/// Opens all logs of a directory. If its disk fails meanwhile it is offline, with no logs.
pub(super) fn load(config: &LogManagerConfig, dir: Arc<LogDir>, now_ms: i64) -> LoadedDir {
    let mut loaded = LoadedDir {
        dir: dir.clone(),
        was_clean: false,
        is_complete: true,
        logs: Vec::new(),
        futures: Vec::new(),
        damaged: BTreeMap::new(),
        stray: Vec::new(),
        deleted: Vec::new(),
    };
    if let Err(error) = load_logs(config, &mut loaded, now_ms) {
        error!(directory = %dir.path().display(), %error, "could not open the logs of a directory");
        dir.fail(&error);
        loaded.was_clean = false;
        loaded.is_complete = false;
    }
    loaded
}

fn load_logs(
    config: &LogManagerConfig,
    loaded: &mut LoadedDir,
    now_ms: i64,
) -> Result<(), StorageError> {
    let dir = loaded.dir.clone();
    loaded.was_clean = dir.take_clean_shutdown()?;
    let checkpoints = dir.load_checkpoints()?;
    let (mut found, mut futures) = (Vec::new(), Vec::new());
    let entries = config.file_system.list(dir.path());
    for entry in entries.map_err(StorageError::io("list", dir.path()))? {
        let path = dir.path().join(&entry.name);
        if !entry.is_folder {
            continue;
        } else if entry.name.ends_with(DELETE_SUFFIX) {
            loaded.deleted.push(path);
        } else if entry.name.ends_with(STRAY_SUFFIX) {
            loaded.stray.push(path);
        } else if let Some(topic_partition) = parse_future(&entry.name) {
            futures.push((topic_partition, path));
        } else if let Some(topic_partition) = parse_folder(&entry.name) {
            found.push(topic_partition);
        } else if entry.name != "lost+found" {
            warn!(folder = %path.display(), "this is not the folder of a log, leaving it alone");
        }
    }
    if !loaded.was_clean && !found.is_empty() {
        info!(directory = %dir.path().display(), logs = found.len(), "recovering after a crash");
    }
    let was_clean = loaded.was_clean;
    let options = |topic_partition: &TopicPartition| OpenOptions {
        was_clean,
        ..OpenOptions::of(&checkpoints, topic_partition, now_ms)
    };
    for (topic_partition, folder) in futures {
        let options = options(&topic_partition);
        load_future(config, loaded, (topic_partition, folder), options);
    }
    let results = Mutex::new(Vec::with_capacity(found.len()));
    let threads = config.recovery_threads_per_dir.clamp(1, found.len().max(1));
    let waiting = Mutex::new(found);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(topic_partition) = next(&waiting) {
                    let options = options(&topic_partition);
                    let default_config = config.default_config.clone();
                    let log = Log::open(&dir, topic_partition.clone(), default_config, options);
                    results.lock().push((topic_partition, log));
                }
            });
        }
    });
    for (topic_partition, log) in results.into_inner() {
        if log.is_err() {
            dir.note_unclean();
        }
        match log {
            Ok(log) => loaded.logs.push(log),
            Err(error @ StorageError::Corrupt { .. }) => {
                error!(log = %topic_partition, %error, "the log is damaged and not served");
                loaded.damaged.insert(topic_partition, error.to_string());
            }
            Err(error) => {
                error!(log = %topic_partition, %error, "could not open the log");
                fail_dir(&dir, &error);
                loaded.damaged.insert(topic_partition, error.to_string());
            }
        }
    }
    Ok(())
}

/// A replica that moves to this directory.
fn load_future(
    config: &LogManagerConfig,
    loaded: &mut LoadedDir,
    (topic_partition, folder): (TopicPartition, PathBuf),
    options: OpenOptions,
) {
    let named = (topic_partition, folder.clone());
    match Log::open_in(&loaded.dir, named, config.default_config.clone(), options) {
        Ok(log) => loaded.futures.push(log),
        Err(error) => {
            // It is a copy, which can be made again.
            warn!(folder = %folder.display(), %error, "dropping an unfinished copy of a log");
            fail_dir(&loaded.dir, &error);
            loaded.deleted.push(folder);
        }
    }
}

/// A thread must not hold the lock while it works on what it took.
fn next(waiting: &Mutex<Vec<TopicPartition>>) -> Option<TopicPartition> {
    waiting.lock().pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_logs_are_told_from_others() {
        assert_eq!(parse_folder("a.b-c-12"), Some(TopicPartition::new("a.b-c", 12)));
        assert_eq!(
            parse_folder("__consumer_offsets-0"),
            Some(TopicPartition::new("__consumer_offsets", 0))
        );
        for other in ["lost+found", "a", "a-", "-1", "a-b", "a-+1", "a-99999999999"] {
            assert_eq!(parse_folder(other), None, "{other}");
        }
    }
}
