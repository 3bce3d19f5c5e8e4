//! Three brokers that hold the same records: what one acknowledges with `acks=all` the others have,
//! whoever goes and comes back.

use std::sync::Arc;
use std::time::Duration;

use ottla_broker::storage::error::StorageError;
use ottla_broker::storage::log_dirs::LogDir;
use ottla_common::kafka::admin::{Admin, NewTopic};
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::fetch::FetchRequest;
use ottla_common::kafka::messages::fetch::request::{FetchPartition, FetchTopic, ReplicaState};
use ottla_common::kafka::messages::fetch::response::PartitionData;
use ottla_common::kafka::messages::sasl_authenticate::SaslAuthenticateRequest;
use ottla_common::kafka::messages::sasl_handshake::SaslHandshakeRequest;
use ottla_common::kafka::producer::{Acks, Producer, ProducerOptions, ProducerRecord};
use ottla_common::types::{BrokerId, TopicPartition};
use ottla_tests::brokers::Brokers;

/// How long a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

const TOPIC: &str = "orders";

async fn connect(brokers: &Brokers) -> Cluster {
    let bootstrap = brokers.bootstrap();
    let servers: Vec<&str> = bootstrap.split(',').collect();
    Cluster::connect(&servers, ClusterOptions::default()).await.unwrap()
}

/// Three brokers and a topic on all of them.
async fn three(properties: &[(&str, &str)]) -> Brokers {
    let brokers = Brokers::start(3, properties).await.unwrap();
    let admin = Admin::new(connect(&brokers).await);
    admin.create_topic(&NewTopic::new(TOPIC, 3, 3)).await.unwrap();
    for id in 1..=3 {
        until(|| all_in_sync(&brokers, id, 3), "every broker knows the topic").await;
    }
    brokers
}

/// Looks again and again until it is so.
async fn until(mut condition: impl FnMut() -> bool, what: &str) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, met).await.is_ok(), "waited in vain until {what}");
}

/// Whether a broker's image shows so many in-sync replicas of each partition.
fn all_in_sync(brokers: &Brokers, id: i32, count: usize) -> bool {
    let image = brokers.broker(id).parts().image.load();
    let topic = image.topic(TOPIC);
    topic.is_some_and(|topic| {
        topic.partitions.iter().all(|p| p.isr.len() == count && p.leader.is_some())
    })
}

