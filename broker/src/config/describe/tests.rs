//! Compared, line by line, with what a real Kafka 4.4.0 answered in the same states.

use std::collections::BTreeMap;

use super::*;
use crate::config::BrokerConfig;
use crate::config::dynamic::{AlterOp, Alteration, BrokerScope, alter_broker, alter_topic};

/// What `tests/compat/describe_configs/DescribeConfigs.java` wrote.
const ANSWERS: &str = include_str!("../../../../tests/compat/describe_configs/kafka-4.4.0.tsv");

/// Section and key → the other columns.
type Lines = BTreeMap<(String, String), String>;

fn kafkas_answers() -> Lines {
    let split = |line: &str| {
        let (section, rest) = line.split_once('\t').unwrap();
        let (key, rest) = rest.split_once('\t').unwrap();
        ((section.to_owned(), key.to_owned()), rest.to_owned())
    };
    ANSWERS.lines().map(split).collect()
}

fn source_name(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
        ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
        ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
    }
}

fn add(lines: &mut Lines, section: &str, entries: Vec<ConfigEntry>) {
    let or_null = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    for entry in entries {
        let synonyms: Vec<String> = entry
            .synonyms
            .iter()
            .map(|s| format!("{}={}@{}", s.name, or_null(&s.value), source_name(s.source)))
            .collect();
        let line = [
            or_null(&entry.value),
            source_name(entry.source).to_owned(),
            entry.kind.map_or("UNKNOWN", ConfigType::name).to_owned(),
            entry.read_only.to_string(),
            entry.sensitive.to_string(),
            synonyms.join(" ; "),
        ];
        lines.insert((section.to_owned(), entry.name), line.join("\t"));
    }
}

fn change(op: AlterOp, name: &str, value: &str) -> Alteration {
    Alteration { name: name.to_owned(), op, value: Some(value.to_owned()) }
}

/// The steps of `DescribeConfigs.java`.
fn our_answers() -> Lines {
    let config = BrokerConfig::from_properties([
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.quorum.voters", "1@127.0.0.1:19292"),
        ("controller.listener.names", "CONTROLLER"),
        ("listeners", "PLAINTEXT://127.0.0.1:9292,CONTROLLER://127.0.0.1:19292"),
        ("advertised.listeners", "PLAINTEXT://127.0.0.1:9292"),
        ("log.dirs", "/data"),
    ]);
    let config = config.unwrap();
    let none = Overrides::new();
    let mut lines = Lines::new();
    let layers = config.layers(&none, &none);
    let set = |name, value| change(AlterOp::Set, name, value);
    let topic = alter_topic(
        &none,
        &[
            set("segment.bytes", "1048576"),
            set("cleanup.policy", "compact,delete"),
            set("retention.ms", " 5000"),
            set("min.cleanable.dirty.ratio", "1"),
        ],
        &layers,
    );
    let topic = topic.unwrap();
    add(&mut lines, "topic", describe_topic(&none, &layers));
    add(&mut lines, "topic with settings", describe_topic(&topic, &layers));
    add(&mut lines, "broker", describe_broker(&layers));

    let all = alter_broker(
        BrokerScope::All,
        &none,
        &[set("log.retention.ms", "3600000"), set("log.cleaner.min.cleanable.ratio", "0.25")],
    );
    let own = alter_broker(
        BrokerScope::One,
        &none,
        &[
            set("log.retention.ms", "7200000"),
            change(AlterOp::Append, "log.cleanup.policy", "compact"),
            set("leader.replication.throttled.rate", "1000"),
            set("listener.name.plaintext.ssl.keystore.type", "PEM"),
        ],
    );
    let (own, all) = (own.unwrap(), all.unwrap());
    let layers = config.layers(&own, &all);
    let topic = alter_topic(
        &topic,
        &[
            change(AlterOp::Subtract, "cleanup.policy", "delete"),
            change(AlterOp::Append, "leader.replication.throttled.replicas", "0:1"),
        ],
        &layers,
    );
    add(&mut lines, "topic, changed", describe_topic(&none, &layers));
    add(&mut lines, "topic with settings, changed", describe_topic(&topic.unwrap(), &layers));
    add(&mut lines, "broker, changed", describe_broker(&layers));
    add(&mut lines, "all brokers, changed", describe_all_brokers(&layers));
    add(&mut lines, "topic, changed back", describe_topic(&none, &config.layers(&none, &none)));
    lines
}

#[test]
fn answers_are_those_of_a_real_kafka() {
    let (theirs, ours) = (kafkas_answers(), our_answers());
    let ours_alone = |key: &str| {
        let known = keys::broker_key(key).or_else(|| keys::topic_key(key));
        known.is_some_and(|key| key.origin == Origin::Ottla)
    };
    let mut equal = 0;
    for ((section, key), line) in &ours {
        match theirs.get(&(section.clone(), key.clone())) {
            Some(answer) if answer == line => equal += 1,
            // With eligible leader replicas, KRaft sets this one for all brokers.
            Some(_) if key == "min.insync.replicas" => {}
            Some(answer) => panic!("{section}: {key}\nKafka {answer}\nOttla {line}"),
            None => assert!(ours_alone(key), "{section}: {key} is not in Kafka"),
        }
    }
    for (section, key) in theirs.keys().filter(|name| !ours.contains_key(*name)) {
        assert_eq!(key, "min.insync.replicas", "{section}: only in Kafka");
    }
    assert!(equal > 870, "{equal}");
}

#[test]
fn secrets_are_not_shown() {
    let file = Overrides::from([("ssl.key.password".to_owned(), "hush".to_owned())]);
    let none = Overrides::new();
    let layers = BrokerLayers { own: &none, all: &none, file: &file };
    let shown = describe_broker(&layers);
    assert!(!format!("{shown:?}").contains("hush"));
    let entry = shown.iter().find(|entry| entry.name == "ssl.key.password").unwrap();
    assert!(entry.sensitive && entry.value.is_none());
    assert_eq!(entry.source, ConfigSource::StaticBroker);
}

#[test]
fn every_key_has_its_sentence() {
    let none = Overrides::new();
    let layers = BrokerLayers { own: &none, all: &none, file: &none };
    for entry in describe_broker(&layers).iter().chain(&describe_topic(&none, &layers)) {
        assert!(entry.doc.is_some() && entry.kind.is_some(), "{}", entry.name);
    }
}
