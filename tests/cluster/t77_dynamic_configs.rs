//! Configs of brokers that change while they run (KIP-226): they are in force when the answer
//! comes, they are told with where they come from, and they outlast a restart.

use std::time::{Duration, Instant};

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::admin::{
    Admin, ConfigChange, ConfigEntry, ConfigResource, ConfigSource, NewTopic,
};
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::messages::api_versions::ApiVersionsRequest;
use ottla_common::kafka::producer::{Producer, ProducerOptions, ProducerRecord};
use ottla_common::types::BrokerId;
use ottla_tests::brokers::Brokers;
use ottla_tests::raw::RawClient;

/// How long a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(brokers: &Brokers) -> Cluster {
    let bootstrap = brokers.bootstrap();
    let servers: Vec<&str> = bootstrap.split(',').collect();
    Cluster::connect(&servers, ClusterOptions::default()).await.unwrap()
}

async fn alter(admin: &Admin, resource: ConfigResource, changes: Vec<ConfigChange>) -> ErrorCode {
    let results = admin.incremental_alter_configs(&[(resource, changes)], false).await.unwrap();
    match &results[0].1 {
        Ok(()) => ErrorCode::None,
        Err(error) => error.code().unwrap(),
    }
}

async fn described(admin: &Admin, resource: ConfigResource, key: &str) -> ConfigEntry {
    let mut results = admin.describe_configs(&[resource], Some(&[key])).await.unwrap();
    let mut entries = results.pop().unwrap().1.unwrap();
    assert_eq!(entries.len(), 1, "{key}");
    entries.pop().unwrap()
}

/// Writes a record of so many bytes to a partition.
async fn write(cluster: &Cluster, partition: i32, size: usize) -> ErrorCode {
    let producer = Producer::new(cluster.clone(), ProducerOptions::default()).unwrap();
    let value = vec![b'x'; size];
    let record = ProducerRecord {
        topic: "t",
        partition: Some(partition),
        value: Some(&value),
        ..ProducerRecord::default()
    };
    match producer.send(record).await.unwrap().await {
        Ok(_) => ErrorCode::None,
        Err(error) => error.code().unwrap(),
    }
}

