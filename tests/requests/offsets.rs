//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords, DescribeProducers, DescribeLogDirs.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::delete_records::DeleteRecordsRequest;
use ottla_common::kafka::messages::delete_records::request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_common::kafka::messages::describe_log_dirs::DescribeLogDirsRequest;
use ottla_common::kafka::messages::describe_producers::DescribeProducersRequest;
use ottla_common::kafka::messages::describe_producers::request::TopicRequest;
use ottla_common::kafka::messages::list_offsets::ListOffsetsRequest;
use ottla_common::kafka::messages::list_offsets::request::{
    ListOffsetsPartition, ListOffsetsTopic,
};
use ottla_common::kafka::messages::offset_for_leader_epoch::OffsetForLeaderEpochRequest;
use ottla_common::kafka::messages::offset_for_leader_epoch::request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_tests::node::Node;

use crate::asked::{create, produce, put, sequenced};

fn list(topic: &str, partition_index: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition =
        ListOffsetsPartition { partition_index, timestamp, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic {
        name: topic.into(),
        partitions: vec![partition],
        ..ListOffsetsTopic::default()
    };
    ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time_and_by_special_times_from_their_versions_on() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    put(&mut client, "t", &["a", "b", "c"]).await;
    let unsupported = ErrorCode::UnsupportedVersion.code();
    for version in 1..=11 {
        for (timestamp, from_version, offset) in [
            (-1, 1, 3),
            (-2, 1, 0),
            (-3, 7, 2),
            (-4, 8, 0),
            (-5, 9, -1),
            (-6, 11, -1),
            (-7, 99, -1),
            (0, 1, 0),
            (1_700_000_000_001, 1, 1),
            (1_800_000_000_000, 1, -1),
        ] {
            let response = client.call(version, &list("t", 0, timestamp)).await.unwrap();
            let found = &response.topics[0].partitions[0];
            let expected = if version < from_version { (unsupported, -1) } else { (0, offset) };
            assert_eq!((found.error_code, found.offset), expected, "{timestamp} v{version}");
        }
    }
    for (topic, partition) in [("nowhere", 0), ("t", 9)] {
        let response = client.call(7, &list(topic, partition, -1)).await.unwrap();
        assert_eq!(response.topics[0].partitions[0].error_code, 3);
    }
    let mut twice = list("t", 0, -1);
    let partition = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(partition);
    let response = client.call(7, &twice).await.unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::InvalidRequest.code());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_epochs_tell_where_they_end() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    put(&mut client, "t", &["a", "b"]).await;
    for (current_leader_epoch, leader_epoch, expected) in [
        (-1, 0, (ErrorCode::None, 0, 2)),
        (0, 0, (ErrorCode::None, 0, 2)),
        (-1, 5, (ErrorCode::None, -1, -1)),
        (5, 0, (ErrorCode::UnknownLeaderEpoch, -1, -1)),
    ] {
        let partition = OffsetForLeaderPartition {
            current_leader_epoch,
            leader_epoch,
            ..OffsetForLeaderPartition::default()
        };
        let topic = OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![partition],
            ..OffsetForLeaderTopic::default()
        };
        let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let response = client.call(4, &request).await.unwrap();
        let found = &response.topics[0].partitions[0];
        let error = ErrorCode::from_code(found.error_code);
        assert_eq!((error, found.leader_epoch, found.end_offset), expected);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_move_the_start_of_the_log() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    put(&mut client, "t", &["a", "b", "c"]).await;
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    for (topic, offset, expected) in [
        ("t", 2, (0, 2)),
        ("t", 1, (0, 2)),
        ("t", 4, (out_of_range, -1)),
        ("t", -2, (out_of_range, -1)),
        ("t", -1, (0, 3)),
        ("nowhere", 0, (3, -1)),
    ] {
        let partition = DeleteRecordsPartition { offset, ..DeleteRecordsPartition::default() };
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.into(),
                partitions: vec![partition],
                ..DeleteRecordsTopic::default()
            }],
            ..DeleteRecordsRequest::default()
        };
        let response = client.call(2, &request).await.unwrap();
        let result = &response.topics[0].partitions[0];
        assert_eq!((result.error_code, result.low_watermark), expected, "{topic} {offset}");
    }
    let response = client.call(7, &list("t", 0, -2)).await.unwrap();
    assert_eq!(response.topics[0].partitions[0].offset, 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_and_directories_are_described() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 2).await;
    let request = produce(-1, vec![("t", 1, sequenced(&["a", "b"], 77, 0))]);
    client.call(9, &request).await.unwrap();
    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: "t".into(),
            partition_indexes: vec![0, 1, 9],
            ..TopicRequest::default()
        }],
        ..DescribeProducersRequest::default()
    };
    let response = client.call(0, &request).await.unwrap();
    let partitions = &response.topics[0].partitions;
    assert!(partitions[0].active_producers.is_empty());
    let producer = &partitions[1].active_producers[0];
    assert_eq!((producer.producer_id, producer.last_sequence), (77, 1));
    assert_eq!(producer.current_txn_start_offset, -1);
    assert_eq!(partitions[2].error_code, 3);

    let request = DescribeLogDirsRequest { topics: None, ..DescribeLogDirsRequest::default() };
    let response = client.call(5, &request).await.unwrap();
    let dir = &response.results[0];
    assert_eq!((dir.error_code, dir.topics.len()), (0, 1));
    let sizes: Vec<_> = dir.topics[0].partitions.iter().map(|at| at.partition_size > 0).collect();
    assert_eq!(sizes, [false, true]);
    assert!(dir.total_bytes >= dir.usable_bytes && dir.usable_bytes > 0);
    node.stop().await;
}
