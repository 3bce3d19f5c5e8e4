//! How a broker reads what it is started with.

use super::*;

fn start(text: &str) -> Result<BrokerConfig, String> {
    let mut settings = Settings::new();
    settings.add_properties("server.properties", text).unwrap();
    BrokerConfig::from_settings(&settings).map_err(|error| error.to_string())
}

#[test]
fn a_plain_broker() {
    let config = start("node.id=3\nlog.dirs=/a, /b\n").unwrap();
    assert_eq!(config.broker_id, BrokerId(3));
    assert_eq!(config.log_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(config.inter_broker_listener, "PLAINTEXT");
    assert_eq!(config.coordinator.addresses, ["127.0.0.1:2181"]);
    assert_eq!(config.network.socket_request_max_bytes, 100 << 20);
    assert_eq!(config.network.connections_max_idle_ms, Some(600_000));
    assert_eq!(config.network.queued_max_request_bytes, None);
    assert_eq!(config.topics.num_partitions, 1);
    assert_eq!(config.logs.producer_id_expiration_ms, 86_400_000);
    assert_eq!(config.properties.get("broker.id").map(String::as_str), Some("3"));
    assert!(config.warnings.is_empty());
}

#[test]
fn ports_are_filled_in_and_hosts_too() {
    let config = start("node.id=1\nlog.dirs=/a\nlisteners=PLAINTEXT://:0").unwrap();
    let bound = BTreeMap::from([("PLAINTEXT".to_owned(), 4711)]);
    let ends = config.advertised_endpoints(&bound, "here");
    assert_eq!((ends[0].host.as_str(), ends[0].port), ("here", 4711));

    let config = start(
        "node.id=1\nlog.dirs=/a\nlisteners=PLAINTEXT://0.0.0.0:9092\n\
         advertised.listeners=PLAINTEXT://b1.example:19092",
    );
    let ends = config.unwrap().advertised_endpoints(&bound, "here");
    assert_eq!((ends[0].host.as_str(), ends[0].port), ("b1.example", 19092));
}

#[test]
fn a_file_of_krafts_is_read_with_warnings() {
    let config = start(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:9093\n\
         listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs=/a\nnum.network.threads=3\n",
    );
    let config = config.unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].port, 9092);
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("line 5: controller.listener.names has no meaning here"));
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (line, expected) in [
        ("log.retention.sm=1", "line 3: unknown key \"log.retention.sm\"; did you mean"),
        (
            "zookeeper.connect=a:2181",
            "line 3: unknown key \"zookeeper.connect\"; write coordinator",
        ),
        (
            "num.partitions=0",
            "line 3: Invalid value 0 for configuration num.partitions: Value must",
        ),
        ("process.roles=controller", "line 3: process.roles: this is a broker"),
        ("broker.id=2", "line 3: broker.id: is not the same as node.id, 1"),
        ("listeners=X://:1", "line 3: listeners: listener.security.protocol.map does not say"),
        (
            "advertised.listeners=SSL://a:1",
            "line 3: advertised.listeners: there is no listener SSL",
        ),
        ("advertised.listeners=PLAINTEXT://0.0.0.0:1", "nobody can connect to 0.0.0.0"),
        ("inter.broker.listener.name=SSL", "line 3: inter.broker.listener.name: there is no"),
        ("security.inter.broker.protocol=SSL", "no listener speaks SSL"),
        ("default.replication.factor=0", "0 replicas cannot be"),
        ("queued.max.request.bytes=5", "at least socket.request.max.bytes"),
        ("replica.fetch.wait.max.ms=60000", "at most replica.lag.time.max.ms"),
        ("coordinator.connect=somewhere", "\"somewhere\" is not host:port"),
        ("max.connections.per.ip.overrides=1.2.3.4", "\"1.2.3.4\" is not host:count"),
    ] {
        let error = start(&format!("node.id=1\nlog.dirs=/a\n{line}\n")).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
    assert!(start("log.dirs=/a").unwrap_err().contains("node.id: must be set"));
    assert!(start("node.id=1").unwrap_err().contains("log.dirs: must be set"));
}

#[test]
fn settings_at_run_time_count_where_they_may() {
    let config = start("node.id=1\nlog.dirs=/a\nnum.partitions=2\n").unwrap();
    let set = |key: &str, value: &str| Overrides::from([(key.to_owned(), value.to_owned())]);
    let none = Overrides::new();
    let with = config.with_overrides(&none, &set("max.connections", "7"));
    assert_eq!(with.network.max_connections, 7);
    let with = config.with_overrides(&set("max.connections", "8"), &set("max.connections", "7"));
    assert_eq!(with.network.max_connections, 8);
    let with = config.with_overrides(&set("num.partitions", "9"), &none);
    assert_eq!(with.topics.num_partitions, 2);
}

/// Lines of the kind `#key=value` show the default, but for keys that have none.
#[test]
fn the_file_that_we_ship_starts_and_shows_the_defaults() {
    let text = include_str!("../../../../deploy/config/broker.properties");
    assert!(start(text).unwrap().warnings.is_empty());
    let mut shown = 0;
    for (key, value) in text.lines().filter_map(|line| line.strip_prefix('#')?.split_once('=')) {
        let Some(key) = keys::broker_key(key) else {
            assert!(key.contains(' '), "{key}");
            continue;
        };
        shown += 1;
        if let Some(default) = key.default {
            assert_eq!(value, default, "{}", key.name);
        }
    }
    assert!(shown > 25);
}
