//! Every version of every API that is advertised is answered, both when all is well and when
//! nothing that is asked for is there: no field that matters gets lost, or closes the connection,
//! in an old version.

use ottla_common::kafka::messages as api;
use ottla_common::kafka::records::BatchOptions;
use ottla_common::kafka::request::Request;
use ottla_common::kafka::wire::KafkaString;
use ottla_common::kafka::{ApiKey, ErrorCode};
use ottla_common::types::{TopicId, Uuid};
use ottla_tests::node::Node;
use ottla_tests::raw::RawClient;

use crate::asked::{all_topics, batch, create, fetch, produce, put};

/// One node, and which APIs have been tried on it.
struct Tried {
    client: RawClient,
    keys: Vec<i16>,
}

impl Tried {
    /// Sends what `request` makes for each version, for things that are there and for things that
    /// are not.
    async fn each<R: Request>(&mut self, request: impl Fn(i16, &Named) -> R)
    where
        R::Response: std::fmt::Debug,
    {
        self.keys.push(R::KEY.code());
        let served = if R::LATEST_UNSTABLE { R::MAX_VERSION - 1 } else { R::MAX_VERSION };
        let id = self.client.call(12, &all_topics()).await.unwrap().topics[0].topic_id;
        let there = Named { topic: "t".into(), id, partition: 0 };
        let missing = Named { topic: "nowhere".into(), id: Uuid([9; 16]), partition: 77 };
        for version in R::MIN_VERSION..=served {
            for named in [&there, &missing] {
                let answered = self.client.call(version, &request(version, named)).await;
                assert!(answered.is_ok(), "{} v{version} {}: {answered:?}", R::KEY, named.topic);
            }
        }
    }
}

/// What a request is about.
struct Named {
    topic: KafkaString,
    id: TopicId,
    partition: i32,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_answered() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    create(&mut client, "t", 1).await;
    put(&mut client, "t", &["a", "b"]).await;
    let mut tried = Tried { client, keys: Vec::new() };
    records(&mut tried).await;
    offsets(&mut tried).await;
    topics(&mut tried).await;
    configs(&mut tried).await;
    cluster(&mut tried).await;
    groups(&mut tried).await;
    quotas(&mut tried).await;

    let request = api::api_versions::ApiVersionsRequest::default();
    let mut offered: Vec<i16> = Vec::new();
    for range in tried.client.call(0, &request).await.unwrap().api_keys {
        offered.push(range.api_key);
        let key = ApiKey::try_from(range.api_key).unwrap();
        assert!(range.max_version <= key.max_version());
    }
    tried.keys.sort_unstable();
    assert_eq!(tried.keys, offered, "an API is not tried here");
    node.stop().await;
}

async fn quotas(tried: &mut Tried) {
    tried.each(|_, _| api::describe_client_quotas::DescribeClientQuotasRequest::default()).await;
    tried.each(|_, _| api::alter_client_quotas::AlterClientQuotasRequest::default()).await;
}

/// Of a group without a name, or one that is not there, so that none waits for others.
async fn groups(tried: &mut Tried) {
    tried.each(|_, _| api::find_coordinator::FindCoordinatorRequest::default()).await;
    tried.each(|_, _| api::join_group::JoinGroupRequest::default()).await;
    tried.each(|_, _| api::sync_group::SyncGroupRequest::default()).await;
    tried.each(|_, _| api::heartbeat::HeartbeatRequest::default()).await;
    tried.each(|_, _| api::leave_group::LeaveGroupRequest::default()).await;
    tried.each(|_, _| api::describe_groups::DescribeGroupsRequest::default()).await;
    tried
        .each(|_, _| api::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest::default())
        .await;
    tried.each(|_, _| api::consumer_group_describe::ConsumerGroupDescribeRequest::default()).await;
    tried.each(|_, _| api::list_groups::ListGroupsRequest::default()).await;
    tried.each(|_, _| api::delete_groups::DeleteGroupsRequest::default()).await;
    tried.each(|_, _| api::offset_delete::OffsetDeleteRequest::default()).await;
    tried.each(|_, _| api::offset_fetch::OffsetFetchRequest::default()).await;
    tried
        .each(|version, named| {
            use api::offset_commit::{OffsetCommitRequest, request::*};
            let partition = OffsetCommitRequestPartition {
                partition_index: named.partition,
                committed_offset: 1,
                ..Default::default()
            };
            let mut topic =
                OffsetCommitRequestTopic { partitions: vec![partition], ..Default::default() };
            match version {
                ..=9 => topic.name = named.topic.clone(),
                _ => topic.topic_id = named.id,
            }
            OffsetCommitRequest { topics: vec![topic], ..Default::default() }
        })
        .await;
}

