//! This broker's place in the tree: the ephemeral `/brokers/ids/<id>`, whose czxid is its broker
//! epoch.
//!
//! The node goes when the session does, and with it the leaderships of this broker. A broker whose
//! session has expired registers anew, under a new session and thus a new broker epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_common::cluster_tree::BrokerRegistration;
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::coordination::protocol::{CoordinationError, CreateMode, Op, Stat};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, Zxid};
use tokio::sync::watch;
use tracing::{info, warn};

use super::watcher::ImageHandle;

/// How long to wait before looking again whether an earlier registration has gone.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The lives of this broker's registrations: which one is in force, and whether its session is
/// alive for sure.
#[derive(Clone, Debug)]
pub struct Lives {
    client: Client,
    broker_epoch: watch::Receiver<Option<i64>>,
    /// How many sessions had expired before the one that the life in force belongs to.
    expired_before: Arc<AtomicU64>,
}

/// Where [`Lives`] hear of registrations.
#[derive(Debug)]
pub struct Registered {
    broker_epoch: watch::Sender<Option<i64>>,
    expired_before: Arc<AtomicU64>,
}

impl Lives {
    /// None yet.
    pub fn of(client: &Client) -> (Registered, Self) {
        let (sender, broker_epoch) = watch::channel(None);
        let expired_before = Arc::new(AtomicU64::new(0));
        let registered =
            Registered { broker_epoch: sender, expired_before: Arc::clone(&expired_before) };
        (registered, Self { client: client.clone(), broker_epoch, expired_before })
    }

    /// The broker epoch in force, or `None` while there is none.
    pub fn broker_epoch(&self) -> watch::Receiver<Option<i64>> {
        self.broker_epoch.clone()
    }

    /// Whether the life of this broker epoch goes on for sure. The lease of a later session proves
    /// nothing of it: that one may be valid before anybody here knows that the earlier has expired.
    pub fn goes_on(&self, broker_epoch: i64) -> bool {
        // The lease is looked at first: by the time that a later session has one, the expiry of the
        // earlier has been counted.
        self.client.lease().is_valid()
            && self.client.expired_sessions() == self.expired_before.load(Ordering::Acquire)
            && *self.broker_epoch.borrow() == Some(broker_epoch)
    }
}

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
    /// Registers, and again after each lost session, until the signal is given.
    pub async fn run(self, lives: Registered, shutdown: Shutdown) {
        let Registered { broker_epoch, expired_before } = lives;
        loop {
            let expired_sessions = self.client.expired_sessions();
            let registered = tokio::select! {
                () = shutdown.stopped() => return,
                registered = self.register() => registered,
            };
            match registered {
                Ok(stat) => {
                    info!(broker_id = %self.broker_id, broker_epoch = stat.czxid.0, "registered");
                    expired_before.store(expired_sessions, Ordering::Release);
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

/// Says in a broker's registration that it is about to leave, in that life of its (`broker_epoch`)
/// and no other. Returns when that stands in the tree.
///
/// # Errors
/// Refused if the broker is not registered in that life any more; others as they come.
pub async fn announce_departure(
    client: &Client,
    broker_id: BrokerId,
    broker_epoch: i64,
) -> Result<(), ClientError> {
    let path = BrokerRegistration::path(broker_id);
    loop {
        let Some((data, stat)) = client.get(&path).await? else {
            return Err(CoordinationError::NoNode { path }.into());
        };
        let registration = BrokerRegistration::decode(&data);
        let mut registration = registration.map_err(|_| ClientError::WrongAnswer)?;
        if registration.shutting_down && stat.czxid.0 == broker_epoch {
            return Ok(());
        }
        registration.shutting_down = true;
        let life = Some(Zxid(broker_epoch));
        let guard = Op::Check { path: path.clone(), version: None, czxid: life };
        let data = registration.encode();
        let set = Op::SetData { path: path.clone(), data, version: Some(stat.version) };
        match client.multi(vec![guard, set]).await {
            Ok(_) => return Ok(()),
            Err(ClientError::Unknown) => {}
            Err(error) if error.is_lost_race_behind(1) => {}
            Err(error) => return Err(error),
        }
    }
}
