//! Topics: list, create, grow, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Admin, Results, check};
use crate::kafka::client::ClientError;
use crate::kafka::cluster::TopicMetadata;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::create_partitions::CreatePartitionsRequest;
use crate::kafka::messages::create_partitions::request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use crate::kafka::messages::create_topics::CreateTopicsRequest;
use crate::kafka::messages::create_topics::request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use crate::kafka::messages::create_topics::response::CreatableTopicResult;
use crate::kafka::messages::delete_topics::DeleteTopicsRequest;
use crate::kafka::messages::delete_topics::request::DeleteTopicState;
use crate::kafka::messages::describe_topic_partitions::DescribeTopicPartitionsRequest;
use crate::kafka::messages::describe_topic_partitions::request::{Cursor, TopicRequest};
use crate::kafka::messages::describe_topic_partitions::response as described;
use crate::kafka::request::Request;
use crate::types::{BrokerId, TopicId};

/// The first version of DeleteTopics that takes ids besides names.
const DELETE_BY_STATE: i16 = 6;

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 is the brokers' default.
    pub partitions: i32,
    /// How many replicas of each; -1 is the brokers' default.
    pub replication_factor: i16,
    /// Where the replicas are, by partition. If given, the two numbers above must be -1.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    /// Its configuration.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the brokers' default configuration.
    pub fn new(name: impl Into<String>, partitions: i32, replication_factor: i16) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication_factor,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
        }
    }

    fn wire(&self) -> CreatableTopic {
        let assignment = |(&partition_index, brokers): (&i32, &Vec<BrokerId>)| {
            let broker_ids = brokers.iter().map(|broker| broker.0).collect();
            CreatableReplicaAssignment { partition_index, broker_ids, ..Default::default() }
        };
        let config = |(name, value): (&String, &String)| CreatableTopicConfig {
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
            ..Default::default()
        };
        CreatableTopic {
            name: self.name.as_str().into(),
            num_partitions: self.partitions,
            replication_factor: self.replication_factor,
            assignments: self.assignments.iter().map(assignment).collect(),
            configs: self.configs.iter().map(config).collect(),
            ..Default::default()
        }
    }
}

/// A topic that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; zero if the broker does not tell.
    pub id: TopicId,
    /// How many partitions; -1 if the broker does not tell.
    pub partitions: i32,
    /// How many replicas of each, likewise.
    pub replication_factor: i16,
}

/// A topic to give more partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// Its name.
    pub topic: String,
    /// How many it is to have.
    pub total: i32,
    /// Where the replicas of the new ones are.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

