//! Builds all parts of a broker in order, starts them, and stops them in the reverse order.
//!
//! The order of the start: bind the listeners (so that a taken port is an error at once), reach the
//! coordinator, agree on the cluster's id, open and recover the logs, follow the tree, register,
//! campaign for the controller, and only then serve. A client that can connect finds a broker that
//! knows the cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::clock::wall_time_ms;
use ottla_common::cluster_tree::{BrokerRegistration, ClusterId, PARENT_PATHS};
use ottla_common::coordination::client::{Client, ClientConfig, ClientError};
use ottla_common::coordination::protocol::{CoordinationError, CreateMode};
use ottla_common::coordination::subscription::Subscription;
use ottla_common::net::ConnectionLimits;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, Uuid};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::broker::{BrokerConfig, LogsConfig};
use crate::config::topic::TopicConfig;
use crate::controller::admin::ClusterAdmin;
use crate::controller::campaign::Campaign;
use crate::controller::producer_ids::ProducerIds;
use crate::error::Error;
use crate::groups;
use crate::handlers::{Handlers, context::Parts};
use crate::metadata::registration::Registrar;
use crate::metadata::watcher::{ImageHandle, follow, image_channel};
use crate::network::connection::ConnectionRules;
use crate::network::listener::{ListenerConfig, serve};
use crate::network::memory::MemoryBudget;
use crate::replication::replica_manager::{ReplicaManager, TopicConfigSource};
use crate::storage::cleaner::CleanerConfig;
use crate::storage::log_manager::{LogManager, LogManagerConfig};

/// How long the parts may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Kafka's default of `max.connection.creation.rate`, which stands for no limit.
const NO_CREATION_RATE: u32 = i32::MAX as u32;

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
        if !config.network.max_connections_per_ip_overrides.is_empty() {
            warn!("max.connections.per.ip.overrides is not in effect yet: all addresses are alike");
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
        let client = connect(&config).await?;
        let cluster_id = agree_on_cluster(&client).await.map_err(coordinator_error)?;
        let logs = open_logs(&config, cluster_id).await?;
        let parts = build_parts(&config, &client, logs, &background).await?;
        let addresses: BTreeMap<String, SocketAddr> =
            listeners.iter().map(|bound| (bound.name.clone(), bound.address)).collect();
        let broker_epoch = register(&config, &client, &parts.image, (&addresses, &background));
        let campaign = Campaign {
            client: client.clone(),
            image: parts.image.clone(),
            broker_id: config.broker_id,
        };
        background.spawn(campaign.run(background.clone()));
        background.spawn(confirm_deletions(parts.clone(), background.clone()));
        background.spawn(keep_house(parts.clone(), background.clone()));
        until_ready(&config, &parts.image).await?;
        let serving = shutdown.child();
        serve_all(listeners, &config, &parts, &serving);
        info!(broker_id = %config.broker_id, ?addresses, "broker serves");
        let broker_id = config.broker_id;
        Ok(RunningBroker { broker_id, addresses, parts, client, broker_epoch, serving, background })
    }
}