async fn records(tried: &mut Tried) {
    tried
        .each(|version, named| {
            let records = batch(&["x"], BatchOptions::default());
            let mut request = produce(-1, vec![(&*named.topic, named.partition, records)]);
            if version >= 13 {
                request.topic_data[0].name = KafkaString::default();
                request.topic_data[0].topic_id = named.id;
            }
            request
        })
        .await;
    tried
        .each(|version, named| {
            let mut request = fetch(&[(&*named.topic, named.partition, 0)]);
            if version >= 13 {
                request.topics[0].topic = KafkaString::default();
                request.topics[0].topic_id = named.id;
            }
            request
        })
        .await;
    tried
        .each(|_, named| {
            use api::list_offsets::{ListOffsetsRequest, request::*};
            let partition = ListOffsetsPartition {
                partition_index: named.partition,
                timestamp: -1,
                ..Default::default()
            };
            let topic = ListOffsetsTopic {
                name: named.topic.clone(),
                partitions: vec![partition],
                ..Default::default()
            };
            ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() }
        })
        .await;
}

async fn offsets(tried: &mut Tried) {
    tried
        .each(|_, named| {
            use api::delete_records::{DeleteRecordsRequest, request::*};
            let partition =
                DeleteRecordsPartition { partition_index: named.partition, ..Default::default() };
            let topic = DeleteRecordsTopic {
                name: named.topic.clone(),
                partitions: vec![partition],
                ..Default::default()
            };
            DeleteRecordsRequest { topics: vec![topic], ..Default::default() }
        })
        .await;
    tried
        .each(|_, named| {
            use api::offset_for_leader_epoch::{OffsetForLeaderEpochRequest, request::*};
            let partition =
                OffsetForLeaderPartition { partition: named.partition, ..Default::default() };
            let topic = OffsetForLeaderTopic {
                topic: named.topic.clone(),
                partitions: vec![partition],
                ..Default::default()
            };
            OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() }
        })
        .await;
    tried
        .each(|_, named| {
            use api::describe_producers::{DescribeProducersRequest, request::*};
            let topic = TopicRequest {
                name: named.topic.clone(),
                partition_indexes: vec![named.partition],
                ..Default::default()
            };
            DescribeProducersRequest { topics: vec![topic], ..Default::default() }
        })
        .await;
    let producer = |_: i16, named: &Named| api::init_producer_id::InitProducerIdRequest {
        transactional_id: (&*named.topic == "nowhere").then(|| "transactional".into()),
        ..Default::default()
    };
    tried.each(producer).await;
}

async fn topics(tried: &mut Tried) {
    tried
        .each(|version, named| {
            use api::create_topics::{CreateTopicsRequest, request::*};
            let name = match &*named.topic {
                "t" => format!("created-{version}").into(),
                _ => KafkaString::from("bad name"),
            };
            let topic = CreatableTopic {
                name,
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            CreateTopicsRequest { topics: vec![topic], ..Default::default() }
        })
        .await;
    tried
        .each(|_, named| {
            use api::create_partitions::{CreatePartitionsRequest, request::*};
            let topic = CreatePartitionsTopic {
                name: named.topic.clone(),
                count: 2,
                assignments: None,
                ..Default::default()
            };
            let topics = vec![topic];
            CreatePartitionsRequest { topics, validate_only: true, ..Default::default() }
        })
        .await;
    tried
        .each(|version, named| {
            use api::delete_topics::{DeleteTopicsRequest, request::*};
            let name: KafkaString = match &*named.topic {
                "t" => format!("created-{}", version + 1).into(),
                _ => named.topic.clone(),
            };
            let topic = DeleteTopicState { name: Some(name.clone()), ..Default::default() };
            match version {
                6.. => DeleteTopicsRequest { topics: vec![topic], ..Default::default() },
                _ => DeleteTopicsRequest { topic_names: vec![name], ..Default::default() },
            }
        })
        .await;
    tried
        .each(|version, named| {
            use api::metadata::{MetadataRequest, request::*};
            let by_id = version >= 12;
            let topic = MetadataRequestTopic {
                topic_id: if by_id { named.id } else { Uuid::ZERO },
                name: (!by_id).then(|| named.topic.clone()),
                ..Default::default()
            };
            MetadataRequest {
                topics: Some(vec![topic]),
                // Not to be refused before version 4.
                allow_auto_topic_creation: version < 4,
                include_topic_authorized_operations: version >= 8,
                include_cluster_authorized_operations: (8..=10).contains(&version),
                ..Default::default()
            }
        })
        .await;
    tried
        .each(|_, named| {
            use api::describe_topic_partitions::{DescribeTopicPartitionsRequest, request::*};
            let topic = TopicRequest { name: named.topic.clone(), ..Default::default() };
            DescribeTopicPartitionsRequest { topics: vec![topic], ..Default::default() }
        })
        .await;
}

async fn configs(tried: &mut Tried) {
    tried
        .each(|version, named| {
            use api::describe_configs::{DescribeConfigsRequest, request::*};
            let resource = DescribeConfigsResource {
                resource_type: 2,
                resource_name: named.topic.clone(),
                configuration_keys: None,
                ..Default::default()
            };
            DescribeConfigsRequest {
                resources: vec![resource],
                include_synonyms: true,
                include_documentation: version >= 3,
                ..Default::default()
            }
        })
        .await;
    tried
        .each(|_, named| {
            use api::alter_configs::{AlterConfigsRequest, request::*};
            let config = AlterableConfig {
                name: "retention.ms".into(),
                value: Some("1000".into()),
                ..Default::default()
            };
            let resource = AlterConfigsResource {
                resource_type: 2,
                resource_name: named.topic.clone(),
                configs: vec![config],
                ..Default::default()
            };
            AlterConfigsRequest { resources: vec![resource], ..Default::default() }
        })
        .await;
    tried
        .each(|_, named| {
            use api::incremental_alter_configs::{IncrementalAlterConfigsRequest, request::*};
            let config = AlterableConfig {
                name: "retention.ms".into(),
                value: Some("2000".into()),
                ..Default::default()
            };
            let resource = AlterConfigsResource {
                resource_type: 2,
                resource_name: named.topic.clone(),
                configs: vec![config],
                ..Default::default()
            };
            IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() }
        })
        .await;
    let resources =
        |version: i16, _: &Named| api::list_config_resources::ListConfigResourcesRequest {
            resource_types: if version >= 1 { vec![2, 4] } else { Vec::new() },
            ..Default::default()
        };
    tried.each(resources).await;
}

