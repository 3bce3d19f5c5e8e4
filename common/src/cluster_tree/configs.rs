//! The configs that were set for topics, brokers and other entities: `/config`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, decode, encode, entity_to_segment};

/// What configs can be set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKind {
    /// A topic.
    Topics,
    /// A broker by its number, or all of them under [`DEFAULT_ENTITY`](super::DEFAULT_ENTITY).
    Brokers,
    /// A user: SCRAM credentials and quotas.
    Users,
    /// A client id: quotas.
    Clients,
    /// An address: connection quotas.
    Ips,
    /// A consumer group.
    Groups,
    /// A subscription to clients' metrics.
    ClientMetrics,
}

impl ConfigKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Topics,
        Self::Brokers,
        Self::Users,
        Self::Clients,
        Self::Ips,
        Self::Groups,
        Self::ClientMetrics,
    ];

    /// Its name in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Brokers => "brokers",
            Self::Users => "users",
            Self::Clients => "clients",
            Self::Ips => "ips",
            Self::Groups => "groups",
            Self::ClientMetrics => "client-metrics",
        }
    }
}

/// The configs that were set for one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigOverrides {
    /// The format of the value.
    version: i32,
    /// Key → value.
    pub config: BTreeMap<String, String>,
}

impl ConfigOverrides {
    /// The configs `config`.
    pub fn new(config: BTreeMap<String, String>) -> Self {
        Self { version: 1, config }
    }

    /// Where the configs of an entity stand. The name may be any text.
    pub fn path(kind: ConfigKind, name: &str) -> String {
        format!("/config/{}/{}", kind.name(), entity_to_segment(name))
    }

    /// The value as written.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The value as read.
    pub fn decode(data: &[u8]) -> Result<Self, InvalidValue> {
        decode(data)
    }
}
