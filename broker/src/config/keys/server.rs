//! Broker configs of Kafka: the server, its network and its limits.

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Configs of the server and its network.
    pub const SERVER: Kafka;

    List "advertised.listeners" = null, Any, ReadOnly:
        "Addresses that clients and other brokers are told to connect to; listeners if not set.";
    Int "background.threads" = "10", AtLeast(1), ClusterWide:
        "Threads for background work such as retention and deleting files.";
    Int "broker.id" = "-1", Any, ReadOnly:
        "The number of this broker, unique in the cluster; the same as node.id.";
    String "broker.rack" = null, Any, ReadOnly:
        "Rack or zone of this broker; replicas are spread over racks and readers find the nearest.";
    Class "client.quota.callback.class" = null, Any, ReadOnly:
        "Java class that decides client quotas; Ottla loads no Java classes.";
    Long "connections.max.idle.ms" = "600000", Any, ReadOnly:
        "A connection on which nothing happens for this long is closed.";
    Boolean "controlled.shutdown.enable" = "true", Any, ReadOnly:
        "Whether a stopping broker first hands its leaderships to others.";
    Int "controller.quota.window.num" = "11", AtLeast(1), ReadOnly:
        "Sample windows kept to measure the rate of topic changes.";
    Int "controller.quota.window.size.seconds" = "1", AtLeast(1), ReadOnly:
        "Length of a sample window for the rate of topic changes.";
    Int "fetch.max.bytes" = "57671680", AtLeast(1024), ReadOnly:
        "Most bytes that the broker returns to one fetch request.";
    String "inter.broker.listener.name" = null, Any, ReadOnly:
        "Listener over which brokers talk to each other.";
    String "listener.security.protocol.map" =
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        Any, PerBroker:
        "Which security protocol each listener name stands for.";
    List "listeners" = "PLAINTEXT://:9092", Any, PerBroker:
        "Where the broker listens, NAME://host:port each; an empty host means all interfaces.";
    Int "max.connection.creation.rate" = "2147483647", AtLeast(0), ClusterWide:
        "Most new connections that the broker accepts in a second.";
    Int "max.connections" = "2147483647", AtLeast(0), ClusterWide:
        "Most connections that the broker holds at a time.";
    Int "max.connections.per.ip" = "2147483647", AtLeast(0), ClusterWide:
        "Most connections from one address.";
    String "max.connections.per.ip.overrides" = "", Any, ClusterWide:
        "Own limits of connections for single addresses, host:count each.";
    Int "max.incremental.fetch.session.cache.slots" = "1000", AtLeast(0), ReadOnly:
        "Most fetch sessions that the broker keeps.";
    Int "max.request.partition.size.limit" = "2000", AtLeast(1), ReadOnly:
        "Most partitions in one answer to DescribeTopicPartitions.";
    List "metric.reporters" = "org.apache.kafka.common.metrics.JmxReporter", Any, ClusterWide:
        "Java metrics reporters; Ottla serves its metrics over HTTP instead.";
    Int "metrics.num.samples" = "2", AtLeast(1), ReadOnly:
        "Samples kept to compute a metric.";
    String "metrics.recording.level" = "INFO", Any, ReadOnly:
        "The finest level at which metrics are recorded.";
    Long "metrics.sample.window.ms" = "30000", AtLeast(1), ReadOnly:
        "Length of one sample of a metric.";
    Int "node.id" = null, AtLeast(0), ReadOnly:
        "The number of this broker, unique in the cluster.";
    Long "queued.max.request.bytes" = "-1", Any, ReadOnly:
        "Memory for requests that wait; no more is read while it is full; -1 means no limit.";
    Int "queued.max.requests" = "500", AtLeast(1), ReadOnly:
        "Requests that may wait before the broker stops reading.";
    Int "quota.window.num" = "11", AtLeast(1), ReadOnly:
        "Sample windows kept to measure client quotas.";
    Int "quota.window.size.seconds" = "1", AtLeast(1), ReadOnly:
        "Length of a sample window for client quotas.";
    Int "request.timeout.ms" = "30000", Any, ReadOnly:
        "Time for which the broker waits for an answer to its own requests.";
    Long "socket.connection.setup.timeout.max.ms" = "30000", Any, ReadOnly:
        "Longest time that setting up a connection to another broker may take.";
    Long "socket.connection.setup.timeout.ms" = "10000", Any, ReadOnly:
        "Time that setting up a connection to another broker may take at first.";
    Int "socket.listen.backlog.size" = "50", AtLeast(1), ReadOnly:
        "Connections that may wait to be accepted.";
    Int "socket.receive.buffer.bytes" = "102400", Any, ReadOnly:
        "Receive buffer of the broker's sockets; -1 leaves it to the system.";
    Int "socket.request.max.bytes" = "104857600", AtLeast(1), ReadOnly:
        "Largest request that is read from a connection.";
    Int "socket.send.buffer.bytes" = "102400", Any, ReadOnly:
        "Send buffer of the broker's sockets; -1 leaves it to the system.";
}
