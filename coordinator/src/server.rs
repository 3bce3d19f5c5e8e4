//! A member: builds its parts in order, runs them until it is told to stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ottla_common::net::{self, ConnectionLimits, Listener};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::MemberId;

pub use crate::config::Config;
use crate::config::members::ConfiguredMember;
use crate::consensus::raft::{Member, MemberRole, Membership};
use crate::consensus::{Ensemble, EnsembleOptions, NetworkOptions, StartError};
use crate::frontends::four_letter::Told;
use crate::frontends::tls::{Acceptor, TlsError};
use crate::frontends::{self, FrontEnds};
use crate::limits::HTTP_CONNECTIONS_MAX;
use crate::metrics::Metrics;
use crate::requests::sasl::SaslOptions;
use crate::requests::secrets::Secrets;
use crate::requests::tasks::Tasks;
use crate::requests::{Service, ServiceOptions};
use crate::sessions::keeper::Keeper;
use crate::watches::LiveState;

/// Connections from this machine that are let in when the limit is reached.
const LOOPBACK_RESERVE: usize = 16;

const HTTP_LIMITS: ConnectionLimits = ConnectionLimits {
    connections_max: HTTP_CONNECTIONS_MAX,
    connections_per_ip_max: HTTP_CONNECTIONS_MAX,
    loopback_reserve: LOOPBACK_RESERVE,
};

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The member's state cannot be taken up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Connections through TLS cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    /// Where clients connect through TLS, if they can.
    pub secure_address: Option<SocketAddr>,
    /// Where monitoring asks, if it may.
    pub http_address: Option<SocketAddr>,
    service: Arc<Service>,
}

impl Server {
    /// Loads the state and begins to serve. The member runs until `shutdown` is told to stop; its
    /// tasks are `shutdown`'s, so that who waits for them waits for the member. Several members may
    /// run in one process, each with a data folder of its own.
    pub async fn start(config: Config, shutdown: Shutdown) -> Result<RunningServer, Error> {
        // Bound before the state is loaded: a port that is taken is told at once.
        let doors = Doors::open(&config).await?;
        let (client_address, secure_address) = (doors.client_address, doors.secure_address);
        let http_address = doors.http.as_ref().map(Listener::local_addr).transpose()?;
        let keeper = Keeper::new(config.expiry_tick_ms, config.disconnect_grace_ms);
        let metrics = Arc::new(Metrics::default());
        let network = network_options(&config).await?;
        let options = EnsembleOptions {
            metrics: Arc::clone(&metrics),
            keeper: Arc::new(keeper),
            ..ensemble_options(&config)
        };
        let stop = shutdown.clone();
        let starting = move || Ensemble::start_with_others(options, network, &stop);
        let started = tokio::task::spawn_blocking(starting).await;
        let (ensemble, live) = started.map_err(std::io::Error::from)??;
        let told = Told::of(&config);
        let options = service_options(config, metrics);
        let member_id = options.member_id;
        let service = Arc::new(Service::new(options, live, ensemble));
        let (expiring, stop) = (Arc::clone(&service), shutdown.clone());
        shutdown.spawn(async move { expiring.expire_sessions(&stop).await });
        let (removing, stop) = (Arc::clone(&service), shutdown.clone());
        shutdown.spawn(async move { removing.remove_idle_nodes(&stop).await });
        let front_ends = Arc::new(FrontEnds::new(Arc::clone(&service), told));
        for (listener, acceptor) in doors.listeners {
            let front_ends = Arc::clone(&front_ends);
            shutdown.spawn(front_ends.serve(listener, acceptor, shutdown.clone()));
        }
        if let Some(listener) = doors.http {
            let service = Arc::clone(&service);
            shutdown.spawn(frontends::http::serve(listener, service, shutdown.clone()));
        }
        tracing::info!(
            %member_id,
            address = %client_address,
            secure_address = ?secure_address,
            zxid = %service.live().zxid(),
            "coordinator member serves"
        );
        Ok(RunningServer { client_address, secure_address, http_address, service })
    }
}

