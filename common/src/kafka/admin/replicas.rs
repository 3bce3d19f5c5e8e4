//! Who leads and who holds replicas: elections, reassignments.

use std::collections::BTreeMap;

use super::{Admin, Results, check};
use crate::kafka::client::ClientError;
use crate::kafka::messages::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use crate::kafka::messages::alter_partition_reassignments::request::{
    ReassignablePartition, ReassignableTopic,
};
use crate::kafka::messages::elect_leaders::ElectLeadersRequest;
use crate::kafka::messages::elect_leaders::request::TopicPartitions;
use crate::kafka::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use crate::types::{BrokerId, TopicPartition};

/// What kind of leader is to be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first replica, if it is in sync.
    Preferred = 0,
    /// Any replica that lives, if nobody leads: records may be lost.
    Unclean = 1,
}

/// A partition whose replicas are being moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OngoingReassignment {
    /// Which one.
    pub partition: TopicPartition,
    /// All of its replicas, those that come and those that go included.
    pub replicas: Vec<BrokerId>,
    /// Those that come.
    pub adding: Vec<BrokerId>,
    /// Those that go.
    pub removing: Vec<BrokerId>,
}

fn ids(brokers: Vec<i32>) -> Vec<BrokerId> {
    brokers.into_iter().map(BrokerId).collect()
}

impl Admin {
    /// Has leaders elected for these partitions, or for all; of all, only those are told that were
    /// elected or could not be.
    ///
    /// # Errors
    /// If no broker answers, or it refuses the whole.
    pub async fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Results<TopicPartition, ()>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in partitions.unwrap_or_default() {
            topics.entry(&partition.topic).or_default().push(partition.partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| TopicPartitions {
            topic: topic.into(),
            partitions,
            ..Default::default()
        });
        let request = ElectLeadersRequest {
            election_type: election as i8,
            topic_partitions: partitions.map(|_| topics.collect()),
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        let response = self
            .cluster
            .retry(|| async { self.cluster.controller_connection().await?.send(&request).await })
            .await?;
        check("ElectLeaders", response.error_code, None)?;
        let mut results = Vec::new();
        for topic in response.replica_election_results {
            for told in topic.partition_result {
                let partition = TopicPartition::new(topic.topic.as_str(), told.partition_id);
                let subject = format!("electing a leader for {partition}");
                let result = check(&subject, told.error_code, told.error_message.as_ref());
                results.push((partition, result));
            }
        }
        Ok(results)
    }

    /// Begins to move each partition's replicas to these brokers, or, where there are none, ends
    /// the move that is under way.
    ///
    /// # Errors
    /// If no broker answers, or it refuses the whole.
    pub async fn alter_partition_reassignments(
        &self,
        moves: &BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Result<Results<TopicPartition, ()>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for (partition, replicas) in moves {
            let replicas = replicas.as_ref();
            topics.entry(&partition.topic).or_default().push(ReassignablePartition {
                partition_index: partition.partition,
                replicas: replicas.map(|replicas| replicas.iter().map(|id| id.0).collect()),
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| ReassignableTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            topics: topics.collect(),
            ..Default::default()
        };
        let response = self
            .cluster
            .retry(|| async { self.cluster.controller_connection().await?.send(&request).await })
            .await?;
        let refusal = response.error_message.as_ref();
        check("AlterPartitionReassignments", response.error_code, refusal)?;
        let mut results = Vec::new();
        for topic in response.responses {
            for told in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), told.partition_index);
                let subject = format!("moving {partition}");
                let result = check(&subject, told.error_code, told.error_message.as_ref());
                results.push((partition, result));
            }
        }
        Ok(results)
    }

    /// The partitions whose replicas are being moved.
    ///
    /// # Errors
    /// If no broker answers, or it refuses.
    pub async fn list_partition_reassignments(
        &self,
    ) -> Result<Vec<OngoingReassignment>, ClientError> {
        let timeout_ms = self.timeout_ms();
        let request = ListPartitionReassignmentsRequest { timeout_ms, ..Default::default() };
        let response = self.cluster.send_to_any(&request).await?;
        let refusal = response.error_message.as_ref();
        check("ListPartitionReassignments", response.error_code, refusal)?;
        let mut moving = Vec::new();
        for topic in response.topics {
            for told in topic.partitions {
                moving.push(OngoingReassignment {
                    partition: TopicPartition::new(topic.name.as_str(), told.partition_index),
                    replicas: ids(told.replicas),
                    adding: ids(told.adding_replicas),
                    removing: ids(told.removing_replicas),
                });
            }
        }
        Ok(moving)
    }
}