/// Waits until a broker has taken over what another was told.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a new connection to the broker is served.
async fn is_served(brokers: &Brokers, id: i32) -> Option<RawClient> {
    let mut client = brokers.client(id).await.unwrap();
    let answer = client.call(0, &ApiVersionsRequest::default()).await;
    answer.is_ok().then_some(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_is_in_force_at_once_and_after_a_restart() {
    let mut brokers = Brokers::start(2, &[]).await.unwrap();
    let cluster = connect(&brokers).await;
    let admin = Admin::new(cluster.clone());
    // Two that broker 1 follows, two that it leads.
    let leaders = [(0, [2, 1]), (1, [2, 1]), (2, [1, 2]), (3, [1, 2])];
    let assignments = leaders.map(|(partition, brokers)| (partition, brokers.map(BrokerId).into()));
    let topic = NewTopic { assignments: assignments.into(), ..NewTopic::new("t", -1, -1) };
    admin.create_topic(&topic).await.unwrap();
    let (one, all) = (ConfigResource::broker(BrokerId(1)), ConfigResource::all_brokers());

    // For all brokers: the largest batch.
    assert_eq!(write(&cluster, 0, 5000).await, ErrorCode::None);
    let small = vec![ConfigChange::set("message.max.bytes", "1000")];
    assert_eq!(alter(&admin, all.clone(), small).await, ErrorCode::None);
    let is_small = |id: i32| {
        let parts = brokers.broker(id).parts();
        let log = parts.replicas.partition("t", 0).unwrap();
        log.log().config().max_message_bytes == 1000
    };
    until("both to take over the largest batch", || is_small(1) && is_small(2)).await;
    assert_eq!(write(&cluster, 0, 5000).await, ErrorCode::MessageTooLarge);
    let entry = described(&admin, one.clone(), "message.max.bytes").await;
    assert_eq!(entry.source, ConfigSource::DynamicDefaultBroker);
    let sources: Vec<_> = entry.synonyms.iter().map(|(source, ..)| *source).collect();
    assert_eq!(sources, [ConfigSource::DynamicDefaultBroker, ConfigSource::Default]);

    // For one: it is stronger than what is set for all.
    let large = vec![
        ConfigChange::set("message.max.bytes", "1000000"),
        ConfigChange::set("num.replica.fetchers", "2"),
        ConfigChange::set("log.cleaner.threads", "2"),
    ];
    assert_eq!(alter(&admin, one.clone(), large).await, ErrorCode::None);
    let entry = described(&admin, one.clone(), "message.max.bytes").await;
    assert_eq!((entry.source, entry.value.as_deref()), {
        (ConfigSource::DynamicBroker, Some("1000000"))
    });
    assert_eq!(brokers.broker(1).parts().replicas.logs().cleaner_threads(), 2);
    assert_eq!(brokers.broker(1).parts().replicas.fetcher_count(), 2);
    assert_eq!(brokers.broker(2).parts().replicas.fetcher_count(), 1);
    for partition in 0..4 {
        assert_eq!(write(&cluster, partition, 10).await, ErrorCode::None, "still replicated");
    }

    // What cannot be taken over is refused as a whole.
    let refused = vec![
        ConfigChange::set("log.retention.ms", "5"),
        ConfigChange::set("num.replica.fetchers", "7"),
    ];
    assert_eq!(alter(&admin, one.clone(), refused).await, ErrorCode::InvalidRequest);
    let refused = vec![ConfigChange::set("listeners", "PLAINTEXT://127.0.0.1:1")];
    assert_eq!(alter(&admin, one.clone(), refused).await, ErrorCode::InvalidRequest);
    let entry = described(&admin, one.clone(), "log.retention.ms").await;
    assert_eq!(entry.source, ConfigSource::Default);

    // The coordinator keeps them.
    brokers.stop_broker(1).await.unwrap();
    brokers.start_broker(1).await.unwrap();
    let admin = Admin::new(connect(&brokers).await);
    let entry = described(&admin, one.clone(), "message.max.bytes").await;
    assert_eq!((entry.source, entry.value.as_deref()), {
        (ConfigSource::DynamicBroker, Some("1000000"))
    });
    assert_eq!(brokers.broker(1).parts().replicas.logs().cleaner_threads(), 2);
    let back = vec![ConfigChange::delete("message.max.bytes")];
    assert_eq!(alter(&admin, one.clone(), back).await, ErrorCode::None);
    let entry = described(&admin, one, "message.max.bytes").await;
    assert_eq!(entry.source, ConfigSource::DynamicDefaultBroker);
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_connections_change_while_a_broker_listens() {
    let brokers = Brokers::start(1, &[]).await.unwrap();
    let admin = Admin::new(connect(&brokers).await);
    let one = ConfigResource::broker(BrokerId(1));
    let first = is_served(&brokers, 1).await.expect("no limit yet");
    let tight = vec![ConfigChange::set("max.connections.per.ip", "1")];
    assert_eq!(alter(&admin, one.clone(), tight).await, ErrorCode::None);
    assert!(is_served(&brokers, 1).await.is_none(), "more than one is open");
    // What is open stays, so the administrator can widen it again.
    let wide = vec![ConfigChange::set("max.connections.per.ip.overrides", "127.0.0.1:500")];
    assert_eq!(alter(&admin, one.clone(), wide).await, ErrorCode::None);
    let second = is_served(&brokers, 1).await.expect("the address has a limit of its own");
    let named = vec![ConfigChange::set("max.connections.per.ip.overrides", "192.0.2.1:5")];
    assert_eq!(alter(&admin, one.clone(), named).await, ErrorCode::None);
    assert!(is_served(&brokers, 1).await.is_none());
    let none = vec![
        ConfigChange::delete("max.connections.per.ip"),
        ConfigChange::delete("max.connections.per.ip.overrides"),
    ];
    assert_eq!(alter(&admin, one, none).await, ErrorCode::None);
    assert!(is_served(&brokers, 1).await.is_some());
    drop((first, second));
    brokers.stop().await;
}
