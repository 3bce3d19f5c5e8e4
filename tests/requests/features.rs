//! The features of a cluster, who keeps its metadata, and brokers that are forgotten.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_common::kafka::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_common::kafka::messages::describe_quorum::{DescribeQuorumRequest, request};
use ottla_common::kafka::messages::unregister_broker::UnregisterBrokerRequest;
use ottla_common::kafka::messages::update_features::UpdateFeaturesRequest;
use ottla_common::kafka::messages::update_features::request::FeatureUpdateKey;
use ottla_tests::brokers::Brokers;
use ottla_tests::node::Node;
use ottla_tests::raw::RawClient;

async fn features(client: &mut RawClient, version: i16) -> ApiVersionsResponse {
    let request = ApiVersionsRequest {
        client_software_name: "t".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    client.call(version, &request).await.unwrap()
}

fn finalized(response: &ApiVersionsResponse) -> Vec<(&str, i16)> {
    let told = response.finalized_features.iter();
    told.map(|feature| (&*feature.name, feature.max_version_level)).collect()
}

async fn update(client: &mut RawClient, level: i16, upgrade_type: i8) -> (ErrorCode, String) {
    let update = FeatureUpdateKey {
        feature: "group.version".into(),
        max_version_level: level,
        upgrade_type,
        ..FeatureUpdateKey::default()
    };
    let feature_updates = vec![update];
    let request = UpdateFeaturesRequest { feature_updates, ..UpdateFeaturesRequest::default() };
    let response = client.call(2, &request).await.unwrap();
    let message = response.error_message.map(|text| text.to_string()).unwrap_or_default();
    (ErrorCode::from_code(response.error_code), message)
}

async fn heartbeat(client: &mut RawClient) -> ErrorCode {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "a-member-of-the-group".into(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    // The partition that keeps the group may not be loaded yet.
    loop {
        let code = ErrorCode::from_code(client.call(1, &request).await.unwrap().error_code);
        match code {
            ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator => {
                let request =
                    ottla_common::kafka::messages::find_coordinator::FindCoordinatorRequest {
                        coordinator_keys: vec!["g".into()],
                        ..Default::default()
                    };
                client.call(4, &request).await.unwrap();
            }
            code => return code,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_the_consumer_protocol_are_switched_off_and_on() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    let before = features(&mut client, 4).await;
    let both = [("eligible.leader.replicas.version", 1), ("group.version", 1)];
    assert_eq!(finalized(&before), both);
    assert_eq!(before.supported_features.len(), 2);
    let old = features(&mut client, 3).await;
    assert_eq!((old.supported_features.len(), finalized(&old).len()), (1, 2), "KAFKA-17011");
    assert_eq!(heartbeat(&mut client).await, ErrorCode::None);

    let (code, message) = update(&mut client, 0, 1).await;
    assert_eq!(code, ErrorCode::InvalidUpdateVersion);
    assert!(message.contains("Invalid update version 0 for feature group.version."), "{message}");
    assert_eq!(update(&mut client, 0, 2).await, (ErrorCode::None, String::new()));
    let off = features(&mut client, 4).await;
    assert_eq!(finalized(&off), both[..1]);
    assert!(off.finalized_features_epoch > before.finalized_features_epoch);
    assert_eq!(heartbeat(&mut client).await, ErrorCode::UnsupportedVersion);

    let node = node.restart().await.unwrap();
    let mut client = node.client().await.unwrap();
    assert_eq!(finalized(&features(&mut client, 4).await), both[..1], "it stays so");
    assert_eq!(update(&mut client, 1, 1).await.0, ErrorCode::None);
    assert_eq!(heartbeat(&mut client).await, ErrorCode::None);
    node.stop().await;
}

fn quorum_of(topic: &str, partition_index: i32) -> DescribeQuorumRequest {
    let partition = request::PartitionData { partition_index, ..Default::default() };
    let topic = request::TopicData {
        topic_name: topic.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    DescribeQuorumRequest { topics: vec![topic], ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinators_are_the_voters() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    let told = client.call(2, &quorum_of("__cluster_metadata", 0)).await.unwrap();
    assert_eq!(told.error_code, 0);
    let quorum = &told.topics[0].partitions[0];
    assert_eq!((quorum.error_code, quorum.leader_id), (0, 1));
    assert!(quorum.leader_epoch > 0 && quorum.high_watermark > 0);
    let voters: Vec<i32> = quorum.current_voters.iter().map(|voter| voter.replica_id).collect();
    assert_eq!(voters, [1]);
    assert!(quorum.current_voters[0].log_end_offset >= quorum.high_watermark);
    assert_eq!(quorum.observers[0].replica_id, 1, "the broker");
    assert_eq!(told.nodes[0].node_id, 1);
    for wrong in [quorum_of("t", 0), quorum_of("__cluster_metadata", 1)] {
        let told = client.call(2, &wrong).await.unwrap();
        let code = ErrorCode::from_code(told.topics[0].partitions[0].error_code);
        assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_forgotten_once_nothing_counts_on_it() {
    let mut brokers = Brokers::start(2, &[]).await.unwrap();
    let mut client = brokers.client(1).await.unwrap();
    async fn unregister(client: &mut RawClient, broker_id: i32) -> ErrorCode {
        let request = UnregisterBrokerRequest { broker_id, ..Default::default() };
        ErrorCode::from_code(client.call(0, &request).await.unwrap().error_code)
    }
    assert_eq!(unregister(&mut client, 2).await, ErrorCode::InvalidRequest, "it lives");
    assert_eq!(unregister(&mut client, 9).await, ErrorCode::BrokerIdNotRegistered);
    brokers.stop_broker(2).await.unwrap();
    let image = &brokers.broker(1).parts().image;
    let gone =
        image.wait_until(std::time::Duration::from_secs(20), |image| image.brokers.len() == 1);
    assert!(gone.await.is_some(), "broker 2 has left");
    assert_eq!(unregister(&mut client, 2).await, ErrorCode::None);
    assert_eq!(unregister(&mut client, 2).await, ErrorCode::BrokerIdNotRegistered);
    brokers.start_broker(2).await.unwrap();
    let just_back = unregister(&mut client, 2).await;
    assert_eq!(just_back, ErrorCode::InvalidRequest, "whether or not broker 1 has heard of it");
    brokers.stop().await;
}
