//! The campaign for the controller, when what it sees of the tree lags or is all that it gets.

use std::sync::Arc;
use std::time::Duration;

use ottla_broker::controller::campaign::Campaign;
use ottla_broker::metadata::image::{BrokerImage, MetadataImage};
use ottla_broker::metadata::watcher::{ImagePublisher, image_channel};
use ottla_common::cluster_tree::{ControllerEpoch, ControllerRegistration, PARENT_PATHS};
use ottla_common::coordination::client::{Client, ClientConfig};
use ottla_common::coordination::protocol::CreateMode;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, SessionId, Zxid};
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
        let campaign = Campaign { client: client.clone(), image, broker_id: BROKER };
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
