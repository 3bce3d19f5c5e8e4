//! What is asked of the brokers that have a partition: offsets, deletion of records, producers,
//! disks.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Admin, Results, check};
use crate::kafka::client::ClientError;
use crate::kafka::cluster::{Isolation, ListedOffset};
use crate::kafka::messages::alter_replica_log_dirs::AlterReplicaLogDirsRequest;
use crate::kafka::messages::alter_replica_log_dirs::request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use crate::kafka::messages::delete_records::request::{DeleteRecordsPartition, DeleteRecordsTopic};
use crate::kafka::messages::delete_records::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::kafka::messages::describe_log_dirs::DescribeLogDirsRequest;
use crate::kafka::messages::describe_log_dirs::request::DescribableLogDirTopic;
use crate::kafka::messages::describe_log_dirs::response::DescribeLogDirsResult;
use crate::kafka::messages::describe_producers::DescribeProducersRequest;
use crate::kafka::messages::describe_producers::request::TopicRequest;
use crate::kafka::messages::describe_producers::response::ProducerState;
use crate::types::{BrokerId, TopicPartition};

impl Admin {
    /// The first offset of each partition with this timestamp or a later one, or one of the special
    /// ones; see [`crate::kafka::cluster::Cluster::list_offsets`]. What may pass is tried again.
    /// Each partition may be asked about once.
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, i64)],
        isolation: Isolation,
    ) -> Results<TopicPartition, ListedOffset> {
        self.for_partitions(wanted, |wanted| {
            Box::pin(async move { self.cluster.list_offsets(&wanted, isolation).await })
        })
        .await
    }

    /// Deletes the records before these offsets (-1: before the high watermark). The result is the
    /// first offset that there is then. Each partition may be named once.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
    ) -> Results<TopicPartition, i64> {
        self.for_partitions(before, |before| Box::pin(self.delete_records_once(before))).await
    }

    async fn delete_records_once(
        &self,
        before: Vec<(TopicPartition, i64)>,
    ) -> Results<TopicPartition, i64> {
        let mut results = Vec::new();
        let mut by_leader: BTreeMap<BrokerId, Vec<(TopicPartition, i64)>> = BTreeMap::new();
        for (tp, offset) in before {
            match self.cluster.leader(&tp.topic, tp.partition).await {
                Ok(leader) => by_leader.entry(leader).or_default().push((tp, offset)),
                Err(error) => results.push((tp, Err(error))),
            }
        }
        for (leader, before) in by_leader {
            let topics = before.iter().map(|(tp, offset)| DeleteRecordsTopic {
                name: (*tp.topic).into(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: tp.partition,
                    offset: *offset,
                    ..Default::default()
                }],
                ..Default::default()
            });
            let request = DeleteRecordsRequest {
                topics: topics.collect(),
                timeout_ms: self.timeout_ms(),
                ..Default::default()
            };
            let answer = async { self.cluster.connection(leader).await?.send(&request).await };
            let answer = answer.await;
            for (tp, _) in before {
                let deleted = answer.as_ref().map_err(Clone::clone);
                let deleted = deleted.and_then(|answer| low_watermark(answer, &tp));
                results.push((tp, deleted));
            }
        }
        results
    }

    /// Does `attempt` for these partitions, and again for those whose failure may pass, with new
    /// metadata and after a pause.
    async fn for_partitions<'a, T: Copy, U>(
        &'a self,
        wanted: &[(TopicPartition, T)],
        attempt: impl Fn(Vec<(TopicPartition, T)>) -> BoxFuture<'a, Results<TopicPartition, U>>,
    ) -> Results<TopicPartition, U> {
        let patience = Duration::from_millis(self.cluster.options().api_timeout_ms);
        let deadline = Instant::now() + patience;
        let mut backoff = self.cluster.backoff();
        let arguments: BTreeMap<TopicPartition, T> = wanted.iter().cloned().collect();
        let mut wanted = wanted.to_vec();
        let mut results = Vec::new();
        loop {
            let pause = backoff.next(fastrand::f64());
            let last = Instant::now() + pause >= deadline;
            let answers = attempt(std::mem::take(&mut wanted)).await;
            for (tp, answer) in answers {
                match (&answer, arguments.get(&tp)) {
                    (Err(error), Some(&argument)) if error.is_retriable() && !last => {
                        wanted.push((tp, argument));
                    }
                    _ => results.push((tp, answer)),
                }
            }
            if wanted.is_empty() {
                return results;
            }
            tokio::time::sleep(pause).await;
            let topics: Vec<&str> = wanted.iter().map(|(tp, _)| &*tp.topic).collect();
            if let Err(error) = self.cluster.refresh(&topics).await {
                tracing::debug!(%error, "the metadata could not be refreshed");
            }
        }
    }

    /// The idempotent producers that a partition's leader remembers.
    ///
    /// # Errors
    /// If the leader does not answer, or it refuses.
    pub async fn describe_producers(
        &self,
        partition: &TopicPartition,
    ) -> Result<Vec<ProducerState>, ClientError> {
        let topic = TopicRequest {
            name: (*partition.topic).into(),
            partition_indexes: vec![partition.partition],
            ..Default::default()
        };
        let request = DescribeProducersRequest { topics: vec![topic], ..Default::default() };
        let subject = format!("the producers of {partition}");
        self.cluster
            .retry(|| async {
                let leader = self.cluster.leader(&partition.topic, partition.partition).await?;
                let answer = self.cluster.connection(leader).await?.send(&request).await?;
                let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
                let Some(answer) = partitions.next() else {
                    return Ok(Vec::new());
                };
                check(&subject, answer.error_code, answer.error_message.as_ref())?;
                Ok(answer.active_producers)
            })
            .await
    }

    /// What a broker has on its disks: of these topics, or of all.
    ///
    /// # Errors
    /// If the broker does not answer, or it refuses. Errors of directories are in the answer.
    pub async fn describe_log_dirs(
        &self,
        broker: BrokerId,
        topics: Option<&[&str]>,
    ) -> Result<Vec<DescribeLogDirsResult>, ClientError> {
        let topics = match topics {
            None => None,
            Some(names) => {
                let mut topics = Vec::new();
                for name in names {
                    let topic = self.cluster.topic(name).await?;
                    topics.push(DescribableLogDirTopic {
                        topic: (*topic.name).into(),
                        partitions: topic.partitions.iter().map(|p| p.partition).collect(),
                        ..Default::default()
                    });
                }
                Some(topics)
            }
        };
        let request = DescribeLogDirsRequest { topics, ..Default::default() };
        let response = self.cluster.send_to(broker, &request).await?;
        check(&format!("the log directories of broker {broker}"), response.error_code, None)?;
        Ok(response.results)
    }

    /// Moves replicas of a broker to other log directories of its, or has them made there. It
    /// answers when the moves have begun; [`Admin::describe_log_dirs`] tells how far they are.
    ///
    /// # Errors
    /// If the broker does not answer. What was refused is in the answer.
    pub async fn alter_replica_log_dirs(
        &self,
        broker: BrokerId,
        moves: &[(TopicPartition, String)],
    ) -> Result<Results<TopicPartition, ()>, ClientError> {
        let mut dirs: BTreeMap<&str, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for (name, dir) in moves {
            let topics = dirs.entry(dir).or_default();
            topics.entry(&name.topic).or_default().push(name.partition);
        }
        let topic = |(name, partitions): (&str, Vec<i32>)| AlterReplicaLogDirTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        };
        let dirs = dirs.into_iter().map(|(path, topics)| AlterReplicaLogDir {
            path: path.into(),
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        });
        let request = AlterReplicaLogDirsRequest { dirs: dirs.collect(), ..Default::default() };
        let response = self.cluster.send_to(broker, &request).await?;
        let mut results = Vec::new();
        for topic in &response.results {
            for partition in &topic.partitions {
                let name = TopicPartition::new(&*topic.topic_name, partition.partition_index);
                let subject = format!("moving {name} on broker {broker}");
                results.push((name, check(&subject, partition.error_code, None)));
            }
        }
        Ok(results)
    }
}

fn low_watermark(answer: &DeleteRecordsResponse, tp: &TopicPartition) -> Result<i64, ClientError> {
    let subject = format!("deleting records of {tp}");
    let topics = answer.topics.iter().filter(|topic| *topic.name == *tp.topic);
    let mut partitions = topics.flat_map(|topic| &topic.partitions);
    let Some(found) = partitions.find(|found| found.partition_index == tp.partition) else {
        return Err(ClientError::Refused {
            subject,
            code: crate::kafka::error_code::ErrorCode::UnknownServerError,
            message: Some("the broker's answer does not mention it".to_owned()),
        });
    };
    check(&subject, found.error_code, None)?;
    Ok(found.low_watermark)
}
