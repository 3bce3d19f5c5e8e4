//! Batches on their way: the request that carries them, and what its answer says of each.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::ProducerOptions;
use super::delivery::{Settled, SettledOnDrop};
use crate::kafka::client::ClientError;
use crate::kafka::cluster::ClusterMetadata;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::produce::request::{PartitionProduceData, TopicProduceData};
use crate::kafka::messages::produce::response::PartitionProduceResponse;
use crate::kafka::messages::produce::{ProduceRequest, ProduceResponse};
use crate::kafka::record_batch::{BatchError, set_producer};
use crate::kafka::wire::Records;
use crate::types::TopicId;

/// The last version of Produce that names topics; later ones have their ids.
const LAST_VERSION_BY_NAME: i16 = 12;

/// A batch that was built, and is sent until it is settled.
#[derive(Debug)]
pub(super) struct ReadyBatch {
    /// The sender's number for its partition.
    pub index: usize,
    /// Its place among all batches of the producer, by which those of a partition are ordered.
    pub number: u64,
    pub topic: Arc<str>,
    pub partition: i32,
    pub bytes: Bytes,
    pub stamp: Stamp,
    pub records_count: i32,
    pub cell: SettledOnDrop,
    pub created: Instant,
    pub reserved: usize,
}

/// What makes a batch one of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl ReadyBatch {
    /// Makes the batch carry another producer id or sequence.
    pub fn restamp(&mut self, stamp: Stamp) -> Result<(), BatchError> {
        if stamp != self.stamp {
            let mut bytes = self.bytes.to_vec();
            let Stamp { producer_id, producer_epoch, base_sequence } = stamp;
            set_producer(&mut bytes, producer_id, producer_epoch, base_sequence)?;
            self.bytes = Bytes::from(bytes);
            self.stamp = stamp;
        }
        Ok(())
    }
}

/// The request for these batches, at most one of each partition, and the highest version that it
/// can be sent in.
pub(super) fn produce_request(
    options: &ProducerOptions,
    batches: &[ReadyBatch],
    metadata: &ClusterMetadata,
) -> (ProduceRequest, i16) {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    let mut version_max = i16::MAX;
    // Those of one topic mostly follow one another.
    for batch in batches {
        let data = PartitionProduceData {
            index: batch.partition,
            records: Some(Records::Bytes(batch.bytes.clone())),
            ..PartitionProduceData::default()
        };
        if let Some(topic) = topics.iter_mut().rev().find(|topic| *topic.name == *batch.topic) {
            topic.partition_data.push(data);
            continue;
        }
        let topic_id = metadata.topic(&batch.topic).map_or(TopicId::ZERO, |topic| topic.id);
        if topic_id.is_zero() {
            version_max = LAST_VERSION_BY_NAME;
        }
        topics.push(TopicProduceData {
            name: (*batch.topic).into(),
            topic_id,
            partition_data: vec![data],
            ..TopicProduceData::default()
        });
    }
    let request = ProduceRequest {
        acks: options.acks.wire(),
        timeout_ms: options.replication_timeout_ms,
        topic_data: topics,
        ..ProduceRequest::default()
    };
    (request, version_max)
}

/// What an answer says of each partition.
pub(super) struct Answers {
    partitions: HashMap<(String, i32), PartitionProduceResponse>,
}

impl Answers {
    pub fn new(response: ProduceResponse, metadata: &ClusterMetadata) -> Self {
        let mut partitions = HashMap::new();
        for topic in response.responses {
            let name = match metadata.topic_by_id(topic.topic_id) {
                Some(known) => known.name.to_string(),
                None => topic.name.to_string(),
            };
            for partition in topic.partition_responses {
                partitions.insert((name.clone(), partition.index), partition);
            }
        }
        Self { partitions }
    }

    /// What became of a batch.
    pub fn take(&mut self, topic: &str, partition: i32) -> Result<Settled, ClientError> {
        let subject = || format!("a batch for {topic}-{partition}");
        let answer = self.partitions.remove(&(topic.to_owned(), partition));
        let Some(answer) = answer else {
            let message = Some("the broker's answer does not mention it".to_owned());
            let code = ErrorCode::NetworkException;
            return Err(ClientError::Refused { subject: subject(), code, message });
        };
        let code = ErrorCode::from_code(answer.error_code);
        if matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
            return Ok(Settled {
                base_offset: answer.base_offset,
                log_append_time_ms: answer.log_append_time_ms,
            });
        }
        let mut message = answer.error_message.map(|message| message.to_string());
        for record in answer.record_errors {
            let text = record.batch_index_error_message.as_deref().unwrap_or("invalid");
            let so_far = message.take().map(|message| message + "; ").unwrap_or_default();
            message = Some(format!("{so_far}record {} of the batch: {text}", record.batch_index));
        }
        Err(ClientError::Refused { subject: subject(), code, message })
    }
}

/// What is to be done about a batch that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it again, after a pause and with new metadata.
    Retry,
    /// The sequence is wrong: see whether a batch before it is missing.
    OutOfOrder,
    /// The broker does not know the producer, and did not append the batch.
    UnknownProducer,
    /// The producer's id or epoch is no longer accepted.
    Fenced,
    /// Give it up.
    GiveUp,
}

/// What is to be done about a batch that failed with this error.
pub(super) fn verdict(error: &ClientError) -> Verdict {
    match error.code() {
        Some(ErrorCode::OutOfOrderSequenceNumber) => Verdict::OutOfOrder,
        Some(ErrorCode::UnknownProducerId) => Verdict::UnknownProducer,
        Some(
            ErrorCode::InvalidProducerEpoch
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::ProducerFenced,
        ) => Verdict::Fenced,
        // A topic that was made anew has another id: metadata tell.
        Some(ErrorCode::UnknownTopicId) => Verdict::Retry,
        _ if error.is_retriable() => Verdict::Retry,
        _ => Verdict::GiveUp,
    }
}
