//! ListOffsets: where a partition begins and ends, and what has a timestamp.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::Cluster;
use crate::kafka::client::ClientError;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::list_offsets::request::{ListOffsetsPartition, ListOffsetsTopic};
use crate::kafka::messages::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use crate::types::{BrokerId, TopicPartition};

/// Asks for the offset that the next record will get (with isolation: the last stable one).
pub const LATEST_TIMESTAMP: i64 = -1;
/// Asks for the first offset.
pub const EARLIEST_TIMESTAMP: i64 = -2;

/// Whether records of transactions that are open or were aborted are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// They are.
    #[default]
    ReadUncommitted,
    /// They are not.
    ReadCommitted,
}

impl Isolation {
    /// The number on the wire.
    pub fn wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// An offset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; `None` if no record has that timestamp or a later one.
    pub offset: Option<i64>,
    /// The record's timestamp; -1 if the question was not about one.
    pub timestamp_ms: i64,
    /// The epoch of the leader that appended the record, or -1.
    pub leader_epoch: i32,
}

/// The answer for one partition.
pub type OffsetAnswer = (TopicPartition, Result<ListedOffset, ClientError>);

impl Cluster {
    /// Asks each partition for the first offset with this timestamp (milliseconds since 1970) or a
    /// later one, or for one of the special ones: -1 latest, -2 earliest, -3 largest timestamp, and
    /// so on. Asks each leader once; nothing is tried again.
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, i64)],
        isolation: Isolation,
    ) -> Vec<OffsetAnswer> {
        let mut answers = Vec::with_capacity(wanted.len());
        let mut by_leader: BTreeMap<BrokerId, Vec<(TopicPartition, i64)>> = BTreeMap::new();
        for (partition, timestamp) in wanted {
            match self.leader(&partition.topic, partition.partition).await {
                Ok(leader) => {
                    by_leader.entry(leader).or_default().push((partition.clone(), *timestamp));
                }
                Err(error) => answers.push((partition.clone(), Err(error))),
            }
        }
        let asked = by_leader.into_iter().map(|(leader, wanted)| async move {
            let answer = self.ask_leader(leader, &wanted, isolation).await;
            pick(wanted, answer)
        });
        answers.extend(join_all(asked).await.into_iter().flatten());
        answers
    }

    async fn ask_leader(
        &self,
        leader: BrokerId,
        wanted: &[(TopicPartition, i64)],
        isolation: Isolation,
    ) -> Result<ListOffsetsResponse, ClientError> {
        let metadata = self.metadata();
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (partition, timestamp) in wanted {
            let topic = metadata.topic(&partition.topic);
            let known = topic.and_then(|topic| topic.partition(partition.partition).ok());
            topics.entry(&partition.topic).or_default().push(ListOffsetsPartition {
                partition_index: partition.partition,
                current_leader_epoch: known.map_or(-1, |known| known.leader_epoch),
                timestamp: *timestamp,
                ..ListOffsetsPartition::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic {
            name: name.into(),
            partitions,
            ..ListOffsetsTopic::default()
        });
        let timeout_ms = self.options().client.request_timeout_ms;
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: isolation.wire(),
            topics: topics.collect(),
            timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
            ..ListOffsetsRequest::default()
        };
        self.connection(leader).await?.send(&request).await
    }
}

/// What an answer says of each partition that was asked about.
fn pick(
    wanted: Vec<(TopicPartition, i64)>,
    answer: Result<ListOffsetsResponse, ClientError>,
) -> Vec<OffsetAnswer> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return wanted.into_iter().map(|(tp, _)| (tp, Err(error.clone()))).collect();
        }
    };
    let mut found = BTreeMap::new();
    for topic in &answer.topics {
        for partition in &topic.partitions {
            found.insert((&*topic.name, partition.partition_index), partition);
        }
    }
    let of = |tp: &TopicPartition| {
        let subject = || format!("the offsets of {tp}");
        let Some(found) = found.get(&(&*tp.topic, tp.partition)) else {
            let message = Some("the broker's answer does not mention it".to_owned());
            let code = ErrorCode::NetworkException;
            return Err(ClientError::Refused { subject: subject(), code, message });
        };
        ClientError::check(subject, ErrorCode::from_code(found.error_code), None::<&str>)?;
        Ok(ListedOffset {
            offset: (found.offset >= 0).then_some(found.offset),
            timestamp_ms: found.timestamp,
            leader_epoch: found.leader_epoch,
        })
    };
    wanted.iter().map(|(tp, _)| (tp.clone(), of(tp))).collect()
}
