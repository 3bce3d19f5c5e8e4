//! The broker configs that take effect, typed, and how they are read at start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ottla_common::cluster_tree::Endpoint;
use ottla_common::config::{ConfigError, Settings, Source};
use ottla_common::types::BrokerId;

use super::keys::{self, Value};
use super::{BrokerLayers, Overrides, listeners};

mod check;
mod groups;

pub use groups::{ConsumerGroupsConfig, GroupsConfig};

pub(super) use check::parse_ip_overrides;

/// What a broker was started with. Values that change at run time are to be taken from
/// [`BrokerConfig::with_overrides`].
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Everything that was set, as text under Kafka's names: the [`BrokerLayers::file`] layer.
    pub properties: Overrides,
    /// What to tell the person who starts the broker: keys that have no meaning here, and the like.
    pub warnings: Vec<String>,
    /// `node.id` or `broker.id`.
    pub broker_id: BrokerId,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `listeners`. An empty host means all interfaces, port 0 any free one.
    pub listeners: Vec<Endpoint>,
    /// `advertised.listeners`, empty if not set; see [`BrokerConfig::advertised_endpoints`].
    pub advertised_listeners: Vec<Endpoint>,
    /// `inter.broker.listener.name`, or the first listener of `security.inter.broker.protocol`.
    pub inter_broker_listener: String,
    /// `log.dirs`, or else `log.dir`.
    pub log_dirs: Vec<PathBuf>,
    /// `http.listen`.
    pub http_listen: Option<String>,
    /// How the coordinators are reached.
    pub coordinator: CoordinatorConfig,
    /// Limits of connections and requests.
    pub network: NetworkConfig,
    /// How this broker follows and leads.
    pub replication: ReplicationConfig,
    /// Rounds and checkpoints of the logs. How single logs are kept is for [`super::TopicConfig`].
    pub logs: LogsConfig,
    /// What topics get if nobody says.
    pub topics: TopicsConfig,
    /// How groups are kept.
    pub groups: GroupsConfig,
    /// How what clients use is measured.
    pub quotas: QuotasConfig,
}

/// How what clients use is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotasConfig {
    /// `quota.window.num`.
    pub window_count: u32,
    /// `quota.window.size.seconds`.
    pub window_size_s: u32,
    /// `controller.quota.window.num`.
    pub controller_window_count: u32,
    /// `controller.quota.window.size.seconds`.
    pub controller_window_size_s: u32,
}

/// How the coordinators are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// `coordinator.connect`: `host:port` each.
    pub addresses: Vec<String>,
    /// `coordinator.session.timeout.ms`.
    pub session_timeout_ms: u32,
    /// `coordinator.connection.timeout.ms`.
    pub connection_timeout_ms: u32,
}

/// Limits of connections and requests. Keys are named in the fields' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `socket.request.max.bytes`: the largest request.
    pub socket_request_max_bytes: u32,
    /// `socket.send.buffer.bytes`; `None` leaves it to the system.
    pub socket_send_buffer_bytes: Option<u32>,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub socket_receive_buffer_bytes: Option<u32>,
    /// `socket.listen.backlog.size`.
    pub socket_listen_backlog_size: u32,
    /// `connections.max.idle.ms`; `None` for no limit.
    pub connections_max_idle_ms: Option<u64>,
    /// `max.connections`.
    pub max_connections: u32,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: u32,
    /// `max.connections.per.ip.overrides`: host or address → limit.
    pub max_connections_per_ip_overrides: BTreeMap<String, u32>,
    /// `max.connection.creation.rate`, per second.
    pub max_connection_creation_rate: u32,
    /// `queued.max.requests`.
    pub queued_max_requests: u32,
    /// `queued.max.request.bytes`; `None` for no limit of its own.
    pub queued_max_request_bytes: Option<u64>,
    /// `request.timeout.ms`, for requests of this broker to others.
    pub request_timeout_ms: u32,
    /// `fetch.max.bytes`: most bytes of one fetch's answer.
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub max_incremental_fetch_session_cache_slots: u32,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: u32,
    /// `telemetry.max.bytes`: the largest push of a client's metrics, as it comes.
    pub telemetry_max_bytes: u32,
}

