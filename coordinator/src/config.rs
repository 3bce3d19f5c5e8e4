//! The options of a member. Each has a default but the data folder; a file sets them by the names
//! below.
//!
//! | name | default | meaning |
//! |---|---|---|
//! | `id` | 1 | the member's number in its ensemble |
//! | `data.dir` | | the folder of its log and snapshots |
//! | `listen` | `127.0.0.1:2181` | where clients connect; port 0 takes a free one |
//! | `members` | | the ensemble: `1=host:port,2=host:port`, see [`members`]; alone without it |
//! | `peer.listen` | its own in `members` | where the other members connect |
//! | `peer.key` | | the secret that members prove to know to each other |
//! | `peer.auth` | `key` | `none`: whoever reaches the peer port is believed |
//! | `election.timeout.ms` | 300 | after what time without a leader one is elected, at least |
//! | `heartbeat.interval.ms` | 50 | how often a leader says that it is there |
//! | `leader.patience.ms` | 5000 | how long a request waits while no member leads |
//! | `session.timeout.min.ms` | 1000 | the shortest session timeout that is granted |
//! | `session.timeout.max.ms` | 120000 | the longest |
//! | `disconnect.grace.ms` | 500 | how long a session whose client left may come back |
//! | `expiry.tick.ms` | 50 | how exactly sessions' deadlines are kept |
//! | `idle.check.interval.ms` | 10000 | how often idle nodes are looked for |
//! | `connections.max` | 10000 | connections in all |
//! | `connections.per.ip.max` | 5000 | connections from one address |
//! | `log.format`, `log.filter` | `text`, `info` | how and what the process logs |
//! | `super.digest` | | `user:hash` of who may do everything, as `digest` access lists have it |
//! | `kafka.listener.name` | | the brokers' listener that Kafka's clients are told; see `kafka` |
//! | `http.listen` | | where monitoring asks `/metrics`, `/health` and `/ready`; off if not set |

mod jaas;
pub mod members;
pub mod zookeeper;

use std::path::PathBuf;

use ottla_common::config::{ConfigError, Settings};
use ottla_common::types::MemberId;

use self::members::EnsembleConfig;
use self::zookeeper::{TlsOptions, ZooKeeperOptions};

/// The names of all options.
pub const KEYS: [&str; 15] = [
    "id",
    "data.dir",
    "listen",
    "session.timeout.min.ms",
    "session.timeout.max.ms",
    "disconnect.grace.ms",
    "expiry.tick.ms",
    "idle.check.interval.ms",
    "connections.max",
    "connections.per.ip.max",
    "log.format",
    "log.filter",
    "super.digest",
    "kafka.listener.name",
    "http.listen",
];

/// The options of a member. See the module's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `id`
    pub member_id: MemberId,
    /// `data.dir`
    pub data_dir: PathBuf,
    /// `listen`
    pub listen: String,
    /// `session.timeout.min.ms`
    pub session_timeout_min_ms: u32,
    /// `session.timeout.max.ms`
    pub session_timeout_max_ms: u32,
    /// `disconnect.grace.ms`
    pub disconnect_grace_ms: u32,
    /// `expiry.tick.ms`
    pub expiry_tick_ms: u64,
    /// `idle.check.interval.ms`
    pub idle_check_interval_ms: u64,
    /// `connections.max`
    pub connections_max: usize,
    /// `connections.per.ip.max`
    pub connections_per_ip_max: usize,
    /// `super.digest`
    pub super_digest: Option<String>,
    /// `members`, `peer.*` and the times of elections.
    pub ensemble: EnsembleConfig,
    /// `zookeeper.*`
    pub zookeeper: ZooKeeperOptions,
    /// `tls.*`; none if there is no such port.
    pub tls: Option<TlsOptions>,
    /// `kafka.listener.name`
    pub kafka_listener_name: Option<String>,
    /// `http.listen`
    pub http_listen: Option<String>,
}

impl Config {
    /// The defaults with a data folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            member_id: MemberId(1),
            data_dir: data_dir.into(),
            listen: "127.0.0.1:2181".to_owned(),
            session_timeout_min_ms: 1_000,
            session_timeout_max_ms: 120_000,
            disconnect_grace_ms: 500,
            expiry_tick_ms: 50,
            idle_check_interval_ms: 10_000,
            connections_max: 10_000,
            connections_per_ip_max: 5_000,
            super_digest: None,
            ensemble: EnsembleConfig::default(),
            zookeeper: ZooKeeperOptions::default(),
            tls: None,
            kafka_listener_name: None,
            http_listen: None,
        }
    }

    /// Reads the options out of settings. A name that is no option's is an error.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let keys = || KEYS.into_iter().chain(members::KEYS).chain(zookeeper::KEYS);
        settings.check_keys(|key| keys().any(|known| known == key), keys())?;
        let defaults = Self::new(settings.required("data.dir")?);
        let session_timeout_min_ms = settings.number(
            "session.timeout.min.ms",
            defaults.session_timeout_min_ms,
            100..=3_600_000,
        )?;
        let text = |key: &str| settings.get(key).map(|setting| setting.value.clone());
        let member_id = MemberId(settings.number("id", defaults.member_id.0, 1..=255)?);
        Ok(Self {
            member_id,
            data_dir: defaults.data_dir,
            listen: settings.text("listen", &defaults.listen),
            session_timeout_min_ms,
            session_timeout_max_ms: settings.number(
                "session.timeout.max.ms",
                defaults.session_timeout_max_ms.max(session_timeout_min_ms),
                session_timeout_min_ms..=86_400_000,
            )?,
            disconnect_grace_ms: settings.number(
                "disconnect.grace.ms",
                defaults.disconnect_grace_ms,
                0..=86_400_000,
            )?,
            expiry_tick_ms: settings.number(
                "expiry.tick.ms",
                defaults.expiry_tick_ms,
                1..=10_000,
            )?,
            idle_check_interval_ms: settings.number(
                "idle.check.interval.ms",
                defaults.idle_check_interval_ms,
                10..=86_400_000,
            )?,
            connections_max: settings.number(
                "connections.max",
                defaults.connections_max,
                1..=1_000_000,
            )?,
            connections_per_ip_max: settings.number(
                "connections.per.ip.max",
                defaults.connections_per_ip_max,
                1..=1_000_000,
            )?,
            super_digest: text("super.digest"),
            ensemble: EnsembleConfig::from_settings(settings, member_id)?,
            zookeeper: ZooKeeperOptions::from_settings(settings)?,
            tls: TlsOptions::from_settings(settings)?,
            kafka_listener_name: text("kafka.listener.name"),
            http_listen: text("http.listen"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_options_and_an_unknown_name_is_an_error() {
        let mut settings = Settings::new();
        settings.add_properties("c", "id=3\ndata.dir=/d\ndisconnect.grace.ms=0\n").unwrap();
        let config = Config::from_settings(&settings).unwrap();
        assert_eq!((config.member_id, config.disconnect_grace_ms), (MemberId(3), 0));
        assert_eq!(config.listen, "127.0.0.1:2181");
        settings.add_properties("c", "lissten=1.2.3.4:1").unwrap();
        let error = Config::from_settings(&settings).unwrap_err().to_string();
        assert!(error.contains("lissten") && error.contains("\"listen\""), "{error}");
    }

    #[test]
    fn the_data_folder_must_be_set() {
        assert!(Config::from_settings(&Settings::new()).is_err());
    }
}
