//! The topic configs that storage acts on, decoded, with Kafka's defaults. Parsing and precedence
//! are `config/`'s business.

use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::record_batch::TimestampType;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// `compression.type` of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetCompression {
    /// Keep what the producer sent.
    #[default]
    Producer,
    /// Recompress all batches so (`uncompressed` is [`Compression::None`]).
    Fixed(Compression),
}

/// How one log is kept. Field names are Kafka's topic configs.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// A segment file grows no larger than this. At most `i32::MAX`.
    pub segment_bytes: u32,
    /// A segment is closed when records this much newer than its first arrive.
    pub segment_ms: i64,
    /// Up to this much less, so that not all partitions roll at once.
    pub segment_jitter_ms: i64,
    /// A segment's offset index grows no larger than this.
    pub segment_index_bytes: u32,
    /// An index entry is made about every so many bytes.
    pub index_interval_bytes: u32,
    /// Closed segments whose newest record is older are deleted; -1 for never.
    pub retention_ms: i64,
    /// Oldest segments are deleted while what stays is at least this large; -1 for never.
    pub retention_bytes: i64,
    /// Whether `cleanup.policy` has `delete`.
    pub cleanup_delete: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub cleanup_compact: bool,
    /// The share of a log that must be dirty before it is compacted.
    pub min_cleanable_dirty_ratio: f64,
    /// Records younger than this are not compacted.
    pub min_compaction_lag_ms: i64,
    /// Records older than this are compacted, however small the dirty part is.
    pub max_compaction_lag_ms: i64,
    /// Tombstones and markers stay for so long after they were first compacted.
    pub delete_retention_ms: i64,
    /// The largest batch, header included.
    pub max_message_bytes: u32,
    /// Whose clock the timestamps are of.
    pub message_timestamp_type: TimestampType,
    /// How far a producer's timestamp may lie behind the broker's clock.
    pub message_timestamp_before_max_ms: i64,
    /// How far a producer's timestamp may lie ahead of the broker's clock.
    pub message_timestamp_after_max_ms: i64,
    /// The codec of stored batches.
    pub compression_type: TargetCompression,
    /// `compression.gzip.level`; -1 is the codec's default.
    pub compression_gzip_level: i32,
    /// `compression.lz4.level`.
    pub compression_lz4_level: i32,
    /// `compression.zstd.level`.
    pub compression_zstd_level: i32,
    /// A flush is asked for when so many records are not on disk.
    pub flush_messages: i64,
    /// A flush is asked for when so much time has passed since the last one.
    pub flush_ms: i64,
    /// Deleted segments stay renamed for so long, for readers that still use them.
    pub file_delete_delay_ms: i64,
    /// Whether disk space for a whole segment is reserved when it is created.
    pub preallocate: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            cleanup_delete: true,
            cleanup_compact: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: DAY_MS,
            max_message_bytes: 1_048_588,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: 60 * 60 * 1000,
            compression_type: TargetCompression::Producer,
            compression_gzip_level: -1,
            compression_lz4_level: 9,
            compression_zstd_level: 3,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
            preallocate: false,
        }
    }
}

impl LogConfig {
    /// When a segment is closed: after `segment.ms`, and early enough for `max.compaction.lag.ms`,
    /// since only closed segments are compacted.
    pub fn segment_age_max_ms(&self) -> i64 {
        match self.cleanup_compact && self.max_compaction_lag_ms > 0 {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        }
    }
}