/// How a broker follows and leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// `num.replica.fetchers`, for each leading broker.
    pub num_replica_fetchers: u32,
    /// `replica.fetch.backoff.ms`.
    pub replica_fetch_backoff_ms: u32,
    /// `replica.fetch.max.bytes`, of a partition.
    pub replica_fetch_max_bytes: i32,
    /// `replica.fetch.min.bytes`.
    pub replica_fetch_min_bytes: i32,
    /// `replica.fetch.response.max.bytes`, of a fetch.
    pub replica_fetch_response_max_bytes: i32,
    /// `replica.fetch.wait.max.ms`.
    pub replica_fetch_wait_max_ms: i32,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub replica_high_watermark_checkpoint_interval_ms: u64,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max_ms: u64,
    /// `replica.socket.timeout.ms`.
    pub replica_socket_timeout_ms: u32,
    /// `replica.selector.class`.
    pub replica_selector_class: Option<String>,
    /// `auto.leader.rebalance.enable`.
    pub auto_leader_rebalance_enable: bool,
    /// `leader.imbalance.check.interval.seconds`.
    pub leader_imbalance_check_interval_seconds: u64,
    /// `controlled.shutdown.enable`.
    pub controlled_shutdown_enable: bool,
}

/// Rounds and checkpoints of the logs.
#[derive(Clone, Debug, PartialEq)]
pub struct LogsConfig {
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval_ms: u64,
    /// `log.flush.scheduler.interval.ms`, how often logs are looked at that must be flushed.
    pub log_flush_scheduler_interval_ms: u64,
    /// `log.flush.offset.checkpoint.interval.ms`, of the recovery points.
    pub log_flush_offset_checkpoint_interval_ms: u64,
    /// `log.flush.start.offset.checkpoint.interval.ms`, of the start offsets.
    pub log_flush_start_offset_checkpoint_interval_ms: u64,
    /// `log.initial.task.delay.ms`, before the rounds begin.
    pub log_initial_task_delay_ms: u64,
    /// `num.recovery.threads.per.data.dir`.
    pub num_recovery_threads_per_data_dir: u32,
    /// `log.cleaner.enable`.
    pub log_cleaner_enable: bool,
    /// `log.cleaner.threads`.
    pub log_cleaner_threads: u32,
    /// `log.cleaner.dedupe.buffer.size`, of all threads together.
    pub log_cleaner_dedupe_buffer_size: u64,
    /// `log.cleaner.io.buffer.load.factor`.
    pub log_cleaner_io_buffer_load_factor: f64,
    /// `log.cleaner.io.max.bytes.per.second`, of all threads together.
    pub log_cleaner_io_max_bytes_per_second: f64,
    /// `log.cleaner.backoff.ms`.
    pub log_cleaner_backoff_ms: u64,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval_ms: u64,
}

/// What topics get if nobody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsConfig {
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
}

