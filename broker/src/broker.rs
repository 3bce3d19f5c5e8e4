//! Builds all parts of a broker in order, starts them, and stops them in the reverse order.
//!
//! The order of the start: bind the listeners (so that a taken port is an error at once), reach the
//! coordinator, agree on the cluster's id, open and recover the logs, follow the tree, register,
//! campaign for the controller, and only then serve. A client that can connect finds a broker that
//! knows the cluster.

mod live;
mod waiting;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::clock::{monotonic_ms, wall_time_ms};
use ottla_common::cluster_tree::{BrokerRegistration, ClusterId, InterBrokerSecret, PARENT_PATHS};
use ottla_common::coordination::client::{Client, ClientConfig, ClientError};
use ottla_common::coordination::protocol::{CoordinationError, CreateMode};
use ottla_common::coordination::subscription::Subscription;
use ottla_common::kafka::client::ClientOptions;
use ottla_common::net::{ConnectionLimits, Listener};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, Uuid};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::broker::BrokerConfig;
use crate::config::keys::{self, Value};
use crate::config::topic::TopicConfig;
use crate::controller::admin::ClusterAdmin;
use crate::controller::campaign::Campaign;
use crate::controller::producer_ids::ProducerIds;
use crate::error::Error;
use crate::groups;
use crate::handlers::{Handlers, context::Parts};
use crate::limits::{FRAME_SIZE_MAX, HTTP_CONNECTIONS_MAX};
use crate::metadata::image::MetadataImage;
use crate::metadata::registration::{Lives, Registrar};
use crate::metadata::watcher::{ImageHandle, follow, image_channel};
use crate::monitoring::BrokerPages;
use crate::network::connection::ConnectionRules;
use crate::network::listener::{Gate, ListenerConfig, serve};
use crate::network::memory::MemoryBudget;
use crate::quotas::Quotas;
use crate::replication::fetcher::{FetchRules, Fetching};
use crate::replication::fetcher_pool::FetcherPool;
use crate::replication::isr_changes::IsrKeeper;
use crate::replication::log_dir_moves::RateSource;
use crate::replication::peer::Dialler;
use crate::replication::replica_manager::{ReplicaManager, ReplicaManagerParts, TopicConfigSource};
use crate::replication::resignation::{KeptLogs, Resignation};
use crate::replication::throttle::Throttles;
use crate::security::inter_broker::{SECRET_SIZE, Secret};
use crate::storage::log_manager::{LogManager, LogManagerConfig};
use live::{ListenerLimits, LiveConfig, cleaner_config};
use waiting::{until_answered, until_shown};

/// How long the parts may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How long the controller may take to move leaders off a broker that is to stop.
const CONTROLLED_SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// Rounds of the logs' housekeeping.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// Flusher threads of each log directory: more than one, so that a slow partition does not hold up
/// the others; few, since one disk serves them all.
const FLUSH_THREADS_PER_DIR: usize = 4;

/// A broker to be started.
#[derive(Debug)]
pub struct Broker;

/// A broker that serves.
pub struct RunningBroker {
    /// Its number.
    pub broker_id: BrokerId,
    /// Where it listens: listener name → address.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// Where monitoring asks, if `http.listen` is set.
    pub http_address: Option<SocketAddr>,
    parts: Arc<Parts>,
    client: Client,
    broker_epoch: watch::Receiver<Option<i64>>,
    serving: Shutdown,
    background: Shutdown,
}

impl Broker {
    /// Starts a broker and returns when it serves. It stops when `shutdown` is given or
    /// [`RunningBroker::stop`] is called.
    pub async fn start(config: BrokerConfig, shutdown: Shutdown) -> Result<RunningBroker, Error> {
        for warning in &config.warnings {
            warn!("{warning}");
        }
        let background = shutdown.child();
        let started = Self::start_with(Arc::new(config), &shutdown, background.clone()).await;
        if started.is_err() {
            // What was started before the failure ends with it.
            background.stop();
        }
        started
    }

