//! A member: builds its parts in order, runs them until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;

use ottla_common::net::{self, ConnectionLimits, Listener};
use ottla_common::shutdown::Shutdown;

pub use crate::config::Config;
use crate::consensus::{Ensemble, EnsembleOptions, StartError};
use crate::frontends::FrontEnds;
use crate::metrics::Metrics;
use crate::requests::sasl::SaslOptions;
use crate::requests::{Service, ServiceOptions};
use crate::sessions::keeper::Keeper;
use crate::watches::LiveState;

/// Connections from this machine that are let in when the limit is reached.
const LOOPBACK_RESERVE: usize = 16;

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The member's state cannot be taken up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Starts members.
#[derive(Debug)]
pub struct Server;

/// A member that serves.
#[derive(Debug)]
pub struct RunningServer {
    /// Where clients connect, with the real port if 0 was asked for.
    pub client_address: SocketAddr,
    service: Arc<Service>,
}

impl Server {
    /// Loads the state and begins to serve. The member runs until `shutdown` is told to stop; its
    /// tasks are `shutdown`'s, so that who waits for them waits for the member. Several members may
    /// run in one process, each with a data folder of its own.
    pub async fn start(config: Config, shutdown: Shutdown) -> Result<RunningServer, Error> {
        // Bound before the state is loaded: a port that is taken is told at once.
        let listener = net::bind(&config.listen).await?;
        let limits = ConnectionLimits {
            connections_max: config.connections_max,
            connections_per_ip_max: config.connections_per_ip_max,
            loopback_reserve: LOOPBACK_RESERVE,
        };
        let listener = Listener::new(listener, limits);
        let client_address = listener.local_addr()?;
        let keeper = Keeper::new(config.expiry_tick_ms, config.disconnect_grace_ms);
        let metrics = Arc::new(Metrics::default());
        let options = EnsembleOptions {
            metrics: Arc::clone(&metrics),
            keeper: Arc::new(keeper),
            ..EnsembleOptions::new(config.member_id, &config.data_dir)
        };
        let stop = shutdown.clone();
        let started = tokio::task::spawn_blocking(move || Ensemble::start(options, &stop)).await;
        let (ensemble, live) = started.map_err(std::io::Error::from)??;
        let options = ServiceOptions {
            member_id: config.member_id,
            session_timeout_min_ms: config.session_timeout_min_ms,
            session_timeout_max_ms: config.session_timeout_max_ms,
            expiry_tick_ms: config.expiry_tick_ms,
            idle_check_interval_ms: config.idle_check_interval_ms,
            super_digest: config.super_digest,
            enforces_quota: false,
            skips_acl: false,
            sasl: SaslOptions::default(),
            x509_super_user: None,
            kafka_listener_name: config.kafka_listener_name,
            metrics,
            zookeeper: config.zookeeper,
        };
        let service = Arc::new(Service::new(options, live, ensemble));
        let (expiring, stop) = (Arc::clone(&service), shutdown.clone());
        shutdown.spawn(async move { expiring.expire_sessions(&stop).await });
        let (removing, stop) = (Arc::clone(&service), shutdown.clone());
        shutdown.spawn(async move { removing.remove_idle_nodes(&stop).await });
        let front_ends = Arc::new(FrontEnds::new(Arc::clone(&service)));
        shutdown.spawn(front_ends.serve(listener, shutdown.clone()));
        tracing::info!(
            member_id = %config.member_id,
            address = %client_address,
            zxid = %service.live().zxid(),
            "coordinator member serves"
        );
        Ok(RunningServer { client_address, service })
    }
}

impl RunningServer {
    /// The applied state, for who looks on from the same process.
    pub fn live(&self) -> &Arc<LiveState> {
        self.service.live()
    }
}
