//! Each value as it is written, byte for byte, and each path known again.

use super::*;

fn text(data: Vec<u8>) -> String {
    String::from_utf8(data).unwrap()
}

#[test]
fn a_broker_is_written_in_kafkas_words() {
    let broker = BrokerRegistration {
        endpoints: vec![
            Endpoint {
                listener: "INTERNAL".to_owned(),
                host: "::1".to_owned(),
                port: 9093,
                security_protocol: "SSL".to_owned(),
            },
            Endpoint {
                listener: "PLAINTEXT".to_owned(),
                host: "b1.example".to_owned(),
                port: 9092,
                security_protocol: "PLAINTEXT".to_owned(),
            },
        ],
        rack: Some("r1".to_owned()),
        features: BTreeMap::new(),
        shutting_down: true,
        registered_at_ms: 1_700_000_000_000,
    };
    assert_eq!(BrokerRegistration::path(BrokerId(1)), "/brokers/ids/1");
    let written = text(broker.encode());
    assert_eq!(
        written,
        concat!(
            r#"{"version":5,"host":"b1.example","port":9092,"jmx_port":-1,"#,
            r#""timestamp":"1700000000000","#,
            r#""endpoints":["INTERNAL://[::1]:9093","PLAINTEXT://b1.example:9092"],"#,
            r#""listener_security_protocol_map":{"INTERNAL":"SSL","PLAINTEXT":"PLAINTEXT"},"#,
            r#""rack":"r1","features":{},"shutting_down":true}"#,
        )
    );
    assert_eq!(BrokerRegistration::decode(written.as_bytes()).unwrap(), broker);
    let bad = written.replace(":9093", "");
    assert!(BrokerRegistration::decode(bad.as_bytes()).is_err());
}