    async fn start_with(
        config: Arc<BrokerConfig>,
        shutdown: &Shutdown,
        background: Shutdown,
    ) -> Result<RunningBroker, Error> {
        let listeners = bind(&config).await?;
        let client = until_answered(shutdown, async || connect(&config).await).await?;
        let cluster_id = until_answered(shutdown, async || agree_on_cluster(&client).await).await?;
        let secret = until_answered(shutdown, async || agree_on_secret(&client).await).await?;
        let stored =
            until_answered(shutdown, async || live::stored(&config, &client).await).await?;
        let logs = open_logs(&stored, cluster_id).await?;
        let kept = KeptLogs::of(&logs);
        let (registered, lives) = Lives::of(&client);
        let broker_epoch = lives.broker_epoch();
        let known = (secret, lives);
        let (parts, limits) = build_parts(&config, &client, (logs, known), &background).await?;
        let addresses: BTreeMap<String, SocketAddr> =
            listeners.iter().map(|bound| (bound.name.clone(), bound.address)).collect();
        let resignation = Resignation { client: client.clone(), broker_id: config.broker_id };
        let resigned = resignation.leave_lost(&kept, &parts.image.load()).await;
        resigned.map_err(coordinator_error)?;
        let registrar = registrar(&config, &client, &parts.image, &addresses);
        background.spawn(registrar.run(registered, background.clone()));
        let isr_keeper = IsrKeeper {
            client: client.clone(),
            broker_id: config.broker_id,
            broker_epoch: broker_epoch.clone(),
            image: parts.image.clone(),
            replicas: parts.replicas.clone(),
            lag_time_max_ms: config.replication.replica_lag_time_max_ms,
            metrics: parts.metrics.clone(),
        };
        background.spawn(isr_keeper.run(background.clone()));
        let campaign = Campaign {
            client: client.clone(),
            image: parts.image.clone(),
            config: config.clone(),
            metrics: parts.metrics.clone(),
        };
        background.spawn(campaign.run(background.clone()));
        background.spawn(confirm_deletions(parts.clone(), background.clone()));
        background.spawn(keep_house(parts.clone(), background.clone()));
        let pages = BrokerPages { parts: parts.clone(), broker_epoch: broker_epoch.clone() };
        let http_address = monitor(&config, pages, &background).await?;
        until_ready(&config, &client, &parts.image, (&broker_epoch, shutdown)).await?;
        let serving = shutdown.child();
        serve_all((listeners, limits), &config, &parts, &serving);
        info!(broker_id = %config.broker_id, ?addresses, "broker serves");
        let broker_id = config.broker_id;
        Ok(RunningBroker {
            broker_id,
            addresses,
            http_address,
            parts,
            client,
            broker_epoch,
            serving,
            background,
        })
    }
}

impl RunningBroker {
    /// The parts that answer requests, for tools in the same process.
    pub fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Hands over what others can do, stops serving, leaves the cluster, brings everything to disk
    /// and marks the logs as cleanly closed.
    pub async fn stop(self) {
        if self.parts.config.replication.controlled_shutdown_enable {
            self.parts.admin.hand_over(CONTROLLED_SHUTDOWN_PATIENCE).await;
        }
        if !self.serving.finish(STOP_PATIENCE).await {
            warn!("connections did not end in time");
        }
        if !self.background.finish(STOP_PATIENCE).await {
            warn!("background tasks did not end in time");
        }
        let broker_epoch = self.broker_epoch.borrow().unwrap_or(-1);
        // It does nothing for the cluster any more, so the others are told before the disk is busy.
        self.client.close().await;
        let replicas = self.parts.replicas.clone();
        let close = move || {
            replicas.stop_moves();
            replicas.logs().close(broker_epoch);
        };
        if tokio::task::spawn_blocking(close).await.is_err() {
            warn!("closing the logs failed");
        }
        info!(broker_id = %self.broker_id, "broker stopped");
    }
}

struct Bound {
    name: String,
    listener: TcpListener,
    address: SocketAddr,
}

