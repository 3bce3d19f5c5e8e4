//! What stands where in the coordinator's tree: every path, and how every value is written and
//! read.
//!
//! The paths and the JSON values are those of Kafka's ZooKeeper mode, so that a person can read
//! them and tools that know that mode find what they look for; where Ottla keeps more, it adds
//! fields. Readers pass over fields that they do not know. Broker, CLI and the coordinator's Kafka
//! front end all read these same words.
//!
//! | path | type here |
//! |---|---|
//! | `/cluster/id` | [`ClusterId`] |
//! | `/cluster/inter_broker_secret` | [`InterBrokerSecret`] |
//! | `/brokers/ids/<id>` | [`BrokerRegistration`] |
//! | `/brokers/directories/<id>` | [`BrokerDirectories`] |
//! | `/brokers/topics/<topic>` | [`TopicAssignment`] |
//! | `/brokers/topics/<topic>/partitions/<n>/state` | [`PartitionState`] |
//! | `/controller` | [`ControllerRegistration`] |
//! | `/controller_epoch` | [`ControllerEpoch`] |
//! | `/config/<kind>/<name>` | [`ConfigOverrides`] |
//! | `/config/users/<user>/clients/<client id>` | [`ConfigOverrides`], see [`QuotaEntity`] |
//! | `/deleted_topics/<topic id>` | [`DeletedTopic`] |
//! | `/latest_producer_id_block` | [`ProducerIdBlock`] |
//! | `/features` | [`FinalizedFeatures`] |
//!
//! [`TreePath::parse`] tells which of them a path is.

mod configs;
mod quotas;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::types::{BrokerId, TopicId, Uuid};
pub use configs::{ConfigKind, ConfigOverrides};
pub use quotas::QuotaEntity;

/// The nodes without values of their own that everything else stands below, parents first. Whoever
/// comes first makes them.
pub const PARENT_PATHS: [&str; 14] = [
    "/cluster",
    "/brokers",
    "/brokers/directories",
    "/brokers/ids",
    "/brokers/topics",
    "/config",
    "/config/topics",
    "/config/brokers",
    "/config/users",
    "/config/clients",
    "/config/ips",
    "/config/groups",
    "/config/client-metrics",
    "/deleted_topics",
];

/// The name under which the defaults of all entities of a kind stand in `/config/<kind>`.
pub const DEFAULT_ENTITY: &str = "<default>";

/// A value in the tree that is not what stands at its path.
#[derive(Debug, thiserror::Error)]
pub enum InvalidValue {
    /// It is not the JSON that was expected.
    #[error("not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is, but it makes no sense.
    #[error("{0}")]
    Meaning(String),
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // These values are structs, strings, integers and maps with string or integer keys.
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("encode a tree value: {error}"))
}

fn decode<T: DeserializeOwned>(data: &[u8]) -> Result<T, InvalidValue> {
    Ok(serde_json::from_slice(data)?)
}

fn meaning<T>(text: impl Into<String>) -> Result<T, InvalidValue> {
    Err(InvalidValue::Meaning(text.into()))
}

/// The identity of the cluster, chosen by the first broker that comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterId {
    /// The format of the value: `"1"`.
    version: String,
    /// The identity; Kafka takes any text, Ottla makes base64 of a uuid.
    pub id: String,
}

impl ClusterId {
    /// Where it stands.
    pub const PATH: &str = "/cluster/id";

    /// The identity `id`.
    pub fn new(id: impl Into<String>) -> Self {
        Self { version: "1".to_owned(), id: id.into() }
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

/// What the brokers prove to each other to know, chosen by the first of them. Whoever can read it
/// here can write everything else here too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterBrokerSecret {
    /// The format of the value.
    version: i32,
    /// 32 random bytes in base64.
    secret: String,
}

impl InterBrokerSecret {
    /// Where it stands.
    pub const PATH: &str = "/cluster/inter_broker_secret";

