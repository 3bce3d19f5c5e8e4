//! What has to hold among the settings that a broker is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ottla_common::cluster_tree::Endpoint;
use ottla_common::config::{ConfigError, Settings};

use super::{BrokerConfig, Problem, Read, keys, listeners};
use crate::config::keys::Origin;

/// Prefixes whose rest is for Java plugins; read and kept, without a meaning here.
const PLUGIN_PREFIXES: [&str; 3] = ["rsm.config.", "rlmm.config.", "config.providers."];

/// Keys that older Kafkas had and people still write, with what to write instead.
const GONE: [(&str, &str); 10] = [
    ("zookeeper.connect", "; write coordinator.connect"),
    ("zookeeper.connection.timeout.ms", "; write coordinator.connection.timeout.ms"),
    ("zookeeper.session.timeout.ms", "; write coordinator.session.timeout.ms"),
    ("port", "; write listeners"),
    ("host.name", "; write listeners"),
    ("advertised.host.name", "; write advertised.listeners"),
    ("advertised.port", "; write advertised.listeners"),
    ("log.message.format.version", "; Kafka 4 has it no more, leave it out"),
    ("inter.broker.protocol.version", "; Kafka 4 has it no more, leave it out"),
    (
        "log.message.timestamp.difference.max.ms",
        "; write log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms",
    ),
];

/// Checks every key and value for itself. Answers with what to warn of.
pub(super) fn check_settings(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    for (key, setting) in settings.iter() {
        if let Some((_, hint)) = GONE.iter().find(|(gone, _)| *gone == key) {
            let (place, key, hint) = (setting.place.clone(), key.to_owned(), (*hint).to_owned());
            return Err(ConfigError::UnknownKey { place, key, hint });
        }
    }
    let is_plugins = |key: &str| PLUGIN_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    let find = |key: &str| keys::broker_key(key).or_else(|| keys::listener_key(key));
    let is_known = |key: &str| is_plugins(key) || find(key).is_some();
    settings.check_keys(is_known, keys::broker_keys().map(|key| key.name))?;

    let mut warnings = Vec::new();
    for (name, setting) in settings.iter() {
        match find(name) {
            Some(key) if key.name == "process.roles" => {
                check_roles(&setting.value).map_err(|problem| problem.at(settings))?
            }
            Some(key) if matches!(key.origin, Origin::Kafka | Origin::Ottla) => {}
            Some(key) if key.name == "log.initial.task.delay.ms" => {}
            Some(key) if key.name == "producer.id.expiration.check.interval.ms" => {}
            _ => warnings.push(format!("{}: {name} has no meaning here", setting.place)),
        }
        if let Some(Err(reason)) = find(name).map(|key| key.parse(&setting.value)) {
            return Err(ConfigError::Malformed { place: setting.place.clone(), reason });
        }
    }
    Ok(warnings)
}

/// A file of KRaft's may be used if it is a broker's.
fn check_roles(value: &str) -> Result<(), Problem> {
    if value.split(',').any(|role| role.trim() == "broker") {
        return Ok(());
    }
    let reason = "this is a broker; what KRaft's controllers do is the coordinators' work here";
    Err(Problem::new("process.roles", reason))
}

pub(super) fn broker_id(read: &Read<'_>) -> Result<i32, Problem> {
    let id =
        |name| read.optional(name).and_then(|id| id.parse::<i32>().ok()).filter(|id| *id != -1);
    match (id("node.id"), id("broker.id")) {
        (Some(node), Some(broker)) if node != broker => {
            Err(Problem::new("broker.id", format!("is not the same as node.id, {node}")))
        }
        (Some(id), _) | (None, Some(id)) if id >= 0 => Ok(id),
        (None, None) => {
            Err(Problem::new("node.id", "must be set, to a number of each broker's own"))
        }
        _ => Err(Problem::new("broker.id", "must not be negative")),
    }
}

/// The listeners of this broker, without those of KRaft's controllers, and the advertised ones.
pub(super) fn read_listeners(
    read: &Read<'_>,
    mut protocols: BTreeMap<String, String>,
) -> Result<(Vec<Endpoint>, Vec<Endpoint>), Problem> {
    let controllers = read.list("controller.listener.names");
    let is_controllers =
        |end: &Endpoint| controllers.iter().any(|name| name.eq_ignore_ascii_case(&end.listener));
    for name in &controllers {
        protocols.entry(name.to_ascii_uppercase()).or_insert_with(|| "PLAINTEXT".to_owned());
    }
    let mut all = listeners::parse_listeners(&read.text("listeners"), &protocols)
        .map_err(|reason| Problem::new("listeners", reason))?;
    all.retain(|end| !is_controllers(end));
    if all.is_empty() {
        return Err(Problem::new(
            "listeners",
            "all of them are named in controller.listener.names",
        ));
    }
    let Some(advertised) = read.optional("advertised.listeners") else {
        return Ok((all, Vec::new()));
    };
    let problem = |reason| Problem::new("advertised.listeners", reason);
    let mut advertised = listeners::parse_listeners(&advertised, &protocols).map_err(problem)?;
    advertised.retain(|end| !is_controllers(end));
    for end in &advertised {
        if !all.iter().any(|listener| listener.listener == end.listener) {
            return Err(problem(format!("there is no listener {}", end.listener)));
        }
        if listeners::is_any_host(&end.host) && !end.host.is_empty() {
            return Err(problem(format!("nobody can connect to {}", end.host)));
        }
    }
    Ok((all, advertised))
}

