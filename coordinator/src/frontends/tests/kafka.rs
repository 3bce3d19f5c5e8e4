//! Kafka's clients ask a member who leads.

use std::net::SocketAddr;

use ottla_common::cluster_tree::*;
use ottla_common::coordination::protocol::{Acl, CreateMode, Op, Request as Ask};
use ottla_common::kafka::messages::api_versions::ApiVersionsRequest;
use ottla_common::kafka::messages::describe_cluster::DescribeClusterRequest;
use ottla_common::kafka::messages::fetch::FetchRequest;
use ottla_common::kafka::messages::find_coordinator::FindCoordinatorRequest;
use ottla_common::kafka::messages::init_producer_id::InitProducerIdRequest;
use ottla_common::kafka::messages::metadata::MetadataRequest;
use ottla_common::kafka::messages::metadata::request::MetadataRequestTopic;
use ottla_common::kafka::request::{Request, encode_request};
use ottla_common::kafka::response::decode_response;
use ottla_common::kafka::{ApiKey, ErrorCode};
use ottla_common::types::{BrokerId, TopicId, Uuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::{Member, RawClient};

/// Asks one thing on a connection of its own.
async fn call<R: Request>(address: SocketAddr, version: i16, request: &R) -> R::Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let frame = encode_request(version, 7, Some(&"test".into()), request).unwrap();
    stream.write_all(&frame.to_bytes().unwrap()).await.unwrap();
    let size = stream.read_u32().await.expect("the member hung up");
    let mut bytes = vec![0; size as usize];
    stream.read_exact(&mut bytes).await.unwrap();
    let (correlation_id, response) = decode_response(bytes.into(), version).unwrap();
    assert_eq!(correlation_id, 7);
    response
}

/// What a member says to bytes before it closes the connection.
async fn said_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    said
}

async fn put(client: &mut RawClient, path: &str, data: Vec<u8>) {
    let mut parents: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    parents.remove(0);
    for at in parents {
        let _ = client.create(&path[..at], CreateMode::Persistent).await;
    }
    let (path, mode, acl) = (path.to_owned(), CreateMode::Persistent, Acl::open());
    client.ask(Ask::Write(Op::Create { path, data, mode, acl })).await.unwrap();
}

fn endpoint(listener: &str, port: u16) -> Endpoint {
    let security_protocol = "PLAINTEXT".to_owned();
    Endpoint { listener: listener.to_owned(), host: "h".to_owned(), port, security_protocol }
}

async fn put_broker(client: &mut RawClient, id: i32, endpoints: &[(&str, u16)]) {
    let endpoints = endpoints.iter().map(|(name, port)| endpoint(name, *port)).collect();
    let broker = BrokerRegistration { endpoints, ..BrokerRegistration::default() };
    put(client, &BrokerRegistration::path(BrokerId(id)), broker.encode()).await;
}

async fn put_topic(client: &mut RawClient, name: &str, id: u8, leaders: &[Option<i32>]) {
    let replicas = vec![BrokerId(1), BrokerId(2)];
    let partition = PartitionAssignment { replicas, ..PartitionAssignment::default() };
    let partitions = vec![partition; leaders.len()];
    let topic = TopicAssignment { topic_id: topic_id(id), partitions };
    put(client, &TopicAssignment::path(name), topic.encode()).await;
    for (number, leader) in (0..).zip(leaders) {
        let leader = leader.map(BrokerId);
        let state = PartitionState { leader, leader_epoch: 4, ..PartitionState::default() };
        put(client, &PartitionState::path(name, number), state.encode()).await;
    }
}

fn topic_id(id: u8) -> TopicId {
    let mut bytes = [0; 16];
    bytes[15] = id;
    Uuid(bytes)
}

fn asking(name: Option<&str>, id: u8) -> MetadataRequest {
    let topic_id = topic_id(id);
    let name = name.map(Into::into);
    let topic = MetadataRequestTopic { topic_id, name, ..MetadataRequestTopic::default() };
    MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() }
}

/// A member that knows two brokers; the third has a listener of another name only.
async fn member() -> (Member, RawClient) {
    let member = Member::start().await;
    let mut client = member.connect().await;
    put(&mut client, ClusterId::PATH, ClusterId::new("the-cluster").encode()).await;
    put_broker(&mut client, 1, &[("INTERNAL", 1), ("PLAINTEXT", 9092)]).await;
    put_broker(&mut client, 3, &[("OTHER", 7)]).await;
    let controller = ControllerRegistration { broker_id: BrokerId(3), since_ms: 0 };
    put(&mut client, ControllerRegistration::PATH, controller.encode()).await;
    put_topic(&mut client, "t", 1, &[Some(1), Some(3), None, Some(2)]).await;
    (member, client)
}

