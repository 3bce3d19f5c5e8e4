//! Quotas of clients: who uses more than it may is told how long it has to wait, and is not read
//! from for that long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ottla_broker::config::quotas::QuotaKey;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::admin::{
    Admin, ClientQuotas, NewTopic, QuotaEntity, QuotaMatch, QuotaPart,
};
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::messages::alter_client_quotas::AlterClientQuotasRequest;
use ottla_common::kafka::messages::alter_client_quotas::request::{EntityData, EntryData, OpData};
use ottla_common::kafka::messages::api_versions::ApiVersionsRequest;
use ottla_common::kafka::messages::create_partitions::CreatePartitionsRequest;
use ottla_common::kafka::messages::create_partitions::request::CreatePartitionsTopic;
use ottla_common::kafka::messages::create_topics::CreateTopicsRequest;
use ottla_common::kafka::messages::create_topics::request::CreatableTopic;
use ottla_common::kafka::messages::delete_topics::DeleteTopicsRequest;
use ottla_common::kafka::messages::fetch::FetchRequest;
use ottla_common::kafka::messages::fetch::request::{FetchPartition, FetchTopic};
use ottla_common::kafka::messages::produce::ProduceRequest;
use ottla_common::kafka::messages::produce::request::{PartitionProduceData, TopicProduceData};
use ottla_common::kafka::records::{BatchBuilder, BatchOptions};
use ottla_common::kafka::wire::Records;
use ottla_common::types::BrokerId;
use ottla_tests::brokers::Brokers;
use ottla_tests::raw::RawClient;

/// How long a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Windows so short that a second's worth of a quota can be used at once.
const SHORT_WINDOWS: [(&str, &str); 2] =
    [("quota.window.num", "2"), ("controller.quota.window.num", "2")];

async fn set(
    client: &mut RawClient,
    entity: &[(&str, Option<&str>)],
    (key, value): (&str, Option<f64>),
) {
    let parts = entity.iter().map(|(kind, name)| EntityData {
        entity_type: (*kind).into(),
        entity_name: name.map(Into::into),
        ..EntityData::default()
    });
    let op = OpData {
        key: key.into(),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
        ..OpData::default()
    };
    let entry = EntryData { entity: parts.collect(), ops: vec![op], ..EntryData::default() };
    let request = AlterClientQuotasRequest { entries: vec![entry], ..Default::default() };
    let answered = client.call(1, &request).await.unwrap().entries;
    assert_eq!(answered[0].error_code, 0, "{answered:?}");
}

