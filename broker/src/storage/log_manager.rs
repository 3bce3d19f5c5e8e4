//! All logs of a broker.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_common::types::{BrokerId, TopicId, TopicPartition, Uuid};

use super::error::StorageError;
use super::flusher::Flusher;
use super::log::Log;
use super::log_config::LogConfig;
use super::log_dirs::LogDir;

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
}

/// Called once when a directory fails, with the partitions that are gone with it.
pub type FailureListener = Arc<dyn Fn(&Arc<LogDir>, Vec<TopicPartition>) + Send + Sync>;

/// The owner of all logs.
pub struct LogManager {
    flusher: Flusher,
}

#[allow(unused_variables, reason = "signatures to code against; bodies follow")]
impl LogManager {
    /// Locks the directories, recovers and opens all logs in them.
    pub fn open(config: LogManagerConfig, now_ms: i64) -> Result<Arc<Self>, StorageError> {
        Ok(Arc::new(Self { flusher: Flusher }))
    }
    /// Whether every directory was closed cleanly by the last run.
    pub fn was_clean_start(&self) -> bool {
        true
    }
    /// The log of a partition, if it is here and its directory is online.
    pub fn log(&self, topic_partition: &TopicPartition) -> Option<Arc<Log>> {
        None
    }
    /// All logs, by topic and partition.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        Vec::new()
    }
    /// The log of a partition, made if it is not there. A log of the same name with another topic id
    /// is set aside as stray, never deleted.
    pub fn get_or_create(
        &self,
        topic_partition: &TopicPartition,
        topic_id: TopicId,
        config: Arc<LogConfig>,
        now_ms: i64,
    ) -> Result<Arc<Log>, StorageError> {
        Err(StorageError::NoDirectory { what: topic_partition.to_string() })
    }
    /// Takes the log out of service at once; its files go later, by [`LogManager::housekeeping`].
    /// Returns whether there was one.
    pub fn delete(&self, topic_partition: &TopicPartition) -> Result<bool, StorageError> {
        Ok(false)
    }
    /// Takes a log out of service whose topic is unknown, and keeps its files.
    pub fn set_stray(&self, topic_partition: &TopicPartition) -> Result<bool, StorageError> {
        Ok(false)
    }
    /// Logs kept that no topic owns: folder names.
    pub fn stray(&self) -> Vec<PathBuf> {
        Vec::new()
    }
    /// The directories.
    pub fn dirs(&self) -> &[Arc<LogDir>] {
        &[]
    }
    /// Who brings logs to disk.
    pub fn flusher(&self) -> &Flusher {
        &self.flusher
    }
    /// Sets who is told when a directory fails.
    pub fn on_failure(&self, listener: FailureListener) {}
    /// The broker calls this about every second on a blocking thread: retention at its interval,
    /// removal of deleted files, `flush.ms`, expiry of producers.
    pub fn housekeeping(&self, now_ms: i64) {}
    /// Writes recovery points, high watermarks and log start offsets (each minute, and at the end).
    pub fn checkpoint(&self) {}
    /// Records the cluster id in `meta.properties` of all directories.
    pub fn set_cluster_id(&self, cluster_id: Uuid) -> Result<(), StorageError> {
        Ok(())
    }
    /// Flushes and closes everything and marks the directories as cleanly closed.
    pub fn close(&self, broker_epoch: i64) {}
}