async fn produce(brokers: &Brokers, values: std::ops::Range<i32>) {
    let producer = Producer::new(
        connect(brokers).await,
        ProducerOptions { acks: Acks::All, linger_ms: 0, ..ProducerOptions::default() },
    );
    let producer = producer.unwrap();
    let mut deliveries = Vec::new();
    for value in values {
        let text = value.to_string();
        let record = ProducerRecord {
            topic: TOPIC,
            partition: Some(value % 3),
            value: Some(text.as_bytes()),
            ..ProducerRecord::default()
        };
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close(PATIENCE).await;
}

/// The bytes of a broker's logs of the topic.
fn logs(brokers: &Brokers, id: i32) -> Vec<Vec<u8>> {
    let folder = brokers.folder(id).join("0");
    let log = |partition| folder.join(format!("{TOPIC}-{partition}/00000000000000000000.log"));
    (0..3).map(|partition| std::fs::read(log(partition)).unwrap()).collect()
}

fn log_end_offset(brokers: &Brokers, id: i32, partition: i32) -> i64 {
    let name = TopicPartition::new(TOPIC, partition);
    brokers.broker(id).parts().replicas.logs().log(&name).unwrap().log_end_offset()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_holds_what_was_acknowledged_byte_for_byte() {
    let brokers = three(&[("min.insync.replicas", "3")]).await;
    produce(&brokers, 0..300).await;
    let first = logs(&brokers, 1);
    assert!(first.iter().all(|log| !log.is_empty()));
    for id in 2..=3 {
        assert_eq!(logs(&brokers, id), first, "broker {id}");
    }
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_away_catches_up_and_is_in_sync_again() {
    let mut brokers = three(&[("min.insync.replicas", "2")]).await;
    produce(&brokers, 0..30).await;
    brokers.stop_broker(2).await.unwrap();
    produce(&brokers, 30..300).await;
    brokers.start_broker(2).await.unwrap();
    until(|| all_in_sync(&brokers, 1, 3), "2 is in sync again").await;
    assert_eq!(logs(&brokers, 1), logs(&brokers, 2));
    produce(&brokers, 300..330).await;
    assert_eq!(logs(&brokers, 1), logs(&brokers, 2));
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lost_its_disk_fetches_everything_again() {
    let mut brokers = three(&[("min.insync.replicas", "2")]).await;
    produce(&brokers, 0..90).await;
    brokers.stop_broker(3).await.unwrap();
    std::fs::remove_dir_all(brokers.folder(3)).unwrap();
    brokers.start_broker(3).await.unwrap();
    until(|| all_in_sync(&brokers, 1, 3), "3 is in sync again").await;
    assert_eq!(logs(&brokers, 3), logs(&brokers, 1));
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_log_directory_costs_its_leaderships_and_not_the_broker() {
    let brokers = Brokers::start_with_log_dirs((2, 2), &[]).await.unwrap();
    let admin = Admin::new(connect(&brokers).await);
    admin.create_topic(&NewTopic::new(TOPIC, 8, 2)).await.unwrap();
    for id in 1..=2 {
        until(|| all_in_sync(&brokers, id, 2), "every broker knows the topic").await;
    }
    produce(&brokers, 0..30).await;
    let broker = brokers.broker(1);
    let logs = broker.parts().replicas.logs();
    let (failing, healthy) = (&logs.dirs()[0], &logs.dirs()[1]);
    let in_dir = |dir: &Arc<LogDir>| {
        let logs = logs.logs();
        let held = logs.iter().filter(|log| log.dir().path() == dir.path());
        held.map(|log| log.topic_partition().partition).collect::<Vec<_>>()
    };
    let (lost, kept) = (in_dir(failing), in_dir(healthy));
    assert!(!lost.is_empty() && !kept.is_empty(), "{lost:?} {kept:?}");
    let (path, reason) = (failing.path().to_owned(), "the story wants it so".to_owned());
    failing.fail(&StorageError::DirectoryOffline { path, reason });
    let image = || brokers.broker(2).parts().image.load();
    let moved = || {
        let image = image();
        let topic = image.topic(TOPIC).unwrap();
        let only_two = |number: &i32| {
            let partition = topic.partition(*number).unwrap();
            partition.leader == Some(BrokerId(2)) && partition.isr == [BrokerId(2)]
        };
        lost.iter().all(only_two)
    };
    until(moved, "the other broker leads what was in the directory").await;
    let image = image();
    let topic = image.topic(TOPIC).unwrap();
    assert!(kept.iter().all(|number| topic.partition(*number).unwrap().isr.len() == 2));
    produce(&brokers, 30..60).await;
    brokers.stop().await;
}

/// What a consumer is answered that fetches partition 0 from its beginning.
async fn fetched(brokers: &Brokers, id: i32, rack: &str) -> PartitionData {
    let image = brokers.broker(id).parts().image.load();
    let partition = FetchPartition {
        partition: 0,
        current_leader_epoch: -1,
        partition_max_bytes: 10_000,
        ..FetchPartition::default()
    };
    let request = FetchRequest {
        max_bytes: 10_000,
        rack_id: rack.into(),
        topics: vec![FetchTopic {
            topic_id: image.topic(TOPIC).unwrap().id,
            partitions: vec![partition],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let mut client = brokers.client(id).await.unwrap();
    let mut response = client.call(18, &request).await.unwrap();
    response.responses.remove(0).partitions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_from_the_replica_in_its_rack() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let quick = ("replica.fetch.wait.max.ms", "50");
    let brokers = three(&[("replica.selector.class", selector), quick]).await;
    produce(&brokers, 0..30).await;
    let image = brokers.broker(1).parts().image.load();
    let leader = image.topic(TOPIC).unwrap().partitions[0].leader.unwrap().0;
    let near = (1..=3).find(|id| *id != leader).unwrap();
    let at_leader = fetched(&brokers, leader, &format!("rack-{near}")).await;
    assert_eq!(at_leader.preferred_read_replica, near);
    assert!(at_leader.records.is_none_or(|records| records.is_empty()));
    let own = fetched(&brokers, leader, &format!("rack-{leader}")).await;
    assert_eq!(own.preferred_read_replica, -1);
    // The follower hears with its next fetch that it is committed.
    let replicas = &brokers.broker(near).parts().replicas;
    until(|| replicas.partition(TOPIC, 0).unwrap().high_watermark() == 10, "it knows").await;
    let followers = fetched(&brokers, near, &format!("rack-{near}")).await;
    assert_eq!((followers.error_code, followers.preferred_read_replica), (0, -1));
    assert_eq!(followers.records, own.records);
    brokers.stop().await;
}

/// A Fetch that says it is broker 2's, at the end of partition 0.
fn pretended(brokers: &Brokers, log_end_offset: i64) -> FetchRequest {
    let image = brokers.broker(1).parts().image.load();
    let topic_id = image.topic(TOPIC).unwrap().id;
    let partition = FetchPartition {
        partition: 0,
        fetch_offset: log_end_offset,
        current_leader_epoch: -1,
        partition_max_bytes: 1000,
        ..FetchPartition::default()
    };
    FetchRequest {
        replica_state: ReplicaState {
            replica_id: 2,
            replica_epoch: image.brokers[&BrokerId(2)].broker_epoch,
            ..ReplicaState::default()
        },
        max_bytes: 1000,
        topics: vec![FetchTopic { topic_id, partitions: vec![partition], ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pretends_to_be_a_replica_is_refused_and_moves_nothing() {
    let brokers = three(&[]).await;
    let image = brokers.broker(1).parts().image.load();
    let leader = image.topic(TOPIC).unwrap().partitions[0].leader.unwrap().0;
    produce(&brokers, 0..3).await;
    let high_watermark = |brokers: &Brokers| {
        let replicas = &brokers.broker(leader).parts().replicas;
        replicas.partition(TOPIC, 0).unwrap().high_watermark()
    };
    let before = high_watermark(&brokers);
    let mut client = brokers.client(leader).await.unwrap();
    let pretended = pretended(&brokers, log_end_offset(&brokers, leader, 0));
    let refused = client.call(18, &pretended).await.unwrap();
    assert_eq!(refused.error_code, ErrorCode::ClusterAuthorizationFailed.code());
    assert!(refused.responses.is_empty());

    // Nor does one that goes through the motions of a proof.
    let mechanism = SaslHandshakeRequest { mechanism: "OTTLA-BROKER".into() };
    assert_eq!(client.call(1, &mechanism).await.unwrap().error_code, 0);
    let mut hello = vec![1];
    hello.extend(2_i32.to_be_bytes());
    hello.extend(leader.to_be_bytes());
    hello.extend([7; 32]);
    for (auth_bytes, expected) in [
        (hello, ErrorCode::None),
        (vec![9; 32], ErrorCode::SaslAuthenticationFailed),
        (vec![9; 32], ErrorCode::IllegalSaslState),
    ] {
        let request = SaslAuthenticateRequest {
            auth_bytes: auth_bytes.into(),
            ..SaslAuthenticateRequest::default()
        };
        assert_eq!(client.call(2, &request).await.unwrap().error_code, expected.code());
    }
    let refused = client.call(18, &pretended).await.unwrap();
    assert_eq!(refused.error_code, ErrorCode::ClusterAuthorizationFailed.code());
    assert_eq!(high_watermark(&brokers), before);
    brokers.stop().await;
}
