//! What happens around the coordinator: it is a bootstrap server for Kafka's clients, and it may be
//! away for a while.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ottla_broker::broker::Broker;
use ottla_broker::config::BrokerConfig;
use ottla_common::kafka::admin::{Admin, NewTopic};
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::producer::{Acks, Producer, ProducerOptions, ProducerRecord};
use ottla_common::shutdown::Shutdown;
use ottla_coordinator::server::{Config, Server};
use ottla_tests::node::Node;

const PATIENCE: Duration = Duration::from_secs(20);

async fn produce(cluster: &Cluster, topic: &str) -> i64 {
    let options = ProducerOptions { acks: Acks::All, linger_ms: 0, ..ProducerOptions::default() };
    let producer = Producer::new(cluster.clone(), options).unwrap();
    let record = ProducerRecord {
        topic,
        partition: Some(0),
        value: Some(b"value"),
        ..ProducerRecord::default()
    };
    let delivery = producer.send(record).await.unwrap();
    producer.flush().await;
    let offset = delivery.await.unwrap().offset;
    producer.close(Duration::from_secs(1)).await;
    offset
}

#[tokio::test]
async fn a_client_that_knows_only_the_coordinator_finds_the_brokers() {
    let node = Node::start(&[]).await.unwrap();
    let bootstrap = node.coordinator.to_string();
    let options = ClusterOptions { allow_auto_topic_creation: true, ..ClusterOptions::default() };
    let cluster = Cluster::connect(&[bootstrap.as_str()], options).await.unwrap();
    let topic = "found";
    Admin::new(cluster.clone()).create_topic(&NewTopic::new(topic, 1, 1)).await.unwrap();
    assert_eq!(produce(&cluster, topic).await, 0);
    assert_eq!(produce(&cluster, topic).await, 1);
    node.stop().await;
}

async fn coordinator(dir: &Path, listen: &str) -> (SocketAddr, Shutdown) {
    let shutdown = Shutdown::new();
    let config = Config { listen: listen.to_owned(), ..Config::new(dir.join("coordinator")) };
    let server = Server::start(config, shutdown.clone()).await.unwrap();
    (server.client_address, shutdown)
}

#[tokio::test]
async fn a_broker_serves_while_the_coordinator_is_away_and_finds_it_again_by_its_list() {
    let dir = tempfile::tempdir().unwrap();
    let (address, stop) = coordinator(dir.path(), "127.0.0.1:0").await;
    // Nobody listens at the first of them.
    let list = format!("127.0.0.1:1,{address}");
    let logs = dir.path().join("data").display().to_string();
    let config = BrokerConfig::from_properties([
        ("node.id", "1"),
        ("log.dirs", logs.as_str()),
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("coordinator.connect", list.as_str()),
        ("coordinator.session.timeout.ms", "60000"),
    ]);
    let broker = Broker::start(config.unwrap(), Shutdown::new()).await.unwrap();
    let bootstrap = broker.addresses.values().next().unwrap().to_string();
    let options = ClusterOptions::default();
    let cluster = Cluster::connect(&[bootstrap.as_str()], options).await.unwrap();
    let admin = Admin::new(cluster.clone());
    admin.create_topic(&NewTopic::new("before", 1, 1)).await.unwrap();
    assert_eq!(produce(&cluster, "before").await, 0);

    assert!(stop.finish(PATIENCE).await);
    assert_eq!(produce(&cluster, "before").await, 1, "its session is certainly alive");
    let (_, stop) = coordinator(dir.path(), &address.to_string()).await;
    admin.create_topic(&NewTopic::new("after", 1, 1)).await.unwrap();
    assert_eq!(produce(&cluster, "after").await, 0);
    assert_eq!(produce(&cluster, "before").await, 2);
    broker.stop().await;
    assert!(stop.finish(PATIENCE).await);
}
