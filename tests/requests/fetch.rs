//! Fetch: limits, waiting, sessions, isolation and errors.

use std::time::Duration;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::delete_topics::DeleteTopicsRequest;
use ottla_common::kafka::messages::fetch::request::ForgottenTopic;
use ottla_common::kafka::messages::fetch::{FetchRequest, FetchResponse};
use ottla_common::types::Uuid;
use ottla_tests::node::Node;

use crate::asked::{all_topics, create, fetch, put, values};

/// The error of the only partition.
fn error(response: &FetchResponse) -> ErrorCode {
    ErrorCode::from_code(response.responses[0].partitions[0].error_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_reads_whole_batches_from_any_offset() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    put(&mut client, "t", &["a", "b", "c"]).await;
    put(&mut client, "t", &["d"]).await;
    let topics = client.call(12, &all_topics()).await.unwrap().topics;
    for version in 4..=18 {
        // From inside of the first batch: the whole batch comes.
        let mut request = fetch(&[("t", 0, 1)]);
        request.topics[0].topic_id = topics[0].topic_id;
        let response = client.call(version, &request).await.unwrap();
        let topic = &response.responses[0];
        let data = &topic.partitions[0];
        assert_eq!(values(data), ["a", "b", "c", "d"], "version {version}");
        assert_eq!((data.high_watermark, data.last_stable_offset), (4, 4));
        assert!(data.aborted_transactions.is_none());
        match version {
            13.. => assert_eq!(topic.topic_id, topics[0].topic_id),
            _ => assert_eq!(&*topic.topic, "t"),
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_comes_whatever_its_size_and_the_rest_within_limits() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 2).await;
    for _ in 0..3 {
        put(&mut client, "t", &["x".repeat(1000).as_str()]).await;
    }
    let mut request = fetch(&[("t", 0, 0), ("t", 1, 0)]);
    request.max_bytes = 1;
    let response = client.call(12, &request).await.unwrap();
    assert_eq!(values(&response.responses[0].partitions[0]).len(), 1);

    let mut request = fetch(&[("t", 0, 0)]);
    request.topics[0].partitions[0].partition_max_bytes = 2500;
    let response = client.call(12, &request).await.unwrap();
    assert_eq!(values(&response.responses[0].partitions[0]).len(), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_records_and_no_longer_than_it_wants() {
    let node = Node::start(&[]).await.unwrap();
    let mut consumer = node.client().await.unwrap();
    let mut producer = node.client().await.unwrap();
    create(&mut producer, "t", 2).await;

    let waiting = consumer.send(12, &fetch(&[("t", 0, 0), ("t", 1, 0)])).await.unwrap();
    put(&mut producer, "t", &["a"]).await;
    let response = consumer.receive::<FetchRequest>(12, waiting).await.unwrap();
    assert_eq!(values(&response.responses[0].partitions[0]), ["a"]);

    // Not enough bytes: the time passes.
    let mut request = fetch(&[("t", 0, 0)]);
    (request.min_bytes, request.max_wait_ms) = (1 << 20, 50);
    let began = std::time::Instant::now();
    let response = consumer.call(12, &request).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(values(&response.responses[0].partitions[0]), ["a"]);

    let mut request = fetch(&[("t", 0, 1)]);
    request.max_wait_ms = 0;
    let response = consumer.call(12, &request).await.unwrap();
    assert!(values(&response.responses[0].partitions[0]).is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_waits_hears_of_its_topics_end() {
    let node = Node::start(&[]).await.unwrap();
    let mut consumer = node.client().await.unwrap();
    let mut admin = node.client().await.unwrap();
    create(&mut admin, "t", 1).await;
    let waiting = consumer.send(12, &fetch(&[("t", 0, 0)])).await.unwrap();
    let request =
        DeleteTopicsRequest { topic_names: vec!["t".into()], ..DeleteTopicsRequest::default() };
    admin.call(5, &request).await.unwrap();
    let response = consumer.receive::<FetchRequest>(12, waiting).await.unwrap();
    let codes = [ErrorCode::UnknownTopicOrPartition, ErrorCode::NotLeaderOrFollower];
    assert!(codes.contains(&error(&response)), "{response:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_sends_only_what_changed() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "a", 1).await;
    create(&mut client, "b", 1).await;
    let told = |response: &FetchResponse| -> Vec<String> {
        response.responses.iter().map(|topic| topic.topic.to_string()).collect()
    };
    let in_session = |mut request: FetchRequest, session_id: i32, session_epoch: i32| {
        (request.session_id, request.session_epoch) = (session_id, session_epoch);
        request.max_wait_ms = 100;
        request
    };
    let request = in_session(fetch(&[("a", 0, 0), ("b", 0, 0)]), 0, 0);
    let response = client.call(12, &request).await.unwrap();
    assert_eq!(told(&response), ["a", "b"]);
    let id = response.session_id;
    assert_ne!(id, 0);

    let response = client.call(12, &in_session(fetch(&[]), id, 1)).await.unwrap();
    assert!(told(&response).is_empty() && response.session_id == id);
    put(&mut client, "b", &["x"]).await;
    let response = client.call(12, &in_session(fetch(&[]), id, 2)).await.unwrap();
    assert_eq!(told(&response), ["b"]);

    // A stale epoch, a forgotten topic, another way of naming topics, the end.
    let response = client.call(12, &in_session(fetch(&[]), id, 2)).await.unwrap();
    assert_eq!(response.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    let mut forget = in_session(fetch(&[]), id, 3);
    forget.forgotten_topics_data = vec![ForgottenTopic {
        topic: "b".into(),
        partitions: vec![0],
        ..ForgottenTopic::default()
    }];
    assert!(told(&client.call(12, &forget).await.unwrap()).is_empty());
    let response = client.call(13, &in_session(fetch(&[]), id, 4)).await.unwrap();
    assert_eq!(response.error_code, ErrorCode::FetchSessionTopicIdError.code());
    client.call(12, &in_session(fetch(&[]), id, -1)).await.unwrap();
    let response = client.call(12, &in_session(fetch(&[]), id, 4)).await.unwrap();
    assert_eq!(response.error_code, ErrorCode::FetchSessionIdNotFound.code());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_told_at_once() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    put(&mut client, "t", &["a"]).await;
    for (what, request, expected) in [
        ("no such topic", fetch(&[("nowhere", 0, 0)]), ErrorCode::UnknownTopicOrPartition),
        ("no such partition", fetch(&[("t", 9, 0)]), ErrorCode::UnknownTopicOrPartition),
        ("beyond the end", fetch(&[("t", 0, 2)]), ErrorCode::OffsetOutOfRange),
        ("before the start", fetch(&[("t", 0, -1)]), ErrorCode::OffsetOutOfRange),
    ] {
        let response = client.call(12, &request).await.unwrap();
        assert_eq!(error(&response), expected, "{what}");
    }
    let mut request = fetch(&[("t", 0, 0)]);
    request.topics[0].partitions[0].current_leader_epoch = 9;
    assert_eq!(error(&client.call(12, &request).await.unwrap()), ErrorCode::UnknownLeaderEpoch);
    let mut request = fetch(&[("", 0, 0)]);
    request.topics[0].topic_id = Uuid([9; 16]);
    assert_eq!(error(&client.call(13, &request).await.unwrap()), ErrorCode::UnknownTopicId);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_pass_for_a_replica() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    let mut request = fetch(&[("t", 0, 0)]);
    request.replica_id = 1;
    for version in [7, 12] {
        let response = client.call(version, &request).await.unwrap();
        assert_eq!(response.error_code, ErrorCode::ClusterAuthorizationFailed.code());
    }
    assert_eq!(
        error(&client.call(6, &request).await.unwrap()),
        ErrorCode::ClusterAuthorizationFailed
    );
    let mut request = fetch(&[("t", 0, 0)]);
    request.replica_state.replica_id = 1;
    let response = client.call(17, &request).await.unwrap();
    assert_eq!(response.error_code, ErrorCode::ClusterAuthorizationFailed.code());
    node.stop().await;
}
