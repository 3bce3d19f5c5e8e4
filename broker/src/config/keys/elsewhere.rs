//! Broker configs of Kafka that have no meaning here: what KRaft, tiered storage and the JVM need.
//! A `server.properties` that has them is read, with a warning, and DescribeConfigs lists them,
//! because tools read, change and write back whole sets.

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Configs without a meaning here.
    pub const ELSEWHERE: KafkaOnly;

    Int "broker.heartbeat.interval.ms" = "2000", Any, ReadOnly:
        "Time between a broker's heartbeats to a KRaft controller.";
    Int "broker.session.timeout.ms" = "9000", Any, ReadOnly:
        "A KRaft broker without heartbeats for this long counts as dead.";
    List "controller.listener.names" = null, Any, ReadOnly:
        "Names of the listeners of KRaft controllers.";
    Int "controller.quorum.append.linger.ms" = "25", AtLeast(0), ReadOnly:
        "Time for which a KRaft controller collects writes before it flushes them.";
    Boolean "controller.quorum.auto.join.enable" = "false", Any, ReadOnly:
        "Whether a new KRaft controller joins the quorum by itself.";
    List "controller.quorum.bootstrap.servers" = "", Any, ReadOnly:
        "Addresses at which the KRaft controllers can be found.";
    Int "controller.quorum.election.backoff.max.ms" = "1000", AtLeast(0), ReadOnly:
        "Longest wait before a KRaft controller stands for election again.";
    Int "controller.quorum.election.timeout.ms" = "1000", AtLeast(0), ReadOnly:
        "Time without votes after which a KRaft election starts again.";
    Int "controller.quorum.fetch.max.bytes" = "1048576", AtLeast(1), ReadOnly:
        "Most bytes in one fetch of the KRaft metadata log.";
    Int "controller.quorum.fetch.snapshot.max.bytes" = "1048576", AtLeast(1), ReadOnly:
        "Most bytes in one fetch of a KRaft metadata snapshot.";
    Int "controller.quorum.fetch.timeout.ms" = "2000", AtLeast(0), ReadOnly:
        "Time without a fetch from its leader after which a KRaft voter stands for election.";
    Int "controller.quorum.request.timeout.ms" = "2000", AtLeast(0), ReadOnly:
        "Time a KRaft node waits for an answer of another.";
    Int "controller.quorum.retry.backoff.ms" = "20", AtLeast(0), ReadOnly:
        "Wait before a KRaft node sends a failed request again.";
    List "controller.quorum.voters" = "", Any, ReadOnly:
        "The fixed set of KRaft voters, id@host:port each.";
    Int "controller.socket.timeout.ms" = "30000", Any, ReadOnly:
        "Time that a connection between controller and broker may take to answer.";
    Int "delete.records.purgatory.purge.interval.requests" = "1", Any, ReadOnly:
        "Finished DeleteRecords requests after which the waiting list is tidied in Kafka.";
    List "early.start.listeners" = null, Any, ReadOnly:
        "Listeners that open before the authorizer is ready.";
    Int "fetch.purgatory.purge.interval.requests" = "1000", Any, ReadOnly:
        "Finished fetch requests after which the waiting list is tidied in Kafka.";
    Boolean "follower.fetch.last.tiered.offset.enable" = "false", Any, ClusterWide:
        "Whether an empty follower starts at the last tiered offset instead of the log's start.";
    Int "initial.broker.registration.timeout.ms" = "60000", Any, ReadOnly:
        "Time that a starting broker tries to register before it gives up.";
    Int "kafka.metrics.polling.interval.secs" = "10", AtLeast(1), ReadOnly:
        "Time between two polls of the legacy metrics reporters.";
    List "kafka.metrics.reporters" = "", Any, ReadOnly:
        "Legacy Java metrics reporters; Ottla loads no Java classes.";
    Long "log.dir.failure.timeout.ms" = "30000", AtLeast(1), ReadOnly:
        "A broker stops if it cannot tell of a failed log directory within this time.";
    Long "log.local.retention.bytes" = "-2", AtLeast(-2), ClusterWide:
        "Bytes of a tiered partition that are kept locally; -2 follows the retention size.";
    Long "log.local.retention.ms" = "-2", AtLeast(-2), ClusterWide:
        "Time for which tiered segments are kept locally; -2 follows the retention time.";
    Long "log.remote.copy.lag.bytes" = "-1", AtLeast(-1), ClusterWide:
        "Bytes by which a segment must lie behind before it is copied to tiered storage.";
    Long "log.remote.copy.lag.ms" = "0", AtLeast(-1), ClusterWide:
        "Age that a segment must have before it is copied to tiered storage.";
    String "metadata.log.dir" = null, Any, ReadOnly:
        "Directory of the KRaft metadata log.";
    Long "metadata.log.max.record.bytes.between.snapshots" = "20971520", AtLeast(1), ReadOnly:
        "Bytes of KRaft metadata after which a snapshot is taken.";
    Long "metadata.log.max.snapshot.interval.ms" = "3600000", AtLeast(0), ReadOnly:
        "Time after which a snapshot of KRaft metadata is taken.";
    Int "metadata.log.segment.bytes" = "1073741824", AtLeast(8_388_608), ReadOnly:
        "Size of the segments of the KRaft metadata log.";
    Long "metadata.log.segment.ms" = "604800000", Any, ReadOnly:
        "Time after which a segment of the KRaft metadata log ends.";
    Int "metadata.max.idle.interval.ms" = "500", AtLeast(0), ReadOnly:
        "Time between empty records in the KRaft metadata log.";
    Long "metadata.max.retention.bytes" = "104857600", Any, ReadOnly:
        "Size up to which old KRaft metadata is kept.";
    Long "metadata.max.retention.ms" = "604800000", Any, ReadOnly:
        "Time for which old KRaft metadata is kept.";
    Int "num.io.threads" = "8", AtLeast(1), ClusterWide:
        "Threads that Kafka uses to handle requests; Ottla's runtime has one per core.";
    Int "num.network.threads" = "3", AtLeast(1), ClusterWide:
        "Threads that Kafka uses for the network; Ottla's runtime has one per core.";
    List "process.roles" = null, ListOf(&["broker", "controller"]), ReadOnly:
        "The roles of a KRaft process; an Ottla broker is always a broker.";
    Int "producer.purgatory.purge.interval.requests" = "1000", Any, ReadOnly:
        "Finished produce requests after which the waiting list is tidied in Kafka.";
    Int "remote.fetch.max.wait.ms" = "500", AtLeast(1), ClusterWide:
        "Time a fetch waits for tiered storage.";
    Long "remote.list.offsets.request.timeout.ms" = "30000", AtLeast(1), ClusterWide:
        "Time that a search for offsets waits for tiered storage.";
    Long "remote.log.index.file.cache.total.size.bytes" = "1073741824", AtLeast(1), ClusterWide:
        "Disk space for indexes fetched from tiered storage.";
    Int "remote.log.manager.copier.thread.pool.size" = "10", AtLeast(1), ClusterWide:
        "Threads that copy segments to tiered storage.";
    Long "remote.log.manager.copy.max.bytes.per.second" = "9223372036854775807",
        AtLeast(1), ClusterWide:
        "Most bytes per second copied to tiered storage.";
    Int "remote.log.manager.copy.quota.window.num" = "11", AtLeast(1), ReadOnly:
        "Sample windows kept to measure copies to tiered storage.";
    Int "remote.log.manager.copy.quota.window.size.seconds" = "1", AtLeast(1), ReadOnly:
        "Length of a sample window for copies to tiered storage.";
    Int "remote.log.manager.expiration.thread.pool.size" = "10", AtLeast(1), ClusterWide:
        "Threads that delete expired segments from tiered storage.";
    Long "remote.log.manager.fetch.max.bytes.per.second" = "9223372036854775807",
        AtLeast(1), ClusterWide:
        "Most bytes per second fetched from tiered storage.";
    Int "remote.log.manager.fetch.quota.window.num" = "11", AtLeast(1), ReadOnly:
        "Sample windows kept to measure fetches from tiered storage.";
    Int "remote.log.manager.fetch.quota.window.size.seconds" = "1", AtLeast(1), ReadOnly:
        "Length of a sample window for fetches from tiered storage.";
    Int "remote.log.manager.follower.thread.pool.size" = "2", AtLeast(1), ClusterWide:
        "Threads that prepare followers of tiered partitions.";
    Long "remote.log.manager.task.interval.ms" = "30000", AtLeast(1), ReadOnly:
        "Time between two runs of the tiered storage tasks.";
    Int "remote.log.manager.thread.pool.size" = "2", AtLeast(1), ReadOnly:
        "Threads of the tiered storage tasks.";
    Int "remote.log.metadata.custom.metadata.max.bytes" = "128", AtLeast(0), ReadOnly:
        "Largest own metadata of a tiered storage plugin for one segment.";
    String "remote.log.metadata.manager.class.name" =
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        NonEmpty, ReadOnly:
        "Java class that keeps tiered storage metadata; Ottla loads no Java classes.";
    String "remote.log.metadata.manager.class.path" = null, Any, ReadOnly:
        "Class path of the tiered storage metadata plugin.";
    String "remote.log.metadata.manager.impl.prefix" = "rlmm.config.", NonEmpty, ReadOnly:
        "Prefix of the keys that are handed to the tiered storage metadata plugin.";
    String "remote.log.metadata.manager.listener.name" = null, NonEmpty, ReadOnly:
        "Listener over which the tiered storage metadata plugin talks to brokers.";
    Int "remote.log.reader.max.pending.tasks" = "100", AtLeast(1), ReadOnly:
        "Most waiting reads from tiered storage.";
    Int "remote.log.reader.threads" = "10", AtLeast(1), ClusterWide:
        "Threads that read from tiered storage.";
    String "remote.log.storage.manager.class.name" = null, NonEmpty, ReadOnly:
        "Java class of the tiered storage plugin; Ottla loads no Java classes.";
    String "remote.log.storage.manager.class.path" = null, Any, ReadOnly:
        "Class path of the tiered storage plugin.";
    String "remote.log.storage.manager.impl.prefix" = "rsm.config.", NonEmpty, ReadOnly:
        "Prefix of the keys that are handed to the tiered storage plugin.";
    Boolean "remote.log.storage.system.enable" = "false", Any, ReadOnly:
        "Whether the broker offers tiered storage; Ottla has none.";
    String "sasl.mechanism.controller.protocol" = "GSSAPI", Any, ReadOnly:
        "SASL mechanism towards KRaft controllers.";
    Int "share.fetch.purgatory.purge.interval.requests" = "1000", Any, ReadOnly:
        "Finished share fetches after which the waiting list is tidied in Kafka.";
}