impl Admin {
    /// All topics.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn list_topics(&self) -> Result<Vec<Arc<TopicMetadata>>, ClientError> {
        let metadata = self.cluster.retry(|| self.cluster.refresh_all()).await?;
        Ok(metadata.topics().map(Arc::clone).collect())
    }

    /// Creates topics, or only says what would come of it.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Results<String, CreatedTopic>, ClientError> {
        let request = CreateTopicsRequest {
            topics: topics.iter().map(NewTopic::wire).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only,
            ..Default::default()
        };
        let result = |topic: CreatableTopicResult| {
            let name = topic.name.to_string();
            let subject = format!("creating topic {name:?}");
            let created = CreatedTopic {
                id: topic.topic_id,
                partitions: topic.num_partitions,
                replication_factor: topic.replication_factor,
            };
            let error = check(&subject, topic.error_code, topic.error_message.as_ref());
            (name, error.map(|()| created))
        };
        let not_controller = |topic: &CreatableTopicResult| topic.error_code == NOT_CONTROLLER;
        let response =
            self.change(&request, |response| response.topics.iter().any(not_controller)).await?;
        Ok(response.topics.into_iter().map(result).collect())
    }

    /// Creates one topic.
    ///
    /// # Errors
    /// If no broker answers, or the topic is refused.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        let mut results = self.create_topics(std::slice::from_ref(topic), false).await?;
        results.pop().map_or_else(|| Err(no_answer(&topic.name)), |(_, result)| result)
    }

    /// Deletes topics.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn delete_topics(&self, topics: &[&str]) -> Result<Results<String, ()>, ClientError> {
        let by_state =
            |&topic: &&str| DeleteTopicState { name: Some(topic.into()), ..Default::default() };
        let timeout_ms = self.timeout_ms();
        let response = self
            .cluster
            .retry(|| async {
                let connection = self.cluster.controller_connection().await?;
                let mut request = DeleteTopicsRequest { timeout_ms, ..Default::default() };
                if connection.version_of::<DeleteTopicsRequest>(i16::MAX)? >= DELETE_BY_STATE {
                    request.topics = topics.iter().map(by_state).collect();
                } else {
                    request.topic_names = topics.iter().map(|&topic| topic.into()).collect();
                }
                connection.send(&request).await
            })
            .await?;
        let mut results = Vec::new();
        for topic in response.responses {
            let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
            let subject = format!("deleting topic {name:?}");
            let error = check(&subject, topic.error_code, topic.error_message.as_ref());
            results.push((name, error));
        }
        Ok(results)
    }

    /// Gives topics more partitions, or only says what would come of it.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn create_partitions(
        &self,
        topics: &[NewPartitions],
        validate_only: bool,
    ) -> Result<Results<String, ()>, ClientError> {
        let assignment = |brokers: &Vec<BrokerId>| CreatePartitionsAssignment {
            broker_ids: brokers.iter().map(|broker| broker.0).collect(),
            ..Default::default()
        };
        let wire = |topic: &NewPartitions| CreatePartitionsTopic {
            name: topic.topic.as_str().into(),
            count: topic.total,
            assignments: topic.assignments.as_ref().map(|all| all.iter().map(assignment).collect()),
            ..Default::default()
        };
        let request = CreatePartitionsRequest {
            topics: topics.iter().map(wire).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only,
            ..Default::default()
        };
        let response = self
            .change(&request, |response| {
                response.results.iter().any(|topic| topic.error_code == NOT_CONTROLLER)
            })
            .await?;
        let mut results = Vec::new();
        for topic in response.results {
            let subject = format!("more partitions for topic {:?}", topic.name.as_str());
            let error = check(&subject, topic.error_code, topic.error_message.as_ref());
            results.push((topic.name.to_string(), error));
        }
        Ok(results)
    }

    /// Topics with all that brokers tell of their partitions (KIP-966); all topics, if none is
    /// named. Asks page by page.
    ///
    /// # Errors
    /// If no broker answers. Errors of topics are in the answer.
    pub async fn describe_topic_partitions(
        &self,
        topics: &[&str],
    ) -> Result<Vec<described::DescribeTopicPartitionsResponseTopic>, ClientError> {
        let mut all: Vec<described::DescribeTopicPartitionsResponseTopic> = Vec::new();
        let name = |&name: &&str| TopicRequest { name: name.into(), ..Default::default() };
        let mut request = DescribeTopicPartitionsRequest {
            topics: topics.iter().map(name).collect(),
            ..Default::default()
        };
        loop {
            let response = self.cluster.send_to_any(&request).await?;
            for topic in response.topics {
                // A topic may go on on the next page.
                match all.last_mut().filter(|last| last.name == topic.name) {
                    Some(last) => last.partitions.extend(topic.partitions),
                    None => all.push(topic),
                }
            }
            let Some(next) = response.next_cursor else {
                return Ok(all);
            };
            let cursor = Cursor {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
                ..Default::default()
            };
            // A cursor that does not move would never end.
            if request.cursor.as_ref() == Some(&cursor) {
                return Ok(all);
            }
            request.cursor = Some(cursor);
        }
    }

    /// Sends a change to the controller, again if it is that no more.
    async fn change<R: Request + Sync>(
        &self,
        request: &R,
        not_controller: impl Fn(&R::Response) -> bool,
    ) -> Result<R::Response, ClientError> {
        let response = self
            .cluster
            .retry(|| async { self.cluster.controller_connection().await?.send(request).await })
            .await?;
        if !not_controller(&response) {
            return Ok(response);
        }
        self.cluster.refresh(&[]).await?;
        self.cluster.controller_connection().await?.send(request).await
    }
}

const NOT_CONTROLLER: i16 = ErrorCode::NotController.code();

fn no_answer(name: &str) -> ClientError {
    ClientError::Refused {
        subject: format!("topic {name:?}"),
        code: ErrorCode::UnknownServerError,
        message: Some("the broker's answer does not mention it".to_owned()),
    }
}
