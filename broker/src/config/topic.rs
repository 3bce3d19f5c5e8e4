//! The topic configs that take effect, typed.

use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::record_batch::TimestampType;

use super::keys::{self, Value};
use super::{BrokerLayers, Overrides, topic_value};

/// When a produce with `acks=all` is answered (`acks.all.durability`; Kafka has only the second).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcksAllDurability {
    /// When it is on the disks of all in-sync replicas: survives a power cut of all brokers.
    #[default]
    Disk,
    /// When it is in the memory of all in-sync replicas.
    PageCache,
}

/// In which codec batches are stored (`compression.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// In the one that the producer chose.
    #[default]
    Producer,
    /// In this one; batches of another are recompressed. `uncompressed` is [`Compression::None`].
    Fixed(Compression),
}

/// The configs in force of one topic. Fields are named as the keys.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// Whether `cleanup.policy` has `delete`. With neither, records are kept for ever.
    pub cleanup_delete: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub cleanup_compact: bool,
    /// Level for gzip, -1 for its default.
    pub compression_gzip_level: i32,
    /// Level for lz4.
    pub compression_lz4_level: i32,
    /// Level for zstd.
    pub compression_zstd_level: i32,
    /// In which codec batches are stored.
    pub compression_type: CompressionType,
    /// How long tombstones are kept after compaction.
    pub delete_retention_ms: i64,
    /// How long files stay after they were marked as deleted.
    pub file_delete_delay_ms: i64,
    /// Records after which the log is flushed.
    pub flush_messages: i64,
    /// Time after which records are flushed.
    pub flush_ms: i64,
    /// Bytes of log between two index entries.
    pub index_interval_bytes: i32,
    /// Most time that a record is left uncompacted.
    pub max_compaction_lag_ms: i64,
    /// Largest record after decompression, in bytes.
    pub max_decompressed_message_bytes: i32,
    /// Largest batch, in bytes.
    pub max_message_bytes: i32,
    /// How far a timestamp may be ahead of the broker's clock.
    pub message_timestamp_after_max_ms: i64,
    /// How far a timestamp may be behind the broker's clock.
    pub message_timestamp_before_max_ms: i64,
    /// Whose timestamps records bear.
    pub message_timestamp_type: TimestampType,
    /// Share of the log that must be dirty before it is cleaned.
    pub min_cleanable_dirty_ratio: f64,
    /// Least time that a record is left uncompacted.
    pub min_compaction_lag_ms: i64,
    /// Replicas that must be in sync for `acks=all`.
    pub min_insync_replicas: i32,
    /// Whether new segment files are given their full size.
    pub preallocate: bool,
    /// Size of a partition from which its oldest segments go, -1 for never.
    pub retention_bytes: i64,
    /// Age from which segments go, -1 for never.
    pub retention_ms: i64,
    /// Size at which a new segment begins.
    pub segment_bytes: i32,
    /// Largest offset index, in bytes.
    pub segment_index_bytes: i32,
    /// Most time taken off `segment_ms` at random.
    pub segment_jitter_ms: i64,
    /// Age at which a new segment begins.
    pub segment_ms: i64,
    /// Whether a replica that is not in sync may lead.
    pub unclean_leader_election_enable: bool,
    /// When `acks=all` is answered.
    pub acks_all_durability: AcksAllDurability,
}

