//! Settings: what there is to set, what it is set to, by whom, and how that changes at run time.
//!
//! A broker config is looked for in four layers (KIP-226): set at run time for this broker, set at
//! run time for all brokers, in this broker's file or flags, Kafka's default. A topic config is
//! looked for among the topic's own settings and then, under the broker's name for it, in those
//! four. All layers are plain maps, those that change at run time from the metadata image;
//! everything here is pure.
//!
//! - [`keys`]: the tables of all keys with their types, defaults, bounds and sentences
//! - [`topic`], [`broker`]: the values in force, typed, for those who act on them
//! - [`describe`]: every key with its value and where that comes from, for DescribeConfigs
//! - [`client_metrics`]: the configs of subscriptions to clients' metrics
//! - [`dynamic`]: changes at run time, checked
//! - [`quotas`]: what users, client ids and addresses are held to, and changes of it, checked

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::collections::BTreeMap;

pub mod broker;
pub mod client_metrics;
pub mod describe;
pub mod dynamic;
pub mod keys;
pub mod listeners;
pub mod quotas;
pub mod topic;

pub use broker::BrokerConfig;
pub use topic::TopicConfig;

use keys::{ConfigKey, Value};

/// What one layer sets: key → value.
pub type Overrides = BTreeMap<String, String>;

/// Where a value comes from, with the numbers that DescribeConfigs uses (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set for this topic.
    Topic = 1,
    /// Set at run time for this broker.
    DynamicBroker = 2,
    /// Set at run time for all brokers.
    DynamicDefaultBroker = 3,
    /// From the broker's file or flags.
    StaticBroker = 4,
    /// Set nowhere.
    Default = 5,
    /// Set for this subscription to clients' metrics.
    ClientMetrics = 7,
    /// Set for this group.
    Group = 8,
}

impl ConfigSource {
    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// What is set for a broker.
#[derive(Clone, Copy, Debug)]
pub struct BrokerLayers<'a> {
    /// At run time for this broker (`/config/brokers/<id>`).
    pub own: &'a Overrides,
    /// At run time for all brokers (`/config/brokers/<default>`).
    pub all: &'a Overrides,
    /// In the broker's file and flags ([`BrokerConfig::properties`]).
    pub file: &'a Overrides,
}

impl<'a> BrokerLayers<'a> {
    /// The layers with their sources, the strongest first.
    pub fn iter(&self) -> impl Iterator<Item = (ConfigSource, &'a Overrides)> + use<'a> {
        [
            (ConfigSource::DynamicBroker, self.own),
            (ConfigSource::DynamicDefaultBroker, self.all),
            (ConfigSource::StaticBroker, self.file),
        ]
        .into_iter()
    }

    /// The strongest good value that is set for a key, if any. A bad one, which can only have been
    /// written past the checks of [`dynamic`], is passed over.
    pub fn set_value(&self, key: &ConfigKey) -> Option<Value> {
        self.iter().find_map(|(_, layer)| key.parse(layer.get(key.name)?).ok())
    }

    /// The value in force: what is set or else the default. `None` where there is neither.
    pub fn value(&self, key: &ConfigKey) -> Option<Value> {
        self.set_value(key).or_else(|| key.parse(key.default?).ok())
    }

    /// The value in force of a topic config, for topics that do not set it.
    pub fn topic_default(&self, topic_key: &ConfigKey) -> Option<Value> {
        for name in keys::broker_synonyms_of_topic_key(topic_key.name) {
            let broker_key = keys::broker_key(name)?;
            if let Some(value) = self.set_value(broker_key) {
                return Some(to_unit_of_topic_key(name, topic_key.name, value));
            }
        }
        topic_key.parse(topic_key.default?).ok()
    }
}

/// Hours and minutes to the milliseconds in which topic configs count.
fn to_unit_of_topic_key(broker_name: &str, topic_name: &str, value: Value) -> Value {
    let Value::Integer(number) = value else { return value };
    let factor = match broker_name.rsplit('.').next() {
        Some("hours") => 60 * 60 * 1000,
        Some("minutes") => 60 * 1000,
        _ => 1,
    };
    if number < 0 && topic_name == "retention.ms" {
        // Whatever is negative means for ever, as in Kafka.
        return Value::Integer(-1);
    }
    Value::Integer(number.saturating_mul(factor))
}

/// The value in force of a topic config, from the topic's own settings and its broker's.
pub fn topic_value(key: &ConfigKey, topic: &Overrides, layers: &BrokerLayers<'_>) -> Option<Value> {
    let own = topic.get(key.name).and_then(|text| key.parse(text).ok());
    own.or_else(|| layers.topic_default(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(entries: &[(&str, &str)]) -> Overrides {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn retention(topic: &Overrides, layers: &BrokerLayers<'_>) -> String {
        let key = keys::topic_key("retention.ms").unwrap();
        topic_value(key, topic, layers).unwrap().to_text()
    }

    #[test]
    fn the_strongest_layer_wins() {
        let none = Overrides::new();
        let file = overrides(&[("log.retention.hours", "24")]);
        let all = overrides(&[("log.retention.ms", "3600000")]);
        let own = overrides(&[("log.retention.ms", "7200000")]);
        let topic = overrides(&[("retention.ms", "1000")]);

        let mut layers = BrokerLayers { own: &none, all: &none, file: &none };
        assert_eq!(retention(&none, &layers), "604800000");
        layers.file = &file;
        assert_eq!(retention(&none, &layers), "86400000");
        layers.all = &all;
        assert_eq!(retention(&none, &layers), "3600000");
        layers.own = &own;
        assert_eq!(retention(&none, &layers), "7200000");
        assert_eq!(retention(&topic, &layers), "1000");
    }

    #[test]
    fn milliseconds_go_before_minutes_and_minutes_before_hours() {
        let none = Overrides::new();
        let mut file = overrides(&[("log.retention.hours", "24"), ("log.retention.minutes", "99")]);
        let read =
            |file: &Overrides| retention(&none, &BrokerLayers { own: &none, all: &none, file });
        assert_eq!(read(&file), "5940000");
        file.insert("log.retention.minutes".to_owned(), "-7".to_owned());
        assert_eq!(read(&file), "-1");
        file.insert("log.retention.ms".to_owned(), "5".to_owned());
        assert_eq!(read(&file), "5");
    }

    #[test]
    fn a_topic_config_and_its_broker_config_have_one_default() {
        for topic in keys::topic_keys() {
            if let [broker] = keys::broker_synonyms_of_topic_key(topic.name) {
                let broker = keys::broker_key(broker).unwrap();
                assert_eq!((topic.default, topic.kind), (broker.default, broker.kind));
            }
        }
    }

    #[test]
    fn a_bad_value_is_passed_over() {
        let none = Overrides::new();
        let bad = overrides(&[("log.retention.ms", "soon")]);
        let all = overrides(&[("log.retention.ms", "9")]);
        let layers = BrokerLayers { own: &bad, all: &all, file: &none };
        assert_eq!(retention(&overrides(&[("retention.ms", "later")]), &layers), "9");
    }
}
