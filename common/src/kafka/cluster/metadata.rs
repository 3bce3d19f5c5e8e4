//! What a client knows of a cluster: immutable, replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kafka::client::ClientError;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::metadata::MetadataResponse;
use crate::kafka::messages::metadata::response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use crate::types::{BrokerId, TopicId};

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerNode {
    /// Its id.
    pub id: BrokerId,
    /// The host that it advertises.
    pub host: String,
    /// The port that it advertises.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

impl BrokerNode {
    /// `host:port`.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its number.
    pub partition: i32,
    /// Its leader, if there is one.
    pub leader: Option<BrokerId>,
    /// The leader's epoch; -1 if the broker does not tell.
    pub leader_epoch: i32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The replicas that are in sync.
    pub in_sync_replicas: Vec<BrokerId>,
    /// The replicas that are down.
    pub offline_replicas: Vec<BrokerId>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; zero if the broker does not tell.
    pub id: TopicId,
    /// Whether the cluster keeps it for itself.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionMetadata>,
}

impl TopicMetadata {
    /// A partition.
    ///
    /// # Errors
    /// `UnknownPartition`.
    pub fn partition(&self, partition: i32) -> Result<&PartitionMetadata, ClientError> {
        let found = self.partitions.binary_search_by_key(&partition, |p| p.partition);
        let found = found.ok().and_then(|index| self.partitions.get(index));
        found.ok_or_else(|| ClientError::UnknownPartition {
            topic: self.name.to_string(),
            partition,
            count: self.partitions.len(),
        })
    }

    /// The leader of a partition.
    ///
    /// # Errors
    /// `UnknownPartition` or `NoLeader`.
    pub fn leader(&self, partition: i32) -> Result<BrokerId, ClientError> {
        let topic = || self.name.to_string();
        let leader = self.partition(partition)?.leader;
        leader.ok_or_else(|| ClientError::NoLeader { topic: topic(), partition })
    }

    /// The number of partitions.
    pub fn partitions_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

/// The brokers, and the topics that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterMetadata {
    /// Counts the answers that this was made of.
    pub generation: u64,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The controller, or who says to be it.
    pub controller: Option<BrokerId>,
    /// The brokers.
    pub brokers: BTreeMap<BrokerId, BrokerNode>,
    topics: BTreeMap<Arc<str>, Arc<TopicMetadata>>,
    topic_names: BTreeMap<TopicId, Arc<str>>,
    /// Topics of which the last answer said that something is wrong.
    errors: BTreeMap<String, ErrorCode>,
}

impl ClusterMetadata {
    /// A topic, if it was asked for and exists.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)
    }

    /// The topic with this id, likewise.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    /// What the last answer said was wrong with a topic.
    pub fn topic_error(&self, name: &str) -> Option<ErrorCode> {
        self.errors.get(name).copied()
    }

    /// The topics that were asked for and exist, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicMetadata>> {
        self.topics.values()
    }

    /// With what an answer tells. It replaces the brokers, and the topics that it is about: all of
    /// them, if `all_topics`.
    pub(super) fn updated(&self, response: &MetadataResponse, all_topics: bool) -> Self {
        let mut next = Self {
            generation: self.generation + 1,
            cluster_id: response.cluster_id.as_deref().map(str::to_owned),
            controller: existing(response.controller_id),
            brokers: response
                .brokers
                .iter()
                .map(|broker| (BrokerId(broker.node_id), node(broker)))
                .collect(),
            ..self.clone()
        };
        if all_topics {
            next.topics.clear();
            next.errors.clear();
        }
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref() else {
                continue;
            };
            next.errors.remove(name);
            match ErrorCode::from_code(topic.error_code) {
                ErrorCode::None => next.put(self, name, topic),
                // Its partitions are listed all the same.
                ErrorCode::LeaderNotAvailable if !topic.partitions.is_empty() => {
                    next.put(self, name, topic);
                }
                code => {
                    if code == ErrorCode::UnknownTopicOrPartition {
                        next.topics.remove(name);
                    }
                    next.errors.insert(name.to_owned(), code);
                }
            }
        }
        let ids = next.topics.values().filter(|topic| !topic.id.is_zero());
        next.topic_names = ids.map(|topic| (topic.id, Arc::clone(&topic.name))).collect();
        next
    }

    fn put(&mut self, before: &Self, name: &str, answer: &MetadataResponseTopic) {
        let known = before.topics.get(name).filter(|known| known.id == answer.topic_id);
        let mut partitions: Vec<_> = answer
            .partitions
            .iter()
            .map(|partition| {
                let new = partition_of(partition);
                let old = known.and_then(|known| known.partition(new.partition).ok());
                // Brokers learn of a new leader one after another. One that has not heard of it yet
                // must not lead us back.
                match old {
                    Some(old) if new.leader_epoch < old.leader_epoch => old.clone(),
                    _ => new,
                }
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        partitions.dedup_by_key(|partition| partition.partition);
        let name: Arc<str> = known.map_or_else(|| name.into(), |known| Arc::clone(&known.name));
        let topic = TopicMetadata {
            name: Arc::clone(&name),
            id: answer.topic_id,
            is_internal: answer.is_internal,
            partitions,
        };
        self.topics.insert(name, Arc::new(topic));
    }

    /// The brokers that lead partitions of these topics.
    pub fn leaders_of<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> BTreeSet<BrokerId> {
        let topics = topics.into_iter().filter_map(|name| self.topic(name));
        topics.flat_map(|topic| topic.partitions.iter().filter_map(|p| p.leader)).collect()
    }
}

fn node(broker: &crate::kafka::messages::metadata::response::MetadataResponseBroker) -> BrokerNode {
    BrokerNode {
        id: BrokerId(broker.node_id),
        host: broker.host.to_string(),
        port: broker.port,
        rack: broker.rack.as_deref().map(str::to_owned),
    }
}

fn partition_of(partition: &MetadataResponsePartition) -> PartitionMetadata {
    let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    PartitionMetadata {
        partition: partition.partition_index,
        leader: existing(partition.leader_id),
        leader_epoch: partition.leader_epoch,
        replicas: brokers(&partition.replica_nodes),
        in_sync_replicas: brokers(&partition.isr_nodes),
        offline_replicas: brokers(&partition.offline_replicas),
    }
}

fn existing(broker_id: i32) -> Option<BrokerId> {
    (broker_id >= 0).then_some(BrokerId(broker_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uuid;

    fn answer(topic: &str, id: u8, leader_id: i32, leader_epoch: i32) -> MetadataResponse {
        let partition = MetadataResponsePartition { leader_id, leader_epoch, ..Default::default() };
        let topic = MetadataResponseTopic {
            name: Some(topic.into()),
            topic_id: Uuid([id; 16]),
            partitions: vec![partition],
            ..Default::default()
        };
        MetadataResponse { topics: vec![topic], controller_id: -1, ..Default::default() }
    }

    #[test]
    fn a_broker_that_is_behind_does_not_lead_us_back() {
        let leader = |metadata: &ClusterMetadata| metadata.topic("t").unwrap().leader(0).unwrap().0;
        let metadata = ClusterMetadata::default().updated(&answer("t", 1, 7, 5), false);
        assert_eq!(leader(&metadata), 7);
        let metadata = metadata.updated(&answer("t", 1, 8, 4), false);
        assert_eq!(leader(&metadata), 7, "an older epoch");
        let metadata = metadata.updated(&answer("t", 1, 8, 6), false);
        assert_eq!(leader(&metadata), 8);
        let metadata = metadata.updated(&answer("t", 2, 9, 0), false);
        assert_eq!(leader(&metadata), 9, "another topic of that name");
        assert!(metadata.topic_by_id(Uuid([1; 16])).is_none());
        assert!(metadata.topic_by_id(Uuid([2; 16])).is_some());
    }

    #[test]
    fn an_answer_changes_only_the_topics_that_it_is_about() {
        let metadata = ClusterMetadata::default().updated(&answer("a", 1, 7, 5), false);
        let metadata = metadata.updated(&answer("b", 2, -1, 5), false);
        assert_eq!(metadata.topics().count(), 2);
        let no_leader = metadata.topic("b").unwrap().leader(0).unwrap_err();
        assert!(no_leader.is_retriable());
        let no_partition = metadata.topic("b").unwrap().leader(1).unwrap_err();
        assert_eq!(no_partition.to_string(), "topic \"b\" has no partition 1, it has 1");

        let mut gone = answer("b", 2, -1, 5);
        gone.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
        let metadata = metadata.updated(&gone, false);
        assert!(metadata.topic("b").is_none() && metadata.topic("a").is_some());
        assert_eq!(metadata.topic_error("b"), Some(ErrorCode::UnknownTopicOrPartition));
        let metadata = metadata.updated(&answer("c", 3, 7, 5), true);
        assert!(metadata.topic("a").is_none() && metadata.topic_error("b").is_none());
    }

    #[test]
    fn addresses_are_written_as_they_are_dialled() {
        let node = |host: &str| BrokerNode {
            id: BrokerId(1),
            host: host.to_owned(),
            port: 9092,
            rack: None,
        };
        assert_eq!(node("example.org").address(), "example.org:9092");
        assert_eq!(node("::1").address(), "[::1]:9092");
    }
}
