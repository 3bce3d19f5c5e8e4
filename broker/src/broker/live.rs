//! What changes in a running broker when its dynamic configs change (KIP-226), beside what concerns
//! single topics, which [`ReplicaManager::apply`] sees to: limits of connections, the log cleaner,
//! fetchers, how long producers are remembered; and what clients are held to.
//!
//! It is done before the image that brings the change is published. So whoever set a config and was
//! answered by this broker finds it in force.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ottla_common::cluster_tree::{ConfigKind, ConfigOverrides, DEFAULT_ENTITY};
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::net::{ConnectionLimits, SharedLimits};
use ottla_common::shutdown::Shutdown;
use parking_lot::Mutex;
use tracing::{error, warn};

use crate::config::Overrides;
use crate::config::broker::{BrokerConfig, LogsConfig, NetworkConfig};
use crate::limits::LIMITED_HOSTS_MAX;
use crate::metadata::image::{Delta, MetadataImage};
use crate::network::accept_rate::CreationRate;
use crate::network::listener::CONNECTION_LIMITS;
use crate::quotas::Quotas;
use crate::replication::replica_manager::ReplicaManager;
use crate::storage::cleaner::CleanerConfig;

/// Kafka's default of `max.connection.creation.rate`, which stands for no limit.
const NO_CREATION_RATE: u32 = i32::MAX as u32;

/// What all listeners of the broker are held to.
#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// How many connections they hold together.
    pub connections: SharedLimits,
    /// How many each takes in a second.
    pub creation_rate: CreationRate,
}

/// Brings the configs that are in force to the parts that they concern.
pub struct LiveConfig {
    started_with: Arc<BrokerConfig>,
    replicas: Arc<ReplicaManager>,
    quotas: Arc<Quotas>,
    listeners: ListenerLimits,
    /// What the names of hosts that have limits of their own are looked up for, at last.
    network: Arc<Mutex<Option<NetworkConfig>>>,
    runtime: tokio::runtime::Handle,
    background: Shutdown,
}

impl LiveConfig {
    /// Nothing is applied yet. Has to be called within a runtime.
    pub fn new(
        started_with: Arc<BrokerConfig>,
        (replicas, quotas): (Arc<ReplicaManager>, Arc<Quotas>),
        background: Shutdown,
    ) -> Self {
        let listeners = ListenerLimits {
            connections: SharedLimits::new(connection_limits(&started_with.network)),
            creation_rate: CreationRate::default(),
        };
        let runtime = tokio::runtime::Handle::current();
        let network = Arc::default();
        Self { started_with, replicas, quotas, listeners, network, runtime, background }
    }

    /// What the listeners are to be held to.
    pub fn listeners(&self) -> ListenerLimits {
        self.listeners.clone()
    }

    /// Applies what an image says, if it says something new. May block.
    pub fn apply(&self, image: &MetadataImage, delta: &Delta) {
        if delta.quotas {
            self.quotas.apply(image);
        }
        if !delta.broker_configs {
            return;
        }
        let own = image.broker_overrides(self.started_with.broker_id);
        let all = image.default_broker_overrides();
        let config = self.started_with.with_overrides(&own, &all);
        self.limit_connections(&config.network);
        let logs = self.replicas.logs();
        if let Err(error) = logs.set_cleaner_config(cleaner_config(&config.logs)) {
            error!(%error, "the log cleaner did not take its new config");
        }
        logs.set_producer_id_expiration_ms(config.logs.producer_id_expiration_ms);
        let fetchers = usize::try_from(config.replication.num_replica_fetchers).unwrap_or(1);
        self.replicas.set_fetchers_per_leader(fetchers);
    }

    fn limit_connections(&self, network: &NetworkConfig) {
        let rate = network.max_connection_creation_rate;
        let rate = NonZeroU32::new(rate).filter(|rate| rate.get() < NO_CREATION_RATE);
        self.listeners.creation_rate.set(rate);
        let mut held = self.network.lock();
        if held.as_ref() == Some(network) {
            return;
        }
        *held = Some(network.clone());
        let limits = connection_limits(network);
        let known = known_addresses(&network.max_connections_per_ip_overrides);
        let is_complete = known.len() == network.max_connections_per_ip_overrides.len();
        self.listeners.connections.set(limits, known);
        if is_complete {
            return;
        }
        // Names are looked up aside: a name server that is silent must not hold up the image.
        let (network, held) = (network.clone(), Arc::clone(&self.network));
        let connections = self.listeners.connections.clone();
        let shutdown = self.background.clone();
        let look_up = async move {
            let found = tokio::select! {
                () = shutdown.stopped() => return,
                found = look_up(&network.max_connections_per_ip_overrides) => found,
            };
            let held = held.lock();
            if held.as_ref() == Some(&network) {
                connections.set(limits, found);
            }
        };
        self.runtime.spawn(look_up);
    }
}

fn limit(configured: u32) -> usize {
    usize::try_from(configured).unwrap_or(usize::MAX)
}

fn known_addresses(overrides: &BTreeMap<String, u32>) -> BTreeMap<IpAddr, usize> {
    let known = overrides.iter().filter_map(|(host, most)| Some((host.parse().ok()?, *most)));
    known.map(|(ip, most)| (ip, limit(most))).collect()
}

async fn look_up(overrides: &BTreeMap<String, u32>) -> BTreeMap<IpAddr, usize> {
    let mut found = known_addresses(overrides);
    let names = overrides.iter().filter(|(host, _)| host.parse::<IpAddr>().is_err());
    for (host, most) in names.take(LIMITED_HOSTS_MAX) {
        match tokio::net::lookup_host((host.as_str(), 0)).await {
            Ok(addresses) => {
                found.extend(addresses.map(|address| (address.ip(), limit(*most))));
            }
            Err(error) => warn!(host, %error, "this host's limit of connections is not in effect"),
        }
    }
    found
}

/// Kafka's defaults stand for no limit at all; then ours holds.
fn connection_limits(network: &NetworkConfig) -> ConnectionLimits {
    let defaults = CONNECTION_LIMITS;
    ConnectionLimits {
        connections_max: limit(network.max_connections).min(defaults.connections_max),
        connections_per_ip_max: limit(network.max_connections_per_ip)
            .min(defaults.connections_per_ip_max),
        ..defaults
    }
}

/// How the log cleaner works.
pub fn cleaner_config(logs: &LogsConfig) -> CleanerConfig {
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

/// The configs in force by what the coordinator holds, for what a broker does before it follows the
/// tree: opening its logs.
///
/// # Errors
/// If the coordinator does not answer.
pub async fn stored(config: &BrokerConfig, client: &Client) -> Result<BrokerConfig, ClientError> {
    let mut layers = [Overrides::new(), Overrides::new()];
    let names = [config.broker_id.to_string(), DEFAULT_ENTITY.to_owned()];
    for (layer, name) in layers.iter_mut().zip(&names) {
        let path = ConfigOverrides::path(ConfigKind::Brokers, name);
        let Some((data, _)) = client.get(&path).await? else { continue };
        match ConfigOverrides::decode(&data) {
            Ok(overrides) => *layer = overrides.config,
            Err(error) => warn!(path, %error, "these configs cannot be read; they are passed over"),
        }
    }
    let [own, all] = layers;
    Ok(config.with_overrides(&own, &all))
}