#[tokio::test]
async fn a_client_is_told_the_brokers_and_the_leaders_in_every_version() {
    let (member, _client) = member().await;
    for version in 0..=13 {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let request = MetadataRequest { topics: all, ..MetadataRequest::default() };
        let told = call(member.address, version, &request).await;
        let brokers: Vec<_> = told.brokers.iter().map(|b| (b.node_id, b.port)).collect();
        assert_eq!(brokers, [(1, 9092), (3, 7)], "version {version}");
        let leaders = told.topics[0].partitions.iter().map(|p| (p.error_code, p.leader_id));
        let missing = (ErrorCode::LeaderNotAvailable.code(), -1);
        let expect = [(0, 1), (0, 3), missing, missing];
        assert_eq!(leaders.collect::<Vec<_>>(), expect, "version {version}");
        if version >= 1 {
            assert_eq!(told.controller_id, 3);
        }
        if version >= 2 {
            assert_eq!(told.cluster_id.as_deref(), Some("the-cluster"));
        }
        if version >= 5 {
            assert_eq!(told.topics[0].partitions[0].offline_replicas, [2]);
        }
        if version >= 7 {
            assert_eq!(told.topics[0].partitions[0].leader_epoch, 4);
        }
        if version >= 10 {
            assert_eq!(told.topics[0].topic_id, topic_id(1));
        }
    }
    for version in 0..=2 {
        let told = call(member.address, version, &DescribeClusterRequest::default()).await;
        assert_eq!((told.error_code, told.controller_id, told.brokers.len()), (0, 3, 2));
        assert_eq!(&*told.cluster_id, "the-cluster");
    }
}

