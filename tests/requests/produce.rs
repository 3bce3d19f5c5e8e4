//! Produce: acks, order, idempotence, and what is refused.

use bytes::Bytes;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::messages::init_producer_id::InitProducerIdRequest;
use ottla_common::kafka::messages::produce::ProduceRequest;
use ottla_common::kafka::records::BatchOptions;
use ottla_common::types::Uuid;
use ottla_tests::node::Node;

use crate::asked::{
    all_topics, batch, create, fetch, only_partition, produce, put, sequenced, values,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_version_and_acks_appends_in_order() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    let mut expected = 0;
    for version in 3..=12 {
        for acks in [1, -1] {
            let records = batch(&["a", "b"], BatchOptions::default());
            let request = produce(acks, vec![("t", 0, records)]);
            let response = client.call(version, &request).await.unwrap();
            let partition = only_partition(&response);
            assert_eq!((partition.error_code, partition.base_offset), (0, expected));
            expected += 2;
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_named_by_id_from_version_13() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    let metadata = client.call(12, &all_topics()).await.unwrap();
    let id = metadata.topics[0].topic_id;
    for (topic_id, error) in [(id, ErrorCode::None), (Uuid([9; 16]), ErrorCode::UnknownTopicId)] {
        let mut request = produce(-1, vec![("", 0, batch(&["a"], BatchOptions::default()))]);
        request.topic_data[0].topic_id = topic_id;
        let response = client.call(13, &request).await.unwrap();
        assert_eq!(response.responses[0].topic_id, topic_id);
        assert_eq!(ErrorCode::from_code(only_partition(&response).error_code), error);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_batches_keep_their_order_and_their_replies() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    let mut sent = Vec::new();
    for number in 0..50 {
        let value = number.to_string();
        // Replies wait for the disk, but for each third.
        let acks = if number % 3 == 0 { 1 } else { -1 };
        let request = produce(acks, vec![("t", 0, batch(&[&value], BatchOptions::default()))]);
        sent.push(client.send(9, &request).await.unwrap());
    }
    for (offset, correlation_id) in (0..).zip(sent) {
        let response = client.receive::<ProduceRequest>(9, correlation_id).await.unwrap();
        assert_eq!(only_partition(&response).base_offset, offset);
    }
    let response = client.call(12, &fetch(&[("t", 0, 0)])).await.unwrap();
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(values(&response.responses[0].partitions[0]), expected);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_is_never_answered_and_its_error_closes_the_connection() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    let records = batch(&["a"], BatchOptions::default());
    client.send(9, &produce(0, vec![("t", 0, records.clone())])).await.unwrap();
    // The next answer is that of the next request.
    assert_eq!(put(&mut client, "t", &["b"]).await, 1);
    client.send(9, &produce(0, vec![("nowhere", 0, records)])).await.unwrap();
    assert_eq!(client.receive_bytes().await.unwrap(), None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_producer_appends_each_batch_once() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    let request =
        InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
    let first = client.call(4, &request).await.unwrap();
    let second = client.call(4, &request).await.unwrap();
    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    assert_ne!(first.producer_id, second.producer_id);

    let id = first.producer_id;
    for (values, sequence, error, offset) in [
        (vec!["a", "b"], 0, ErrorCode::None, 0),
        (vec!["c"], 2, ErrorCode::None, 2),
        // A retry is told where it stands.
        (vec!["a", "b"], 0, ErrorCode::None, 0),
        (vec!["c"], 2, ErrorCode::None, 2),
        // A gap is not.
        (vec!["e"], 4, ErrorCode::OutOfOrderSequenceNumber, -1),
        (vec!["d"], 3, ErrorCode::None, 3),
    ] {
        let request = produce(-1, vec![("t", 0, sequenced(&values, id, sequence))]);
        let response = client.call(9, &request).await.unwrap();
        let partition = only_partition(&response);
        assert_eq!(ErrorCode::from_code(partition.error_code), error, "{values:?}");
        assert_eq!(partition.base_offset, offset, "{values:?}");
    }
    let response = client.call(12, &fetch(&[("t", 0, 0)])).await.unwrap();
    assert_eq!(values(&response.responses[0].partitions[0]), ["a", "b", "c", "d"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_appended_is_refused_by_partition() {
    let node = Node::start(&[("message.max.bytes", "2000")]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 2).await;
    let good = batch(&["a"], BatchOptions::default());
    let mut corrupt = good.to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let mut old = good.to_vec();
    old[16] = 1;
    let transactional =
        batch(&["a"], BatchOptions { transactional: true, producer_id: 1, ..Default::default() });
    let large = batch(&["x".repeat(3000).as_str()], BatchOptions::default());
    for (what, topic, partition, records, error) in [
        ("good", "t", 1, good.clone(), ErrorCode::None),
        ("unknown topic", "nowhere", 0, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("unknown partition", "t", 2, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("empty", "t", 0, Bytes::new(), ErrorCode::InvalidRecord),
        ("cut short", "t", 0, good.slice(..40), ErrorCode::InvalidRecord),
        ("two batches", "t", 0, [&good[..], &good].concat().into(), ErrorCode::InvalidRecord),
        ("corrupt", "t", 0, corrupt.into(), ErrorCode::CorruptMessage),
        ("an old format", "t", 0, old.into(), ErrorCode::InvalidRecord),
        ("transactional", "t", 0, transactional, ErrorCode::TransactionalIdAuthorizationFailed),
        ("large", "t", 0, large, ErrorCode::MessageTooLarge),
    ] {
        let response =
            client.call(9, &produce(-1, vec![(topic, partition, records)])).await.unwrap();
        let refused = only_partition(&response);
        assert_eq!(ErrorCode::from_code(refused.error_code), error, "{what}: {refused:?}");
    }
    let response = client.call(9, &produce(2, vec![("t", 0, good.clone())])).await.unwrap();
    let error = ErrorCode::from_code(only_partition(&response).error_code);
    assert_eq!(error, ErrorCode::InvalidRequiredAcks);
    let zstd =
        batch(&["a"], BatchOptions { compression: Compression::Zstd, ..BatchOptions::default() });
    for (version, error) in [(6, ErrorCode::UnsupportedCompressionType), (7, ErrorCode::None)] {
        let response =
            client.call(version, &produce(1, vec![("t", 0, zstd.clone())])).await.unwrap();
        assert_eq!(ErrorCode::from_code(only_partition(&response).error_code), error);
    }
    // One bad partition does not touch the others.
    let both = produce(-1, vec![("nowhere", 0, good.clone()), ("t", 0, good)]);
    let response = client.call(9, &both).await.unwrap();
    let codes = response.responses.iter().map(|topic| topic.partition_responses[0].error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [3, 0]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    put(&mut client, "t", &["a", "b"]).await;
    let node = node.restart().await.unwrap();
    let mut client = node.client().await.unwrap();
    assert_eq!(put(&mut client, "t", &["c"]).await, 2);
    let response = client.call(12, &fetch(&[("t", 0, 0)])).await.unwrap();
    assert_eq!(values(&response.responses[0].partitions[0]), ["a", "b", "c"]);
    node.stop().await;
}