impl BrokerConfig {
    /// Reads and checks what a broker is started with. Fails at the first key that nobody knows and
    /// the first value that cannot be, with the place where it was set.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let warnings = check::check_settings(settings)?;
        let mut properties: Overrides =
            settings.iter().map(|(key, setting)| (key.to_owned(), setting.value.clone())).collect();
        // The two names of one thing, of which tools may read either (KIP-631).
        for (one, other) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
            if let (Some(id), false) =
                (properties.get(one).cloned(), properties.contains_key(other))
            {
                properties.insert(other.to_owned(), id);
            }
        }
        let none = Overrides::new();
        let config = Self::read(&BrokerLayers { own: &none, all: &none, file: &properties })
            .map_err(|problem| problem.at(settings))?;
        check::check_relations(&config).map_err(|problem| problem.at(settings))?;
        Ok(Self { warnings, ..config })
    }

    /// Reads and checks plain keys and values, for tests and brokers within another process.
    pub fn from_properties<'a>(
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Settings::new();
        for (key, value) in properties {
            settings.set(key.to_owned(), value.to_owned(), Source::Flag, key.to_owned());
        }
        Self::from_settings(&settings)
    }

    /// The layers for a broker with these settings at run time.
    pub fn layers<'a>(&'a self, own: &'a Overrides, all: &'a Overrides) -> BrokerLayers<'a> {
        BrokerLayers { own, all, file: &self.properties }
    }

    /// The configs in force with these settings at run time. Settings that contradict each other or
    /// what cannot change are left aside as a whole: the broker goes on with what it had.
    pub fn with_overrides(&self, own: &Overrides, all: &Overrides) -> Self {
        let keep = |layer: &Overrides| -> Overrides {
            let dynamic = |name: &String| {
                keys::broker_key(name).is_some_and(|key| key.update != keys::Update::ReadOnly)
            };
            layer
                .iter()
                .filter(|(name, _)| dynamic(name))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        let (own, all) = (keep(own), keep(all));
        match Self::read(&BrokerLayers { own: &own, all: &all, file: &self.properties }) {
            Ok(config) if check::check_relations(&config).is_ok() => Self {
                // What a running broker cannot take over.
                listeners: self.listeners.clone(),
                warnings: self.warnings.clone(),
                ..config
            },
            _ => self.clone(),
        }
    }

    /// What others are told to connect to, once it is known at which ports the broker listens:
    /// listener name → port. `host_name` stands in where a listener is on all interfaces.
    pub fn advertised_endpoints(
        &self,
        bound_ports: &BTreeMap<String, u16>,
        host_name: &str,
    ) -> Vec<Endpoint> {
        let advertised = match self.advertised_listeners.as_slice() {
            [] => &self.listeners,
            advertised => advertised,
        };
        let resolve = |end: &Endpoint| {
            let mut end = end.clone();
            if listeners::is_any_host(&end.host) {
                host_name.clone_into(&mut end.host);
            }
            if end.port == 0 {
                end.port = bound_ports.get(&end.listener).copied().unwrap_or(0);
            }
            end
        };
        advertised.iter().map(resolve).collect()
    }

    fn read(layers: &BrokerLayers<'_>) -> Result<Self, Problem> {
        let read = Read { layers };
        let protocols = listeners::parse_protocols(&read.text("listener.security.protocol.map"))
            .map_err(|reason| Problem::new("listener.security.protocol.map", reason))?;
        let (listeners, advertised_listeners) = check::read_listeners(&read, protocols)?;
        let inter_broker_listener = check::inter_broker_listener(&read, &listeners)?;
        Ok(Self {
            properties: layers.file.clone(),
            warnings: Vec::new(),
            broker_id: BrokerId(check::broker_id(&read)?),
            rack: read.optional("broker.rack"),
            listeners,
            advertised_listeners,
            inter_broker_listener,
            http_listen: read.optional("http.listen"),
            log_dirs: check::log_dirs(&read)?,
            coordinator: read.coordinator(),
            network: read.network()?,
            replication: read.replication(),
            logs: read.logs(),
            groups: GroupsConfig::read(&read)?,
            topics: TopicsConfig {
                auto_create_topics_enable: read.boolean("auto.create.topics.enable"),
                delete_topic_enable: read.boolean("delete.topic.enable"),
                num_partitions: read.i32("num.partitions"),
                default_replication_factor: check::replication_factor(&read)?,
            },
            quotas: QuotasConfig {
                window_count: read.u32("quota.window.num"),
                window_size_s: read.u32("quota.window.size.seconds"),
                controller_window_count: read.u32("controller.quota.window.num"),
                controller_window_size_s: read.u32("controller.quota.window.size.seconds"),
            },
        })
    }
}

/// What is wrong with which key.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    key: &'static str,
    reason: String,
}

impl Problem {
    fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }

    fn at(self, settings: &Settings) -> ConfigError {
        match settings.get(self.key) {
            Some(setting) => ConfigError::Malformed {
                place: setting.place.clone(),
                reason: format!("{}: {}", self.key, self.reason),
            },
            None => ConfigError::Malformed { place: self.key.to_owned(), reason: self.reason },
        }
    }
}

/// Reads values whose keys and types are known to be right: a mistake in them is one in this file,
/// and the tests find it.
struct Read<'a> {
    layers: &'a BrokerLayers<'a>,
}

