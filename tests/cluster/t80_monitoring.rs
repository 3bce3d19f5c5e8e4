//! What operators see: a broker's figures, and how far groups are.

use std::time::Duration;

use ottla_common::kafka::admin::{Admin, NewTopic};
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::messages::find_coordinator::FindCoordinatorRequest;
use ottla_common::kafka::messages::offset_commit::OffsetCommitRequest;
use ottla_common::kafka::messages::offset_commit::request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_common::kafka::producer::{Producer, ProducerOptions, ProducerRecord};
use ottla_tests::node::Node;
use ottla_tests::process::{DevProcess, printed};
use ottla_tests::raw::RawClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(60);

async fn get(node: &Node, path: &str) -> String {
    let mut stream = TcpStream::connect(node.http_address().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The value of a figure.
fn figure(text: &str, name: &str) -> f64 {
    let name = format!("ottla_broker_{name} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// The group `readers` commits an offset of partition 0.
async fn commit(mut client: RawClient, offset: i64) {
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["readers".into()],
        ..FindCoordinatorRequest::default()
    };
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    let commit = OffsetCommitRequest {
        group_id: "readers".into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    let committed = async {
        loop {
            client.call(4, &find).await.unwrap();
            let response = client.call(8, &commit).await.unwrap();
            match response.topics[0].partitions[0].error_code {
                0 => return,
                // The topic of groups is being made, or loaded.
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, committed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_tells_its_figures_and_how_far_groups_are_behind() {
    let node = Node::start(&[("http.listen", "127.0.0.1:0")]).await.unwrap();
    let address = node.address.to_string();
    let cluster = Cluster::connect(&[&address], ClusterOptions::default()).await.unwrap();
    let admin = Admin::new(cluster.clone());
    admin.create_topic(&NewTopic::new("t", 1, 1)).await.unwrap();
    let producer = Producer::new(cluster, ProducerOptions::default()).unwrap();
    for value in ["a", "b", "c"] {
        let record = ProducerRecord {
            topic: "t",
            value: Some(value.as_bytes()),
            ..ProducerRecord::default()
        };
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.close(PATIENCE).await;
    commit(node.client().await.unwrap(), 1).await;
    let text = get(&node, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("# EOF\n"), "{text}");
    for (name, value) in [
        ("registered", 1.0_f64),
        ("controller", 1.0),
        ("produced_records_total", 3.0),
        ("under_replicated_partitions", 0.0),
        ("offline_partitions", 0.0),
        ("log_end_offset{topic=\"t\",partition=\"0\"}", 3.0),
        ("consumer_group_lag{group=\"readers\",topic=\"t\",partition=\"0\"}", 2.0),
    ] {
        assert_eq!(figure(&text, name).to_bits(), value.to_bits(), "{name}");
    }
    assert!(figure(&text, "request_seconds_count{api=\"OffsetCommit\"}") > 0.5);
    for path in ["/health", "/ready"] {
        assert!(get(&node, path).await.starts_with("HTTP/1.1 200 OK\r\n"), "{path}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_moves_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let dev = DevProcess::start(dir.path(), &[]).unwrap();
    let ottla =
        |arguments: &[&str], input: &str| printed(&dev.ottla(arguments, input).unwrap()).unwrap();
    ottla(&["topics", "create", "t", "-p", "1"], "");
    ottla(&["produce", "t"], "1\n2\n3\n4\n");
    commit(RawClient::connect(dev.brokers[0].parse().unwrap()).await.unwrap(), 1).await;
    let offset = || {
        let text = ottla(&["groups", "offsets", "readers", "--json"], "");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        (value["offset"].as_i64().unwrap(), value["lag"].as_i64().unwrap())
    };
    assert_eq!(ottla(&["groups", "list", "--json"], "").lines().count(), 1);
    assert_eq!(offset(), (1, 3));
    assert!(ottla(&["lag", "--json"], "").contains(r#""lag":3"#));
    let tried = ottla(&["groups", "reset", "readers", "--to", "latest"], "");
    assert!(tried.ends_with("--execute does it.\n"), "{tried}");
    assert_eq!(offset(), (1, 3));
    for (to, expected) in [("latest", 4), ("-1", 3), ("+9", 4), ("2", 2), ("earliest", 0)] {
        ottla(&["groups", "reset", "readers", "--to", to, "--execute"], "");
        assert_eq!(offset(), (expected, 4 - expected), "{to}");
    }
    ottla(&["groups", "delete", "readers"], "");
    assert_eq!(ottla(&["groups", "list", "--json"], ""), "");
}
