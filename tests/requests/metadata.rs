//! ApiVersions, Metadata, DescribeCluster, DescribeTopicPartitions: what clients ask first.

use ottla_common::kafka::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_common::kafka::messages::describe_cluster::DescribeClusterRequest;
use ottla_common::kafka::messages::describe_topic_partitions::DescribeTopicPartitionsRequest;
use ottla_common::kafka::messages::describe_topic_partitions::request::{Cursor, TopicRequest};
use ottla_common::kafka::messages::list_transactions::ListTransactionsRequest;
use ottla_common::kafka::messages::metadata::MetadataRequest;
use ottla_common::kafka::messages::metadata::request::MetadataRequestTopic;
use ottla_common::kafka::wire::{Decode, Reader};
use ottla_common::kafka::{ApiKey, ErrorCode};
use ottla_common::types::Uuid;
use ottla_tests::node::Node;

use crate::asked::create;

fn named(names: &[&str]) -> MetadataRequest {
    let topics = names.iter().map(|name| MetadataRequestTopic {
        name: Some((*name).into()),
        ..MetadataRequestTopic::default()
    });
    MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_versions_lists_the_table_in_every_version_and_survives_those_to_come() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    for version in 0..=5 {
        let response = client.call(version, &request).await.unwrap();
        assert_eq!(response.error_code, 0);
        let range = |key: ApiKey| {
            let found = response.api_keys.iter().find(|api| api.api_key == key.code());
            found.map(|api| (api.min_version, api.max_version))
        };
        assert_eq!(range(ApiKey::Produce), Some((0, 13)));
        assert_eq!(range(ApiKey::ApiVersions), Some((0, 5)));
        assert_eq!(range(ApiKey::InitProducerId), Some((0, 5)));
        assert_eq!(range(ApiKey::ShareFetch), None);
    }
    let nameless = client.call(3, &ApiVersionsRequest::default()).await.unwrap();
    assert_eq!(nameless.error_code, ErrorCode::InvalidRequest.code());

    // Size, key 18, version 99, correlation id 7, and nothing that version 99 would have.
    client.send_bytes(&[0, 0, 0, 8, 0, 18, 0, 99, 0, 0, 0, 7]).await.unwrap();
    let bytes = client.receive_bytes().await.unwrap().unwrap();
    assert_eq!(bytes[..4], 7_i32.to_be_bytes());
    let response = ApiVersionsResponse::decode(&mut Reader::new(bytes.slice(4..)), 0).unwrap();
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!((response.api_keys[0].api_key, response.api_keys[0].max_version), (18, 5));
    assert_eq!(client.call(4, &request).await.unwrap().error_code, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_offered_closes_the_connection() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    client.send(0, &ListTransactionsRequest::default()).await.unwrap();
    assert_eq!(client.receive_bytes().await.unwrap(), None);
    // Produce version 2, advertised and refused.
    let mut client = node.client().await.unwrap();
    client.send_bytes(&[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 7, 0xff, 0xff]).await.unwrap();
    assert_eq!(client.receive_bytes().await.unwrap(), None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn null_means_all_topics_and_empty_none() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "b", 1).await;
    create(&mut client, "a", 3).await;
    for version in 0..=13 {
        let empty = MetadataRequest { topics: Some(Vec::new()), ..named(&[]) };
        let request = MetadataRequest { allow_auto_topic_creation: true, ..empty };
        let count = client.call(version, &request).await.unwrap().topics.len();
        assert_eq!(count, if version == 0 { 2 } else { 0 }, "version {version}");
        if version == 0 {
            continue;
        }
        let request = MetadataRequest { topics: None, ..request };
        let response = client.call(version, &request).await.unwrap();
        let names: Vec<_> = response.topics.iter().map(|topic| topic.name.as_deref()).collect();
        assert_eq!(names, [Some("a"), Some("b")], "version {version}");
        assert_eq!(response.topics[0].partitions.len(), 3);
        assert_eq!(response.topics[0].partitions[2].leader_id, 1);
        assert_eq!(response.topics[0].topic_id.is_zero(), version < 10);
        assert_eq!(response.brokers[0].port, i32::from(node.address.port()));
        assert_eq!(response.controller_id, 1);
        assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_found_by_name_and_by_id() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    let mut request = named(&["t", "nowhere", "bad name", ""]);
    request.include_topic_authorized_operations = true;
    let response = client.call(12, &request).await.unwrap();
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 3, 17, 17]);
    assert!(response.topics.iter().all(|topic| topic.topic_authorized_operations == 3576));

    let id = response.topics[0].topic_id;
    for (topic_id, version, code, name) in [
        (id, 12, 0, Some("t")),
        (Uuid([9; 16]), 12, ErrorCode::UnknownTopicId.code(), None),
        (id, 11, ErrorCode::InvalidRequest.code(), Some("t")),
    ] {
        let mut request = named(&["t"]);
        let topic = &mut request.topics.as_mut().unwrap()[0];
        topic.topic_id = topic_id;
        if version >= 12 {
            topic.name = None;
        }
        let topic = &client.call(version, &request).await.unwrap().topics[0];
        assert_eq!((topic.error_code, topic.name.as_deref()), (code, name), "version {version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_asked_for_is_created_if_both_sides_want_it() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    let mut request = named(&["new", "bad name", "__share_group_state", "__own"]);
    let response = client.call(9, &request).await.unwrap();
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [3, 17, 3, 3]);
    request.allow_auto_topic_creation = true;
    let response = client.call(9, &request).await.unwrap();
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 17, 3, 0]);
    node.stop().await;

    let node = Node::start(&[("auto.create.topics.enable", "false")]).await.unwrap();
    let mut client = node.client().await.unwrap();
    assert_eq!(client.call(9, &request).await.unwrap().topics[0].error_code, 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_described() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    let cluster_id = client.call(12, &named(&[])).await.unwrap().cluster_id.unwrap();
    for version in 0..=2 {
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..DescribeClusterRequest::default()
        };
        let response = client.call(version, &request).await.unwrap();
        assert_eq!((&response.cluster_id, response.controller_id), (&cluster_id, 1));
        assert_eq!(response.brokers[0].port, i32::from(node.address.port()));
        assert_eq!(response.cluster_authorized_operations, 8096);
    }
    for (endpoint_type, error) in
        [(2, ErrorCode::MismatchedEndpointType), (3, ErrorCode::UnsupportedEndpointType)]
    {
        let request = DescribeClusterRequest { endpoint_type, ..DescribeClusterRequest::default() };
        assert_eq!(client.call(1, &request).await.unwrap().error_code, error.code());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_are_described_page_by_page() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "a", 3).await;
    create(&mut client, "c", 2).await;
    let topics =
        ["c", "b", "a"].map(|name| TopicRequest { name: name.into(), ..Default::default() });
    let mut request = DescribeTopicPartitionsRequest {
        topics: topics.to_vec(),
        response_partition_limit: 2,
        ..DescribeTopicPartitionsRequest::default()
    };
    let mut pages = Vec::new();
    loop {
        let response = client.call(0, &request).await.unwrap();
        let page = response.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|at| at.partition_index.to_string());
            let partitions = partitions.collect::<Vec<_>>().join(",");
            format!("{}:{}:{partitions}", topic.name.as_deref().unwrap(), topic.error_code)
        });
        pages.push(page.collect::<Vec<_>>().join(" "));
        let Some(next) = response.next_cursor else { break };
        let (topic_name, partition_index) = (next.topic_name, next.partition_index);
        request.cursor = Some(Cursor { topic_name, partition_index, ..Cursor::default() });
    }
    assert_eq!(pages, ["a:0:0,1", "a:0:2 b:3: c:0:0", "c:0:1"]);
    node.stop().await;
}