pub(super) fn inter_broker_listener(
    read: &Read<'_>,
    listeners: &[Endpoint],
) -> Result<String, Problem> {
    if let Some(name) = read.optional("inter.broker.listener.name") {
        let name = name.to_ascii_uppercase();
        if listeners.iter().any(|end| end.listener == name) {
            return Ok(name);
        }
        let reason = format!("there is no listener {name}");
        return Err(Problem::new("inter.broker.listener.name", reason));
    }
    let protocol = read.text("security.inter.broker.protocol");
    let by_protocol = listeners.iter().find(|end| end.security_protocol == protocol);
    by_protocol.map(|end| end.listener.clone()).ok_or_else(|| {
        let reason = format!("no listener speaks {protocol}, in which brokers are to talk");
        Problem::new("security.inter.broker.protocol", reason)
    })
}

/// Kafka's default, a folder under `/tmp`, is not taken: data must not be lost to a reboot because
/// nobody said where it belongs.
pub(super) fn log_dirs(read: &Read<'_>) -> Result<Vec<PathBuf>, Problem> {
    let is_set = |name: &str| read.layers.iter().any(|(_, layer)| layer.contains_key(name));
    let mut dirs = read.list("log.dirs");
    if dirs.is_empty() && is_set("log.dir") {
        dirs = read.list("log.dir");
    }
    if dirs.is_empty() {
        return Err(Problem::new("log.dirs", "must be set, to where the data is to be kept"));
    }
    for (index, dir) in dirs.iter().enumerate() {
        if dirs.iter().take(index).any(|other| other == dir) {
            return Err(Problem::new("log.dirs", format!("{dir} stands twice")));
        }
    }
    Ok(dirs.into_iter().map(PathBuf::from).collect())
}

pub(super) fn replication_factor(read: &Read<'_>) -> Result<i16, Problem> {
    let factor = read.i64("default.replication.factor");
    i16::try_from(factor).ok().filter(|factor| *factor > 0).ok_or_else(|| {
        Problem::new("default.replication.factor", format!("{factor} replicas cannot be"))
    })
}

pub(super) fn ip_overrides(read: &Read<'_>) -> Result<BTreeMap<String, u32>, Problem> {
    let text = read.text("max.connections.per.ip.overrides");
    parse_ip_overrides(&text)
        .map_err(|reason| Problem::new("max.connections.per.ip.overrides", reason))
}

/// `host:count,…` as a map.
pub(in crate::config) fn parse_ip_overrides(text: &str) -> Result<BTreeMap<String, u32>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let parse = |entry: &str| {
        let (host, count) = entry.rsplit_once(':')?;
        Some((host.trim().to_owned(), count.trim().parse().ok()?))
    };
    let parse = |entry| parse(entry).ok_or_else(|| format!("{entry:?} is not host:count"));
    entries.map(parse).collect()
}

/// Relations between values, Kafka's and ours.
pub(super) fn check_relations(config: &BrokerConfig) -> Result<(), Problem> {
    let BrokerConfig { network, replication, coordinator, .. } = config;
    if let Some(queued) = network.queued_max_request_bytes
        && queued < u64::from(network.socket_request_max_bytes)
    {
        let reason = "must be at least socket.request.max.bytes, or a large request never fits";
        return Err(Problem::new("queued.max.request.bytes", reason));
    }
    let wait_ms = u64::try_from(replication.replica_fetch_wait_max_ms).unwrap_or(0);
    if wait_ms > replication.replica_lag_time_max_ms {
        let reason = "must be at most replica.lag.time.max.ms, or quiet followers leave the \
                      in-sync replicas again and again";
        return Err(Problem::new("replica.fetch.wait.max.ms", reason));
    }
    for address in &coordinator.addresses {
        let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            let reason = format!("{address:?} is not host:port");
            return Err(Problem::new("coordinator.connect", reason));
        }
    }
    Ok(())
}
