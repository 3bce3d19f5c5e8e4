//! What a config key is, and the tables of all of them.
//!
//! The tables hold facts of Apache Kafka 4.4 (names, types, defaults, bounds, whether a key changes
//! at run time), asked of a running one; `tests/compat/describe_configs` compares them again. The
//! sentences are ours.

mod elsewhere;
mod group;
mod groups;
mod internal;
mod log;
mod own;
mod security;
mod server;
mod topic;
mod value;

pub use value::Value;

/// The type of a config's value, with the numbers that DescribeConfigs uses (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl ConfigType {
    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// The name that error messages give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// Which values of the type are good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    /// All.
    Any,
    /// Numbers from this on.
    AtLeast(i64),
    /// Numbers from the first to the second, both included.
    Between(i64, i64),
    /// Fractions from 0 to this.
    Fraction(f64),
    /// gzip's levels: 1 to 9, or -1 for its default.
    GzipLevel,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, whatever the case of the letters.
    OneOfIgnoreCase(&'static [&'static str]),
    /// A list of these words.
    ListOf(&'static [&'static str]),
    /// Anything but nothing.
    NonEmpty,
    /// `partition:broker` each, or `*`.
    ThrottledReplicas,
}

/// Whether and where a broker config changes at run time (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Only by a restart.
    ReadOnly,
    /// For single brokers.
    PerBroker,
    /// For single brokers, and for all at once.
    ClusterWide,
}

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Kafka's.
    Kafka,
    /// Kafka's, for its tests and inner affairs: described only where it is set.
    KafkaInternal,
    /// Kafka's, without a meaning here.
    KafkaOnly,
    /// Kafka's, set at run time only, described only where it is set.
    RunTime,
    /// Ours.
    Ottla,
}

/// A config key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigKey {
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: ConfigType,
    /// Its value where nobody sets one, as text.
    pub default: Option<&'static str>,
    /// Which values are good.
    pub valid: Valid,
    /// Whether it changes at run time. Topic configs always do.
    pub update: Update,
    /// Whose it is.
    pub origin: Origin,
    /// What it is for, in a sentence.
    pub doc: &'static str,
}

impl ConfigKey {
    /// Whether its value is a secret, never shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == ConfigType::Password
    }

    /// Whether DescribeConfigs shows it even where it is not set.
    pub fn is_always_listed(&self) -> bool {
        !matches!(self.origin, Origin::KafkaInternal | Origin::RunTime)
    }
}

/// Fills a table. One entry is
/// `Type "name" = default or null, which values are good, update: "doc";`.
macro_rules! config_keys {
    (
        $(#[$attribute:meta])*
        pub const $table:ident: $origin:ident;
        $($kind:ident $name:literal = $default:tt, $valid:expr, $update:ident: $doc:literal;)*
    ) => {
        $(#[$attribute])*
        pub const $table: &[super::ConfigKey] = &[$(
            super::ConfigKey {
                name: $name,
                kind: super::ConfigType::$kind,
                default: config_keys!(@default $default),
                valid: $valid,
                update: super::Update::$update,
                origin: super::Origin::$origin,
                doc: $doc,
            }
        ),*];
    };
    (@default null) => { None };
    (@default $text:literal) => { Some($text) };
}
use config_keys;

const BROKER_TABLES: [&[ConfigKey]; 8] = [
    server::SERVER,
    log::LOG,
    groups::GROUPS,
    security::SECURITY,
    elsewhere::ELSEWHERE,
    own::OWN,
    own::RUN_TIME,
    internal::INTERNAL,
];

const TOPIC_TABLES: [&[ConfigKey]; 3] = [topic::TOPIC, topic::TOPIC_OWN, topic::TOPIC_INTERNAL];

/// All broker configs.
pub fn broker_keys() -> impl Iterator<Item = &'static ConfigKey> {
    BROKER_TABLES.into_iter().flatten()
}

/// All topic configs.
pub fn topic_keys() -> impl Iterator<Item = &'static ConfigKey> {
    TOPIC_TABLES.into_iter().flatten()
}

/// The broker config of a name, without any listener prefix.
pub fn broker_key(name: &str) -> Option<&'static ConfigKey> {
    broker_keys().find(|key| key.name == name)
}

/// The topic config of a name.
pub fn topic_key(name: &str) -> Option<&'static ConfigKey> {
    topic_keys().find(|key| key.name == name)
}

/// All configs of groups.
pub fn group_keys() -> impl Iterator<Item = &'static ConfigKey> {
    group::GROUP.iter()
}

/// The group config of a name.
pub fn group_key(name: &str) -> Option<&'static ConfigKey> {
    group_keys().find(|key| key.name == name)
}

