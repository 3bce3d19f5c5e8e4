//! Every config of a topic or a broker with its value, where that comes from and what it hides: the
//! content of DescribeConfigs (KIP-133, KIP-226, KIP-569).
//!
//! Tools read all configs, change some and write all back, so none may be missing, and sources have
//! to tell exactly what was set. What counts is what a real Kafka 4.4 answers:
//! `tests/compat/describe_configs` holds its answers, and a test here compares with them.

use std::collections::BTreeSet;

use super::keys::{self, ConfigKey, ConfigType, Origin, Update};
use super::{BrokerLayers, ConfigSource, Overrides, topic_value};

/// A config as DescribeConfigs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// The value in force; `None` if there is none or if it is a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can be changed only by a restart.
    pub read_only: bool,
    /// Whether the value is a secret.
    pub sensitive: bool,
    /// All that is set for the key under any of its names, the strongest first.
    pub synonyms: Vec<Synonym>,
    /// The type; `None` for keys that nobody knows.
    pub kind: Option<ConfigType>,
    /// What it is for.
    pub doc: Option<&'static str>,
}

impl ConfigEntry {
    /// The number of the type on the wire, 0 if unknown.
    pub fn type_code(&self) -> i8 {
        self.kind.map_or(0, ConfigType::code)
    }

    /// What DescribeConfigs before version 1 told instead of the source.
    pub fn is_default(&self) -> bool {
        self.source == ConfigSource::Default
    }
}

/// A value that is set for a config in one layer, under one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The name.
    pub name: String,
    /// The value as it was set; `None` if it is a secret.
    pub value: Option<String>,
    /// The layer.
    pub source: ConfigSource,
}

/// All configs of a topic, by name.
pub fn describe_topic(topic: &Overrides, layers: &BrokerLayers<'_>) -> Vec<ConfigEntry> {
    let mut keys: Vec<_> = keys::topic_keys()
        .filter(|key| key.is_always_listed() || topic.contains_key(key.name))
        .collect();
    keys.sort_unstable_by_key(|key| key.name);
    keys.into_iter().map(|key| describe_topic_key(key, topic, layers)).collect()
}

fn describe_topic_key(
    key: &ConfigKey,
    topic: &Overrides,
    layers: &BrokerLayers<'_>,
) -> ConfigEntry {
    let value = topic_value(key, topic, layers).map(|value| value.to_text());
    let mut synonyms = Vec::new();
    if topic.contains_key(key.name) {
        let name = key.name.to_owned();
        synonyms.push(Synonym { name, value: value.clone(), source: ConfigSource::Topic });
    }
    if let Some(name) = keys::broker_synonyms_of_topic_key(key.name).first() {
        synonyms.extend(broker_synonyms(name, layers));
    }
    ConfigEntry {
        name: key.name.to_owned(),
        value,
        source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
        read_only: false,
        sensitive: key.is_sensitive(),
        synonyms,
        kind: Some(key.kind),
        doc: Some(key.doc),
    }
}

/// All configs of a group, by name. What is not set for it is the broker's `group.` and the name.
pub fn describe_group(group: &Overrides, layers: &BrokerLayers<'_>) -> Vec<ConfigEntry> {
    let entries = keys::group_keys().map(|key| {
        let broker_name = format!("group.{}", key.name);
        let mut synonyms = Vec::new();
        if let Some(value) = group.get(key.name) {
            let (name, value) = (key.name.to_owned(), Some(value.clone()));
            synonyms.push(Synonym { name, value, source: ConfigSource::Group });
        }
        let value = group.get(key.name).cloned().or_else(|| broker_value(&broker_name, layers));
        synonyms.extend(broker_synonyms(&broker_name, layers));
        ConfigEntry {
            name: key.name.to_owned(),
            value,
            source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
            read_only: false,
            sensitive: key.is_sensitive(),
            synonyms,
            kind: Some(key.kind),
            doc: Some(key.doc),
        }
    });
    entries.collect()
}

/// All configs of a broker, by name: every key, and whatever else is set.
pub fn describe_broker(layers: &BrokerLayers<'_>) -> Vec<ConfigEntry> {
    let listed = keys::broker_keys().filter(|key| key.is_always_listed()).map(|key| key.name);
    let set = layers.iter().flat_map(|(_, layer)| layer.keys().map(String::as_str));
    let names: BTreeSet<&str> = listed.chain(set).collect();
    let entries = names.into_iter().map(|name| {
        let synonyms = broker_synonyms(name, layers);
        let value = broker_value(name, layers);
        describe_broker_key(name, value, synonyms)
    });
    entries.collect()
}

/// What is set at run time for all brokers, by name (the resource with the empty name).
pub fn describe_all_brokers(layers: &BrokerLayers<'_>) -> Vec<ConfigEntry> {
    let entries = layers.all.iter().map(|(name, value)| {
        let mut synonyms = broker_synonyms(name, layers);
        synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        describe_broker_key(name, Some(value.clone()), synonyms)
    });
    entries.collect()
}

fn describe_broker_key(name: &str, value: Option<String>, synonyms: Vec<Synonym>) -> ConfigEntry {
    let exact = keys::broker_key(name);
    let key = exact.or_else(|| keys::listener_key(name));
    let sensitive = key.is_none_or(ConfigKey::is_sensitive);
    ConfigEntry {
        name: name.to_owned(),
        value: value.filter(|_| !sensitive),
        source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
        read_only: exact.is_none_or(|key| key.update == Update::ReadOnly),
        sensitive,
        synonyms,
        kind: key.map(|key| key.kind),
        doc: exact.map(|key| key.doc),
    }
}

fn broker_value(name: &str, layers: &BrokerLayers<'_>) -> Option<String> {
    let raw = layers.iter().find_map(|(_, layer)| layer.get(name));
    match (keys::broker_key(name), raw) {
        (Some(key), Some(raw)) => Some(key.parse(raw).map_or(raw.clone(), |value| value.to_text())),
        (Some(key), None) => key.default.map(str::to_owned),
        (None, raw) => raw.cloned(),
    }
}

/// What is set for a broker config under all its names, the strongest first. Kafka leaves out
/// whatever is stronger than the first that bears the config's own name, even all of it if none
/// does: a `log.retention.hours` alone is not seen as a synonym of `log.retention.ms`.
fn broker_synonyms(name: &str, layers: &BrokerLayers<'_>) -> Vec<Synonym> {
    let base = keys::listener_key(name).map(|key| key.name);
    let this = [name];
    let names = match keys::broker_synonyms(name) {
        [] => this.as_slice(),
        names => names,
    };
    let names: Vec<&str> = names.iter().copied().chain(base).collect();
    let sensitive = keys::broker_key(name)
        .or_else(|| keys::listener_key(name))
        .is_none_or(ConfigKey::is_sensitive);
    let shown = |value: &str| (!sensitive).then(|| value.to_owned());

    let mut synonyms = Vec::new();
    for (source, layer) in layers.iter() {
        let set = names.iter().filter_map(|name| Some((name, layer.get(*name)?)));
        synonyms.extend(set.map(|(name, value)| Synonym {
            name: (*name).to_owned(),
            value: shown(value),
            source,
        }));
    }
    for key in names.iter().filter_map(|name| keys::broker_key(name)) {
        if let Some(default) = key.default.filter(|_| key.origin != Origin::RunTime) {
            let (name, value) = (key.name.to_owned(), shown(default));
            synonyms.push(Synonym { name, value, source: ConfigSource::Default });
        }
    }
    synonyms.into_iter().skip_while(|synonym| synonym.name != name).collect()
}

#[cfg(test)]
mod tests;
