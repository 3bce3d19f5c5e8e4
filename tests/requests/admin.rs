//! Topics and configs: created, grown, deleted, changed.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::alter_configs::{self, AlterConfigsRequest};
use ottla_common::kafka::messages::create_partitions::CreatePartitionsRequest;
use ottla_common::kafka::messages::create_partitions::request::CreatePartitionsTopic;
use ottla_common::kafka::messages::create_topics::CreateTopicsRequest;
use ottla_common::kafka::messages::create_topics::request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_common::kafka::messages::delete_topics::DeleteTopicsRequest;
use ottla_common::kafka::messages::delete_topics::request::DeleteTopicState;
use ottla_common::kafka::messages::describe_configs::DescribeConfigsRequest;
use ottla_common::kafka::messages::describe_configs::request::DescribeConfigsResource;
use ottla_common::kafka::messages::describe_configs::response::DescribeConfigsResourceResult;
use ottla_common::kafka::messages::incremental_alter_configs::{
    self, IncrementalAlterConfigsRequest,
};
use ottla_common::kafka::messages::list_config_resources::ListConfigResourcesRequest;
use ottla_common::types::Uuid;
use ottla_tests::node::Node;
use ottla_tests::raw::RawClient;

use crate::asked::{all_topics, create};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor,
        ..CreatableTopic::default()
    }
}

