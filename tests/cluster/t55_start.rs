//! Brokers that are started before their coordinator, and what a broker says of an ensemble.

use std::time::{Duration, Instant};

use ottla_broker::broker::Broker;
use ottla_broker::config::BrokerConfig;
use ottla_common::kafka::messages::describe_quorum::response::PartitionData;
use ottla_common::kafka::messages::describe_quorum::{DescribeQuorumRequest, request};
use ottla_common::shutdown::Shutdown;
use ottla_coordinator::server::{Config, Server};
use ottla_tests::ports::free_port;
use ottla_tests::process::DevProcess;
use ottla_tests::raw::RawClient;

/// On a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

fn broker_config(dir: &std::path::Path, coordinator: &str) -> BrokerConfig {
    let properties = [
        ("node.id", "1"),
        ("log.dirs", dir.to_str().unwrap()),
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("coordinator.connect", coordinator),
        // So that it tries more than once before there is one.
        ("coordinator.connection.timeout.ms", "100"),
        ("coordinator.session.timeout.ms", "500"),
    ];
    BrokerConfig::from_properties(properties).unwrap()
}

/// An address at which nobody listens yet.
fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_waits_for_its_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let config = broker_config(&dir.path().join("data"), &address);
    let starting = tokio::time::timeout(PATIENCE, Broker::start(config, Shutdown::new()));
    let shutdown = Shutdown::new();
    let begin_late = async {
        // Someone who takes connections and never answers, as an ensemble without a majority.
        let silent = tokio::net::TcpListener::bind(&address).await.unwrap();
        for _ in 0..2 {
            let tried = tokio::time::timeout(PATIENCE, silent.accept()).await;
            drop(tried.expect("it tries again").unwrap());
        }
        drop(silent);
        let dir = dir.path().join("coordinator");
        let config = Config { listen: address.clone(), ..Config::new(dir) };
        Server::start(config, shutdown.clone()).await.unwrap()
    };
    let (started, _coordinator) = tokio::join!(starting, begin_late);
    let broker = started.expect("it goes on").unwrap();
    assert!(!broker.addresses.is_empty());
    broker.stop().await;
    shutdown.finish(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_waits_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new();
    let config = broker_config(dir.path(), &free_address());
    let starting = tokio::time::timeout(PATIENCE, Broker::start(config, shutdown.clone()));
    let (ended, ()) = tokio::join!(starting, async { shutdown.stop() });
    let error = ended.expect("it ends").err().expect("it did not start").to_string();
    assert!(error.contains("told to stop"), "{error}");
}

async fn quorum(client: &mut RawClient) -> PartitionData {
    let topic = request::TopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![request::PartitionData::default()],
        ..Default::default()
    };
    let asked = DescribeQuorumRequest { topics: vec![topic], ..Default::default() };
    client.call(2, &asked).await.unwrap().topics.remove(0).partitions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_voters_offset_is_told_whoever_leads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let start = move || DevProcess::start(&path, &["--coordinators", "3", "--brokers", "1"]);
    let dev = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let mut client = RawClient::connect(dev.brokers[0].parse().unwrap()).await.unwrap();
    // A member that has just been elected has not heard of all others yet.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = quorum(&mut client).await;
        assert_eq!(told.current_voters.len(), 3);
        if told.current_voters.iter().all(|voter| voter.log_end_offset >= 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
