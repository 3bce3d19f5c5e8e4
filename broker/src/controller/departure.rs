//! Controlled shutdown: a broker that is to stop says so in its registration, and goes on serving
//! until the controller has moved away what others can do: its leaderships, and its places in ISRs,
//! which nobody then waits for.
//!
//! It decides by the controller's own rules whether there is anything to hand over, so that the
//! only broker, or one without other replicas, stops at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::types::BrokerId;
use tracing::{info, warn};

use super::admin::ClusterAdmin;
use super::leaders::{Election, Survey, rules_of};
use crate::config::BrokerConfig;
use crate::metadata::image::MetadataImage;
use crate::metadata::registration::announce_departure;

impl ClusterAdmin {
    /// Hands over what others can do, which takes at most `patience`.
    pub async fn hand_over(&self, patience: Duration) {
        let broker_id = self.config.broker_id;
        let image = self.image.load();
        let Some(registered) = image.brokers.get(&broker_id) else { return };
        if !has_something_to_hand_over(&image, &self.config) {
            return;
        }
        info!(%broker_id, "handing over to other brokers before stopping");
        let handed_over = async {
            announce_departure(&self.client, broker_id, registered.broker_epoch).await?;
            let is_done = |image: &MetadataImage| !has_something_to_hand_over(image, &self.config);
            self.image.wait_until(patience, is_done).await;
            Ok::<_, ottla_common::coordination::client::ClientError>(())
        };
        match tokio::time::timeout(patience, handed_over).await {
            Ok(Ok(())) if !has_something_to_hand_over(&self.image.load(), &self.config) => {}
            Ok(Err(error)) => warn!(%error, "could not say that this broker is to stop"),
            _ => warn!("not everything was handed over in time; stopping all the same"),
        }
    }
}

/// Whether the controller would have to write something if this broker left.
fn has_something_to_hand_over(image: &MetadataImage, config: &BrokerConfig) -> bool {
    let broker_id = config.broker_id;
    let Some(registered) = image.brokers.get(&broker_id) else { return false };
    let mut leaving = image.clone();
    let mut broker = (**registered).clone();
    broker.shutting_down = true;
    leaving.brokers.insert(broker_id, Arc::new(broker));
    let survey = Survey {
        image: &leaving,
        seen: None,
        again: &BTreeSet::new(),
        rules: &|topic| rules_of(config, image, topic),
        controller_epoch: image.controller_epoch.value,
    };
    let elections = survey.elections();
    elections.iter().any(|election| takes_from(image, election, broker_id))
}

/// Whether a new state takes from a broker its leadership or its place in the ISR.
fn takes_from(image: &MetadataImage, election: &Election, broker: BrokerId) -> bool {
    let topic = image.topic(&election.topic);
    let Some(present) = topic.and_then(|topic| topic.partition(election.partition)) else {
        return false;
    };
    let next = &election.state;
    let leads_no_more = present.leader == Some(broker) && next.leader != Some(broker);
    leads_no_more || (present.isr.contains(&broker) && !next.isr.contains(&broker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::image::{BrokerImage, PartitionImage, TopicImage};
    use ottla_common::types::{Uuid, Zxid};

    fn needs_it(live: &[i32], replicas: &[i32], isr: &[i32]) -> bool {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let mut image = MetadataImage::default();
        for id in ids(live) {
            let broker = BrokerImage {
                id,
                broker_epoch: 1,
                listeners: Vec::new(),
                rack: None,
                shutting_down: false,
            };
            image.brokers.insert(id, Arc::new(broker));
        }
        let partition = PartitionImage {
            replicas: ids(replicas),
            isr: ids(isr),
            leader: ids(isr).first().copied(),
            state_mzxid: Zxid(5),
            ..PartitionImage::default()
        };
        let name: Arc<str> = "orders".into();
        let topic = TopicImage {
            name: name.clone(),
            id: Uuid([1; 16]),
            partitions: vec![partition],
            node_version: 0,
        };
        image.topics.insert(name, Arc::new(topic));
        let needed = [("node.id", "1"), ("log.dirs", "unused")];
        has_something_to_hand_over(&image, &BrokerConfig::from_properties(needed).unwrap())
    }

    #[test]
    fn a_broker_without_others_stops_at_once() {
        assert!(!needs_it(&[1], &[1], &[1]));
        assert!(!needs_it(&[1, 2], &[1], &[1]));
        assert!(!needs_it(&[1], &[1, 2], &[1, 2]), "the other is gone");
        assert!(!needs_it(&[1, 2], &[1, 2], &[1]), "the other is not in sync");
        assert!(!needs_it(&[1, 2], &[1, 2], &[2]), "it has left already");
    }

    #[test]
    fn a_leader_or_an_in_sync_replica_is_waited_for() {
        assert!(needs_it(&[1, 2], &[1, 2], &[1, 2]));
        assert!(needs_it(&[1, 2], &[1, 2], &[2, 1]));
    }
}