impl Read<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let Some(key) = keys::broker_key(name) else {
            unreachable!("{name} is not a broker config")
        };
        self.layers.value(key)
    }

    fn i64(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Integer(number)) => number,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn i32(&self, name: &str) -> i32 {
        let number = self.i64(name);
        i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
    }

    /// What is negative counts as nothing.
    fn u64(&self, name: &str) -> u64 {
        u64::try_from(self.i64(name)).unwrap_or(0)
    }

    fn u32(&self, name: &str) -> u32 {
        u32::try_from(self.u64(name)).unwrap_or(u32::MAX)
    }

    fn double(&self, name: &str) -> f64 {
        match self.value(name) {
            Some(Value::Double(value)) => value,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn boolean(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Boolean(value)) => value,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_default()
    }

    /// A text that may be missing; empty counts as missing.
    fn optional(&self, name: &str) -> Option<String> {
        let text = self.value(name).map(|value| value.to_text());
        text.filter(|text| !text.is_empty())
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(list)) => list.into_iter().filter(|item| !item.is_empty()).collect(),
            None => Vec::new(),
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn coordinator(&self) -> CoordinatorConfig {
        let session_timeout_ms = self.u32("coordinator.session.timeout.ms");
        CoordinatorConfig {
            addresses: self.list("coordinator.connect"),
            session_timeout_ms,
            // A try that outlasts the session would leave no time for another coordinator.
            connection_timeout_ms: self
                .u32("coordinator.connection.timeout.ms")
                .min(session_timeout_ms),
        }
    }

    fn network(&self) -> Result<NetworkConfig, Problem> {
        let buffer = |name: &str| u32::try_from(self.i64(name)).ok().filter(|size| *size > 0);
        Ok(NetworkConfig {
            socket_request_max_bytes: self.u32("socket.request.max.bytes"),
            socket_send_buffer_bytes: buffer("socket.send.buffer.bytes"),
            socket_receive_buffer_bytes: buffer("socket.receive.buffer.bytes"),
            socket_listen_backlog_size: self.u32("socket.listen.backlog.size"),
            connections_max_idle_ms: u64::try_from(self.i64("connections.max.idle.ms")).ok(),
            max_connections: self.u32("max.connections"),
            max_connections_per_ip: self.u32("max.connections.per.ip"),
            max_connections_per_ip_overrides: check::ip_overrides(self)?,
            max_connection_creation_rate: self.u32("max.connection.creation.rate"),
            queued_max_requests: self.u32("queued.max.requests"),
            queued_max_request_bytes: Some(self.u64("queued.max.request.bytes")).filter(|n| *n > 0),
            request_timeout_ms: self.u32("request.timeout.ms"),
            fetch_max_bytes: self.u32("fetch.max.bytes"),
            max_incremental_fetch_session_cache_slots: self
                .u32("max.incremental.fetch.session.cache.slots"),
            max_request_partition_size_limit: self.u32("max.request.partition.size.limit"),
            telemetry_max_bytes: self.u32("telemetry.max.bytes"),
        })
    }

    fn replication(&self) -> ReplicationConfig {
        ReplicationConfig {
            num_replica_fetchers: self.u32("num.replica.fetchers"),
            replica_fetch_backoff_ms: self.u32("replica.fetch.backoff.ms"),
            replica_fetch_max_bytes: self.i32("replica.fetch.max.bytes"),
            replica_fetch_min_bytes: self.i32("replica.fetch.min.bytes"),
            replica_fetch_response_max_bytes: self.i32("replica.fetch.response.max.bytes"),
            replica_fetch_wait_max_ms: self.i32("replica.fetch.wait.max.ms"),
            replica_high_watermark_checkpoint_interval_ms: self
                .u64("replica.high.watermark.checkpoint.interval.ms"),
            replica_lag_time_max_ms: self.u64("replica.lag.time.max.ms"),
            replica_socket_timeout_ms: self.u32("replica.socket.timeout.ms"),
            replica_selector_class: self.optional("replica.selector.class"),
            auto_leader_rebalance_enable: self.boolean("auto.leader.rebalance.enable"),
            leader_imbalance_check_interval_seconds: self
                .u64("leader.imbalance.check.interval.seconds"),
            controlled_shutdown_enable: self.boolean("controlled.shutdown.enable"),
        }
    }

    fn logs(&self) -> LogsConfig {
        LogsConfig {
            log_retention_check_interval_ms: self.u64("log.retention.check.interval.ms"),
            log_flush_scheduler_interval_ms: self.u64("log.flush.scheduler.interval.ms"),
            log_flush_offset_checkpoint_interval_ms: self
                .u64("log.flush.offset.checkpoint.interval.ms"),
            log_flush_start_offset_checkpoint_interval_ms: self
                .u64("log.flush.start.offset.checkpoint.interval.ms"),
            log_initial_task_delay_ms: self.u64("log.initial.task.delay.ms"),
            num_recovery_threads_per_data_dir: self.u32("num.recovery.threads.per.data.dir"),
            log_cleaner_enable: self.boolean("log.cleaner.enable"),
            log_cleaner_threads: self.u32("log.cleaner.threads"),
            log_cleaner_dedupe_buffer_size: self.u64("log.cleaner.dedupe.buffer.size"),
            log_cleaner_io_buffer_load_factor: self.double("log.cleaner.io.buffer.load.factor"),
            log_cleaner_io_max_bytes_per_second: self.double("log.cleaner.io.max.bytes.per.second"),
            log_cleaner_backoff_ms: self.u64("log.cleaner.backoff.ms"),
            producer_id_expiration_ms: self.i64("producer.id.expiration.ms"),
            producer_id_expiration_check_interval_ms: self
                .u64("producer.id.expiration.check.interval.ms"),
        }
    }
}

#[cfg(test)]
mod tests;
