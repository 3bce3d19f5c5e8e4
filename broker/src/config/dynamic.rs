//! Changes of configs at run time, checked: what AlterConfigs, IncrementalAlterConfigs (KIP-339)
//! and the configs in CreateTopics come down to. The result is the whole new map of a topic's or a
//! broker's settings, or why there is none, in Kafka's words.

use std::collections::BTreeSet;

use super::broker::parse_ip_overrides;
use super::client_metrics;
use super::keys::{self, ConfigKey, ConfigType, Origin, Update, Value};
use super::{BrokerLayers, Overrides, topic_value};

mod reconfiguration;

pub use reconfiguration::check_reconfiguration;

/// What happens to a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterOp {
    /// It is set.
    Set = 0,
    /// It is set no longer.
    Delete = 1,
    /// Items are added to its list, but for those that are there.
    Append = 2,
    /// Items are taken off its list.
    Subtract = 3,
}

impl AlterOp {
    /// The operation of a number on the wire.
    pub fn from_code(code: i8) -> Option<Self> {
        [Self::Set, Self::Delete, Self::Append, Self::Subtract]
            .into_iter()
            .find(|op| *op as i8 == code)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    /// The key.
    pub name: String,
    /// What happens to it.
    pub op: AlterOp,
    /// The value or the items. Not looked at for [`AlterOp::Delete`].
    pub value: Option<String>,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Answered with INVALID_CONFIG.
    InvalidConfig(String),
    /// Answered with INVALID_REQUEST.
    InvalidRequest(String),
}

impl Refusal {
    /// What to tell the client.
    pub fn message(&self) -> &str {
        match self {
            Self::InvalidConfig(message) | Self::InvalidRequest(message) => message,
        }
    }
}

/// Which brokers a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerScope {
    /// One.
    One,
    /// All.
    All,
}

/// The settings of a topic after these changes.
pub fn alter_topic(
    current: &Overrides,
    changes: &[Alteration],
    layers: &BrokerLayers<'_>,
) -> Result<Overrides, Refusal> {
    let next = apply(current, changes, keys::topic_key)?;
    check_topic(&next, layers)?;
    Ok(next)
}

/// The settings of a topic that is given exactly these (AlterConfigs, CreateTopics).
pub fn replace_topic(
    entries: &[(String, Option<String>)],
    layers: &BrokerLayers<'_>,
) -> Result<Overrides, Refusal> {
    let next = collect(entries)?;
    check_topic(&next, layers)?;
    Ok(next)
}

/// The settings of a broker, or of all, after these changes.
pub fn alter_broker(
    scope: BrokerScope,
    current: &Overrides,
    changes: &[Alteration],
) -> Result<Overrides, Refusal> {
    let find = |name: &str| keys::broker_key(name).or_else(|| keys::listener_key(name));
    let next = apply(current, changes, find)?;
    check_broker(scope, &next)?;
    Ok(next)
}

/// The settings of a broker, or of all, that are given exactly these.
pub fn replace_broker(
    scope: BrokerScope,
    entries: &[(String, Option<String>)],
) -> Result<Overrides, Refusal> {
    let next = collect(entries)?;
    check_broker(scope, &next)?;
    Ok(next)
}

/// The settings of a group after these changes.
pub fn alter_group(
    current: &Overrides,
    changes: &[Alteration],
    layers: &BrokerLayers<'_>,
) -> Result<Overrides, Refusal> {
    let next = apply(current, changes, keys::group_key)?;
    check_group(&next, layers)?;
    Ok(next)
}

/// The settings of a group that is given exactly these.
pub fn replace_group(
    entries: &[(String, Option<String>)],
    layers: &BrokerLayers<'_>,
) -> Result<Overrides, Refusal> {
    let next = collect(entries)?;
    check_group(&next, layers)?;
    Ok(next)
}

/// The settings of a subscription to clients' metrics after these changes.
pub fn alter_client_metrics(
    current: &Overrides,
    changes: &[Alteration],
) -> Result<Overrides, Refusal> {
    // Kafka adds nothing to the lists of subscriptions either.
    let next = apply(current, changes, |_| None)?;
    client_metrics::check(&next)?;
    Ok(next)
}