#[test]
fn a_topic_is_written_in_kafkas_words() {
    let part = |replicas: &[i32]| replicas.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let mut topic = TopicAssignment {
        topic_id: Uuid([7; 16]),
        partitions: vec![PartitionAssignment::default(); 11],
    };
    for partition in &mut topic.partitions {
        partition.replicas = part(&[1, 2]);
    }
    topic.partitions[10].adding = part(&[3]);
    topic.partitions[2].removing = part(&[1]);
    let written = text(topic.encode());
    assert!(written.starts_with(r#"{"version":3,"topic_id":"BwcHBwcHBwcHBwcHBwcHBw","#));
    assert!(written.ends_with(r#""adding_replicas":{"10":[3]},"removing_replicas":{"2":[1]}}"#));
    assert_eq!(TopicAssignment::decode(written.as_bytes()).unwrap(), topic);
    let gap = written.replace(r#""4":[1,2],"#, "");
    let error = TopicAssignment::decode(gap.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "partition 4 is missing");
}

#[test]
fn a_partition_state_is_written_in_kafkas_words() {
    let mut state = PartitionState {
        leader: Some(BrokerId(2)),
        leader_epoch: 5,
        isr: vec![BrokerId(2), BrokerId(1)],
        controller_epoch: 3,
        elr: Vec::new(),
    };
    let written = text(state.encode());
    assert_eq!(
        written,
        r#"{"version":1,"leader":2,"leader_epoch":5,"isr":[2,1],"controller_epoch":3,"elr":[]}"#
    );
    assert_eq!(PartitionState::decode(written.as_bytes()).unwrap(), state);
    state.leader = None;
    assert_eq!(PartitionState::decode(&state.encode()).unwrap(), state);
    // As Kafka itself writes it, in another order and without what it does not know.
    let kafka = r#"{"controller_epoch":1,"leader":0,"version":1,"leader_epoch":0,"isr":[0]}"#;
    assert_eq!(PartitionState::decode(kafka.as_bytes()).unwrap().leader, Some(BrokerId(0)));
}

#[test]
fn the_small_values_survive() {
    let id = ClusterId::new("abc");
    assert_eq!(text(id.encode()), r#"{"version":"1","id":"abc"}"#);
    assert_eq!(ClusterId::decode(&id.encode()).unwrap(), id);
    let controller = ControllerRegistration { broker_id: BrokerId(1), since_ms: 9 };
    assert_eq!(ControllerRegistration::decode(&controller.encode()).unwrap(), controller);
    assert_eq!(text(ControllerEpoch(4).encode()), "4");
    assert_eq!(ControllerEpoch::decode(b"4").unwrap(), ControllerEpoch(4));
    assert!(ControllerEpoch::decode(b"").is_err());
    let config = [("retention.ms".to_owned(), "5".to_owned())].into();
    let config = ConfigOverrides::new(config);
    assert_eq!(text(config.encode()), r#"{"version":1,"config":{"retention.ms":"5"}}"#);
    assert_eq!(ConfigOverrides::decode(&config.encode()).unwrap(), config);
    let deleted = DeletedTopic::new("t", [BrokerId(2), BrokerId(1)].into());
    assert_eq!(text(deleted.encode()), r#"{"version":1,"name":"t","pending":[1,2]}"#);
    assert_eq!(DeletedTopic::decode(&deleted.encode()).unwrap(), deleted);
    let block = ProducerIdBlock { broker_id: BrokerId(1), first: 1000, last: 1999 };
    assert_eq!(ProducerIdBlock::decode(&block.encode()).unwrap(), block);
    let backwards = ProducerIdBlock { first: 5, last: 4, ..block };
    assert!(ProducerIdBlock::decode(&backwards.encode()).is_err());
    let features = FinalizedFeatures::new([("group.version".to_owned(), 1)].into());
    assert_eq!(FinalizedFeatures::decode(&features.encode()).unwrap(), features);
}

#[test]
fn every_path_is_known_again() {
    let config = |kind, name: &str| (ConfigOverrides::path(kind, name), name.to_owned(), kind);
    let names = [DEFAULT_ENTITY, "a b/c", "ö%", "..", ".", "*+", "plain-1.2_3"];
    for name in names {
        for kind in ConfigKind::ALL {
            let (path, name, kind) = config(kind, name);
            assert_eq!(path.matches('/').count(), 3, "{path}");
            assert_eq!(TreePath::parse(&path), Some(TreePath::Config { kind, name }));
        }
    }
    let id = Uuid([9; 16]);
    let known = [
        (ClusterId::PATH.to_owned(), TreePath::ClusterId),
        (BrokerRegistration::path(BrokerId(7)), TreePath::Broker(BrokerId(7))),
        (TopicAssignment::path("t.1"), TreePath::Topic("t.1".to_owned())),
        (
            PartitionState::path("t.1", 12),
            TreePath::PartitionState { topic: "t.1".to_owned(), partition: 12 },
        ),
        (ControllerRegistration::PATH.to_owned(), TreePath::Controller),
        (ControllerEpoch::PATH.to_owned(), TreePath::ControllerEpoch),
        (DeletedTopic::path(id), TreePath::DeletedTopic(id)),
        (ProducerIdBlock::PATH.to_owned(), TreePath::ProducerIdBlock),
        (FinalizedFeatures::PATH.to_owned(), TreePath::Features),
    ];
    for (path, expected) in known {
        assert_eq!(TreePath::parse(&path), Some(expected), "{path}");
        assert_eq!(TreePath::parse(&format!("{path}/more/and/more/and/more")), None);
    }
    for parent in PARENT_PATHS {
        assert_eq!(TreePath::parse(parent), None, "{parent}");
    }
    for other in ["", "/", "brokers/ids/1", "/brokers/ids/x", "/zookeeper", "/config/x/y"] {
        assert_eq!(TreePath::parse(other), None, "{other}");
    }
    assert_eq!(TreePath::parse(&TopicAssignment::partitions_path("t")), None);
    assert_eq!(TreePath::parse(&PartitionState::partition_path("t", 0)), None);
}

#[test]
fn parents_come_before_their_children() {
    for (index, path) in PARENT_PATHS.iter().enumerate() {
        let parent = &path[..path.rfind('/').unwrap()];
        assert!(parent.is_empty() || PARENT_PATHS[..index].contains(&parent), "{path}");
    }
}