impl RunningBroker {
    /// The parts that answer requests, for tools in the same process.
    pub fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Stops serving, brings everything to disk, marks the logs as cleanly closed and leaves the
    /// cluster.
    pub async fn stop(self) {
        if !self.serving.finish(STOP_PATIENCE).await {
            warn!("connections did not end in time");
        }
        if !self.background.finish(STOP_PATIENCE).await {
            warn!("background tasks did not end in time");
        }
        let logs = self.parts.replicas.logs().clone();
        let broker_epoch = self.broker_epoch.borrow().unwrap_or(-1);
        if tokio::task::spawn_blocking(move || logs.close(broker_epoch)).await.is_err() {
            warn!("closing the logs failed");
        }
        self.client.close().await;
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

async fn connect(config: &BrokerConfig) -> Result<Client, Error> {
    let addresses = config.coordinator.addresses.clone();
    let name = format!("broker {}", config.broker_id);
    let client = Client::connect(ClientConfig {
        session_timeout_ms: config.coordinator.session_timeout_ms,
        ..ClientConfig::new(addresses, &name)
    });
    client.await.map_err(coordinator_error)
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

fn cleaner_config(logs: &LogsConfig) -> CleanerConfig {
    let threads = usize::try_from(logs.log_cleaner_threads).unwrap_or(1);
    // A conversion that takes what lies outside to the nearest number that there is.
    let rate = logs.log_cleaner_io_max_bytes_per_second as u64;
    CleanerConfig {
        threads: if logs.log_cleaner_enable { threads } else { 0 },
        memory_bytes: usize::try_from(logs.log_cleaner_dedupe_buffer_size).unwrap_or(usize::MAX),
        load_percent: (logs.log_cleaner_io_buffer_load_factor * 100.0) as usize,
        bytes_per_second_max: (rate < u64::MAX).then_some(rate),
        backoff_ms: logs.log_cleaner_backoff_ms,
    }
}

/// Follows the tree, and builds everything that answers from it.
async fn build_parts(
    config: &Arc<BrokerConfig>,
    client: &Client,
    logs: Arc<LogManager>,
    background: &Shutdown,
) -> Result<Arc<Parts>, Error> {
    let (publisher, image) = image_channel();
    let source = topic_config_source(config.clone());
    let replicas = ReplicaManager::new(config.broker_id, logs, image.clone(), source);
    let applied = replicas.clone();
    let apply = Arc::new(move |image: &_, delta: &_| applied.apply(image, delta));
    let subscription = Subscription::open(client, "/");
    background.spawn(follow(subscription, publisher, apply, background.clone()));
    let patience = Duration::from_millis(u64::from(config.coordinator.connection_timeout_ms));
    if image.wait_until(patience, |image| image.cluster_id.is_some()).await.is_none() {
        return Err(Error::Coordinator("it did not send the cluster's state in time".to_owned()));
    }
    let groups = groups::start(&config.groups, (image.clone(), replicas.clone()));
    background.spawn(groups.clone().run(background.clone()));
    Ok(Arc::new(Parts::new(
        config.clone(),
        image.clone(),
        replicas,
        (
            Arc::new(ClusterAdmin::new(client.clone(), image, config.clone())),
            Arc::new(ProducerIds::new(client.clone(), config.broker_id)),
            groups,
        ),
    )))
}

fn topic_config_source(config: Arc<BrokerConfig>) -> TopicConfigSource {
    Arc::new(move |image, topic| {
        let own = image.broker_overrides(config.broker_id);
        let all = image.default_broker_overrides();
        TopicConfig::effective(&image.topic_overrides(topic), &config.layers(&own, &all))
    })
}

fn register(
    config: &BrokerConfig,
    client: &Client,
    image: &ImageHandle,
    (addresses, background): (&BTreeMap<String, SocketAddr>, &Shutdown),
) -> watch::Receiver<Option<i64>> {
    let ports = addresses.iter().map(|(name, address)| (name.clone(), address.port())).collect();
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let registrar = Registrar {
        client: client.clone(),
        broker_id: config.broker_id,
        registration: BrokerRegistration {
            endpoints: config.advertised_endpoints(&ports, &host_name),
            rack: config.rack.clone(),
            registered_at_ms: wall_time_ms(),
            ..BrokerRegistration::default()
        },
        image: image.clone(),
    };
    let (sender, broker_epoch) = watch::channel(None);
    background.spawn(registrar.run(sender, background.clone()));
    broker_epoch
}

/// Waits until the cluster knows this broker and has a controller, which has elected leaders.
async fn until_ready(config: &BrokerConfig, image: &ImageHandle) -> Result<(), Error> {
    let patience = Duration::from_millis(u64::from(config.coordinator.session_timeout_ms) * 3);
    let ready = image.wait_until(patience, |image| {
        image.brokers.contains_key(&config.broker_id) && image.controller.is_some()
    });
    ready.await.map(drop).ok_or_else(|| {
        Error::Coordinator(
            "it did not take this broker's registration in time; is another broker with the same \
             id running?"
                .to_owned(),
        )
    })
}

fn serve_all(listeners: Vec<Bound>, config: &BrokerConfig, parts: &Arc<Parts>, serving: &Shutdown) {
    let budget = match config.network.queued_max_request_bytes {
        Some(size) => MemoryBudget::new(usize::try_from(size).unwrap_or(usize::MAX)),
        None => MemoryBudget::of_this_machine(),
    };
    let handlers = Arc::new(Handlers::new(parts.clone()));
    for bound in listeners {
        let mut listener = ListenerConfig::new(&bound.name, budget.clone());
        listener.rules = connection_rules(config);
        listener.connections = connection_limits(config, listener.connections);
        let creation_rate = config.network.max_connection_creation_rate;
        listener.creation_rate = (creation_rate < NO_CREATION_RATE).then_some(creation_rate);
        serving.spawn(serve(listener, bound.listener, handlers.clone(), serving.clone()));
    }
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

/// Kafka's defaults stand for no limit at all; then ours holds.
fn connection_limits(config: &BrokerConfig, defaults: ConnectionLimits) -> ConnectionLimits {
    let limit = |configured: u32, default: usize| match usize::try_from(configured) {
        Ok(configured) if configured < default => configured,
        _ => default,
    };
    ConnectionLimits {
        connections_max: limit(config.network.max_connections, defaults.connections_max),
        connections_per_ip_max: limit(
            config.network.max_connections_per_ip,
            defaults.connections_per_ip_max,
        ),
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
