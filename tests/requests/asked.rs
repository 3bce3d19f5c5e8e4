//! The requests that the tests send, made short.

use bytes::Bytes;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::create_topics::CreateTopicsRequest;
use ottla_common::kafka::messages::create_topics::request::CreatableTopic;
use ottla_common::kafka::messages::fetch::FetchRequest;
use ottla_common::kafka::messages::fetch::request::{FetchPartition, FetchTopic};
use ottla_common::kafka::messages::fetch::response::PartitionData;
use ottla_common::kafka::messages::metadata::MetadataRequest;
use ottla_common::kafka::messages::produce::request::{PartitionProduceData, TopicProduceData};
use ottla_common::kafka::messages::produce::response::PartitionProduceResponse;
use ottla_common::kafka::messages::produce::{ProduceRequest, ProduceResponse};
use ottla_common::kafka::record_batch::RecordBatch;
use ottla_common::kafka::records::{BatchBuilder, BatchOptions, RecordLimits};
use ottla_common::kafka::wire::Records;
use ottla_tests::raw::RawClient;

/// The time of the records.
const NOW_MS: i64 = 1_700_000_000_000;

/// Creates a topic.
pub async fn create(client: &mut RawClient, name: &str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    let response = client.call(7, &request).await.unwrap();
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
}

/// A Metadata request for all topics.
pub fn all_topics() -> MetadataRequest {
    MetadataRequest { topics: None, ..MetadataRequest::default() }
}

/// One batch with these values.
pub fn batch(values: &[&str], options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for (at, value) in (NOW_MS..).zip(values) {
        builder.append(at, None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.build().unwrap()
}

/// One batch of an idempotent producer.
pub fn sequenced(values: &[&str], producer_id: i64, base_sequence: i32) -> Bytes {
    let options =
        BatchOptions { producer_id, producer_epoch: 0, base_sequence, ..BatchOptions::default() };
    batch(values, options)
}

/// A Produce request with these batches: topic, partition, records.
pub fn produce(acks: i16, batches: Vec<(&str, i32, Bytes)>) -> ProduceRequest {
    let topic_data = batches.into_iter().map(|(topic, index, records)| TopicProduceData {
        name: topic.into(),
        partition_data: vec![PartitionProduceData {
            index,
            records: Some(records.into()),
            ..PartitionProduceData::default()
        }],
        ..TopicProduceData::default()
    });
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: topic_data.collect(),
        ..ProduceRequest::default()
    }
}

/// Produces values to partition 0 of a topic; returns the first one's offset.
pub async fn put(client: &mut RawClient, topic: &str, values: &[&str]) -> i64 {
    let request = produce(-1, vec![(topic, 0, batch(values, BatchOptions::default()))]);
    let response = client.call(9, &request).await.unwrap();
    let partition = only_partition(&response);
    assert_eq!(partition.error_code, 0, "{partition:?}");
    partition.base_offset
}

/// The only partition of a response.
pub fn only_partition(response: &ProduceResponse) -> &PartitionProduceResponse {
    assert_eq!(response.responses.len(), 1);
    assert_eq!(response.responses[0].partition_responses.len(), 1);
    &response.responses[0].partition_responses[0]
}

/// A Fetch request without session for these partitions: topic, partition, offset.
pub fn fetch(partitions: &[(&str, i32, i64)]) -> FetchRequest {
    let topics = partitions.iter().map(|(topic, partition, fetch_offset)| FetchTopic {
        topic: (*topic).into(),
        partitions: vec![FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        }],
        ..FetchTopic::default()
    });
    FetchRequest {
        max_wait_ms: 10_000,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: topics.collect(),
        ..FetchRequest::default()
    }
}

/// The values of the records of a partition of a Fetch response, from the first offset on.
pub fn values(data: &PartitionData) -> Vec<String> {
    assert_eq!(ErrorCode::from_code(data.error_code), ErrorCode::None);
    let Some(Records::Bytes(bytes)) = &data.records else { panic!("no records") };
    let mut rest = bytes.clone();
    let mut values = Vec::new();
    while let Some(batch) = RecordBatch::split_from(&mut rest).unwrap() {
        batch.validate().unwrap();
        for record in batch.records(RecordLimits::default()) {
            let value = record.unwrap().value.unwrap();
            values.push(String::from_utf8(value.to_vec()).unwrap());
        }
    }
    values
}
