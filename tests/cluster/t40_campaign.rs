//! The campaign for the controller, when what it sees of the tree lags or is all that it gets.

use std::sync::Arc;
use std::time::Duration;

use ottla_broker::config::BrokerConfig;
use ottla_broker::controller::campaign::Campaign;
use ottla_broker::metadata::image::{BrokerImage, MetadataImage};
use ottla_broker::metadata::watcher::{ImagePublisher, follow, image_channel};
use ottla_common::cluster_tree::{
    BrokerRegistration, ControllerEpoch, ControllerRegistration, PARENT_PATHS, PartitionAssignment,
    PartitionState, TopicAssignment,
};
use ottla_common::coordination::client::{Client, ClientConfig};
use ottla_common::coordination::protocol::{Acl, CreateMode, Op};
use ottla_common::coordination::subscription::Subscription;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, SessionId, Uuid, Zxid};
use ottla_coordinator::server::{Config, Server};
use tempfile::TempDir;

const BROKER: BrokerId = BrokerId(1);

/// How long a story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A member, and a campaign that sees of its tree what the story publishes.
struct Story {
    publisher: ImagePublisher,
    client: Client,
    address: String,
    shutdown: Shutdown,
    _folder: TempDir,
}

impl Story {
    async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        let config = Config { listen: "127.0.0.1:0".to_owned(), ..Config::new(folder.path()) };
        let server = Server::start(config, shutdown.clone()).await.unwrap();
        let address = server.client_address.to_string();
        let client = connect(&address).await;
        for path in PARENT_PATHS {
            client.ensure(path).await.unwrap();
        }
        let (publisher, image) = image_channel();
        let config =
            BrokerConfig::from_properties([("node.id", "1"), ("log.dirs", "unused")]).unwrap();
        let campaign = Campaign {
            client: client.clone(),
            image,
            config: Arc::new(config),
            metrics: Arc::default(),
        };
        shutdown.spawn(campaign.run(shutdown.clone()));
        Self { publisher, client, address, shutdown, _folder: folder }
    }

    /// Shows an image of before the campaign: the broker is registered and nobody controls.
    fn show_no_controller(&self) {
        let mut image = MetadataImage { zxid: Zxid(1), ..MetadataImage::default() };
        let broker = BrokerImage {
            id: BROKER,
            broker_epoch: 1,
            listeners: Vec::new(),
            rack: None,
            shutting_down: false,
        };
        image.brokers.insert(BROKER, Arc::new(broker));
        self.publisher.publish(Arc::new(image));
    }

    async fn holder(&self) -> Option<SessionId> {
        let found = self.client.exists(ControllerRegistration::PATH).await.unwrap();
        found.map(|stat| stat.ephemeral_owner)
    }

    async fn wait_until_elected(&self) {
        let elected = async {
            while self.holder().await != self.client.session_id() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, elected).await.expect("the campaign was given up");
    }

    async fn end(self) {
        assert!(self.shutdown.finish(PATIENCE).await, "something does not stop");
    }
}

async fn connect(address: &str) -> Client {
    let config = ClientConfig::new(vec![address.to_owned()], "campaign test");
    Client::connect(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_before_the_election_does_not_depose_the_controller() {
    let story = Story::begin().await;
    story.show_no_controller();
    story.wait_until_elected().await;
    for _ in 0..3 {
        story.show_no_controller();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (epoch, _) = story.client.get(ControllerEpoch::PATH).await.unwrap().unwrap();
    assert_eq!(ControllerEpoch::decode(&epoch).unwrap(), ControllerEpoch(1));
    assert_eq!(story.holder().await, story.client.session_id());
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_failed_goes_on_without_news_from_the_tree() {
    let story = Story::begin().await;
    let other = connect(&story.address).await;
    let path = ControllerRegistration::PATH;
    other.create(path, Vec::new(), CreateMode::Ephemeral).await.unwrap();
    story.show_no_controller();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(story.holder().await, other.session_id());
    other.close().await;
    story.wait_until_elected().await;
    story.end().await;
}

/// The topics and partitions of the story below.
const TOPICS: i32 = 10;
const PARTITIONS: i32 = 1_000;

/// Topics whose partitions broker 2 leads, with broker 1 in sync.
async fn write_topics(client: &Client) {
    let (leader, other) = (BrokerId(2), BROKER);
    let placed = || PartitionAssignment { replicas: vec![leader, other], ..Default::default() };
    let state = PartitionState {
        leader: Some(leader),
        isr: vec![leader, other],
        ..PartitionState::default()
    };
    let create = |path: String, data: Vec<u8>| Op::Create {
        path,
        data,
        mode: CreateMode::Persistent,
        acl: Acl::open(),
    };
    for number in 0..TOPICS {
        let topic = format!("topic-{number}");
        let partitions = (0..PARTITIONS).map(|_| placed()).collect();
        let topic_id = Uuid([u8::try_from(number).unwrap(); 16]);
        let assignment = TopicAssignment { topic_id, partitions };
        let mut ops = vec![
            create(TopicAssignment::path(&topic), assignment.encode()),
            create(TopicAssignment::partitions_path(&topic), Vec::new()),
        ];
        for partition in 0..PARTITIONS {
            ops.push(create(PartitionState::partition_path(&topic, partition), Vec::new()));
            ops.push(create(PartitionState::path(&topic, partition), state.encode()));
        }
        client.multi(ops).await.unwrap();
    }
}

fn are_all_led_by(image: &MetadataImage, leader: BrokerId) -> bool {
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    image.topics.len() == usize::try_from(TOPICS).unwrap()
        && partitions.clone().all(|partition| partition.leader == Some(leader))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_partitions_get_new_leaders_in_a_few_writes() {
    let folder = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new();
    let config = Config { listen: "127.0.0.1:0".to_owned(), ..Config::new(folder.path()) };
    let server = Server::start(config, shutdown.clone()).await.unwrap();
    let address = server.client_address.to_string();
    let (one, two) = (connect(&address).await, connect(&address).await);
    for path in PARENT_PATHS {
        one.ensure(path).await.unwrap();
    }
    for (client, id) in [(&one, BROKER), (&two, BrokerId(2))] {
        let (path, data) = (BrokerRegistration::path(id), BrokerRegistration::default().encode());
        client.create(&path, data, CreateMode::Ephemeral).await.unwrap();
    }
    write_topics(&one).await;
    let (publisher, image) = image_channel();
    let subscription = Subscription::open(&one, "/");
    shutdown.spawn(follow(subscription, publisher, Arc::new(|_, _| ()), shutdown.clone()));
    let needed = [("node.id", "1"), ("log.dirs", "unused")];
    let config = Arc::new(BrokerConfig::from_properties(needed).unwrap());
    let campaign =
        Campaign { client: one.clone(), image: image.clone(), config, metrics: Arc::default() };
    shutdown.spawn(campaign.run(shutdown.clone()));
    let ready = |image: &MetadataImage| {
        image.controller == Some(BROKER) && are_all_led_by(image, BrokerId(2))
    };
    assert!(image.wait_until(PATIENCE, ready).await.is_some());
    let began = std::time::Instant::now();
    two.close().await;
    let gone = image.wait_until(PATIENCE, |image| image.brokers.len() == 1).await.unwrap();
    let done = image.wait_until(PATIENCE, |image| are_all_led_by(image, BROKER)).await.unwrap();
    println!("10,000 partitions: {} ms", began.elapsed().as_millis());
    assert!(done.zxid.0 - gone.zxid.0 <= 12, "{} to {}", gone.zxid, done.zxid);
    assert!(shutdown.finish(PATIENCE).await, "something does not stop");
}
