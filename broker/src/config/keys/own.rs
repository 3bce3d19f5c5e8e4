//! Broker configs that Kafka does not have, and those that it has only at run time.

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Broker configs that Kafka does not have.
    pub const OWN: Ottla;

    String "acks.all.durability" = "disk", OneOf(&["disk", "page-cache"]), ClusterWide:
        "When acks=all is answered: disk, on every in-sync replica, or page-cache, as Kafka does.";
    List "coordinator.connect" = "127.0.0.1:2181", NonEmpty, ReadOnly:
        "Addresses of the coordinators, host:port each.";
    Int "coordinator.connection.timeout.ms" = "5000", AtLeast(1), ReadOnly:
        "Time that a connection to a coordinator may take.";
    Int "coordinator.session.timeout.ms" = "6000", AtLeast(500), ReadOnly:
        "A broker that its coordinators do not hear of for this long is gone.";
    String "http.listen" = null, Any, ReadOnly:
        "Address, host:port, where monitoring asks /metrics, /health and /ready. Off if not set.";
}

config_keys! {
    /// Broker configs that are set at run time only, and listed only when set.
    pub const RUN_TIME: RunTime;

    Long "follower.replication.throttled.rate" = "9223372036854775807", AtLeast(0), ClusterWide:
        "Most bytes per second that the throttled followers on a broker fetch.";
    Long "leader.replication.throttled.rate" = "9223372036854775807", AtLeast(0), ClusterWide:
        "Most bytes per second that the throttled leaders on a broker send.";
    Long "replica.alter.log.dirs.io.max.bytes.per.second" = "9223372036854775807", AtLeast(0),
        ClusterWide:
        "Most bytes per second that moves between log directories copy.";
}