async fn create_code(client: &mut RawClient, version: i16, topic: CreatableTopic) -> ErrorCode {
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    let response = client.call(version, &request).await.unwrap();
    ErrorCode::from_code(response.topics[0].error_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_in_every_version_one_by_one() {
    let node = Node::start(&[("num.partitions", "4")]).await.unwrap();
    let mut client = node.client().await.unwrap();
    for version in 2..=7 {
        let request = CreateTopicsRequest {
            topics: vec![
                topic(&format!("good{version}"), -1, -1),
                topic("bad name", 1, 1),
                topic("twice", 1, 1),
                topic("twice", 2, 1),
            ],
            ..CreateTopicsRequest::default()
        };
        let response = client.call(version, &request).await.unwrap();
        let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 17, 42], "version {version}");
        let good = &response.topics[0];
        if version >= 5 {
            assert_eq!((good.num_partitions, good.replication_factor), (4, 1));
            assert!(good.configs.as_ref().unwrap().len() > 20);
        }
        assert_eq!(good.topic_id.is_zero(), version < 7);
    }
    let all = client.call(12, &all_topics()).await.unwrap();
    assert_eq!(all.topics.len(), 6);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_topic_is_refused_as_kafka_does() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "a.b", 1).await;
    let assigned = |partition_index: i32, broker_ids: Vec<i32>| CreatableTopic {
        assignments: vec![CreatableReplicaAssignment {
            partition_index,
            broker_ids,
            ..CreatableReplicaAssignment::default()
        }],
        ..topic("x", -1, -1)
    };
    let configured = |name: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: name.into(),
            value: value.map(Into::into),
            ..CreatableTopicConfig::default()
        }],
        ..topic("x", 1, 1)
    };
    let assigned_and_counted = CreatableTopic { num_partitions: 1, ..assigned(0, vec![1]) };
    for (what, topic, error) in [
        ("exists", topic("a.b", 1, 1), ErrorCode::TopicAlreadyExists),
        ("collides", topic("a_b", 1, 1), ErrorCode::InvalidTopicException),
        ("no partitions", topic("x", 0, 1), ErrorCode::InvalidPartitions),
        ("no replicas", topic("x", 1, 0), ErrorCode::InvalidReplicationFactor),
        ("too many replicas", topic("x", 1, 2), ErrorCode::InvalidReplicationFactor),
        ("too many partitions", topic("x", 20_000, 1), ErrorCode::PolicyViolation),
        ("both", assigned_and_counted, ErrorCode::InvalidRequest),
        ("a gap", assigned(1, vec![1]), ErrorCode::InvalidReplicaAssignment),
        ("nobody", assigned(0, vec![]), ErrorCode::InvalidReplicaAssignment),
        ("twice", assigned(0, vec![1, 1]), ErrorCode::InvalidReplicaAssignment),
        ("a stranger", assigned(0, vec![9]), ErrorCode::InvalidReplicaAssignment),
        ("no such config", configured("nosuch", Some("1")), ErrorCode::InvalidConfig),
        ("no number", configured("retention.ms", Some("x")), ErrorCode::InvalidConfig),
        ("null", configured("retention.ms", None), ErrorCode::InvalidConfig),
        ("good", assigned(0, vec![1]), ErrorCode::None),
    ] {
        assert_eq!(create_code(&mut client, 7, topic).await, error, "{what}");
    }
    let request = CreateTopicsRequest {
        topics: vec![topic("only-checked", 1, 1)],
        validate_only: true,
        ..CreateTopicsRequest::default()
    };
    assert_eq!(client.call(7, &request).await.unwrap().topics[0].error_code, 0);
    let all = client.call(12, &all_topics()).await.unwrap();
    assert!(all.topics.iter().all(|topic| topic.name.as_deref() != Some("only-checked")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_deleted_by_name_and_by_id_and_come_back_as_others() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "a", 1).await;
    create(&mut client, "b", 1).await;
    let by_name =
        |name: &str| DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() };
    let by_id = |topic_id: Uuid| DeleteTopicState { topic_id, ..DeleteTopicState::default() };
    let topics = client.call(12, &all_topics()).await.unwrap().topics;
    let request = DeleteTopicsRequest {
        topics: vec![
            by_name("a"),
            by_id(topics[1].topic_id),
            by_name("nowhere"),
            by_id(Uuid([9; 16])),
            DeleteTopicState::default(),
        ],
        ..DeleteTopicsRequest::default()
    };
    let response = client.call(6, &request).await.unwrap();
    let codes: Vec<_> = response.responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 0, 3, 100, 42]);
    assert!(client.call(12, &all_topics()).await.unwrap().topics.is_empty());

    create(&mut client, "a", 1).await;
    let again = client.call(12, &all_topics()).await.unwrap().topics;
    assert_ne!(again[0].topic_id, topics[0].topic_id);
    for version in 1..=5 {
        let names = ["a", "nowhere", "nowhere"].map(Into::into).to_vec();
        let request = DeleteTopicsRequest { topic_names: names, ..Default::default() };
        let response = client.call(version, &request).await.unwrap();
        let codes: Vec<_> = response.responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [if version == 1 { 0 } else { 3 }, 42]);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_grow_and_never_shrink() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 2).await;
    for (name, count, validate_only, error) in [
        ("t", 3, true, ErrorCode::None),
        ("t", 4, false, ErrorCode::None),
        ("t", 4, false, ErrorCode::InvalidPartitions),
        ("t", 3, false, ErrorCode::InvalidPartitions),
        ("t", -1, false, ErrorCode::InvalidPartitions),
        ("nowhere", 3, false, ErrorCode::UnknownTopicOrPartition),
    ] {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: name.into(),
                count,
                assignments: None,
                ..CreatePartitionsTopic::default()
            }],
            validate_only,
            ..CreatePartitionsRequest::default()
        };
        let response = client.call(3, &request).await.unwrap();
        let result = ErrorCode::from_code(response.results[0].error_code);
        assert_eq!(result, error, "{name} {count}");
    }
    let topics = client.call(12, &all_topics()).await.unwrap().topics;
    let leaders: Vec<_> = topics[0].partitions.iter().map(|at| at.leader_id).collect();
    assert_eq!(leaders, [1; 4]);
    node.stop().await;
}