#[tokio::test]
async fn topics_are_found_by_name_and_id_and_none_is_created() {
    let (member, mut client) = member().await;
    let found = |told: &ottla_common::kafka::messages::metadata::MetadataResponse| {
        let topic = &told.topics[0];
        let name = topic.name.as_ref().map(|name| name.as_str().to_owned());
        (ErrorCode::from_code(topic.error_code), name)
    };
    let cases = [
        (asking(Some("t"), 0), ErrorCode::None, Some("t")),
        (asking(None, 1), ErrorCode::None, Some("t")),
        (asking(Some("new"), 0), ErrorCode::UnknownTopicOrPartition, Some("new")),
        (asking(Some("a b"), 0), ErrorCode::InvalidTopicException, Some("a b")),
        (asking(None, 9), ErrorCode::UnknownTopicId, None),
    ];
    for (request, error, name) in cases {
        let told = call(member.address, 13, &request).await;
        assert_eq!(found(&told), (error, name.map(str::to_owned)));
    }
    // What changes is seen at once, what is not for everyone never.
    put_topic(&mut client, "new", 2, &[Some(1)]).await;
    let told = call(member.address, 13, &asking(Some("new"), 0)).await;
    assert_eq!(told.topics[0].partitions[0].leader_id, 1);
    let state = PartitionState { leader: Some(BrokerId(3)), ..PartitionState::default() };
    let (path, data) = (PartitionState::path("new", 0), state.encode());
    client.ask(Ask::Write(Op::SetData { path, data, version: None })).await.unwrap();
    let told = call(member.address, 13, &asking(Some("new"), 0)).await;
    assert_eq!(told.topics[0].partitions[0].leader_id, 3);
    let nobody = Acl { permissions: 31, scheme: "ip".to_owned(), id: "127.0.0.2".to_owned() };
    let (path, acl) = (TopicAssignment::path("new"), vec![nobody]);
    client.ask(Ask::Write(Op::SetAcl { path, acl, version: None })).await.unwrap();
    let told = call(member.address, 13, &asking(Some("new"), 0)).await;
    assert_eq!(found(&told).0, ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn the_listener_that_is_told_can_be_chosen() {
    let chosen = |config: &mut crate::config::Config| {
        config.kafka_listener_name = Some("INTERNAL".to_owned());
    };
    let member = Member::start_with(chosen).await;
    let mut client = member.connect().await;
    put_broker(&mut client, 1, &[("PLAINTEXT", 9092), ("INTERNAL", 1)]).await;
    put_broker(&mut client, 3, &[("OTHER", 7)]).await;
    put_topic(&mut client, "t", 1, &[Some(1), Some(3)]).await;
    let told = call(member.address, 9, &asking(Some("t"), 0)).await;
    assert_eq!((told.brokers.len(), told.brokers[0].port), (1, 1));
    let leaders = told.topics[0].partitions.iter().map(|p| (p.error_code, p.leader_id));
    let unreachable = (ErrorCode::ListenerNotFound.code(), -1);
    assert_eq!(leaders.collect::<Vec<_>>(), [(0, 1), unreachable]);
}

#[tokio::test]
async fn groups_are_led_by_who_leads_their_partition_of_the_internal_topic() {
    let (member, mut client) = member().await;
    let key = || "my-group".into();
    let one = FindCoordinatorRequest { key: key(), ..FindCoordinatorRequest::default() };
    let many = FindCoordinatorRequest {
        coordinator_keys: vec![key()],
        ..FindCoordinatorRequest::default()
    };
    let not_yet = ErrorCode::CoordinatorNotAvailable.code();
    assert_eq!(call(member.address, 0, &one).await.error_code, not_yet);
    assert_eq!(call(member.address, 6, &many).await.coordinators[0].error_code, not_yet);
    // 1,906,497,762 modulo 2 is 0.
    put_topic(&mut client, "__consumer_offsets", 5, &[Some(3), Some(1)]).await;
    for version in 0..=3 {
        let told = call(member.address, version, &one).await;
        assert_eq!((told.error_code, told.node_id, told.port), (0, 3, 7), "version {version}");
    }
    for version in 4..=6 {
        let told = &call(member.address, version, &many).await.coordinators[0];
        assert_eq!((told.error_code, told.node_id, told.port), (0, 3, 7), "version {version}");
        assert_eq!(&*told.key, "my-group");
    }
    for version in 0..=5 {
        let told = call(member.address, version, &InitProducerIdRequest::default()).await;
        let error = ErrorCode::from_code(told.error_code);
        assert_eq!(error, ErrorCode::CoordinatorLoadInProgress, "asked again, of a broker");
    }
}

#[tokio::test]
async fn versions_are_told_and_unknown_ones_answered_so_that_clients_try_again() {
    let member = Member::start().await;
    for version in 0..=5 {
        let told = call(member.address, version, &ApiVersionsRequest::default()).await;
        let keys: Vec<_> = told.api_keys.iter().map(|api| api.api_key).collect();
        assert_eq!((told.error_code, keys), (0, vec![3, 10, 18, 22, 60]), "version {version}");
    }
    let future = [0, 0, 0, 8, 0, 18, 0, 99, 0, 0, 0, 5];
    let mut stream = TcpStream::connect(member.address).await.unwrap();
    stream.write_all(&future).await.unwrap();
    let expect = [
        0, 0, 0, 16, 0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5, // and it stays open
    ];
    let mut said = [0; 20];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(said, expect);
    let frame = encode_request(0, 6, None, &ApiVersionsRequest::default()).unwrap();
    stream.write_all(&frame.to_bytes().unwrap()).await.unwrap();
    assert!(stream.read_u32().await.unwrap() > 16);
    // A client that means a broker by this address.
    let lost = ApiVersionsRequest {
        cluster_id: Some("c".into()),
        node_id: 1,
        client_software_name: "x".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let told = call(member.address, 5, &lost).await;
    assert_eq!(ErrorCode::from_code(told.error_code), ErrorCode::RebootstrapRequired);
}

#[tokio::test]
async fn what_is_not_offered_or_broken_ends_the_connection() {
    let member = Member::start().await;
    let frame = encode_request(12, 1, None, &FetchRequest::default()).unwrap();
    assert_eq!(said_to(member.address, &frame.to_bytes().unwrap()).await, b"");
    let version = [0, 0, 0, 10, 0, 3, 0, 14, 0, 0, 0, 1, 0xff, 0xff];
    let huge_array = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
    let too_long = [0, 1, 0, 1, 0, 3, 0, 1, 0, 0, 0, 1];
    let no_version = [0, 0, 0, 10, 0, 3, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff];
    for bytes in [&version[..], &huge_array, &too_long, &no_version] {
        assert_eq!(said_to(member.address, bytes).await, b"", "{bytes:?}");
    }
    assert!(
        super::super::kafka::APIS
            .iter()
            .all(|(key, (min, max))| { (*min..=*max).all(|version| key.has_version(version)) })
    );
    call(member.address, 0, &ApiVersionsRequest::default()).await;
    assert_eq!(ApiKey::Fetch.code(), 1);
}

#[tokio::test]
async fn a_client_that_was_told_of_brokers_is_sent_to_them() {
    let (member, _client) = member().await;
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let frame = encode_request(13, 1, None, &asking(Some("new"), 0)).unwrap();
        bytes.extend_from_slice(&frame.to_bytes().unwrap());
    }
    // Both are answered before the member ends the connection; the client never does.
    let said = said_to(member.address, &bytes).await;
    let first = u32::from_be_bytes(said[..4].try_into().unwrap()) as usize;
    assert_eq!(said.len(), 2 * (4 + first));
}
