//! What a controller looks at, and when.

use super::*;
use crate::metadata::image::{BrokerImage, Guarded, PartitionImage};
use ottla_common::types::{Uuid, Zxid};

/// Brokers 1 and 2, registered at zxids 10 and 20, and a topic whose partition 1 leads.
fn cluster(live: &[i32], topics: &[&str]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for id in live.iter().copied().map(BrokerId) {
        let broker = BrokerImage {
            id,
            broker_epoch: i64::from(id.0) * 10,
            listeners: Vec::new(),
            rack: None,
            shutting_down: false,
        };
        image.brokers.insert(id, Arc::new(broker));
    }
    for name in topics {
        let partition = PartitionImage {
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: vec![BrokerId(1), BrokerId(2)],
            leader: Some(BrokerId(1)),
            leader_epoch: 4,
            state_mzxid: Zxid(50),
            ..PartitionImage::default()
        };
        let name: Arc<str> = (*name).into();
        let partitions = vec![partition];
        let topic =
            TopicImage { name: name.clone(), id: Uuid([1; 16]), partitions, node_version: 0 };
        image.topics.insert(name, Arc::new(topic));
    }
    image
}

fn elected(image: &MetadataImage, seen: Option<&MetadataImage>, again: &[&str]) -> Vec<String> {
    let again = again.iter().map(|topic| ((*topic).into(), 0)).collect();
    let rules = |_: &str| Rules { min_insync_replicas: 1, unclean_allowed: false };
    let survey = Survey { image, seen, again: &again, rules: &rules, controller_epoch: 3 };
    survey.elections().iter().map(|election| election.topic.to_string()).collect()
}

#[test]
fn a_new_controller_looks_at_everything() {
    assert_eq!(elected(&cluster(&[1, 2], &["a", "b"]), None, &[]), [""; 0]);
    assert_eq!(elected(&cluster(&[2], &["a", "b"]), None, &[]), ["a", "b"]);
}

#[test]
fn after_that_it_looks_at_what_has_changed() {
    let seen = cluster(&[2], &["a", "b"]);
    assert_eq!(elected(&seen.clone(), Some(&seen), &[]), [""; 0], "it has been acted on");
    let mut image = seen.clone();
    Arc::make_mut(image.topics.get_mut("b").unwrap()).node_version = 1;
    assert_eq!(elected(&image, Some(&seen), &[]), ["b"]);
    assert_eq!(elected(&seen.clone(), Some(&seen), &["a"]), ["a"], "a race was lost");
}

#[test]
fn it_looks_at_everything_when_a_broker_comes_or_goes() {
    let seen = cluster(&[1, 2], &["a", "b"]);
    let mut image = seen.clone();
    image.brokers.remove(&BrokerId(1));
    assert_eq!(elected(&image, Some(&seen), &[]), ["a", "b"]);
}

#[test]
fn it_looks_at_a_topic_when_its_configs_change() {
    let seen = cluster(&[2], &["a", "b"]);
    let mut image = seen.clone();
    image.topic_configs.insert("a".into(), Guarded::default());
    assert_eq!(elected(&image, Some(&seen), &[]), ["a"]);
}

#[test]
fn the_rules_are_the_topics_own_then_those_of_all() {
    let config = BrokerConfig::from_properties([("node.id", "1"), ("log.dirs", "unused")]).unwrap();
    let mut image = cluster(&[1], &["a"]);
    assert_eq!(
        rules_of(&config, &image, "a"),
        Rules { min_insync_replicas: 1, unclean_allowed: false }
    );
    let all = Overrides::from([("min.insync.replicas".into(), "2".into())]);
    let all = Guarded { value: Arc::new(all), node_version: 0 };
    image.broker_configs.insert("<default>".into(), all);
    let own = Overrides::from([("unclean.leader.election.enable".into(), "true".into())]);
    let own = Guarded { value: Arc::new(own), node_version: 0 };
    image.topic_configs.insert("a".into(), own);
    assert_eq!(
        rules_of(&config, &image, "a"),
        Rules { min_insync_replicas: 2, unclean_allowed: true }
    );
}