/// The key behind `listener.name.<listener>.<key>` or
/// `listener.name.<listener>.<mechanism>.<key>`, by which a security config is set for one listener
/// (KIP-103, KIP-226).
pub fn listener_key(name: &str) -> Option<&'static ConfigKey> {
    let rest = name.strip_prefix("listener.name.")?;
    let (_, mut key) = rest.split_once('.')?;
    loop {
        if let Some(found) = broker_key(key) {
            return Some(found);
        }
        (_, key) = key.split_once('.')?;
    }
}

/// The broker configs that a topic config falls back to, the strongest first. What they hold is in
/// the unit that their name ends with.
pub fn broker_synonyms_of_topic_key(name: &str) -> &'static [&'static str] {
    match name {
        "acks.all.durability" => &["acks.all.durability"],
        "cleanup.policy" => &["log.cleanup.policy"],
        "compression.gzip.level" => &["compression.gzip.level"],
        "compression.lz4.level" => &["compression.lz4.level"],
        "compression.type" => &["compression.type"],
        "compression.zstd.level" => &["compression.zstd.level"],
        "delete.retention.ms" => &["log.cleaner.delete.retention.ms"],
        "file.delete.delay.ms" => &["log.segment.delete.delay.ms"],
        "flush.messages" => &["log.flush.interval.messages"],
        "flush.ms" => broker_synonyms("log.flush.interval.ms"),
        "index.interval.bytes" => &["log.index.interval.bytes"],
        "local.retention.bytes" => &["log.local.retention.bytes"],
        "local.retention.ms" => &["log.local.retention.ms"],
        "max.compaction.lag.ms" => &["log.cleaner.max.compaction.lag.ms"],
        "max.decompressed.message.bytes" => &["max.decompressed.message.bytes"],
        "max.message.bytes" => &["message.max.bytes"],
        "message.timestamp.after.max.ms" => &["log.message.timestamp.after.max.ms"],
        "message.timestamp.before.max.ms" => &["log.message.timestamp.before.max.ms"],
        "message.timestamp.type" => &["log.message.timestamp.type"],
        "min.cleanable.dirty.ratio" => &["log.cleaner.min.cleanable.ratio"],
        "min.compaction.lag.ms" => &["log.cleaner.min.compaction.lag.ms"],
        "min.insync.replicas" => &["min.insync.replicas"],
        "preallocate" => &["log.preallocate"],
        "remote.copy.lag.bytes" => &["log.remote.copy.lag.bytes"],
        "remote.copy.lag.ms" => &["log.remote.copy.lag.ms"],
        "retention.bytes" => &["log.retention.bytes"],
        "retention.ms" => broker_synonyms("log.retention.ms"),
        "segment.bytes" => &["log.segment.bytes"],
        "segment.index.bytes" => &["log.index.size.max.bytes"],
        "segment.jitter.ms" => broker_synonyms("log.roll.jitter.ms"),
        "segment.ms" => broker_synonyms("log.roll.ms"),
        "unclean.leader.election.enable" => &["unclean.leader.election.enable"],
        _ => &[],
    }
}

/// The broker configs that say the same as this one, the strongest first, itself among them; empty
/// for those that have none.
pub fn broker_synonyms(name: &str) -> &'static [&'static str] {
    match name {
        "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" => {
            &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        }
        "log.roll.ms" | "log.roll.hours" => &["log.roll.ms", "log.roll.hours"],
        "log.roll.jitter.ms" | "log.roll.jitter.hours" => {
            &["log.roll.jitter.ms", "log.roll.jitter.hours"]
        }
        "log.flush.interval.ms" => &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_good() {
        for keys in [broker_keys().collect::<Vec<_>>(), topic_keys().collect()] {
            let mut names: Vec<_> = keys.iter().map(|key| key.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), keys.len());
            for key in keys {
                let default = key.default.map(|text| key.parse(text));
                assert!(!matches!(default, Some(Err(_))), "{}: {default:?}", key.name);
                assert!(key.doc.ends_with('.'), "{}: {}", key.name, key.doc);
            }
        }
    }

    #[test]
    fn synonyms_are_known() {
        for topic in topic_keys() {
            for name in broker_synonyms_of_topic_key(topic.name) {
                assert!(broker_key(name).is_some(), "{}: {name}", topic.name);
            }
        }
        for broker in broker_keys() {
            assert!(broker_synonyms(broker.name).iter().all(|name| broker_key(name).is_some()));
        }
    }

    #[test]
    fn keys_of_one_listener_are_found() {
        let name = |key| listener_key(key).map(|key| key.name);
        assert_eq!(name("listener.name.outside.ssl.key.password"), Some("ssl.key.password"));
        let jaas = "listener.name.outside.scram-sha-256.sasl.jaas.config";
        assert_eq!(name(jaas), Some("sasl.jaas.config"));
        assert_eq!(name("listener.name.outside.ssl.nonsense"), None);
        assert_eq!(name("ssl.key.password"), None);
    }
}
