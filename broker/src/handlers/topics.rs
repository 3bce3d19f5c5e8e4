//! What several handlers say of topics and partitions.

use std::sync::Arc;

use ottla_common::kafka::ErrorCode;
use ottla_common::types::{BrokerId, TopicId};

use super::context::Context;
use crate::metadata::image::{PartitionImage, TopicImage};

/// Kafka's message for UNKNOWN_TOPIC_OR_PARTITION.
pub const UNKNOWN_TOPIC: &str = "This server does not host this topic-partition.";

/// Kafka's message for UNKNOWN_TOPIC_ID.
pub const UNKNOWN_TOPIC_ID: &str = "This server does not host this topic ID.";

/// A partition as Metadata and DescribeTopicPartitions show it.
pub struct PartitionView {
    /// LEADER_NOT_AVAILABLE or LISTENER_NOT_FOUND if the leader cannot be reached.
    pub error: ErrorCode,
    /// The leader, or -1.
    pub leader_id: i32,
    /// The leader epoch; it does not go back when the leader is gone.
    pub leader_epoch: i32,
    /// All replicas.
    pub replicas: Vec<i32>,
    /// The in-sync replicas.
    pub isr: Vec<i32>,
    /// Replicas whose broker is not there.
    pub offline: Vec<i32>,
}

impl PartitionView {
    /// The partition as clients of the context's listener see it.
    pub fn new(context: &Context, partition: &PartitionImage) -> Self {
        let leader = partition.leader.filter(|id| context.image.brokers.contains_key(id));
        let (error, leader_id) = match leader {
            None => (ErrorCode::LeaderNotAvailable, -1),
            Some(id) if context.reachable_broker(id).is_none() => (ErrorCode::ListenerNotFound, -1),
            Some(id) => (ErrorCode::None, id.0),
        };
        let is_offline = |id: &&BrokerId| !context.image.brokers.contains_key(id);
        Self {
            error,
            leader_id,
            leader_epoch: partition.leader_epoch,
            replicas: numbers(&partition.replicas),
            isr: numbers(&partition.isr),
            offline: partition.replicas.iter().filter(is_offline).map(|id| id.0).collect(),
        }
    }
}

/// Brokers as the wire has them.
pub fn numbers(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.0).collect()
}

/// A topic by its name, or by its id where the version of the request names topics so.
pub fn find_topic<'a>(
    context: &'a Context,
    by_id: bool,
    (name, id): (&str, TopicId),
) -> Result<&'a Arc<TopicImage>, ErrorCode> {
    if by_id {
        context.image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        context.image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// Whether a name can be a topic's: 1 to 249 ASCII letters, digits, `.`, `_` and `-`, and not one
/// of the names that a file system gives a meaning.
pub fn is_valid_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.bytes().all(is_legal)
}

#[cfg(test)]
mod tests {
    use super::is_valid_name;

    #[test]
    fn names_are_judged_as_kafka_does() {
        for good in ["a", "__consumer_offsets", "a.b-c_D9", "...", &"x".repeat(249)] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }
}