    /// The secret `bytes`.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self { version: 1, secret: BASE64.encode(bytes) }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Result<[u8; 32], InvalidValue> {
        let bytes = BASE64.decode(&self.secret).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map_or_else(|| meaning("not 32 bytes in base64"), Ok)
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

/// Where clients reach a broker under one of its listeners' names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The listener's name (`PLAINTEXT`, `INTERNAL`, …).
    pub listener: String,
    /// The name or address to connect to. IPv6 addresses stand here without brackets.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub security_protocol: String,
}

/// A broker that is there. The node is ephemeral; its czxid is the broker's `broker_epoch`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// How clients reach it, per listener.
    pub endpoints: Vec<Endpoint>,
    /// Where it stands (`broker.rack`).
    pub rack: Option<String>,
    /// The features that it supports: name → lowest and highest level.
    pub features: BTreeMap<String, SupportedFeature>,
    /// Whether it is about to leave: the controller moves leaders away and elects it no more.
    pub shutting_down: bool,
    /// When it registered, milliseconds since 1970; for people.
    pub registered_at_ms: i64,
}

/// The log directories that a broker had when it started last. One that is missing at the next
/// start was lost, with everything that the broker's place in an ISR promises of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerDirectories {
    /// The format of the value.
    version: i32,
    /// The directories' ids.
    pub directories: BTreeSet<Uuid>,
}

impl BrokerDirectories {
    /// The directories `directories`.
    pub fn new(directories: BTreeSet<Uuid>) -> Self {
        Self { version: 1, directories }
    }

    /// Where those of a broker stand.
    pub fn path(broker_id: BrokerId) -> String {
        format!("/brokers/directories/{broker_id}")
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

/// The levels of a feature that a broker supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportedFeature {
    /// The lowest.
    pub min_version: i16,
    /// The highest.
    pub max_version: i16,
}

/// [`BrokerRegistration`] in Kafka's words.
#[derive(Serialize, Deserialize)]
struct BrokerJson {
    version: i32,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    port: i32,
    #[serde(default)]
    jmx_port: i32,
    #[serde(default)]
    timestamp: String,
    endpoints: Vec<String>,
    #[serde(default)]
    listener_security_protocol_map: BTreeMap<String, String>,
    #[serde(default)]
    rack: Option<String>,
    #[serde(default)]
    features: BTreeMap<String, SupportedFeature>,
    #[serde(default)]
    shutting_down: bool,
}

impl BrokerRegistration {
    /// Below which all brokers stand.
    pub const PARENT: &str = "/brokers/ids";

    /// Where a broker stands.
    pub fn path(broker_id: BrokerId) -> String {
        format!("{}/{broker_id}", Self::PARENT)
    }

    /// The value as written.
    pub fn encode(&self) -> Vec<u8> {
        let plaintext = self.endpoints.iter().find(|end| end.security_protocol == "PLAINTEXT");
        let protocols = self.endpoints.iter();
        encode(&BrokerJson {
            version: 5,
            host: plaintext.map(|end| end.host.clone()),
            port: plaintext.map_or(-1, |end| i32::from(end.port)),
            jmx_port: -1,
            timestamp: self.registered_at_ms.to_string(),
            endpoints: self.endpoints.iter().map(endpoint_text).collect(),
            listener_security_protocol_map: protocols
                .map(|end| (end.listener.clone(), end.security_protocol.clone()))
                .collect(),
            rack: self.rack.clone(),
            features: self.features.clone(),
            shutting_down: self.shutting_down,
        })
    }

    /// The value as read.
    pub fn decode(data: &[u8]) -> Result<Self, InvalidValue> {
        let json: BrokerJson = decode(data)?;
        let protocols = &json.listener_security_protocol_map;
        let endpoints = json.endpoints.iter().map(|text| parse_endpoint(text, protocols));
        Ok(Self {
            endpoints: endpoints.collect::<Result<_, _>>()?,
            rack: json.rack,
            features: json.features,
            shutting_down: json.shutting_down,
            registered_at_ms: json.timestamp.parse().unwrap_or(0),
        })
    }
}

/// `LISTENER://host:port`, the host in brackets if it is an IPv6 address.
fn endpoint_text(endpoint: &Endpoint) -> String {
    let Endpoint { listener, host, port, .. } = endpoint;
    if host.contains(':') {
        format!("{listener}://[{host}]:{port}")
    } else {
        format!("{listener}://{host}:{port}")
    }
}

fn parse_endpoint(
    text: &str,
    protocols: &BTreeMap<String, String>,
) -> Result<Endpoint, InvalidValue> {
    let parts = text.split_once("://").and_then(|(listener, address)| {
        let (host, port) = address.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Some((listener, host, port.parse().ok()?))
    });
    let Some((listener, host, port)) = parts else {
        return meaning(format!("not an endpoint LISTENER://host:port: {text:?}"));
    };
    Ok(Endpoint {
        listener: listener.to_owned(),
        host: host.to_owned(),
        port,
        security_protocol: protocols.get(listener).map_or(listener, String::as_str).to_owned(),
    })
}

/// Which brokers hold the replicas of a topic's partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicAssignment {
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The partitions; the index is the partition's number.
    pub partitions: Vec<PartitionAssignment>,
}