/// The settings of a subscription to clients' metrics that is given exactly these.
pub fn replace_client_metrics(entries: &[(String, Option<String>)]) -> Result<Overrides, Refusal> {
    let next = collect(entries)?;
    client_metrics::check(&next)?;
    Ok(next)
}

/// Each has to lie between the least and the most that this broker allows.
fn check_group(group: &Overrides, layers: &BrokerLayers<'_>) -> Result<(), Refusal> {
    for (name, text) in group {
        let Some(key) = keys::group_key(name) else {
            return Err(Refusal::InvalidConfig(format!("Unknown group config name: {name}")));
        };
        let value = key.parse(text).map_err(Refusal::InvalidConfig)?;
        let bound = |which: &str| {
            let short = name.trim_start_matches("consumer.");
            let key = keys::broker_key(&format!("group.consumer.{which}.{short}"))?;
            match layers.value(key)? {
                Value::Integer(number) => Some(number),
                _ => None,
            }
        };
        if let (Value::Integer(value), Some(least), Some(most)) =
            (value, bound("min"), bound("max"))
            && !(least..=most).contains(&value)
        {
            return Err(Refusal::InvalidConfig(format!(
                "{name} must be in the range {least} to {most} inclusive."
            )));
        }
    }
    Ok(())
}

fn collect(entries: &[(String, Option<String>)]) -> Result<Overrides, Refusal> {
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    refuse_doubles(&names)?;
    let nulls: Vec<&str> = entries
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    refuse_nulls(&nulls)?;
    Ok(entries.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect())
}

fn refuse_doubles(names: &[&str]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    if names.iter().all(|name| seen.insert(name)) {
        return Ok(());
    }
    Err(Refusal::InvalidRequest("Error due to duplicate config keys".to_owned()))
}

fn refuse_nulls(names: &[&str]) -> Result<(), Refusal> {
    if names.is_empty() {
        return Ok(());
    }
    Err(Refusal::InvalidRequest(format!("Null value not supported for : {}", names.join(","))))
}

fn apply(
    current: &Overrides,
    changes: &[Alteration],
    find: impl Fn(&str) -> Option<&'static ConfigKey>,
) -> Result<Overrides, Refusal> {
    let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    refuse_doubles(&names)?;
    let is_null = |change: &&Alteration| change.op != AlterOp::Delete && change.value.is_none();
    let nulls: Vec<&str> =
        changes.iter().filter(is_null).map(|change| change.name.as_str()).collect();
    refuse_nulls(&nulls)?;

    let mut next = current.clone();
    for Alteration { name, op, value } in changes {
        let value = value.clone().unwrap_or_default();
        match op {
            AlterOp::Set => next.insert(name.clone(), value),
            AlterOp::Delete => next.remove(name),
            AlterOp::Append | AlterOp::Subtract => {
                let key = find(name);
                if key.is_none_or(|key| key.kind != ConfigType::List) {
                    return Err(Refusal::InvalidConfig(format!(
                        "Can't {} to key {name} because its type is not LIST.",
                        op.name()
                    )));
                }
                let base = next.get(name).map(String::as_str);
                let base = base.or(key.and_then(|key| key.default)).unwrap_or_default();
                let list = change_list(base, &value, *op);
                next.insert(name.clone(), list)
            }
        };
    }
    Ok(next)
}

fn change_list(base: &str, items: &str, op: AlterOp) -> String {
    let split = |text: &str| -> Vec<String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let mut list = split(base);
    for item in split(items) {
        match op {
            AlterOp::Append if !list.contains(&item) => list.push(item),
            AlterOp::Append => {}
            _ => list.retain(|other| *other != item),
        }
    }
    list.join(",")
}

