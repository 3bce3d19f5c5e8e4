//! Configs of single groups (KIP-848).

use super::Valid::*;
use super::config_keys;

config_keys! {
    /// Configs of consumer groups.
    pub const GROUP: Kafka;

    Int "consumer.assignment.interval.ms" = "1000", AtLeast(0), ClusterWide:
        "Shortest time between two assignments of the group.";
    Int "consumer.heartbeat.interval.ms" = "5000", AtLeast(1), ClusterWide:
        "Heartbeat interval that the group's members are given.";
    Int "consumer.session.timeout.ms" = "45000", AtLeast(1), ClusterWide:
        "A member of the group that is silent for this long is removed.";
}
