//! This broker's place in the tree: the ephemeral `/brokers/ids/<id>`, whose czxid is its broker
//! epoch.
//!
//! The node goes when the session does, and with it the leaderships of this broker. A broker whose
//! session has expired registers anew, under a new session and thus a new broker epoch.

use std::time::Duration;

use ottla_common::cluster_tree::BrokerRegistration;
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::coordination::protocol::{CoordinationError, CreateMode, Stat};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::BrokerId;
use tokio::sync::watch;
use tracing::{info, warn};

use super::watcher::ImageHandle;

/// How long to wait before looking again whether an earlier registration has gone.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Keeps this broker registered.
#[derive(Debug)]
pub struct Registrar {
    /// The session to register with.
    pub client: Client,
    /// This broker.
    pub broker_id: BrokerId,
    /// What to register.
    pub registration: BrokerRegistration,
    /// What the tree says.
    pub image: ImageHandle,
}

impl Registrar {
    /// Registers, and again after each lost session, until the signal is given. `broker_epoch`
    /// tells the epoch in force, or `None` while there is none.
    pub async fn run(self, broker_epoch: watch::Sender<Option<i64>>, shutdown: Shutdown) {
        loop {
            let expired_sessions = self.client.expired_sessions();
            let registered = tokio::select! {
                () = shutdown.stopped() => return,
                registered = self.register() => registered,
            };
            match registered {
                Ok(stat) => {
                    info!(broker_id = %self.broker_id, broker_epoch = stat.czxid.0, "registered");
                    broker_epoch.send_replace(Some(stat.czxid.0));
                    tokio::select! {
                        () = shutdown.stopped() => return,
                        () = self.client.session_lost(expired_sessions) => {}
                    }
                    warn!(broker_id = %self.broker_id, "the session with the coordinator is lost");
                    broker_epoch.send_replace(None);
                }
                Err(error) => {
                    warn!(%error, "cannot register with the coordinator yet");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Makes the node, once an earlier one of this broker's has gone with its session.
    async fn register(&self) -> Result<Stat, ClientError> {
        let path = BrokerRegistration::path(self.broker_id);
        let data = self.registration.encode();
        loop {
            match self.client.create(&path, data.clone(), CreateMode::Ephemeral).await {
                Ok((_, stat)) => return Ok(stat),
                Err(error) => match error.refusal() {
                    Some(CoordinationError::NodeExists { .. }) => {
                        if let Some(stat) = self.own_registration(&path).await? {
                            return Ok(stat);
                        }
                    }
                    _ => return Err(error),
                },
            }
            // The change stream tells of the node's end; the pause is for a stream that lags.
            self.image
                .wait_until(RETRY_PAUSE, |image| !image.brokers.contains_key(&self.broker_id))
                .await;
        }
    }

    /// The node, if it is this session's: an earlier attempt whose answer never came had succeeded.
    async fn own_registration(&self, path: &str) -> Result<Option<Stat>, ClientError> {
        let session_id = self.client.session_id();
        let found = self.client.get(path).await?;
        Ok(found.map(|(_, stat)| stat).filter(|stat| Some(stat.ephemeral_owner) == session_id))
    }
}