async fn cluster(tried: &mut Tried) {
    tried
        .each(|_, _| api::get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest::default())
        .await;
    tried.each(|_, _| api::push_telemetry::PushTelemetryRequest::default()).await;
    tried.each(|_, _| api::sasl_handshake::SaslHandshakeRequest::default()).await;
    tried.each(|_, _| api::sasl_authenticate::SaslAuthenticateRequest::default()).await;
    tried.each(|_, _| api::api_versions::ApiVersionsRequest::default()).await;
    tried.each(|_, _| api::describe_cluster::DescribeClusterRequest::default()).await;
    tried
        .each(|_, named| {
            use api::describe_log_dirs::{DescribeLogDirsRequest, request::*};
            let topic = DescribableLogDirTopic {
                topic: named.topic.clone(),
                partitions: vec![named.partition],
                ..Default::default()
            };
            DescribeLogDirsRequest { topics: Some(vec![topic]), ..Default::default() }
        })
        .await;
    tried
        .each(|_, named| {
            use api::alter_replica_log_dirs::{AlterReplicaLogDirsRequest, request::*};
            let topic = AlterReplicaLogDirTopic {
                name: named.topic.clone(),
                partitions: vec![named.partition],
                ..Default::default()
            };
            let path = "/no/such/dir".into();
            let dir = AlterReplicaLogDir { path, topics: vec![topic], ..Default::default() };
            AlterReplicaLogDirsRequest { dirs: vec![dir], ..Default::default() }
        })
        .await;
    tried
        .each(|_, _| {
            use api::describe_quorum::{DescribeQuorumRequest, request::*};
            let partitions = vec![PartitionData::default()];
            let topic_name = "__cluster_metadata".into();
            let topic = TopicData { topic_name, partitions, ..Default::default() };
            DescribeQuorumRequest { topics: vec![topic], ..Default::default() }
        })
        .await;
    tried
        .each(|version, named| {
            use api::update_features::{UpdateFeaturesRequest, request::*};
            let (feature, max_version_level) = ("group.version".into(), named.partition.min(1));
            let update = FeatureUpdateKey {
                feature,
                max_version_level: i16::try_from(max_version_level).unwrap(),
                ..Default::default()
            };
            let feature_updates = vec![update];
            let validate_only = version >= 1;
            UpdateFeaturesRequest { feature_updates, validate_only, ..Default::default() }
        })
        .await;
    tried.each(|_, _| api::unregister_broker::UnregisterBrokerRequest::default()).await;
    replicas(tried).await;
    let metadata = tried.client.call(12, &all_topics()).await.unwrap();
    assert_eq!(ErrorCode::from_code(metadata.error_code), ErrorCode::None);
}

async fn replicas(tried: &mut Tried) {
    tried
        .each(|_, named| {
            use api::elect_leaders::{ElectLeadersRequest, request::*};
            let topic = TopicPartitions {
                topic: named.topic.clone(),
                partitions: vec![named.partition],
                ..Default::default()
            };
            ElectLeadersRequest { topic_partitions: Some(vec![topic]), ..Default::default() }
        })
        .await;
    tried
        .each(|_, named| {
            use api::alter_partition_reassignments::{
                AlterPartitionReassignmentsRequest, request::*,
            };
            let partition = ReassignablePartition {
                partition_index: named.partition,
                replicas: Some(vec![1]),
                ..Default::default()
            };
            let topic = ReassignableTopic {
                name: named.topic.clone(),
                partitions: vec![partition],
                ..Default::default()
            };
            AlterPartitionReassignmentsRequest { topics: vec![topic], ..Default::default() }
        })
        .await;
    tried
        .each(|_, named| {
            use api::list_partition_reassignments::{
                ListPartitionReassignmentsRequest, request::*,
            };
            let topic = ListPartitionReassignmentsTopics {
                name: named.topic.clone(),
                partition_indexes: vec![named.partition],
                ..Default::default()
            };
            ListPartitionReassignmentsRequest { topics: Some(vec![topic]), ..Default::default() }
        })
        .await;
}