async fn bind(config: &BrokerConfig) -> Result<Vec<Bound>, Error> {
    let mut bound = Vec::new();
    for endpoint in &config.listeners {
        if endpoint.security_protocol != "PLAINTEXT" {
            return Err(Error::Config(format!(
                "listener {} wants {}, but this broker offers PLAINTEXT alone so far",
                endpoint.listener, endpoint.security_protocol
            )));
        }
        let host = if endpoint.host.is_empty() { "0.0.0.0" } else { endpoint.host.as_str() };
        let listener = TcpListener::bind((host, endpoint.port)).await.map_err(|error| {
            let text = format!("cannot listen on {host}:{}: {error}", endpoint.port);
            Error::Listen(std::io::Error::new(error.kind(), text))
        })?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        bound.push(Bound { name: endpoint.listener.clone(), listener, address });
    }
    Ok(bound)
}

/// Answers monitoring, if that is wanted.
async fn monitor(
    config: &BrokerConfig,
    pages: BrokerPages,
    background: &Shutdown,
) -> Result<Option<SocketAddr>, Error> {
    let Some(address) = &config.http_listen else { return Ok(None) };
    let bound = TcpListener::bind(address).await.map_err(|error| {
        let text = format!("cannot listen on {address} for monitoring: {error}");
        Error::Listen(std::io::Error::new(error.kind(), text))
    })?;
    let limits = ConnectionLimits {
        connections_max: HTTP_CONNECTIONS_MAX,
        connections_per_ip_max: HTTP_CONNECTIONS_MAX,
        loopback_reserve: 0,
    };
    let listener = Listener::new(bound, limits);
    let address = listener.local_addr().map_err(Error::Listen)?;
    background.spawn(ottla_common::http::serve(listener, Arc::new(pages), background.clone()));
    Ok(Some(address))
}

async fn connect(config: &BrokerConfig) -> Result<Client, ClientError> {
    let addresses = config.coordinator.addresses.clone();
    let name = format!("broker {}", config.broker_id);
    let client = Client::connect(ClientConfig {
        session_timeout_ms: config.coordinator.session_timeout_ms,
        ..ClientConfig::new(addresses, &name)
    });
    client.await
}

fn coordinator_error(error: ClientError) -> Error {
    Error::Coordinator(error.to_string())
}

