//! Broker configs that Kafka knows but does not list in DescribeConfigs, unless they are set.

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Configs that are listed only when set.
    pub const INTERNAL: KafkaInternal;

    Long "controller.performance.always.log.threshold.ms" = "2000", AtLeast(0), ReadOnly:
        "KRaft controller events that take longer than this are logged.";
    Long "controller.performance.sample.period.ms" = "60000", AtLeast(100), ReadOnly:
        "Time between two reports of the slowest KRaft controller events.";
    Boolean "group.consumer.assignor.offload.enable" = "true", Any, ClusterWide:
        "Whether consumer group assignments are computed on a background thread.";
    Int "group.consumer.regex.refresh.interval.ms" = "600000", AtLeast(10_000), ReadOnly:
        "Time after which subscriptions by pattern are matched again.";
    Boolean "group.share.assignor.offload.enable" = "true", Any, ClusterWide:
        "Whether share group assignments are computed on a background thread.";
    String "group.share.dlq.manager.class.name" =
        "org.apache.kafka.server.share.dlq.DefaultShareGroupDLQManager", Any, ReadOnly:
        "Java class that writes to dead-letter topics; Ottla loads no Java classes.";
    Int "group.share.initialize.retry.interval.ms" = "30000", AtLeast(1), ReadOnly:
        "Wait before the state of a share group's partitions is initialised again.";
    String "group.share.persister.class.name" =
        "org.apache.kafka.server.share.persister.DefaultStatePersister", Any, ReadOnly:
        "Java class that keeps share group state; Ottla loads no Java classes.";
    Long "group.streams.acceptable.recovery.lag" = "10000", AtLeast(0), ReadOnly:
        "Lag up to which a standby task counts as caught up.";
    Boolean "group.streams.assignor.offload.enable" = "true", Any, ClusterWide:
        "Whether streams group assignments are computed on a background thread.";
    Int "group.streams.max.warmup.replicas" = "20", AtLeast(0), ReadOnly:
        "Largest number of warm-up replicas that a streams group may be given.";
    Int "group.streams.min.task.offset.interval.ms" = "15000", AtLeast(1), ReadOnly:
        "Smallest interval of task offset reports that a streams group may be given.";
    Int "group.streams.num.warmup.replicas" = "2", AtLeast(0), ReadOnly:
        "Warm-up replicas that a streams group may have in addition.";
    Int "group.streams.task.offset.interval.ms" = "60000", AtLeast(1), ReadOnly:
        "Interval at which members of streams groups report their task offsets.";
    Long "internal.metadata.delete.delay.millis" = "60000", Any, ReadOnly:
        "Time after which old KRaft metadata segments are deleted; for tests.";
    Int "internal.metadata.log.segment.bytes" = null, Any, ReadOnly:
        "Size of KRaft metadata segments; for tests.";
    Int "internal.metadata.max.batch.size.in.bytes" = "8388608", Any, ReadOnly:
        "Largest batch in the KRaft metadata log; for tests.";
    Long "log.initial.task.delay.ms" = "30000", AtLeast(0), ReadOnly:
        "Time after start before retention, flushing and checkpoints begin.";
    Int "producer.id.expiration.check.interval.ms" = "600000", AtLeast(1), ReadOnly:
        "Time between two looks for expired producer ids.";
    Long "remote.log.index.file.cache.ttl.ms" = "900000", AtLeast(-1), ReadOnly:
        "Time for which unused indexes of tiered storage stay in the cache.";
    Long "remote.log.manager.task.retry.backoff.max.ms" = "30000", AtLeast(1), ReadOnly:
        "Longest wait before a tiered storage task is tried again.";
    Long "remote.log.manager.task.retry.backoff.ms" = "500", AtLeast(1), ReadOnly:
        "First wait before a tiered storage task is tried again.";
    Double "remote.log.manager.task.retry.jitter" = "0.2", Fraction(0.5), ReadOnly:
        "Random share of the wait before a tiered storage task is tried again.";
    Long "server.max.startup.time.ms" = "9223372036854775807", AtLeast(0), ReadOnly:
        "Time after which a start that has not finished is given up.";
    Int "share.coordinator.cold.partition.snapshot.interval.ms" = "300000", AtLeast(1), ReadOnly:
        "Time after which share state that did not change is written again.";
    Int "share.coordinator.state.topic.prune.interval.ms" = "300000", AtLeast(1), ReadOnly:
        "Time between two prunings of the share state topic.";
    Long "unclean.leader.election.interval.ms" = "300000", AtLeast(1), ReadOnly:
        "Time between two looks for partitions that need an unclean election.";
    Boolean "unstable.api.versions.enable" = "false", Any, ReadOnly:
        "Whether API versions are offered that are still being worked on.";
    Boolean "unstable.feature.versions.enable" = "false", Any, ReadOnly:
        "Whether feature versions are offered that are still being worked on.";
}