/// Which brokers hold the replicas of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionAssignment {
    /// All of them, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those among them that a reassignment under way adds.
    pub adding: Vec<BrokerId>,
    /// Those among them that it will remove.
    pub removing: Vec<BrokerId>,
}

/// [`TopicAssignment`] in Kafka's words.
#[derive(Serialize, Deserialize)]
struct TopicJson {
    version: i32,
    topic_id: Uuid,
    partitions: BTreeMap<i32, Vec<BrokerId>>,
    #[serde(default)]
    adding_replicas: BTreeMap<i32, Vec<BrokerId>>,
    #[serde(default)]
    removing_replicas: BTreeMap<i32, Vec<BrokerId>>,
}

impl TopicAssignment {
    /// Below which all topics stand.
    pub const PARENT: &str = "/brokers/topics";

    /// Where a topic stands.
    pub fn path(topic: &str) -> String {
        format!("{}/{topic}", Self::PARENT)
    }

    /// Below which a topic's partitions stand.
    pub fn partitions_path(topic: &str) -> String {
        format!("{}/{topic}/partitions", Self::PARENT)
    }

    /// The value as written.
    pub fn encode(&self) -> Vec<u8> {
        let numbered = || (0_i32..).zip(&self.partitions);
        let some = |part: fn(&PartitionAssignment) -> &Vec<BrokerId>| {
            let parts = numbered().map(|(number, partition)| (number, part(partition).clone()));
            parts.filter(|(_, replicas)| !replicas.is_empty()).collect()
        };
        encode(&TopicJson {
            version: 3,
            topic_id: self.topic_id,
            partitions: numbered().map(|(number, part)| (number, part.replicas.clone())).collect(),
            adding_replicas: some(|partition| &partition.adding),
            removing_replicas: some(|partition| &partition.removing),
        })
    }

    /// The value as read. Partitions must be numbered from 0 without a gap.
    pub fn decode(data: &[u8]) -> Result<Self, InvalidValue> {
        let mut json: TopicJson = decode(data)?;
        let mut partitions = Vec::new();
        for (expected, (number, replicas)) in (0_i32..).zip(json.partitions) {
            if number != expected {
                return meaning(format!("partition {expected} is missing"));
            }
            partitions.push(PartitionAssignment {
                replicas,
                adding: json.adding_replicas.remove(&number).unwrap_or_default(),
                removing: json.removing_replicas.remove(&number).unwrap_or_default(),
            });
        }
        Ok(Self { topic_id: json.topic_id, partitions })
    }
}

/// Who leads a partition and who is in sync: **the** record of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// The leader, if one could be elected.
    pub leader: Option<BrokerId>,
    /// One more with every leader and every time that there is none.
    pub leader_epoch: i32,
    /// The replicas in sync.
    pub isr: Vec<BrokerId>,
    /// Which controller wrote this last.
    pub controller_epoch: i32,
    /// Replicas out of the ISR that have all that was acknowledged (KIP-966).
    pub elr: Vec<BrokerId>,
}

/// [`PartitionState`] in Kafka's words.
#[derive(Serialize, Deserialize)]
struct PartitionStateJson {
    version: i32,
    leader: i32,
    leader_epoch: i32,
    isr: Vec<BrokerId>,
    controller_epoch: i32,
    #[serde(default)]
    elr: Vec<BrokerId>,
}

impl PartitionState {
    /// Where a partition's state stands.
    pub fn path(topic: &str, partition: i32) -> String {
        format!("{}/state", Self::partition_path(topic, partition))
    }

