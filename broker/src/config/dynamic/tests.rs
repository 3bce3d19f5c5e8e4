//! What changes and what is refused.

use super::super::BrokerConfig;
use super::*;

fn set(name: &str, value: &str) -> Alteration {
    Alteration { name: name.to_owned(), op: AlterOp::Set, value: Some(value.to_owned()) }
}

fn with(op: AlterOp, name: &str, value: &str) -> Alteration {
    Alteration { op, ..set(name, value) }
}

fn topic(current: &[(&str, &str)], changes: &[Alteration]) -> Result<String, Refusal> {
    let none = Overrides::new();
    let layers = BrokerLayers { own: &none, all: &none, file: &none };
    let current = current.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let next = alter_topic(&current.collect(), changes, &layers)?;
    let shown: Vec<String> = next.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Ok(shown.join(" "))
}

#[test]
fn operations_change_what_they_name() {
    let start = [("cleanup.policy", "compact"), ("retention.ms", "5")];
    for (change, expected) in [
        (set("retention.ms", "7"), "cleanup.policy=compact retention.ms=7"),
        (with(AlterOp::Delete, "retention.ms", ""), "cleanup.policy=compact"),
        (with(AlterOp::Delete, "segment.ms", ""), "cleanup.policy=compact retention.ms=5"),
        (
            with(AlterOp::Append, "cleanup.policy", "delete,compact"),
            "cleanup.policy=compact,delete retention.ms=5",
        ),
        (with(AlterOp::Subtract, "cleanup.policy", "compact"), "cleanup.policy= retention.ms=5"),
    ] {
        assert_eq!(
            topic(&start, std::slice::from_ref(&change)).as_deref(),
            Ok(expected),
            "{change:?}"
        );
    }
}

#[test]
fn appending_to_what_is_not_set_begins_with_the_default() {
    let append = with(AlterOp::Append, "cleanup.policy", "compact");
    assert_eq!(topic(&[], &[append]).as_deref(), Ok("cleanup.policy=delete,compact"));
}

/// The words and the kind of error of a real Kafka 4.4, asked.
#[test]
fn topics_refuse_as_kafka_does() {
    let config = |message: &str| Err(Refusal::InvalidConfig(message.to_owned()));
    let request = |message: &str| Err(Refusal::InvalidRequest(message.to_owned()));
    assert_eq!(
        topic(&[], &[set("nosuch.key", "1")]),
        config("Unknown topic config name: nosuch.key")
    );
    assert_eq!(
        topic(&[], &[Alteration { value: None, ..set("retention.ms", "") }]),
        request("Null value not supported for : retention.ms")
    );
    assert_eq!(
        topic(&[], &[set("retention.ms", "1"), set("retention.ms", "2")]),
        request("Error due to duplicate config keys")
    );
    assert_eq!(
        topic(&[], &[with(AlterOp::Append, "retention.ms", "5")]),
        config("Can't APPEND to key retention.ms because its type is not LIST.")
    );
    assert_eq!(
        topic(&[], &[set("max.compaction.lag.ms", "5"), set("min.compaction.lag.ms", "10")]),
        config(
            "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
        )
    );
    assert!(topic(&[], &[set("remote.storage.enable", "true")]).is_err());
    assert!(topic(&[], &[set("cleanup.policy", "")]).is_ok());
}

#[test]
fn brokers_refuse_as_kafka_does() {
    let try_one = |scope, name: &str, value: &str| {
        let changed = alter_broker(scope, &Overrides::new(), &[set(name, value)]);
        changed.map_err(|refusal| refusal.message().to_owned())
    };
    for (scope, name, value, message) in [
        (BrokerScope::One, "num.partitions", "3", "Cannot update these configs dynamically: [num"),
        (BrokerScope::One, "log.retention.hours", "3", "Cannot update these configs dynamically"),
        (
            BrokerScope::One,
            "log.retention.ms",
            "abc",
            "Invalid value abc for configuration log.retention.ms: Not a number of type LONG",
        ),
        (
            BrokerScope::All,
            "listeners",
            "PLAINTEXT://:1",
            "Cannot update these configs at default cluster level, broker id must be specified: [l",
        ),
        (BrokerScope::All, "ssl.keystore.location", "/x", "These security configs can be"),
        (BrokerScope::One, "ssl.keystore.location", "/x", "These security configs can be"),
        (BrokerScope::One, "max.connections.per.ip.overrides", "1.2.3.4:x", "\"1.2.3.4:x\" is not"),
        (BrokerScope::One, "nosuch.key", "1", "Unknown broker config name: nosuch.key"),
        (BrokerScope::All, "listener.name.a.ssl.keystore.location", "/x", "Cannot update these"),
        // What Kafka takes over while it runs, and this broker does not.
        (BrokerScope::One, "listeners", "PLAINTEXT://:1", "Cannot update these configs dynamic"),
        (BrokerScope::One, "principal.builder.class", "a.B", "Cannot update these configs dynam"),
        (BrokerScope::All, "metric.reporters", "a.B", "Cannot update these configs dynamically"),
    ] {
        let error = try_one(scope, name, value).unwrap_err();
        assert!(error.starts_with(message), "{name}: {error}");
    }
    for (scope, name, value) in [
        (BrokerScope::All, "log.retention.ms", "3600000"),
        (BrokerScope::One, "log.retention.ms", "-7"),
        (BrokerScope::One, "listener.name.a.ssl.keystore.location", "/x"),
        (BrokerScope::One, "cordoned.log.dirs", "*"),
        (BrokerScope::All, "num.io.threads", "9"),
        (BrokerScope::One, "leader.replication.throttled.rate", "1000"),
        (BrokerScope::All, "acks.all.durability", "page-cache"),
    ] {
        assert!(try_one(scope, name, value).is_ok(), "{name}");
    }
}