/// Makes what everything else stands below, and the cluster's id, unless another broker did.
async fn agree_on_cluster(client: &Client) -> Result<Uuid, ClientError> {
    for path in PARENT_PATHS {
        client.ensure(path).await?;
    }
    let proposed = Uuid::random().map_err(|error| CoordinationError::BadArguments {
        reason: format!("no randomness for a cluster id: {error}"),
    })?;
    loop {
        if let Some((data, _)) = client.get(ClusterId::PATH).await? {
            let held = ClusterId::decode(&data).ok().and_then(|cluster| cluster.id.parse().ok());
            return held.ok_or_else(|| {
                let reason = format!("{} is not the id of a cluster", ClusterId::PATH);
                CoordinationError::BadArguments { reason }.into()
            });
        }
        let value = ClusterId::new(proposed.to_string()).encode();
        match client.create(ClusterId::PATH, value, CreateMode::Persistent).await {
            Ok(_) | Err(ClientError::Unknown) => {}
            Err(ClientError::Refused(CoordinationError::NodeExists { .. })) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the brokers of this cluster prove to each other to know; made unless another broker did.
async fn agree_on_secret(client: &Client) -> Result<Secret, ClientError> {
    let unusable = |reason: String| ClientError::from(CoordinationError::BadArguments { reason });
    let mut proposed = [0; SECRET_SIZE];
    getrandom::fill(&mut proposed)
        .map_err(|error| unusable(format!("no randomness for a secret: {error}")))?;
    let path = InterBrokerSecret::PATH;
    loop {
        if let Some((data, _)) = client.get(path).await? {
            let held = InterBrokerSecret::decode(&data).and_then(|secret| secret.bytes());
            let held = held.map_err(|error| unusable(format!("{path}: {error}")))?;
            return Ok(Secret::new(held));
        }
        let value = InterBrokerSecret::new(proposed).encode();
        match client.create(path, value, CreateMode::Persistent).await {
            Ok(_) | Err(ClientError::Unknown) => {}
            Err(ClientError::Refused(CoordinationError::NodeExists { .. })) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn open_logs(config: &BrokerConfig, cluster_id: Uuid) -> Result<Arc<LogManager>, Error> {
    let recovery_threads = usize::try_from(config.logs.num_recovery_threads_per_data_dir);
    let interval = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let producer_check_ms = config.logs.producer_id_expiration_check_interval_ms;
    let manager = LogManagerConfig {
        cluster_id: Some(cluster_id),
        recovery_threads_per_dir: recovery_threads.unwrap_or(1).max(1),
        flush_threads_per_dir: FLUSH_THREADS_PER_DIR,
        producer_id_expiration_ms: config.logs.producer_id_expiration_ms,
        producer_id_expiration_check_interval_ms: interval(producer_check_ms),
        retention_check_interval_ms: interval(config.logs.log_retention_check_interval_ms),
        cleaner: cleaner_config(&config.logs),
        ..LogManagerConfig::new(config.log_dirs.clone(), config.broker_id)
    };
    let opened = tokio::task::spawn_blocking(move || LogManager::open(manager, wall_time_ms()));
    let opened = opened.await.map_err(|error| Error::Config(format!("open the logs: {error}")))?;
    Ok(opened?)
}

/// The configs of how fast replicas are copied, between directories and between brokers.
const MOVE_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";

/// Follows the tree, and builds everything that answers from it.
async fn build_parts(
    config: &Arc<BrokerConfig>,
    client: &Client,
    (logs, (secret, lives)): (Arc<LogManager>, (Secret, Lives)),
    background: &Shutdown,
) -> Result<(Arc<Parts>, ListenerLimits), Error> {
    let (publisher, image) = image_channel();
    let rate = |name| rate_source(config.clone(), image.clone(), name);
    let throttles = Throttles::new(rate(LEADER_RATE), rate(FOLLOWER_RATE));
    let known = (secret.clone(), lives.broker_epoch(), throttles.clone());
    let fetching = fetching(config, &image, known);
    let fetchers = usize::try_from(config.replication.num_replica_fetchers).unwrap_or(1);
    let replicas = ReplicaManager::new(ReplicaManagerParts {
        broker_id: config.broker_id,
        logs,
        image: image.clone(),
        topic_config: topic_config_source(config.clone()),
        lease: Arc::new(move |life| lives.goes_on(life)),
        fetchers: Some(FetcherPool::new(fetching, fetchers, background.clone())),
        move_rate: rate(MOVE_RATE),
        throttles,
    });
    let quotas = Arc::new(Quotas::new(&config.quotas));
    let told = (replicas.clone(), quotas.clone());
    let live = LiveConfig::new(config.clone(), told, background.clone());
    let (limits, applied) = (live.listeners(), replicas.clone());
    let apply = Arc::new(move |image: &_, delta: &_| {
        live.apply(image, delta);
        applied.apply(image, delta);
    });
    let subscription = Subscription::open(client, "/");
    background.spawn(follow(subscription, publisher, apply, background.clone()));
    let patience = Duration::from_millis(u64::from(config.coordinator.connection_timeout_ms));
    let is_shown = |image: &MetadataImage| image.cluster_id.is_some();
    let wait = async || image.wait_until(patience, is_shown).await;
    until_shown(background, "the cluster's state", wait).await?;
    let groups = groups::start(config.broker_id, &config.groups, (image.clone(), replicas.clone()));
    background.spawn(groups.clone().run(background.clone()));
    let parts = Parts::new(
        config.clone(),
        image.clone(),
        replicas,
        (
            Arc::new(ClusterAdmin::new(client.clone(), image, config.clone())),
            Arc::new(ProducerIds::new(client.clone(), config.broker_id)),
            groups,
            secret,
        ),
    );
    Ok((Arc::new(Parts { quotas, ..parts }), limits))
}

fn fetching(
    config: &BrokerConfig,
    image: &ImageHandle,
    (secret, broker_epoch, throttles): (Secret, watch::Receiver<Option<i64>>, Arc<Throttles>),
) -> Fetching {
    let rules = &config.replication;
    let response_max = usize::try_from(rules.replica_fetch_response_max_bytes).unwrap_or(0);
    let options = ClientOptions {
        request_timeout_ms: u64::from(rules.replica_socket_timeout_ms),
        response_bytes_max: response_max.saturating_add(FRAME_SIZE_MAX),
        ..ClientOptions::named(format!("broker-{}-fetcher", config.broker_id))
    };
    Fetching {
        dialler: Dialler {
            broker_id: config.broker_id,
            secret,
            listener: config.inter_broker_listener.clone(),
            options,
        },
        rules: FetchRules {
            min_bytes: rules.replica_fetch_min_bytes,
            partition_max_bytes: rules.replica_fetch_max_bytes,
            response_max_bytes: rules.replica_fetch_response_max_bytes,
            wait_max_ms: rules.replica_fetch_wait_max_ms,
            backoff: Duration::from_millis(u64::from(rules.replica_fetch_backoff_ms)),
        },
        image: image.clone(),
        throttles,
        broker_epoch,
    }
}

fn topic_config_source(config: Arc<BrokerConfig>) -> TopicConfigSource {
    Arc::new(move |image, topic| {
        let own = image.broker_overrides(config.broker_id);
        let all = image.default_broker_overrides();
        TopicConfig::effective(&image.topic_overrides(topic), &config.layers(&own, &all))
    })
}

/// The bytes a second that one of the configs of this broker allows, at any time.
fn rate_source(config: Arc<BrokerConfig>, image: ImageHandle, name: &'static str) -> RateSource {
    Arc::new(move || {
        let image = image.load();
        let own = image.broker_overrides(config.broker_id);
        let all = image.default_broker_overrides();
        let key = keys::broker_key(name);
        match key.and_then(|key| config.layers(&own, &all).value(key)) {
            Some(Value::Integer(rate)) => u64::try_from(rate).unwrap_or(0),
            _ => u64::MAX,
        }
    })
}

fn registrar(
    config: &BrokerConfig,
    client: &Client,
    image: &ImageHandle,
    addresses: &BTreeMap<String, SocketAddr>,
) -> Registrar {
    let ports = addresses.iter().map(|(name, address)| (name.clone(), address.port())).collect();
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Registrar {
        client: client.clone(),
        broker_id: config.broker_id,
        registration: BrokerRegistration {
            endpoints: config.advertised_endpoints(&ports, &host_name),
            rack: config.rack.clone(),
            registered_at_ms: wall_time_ms(),
            ..BrokerRegistration::default()
        },
        image: image.clone(),
    }
}

/// Waits until the cluster knows this broker and has a controller, which has elected leaders.
async fn until_ready(
    config: &BrokerConfig,
    client: &Client,
    image: &ImageHandle,
    (broker_epoch, shutdown): (&watch::Receiver<Option<i64>>, &Shutdown),
) -> Result<(), Error> {
    let patience = Duration::from_millis(u64::from(config.coordinator.session_timeout_ms) * 3);
    // An earlier process may still be registered: its session ends only after a while.
    let ready = async || {
        let mut own_epoch = broker_epoch.clone();
        let registered = own_epoch.wait_for(Option::is_some).await.ok().and_then(|epoch| *epoch)?;
        let is_shown = |image: &MetadataImage| {
            let own = image.brokers.get(&config.broker_id);
            own.is_some_and(|own| own.broker_epoch >= registered) && image.controller.is_some()
        };
        image.wait_until(patience, is_shown).await
    };
    let wait = async || match tokio::time::timeout(patience, ready()).await.ok().flatten() {
        Some(_) => Some(true),
        // A coordinator that is there would have taken it.
        None => client.session_id().map(|_| false),
    };
    if !until_shown(shutdown, "this broker's registration", wait).await? {
        return Err(Error::Coordinator(
            "it did not take this broker's registration in time; is another broker with the same \
             id running?"
                .to_owned(),
        ));
    }
    // What it led in an earlier life it leads again once the controller has elected it anew; a
    // client that came sooner would find no leader.
    let is_settled = |image: &MetadataImage| !leads_from_earlier_life(image, config.broker_id);
    if image.wait_until(patience, is_settled).await.is_none() {
        warn!("the controller has not elected this broker anew yet");
    }
    Ok(())
}

/// Whether a partition has this broker for its leader since before it registered.
fn leads_from_earlier_life(image: &MetadataImage, broker_id: BrokerId) -> bool {
    let Some(own) = image.brokers.get(&broker_id) else { return false };
    let mut partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    partitions.any(|p| p.leader == Some(broker_id) && p.state_mzxid.0 < own.broker_epoch)
}

fn serve_all(
    (listeners, limits): (Vec<Bound>, ListenerLimits),
    config: &BrokerConfig,
    parts: &Arc<Parts>,
    serving: &Shutdown,
) {
    let budget = match config.network.queued_max_request_bytes {
        Some(size) => MemoryBudget::new(usize::try_from(size).unwrap_or(usize::MAX)),
        None => MemoryBudget::of_this_machine(),
    };
    let handlers = Arc::new(Handlers::new(parts.clone()));
    for bound in listeners {
        let listener = ListenerConfig {
            rules: connection_rules(config),
            connections: limits.connections.clone(),
            creation_rate: limits.creation_rate.clone(),
            gate: gate(parts),
            ..ListenerConfig::new(&bound.name, budget.clone())
        };
        serving.spawn(serve(listener, bound.listener, handlers.clone(), serving.clone()));
    }
}

/// Lets addresses in as often as their quotas allow.
fn gate(parts: &Arc<Parts>) -> Gate {
    let parts = parts.clone();
    Arc::new(move |ip| {
        parts.quotas.connect(ip, monotonic_ms()).map_err(|throttle_ms| {
            parts.metrics.throttled_connections.add(1);
            Duration::from_millis(throttle_ms)
        })
    })
}

fn connection_rules(config: &BrokerConfig) -> ConnectionRules {
    let defaults = ConnectionRules::default();
    let size_max = usize::try_from(config.network.socket_request_max_bytes);
    ConnectionRules {
        frame_size_max: size_max.unwrap_or(defaults.frame_size_max),
        idle_timeout: match config.network.connections_max_idle_ms {
            Some(ms) => Duration::from_millis(ms),
            None => Duration::MAX,
        },
        ..defaults
    }
}

/// Takes this broker off the tombstones of topics whose logs it has dropped.
async fn confirm_deletions(parts: Arc<Parts>, shutdown: Shutdown) {
    let mut changed = parts.image.changed();
    loop {
        let image = parts.image.load();
        for id in parts.replicas.pending_deletions(&image) {
            if let Err(error) = parts.admin.confirm_dropped(id, parts.broker_id).await {
                warn!(topic_id = %id, %error, "cannot confirm that deleted logs are gone");
            }
        }
        tokio::select! {
            () = shutdown.stopped() => return,
            more = changed.changed() => if more.is_err() { return },
        }
    }
}

/// Retention, removal of deleted files, checkpoints.
async fn keep_house(parts: Arc<Parts>, shutdown: Shutdown) {
    let checkpoint_interval =
        Duration::from_millis(parts.config.logs.log_flush_offset_checkpoint_interval_ms);
    let mut rounds = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    let mut checkpointed_at = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = shutdown.stopped() => return,
            _ = rounds.tick() => {}
        }
        let logs = parts.replicas.logs().clone();
        let is_checkpoint_due = checkpointed_at.elapsed() >= checkpoint_interval;
        if is_checkpoint_due {
            checkpointed_at = tokio::time::Instant::now();
        }
        let round = tokio::task::spawn_blocking(move || {
            logs.housekeeping(wall_time_ms());
            if is_checkpoint_due {
                logs.checkpoint();
            }
        });
        if let Err(error) = round.await {
            warn!(%error, "a round of the logs' housekeeping failed");
        }
    }
}