    /// The node above the state; it has no value.
    pub fn partition_path(topic: &str, partition: i32) -> String {
        format!("{}/{topic}/partitions/{partition}", TopicAssignment::PARENT)
    }

    /// The value as written.
    pub fn encode(&self) -> Vec<u8> {
        encode(&PartitionStateJson {
            version: 1,
            leader: self.leader.map_or(-1, |leader| leader.0),
            leader_epoch: self.leader_epoch,
            isr: self.isr.clone(),
            controller_epoch: self.controller_epoch,
            elr: self.elr.clone(),
        })
    }

    /// The value as read.
    pub fn decode(data: &[u8]) -> Result<Self, InvalidValue> {
        let json: PartitionStateJson = decode(data)?;
        Ok(Self {
            leader: (json.leader >= 0).then_some(BrokerId(json.leader)),
            leader_epoch: json.leader_epoch,
            isr: json.isr,
            controller_epoch: json.controller_epoch,
            elr: json.elr,
        })
    }
}

/// Who is the controller. The node is ephemeral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerRegistration {
    /// The broker.
    pub broker_id: BrokerId,
    /// Since when, milliseconds since 1970; for people.
    pub since_ms: i64,
}

/// [`ControllerRegistration`] in Kafka's words.
#[derive(Serialize, Deserialize)]
struct ControllerJson {
    version: i32,
    brokerid: BrokerId,
    #[serde(default)]
    timestamp: String,
}

impl ControllerRegistration {
    /// Where it stands.
    pub const PATH: &str = "/controller";

    /// The value as written.
    pub fn encode(&self) -> Vec<u8> {
        encode(&ControllerJson {
            version: 1,
            brokerid: self.broker_id,
            timestamp: self.since_ms.to_string(),
        })
    }

    /// The value as read.
    pub fn decode(data: &[u8]) -> Result<Self, InvalidValue> {
        let json: ControllerJson = decode(data)?;
        Ok(Self { broker_id: json.brokerid, since_ms: json.timestamp.parse().unwrap_or(0) })
    }
}

/// How many controllers there have been: each adds one, and checks the node's version with
/// everything that it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControllerEpoch(pub i32);

impl ControllerEpoch {
    /// Where it stands.
    pub const PATH: &str = "/controller_epoch";

    /// The value as written: the bare number.
    pub fn encode(self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    /// The value as read.
    pub fn decode(data: &[u8]) -> Result<Self, InvalidValue> {
        decode(data).map(Self)
    }
}

/// An entity's name as it stands in a path: what a path cannot hold is percent-encoded, as Kafka's
/// `Sanitizer` does; [`DEFAULT_ENTITY`] stays.
pub fn entity_to_segment(name: &str) -> String {
    if name == DEFAULT_ENTITY {
        return name.to_owned();
    }
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            // Two names that would be a whole segment by themselves are none in a path.
            b'.' if name == "." || name == ".." => segment.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                segment.push(char::from(byte));
            }
            _ => {
                let _ = write!(segment, "%{byte:02X}");
            }
        }
    }
    segment
}

/// The name that [`entity_to_segment`] made a segment of.
pub fn entity_from_segment(segment: &str) -> Option<String> {
    let mut name = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        name.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(name).ok()
}

/// A topic that was deleted and whose logs have not all been dropped yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// The format of the value.
    version: i32,
    /// The name that it had.
    pub name: String,
    /// The brokers that have still to drop their logs of it.
    pub pending: BTreeSet<BrokerId>,
}

impl DeletedTopic {
    /// Below which all tombstones stand.
    pub const PARENT: &str = "/deleted_topics";

    /// A tombstone for `name`, whose logs `pending` have to drop.
    pub fn new(name: impl Into<String>, pending: BTreeSet<BrokerId>) -> Self {
        Self { version: 1, name: name.into(), pending }
    }

    /// Where the tombstone of a topic stands.
    pub fn path(topic_id: TopicId) -> String {
        format!("{}/{topic_id}", Self::PARENT)
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

/// The block of producer ids that was given out last. The next one begins behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// Who took it.
    pub broker_id: BrokerId,
    /// Its first id.
    pub first: i64,
    /// Its last id.
    pub last: i64,
}

/// [`ProducerIdBlock`] in Kafka's words, which has the numbers as text.
#[derive(Serialize, Deserialize)]
struct ProducerIdBlockJson {
    version: i32,
    broker: BrokerId,
    block_start: String,
    block_end: String,
}

impl ProducerIdBlock {
    /// Where it stands.
    pub const PATH: &str = "/latest_producer_id_block";

