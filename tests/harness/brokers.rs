//! A coordinator and several brokers in this process, on free ports, each with a folder of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use ottla_broker::broker::{Broker, RunningBroker};
use ottla_broker::config::BrokerConfig;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::BrokerId;
use ottla_coordinator::server::{Config, Server};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::raw::RawClient;

/// How long starting and stopping may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster of several brokers.
pub struct Brokers {
    /// Where its coordinator listens.
    pub coordinator: SocketAddr,
    running: BTreeMap<i32, RunningBroker>,
    /// Where each listens.
    ports: BTreeMap<i32, u16>,
    properties: Vec<(String, String)>,
    log_dirs: usize,
    shutdown: Shutdown,
    dir: TempDir,
}

impl Brokers {
    /// Starts brokers 1 to `count`, each in a rack `rack-1` and so on of its own, with these
    /// properties besides what they need. All of them know each other then.
    pub async fn start(count: i32, properties: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_with_log_dirs((count, 1), properties).await
    }

    /// Likewise, each with so many log directories.
    pub async fn start_with_log_dirs(
        (count, log_dirs): (i32, usize),
        properties: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let shutdown = Shutdown::new();
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            ..Config::new(dir.path().join("coordinator"))
        };
        let coordinator = Server::start(config, shutdown.clone()).await?.client_address;
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let properties = properties.iter().map(owned).collect();
        let (running, ports) = (BTreeMap::new(), BTreeMap::new());
        let mut brokers = Self { coordinator, running, ports, properties, log_dirs, shutdown, dir };
        for id in 1..=count {
            brokers.start_broker(id).await?;
        }
        for broker in brokers.running.values() {
            let know_each_other = broker.parts().image.wait_until(PATIENCE, |image| {
                (1..=count).all(|id| image.brokers.contains_key(&BrokerId(id)))
            });
            know_each_other.await.context("a broker does not hear of the others")?;
        }
        Ok(brokers)
    }

    /// Starts a broker, with what it has on disk if it has been there before, and where it was:
    /// clients that sleep through a restart come back there.
    pub async fn start_broker(&mut self, id: i32) -> anyhow::Result<()> {
        let port = *self.ports.entry(id).or_insert_with(free_port);
        let listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        let (id_text, coordinators) = (id.to_string(), self.coordinator.to_string());
        let rack = format!("rack-{id}");
        let folders = (0..self.log_dirs).map(|number| self.folder(id).join(number.to_string()));
        let folders = folders.map(|folder| folder.display().to_string()).collect::<Vec<_>>();
        let folders = folders.join(",");
        let needed = [
            ("node.id", id_text.as_str()),
            ("broker.rack", rack.as_str()),
            ("log.dirs", folders.as_str()),
            ("listeners", listeners.as_str()),
            ("coordinator.connect", coordinators.as_str()),
        ];
        let own = self.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let config = BrokerConfig::from_properties(needed.into_iter().chain(own))?;
        let broker = Broker::start(config, Shutdown::new()).await?;
        self.running.insert(id, broker);
        Ok(())
    }

    /// Stops a broker cleanly.
    pub async fn stop_broker(&mut self, id: i32) -> anyhow::Result<()> {
        let broker = self.running.remove(&id).context("it does not run")?;
        broker.stop().await;
        Ok(())
    }

    /// Where a broker keeps its log directories, `0` and so on.
    pub fn folder(&self, id: i32) -> PathBuf {
        self.dir.path().join(format!("broker-{id}"))
    }

    /// A broker that runs.
    pub fn broker(&self, id: i32) -> &RunningBroker {
        &self.running[&id]
    }

    /// Where the brokers listen, as clients are told.
    pub fn bootstrap(&self) -> String {
        let addresses = self.running.values().flat_map(|broker| broker.addresses.values());
        addresses.map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// A client of one broker.
    pub async fn client(&self, id: i32) -> anyhow::Result<RawClient> {
        let address = self.broker(id).addresses.values().next().copied();
        RawClient::connect(address.context("the broker listens nowhere")?).await
    }

    /// Stops all of it.
    pub async fn stop(mut self) {
        while let Some((_, broker)) = self.running.pop_first() {
            broker.stop().await;
        }
        self.shutdown.finish(PATIENCE).await;
    }
}
