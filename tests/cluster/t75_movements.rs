//! Leaders and replicas that move because somebody asks for it: shutdowns, elections,
//! reassignments.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_broker::metadata::image::PartitionImage;
use ottla_common::kafka::admin::{Admin, ConfigChange, ConfigResource, ElectionType, NewTopic};
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::producer::{Producer, ProducerOptions, ProducerRecord};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, TopicPartition};
use ottla_tests::brokers::Brokers;

/// How long a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

const TOPIC: &str = "orders";

fn ids(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn named(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// Some brokers and a topic with one partition on these of them.
async fn cluster(
    (count, replicas): (i32, &[i32]),
    properties: &[(&str, &str)],
) -> (Brokers, Admin) {
    let brokers = Brokers::start(count, properties).await.unwrap();
    let bootstrap = brokers.bootstrap();
    let servers: Vec<&str> = bootstrap.split(',').collect();
    let client = Cluster::connect(&servers, ClusterOptions::default()).await.unwrap();
    let admin = Admin::new(client);
    let assignments = BTreeMap::from([(0, ids(replicas))]);
    admin.create_topic(&NewTopic { assignments, ..NewTopic::new(TOPIC, -1, -1) }).await.unwrap();
    until(&brokers, 1, |partition| partition.isr == ids(replicas)).await;
    (brokers, admin)
}

/// Waits until a broker's image shows the partition so.
async fn until(brokers: &Brokers, id: i32, condition: impl Fn(&PartitionImage) -> bool) {
    let image = &brokers.broker(id).parts().image;
    let shown = image.wait_until(PATIENCE, |image| {
        image.topic(TOPIC).and_then(|topic| topic.partition(0)).is_some_and(&condition)
    });
    let seen = shown.await.is_some();
    assert!(seen, "broker {id} shows {:?}", partition(brokers, id));
}

fn partition(brokers: &Brokers, id: i32) -> PartitionImage {
    let image = brokers.broker(id).parts().image.load();
    image.topic(TOPIC).unwrap().partition(0).unwrap().clone()
}

async fn elect(admin: &Admin, election: ElectionType) -> Option<ErrorCode> {
    let results = admin.elect_leaders(election, Some(&[named(0)])).await.unwrap();
    results[0].1.as_ref().err().and_then(|error| error.code())
}

async fn reassign(admin: &Admin, replicas: Option<&[i32]>) -> Option<ErrorCode> {
    let moves = BTreeMap::from([(named(0), replicas.map(ids))]);
    let results = admin.alter_partition_reassignments(&moves).await.unwrap();
    results[0].1.as_ref().err().and_then(|error| error.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_hands_over_before_it_stops() {
    let (mut brokers, admin) = cluster((3, &[1, 2, 3]), &[]).await;
    brokers.stop_broker(1).await.unwrap();
    // Before the session ended: nobody saw a partition without a leader.
    until(&brokers, 2, |partition| partition.leader == Some(BrokerId(2))).await;
    let handed_over = partition(&brokers, 2);
    assert_eq!((handed_over.leader_epoch, handed_over.isr), (1, ids(&[2, 3])));
    assert_eq!(
        elect(&admin, ElectionType::Preferred).await,
        Some(ErrorCode::PreferredLeaderNotAvailable)
    );
    brokers.start_broker(1).await.unwrap();
    // Either of them controls.
    for id in [2, 3] {
        until(&brokers, id, |partition| partition.isr.len() == 3).await;
    }
    assert_eq!(elect(&admin, ElectionType::Preferred).await, None);
    until(&brokers, 3, |partition| partition.leader == Some(BrokerId(1))).await;
    assert_eq!(partition(&brokers, 3).leader_epoch, 2);
    assert_eq!(elect(&admin, ElectionType::Preferred).await, Some(ErrorCode::ElectionNotNeeded));
    assert_eq!(elect(&admin, ElectionType::Unclean).await, Some(ErrorCode::ElectionNotNeeded));
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preferred_leaders_come_back_by_themselves() {
    let (mut brokers, _) =
        cluster((2, &[1, 2]), &[("leader.imbalance.check.interval.seconds", "1")]).await;
    brokers.stop_broker(1).await.unwrap();
    until(&brokers, 2, |partition| partition.leader == Some(BrokerId(2))).await;
    brokers.start_broker(1).await.unwrap();
    until(&brokers, 2, |partition| partition.leader == Some(BrokerId(1))).await;
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_unclean_election_makes_a_leader_of_one_who_was_behind() {
    let (mut brokers, admin) = cluster((3, &[1, 2]), &[]).await;
    brokers.stop_broker(2).await.unwrap();
    until(&brokers, 3, |partition| partition.isr == ids(&[1])).await;
    brokers.stop_broker(1).await.unwrap();
    until(&brokers, 3, |partition| partition.leader.is_none()).await;
    assert_eq!(
        elect(&admin, ElectionType::Unclean).await,
        Some(ErrorCode::EligibleLeadersNotAvailable)
    );
    brokers.start_broker(2).await.unwrap();
    assert_eq!(
        elect(&admin, ElectionType::Preferred).await,
        Some(ErrorCode::PreferredLeaderNotAvailable)
    );
    assert_eq!(elect(&admin, ElectionType::Unclean).await, None);
    until(&brokers, 3, |partition| partition.leader == Some(BrokerId(2))).await;
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_move_to_other_brokers_and_the_leader_with_them() {
    let (brokers, admin) = cluster((4, &[1, 2]), &[]).await;
    assert_eq!(reassign(&admin, Some(&[3, 4])).await, None);
    until(&brokers, 1, |partition| partition.replicas == ids(&[3, 4])).await;
    let moved = partition(&brokers, 1);
    assert_eq!((moved.leader, moved.leader_epoch), (Some(BrokerId(3)), 1));
    assert_eq!((moved.adding.len(), moved.removing.len()), (0, 0));
    assert!(moved.isr.len() == 2 && admin.list_partition_reassignments().await.unwrap().is_empty());
    assert_eq!(reassign(&admin, Some(&[4, 3])).await, None, "another order");
    until(&brokers, 1, |partition| partition.replicas == ids(&[4, 3])).await;
    assert_eq!(reassign(&admin, Some(&[4])).await, None, "fewer");
    until(&brokers, 1, |partition| partition.replicas == ids(&[4])).await;
    assert_eq!(partition(&brokers, 1).isr, ids(&[4]));
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_cannot_end_is_called_off() {
    let (mut brokers, admin) =
        cluster((3, &[1, 2]), &[("controlled.shutdown.enable", "false")]).await;
    assert_eq!(reassign(&admin, None).await, Some(ErrorCode::NoReassignmentInProgress));
    let refused = Some(ErrorCode::InvalidReplicaAssignment);
    for wrong in [&[][..], &[3, 3], &[9]] {
        assert_eq!(reassign(&admin, Some(wrong)).await, refused, "{wrong:?}");
    }
    // Broker 2 stays a replica and is down: the move cannot end without it.
    brokers.stop_broker(2).await.unwrap();
    assert_eq!(reassign(&admin, Some(&[3, 2])).await, None);
    until(&brokers, 1, |partition| partition.isr.contains(&BrokerId(3))).await;
    let moving = admin.list_partition_reassignments().await.unwrap().remove(0);
    assert_eq!(moving.replicas, ids(&[3, 2, 1]));
    assert_eq!((moving.adding, moving.removing), (ids(&[3]), ids(&[1])));
    assert_eq!(reassign(&admin, None).await, None);
    until(&brokers, 1, |partition| partition.replicas == ids(&[2, 1])).await;
    let back = partition(&brokers, 1);
    assert_eq!((back.isr, back.leader), (ids(&[1]), Some(BrokerId(1))));
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_broker_takes_no_new_replicas() {
    let (brokers, admin) = cluster((2, &[1, 2]), &[]).await;
    let cordon = ConfigChange::set("cordoned.log.dirs", "*");
    let changes = [(ConfigResource::broker(BrokerId(1)), vec![cordon])];
    for (_, result) in admin.incremental_alter_configs(&changes, false).await.unwrap() {
        result.unwrap();
    }
    let refused = admin.create_topic(&NewTopic::new("wide", 1, 2)).await;
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::InvalidReplicationFactor));
    admin.create_topic(&NewTopic::new("narrow", 4, 1)).await.unwrap();
    let image = &brokers.broker(2).parts().image;
    let image = image.wait_until(PATIENCE, |image| image.topic("narrow").is_some()).await.unwrap();
    let placed = image.topic("narrow").unwrap().partitions.iter();
    assert!(placed.clone().all(|partition| partition.replicas == ids(&[2])));
    brokers.stop().await;
}

/// Produces until it is told to stop; every record must be acknowledged. Returns how many were.
async fn produce_on(cluster: Cluster, stop: Shutdown) -> usize {
    let options = ProducerOptions { linger_ms: 0, ..ProducerOptions::default() };
    let producer = Producer::new(cluster, options).unwrap();
    let mut acknowledged = 0;
    while !stop.is_stopping() {
        let mut deliveries = Vec::new();
        for _ in 0..10 {
            let (topic, value) = (TOPIC, Some(&b"v"[..]));
            let record = ProducerRecord { topic, value, ..ProducerRecord::default() };
            deliveries.push(producer.send(record).await.unwrap());
        }
        for delivery in deliveries {
            delivery.await.unwrap();
            acknowledged += 1;
        }
    }
    producer.close(PATIENCE).await;
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_does_not_notice_a_rolling_restart() {
    let (mut brokers, admin) = cluster((3, &[1, 2, 3]), &[("min.insync.replicas", "2")]).await;
    let stop = Shutdown::new();
    let producing = tokio::spawn(produce_on(admin.cluster().clone(), stop.clone()));
    for id in 1..=3 {
        let other = id % 3 + 1;
        brokers.stop_broker(id).await.unwrap();
        brokers.start_broker(id).await.unwrap();
        until(&brokers, other, |partition| partition.isr.len() == 3).await;
    }
    stop.stop();
    let acknowledged = producing.await.unwrap();
    let leader = partition(&brokers, 1).leader.unwrap();
    let log = brokers.broker(leader.0).parts().replicas.logs().log(&named(0)).unwrap();
    assert_eq!(log.log_end_offset(), i64::try_from(acknowledged).unwrap(), "none twice");
    brokers.stop().await;
}

async fn set(admin: &Admin, resource: ConfigResource, key: &str, value: &str) {
    let changes = [(resource, vec![ConfigChange::set(key, value)])];
    for (_, result) in admin.incremental_alter_configs(&changes, false).await.unwrap() {
        result.unwrap();
    }
}

/// How far the replica of a broker reaches; -1 if there is none.
fn end_on(brokers: &Brokers, id: i32) -> i64 {
    let found = brokers.broker(id).parts().replicas.partition(TOPIC, 0);
    found.map_or(-1, |partition| partition.log_end_offset())
}

/// Some fetches' worth, of which one may go at any rate; the rest would take an hour.
async fn is_held_up_by((side, broker): (&str, i32)) {
    const RECORDS: i64 = 40;
    let (brokers, admin) = cluster((2, &[1]), &[]).await;
    let producer = Producer::new(admin.cluster().clone(), ProducerOptions::default()).unwrap();
    for _ in 0..RECORDS {
        let value = vec![b'x'; 100_000];
        let record =
            ProducerRecord { topic: TOPIC, value: Some(&value), ..ProducerRecord::default() };
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.close(PATIENCE).await;
    let rate = format!("{side}.replication.throttled.rate");
    let at_broker = || ConfigResource::broker(BrokerId(broker));
    set(&admin, at_broker(), &rate, "1000").await;
    let replicas = format!("{side}.replication.throttled.replicas");
    set(&admin, ConfigResource::topic(TOPIC), &replicas, &format!("0:{broker}")).await;
    assert_eq!(reassign(&admin, Some(&[2])).await, None);
    let has_begun = tokio::time::timeout(PATIENCE, async {
        while end_on(&brokers, 2) <= 0 {
            tokio::task::yield_now().await;
        }
    });
    has_begun.await.unwrap();
    assert_eq!(admin.list_partition_reassignments().await.unwrap().len(), 1, "{side}");
    let reached = end_on(&brokers, 2);
    assert!(reached < RECORDS, "{side}: {reached} of {RECORDS} records went at once");
    set(&admin, at_broker(), &rate, "1000000000").await;
    until(&brokers, 2, |partition| partition.replicas == ids(&[2])).await;
    assert_eq!(end_on(&brokers, 2), RECORDS, "{side}");
    brokers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_are_as_slow_as_their_leaders_are_told() {
    is_held_up_by(("leader", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_are_as_slow_as_their_followers_are_told() {
    is_held_up_by(("follower", 2)).await;
}
