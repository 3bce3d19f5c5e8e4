//! Broker configs of Kafka: topics, their logs and their replicas.

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Configs of topics, logs and replication.
    pub const LOG: Kafka;

    Class "alter.config.policy.class.name" = null, Any, ReadOnly:
        "Java class that may refuse config changes; Ottla loads no Java classes.";
    Int "alter.log.dirs.replication.quota.window.num" = "11", AtLeast(1), ReadOnly:
        "Sample windows kept to measure the rate of moves between log directories.";
    Int "alter.log.dirs.replication.quota.window.size.seconds" = "1", AtLeast(1), ReadOnly:
        "Length of a sample window for moves between log directories.";
    Boolean "auto.create.topics.enable" = "true", Any, ReadOnly:
        "Whether a topic that a client asks for is created if it does not exist.";
    Boolean "auto.leader.rebalance.enable" = "true", Any, ReadOnly:
        "Whether leadership is given back to the preferred replicas from time to time.";
    Int "compression.gzip.level" = "-1", GzipLevel, ClusterWide:
        "Level used where the broker itself compresses with gzip, -1 for the codec's default.";
    Int "compression.lz4.level" = "9", Between(1, 17), ClusterWide:
        "Level used where the broker itself compresses with lz4.";
    String "compression.type" = "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide:
        "Codec in which batches are stored; producer keeps what the producer chose.";
    Int "compression.zstd.level" = "3", Between(-131_072, 22), ClusterWide:
        "Level used where the broker itself compresses with zstd.";
    List "cordoned.log.dirs" = "", Any, PerBroker:
        "Set to *, no new replicas are placed on the broker; single directories are passed over.";
    Class "create.topic.policy.class.name" = null, Any, ReadOnly:
        "Java class that may refuse new topics; Ottla loads no Java classes.";
    Int "default.replication.factor" = "1", Any, ReadOnly:
        "Replicas of a topic that is created without saying how many.";
    Boolean "delete.topic.enable" = "true", Any, ReadOnly:
        "Whether topics may be deleted.";
    Long "leader.imbalance.check.interval.seconds" = "300", AtLeast(1), ReadOnly:
        "Time between two checks whether preferred replicas lead.";
    Long "log.cleaner.backoff.ms" = "15000", AtLeast(0), ClusterWide:
        "Time the cleaner sleeps when no log needs cleaning.";
    Long "log.cleaner.dedupe.buffer.size" = "134217728", Any, ClusterWide:
        "Memory for the cleaner's map of keys, over all its threads.";
    Long "log.cleaner.delete.retention.ms" = "86400000", AtLeast(0), ClusterWide:
        "Time for which tombstones are kept in compacted logs.";
    Boolean "log.cleaner.enable" = "true", Any, ReadOnly:
        "Whether the cleaner runs; compacted topics grow without it.";
    Double "log.cleaner.io.buffer.load.factor" = "0.9", Any, ClusterWide:
        "How full the cleaner's map of keys may get, from 0 to 1.";
    Int "log.cleaner.io.buffer.size" = "524288", AtLeast(0), ClusterWide:
        "Memory for the cleaner's read and write buffers, over all its threads.";
    Double "log.cleaner.io.max.bytes.per.second" = "1.7976931348623157E308", Any, ClusterWide:
        "Most bytes that the cleaner reads and writes in a second.";
    Long "log.cleaner.max.compaction.lag.ms" = "9223372036854775807", AtLeast(1), ClusterWide:
        "A record is not left uncompacted for longer than this.";
    Double "log.cleaner.min.cleanable.ratio" = "0.5", Fraction(1.0), ClusterWide:
        "Share of a log that must be dirty before it is cleaned.";
    Long "log.cleaner.min.compaction.lag.ms" = "0", AtLeast(0), ClusterWide:
        "A record is left uncompacted for at least this long.";
    Int "log.cleaner.threads" = "1", AtLeast(0), ClusterWide:
        "Threads that clean logs.";
    List "log.cleanup.policy" = "delete", ListOf(&["compact", "delete"]), ClusterWide:
        "What happens to old segments: delete them, compact them, or both.";
    List "log.dir" = "/tmp/kafka-logs", Any, ReadOnly:
        "Directory of the logs, if log.dirs is not set.";
    List "log.dirs" = null, Any, ReadOnly:
        "Directories in which the logs are kept; log.dir if not set.";
    Long "log.flush.interval.messages" = "9223372036854775807", AtLeast(1), ClusterWide:
        "Records after which a log is flushed to disk, whatever producers asked for.";
    Long "log.flush.interval.ms" = null, Any, ClusterWide:
        "Time after which a record is flushed to disk, whatever producers asked for.";
    Int "log.flush.offset.checkpoint.interval.ms" = "60000", AtLeast(0), ReadOnly:
        "Time between writes of the recovery point, behind which a start need not read.";
    Long "log.flush.scheduler.interval.ms" = "9223372036854775807", Any, ReadOnly:
        "Time between two looks at which logs have to be flushed.";
    Int "log.flush.start.offset.checkpoint.interval.ms" = "60000", AtLeast(0), ReadOnly:
        "Time between writes of the logs' start offsets.";
    Int "log.index.interval.bytes" = "4096", AtLeast(0), ClusterWide:
        "Bytes of a log between two entries of its offset index.";
    Int "log.index.size.max.bytes" = "10485760", AtLeast(4), ClusterWide:
        "Largest size of an offset index; a full index rolls the segment.";
    Long "log.message.timestamp.after.max.ms" = "3600000", AtLeast(0), ClusterWide:
        "How far a record's timestamp may be ahead of the broker's clock.";
    Long "log.message.timestamp.before.max.ms" = "9223372036854775807", AtLeast(0), ClusterWide:
        "How far a record's timestamp may be behind the broker's clock.";
    String "log.message.timestamp.type" = "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide:
        "Whether a record bears its creation time or the time of its append.";
    Boolean "log.preallocate" = "false", Any, ClusterWide:
        "Whether a new segment's file is given its full size at once.";
    Long "log.retention.bytes" = "-1", Any, ClusterWide:
        "Largest size of a partition before its oldest segments are deleted; -1 means no limit.";
    Long "log.retention.check.interval.ms" = "300000", AtLeast(1), ReadOnly:
        "Time between two looks for segments that may be deleted.";
    Int "log.retention.hours" = "168", Any, ReadOnly:
        "Hours for which records are kept, if neither minutes nor ms are set.";
    Int "log.retention.minutes" = null, Any, ReadOnly:
        "Minutes for which records are kept, if ms is not set.";
    Long "log.retention.ms" = null, Any, ClusterWide:
        "Time for which records are kept; -1 means for ever.";
    Int "log.roll.hours" = "168", AtLeast(1), ReadOnly:
        "Hours after which a new segment begins, if ms is not set.";
    Int "log.roll.jitter.hours" = "0", AtLeast(0), ReadOnly:
        "Random hours taken off the time of a roll, if ms is not set.";
    Long "log.roll.jitter.ms" = null, Any, ClusterWide:
        "Random time taken off the time of a roll, so that not all logs roll at once.";
    Long "log.roll.ms" = null, Any, ClusterWide:
        "Time after which a new segment begins, even if the old is not full.";
    Int "log.segment.bytes" = "1073741824", AtLeast(1_048_576), ClusterWide:
        "Size at which a new segment begins.";
    Long "log.segment.delete.delay.ms" = "60000", AtLeast(0), ClusterWide:
        "Time between marking a file as deleted and deleting it.";
    Int "max.decompressed.message.bytes" = "2147483639", Between(1, 2_147_483_639), ClusterWide:
        "Largest size of one record after decompression.";
    Int "message.max.bytes" = "1048588", AtLeast(0), ClusterWide:
        "Largest record batch that is accepted, as it comes over the wire.";
    Int "min.insync.replicas" = "1", AtLeast(1), ClusterWide:
        "Replicas that must have a record before acks=all is answered; fewer in sync refuse it.";
    Int "num.partitions" = "1", AtLeast(1), ReadOnly:
        "Partitions of a topic that is created without saying how many.";
    Int "num.recovery.threads.per.data.dir" = "2", AtLeast(1), ClusterWide:
        "Threads per log directory that recover logs at start.";
    Int "num.replica.alter.log.dirs.threads" = null, Any, ReadOnly:
        "Threads that move replicas between log directories.";
    Int "num.replica.fetchers" = "1", AtLeast(1), ClusterWide:
        "Fetchers for each broker that this one follows.";
    Int "replica.fetch.backoff.ms" = "1000", AtLeast(0), ReadOnly:
        "Time a follower waits after a failed fetch.";
    Int "replica.fetch.max.bytes" = "1048576", AtLeast(0), ReadOnly:
        "Bytes that a follower asks for from each partition.";
    Int "replica.fetch.min.bytes" = "1", Any, ReadOnly:
        "Bytes for which a follower's fetch waits.";
    Int "replica.fetch.response.max.bytes" = "10485760", AtLeast(0), ReadOnly:
        "Bytes that a follower asks for in one fetch.";
    Int "replica.fetch.wait.max.ms" = "500", Any, ReadOnly:
        "Longest wait of a follower's fetch.";
    Long "replica.high.watermark.checkpoint.interval.ms" = "5000", Any, ReadOnly:
        "Time between writes of the high watermarks to disk.";
    Long "replica.lag.time.max.ms" = "30000", Any, ReadOnly:
        "A follower that has not caught up for this long leaves the in-sync replicas.";
    String "replica.selector.class" = null, Any, ReadOnly:
        "How the replica that a reader fetches from is chosen; the leader if not set.";
    Int "replica.socket.receive.buffer.bytes" = "65536", Any, ReadOnly:
        "Receive buffer of a follower's sockets.";
    Int "replica.socket.timeout.ms" = "30000", Any, ReadOnly:
        "Time a follower waits for an answer of its leader.";
    Int "replication.quota.window.num" = "11", AtLeast(1), ReadOnly:
        "Sample windows kept to measure throttled replication.";
    Int "replication.quota.window.size.seconds" = "1", AtLeast(1), ReadOnly:
        "Length of a sample window for throttled replication.";
    Boolean "unclean.leader.election.enable" = "false", Any, ClusterWide:
        "Whether a replica that is not in sync may lead as a last resort; records may be lost.";
}