async fn describe(
    client: &mut RawClient,
    (resource_type, name): (i8, &str),
    key: &str,
) -> DescribeConfigsResourceResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: Some(vec![key.into()]),
            ..DescribeConfigsResource::default()
        }],
        include_synonyms: true,
        include_documentation: true,
        ..DescribeConfigsRequest::default()
    };
    let mut response = client.call(4, &request).await.unwrap();
    assert_eq!(response.results[0].error_code, 0, "{response:?}");
    assert_eq!(response.results[0].configs.len(), 1);
    response.results[0].configs.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_are_changed_singly_and_as_a_whole() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    let shown = describe(&mut client, (TOPIC, "t"), "retention.ms").await;
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("604800000"), 5));
    assert!(shown.documentation.is_some());

    use incremental_alter_configs::request::{AlterConfigsResource, AlterableConfig};
    let alter = |(resource_type, resource): (i8, &str), op: i8, name: &str, value: &str| {
        let config = AlterableConfig {
            name: name.into(),
            config_operation: op,
            value: Some(value.into()),
            ..AlterableConfig::default()
        };
        IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type,
                resource_name: resource.into(),
                configs: vec![config],
                ..AlterConfigsResource::default()
            }],
            ..IncrementalAlterConfigsRequest::default()
        }
    };
    for (resource, op, name, value, error) in [
        ((TOPIC, "t"), 0, "retention.ms", "1000", ErrorCode::None),
        ((TOPIC, "t"), 2, "cleanup.policy", "compact", ErrorCode::None),
        ((TOPIC, "t"), 0, "retention.ms", "soon", ErrorCode::InvalidConfig),
        ((TOPIC, "t"), 9, "retention.ms", "1", ErrorCode::InvalidRequest),
        ((TOPIC, "nowhere"), 0, "retention.ms", "1", ErrorCode::UnknownTopicOrPartition),
        ((BROKER, "1"), 0, "log.retention.ms", "5000", ErrorCode::None),
        ((BROKER, "9"), 0, "log.retention.ms", "5000", ErrorCode::InvalidRequest),
        ((BROKER, ""), 0, "message.max.bytes", "5000", ErrorCode::None),
        ((8, "1"), 0, "logger", "INFO", ErrorCode::InvalidRequest),
    ] {
        let response = client.call(1, &alter(resource, op, name, value)).await.unwrap();
        let code = ErrorCode::from_code(response.responses[0].error_code);
        assert_eq!(code, error, "{resource:?} {op} {name} {value}: {response:?}");
    }
    let shown = describe(&mut client, (TOPIC, "t"), "retention.ms").await;
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("1000"), 1));
    assert_eq!(shown.synonyms[1].value.as_deref(), Some("5000"));
    let shown = describe(&mut client, (TOPIC, "t"), "cleanup.policy").await;
    assert_eq!(shown.value.as_deref(), Some("delete,compact"));
    let shown = describe(&mut client, (BROKER, ""), "message.max.bytes").await;
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("5000"), 3));

    // The whole: what is not in the request is set no longer.
    let config = alter_configs::request::AlterableConfig {
        name: "segment.ms".into(),
        value: Some("9000".into()),
        ..Default::default()
    };
    let request = AlterConfigsRequest {
        resources: vec![alter_configs::request::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".into(),
            configs: vec![config],
            ..Default::default()
        }],
        ..AlterConfigsRequest::default()
    };
    assert_eq!(client.call(2, &request).await.unwrap().responses[0].error_code, 0);
    let shown = describe(&mut client, (TOPIC, "t"), "retention.ms").await;
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("5000"), 2));
    let shown = describe(&mut client, (TOPIC, "t"), "segment.ms").await;
    assert_eq!(shown.value.as_deref(), Some("9000"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_with_configs_are_listed() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    for (version, types, expected) in [
        (0, vec![], vec![]),
        (1, vec![], vec![(BROKER, "1"), (TOPIC, "t")]),
        (1, vec![TOPIC], vec![(TOPIC, "t")]),
        (1, vec![16, 32], vec![]),
    ] {
        let request = ListConfigResourcesRequest { resource_types: types, ..Default::default() };
        let response = client.call(version, &request).await.unwrap();
        let found = response.config_resources.iter();
        let found: Vec<_> = found.map(|at| (at.resource_type, &*at.resource_name)).collect();
        assert_eq!(found, expected);
    }
    let request = ListConfigResourcesRequest { resource_types: vec![99], ..Default::default() };
    let code = client.call(1, &request).await.unwrap().error_code;
    assert_eq!(code, ErrorCode::UnsupportedVersion.code());
    node.stop().await;
}