/// What the requests need to know of the configuration.
fn service_options(config: Config, metrics: Arc<Metrics>) -> ServiceOptions {
    let zookeeper = config.zookeeper;
    let users = zookeeper.sasl_users.iter().flatten();
    let sasl = SaslOptions {
        users: users.map(|(name, secret)| (name.clone(), secret.expose().to_owned())).collect(),
        is_required: zookeeper.requires_sasl,
        super_user: zookeeper.super_user.clone(),
    };
    ServiceOptions {
        tasks: Tasks::default(),
        secrets: Secrets::default(),
        member_id: config.member_id,
        session_timeout_min_ms: config.session_timeout_min_ms,
        session_timeout_max_ms: config.session_timeout_max_ms,
        expiry_tick_ms: config.expiry_tick_ms,
        idle_check_interval_ms: config.idle_check_interval_ms,
        super_digest: config.super_digest,
        enforces_quota: zookeeper.enforce_quota,
        skips_acl: zookeeper.skip_acl,
        sasl,
        x509_super_user: zookeeper.x509_super_user.clone(),
        kafka_listener_name: config.kafka_listener_name,
        metrics,
        zookeeper,
    }
}

/// The ports that clients come to.
struct Doors {
    listeners: Vec<(Listener, Option<Acceptor>)>,
    client_address: SocketAddr,
    secure_address: Option<SocketAddr>,
    /// Monitoring's.
    http: Option<Listener>,
}

impl Doors {
    async fn open(config: &Config) -> Result<Self, Error> {
        let limits = ConnectionLimits {
            connections_max: config.connections_max,
            connections_per_ip_max: config.connections_per_ip_max,
            loopback_reserve: LOOPBACK_RESERVE,
        };
        let mut listeners = Vec::new();
        // Without a plain port there is one through TLS.
        if !config.listen.is_empty() || config.tls.is_none() {
            listeners.push((Listener::new(net::bind(&config.listen).await?, limits), None));
        }
        let mut client_address = None;
        if let Some((listener, _)) = listeners.first() {
            client_address = Some(listener.local_addr()?);
        }
        let mut secure_address = None;
        if let Some(tls) = &config.tls {
            let acceptor = Acceptor::new(tls)?;
            let listener = Listener::new(net::bind(&tls.listen).await?, limits);
            secure_address = Some(listener.local_addr()?);
            listeners.push((listener, Some(acceptor)));
        }
        let client_address = client_address.or(secure_address);
        let client_address = client_address.ok_or(std::io::ErrorKind::AddrNotAvailable);
        let client_address = client_address.map_err(std::io::Error::from)?;
        let http = match &config.http_listen {
            Some(address) => Some(Listener::new(net::bind(address).await?, HTTP_LIMITS)),
            None => None,
        };
        Ok(Self { listeners, client_address, secure_address, http })
    }
}

/// How the member keeps its log and who the others are.
fn ensemble_options(config: &Config) -> EnsembleOptions {
    let defaults = EnsembleOptions::new(config.member_id, &config.data_dir);
    let membership = match config.ensemble.members.is_empty() {
        true => defaults.membership.clone(),
        false => membership_of(&config.ensemble.members),
    };
    EnsembleOptions {
        membership,
        election_timeout_ms: config.ensemble.election_timeout_ms,
        heartbeat_interval_ms: config.ensemble.heartbeat_interval_ms,
        patience_ms: config.ensemble.leader_patience_ms,
        ..defaults
    }
}

fn membership_of(configured: &BTreeMap<MemberId, ConfiguredMember>) -> Membership {
    let members = configured.iter().map(|(id, configured)| {
        let ConfiguredMember { peer_address, election_address, client_address, is_observer } =
            configured.clone();
        let role = if is_observer { MemberRole::Learner } else { MemberRole::Voter };
        let rejoining = false;
        (*id, Member { role, rejoining, peer_address, client_address, election_address })
    });
    Membership { cluster_id: None, members: members.collect() }
}

/// Binds the port for the other members, if there is one.
async fn network_options(config: &Config) -> std::io::Result<Option<NetworkOptions>> {
    if config.ensemble.peer_listen.is_empty() {
        return Ok(None);
    }
    let listener = net::bind(&config.ensemble.peer_listen).await?;
    let key = config.ensemble.peer_key.0.as_bytes().into();
    Ok(Some(NetworkOptions { listener, key }))
}

impl RunningServer {
    /// The member's part in the ensemble.
    pub fn ensemble(&self) -> &Ensemble {
        self.service.ensemble()
    }

    /// The applied state, for who looks on from the same process.
    pub fn live(&self) -> &Arc<LiveState> {
        self.service.live()
    }
}