/// Waits until a broker holds clients to a quota of this kind, or no longer does.
async fn until_held(brokers: &Brokers, id: i32, key: QuotaKey, is_held: bool) {
    let deadline = Instant::now() + PATIENCE;
    while brokers.broker(id).parts().quotas.is_used(key) != is_held {
        assert!(Instant::now() < deadline, "waited for {key:?} at {id}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn administrator(brokers: &Brokers) -> RawClient {
    brokers.client(1).await.unwrap().named("administrator")
}

/// Partition 0 is led by broker 2, and broker 1 follows.
async fn start_with_topic() -> Brokers {
    let brokers = Brokers::start(2, &SHORT_WINDOWS).await.unwrap();
    let bootstrap = brokers.bootstrap();
    let servers: Vec<&str> = bootstrap.split(',').collect();
    let admin = Admin::new(Cluster::connect(&servers, ClusterOptions::default()).await.unwrap());
    let assignments = [(0, vec![BrokerId(2), BrokerId(1)])];
    let topic = NewTopic { assignments: assignments.into(), ..NewTopic::new("t", -1, -1) };
    admin.create_topic(&topic).await.unwrap();
    brokers
}

fn produce(size: usize) -> ProduceRequest {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(1_700_000_000_000, None, Some(&vec![b'x'; size]), &[]).unwrap();
    let partition = PartitionProduceData {
        index: 0,
        records: Some(builder.build().unwrap().into()),
        ..PartitionProduceData::default()
    };
    let topic = TopicProduceData {
        name: "t".into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    let topic_data = vec![topic];
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data, ..ProduceRequest::default() }
}

/// Writes so many bytes. Returns how long the client is to wait, in milliseconds.
async fn write(client: &mut RawClient, version: i16, size: usize) -> i32 {
    let response = client.call(version, &produce(size)).await.unwrap();
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    response.throttle_time_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn who_produces_too_much_waits() {
    let brokers = start_with_topic().await;
    let mut admin = administrator(&brokers).await;
    set(&mut admin, &[("client-id", Some("fast"))], ("producer_byte_rate", Some(10_000.0))).await;
    until_held(&brokers, 2, QuotaKey::ProducerByteRate, true).await;
    // Old clients know nothing of waiting, and wait all the same.
    for version in [3, 12] {
        let mut fast = brokers.client(2).await.unwrap().named("fast");
        let began = Instant::now();
        let told_ms = write(&mut fast, version, 25_000).await;
        assert!(told_ms > 1000, "25 kB are more than 2 seconds' worth: {told_ms}");
        write(&mut fast, version, 10).await;
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(u64::try_from(told_ms).unwrap()), "{waited:?}");
        let mut other = brokers.client(2).await.unwrap().named("other");
        assert_eq!(write(&mut other, version, 25_000).await, 0);
    }
    // What is not answered is counted too.
    let mut silent = brokers.client(2).await.unwrap().named("fast");
    let unanswered = ProduceRequest { acks: 0, ..produce(500_000) };
    silent.send(9, &unanswered).await.unwrap();
    let mut fast = brokers.client(2).await.unwrap().named("fast");
    let deadline = Instant::now() + PATIENCE;
    while write(&mut fast, 9, 10).await < 10_000 {
        assert!(Instant::now() < deadline, "half a megabyte was not counted");
        fast = brokers.client(2).await.unwrap().named("fast");
    }
    let metrics = &brokers.broker(2).parts().metrics;
    assert!(metrics.throttled_requests.get() >= 3 && metrics.throttled_ms.get() >= 2000);

    set(&mut admin, &[("client-id", Some("fast"))], ("producer_byte_rate", None)).await;
    until_held(&brokers, 2, QuotaKey::ProducerByteRate, false).await;
    let mut fast = brokers.client(2).await.unwrap().named("fast");
    assert_eq!(write(&mut fast, 12, 25_000).await, 0);
    brokers.stop().await;
}

/// Reads from an offset, without a session. Returns the bytes and how long the client is to wait.
async fn read(client: &mut RawClient, version: i16, offset: i64) -> (usize, i32) {
    let partition = FetchPartition {
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    let response = client.call(version, &request).await.unwrap();
    assert_eq!(response.error_code, 0);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let size = partitions.map(|data| data.records.as_ref().map_or(0, Records::len)).sum();
    (size, response.throttle_time_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fetches_too_much_gets_nothing_and_waits() {
    let brokers = start_with_topic().await;
    let mut client = brokers.client(2).await.unwrap();
    for _ in 0..8 {
        assert_eq!(write(&mut client, 9, 4_000).await, 0);
    }
    assert_eq!(write(&mut client, 9, 30_000).await, 0);
    let mut admin = administrator(&brokers).await;
    // The followers' fetches are the brokers', whom no quota holds.
    set(&mut admin, &[("user", None)], ("consumer_byte_rate", Some(10_000.0))).await;
    until_held(&brokers, 2, QuotaKey::ConsumerByteRate, true).await;
    for version in [4, 12] {
        let mut offset = 0;
        let (mut waits, mut bytes) = (0, 0);
        let began = Instant::now();
        while offset < 8 {
            let (size, told_ms) = read(&mut client, version, offset).await;
            assert!(size <= 10_000, "more than fits into the quota at once");
            assert_eq!(size == 0, told_ms > 0, "{size} bytes and {told_ms} ms to wait");
            waits += i32::from(told_ms > 0);
            bytes += size;
            offset += i64::try_from(size / 4_000).unwrap();
        }
        assert!(waits > 0, "{bytes} bytes without a pause");
        let allowed = 10_000.0 * (2.0 + 2.0 * began.elapsed().as_secs_f64());
        assert!(bytes as f64 <= allowed, "{bytes} bytes, {allowed} allowed");
    }
    // A batch that never fits comes all the same, when nothing else did for a while.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (size, told_ms) = read(&mut client, 12, 8).await;
        assert!(told_ms > 0);
        if size > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "the large batch never comes");
    }
    assert_eq!(write(&mut brokers.client(2).await.unwrap(), 9, 100).await, 0, "replicated");
    set(&mut admin, &[("user", None)], ("consumer_byte_rate", None)).await;
    until_held(&brokers, 2, QuotaKey::ConsumerByteRate, false).await;
    let mut client = brokers.client(2).await.unwrap();
    assert!(read(&mut client, 12, 0).await.0 > 60_000);
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_charged_for_whatever_is_asked() {
    let brokers = Brokers::start(1, &SHORT_WINDOWS).await.unwrap();
    let mut admin = administrator(&brokers).await;
    set(&mut admin, &[("client-id", Some("busy"))], ("request_percentage", Some(1e-6))).await;
    let mut busy = brokers.client(1).await.unwrap().named("busy");
    let told = busy.call(3, &ApiVersionsRequest::default()).await.unwrap().throttle_time_ms;
    assert!((1..=1000).contains(&told), "a window at most: {told}");
    let told = admin.call(3, &ApiVersionsRequest::default()).await.unwrap().throttle_time_ms;
    assert_eq!(told, 0);
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sets_finds_and_removes_quotas() {
    let brokers = Brokers::start(2, &[]).await.unwrap();
    let bootstrap = brokers.bootstrap();
    let servers: Vec<&str> = bootstrap.split(',').collect();
    let admin = Admin::new(Cluster::connect(&servers, ClusterOptions::default()).await.unwrap());
    let user = (QuotaPart::User, Some("u".to_owned()));
    let entity = QuotaEntity::from([user, (QuotaPart::ClientId, None)]);
    let key = || "producer_byte_rate".to_owned();
    admin.alter_client_quotas(&entity, &[(key(), Some(1e9))], true).await.unwrap();
    admin.alter_client_quotas(&entity, &[(key(), Some(2e9))], false).await.unwrap();
    for id in [1, 2] {
        until_held(&brokers, id, QuotaKey::ProducerByteRate, true).await;
    }
    let wanted = BTreeMap::from([(QuotaPart::User, QuotaMatch::Any)]);
    let found = admin.describe_client_quotas(&wanted, false).await.unwrap();
    let values = BTreeMap::from([(key(), 2e9)]);
    assert_eq!(found, [ClientQuotas { entity: entity.clone(), values }]);
    assert_eq!(admin.describe_client_quotas(&wanted, true).await.unwrap(), []);
    let refused = admin.alter_client_quotas(&entity, &[(key(), Some(0.5))], false).await;
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::InvalidRequest));
    admin.alter_client_quotas(&entity, &[(key(), None)], false).await.unwrap();
    for id in [1, 2] {
        until_held(&brokers, id, QuotaKey::ProducerByteRate, false).await;
    }
    assert_eq!(admin.describe_client_quotas(&wanted, false).await.unwrap(), []);
    brokers.stop().await;
}

/// Makes a topic. Returns what came of it, and how long the client is to wait.
async fn create(
    brokers: &Brokers,
    version: i16,
    (name, partitions): (&str, i32),
) -> (ErrorCode, i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    let mut client = brokers.client(1).await.unwrap();
    let response = client.call(version, &request).await.unwrap();
    (ErrorCode::from_code(response.topics[0].error_code), response.throttle_time_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_beyond_the_quota_are_refused() {
    let brokers = Brokers::start(1, &SHORT_WINDOWS).await.unwrap();
    let mut admin = administrator(&brokers).await;
    let everybody = [("user", Some("ANONYMOUS"))];
    // Two seconds' worth is 0.02; so the first topic takes minutes to be paid for.
    set(&mut admin, &everybody, ("controller_mutation_rate", Some(0.01))).await;
    let (code, _) = create(&brokers, 7, ("bad name", 3)).await;
    assert_eq!(code, ErrorCode::InvalidTopicException, "what cannot be made is not charged");
    assert_eq!(create(&brokers, 7, ("a", 3)).await, (ErrorCode::None, 0));
    let (code, told_ms) = create(&brokers, 7, ("b", 1)).await;
    assert_eq!(code, ErrorCode::ThrottlingQuotaExceeded);
    assert!(told_ms > 100_000, "{told_ms}");
    assert_eq!(create(&brokers, 6, ("b", 1)).await.0, ErrorCode::ThrottlingQuotaExceeded);

    let topic = CreatePartitionsTopic {
        name: "a".into(),
        count: 4,
        assignments: None,
        ..CreatePartitionsTopic::default()
    };
    let grow = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    let mut client = brokers.client(1).await.unwrap();
    let response = client.call(3, &grow).await.unwrap();
    assert_eq!(response.results[0].error_code, ErrorCode::ThrottlingQuotaExceeded.code());
    let delete = DeleteTopicsRequest { topic_names: vec!["a".into()], ..Default::default() };
    let mut client = brokers.client(1).await.unwrap();
    let response = client.call(5, &delete).await.unwrap();
    assert_eq!(response.responses[0].error_code, ErrorCode::ThrottlingQuotaExceeded.code());

    // Old clients are only made to wait.
    let (code, told_ms) = create(&brokers, 5, ("c", 1)).await;
    assert_eq!(code, ErrorCode::None);
    assert!(told_ms > 100_000, "{told_ms}");
    let mut client = brokers.client(1).await.unwrap();
    let response = client.call(4, &delete).await.unwrap();
    assert_eq!(response.responses[0].error_code, 0);
    assert!(response.throttle_time_ms > 100_000);

    set(&mut admin, &everybody, ("controller_mutation_rate", None)).await;
    assert_eq!(create(&brokers, 7, ("b", 1)).await, (ErrorCode::None, 0));
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_connects_too_often_is_turned_away() {
    let brokers = Brokers::start(1, &[]).await.unwrap();
    let mut admin = administrator(&brokers).await;
    let here = [("ip", Some("127.0.0.1"))];
    set(&mut admin, &here, ("connection_creation_rate", Some(1.0))).await;
    let mut kept = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = brokers.client(1).await.unwrap();
        if client.call(0, &ApiVersionsRequest::default()).await.is_err() {
            break;
        }
        kept.push(client);
        assert!(Instant::now() < deadline, "{} connections and none refused", kept.len());
    }
    assert!(kept.len() >= 10, "what fits into the windows is served: {}", kept.len());
    assert!(brokers.broker(1).parts().metrics.throttled_connections.get() > 0);
    // Those that are open stay.
    set(&mut admin, &here, ("connection_creation_rate", None)).await;
    let mut client = brokers.client(1).await.unwrap();
    client.call(0, &ApiVersionsRequest::default()).await.unwrap();
    for client in &mut kept {
        client.call(0, &ApiVersionsRequest::default()).await.unwrap();
    }
    brokers.stop().await;
}
