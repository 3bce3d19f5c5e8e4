//! What the codec costs. Records must pass without being copied: the bars are 200 ns to decode a
//! Produce request of 1 MiB and 300 ns to encode a Fetch response of 1 MiB, whatever their size.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kafka_protocol::messages::ProduceRequest as TheirProduceRequest;
use kafka_protocol::protocol::Decodable;
use ottla_common::kafka::messages::fetch::FetchResponse;
use ottla_common::kafka::messages::fetch::response::{FetchableTopicResponse, PartitionData};
use ottla_common::kafka::messages::metadata::MetadataResponse;
use ottla_common::kafka::messages::metadata::response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_common::kafka::messages::produce::ProduceRequest;
use ottla_common::kafka::messages::produce::request::{PartitionProduceData, TopicProduceData};
use ottla_common::kafka::response::encode_response;
use ottla_common::kafka::wire::{Decode, Encode, Reader, Records};

const VERSION: i16 = 12;

fn records() -> Records {
    Records::Bytes(Bytes::from(vec![7; 1 << 20]))
}

fn produce_request() -> Bytes {
    let partition = PartitionProduceData { records: Some(records()), ..Default::default() };
    let topic = TopicProduceData {
        name: "a-topic".into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        ..Default::default()
    };
    request.to_bytes(VERSION).unwrap()
}

fn fetch_response() -> FetchResponse {
    let partition = PartitionData { records: Some(records()), ..Default::default() };
    let topic = FetchableTopicResponse {
        topic: "a-topic".into(),
        partitions: vec![partition],
        ..Default::default()
    };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

fn metadata_response(partitions: i32) -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2, 3],
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("a-topic".into()),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    };
    MetadataResponse { topics: vec![topic], ..Default::default() }
}

fn codec(criterion: &mut Criterion) {
    let frame = produce_request();
    criterion.bench_function("decode produce of 1 MiB", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(black_box(&frame).clone());
            ProduceRequest::decode(&mut reader, VERSION).unwrap()
        });
    });
    criterion.bench_function("decode produce of 1 MiB, kafka-protocol", |bencher| {
        bencher
            .iter(|| TheirProduceRequest::decode(&mut black_box(&frame).clone(), VERSION).unwrap());
    });
    let response = fetch_response();
    criterion.bench_function("encode fetch of 1 MiB", |bencher| {
        bencher.iter(|| encode_response(VERSION, 7, black_box(&response)).unwrap());
    });
    let response = metadata_response(1000);
    criterion.bench_function("encode metadata of 1000 partitions", |bencher| {
        bencher.iter(|| encode_response(VERSION, 7, black_box(&response)).unwrap());
    });
    let frame = response.to_bytes(VERSION).unwrap();
    criterion.bench_function("decode metadata of 1000 partitions", |bencher| {
        bencher.iter_batched(
            || frame.clone(),
            |frame| MetadataResponse::decode(&mut Reader::new(frame), VERSION).unwrap(),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);