impl TopicConfig {
    /// The configs of a topic with these settings on a broker with those.
    pub fn effective(topic: &Overrides, layers: &BrokerLayers<'_>) -> Self {
        let read = Read { topic, layers };
        let cleanup = read.list("cleanup.policy");
        // For tests, Kafka lets a key without a minimum overrule segment.bytes.
        let segment_bytes = match topic.contains_key("internal.segment.bytes") {
            true => read.int("internal.segment.bytes"),
            false => read.int("segment.bytes"),
        };
        Self {
            cleanup_delete: cleanup.iter().any(|policy| policy == "delete"),
            cleanup_compact: cleanup.iter().any(|policy| policy == "compact"),
            compression_gzip_level: read.int("compression.gzip.level"),
            compression_lz4_level: read.int("compression.lz4.level"),
            compression_zstd_level: read.int("compression.zstd.level"),
            compression_type: compression_type(&read.text("compression.type")),
            delete_retention_ms: read.long("delete.retention.ms"),
            file_delete_delay_ms: read.long("file.delete.delay.ms"),
            flush_messages: read.long("flush.messages"),
            flush_ms: read.long("flush.ms"),
            index_interval_bytes: read.int("index.interval.bytes"),
            max_compaction_lag_ms: read.long("max.compaction.lag.ms"),
            max_decompressed_message_bytes: read.int("max.decompressed.message.bytes"),
            max_message_bytes: read.int("max.message.bytes"),
            message_timestamp_after_max_ms: read.long("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: read.long("message.timestamp.before.max.ms"),
            message_timestamp_type: match read.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: read.double("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: read.long("min.compaction.lag.ms"),
            min_insync_replicas: read.int("min.insync.replicas"),
            preallocate: read.boolean("preallocate"),
            retention_bytes: read.long("retention.bytes"),
            retention_ms: read.long("retention.ms"),
            segment_bytes,
            segment_index_bytes: read.int("segment.index.bytes"),
            segment_jitter_ms: read.long("segment.jitter.ms"),
            segment_ms: read.long("segment.ms"),
            unclean_leader_election_enable: read.boolean("unclean.leader.election.enable"),
            acks_all_durability: match read.text("acks.all.durability").as_str() {
                "page-cache" => AcksAllDurability::PageCache,
                _ => AcksAllDurability::Disk,
            },
        }
    }
}

/// Kafka's defaults.
impl Default for TopicConfig {
    fn default() -> Self {
        let none = Overrides::new();
        Self::effective(&none, &BrokerLayers { own: &none, all: &none, file: &none })
    }
}

fn compression_type(text: &str) -> CompressionType {
    match text {
        "uncompressed" => CompressionType::Fixed(Compression::None),
        "gzip" => CompressionType::Fixed(Compression::Gzip),
        "snappy" => CompressionType::Fixed(Compression::Snappy),
        "lz4" => CompressionType::Fixed(Compression::Lz4),
        "zstd" => CompressionType::Fixed(Compression::Zstd),
        _ => CompressionType::Producer,
    }
}

/// Reads values whose keys and types are known to be right: a mistake in them is one in this file,
/// and the test of the defaults finds it.
struct Read<'a> {
    topic: &'a Overrides,
    layers: &'a BrokerLayers<'a>,
}

impl Read<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        topic_value(keys::topic_key(name)?, self.topic, self.layers)
    }

    fn long(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Integer(number)) => number,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn int(&self, name: &str) -> i32 {
        let number = self.long(name);
        i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
    }

    fn double(&self, name: &str) -> f64 {
        match self.value(name) {
            Some(Value::Double(number)) => number,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn boolean(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Boolean(value)) => value,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn text(&self, name: &str) -> String {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(list)) => list,
            other => unreachable!("{name} is {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(entries: &[(&str, &str)]) -> TopicConfig {
        let none = Overrides::new();
        let topic = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let layers = BrokerLayers { own: &none, all: &none, file: &none };
        TopicConfig::effective(&topic.collect(), &layers)
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = TopicConfig::default();
        assert!(config.cleanup_delete && !config.cleanup_compact && !config.preallocate);
        assert_eq!(config.compression_type, CompressionType::Producer);
        assert_eq!(config.max_message_bytes, 1_048_588);
        assert_eq!(config.segment_bytes, 1 << 30);
        assert_eq!((config.retention_ms, config.retention_bytes), (604_800_000, -1));
        assert_eq!((config.flush_messages, config.flush_ms), (i64::MAX, i64::MAX));
        assert_eq!(config.message_timestamp_type, TimestampType::CreateTime);
        assert_eq!(config.acks_all_durability, AcksAllDurability::Disk);
        assert_eq!(config.min_insync_replicas, 1);
    }

    #[test]
    fn a_topic_overrides_them() {
        let config = effective(&[
            ("cleanup.policy", "compact"),
            ("compression.type", "uncompressed"),
            ("message.timestamp.type", "LogAppendTime"),
            ("acks.all.durability", "page-cache"),
            ("internal.segment.bytes", "4096"),
        ]);
        assert!(config.cleanup_compact && !config.cleanup_delete);
        assert_eq!(config.compression_type, CompressionType::Fixed(Compression::None));
        assert_eq!(config.message_timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(config.acks_all_durability, AcksAllDurability::PageCache);
        assert_eq!(config.segment_bytes, 4096);
    }
}