#[test]
fn replacing_keeps_nothing() {
    let none = Overrides::new();
    let layers = BrokerLayers { own: &none, all: &none, file: &none };
    let entry = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    let next = replace_topic(&[entry("retention.ms", Some("1"))], &layers).unwrap();
    assert_eq!(next.len(), 1);
    assert!(replace_topic(&[entry("retention.ms", None)], &layers).is_err());
    let next = replace_broker(BrokerScope::All, &[entry("log.retention.ms", Some("1"))]);
    assert_eq!(next.unwrap().len(), 1);
}

fn overrides(entries: &[(&str, &str)]) -> Overrides {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The words of a real Kafka 4.4, asked; it puts those of its classes around them.
#[test]
fn a_running_broker_refuses_what_it_cannot_take_over() {
    let properties = [("node.id", "1"), ("log.dirs", "/x"), ("num.io.threads", "8")];
    let config = BrokerConfig::from_properties(properties).unwrap();
    let none = Overrides::new();
    for (before, after, message) in [
        (
            ("num.replica.fetchers", "1"),
            ("num.replica.fetchers", "3"),
            "Dynamic thread count update validation failed for num.replica.fetchers=3, value \
             should not be greater than double the current value 1",
        ),
        (
            ("num.io.threads", "8"),
            ("num.io.threads", "3"),
            "Dynamic thread count update validation failed for num.io.threads=3, value should be \
             at least half the current value 8",
        ),
        (
            ("log.cleaner.threads", "1"),
            ("log.cleaner.threads", "5"),
            "Log cleaner threads cannot be increased to more than double the current value 1",
        ),
        (
            ("log.cleaner.threads", "1"),
            ("log.cleaner.threads", "0"),
            "Log cleaner threads should be at least 1",
        ),
        (
            ("log.cleaner.threads", "1"),
            ("log.cleaner.dedupe.buffer.size", "100"),
            "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
        ),
        (
            ("log.retention.ms", "5"),
            ("log.retention.ms", "0"),
            "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
        ),
        (
            ("max.connections", "5"),
            ("max.connections", "0"),
            "max.connections must be greater than or equal to 1",
        ),
        (
            ("max.connections.per.ip", "5"),
            ("max.connections.per.ip", "0"),
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides \
             property is set.",
        ),
        (
            ("group.consumer.assignment.interval.ms", "5"),
            ("group.consumer.assignment.interval.ms", "99999"),
            "group.consumer.assignment.interval.ms must be less than or equal to \
             group.consumer.max.assignment.interval.ms",
        ),
    ] {
        let (before, after) = (overrides(&[before]), overrides(&[after]));
        let expected = Err(Refusal::InvalidRequest(message.to_owned()));
        let own = check_reconfiguration(&config, (&before, &none), (&after, &none));
        assert_eq!(own, expected);
        let all = check_reconfiguration(&config, (&none, &before), (&none, &after));
        assert_eq!(all, expected);
    }
    // A broker with a value of its own does not see what is set for all.
    let (own, all) = (overrides(&[("num.replica.fetchers", "2")]), [("num.replica.fetchers", "7")]);
    let checked = check_reconfiguration(&config, (&own, &none), (&own, &overrides(&all)));
    assert_eq!(checked, Ok(()));
    let zero = overrides(&[
        ("max.connections.per.ip", "0"),
        ("max.connections.per.ip.overrides", "127.0.0.1:5"),
    ]);
    assert_eq!(check_reconfiguration(&config, (&none, &none), (&none, &zero)), Ok(()));
}
