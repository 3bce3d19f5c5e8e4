//! Topic configs: all of Kafka, and our own.

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Topic configs of Kafka.
    pub const TOPIC: Kafka;

    List "cleanup.policy" = "delete", ListOf(&["compact", "delete"]), ClusterWide:
        "What happens to old segments: delete them, compact them, or both.";
    Int "compression.gzip.level" = "-1", GzipLevel, ClusterWide:
        "Level used where the broker itself compresses with gzip, -1 for the codec's default.";
    Int "compression.lz4.level" = "9", Between(1, 17), ClusterWide:
        "Level used where the broker itself compresses with lz4.";
    String "compression.type" = "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide:
        "Codec in which batches are stored; producer keeps what the producer chose.";
    Int "compression.zstd.level" = "3", Between(-131_072, 22), ClusterWide:
        "Level used where the broker itself compresses with zstd.";
    Long "delete.retention.ms" = "86400000", AtLeast(0), ClusterWide:
        "Time for which tombstones are kept after they were compacted.";
    Boolean "errors.deadletterqueue.group.enable" = "false", Any, ClusterWide:
        "Whether share groups may write what they cannot deliver to this topic.";
    Long "file.delete.delay.ms" = "60000", AtLeast(0), ClusterWide:
        "Time between marking a file as deleted and deleting it.";
    Long "flush.messages" = "9223372036854775807", AtLeast(1), ClusterWide:
        "Records after which the log is flushed to disk, whatever producers asked for.";
    Long "flush.ms" = "9223372036854775807", AtLeast(0), ClusterWide:
        "Time after which a record is flushed to disk, whatever producers asked for.";
    List "follower.replication.throttled.replicas" = "", ThrottledReplicas, ClusterWide:
        "Replicas whose followers are throttled, partition:broker each; * means all.";
    Int "index.interval.bytes" = "4096", AtLeast(0), ClusterWide:
        "Bytes of the log between two entries of its offset index.";
    List "leader.replication.throttled.replicas" = "", ThrottledReplicas, ClusterWide:
        "Replicas whose leaders are throttled, partition:broker each; * means all.";
    Long "local.retention.bytes" = "-2", AtLeast(-2), ClusterWide:
        "Bytes of a tiered partition that are kept locally; -2 follows retention.bytes.";
    Long "local.retention.ms" = "-2", AtLeast(-2), ClusterWide:
        "Time for which tiered segments are kept locally; -2 follows retention.ms.";
    Long "max.compaction.lag.ms" = "9223372036854775807", AtLeast(1), ClusterWide:
        "A record is not left uncompacted for longer than this.";
    Int "max.decompressed.message.bytes" = "2147483639", Between(1, 2_147_483_639), ClusterWide:
        "Largest size of one record after decompression.";
    Int "max.message.bytes" = "1048588", AtLeast(0), ClusterWide:
        "Largest record batch that is accepted, as it comes over the wire.";
    Long "message.timestamp.after.max.ms" = "3600000", AtLeast(0), ClusterWide:
        "How far a record's timestamp may be ahead of the broker's clock.";
    Long "message.timestamp.before.max.ms" = "9223372036854775807", AtLeast(0), ClusterWide:
        "How far a record's timestamp may be behind the broker's clock.";
    String "message.timestamp.type" = "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide:
        "Whether a record bears its creation time or the time of its append.";
    Double "min.cleanable.dirty.ratio" = "0.5", Fraction(1.0), ClusterWide:
        "Share of the log that must be dirty before it is cleaned.";
    Long "min.compaction.lag.ms" = "0", AtLeast(0), ClusterWide:
        "A record is left uncompacted for at least this long.";
    Int "min.insync.replicas" = "1", AtLeast(1), ClusterWide:
        "Replicas that must have a record before acks=all is answered; fewer in sync refuse it.";
    Boolean "preallocate" = "false", Any, ClusterWide:
        "Whether a new segment's file is given its full size at once.";
    Long "remote.copy.lag.bytes" = "-1", AtLeast(-1), ClusterWide:
        "Bytes by which a segment must lie behind before it is copied to tiered storage.";
    Long "remote.copy.lag.ms" = "0", AtLeast(-1), ClusterWide:
        "Age that a segment must have before it is copied to tiered storage.";
    Boolean "remote.log.copy.disable" = "false", Any, ClusterWide:
        "Whether copying to tiered storage stops; what was copied stays readable.";
    Boolean "remote.log.delete.on.disable" = "false", Any, ClusterWide:
        "Whether tiered data is deleted when tiered storage is switched off.";
    Boolean "remote.storage.enable" = "false", Any, ClusterWide:
        "Whether segments are moved to tiered storage; Ottla has none.";
    Long "retention.bytes" = "-1", Any, ClusterWide:
        "Largest size of a partition before its oldest segments are deleted; -1 means no limit.";
    Long "retention.ms" = "604800000", AtLeast(-1), ClusterWide:
        "Time for which records are kept; -1 means for ever.";
    Int "segment.bytes" = "1073741824", AtLeast(1_048_576), ClusterWide:
        "Size at which a new segment begins.";
    Int "segment.index.bytes" = "10485760", AtLeast(4), ClusterWide:
        "Largest size of an offset index; a full index rolls the segment.";
    Long "segment.jitter.ms" = "0", AtLeast(0), ClusterWide:
        "Random time taken off the time of a roll, so that not all logs roll at once.";
    Long "segment.ms" = "604800000", AtLeast(1), ClusterWide:
        "Time after which a new segment begins, even if the old is not full.";
    Boolean "unclean.leader.election.enable" = "false", Any, ClusterWide:
        "Whether a replica that is not in sync may lead as a last resort; records may be lost.";
}

config_keys! {
    /// Topic configs that Kafka knows but lists only where they are set.
    pub const TOPIC_INTERNAL: KafkaInternal;

    Int "internal.segment.bytes" = null, Any, ClusterWide:
        "Size at which a new segment begins, without the usual minimum; for tests.";
}

config_keys! {
    /// Topic configs that Kafka does not have.
    pub const TOPIC_OWN: Ottla;

    String "acks.all.durability" = "disk", OneOf(&["disk", "page-cache"]), ClusterWide:
        "When acks=all is answered: disk, on every in-sync replica, or page-cache, as Kafka does.";
}