    /// The value as written.
    pub fn encode(&self) -> Vec<u8> {
        encode(&ProducerIdBlockJson {
            version: 1,
            broker: self.broker_id,
            block_start: self.first.to_string(),
            block_end: self.last.to_string(),
        })
    }

    /// The value as read.
    pub fn decode(data: &[u8]) -> Result<Self, InvalidValue> {
        let json: ProducerIdBlockJson = decode(data)?;
        match (json.block_start.parse(), json.block_end.parse()) {
            (Ok(first), Ok(last)) if first >= 0 && first <= last => {
                Ok(Self { broker_id: json.broker, first, last })
            }
            _ => meaning(format!("not a block: {} to {}", json.block_start, json.block_end)),
        }
    }
}

/// The levels of the features that all brokers have agreed on (KIP-584).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizedFeatures {
    /// The format of the value.
    version: i32,
    /// Name → level in force.
    pub features: BTreeMap<String, i16>,
}

impl FinalizedFeatures {
    /// Where it stands.
    pub const PATH: &str = "/features";

    /// The levels `features`.
    pub fn new(features: BTreeMap<String, i16>) -> Self {
        Self { version: 1, features }
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

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreePath {
    /// [`ClusterId`].
    ClusterId,
    /// [`BrokerRegistration`].
    Broker(BrokerId),
    /// [`TopicAssignment`].
    Topic(String),
    /// [`PartitionState`].
    PartitionState {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
    },
    /// [`ControllerRegistration`].
    Controller,
    /// [`ControllerEpoch`].
    ControllerEpoch,
    /// [`ConfigOverrides`].
    Config {
        /// What the entity is.
        kind: ConfigKind,
        /// The entity's name, or [`DEFAULT_ENTITY`].
        name: String,
    },
    /// The [`ConfigOverrides`] of a client id of a user.
    UserClientConfig {
        /// The user's name, or [`DEFAULT_ENTITY`].
        user: String,
        /// The client id, or [`DEFAULT_ENTITY`].
        client_id: String,
    },
    /// [`DeletedTopic`].
    DeletedTopic(TopicId),
    /// [`ProducerIdBlock`].
    ProducerIdBlock,
    /// [`FinalizedFeatures`].
    Features,
}

impl TreePath {
    /// What stands at `path`; none if it is a mere parent, or nothing of ours.
    pub fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let mut at = [""; 6];
        for place in &mut at {
            *place = segments.next().unwrap_or_default();
        }
        if segments.next().is_some() {
            return None;
        }
        match at {
            ["cluster", "id", "", ..] => Some(Self::ClusterId),
            ["brokers", "ids", id, "", ..] => id.parse().ok().map(|id| Self::Broker(BrokerId(id))),
            ["brokers", "topics", topic, "", ..] if !topic.is_empty() => {
                Some(Self::Topic(topic.to_owned()))
            }
            ["brokers", "topics", topic, "partitions", number, "state"] => {
                let partition = number.parse().ok()?;
                Some(Self::PartitionState { topic: topic.to_owned(), partition })
            }
            ["controller", "", ..] => Some(Self::Controller),
            ["controller_epoch", "", ..] => Some(Self::ControllerEpoch),
            ["config", kind, name, "", ..] if !name.is_empty() => {
                let kind = ConfigKind::ALL.into_iter().find(|known| known.name() == kind)?;
                Some(Self::Config { kind, name: entity_from_segment(name)? })
            }
            ["config", "users", user, "clients", client_id, ""]
                if !user.is_empty() && !client_id.is_empty() =>
            {
                let user = entity_from_segment(user)?;
                Some(Self::UserClientConfig { user, client_id: entity_from_segment(client_id)? })
            }
            ["deleted_topics", id, "", ..] => id.parse().ok().map(Self::DeletedTopic),
            ["latest_producer_id_block", "", ..] => Some(Self::ProducerIdBlock),
            ["features", "", ..] => Some(Self::Features),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
