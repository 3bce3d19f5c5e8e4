//! Broker configs of Kafka: groups, offsets, transactions, producers.

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Configs of groups and transactions.
    pub const GROUPS: Kafka;

    Int "add.partitions.to.txn.retry.backoff.max.ms" = "100", AtLeast(0), ReadOnly:
        "Longest wait in the broker before it tries again to add partitions to a busy transaction.";
    Int "add.partitions.to.txn.retry.backoff.ms" = "20", AtLeast(1), ReadOnly:
        "Wait in the broker before it tries again to add partitions to a busy transaction.";
    Boolean "errors.deadletterqueue.auto.create.topics.enable" = "false", Any, ClusterWide:
        "Whether dead-letter topics of share groups are created when missing.";
    String "errors.deadletterqueue.topic.name.prefix" = "dlq.", Any, ClusterWide:
        "Prefix that a share group's dead-letter topic must have in its name.";
    Int "group.consumer.assignment.interval.ms" = "1000", AtLeast(0), ClusterWide:
        "Shortest time between two assignments of a consumer group.";
    List "group.consumer.assignors" = "uniform,range", Any, ReadOnly:
        "Server-side assignors offered to consumer groups; the first is the default.";
    Int "group.consumer.heartbeat.interval.ms" = "5000", AtLeast(1), ReadOnly:
        "Heartbeat interval that members of consumer groups are given.";
    Int "group.consumer.max.assignment.interval.ms" = "15000", AtLeast(0), ReadOnly:
        "Largest assignment interval that a consumer group may be given.";
    Int "group.consumer.max.heartbeat.interval.ms" = "15000", AtLeast(1), ReadOnly:
        "Largest heartbeat interval that a consumer group may be given.";
    Int "group.consumer.max.session.timeout.ms" = "60000", AtLeast(1), ReadOnly:
        "Largest session timeout that a consumer group may be given.";
    Int "group.consumer.max.size" = "2147483647", AtLeast(1), ReadOnly:
        "Most members of one consumer group.";
    String "group.consumer.migration.policy" = "bidirectional",
        OneOfIgnoreCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]), ReadOnly:
        "Which moves between the classic and the consumer protocol a group may make while it runs.";
    Int "group.consumer.min.assignment.interval.ms" = "0", AtLeast(0), ReadOnly:
        "Smallest assignment interval that a consumer group may be given.";
    Int "group.consumer.min.heartbeat.interval.ms" = "5000", AtLeast(1), ReadOnly:
        "Smallest heartbeat interval that a consumer group may be given.";
    Int "group.consumer.min.session.timeout.ms" = "45000", AtLeast(1), ReadOnly:
        "Smallest session timeout that a consumer group may be given.";
    Int "group.consumer.session.timeout.ms" = "45000", AtLeast(1), ReadOnly:
        "A consumer group's member that is silent for this long is removed.";
    Int "group.coordinator.append.linger.ms" = "-1", AtLeast(-1), ReadOnly:
        "Time for which group records are collected before they are written; -1 adapts by itself.";
    Int "group.coordinator.background.threads" = "2", AtLeast(1), ReadOnly:
        "Threads that compute assignments in the background.";
    Int "group.coordinator.cached.buffer.max.bytes" = "1048588", AtLeast(524_288), ClusterWide:
        "Largest write buffer that is kept for reuse by each group shard.";
    List "group.coordinator.rebalance.protocols" = "classic,consumer,streams",
        ListOf(&["consumer", "classic", "share", "streams"]), ReadOnly:
        "Group protocols that are offered.";
    Int "group.coordinator.threads" = "4", AtLeast(1), ReadOnly:
        "Threads that run the groups' shards.";
    Int "group.initial.rebalance.delay.ms" = "3000", Any, ReadOnly:
        "Time an empty classic group waits for more members before its first rebalance.";
    Int "group.max.session.timeout.ms" = "1800000", Any, ReadOnly:
        "Largest session timeout that a classic group's member may ask for.";
    Int "group.max.size" = "2147483647", AtLeast(1), ReadOnly:
        "Most members of one classic group.";
    Int "group.min.session.timeout.ms" = "6000", Any, ReadOnly:
        "Smallest session timeout that a classic group's member may ask for.";
    Int "group.share.assignment.interval.ms" = "1000", AtLeast(0), ClusterWide:
        "Shortest time between two assignments of a share group.";
    List "group.share.assignors" = "simple", Any, ReadOnly:
        "Server-side assignors offered to share groups.";
    Int "group.share.delivery.count.limit" = "5", Between(2, 10), ReadOnly:
        "Deliveries of a record in a share group before it counts as undeliverable.";
    Int "group.share.heartbeat.interval.ms" = "5000", AtLeast(1), ReadOnly:
        "Heartbeat interval that members of share groups are given.";
    Int "group.share.max.assignment.interval.ms" = "15000", AtLeast(0), ReadOnly:
        "Largest assignment interval that a share group may be given.";
    Int "group.share.max.delivery.count.limit" = "10", Between(5, 25), ReadOnly:
        "Largest delivery limit that a share group may be given.";
    Int "group.share.max.heartbeat.interval.ms" = "15000", AtLeast(1), ReadOnly:
        "Largest heartbeat interval that a share group may be given.";
    Int "group.share.max.partition.max.record.locks" = "4000", Between(2000, 10_000), ReadOnly:
        "Largest number of locked records that a share group may be given for a partition.";
    Int "group.share.max.record.lock.duration.ms" = "60000", Between(30_000, 3_600_000), ReadOnly:
        "Longest record lock that a share group may be given.";
    Int "group.share.max.session.timeout.ms" = "60000", AtLeast(1), ReadOnly:
        "Largest session timeout that a share group may be given.";
    Int "group.share.max.share.sessions" = "2000", AtLeast(1), ReadOnly:
        "Most share sessions that one broker keeps.";
    Int "group.share.max.size" = "200", Between(1, 1000), ReadOnly:
        "Most members of one share group.";
    Int "group.share.min.assignment.interval.ms" = "0", AtLeast(0), ReadOnly:
        "Smallest assignment interval that a share group may be given.";
    Int "group.share.min.delivery.count.limit" = "2", Between(2, 5), ReadOnly:
        "Smallest delivery limit that a share group may be given.";
    Int "group.share.min.heartbeat.interval.ms" = "5000", AtLeast(1), ReadOnly:
        "Smallest heartbeat interval that a share group may be given.";
    Int "group.share.min.partition.max.record.locks" = "100", Between(100, 2000), ReadOnly:
        "Smallest number of locked records that a share group may be given for a partition.";
    Int "group.share.min.record.lock.duration.ms" = "15000", Between(1000, 30_000), ReadOnly:
        "Shortest record lock that a share group may be given.";
    Int "group.share.min.session.timeout.ms" = "45000", AtLeast(1), ReadOnly:
        "Smallest session timeout that a share group may be given.";
    Int "group.share.partition.max.record.locks" = "2000", Between(100, 10_000), ReadOnly:
        "Most records of a partition that are locked for a share group at a time.";
    Int "group.share.record.lock.duration.ms" = "30000", Between(1000, 3_600_000), ReadOnly:
        "Time for which a record is locked for the member that acquired it.";
    Int "group.share.session.timeout.ms" = "45000", AtLeast(1), ReadOnly:
        "A share group's member that is silent for this long is removed.";
    Int "group.streams.assignment.interval.ms" = "1000", AtLeast(0), ClusterWide:
        "Shortest time between two assignments of a streams group.";
    List "group.streams.assignors" = "sticky", Any, ReadOnly:
        "Server-side assignors offered to streams groups.";
    Int "group.streams.heartbeat.interval.ms" = "5000", AtLeast(1), ReadOnly:
        "Heartbeat interval that members of streams groups are given.";
    Int "group.streams.initial.rebalance.delay.ms" = "3000", AtLeast(0), ReadOnly:
        "Time an empty streams group waits for more members before its first assignment.";
    Int "group.streams.max.assignment.interval.ms" = "15000", AtLeast(0), ReadOnly:
        "Largest assignment interval that a streams group may be given.";
    Int "group.streams.max.heartbeat.interval.ms" = "15000", AtLeast(1), ReadOnly:
        "Largest heartbeat interval that a streams group may be given.";
    Int "group.streams.max.session.timeout.ms" = "60000", AtLeast(1), ReadOnly:
        "Largest session timeout that a streams group may be given.";
    Int "group.streams.max.size" = "2147483647", AtLeast(1), ReadOnly:
        "Most members of one streams group.";
    Int "group.streams.max.standby.replicas" = "2", AtLeast(0), ReadOnly:
        "Largest number of standby replicas that a streams group may be given.";
    Int "group.streams.min.assignment.interval.ms" = "0", AtLeast(0), ReadOnly:
        "Smallest assignment interval that a streams group may be given.";
    Int "group.streams.min.heartbeat.interval.ms" = "5000", AtLeast(1), ReadOnly:
        "Smallest heartbeat interval that a streams group may be given.";
    Int "group.streams.min.session.timeout.ms" = "45000", AtLeast(1), ReadOnly:
        "Smallest session timeout that a streams group may be given.";
    Int "group.streams.num.standby.replicas" = "0", AtLeast(0), ReadOnly:
        "Standby replicas of each task of a streams group.";
    List "group.streams.rack.aware.assignment.tags" = "", Any, ReadOnly:
        "Client tags over which standby tasks are spread.";
    Int "group.streams.session.timeout.ms" = "45000", AtLeast(1), ReadOnly:
        "A streams group's member that is silent for this long is removed.";
    Class "group.streams.topology.description.plugin.class" = null, Any, ReadOnly:
        "Java class that stores topology descriptions; Ottla loads no Java classes.";
    Int "offset.metadata.max.bytes" = "4096", Any, ReadOnly:
        "Largest metadata text that may go with a committed offset.";
    Int "offsets.commit.timeout.ms" = "5000", AtLeast(1), ReadOnly:
        "Time that an offset commit waits for its replicas.";
    Int "offsets.load.buffer.size" = "5242880", AtLeast(1), ReadOnly:
        "Bytes read at a time when groups and offsets are loaded.";
    Long "offsets.retention.check.interval.ms" = "600000", AtLeast(1), ReadOnly:
        "Time between two looks for expired offsets.";
    Int "offsets.retention.minutes" = "10080", AtLeast(1), ReadOnly:
        "Minutes for which the offsets of an empty group are kept.";
    Int "offsets.topic.compression.codec" = "0", Any, ReadOnly:
        "Codec of the offsets topic, as its number.";
    Int "offsets.topic.num.partitions" = "50", AtLeast(1), ReadOnly:
        "Partitions of the offsets topic; not to be changed later.";
    Short "offsets.topic.replication.factor" = "3", AtLeast(1), ReadOnly:
        "Replicas of the offsets topic.";
    Int "offsets.topic.segment.bytes" = "104857600", AtLeast(1), ReadOnly:
        "Size of the segments of the offsets topic.";
    Int "producer.id.expiration.ms" = "86400000", AtLeast(1), ClusterWide:
        "A producer id that is not used for this long is forgotten.";
    Int "share.coordinator.append.linger.ms" = "-1", AtLeast(-1), ReadOnly:
        "Time for which share state records are collected before they are written; -1 adapts.";
    Int "share.coordinator.cached.buffer.max.bytes" = "1048588", AtLeast(524_288), ClusterWide:
        "Largest write buffer that is kept for reuse by each share state shard.";
    Int "share.coordinator.load.buffer.size" = "5242880", AtLeast(1), ReadOnly:
        "Bytes read at a time when share state is loaded.";
    Int "share.coordinator.snapshot.update.records.per.snapshot" = "500", Between(0, 500), ReadOnly:
        "Changes of share state between two full snapshots.";
    Int "share.coordinator.state.topic.compression.codec" = "0", Any, ReadOnly:
        "Codec of the share state topic, as its number.";
    Short "share.coordinator.state.topic.min.isr" = "2", AtLeast(1), ReadOnly:
        "Replicas in sync that a write to the share state topic needs.";
    Int "share.coordinator.state.topic.num.partitions" = "50", AtLeast(1), ReadOnly:
        "Partitions of the share state topic; not to be changed later.";
    Short "share.coordinator.state.topic.replication.factor" = "3", AtLeast(1), ReadOnly:
        "Replicas of the share state topic.";
    Int "share.coordinator.state.topic.segment.bytes" = "104857600", AtLeast(1), ReadOnly:
        "Size of the segments of the share state topic.";
    Int "share.coordinator.threads" = "1", AtLeast(1), ReadOnly:
        "Threads that run the share state shards.";
    Int "share.coordinator.write.timeout.ms" = "5000", AtLeast(1), ReadOnly:
        "Time that a write of share state waits for its replicas.";
    Int "telemetry.max.bytes" = "1048576", AtLeast(1), ReadOnly:
        "Largest set of metrics that a client may send.";
    Int "transaction.abort.timed.out.transaction.cleanup.interval.ms" = "10000",
        AtLeast(1), ReadOnly:
        "Time between two looks for transactions that timed out.";
    Int "transaction.max.timeout.ms" = "900000", AtLeast(1), ReadOnly:
        "Longest timeout that a transaction may ask for.";
    Boolean "transaction.partition.verification.enable" = "true", Any, ClusterWide:
        "Whether a produce checks that its partition belongs to the transaction.";
    Int "transaction.remove.expired.transaction.cleanup.interval.ms" = "3600000",
        AtLeast(1), ReadOnly:
        "Time between two looks for expired transactional ids.";
    Int "transaction.state.log.load.buffer.size" = "5242880", AtLeast(1), ReadOnly:
        "Bytes read at a time when transaction state is loaded.";
    Int "transaction.state.log.min.isr" = "2", AtLeast(1), ReadOnly:
        "Replicas in sync that a write to the transaction topic needs.";
    Int "transaction.state.log.num.partitions" = "50", AtLeast(1), ReadOnly:
        "Partitions of the transaction topic; not to be changed later.";
    Short "transaction.state.log.replication.factor" = "3", AtLeast(1), ReadOnly:
        "Replicas of the transaction topic.";
    Int "transaction.state.log.segment.bytes" = "104857600", AtLeast(1), ReadOnly:
        "Size of the segments of the transaction topic.";
    Boolean "transaction.two.phase.commit.enable" = "false", Any, ReadOnly:
        "Whether transactions may take part in two-phase commits of others.";
    Int "transactional.id.expiration.ms" = "604800000", AtLeast(1), ReadOnly:
        "A transactional id that is not used for this long is forgotten.";
}
