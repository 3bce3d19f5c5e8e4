//! A whole cluster of one node: a coordinator member and a broker in this process, on free ports,
//! in a folder of their own.

use std::net::SocketAddr;
use std::time::Duration;

use ottla_broker::broker::{Broker, RunningBroker};
use ottla_broker::config::BrokerConfig;
use ottla_common::shutdown::Shutdown;
use ottla_coordinator::server::{Config, Server};
use tempfile::TempDir;

use crate::raw::RawClient;

/// How long stopping may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running node.
pub struct Node {
    /// Where its broker listens.
    pub address: SocketAddr,
    /// Where its coordinator listens.
    pub coordinator: SocketAddr,
    broker: RunningBroker,
    shutdown: Shutdown,
    dir: TempDir,
}

impl Node {
    /// A new node, its broker with these properties besides what it needs.
    pub async fn start(properties: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(tempfile::tempdir()?, properties).await
    }

    /// The node of a folder.
    async fn start_in(dir: TempDir, properties: &[(&str, &str)]) -> anyhow::Result<Self> {
        let shutdown = Shutdown::new();
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            ..Config::new(dir.path().join("coordinator"))
        };
        let coordinator = Server::start(config, shutdown.clone()).await?;
        let (log_dir, coordinators) =
            (dir.path().join("data").display().to_string(), coordinator.client_address.to_string());
        let needed = [
            ("node.id", "1"),
            ("log.dirs", log_dir.as_str()),
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("coordinator.connect", coordinators.as_str()),
        ];
        let all = needed.into_iter().chain(properties.iter().copied());
        let config = BrokerConfig::from_properties(all)?;
        let broker = Broker::start(config, shutdown.clone()).await?;
        let address = broker.addresses.values().next().copied();
        let address = address.ok_or_else(|| anyhow::anyhow!("the broker listens nowhere"))?;
        let coordinator = coordinator.client_address;
        Ok(Self { address, coordinator, broker, shutdown, dir })
    }

    /// Where monitoring asks its broker, if that was wanted.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.broker.http_address
    }

    /// A client of its broker.
    pub async fn client(&self) -> anyhow::Result<RawClient> {
        RawClient::connect(self.address).await
    }

    /// Stops it cleanly and starts it again with what it has on disk.
    pub async fn restart(self) -> anyhow::Result<Self> {
        let Self { broker, shutdown, dir, .. } = self;
        broker.stop().await;
        shutdown.finish(PATIENCE).await;
        Self::start_in(dir, &[]).await
    }

    /// Stops it cleanly.
    pub async fn stop(self) {
        self.broker.stop().await;
        self.shutdown.finish(PATIENCE).await;
    }
}