/// Checks all settings of a topic.
pub fn check_topic(topic: &Overrides, layers: &BrokerLayers<'_>) -> Result<(), Refusal> {
    for (name, text) in topic {
        let Some(key) = keys::topic_key(name) else {
            return Err(Refusal::InvalidConfig(format!("Unknown topic config name: {name}")));
        };
        key.parse(text).map_err(Refusal::InvalidConfig)?;
    }
    let number =
        |name: &str| match keys::topic_key(name).and_then(|k| topic_value(k, topic, layers)) {
            Some(Value::Integer(number)) => number,
            _ => 0,
        };
    let (least, most) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if least > most {
        return Err(Refusal::InvalidConfig(format!(
            "conflict topic config setting min.compaction.lag.ms ({least}) > \
             max.compaction.lag.ms ({most})"
        )));
    }
    if topic
        .get("remote.storage.enable")
        .is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
    {
        let message = "Tiered Storage functionality is disabled in the broker. Topic cannot be \
                       configured with remote log storage.";
        return Err(Refusal::InvalidConfig(message.to_owned()));
    }
    Ok(())
}

fn check_broker(scope: BrokerScope, settings: &Overrides) -> Result<(), Refusal> {
    let mut read_only = Vec::new();
    let mut per_broker = Vec::new();
    let mut per_listener = Vec::new();
    for name in settings.keys() {
        let name = name.as_str();
        if let Some(key) = keys::listener_key(name) {
            match key.update {
                Update::ReadOnly => read_only.push(name),
                Update::PerBroker if scope == BrokerScope::All => per_broker.push(name),
                Update::PerBroker | Update::ClusterWide => {}
            }
            continue;
        }
        let Some(key) = keys::broker_key(name) else {
            return Err(Refusal::InvalidRequest(format!("Unknown broker config name: {name}")));
        };
        match key.update {
            Update::ReadOnly => read_only.push(name),
            _ if is_per_listener(name) => per_listener.push(name),
            Update::PerBroker if scope == BrokerScope::All => per_broker.push(name),
            _ if !changes_at_run_time(key) => read_only.push(name),
            Update::PerBroker | Update::ClusterWide => {}
        }
    }
    let refuse = |names: &[&str], why: &str| match names {
        [] => Ok(()),
        names => Err(Refusal::InvalidRequest(format!("{why}: [{}]", names.join(", ")))),
    };
    refuse(&read_only, "Cannot update these configs dynamically")?;
    refuse(
        &per_listener,
        "These security configs can be dynamically updated only per-listener using the listener \
         prefix",
    )?;
    let why = "Cannot update these configs at default cluster level, broker id must be specified";
    refuse(&per_broker, why)?;
    check_broker_values(settings)
}

/// Whether a running broker takes over another value. Kafka does so for more: it opens listeners
/// and loads Java classes. What security of listeners there is to set concerns none of ours, as in
/// Kafka it does not concern a listener without TLS.
fn changes_at_run_time(key: &ConfigKey) -> bool {
    const NOT_HERE: [&str; 5] = [
        "config.providers",
        "listener.security.protocol.map",
        "listeners",
        "metric.reporters",
        "principal.builder.class",
    ];
    key.update != Update::ReadOnly && !NOT_HERE.contains(&key.name)
}

/// Key and trust stores belong to one listener; without its prefix they would change all at once.
fn is_per_listener(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "ssl.key.password",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.key",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.keystore.type",
        "ssl.truststore.certificates",
        "ssl.truststore.location",
        "ssl.truststore.password",
        "ssl.truststore.type",
    ];
    NAMES.contains(&name)
}

fn check_broker_values(settings: &Overrides) -> Result<(), Refusal> {
    for (name, text) in settings {
        let key = keys::broker_key(name).or_else(|| keys::listener_key(name));
        let Some(key) = key else { continue };
        key.parse(text).map_err(Refusal::InvalidRequest)?;
        if key.name == "max.connections.per.ip.overrides" {
            parse_ip_overrides(text).map_err(Refusal::InvalidRequest)?;
        }
        if key.origin == Origin::KafkaInternal {
            let message = format!("Cannot update these configs dynamically: [{name}]");
            return Err(Refusal::InvalidRequest(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
