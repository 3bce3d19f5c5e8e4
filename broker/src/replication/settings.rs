//! How a partition commits and how its log is kept, from its topic's configs.

use crate::config::topic::{AcksAllDurability, CompressionType, TopicConfig};
use crate::storage::log_config::{LogConfig, TargetCompression};

/// What `acks=all` promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The records are on disk on every in-sync replica: they survive a power cut of all of them.
    #[default]
    Disk,
    /// The records are in the page cache of every in-sync replica: Kafka's promise.
    PageCache,
}

/// How one partition commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSettings {
    /// In-sync replicas that there must be: `min.insync.replicas`, at most the replication factor.
    pub min_insync: usize,
    /// `acks.all.durability`.
    pub durability: Durability,
}

impl PartitionSettings {
    /// The settings of a partition with this many replicas.
    pub fn of(config: &TopicConfig, replicas: usize) -> Self {
        let min_insync = usize::try_from(config.min_insync_replicas).unwrap_or(1);
        Self {
            min_insync: min_insync.clamp(1, replicas.max(1)),
            durability: match config.acks_all_durability {
                AcksAllDurability::Disk => Durability::Disk,
                AcksAllDurability::PageCache => Durability::PageCache,
            },
        }
    }
}

/// How the logs of a topic are kept.
pub fn log_config(config: &TopicConfig) -> LogConfig {
    let size = |bytes: i32| u32::try_from(bytes).unwrap_or(0);
    LogConfig {
        segment_bytes: size(config.segment_bytes),
        segment_ms: config.segment_ms,
        segment_jitter_ms: config.segment_jitter_ms,
        segment_index_bytes: size(config.segment_index_bytes),
        index_interval_bytes: size(config.index_interval_bytes),
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        cleanup_delete: config.cleanup_delete,
        cleanup_compact: config.cleanup_compact,
        min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        delete_retention_ms: config.delete_retention_ms,
        max_message_bytes: size(config.max_message_bytes),
        message_timestamp_type: config.message_timestamp_type,
        message_timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        message_timestamp_after_max_ms: config.message_timestamp_after_max_ms,
        compression_type: match config.compression_type {
            CompressionType::Producer => TargetCompression::Producer,
            CompressionType::Fixed(codec) => TargetCompression::Fixed(codec),
        },
        compression_gzip_level: config.compression_gzip_level,
        compression_lz4_level: config.compression_lz4_level,
        compression_zstd_level: config.compression_zstd_level,
        flush_messages: config.flush_messages,
        flush_ms: config.flush_ms,
        file_delete_delay_ms: config.file_delete_delay_ms,
        preallocate: config.preallocate,
    }
}
